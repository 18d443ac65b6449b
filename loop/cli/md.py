"""`alloysmith md`: molecular dynamics with any potential."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from ase import Atoms
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ...errors import ConfigError
from ...oracles.force_engine import ForceEngine
from ...oracles.lammps_engine import LammpsEngine
from ...oracles.md_guard import MdStop
from ...oracles.md_settings import Barostat, Ensemble, MdSettings, Thermostat
from ...oracles.md_state import MdState
from ...oracles.molecular_dynamics import MolecularDynamics
from ...oracles.potentials import LammpsPotential
from ...oracles.trajectory import Trajectory, TrajectoryFile, check_trajectory_name
from ...structures.files import read_structures
from ...surrogates.potentials.base import Potential
from ...surrogates.potentials.engine import PotentialEngine
from ...surrogates.potentials.native import force_field_of
from ..config import validate_settings
from ..potential_choice import POTENTIAL_HELP, FoundPotential, find_potential
from ..signals import GracefulStop
from ..yaml_source import YamlSource, read_yaml
from .arguments import SetOption
from .console import ProgressBar, notes, output
from .writing import check_target

EXIT_EXPLODED = 1


def md(
    potential: Annotated[str, typer.Argument(metavar="POTENTIAL", help=POTENTIAL_HELP)],
    structure: Annotated[
        Path, typer.Argument(metavar="STRUCTURE", help="Structure file of any known format; of several, the last.")
    ],
    target: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Extended XYZ file to write.")],
    temperature_k: Annotated[float | None, typer.Option("--temperature", metavar="K", help="Target.")] = None,
    temperature_end_k: Annotated[
        float | None, typer.Option("--temperature-end", metavar="K", help="Target at the last step, of a ramp.")
    ] = None,
    pressure_gpa: Annotated[
        float | None, typer.Option("--pressure", metavar="GPA", help="Target; it makes the ensemble npt.")
    ] = None,
    pressure_end_gpa: Annotated[
        float | None, typer.Option("--pressure-end", metavar="GPA", help="Target at the last step, of a ramp.")
    ] = None,
    n_steps: Annotated[int | None, typer.Option("--steps", metavar="N", help="Number of steps.")] = None,
    timestep_fs: Annotated[float | None, typer.Option("--timestep", metavar="FS", help="Time step.")] = None,
    stride: Annotated[int | None, typer.Option("--stride", metavar="N", help="Steps between frames.")] = None,
    ensemble: Annotated[Ensemble | None, typer.Option(help="nvt unless a pressure is given.")] = None,
    thermostat: Annotated[Thermostat | None, typer.Option(help="How the temperature is held.")] = None,
    barostat: Annotated[Barostat | None, typer.Option(help="What the cell may do under npt.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the velocities and random forces.")] = None,
    repeat: Annotated[
        tuple[int, int, int], typer.Option(metavar="A B C", help="Repeat the cell along its vectors first.")
    ] = (1, 1, 1),
    settings_file: Annotated[
        Path | None, typer.Option("--settings", metavar="FILE", help="YAML file with any settings of the run.")
    ] = None,
    overrides: SetOption = None,
    external: Annotated[
        bool, typer.Option("--external", help="Evaluate in Python even where LAMMPS knows the potential.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from OUT.state, where a run was stopped.")] = False,
) -> None:
    """Run molecular dynamics with any potential.

    LAMMPS integrates, in this process. Potentials that it has a pair style for run at its own speed, fitted EAM and
    ADP models too; others give it their forces and stresses at every step. The run stops when it stops being physics
    (limits of temperature, force, distance, volume), keeps the frames up to there, and ends with status 1.

    OUT.state is written with each block of steps; --resume goes on from it after Ctrl-C or a kill, exactly as if
    nothing had happened, or for more steps. Other settings, such as limits.max_temperature_k, with --set or --settings.

    Example: alloysmith md Al_zhou.eam.alloy al.cif --temperature 300 --pressure 0 --steps 10000 -o run.extxyz
    """
    check_trajectory_name(target)
    given = {
        "ensemble": ensemble or ("npt" if pressure_gpa is not None and settings_file is None else None),
        "temperature_k": temperature_k,
        "temperature_end_k": temperature_end_k,
        "pressure_gpa": pressure_gpa,
        "pressure_end_gpa": pressure_end_gpa,
        "n_steps": n_steps,
        "timestep_fs": timestep_fs,
        "stride": stride,
        "thermostat": thermostat,
        "barostat": barostat,
        "seed": seed,
    }
    settings = _settings(settings_file, {k: v for k, v in given.items() if v is not None}, overrides or ())
    check_target(target)
    state_path = target.with_name(f"{target.name}.state")
    start: Atoms | MdState
    n_bytes = 0
    if resume:
        start, n_bytes = MdState.load(state_path)
    else:
        start = _repeated(read_structures(structure)[-1], repeat)
    found = find_potential(potential, sorted(set(Atoms(numbers=start.numbers).symbols)))
    if not resume:
        state_path.unlink(missing_ok=True)
    with _force_field(found, external) as runnable:
        energy_shift_ev = _reference_energy(found.potential, start.numbers) if runnable.is_without_references else 0.0
        dynamics = MolecularDynamics(runnable.force_field, settings, fingerprint=runnable.fingerprint)
        file = TrajectoryFile(target, n_bytes)
        run = _Run(dynamics, start, file, state_path, energy_shift_ev)
        run.carry_out()
    run.report()
    if run.signal_code:
        raise typer.Exit(run.signal_code)
    if run.stop is not None and run.stop.is_explosion:
        raise typer.Exit(EXIT_EXPLODED)


@dataclass(frozen=True)
class _Runnable:
    """What LAMMPS is given: ``fingerprint`` tells engines apart; exported tables are without reference energies."""

    force_field: LammpsPotential | ForceEngine
    fingerprint: str
    is_without_references: bool


@contextmanager
def _force_field(found: FoundPotential, is_external: bool) -> Iterator[_Runnable]:
    if not is_external:
        with force_field_of(found.potential) as force_field:
            is_exported = isinstance(force_field, LammpsPotential) and force_field is not found.potential
            yield _Runnable(force_field, found.fingerprint, is_exported)
        return
    engine: ForceEngine
    if isinstance(found.potential, LammpsPotential):
        engine, fingerprint = LammpsEngine(found.potential), f"external {found.fingerprint}"
    else:
        engine, fingerprint = PotentialEngine(found.potential), found.fingerprint
    try:
        yield _Runnable(engine, fingerprint, False)
    finally:
        engine.close()


def _repeated(atoms: Atoms, repeat: tuple[int, int, int]) -> Atoms:
    if min(repeat) < 1:
        raise ConfigError(f"--repeat takes three counts of at least 1, got {' '.join(map(str, repeat))}")
    return atoms.repeat(repeat)


def _reference_energy(found: LammpsPotential | Potential, numbers: np.ndarray) -> float:
    if isinstance(found, LammpsPotential):
        return 0.0
    references = found.spec.reference_energies_ev
    return sum(references.get(symbol, 0.0) for symbol in Atoms(numbers=numbers).get_chemical_symbols())


def _settings(path: Path | None, given: dict[str, Any], overrides: list[str] | tuple[str, ...]) -> MdSettings:
    source = read_yaml(path) if path is not None else YamlSource("the settings of the run", {})
    for name, value in given.items():
        source.override(f"{name}={value}")
    for assignment in overrides:
        source.override(assignment)
    settings: MdSettings = validate_settings(source, MdSettings, Path.cwd())
    return settings


class _Run:
    """A run that is watched and written block by block."""

    def __init__(
        self,
        dynamics: MolecularDynamics,
        start: Atoms | MdState,
        file: TrajectoryFile,
        state_path: Path,
        energy_shift_ev: float,
    ) -> None:
        self._dynamics = dynamics
        self._start = start
        self._file = file
        self._state_path = state_path
        self._shift = energy_shift_ev
        self._n_atoms = len(start.numbers)
        self._first_step = start.step if isinstance(start, MdState) else 0
        self._figures: list[np.ndarray] = []  # temperature, pressure, volume, energy of each frame
        self._last_step = self._first_step
        self.stop: MdStop | None = None
        self.signal_code = 0

    def carry_out(self) -> None:
        """Run to the end, or to the end of the block in which a signal comes."""
        settings = self._dynamics.settings
        if self._first_step >= settings.n_steps:
            raise ConfigError(f"the run has done its {settings.n_steps} steps already; give more with --steps")
        columns = (TextColumn("MD"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[state]}"))
        with (
            GracefulStop() as signals,
            ProgressBar(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as progress,
        ):
            bar = progress.add_task("MD", total=settings.n_steps, completed=self._first_step, state="")

            def show(frame: Trajectory) -> bool:
                progress.update(bar, completed=int(frame.steps[-1]), state=self._describe(frame))
                return True

            for block in self._dynamics.blocks(self._start, show):
                shifted = replace(
                    block.trajectory,
                    energies_ev=block.trajectory.energies_ev + self._shift,
                    conserved_ev=block.trajectory.conserved_ev + self._shift,
                )
                self._file.append(shifted)
                self._note(shifted)
                self.stop = block.stop
                if block.state is not None and (block.stop is None or not block.stop.is_explosion):
                    block.state.save(self._state_path, n_output_bytes=self._file.n_bytes)
                self.signal_code = signals.exit_code
                if self.signal_code:
                    break

    def report(self) -> None:
        """Print how it ended."""
        settings = self._dynamics.settings
        console = output()
        if self.stop is not None:
            notes().print(f"stopped at step {self.stop.step} ({self.stop.reason}): {self.stop.message}", markup=False)
        elif self.signal_code:
            notes().print("interrupted: the same command with --resume goes on", markup=False)
        figures = np.concatenate(self._figures)
        if len(figures) == 0:
            return
        late = figures[len(figures) // 2 :]
        temperature, pressure, volume, energy = late.mean(axis=0).tolist()
        console.print(
            f"averages of the last {len(late)} frames: {temperature:.1f} K, {pressure:.4g} GPa, "
            f"{volume / self._n_atoms:.5g} Å^3 per atom, {energy / self._n_atoms:.6g} eV per atom",
            markup=False,
        )
        console.print(
            f"wrote {self._file.path}: {len(figures)} frames, to step {self._last_step} of {settings.n_steps}",
            markup=False,
        )

    def _note(self, frames: Trajectory) -> None:
        columns = (frames.temperatures_k, frames.pressures_gpa, frames.volumes_ang3, frames.energies_ev)
        self._figures.append(np.stack(columns, axis=1))
        if len(frames) > 0:
            self._last_step = int(frames.steps[-1])

    def _describe(self, frame: Trajectory) -> str:
        energy = (float(frame.energies_ev[-1]) + self._shift) / self._n_atoms
        return f"{frame.temperatures_k[-1]:.0f} K  {frame.pressures_gpa[-1]:.2f} GPa  {energy:.4f} eV/atom"
