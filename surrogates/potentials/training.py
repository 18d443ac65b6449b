"""Training of potentials: one entry for every model, optimizer and loss.

The weights that a training ends with are a function of the model, the frames, the constraints, the settings and the
seed; time decides only when it is cut short. A checkpoint holds all that changes, so a training that was killed and
resumed ends with the same bits (on the CPU).
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..base import Metrics, Report, SurrogateError
from ..threads import threads
from .batches import Batches, LabelledFrames
from .checkpoint import read_checkpoint, write_checkpoint
from .constraint import Constraint
from .constraints.base import RefreshedConstraint
from .ema import MovingAverage
from .error_table import ErrorTally, judged_sums
from .frame import Frame
from .frame_sums import FrameWorkers, Parts, SpreadFrames, SpreadParts, each
from .freed_memory import keep_freed_memory
from .gauss_newton import GaussNewton
from .least_squares import LeastSquares
from .model import PotentialModel
from .objective import Objective, Value
from .optimizer_settings import AdamSettings, LbfgsSettings, LeastSquaresSettings
from .optimizers import Adam, Lbfgs, Optimizer, Step
from .schedules import PlateauScheduleSettings
from .shard import spread
from .training_inputs import hashes_of_inputs
from .training_settings import TrainingSettings
from .training_state import Clock, Snapshot, TrainingState, remembered_by

StopReason = Literal["converged", "no_improvement", "max_epochs", "max_steps", "max_wall_s", "max_cpu_s", "stopped"]
"""Why a training ended; ``stopped`` is by its report's answer."""

_FINAL: tuple[StopReason, ...] = (
    "converged",
    "no_improvement",
    "max_epochs",
    "max_steps",
)  # resuming would change nothing
_MEMORY = 0.9  # share of the past in the recent mean of the loss


@dataclass(frozen=True)
class TrainingResult:
    """What came of a training.

    Attributes:
        model: the model that was given, with the weights of the best validation.
        history: metrics of each validation, the first before the first step.
        best_metrics: those of the best validation.
        n_steps: steps made.
        n_epochs: passes over the frames, the last one perhaps not complete.
        n_rollbacks: divergences that were caught.
        wall_s, cpu_s: time taken, with that before a resume.
        stop_reason: see :data:`StopReason`.
    """

    model: PotentialModel
    history: tuple[Metrics, ...]
    best_metrics: Metrics
    n_steps: int
    n_epochs: int
    n_rollbacks: int
    wall_s: float
    cpu_s: float
    stop_reason: StopReason


def train(
    model: PotentialModel,
    train: Sequence[Frame],
    validation: Sequence[Frame] = (),
    constraints: Sequence[Constraint] = (),
    settings: TrainingSettings | None = None,
    *,
    seed: int,
    report: Report | None = None,
    checkpoint_path: Path | None = None,
    workers: FrameWorkers | None = None,
) -> TrainingResult:
    """Train a model in place; the process keeps the memory that it frees.

    Args:
        model: its parameters that require gradients are trained.
        train: labelled frames, from which reference energies have been taken.
        validation: frames that choose the best weights and end the training; the training frames where there are none.
        constraints: terms of the loss that look at the model alone.
        settings: the defaults if ``None``.
        seed: of the order of frames and of the model's own random numbers.
        report: called with (step, metrics) after each validation, of the weights that the training goes on with: after
            a divergence the last good ones; ``False`` ends the training, unless that is at its end.
        checkpoint_path: where the training's state is kept; an existing one is continued.
        workers: hold the frames and compute the sums over them; this process alone if ``None``. The weights depend on
            their number in rounding.

    Raises:
        SurrogateError: unusable frames, a model that gives NaN from the start or diverges in spite of all rollbacks,
            or a checkpoint that is damaged or of other inputs.
        ConfigError: the device is not there.
        AlloysmithError: workers cannot be started, or die again and again.
    """
    settings = settings or TrainingSettings()
    parameter = next(iter(model.parameters()), None)
    if parameter is None:
        raise SurrogateError("the model has no parameters to train")
    device_before, dtype_before = parameter.device, parameter.dtype
    device, dtype = settings.torch_device(), settings.torch_dtype()
    keep_freed_memory()
    with _surroundings(settings.n_threads, seed):
        model.prepare(train, seed=seed)
        inputs = hashes_of_inputs(model, train, validation, settings, seed)
        model.to(device=device, dtype=dtype)
        try:
            run = _Run(model, train, validation, constraints, settings, seed=seed, report=report, workers=workers)
            return run.to_end(checkpoint_path, inputs)
        finally:
            model.to(device=device_before, dtype=dtype_before)


class _Run:
    """One training; :attr:`state` is all that changes."""

    def __init__(
        self,
        model: PotentialModel,
        train: Sequence[Frame],
        validation: Sequence[Frame],
        constraints: Sequence[Constraint],
        settings: TrainingSettings,
        *,
        seed: int,
        report: Report | None,
        workers: FrameWorkers | None,
    ) -> None:
        self.model, self.settings, self.seed, self.report = model, settings, seed, report
        self.objective = Objective(model, constraints, settings.loss)
        for constraint in constraints:
            if isinstance(constraint, RefreshedConstraint):
                constraint.reset()
        self.choice = settings.chosen_optimizer(self.objective.n_parameters)
        self.limits = settings.loss.prefactors(0.0)
        self.data = self._frames(train, settings.loss.group_weights)
        groups = {frame.group for frame in validation}
        known = {group: weight for group, weight in settings.loss.group_weights.items() if group in groups}
        self.judge = self._frames(validation, known) if validation else self.data
        # the frames of each step, in parts that are computed at once
        order = np.arange(len(self.data))
        if isinstance(self.choice, AdamSettings):
            order = np.random.default_rng([seed, 0]).permutation(order)
        self.steps = self._steps(order)
        self.batches = Batches(self.data, [part for step in self.steps for part in step], max_bytes=self._cache_bytes)
        self.kept: Parts = self.batches
        self.judge_parts: Batches | SpreadParts
        self.workers = workers
        self.spread: SpreadFrames | None = None
        every = range(len(self.judge))
        if workers is None:
            self.judge_parts = self.judge.parts(every, None, settings.max_pairs, max_bytes=self._cache_bytes)
        else:
            steps = [np.concatenate(step) for step in self.steps]
            self.spread, of_judge = spread(model, self.data, steps, self.judge, settings, workers)
            is_kept = self.choice.is_full_batch
            self.kept = self.spread.parts(np.concatenate(steps), None, settings.max_pairs, is_kept=is_kept)
            self.judge_parts = of_judge.parts(every, None, settings.max_pairs, is_kept=True)
        by_epochs = settings.max_epochs * len(self.steps)
        self.n_steps = by_epochs if settings.max_steps is None else min(by_epochs, settings.max_steps)
        self.end: StopReason = "max_epochs" if self.n_steps == by_epochs else "max_steps"
        self.validate_every = settings.validate_every or len(self.steps)
        self.optimizer = self._optimizer()
        self.clock = Clock(0.0, 0.0, workers)
        start = self.objective.parameters()
        average = None if settings.ema_decay is None else MovingAverage(start, settings.ema_decay)
        snapshot = Snapshot(start, self.optimizer.state(), average)
        self.average = average
        self.state = TrainingState(now=snapshot, good=snapshot, best=start, random_state=torch.get_rng_state())

    def to_end(self, checkpoint_path: Path | None, inputs: Mapping[str, str]) -> TrainingResult:
        """Train until something ends it."""
        reason: StopReason | None = None
        if checkpoint_path is not None and checkpoint_path.exists():
            reason = self._resume(checkpoint_path, inputs)
        if not self.state.history:
            reason = self._begin()
        written = time.monotonic()
        while reason is None:
            reason = self._advance()
            if checkpoint_path is None:
                continue
            if reason is not None or time.monotonic() - written >= self.settings.checkpoint_every_s:
                self._write(checkpoint_path, inputs, reason)
                written = time.monotonic()
        if reason in ("max_wall_s", "max_cpu_s") and self.state.n_losses:
            self._validate(0.0, None)  # after the checkpoint, which must not know of it
        return self._result(reason)

    def _begin(self) -> StopReason | None:
        """Judge the model as it was given; every frame of the training must give a number."""
        if self.judge is not self.data:
            value = self.objective.value(self.kept, self.limits, with_constraints=False)
            if not value.is_finite:
                raise self._unusable_start(value.loss)
        return self._validate(0.0, None)

    def _unusable_start(self, loss: float) -> SurrogateError:
        return SurrogateError(
            f"the untrained model gives a loss of {loss}{self._guilty_frames()}; "
            "check these frames for overlapping atoms, and the model's first parameters"
        )

    def _advance(self) -> StopReason | None:
        state = self.state
        factor = self._rate_factor()
        prefactors = self.limits if self.choice.is_full_batch else self.settings.loss.prefactors(factor)
        step = self.optimizer.step(self._parts(), factor, prefactors)
        state.step += 1
        known = step.value if self.choice.is_full_batch else None
        if self._has_diverged(step):
            known = None
            self._roll_back(f"a loss of {step.value.loss:.4g} at step {state.step}")
        else:
            self._accept(step)
        reason: StopReason | None = None
        end = "converged" if step.outcome == "converged" else self.end if state.step >= self.n_steps else None
        if end is not None or state.step % self.validate_every == 0:
            reason = self._validate(factor, known)
        if end is not None and reason in (None, "stopped"):  # an answer that comes at the end stops nothing
            reason = end
        return reason or self._time_limit()

    def _parts(self) -> Parts:
        """The frames of the next step."""
        if not isinstance(self.choice, AdamSettings):
            return self.kept
        epoch, k = divmod(self.state.step, len(self.steps))
        rng = np.random.default_rng([self.seed, 1 + epoch])
        is_kept = self.choice.reshuffle == "batches"
        chosen = int(rng.permutation(len(self.steps))[k]) if is_kept else k
        groups = self.steps[chosen] if is_kept else self._steps(rng.permutation(len(self.data)))[k]
        if self.spread is not None:
            return self.spread.parts(np.concatenate(groups), None, self.settings.max_pairs, is_kept=is_kept)
        if not is_kept:
            return [self.data.batch(group) for group in groups]
        first = sum(len(groups) for groups in self.steps[:chosen])
        return [self.batches[first + i] for i in range(len(self.steps[chosen]))]

    def _has_diverged(self, step: Step) -> bool:
        limit = self.settings.explosion_factor * self.state.recent_loss
        return step.outcome == "rejected" or (not self.choice.is_full_batch and step.value.loss > limit)

    def _accept(self, step: Step) -> None:
        state, loss = self.state, step.value.loss
        state.recent_loss = (
            loss if math.isnan(state.recent_loss) else _MEMORY * state.recent_loss + (1 - _MEMORY) * loss
        )
        state.loss_sum += loss
        state.n_losses += 1
        if self.average is not None:
            self.average = self.average.after(self.objective.parameters())

    def _roll_back(self, what: str) -> None:
        """Return to the last good weights, to go on more carefully."""
        state = self.state
        state.n_rollbacks += 1
        state.n_rollbacks_in_a_row += 1
        self.objective.assign(state.good.parameters)
        if state.n_rollbacks_in_a_row > self.settings.max_rollbacks:
            raise SurrogateError(
                f"the training diverges: {what}, after {self.settings.max_rollbacks} returns to the last good weights "
                f"with smaller steps{self._guilty_frames()}; lower the learning rate, or look at the frames with the "
                "largest errors"
            )
        self.optimizer.restore(state.good.memory)
        self.optimizer.soften()
        self.average = state.good.average
        state.rate_scale *= 0.5
        state.recent_loss = math.nan

    def _validate(self, factor: float, value: Value | None) -> StopReason | None:
        """Judge the weights (their average, if there is one), keep the best, tell the report.

        Args:
            factor: of the learning rate.
            value: loss of the present weights on the training frames, where it is known.
        """
        state, weights = self.state, self.objective.parameters()
        if self.average is not None:
            self.objective.assign(self.average.weights)
        judged = self.objective.parameters()
        judgement, tally = self._judged(with_constraints=value is None)
        self.objective.assign(weights)
        terms = judgement.constraints if value is None else value.constraints
        score = judgement.data + sum(terms.values())
        if not state.history and not math.isfinite(score):
            raise self._unusable_start(score)
        if not score <= self.settings.explosion_factor * state.best_score:
            self._roll_back(f"a score of {score:.4g} at step {state.step}")
            return self._told({**state.history[-1], **self._place(factor)})
        names = [self.judge.frames[k].group for k in self.judge_parts.order]
        row = tally.table(names).overall.metrics("validation_")
        row |= {f"constraint/{name}": loss for name, loss in terms.items()}
        row |= {"score": score, **self._place(factor)}
        if state.n_losses:
            row["loss"] = state.loss_sum / state.n_losses
        state.history.append(row)
        if state.n_losses:
            state.loss_sum, state.n_losses, state.n_rollbacks_in_a_row = 0.0, 0, 0
        state.good = Snapshot(weights, self.optimizer.state(), self.average)
        return self._judge(score, judged, row)

    def _judged(self, *, with_constraints: bool) -> tuple[Value, ErrorTally]:
        """The loss of the present weights on the frames that judge, and all errors there."""
        tally, totals = ErrorTally(), None
        for *sums, rows in each(judged_sums, self.objective, self.judge_parts):
            tally.add_rows(rows.cpu().numpy())
            totals = sums if totals is None else [a + b for a, b in zip(totals, sums, strict=True)]
        return self.objective.value_of(tuple(totals or ()), self.limits, with_constraints=with_constraints), tally

    def _judge(self, score: float, judged: Tensor, row: Metrics) -> StopReason | None:
        state, settings = self.state, self.settings
        if score < state.best_score:
            state.best_score, state.best, state.best_row = score, judged, len(state.history) - 1
        if isinstance(settings.schedule, PlateauScheduleSettings):
            state.plateau = state.plateau.after(score, settings.schedule)
        if score < state.reference_score - settings.min_improvement * abs(state.reference_score):
            state.reference_score, state.n_waiting = score, 0
        elif math.isinf(state.reference_score):
            state.reference_score = score
        else:
            state.n_waiting += 1
        reason = self._told(row)
        if reason is None and settings.patience is not None and state.n_waiting >= settings.patience:
            return "no_improvement"
        return reason

    def _place(self, factor: float) -> dict[str, float]:
        """Where a validation stands in the training."""
        state = self.state
        state.wall_s, state.cpu_s = self.clock.times()
        found = {"step": float(state.step), "epoch": state.step / len(self.steps), "rate_factor": factor}
        return {**found, "n_rollbacks": float(state.n_rollbacks), "wall_s": state.wall_s, "cpu_s": state.cpu_s}

    def _told(self, row: Metrics) -> StopReason | None:
        return None if self.report is None or self.report(self.state.step, row) else "stopped"

    def _rate_factor(self) -> float:
        factor = self.settings.schedule.factor(self.state.step, self.n_steps)
        return factor * self.state.plateau.factor * self.state.rate_scale

    def _time_limit(self) -> StopReason | None:
        wall_s, cpu_s = self.clock.times()
        if self.settings.max_wall_s is not None and wall_s >= self.settings.max_wall_s:
            return "max_wall_s"
        if self.settings.max_cpu_s is not None and cpu_s >= self.settings.max_cpu_s:
            return "max_cpu_s"
        return None

    def _write(self, path: Path, inputs: Mapping[str, str], reason: StopReason | None) -> None:
        state = self.state
        state.now = Snapshot(self.objective.parameters(), self.optimizer.state(), self.average)
        state.random_state = torch.get_rng_state()
        state.wall_s, state.cpu_s = self.clock.times()
        state.stop_reason = reason or ""
        remembered = {c.name: c.state() for c in self.objective.constraints if isinstance(c, RefreshedConstraint)}
        write_checkpoint(state.to_checkpoint(inputs, self.model, remembered), path)

    def _resume(self, path: Path, inputs: Mapping[str, str]) -> StopReason | None:
        at_start = {c.name: float(c.loss(self.model).detach()) for c in self.objective.constraints}
        checkpoint = read_checkpoint(path, inputs)
        self.state = state = TrainingState.from_checkpoint(checkpoint, self.objective.parameters().device)
        for name, loss in at_start.items():
            before = state.history[0].get(f"constraint/{name}", math.nan)
            if not math.isclose(loss, before, rel_tol=1e-6, abs_tol=1e-12):
                raise SurrogateError(
                    f"the checkpoint {path} is of a training with another constraint {name}: its loss was {before:.6g} "
                    f"before the first step and is {loss:.6g} here; give it as it was, or delete the checkpoint"
                )
        self.clock = Clock(state.wall_s, state.cpu_s, self.workers)
        self.objective.assign(state.now.parameters)
        self.optimizer.restore(state.now.memory)
        self.average = state.now.average
        torch.set_rng_state(state.random_state)
        for constraint in self.objective.constraints:
            if isinstance(constraint, RefreshedConstraint):
                constraint.restore(remembered_by(constraint.name, checkpoint))
        for reason in _FINAL:
            if state.stop_reason == reason:
                return reason
        state.stop_reason = ""
        return None

    def _result(self, reason: StopReason) -> TrainingResult:
        state = self.state
        self.objective.assign(state.best)
        wall_s, cpu_s = self.clock.times()
        return TrainingResult(
            model=self.model,
            history=tuple(state.history),
            best_metrics=state.history[state.best_row],
            n_steps=state.step,
            n_epochs=math.ceil(state.step / len(self.steps)),
            n_rollbacks=state.n_rollbacks,
            wall_s=wall_s,
            cpu_s=cpu_s,
            stop_reason=reason,
        )

    def _frames(self, frames: Sequence[Frame], weights: Mapping[str, float]) -> LabelledFrames:
        return LabelledFrames(
            frames,
            self.model.elements,
            self.model.cutoff_ang,
            group_weights=weights,
            dtype=self.settings.torch_dtype(),
            device=self.settings.torch_device(),
        )

    def _steps(self, order: np.ndarray) -> list[list[np.ndarray]]:
        """The parts of each step of an epoch in which frames come in this order."""
        n_frames = self.choice.batch_frames if isinstance(self.choice, AdamSettings) else None
        whole = self.data.partition(order, n_frames, sys.maxsize)
        return [self.data.partition(part, None, self.settings.max_pairs) for part in whole]

    @property
    def _cache_bytes(self) -> int:
        return self.settings.max_cache_mib * 2**20

    def _optimizer(self) -> Optimizer:
        if isinstance(self.choice, AdamSettings):
            return Adam(self.objective, self.choice)
        if isinstance(self.choice, LbfgsSettings):
            return Lbfgs(self.objective, self.choice)
        frames = self.spread or self.data
        if isinstance(self.choice, LeastSquaresSettings):
            return LeastSquares(self.objective, self.choice, frames, max_pairs=self.settings.max_pairs)
        return GaussNewton(
            self.objective,
            self.choice,
            frames,
            seed=self.seed,
            max_pairs=self.settings.max_pairs,
            max_bytes=self.settings.max_work_mib * 2**20,
        )

    def _guilty_frames(self) -> str:
        """The first frames for which the present weights give no number, as a part of a message."""
        guilty: list[str] = []
        for data in (self.data, self.judge):
            for k, frame in enumerate(data.frames):
                if (
                    len(guilty) < 5
                    and not self.objective.value([data.batch([k])], (1.0, 1.0, 1.0), with_constraints=False).is_finite
                ):
                    guilty.append(frame.source or f"frame {k} ({frame.atoms.get_chemical_formula()})")
        return f" (for {', '.join(dict.fromkeys(guilty))})" if guilty else ""


@contextmanager
def _surroundings(n_threads: int, seed: int) -> Iterator[None]:
    """Number of threads and random numbers of the training; both are as before afterwards."""
    with threads(n_threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
