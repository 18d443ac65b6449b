"""All that changes during a training, and how it lies in a checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from ..base import SurrogateError
from .checkpoint import Checkpoint
from .ema import MovingAverage
from .frame_sums import FrameWorkers
from .schedules import Plateau


class Clock:
    """Wall and CPU time of this process and its workers, with that of earlier ones."""

    def __init__(self, wall_s: float, cpu_s: float, workers: FrameWorkers | None = None) -> None:
        self._workers = workers
        self._wall_s = wall_s - time.monotonic()
        self._cpu_s = cpu_s - self._used_s()

    def times(self) -> tuple[float, float]:
        """Wall and CPU time so far, s."""
        return self._wall_s + time.monotonic(), self._cpu_s + self._used_s()

    def _used_s(self) -> float:
        return time.process_time() + (0.0 if self._workers is None else self._workers.cpu_s)


@dataclass(frozen=True)
class Snapshot:
    """Weights, the optimizer's memory, and the moving average, if there is one."""

    parameters: Tensor
    memory: Mapping[str, Tensor]
    average: MovingAverage | None

    def arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """As named arrays."""
        tensors = {"parameters": self.parameters, **{f"memory/{name}": x for name, x in self.memory.items()}}
        if self.average is not None:
            tensors["average"] = self.average.weights
            tensors["average_decay"] = torch.tensor(self.average.decay, dtype=torch.float64)
            tensors["average_steps"] = torch.tensor(self.average.n_steps)
        return {f"{prefix}/{name}": tensor.detach().cpu().numpy() for name, tensor in tensors.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], prefix: str, device: torch.device) -> Snapshot:
        """Read what :meth:`arrays` gave."""

        def tensor(name: str) -> Tensor:
            return torch.from_numpy(arrays[f"{prefix}/{name}"].copy()).to(device)

        start = f"{prefix}/memory/"
        memory = {
            name.removeprefix(start): tensor(name.removeprefix(f"{prefix}/"))
            for name in arrays
            if name.startswith(start)
        }
        average = None
        if f"{prefix}/average" in arrays:
            average = MovingAverage(tensor("average"), float(tensor("average_decay")), int(tensor("average_steps")))
        return cls(tensor("parameters"), memory, average)


@dataclass
class TrainingState:
    """The state of a training between two steps.

    Attributes:
        now: present weights and memory; brought up to date before a checkpoint.
        good: those of the last good validation, to which a divergence returns.
        best: weights of the best validation.
        random_state: of PyTorch's generator.
        step: steps made.
        best_row: row of the history of the best validation.
        best_score: its score.
        reference_score: score that has to be improved on for the patience to begin again.
        n_waiting: validations since then.
        plateau: memory of that schedule.
        rate_scale: halved by each divergence.
        recent_loss: running mean of the loss of the steps; NaN before the first.
        loss_sum, n_losses: of the steps since the last validation.
        n_rollbacks, n_rollbacks_in_a_row: divergences in all, and since the last good validation.
        history: metrics of each validation.
        wall_s, cpu_s: time taken.
        stop_reason: why the training ended; empty while it goes on.
    """

    now: Snapshot
    good: Snapshot
    best: Tensor
    random_state: Tensor
    step: int = 0
    best_row: int = 0
    best_score: float = math.inf
    reference_score: float = math.inf
    n_waiting: int = 0
    plateau: Plateau = field(default_factory=Plateau)
    rate_scale: float = 1.0
    recent_loss: float = math.nan
    loss_sum: float = 0.0
    n_losses: int = 0
    n_rollbacks: int = 0
    n_rollbacks_in_a_row: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    wall_s: float = 0.0
    cpu_s: float = 0.0
    stop_reason: str = ""

    def to_checkpoint(
        self, inputs: Mapping[str, str], model: nn.Module, remembered: Mapping[str, Mapping[str, np.ndarray]]
    ) -> Checkpoint:
        """As a checkpoint; it holds the model's whole state beside the trained parameters, for other readers.

        Args:
            inputs: hashes of the training's inputs.
            model: the model.
            remembered: what constraints remember, by their names.
        """
        columns = sorted({name for row in self.history for name in row})
        counts = {name: getattr(self, name) for name in _COUNTS} | {"plateau_waiting": self.plateau.n_waiting}
        numbers = [getattr(self, name) for name in _NUMBERS] + [self.plateau.factor, self.plateau.best]
        arrays = {
            **self.now.arrays("now"),
            **self.good.arrays("good"),
            "best": self.best.detach().cpu().numpy(),
            "random_state": self.random_state.numpy(),
            "numbers": np.array(numbers, dtype=np.float64),  # JSON has no infinities
            "history": np.array(
                [[row.get(name, math.nan) for name in columns] for row in self.history], dtype=np.float64
            ),
            **{f"model/{name}": tensor.detach().cpu().numpy() for name, tensor in model.state_dict().items()},
            **{f"constraint/{name}/{key}": x for name, memory in remembered.items() for key, x in memory.items()},
        }
        return Checkpoint(inputs, {"counts": counts, "columns": columns, "stop_reason": self.stop_reason}, arrays)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, device: torch.device) -> TrainingState:
        """Read what :meth:`to_checkpoint` gave.

        Raises:
            SurrogateError: something is missing, as in the checkpoint of another version.
        """
        arrays, facts = checkpoint.arrays, checkpoint.facts
        try:
            numbers = arrays["numbers"].tolist()
            counts = dict(facts["counts"])
            plateau = Plateau(numbers[-2], numbers[-1], counts.pop("plateau_waiting"))
            history = [
                {name: float(x) for name, x in zip(facts["columns"], row, strict=True) if not math.isnan(x)}
                for row in arrays["history"]
            ]
            return cls(
                now=Snapshot.from_arrays(arrays, "now", device),
                good=Snapshot.from_arrays(arrays, "good", device),
                best=torch.from_numpy(arrays["best"].copy()).to(device),
                random_state=torch.from_numpy(arrays["random_state"].copy()),
                plateau=plateau,
                history=history,
                stop_reason=facts["stop_reason"],
                **dict(zip(_NUMBERS, numbers[:-2], strict=True)),
                **counts,
            )
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise SurrogateError(
                f"the checkpoint is incomplete ({error!r}); delete it to train from the start"
            ) from error


def remembered_by(name: str, checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """What a constraint remembered when the checkpoint was written."""
    start = f"constraint/{name}/"
    return {key.removeprefix(start): x for key, x in checkpoint.arrays.items() if key.startswith(start)}


_COUNTS = ("step", "best_row", "n_waiting", "n_losses", "n_rollbacks", "n_rollbacks_in_a_row")
_NUMBERS = ("best_score", "reference_score", "rate_scale", "recent_loss", "loss_sum", "wall_s", "cpu_s")
