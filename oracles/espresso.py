"""Energy, forces and stress of a structure as it is, from density functional theory: Quantum ESPRESSO's ``pw.x``.

ASE writes the input and reads the output; :mod:`.espresso_output` decides whether to believe it. The energy is what
``pw.x`` calls the total energy. With smearing this is the free energy F = E - TS of electrons at the smearing's width,
which forces and stress are derivatives of; the internal energy E is not.

Each evaluation starts from superposed atoms and from wave functions of a fixed seed, in a folder of its own, so it does
not depend on what ran before: repeated runs on the same number of processes agree in all digits printed (1e-8 Ry).
Another number of processes sums in another order, which shows below ``conv_thr_ry``.
"""

from __future__ import annotations

import hashlib
import resource
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, Self

import numpy as np
from ase import Atoms
from ase.io.espresso import write_espresso_in
from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from ..errors import ConfigError
from ..structures.settings import Settings
from .base import FailureKind, Label, OracleError, OracleSpec, Request, Value
from .espresso_output import read_result
from .espresso_program import PREFIX, PROBE_LIMIT_S, program_version, run_espresso
from .lammps_oracle import GPA_PER_EV_ANG3
from .pseudopotentials import Pseudopotential, load_pseudopotentials, pseudopotential_folder
from .single_point import LammpsSinglePoint
from .structure_guard import check_structure

Smearing = Literal["fixed", "gaussian", "methfessel-paxton", "marzari-vanderbilt", "fermi-dirac"]
Section = Literal["control", "system", "electrons"]

_FILES = ("prefix", "outdir", "wfcdir", "pseudo_dir")
_LATTICE = ("ibrav", "nat", "ntyp", "a", "b", "c", "cosab", "cosac", "cosbc")
_OWN_KEYS: Mapping[Section, frozenset[str]] = {
    "control": frozenset((*_FILES, "calculation", "tprnfor", "tstress", "nstep", "restart_mode", "max_seconds")),
    "system": frozenset((*_LATTICE, "ecutwfc", "ecutrho", "occupations", "smearing", "degauss", "nspin")),
    "electrons": frozenset(("conv_thr", "mixing_beta", "scf_must_converge", "startingpot", "startingwfc")),
}
"""What the oracle itself sets, or what would change that an evaluation is complete and a function of its request."""


class EspressoSettings(Settings):
    """Energy, forces and stress by Quantum ESPRESSO, without any relaxation."""

    kind: Literal["espresso"] = "espresso"
    pseudopotentials: dict[str, str] = Field(min_length=1)
    """For each element, the file of its pseudopotential: a name in `pseudo_dir`, or a path from the root."""
    pseudo_dir: Path | None = None
    """Folder of the pseudopotentials; by default that of the environment variable ESPRESSO_PSEUDO, else Debian's."""
    ecutwfc_ry: PositiveFloat
    """Cutoff of the wave functions, Ry. The pseudopotentials' authors say what they need; converge it."""
    ecutrho_ry: PositiveFloat | None = None
    """Cutoff of the charge density, Ry; four times `ecutwfc_ry` by default, which only norm-conserving ones allow."""
    kspacing: PositiveFloat | None = None
    """Largest distance between k-points in 1/Å, 2π included (VASP's KSPACING). Cells of all sizes are sampled alike
    then, but the grid jumps as a cell changes: use `kpts` for energies over a range of volumes."""
    kpts: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    """Or a fixed grid, for cells of one size and shape."""
    is_shifted: bool = False
    """Whether the grid is shifted by half a step, away from Γ."""
    smearing: Smearing = "marzari-vanderbilt"
    """How states near the Fermi level are occupied; `fixed` is for insulators."""
    degauss_ry: PositiveFloat = 0.02
    """Width of the smearing, Ry."""
    starting_magnetization: dict[str, float] = Field(default_factory=dict)
    """For each magnetic element, where its spin polarization starts: -1 to 1, a share of its valence electrons. The
    calculation is spin-polarized when there is any; moments of the structure itself are ignored."""
    conv_thr_ry: PositiveFloat = 1e-9
    """Estimated error of the energy of the whole cell at which self-consistency ends, Ry."""
    mixing_beta: float = Field(default=0.7, gt=0.0, le=1.0)
    """Share of the new density that is mixed in; less is slower and steadier."""
    extra_input: dict[Section, dict[str, bool | int | float | str]] = Field(default_factory=dict)
    """More of pw.x's input: `control`, `system` or `electrons` -> name -> value, in its own units."""
    atomic_energies_ev: dict[str, float] = Field(default_factory=dict)
    """Energy of a lone atom of each element by the same settings, eV, subtracted from `energy_ev`: minus the cohesive
    energy is left, which potentials like EAM need. By default nothing is subtracted."""
    command: str = "pw.x"
    """How pw.x is run, for example `mpirun --bind-to none -np 4 pw.x -nk 2`; the input file is added. Decides the last
    digits at most, so it may change between sessions."""
    scratch_dir: Path | None = None
    """Where the folders of evaluations are made; by default where temporary files are. For a command that runs on
    several machines, a folder that they share."""
    keep_failed: bool = False
    """Keep the folder of an evaluation that failed; its message says where."""
    cost_hint_s: PositiveFloat = 60.0
    """Rough seconds of one evaluation, for `plan`."""

    @field_validator("extra_input", mode="before")
    @classmethod
    def _plain_names(cls, sections: object) -> object:
        """Names in lower case, and numbers that YAML takes for text (1e-9) as numbers."""
        if not isinstance(sections, Mapping):
            return sections
        return {
            str(section).lower(): {str(k).lower(): _number(v) for k, v in entries.items()}
            if isinstance(entries, Mapping)
            else entries
            for section, entries in sections.items()
        }

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if (self.kspacing is None) == (self.kpts is None):
            raise ValueError("give either kspacing (1/Å) or kpts (a grid such as [4, 4, 4])")
        for section, entries in self.extra_input.items():
            if own := sorted(_OWN_KEYS[section] & set(entries)):
                raise ValueError(
                    f"extra_input.{section} must not set {', '.join(own)}: the oracle does; see its other settings"
                )
            if numbered := sorted(name for name in entries if "(" in name):
                raise ValueError(
                    f"extra_input.{section} must not set {', '.join(numbered)}: which species a number means changes "
                    "with the structure"
                )
        for name in ("starting_magnetization", "atomic_energies_ev"):
            value = getattr(self, name)
            if unknown := sorted(set(value) - set(self.pseudopotentials)):
                raise ValueError(f"{name} names {', '.join(unknown)}, which pseudopotentials has not")
            if not np.isfinite(list(value.values())).all():
                raise ValueError(f"{name} must be finite numbers, got {value}")
        if any(abs(value) > 1.0 for value in self.starting_magnetization.values()):
            raise ValueError(f"starting_magnetization must lie between -1 and 1, got {self.starting_magnetization}")
        if self.atomic_energies_ev and set(self.atomic_energies_ev) != set(self.pseudopotentials):
            raise ValueError("atomic_energies_ev must name all elements of pseudopotentials, or none")
        if not shlex.split(self.command):
            raise ValueError("command is empty; pw.x runs where it is on the PATH")
        return self

    def resolved(self, base_dir: Path) -> Self:
        """A copy whose relative folders refer to ``base_dir``, the folder of the config file."""
        names = ("pseudo_dir", "scratch_dir")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return self.model_copy(update={name: base_dir / path.expanduser() for name, path in given.items()})

    def known_elements(self) -> frozenset[str]:
        """Elements that can be labelled."""
        return frozenset(self.pseudopotentials)

    def check(self, elements: Sequence[str]) -> None:
        """Check that there is a pseudopotential for each of ``elements``, and let pw.x read all its input once.

        Raises:
            ConfigError: what is wrong, and what to do.
        """
        if lacking := sorted(set(elements) - set(self.pseudopotentials)):
            raise ConfigError(
                f"the oracle has no pseudopotential for {', '.join(lacking)}; it has {', '.join(self.pseudopotentials)}"
            )
        oracle = self.build()
        try:
            oracle.try_input()
        except OracleError as error:
            raise ConfigError(f"pw.x refuses the oracle's settings: {error.message}") from error
        finally:
            oracle.close()

    def build(self) -> EspressoSinglePoint:
        """The oracle of these settings.

        Raises:
            ConfigError: pw.x or a pseudopotential is missing.
        """
        folder = pseudopotential_folder(self.pseudo_dir)
        potentials = load_pseudopotentials(self.pseudopotentials, folder)
        soft = [p.path.name for p in potentials.values() if p.needs_dense_density]
        if soft and self.ecutrho_ry is None:
            raise ConfigError(
                f"{', '.join(soft)}: ultrasoft and PAW pseudopotentials need ecutrho_ry, 8 to 12 times ecutwfc_ry "
                f"({8 * self.ecutwfc_ry:g} to {12 * self.ecutwfc_ry:g})"
            )
        return EspressoSinglePoint(self, potentials, program_version(self.command))


class EspressoSinglePoint:
    """Labels structures with energy (eV), forces ``[n_atoms, 3]`` (eV/Å) and stress ``[6]`` (eV/Å^3, ASE's sign).

    Args:
        settings: decide the labels, with the content of the pseudopotentials and the version.
        potentials: pseudopotential of each element.
        version: of pw.x.
    """

    def __init__(self, settings: EspressoSettings, potentials: Mapping[str, Pseudopotential], version: str) -> None:
        self._settings = settings
        self._potentials = dict(potentials)
        self._version = version
        machine = {"pseudopotentials", "pseudo_dir", "command", "scratch_dir", "keep_failed", "cost_hint_s"}
        parts = [f"espresso/1/{version}", settings.model_dump_json(exclude=machine)]
        parts += [f"{element}={potential.digest}" for element, potential in self._potentials.items()]
        digest = hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()
        self._spec = OracleSpec(
            name="espresso_single_point",
            version="1",
            properties=dict(LammpsSinglePoint.properties),
            fingerprint=f"espresso_single_point-{digest}",
            cost_hint_s=settings.cost_hint_s,
            arrays=LammpsSinglePoint.arrays,
        )

    @property
    def spec(self) -> OracleSpec:
        """Name, properties and fingerprint."""
        return self._spec

    def evaluate(self, request: Request) -> Label:
        """Label ``request.atoms`` as they are.

        Raises:
            OracleError: ``bad_structure``, ``not_converged``, ``corrupt_output``, ``crashed`` or ``unavailable``.
        """
        atoms = Atoms(request.atoms.numbers, request.atoms.positions, cell=request.atoms.cell, pbc=request.atoms.pbc)
        check_structure(atoms)
        if unknown := sorted(set(atoms.symbols.species()) - set(self._potentials)):
            raise OracleError(
                FailureKind.BAD_STRUCTURE,
                f"the oracle has no pseudopotential for {', '.join(unknown)}; it has {', '.join(self._potentials)}",
            )
        cpu_before_s = _children_cpu_s()
        with self._folder() as folder:
            self._write_input(folder, atoms)
            run = run_espresso(folder, self._settings.command, removes_folder=not self._settings.keep_failed)
            try:
                found = read_result(run, atoms, self._settings.conv_thr_ry)
            except OracleError as error:
                raise _explained(error, folder) from error
        if run.version != self._version:
            raise OracleError(
                FailureKind.UNAVAILABLE,
                f"pw.x is {run.version} now and was {self._version} before; labels of both must not mix: start again",
            )
        energy_ev = found.energy_ev - sum(
            self._settings.atomic_energies_ev.get(symbol, 0.0) for symbol in atoms.get_chemical_symbols()
        )
        values: dict[str, Value] = {
            "energy_ev": energy_ev,
            "energy_ev_per_atom": energy_ev / len(atoms),
            "forces_ev_ang": found.forces,
            "stress_ev_ang3": found.stress,
            "pressure_gpa": -float(found.stress[:3].mean()) * GPA_PER_EV_ANG3,
        }
        labelled = request.atoms.copy()
        labelled.calc = None
        cpu_s = max(0.0, _children_cpu_s() - cpu_before_s)
        return Label(values, labelled, self._spec.fingerprint, cpu_s, found.details)

    def try_input(self) -> None:
        """Let pw.x read the settings and all pseudopotentials, without solving anything.

        Raises:
            OracleError: what it complains of.
        """
        elements = list(self._potentials)
        row = [[3.0 * k, 0.0, 0.0] for k in range(len(elements))]
        atoms = Atoms(elements, row, cell=[3.0 * len(elements), 3.0, 3.0], pbc=True)
        with self._folder() as folder:
            self._write_input(folder, atoms, kpts=(1, 1, 1))
            (folder / "out" / f"{PREFIX}.EXIT").touch()  # asks it to stop, which it does when it is set up
            run = run_espresso(folder, self._settings.command, removes_folder=True, timeout_s=PROBE_LIMIT_S)
        if "Error in routine" in run.output or "JOB DONE" not in run.output:
            read_result(run, atoms, self._settings.conv_thr_ry)  # raises

    def close(self) -> None:
        """Nothing is held."""

    def kpoint_grid(self, cell: np.ndarray) -> tuple[int, int, int]:
        """Number of k-points along each reciprocal vector of a cell (rows are vectors, ``[3, 3]``, Å)."""
        if self._settings.kpts is not None:
            return self._settings.kpts
        spacing = self._settings.kspacing or 1.0
        lengths = 2.0 * np.pi * np.linalg.norm(np.linalg.inv(cell), axis=0)
        counts = np.maximum(1, np.ceil(lengths / spacing - 1e-6)).astype(int)  # rounding must not add a point
        return int(counts[0]), int(counts[1]), int(counts[2])

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        """A fresh folder, removed after use, or kept if asked and something failed."""
        try:
            if self._settings.scratch_dir is not None:
                self._settings.scratch_dir.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix="alloysmith-espresso-", dir=self._settings.scratch_dir))
        except OSError as error:
            raise OracleError(
                FailureKind.UNAVAILABLE,
                f"no scratch folder can be made: {error}; set scratch_dir to a folder with room that is yours",
            ) from error
        try:
            yield folder
        except OracleError as error:
            if not self._settings.keep_failed:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            details = {**error.details, "folder": str(folder)}
            raise OracleError(error.kind, f"{error.message} (kept in {folder})", details) from error
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)

    def _write_input(self, folder: Path, atoms: Atoms, kpts: tuple[int, int, int] | None = None) -> None:
        """Write the input and link the pseudopotentials; all names in it are relative, since pw.x cuts long ones."""
        species = {element: self._potentials[element] for element in atoms.symbols.species()}
        atoms = atoms.copy()
        moments = self._settings.starting_magnetization
        if moments:
            atoms.set_initial_magnetic_moments([moments.get(symbol, 0.0) for symbol in atoms.get_chemical_symbols()])
        try:
            (folder / "out").mkdir()
            (folder / "pseudo").mkdir()
            for element, potential in species.items():
                if not potential.path.is_file():
                    raise OracleError(
                        FailureKind.UNAVAILABLE,
                        f"the pseudopotential of {element} is no longer there: {potential.path}",
                    )
                (folder / "pseudo" / _link_name(potential)).symlink_to(potential.path)
            with (folder / f"{PREFIX}.pwi").open("w") as file:
                write_espresso_in(
                    file,
                    atoms,
                    input_data=self._namelists(),
                    pseudopotentials={element: _link_name(potential) for element, potential in species.items()},
                    kpts=kpts or self.kpoint_grid(atoms.cell.array),
                    koffset=(int(self._settings.is_shifted),) * 3,
                )
        except OSError as error:
            raise OracleError(
                FailureKind.UNAVAILABLE, f"the input cannot be written to {folder}: {error.strerror or error}"
            ) from error

    def _namelists(self) -> dict[str, dict[str, bool | int | float | str]]:
        settings = self._settings
        extra = settings.extra_input
        control = {
            "disk_io": "none",
            **extra.get("control", {}),
            "calculation": "scf",
            "prefix": PREFIX,
            "outdir": "./out",
            "pseudo_dir": "./pseudo",
            "tprnfor": True,
            "tstress": True,
        }
        system: dict[str, bool | int | float | str] = {**extra.get("system", {}), "ecutwfc": settings.ecutwfc_ry}
        if settings.ecutrho_ry is not None:
            system["ecutrho"] = settings.ecutrho_ry
        if settings.smearing == "fixed":
            system["occupations"] = "fixed"
        else:
            system |= {"occupations": "smearing", "smearing": settings.smearing, "degauss": settings.degauss_ry}
        if settings.starting_magnetization:
            system["nspin"] = 2
        electrons = {
            **extra.get("electrons", {}),
            "conv_thr": settings.conv_thr_ry,
            "mixing_beta": settings.mixing_beta,
            "startingpot": "atomic",
            "startingwfc": "atomic+random",
        }
        return {"control": control, "system": system, "electrons": electrons}


def _explained(error: OracleError, folder: Path) -> OracleError:
    """A broken output on a full disk is the disk's fault."""
    with suppress(OSError):
        free = shutil.disk_usage(folder).free
        if error.kind in (FailureKind.CORRUPT_OUTPUT, FailureKind.CRASHED) and free < 1_000_000:
            message = f"the disk of {folder} is full ({free} bytes free): {error.message}; set scratch_dir elsewhere"
            return OracleError(FailureKind.UNAVAILABLE, message, error.details)
    return error


def _link_name(potential: Pseudopotential) -> str:
    """Its name in the folder of an evaluation; pw.x tells formats apart by the suffix."""
    return f"{potential.element}{potential.path.suffix}"


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _number(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value
