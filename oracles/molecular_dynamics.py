"""Molecular dynamics in LAMMPS within this process, with a native potential or any force function.

A run is a chain of blocks. Each block starts LAMMPS anew from the state that the block before has left, whether it
follows at once or in another process days later. So a run that was saved and resumed gives the same trajectory, to
the last bit, as one that was not interrupted: on the same kind of machine, with the same version of LAMMPS, the same
potential and the same ``block_steps`` (a state is taken at the end of a block only). Across machines trajectories
agree until rounding errors have grown, which in a liquid takes a few picoseconds; averages do not notice.

Pressures are of the force function's own virial, set at each step, so that barostats work with it as with a pair style.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.data
import numpy as np
from ase import Atoms

from ..errors import ConfigError
from .base import FailureKind, OracleError
from .external_forces import ExternalForces
from .force_engine import Evaluation, ForceEngine
from .lammps_engine import BAR_PER_EV_ANG3, potential_commands, try_potential
from .lammps_library import LammpsUnavailableError, new_lammps
from .md_guard import BOLTZMANN_EV_K, MVV_TO_EV, MdStop, MdStopReason, StepGuard
from .md_settings import MdSettings
from .md_state import CellHistory, MdState
from .potentials import LammpsPotential
from .structure_guard import check_structure
from .trajectory import ANG_PER_PS, Trajectory

_BAR_PER_GPA = 1.0e4
_GHOST_ANG = 3.0
"""Reach of ghost atoms where no pair style sets it; nobody reads them, but LAMMPS warns of none at all."""

Observer = Callable[[Trajectory], bool]
"""Sees each frame (a trajectory of one) as it is recorded; returning ``False`` ends the run."""


@dataclass(frozen=True)
class MdBlock:
    """What one block of a run gave.

    Attributes:
        trajectory: its frames: all that passed the checks. The first block begins with step 0, others after the last
            frame of the block before.
        state: at the end of the block, from which the run goes on; at its beginning if the block was cut short
            (``None`` then in the first block, which began with the structure itself).
        stop: why the run ends here before its last step, if so.
    """

    trajectory: Trajectory
    state: MdState | None
    stop: MdStop | None


@dataclass(frozen=True)
class MdRun:
    """A run that has ended.

    Attributes:
        trajectory: all frames; the last one is the last that passed the checks.
        state: from which it can go on, see :class:`MdBlock`.
        stop: why it ended before its last step, if it did.
    """

    trajectory: Trajectory
    state: MdState | None
    stop: MdStop | None


class MolecularDynamics:
    """Runs one potential with one set of settings.

    Args:
        force_field: a potential that LAMMPS knows, or an engine that gives forces for any structure.
        settings: ensemble, targets, steps, limits.
        fingerprint: identifies what an engine evaluates, so that a run is not resumed with something else; a LAMMPS
            potential has one of its own.
    """

    def __init__(
        self, force_field: LammpsPotential | ForceEngine, settings: MdSettings, *, fingerprint: str = ""
    ) -> None:
        self._potential = force_field if isinstance(force_field, LammpsPotential) else None
        self._engine = None if isinstance(force_field, LammpsPotential) else force_field
        self._fingerprint = self._potential.fingerprint if self._potential is not None else fingerprint
        self.settings = settings

    def run(self, start: Atoms | MdState, observer: Observer | None = None) -> MdRun:
        """Run to the last step, or until something stops it; see :meth:`blocks`."""
        blocks = list(self.blocks(start, observer))
        if not blocks:
            raise ConfigError(
                f"the run has done its {self.settings.n_steps} steps; go on with a larger n_steps, or start another"
            )
        return MdRun(Trajectory.joined([b.trajectory for b in blocks]), blocks[-1].state, blocks[-1].stop)

    def blocks(self, start: Atoms | MdState, observer: Observer | None = None) -> Iterator[MdBlock]:
        """The blocks of a run, as they are done; memory is bounded by one of them.

        Args:
            start: a periodic structure of two atoms or more, or the state that an earlier run has left. Masses are
                the elements' standard ones.
            observer: sees each frame as it is recorded.

        Raises:
            OracleError: ``bad_structure`` for a structure that cannot be run, or that is beyond the limits from the
                beginning; ``unavailable`` when LAMMPS, the potential or the state cannot be used on this machine.
            ConfigError: the state is of a run with other settings or another potential.
            Exception: whatever the engine raises is raised again, at the step where it was raised.
        """
        began = time.monotonic()
        state = start if isinstance(start, MdState) else None
        if state is not None:
            self._check_continues(state)
        atoms = start if isinstance(start, Atoms) else None
        while state is None or state.step < self.settings.n_steps:
            block = _Block(
                self._potential, self._engine, self._fingerprint, self.settings, state, atoms, observer
            ).run()
            state = block.state
            if block.stop is None and state is not None:
                block = MdBlock(block.trajectory, state, self._check_time(state, time.monotonic() - began))
            yield block
            if block.stop is not None:
                return

    def _check_time(self, state: MdState, spent_s: float) -> MdStop | None:
        limit = self.settings.limits.wall_s
        if limit is None or spent_s < limit or state.step >= self.settings.n_steps:
            return None
        message = f"{spent_s:.1f} s are spent, {limit:g} s were allowed; the run can be resumed"
        return MdStop(MdStopReason.WALL_TIME, state.step, message, {"wall_s": spent_s})

    def _check_continues(self, state: MdState) -> None:
        if differing := state.settings.differences(self.settings):
            old, new = state.settings.model_dump(), self.settings.model_dump()
            raise ConfigError(
                "a run goes on with the settings that it was begun with; these differ: "
                + ", ".join(f"{name} ({old[name]} then, {new[name]} now)" for name in differing)
            )
        if state.force_field != self._fingerprint:
            raise ConfigError("the state is of a run with another potential; start a new run from its structure")


class _Block:
    """One block, in a LAMMPS instance of its own."""

    def __init__(
        self,
        potential: LammpsPotential | None,
        engine: ForceEngine | None,
        fingerprint: str,
        settings: MdSettings,
        state: MdState | None,
        atoms: Atoms | None,
        observer: Observer | None,
    ) -> None:
        self._potential = potential
        self._engine = engine
        self._fingerprint = fingerprint
        self._settings = settings
        self._state = state
        self._observer = observer
        self._atoms = state.atoms() if state is not None else _checked(atoms)
        self._step = 0 if state is None else state.step
        self._first_step = self._step
        self._bath_energy_ev = 0.0 if state is None else state.bath_energy_ev
        self._volume = state.start_volume_ang3 if state is not None else float(abs(self._atoms.get_volume()))
        symbols = sorted(set(self._atoms.get_chemical_symbols())) if potential is None else list(potential.elements)
        self._types = self._type_indices(symbols)
        self._symbols = symbols
        self._velocities = self._start_velocities() if state is None else None
        if engine is not None:
            engine.load(self._atoms)

    def run(self) -> MdBlock:
        """Do the block's steps."""
        try:
            if self._potential is not None:
                try_potential(self._potential)
            lmp = new_lammps()
        except (ConfigError, LammpsUnavailableError) as error:
            raise OracleError(FailureKind.UNAVAILABLE, str(error)) from error
        try:
            return self._run(lmp)
        finally:
            lmp.close()

    def _run(self, lmp: Any) -> MdBlock:
        settings = self._settings
        with tempfile.TemporaryDirectory(prefix="alloysmith-md-") as folder:
            try:
                self._set_up(lmp, Path(folder))
            except Exception as error:  # LAMMPS raises bare Exception
                raise OracleError(
                    FailureKind.UNAVAILABLE, f"LAMMPS could not be set up for this run: {error}"
                ) from error
            masses = ase.data.atomic_masses[self._atoms.numbers]
            self._guard = StepGuard(settings, masses, self._volume)
            function = None if self._engine is None else self._external
            forces = ExternalForces(lmp, len(self._atoms), function, self._check_step)
            for command in self._integrators():
                lmp.command(command)
            window = f"start 0 stop {settings.n_steps}"
            stop = self._advance(lmp, forces, f"run 0 post no {window}")
            if stop is not None and self._state is None:
                raise OracleError(
                    FailureKind.BAD_STRUCTURE, f"the structure is beyond the limits of the run: {stop.message}"
                )
            frames = [self._frame(lmp)] if self._state is None else []
            end = min(self._first_step + settings.segment_steps, settings.n_steps)
            while stop is None and self._step < end:
                n = min(settings.stride - self._step % settings.stride, end - self._step)
                stop = self._advance(lmp, forces, f"run {n} pre no post no {window}")
                if stop is not None:
                    break
                self._step += n
                frames.append(self._frame(lmp))
                if self._observer is not None and not self._observer(frames[-1]):
                    stop = MdStop(MdStopReason.OBSERVER, self._step, "the caller asked to stop")
            trajectory = Trajectory.joined(frames) if frames else Trajectory.empty(self._atoms.numbers, settings)
            if stop is not None:
                return MdBlock(trajectory, self._state, stop)
            return MdBlock(trajectory, self._new_state(lmp, Path(folder)), None)

    def _advance(self, lmp: Any, forces: ExternalForces, command: str) -> MdStop | None:
        """Run a command; the reason to stop if it did not get to its end."""
        try:
            lmp.command(command)
        except Exception as error:  # noqa: BLE001 - LAMMPS raises bare Exception
            forces.raise_error()
            if forces.stop is not None:
                return forces.stop
            step = int(lmp.extract_global("ntimestep"))
            return MdStop(MdStopReason.UNSTABLE, step, f"LAMMPS stopped: {' '.join(str(error).split())}")
        forces.raise_error()
        return forces.stop

    def _set_up(self, lmp: Any, folder: Path) -> None:
        for command in ("units metal", "atom_style atomic", "atom_modify map array", "boundary p p p"):
            lmp.command(command)
        lmp.command("box tilt large")
        if self._state is not None:
            path = folder / "restart"
            path.write_bytes(self._state.restart)
            lmp.command(f'read_restart "{path}"')
            self._history = self._state.history
        else:
            self._history, inside = CellHistory.of_start(self._atoms)
            (xx, _, _), (xy, yy, _), (xz, yz, zz) = self._history.box.tolist()
            lmp.command(f"region cell prism 0 {xx!r} 0 {yy!r} 0 {zz!r} {xy!r} {xz!r} {yz!r} units box")
            lmp.command(f"create_box {len(self._symbols)} cell")
            n = len(self._atoms)
            assert self._velocities is not None
            velocities = (self._velocities @ self._history.rotation.T).ravel().tolist()
            lmp.create_atoms(n, list(range(1, n + 1)), self._types.tolist(), inside.ravel().tolist(), v=velocities)
            placed, images = _gathered(lmp, "x", 1), _gathered(lmp, "image", 0)
            self._history = self._history.with_shifts(self._atoms, placed, images)
        native = (
            [f"comm_modify cutoff {_GHOST_ANG}"] if self._potential is None else potential_commands(self._potential)
        )
        masses = [ase.data.atomic_masses[ase.data.atomic_numbers[symbol]] for symbol in self._symbols]
        for command in (
            *native,
            *(f"mass {i} {float(mass)!r}" for i, mass in enumerate(masses, start=1)),  # setfl files bring their own
            "neighbor 1.0 bin",
            "neigh_modify every 1 delay 0 check yes one 20000 page 2000000",
            "compute md_virial all pressure NULL virial",
            "thermo_style custom step temp ke pe press ecouple " + " ".join(f"c_md_virial[{i}]" for i in range(1, 7)),
            "thermo_modify norm no lost error",
            "thermo 0",
            f"timestep {self._settings.timestep_fs / 1000.0!r}",
        ):
            lmp.command(command)

    def _integrators(self) -> list[str]:
        s = self._settings
        hot = f"{s.temperature_k!r} {s.temperature_end_k or s.temperature_k!r} {s.thermostat_damping_ps!r}"
        end_gpa = s.pressure_gpa if s.pressure_end_gpa is None else s.pressure_end_gpa
        press = f"{s.barostat} {s.pressure_gpa * _BAR_PER_GPA!r} {end_gpa * _BAR_PER_GPA!r} {s.barostat_damping_ps!r}"
        random = np.random.SeedSequence((s.seed, self._first_step, 1)).generate_state(1)[0]
        langevin = f"fix bath all langevin {hot} {1 + int(random) % 899_999_999} zero yes tally yes"
        if s.ensemble == "nve":
            return ["fix motion all nve"]
        if s.ensemble == "nvt":
            return (
                [f"fix motion all nvt temp {hot}"]
                if s.thermostat == "nose_hoover"
                else ["fix motion all nve", langevin]
            )
        if s.thermostat == "nose_hoover":
            return [f"fix motion all npt temp {hot} {press}"]
        return [f"fix motion all nph {press}", langevin]

    def _external(self, inside: np.ndarray, box: np.ndarray) -> Evaluation:
        assert self._engine is not None
        rotation = self._history.rotation
        found = self._engine.evaluate(inside @ rotation, box @ rotation)
        return Evaluation(found.energy_ev, found.forces @ rotation.T, rotation @ found.stress @ rotation.T)

    def _check_step(
        self, step: int, inside: np.ndarray, velocities: np.ndarray, forces: np.ndarray, box: np.ndarray
    ) -> MdStop | None:
        self._history = self._history.moved_to(box)  # at each step, or a long stride could hide a flip
        return self._guard.check(step, inside, velocities, forces, box)

    def _frame(self, lmp: Any) -> Trajectory:
        """The present structure as a trajectory of one frame."""
        low, high, xy, yz, xz, _, _ = lmp.extract_box()
        box = np.array([[high[0] - low[0], 0.0, 0.0], [xy, high[1] - low[1], 0.0], [xz, yz, high[2] - low[2]]])
        self._history = history = self._history.moved_to(box)
        inside = _gathered(lmp, "x", 1) - np.asarray(low)
        virial = lmp.extract_compute("md_virial", 0, 1)
        s_xx, s_yy, s_zz, s_xy, s_xz, s_yz = (virial[i] / -BAR_PER_EV_ANG3 for i in range(6))
        stress = np.array([[s_xx, s_xy, s_xz], [s_xy, s_yy, s_yz], [s_xz, s_yz, s_zz]])
        potential, kinetic = lmp.get_thermo("pe"), lmp.get_thermo("ke")
        rotation = history.rotation
        return Trajectory(
            numbers=self._atoms.numbers,
            steps=np.array([self._step]),
            times_ps=np.array([self._step * self._settings.timestep_fs / 1000.0]),
            positions=history.unwrapped(inside, _gathered(lmp, "image", 0))[None],
            cells=history.cell()[None],
            energies_ev=np.array([potential]),
            kinetic_energies_ev=np.array([kinetic]),
            temperatures_k=np.array([lmp.get_thermo("temp")]),
            stresses=(rotation.T @ stress @ rotation)[None],
            pressures_gpa=np.array([lmp.get_thermo("press") / _BAR_PER_GPA]),
            conserved_ev=np.array([potential + kinetic + lmp.get_thermo("ecouple") + self._bath_energy_ev]),
            velocities=(_gathered(lmp, "v", 1) @ rotation)[None] if self._settings.with_velocities else None,
            forces=(_gathered(lmp, "f", 1) @ rotation)[None] if self._settings.with_forces else None,
        )

    def _new_state(self, lmp: Any, folder: Path) -> MdState:
        inside, images, velocities = _gathered(lmp, "x", 1), _gathered(lmp, "image", 0), _gathered(lmp, "v", 1)
        inside -= np.asarray(lmp.extract_box()[0])
        is_langevin = self._settings.ensemble != "nve" and self._settings.thermostat == "langevin"
        bath = self._bath_energy_ev + (lmp.extract_fix("bath", 0, 0) if is_langevin else 0.0)
        path = folder / "written"
        lmp.command(f'write_restart "{path}"')
        return MdState(
            settings=self._settings,
            force_field=self._fingerprint,
            step=self._step,
            numbers=self._atoms.numbers,
            positions=self._history.unwrapped(inside, images),
            velocities=velocities @ self._history.rotation,
            history=self._history,
            start_volume_ang3=self._volume,
            bath_energy_ev=bath,
            restart=path.read_bytes(),
        )

    def _type_indices(self, symbols: list[str]) -> np.ndarray:
        index = {symbol: i for i, symbol in enumerate(symbols, start=1)}
        present = self._atoms.get_chemical_symbols()
        if missing := sorted(set(present) - set(index)):
            raise OracleError(
                FailureKind.BAD_STRUCTURE,
                f"the potential has no {', '.join(missing)}; it has {', '.join(symbols)}",
            )
        return np.array([index[symbol] for symbol in present])

    def _start_velocities(self) -> np.ndarray:
        """``[n_atoms, 3]``, Å/ps, in the structure's axes, without motion of the centre of mass."""
        atoms, settings = self._atoms, self._settings
        masses = ase.data.atomic_masses[atoms.numbers][:, None]
        if settings.velocities == "keep":
            if not atoms.has("momenta"):
                raise OracleError(
                    FailureKind.BAD_STRUCTURE, "velocities are to be kept, but the structure has none; draw them"
                )
            velocities = atoms.get_velocities() / ANG_PER_PS
            return velocities - (masses * velocities).sum(axis=0) / masses.sum()
        rng = np.random.default_rng((settings.seed, 0))
        drawn = rng.standard_normal((len(atoms), 3)) / np.sqrt(masses)
        drawn -= (masses * drawn).sum(axis=0) / masses.sum()
        twice_kinetic = MVV_TO_EV * float((masses * drawn**2).sum())
        wanted = (3 * len(atoms) - 3) * BOLTZMANN_EV_K * settings.temperature_k
        return drawn * np.sqrt(wanted / twice_kinetic)


def _checked(atoms: Atoms | None) -> Atoms:
    if atoms is None:
        raise OracleError(FailureKind.BAD_STRUCTURE, "a run needs a structure or a state to start from")
    check_structure(atoms)
    if len(atoms) < 2:
        raise OracleError(
            FailureKind.BAD_STRUCTURE, "the structure has one atom, which cannot move against others; repeat the cell"
        )
    return atoms


def _gathered(lmp: Any, name: str, kind: int) -> np.ndarray:
    """A vector per atom, ``[n_atoms, 3]``, by atom id."""
    return np.array(lmp.gather_atoms(name, kind, 3)).reshape(-1, 3)
