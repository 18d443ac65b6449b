"""Reading labelled structures for a potential: files, in-memory structures, and what is wrong with them."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, CalculatorError, PropertyNotImplementedError

from ...errors import ConfigError
from ...structures.deepmd_data import system_files
from ..base import SurrogateError
from .data_settings import DataSettings, FrameCheckSettings, FrameFileSettings
from .frame import Frame
from .frame_checks import check_duplicates, check_frame
from .frame_labels import read_frame
from .frame_report import FrameError, FrameReport, RowDefect, bad_sources, build_report
from .frame_rows import frame_rows, labelled_paths
from .reference_shift import check_energies


@dataclass(frozen=True)
class FrameFile:
    """A file, or a DeePMD system, that frames were read from.

    Attributes:
        name: as the settings call it.
        digest: hash of its content.
        n_rows: structures that it holds.
        n_frames: those of them that are used.
    """

    name: str
    digest: str
    n_rows: int
    n_frames: int


@dataclass(frozen=True)
class FrameSet:
    """Labelled structures that have been checked.

    Attributes:
        frames: to learn from, in the order of the files.
        test_frames: of the test files.
        report: what was found; what is an error there was left out.
        files: where all came from; empty for structures in memory.
    """

    frames: tuple[Frame, ...]
    test_frames: tuple[Frame, ...]
    report: FrameReport
    files: tuple[FrameFile, ...] = ()

    def all_frames(self) -> list[Frame]:
        """Frames to learn from and of the test files."""
        return [*self.frames, *self.test_frames]


@dataclass
class _Gathered:
    """Frames and defects as they are read; ``file_of`` names the file of each frame by its source."""

    frames: list[Frame]
    defects: list[RowDefect]
    file_of: dict[str, str]


def load_frames(
    settings: DataSettings, elements: Collection[str] | None = None, *, forces_needed: bool = True
) -> FrameSet:
    """Read and check all files.

    Everything that is wrong is collected before anything is raised. Rows whose labelling failed, unconverged ionic
    steps and incomplete last steps of VASP runs are left out and listed as warnings.

    Args:
        elements: those that the potential has; ``None`` allows all.
        forces_needed: whether frames without forces are errors; ``False`` if forces have no weight in the fit.

    Raises:
        ConfigError: a file is missing, named twice, or of a format without labels.
        StructureError: a file cannot be read.
        FrameError: bad frames (with ``on_bad_frame: error``), or labels with different references.
        SurrogateError: no frame is left.
    """
    gathered = _Gathered([], [], {})
    files: list[FrameFile] = []
    n_test = 0
    for is_test, listed in ((False, settings.files), (True, settings.test_files)):
        for name, path, one in _find_files(listed, settings.base_dir or Path.cwd(), {file.name for file in files}):
            n_before = len(gathered.frames)
            n_rows = _read_file(gathered, name, path, one, settings, forces_needed)
            n_frames = len(gathered.frames) - n_before
            files.append(FrameFile(name, _digest(path), n_rows, n_frames))
            n_test += n_frames if is_test else 0
    checked = _checked(gathered, n_test, settings.checks, settings.on_bad_frame == "drop", elements)
    counts = {file.name: 0 for file in files}
    for frame in (*checked.frames, *checked.test_frames):
        counts[gathered.file_of[frame.source]] += 1
    kept = tuple(FrameFile(file.name, file.digest, file.n_rows, counts[file.name]) for file in files)
    return FrameSet(checked.frames, checked.test_frames, checked.report, kept)


def frames_of_structures(
    structures: Sequence[Atoms],
    *,
    source: str = "structure",
    labels: FrameFileSettings | None = None,
    forces_needed: bool = True,
) -> list[Frame]:
    """Frames of structures in memory, labelled by a calculator's results or in ``info`` and ``arrays``.

    Their labels are read, but neither structures nor energies are judged; :func:`check_frames` does that.

    Args:
        source: what messages call them, with a number.
        labels: how labels in ``info`` and ``arrays`` are called (the path plays no part).
        forces_needed: whether frames without forces are errors.

    Raises:
        FrameError: labels are missing or cannot be used; all of them are named.
    """
    gathered = _Gathered([], [], {})
    labels = labels or FrameFileSettings(path=source)
    for number, atoms in enumerate(structures, start=1):
        name = f"{source} {number}"
        try:
            plain = _with_results(atoms)
        except CalculatorError as error:
            gathered.defects.append(RowDefect("no_energy", name, str(error)))
            continue
        _add(gathered, source, plain, name, "", labels, forces_needed)
    if gathered.defects:
        raise FrameError(build_report(gathered.defects), len(structures))
    return gathered.frames


def check_frames(
    frames: Sequence[Frame],
    checks: FrameCheckSettings | None = None,
    *,
    elements: Collection[str] | None = None,
    drop_bad: bool = False,
) -> FrameSet:
    """Check frames that are not from files as :func:`load_frames` checks those of files.

    Args:
        elements: those that the potential has; ``None`` allows all.
        drop_bad: leave bad frames out instead of raising.

    Raises:
        FrameError: bad frames, unless they are to be dropped, or labels with different references.
        SurrogateError: no frame is left, or two have the same source.
    """
    named = [frame if frame.source else replace(frame, source=f"frame {k}") for k, frame in enumerate(frames)]
    sources = {frame.source: "" for frame in named}
    if len(sources) < len(named):
        raise SurrogateError("two frames have the same source, so messages could not tell them apart; name each")
    return _checked(_Gathered(named, [], sources), 0, checks or FrameCheckSettings(), drop_bad, elements)


def _find_files(
    listed: Sequence[FrameFileSettings], base_dir: Path, known: Collection[str]
) -> Iterable[tuple[str, Path, FrameFileSettings]]:
    seen = set(known)
    for one in listed:
        is_pattern = any(character in one.path for character in "*?[")
        names = sorted(glob.glob(one.path, root_dir=base_dir, recursive=True)) if is_pattern else [one.path]
        if not names:
            raise ConfigError(f"data: no file matches {one.path!r} in {base_dir}")
        for name in names:
            path = base_dir / Path(name).expanduser()
            found = labelled_paths(path)
            if not found:
                hint = " with DeePMD systems (type.raw); name a file in it, or a pattern such as */vasprun.xml"
                raise ConfigError(f"data: there is no {f'folder {path}{hint}' if path.is_dir() else f'file {path}'}")
            for own in found:
                label = name if own == path else str(Path(name) / own.relative_to(path))
                if label in seen:
                    raise ConfigError(f"data: the file {label} is named twice")
                seen.add(label)
                yield label, own, one


def _read_file(
    gathered: _Gathered, name: str, path: Path, one: FrameFileSettings, settings: DataSettings, forces_needed: bool
) -> int:
    """Read a file or a DeePMD system; return how many structures it holds."""
    n_structures = 0
    for row in frame_rows(name, path, one, settings.vasp_energy, forces_needed=forces_needed):
        gathered.defects.extend(row.defects)
        n_structures += row.is_structure
        if row.frame is not None:
            gathered.frames.append(row.frame)
            gathered.file_of[row.frame.source] = name
    return n_structures


def _digest(path: Path) -> str:
    """Hash of a file's content, or of all files of a DeePMD system."""
    digest = hashlib.blake2b(digest_size=16)
    for file in system_files(path) if path.is_dir() else [path]:
        if path.is_dir():
            digest.update(f"{file.relative_to(path)}\0".encode())
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def _add(
    gathered: _Gathered,
    file: str,
    atoms: Atoms,
    source: str,
    group: str,
    labels: FrameFileSettings,
    forces_needed: bool,
) -> None:
    frame, defects = read_frame(atoms, source, group, labels, forces_needed)
    gathered.defects.extend(defects)
    if frame is not None:
        gathered.frames.append(frame)
        gathered.file_of[source] = file


def _with_results(atoms: Atoms) -> Atoms:
    """A copy whose ``info`` and ``arrays`` hold what its calculator has computed for it.

    Raises:
        CalculatorError: the calculator's results are those of other positions, or there are none.
    """
    copied = atoms.copy()  # without calculator
    if not isinstance(atoms.calc, Calculator):
        return copied
    if atoms.calc.check_state(atoms):
        raise CalculatorError("the structure was changed after its calculator's last run")
    for name, values in (("energy", copied.info), ("forces", copied.arrays), ("stress", copied.info)):
        try:
            # not atoms.get_forces(): that hides the forces on atoms under constraints
            found = atoms.calc.get_property(name, atoms, allow_calculation=False)
        except PropertyNotImplementedError:
            continue
        if found is not None:
            values[name] = np.array(found)
    return copied


def _checked(
    gathered: _Gathered,
    n_test: int,
    checks: FrameCheckSettings,
    drops: bool,
    elements: Collection[str] | None,
) -> FrameSet:
    frames = gathered.frames
    n_read = len({frame.source for frame in frames} | set(bad_sources(gathered.defects)))
    defects = list(gathered.defects)
    test_sources = {frame.source for frame in frames[len(frames) - n_test :]}
    for frame in frames:
        defects.extend(check_frame(frame, checks, elements))
    sound = _without(frames, defects)
    defects.extend(check_duplicates(sound, sum(frame.source in test_sources for frame in sound), checks))
    kept = _without(frames, defects) if drops else sound
    defects.extend(check_energies(kept, [gathered.file_of[frame.source] for frame in kept], checks))
    report = build_report(defects)
    if any(not drops or finding.is_about_set for finding in report.errors):
        raise FrameError(report, n_read)
    kept = _without(frames, defects)
    learned = tuple(frame for frame in kept if frame.source not in test_sources)
    if not learned:
        raise SurrogateError(f"no labelled frame is left to learn from\n{report}")
    return FrameSet(learned, tuple(frame for frame in kept if frame.source in test_sources), report)


def _without(frames: Sequence[Frame], defects: Sequence[RowDefect]) -> list[Frame]:
    bad = set(bad_sources(defects))
    return [frame for frame in frames if frame.source not in bad]
