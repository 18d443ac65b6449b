"""What both networks may not depend on, in float64 and on ideal lattices too."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from alloysmith.generators.pcdvae.decoder import GemNetDT
from alloysmith.generators.pcdvae.encoder import DimeNetPlusPlus
from alloysmith.generators.pcdvae.graph import Edges, find_edges
from alloysmith.generators.pcdvae.layers import Scale, fitting_scales
from alloysmith.generators.pcdvae.settings import DecoderSettings, EncoderSettings, PcdvaeSettings
from alloysmith.generators.pcdvae.waves import Waves, find_waves
from ase import Atoms
from ase.build import bulk, make_supercell
from scipy.spatial.transform import Rotation

N_ELEMENTS, N_LATENT = 3, 8
TYPE_OF = {28: 0, 26: 1, 24: 2}
# cutoffs: between shells, and exactly on the second one of FCC and of BCC
CUTOFFS_ANG = (3.8, 3.5, 2.9)


@dataclass(frozen=True)
class Networks:
    encoder: DimeNetPlusPlus
    decoder: GemNetDT
    cutoff_ang: float
    dtype: torch.dtype

    def edges(self, frames: list[Atoms]) -> Edges:
        positions, cells = [a.positions for a in frames], [a.cell.array for a in frames]
        return find_edges(positions, cells, self.cutoff_ang, dtype=self.dtype)

    def waves(self, frames: list[Atoms]) -> Waves | None:
        if self.decoder.waves is None:
            return None
        return find_waves([a.positions for a in frames], [a.cell.array for a in frames], dtype=self.dtype, device="cpu")

    def encoded(self, *frames: Atoms) -> np.ndarray:
        """``[n_structures, n_outputs]``."""
        with torch.no_grad():
            return self.encoder(types_of(frames), self.edges(list(frames)), owners(frames), len(frames)).numpy()

    def decoded(self, *frames: Atoms) -> tuple[np.ndarray, np.ndarray]:
        """Scores ``[n_atoms, 3]`` and logits ``[n_atoms, n_elements]``; phase and latent vector from the first."""
        latent = torch.linspace(-1.0, 1.0, N_LATENT, dtype=self.dtype).expand(len(frames), -1)
        phases = torch.ones(len(frames), dtype=torch.int64)
        levels = torch.tensor([[0.3, 1.0]], dtype=self.dtype).expand(len(frames), -1)
        edges, owner = self.edges(list(frames)), owners(frames)
        with torch.no_grad():
            scores, logits = self.decoder(
                latent, phases, types_of(frames), edges, owner, levels, self.waves(list(frames))
            )
        return scores.numpy(), logits.numpy()


def types_of(frames: tuple[Atoms, ...]) -> torch.Tensor:
    return torch.tensor([TYPE_OF[z] for atoms in frames for z in atoms.numbers])


def owners(frames: tuple[Atoms, ...]) -> torch.Tensor:
    return torch.repeat_interleave(torch.arange(len(frames)), torch.tensor([len(a) for a in frames]))


@cache
def networks(cutoff_ang: float, dtype: torch.dtype = torch.float64, n_wave_channels: int = 4) -> Networks:
    torch.manual_seed(0)
    encoder = EncoderSettings(cutoff_ang=cutoff_ang, n_channels=16, n_interaction_channels=8, n_output_channels=16)
    decoder = DecoderSettings(
        cutoff_ang=cutoff_ang,
        n_channels=16,
        n_triplet_channels=8,
        n_bilinear_channels=8,
        n_wave_channels=n_wave_channels,
    )
    both = Networks(
        DimeNetPlusPlus(encoder, N_ELEMENTS, 6).to(dtype),
        GemNetDT(decoder, N_ELEMENTS, 2, N_LATENT).to(dtype),
        cutoff_ang,
        dtype,
    )
    if n_wave_channels:  # as after a training; the first weights are zero
        torch.nn.init.normal_(both.decoder.wave_gates.weight, std=0.1)
    with fitting_scales(both.decoder):
        both.decoded(rattled())
    return both


def colored(atoms: Atoms, seed: int = 0) -> Atoms:
    numbers = np.resize(list(TYPE_OF), len(atoms))
    np.random.default_rng(seed).shuffle(numbers)
    atoms.numbers = numbers
    return atoms


def rattled() -> Atoms:
    atoms = colored(bulk("Ni", "fcc", a=3.5, cubic=True) * (2, 1, 1))
    atoms.positions += np.random.default_rng(1).normal(scale=0.15, size=atoms.positions.shape)
    return atoms


STRUCTURES = {
    "rattled": rattled,
    "fcc": lambda: colored(bulk("Ni", "fcc", a=3.5, cubic=True) * (2, 1, 1)),
    "bcc": lambda: colored(bulk("Ni", "bcc", a=2.9, cubic=True) * (2, 2, 1)),
}
ROTATION = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()
CHANGES = ("rotation", "inversion", "translation", "permutation", "supercell", "cell")
UNIMODULAR = np.array([[1, 2, 0], [0, 1, 0], [-1, 1, 1]])


def transformed(atoms: Atoms, how: str) -> tuple[Atoms, np.ndarray, np.ndarray]:
    """The changed structure, the atom of the old one that each of its atoms is, and the rotation."""
    order, rotation = np.arange(len(atoms)), np.eye(3)
    changed = atoms.copy()
    if how == "rotation":
        rotation = ROTATION
        changed = Atoms(
            atoms.numbers, positions=atoms.positions @ rotation.T, cell=atoms.cell.array @ rotation.T, pbc=True
        )
    elif how == "inversion":
        rotation = -np.eye(3)
        changed.positions = -changed.positions
    elif how == "translation":
        changed.positions += [0.31, -4.2, 11.0]
        changed.wrap()
    elif how == "permutation":
        order = np.random.default_rng(3).permutation(len(atoms))
        changed = atoms[order]
    elif how == "supercell":
        changed = atoms * (2, 1, 2)
        order = np.tile(order, 4)
    elif how == "cell":
        changed = make_supercell(atoms, UNIMODULAR, wrap=True)
    return changed, order, rotation


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("name", STRUCTURES)
def test_networks_depend_on_the_crystal_alone(name: str, how: str) -> None:
    atoms = STRUCTURES[name]()
    changed, order, rotation = transformed(atoms, how)
    np.testing.assert_array_equal(changed.numbers, atoms.numbers[order])
    for cutoff_ang in CUTOFFS_ANG:
        both = networks(cutoff_ang)
        np.testing.assert_allclose(both.encoded(changed), both.encoded(atoms), atol=1e-9)
        scores, logits = both.decoded(atoms)
        new_scores, new_logits = both.decoded(changed)
        np.testing.assert_allclose(new_scores, scores[order] @ rotation.T, atol=1e-9)
        np.testing.assert_allclose(new_logits, logits[order], atol=1e-9)


@pytest.mark.parametrize("how", CHANGES)
def test_single_precision_keeps_five_digits(how: str) -> None:
    both = networks(3.8, torch.float32)
    for make in STRUCTURES.values():
        atoms = make()
        changed, order, rotation = transformed(atoms, how)
        np.testing.assert_allclose(both.encoded(changed), both.encoded(atoms), atol=1e-5)
        scores, logits = both.decoded(atoms)
        new_scores, new_logits = both.decoded(changed)
        np.testing.assert_allclose(new_scores, scores[order] @ rotation.T, atol=1e-5)
        np.testing.assert_allclose(new_logits, logits[order], atol=1e-5)


def test_a_batch_is_its_structures_one_by_one() -> None:
    both = networks(3.8)
    frames = [make() for make in STRUCTURES.values()]
    np.testing.assert_allclose(both.encoded(*frames), np.vstack([both.encoded(a) for a in frames]), atol=1e-11)
    alone = [both.decoded(a) for a in frames]
    together = both.decoded(*frames)
    for k in range(2):
        np.testing.assert_allclose(together[k], np.vstack([parts[k] for parts in alone]), atol=1e-11)


def test_networks_tell_structures_apart() -> None:
    both = networks(3.8)
    atoms = rattled()
    scores, logits = both.decoded(atoms)
    assert np.abs(scores).max() > 0.05
    assert logits.std(0).min() > 0.02
    other_order, other_place = atoms.copy(), atoms.copy()
    other_order.numbers = atoms.numbers[::-1]
    other_place.positions[0] += [0.1, 0.0, 0.0]
    for changed in (other_order, other_place):
        assert np.abs(both.encoded(changed) - both.encoded(atoms)).max() > 1e-3
        assert np.abs(both.decoded(changed)[1] - logits).max() > 1e-3


def test_angles_matter_and_not_distances_alone() -> None:
    """Three neighbours on a plane and three at right angles have the same distances to the atom in the middle."""
    cell = np.eye(3) * 30.0
    arms = 2.3 * np.eye(3)
    flat = 2.3 * np.array([[1.0, 0.0, 0.0], [-0.5, 0.75**0.5, 0.0], [-0.5, -(0.75**0.5), 0.0]])
    both = networks(3.2, n_wave_channels=0)
    results = []
    for neighbours in (arms, flat):
        atoms = Atoms("Ni4", positions=np.vstack([np.zeros(3), neighbours]) + 15.0, cell=cell, pbc=True)
        assert both.edges([atoms]).distances.tolist() == pytest.approx([2.3] * 6)
        results.append((both.encoded(atoms), both.decoded(atoms)[1]))
    assert np.abs(results[0][0] - results[1][0]).max() > 1e-4
    assert np.abs(results[0][1] - results[1][1]).max() > 1e-4


def test_phase_latent_vector_and_noise_levels_steer_the_decoder() -> None:
    both, atoms = networks(3.8), rattled()
    edges, waves, owner, types = both.edges([atoms]), both.waves([atoms]), owners((atoms,)), types_of((atoms,))
    latent = torch.zeros(1, N_LATENT, dtype=torch.float64)
    fcc, bcc, levels = torch.tensor([0]), torch.tensor([1]), torch.tensor([[0.1, 1.0]], dtype=torch.float64)
    with torch.no_grad():
        first = both.decoder(latent, fcc, types, edges, owner, levels, waves)[0]
        others = (
            both.decoder(latent, bcc, types, edges, owner, levels, waves)[0],
            both.decoder(latent + 1.0, fcc, types, edges, owner, levels, waves)[0],
            both.decoder(latent, fcc, types, edges, owner, 2.0 * levels, waves)[0],
        )
    assert all((first - other).abs().max() > 1e-3 for other in others)


def test_lonely_atoms_have_no_score() -> None:
    both = networks(3.8)
    scores, logits = both.decoded(bulk("Ni", "fcc", a=12.0))
    np.testing.assert_allclose(scores, np.zeros((1, 3)), atol=1e-15)
    assert np.isfinite(logits).all()
    assert np.isfinite(both.encoded(bulk("Ni", "fcc", a=12.0))).all()


def test_scales_are_fitted_once_and_stay() -> None:
    both, atoms = networks(3.8), rattled()
    scales = [part for part in both.decoder.modules() if isinstance(part, Scale)]
    assert all(0.05 < float(scale.factor) < 50.0 and float(scale.factor) != 1.0 for scale in scales)
    before = both.decoded(atoms)[0]
    with fitting_scales(both.decoder):
        both.decoded(atoms)
    np.testing.assert_allclose(both.decoded(atoms)[0], before, rtol=1e-12)


def test_published_sizes_build_and_run() -> None:
    settings = PcdvaeSettings.published()
    torch.manual_seed(0)
    encoder = DimeNetPlusPlus(settings.encoder, 3, settings.n_latent)
    decoder = GemNetDT(settings.decoder, 3, 2, settings.n_latent)
    both = Networks(encoder, decoder, 7.0, torch.float32)
    atoms = colored(bulk("Ni", "bcc", a=2.9, cubic=True))
    hidden = both.encoded(atoms)
    assert hidden.shape == (1, 256)
    with torch.no_grad():
        scores, logits = decoder(
            torch.from_numpy(hidden),
            torch.tensor([0]),
            types_of((atoms,)),
            both.edges([atoms]),
            owners((atoms,)),
            torch.ones(1, 2),
        )
    assert scores.shape == (2, 3)
    assert logits.shape == (2, 3)
    assert torch.isfinite(scores).all()
