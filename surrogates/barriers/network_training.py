"""Training of networks: mean absolute error, a rate that falls on plateaus, early stopping, best weights.

As in Fan, Xing and Cao (2022, "Training procedure of CNN models"); the cosine schedule with Adam is
an alternative. The weights are a function of network, data, settings and seed, also when the training was killed and
went on (on the CPU); time decides only when it cuts the training short.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from ...structures.settings import Settings
from ..base import Report, SurrogateError
from ..potentials.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from ..threads import threads


class NetworkTrainingSettings(Settings):
    """Optimizer, schedule and limits of a network's training."""

    optimizer: Literal["rmsprop", "adam"] = "rmsprop"
    """`rmsprop`, as in the paper, or `adam`."""
    loss: Literal["mae", "mse", "huber"] = "mae"
    """Mean absolute error, as in the paper, mean squared error, or the latter up to the spread of what is learnt and
    the former beyond, which is made for outliers."""
    batch_size: int = Field(default=64, ge=2)
    """Hops in a step; 160, 100, 80, 60 for 4, 8, 12, 16 layers in the paper."""
    learning_rate: float = Field(default=1e-3, gt=0.0)
    """Step length at the start."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    """Pull of the weights towards zero."""
    schedule: Literal["plateau", "cosine"] = "plateau"
    """`plateau`: the learning rate is divided by √10 when the validation error has not improved for
    `plateau_epochs`; `cosine`: it falls to zero over `max_epochs`."""
    plateau_epochs: int = Field(default=5, ge=1)
    """Epochs without improvement before the learning rate falls."""
    patience_epochs: int = Field(default=15, ge=1)
    """Epochs without improvement before the training ends."""
    max_epochs: int = Field(default=100, ge=1)
    """Most passes over the data."""
    max_cpu_s: float | None = Field(default=None, gt=0.0)
    """CPU time after which each network's training ends with the best weights so far."""
    n_threads: int = Field(default=1, ge=1)
    """Threads of PyTorch on the CPU; more can change the last bits."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the network is trained."""
    checkpoint_every_s: float = Field(default=60.0, ge=0.0)
    """Time between checkpoints."""

    def torch_device(self) -> torch.device:
        """The device.

        Raises:
            SurrogateError: it is not there.
        """
        if self.device == "cuda" and not torch.cuda.is_available():
            raise SurrogateError("device: cuda, but PyTorch finds no GPU here; set device: cpu")
        return torch.device(self.device)


class NetworkInputs(Protocol):
    """What a network is shown of hops, made when it is asked for."""

    def __len__(self) -> int: ...

    def batch(self, index: np.ndarray, device: torch.device, rng: np.random.Generator | None) -> tuple[Tensor, ...]:
        """Inputs of some hops.

        Args:
            rng: for random turns of the data; ``None`` where there is nothing to learn.
        """
        ...


_LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mae": nn.functional.l1_loss,
    "mse": nn.functional.mse_loss,
    "huber": nn.functional.huber_loss,
}


@dataclass
class _Progress:
    """All that changes in a training, besides weights and the optimizer's memory."""

    epoch: int = 0
    best: float = math.inf
    best_epoch: int = 0
    last_cut: int = 0
    rate: float = 0.0
    cpu_s: float = 0.0
    is_done: bool = False
    best_weights: dict[str, np.ndarray] = field(default_factory=dict)


def train_network(
    network: nn.Module,
    inputs: NetworkInputs,
    targets: np.ndarray,
    judged: NetworkInputs,
    judged_targets: np.ndarray,
    settings: NetworkTrainingSettings,
    *,
    seed: int,
    identity: str = "",
    report: Report | None = None,
    checkpoint_path: Path | None = None,
) -> float:
    """Train a network in place; it ends with the weights that are best on the judged rows (hops, atoms).

    Args:
        targets, judged_targets: ``[n]`` or ``[n, n_outputs]``, scaled to order 1.
        identity: what decides the inputs; a training goes on only from a checkpoint that had the same.

    Returns:
        The mean absolute error on the judged hops, in the targets' scale.

    Raises:
        SurrogateError: too few hops, a training that gives no finite error, or a checkpoint of other inputs.
    """
    if len(inputs) < settings.batch_size or len(judged) == 0:
        raise SurrogateError(
            f"{len(inputs)} rows to learn from and {len(judged)} to judge by; at least a batch of "
            f"{settings.batch_size} and one are needed"
        )
    device = settings.torch_device()
    progress = _Progress(rate=settings.learning_rate)
    with threads(settings.n_threads):
        network.to(device)
        kind = torch.optim.RMSprop if settings.optimizer == "rmsprop" else torch.optim.Adam
        optimizer = kind(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
        hashes = _hashes(network, identity, targets, judged_targets, settings, seed)
        if checkpoint_path is not None and checkpoint_path.exists():
            _restore(read_checkpoint(checkpoint_path, hashes), network, optimizer, progress)
        else:
            progress.best = _error(network, judged, judged_targets, device)
            progress.best_weights = _copied(network)
        clock, written = time.process_time() - progress.cpu_s, time.monotonic()
        while not progress.is_done:
            rng = np.random.default_rng([seed, progress.epoch])
            with torch.random.fork_rng(devices=[]):  # for dropout
                torch.manual_seed(_epoch_seed(seed, progress.epoch))
                loss = _epoch(network, optimizer, inputs, targets, settings, progress, device, rng)
            error = _error(network, judged, judged_targets, device)
            if not math.isfinite(error):
                raise SurrogateError("the training diverges: the error is no number; lower the learning rate")
            progress.cpu_s = time.process_time() - clock
            _take_note(progress, error, network, settings)
            row = {"epoch": float(progress.epoch), "training_mae": loss, "validation_mae": error, "rate": progress.rate}
            if report is not None and not report(progress.epoch, row):
                progress.is_done = True
            is_due = progress.is_done or time.monotonic() - written >= settings.checkpoint_every_s
            if checkpoint_path is not None and is_due:
                write_checkpoint(_checkpoint(hashes, network, optimizer, progress), checkpoint_path)
                written = time.monotonic()
        network.load_state_dict({name: torch.as_tensor(value) for name, value in progress.best_weights.items()})
        network.to("cpu").eval()
    return progress.best


def evaluate(network: nn.Module, inputs: NetworkInputs, device: torch.device, batch_size: int = 256) -> np.ndarray:
    """Outputs for all rows, float64 ``[n]`` or ``[n, n_outputs]``."""
    network.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(inputs), batch_size):
            index = np.arange(start, min(start + batch_size, len(inputs)))
            parts.append(network(*inputs.batch(index, device, None)).cpu().numpy().astype(float))
    return np.concatenate(parts) if parts else np.zeros(0)


def _epoch_seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch], spawn_key=(1,)).generate_state(1, np.uint64)[0] >> 1)


def _epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: NetworkInputs,
    targets: np.ndarray,
    settings: NetworkTrainingSettings,
    progress: _Progress,
    device: torch.device,
    rng: np.random.Generator,
) -> float:
    """One pass over the hops; the mean absolute error on the way."""
    network.train()
    order = rng.permutation(len(inputs))
    n_steps = len(inputs) // settings.batch_size  # the rest, other hops each time, is left for another epoch
    measure = _LOSSES[settings.loss]
    total = 0.0
    for step in range(n_steps):
        if settings.schedule == "cosine":
            share = (progress.epoch + step / n_steps) / settings.max_epochs
            warm = min(1.0, (progress.epoch * n_steps + step + 1) / max(1, n_steps))
            progress.rate = settings.learning_rate * warm * 0.5 * (1.0 + math.cos(math.pi * share))
        for group in optimizer.param_groups:
            group["lr"] = progress.rate
        index = order[step * settings.batch_size : (step + 1) * settings.batch_size]
        wanted = torch.as_tensor(targets[index], dtype=torch.float32, device=device)
        outputs = network(*inputs.batch(index, device, rng))
        loss = measure(outputs, wanted)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total += float((outputs.detach() - wanted).abs().mean())
    return total / n_steps


def _take_note(progress: _Progress, error: float, network: nn.Module, settings: NetworkTrainingSettings) -> None:
    """Keep the best weights, lower the rate, decide whether the training ends."""
    progress.epoch += 1
    if error < progress.best:
        progress.best, progress.best_epoch = error, progress.epoch
        progress.best_weights = _copied(network)
    waited = progress.epoch - max(progress.best_epoch, progress.last_cut)
    if settings.schedule == "plateau" and waited >= settings.plateau_epochs:
        progress.rate /= math.sqrt(10.0)
        progress.last_cut = progress.epoch
    is_late = settings.max_cpu_s is not None and progress.cpu_s >= settings.max_cpu_s
    is_stuck = settings.schedule == "plateau" and progress.epoch - progress.best_epoch >= settings.patience_epochs
    progress.is_done = is_stuck or is_late or progress.epoch >= settings.max_epochs


def _error(network: nn.Module, judged: NetworkInputs, targets: np.ndarray, device: torch.device) -> float:
    return float(np.abs(evaluate(network, judged, device) - targets).mean())


def _copied(network: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().cpu().numpy().copy() for name, value in _weights(network)}


def _weights(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return iter(network.state_dict().items())


def _hashes(
    network: nn.Module,
    identity: str,
    targets: np.ndarray,
    judged: np.ndarray,
    settings: NetworkTrainingSettings,
    seed: int,
) -> dict[str, str]:
    """What a checkpoint must share with the training that goes on from it."""

    def digest(*parts: bytes) -> str:
        return blake2b(b"\0".join(parts), digest_size=16).hexdigest()

    limits = {"max_cpu_s", "n_threads", "checkpoint_every_s"}
    shapes = [f"{name} {tuple(value.shape)}" for name, value in _weights(network)]
    return {
        "inputs": digest(identity.encode()),
        "data": digest(np.ascontiguousarray(targets).tobytes(), np.ascontiguousarray(judged).tobytes()),
        "settings": digest(settings.model_dump_json(exclude=limits).encode()),
        "network": digest("\n".join(shapes).encode()),
        "seed": digest(str(seed).encode()),
    }


def _checkpoint(
    hashes: dict[str, str], network: nn.Module, optimizer: torch.optim.Optimizer, progress: _Progress
) -> Checkpoint:
    arrays = {f"now/{name}": value.detach().cpu().numpy() for name, value in _weights(network)}
    arrays |= {f"best/{name}": value for name, value in progress.best_weights.items()}
    for number, memory in optimizer.state_dict()["state"].items():
        arrays |= {f"memory/{number}/{name}": np.asarray(torch.as_tensor(v).cpu()) for name, v in memory.items()}
    names = ("epoch", "best", "best_epoch", "last_cut", "rate", "cpu_s", "is_done")
    return Checkpoint(hashes, {name: getattr(progress, name) for name in names}, arrays)


def _restore(checkpoint: Checkpoint, network: nn.Module, optimizer: torch.optim.Optimizer, progress: _Progress) -> None:
    for name, value in checkpoint.facts.items():
        setattr(progress, name, value)
    now: dict[str, Tensor] = {}
    memory: dict[int, dict[str, Any]] = {}
    for key, value in checkpoint.arrays.items():
        part, _, name = key.partition("/")
        if part == "now":
            now[name] = torch.as_tensor(value)
        elif part == "best":
            progress.best_weights[name] = value
        else:
            number, _, name = name.partition("/")
            memory.setdefault(int(number), {})[name] = torch.as_tensor(value)
    network.load_state_dict(now)
    state = optimizer.state_dict()
    optimizer.load_state_dict({"state": memory, "param_groups": state["param_groups"]})
