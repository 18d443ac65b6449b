"""Jobs on every executor: they tell how far they are, are ended early, and never take the driver with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import ray
from alloysmith.generators.base import Failure
from alloysmith.loop.execution.base import Executor, Judge, Progress, Task
from alloysmith.loop.execution.in_process import InProcess
from alloysmith.loop.execution.process_pool import ProcessPool
from alloysmith.loop.execution.ray import RayExecutor
from alloysmith.oracles.base import FailureKind
from alloysmith.tests.jobs import Count, Counter

MakeExecutor = Callable[[Judge], Executor]


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(params=["in_process", "process_pool", pytest.param("ray", marks=pytest.mark.ray)])
def make(request: pytest.FixtureRequest) -> Iterator[MakeExecutor]:
    if request.param == "ray":
        request.getfixturevalue("ray_cluster")
    made: list[Executor] = []

    def make_one(judge: Judge) -> Executor:
        if request.param == "in_process":
            made.append(InProcess(Counter, judge))
        elif request.param == "process_pool":
            made.append(ProcessPool(Counter, 2, judge))
        else:
            made.append(RayExecutor(Counter, 2, judge))
        return made[-1]

    yield make_one
    for executor in made:
        executor.close()


def _drain(executor: Executor) -> dict[str, object]:
    results: dict[str, object] = {}
    while batch := list(executor.completed(None)):
        results |= {outcome.task_id: outcome.result for outcome in batch}
    return results


def test_jobs_tell_their_progress_and_end_when_they_are_asked_to(make: MakeExecutor) -> None:
    told: list[Progress] = []

    def judge(progress: Progress) -> bool:
        told.append(progress)
        return not (progress.task_id == "b" and progress.step == 3)

    executor = make(judge)
    for name in "abc":
        executor.submit(Task(name, Count(6), 60.0))
    assert _drain(executor) == {"a": [0, 1, 2, 3, 4, 5], "b": [0, 1, 2, 3], "c": [0, 1, 2, 3, 4, 5]}
    for name, n in (("a", 6), ("b", 4), ("c", 6)):
        mine = [progress for progress in told if progress.task_id == name]
        assert [progress.step for progress in mine] == list(range(n))
        assert mine[2].figures == {"square": 4.0}


def test_a_job_that_ends_badly_is_a_failure_of_its_own(make: MakeExecutor) -> None:
    executor = make(lambda progress: True)
    expected = {"raise": FailureKind.CRASHED, "fail": FailureKind.NOT_CONVERGED}
    if executor.enforces_deadlines:
        expected |= {"die": FailureKind.CRASHED, "hang": FailureKind.TIMED_OUT}
    executor.submit(Task("first", Count(2), 60.0))
    for name in expected:
        executor.submit(Task(name, Count(2, name), 2.0 if name == "hang" else 60.0))  # type: ignore[arg-type]
    executor.submit(Task("last", Count(2), 60.0))
    results = _drain(executor)
    assert results.pop("first") == results.pop("last") == [0, 1]
    assert {name: result.kind for name, result in results.items() if isinstance(result, Failure)} == expected
