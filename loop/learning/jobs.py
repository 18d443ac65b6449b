"""The long work of a learning as jobs of the executors: trainings of members, trials of settings, runs of exploration.

What a job gives is a function of its request alone, on one thread, so that it is the same on every executor. Requests
carry all that is needed: workers of a cluster need not share a disk with the driver.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...errors import ConfigError
from ...generators.md_exploration import EndedRun, PlannedRun, Visit, explore
from ...oracles.single_point import SinglePointSettings
from ...surrogates.base import Metrics, SurrogateState
from ...surrogates.potentials.base import PotentialSpec
from ...surrogates.potentials.committee import Committee
from ...surrogates.potentials.error_table import evaluate_errors
from ...surrogates.potentials.frame import Frame
from ...surrogates.potentials.native import force_field_of
from ...surrogates.potentials.settings import core_of, potential_from_state
from ...surrogates.potentials.staged_training import train_in_stages, warm_up_checkpoint
from ...surrogates.potentials.torch_potential import TorchPotential
from ...surrogates.potentials.training import TrainingResult
from ...surrogates.threads import one_thread
from ..execution.base import Runner, Tell
from .config import LearningConfig

DEVIATION = "force_deviation_ev_ang"
"""In the info of visited structures: the committee's maximum force deviation."""


@dataclass(frozen=True)
class MemberTraining:
    """A member of a committee that is to be trained.

    Attributes:
        frames: what it learns from, without the reference energies.
        references: energy per atom by element, eV, that was taken from the labels.
        before: weights to start from, of the same member a round before.
        checkpoint_path: where its state is kept, if the worker sees that folder.
    """

    config: LearningConfig
    frames: tuple[Frame, ...]
    references: Mapping[str, float]
    seed: int
    before: SurrogateState | None
    checkpoint_path: Path


@dataclass(frozen=True)
class ExplorationRun:
    """A run of exploration, whose visits a committee is to judge.

    Attributes:
        teacher: the oracle whose dynamics it is; that of the committee's first member where ``None``.
    """

    run: PlannedRun
    committee: SurrogateState
    teacher: SinglePointSettings | None


@dataclass(frozen=True)
class SettingsTrial:
    """Settings that are to be tried.

    Attributes:
        config: with these settings.
        frames: what is learnt from, without the reference energies.
        validation: what the settings are judged by, likewise.
        references: as of :class:`MemberTraining`.
        metric: name of the error on ``validation`` that is wanted.
        checkpoint_path: as of :class:`MemberTraining`.
    """

    config: LearningConfig
    frames: tuple[Frame, ...]
    validation: tuple[Frame, ...]
    references: Mapping[str, float]
    metric: str
    seed: int
    checkpoint_path: Path


Job = MemberTraining | SettingsTrial | ExplorationRun


class LearningRunner(Runner):
    """Does any of them; ``None`` comes of what was asked to end early."""

    def run(self, request: Job, tell: Tell) -> SurrogateState | float | EndedRun | None:
        """Do a job.

        Raises:
            SurrogateError: a training diverges, or frames cannot be used.
            ConfigError: a constraint that cannot be used, or a teacher that runs no dynamics.
            OracleError: ``unavailable``: LAMMPS cannot be used.
        """
        with one_thread():
            if isinstance(request, MemberTraining):
                return train_member(request, tell)
            if isinstance(request, SettingsTrial):
                return error_of_settings(request, tell)
            return explore_and_judge(request, tell)


def train_member(request: MemberTraining, tell: Tell) -> SurrogateState | None:
    """Train a member of a committee; ``None`` where it was asked to end."""
    config = request.config
    result = _train(request, request.before, tell)
    if result is None:
        return None
    figures = result.best_metrics
    errors = {
        "energy_mae_mev": figures["validation_energy_mae_mev"],
        "force_mae_ev_ang": figures["validation_force_mae"],
        "force_rmse_ev_ang": figures["validation_force_rmse"],
    }
    facts = {"n_steps": result.n_steps, "stop_reason": result.stop_reason, "training_errors": errors}
    spec = PotentialSpec(
        config.potential.kind,
        config.system.elements,
        result.model.cutoff_ang,
        len(request.frames),
        dict(request.references),
        facts,
        core_of(config.potential, [frame.atoms for frame in request.frames], config.system.elements),
    )
    return TorchPotential(spec, result.model).state()


def error_of_settings(request: SettingsTrial, tell: Tell) -> float | None:
    """Train as a member is trained, and judge by what was not learnt; ``None`` where it was asked to end."""
    result = _train(request, None, tell)
    if result is None:
        return None
    figures = evaluate_errors(result.model, request.validation).overall.metrics("validation_")
    return float(figures.get(request.metric, math.nan))


def _train(request: MemberTraining | SettingsTrial, before: SurrogateState | None, tell: Tell) -> TrainingResult | None:
    config = request.config
    elements = config.system.elements
    model = config.potential.build(elements)
    constraints = [
        settings.build(elements, config.potential.cutoff_ang, reference_energies_ev=request.references)
        for settings in config.constraints
    ]
    if before is not None:
        earlier = potential_from_state(before)
        if isinstance(earlier, TorchPotential):
            model.load_state_dict(earlier.model.state_dict())
    was_ended = False

    def report(step: int, metrics: Metrics) -> bool:
        nonlocal was_ended
        share = min(1.0, metrics["epoch"] / config.training.max_epochs)
        was_ended = was_ended or not tell(step, {"share": share, "score": metrics["score"]})
        return not was_ended

    sees_folder = request.checkpoint_path.parent.is_dir()
    result = train_in_stages(
        model,
        request.frames,
        (),
        constraints,
        config.training,
        warm_up_epochs=config.warm_up_epochs if before is None else 0,
        seed=request.seed,
        report=report,
        checkpoint_path=request.checkpoint_path if sees_folder else None,
    )
    return None if was_ended else result


def checkpoints_of(path: Path) -> tuple[Path, Path]:
    """The files that a training with this ``checkpoint_path`` may leave."""
    return path, warm_up_checkpoint(path)


def explore_and_judge(request: ExplorationRun, tell: Tell) -> EndedRun | None:
    """Do a run, and note the committee's deviation on what it visits; ``None`` where it was asked to end."""
    committee = potential_from_state(request.committee)
    if not isinstance(committee, Committee):
        raise ConfigError(f"exploration needs a committee, got a potential of kind {request.committee.kind!r}")
    driver = committee.members[0] if request.teacher is None else request.teacher.potential.load()
    with force_field_of(driver) as force_field:
        ended = explore(force_field, request.run, lambda step: tell(step, {}))
    if ended is None:
        return None
    _, apart = committee.evaluate_with_disagreement([visit.atoms for visit in ended.visits])
    judged = [
        Visit(visit.atoms, {**visit.facts, DEVIATION: float(deviation)})
        for visit, deviation in zip(ended.visits, np.asarray(apart.force_ev_ang), strict=True)
    ]
    return replace(ended, visits=judged)
