"""The two networks of the paper: convolutions of 2 × 2 × 2 voxels, and dense layers on the same grid."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..base import SurrogateError

LEAK = 0.001
"""α of the paper's LeakyReLU, the slope below zero. Its formula (1 for x < 0, α x + 1 above) has no slope where it is
said to be one; the function of this name is meant, as every library has it."""
_N_COMPONENTS = 3


class VoxelCnn(nn.Module):
    """Convolutions with half as many filters from layer to layer, then dense layers down to the three components.

    Args:
        filters: of the first layer.
        n_convolutions: layers; a max-pooling follows each but the last one, as long as two voxels are left over.
        dropout: share of the values that are dropped after every second convolution.
        widths: of the dense layers before the last one, which has three neurons.

    Raises:
        SurrogateError: more convolutions than the grid has room for.
    """

    def __init__(
        self, n_channels: int, n_voxels: int, filters: int, n_convolutions: int, dropout: float, widths: Sequence[int]
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        edge = n_voxels
        for k in range(n_convolutions):
            if edge < 2:
                raise SurrogateError(
                    f"{n_convolutions} convolutions of 2 × 2 × 2 do not fit into {n_voxels} voxels: {k} do; lower "
                    "n_convolutions or raise n_voxels"
                )
            n_filters = max(1, filters >> k)
            layers.append(nn.Conv3d(n_channels, n_filters, 2))
            n_channels, edge = n_filters, edge - 1
            if k < n_convolutions - 1 and edge >= 4:
                # before the activation, which rises everywhere: the same numbers for 60 % of the time
                layers.append(nn.MaxPool3d(2, ceil_mode=True))
                edge = -(-edge // 2)
            layers.append(nn.LeakyReLU(LEAK))
            if k % 2 == 1 and dropout > 0.0:
                layers.append(nn.Dropout(dropout))
        self.convolutions = nn.Sequential(*layers)
        self.dense = dense_layers(n_channels * edge**3, widths)

    def forward(self, grids: Tensor) -> Tensor:
        """Outputs ``[n, 3]`` between -1 and 1 for grids ``[n, n_channels, n_voxels, n_voxels, n_voxels]``."""
        outputs: Tensor = self.dense(self.convolutions(grids).flatten(1))
        return outputs


class DenseNetwork(nn.Module):
    """Dense layers on the flattened grid."""

    def __init__(self, n_channels: int, n_voxels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.dense = dense_layers(n_channels * n_voxels**3, widths)

    def forward(self, grids: Tensor) -> Tensor:
        """As :meth:`VoxelCnn.forward`."""
        outputs: Tensor = self.dense(grids.flatten(1))
        return outputs


def dense_layers(n_inputs: int, widths: Sequence[int]) -> nn.Sequential:
    """Dense layers with tanh, the last of them three neurons wide."""
    layers: list[nn.Module] = []
    for width in (*widths, _N_COMPONENTS):
        layers += [nn.Linear(n_inputs, width), nn.Tanh()]
        n_inputs = width
    return nn.Sequential(*layers)
