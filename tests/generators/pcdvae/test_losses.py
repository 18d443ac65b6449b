"""Losses and steps of training on published structures, and on data that cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from alloysmith.errors import StructureError
from alloysmith.generators.pcdvae.crystals import Crystal, collate, crystal_from
from alloysmith.generators.pcdvae.layers import fitting_scales
from alloysmith.generators.pcdvae.losses import Losses, losses
from alloysmith.generators.pcdvae.model import Pcdvae
from alloysmith.generators.pcdvae.noise import draw_noise, noisy_types, sigmas_ang
from alloysmith.generators.pcdvae.settings import (
    DecoderSettings,
    EncoderSettings,
    LossWeights,
    NoiseSettings,
    PcdvaeSettings,
)
from alloysmith.structures.base import PHASES
from alloysmith.structures.files import read_structures
from ase import Atoms
from ase.build import bulk
from scipy.spatial.transform import Rotation

ELEMENTS = ("Ni", "Fe", "Cr")
TINY = PcdvaeSettings(
    n_latent=8,
    n_head_channels=16,
    encoder=EncoderSettings(n_channels=16, n_interaction_channels=8, n_output_channels=16),
    decoder=DecoderSettings(n_channels=16, n_triplet_channels=8, n_bilinear_channels=8),
)


def small_crystals() -> list[Crystal]:
    """Two FCC and two BCC alloys of 4 to 16 atoms."""
    found = []
    for k, phase in enumerate(("fcc", "fcc", "bcc", "bcc")):
        atoms = bulk("Ni", phase, a=3.5 if phase == "fcc" else 2.9, cubic=True) * (1 + k % 2, 1, 2)
        atoms.symbols = np.random.default_rng(k).choice(ELEMENTS, len(atoms))
        found.append(crystal_from(atoms, ELEMENTS, phase=PHASES.index(phase), value=150.0 + 10.0 * k))
    return found


def model_of(crystals: list[Crystal], settings: PcdvaeSettings = TINY, phases: tuple[str, ...] = PHASES) -> Pcdvae:
    model = Pcdvae(settings, ELEMENTS, phases, max_atoms=54)
    model.standardize(crystals)
    return model


def evaluated(model: Pcdvae, crystals: list[Crystal], seed: int = 0) -> Losses:
    batch = collate(crystals, len(ELEMENTS), dtype=model.lattice_mean.dtype)
    noise = draw_noise(batch, model.settings.noise, model.settings.n_latent, np.random.default_rng(seed))
    return losses(model, batch, noise)


def numbers(parts: Losses) -> dict[str, float]:
    return {name: float(value.detach()) for name, value in vars(parts).items()}


def test_steps_of_training_on_published_alloys_lower_every_loss(shared_data: Path) -> None:
    frames = read_structures(shared_data / "nifecr" / "localsearch_aug_val.extxyz.gz")[::9]
    crystals = [
        crystal_from(a, ELEMENTS, phase=PHASES.index(a.info["phase"]), value=a.info["bulk_modulus_GPa"]) for a in frames
    ]
    model = model_of(crystals, PcdvaeSettings())
    with fitting_scales(model):
        evaluated(model, crystals)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    weights = LossWeights()
    first = evaluated(model, crystals)
    for _ in range(6):
        optimizer.zero_grad()
        total = evaluated(model, crystals).total(weights)
        total.backward()
        optimizer.step()
    last = evaluated(model, crystals)
    assert float(last.total(weights).detach()) < 0.5 * float(first.total(weights).detach())
    before, after = numbers(first), numbers(last)
    for name in ("n_atoms", "lattice", "composition", "phase", "property", "coordinates"):
        assert after[name] < before[name], name


def test_each_part_of_the_loss_reaches_the_parameters_it_should() -> None:
    crystals = small_crystals()
    model = model_of(crystals)
    reached = {
        "n_atoms": "head_n_atoms",
        "lattice": "head_lattice",
        "composition": "head_composition",
        "phase": "head_phase",
        "property": "head_value",
        "coordinates": "decoder",
        "types": "decoder",
        "kl": "log_variance",
    }
    owners = set(reached.values())
    for name, owner in reached.items():
        model.zero_grad()
        getattr(evaluated(model, crystals), name).backward()
        moved = {
            top.partition(".")[0]
            for top, p in model.named_parameters()
            if p.grad is not None and bool(p.grad.abs().max() > 0.0)
        }
        assert moved & owners - {"log_variance"} == {owner} - {"log_variance"}, name
        assert {"encoder", "mean", "log_variance"} <= moved, name


def test_total_is_the_weighted_sum_with_the_published_weights() -> None:
    ones = Losses(*(torch.tensor(float(10**k)) for k in range(8)))
    named = {name: float(10**k) for k, name in enumerate(vars(ones))}
    published = {
        "n_atoms": 1,
        "lattice": 10,
        "composition": 1,
        "phase": 1,
        "property": 1,
        "coordinates": 10,
        "types": 1,
    }
    expected = sum(named[name] * weight for name, weight in {**published, "kl": 0.01}.items())
    assert float(ones.total(LossWeights())) == pytest.approx(expected)


def test_a_perfect_decoder_has_no_score_loss_and_an_idle_one_half_the_square() -> None:
    crystals = small_crystals()
    model = model_of(crystals)
    batch = collate(crystals, len(ELEMENTS))
    noise = draw_noise(batch, TINY.noise, TINY.n_latent, np.random.default_rng(0))
    model.decode = lambda *_: (noise.scores, torch.zeros(len(batch.types), 3))  # type: ignore[method-assign]
    assert numbers(losses(model, batch, noise))["coordinates"] == 0.0
    model.decode = lambda *_: (0.0 * noise.scores, torch.zeros(len(batch.types), 3))  # type: ignore[method-assign]
    per_atom = 0.5 * noise.scores.square().sum(1).numpy()
    expected = np.mean([per_atom[batch.structure_of_atom.numpy() == k].mean() for k in range(4)])
    idle = numbers(losses(model, batch, noise))
    assert idle["coordinates"] == pytest.approx(expected, rel=1e-6)
    assert idle["types"] == pytest.approx(float((np.log(3.0) / noise.type_sigmas).mean()), rel=1e-5)


def test_losses_do_not_depend_on_orientation_origin_or_order() -> None:
    crystals = small_crystals()
    model = model_of(crystals).double()
    rotation = Rotation.from_rotvec([0.4, 0.2, -1.0]).as_matrix()
    latents, changed = [], []
    for c in crystals:
        atoms = Atoms([ELEMENTS[t] for t in c.types], positions=c.positions, cell=c.cell, pbc=True)
        turned = Atoms(
            atoms.numbers,
            positions=(atoms.positions + 2.5) @ rotation.T,
            cell=c.cell @ rotation.T,
            pbc=True,
        )[::-1]
        changed.append(crystal_from(turned, ELEMENTS, phase=c.phase, value=c.value))
    for same in (crystals, changed):
        batch = collate(same, len(ELEMENTS), dtype=torch.float64)
        with torch.no_grad():
            latents.append(model.encode(batch)[0].numpy())
    np.testing.assert_allclose(latents[1], latents[0], atol=1e-9)
    np.testing.assert_allclose([c.lattice for c in changed], [c.lattice for c in crystals], atol=1e-9)


def test_one_phase_makes_a_plain_cdvae() -> None:
    crystals = small_crystals()[:2]
    model = model_of(crystals, phases=("fcc",))
    assert model.head_phase is None
    parts = evaluated(model, crystals)
    assert numbers(parts)["phase"] == 0.0
    assert float(parts.total(LossWeights()).detach()) > 0.0


def test_same_seeds_give_the_same_losses() -> None:
    crystals = small_crystals()
    torch.manual_seed(1)
    first = evaluated(model_of(crystals), crystals)
    torch.manual_seed(2)
    again = evaluated(model_of(crystals), crystals)
    assert numbers(first) == numbers(again)
    other = evaluated(model_of(crystals), crystals, seed=1)
    assert numbers(other)["coordinates"] != numbers(first)["coordinates"]


def test_noise_levels_fit_each_cell() -> None:
    small, large = small_crystals()[0], small_crystals()[3]
    levels = sigmas_ang(small, NoiseSettings(sigma_max_ang=None))
    assert len(levels) == 50
    assert levels[-1] == pytest.approx(0.03)
    assert levels[0] == pytest.approx(small.torus.sigma_even_ang)
    assert levels[0] < 10.0
    np.testing.assert_allclose(levels[1:] / levels[:-1], levels[1] / levels[0])
    assert sigmas_ang(large, NoiseSettings(sigma_max_ang=10.0))[0] == pytest.approx(10.0)


def test_noisy_elements_follow_their_weights() -> None:
    n = 60_000
    batch = collate(small_crystals()[:1], len(ELEMENTS))
    noise = draw_noise(batch, TINY.noise, TINY.n_latent, np.random.default_rng(0))
    owner = torch.zeros(n, dtype=torch.int64)
    composition = torch.tensor([[0.2, 0.5, 0.3]])
    sigma = torch.tensor([[0.1, 1.5]])
    draws = torch.from_numpy(np.random.default_rng(1).random(n)).float()
    big = type(noise)(noise.positions, noise.scores, sigma, draws, noise.latent)
    drawn = noisy_types(torch.ones(n, dtype=torch.int64), composition, big, owner)
    share = np.bincount(drawn, minlength=3) / n
    np.testing.assert_allclose(share, np.array([0.3, 1.75, 0.45]) / 2.5, atol=0.01)


def test_standardized_lattices_with_equal_angles_stay_finite() -> None:
    crystals = small_crystals()
    model = model_of(crystals)
    assert model.lattice_spread[3:].tolist() == [1.0, 1.0, 1.0]
    assert model.lattice_mean[3:].tolist() == pytest.approx([90.0] * 3)
    lattices = np.stack([c.lattice for c in crystals])
    np.testing.assert_allclose(model.lattice_spread[:3].numpy(), lattices[:, :3].std(0), rtol=1e-5)


def broken(how: str) -> Atoms:
    atoms = bulk("Ni", "fcc", a=3.5, cubic=True)
    if how == "nan":
        atoms.positions[1, 2] = np.nan
    elif how == "overlap":
        atoms.positions[1] = atoms.positions[0] + [0.1, 0.0, 3.5]
    elif how == "unknown":
        atoms.symbols[0] = "Al"
    elif how == "molecule":
        atoms.pbc = False
    elif how == "empty":
        atoms = Atoms(cell=np.eye(3), pbc=True)
    return atoms


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("nan", "NaN or infinite"),
        ("overlap", "0.1 Å apart"),
        ("unknown", "holds Al, but the model's elements are Ni, Fe, Cr"),
        ("molecule", "periodic cell"),
        ("empty", "periodic cell"),
    ],
)
def test_structures_that_cannot_be_learned_from_say_why(how: str, message: str) -> None:
    with pytest.raises(StructureError, match=message):
        crystal_from(broken(how), ELEMENTS)


def test_data_that_do_not_suit_the_model_say_why() -> None:
    crystals = small_crystals()
    for data, message in [
        ([], "no structures"),
        ([crystal_from(broken(""), ELEMENTS)], "property of some structures is not known"),
        ([crystal_from(broken(""), ELEMENTS, phase=2, value=1.0)], "none of fcc, bcc"),
    ]:
        with pytest.raises(StructureError, match=message):
            Pcdvae(TINY, ELEMENTS, PHASES, max_atoms=54).standardize(data)
    with pytest.raises(StructureError, match="more than max_atoms = 4"):
        Pcdvae(TINY, ELEMENTS, PHASES, max_atoms=4).standardize(crystals)
