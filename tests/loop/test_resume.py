"""Killed at any instant, a campaign goes on: nothing finished is redone, nothing is lost."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from alloysmith.generators.base import Evaluation
from alloysmith.loop.campaign import Campaign
from alloysmith.loop.config import CampaignConfig
from alloysmith.loop.errors import RunDirectoryError
from alloysmith.loop.events import Evaluated, Failed, Requested, Stopped
from alloysmith.loop.state import replay
from alloysmith.loop.store.event_log import LOG_NAME, read_events
from alloysmith.loop.store.lock import RunLock

MakeConfig = Callable[..., CampaignConfig]


def _run(run_dir: Path) -> None:
    os._exit(Campaign.open(run_dir).run().exit_code)


def _drive(run_dir: Path) -> ForkServerProcess:
    """A driver in a process of its own.

    Not forked from this one: where an earlier test has used Ray, the child would inherit its dead threads and locks and
    could wait for ever. The server that forks instead has the engine imported once and nothing started.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["alloysmith.loop.campaign"])
    driver = context.Process(target=_run, args=(run_dir,))
    driver.start()
    return driver


def _finish(run_dir: Path) -> None:
    driver = _drive(run_dir)
    driver.join(timeout=100)
    assert driver.exitcode == 0


def _wait_for_events(run_dir: Path, n: int, limit_s: float = 60.0) -> None:
    """Wait until the log has at least ``n`` lines."""
    give_up_at = time.monotonic() + limit_s
    while (run_dir / LOG_NAME).read_bytes().count(b"\n") < n:
        assert time.monotonic() < give_up_at, "the driver does not get on"
        time.sleep(0.002)


def _kill_somewhere(run_dir: Path, n_new_events: int, delay_s: float) -> None:
    """Drive until so many events have been added and a little longer, then kill the driver."""
    n_before = (run_dir / LOG_NAME).read_bytes().count(b"\n")
    driver = _drive(run_dir)
    try:
        _wait_for_events(run_dir, n_before + n_new_events)
        time.sleep(delay_s)
    finally:
        driver.kill()
        driver.join()


def _assert_nothing_done_twice(run_dir: Path) -> None:
    ended = Counter(
        event.request_id
        for event in read_events(run_dir)
        if isinstance(event, Evaluated) or (isinstance(event, Failed) and event.action != "retry")
    )
    assert set(ended.values()) == {1}


def _campaign_to_kill(make_config: MakeConfig, mode: str) -> CampaignConfig:
    faults = [{"effect": "left_phase", "fraction": 0.1}, {"effect": "exit", "fraction": 0.04}]
    return make_config(
        oracle__delay_s=0.02,
        oracle__faults=faults,
        agent__batch_size=6,
        budget__n_evaluations=90,
        execution__executor="process_pool",
        execution__n_workers=2,
        execution__mode=mode,
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_synchronous_campaign_killed_ten_times_ends_as_the_uninterrupted_one(
    make_config: MakeConfig, same_result: Callable[[Evaluation, Evaluation], bool], tmp_path: Path
) -> None:
    config = _campaign_to_kill(make_config, "synchronous")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    Campaign.create(config, whole)
    _finish(whole)
    Campaign.create(config, broken)
    chance = random.Random(20)
    for _ in range(10):
        _kill_somewhere(broken, chance.randrange(0, 9), chance.uniform(0.0, 0.08))
    _finish(broken)
    _assert_nothing_done_twice(broken)
    expected, found = replay(whole), replay(broken)
    assert found.n_sessions == 11
    assert expected.n_ended == found.n_ended == 90
    assert expected.n_failed == found.n_failed
    assert expected.n_failed.total() > 0
    assert all(same_result(a, b) for a, b in zip(expected.evaluations, found.evaluations, strict=True))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_asynchronous_campaign_killed_loses_and_repeats_nothing(make_config: MakeConfig, tmp_path: Path) -> None:
    Campaign.create(_campaign_to_kill(make_config, "asynchronous"), tmp_path / "run")
    run_dir = tmp_path / "run"
    chance = random.Random(21)
    finished: dict[str, float] = {}
    for _ in range(4):
        _kill_somewhere(run_dir, chance.randrange(3, 15), chance.uniform(0.0, 0.08))
        state = replay(run_dir)
        now = {e.request_id: e.wall_s for e in state.evaluations}
        assert finished.items() <= now.items()
        finished = now
    _finish(run_dir)
    _assert_nothing_done_twice(run_dir)
    final = replay(run_dir)
    assert finished.items() <= {e.request_id: e.wall_s for e in final.evaluations}.items()
    assert (final.n_ended, final.n_requested, len(final.pending)) == (90, 90, 0)


@pytest.mark.slow
def test_workers_die_with_a_killed_driver(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(
        oracle__delay_s=60.0, execution__executor="process_pool", execution__n_workers=2, budget__n_evaluations=4
    )
    run_dir = tmp_path / "run"
    Campaign.create(config, run_dir)
    driver = _drive(run_dir)
    try:
        _wait_for_events(run_dir, 3)
        children = Path(f"/proc/{driver.pid}/task/{driver.pid}/children").read_text().split()
        assert len(children) == 2
    finally:
        driver.kill()
        driver.join()
    give_up_at = time.monotonic() + 20.0
    while any(_is_alive(int(pid)) for pid in children):
        assert time.monotonic() < give_up_at, "workers outlived their driver"
        time.sleep(0.05)


def _descendants(pid: int) -> list[int]:
    """Processes below ``pid``, whatever they have become."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*children, *(grandchild for child in children for grandchild in _descendants(child))]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(240)
def test_a_private_ray_dies_with_its_killed_driver_and_the_campaign_goes_on(
    make_config: MakeConfig, same_result: Callable[[Evaluation, Evaluation], bool], tmp_path: Path
) -> None:
    changes = {"oracle__delay_s": 0.05, "agent__batch_size": 6, "budget__n_evaluations": 60}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    Campaign.create(make_config(**changes), whole).run()
    Campaign.create(make_config(**changes, execution__executor="ray", execution__n_workers=2), broken)
    driver = _drive(broken)
    try:
        _wait_for_events(broken, 20, limit_s=100.0)
        assert driver.pid is not None
        family = _descendants(driver.pid)
        assert len(family) > 2
    finally:
        driver.kill()
        driver.join()
    n_before = replay(broken).n_ended
    assert 0 < n_before < 60
    give_up_at = time.monotonic() + 120.0  # Ray's agents take a minute to notice
    _finish(broken)
    _assert_nothing_done_twice(broken)
    expected, found = replay(whole), replay(broken)
    assert found.n_sessions == 2
    assert all(same_result(a, b) for a, b in zip(expected.evaluations, found.evaluations, strict=True))
    while any(_is_alive(pid) for pid in family):
        assert time.monotonic() < give_up_at, "Ray outlived its driver"
        time.sleep(0.1)


def _send(driver: ForkServerProcess, number: signal.Signals) -> None:
    assert driver.pid is not None
    os.kill(driver.pid, number)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("mode", ["synchronous", "asynchronous"])
def test_a_signal_ends_a_campaign_in_good_order(
    make_config: MakeConfig, tmp_path: Path, number: signal.Signals, exit_code: int, mode: str
) -> None:
    config = make_config(
        oracle__delay_s=0.3,
        agent__batch_size=20,
        budget__n_evaluations=200,
        execution__executor="process_pool",
        execution__n_workers=2,
        execution__mode=mode,
    )
    run_dir = tmp_path / "run"
    Campaign.create(config, run_dir)
    driver = _drive(run_dir)
    _wait_for_events(run_dir, 6)
    _send(driver, number)
    driver.join(timeout=30)
    assert driver.exitcode == exit_code
    events = list(read_events(run_dir))
    stopped = events[-1]
    assert isinstance(stopped, Stopped)
    assert stopped.reason == "interrupted"
    assert number.name in stopped.message
    state = replay(run_dir)
    assert 0 < state.n_ended < state.n_requested
    assert not [event for event in events[-3:] if isinstance(event, Requested)]


@pytest.mark.slow
def test_a_second_signal_ends_it_at_once(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(oracle__delay_s=60.0, execution__executor="process_pool", execution__n_workers=1)
    run_dir = tmp_path / "run"
    Campaign.create(config, run_dir)
    driver = _drive(run_dir)
    _wait_for_events(run_dir, 3)
    time.sleep(0.5)
    _send(driver, signal.SIGTERM)
    time.sleep(1.0)
    assert driver.is_alive(), "the first signal leaves running evaluations a grace"
    started = time.monotonic()
    _send(driver, signal.SIGTERM)
    driver.join(timeout=30)
    assert driver.exitcode == 128 + signal.SIGTERM
    assert time.monotonic() - started < 10.0
    assert replay(run_dir).n_requested == 4


def test_a_second_driver_is_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    campaign = Campaign.create(make_config(), tmp_path / "run")
    lock = RunLock(tmp_path / "run")
    try:
        with pytest.raises(RunDirectoryError, match=rf"driven by process {os.getpid()}"):
            campaign.run()
    finally:
        lock.release()
    assert campaign.run().reason == "budget"
