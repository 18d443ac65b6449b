"""Evaluations on a Ray cluster, or on a private Ray of this machine. The only module that imports ``ray``.

Ray runs the workers and carries the messages; who does what, deadlines and retries are ours, because Ray has no limit
on a call's time and cannot cancel a call that holds the interpreter's lock. Actors run one task at a time and are never
restarted by Ray: one that misses a deadline is killed, and a new actor takes its place.
"""

from __future__ import annotations

import logging
import math
import os
import queue
import socket
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from ...generators.base import Failure
from ...oracles.base import Oracle
from .base import ExecutorError, Judge, Outcome, Progress, Runner, Task, WorkerFactory
from .work import THREAD_VARIABLES, cannot_build, perform
from .worker_pool import Death, Message, Ready, Verdict, Worker, WorkerPool

_KNOCK_LIMIT_S = 10.0


class _Actor:
    """What runs on the cluster: an oracle in a process of its own."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._holder: Oracle | Runner | None = None
        self._progress: queue.SimpleQueue[Progress | None] = queue.SimpleQueue()
        self._verdicts: queue.SimpleQueue[Verdict] = queue.SimpleQueue()

    def start(self, factory: WorkerFactory) -> Ready | Failure:
        """Build the oracle; the reason if that fails."""
        try:
            self._holder = factory()
        except Exception as error:  # noqa: BLE001 - whatever keeps the oracle from being made is told to the driver
            return cannot_build(error)
        return Ready()

    def run(self, task: Task) -> Outcome:
        """Do one task; the last of its news is ``None``."""
        if self._holder is None:
            raise RuntimeError("start() comes first")
        try:
            return perform(self._holder, task, self._name, self._say)
        finally:
            self._progress.put(None)

    def news(self) -> Progress | None:
        """The next progress of the running job, once there is any; ``None`` when it has ended."""
        return self._progress.get()

    def answer(self, verdict: Verdict) -> None:
        """Answer its progress."""
        self._verdicts.put(verdict)

    def _say(self, progress: Progress) -> bool:
        self._progress.put(progress)
        return self._verdicts.get().goes_on


class RayWorker(Worker):
    """An actor, and the calls it has not answered yet.

    Args:
        tells: whether it runs jobs that tell their progress, one at a time; a call that waits for their news is then
            under way beside the job's.
    """

    def __init__(self, name: str, actor: Any, factory: Any, tells: bool) -> None:
        super().__init__(name)
        self._actor = actor
        self._calls: deque[Any] = deque([actor.start.remote(factory)])
        self._tells = tells
        self._news: Any | None = None

    @property
    def call(self) -> Any | None:
        """What the next message comes from, if there will be any."""
        if self._news is not None:
            return self._news
        return self._calls[0] if self._calls else None

    def send(self, task: Task) -> bool:
        """Call the actor; Ray keeps the call until the actor is free."""
        if self._tells:
            self._news = self._actor.news.remote()
        self._calls.append(self._actor.run.remote(task))
        return True

    def receive(self) -> Message:
        """The answer to its first call, or its death."""
        try:
            if self._news is not None:
                news, self._news = self._news, None
                progress: Progress | None = ray.get(news)
                if progress is not None:
                    return progress
            message: Message = ray.get(self._calls.popleft())
        except RayActorError as error:
            return Death("died", {"ray": str(error)[-2000:]})
        except RayError as error:  # the answer could not be sent
            return Death(f"lost its answer ({type(error).__name__})", {"ray": str(error)[-2000:]})
        return message

    def answer(self, verdict: Verdict) -> None:
        """Call the actor beside its job, and wait for its next news."""
        self._actor.answer.remote(verdict)
        self._news = self._actor.news.remote()

    def kill(self) -> None:
        """End the actor's process."""
        ray.kill(self._actor, no_restart=True)


class RayExecutor(WorkerPool[RayWorker]):
    """Workers are Ray actors.

    Args:
        factory: makes the oracle of a worker; picklable, from a module that workers can import.
        n_workers: number of actors.
        judge: answers the progress of jobs; without one actors hold oracles.
        address: ``"local"`` for a private Ray on this machine, else the cluster to join.
        cpus_per_worker, gpus_per_worker, resources: what each actor reserves.
        n_executors: how many such executors there will be at once; the first one connects for all, and is closed last.

    Raises:
        ExecutorError: no such cluster, or it does not have what the workers reserve.
    """

    def __init__(
        self,
        factory: WorkerFactory,
        n_workers: int,
        judge: Judge | None = None,
        *,
        address: str = "local",
        cpus_per_worker: float = 1.0,
        gpus_per_worker: float = 0.0,
        resources: Mapping[str, float] | None = None,
        n_executors: int = 1,
    ) -> None:
        super().__init__(n_workers, judge)
        n_actors = n_workers * n_executors
        self._owns_connection = not ray.is_initialized()
        if self._owns_connection:
            own = {name: amount * n_actors for name, amount in (resources or {}).items()}
            _connect(address, n_actors * cpus_per_worker, own)
        try:
            each = {"CPU": cpus_per_worker, "GPU": gpus_per_worker, **(resources or {})}
            _check_resources({name: amount * n_actors for name, amount in each.items()})
            self._factory = ray.put(factory)
            self._actor_class = ray.remote(_Actor).options(
                num_cpus=cpus_per_worker,
                num_gpus=gpus_per_worker,
                resources=dict(resources or {}),
                max_restarts=0,
                max_task_retries=0,
                max_concurrency=1 if judge is None else 3,  # beside a job, its news and the answers to them
                runtime_env={"env_vars": dict.fromkeys(THREAD_VARIABLES, "1")},
            )
            self._staff()
        except BaseException:
            self.close()
            raise

    def _hire(self, name: str) -> RayWorker:
        tells = self._judge is not None
        return RayWorker(name, self._actor_class.remote(name), self._factory, tells)

    def _wait(self, workers: Sequence[RayWorker], timeout_s: float | None) -> list[RayWorker]:
        calls = [worker.call for worker in workers if worker.call is not None]
        try:
            first, _ = ray.wait(calls, num_returns=1, timeout=timeout_s)
            ended, _ = ray.wait(calls, num_returns=len(calls), timeout=0) if first else ([], [])
        except (RayError, ConnectionError) as error:
            raise ExecutorError(f"the Ray cluster is gone: {error}; resume the campaign when it is back") from error
        return [worker for worker in workers if worker.call in ended]

    def _dismiss(self, workers: Sequence[RayWorker]) -> None:
        """Kill the actors, and leave Ray if this executor joined it."""
        if not ray.is_initialized():
            return
        for worker in workers:
            worker.kill()
        if self._owns_connection:
            ray.shutdown()


@contextmanager
def ray_connection(*, address: str, cpus: float, gpus: float, resources: Mapping[str, float]) -> Iterator[None]:
    """Inside, executors share one connection, instead of each starting or joining Ray anew.

    Args:
        cpus, gpus, resources: that workers reserve at once, all together.

    Raises:
        ExecutorError: as :class:`RayExecutor` does.
    """
    if ray.is_initialized():
        yield
        return
    _connect(address, cpus, resources)
    try:
        _check_resources({"CPU": cpus, "GPU": gpus, **resources})
        yield
    finally:
        ray.shutdown()


def _connect(address: str, cpus: float, resources: Mapping[str, float]) -> None:
    """Start or join Ray quietly; a private one is told that it has what the workers reserve.

    Raises:
        ExecutorError: there is nothing at ``address``, or Ray does not start.
    """
    # Ray would otherwise warn that a later version changes what num_gpus=0 means; workers here state what they need.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    _look_for_cluster(address)
    options: dict[str, Any] = {}
    if address == "local":
        options = {"num_cpus": max(1, math.ceil(cpus)), "resources": dict(resources)}
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        hint = "" if address == "local" else "; `local` starts a private Ray on this machine"
        raise ExecutorError(f"Ray cannot be reached at {address!r}: {error}{hint}") from error


def _look_for_cluster(address: str) -> None:
    """Knock at ``host:port``: Ray itself would try for minutes where nobody is."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdecimal() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=_KNOCK_LIMIT_S).close()
    except OSError as error:
        raise ExecutorError(
            f"Ray cannot be reached at {address!r}: {error}; start it there with `ray start --head`, or use `local` "
            "for a private Ray on this machine"
        ) from error


def _check_resources(wanted: Mapping[str, float]) -> None:
    """Compare with what the cluster has: Ray would wait for ever, in silence, for what nobody has."""
    have = ray.cluster_resources()
    lacking = [
        f"{amount:g} {name} (it has {have.get(name, 0.0):g})"
        for name, amount in wanted.items()
        if amount > have.get(name, 0.0) + 1e-9
    ]
    if lacking:
        raise ExecutorError(
            f"the workers need {', '.join(lacking)} of the Ray cluster; lower n_workers or what each of them reserves "
            "under `ray`, in execution and, if there is one, execution.training"
        )
