"""First weights of fitting networks along the principal components of the descriptors.

Descriptors of a material are strongly correlated: of hundreds, some tens of combinations hold all but a millionth of
the variance. Weights drawn alike for each descriptor see but the largest few. Here the first layer takes random
combinations of the principal components, each scaled by ``(spread / largest spread)^-0.3``: small ones are raised,
but less than noise and species never seen together would need to be taken for knowledge.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .networks import ResidualNetwork

_SMALLEST_SPREAD = 1e-3  # by the largest; components below are left out
_POWER = 0.3
_ROUNDING = 1e-5  # of the largest descriptor; atoms that differ less are alike


def first_fitting_layer(
    network: ResidualNetwork,
    features: Tensor,
    mean: Tensor,
    deviation: Tensor,
    *,
    spread: float,
    generator: torch.Generator,
) -> None:
    """Set the first weights of a fitting network; where all atoms are alike there is nothing to go by, and they stay.

    Args:
        network: of one species.
        features: ``[n_atoms, n_features]``, descriptors of atoms of that species.
        mean, deviation: ``[n_features]``, by which descriptors are normalized before the network.
        spread: size of the layer's input, had all components the spread of the largest.
        generator: of the random combinations.
    """
    centred = features - features.mean(0)
    _, spreads, axes = torch.linalg.svd(centred / len(features) ** 0.5, full_matrices=False)
    if float(spreads[0]) <= _ROUNDING * float(features.abs().max()):
        return
    n = max(int((spreads > _SMALLEST_SPREAD * spreads[0]).sum()), 1)
    raised = axes[:n].T / spreads[0] * (spreads[0] / spreads[:n]) ** _POWER
    weight = network.weights[0]
    noise = torch.randn(n, weight.shape[1], generator=generator, dtype=raised.dtype)
    with torch.no_grad():
        weight.copy_(deviation[:, None] * (raised @ noise) * (spread / n**0.5))
        # where the network's zero is not the mean of these features
        network.biases[0].sub_(((features.mean(0) - mean) / deviation) @ weight)
