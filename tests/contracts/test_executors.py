"""What every executor promises, tried on all of them with one misbehaving oracle."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import ray
from alloysmith.generators.base import Failure
from alloysmith.loop.execution.base import Executor, ExecutorError, Outcome, Task
from alloysmith.loop.execution.in_process import InProcess
from alloysmith.loop.execution.process_pool import ProcessPool
from alloysmith.loop.execution.ray import RayExecutor
from alloysmith.oracles.base import FailureKind, Label, Oracle, Request
from alloysmith.oracles.pair_model import FaultSettings, PairModelSettings
from ase.build import bulk

Factory = Callable[[], Oracle]
DEADLINE_S = 60.0


def _in_process(factory: Factory) -> Executor:
    return InProcess(factory)


def _process_pool(factory: Factory) -> Executor:
    return ProcessPool(factory, n_workers=2)


def _ray(factory: Factory) -> Executor:
    return RayExecutor(factory, n_workers=2)


EXECUTORS = {"in_process": _in_process, "process_pool": _process_pool, "ray": _ray}


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    """One private Ray for all tests of this file: starting it takes seconds."""
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(params=["in_process", "process_pool", pytest.param("ray", marks=pytest.mark.ray)])
def make(request: pytest.FixtureRequest) -> Iterator[Callable[[Factory], Executor]]:
    """Makes executors of one kind, and closes them."""
    if request.param == "ray":
        request.getfixturevalue("ray_cluster")
    made: list[Executor] = []

    def make_one(factory: Factory) -> Executor:
        made.append(EXECUTORS[request.param](factory))
        return made[-1]

    yield make_one
    for executor in made:
        executor.close()


def _task(name: str, *, deadline_s: float = DEADLINE_S) -> Task:
    atoms = bulk("Ni", cubic=True)
    atoms.symbols[int(name[-1]) % 4] = "Cr"
    atoms.rattle(0.01, seed=int(name[-1]))
    return Task(f"{name}#1", Request(name, atoms, "fcc"), deadline_s)


def _drain(executor: Executor) -> dict[str, Outcome]:
    """All outcomes by request id, until nothing is queued or running."""
    outcomes: dict[str, Outcome] = {}
    while batch := list(executor.completed(None)):
        for outcome in batch:
            assert outcome.task_id not in outcomes, "a task ended twice"
            outcomes[outcome.task_id] = outcome
    return {task_id.removesuffix("#1"): outcome for task_id, outcome in outcomes.items()}


def _needs_killing(executor: Executor) -> None:
    if not executor.enforces_deadlines:
        pytest.skip(f"{type(executor).__name__} declares that it cannot outlive what the oracle does to its process")


def test_labels_are_those_of_the_oracle_in_any_order(make: Callable[[Factory], Executor]) -> None:
    settings = PairModelSettings(delay_s=0.01)
    executor = make(settings.build)
    tasks = [_task(f"r{i}") for i in range(8)]
    before = time.time()
    for task in reversed(tasks):
        executor.submit(task)
    outcomes = _drain(executor)
    oracle = settings.build()
    assert sorted(outcomes) == [f"r{i}" for i in range(8)]
    for task in tasks:
        outcome = outcomes[task.request.request_id]
        expected = oracle.evaluate(task.request)
        assert isinstance(outcome.result, Label)
        assert dict(outcome.result.values) == dict(expected.values)
        assert np.array_equal(outcome.result.atoms.positions, expected.atoms.positions)
        assert before <= outcome.started_at <= outcome.ended_at <= time.time()
        assert outcome.worker


@pytest.mark.parametrize("kind", list(FailureKind))
def test_typed_failures_arrive_with_kind_message_and_details(kind: FailureKind) -> None:
    fault = FaultSettings(effect=kind.value, request_ids=("r1",))
    executor = InProcess(PairModelSettings(faults=(fault,)).build)
    executor.submit(_task("r1"))
    result = _drain(executor)["r1"].result
    assert isinstance(result, Failure)
    assert result.kind == kind
    assert "injected" in result.message
    assert dict(result.details) == {"injected": True}


def test_one_failure_does_not_touch_the_others(make: Callable[[Factory], Executor]) -> None:
    fault = FaultSettings(effect="left_phase", request_ids=("r1",))
    executor = make(PairModelSettings(faults=(fault,)).build)
    for i in range(4):
        executor.submit(_task(f"r{i}"))
    outcomes = _drain(executor)
    kinds = {name: getattr(outcome.result, "kind", None) for name, outcome in outcomes.items()}
    assert kinds == {"r0": None, "r1": FailureKind.LEFT_PHASE, "r2": None, "r3": None}


def test_a_hanging_evaluation_is_killed_at_its_deadline(make: Callable[[Factory], Executor]) -> None:
    fault = FaultSettings(effect="hang", request_ids=("r1",))
    executor = make(PairModelSettings(faults=(fault,)).build)
    _needs_killing(executor)
    for i in range(5):
        executor.submit(_task(f"r{i}", deadline_s=1.0))
    outcomes = _drain(executor)
    hung = outcomes.pop("r1")
    assert isinstance(hung.result, Failure)
    assert hung.result.kind == FailureKind.TIMED_OUT
    assert "deadline was 1 s" in hung.result.message
    assert 0.9 <= hung.ended_at - hung.started_at < 10.0
    assert sorted(outcomes) == ["r0", "r2", "r3", "r4"]
    assert all(isinstance(outcome.result, Label) for outcome in outcomes.values())


@pytest.mark.parametrize("effect", ["segfault", "exit"])
def test_a_dying_worker_costs_one_evaluation(make: Callable[[Factory], Executor], effect: str) -> None:
    fault = FaultSettings.model_validate({"effect": effect, "request_ids": ("r1",)})
    executor = make(PairModelSettings(faults=(fault,)).build)
    _needs_killing(executor)
    for i in range(5):
        executor.submit(_task(f"r{i}"))
    outcomes = _drain(executor)
    died = outcomes.pop("r1").result
    assert isinstance(died, Failure)
    assert died.kind == FailureKind.CRASHED
    assert "the worker" in died.message
    assert sorted(outcomes) == ["r0", "r2", "r3", "r4"]
    assert all(isinstance(outcome.result, Label) for outcome in outcomes.values())


def test_an_oracle_that_cannot_be_built_is_unavailable(make: Callable[[Factory], Executor], tmp_path: Path) -> None:
    executor = make((tmp_path / "missing").stat)  # type: ignore[arg-type]  # any callable that raises will do
    for i in range(3):
        executor.submit(_task(f"r{i}"))
    outcomes = _drain(executor)
    assert sorted(outcomes) == ["r0", "r1", "r2"]
    for outcome in outcomes.values():
        assert isinstance(outcome.result, Failure)
        assert outcome.result.kind == FailureKind.UNAVAILABLE
        assert "FileNotFoundError" in outcome.result.message


def test_cancelled_tasks_give_no_outcome(make: Callable[[Factory], Executor]) -> None:
    executor = make(PairModelSettings(delay_s=0.05).build)
    for i in range(9):
        executor.submit(_task(f"r{i}"))
    for i in (2, 5, 8):
        executor.cancel(f"r{i}#1")
    assert sorted(_drain(executor)) == ["r0", "r1", "r3", "r4", "r6", "r7"]


def test_a_running_task_can_be_cancelled(make: Callable[[Factory], Executor]) -> None:
    fault = FaultSettings(effect="hang", request_ids=("r1",))
    executor = make(PairModelSettings(faults=(fault,)).build)
    _needs_killing(executor)
    executor.submit(_task("r1"))
    executor.submit(_task("r2"))
    outcomes = list(executor.completed(None))
    executor.cancel("r1#1")
    executor.submit(_task("r3"))
    rest = _drain(executor)
    assert [outcome.task_id for outcome in outcomes] == ["r2#1"]
    assert sorted(rest) == ["r3"]


def test_completed_returns_at_once_when_there_is_nothing(make: Callable[[Factory], Executor]) -> None:
    executor = make(PairModelSettings().build)
    started = time.monotonic()
    assert list(executor.completed(None)) == []
    assert time.monotonic() - started < 5.0


def test_waiting_ends_at_the_timeout(make: Callable[[Factory], Executor]) -> None:
    executor = make(PairModelSettings(delay_s=30.0).build)
    _needs_killing(executor)
    executor.submit(_task("r1"))
    started = time.monotonic()
    assert list(executor.completed(0.0)) == []
    assert list(executor.completed(0.3)) == []
    assert 0.25 <= time.monotonic() - started < 10.0


def test_close_ends_everything_and_may_be_repeated(make: Callable[[Factory], Executor]) -> None:
    executor = make(PairModelSettings(delay_s=0.01).build)
    executor.submit(_task("r1"))
    started = time.monotonic()
    executor.close()
    executor.close()
    assert time.monotonic() - started < 20.0
    assert list(executor.completed(0.0)) == []


def test_pool_leaves_no_process_behind() -> None:
    before = _children()
    fault = FaultSettings(effect="hang", request_ids=("r1",))
    executor = ProcessPool(PairModelSettings(faults=(fault,)).build, n_workers=2)
    try:
        executor.submit(_task("r1"))
        executor.submit(_task("r2"))
        assert [outcome.task_id for outcome in executor.completed(None)] == ["r2#1"]
        assert len(_children() - before) == 2
    finally:
        executor.close()
    assert _children() <= before


_CUT_THE_LINE = """
import os, struct, subprocess, sys
with open({pid_file!r}, "w") as file:
    file.write(str(subprocess.Popen(["sleep", "100"]).pid))
os.write(int(sys.argv[1]), struct.pack("!i", 1000) + b"a beginning")
os._exit(3)
"""
"""What a worker's process does: start a child, send half a message to the driver, and die."""


def test_a_worker_that_dies_in_mid_message_costs_one_evaluation_and_leaves_no_child(tmp_path: Path) -> None:
    executor = ProcessPool(partial(exec, _CUT_THE_LINE.format(pid_file=str(tmp_path / "pid"))), n_workers=1)
    try:
        executor.submit(_task("r1"))
        result = _drain(executor)["r1"].result
        assert isinstance(result, Failure)
        assert result.kind == FailureKind.UNAVAILABLE
        assert "exited with status 3" in result.message
        stat = Path(f"/proc/{(tmp_path / 'pid').read_text()}/stat")
        give_up_at = time.monotonic() + 5.0
        while stat.exists() and ") Z" not in stat.read_text() and time.monotonic() < give_up_at:
            time.sleep(0.02)
        assert not stat.exists() or ") Z" in stat.read_text()
    finally:
        executor.close()


def test_a_worker_that_died_idle_costs_nothing() -> None:
    before = _children()
    executor = ProcessPool(PairModelSettings().build, n_workers=1)
    try:
        executor.submit(_task("r1"))
        assert isinstance(_drain(executor)["r1"].result, Label)
        (worker,) = _children() - before
        os.kill(worker, signal.SIGKILL)
        os.waitid(os.P_PID, worker, os.WEXITED | os.WNOWAIT)
        executor.submit(_task("r2"))
        assert isinstance(_drain(executor)["r2"].result, Label)
    finally:
        executor.close()


def test_a_factory_that_cannot_be_sent_is_refused() -> None:
    with pytest.raises(ExecutorError, match="cannot be sent to workers"):
        ProcessPool(lambda: PairModelSettings().build(), n_workers=1)


@pytest.mark.ray
def test_ray_refuses_what_nobody_has() -> None:
    with pytest.raises(ExecutorError, match=r"2 GPU \(it has \d"):
        RayExecutor(PairModelSettings().build, n_workers=2, gpus_per_worker=1.0, resources={"unobtainium": 1.0})


@pytest.mark.ray
def test_a_private_ray_has_what_its_workers_reserve() -> None:
    ray.shutdown()
    executor = RayExecutor(PairModelSettings().build, n_workers=4, cpus_per_worker=0.3, resources={"licence": 1.0})
    try:
        have = ray.cluster_resources()
        assert have["CPU"] == 2.0
        assert have["licence"] == 4.0
    finally:
        executor.close()


@pytest.mark.ray
def test_ray_says_when_there_is_no_cluster() -> None:
    ray.shutdown()
    with pytest.raises(ExecutorError, match="cannot be reached"):
        RayExecutor(PairModelSettings().build, n_workers=1, address="127.0.0.1:1")


def _children() -> set[int]:
    """Process ids of this process's children."""
    task = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    return {int(pid) for pid in task.read_text().split()}
