"""The decoder: GemNet-dT, given a latent vector for each structure and a phase beside each element.

Gasteiger, Becker, Günnemann, "GemNet: Universal Directional Graph Neural Networks for Molecules" (NeurIPS 2021): a
message m_ca from atom c to atom a learns from messages m_ba into the same atom, by lengths and the angle between c and
b, in a bilinear layer that is summed over b first. Forces are read out along the edges, so that they turn with the
structure. As in CDVAE (Xie et al., ICLR 2022), atoms start from their element and the latent vector; as in P-CDVAE
(Naghdi, Kaszuba et al., 2024, Sec. 3.1), each pair of a phase and an element has an embedding of its own.

Beyond the published decoder, this one may be told how noisy its input is: Fourier features of the logarithms of both
noise levels join the latent vector, and scale the scores. Otherwise it has to see from the structure whether 0.1 Å are
to be magnified a hundredfold or not at all. And it may see density waves (`waves.py`), by which all atoms together tell
where the lattice lies.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .angular import angular_sums, harmonics
from .basis import GaussianBasis
from .graph import Edges
from .layers import HALF, Dense, Scale, residuals
from .settings import DecoderSettings
from .waves import WaveLayer, Waves


class GemNetDT(nn.Module):
    """GemNet-dT of periodic structures.

    Args:
        settings: sizes.
        n_elements: number of elements.
        n_phases: number of phases that elements are told apart by, at least 1.
        n_latent: length of the latent vectors.
    """

    def __init__(self, settings: DecoderSettings, n_elements: int, n_phases: int, n_latent: int) -> None:
        super().__init__()
        s, n = settings, settings.n_channels
        self.n_elements, self.n_degrees, self.n_circular = n_elements, s.n_degrees, s.n_circular_channels
        self.basis = GaussianBasis(s.n_radial, s.cutoff_ang)
        self.levels = _LevelFeatures() if s.sees_noise else None
        n_features = 0 if self.levels is None else self.levels.n_features
        self.atoms = nn.Embedding(n_phases * n_elements, n)
        nn.init.uniform_(self.atoms.weight, -(3.0**0.5), 3.0**0.5)
        self.latent = nn.Linear(n + n_latent + n_features, n)
        self.edges = Dense(2 * n + s.n_radial, n, is_active=True)
        # brought down once for all blocks
        self.for_triplets = Dense(s.n_radial, s.n_radial_channels)
        self.for_circles = Dense(s.n_radial, s.n_circular_channels * s.n_degrees)
        self.for_atoms = Dense(s.n_radial, s.n_radial_channels)
        self.for_outputs = Dense(s.n_radial, s.n_radial_channels)
        self.interactions = nn.ModuleList(_Interaction(s) for _ in range(s.n_blocks))
        self.outputs = nn.ModuleList(_ForceOutput(s) for _ in range(s.n_blocks + 1))
        self.score_scale = Scale()
        if self.levels is not None:
            self.gain = nn.Linear(n_features, 1)
            nn.init.zeros_(self.gain.weight)
            nn.init.zeros_(self.gain.bias)
        self.elements = nn.Linear(n, n_elements)
        self.waves: WaveLayer | None = None
        if s.n_wave_channels:
            self.n_phases = n_phases
            self.waves = WaveLayer(n_latent + n_features + n_phases, s.n_wave_channels, n)
            self.from_waves = nn.Linear(s.n_wave_channels, n)
            self.wave_gates = nn.Linear(n, s.n_wave_channels)
            nn.init.zeros_(self.wave_gates.weight)
            nn.init.zeros_(self.wave_gates.bias)
            self.wave_scale, self.pull_scale = Scale(), Scale()

    def forward(
        self,
        latent: Tensor,
        phases: Tensor,
        types: Tensor,
        edges: Edges,
        structure_of_atom: Tensor,
        levels: Tensor,
        waves: Waves | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Scores and elements of noisy structures.

        Args:
            latent: ``[n_structures, n_latent]``.
            phases: int64 ``[n_structures]``.
            types: int64 ``[n_atoms]``, the noisy elements.
            edges: of the noisy structures, within the decoder's cutoff.
            structure_of_atom: int64 ``[n_atoms]``.
            levels: standard deviation of the displacements, Å, and of the elements' noise, ``[n_structures, 2]``; not
                looked at unless the settings say so.
            waves: of the noisy structures, where the settings ask for them.

        Returns:
            Scores times the standard deviation of the noise, ``[n_atoms, 3]``, without a unit; and logits of the
            elements, ``[n_atoms, n_elements]``.
        """
        radial = self.basis(edges.distances)
        directions = edges.padded(harmonics(edges.directions, self.n_degrees))
        for_triplets, for_atoms = self.for_triplets(radial), self.for_atoms(radial)
        circles = self.for_circles(radial).unflatten(1, (self.n_circular, self.n_degrees))
        for_outputs = self.for_outputs(radial)
        h = self.atoms(phases[structure_of_atom] * self.n_elements + types)
        features = None if self.levels is None else self.levels(levels)
        given = latent if features is None else torch.cat([latent, features], -1)
        h = self.latent(torch.cat([h, given[structure_of_atom]], -1))
        pulls = None
        if self.waves is not None:
            assert waves is not None
            known = torch.nn.functional.one_hot(phases, self.n_phases).to(given)
            numbers, pulls = self.waves(waves, torch.cat([given, known], -1))
            h = h + self.from_waves(self.wave_scale(numbers, h))
            pulls = self.pull_scale(pulls, torch.ones_like(pulls))
        messages = self.edges(torch.cat([edges.at_sources(h), edges.at_targets(h), radial], -1))
        forces = self.outputs[0](messages, for_outputs)
        for interaction, output in zip(self.interactions, self.outputs[1:], strict=True):
            h, messages = interaction(h, messages, for_triplets, circles, for_atoms, directions, edges)
            forces = forces + output(messages, for_outputs)
        scores = edges.sums(forces * edges.directions)
        scores = self.score_scale(scores, torch.ones_like(scores))
        if pulls is not None:
            scores = scores + (self.wave_gates(h).unsqueeze(-1) * pulls).sum(1)
        if features is not None:
            scores = scores * (1.0 + self.gain(features))[structure_of_atom]
        return scores, self.elements(h)


class _LevelFeatures(nn.Module):
    """Sines and cosines of the logarithms of noise levels ``[n, 2]`` -> ``[n, n_features]``."""

    def __init__(self, n_frequencies: int = 4) -> None:
        super().__init__()
        self.n_features = 4 * n_frequencies
        self.frequencies: Tensor
        self.register_buffer("frequencies", 0.25 * 2.0 ** torch.arange(n_frequencies))

    def forward(self, levels: Tensor) -> Tensor:
        angles = (levels.log().unsqueeze(-1) * self.frequencies).flatten(1)
        return torch.cat([angles.sin(), angles.cos()], -1)


class _Interaction(nn.Module):
    """The interaction block of GemNet-T."""

    def __init__(self, s: DecoderSettings) -> None:
        super().__init__()
        n = s.n_channels
        self.own = Dense(n, n, is_active=True)
        self.triplets = _Triplets(s)
        self.before = residuals(n, s.n_before_skip)
        self.after = residuals(n, s.n_after_skip)
        self.radial = Dense(s.n_radial_channels, n)
        self.sum_scale = Scale()
        self.atom = nn.Sequential(Dense(n, n, is_active=True), residuals(n, s.n_atom_layers))
        self.concatenate = Dense(3 * n, n, is_active=True)
        self.last = residuals(n, s.n_after_concatenation)

    def forward(
        self,
        h: Tensor,
        messages: Tensor,
        for_triplets: Tensor,
        circles: Tensor,
        for_atoms: Tensor,
        directions: Tensor,
        edges: Edges,
    ) -> tuple[Tensor, Tensor]:
        x = (self.own(messages) + self.triplets(messages, for_triplets, circles, directions, edges)) * HALF
        messages = self.after((messages + self.before(x)) * HALF)
        into = self.sum_scale(edges.sums(messages * self.radial(for_atoms)), messages)
        h = (h + self.atom(into)) * HALF
        mixed = self.concatenate(torch.cat([edges.at_sources(h), edges.at_targets(h), messages], -1))
        return h, (messages + self.last(mixed)) * HALF


class _Triplets(nn.Module):
    """Messages c -> a from messages b -> a; both directions of an edge are updated."""

    def __init__(self, s: DecoderSettings) -> None:
        super().__init__()
        n = s.n_channels
        self.incoming = Dense(n, n, is_active=True)
        self.radial = Dense(s.n_radial_channels, n)
        self.radial_scale, self.sum_scale = Scale(), Scale()
        self.down = Dense(n, s.n_triplet_channels, is_active=True)
        self.bilinear = Dense(s.n_circular_channels * s.n_triplet_channels, s.n_bilinear_channels)
        self.up = Dense(s.n_bilinear_channels, n, is_active=True)
        self.up_reverse = Dense(s.n_bilinear_channels, n, is_active=True)

    def forward(
        self, messages: Tensor, for_triplets: Tensor, circles: Tensor, directions: Tensor, edges: Edges
    ) -> Tensor:
        incoming = self.incoming(messages)
        incoming = self.radial_scale(incoming * self.radial(for_triplets), incoming)
        incoming = self.down(incoming)
        met = circles @ angular_sums(incoming, directions, edges)  # [n_edges, n_circular, n_triplet_channels]
        met = self.sum_scale(self.bilinear(met.flatten(1)), incoming)
        result: Tensor = (self.up(met) + edges.reversed(self.up_reverse(met))) * HALF
        return result


class _ForceOutput(nn.Module):
    """Force of each edge along its direction, ``[n_edges, 1]``."""

    def __init__(self, s: DecoderSettings) -> None:
        super().__init__()
        n = s.n_channels
        self.layers = nn.Sequential(Dense(n, n, is_active=True), residuals(n, s.n_atom_layers))
        self.radial = Dense(s.n_radial_channels, n)
        self.scale = Scale()
        self.last = Dense(n, 1)

    def forward(self, messages: Tensor, for_outputs: Tensor) -> Tensor:
        x = self.layers(messages)
        result: Tensor = self.last(self.scale(x * self.radial(for_outputs), x))
        return result
