"""Molecular dynamics: both routes against each other, conservation, ramps, limits, resuming."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import ase.io
import numpy as np
import pytest
from alloysmith.errors import ConfigError
from alloysmith.oracles.base import FailureKind, OracleError
from alloysmith.oracles.force_engine import Evaluation
from alloysmith.oracles.lammps_engine import LammpsEngine
from alloysmith.oracles.md_guard import MdStopReason
from alloysmith.oracles.md_settings import MdLimits, MdSettings
from alloysmith.oracles.md_state import CellHistory, MdState
from alloysmith.oracles.molecular_dynamics import MolecularDynamics
from alloysmith.oracles.potentials import LammpsPotential, WheelPotentialSettings
from alloysmith.oracles.trajectory import Trajectory, TrajectoryFile
from ase import Atoms
from ase.build import bulk
from pydantic import ValidationError


@pytest.fixture(scope="module")
def potential() -> LammpsPotential:
    return WheelPotentialSettings(name="CuNi.eam.alloy").load()


@pytest.fixture(scope="module")
def engine(potential: LammpsPotential) -> Iterator[LammpsEngine]:
    built = LammpsEngine(potential)
    yield built
    built.close()


@pytest.fixture
def crystal() -> Atoms:
    """A small alloy in a skewed cell that is turned, with atoms outside it."""
    atoms = bulk("Cu", "fcc", a=3.58).repeat((3, 3, 3))
    atoms.numbers[::3] = 28
    atoms.rattle(0.03, seed=3)
    atoms.set_cell(atoms.cell.array @ np.array([[1.0, 0.02, 0.0], [0.0, 1.01, 0.03], [0.0, 0.0, 0.99]]), True)
    atoms.rotate(37.0, (1.0, -2.0, 0.5), rotate_cell=True)
    atoms.positions[3] += atoms.cell.array[0] - 2 * atoms.cell.array[2]
    return atoms


class Failing:
    """An engine that goes wrong at one call."""

    def __init__(self, inner: LammpsEngine, call: int, how: str) -> None:
        self._inner = inner
        self._call = call
        self._how = how
        self.n_calls = 0

    def compute(self, atoms: Atoms) -> Evaluation:
        return self._inner.compute(atoms)

    def load(self, atoms: Atoms) -> None:
        self._inner.load(atoms)

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        self.n_calls += 1
        found = self._inner.evaluate(positions, cell)
        if self.n_calls < self._call:
            return found
        if self._how == "raise":
            raise ZeroDivisionError("on purpose")
        scale = np.nan if self._how == "nan" else 1e4
        return Evaluation(found.energy_ev, found.forces * scale, found.stress)

    def close(self) -> None: ...


@pytest.mark.parametrize("barostat", ["iso", "aniso", "tri"])
def test_external_forces_give_the_native_trajectory_at_constant_pressure(
    barostat: str, potential: LammpsPotential, engine: LammpsEngine, crystal: Atoms
) -> None:
    settings = MdSettings(
        ensemble="npt",
        barostat=barostat,
        temperature_k=900.0,
        pressure_gpa=2.0,
        n_steps=120,
        stride=10,
        with_forces=True,
    )
    native = MolecularDynamics(potential, settings).run(crystal).trajectory
    external = MolecularDynamics(engine, settings).run(crystal).trajectory
    assert native.volumes_ang3[-1] != pytest.approx(native.volumes_ang3[0], rel=1e-3)
    assert external.pressures_gpa == pytest.approx(native.pressures_gpa, rel=1e-6, abs=1e-9)
    for name in ("positions", "cells", "energies_ev", "stresses", "forces", "conserved_ev", "temperatures_k"):
        np.testing.assert_allclose(getattr(external, name), getattr(native, name), rtol=1e-8, atol=1e-9)


def test_a_frame_is_what_the_engine_says_of_its_structure(
    potential: LammpsPotential, engine: LammpsEngine, crystal: Atoms
) -> None:
    settings = MdSettings(ensemble="npt", barostat="tri", n_steps=20, stride=10, with_forces=True, with_velocities=True)
    run = MolecularDynamics(potential, settings).run(crystal)
    frames = run.trajectory
    assert frames.steps.tolist() == [0, 10, 20]
    assert frames.positions[0] == pytest.approx(crystal.positions, abs=1e-10)
    assert frames.cells[0] == pytest.approx(crystal.cell.array, abs=1e-12)
    assert frames.forces is not None
    for i in (0, 2):
        found = engine.compute(frames.atoms(i))
        assert frames.energies_ev[i] == pytest.approx(found.energy_ev, abs=1e-9)
        assert frames.forces[i] == pytest.approx(found.forces, abs=1e-9)
        assert frames.stresses[i] == pytest.approx(found.stress, abs=1e-10)
        kinetic = frames.atoms(i).get_kinetic_energy()
        assert frames.kinetic_energies_ev[i] == pytest.approx(kinetic, rel=1e-5)  # the programs' constants differ
    total = found.pressure_ev_ang3 * 160.21766 + kinetic * 2 / 3 / frames.volumes_ang3[2] * 160.21766
    assert frames.pressures_gpa[2] == pytest.approx(total, rel=1e-5)
    assert run.state is not None
    assert run.state.positions == pytest.approx(frames.positions[-1], abs=1e-12)
    assert run.state.atoms().get_velocities() == pytest.approx(frames.atoms(2).get_velocities())


@pytest.mark.parametrize("seed", range(6))
def test_atoms_on_the_faces_of_the_box_start_where_they_are(seed: int, potential: LammpsPotential) -> None:
    rng = np.random.default_rng(seed)
    atoms = bulk("Cu", "fcc", a=3.6).repeat((2, 3, 2))
    atoms.set_cell(atoms.cell.array @ np.linalg.qr(rng.normal(size=(3, 3)))[0], scale_atoms=True)
    atoms.positions += rng.integers(-2, 3, (len(atoms), 3)) @ atoms.cell.array - 1e-16
    frames = MolecularDynamics(potential, MdSettings(n_steps=4, stride=2, block_steps=2)).run(atoms).trajectory
    assert frames.positions[0] == pytest.approx(atoms.positions, abs=1e-9)
    assert np.abs(np.diff(frames.positions, axis=0)).max() < 0.1


def test_energy_is_conserved_in_proportion_to_the_square_of_the_step(engine: LammpsEngine, crystal: Atoms) -> None:
    spread = []
    for timestep_fs in (4.0, 2.0):
        settings = MdSettings(
            ensemble="nve", temperature_k=600.0, timestep_fs=timestep_fs, n_steps=int(240 / timestep_fs), stride=1
        )
        frames = MolecularDynamics(engine, settings).run(crystal).trajectory
        spread.append(np.ptp(frames.energies_ev + frames.kinetic_energies_ev))
        assert spread[-1] < 0.02 * np.ptp(frames.energies_ev)
    assert 3.0 < spread[0] / spread[1] < 5.5


def test_start_has_the_temperature_and_no_drift(potential: LammpsPotential, crystal: Atoms) -> None:
    def start(**more) -> Trajectory:
        settings = MdSettings(temperature_k=450.0, n_steps=1, stride=1, with_velocities=True, **more)
        return MolecularDynamics(potential, settings).run(crystal).trajectory

    frames = start(seed=1)
    assert frames.temperatures_k[0] == pytest.approx(450.0, rel=1e-9)
    assert frames.atoms(0).get_momenta().sum(axis=0) == pytest.approx(np.zeros(3), abs=1e-9)
    assert (start(seed=1).positions == frames.positions).all()
    assert np.abs(start(seed=2).velocities - frames.velocities).max() > 0.1
    kept = frames.atoms(0)
    again = MolecularDynamics(potential, MdSettings(velocities="keep", n_steps=1, stride=1, with_velocities=True)).run(
        kept
    )
    assert again.trajectory.velocities[0] == pytest.approx(frames.velocities[0], rel=1e-9)


@pytest.mark.parametrize(
    "more",
    [
        {"ensemble": "nve"},
        {"ensemble": "nvt"},
        {"ensemble": "nvt", "thermostat": "langevin"},
        {"ensemble": "npt", "barostat": "tri"},
        {"ensemble": "npt", "thermostat": "langevin", "temperature_end_k": 300.0},
    ],
    ids=lambda more: "-".join(map(str, more.values())),
)
def test_a_resumed_run_is_the_same_to_the_last_bit(
    more: dict, potential: LammpsPotential, crystal: Atoms, tmp_path: Path
) -> None:
    settings = MdSettings(n_steps=60, stride=10, block_steps=20, temperature_k=800.0, with_velocities=True, **more)
    blocks = list(MolecularDynamics(potential, settings).blocks(crystal))
    assert [len(block.trajectory) for block in blocks] == [3, 2, 2]
    assert blocks[0].state is not None
    blocks[0].state.save(tmp_path / "state", n_output_bytes=17)
    state, n_bytes = MdState.load(tmp_path / "state")
    assert n_bytes == 17
    resumed = list(MolecularDynamics(potential, settings).blocks(state))
    assert len(resumed) == 2
    for late, early in zip(resumed, blocks[1:], strict=True):
        for name in ("steps", "positions", "velocities", "cells", "energies_ev", "conserved_ev"):
            assert (getattr(late.trajectory, name) == getattr(early.trajectory, name)).all(), name


def test_blocks_do_not_disturb_the_thermostat(potential: LammpsPotential, crystal: Atoms) -> None:
    settings = MdSettings(ensemble="npt", barostat="aniso", n_steps=100, stride=10, temperature_k=700.0)
    whole = MolecularDynamics(potential, settings).run(crystal).trajectory
    parts = MolecularDynamics(potential, settings.model_copy(update={"block_steps": 20})).run(crystal).trajectory
    assert parts.positions == pytest.approx(whole.positions, abs=1e-8)
    assert parts.conserved_ev == pytest.approx(whole.conserved_ev, abs=1e-8)


def test_ramps_arrive(potential: LammpsPotential, crystal: Atoms) -> None:
    settings = MdSettings(
        ensemble="npt",
        thermostat="langevin",
        thermostat_damping_ps=0.02,
        barostat_damping_ps=0.1,
        temperature_k=300.0,
        temperature_end_k=900.0,
        pressure_gpa=0.0,
        pressure_end_gpa=10.0,
        timestep_fs=2.0,
        n_steps=1500,
        stride=5,
        block_steps=500,
    )
    frames = MolecularDynamics(potential, settings).run(crystal.repeat(2)).trajectory
    for part, temperature, pressure in ((frames.steps < 250, 350, 0.8), (frames.steps > 1250, 850, 9.2)):
        assert frames.temperatures_k[part].mean() == pytest.approx(temperature, abs=50)
        assert frames.pressures_gpa[part].mean() == pytest.approx(pressure, abs=0.6)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"max_temperature_k": 2500.0}, MdStopReason.TEMPERATURE),
        ({"max_force_ev_ang": 8.0}, MdStopReason.FORCE),
        ({"min_distance_ang": 2.1, "check_steps": 1}, MdStopReason.TOO_CLOSE),
        ({"max_volume_ratio": 1.05}, MdStopReason.VOLUME),
    ],
)
@pytest.mark.parametrize("is_native", [True, False])
def test_limits_stop_a_run_at_the_step(
    is_native: bool,
    limits: dict,
    reason: MdStopReason,
    potential: LammpsPotential,
    engine: LammpsEngine,
    crystal: Atoms,
) -> None:
    settings = MdSettings(
        ensemble="npt",
        thermostat="langevin",
        temperature_k=300.0,
        temperature_end_k=20_000.0,
        barostat_damping_ps=0.1,
        n_steps=400,
        stride=20,
        limits=MdLimits(**{"max_temperature_k": 1e5, "max_force_ev_ang": 1e3, "max_volume_ratio": 9.0, **limits}),
    )
    run = MolecularDynamics(potential if is_native else engine, settings).run(crystal)
    assert run.stop is not None
    assert run.stop.reason == reason
    assert run.stop.is_explosion
    assert run.trajectory.steps[-1] == (run.stop.step - 1) // 20 * 20  # the last frame before that step
    assert np.isfinite(run.trajectory.positions).all()
    (value,) = [v for k, v in run.stop.details.items() if k not in ("atom", "neighbour")]
    if reason == MdStopReason.TOO_CLOSE:
        assert 1.8 < value < 2.1
    elif reason == MdStopReason.VOLUME:
        assert value > 1.05 * crystal.get_volume()
        assert (run.trajectory.volumes_ang3 <= 1.05 * crystal.get_volume()).all()
    else:
        limit = next(iter(limits.values()))
        assert limit < value < 1.5 * limit


def test_an_impossible_time_step_is_an_explosion(potential: LammpsPotential, crystal: Atoms) -> None:
    limits = MdLimits(max_temperature_k=1e30, max_force_ev_ang=1e30, min_distance_ang=0.0)
    settings = MdSettings(ensemble="nve", timestep_fs=20.0, temperature_k=5e5, n_steps=500, stride=50, limits=limits)
    run = MolecularDynamics(potential, settings).run(crystal)
    assert run.stop is not None
    assert run.stop.reason in (MdStopReason.UNSTABLE, MdStopReason.NOT_FINITE, MdStopReason.LOST_ATOMS)
    assert np.isfinite(run.trajectory.positions).all()


def test_errors_of_the_force_function_are_raised_at_once(engine: LammpsEngine, crystal: Atoms) -> None:
    failing = Failing(engine, 15, "raise")
    with pytest.raises(ZeroDivisionError, match="on purpose"):
        MolecularDynamics(failing, MdSettings(n_steps=400)).run(crystal)
    assert failing.n_calls == 15


@pytest.mark.parametrize(("how", "reason"), [("nan", MdStopReason.NOT_FINITE), ("large", MdStopReason.FORCE)])
def test_wild_forces_end_the_run(how: str, reason: MdStopReason, engine: LammpsEngine, crystal: Atoms) -> None:
    failing = Failing(engine, 31, how)
    run = MolecularDynamics(failing, MdSettings(n_steps=100, stride=10, ensemble="npt")).run(crystal)
    assert run.stop is not None
    assert (run.stop.reason, run.stop.step) == (reason, 30)
    assert failing.n_calls == 31
    assert run.trajectory.steps.tolist() == [0, 10, 20]


def test_an_observer_can_end_the_run(potential: LammpsPotential, crystal: Atoms) -> None:
    seen: list[int] = []

    def observe(frame: Trajectory) -> bool:
        seen.append(int(frame.steps[0]))
        return len(seen) < 2

    run = MolecularDynamics(potential, MdSettings(n_steps=100, stride=10)).run(crystal, observe)
    assert run.stop is not None
    assert (run.stop.reason, run.stop.step) == (MdStopReason.OBSERVER, 20)
    assert seen == [10, 20]
    assert not run.stop.is_explosion


def test_wall_time_ends_a_block_and_the_run_goes_on(potential: LammpsPotential, crystal: Atoms) -> None:
    settings = MdSettings(n_steps=40, stride=10, block_steps=20, limits=MdLimits(wall_s=1e-6))
    first = MolecularDynamics(potential, settings).run(crystal)
    assert first.stop is not None
    assert (first.stop.reason, first.stop.step) == (MdStopReason.WALL_TIME, 20)
    assert first.state is not None
    second = MolecularDynamics(potential, settings).run(first.state)
    assert second.stop is None
    assert second.trajectory.steps.tolist() == [30, 40]


def test_cell_flips_do_not_show(potential: LammpsPotential) -> None:
    """A sheared crystal flips its box; cell and positions go on without a jump."""
    atoms = bulk("Ni", "fcc", a=3.52, cubic=True).repeat(3)
    start, inside = CellHistory.of_start(atoms)
    start = start.with_shifts(atoms, inside, np.zeros((len(atoms), 3)))
    sheared = atoms.cell.array.copy()
    sheared[1, 0] = 0.6 * sheared[0, 0]
    flipped = sheared.copy()
    flipped[1] -= flipped[0]
    half = atoms.cell.array.copy()
    half[1, 0] = 0.3 * half[0, 0]
    history = start.moved_to(half).moved_to(half * 0.98).moved_to(sheared).moved_to(flipped)
    assert history.cell() == pytest.approx(sheared)
    fractions = atoms.get_scaled_positions() @ sheared
    in_flipped = fractions @ np.linalg.inv(flipped)
    images = np.floor(in_flipped)
    assert history.unwrapped((in_flipped - images) @ flipped, images) == pytest.approx(fractions, abs=1e-9)
    assert inside == pytest.approx(atoms.positions, abs=1e-9)


def test_a_box_that_lammps_flips_in_a_run(potential: LammpsPotential, engine: LammpsEngine) -> None:
    atoms = bulk("Ni", "fcc", a=3.52, cubic=True).repeat((3, 3, 2))
    cell = atoms.cell.array.copy()
    cell[1] += 2 / 3 * cell[0]  # the same crystal, in a cell that is tilted by more than LAMMPS wants
    atoms.set_cell(cell)
    atoms.set_cell(cell @ np.array([[1.0, 0.0, 0.0], [-0.18, 1.0, 0.0], [0.0, 0.0, 1.0]]), scale_atoms=True)
    settings = MdSettings(
        ensemble="npt",
        barostat="tri",
        temperature_k=300.0,
        barostat_damping_ps=0.1,
        timestep_fs=2.0,
        n_steps=200,
        stride=2,
        block_steps=50,
    )
    for force_field in (potential, engine):
        run = MolecularDynamics(force_field, settings).run(atoms)
        assert run.stop is None
        frames = run.trajectory
        assert run.state is not None
        assert np.abs(run.state.history.basis - CellHistory.of_start(atoms)[0].basis).max() >= 1.0  # it did flip
        assert np.abs(np.diff(frames.cells, axis=0)).max() < 2.0  # a flip is 10 Å
        drift = np.diff(frames.positions @ np.linalg.inv(frames.cells), axis=0) @ frames.cells[1:]
        assert np.abs(drift).max() < 0.6
        found = engine.compute(frames.atoms(len(frames) - 1))
        assert frames.energies_ev[-1] == pytest.approx(found.energy_ev, abs=1e-8)


def test_structures_that_cannot_be_run(potential: LammpsPotential, engine: LammpsEngine, crystal: Atoms) -> None:
    aluminium = bulk("Al", cubic=True)
    far = crystal.copy()
    far.positions[0] = far.positions[1] + [0.1, 0.0, 0.0]
    hot = MdSettings(temperature_k=300.0, n_steps=10, limits=MdLimits(max_temperature_k=100.0))
    for force_field in (potential, engine):
        for settings, atoms, says in (
            (MdSettings(n_steps=10), aluminium, "no Al"),
            (MdSettings(n_steps=10), bulk("Cu"), "one atom"),
            (MdSettings(n_steps=10), far, "Å apart"),
            (MdSettings(n_steps=10, velocities="keep"), crystal, "has none"),
            (hot, crystal, "beyond the limits"),
        ):
            with pytest.raises(OracleError, match=says) as caught:
                MolecularDynamics(force_field, settings).run(atoms)
            assert caught.value.kind == FailureKind.BAD_STRUCTURE


def test_a_state_goes_on_only_with_its_own_run(
    potential: LammpsPotential, engine: LammpsEngine, crystal: Atoms, tmp_path: Path
) -> None:
    settings = MdSettings(n_steps=10, stride=10)
    state = MolecularDynamics(potential, settings).run(crystal).state
    assert state is not None
    longer = settings.model_copy(update={"n_steps": 20})
    assert MolecularDynamics(potential, longer).run(state).trajectory.steps.tolist() == [20]
    with pytest.raises(ConfigError, match="has done its 10 steps"):
        MolecularDynamics(potential, settings).run(state)
    with pytest.raises(ConfigError, match=r"temperature_k \(300.0 then, 500.0 now\)"):
        MolecularDynamics(potential, longer.model_copy(update={"temperature_k": 500.0})).run(state)
    with pytest.raises(ConfigError, match="another potential"):
        MolecularDynamics(engine, longer).run(state)
    with pytest.raises(ConfigError, match="no state"):
        MdState.load(tmp_path / "none")
    state.save(tmp_path / "cut")
    (tmp_path / "cut").write_bytes((tmp_path / "cut").read_bytes()[:-200])
    with pytest.raises(ConfigError, match="damaged"):
        MdState.load(tmp_path / "cut")


@pytest.mark.parametrize(
    "wrong",
    [
        {"ensemble": "nvt", "pressure_gpa": 1.0},
        {"ensemble": "nve", "temperature_end_k": 500.0},
        {"temperature_k": 0.0},
        {"n_steps": 0},
        {"timestep_fs": 200.0},
        {"steps": 10},
    ],
)
def test_settings_that_mean_nothing(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        MdSettings(**wrong)


def test_files_grow_by_blocks_and_forget_what_came_after_a_state(
    potential: LammpsPotential, crystal: Atoms, tmp_path: Path
) -> None:
    settings = MdSettings(n_steps=30, stride=10, block_steps=10, with_forces=True, with_velocities=True)
    blocks = list(MolecularDynamics(potential, settings).blocks(crystal))
    path = tmp_path / "run.extxyz"
    file = TrajectoryFile(path)
    file.append(blocks[0].trajectory)
    n_bytes = file.n_bytes
    file.append(blocks[1].trajectory)
    again = TrajectoryFile(path, n_bytes)
    for block in blocks[1:]:
        again.append(block.trajectory)
    frames = ase.io.read(path, index=":")
    assert len(frames) == 4
    whole = Trajectory.joined([block.trajectory for block in blocks])
    for i, atoms in enumerate(frames):
        assert atoms.positions == pytest.approx(whole.positions[i], abs=1e-12)
        assert atoms.get_potential_energy() == pytest.approx(whole.energies_ev[i], abs=1e-12)
        assert atoms.get_forces() == pytest.approx(whole.forces[i], abs=1e-12)
        assert atoms.get_stress(voigt=False) == pytest.approx(whole.stresses[i], abs=1e-12)
        assert atoms.info["step"] == 10 * i
        assert atoms.get_kinetic_energy() == pytest.approx(whole.kinetic_energies_ev[i], rel=1e-5)
    with pytest.raises(ConfigError, match="was changed or removed"):
        TrajectoryFile(path, 10**9)
    with pytest.raises(ConfigError, match="extxyz"):
        TrajectoryFile(tmp_path / "run.dump")
