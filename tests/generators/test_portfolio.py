"""A portfolio of generators: who gets how much, and what members may do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from alloysmith.generators.base import Candidate, Evaluation, Failure, Generator, History, Lineage, Objective
from alloysmith.generators.portfolio import Portfolio, PortfolioSettings, Yield
from alloysmith.generators.seen import KEY
from alloysmith.oracles.base import FailureKind, Label
from alloysmith.structures.settings import SystemSettings
from alloysmith.tests.toy_campaign import SCORE, ToyCampaign, unlike_neighbours
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

SPACE = SystemSettings(elements=("Ni", "Fe"), phases=("fcc",), cell={"kind": "tetragonal", "repeat": (1, 1, 2)}).space()
ATOMS = SPACE.atoms(SPACE.lattices[0], np.zeros(SPACE.lattices[0].n_sites, dtype=np.int8))
THREE: dict[str, Any] = {name: {"kind": "random"} for name in "abc"}
VALUE = "value"


def _candidate(generator: str, key: str, value: float | None = None) -> Candidate:
    """Nothing but a name, an identity and a value: what generators read of a candidate that is no parent of theirs."""
    atoms = ATOMS.copy()
    atoms.info[VALUE] = value
    return Candidate(atoms, "fcc", Lineage(generator, "drawn", facts={KEY: key}))


@dataclass(frozen=True)
class Drawing:
    """A member whose structures are all new, with values drawn by ``draw``; at most ``n_most`` of them are pending."""

    name: str
    draw: Callable[[np.random.Generator, int], float | None]
    n_most: int = 10_000

    def propose(self, n: int, history: History, *, seed: int) -> Sequence[Candidate]:
        rng = np.random.default_rng(seed)
        n_done = len(history.evaluations)
        n_free = self.n_most - sum(candidate.lineage.generator == self.name for candidate in history.pending)
        return [_candidate(self.name, f"{self.name}-{seed}-{k}", self.draw(rng, n_done)) for k in range(min(n, n_free))]


def _portfolio(members: Mapping[str, Generator], **options: Any) -> Portfolio:
    chosen = PortfolioSettings(members={name: {"kind": "random"} for name in members}, **options)
    return Portfolio("all", SPACE, chosen, members)


def _drawing(**draws: Callable[[np.random.Generator, int], float | None]) -> dict[str, Generator]:
    return {name: Drawing(f"all/{name}", draw) for name, draw in draws.items()}


def _judge(atoms: Atoms) -> float | None:
    value = atoms.info[VALUE]
    return None if value is None else float(value)


def _shares(evaluations: Sequence[Evaluation]) -> dict[str, float]:
    counts = Counter(e.candidate.lineage.generator.split("/")[1] for e in evaluations)
    return {name: n / len(evaluations) for name, n in counts.items()}


def _good(rng: np.random.Generator, _: int) -> float:
    return float(rng.normal(2.0))


def _bad(rng: np.random.Generator, _: int) -> float:
    return float(rng.normal())


def _hopeless(*_: object) -> None:
    return None


@pytest.mark.parametrize("seed", range(3))
def test_a_good_member_among_bad_ones_gets_most(seed: int) -> None:
    campaign = ToyCampaign(_judge)
    campaign.run(_portfolio(_drawing(a=_bad, b=_good, c=_bad, d=_hopeless), even_share=0.2), 300, seed=seed)
    shares = _shares(campaign.evaluations[100:])
    assert shares["b"] > 0.6
    assert max(shares["a"], shares["c"], shares["d"]) < 0.25


@pytest.mark.parametrize("n_workers", [1, 4])
def test_it_learns_in_asynchronous_campaigns_too(n_workers: int) -> None:
    campaign = ToyCampaign(_judge)
    members = _drawing(a=_bad, b=_good, c=_bad)
    campaign.run_asynchronously(_portfolio(members, even_share=0.2), 300, n_workers=n_workers)
    assert _shares(campaign.evaluations[100:])["b"] > 0.6


def test_a_member_that_turns_bad_loses_its_share() -> None:
    def fading(rng: np.random.Generator, n_done: int) -> float | None:
        return float(rng.normal(4.0)) if n_done < 150 else None

    def waking(rng: np.random.Generator, n_done: int) -> float:
        return float(rng.normal(0.0 if n_done < 150 else 8.0))

    campaign = ToyCampaign(_judge)
    campaign.run(_portfolio(_drawing(fading=fading, waking=waking, other=_bad), even_share=0.2), 500)
    assert _shares(campaign.evaluations[60:150])["fading"] > 0.6
    late = _shares(campaign.evaluations[300:])
    assert late["waking"] > 0.6
    assert late["fading"] < 0.25


@pytest.mark.parametrize("even_share", [0.3, 0.6])
def test_every_member_keeps_its_part_of_the_even_share(even_share: float) -> None:
    campaign = ToyCampaign(_judge)
    members = _drawing(a=_hopeless, b=_good, c=_hopeless)
    campaign.run(_portfolio(members, even_share=even_share), 600, batch=20)
    shares = _shares(campaign.evaluations[100:])
    least = even_share / 3
    doubt = 3.0 * np.sqrt(least / 500)
    assert least - doubt < min(shares["a"], shares["c"])
    assert shares["b"] > 0.9 - 2 * least


def _equal(*_: object) -> float:
    return 1.0


@pytest.mark.parametrize("draw", [_hopeless, _equal])
def test_where_nothing_yields_anything_shares_are_even(draw: Callable[..., float | None]) -> None:
    campaign = ToyCampaign(_judge)
    campaign.run(_portfolio(_drawing(a=draw, b=draw, c=draw), n_best=1), 600)
    assert all(0.25 < share < 0.42 for share in _shares(campaign.evaluations).values())


def test_an_even_split_does_not_look_at_yields() -> None:
    campaign = ToyCampaign(_judge)
    campaign.run(_portfolio(_drawing(a=_hopeless, b=_good, c=_bad), scheme="even"), 90, batch=9)
    assert set(_shares(campaign.evaluations).values()) == {1 / 3}


def test_what_members_do_not_deliver_others_replace() -> None:
    members = {**_drawing(a=_good), "b": Drawing("all/b", _good, n_most=1), "c": Drawing("all/c", _good, n_most=0)}
    campaign = ToyCampaign(_judge)
    campaign.run(_portfolio(members), 100)
    shares = _shares(campaign.evaluations)
    assert len(campaign.evaluations) == 100
    assert set(shares) == {"a", "b"}
    assert shares["b"] <= 0.1


def test_it_proposes_nothing_only_if_no_member_does() -> None:
    idle = {name: Drawing(f"all/{name}", _good, n_most=0) for name in "ab"}
    assert not _portfolio(idle).propose(5, History(Objective(SCORE)), seed=0)
    one = {**idle, "b": Drawing("all/b", _good, n_most=2)}
    assert len(_portfolio(one).propose(5, History(Objective(SCORE)), seed=0)) == 2


@dataclass(frozen=True)
class Copying:
    """A member that proposes the structures 0, 1, 2, … whoever has proposed them before."""

    name: str

    def propose(self, n: int, history: History, *, seed: int) -> Sequence[Candidate]:
        return [_candidate(self.name, f"{k}", 1.0) for k in range(n)]


def test_no_structure_is_there_twice_whoever_finds_it() -> None:
    members: dict[str, Generator] = {name: Copying(f"all/{name}") for name in "ab"}
    history = History(Objective(SCORE), pending=(_candidate("elsewhere", "0"),))
    for seed in range(10):
        found = _portfolio({**members, **_drawing(c=_good)}).propose(9, history, seed=seed)
        keys = [candidate.lineage.facts[KEY] for candidate in found]
        assert len(keys) == len(set(keys)) == 9
        assert "0" not in keys


def _evaluation(number: int, generator: str, key: str, value: float | None) -> Evaluation:
    candidate = _candidate(generator, key)
    failure = Failure(FailureKind.NOT_CONVERGED, "toy")
    result = failure if value is None else Label({SCORE: value}, candidate.atoms, "toy")
    return Evaluation(f"r{number:06d}", 0, candidate, result)


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["all/a", "all/b", "all/c", "elsewhere", "all"]),
            st.integers(0, 25),
            st.none() | st.integers(-3, 9),
        ),
        max_size=60,
    ),
    window=st.integers(1, 40),
    n_best=st.integers(1, 12),
    direction=st.sampled_from(["maximize", "minimize"]),
    n_first=st.integers(0, 60),
)
def test_yields_are_those_of_a_loop_over_the_whole_history(
    rows: list[tuple[str, int, int | None]], window: int, n_best: int, direction: Any, n_first: int
) -> None:
    evaluations = [
        _evaluation(i, generator, str(key), None if value is None else value + 0.01 * key)
        for i, (generator, key, value) in enumerate(rows)
    ]
    sign = 1.0 if direction == "maximize" else -1.0
    credits: list[tuple[str, float]] = []
    scores: dict[str, float] = {}
    for evaluation in evaluations:
        lineage, label = evaluation.candidate.lineage, evaluation.label
        gained = 0.0
        if label is not None and lineage.facts[KEY] not in scores:
            score = sign * label.values[SCORE]
            rank = sum(other >= score for other in scores.values())
            scores[lineage.facts[KEY]] = score
            n_top = min(n_best, max(1.0, 0.1 * len(scores)))
            gained = max(0.0, 1.0 - rank / n_top) * min(1.0, 0.1 * len(scores))
        if lineage.generator.startswith("all/"):
            credits.append((lineage.generator.removeprefix("all/"), gained))
    latest = credits[-window:]
    portfolio = PortfolioSettings(members=THREE, window=window, n_best=n_best).build("all", SPACE)
    portfolio.yields(History(Objective(SCORE, direction), evaluations[:n_first]))  # which it must not go wrong by
    found = portfolio.yields(History(Objective(SCORE, direction), evaluations))
    for member in THREE:
        mine = [gained for name, gained in latest if name == member]
        assert found[member].n == len(mine)
        assert found[member].total == pytest.approx(sum(mine), abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(
    done=st.lists(st.tuples(st.integers(0, 60), st.floats(0.0, 1.0)), min_size=2, max_size=5),
    n=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
    scheme=st.sampled_from(["thompson", "even"]),
)
def test_everything_is_shared_out(done: list[tuple[int, float]], n: int, seed: int, scheme: Any) -> None:
    names = [f"m{k}" for k in range(len(done))]
    portfolio = _portfolio({name: Drawing(f"all/{name}", _good) for name in names}, scheme=scheme)
    yields = [Yield(n_done * mean, n_done) for n_done, mean in done]
    counts = portfolio._shared_out(n, yields, np.random.default_rng(seed))
    assert counts.shape == (len(done),)
    assert counts.sum() == n
    assert counts.min() >= 0
    if scheme == "even":
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("rescale", [lambda x: 1e-3 * x - 7.0, np.exp, lambda x: x**3])
def test_the_scale_of_the_objective_does_not_matter(rescale: Callable[[float], float]) -> None:
    plain, rescaled = ToyCampaign(_judge), ToyCampaign(lambda atoms: float(rescale(atoms.info[VALUE])))
    for campaign in (plain, rescaled):
        campaign.run(_portfolio(_drawing(a=_bad, b=_good, c=_bad)), 150)
    first, second = ([e.candidate.lineage for e in campaign.evaluations] for campaign in (plain, rescaled))
    assert first == second


def test_local_search_goes_on_as_a_member() -> None:
    """Every step of a chain has all its trials, from the best of the step before."""
    system = SystemSettings(elements=("Ni", "Fe", "Cr"), cell={"kind": "tetragonal", "repeat": (2, 2, 2)})
    members = {"swaps": {"kind": "local_search", "n_trials": 5, "n_steps": 4}, "other": {"kind": "genetic"}}
    campaign = ToyCampaign(unlike_neighbours)
    campaign.run(PortfolioSettings(members=members).build("all", system.space()), 240, batch=8)
    swaps = [e for e in campaign.evaluations if e.candidate.lineage.generator == "all/swaps"]
    steps: dict[tuple[int, int], list[Evaluation]] = {}
    for evaluation in swaps:
        facts = evaluation.candidate.lineage.facts
        steps.setdefault((facts["chain"], facts["step"]), []).append(evaluation)
    last = max(steps)
    assert last[0] >= 2
    by_id = {e.request_id: e for e in campaign.evaluations}
    for (chain, step), trials in steps.items():
        if step == 0:
            assert len(trials) == 1
            continue
        (ground,) = {trial.candidate.lineage.parents[0] for trial in trials}
        before = steps[chain, step - 1]
        tried = [*before, by_id[before[0].candidate.lineage.parents[0]]] if step > 1 else before
        assert campaign.history.score(by_id[ground]) == max(campaign.history.score(e) for e in tried)  # type: ignore[type-var]
        assert len(trials) == 5 or (chain, step) == last


def test_the_order_of_members_does_not_matter() -> None:
    members = {"a": {"kind": "random"}, "b": {"kind": "genetic"}, "c": {"kind": "composition_moves"}}
    campaigns = [ToyCampaign(), ToyCampaign()]
    for campaign, names in zip(campaigns, ("abc", "cab"), strict=True):
        campaign.run(PortfolioSettings(members={name: members[name] for name in names}).build("all", SPACE), 15)
    first, second = ([e.candidate.lineage for e in campaign.evaluations] for campaign in campaigns)
    assert first == second


def test_members_learn_from_what_the_campaign_trains() -> None:
    """History reaches members whole, and their trainings reach the campaign."""
    seen: list[History] = []

    @dataclass(frozen=True)
    class Learning(Drawing):
        def propose(self, n: int, history: History, *, seed: int) -> Sequence[Candidate]:
            seen.append(history)
            return super().propose(n, history, seed=seed)

        def trainings(self, history: History) -> Sequence[Any]:
            return [self.name]

    portfolio = _portfolio({"a": Learning("all/a", _good), **_drawing(b=_good)})
    history = replace(History(Objective(SCORE)), models={})
    portfolio.propose(20, history, seed=0)
    assert seen
    assert all(given.models is history.models for given in seen)
    assert portfolio.trainings(history) == ["all/a"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"members": {"a": {"kind": "random"}}}, "at least 2 items"),
        ({"members": {"a/b": {"kind": "random"}, "c": {"kind": "random"}}}, "without '/', got 'a/b'"),
        ({"members": {"a": {"kind": "portfolio", "members": THREE}, "b": {"kind": "random"}}}, "'portfolio'"),
        ({"members": THREE, "even_share": 1.1}, "less than or equal to 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PortfolioSettings(**options)
