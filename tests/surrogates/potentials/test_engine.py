"""Neighbours that are kept, engines in relaxations and MD, calculators in ASE's algorithms."""

from __future__ import annotations

from collections.abc import Sequence

import ase.units
import numpy as np
import pytest
from alloysmith.oracles.base import FailureKind, OracleError
from alloysmith.oracles.crystal_relaxation import RelaxationLimits, RelaxedCrystal, relax_crystal
from alloysmith.oracles.force_engine import Evaluation, ForceEngine
from alloysmith.oracles.md_guard import MdStopReason
from alloysmith.oracles.md_settings import MdSettings
from alloysmith.oracles.molecular_dynamics import MolecularDynamics
from alloysmith.surrogates.base import SurrogateState
from alloysmith.surrogates.eam.settings import EamSettings
from alloysmith.surrogates.potentials.base import PotentialSpec
from alloysmith.surrogates.potentials.calculator import PotentialCalculator
from alloysmith.surrogates.potentials.engine import PotentialEngine
from alloysmith.surrogates.potentials.native import force_field_of
from alloysmith.surrogates.potentials.neighbours import NeighbourCache
from alloysmith.surrogates.potentials.torch_potential import TorchPotential
from alloysmith.tests.lennard_jones import lennard_jones
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.filters import FrechetCellFilter
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from hypothesis import given, settings
from hypothesis import strategies as st


class NotANumber:
    """A potential that breaks down where atoms come close, and knows nothing of graphs."""

    spec = PotentialSpec("broken", ("Ni",), 5.0)

    def evaluate(self, structures: Sequence[Atoms]) -> list[Evaluation]:
        return [Evaluation(np.nan, np.zeros((len(atoms), 3)), np.zeros((3, 3))) for atoms in structures]

    def state(self) -> SurrogateState:
        return SurrogateState("broken", {})


@pytest.fixture
def crystal() -> Atoms:
    atoms = bulk("Ni", "fcc", a=3.5, cubic=True).repeat((2, 2, 1))
    atoms.numbers[::4] = 42
    atoms.rattle(0.05, seed=2)
    return atoms


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), skin=st.sampled_from((0.0, 0.3, 1.0)), amount=st.sampled_from((0.02, 0.2)))
def test_kept_neighbours_are_those_of_a_new_search(seed: int, skin: float, amount: float) -> None:
    """Along any path of positions and cells, jumps by whole cells and turns of the axes included."""
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(3.0, 6.0, 3)) + rng.uniform(-1.0, 1.0, (3, 3))
    positions = rng.uniform(0.0, 1.0, (6, 3)) @ cell
    cache = NeighbourCache(np.zeros(6, dtype=np.int64), 4.0, skin)
    for _ in range(6):
        graph = cache.graph(positions, cell)
        fresh = NeighbourCache(np.zeros(6, dtype=np.int64), 4.0, 0.0).graph(positions, cell)
        assert _pairs(graph) == pytest.approx(_pairs(fresh), abs=1e-9)
        assert graph.volume_ang3 == pytest.approx(fresh.volume_ang3)
        deformation = np.eye(3) + amount * rng.uniform(-0.3, 0.3, (3, 3))
        cell = cell @ deformation
        positions = positions @ deformation + amount * rng.normal(0.0, 0.5, positions.shape)
        positions = positions + rng.integers(-2, 3, positions.shape) @ cell


def _pairs(graph) -> np.ndarray:
    """Sorted rows of the two atoms and the vector between them, both ways round."""
    one = np.column_stack([graph.first, graph.second, graph.vectors])
    other = np.column_stack([graph.second, graph.first, -graph.vectors])
    rows = np.round(np.concatenate([one, other]), 9) + 0.0
    return rows[np.lexsort(np.round(rows, 5).T)]


def test_a_search_is_rare_in_a_crystal(crystal: Atoms) -> None:
    rng = np.random.default_rng(1)
    cache = NeighbourCache(np.zeros(len(crystal), dtype=np.int64), 5.0, 0.5)
    for _ in range(50):
        cell = crystal.cell.array * (1 + 0.005 * rng.uniform())
        cache.graph(crystal.get_scaled_positions() @ cell + 0.05 * rng.uniform(-1, 1, (len(crystal), 3)), cell)
    assert cache.n_searches == 1
    cache.graph(crystal.positions, crystal.cell.array * 0.8)
    assert cache.n_searches == 2


def test_it_relaxes_crystals(crystal: Atoms) -> None:
    engine: ForceEngine = PotentialEngine(lennard_jones("Ni", "Mo"))
    limits = RelaxationLimits(force_ev_ang=1e-4, stress_ev_ang3=1e-5)

    def relax() -> RelaxedCrystal:
        return relax_crystal(engine, crystal, cell_freedom="full", bulk_modulus_ev_ang3=1.0, limits=limits)

    relaxed = relax()
    again = PotentialEngine(lennard_jones("Ni", "Mo"), skin_ang=0.0).compute(relaxed.as_atoms(crystal))
    assert np.abs(again.forces).max() < 1.1e-4
    assert np.abs(again.stress).max() < 1.1e-5
    assert (relax().positions == relaxed.positions).all()  # whatever it has computed before


def test_results_that_are_not_finite_are_refused(crystal: Atoms) -> None:
    engine = PotentialEngine(NotANumber())
    crystal.numbers[:] = 28
    with pytest.raises(OracleError, match="not finite") as caught:
        engine.compute(crystal)
    assert caught.value.kind == FailureKind.CORRUPT_OUTPUT
    with pytest.raises(OracleError, match="not finite"):
        MolecularDynamics(engine, MdSettings(n_steps=10)).run(crystal)


@pytest.mark.parametrize("is_angular", [False, True], ids=["eam", "adp"])
def test_a_model_and_its_table_give_the_same_dynamics(is_angular: bool, crystal: Atoms) -> None:
    """LAMMPS with the exported table against forces and virial from the model, under a barostat."""
    model = EamSettings(cutoff_ang=5.5, angular=is_angular).build(["Ni", "Mo"])
    potential = TorchPotential(PotentialSpec("eam", ("Ni", "Mo"), model.cutoff_ang), model)
    run = MdSettings(ensemble="npt", barostat="tri", temperature_k=600.0, n_steps=60, stride=10, with_forces=True)
    with force_field_of(potential) as table:
        native = MolecularDynamics(table, run).run(crystal).trajectory
    external = MolecularDynamics(PotentialEngine(potential), run).run(crystal).trajectory
    assert native.forces is not None
    assert external.positions == pytest.approx(native.positions, abs=1e-4)
    assert external.forces == pytest.approx(native.forces, abs=1e-3)
    assert external.pressures_gpa == pytest.approx(native.pressures_gpa, abs=0.01)
    assert external.energies_ev == pytest.approx(native.energies_ev, abs=1e-5 * len(crystal))


def test_energy_is_conserved_with_kept_neighbours(crystal: Atoms) -> None:
    hot = MdSettings(ensemble="nve", temperature_k=4000.0, timestep_fs=1.0, n_steps=80, stride=1)
    trajectories = []
    for skin in (0.0, 0.5):
        engine = PotentialEngine(lennard_jones("Ni", "Mo"), skin_ang=skin)
        run = MolecularDynamics(engine, hot).run(crystal)
        assert run.stop is None
        trajectories.append(run.trajectory)
    searched, kept = trajectories
    assert np.ptp(kept.conserved_ev) < 0.01 * np.ptp(kept.energies_ev)
    assert kept.positions == pytest.approx(searched.positions, abs=1e-7)


def test_atoms_that_fly_apart_stop_the_run(crystal: Atoms) -> None:
    squeezed = crystal.copy()
    squeezed.set_cell(0.84 * crystal.cell.array, scale_atoms=True)
    run = MolecularDynamics(
        PotentialEngine(lennard_jones("Ni", "Mo")), MdSettings(n_steps=200, stride=1, timestep_fs=5.0)
    ).run(squeezed)
    assert run.stop is not None
    assert run.stop.reason in (MdStopReason.TEMPERATURE, MdStopReason.FORCE, MdStopReason.TOO_CLOSE)
    assert len(run.trajectory) == run.stop.step


def test_ase_optimizes_with_it(crystal: Atoms) -> None:
    crystal.calc = PotentialCalculator(lennard_jones("Ni", "Mo"))
    with BFGS(FrechetCellFilter(crystal), logfile=None) as optimizer:
        assert optimizer.run(fmax=2e-3, steps=200)
    found = PotentialEngine(lennard_jones("Ni", "Mo")).compute(crystal)
    assert np.abs(found.forces).max() < 2e-3
    assert np.abs(found.stress).max() * crystal.get_volume() < 0.05


def test_ase_conserves_energy_with_it(crystal: Atoms) -> None:
    crystal.calc = PotentialCalculator(lennard_jones("Ni", "Mo"))
    thermalize_momenta(crystal, temperature_K=600.0, rng=np.random.default_rng(4))
    energies, potential = [], []
    dynamics = VelocityVerlet(crystal, timestep=1.0 * ase.units.fs)
    for _ in range(60):
        dynamics.run(1)
        energies.append(crystal.get_total_energy())
        potential.append(crystal.get_potential_energy())
    assert np.ptp(energies) < 0.01 * np.ptp(potential)


def test_its_derivatives_are_those_ase_finds(crystal: Atoms) -> None:
    crystal.calc = PotentialCalculator(lennard_jones("Ni", "Mo"))
    assert crystal.get_forces() == pytest.approx(calculate_numerical_forces(crystal, eps=1e-4), abs=1e-5)
    assert crystal.get_stress() == pytest.approx(calculate_numerical_stress(crystal, eps=1e-5), abs=1e-6)


def test_clusters_and_slabs_have_forces_and_no_stress() -> None:
    cluster = molecule("O2")
    cluster.numbers[:] = 28
    cluster.positions *= 2.0
    for atoms in (cluster, bulk("Ni", cubic=True)):
        atoms.pbc = (atoms.cell.rank == 3, False, False)
        atoms.calc = PotentialCalculator(lennard_jones("Ni"))
        assert np.isfinite(atoms.get_forces()).all()
        assert np.isfinite(atoms.get_potential_energy())
        with pytest.raises(PropertyNotImplementedError):
            atoms.get_stress()
