"""What every kind of agent promises, playing a whole campaign with toy evaluations."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from alloysmith.agents.base import Agent, Budget, CampaignView, Evaluate, Generate, Retrain, Stop
from alloysmith.agents.settings import AgentSettings
from alloysmith.generators.base import Evaluation, Generator, History, Objective
from alloysmith.generators.random_orderings import RandomOrderingsSettings
from alloysmith.generators.seen import candidate_key
from alloysmith.generators.surrogate_search import SurrogateSearchSettings
from alloysmith.structures.settings import SystemSettings
from alloysmith.structures.space import DesignSpace
from alloysmith.tests.agents.conftest import PROPERTY, ended, fitted
from pydantic import TypeAdapter

KINDS = sorted(settings.model_fields["kind"].default for settings in get_args(get_args(AgentSettings)[0]))
OPTIONS: dict[str, dict[str, Any]] = {
    "bayesian": {"n_initial": 6, "batch_size": 4, "n_pool": 20},
    "direct": {"generator": "random", "batch_size": 4},
}


@pytest.fixture(scope="module")
def space() -> DesignSpace:
    return SystemSettings(elements=("Ni", "Fe", "Cr"), cell={"kind": "cubic", "repeat": (2, 2, 2)}).space()


@pytest.fixture(params=KINDS)
def agent(request: pytest.FixtureRequest, space) -> Agent:
    options = {"kind": request.param, **OPTIONS[request.param]}
    return TypeAdapter(AgentSettings).validate_python(options).build(space, Objective(PROPERTY))


def _play(agent: Agent, space, n_evaluations: int) -> tuple[list[Evaluation], str | None]:
    """A synchronous campaign; returns its evaluations and why the agent stopped, if it did."""
    generators: dict[str, Generator] = {
        "random": RandomOrderingsSettings().build("random", space),
        "search": SurrogateSearchSettings(n_steps=3, n_survivors=10).build("search", space),
    }
    evaluations: list[Evaluation] = []
    surrogate, n_trained = None, 0
    for round_ in range(100):
        pool: list[Any] = []
        n_generated = 0
        for _ in range(20):
            history = History(Objective(PROPERTY), tuple(evaluations), (), surrogate)
            view = CampaignView(round_, history, n_trained, {}, tuple(pool), n_generated, 0.0, seed=round_)
            left = n_evaluations - len(evaluations)
            actions = agent.decide(view, Budget(left, None, left))
            assert actions, "with nothing pending there is nothing to wait for"
            batch = None
            for action in actions:
                match action:
                    case Generate(name, n):
                        pool.extend(generators[name].propose(n, history, seed=round_))
                        n_generated += 1
                    case Retrain():
                        surrogate, n_trained = fitted(space, evaluations), len(evaluations)
                    case Evaluate(candidates):
                        batch = candidates
                    case Stop(reason):
                        return evaluations, reason
            if batch is not None:
                assert 0 < len(batch) <= left
                evaluations += ended(list(batch))
                break
        else:
            pytest.fail("no decision in 20 questions")
    return evaluations, None


def test_protocol(agent):
    assert isinstance(agent, Agent)


def test_a_campaign_spends_its_budget_and_stops(agent, space):
    evaluations, reason = _play(agent, space, 19)
    assert len(evaluations) == 19
    assert reason is not None
    assert "budget" in reason
    assert len({candidate_key(space, e.candidate) for e in evaluations}) == 19


def test_campaigns_are_deterministic(agent, space):
    first, second = (_play(agent, space, 15)[0] for _ in range(2))
    assert [candidate_key(space, e.candidate) for e in first] == [candidate_key(space, e.candidate) for e in second]


def test_settings_refuse_unknown_keys():
    for kind in KINDS:
        with pytest.raises(ValueError, match=r"extra_forbidden|Extra inputs"):
            TypeAdapter(AgentSettings).validate_python({"kind": kind, **OPTIONS[kind], "speed": 3})
