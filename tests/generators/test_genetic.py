"""The genetic algorithm: its population, its moves, and what it finds."""

from __future__ import annotations

import numpy as np
import pytest
from alloysmith.generators.genetic import GeneticSettings
from alloysmith.generators.random_orderings import RandomOrderingsSettings
from alloysmith.oracles.base import Request
from alloysmith.oracles.pair_model import PairModelSettings
from alloysmith.structures.order import pair_probabilities
from alloysmith.structures.settings import SystemSettings
from alloysmith.tests.toy_campaign import ToyCampaign
from pydantic import ValidationError

SPACE = SystemSettings(elements=("Ni", "Fe", "Cr"), max_fraction=0.9).space()


def test_the_first_population_is_random_and_holds_all_phases():
    campaign = ToyCampaign()
    campaign.run(GeneticSettings(population=12).build("ga", SPACE), 30, batch=6)
    moves = [e.candidate.lineage.move for e in campaign.evaluations]
    assert moves[:12] == ["random"] * 12
    assert "random" not in moves[12:]
    assert [e.candidate.phase for e in campaign.evaluations[:12]] == ["fcc", "bcc"] * 6


def test_parents_are_the_best_structures_whoever_proposed_them():
    campaign = ToyCampaign()
    campaign.run(RandomOrderingsSettings().build("random", SPACE), 100, batch=50)
    ranked = sorted(campaign.evaluations, key=lambda e: -campaign.history.score(e))
    population = {e.request_id for e in ranked[:10]}
    children = GeneticSettings(population=10).build("ga", SPACE).propose(50, campaign.history, seed=0)
    assert len(children) == 50
    assert {p for c in children for p in c.lineage.parents} <= population


@pytest.mark.parametrize(
    ("weight", "moves"),
    [
        ("crossover_weight", {"splice", "mix"}),
        ("swap_weight", {"swap"}),
        ("transmute_weight", {"transmute"}),
        ("phase_weight", {"phase"}),
    ],
)
def test_each_weight_is_that_of_its_moves(weight, moves):
    weights = dict.fromkeys(("crossover_weight", "swap_weight", "transmute_weight", "phase_weight"), 0.0)
    campaign = ToyCampaign()
    campaign.run(RandomOrderingsSettings().build("random", SPACE), 60, batch=60)
    by_id = {e.request_id: e.candidate for e in campaign.evaluations}
    children = GeneticSettings(**{**weights, weight: 1.0}).build("ga", SPACE).propose(20, campaign.history, seed=0)
    assert {c.lineage.move for c in children} == moves
    for child in children:
        parent = by_id[child.lineage.parents[0]]
        shared = (parent.atoms.numbers == child.atoms.numbers).mean()
        same_formula = sorted(parent.atoms.numbers) == sorted(child.atoms.numbers)
        if weight == "swap_weight":
            assert same_formula
            assert 1.0 - 8 / 54 <= shared < 1.0
        elif weight == "transmute_weight":
            assert shared >= 1.0 - 4 / 54
        elif weight == "phase_weight":
            assert shared == 1.0
            assert parent.phase != child.phase
        else:
            assert 0.4 < shared < 1.0


def test_some_weight_must_be_positive():
    with pytest.raises(ValidationError, match="at least one of the weights"):
        GeneticSettings(crossover_weight=0, swap_weight=0, transmute_weight=0, phase_weight=0)


def test_duplicates_from_another_source_take_one_place_in_the_population():
    campaign = ToyCampaign()
    campaign.run(RandomOrderingsSettings().build("random", SPACE), 30, batch=30)
    best = max(campaign.evaluations, key=lambda e: campaign.history.score(e)).candidate
    campaign.submit([best] * 20)
    while campaign.pending:
        campaign.end()
    children = GeneticSettings(population=20).build("ga", SPACE).propose(60, campaign.history, seed=0)
    assert len({c.lineage.parents[0] for c in children}) > 10


def test_it_beats_random_orderings_on_the_pair_model():
    oracle = PairModelSettings().build()

    def judge(atoms):
        return oracle.evaluate(Request("r", atoms, atoms.info["phase"])).values["bulk_modulus_gpa"]

    ends = []
    for settings in (GeneticSettings(population=20), RandomOrderingsSettings()):
        campaign = ToyCampaign(judge)
        campaign.run(settings.build("g", SPACE), 400, batch=10, seed=1)
        ends.append(campaign.scores)
    assert max(ends[0]) > max(ends[1]) + 1.0
    assert np.mean(ends[0][-50:]) > np.mean(ends[1][-50:]) + 5.0


def test_it_solves_a_small_problem():
    space = SystemSettings(elements=("Ni", "Al"), phases=("bcc",), cell={"repeat": (2, 2, 2)}).space()

    def judge(atoms):
        lattice, occupation = space.locate(atoms)
        return float(pair_probabilities(lattice, occupation[None], 2, 1)[0, 0, 1])

    campaign = ToyCampaign(judge)
    campaign.run(GeneticSettings(population=15).build("ga", space), 200)
    assert max(campaign.scores) == 1.0  # B2, where all neighbours are unlike
