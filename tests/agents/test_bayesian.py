"""The Bayesian agent, decision by decision, and a whole campaign of it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from alloysmith.agents.base import Budget, Evaluate, Generate, Retrain, Stop
from alloysmith.agents.bayesian import BayesianAgent, BayesianSettings, standardized_residuals
from alloysmith.generators.base import Candidate, Objective
from alloysmith.generators.seen import candidate_key
from alloysmith.generators.surrogate_search import SurrogateSearchSettings
from alloysmith.surrogates.features import OrderFeatures
from alloysmith.tests.agents.conftest import PLENTY, PROPERTY, draw, ended, fitted, toy_value, view_of

OBJECTIVE = Objective(PROPERTY)


def _agent(space, **settings) -> BayesianAgent:
    return BayesianSettings(**settings).build(space, OBJECTIVE)


def _evaluated(actions) -> tuple[Candidate, ...]:
    assert [type(a) for a in actions] == [Evaluate]
    return actions[0].candidates


def test_it_starts_with_a_spread_of_phases_and_compositions(space):
    candidates = _evaluated(_agent(space, n_initial=20).decide(view_of([]), PLENTY))
    assert Counter(c.phase for c in candidates) == {"fcc": 10, "bcc": 10}
    assert len({candidate_key(space, c) for c in candidates}) == 20
    fractions = np.array([[(c.atoms.numbers == z).mean() for z in (28, 26, 24)] for c in candidates])
    assert fractions.max() <= 0.9
    for phase in space.phases:
        rows = fractions[[c.phase == phase for c in candidates]]
        distance = np.linalg.norm(rows[:, None] - rows[None], axis=2) + 9.0 * np.eye(len(rows))
        assert distance.min() > 0.15


def test_the_initial_design_is_not_repeated(space):
    agent = _agent(space, n_initial=8)
    candidates = _evaluated(agent.decide(view_of([]), PLENTY))
    half = view_of(ended(list(candidates[:3])), pending=candidates[3:])
    assert [type(a) for a in agent.decide(half, PLENTY)] == [Retrain]
    none_ended = view_of([], pending=candidates)
    assert agent.decide(none_ended, PLENTY) == ()


def test_a_small_budget_is_kept(space):
    agent = _agent(space, n_initial=20)
    assert len(_evaluated(agent.decide(view_of([]), Budget(n_evaluations=6, n_wanted=6)))) == 6


def test_it_trains_then_generates_then_chooses(space):
    agent = _agent(space, n_initial=8, batch_size=4, n_pool=50)
    evaluations = ended(draw(space, 12, 0))
    (retrain,) = agent.decide(view_of(evaluations), PLENTY)
    assert retrain == Retrain("first fit")
    surrogate = fitted(space, evaluations)
    assert agent.decide(view_of(evaluations, surrogate=surrogate), PLENTY) == (Generate("search", 50),)
    pool = tuple(draw(space, 30, 1))
    view = view_of(evaluations, surrogate=surrogate, pool=pool, n_generated=1)
    chosen = _evaluated(agent.decide(view, PLENTY))
    assert len(chosen) == 4
    assert all(any(c is p for p in pool) for c in chosen)
    assert chosen == _evaluated(agent.decide(view, PLENTY))
    assert len(_evaluated(agent.decide(view, Budget(n_evaluations=9, n_wanted=2)))) == 2


def test_several_generators_share_the_pool(space):
    agent = _agent(space, generators=("search", "moves"), n_pool=51, n_initial=4)
    evaluations = ended(draw(space, 8, 0))
    view = view_of(evaluations, surrogate=fitted(space, evaluations))
    assert agent.decide(view, PLENTY) == (Generate("search", 26), Generate("moves", 26))


def test_what_two_generators_came_upon_is_chosen_once(space):
    evaluations = ended(draw(space, 12, 0))
    twins = draw(space, 3, 1)
    view = view_of(evaluations, surrogate=fitted(space, evaluations), pool=(*twins, *draw(space, 3, 1)), n_generated=1)
    assert len(_evaluated(_agent(space, n_initial=4, batch_size=6).decide(view, PLENTY))) == 3


def test_retraining_on_schedule(space):
    evaluations = ended(draw(space, 20, 0))
    surrogate = fitted(space, evaluations[:15])
    settings = {"n_initial": 4, "retraining": {"every": 5, "drift": 0.0}}
    (action,) = _agent(space, **settings).decide(view_of(evaluations, surrogate=surrogate), PLENTY)
    assert isinstance(action, Retrain)
    assert action.reason.startswith("schedule")
    settings["retraining"]["every"] = 6
    (action,) = _agent(space, **settings).decide(view_of(evaluations, surrogate=surrogate), PLENTY)
    assert isinstance(action, Generate)


def test_retraining_on_drift(space):
    evaluations = ended(draw(space, 24, 0))
    surrogate = fitted(space, evaluations[:20])
    surprising = ended([e.candidate for e in evaluations], lambda c: toy_value(c) + (20.0 if c.phase == "bcc" else 0.0))
    agent = _agent(space, n_initial=4, retraining={"every": 100, "drift": 6.0})
    (calm,) = agent.decide(view_of(evaluations, surrogate=surrogate), PLENTY)
    (alarmed,) = agent.decide(view_of(evaluations[:20] + surprising[20:], surrogate=surrogate), PLENTY)
    assert isinstance(calm, Generate)
    assert isinstance(alarmed, Retrain)
    assert alarmed.reason.startswith("drift")


def test_residuals_without_a_surrogate_are_none(space):
    assert len(standardized_residuals(view_of([]).history, ended(draw(space, 3, 0)))) == 0


def test_an_empty_pool_falls_back_to_random_structures(space):
    evaluations = ended(draw(space, 12, 0))
    view = view_of(evaluations, surrogate=fitted(space, evaluations), n_generated=1)
    assert len(_evaluated(_agent(space, n_initial=4, batch_size=3).decide(view, PLENTY))) == 3


def test_when_all_failed_it_tries_elsewhere(space):
    evaluations = ended(draw(space, 8, 0), lambda _: None)
    assert len(_evaluated(_agent(space, n_initial=8, batch_size=3).decide(view_of(evaluations), PLENTY))) == 3


def test_it_stops_when_told(space):
    view = view_of(ended(draw(space, 8, 0)))
    (action,) = _agent(space, stopping={"target": 50.0}).decide(view, PLENTY)
    assert isinstance(action, Stop)
    assert "target" in action.reason
    (action,) = _agent(space).decide(view, Budget(n_evaluations=0, n_wanted=0))
    assert isinstance(action, Stop)
    assert _agent(space).decide(view, Budget(n_evaluations=5, n_wanted=0)) == ()


@pytest.mark.slow
@pytest.mark.parametrize("failing", [False, True], ids=["all succeed", "some regions fail"])
def test_a_campaign_finds_ordered_structures(space, failing):
    """B2-like order at equal composition is the optimum; random structures are far from it."""
    order = OrderFeatures(space.elements, 1, False, space.lattices)

    def value(candidate: Candidate) -> float | None:
        features = order.from_atoms([candidate.atoms]).values[0]
        if failing and features[1] > 0.4:
            return None
        base = 100.0 + (0.0 if candidate.phase == "bcc" else -5.0)
        return base - 20.0 * (features[0] - 0.5) ** 2 + 100.0 * features[4]

    agent = _agent(space, n_initial=12, batch_size=6)
    search = SurrogateSearchSettings(n_steps=12, n_survivors=20).build("search", space)
    evaluations = []
    surrogate, n_failed_late = None, 0
    candidates = list(_evaluated(agent.decide(view_of([]), PLENTY)))
    for seed in range(9):
        new = ended(candidates, value)
        n_failed_late += sum(e.label is None for e in new) if seed > 2 else 0
        evaluations += new
        surrogate = fitted(space, evaluations)
        history = view_of(evaluations, surrogate=surrogate).history
        pool = tuple(search.propose(120, history, seed=seed))
        view = view_of(evaluations, surrogate=surrogate, pool=pool, n_generated=1, seed=seed)
        candidates = list(_evaluated(agent.decide(view, PLENTY)))
    best = view_of(evaluations).history.best(1)[0]
    assert best.candidate.phase == "bcc"
    assert max(v for e in evaluations[:12] if (v := value(e.candidate)) is not None) < 112.0
    assert value(best.candidate) == pytest.approx(125.0, abs=1.0)
    assert n_failed_late < 6
