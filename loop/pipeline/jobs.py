"""The long work of a pipeline as jobs of the executors: trainings of models, and drawing structures from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from ...generators.pcdvae.fitted import FittedPcdvae
from ...generators.pcdvae.generation import DrawingSettings, drawn
from ...surrogates.base import Metrics, SurrogateState
from ...surrogates.threads import one_thread
from ..execution.base import Runner, Tell
from ..pcdvae_fitting import PcdvaeFitConfig, fit_pcdvae


@dataclass(frozen=True)
class ModelTraining:
    """A model that is to be trained.

    Attributes:
        rows: what it learns from.
        held_out: what judges the training.
        checkpoint_path: where its state is kept, if the worker sees that folder.
    """

    config: PcdvaeFitConfig
    rows: tuple[Atoms, ...]
    held_out: tuple[Atoms, ...]
    checkpoint_path: Path


@dataclass(frozen=True)
class TrainedModel:
    """What a training gave.

    Attributes:
        facts: JSON-able: sizes of the data, errors of the heads, losses by epoch.
    """

    state: SurrogateState
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Drawing:
    """Structures that are to be drawn from latent vectors ``[n, n_latent]``."""

    model: SurrogateState
    latents: np.ndarray
    settings: DrawingSettings
    seed: int


class PipelineRunner(Runner):
    """Does either; ``None`` comes of a training that was asked to end early."""

    def run(self, request: ModelTraining | Drawing, tell: Tell) -> TrainedModel | list[Atoms] | None:
        """Do a job.

        Raises:
            StructureError: structures that cannot be learnt from.
            SurrogateError: a training that diverges for good, or a checkpoint of other inputs.
        """
        with one_thread():
            return _train(request, tell) if isinstance(request, ModelTraining) else _draw(request, tell)


def _train(request: ModelTraining, tell: Tell) -> TrainedModel | None:
    was_ended = False
    n_epochs = request.config.training.max_epochs

    def report(epoch: int, metrics: Metrics) -> bool:
        nonlocal was_ended
        was_ended = was_ended or not tell(epoch, {"share": epoch / n_epochs})
        return not was_ended

    sees_folder = request.checkpoint_path.parent.is_dir()
    fit = fit_pcdvae(
        request.config,
        request.rows,
        held_out=request.held_out,
        checkpoint_path=request.checkpoint_path if sees_folder else None,
        report=report,
    )
    result = fit.training
    if was_ended and result.stop_reason == "asked":
        return None
    facts = {
        "errors": {part: asdict(errors) for part, errors in fit.errors.items()},
        "history": [dict(row) for row in result.history],
        "best_epoch": result.best_epoch,
        "n_steps": result.n_steps,
        "n_rollbacks": result.n_rollbacks,
        "cpu_s": result.cpu_s,
        "stop_reason": result.stop_reason,
    }
    return TrainedModel(fit.fitted.state(), facts)


def _draw(request: Drawing, tell: Tell) -> list[Atoms]:
    fitted = FittedPcdvae.from_state(request.model)
    n = len(request.latents)

    def progress(done: int) -> None:
        tell(done, {"share": done / n})

    return drawn(fitted, request.latents, request.settings, seed=request.seed, progress=progress)
