"""Training of a P-CDVAE: epochs that can be repeated bit by bit, checkpoints, and a way back from divergence.

An epoch is a function of the state before it and of random numbers by position, so a killed training that goes on from
a checkpoint, which is written between epochs, ends as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils import parameters_to_vector

from ...errors import StructureError
from ...surrogates.base import Report, SurrogateError
from ...surrogates.potentials.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from ...surrogates.potentials.ema import MovingAverage
from ...surrogates.potentials.schedules import Plateau, PlateauScheduleSettings
from ...surrogates.threads import threads
from .crystals import Crystal, collate
from .layers import fitting_scales
from .losses import losses
from .model import Pcdvae
from .noise import draw_noise
from .training_settings import PcdvaeTrainingSettings

_MAX_GROWTH = 20.0  # of the held-out loss over its best; noise of training makes it grow by less than two
_N_FIRST = 32  # noisy structures on which scales are fitted


@dataclass
class _State:
    """All that changes between epochs, beside arrays."""

    epoch: int = 0
    step: int = 0
    best_score: float = math.inf
    best_epoch: int = 0
    rate_scale: float = 1.0
    n_rollbacks: int = 0
    n_rollbacks_in_a_row: int = 0
    cpu_s: float = 0.0
    plateau: Plateau = field(default_factory=Plateau)
    stop_reason: str = ""
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class TrainingResult:
    """How a training went.

    Attributes:
        history: losses of each epoch that was kept, on training and held-out structures.
        best_epoch: epoch whose weights the model has, from 1.
        n_steps: steps made.
        n_rollbacks: divergences that were undone.
        cpu_s: CPU time, earlier sessions included.
        stop_reason: ``all_epochs``, ``no_progress``, ``out_of_time`` or ``asked``.
    """

    history: Sequence[Mapping[str, float]]
    best_epoch: int
    n_steps: int
    n_rollbacks: int
    cpu_s: float
    stop_reason: str


def train(
    model: Pcdvae,
    crystals: Sequence[Crystal],
    held_out: Sequence[Crystal],
    settings: PcdvaeTrainingSettings,
    *,
    seed: int,
    is_warm: bool = False,
    checkpoint_path: Path | None = None,
    report: Report | None = None,
) -> TrainingResult:
    """Train a model in place; it ends with the averaged weights that are best on the held-out structures.

    Args:
        crystals: to learn from.
        held_out: to judge by; training structures, under other noise, where there are none.
        is_warm: the model was trained before, and keeps its weights, scales and units.
        checkpoint_path: where the state is kept; a training goes on from there if it has the same inputs.
        report: called with (epoch, losses) after each epoch; ``False`` ends the training.

    Raises:
        StructureError: structures that do not fit the model.
        SurrogateError: a training that diverges again and again, or a checkpoint of other inputs.
    """
    if len(crystals) < 2:
        raise StructureError(f"{len(crystals)} structures to learn from; at least two are needed")
    with threads(settings.n_threads):
        model.to(settings.torch_device())
        training = _Training(model, crystals, held_out or _judged(crystals, settings, seed), settings, seed)
        inputs = _hashes(model, crystals, held_out, settings, seed)
        if checkpoint_path is not None and checkpoint_path.exists():
            training.restore(read_checkpoint(checkpoint_path, inputs))
        else:
            training.begin(is_warm)
        state = training.state
        clock, written = time.process_time() - state.cpu_s, time.monotonic()
        while not state.stop_reason:
            metrics = training.epoch()
            state.cpu_s = time.process_time() - clock
            training.decide_to_stop()
            if report is not None and not report(state.epoch, metrics) and not state.stop_reason:
                state.stop_reason = "asked"
            is_due = bool(state.stop_reason) or time.monotonic() - written >= settings.checkpoint_every_s
            if checkpoint_path is not None and is_due:
                write_checkpoint(training.checkpoint(inputs), checkpoint_path)
                written = time.monotonic()
        _set_weights(model, training.best)
        model.to("cpu")
    return TrainingResult(
        tuple(state.history), state.best_epoch, state.step, state.n_rollbacks, state.cpu_s, state.stop_reason
    )


def _judged(crystals: Sequence[Crystal], settings: PcdvaeTrainingSettings, seed: int) -> Sequence[Crystal]:
    """The training structures themselves, or as many of them as there are in an epoch, so that judging costs no more
    than learning."""
    if settings.epoch_size is None or settings.epoch_size >= len(crystals):
        return crystals
    chosen = np.random.default_rng([seed, 4]).permutation(len(crystals))[: settings.epoch_size]
    return [crystals[k] for k in np.sort(chosen).tolist()]


def _set_weights(model: Pcdvae, weights: torch.Tensor) -> None:
    """Copy weights ``[n_parameters]`` to where the model's are.

    PyTorch's own function makes the parameters views of the vector. Matrix products then begin at other addresses, and
    the last bits of sums depend on that.
    """
    parameters = list(model.parameters())
    with torch.no_grad():
        for parameter, values in zip(parameters, weights.split([p.numel() for p in parameters]), strict=True):
            parameter.copy_(values.view_as(parameter))


class _Training:
    """A training between two epochs."""

    def __init__(
        self,
        model: Pcdvae,
        crystals: Sequence[Crystal],
        held_out: Sequence[Crystal],
        settings: PcdvaeTrainingSettings,
        seed: int,
    ) -> None:
        self.model, self.crystals, self.held_out, self.settings, self.seed = model, crystals, held_out, settings, seed
        self.device = model.lattice_mean.device
        self.state = _State()
        # foreach=False: one order of operations whatever the number of tensors, for the same bits after a restart
        self.optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate, foreach=False)
        self.average = MovingAverage(self._weights(), settings.average_decay)
        self.best = self.average.weights
        size = settings.epoch_size or len(crystals)
        self.n_steps = max(1, math.ceil(size / settings.batch_size))

    def begin(self, is_warm: bool) -> None:
        """Units and scales of the data, and what there is to beat."""
        if not is_warm:
            self.model.standardize(self.crystals)
            rng = np.random.default_rng([self.seed, 1])
            chosen = [self.crystals[k % len(self.crystals)] for k in range(_N_FIRST)]
            self.model.whiten(self.crystals, rng)
            with fitting_scales(self.model):
                self._losses(chosen, rng)
        self.average = MovingAverage(self._weights(), self.settings.average_decay)
        self.best = self.average.weights

    def epoch(self) -> dict[str, float]:
        """One pass over the structures, or a return to the state before it if it diverged; losses on the way."""
        state, before = self.state, self._snapshot()
        rng = np.random.default_rng([self.seed, 2, state.epoch, state.n_rollbacks])
        training = self._pass(rng)
        held_out = self._judge() if training is not None else {}
        score = held_out.get("loss", math.nan)
        if training is None or not math.isfinite(score) or score > _MAX_GROWTH * state.best_score:
            self._roll_back(before)
            return {"rollbacks": float(state.n_rollbacks), "rate_scale": state.rate_scale}
        state.epoch += 1
        state.n_rollbacks_in_a_row = 0
        if score < state.best_score:
            state.best_score, state.best_epoch, self.best = score, state.epoch, self.average.weights
        if isinstance(self.settings.schedule, PlateauScheduleSettings):
            state.plateau = state.plateau.after(score, self.settings.schedule)
        metrics = {f"training_{name}": value for name, value in training.items()}
        metrics |= {f"held_out_{name}": value for name, value in held_out.items()}
        metrics |= {"rate": self._rate(state.step), "rollbacks": float(state.n_rollbacks)}
        state.history.append({"epoch": float(state.epoch), **metrics})
        return metrics

    def decide_to_stop(self) -> None:
        """Set the reason to stop, if there is one."""
        s, state = self.settings, self.state
        waited = state.epoch - state.best_epoch
        if state.epoch >= s.max_epochs:
            state.stop_reason = "all_epochs"
        elif s.patience_epochs is not None and waited >= s.patience_epochs:
            state.stop_reason = "no_progress"
        elif s.max_cpu_s is not None and state.cpu_s >= s.max_cpu_s:
            state.stop_reason = "out_of_time"

    def _pass(self, rng: np.random.Generator) -> dict[str, float] | None:
        """Mean losses of an epoch; ``None`` if one of them, or a gradient, is not finite."""
        order = np.concatenate([rng.permutation(len(self.crystals)) for _ in range(self._n_rounds())])
        size = self.settings.batch_size
        is_mixed = self.settings.precision == "bfloat16"
        sums: dict[str, float] = {}
        for k in range(self.n_steps):
            for group in self.optimizer.param_groups:
                group["lr"] = self._rate(self.state.step)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=is_mixed):
                parts, total = self._losses([self.crystals[i] for i in order[k * size : (k + 1) * size]], rng)
            self.optimizer.zero_grad(set_to_none=True)
            total.backward()
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
            if not (torch.isfinite(total) and torch.isfinite(norm)):
                return None
            self.optimizer.step()
            self.state.step += 1
            self.average = self.average.after(self._weights())
            for name, value in {"loss": float(total.detach()), **parts}.items():
                sums[name] = sums.get(name, 0.0) + value
        return {name: value / self.n_steps for name, value in sums.items()}

    def _n_rounds(self) -> int:
        return math.ceil(self.n_steps * self.settings.batch_size / len(self.crystals))

    def _judge(self) -> dict[str, float]:
        """Losses of the averaged weights on the held-out structures, under the same noise in every epoch."""
        rng = np.random.default_rng([self.seed, 3])
        size = self.settings.batch_size
        sums: dict[str, float] = {}
        n = 0
        now = self._weights()
        _set_weights(self.model, self.average.weights)
        with torch.no_grad():
            for _ in range(self.settings.n_validation_draws):
                for start in range(0, len(self.held_out), size):
                    batch = self.held_out[start : start + size]
                    parts, total = self._losses(batch, rng)
                    n += len(batch)
                    for name, value in {"loss": float(total), **parts}.items():
                        sums[name] = sums.get(name, 0.0) + value * len(batch)
        _set_weights(self.model, now)
        return {name: value / n for name, value in sums.items()}

    def _losses(self, chosen: Sequence[Crystal], rng: np.random.Generator) -> tuple[dict[str, float], torch.Tensor]:
        model = self.model
        like = model.lattice_mean
        batch = collate(chosen, len(model.elements), dtype=like.dtype, device=str(like.device))
        noise = draw_noise(batch, model.settings.noise, model.settings.n_latent, rng)
        parts = losses(model, batch, noise)
        return {name: float(x.detach()) for name, x in vars(parts).items()}, parts.total(model.settings.weights)

    def _rate(self, step: int) -> float:
        schedule, n_steps = self.settings.schedule, self.n_steps * self.settings.max_epochs
        factor = schedule.factor(step, n_steps) * self.state.plateau.factor * self.state.rate_scale
        return self.settings.learning_rate * factor

    def _weights(self) -> torch.Tensor:
        return parameters_to_vector(self.model.parameters()).detach().clone()

    def _snapshot(self) -> tuple[dict[str, np.ndarray], int]:
        return self._arrays(), self.state.step

    def _roll_back(self, before: tuple[dict[str, np.ndarray], int]) -> None:
        state = self.state
        arrays, state.step = before
        self._read(arrays)
        state.n_rollbacks += 1
        state.n_rollbacks_in_a_row += 1
        state.rate_scale *= 0.5
        if state.n_rollbacks_in_a_row > self.settings.max_rollbacks:
            raise SurrogateError(
                f"the training diverges: {state.n_rollbacks_in_a_row} times in a row the losses of epoch "
                f"{state.epoch + 1} were no numbers, or {_MAX_GROWTH:g} times the best, down to a learning rate of "
                f"{self._rate(state.step):.2g}; lower learning_rate, and look for odd structures or property values"
            )

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {f"model/{name}": _array(x) for name, x in self.model.state_dict().items()}
        for number, memory in self.optimizer.state_dict()["state"].items():
            arrays |= {f"memory/{number}/{name}": _array(torch.as_tensor(x)) for name, x in memory.items()}
        return arrays | {
            "average": _array(self.average.weights),
            "average_steps": np.array(self.average.n_steps),
            "best": _array(self.best),
        }

    def _read(self, arrays: Mapping[str, np.ndarray]) -> None:
        weights: dict[str, torch.Tensor] = {}
        memory: dict[int, dict[str, Any]] = {}
        for key, value in arrays.items():
            part, _, name = key.partition("/")
            if part == "model":
                weights[name] = torch.from_numpy(value.copy())
            elif part == "memory":
                number, _, name = name.partition("/")
                shape = () if name == "step" else value.shape  # files have no numbers, but arrays of one
                memory.setdefault(int(number), {})[name] = torch.from_numpy(value.copy()).reshape(shape)
        self.model.load_state_dict(weights)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": memory, "param_groups": groups})
        decay = self.settings.average_decay
        average = torch.from_numpy(arrays["average"].copy()).to(self.device)
        self.average = MovingAverage(average, decay, int(arrays["average_steps"].item()))
        self.best = torch.from_numpy(arrays["best"].copy()).to(self.device)

    def checkpoint(self, inputs: Mapping[str, str]) -> Checkpoint:
        """The state as a file's content."""
        state = self.state
        columns = sorted({name for row in state.history for name in row})
        facts = {name: getattr(state, name) for name in _FACTS}
        facts |= {"columns": columns, "n_waiting": state.plateau.n_waiting}
        arrays = self._arrays()
        arrays["history"] = np.array([[row[name] for name in columns] for row in state.history], dtype=float)
        arrays["numbers"] = np.array([state.best_score, state.plateau.factor, state.plateau.best])
        return Checkpoint(inputs, facts, arrays)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a file.

        Raises:
            SurrogateError: something is missing in it.
        """
        facts, arrays = checkpoint.facts, dict(checkpoint.arrays)
        try:
            history = [dict(zip(facts["columns"], row.tolist(), strict=True)) for row in arrays.pop("history")]
            best_score, factor, best = arrays.pop("numbers").tolist()
            self._read(arrays)
            plateau = Plateau(factor, best, facts["n_waiting"])
            values = {name: facts[name] for name in _FACTS}
            self.state = _State(best_score=best_score, plateau=plateau, history=history, **values)
            if self.state.stop_reason in ("asked", "out_of_time"):  # to go on is what it was called for
                self.state.stop_reason = ""
        except (KeyError, ValueError, RuntimeError) as error:
            raise SurrogateError(
                f"the checkpoint is incomplete ({error!r}); delete it to train from the start"
            ) from error


_FACTS = ("epoch", "step", "best_epoch", "rate_scale", "n_rollbacks", "n_rollbacks_in_a_row", "cpu_s", "stop_reason")


def _hashes(
    model: Pcdvae,
    crystals: Sequence[Crystal],
    held_out: Sequence[Crystal],
    settings: PcdvaeTrainingSettings,
    seed: int,
) -> dict[str, str]:
    """What a checkpoint must share with the training that goes on from it."""

    def digest(*parts: bytes) -> str:
        return blake2b(b"\0".join(parts), digest_size=16).hexdigest()

    def content(of: Sequence[Crystal]) -> list[bytes]:
        return [
            part.tobytes() for c in of for part in (c.types, c.positions, c.cell, np.array([float(c.phase), c.value]))
        ]

    limits = {"max_cpu_s", "n_threads", "checkpoint_every_s", "device", "max_rollbacks"}
    about = f"{model.elements} {model.phases} {model.max_atoms} {model.settings.model_dump_json()}"
    start = [_array(x).tobytes() for _, x in sorted(model.state_dict().items())]
    return {
        "data": digest(*content(crystals), b"held out", *content(held_out)),
        "model": digest(about.encode(), *start),
        "settings": digest(settings.model_dump_json(exclude=limits).encode()),
        "seed": digest(str(seed).encode()),
    }


def _array(x: torch.Tensor) -> np.ndarray:
    return x.detach().cpu().numpy().copy()
