"""A potential from labelled structures: data, constraints, training, errors on what was never learnt from."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from pydantic import Field

from ..errors import ConfigError
from ..structures.settings import Settings
from ..surrogates.base import Metrics, Report
from ..surrogates.potentials.base import PotentialSpec
from ..surrogates.potentials.constraints.settings import ConstraintSettings
from ..surrogates.potentials.data_settings import DataSettings, FrameFileSettings
from ..surrogates.potentials.energy_reference import reference_energies, without_reference
from ..surrogates.potentials.error_table import ErrorTable, evaluate_errors
from ..surrogates.potentials.frame import Frame
from ..surrogates.potentials.frame_report import FrameReport
from ..surrogates.potentials.frame_split import split_frames
from ..surrogates.potentials.frames import FrameSet, load_frames
from ..surrogates.potentials.graph import build_graph
from ..surrogates.potentials.settings import ModelSettings, core_of
from ..surrogates.potentials.staged_training import train_in_stages
from ..surrogates.potentials.torch_potential import TorchPotential
from ..surrogates.potentials.training import TrainingResult
from ..surrogates.potentials.training_settings import TrainingSettings
from .execution.settings import WorkerSettings
from .seeding import derive_seed
from .training_workers import ShardWorkers


class PotentialFitConfig(Settings):
    """An interatomic potential to fit to energies, forces and stresses."""

    potential: ModelSettings
    """The model."""
    elements: tuple[str, ...] = Field(min_length=1)
    """Chemical symbols that the potential has, in the order of its types."""
    data: DataSettings | None = None
    """Labelled structures; `alloysmith fit --data FILE` names them on the command line instead."""
    constraints: tuple[ConstraintSettings, ...] = ()
    """Physical constraints in the loss: `rose`, `elastic`, `equilibrium`, `cohesive`, `vacancy`, `surface`,
    `energy_difference`."""
    warm_up_epochs: int = Field(default=40, ge=0)
    """Passes over the data before the constraints join, where there are any. From a start far from the labels they
    would lead into poor minima."""
    warm_up_frames: int | None = Field(default=None, ge=1)
    """Number of frames, spread evenly over those to learn from, that these passes take; all where it is unset. Some 150
    do for splines, and save much of the time where there are many."""
    training: TrainingSettings = TrainingSettings()
    """Loss, optimizer, limits."""
    workers: WorkerSettings | None = None
    """Workers that each hold a part of the frames and compute its share of every step, with a GPU each where
    `ray.gpus_per_worker` says so; the fit runs in one process where this is unset."""
    seed: int = Field(default=0, ge=0)
    """The split and the training derive from it."""


@dataclass(frozen=True)
class PotentialFit:
    """A fitted potential and what is known about it.

    Attributes:
        errors: part of the data (``training``, ``validation``, ``test``) -> errors, of potentials without constraints
            as of others.
        constraints: constraint -> figure -> (what the potential gives, what is wanted).
        report: what was found in the data.
        training: how the training went.
    """

    potential: TorchPotential
    errors: Mapping[str, ErrorTable]
    constraints: Mapping[str, Mapping[str, tuple[float, float]]]
    report: FrameReport
    training: TrainingResult


def fit_potential(
    config: PotentialFitConfig,
    data_files: Sequence[Path] = (),
    *,
    checkpoint_path: Path | None = None,
    report: Report | None = None,
) -> PotentialFit:
    """Fit the potential of ``config``.

    Args:
        data_files: learn from these files instead of ``data.files``.
        checkpoint_path: where the state of the training is kept, to go on from after a kill.
        report: called with (step, metrics); ``False`` ends the training with what is best so far.

    Raises:
        ConfigError: no data is named, or the settings contradict each other.
        FrameError: bad data, all of it named.
        SurrogateError: nothing to learn from, or the training diverges.
    """
    settings = _data_settings(config, data_files)
    forces_needed = any(weights[1] > 0.0 for weights in (config.training.loss.prefactors(0.0),))
    data = load_frames(settings, config.elements, forces_needed=forces_needed)
    parts = split_frames(data, settings, seed=derive_seed(config.seed, 0, "split"))
    references = reference_energies(settings.energy_reference, parts.train, config.elements)
    reduced = {
        "training": without_reference(parts.train, references),
        "validation": without_reference(parts.validation, references),
        "test": without_reference(parts.test, references),
    }
    model = config.potential.build(config.elements)
    constraints = [
        constraint.build(config.elements, model.cutoff_ang, reference_energies_ev=references)
        for constraint in config.constraints
    ]
    with ExitStack() as stack:
        workers = None if config.workers is None else stack.enter_context(closing(ShardWorkers(config.workers)))
        result = train_in_stages(
            model,
            reduced["training"],
            reduced["validation"],
            constraints,
            config.training,
            warm_up_epochs=config.warm_up_epochs,
            warm_up_frames=config.warm_up_frames,
            seed=derive_seed(config.seed, 0, "training"),
            report=report,
            checkpoint_path=checkpoint_path,
            workers=workers,
        )
    errors = {name: evaluate_errors(result.model, frames) for name, frames in reduced.items() if frames}
    figures = {constraint.name: dict(constraint.figures(result.model)) for constraint in constraints}
    spec = PotentialSpec(
        kind=config.potential.kind,
        elements=config.elements,
        cutoff_ang=model.cutoff_ang,
        n_train=len(parts.train),
        reference_energies_ev=references,
        facts=_facts(config, settings, data, parts.train, errors, figures, result),
        core_ang=core_of(config.potential, [frame.atoms for frame in parts.train], config.elements),
    )
    return PotentialFit(TorchPotential(spec, result.model), errors, figures, data.report, result)


def _data_settings(config: PotentialFitConfig, data_files: Sequence[Path]) -> DataSettings:
    if data_files:
        files = tuple(FrameFileSettings(path=str(file.resolve())) for file in data_files)
        settings = config.data or DataSettings(files=files, test_fraction=0.1)
        return settings.model_copy(update={"files": files})
    if config.data is None:
        raise ConfigError("the configuration names no data; add `data: {files: [FILE]}`, or give --data FILE")
    return config.data


def _facts(
    config: PotentialFitConfig,
    settings: DataSettings,
    data: FrameSet,
    train_frames: Sequence[Frame],
    errors: Mapping[str, ErrorTable],
    figures: Mapping[str, Mapping[str, tuple[float, float]]],
    result: TrainingResult,
) -> dict[str, Any]:
    """What the potential's card says about where it comes from."""
    return {
        "data": {
            "files": [asdict(file) for file in data.files],
            "energy_reference": settings.energy_reference,
            "warnings": [str(finding) for finding in data.report.warnings],
        },
        "valid_range": valid_range([frame.atoms for frame in train_frames], config.elements),
        "errors": {part: _rows(table) for part, table in errors.items()},
        "constraints": {name: {k: list(pair) for k, pair in values.items()} for name, values in figures.items()},
        "training": {
            "settings": config.training.model_dump(mode="json"),
            "n_steps": result.n_steps,
            "stop_reason": result.stop_reason,
            "wall_s": result.wall_s,
            "cpu_s": result.cpu_s,
            "history": [_plain(row) for row in result.history],
        },
        "seed": config.seed,
        "python": platform.python_version(),
    }


def valid_range(structures: Sequence[Atoms], elements: Sequence[str]) -> dict[str, Any]:
    """What structures span, and so where a potential that learnt from them may be trusted.

    Returns:
        Smallest and largest volume per atom (Å^3), atomic fractions by element, shortest distance (Å), number of atoms.
    """
    volumes = [atoms.get_volume() / len(atoms) for atoms in structures]
    fractions = np.array([[np.mean(atoms.symbols == symbol) for symbol in elements] for atoms in structures])
    shortest = min(_shortest(atoms, elements) for atoms in structures)
    return {
        "volume_ang3_per_atom": [float(min(volumes)), float(max(volumes))],
        "fractions": {
            symbol: [float(column.min()), float(column.max())]
            for symbol, column in zip(elements, fractions.T, strict=True)
        },
        "shortest_distance_ang": shortest,
        "n_structures": len(structures),
        "n_atoms": sum(len(atoms) for atoms in structures),
    }


def _shortest(atoms: Atoms, elements: Sequence[str], reach_ang: float = 3.5) -> float:
    vectors = build_graph(atoms, elements, reach_ang).vectors
    return float(np.sqrt((vectors**2).sum(axis=1).min())) if len(vectors) else reach_ang


def _rows(table: ErrorTable) -> dict[str, dict[str, float]]:
    rows = {"all": table.overall, **table.groups}
    return {name: {**row.metrics(), "n_frames": float(row.n_frames)} for name, row in rows.items()}


def _plain(metrics: Metrics) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if np.isfinite(value)}
