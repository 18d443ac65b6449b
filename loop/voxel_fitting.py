"""A model of forces from voxels: data, split by snapshot, fit, errors by species and temperature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import ConfigError
from ..structures.settings import Settings
from ..surrogates.base import Report
from ..surrogates.potentials.data_settings import DataSettings, FrameFileSettings
from ..surrogates.potentials.frame import Frame
from ..surrogates.potentials.frame_report import FrameReport
from ..surrogates.potentials.frame_split import split_frames
from ..surrogates.potentials.frames import load_frames
from ..surrogates.voxels.model import ForcePairs, VoxelForceModel, fit_voxel_forces
from ..surrogates.voxels.settings import VoxelForceSettings
from .seeding import derive_seed

_SHARE = 1.0 / 7.0
"""Of the snapshots, for tests and again for validation: 10k each of the paper's 70k."""
_MAX_SHOWN = 10_000


class VoxelFitConfig(Settings):
    """A network on voxels to fit to the forces of snapshots."""

    voxel_forces: VoxelForceSettings
    """The network and what it is shown."""
    elements: tuple[str, ...] = ()
    """Chemical symbols the model is to know; those in the data when left out."""
    data: DataSettings | None = None
    """Labelled frames; `alloysmith fit --data FILE` names them on the command line instead."""
    report_by: str = "temperature_k"
    """Key of the info of frames named by `--data`: a seventh of the frames of each of its values is held out for tests,
    another seventh for validation, and errors are printed for each."""
    seed: int = 0
    """The split and the fit derive from it."""


@dataclass(frozen=True)
class ForceFigures:
    """Errors of forces, all components together; eV/Å.

    Attributes:
        n_atoms: whose forces are known.
        rms_force: root mean square component of the known forces: the error of always answering zero.
        r: Pearson's correlation coefficient of known and predicted components; ``r_xyz`` of each of the three.
            ``nan`` where forces do not vary.
    """

    n_atoms: int
    rms_force: float
    mae: float
    rmse: float
    r: float
    r_xyz: tuple[float, float, float]


ForceErrors = Mapping[str, ForceFigures]
"""Figures of ``all`` atoms, of each species, and of each group of frames."""


@dataclass(frozen=True)
class VoxelFit:
    """A fitted model and what is known about it.

    Attributes:
        errors: part of the data (``training``, ``validation``, ``test``) -> errors.
        report: what was found in the data.
    """

    model: VoxelForceModel
    errors: Mapping[str, ForceErrors]
    report: FrameReport


def fit_voxels(
    config: VoxelFitConfig,
    data_files: Sequence[Path] = (),
    *,
    checkpoint_path: Path | None = None,
    report: Report | None = None,
) -> VoxelFit:
    """Fit the model of ``config``; whole snapshots are held out.

    Args:
        data_files: learn from these files instead of ``data.files``.
        checkpoint_path: where the training keeps its state, to go on from after a kill.
        report: called with (epoch, errors); ``False`` ends the training with what is best so far.

    Raises:
        ConfigError: no data is named.
        FrameError: bad data, all of it named.
        SurrogateError: too little data, or the training diverges.
    """
    settings = _data_settings(config, data_files)
    data = load_frames(settings, config.elements or None)
    parts = split_frames(data, settings, seed=derive_seed(config.seed, 0, "split"))
    elements = config.elements or tuple(sorted({s for f in data.all_frames() for s in f.atoms.symbols.species()}))
    model = fit_voxel_forces(
        config.voxel_forces,
        parts.train,
        parts.validation,
        elements=elements,
        seed=derive_seed(config.seed, 0, "voxel_forces"),
        report=report,
        checkpoint_path=checkpoint_path,
    )
    # errors on as many training frames as on others tell as much as errors on all of them
    step = max(1, len(parts.train) // max(1, len(parts.validation), len(parts.test)))
    named = {"training": parts.train[::step], "validation": parts.validation, "test": parts.test}
    errors: dict[str, ForceErrors] = {}
    held_out = None
    for name, frames in named.items():
        if frames:
            predicted = model.predict([frame.atoms for frame in frames])
            errors[name] = force_errors(frames, predicted)
            if name == "test":
                held_out = _shown(frames, predicted, derive_seed(config.seed, 0, "shown"))
    facts = {
        "errors": {part: {key: asdict(row) for key, row in rows.items()} for part, rows in errors.items()},
        "files": [asdict(file) for file in data.files],
        "report_by": config.report_by,
        "seed": config.seed,
    }
    spec = replace(model.spec, facts=facts)
    return VoxelFit(replace(model, spec=spec, held_out=held_out), errors, data.report)


def force_errors(frames: Sequence[Frame], predicted: Sequence[np.ndarray]) -> dict[str, ForceFigures]:
    """Figures of all atoms of frames with forces, of each species, and of each group where there are several.

    Args:
        predicted: ``[n_atoms, 3]`` for each frame, eV/Å.
    """
    known, found = _joined(frames), np.concatenate(predicted)
    species = np.concatenate([np.array(frame.atoms.get_chemical_symbols()) for frame in frames])
    groups = np.repeat([frame.group for frame in frames], [len(frame.atoms) for frame in frames])
    figures = {"all": force_figures(known, found)}
    for name in sorted(set(species.tolist())):
        figures[name] = force_figures(known[species == name], found[species == name])
    names = sorted(set(groups.tolist()), key=_as_number)
    for name in names if len(names) > 1 else ():
        label = name if np.isinf(_as_number(name)[0]) else f"{float(name):g}"
        figures[label] = force_figures(known[groups == name], found[groups == name])
    return figures


def force_figures(known: np.ndarray, predicted: np.ndarray) -> ForceFigures:
    """Figures of forces ``[n, 3]``, n at least 1, eV/Å."""
    error = predicted - known
    x, y, z = (_correlation(known[:, axis], predicted[:, axis]) for axis in range(3))
    return ForceFigures(
        n_atoms=len(known),
        rms_force=float(np.sqrt((known**2).mean())),
        mae=float(np.abs(error).mean()),
        rmse=float(np.sqrt((error**2).mean())),
        r=_correlation(known.ravel(), predicted.ravel()),
        r_xyz=(x, y, z),
    )


def _correlation(known: np.ndarray, predicted: np.ndarray) -> float:
    a, b = known - known.mean(), predicted - predicted.mean()
    scale = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / scale if scale > 0.0 else float("nan")


def _data_settings(config: VoxelFitConfig, data_files: Sequence[Path]) -> DataSettings:
    if data_files:
        files = tuple(FrameFileSettings(path=str(f.resolve()), group_from=config.report_by) for f in data_files)
        if config.data is not None:
            return config.data.model_copy(update={"files": files})
        return DataSettings(files=files, test_fraction=_SHARE, validation_fraction=_SHARE, stratify_by_group=True)
    if config.data is None:
        raise ConfigError("the configuration names no data; add `data: {files: [FILE]}`, or give --data FILE")
    return config.data


def _shown(frames: Sequence[Frame], predicted: Sequence[np.ndarray], seed: int) -> ForcePairs:
    known, found = _joined(frames), np.concatenate(predicted)
    rows = np.sort(np.random.default_rng(seed).permutation(len(known))[:_MAX_SHOWN])
    return ForcePairs(known[rows].astype(np.float32), found[rows].astype(np.float32))


def _joined(frames: Sequence[Frame]) -> np.ndarray:
    return np.concatenate([frame.forces for frame in frames if frame.forces is not None])


def _as_number(name: str) -> tuple[float, str]:
    try:
        return float(name), name
    except ValueError:
        return np.inf, name
