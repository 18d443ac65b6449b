"""A stretch of molecular dynamics under one set of settings, measured block by block, that goes on after a kill."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from ...structures.whole_file import write_whole
from ..base import FailureKind, OracleError
from ..md_settings import MdSettings
from ..md_state import MdState
from ..molecular_dynamics import MolecularDynamics
from ..trajectory import Trajectory, TrajectoryFile
from .base import ForceField

Analysis = Callable[[Trajectory], Mapping[str, np.ndarray]]
"""Frames of a block -> named arrays of the same shape in every block."""

_STATE = "state.npz"


@dataclass(frozen=True)
class StageResult:
    """A stage that is done.

    Attributes:
        end: the last structure, with velocities.
        samples: name -> ``[n_blocks, ...]``.
    """

    end: Atoms
    samples: Mapping[str, np.ndarray]


def run_stage(
    field: ForceField,
    settings: MdSettings,
    start: Callable[[], Atoms],
    folder: Path,
    analysis: Analysis,
    report: Callable[[str], None],
    *,
    n_skipped: int = 0,
) -> StageResult:
    """Run all blocks that ``folder`` does not hold yet; a kill costs one block at most and changes no bit.

    The last structure of each block is kept in ``frames.extxyz``.

    Args:
        settings: a whole number of blocks.
        start: gives the structure to begin with.
        analysis: sees each block, the frame at the start of the run left out.
        report: is told how far it is.
        n_skipped: blocks at the beginning that equilibrate, and that results leave out.

    Raises:
        OracleError: ``not_converged`` when the run explodes; ``corrupt_output`` for a damaged folder; and what the
            dynamics raise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state: MdState | None = None
    n_bytes = 0
    n_frames = settings.segment_steps // settings.stride
    if (folder / _STATE).is_file():
        state, n_bytes = MdState.load(folder / _STATE)
    if state is None or state.step < settings.n_steps:
        file = TrajectoryFile(folder / "frames.extxyz", n_bytes)
        dynamics = MolecularDynamics(field.source, settings, fingerprint=field.fingerprint)
        for block in dynamics.blocks(state if state is not None else start()):
            if block.stop is not None or block.state is None:
                why = block.stop.message if block.stop is not None else "it left no state"
                raise OracleError(
                    FailureKind.NOT_CONVERGED,
                    f"molecular dynamics with {field.label} ended in {folder.name} before its last step: {why}",
                    {"potential": field.label, "temperature_k": settings.temperature_k},
                )
            number = block.state.step // settings.segment_steps
            _write_block(folder, number, analysis(block.trajectory.selected(slice(-n_frames, None))))
            file.append(block.trajectory.selected(slice(-1, None)))
            block.state.save(folder / _STATE, n_output_bytes=file.n_bytes)
            state = block.state
            report(f"{field.label}, {folder.name}: {state.step * settings.timestep_fs / 1000.0:.1f} ps")
    assert state is not None
    blocks = [_read_block(folder, k) for k in range(n_skipped + 1, state.step // settings.segment_steps + 1)]
    return StageResult(state.atoms(), {name: np.array([block[name] for block in blocks]) for name in blocks[0]})


def _block_path(folder: Path, number: int) -> Path:
    return folder / f"block-{number:04d}.npz"


def _write_block(folder: Path, number: int, found: Mapping[str, np.ndarray]) -> None:
    def fill(scratch: Path) -> None:
        with scratch.open("wb") as file:
            np.savez(file, **found)  # type: ignore[arg-type]

    write_whole(_block_path(folder, number), fill)


def _read_block(folder: Path, number: int) -> dict[str, np.ndarray]:
    path = _block_path(folder, number)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise OracleError(
            FailureKind.CORRUPT_OUTPUT, f"{path} is missing or damaged ({error}); delete {folder}"
        ) from error
