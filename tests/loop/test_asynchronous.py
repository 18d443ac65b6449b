"""Asynchronous campaigns: decisions that are out of date when they arrive, and ends with work on its way."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from alloysmith.agents.base import Action, Agent, Budget, CampaignView, Evaluate, Generate, Stop
from alloysmith.loop.campaign import Campaign
from alloysmith.loop.config import CampaignConfig
from alloysmith.loop.controller import Controller
from alloysmith.loop.decision import Decider
from alloysmith.loop.events import Stopped
from alloysmith.loop.execution.build import build_executor
from alloysmith.loop.signals import GracefulStop
from alloysmith.loop.state import CampaignState, catch_up
from alloysmith.loop.store.blobs import BlobStore
from alloysmith.loop.store.event_log import EventLog, LogPosition

MakeConfig = Callable[..., CampaignConfig]


class SlowWaiter:
    """Wants four structures when nothing is pending, waits otherwise, and is slower than the evaluations."""

    def decide(self, view: CampaignView, budget: Budget) -> Sequence[Action]:
        if view.history.pending:
            time.sleep(0.1)
            return ()
        return (Evaluate(view.pool[: budget.n_evaluations]),) if view.pool else (Generate("random", 4),)


class Contented:
    """Evaluates eight structures after long thought, and stops as soon as one of them has ended."""

    def __init__(self) -> None:
        self.n_answers_after_stop = 0
        self._has_stopped = False

    def decide(self, view: CampaignView, budget: Budget) -> Sequence[Action]:
        self.n_answers_after_stop += self._has_stopped
        if view.history.evaluations:
            self._has_stopped = True
            return (Stop("target: good enough"),)
        if view.history.pending:
            return ()
        time.sleep(0.1)  # so that the next question comes while much is pending
        return (Evaluate(view.pool),) if view.pool else (Generate("random", 8),)


def _drive(config: CampaignConfig, run_dir: Path, agent: Agent) -> tuple[Stopped, CampaignState]:
    """One session of a campaign whose agent is no configured one."""
    Campaign.create(config, run_dir)
    state = CampaignState()
    log = EventLog.open(run_dir, catch_up(state, run_dir, LogPosition()))
    space = config.system.space()
    generators = {name: settings.build(name, space) for name, settings in config.generators.items()}
    decider = Decider(config.seed, agent, generators, None, {"bulk_modulus_gpa": "GPa"}, BlobStore(run_dir / "models"))
    executor = build_executor(config.execution, config.oracle.build)
    try:
        with GracefulStop() as signals:
            return Controller(config, state, log, executor, decider, signals).run(), state
    finally:
        executor.close()
        log.close()


def test_an_answer_that_is_out_of_date_does_not_end_the_campaign(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(execution__mode="asynchronous")
    stopped, state = _drive(config, tmp_path / "run", SlowWaiter())
    assert (stopped.reason, state.n_ended, len(state.pending)) == ("budget", 12, 0)


def test_what_was_requested_is_evaluated_when_the_agent_stops(make_config: MakeConfig, tmp_path: Path) -> None:
    agent = Contented()
    config = make_config(execution__mode="asynchronous", oracle__delay_s=0.02)
    stopped, state = _drive(config, tmp_path / "run", agent)
    assert (stopped.reason, stopped.message) == ("agent", "target: good enough")
    assert (state.n_requested, state.n_ended, len(state.pending)) == (8, 8, 0)
    assert agent.n_answers_after_stop == 0, "nobody asks an agent that said stop"
    assert Campaign.open(tmp_path / "run").is_complete


@pytest.mark.parametrize("executor", ["in_process", "process_pool"])
@pytest.mark.parametrize("kind", ["local_search", "annealing"])
def test_an_asynchronous_search_spends_its_whole_budget(
    make_config: MakeConfig, tmp_path: Path, kind: str, executor: str
) -> None:
    config = make_config(
        execution__mode="asynchronous",
        execution__executor=executor,
        execution__n_workers=1 if executor == "in_process" else 2,
        generators={"search": {"kind": kind}},
        system__cell={"repeat": [3, 3, 3]},
        budget__n_evaluations=300,
    )
    campaign = Campaign.create(config, tmp_path / "run")
    result = campaign.run()
    assert (result.reason, campaign.state.n_ended) == ("budget", 300), result.message
