"""The encoder: DimeNet++, read out as the mean over atoms.

Gasteiger, Giri, Margraf, Günnemann, arXiv:2011.14115 (2020), with the basis functions of DimeNet (ICLR 2020). A
message m_ji runs from atom j to atom i and learns from those into j, m_kj, by their lengths and the angle at j between
i and k; Legendre polynomials stand for its m = 0 harmonics, which differ from them by constants. The mean over atoms
makes the latent vector the same for a crystal and its supercells.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from .angular import angular_sum, harmonics
from .basis import BesselBasis, SphericalBesselBasis
from .graph import Edges
from .settings import EncoderSettings


class DimeNetPlusPlus(nn.Module):
    """DimeNet++ of periodic structures.

    Args:
        settings: sizes.
        n_elements: number of elements.
        n_outputs: length of the output.
    """

    def __init__(self, settings: EncoderSettings, n_elements: int, n_outputs: int) -> None:
        super().__init__()
        s = settings
        self.n_degrees = s.n_degrees
        self.radial = BesselBasis(s.n_radial, s.cutoff_ang)
        self.angular_radial = SphericalBesselBasis(s.n_degrees, s.n_radial, s.cutoff_ang)
        self.elements = nn.Embedding(n_elements, s.n_channels)
        nn.init.uniform_(self.elements.weight, -(3.0**0.5), 3.0**0.5)
        self.embed_radial = nn.Linear(s.n_radial, s.n_channels)
        self.embed = nn.Linear(3 * s.n_channels, s.n_channels)
        self.interactions = nn.ModuleList(_Interaction(s) for _ in range(s.n_blocks))
        self.outputs = nn.ModuleList(_Output(s, n_outputs) for _ in range(s.n_blocks + 1))

    def forward(self, types: Tensor, edges: Edges, structure_of_atom: Tensor, n_structures: int) -> Tensor:
        """Latent features of structures.

        Args:
            types: int64 ``[n_atoms]``.
            edges: within the encoder's cutoff.
            structure_of_atom: int64 ``[n_atoms]``.
            n_structures: number of structures.

        Returns:
            ``[n_structures, n_outputs]``.
        """
        radial = self.radial(edges.distances)
        bessel = self.angular_radial(edges.distances)
        directions = edges.padded(harmonics(edges.directions, self.n_degrees))
        h = self.elements(types)
        parts = [edges.at_targets(h), edges.at_sources(h), silu(self.embed_radial(radial))]
        messages = silu(self.embed(torch.cat(parts, -1)))
        atoms = self.outputs[0](messages, radial, edges)
        for interaction, output in zip(self.interactions, self.outputs[1:], strict=True):
            messages = interaction(messages, radial, bessel, directions, edges)
            atoms = atoms + output(messages, radial, edges)
        total = atoms.new_zeros(n_structures, atoms.shape[1]).index_add(0, structure_of_atom, atoms)
        n_atoms = torch.bincount(structure_of_atom, minlength=n_structures)
        return total / n_atoms.unsqueeze(-1)


class _Residual(nn.Module):
    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.first, self.second = _dense(n_channels, n_channels), _dense(n_channels, n_channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + silu(self.second(silu(self.first(x))))


class _Interaction(nn.Module):
    """The interaction block of DimeNet++."""

    def __init__(self, s: EncoderSettings) -> None:
        super().__init__()
        n, n_inner = s.n_channels, s.n_interaction_channels
        self.radial = nn.Sequential(_dense(s.n_radial, s.n_basis_channels, False), _dense(s.n_basis_channels, n, False))
        # the products of Bessel functions and Legendre polynomials are linear in the latter, degree by degree
        self.bessel = _dense(s.n_degrees * s.n_radial, s.n_basis_channels, False)
        self.mix = _dense(s.n_basis_channels, n_inner, False)
        self.own, self.incoming = _dense(n, n), _dense(n, n)
        self.down, self.up = _dense(n, n_inner, False), _dense(n_inner, n, False)
        self.before = nn.Sequential(*(_Residual(n) for _ in range(s.n_before_skip)))
        self.skip = _dense(n, n)
        self.after = nn.Sequential(*(_Residual(n) for _ in range(s.n_after_skip)))

    def forward(self, messages: Tensor, radial: Tensor, bessel: Tensor, directions: Tensor, edges: Edges) -> Tensor:
        incoming = silu(self.incoming(messages)) * self.radial(radial)
        incoming = silu(self.down(incoming))
        of_degree = self.bessel.weight.unflatten(1, bessel.shape[1:])  # [n_basis_channels, n_degrees, n_radial]
        filters = torch.einsum("elr,blr->elb", bessel, of_degree) @ self.mix.weight.T
        # messages into j, seen along the edge from i to j: the reverse of the one from j to i that is updated
        met = edges.reversed(angular_sum(incoming.unsqueeze(1) * filters, directions, edges))
        x = silu(self.own(messages)) + silu(self.up(met))
        x = silu(self.skip(self.before(x))) + messages
        result: Tensor = self.after(x)
        return result


class _Output(nn.Module):
    """The output block of DimeNet++: atoms from the messages into them."""

    def __init__(self, s: EncoderSettings, n_outputs: int) -> None:
        super().__init__()
        self.radial = _dense(s.n_radial, s.n_channels, False)
        self.up = _dense(s.n_channels, s.n_output_channels, False)
        self.layers = nn.ModuleList(_dense(s.n_output_channels, s.n_output_channels) for _ in range(s.n_output_layers))
        self.last = _dense(s.n_output_channels, n_outputs, False)

    def forward(self, messages: Tensor, radial: Tensor, edges: Edges) -> Tensor:
        x = self.up(edges.sums(messages * self.radial(radial)))
        for layer in self.layers:
            x = silu(layer(x))
        result: Tensor = self.last(x)
        return result


def _dense(n_in: int, n_out: int, has_bias: bool = True) -> nn.Linear:
    """A layer with orthogonal first weights of variance 2 / (n_in + n_out), and no bias at first."""
    layer = nn.Linear(n_in, n_out, bias=has_bias)
    nn.init.orthogonal_(layer.weight)
    with torch.no_grad():
        layer.weight *= (2.0 / ((n_in + n_out) * layer.weight.square().mean())) ** 0.5
        if has_bias:
            layer.bias.zero_()
    return layer
