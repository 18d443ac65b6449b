"""The executor that a configuration asks for."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from .base import Executor, Judge, WorkerFactory
from .in_process import InProcess
from .process_pool import ProcessPool
from .settings import WorkerSettings


def build_executor(
    settings: WorkerSettings, factory: WorkerFactory, judge: Judge | None = None, *, n_executors: int = 1
) -> Executor:
    """Start the workers of ``settings``; the caller closes them.

    Args:
        judge: answers the progress of jobs, where workers run jobs rather than hold oracles.
        n_executors: how many such executors there will be at once; a private Ray has room for all of them.

    Raises:
        ExecutorError: they cannot be started.
    """
    if settings.executor == "in_process":
        return InProcess(factory, judge)
    n_workers = settings.n_workers or usable_cores()
    if settings.executor == "process_pool":
        return ProcessPool(factory, n_workers, judge)
    from .ray import RayExecutor

    return RayExecutor(
        factory,
        n_workers,
        judge,
        address=settings.ray.address,
        cpus_per_worker=settings.ray.cpus_per_worker,
        gpus_per_worker=settings.ray.gpus_per_worker,
        resources=settings.ray.resources,
        n_executors=n_executors,
    )


@contextmanager
def connection(*settings: WorkerSettings) -> Iterator[None]:
    """Inside, all executors of ``settings``, or with fewer workers, share one connection to Ray; others need none.

    A private Ray has room for all of ``settings`` at once.

    Raises:
        ExecutorError: there is no such cluster, or it does not have what the workers reserve.
    """
    on_ray = [(s.ray, s.n_workers or usable_cores()) for s in settings if s.executor == "ray"]
    if not on_ray:
        yield
        return
    from .ray import ray_connection

    resources: Counter[str] = Counter()
    for ray, n_workers in on_ray:
        resources.update({name: amount * n_workers for name, amount in ray.resources.items()})
    cpus = sum(ray.cpus_per_worker * n_workers for ray, n_workers in on_ray)
    gpus = sum(ray.gpus_per_worker * n_workers for ray, n_workers in on_ray)
    with ray_connection(address=on_ray[0][0].address, cpus=cpus, gpus=gpus, resources=resources):
        yield


def usable_cores() -> int:
    """Cores this process may use, which containers and batch systems make fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
