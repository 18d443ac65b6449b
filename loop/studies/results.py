"""What a study found: its best trials, as configurations that `alloysmith fit` takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from ...agents.optuna_study import TrialRecord
from ...structures.whole_file import write_whole
from ..errors import RunDirectoryError
from ..fit_changes import fit_config
from .config import StudyConfig

BEST_NAME = "best.yaml"
FRONT_FOLDER = "pareto"


def best_trials(config: StudyConfig, trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The finished trials that no other one beats in every objective, the best in the first objective first.

    With one objective this is the best trial, the earliest of equals.
    """
    finished = [trial for trial in trials if trial.condition == "finished"]
    if not finished:
        return []
    costs = _costs(config, finished)
    no_worse = (costs[:, None, :] <= costs[None, :, :]).all(axis=2)
    better = (costs[:, None, :] < costs[None, :, :]).any(axis=2)
    is_beaten = (no_worse & better).any(axis=0)
    front = sorted(np.flatnonzero(~is_beaten).tolist(), key=lambda k: tuple(costs[k]))
    chosen = [finished[k] for k in front]
    return chosen[:1] if len(config.objectives) == 1 else chosen


def compromise(config: StudyConfig, front: Sequence[TrialRecord]) -> TrialRecord:
    """Of a Pareto front, the trial nearest to the best of all objectives, each scaled to its range on the front.

    Objectives that are positive throughout are compared by their logarithms, since they often span decades.
    """
    costs = _costs(config, front)
    for k in range(costs.shape[1]):
        if (costs[:, k] > 0.0).all():
            costs[:, k] = np.log(costs[:, k])
    span = np.ptp(costs, axis=0)
    scaled = (costs - costs.min(axis=0)) / np.where(span > 0.0, span, 1.0)
    return front[int(np.argmin((scaled**2).sum(axis=1)))]


def write_best(config: StudyConfig, trials: Sequence[TrialRecord], folder: Path) -> None:
    """Write ``best.yaml``, and with several objectives a file for each trial of the front in ``pareto/``.

    Raises:
        RunDirectoryError: the folder cannot be written.
    """
    front = best_trials(config, trials)
    if not front:
        return
    try:
        write_whole(folder / BEST_NAME, fit_text(config, compromise(config, front), BEST_NAME).encode())
        if len(config.objectives) > 1:
            _write_front(config, front, folder / FRONT_FOLDER)
    except OSError as error:
        raise RunDirectoryError(f"{folder} cannot be written: {error.strerror}; make room, then resume") from error


def _write_front(config: StudyConfig, front: Sequence[TrialRecord], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    names = {f"trial-{trial.number:04d}.yaml": trial for trial in front}
    for old in folder.glob("trial-*.yaml"):
        if old.name not in names:
            old.unlink()
    for name, trial in names.items():
        if not (folder / name).exists():
            write_whole(folder / name, fit_text(config, trial, name).encode())


def fit_text(config: StudyConfig, trial: TrialRecord, name: str) -> str:
    """The configuration of a trial's fit, as a file of that name holds it."""
    figures = ", ".join(
        f"{objective.metric} {value:.6g}" for objective, value in zip(config.objectives, trial.values, strict=True)
    )
    fit = fit_config(config.fit, trial.parameters).model_dump(mode="json", exclude_unset=True)
    head = f"# alloysmith fit {name} -o MODEL\n# Trial {trial.number} of the study {config.name!r}: {figures}\n"
    return head + yaml.safe_dump(fit, sort_keys=False, allow_unicode=True)


def _costs(config: StudyConfig, trials: Sequence[TrialRecord]) -> np.ndarray:
    """Values of the objectives, small ones good, ``[n_trials, n_objectives]``."""
    signs = np.array([1.0 if objective.direction == "minimize" else -1.0 for objective in config.objectives])
    return np.array([trial.values for trial in trials]) * signs
