"""A potential's liquid beside that of a reference potential: structure, motion, density, conservation of energy.

Each run of each potential is a chain of stages. The reference melts the start structure, once for both. Then each
potential runs by itself: at constant pressure (density), at constant volume (radial distribution functions, velocity
autocorrelation and its spectrum, self-diffusion) and at constant energy (drift). The volume of the latter two is the
reference's at that pressure, as in comparisons with ab initio dynamics, so that a wrong density is seen in the
density alone. Errors are of means over blocks of all runs, see :mod:`.block_statistics`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from ase import Atoms
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from ...structures.base import structure_id
from ...structures.settings import Settings
from ..base import FailureKind, OracleError
from ..md_settings import MdSettings
from ..trajectory import Trajectory
from .base import Bench, ForceField
from .crystal import Crystal
from .liquid_dynamics import LiquidDynamics, Samples, compared, value_names
from .liquid_observables import Windows, longest_reach_ang, observables
from .md_stage import Analysis, StageResult, run_stage

_ENERGY_AVERAGE_PS = 0.1
_MIN_AVERAGES = 10
_RDF_EVERY_PS = 0.05


class DynamicsSettings(Settings):
    """Molecular dynamics of a liquid, beside that of a reference potential."""

    kind: Literal["dynamics"] = "dynamics"
    temperature_k: PositiveFloat
    """Temperature."""
    pressure_gpa: float = 0.0
    """Pressure of the runs that give the density."""
    reference_potential: str | None = None
    """Potential to run beside: whatever `--potential` takes; a file may be named relative to the config file. Without
    one, only the potential's own figures are told."""
    n_runs: PositiveInt = 4
    """Independent runs of each potential; they start from different melts."""
    start_temperature_k: PositiveFloat | None = None
    """Temperature at which the reference potential melts and mixes the start structure; by default twice
    `temperature_k`."""
    start_ps: PositiveFloat = 4.0
    """Time for that."""
    equilibration_ps: PositiveFloat = 4.0
    """Time at the temperature, before density, structure and motion are measured; rounded to whole blocks."""
    npt_ps: PositiveFloat = 20.0
    """Time at constant pressure, of each run."""
    nvt_ps: PositiveFloat = 20.0
    """Time at constant volume, of each run."""
    nve_ps: PositiveFloat = 8.0
    """Time at constant energy, of each run."""
    block_ps: PositiveFloat = 4.0
    """Time over which blocks are averaged; also what a kill can cost, and twice the longest time of displacements."""
    correlation_ps: PositiveFloat = 1.0
    """Longest time of the velocity autocorrelation."""
    resolution_thz: PositiveFloat = 0.5
    """Resolution of the spectrum."""
    r_max_ang: PositiveFloat | None = None
    """Reach of the distribution functions; by default half of the cell's height."""
    sample_fs: PositiveFloat = 10.0
    """Time between two looks at the atoms."""
    timestep_fs: PositiveFloat = 2.0
    """Time step, but for constant energy."""
    nve_timestep_fs: PositiveFloat = 1.0
    """Time step at constant energy."""
    thermostat_damping_ps: PositiveFloat = 0.5
    """Relaxation time of the temperature at constant volume; slow, so that motion is little disturbed."""
    seed: int = Field(default=1, ge=0, le=2**30)
    """Seed of the velocities."""
    version: ClassVar[str] = "1"
    result_type: ClassVar[type] = LiquidDynamics

    @model_validator(mode="after")
    def _is_possible(self) -> DynamicsSettings:
        if self.n_runs * round(self.npt_ps / self.block_ps) < 2 or self.n_runs * round(self.nvt_ps / self.block_ps) < 2:
            raise ValueError("errors need two blocks at least; raise n_runs, npt_ps and nvt_ps, or lower block_ps")
        if self.correlation_ps > 0.5 * self.block_ps or 1.0 / self.resolution_thz > self.block_ps:
            raise ValueError(
                f"a block of {self.block_ps:g} ps is too short for correlations of {self.correlation_ps:g} ps (at most "
                f"half of it) and a resolution of {self.resolution_thz:g} THz (at least its inverse); raise block_ps"
            )
        if self.sample_fs < max(self.timestep_fs, self.nve_timestep_fs) or self.sample_fs > 20.0:
            raise ValueError(f"sample_fs must be from one time step up to 20, got {self.sample_fs:g}")
        return self

    @classmethod
    def value_names(cls) -> tuple[str, ...]:
        """See :class:`~.base.Property`."""
        return value_names()

    def resolved(self, base_dir: Path) -> DynamicsSettings:
        """The same settings, with a reference that is a file of ``base_dir`` named by its whole path."""
        name = self.reference_potential
        if name is None or not (base_dir / Path(name).expanduser()).is_file():
            return self
        return self.model_copy(update={"reference_potential": str(base_dir / Path(name).expanduser())})

    def measure(self, bench: Bench, crystal: Crystal) -> LiquidDynamics:
        """See :func:`compare_dynamics`."""
        return compare_dynamics(bench, crystal.atoms, self)

    def stage(self, ensemble: Literal["nve", "nvt", "npt"], time_ps: float, seed: int, **changes: object) -> MdSettings:
        """Settings of a stage of whole blocks."""
        step_fs = self.nve_timestep_fs if ensemble == "nve" else self.timestep_fs
        stride = max(1, round(self.sample_fs / step_fs))
        block_steps = stride * max(1, round(1000.0 * self.block_ps / (stride * step_fs)))
        chosen = {
            "ensemble": ensemble,
            "temperature_k": self.temperature_k,
            "timestep_fs": step_fs,
            "stride": stride,
            "block_steps": block_steps,
            "n_steps": block_steps * self.n_blocks(time_ps),
            "seed": seed,
        }
        return MdSettings.model_validate(chosen | changes)

    def n_blocks(self, time_ps: float) -> int:
        """Number of blocks of a time, at least one."""
        return max(1, round(time_ps / self.block_ps))


def compare_dynamics(bench: Bench, atoms: Atoms, settings: DynamicsSettings) -> LiquidDynamics:
    """Run the liquid with the potential and with its reference; a call on the same folder goes on after a kill.

    Args:
        atoms: the start structure, which is melted.

    Raises:
        OracleError: ``unavailable`` when the reference is not at hand; ``bad_structure`` for a cell that is too small;
            ``not_converged`` when a run explodes; and what the runs raise.
    """
    name = settings.reference_potential
    if name is not None and name not in bench.references:
        raise OracleError(FailureKind.UNAVAILABLE, f"the reference potential {name} is not at hand; name it again")
    if longest_reach_ang(atoms.cell.array) < 3.0:
        raise OracleError(
            FailureKind.BAD_STRUCTURE,
            f"the cell of {len(atoms)} atoms is less than 6 Å high; take a larger one, of 100 atoms and more",
        )
    reference = None if name is None else bench.references[name]
    first = reference or bench.force_field
    identity = repr((first.fingerprint, structure_id(atoms), settings.model_dump_json(), settings.version))
    folder = bench.folder / f"dynamics-{hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()}"
    session = _Session(settings, folder, bench)
    starts = [session.start(first, atoms, run) for run in range(settings.n_runs)]
    dense = [session.constant_pressure(first, start, run) for run, start in enumerate(starts)]
    volume = float(np.mean([stage.samples["volume"].mean() for stage in dense]))
    theirs = session.runs(first, dense, volume)
    ours = theirs
    if reference is not None:
        field = bench.force_field
        dense = [session.constant_pressure(field, start, run) for run, start in enumerate(starts)]
        ours = session.runs(field, dense, volume)
    windows = windows_of(settings, _with_volume(atoms, volume))
    return compared(atoms, volume, windows, ours, theirs if reference is not None else None)


class _Session:
    """The stages of all runs, each in a folder of its own."""

    def __init__(self, settings: DynamicsSettings, folder: Path, bench: Bench) -> None:
        self._settings = settings
        self._folder = folder
        self._report = bench.report

    def start(self, field: ForceField, atoms: Atoms, run: int) -> Atoms:
        """A melt of its own for each run."""
        hot_k = self._settings.start_temperature_k or 2.0 * self._settings.temperature_k
        pressure = self._settings.pressure_gpa
        md = self._settings.stage(
            "npt", self._settings.start_ps, self._seed(run, 0), temperature_k=hot_k, pressure_gpa=pressure
        )
        return self._stage(field, md, atoms, run, "start", _scalars).end

    def constant_pressure(self, field: ForceField, start: Atoms, run: int) -> StageResult:
        """The runs that give the density."""
        s = self._settings
        n_skipped = s.n_blocks(s.equilibration_ps)
        time_ps = n_skipped * s.block_ps + s.npt_ps
        md = s.stage("npt", time_ps, self._seed(run, 1), pressure_gpa=s.pressure_gpa)
        return self._stage(field, md, start, run, "npt", _scalars, n_skipped=n_skipped)

    def runs(self, field: ForceField, dense: Sequence[StageResult], volume_ang3: float) -> Samples:
        """Runs at constant volume, and at constant energy after them."""
        s = self._settings
        n_skipped = s.n_blocks(s.equilibration_ps)
        fluid, energies = [], []
        for run, stage in enumerate(dense):
            start = _with_volume(stage.end, volume_ang3)
            look = _fluid(sorted(set(start.symbols)), windows_of(s, start))
            md = s.stage(
                "nvt",
                n_skipped * s.block_ps + s.nvt_ps,
                self._seed(run, 2),
                with_velocities=True,
                thermostat_damping_ps=s.thermostat_damping_ps,
            )
            fluid.append(self._stage(field, md, start, run, "nvt", look, n_skipped=n_skipped))
            md = s.stage("nve", s.nve_ps, self._seed(run, 3), velocities="keep")
            energies.append(
                self._stage(field, md, fluid[-1].end, run, "nve", _energies(_averaged(md))).samples["energy"]
            )
        names = fluid[0].samples
        return Samples(
            label=field.label,
            volumes=np.array([stage.samples["volume"] for stage in dense]),
            fluid={name: np.array([stage.samples[name] for stage in fluid]) for name in names},
            energies=np.array(energies).reshape(len(energies), -1),
            energy_step_ps=_averaged(md) * md.stride * md.timestep_fs / 1000.0,
        )

    def _seed(self, run: int, stage: int) -> int:
        return int(np.random.SeedSequence((self._settings.seed, run, stage)).generate_state(1)[0]) % 2**30

    def _stage(
        self,
        field: ForceField,
        md: MdSettings,
        start: Atoms,
        run: int,
        name: str,
        look: Analysis,
        *,
        n_skipped: int = 0,
    ) -> StageResult:
        own = hashlib.blake2b(f"{field.label}\0{field.fingerprint}".encode(), digest_size=6).hexdigest()
        folder = self._folder / own / f"run-{run + 1}" / name

        def tell(message: str) -> None:
            self._report(f"run {run + 1}, {message}")

        return run_stage(field, md, lambda: start, folder, look, tell, n_skipped=n_skipped)


def windows_of(settings: DynamicsSettings, atoms: Atoms) -> Windows:
    """Where observables of a cell are taken."""
    stride = max(1, round(settings.sample_fs / settings.timestep_fs))
    step_ps = stride * settings.timestep_fs / 1000.0
    longest = longest_reach_ang(atoms.cell.array)
    return Windows(
        step_ps=step_ps,
        r_max_ang=min(settings.r_max_ang or longest, longest),
        rdf_every=max(1, round(_RDF_EVERY_PS / step_ps)),
        n_lags=round(settings.correlation_ps / step_ps) + 1,
        n_displacements=round(0.5 * settings.block_ps / step_ps),
        n_spectrum=round(1.0 / (settings.resolution_thz * step_ps)),
    )


def _scalars(frames: Trajectory) -> Mapping[str, np.ndarray]:
    return {"volume": frames.volumes_ang3.mean(), "temperature": frames.temperatures_k.mean()}


def _fluid(species: Sequence[str], windows: Windows) -> Analysis:
    return lambda frames: observables(frames, species, windows)


def _averaged(md: MdSettings) -> int:
    """Frames that an energy is averaged over; fewer in a short run, whose slope needs points too."""
    n_frames = round(_ENERGY_AVERAGE_PS / (md.stride * md.timestep_fs / 1000.0))
    return max(1, min(n_frames, md.n_steps // md.stride // _MIN_AVERAGES))


def _energies(n_averaged: int) -> Analysis:
    """Total energy per atom, averaged over short stretches."""

    def look(frames: Trajectory) -> Mapping[str, np.ndarray]:
        used = len(frames) // n_averaged * n_averaged
        return {"energy": frames.conserved_ev[:used].reshape(-1, n_averaged).mean(axis=1) / len(frames.numbers)}

    return look


def _with_volume(atoms: Atoms, volume_ang3: float) -> Atoms:
    scaled = atoms.copy()
    scaled.set_cell(scaled.cell * (volume_ang3 / scaled.get_volume()) ** (1.0 / 3.0), scale_atoms=True)
    return scaled
