"""Random orderings: compositions in turn, phases evenly, nothing twice."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from alloysmith.errors import StructureError
from alloysmith.generators.composition_moves import CompositionMovesSettings
from alloysmith.generators.random_orderings import RandomOrderingsSettings
from alloysmith.structures.settings import SystemSettings
from alloysmith.tests.toy_campaign import ToyCampaign

SPACE = SystemSettings(elements=("Ni", "Fe", "Cr"), max_fraction=0.9).space()


@pytest.mark.parametrize("batch", [1, 7])
def test_phases_alternate_across_calls(batch):
    campaign = ToyCampaign()
    campaign.run(RandomOrderingsSettings().build("random", SPACE), 20, batch=batch)
    assert Counter(e.candidate.phase for e in campaign.evaluations) == {"fcc": 10, "bcc": 10}


def test_listed_compositions_are_taken_in_turn_in_every_phase():
    campaign = ToyCampaign()
    campaign.run(RandomOrderingsSettings(compositions=("NiFeCr", "Ni2Fe")).build("random", SPACE), 9, batch=2)
    made = [(e.candidate.atoms.get_chemical_formula("hill"), e.candidate.phase) for e in campaign.evaluations]
    cycle = [("Cr18Fe18Ni18", "fcc"), ("Cr18Fe18Ni18", "bcc"), ("Fe18Ni36", "fcc"), ("Fe18Ni36", "bcc")]
    assert made == [*cycle, *cycle, cycle[0]]


def test_a_grid_is_covered_before_it_is_repeated():
    generator = RandomOrderingsSettings(grid_step=0.25).build("random", SPACE)
    campaign = ToyCampaign()
    campaign.run(generator, len(generator.plan), batch=4)
    made = {(e.candidate.atoms.get_chemical_formula("hill"), e.candidate.phase) for e in campaign.evaluations}
    assert len(generator.plan) == 2 * (15 - 3)
    assert len(made) == len(generator.plan)


def test_a_step_that_does_not_divide_one_is_refused():
    with pytest.raises(StructureError, match="must divide 1"):
        RandomOrderingsSettings(grid_step=0.3).build("random", SPACE)


def test_random_compositions_reach_all_of_the_simplex():
    campaign = ToyCampaign()
    campaign.run(RandomOrderingsSettings().build("random", SPACE), 600, batch=100)
    counts = np.array([SPACE.counts(SPACE.locate(e.candidate.atoms)[1]) for e in campaign.evaluations])
    assert np.abs(counts.mean(axis=0) - 18.0).max() < 2.0
    assert counts.min() == 0
    assert counts.max() >= 46


def test_composition_moves_leave_most_of_a_good_parent_alone():
    campaign = ToyCampaign()
    campaign.run(RandomOrderingsSettings().build("random", SPACE), 50, batch=50)
    ranked = sorted(campaign.evaluations, key=lambda e: -campaign.history.score(e))
    by_id = {e.request_id: e.candidate for e in ranked[:8]}
    generator = CompositionMovesSettings(n_parents=8, max_sites=3).build("moves", SPACE)
    for child in generator.propose(60, campaign.history, seed=0):
        (parent,) = child.lineage.parents
        n_changed = int((by_id[parent].atoms.numbers != child.atoms.numbers).sum())
        assert 1 <= n_changed <= 3
        assert child.phase == by_id[parent].phase
        assert child.lineage.move in ("shift", "transmute")
