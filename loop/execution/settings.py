"""How a configuration says where work is done."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from ...structures.settings import Settings


class RaySettings(Settings):
    """Where Ray runs the workers."""

    address: str = "local"
    """`local` starts a private Ray on this machine; `auto` or `host:port` joins a running cluster."""
    cpus_per_worker: NonNegativeFloat = 1.0
    """CPUs a worker reserves."""
    gpus_per_worker: NonNegativeFloat = 0.0
    """GPUs a worker reserves."""
    resources: dict[str, float] = Field(default_factory=dict)
    """Custom resources a worker reserves, by the names that the cluster gives them."""


class WorkerSettings(Settings):
    """Where work is done."""

    executor: Literal["in_process", "process_pool", "ray"] = "process_pool"
    """`in_process` evaluates one after the other in the driver (for tests and debugging; a hanging evaluation hangs the
    campaign), `process_pool` on the cores of this machine, `ray` on this machine or a cluster."""
    n_workers: PositiveInt | None = None
    """Workers, each of which does one thing at a time; the number of usable cores when left out."""
    ray: RaySettings = RaySettings()
    """Settings of the `ray` executor."""
