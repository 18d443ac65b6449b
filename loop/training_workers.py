"""Workers that compute the sums of a training over its frames: data-parallel training on processes or Ray actors.

Each worker is an executor of one, whose factory holds a shard; so a worker that dies comes back with the same frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

from ..generators.base import Failure
from ..oracles.base import FailureKind
from ..surrogates.base import SurrogateError
from ..surrogates.potentials.frame_sums import Share, ShareSums
from ..surrogates.potentials.shard import Shard, ShardHolder
from .execution.base import Executor, ExecutorError, Runner, Task, Tell
from .execution.build import build_executor, usable_cores
from .execution.settings import WorkerSettings

MAX_ATTEMPTS = 4
"""How often a worker is asked for the same sums before a training fails."""
_DEADLINE_S = 3600.0
"""Seconds after which a worker that does not answer is replaced; a step takes seconds."""


class ShardRunner(Runner):
    """A worker's shard, as executors hold it."""

    def __init__(self, shard: Shard) -> None:
        self._holder = ShardHolder(shard)

    def run(self, request: Any, tell: Tell) -> ShareSums:
        """The sums of a share; none of ``None``."""
        return ShareSums((), 0.0) if request is None else self._holder.sums(request)


@dataclass(frozen=True)
class OpenShard:
    """Makes what a worker holds."""

    shard: Shard

    def __call__(self) -> ShardRunner:
        return ShardRunner(self.shard)


class ShardWorkers:
    """See :class:`~alloysmith.surrogates.potentials.frame_sums.FrameWorkers`.

    Args:
        settings: where they run. They start when they get their shards.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self.n_workers = settings.n_workers or usable_cores()
        self.cpu_s = 0.0
        self._each = settings.model_copy(update={"n_workers": 1})
        self._executors: list[Executor] = []
        self._open = ExitStack()

    def hold(self, shards: Sequence[Shard]) -> None:
        """Start a worker for each shard, after ending those of earlier ones.

        Raises:
            ExecutorError: they cannot be started.
        """
        self.close()
        for shard in shards:
            executor = build_executor(self._each, OpenShard(shard), n_executors=self.n_workers)
            self._executors.append(self._open.enter_context(closing(executor)))
        self._ask(dict.fromkeys(range(len(shards))))  # all are ready before the first one is given work

    def answers(self, shares: Sequence[Share | None]) -> list[ShareSums | None]:
        """Ask the workers all at once, and again those that died.

        Raises:
            SurrogateError: what a worker raised.
            ExecutorError: a worker died :data:`MAX_ATTEMPTS` times over the same sums, or cannot be started.
        """
        found = self._ask({k: share for k, share in enumerate(shares) if share is not None})
        return [found.get(k) for k in range(len(shares))]

    def _ask(self, waiting: Mapping[int, Share | None]) -> dict[int, ShareSums]:
        answers: dict[int, ShareSums] = {}
        for attempt in range(1, MAX_ATTEMPTS + 1):
            for k, share in waiting.items():
                self._executors[k].submit(Task(f"sums-{k}", share, _DEADLINE_S))
            died: dict[int, Share | None] = {}
            for k, share in waiting.items():
                (outcome,) = self._executors[k].completed(None)
                result: ShareSums | Failure = outcome.result
                if not isinstance(result, Failure):
                    answers[k] = result
                    self.cpu_s += result.cpu_s
                elif result.kind is FailureKind.NOT_CONVERGED:
                    raise SurrogateError(f"training worker {k}: {result.message}")
                elif result.kind is FailureKind.UNAVAILABLE:
                    raise ExecutorError(f"training worker {k} does not start: {result.message}")
                elif attempt == MAX_ATTEMPTS:
                    raise ExecutorError(_complaint(k, attempt, result))
                else:
                    died[k] = share
            waiting = died
        return answers

    def close(self) -> None:
        """End all workers; safe to call twice."""
        self._executors = []
        self._open.close()


def _complaint(worker: int, attempt: int, failure: Failure) -> str:
    words = str(failure.details.get("last_words", "")).strip()
    tail = f"; its last words: {words[-500:]}" if words else ""
    return (
        f"training worker {worker} failed {attempt} times at the same sums: {failure.message}{tail}; the same command "
        "goes on from the last checkpoint; if memory is short, with a smaller training.max_cache_mib or more workers"
    )
