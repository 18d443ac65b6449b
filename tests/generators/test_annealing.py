"""Simulated annealing: acceptance, cooling, and chains that are read back from the history."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from alloysmith.generators.annealing import AnnealingSettings
from alloysmith.generators.base import Evaluation
from alloysmith.structures.settings import SystemSettings
from alloysmith.tests.toy_campaign import ToyCampaign, unlike_neighbours

SPACE = SystemSettings(elements=("Ni", "Fe", "Cr"), max_fraction=0.9).space()


def _chain(campaign: ToyCampaign, chain: int) -> list[Evaluation]:
    return [e for e in campaign.evaluations if e.candidate.lineage.facts["chain"] == chain]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_chains_move_by_the_metropolis_rule(direction):
    def judge(atoms):
        return None if atoms.numbers[3] == 24 else unlike_neighbours(atoms)

    campaign = ToyCampaign(judge, direction)
    settings = AnnealingSettings(n_chains=3, n_evaluations=200, start_temperature=1.0)
    campaign.run(settings.build("sa", SPACE), 200, batch=3)
    n_downhill = 0
    for chain in range(3):
        state: Evaluation | None = None
        for evaluation in _chain(campaign, chain):
            lineage, score = evaluation.candidate.lineage, campaign.history.score(evaluation)
            if state is None:
                assert lineage.move == "start"
                state = evaluation if score is not None else None
                continue
            assert lineage.parents == (state.request_id,)
            here = campaign.history.score(state)
            if score is None:
                continue
            temperature, threshold = lineage.facts["temperature"], lineage.facts["threshold"]
            if score >= here:
                state = evaluation
            elif temperature > 0 and threshold < np.exp((score - here) / temperature):
                state = evaluation
                n_downhill += 1
    assert n_downhill >= 3


def test_it_cools_from_the_size_of_a_move_to_a_hundredth():
    campaign = ToyCampaign()
    campaign.run(
        AnnealingSettings(n_chains=2, n_evaluations=400, start_temperature=1.0).build("sa", SPACE), 500, batch=2
    )
    temperatures = [e.candidate.lineage.facts.get("temperature", 0.0) for e in campaign.evaluations]
    size = np.mean([abs(a - b) for a, b in zip(campaign.scores[2:60:2], campaign.scores[4:62:2], strict=True)])
    assert 0.2 * size < temperatures[40] < 5.0 * size
    assert temperatures[399] < 0.05 * temperatures[40]
    assert temperatures[-1] == pytest.approx(temperatures[405])
    later = temperatures[220:400:2]
    assert all(b <= a for a, b in pairwise(later))


def test_a_chain_has_one_candidate_under_way():
    generator = AnnealingSettings(n_chains=3).build("sa", SPACE)
    campaign = ToyCampaign()
    campaign.submit(generator.propose(10, campaign.history, seed=0))
    assert [c.lineage.facts["chain"] for c in campaign.history.pending] == [0, 1, 2]
    assert generator.propose(10, campaign.history, seed=1) == []
    campaign.end(1)
    (candidate,) = generator.propose(10, campaign.history, seed=2)
    assert candidate.lineage.facts["chain"] == 1
    assert candidate.lineage.facts["step"] == 1


def test_at_zero_temperature_it_only_climbs():
    campaign = ToyCampaign()
    settings = AnnealingSettings(n_chains=1, start_temperature=0.0, end_temperature=0.0, n_evaluations=100)
    campaign.run(settings.build("sa", SPACE), 150, batch=1)
    by_id = {e.request_id: campaign.history.score(e) for e in campaign.evaluations}
    grounds = [by_id[e.candidate.lineage.parents[0]] for e in campaign.evaluations[1:]]
    assert all(b >= a for a, b in pairwise(grounds))
