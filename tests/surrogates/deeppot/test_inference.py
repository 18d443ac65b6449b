from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from alloysmith.oracles.md_settings import MdSettings
from alloysmith.oracles.molecular_dynamics import MolecularDynamics
from alloysmith.surrogates.deeppot.compression import MIN_DISTANCE_ANG, TOLERANCE, hermite_weights, tabulate
from alloysmith.surrogates.deeppot.inference import CompressedDeepPot
from alloysmith.surrogates.deeppot.model import DeepPotModel
from alloysmith.surrogates.deeppot.networks import ResidualNetwork
from alloysmith.surrogates.deeppot.settings import DeepPotSettings
from alloysmith.surrogates.eam.settings import EamSettings
from alloysmith.surrogates.potentials.base import PotentialSpec
from alloysmith.surrogates.potentials.engine import PotentialEngine
from alloysmith.surrogates.potentials.frame import Frame
from alloysmith.surrogates.potentials.graph import build_graph, collate
from alloysmith.surrogates.potentials.torch_potential import TorchPotential
from alloysmith.surrogates.potentials.training import train
from alloysmith.surrogates.potentials.training_settings import TrainingSettings
from ase import Atoms
from ase.build import bulk

ELEMENTS = ("Al", "Cu", "Ni")
EMBEDDING = {"neuron": (6, 12), "axis_neuron": 3}
VARIANTS = {
    "plain": {},
    "shared": {"descriptor": {**EMBEDDING, "resnet_dt": True, "type_one_side": True}},
    "wide": {"descriptor": {"neuron": (5, 20, 20, 40, 33), "axis_neuron": 33}, "fitting_net": {"neuron": (9, 18)}},
}


def learnt(seed: int = 1, **changes) -> DeepPotModel:
    """A model with statistics and weights as after a training, so that all of its parts matter."""
    parts = {"fitting_net": {"neuron": (20, 20)}, "cutoff_ang": 4.5, "switch_ang": 3.0}
    model = DeepPotSettings.model_validate({"seed": seed, **parts, **changes}).build(ELEMENTS)
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        model.means.copy_(torch.tensor([0.05, 0.06, 0.07]))
        model.deviations.copy_(torch.from_numpy(rng.uniform(0.06, 0.12, size=(3, 2))))
        model.n_neighbours.copy_(torch.tensor([9.5, 12.25, 8.0]))
        model.energies_ev.copy_(torch.tensor([-3.0, -4.0, -5.0]))
        for a in range(len(ELEMENTS)):
            n = model.feature_means.shape[1]
            model.feature_means[a] = torch.from_numpy(rng.normal(scale=0.1, size=n))
            model.feature_deviations[a] = torch.from_numpy(rng.uniform(0.1, 0.5, size=n))
            model.fitting(a).output_weight *= 3.0
    return model


def potential(model: DeepPotModel) -> TorchPotential:
    return TorchPotential(PotentialSpec("deeppot", ELEMENTS, model.cutoff_ang), model)


def alloy(seed: int, repeat: tuple[int, int, int] = (2, 2, 1), rattle: float = 0.25) -> Atoms:
    atoms = bulk("Cu", cubic=True, a=3.7).repeat(repeat)
    atoms.symbols[:] = np.random.default_rng(seed).choice(ELEMENTS, len(atoms))
    atoms.rattle(rattle, seed=seed)
    return atoms


def assert_as_the_model(model: DeepPotModel, structures: list[Atoms], **tolerance: float) -> None:
    """Energies per atom, forces and virials per atom."""
    limits = {"energy": 1e-7, "force": 1e-6, "virial": 1e-7, **tolerance}
    for atoms, found in zip(structures, potential(model).evaluate(structures), strict=True):
        with torch.no_grad():
            expected = model(collate([build_graph(atoms, ELEMENTS, model.cutoff_ang)]))
        assert abs(found.energy_ev - expected.energies.item()) < limits["energy"] * len(atoms)
        np.testing.assert_allclose(found.forces, expected.forces.numpy(), rtol=0.0, atol=limits["force"])
        if atoms.cell.volume > 0.0:
            virial = found.stress * atoms.cell.volume
            np.testing.assert_allclose(
                virial, expected.virials[0].numpy(), rtol=0.0, atol=limits["virial"] * len(atoms)
            )
        else:
            assert np.isnan(found.stress).all()


def test_weights_of_the_nodes_are_of_the_fifth_order() -> None:
    t = np.linspace(0.0, 1.0, 11)
    for power in range(6):
        falling = [1.0, power, power * (power - 1)]
        left = [1.0 if power == k else 0.0 for k in range(3)] * np.array([1.0, 1.0, 2.0])
        values, slopes = (np.array(w).T @ np.array([*left, *falling]) for w in hermite_weights(t))
        np.testing.assert_allclose(values, t**power, atol=1e-14)
        np.testing.assert_allclose(slopes, power * t ** max(power - 1, 0), atol=1e-13)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_tables_are_as_exact_as_they_say(scale: float) -> None:
    """Over their whole range, on points that no step of their making has seen."""
    network = ResidualNetwork(1, (10, 20, 40, 40), has_time_step=True, has_output=False)
    network.draw(torch.Generator().manual_seed(1))
    other = ResidualNetwork(1, (5, 40), has_time_step=False, has_output=False)
    with torch.no_grad():
        for weight in network.weights:
            weight *= scale
    table = tabulate([network, other], 0.08, 0.1)
    assert table is not None
    s = np.random.default_rng(0).uniform(0.0, 1.0 / MIN_DISTANCE_ANG, 5000)
    with torch.no_grad():
        values, slopes = network.values_and_slopes(torch.from_numpy((s - 0.08) / 0.1)[:, None])
    found, steep = table.values_and_slopes(0, s)
    assert table.error <= TOLERANCE
    assert np.abs(found - values.numpy()).max() < 2 * TOLERANCE
    assert np.abs(0.1 * steep - slopes.numpy()).max() < 2 * TOLERANCE
    assert values.std(0).max() > 0.05


@pytest.mark.parametrize("name", VARIANTS)
def test_it_evaluates_as_the_model_does(name: str) -> None:
    """Crystals with several images of an atom in reach, of one species alone, molecules and isolated atoms, at once."""
    dimer = Atoms("NiAl", positions=[[0, 0, 0], [0, 0, 2.1]])
    alone = Atoms("Cu", cell=[20.0] * 3, pbc=True)
    slab = alloy(5)
    slab.pbc = (True, True, False)
    sheared = alloy(4)
    sheared.set_cell(sheared.cell.array + np.array([[0, 0, 0], [0.7, 0, 0], [-0.4, 0.9, 0.3]]), scale_atoms=True)
    small = [bulk("Ni"), bulk("Al", a=3.0), Atoms("CuAl", [[0, 0, 0], [1.4, 1.5, 1.6]], cell=[2.9] * 3, pbc=True)]
    assert_as_the_model(learnt(**VARIANTS[name]), [alloy(0), dimer, alone, slab, sheared, *small, alloy(1, (3, 3, 3))])


def test_blocks_of_atoms_are_added_up() -> None:
    assert_as_the_model(learnt(), [alloy(2, (5, 5, 4))])


def test_pairs_closer_than_the_tables_are_left_to_the_networks() -> None:
    """Results are then the model's to the last digits, and go over smoothly."""
    model = learnt()
    evaluator = CompressedDeepPot.of(model)
    assert evaluator is not None

    def pair(distance: float) -> Atoms:
        return Atoms("NiAl", positions=[[0, 0, 0], [0, 0, distance]], cell=[12.0] * 3, pbc=True)

    inside, outside = pair(MIN_DISTANCE_ANG - 1e-7), pair(MIN_DISTANCE_ANG + 1e-7)
    assert evaluator.evaluate(build_graph(inside, ELEMENTS, 4.5)) is None
    assert evaluator.evaluate(build_graph(outside, ELEMENTS, 4.5)) is not None
    assert_as_the_model(model, [inside, pair(0.4)], energy=1e-13, force=1e-12, virial=1e-12)
    assert_as_the_model(model, [outside])


def test_a_wild_network_is_evaluated_as_it_is() -> None:
    model = learnt()
    with torch.no_grad():
        model.embedding(0, 1).weights[0] *= 1e4
    assert model.evaluator() is None
    assert_as_the_model(model, [alloy(0)], energy=1e-13, force=1e-12, virial=1e-12)


def test_only_double_precision_on_a_cpu_is_compressed() -> None:
    assert isinstance(learnt().evaluator(), CompressedDeepPot)
    assert learnt().float().evaluator() is None
    assert learnt().to("meta").evaluator() is None


def test_forces_and_stresses_are_derivatives_of_the_energy() -> None:
    surface, atoms = potential(learnt()), alloy(3)
    found = surface.evaluate([atoms])[0]
    rng = np.random.default_rng(0)
    h = 1e-4
    step = rng.normal(size=(len(atoms), 3))
    strain = rng.normal(size=(3, 3))
    strain = (strain + strain.T) / 2

    def energy(displacement: float, stretch: float) -> float:
        moved = atoms.copy()
        moved.positions += displacement * step
        moved.set_cell(moved.cell.array @ (np.eye(3) + stretch * strain), scale_atoms=True)
        return surface.evaluate([moved])[0].energy_ev

    slope = (energy(h, 0.0) - energy(-h, 0.0)) / (2 * h)
    assert slope == pytest.approx(-float((found.forces * step).sum()), rel=1e-5)
    slope = (energy(0.0, h) - energy(0.0, -h)) / (2 * h)
    assert slope == pytest.approx(atoms.get_volume() * float((found.stress * strain).sum()), rel=1e-5)


def test_rotations_and_permutations_change_nothing() -> None:
    surface, atoms = potential(learnt()), alloy(6)
    turned = atoms.copy()
    turned.rotate(67.0, (1, 2, -1), rotate_cell=True)
    order = np.random.default_rng(0).permutation(len(atoms))
    first, second, third = surface.evaluate([atoms, turned, atoms[order]])
    rotation = np.linalg.solve(atoms.cell.array, turned.cell.array)
    assert first.energy_ev == pytest.approx(second.energy_ev, abs=1e-10)
    assert first.energy_ev == pytest.approx(third.energy_ev, abs=1e-10)
    np.testing.assert_allclose(first.forces @ rotation, second.forces, atol=1e-9)
    np.testing.assert_allclose(first.forces[order], third.forces, atol=1e-9)
    np.testing.assert_allclose(rotation.T @ first.stress @ rotation, second.stress, atol=1e-11)
    assert np.abs(first.forces.sum(axis=0)).max() < 1e-11


def test_numba_is_loaded_where_it_is_needed_and_needs_no_folder() -> None:
    """The command line starts without it, and code that cannot be kept is compiled all the same."""
    script = """
import sys
import alloysmith.loop.cli.app
import alloysmith.surrogates.deeppot.settings
print("numba" in sys.modules)
from alloysmith.surrogates.deeppot import kernel
print(kernel.IS_KEPT)
"""
    environment = {**os.environ, "NUMBA_CACHE_LOCATOR_CLASSES": "ZipCacheLocator"}  # as if no folder could be written
    command = [sys.executable, "-c", script]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]


def ordered(repeat: int, rattle: float, seed: int, a: float = 3.7) -> Atoms:
    """Ni3Al, which its symmetry holds in place."""
    atoms = Atoms(
        "AlNi3", cell=[a] * 3, pbc=True, scaled_positions=[[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    )
    atoms = atoms.repeat(repeat)
    atoms.rattle(rattle, seed=seed)
    return atoms


@pytest.mark.slow
def test_dynamics_conserves_the_energy() -> None:
    """Within 1e-6 eV per atom and ps, with a potential that has learnt to hold its crystal together."""
    eam = EamSettings(cutoff_ang=6.0).build(ELEMENTS)
    teacher = TorchPotential(PotentialSpec("eam", ELEMENTS, 6.0), eam)
    structures = [ordered(2, 0.03 * (1 + k % 6), k, 3.4 + 0.03 * (k % 7)) for k in range(30)]
    labels = zip(structures, teacher.evaluate(structures), strict=True)
    frames = [Frame(atoms, label.energy_ev, label.forces, label.stress) for atoms, label in labels]
    parts = {"fitting_net": {"neuron": (20, 20)}, "cutoff_ang": 4.5, "switch_ang": 3.0}
    model = DeepPotSettings.model_validate(parts).build(ELEMENTS)
    adam = {"kind": "adam", "learning_rate": 0.01, "batch_frames": 5}
    train(model, frames, settings=TrainingSettings.model_validate({"optimizer": adam, "max_steps": 120}), seed=0)
    surface = potential(model)
    settings = MdSettings(ensemble="nve", temperature_k=600.0, timestep_fs=0.5, n_steps=6_000, stride=10)
    run = MolecularDynamics(PotentialEngine(surface), settings).run(ordered(2, 0.02, 1, 3.55))
    assert run.stop is None
    times_ps, energies_ev = run.trajectory.times_ps[200:], run.trajectory.conserved_ev[200:]
    drift, _ = np.polyfit(times_ps, energies_ev / 32, 1)
    assert abs(drift) < 1e-6
    assert run.trajectory.temperatures_k[200:].mean() > 100.0
