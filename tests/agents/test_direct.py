"""The agent that lets a generator do as it likes."""

from __future__ import annotations

from alloysmith.agents.base import Budget, Evaluate, Generate, Stop
from alloysmith.agents.direct import DirectSettings
from alloysmith.generators.base import Objective
from alloysmith.tests.agents.conftest import PLENTY, PROPERTY, draw, ended, view_of

OBJECTIVE = Objective(PROPERTY)


def test_it_evaluates_what_is_proposed(space):
    agent = DirectSettings(generator="ga", batch_size=7).build(space, OBJECTIVE)
    assert agent.decide(view_of([]), PLENTY) == (Generate("ga", 7),)
    pool = tuple(draw(space, 7, 0))
    assert agent.decide(view_of([], pool=pool, n_generated=1), PLENTY) == (Evaluate(pool),)
    assert agent.decide(view_of([]), Budget(n_evaluations=3, n_wanted=9)) == (Generate("ga", 3),)
    assert agent.decide(view_of([]), Budget(n_evaluations=9, n_wanted=0)) == ()


def test_it_waits_for_pending_work_and_stops_when_nothing_is_left(space):
    agent = DirectSettings(generator="ga").build(space, OBJECTIVE)
    pending = tuple(draw(space, 1, 0))
    assert agent.decide(view_of([], pending=pending, n_generated=1), PLENTY) == ()
    (action,) = agent.decide(view_of([], n_generated=1), PLENTY)
    assert isinstance(action, Stop)
    assert "found no new structure in" in action.reason


def test_stopping_policies_apply(space):
    agent = DirectSettings(generator="ga", stopping={"target": 1.0}).build(space, OBJECTIVE)
    (action,) = agent.decide(view_of(ended(draw(space, 2, 0))), PLENTY)
    assert isinstance(action, Stop)
