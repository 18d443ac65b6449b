"""What every interatomic potential owes its callers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from alloysmith.oracles.base import FailureKind, OracleError
from alloysmith.oracles.force_engine import Evaluation
from alloysmith.surrogates.base import SurrogateError, SurrogateState
from alloysmith.surrogates.deeppot.settings import DeepPotSettings
from alloysmith.surrogates.eam.settings import EamSettings
from alloysmith.surrogates.model_file import load_state, save_state
from alloysmith.surrogates.potentials.base import GraphPotential, Potential, PotentialSpec
from alloysmith.surrogates.potentials.calculator import PotentialCalculator
from alloysmith.surrogates.potentials.committee import Committee
from alloysmith.surrogates.potentials.engine import PotentialEngine
from alloysmith.surrogates.potentials.frame import Frame
from alloysmith.surrogates.potentials.settings import potential_from_state
from alloysmith.surrogates.potentials.torch_potential import TorchPotential
from alloysmith.tests.lennard_jones import LennardJones, lennard_jones
from ase import Atoms
from ase.build import bulk

ELEMENTS = ("Ni", "Mo")
REFERENCES = {"Ni": -1.25, "Mo": 0.5}


def eam(**settings) -> TorchPotential:
    model = EamSettings(**settings).build(ELEMENTS)
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # what is built is special: a table, or zero
            if parameter.requires_grad and parameter.ndim > 0:
                seed = torch.Generator().manual_seed(sum(map(ord, name)))
                parameter *= 1 + 0.01 * torch.rand(parameter.shape, dtype=parameter.dtype, generator=seed)
    return TorchPotential(PotentialSpec("eam", ELEMENTS, model.cutoff_ang, 7, REFERENCES, {"data": "none"}), model)


def deeppot(**settings) -> TorchPotential:
    """Normalized by data, so that empty places in the environment count, and some layers without shortcuts."""
    parts = {"descriptor": {"neuron": (8, 16), "axis_neuron": 3}, "fitting_net": {"neuron": (12, 12, 24)}}
    model = DeepPotSettings.model_validate({"seed": 1, **parts, **settings}).build(ELEMENTS)
    crystals = [bulk("Ni", "fcc", a=3.5, cubic=True), bulk("Mo", "bcc", a=3.1, cubic=True)]
    for atoms in crystals:
        atoms.rattle(0.2, seed=1)
    model.prepare([Frame(atoms, -4.0 * len(atoms)) for atoms in crystals], seed=0)
    with torch.no_grad():
        for fitting in model.fittings:
            fitting.output_weight *= 3.0  # as steep as what is learnt
    return TorchPotential(PotentialSpec("deeppot", ELEMENTS, model.cutoff_ang, 7, REFERENCES, {"data": "none"}), model)


POTENTIALS: dict[str, Callable[[], Potential]] = {
    "lennard_jones": lambda: lennard_jones(*ELEMENTS, references_ev=REFERENCES),
    "zjw04": lambda: eam(cutoff_ang=6.0),
    "zjw04 piecewise, mixing": lambda: eam(cutoff_ang=6.0, embedding="piecewise", cross="mixing"),
    "adp": lambda: eam(cutoff_ang=6.0, angular=True),
    "spline adp": lambda: eam(cutoff_ang=6.0, functions="spline", embedding="spline", angular=True),
    "deeppot": lambda: deeppot(),
    "deeppot one side": lambda: deeppot(
        cutoff_ang=5.0, switch_ang=2.0, descriptor={"neuron": (6, 6, 9), "type_one_side": True, "resnet_dt": True}
    ),
    "committee": lambda: Committee((eam(cutoff_ang=6.0), eam(cutoff_ang=5.5))),
}


@pytest.fixture(scope="module", params=POTENTIALS)
def potential(request: pytest.FixtureRequest) -> Potential:
    return POTENTIALS[request.param]()


@pytest.fixture
def structure() -> Atoms:
    """A distorted alloy whose cell is smaller than the cutoff and skewed, with atoms outside it."""
    atoms = bulk("Ni", "fcc", a=3.7, cubic=True).repeat((1, 2, 1))
    atoms.numbers[[1, 4, 6]] = 42
    atoms.rattle(0.12, seed=5)
    atoms.set_cell(atoms.cell.array @ np.array([[1.0, 0.06, 0.0], [0.02, 0.97, -0.03], [0.0, 0.05, 1.02]]), True)
    atoms.positions[2] += 2 * atoms.cell.array[0] - atoms.cell.array[1]
    return atoms


def evaluate(potential: Potential, atoms: Atoms) -> Evaluation:
    (found,) = potential.evaluate([atoms])
    return found


def derivative(energy: Callable[[float], float], step: float) -> float:
    """Central difference of sixth order."""
    weights = {1: 45.0, 2: -9.0, 3: 1.0}
    return sum(w * (energy(k * step) - energy(-k * step)) for k, w in weights.items()) / (60.0 * step)


def read_back(state: SurrogateState) -> Potential:
    if state.kind == "lennard_jones":  # a kind of these tests alone
        spec = dict(state.settings["spec"])
        model = LennardJones(tuple(state.settings["model"]["elements"]), state.settings["model"]["cutoff_ang"])
        model.load_state_dict({name: torch.from_numpy(array) for name, array in state.arrays.items()})
        return TorchPotential(PotentialSpec(state.kind, **{**spec, "elements": tuple(spec["elements"])}), model)
    return potential_from_state(state)


def test_it_is_a_potential_and_says_what_it_is(potential: Potential, structure: Atoms) -> None:
    assert isinstance(potential, Potential)
    assert potential.spec.elements == ELEMENTS
    before = structure.copy()
    found = evaluate(potential, structure)
    assert structure == before
    assert isinstance(found.energy_ev, float)
    assert found.forces.shape == (len(structure), 3)
    assert found.forces.dtype == found.stress.dtype == np.float64
    assert found.stress.shape == (3, 3)
    assert (found.stress == found.stress.T).all()
    assert np.abs(found.forces).max() > 0.1


def test_forces_are_the_derivative_of_the_energy(potential: Potential, structure: Atoms) -> None:
    found = evaluate(potential, structure)
    scale = np.abs(found.forces).max()
    for atom, axis in ((0, 0), (2, 1), (6, 2)):

        def energy(shift: float, atom: int = atom, axis: int = axis) -> float:
            moved = structure.copy()
            moved.positions[atom, axis] += shift
            return evaluate(potential, moved).energy_ev

        assert found.forces[atom, axis] == pytest.approx(-derivative(energy, 2e-3), rel=1e-6, abs=1e-6 * scale)
    assert found.forces.sum(axis=0) == pytest.approx(np.zeros(3), abs=1e-9 * scale)


def test_stress_is_the_derivative_by_strain(potential: Potential, structure: Atoms) -> None:
    found = evaluate(potential, structure)
    scale = np.abs(found.stress).max()
    for i, j in ((0, 0), (2, 2), (0, 1), (1, 2)):

        def energy(amount: float, i: int = i, j: int = j) -> float:
            strain = np.zeros((3, 3))
            strain[i, j] += amount / 2
            strain[j, i] += amount / 2
            strained = structure.copy()
            strained.set_cell(structure.cell.array @ (np.eye(3) + strain), scale_atoms=False)
            strained.positions = structure.positions @ (np.eye(3) + strain)
            return evaluate(potential, strained).energy_ev

        slope = derivative(energy, 5e-4) / structure.get_volume()
        assert found.stress[i, j] == pytest.approx(slope, rel=1e-6, abs=1e-6 * scale)


def test_where_the_axes_point_and_the_origin_is_does_not_matter(potential: Potential, structure: Atoms) -> None:
    found = evaluate(potential, structure)
    turned = structure.copy()
    turned.rotate(71.0, (3.0, 1.0, -2.0), rotate_cell=True)
    rotation = np.linalg.solve(structure.cell.array, turned.cell.array)
    turned.positions += [3.0, -11.0, 0.7]
    turned.wrap()
    again = evaluate(potential, turned)
    assert again.energy_ev == pytest.approx(found.energy_ev, abs=1e-9)
    assert again.forces == pytest.approx(found.forces @ rotation, abs=1e-9)
    assert again.stress == pytest.approx(rotation.T @ found.stress @ rotation, abs=1e-10)
    mirrored = structure.copy()
    mirrored.set_cell(structure.cell.array[[1, 0, 2]])  # the same crystal in a left-handed cell
    assert evaluate(potential, mirrored).stress == pytest.approx(found.stress, abs=1e-10)


def test_the_order_of_atoms_does_not_matter(potential: Potential, structure: Atoms) -> None:
    found = evaluate(potential, structure)
    order = np.random.default_rng(0).permutation(len(structure))
    again = evaluate(potential, structure[order])
    assert again.energy_ev == pytest.approx(found.energy_ev, abs=1e-10)
    assert again.forces == pytest.approx(found.forces[order], abs=1e-10)


def test_a_supercell_is_as_many_cells(potential: Potential, structure: Atoms) -> None:
    found = evaluate(potential, structure)
    again = evaluate(potential, structure.repeat((2, 1, 3)))
    assert again.energy_ev == pytest.approx(6 * found.energy_ev, abs=1e-9)
    assert again.forces == pytest.approx(np.tile(found.forces, (6, 1)), abs=1e-9)
    assert again.stress == pytest.approx(found.stress, abs=1e-10)


def test_structures_together_are_structures_alone(potential: Potential, structure: Atoms) -> None:
    others = [structure, bulk("Mo", cubic=True), structure.repeat((1, 1, 2)), bulk("Ni")]
    for together, atoms in zip(potential.evaluate(others), others, strict=True):
        alone = evaluate(potential, atoms)
        assert together.energy_ev == pytest.approx(alone.energy_ev, abs=1e-10)
        assert together.forces == pytest.approx(alone.forces, abs=1e-10)
        assert together.stress == pytest.approx(alone.stress, abs=1e-11)
    assert potential.evaluate([]) == []


def test_far_atoms_have_no_forces_and_energies_add_up(potential: Potential, structure: Atoms) -> None:
    """Atoms without neighbours have the energy of their element, references included, and nothing is NaN."""
    alone = {}
    for symbol in ELEMENTS:
        found = evaluate(potential, Atoms(symbol, cell=[30.0] * 3, pbc=True))
        assert (found.forces == 0.0).all()
        assert (found.stress == 0.0).all()
        alone[symbol] = found.energy_ev
    both = evaluate(potential, Atoms(ELEMENTS, positions=[[0, 0, 0], [15, 15, 15]], cell=[30.0] * 3, pbc=True))
    assert both.energy_ev == pytest.approx(sum(alone.values()), abs=1e-12)
    with_one_far = Atoms("Ni3", positions=[[0, 0, 0], [2.5, 0, 0], [15, 15, 15]], cell=[30.0] * 3, pbc=True)
    found = evaluate(potential, with_one_far)
    assert np.isfinite(found.forces).all()
    assert (found.forces[2] == 0.0).all()
    assert np.abs(found.forces[0]).max() > 0.0


def test_reading_back_gives_identical_evaluations(potential: Potential, structure: Atoms, tmp_path: Path) -> None:
    save_state(potential.state(), tmp_path / "model.safetensors")
    again = read_back(load_state(tmp_path / "model.safetensors"))
    assert again.spec.elements == potential.spec.elements
    assert dict(again.spec.reference_energies_ev) == dict(potential.spec.reference_energies_ev)
    assert dict(again.spec.facts) == dict(potential.spec.facts)
    first, second = evaluate(potential, structure), evaluate(again, structure)
    assert first.energy_ev == second.energy_ev
    assert (first.forces == second.forces).all()
    assert (first.stress == second.stress).all()


def test_unknown_elements_and_nan_are_named(potential: Potential, structure: Atoms) -> None:
    foreign = structure.copy()
    foreign.numbers[0] = 79
    with pytest.raises(SurrogateError, match=r"no Au.*Ni, Mo"):
        potential.evaluate([structure, foreign])
    broken = structure.copy()
    broken.positions[1, 2] = np.nan
    with pytest.raises(SurrogateError, match="NaN"):
        potential.evaluate([broken])


def test_engine_and_calculator_agree_with_it(potential: Potential, structure: Atoms) -> None:
    found = evaluate(potential, structure)
    engine = PotentialEngine(potential)
    assert engine.compute(structure).energy_ev == pytest.approx(found.energy_ev, abs=1e-11)
    deformation = np.array([[1.01, 0.0, 0.02], [0.0, 0.99, 0.0], [0.0, 0.01, 1.0]])
    moved = structure.copy()
    moved.set_cell(structure.cell.array @ deformation)
    moved.positions = structure.positions @ deformation + 0.05
    moved.wrap()
    from_engine = engine.evaluate(moved.positions, moved.cell.array)
    expected = evaluate(potential, moved)
    assert from_engine.energy_ev == pytest.approx(expected.energy_ev, abs=1e-10)
    assert from_engine.forces == pytest.approx(expected.forces, abs=1e-10)
    assert from_engine.stress == pytest.approx(expected.stress, abs=1e-11)
    assert engine.n_calls == 2
    moved.calc = PotentialCalculator(potential)
    assert moved.get_potential_energy() == expected.energy_ev
    assert moved.get_potential_energy(force_consistent=True) == expected.energy_ev
    assert (moved.get_forces() == expected.forces).all()
    assert (moved.get_stress(voigt=False) == expected.stress).all()


def test_engine_refuses_what_no_engine_takes(potential: Potential, structure: Atoms) -> None:
    engine = PotentialEngine(potential)
    foreign = structure.copy()
    foreign.numbers[0] = 79
    slab = structure.copy()
    slab.pbc = (True, True, False)
    close = structure.copy()
    close.positions[1] = close.positions[0] + [0.2, 0.0, 0.0]
    for atoms, says in ((foreign, "no Au"), (slab, "periodic"), (close, "apart"), (structure[[]], "no atoms")):
        with pytest.raises(OracleError, match=says) as caught:
            engine.compute(atoms)
        assert caught.value.kind == FailureKind.BAD_STRUCTURE
    with pytest.raises(OracleError, match="load"):
        PotentialEngine(potential).evaluate(structure.positions, structure.cell.array)
    engine.load(structure)
    for positions, cell in (
        (structure.positions * np.nan, structure.cell.array),
        (structure.positions, 0.2 * structure.cell.array),
    ):
        with pytest.raises(OracleError) as caught:
            engine.evaluate(positions, cell)
        assert caught.value.kind == FailureKind.BAD_STRUCTURE


def test_graphs_are_taken_where_a_potential_says_so(potential: Potential) -> None:
    assert isinstance(potential, GraphPotential) == isinstance(potential, TorchPotential)
