"""The local search of the paper, step by step on toy objectives."""

from __future__ import annotations

import numpy as np
import pytest
from alloysmith.generators.base import Evaluation
from alloysmith.generators.local_search import LocalSearchSettings, swap_trials
from alloysmith.structures.settings import SystemSettings
from alloysmith.tests.toy_campaign import ToyCampaign, unlike_neighbours
from ase.build import bulk

SPACE = SystemSettings(elements=("Ni", "Fe", "Cr"), min_fraction=0.1).space()


def _facts(evaluation: Evaluation) -> tuple[int, int]:
    facts = evaluation.candidate.lineage.facts
    return int(facts["chain"]), int(facts["step"])


def _check_procedure(campaign: ToyCampaign, n_trials: int, n_steps: int | None) -> dict[int, list[Evaluation]]:
    """Replays every chain from its start and checks each step against the paper's words."""
    chains: dict[int, list[Evaluation]] = {}
    for evaluation in campaign.evaluations:
        chains.setdefault(_facts(evaluation)[0], []).append(evaluation)
    for evaluations in chains.values():
        starts = [e for e in evaluations if _facts(e)[1] == 0]
        assert all(e.label is None for e in starts[:-1])  # only a start that failed is followed by another
        ground = starts[-1]
        for step in range(1, _facts(evaluations[-1])[1] + 1):
            tried = [e for e in evaluations if _facts(e)[1] == step]
            assert len(tried) <= n_trials
            is_last = step == _facts(evaluations[-1])[1]
            assert is_last or len(tried) == n_trials
            swaps = set()
            for trial in tried:
                assert trial.candidate.lineage.parents == (ground.request_id,)
                before, after = ground.candidate.atoms.numbers, trial.candidate.atoms.numbers
                changed = np.flatnonzero(before != after)
                assert len(changed) == 2
                assert (after[changed] == before[changed[::-1]]).all()
                assert changed.tolist() == list(trial.candidate.lineage.facts["swap"])
                swaps.add(tuple(changed.tolist()))
            assert len(swaps) == len(tried)
            scored = [(campaign.history.score(e), e) for e in [ground, *tried]]
            best = max(s for s, _ in scored if s is not None)
            ground = next(e for s, e in scored if s == best)
        assert n_steps is None or step <= n_steps
    return chains


def test_twenty_trials_and_twenty_steps_are_the_default():
    settings = LocalSearchSettings()
    assert (settings.n_trials, settings.n_steps, settings.n_chains) == (20, 20, 1)


@pytest.mark.parametrize("batch", [1, 7, 20, 64])
def test_it_follows_the_paper_whatever_the_size_of_batches(batch):
    campaign = ToyCampaign()
    campaign.run(LocalSearchSettings(n_trials=6, n_steps=4).build("ls", SPACE), 130, batch=batch)
    chains = _check_procedure(campaign, n_trials=6, n_steps=4)
    assert len(campaign.evaluations) == 130
    assert len(chains) == -(-130 // (1 + 6 * 4))
    assert [e.candidate.phase for e in campaign.evaluations if _facts(e)[1] == 0][:4] == ["fcc", "bcc", "fcc", "bcc"]


def test_it_follows_the_paper_through_failures():
    def judge(atoms):
        return None if atoms.numbers[0] == 26 or atoms.numbers[5] == 24 else unlike_neighbours(atoms)

    campaign = ToyCampaign(judge)
    campaign.run(LocalSearchSettings(n_trials=6, n_steps=3).build("ls", SPACE), 150, batch=4)
    _check_procedure(campaign, n_trials=6, n_steps=3)
    assert any(e.label is None and _facts(e)[1] == 0 for e in campaign.evaluations)
    assert any(e.label is None and _facts(e)[1] > 0 for e in campaign.evaluations)


def test_chains_side_by_side_follow_it_asynchronously():
    campaign = ToyCampaign()
    generator = LocalSearchSettings(n_trials=5, n_steps=3, n_chains=3).build("ls", SPACE)
    campaign.run_asynchronously(generator, 200, n_workers=4)
    chains = _check_procedure(campaign, n_trials=5, n_steps=3)
    assert len(campaign.evaluations) == 200
    assert max(len(e) for e in chains.values()) == 1 + 5 * 3


def test_a_chain_waits_for_its_pending_trials():
    generator = LocalSearchSettings(n_trials=4, n_steps=None).build("ls", SPACE)
    campaign = ToyCampaign()
    campaign.submit(generator.propose(10, campaign.history, seed=0))
    assert len(campaign.pending) == 1  # the start, before which no swap is possible
    assert generator.propose(10, campaign.history, seed=1) == []
    campaign.end()
    campaign.submit(generator.propose(3, campaign.history, seed=2))
    assert len(campaign.pending) == 3
    campaign.submit(generator.propose(10, campaign.history, seed=3))
    assert len(campaign.pending) == 4  # the step has four trials, pending ones included
    assert len({tuple(c.lineage.facts["swap"]) for c in campaign.history.pending}) == 4
    campaign.end()
    assert generator.propose(10, campaign.history, seed=4) == []
    while campaign.pending:
        campaign.end()
    next_step = generator.propose(10, campaign.history, seed=5)
    assert len(next_step) == 4
    assert {c.lineage.facts["step"] for c in next_step} == {2}


def test_without_a_number_of_steps_a_chain_never_ends():
    campaign = ToyCampaign()
    campaign.run(LocalSearchSettings(n_trials=3, n_steps=None).build("ls", SPACE), 301, batch=3)
    chains = _check_procedure(campaign, n_trials=3, n_steps=None)
    assert len(chains) == 1
    assert _facts(campaign.evaluations[-1]) == (0, 100)


def test_the_composition_is_conserved_along_a_chain():
    campaign = ToyCampaign()
    campaign.run(LocalSearchSettings(n_trials=5, n_steps=5).build("ls", SPACE), 100)
    for chain in range(3):
        candidates = [e.candidate for e in campaign.evaluations if _facts(e)[0] == chain]
        formulas = {candidate.atoms.get_chemical_formula("hill") for candidate in candidates}
        assert len(formulas) == 1


def test_a_pure_element_ends_its_chain():
    space = SystemSettings(elements=("Ni",), phases=("fcc",), cell={"repeat": (1, 1, 2)}).space()
    campaign = ToyCampaign()
    campaign.run(LocalSearchSettings().build("ls", space), 10)
    assert len(campaign.evaluations) == 1  # nothing to swap and nothing new to start from


def test_fewer_unlike_pairs_than_trials_make_a_short_step():
    space = SystemSettings(
        elements=("Ni", "Al"), phases=("fcc",), cell={"repeat": (1, 1, 2)}, min_fraction=0.25, max_fraction={"Al": 0.25}
    ).space()
    campaign = ToyCampaign()
    campaign.run(LocalSearchSettings(n_trials=20, n_steps=4).build("ls", space), 1 + 3 * 4, batch=5)
    assert [_facts(e)[1] for e in campaign.evaluations] == [0, *[s for s in (1, 2, 3, 4) for _ in range(3)]]


def test_trials_exchange_two_unlike_atoms_where_they_are():
    atoms = bulk("Ni", cubic=True) * (2, 1, 1)
    atoms.symbols = "Ni4Fe2Cr2"
    atoms.rattle(0.05, seed=1)
    atoms.info = {"bulk_modulus_gpa": 180.0}
    trials = swap_trials(np.random.default_rng(0), atoms, 9)
    assert len({tuple(trial.numbers) for trial in trials}) == 9
    for trial in trials:
        (changed,) = [np.flatnonzero(trial.numbers != atoms.numbers)]
        assert len(changed) == 2
        assert sorted(trial.numbers) == sorted(atoms.numbers)
        np.testing.assert_array_equal(trial.positions, atoms.positions)
        assert trial.info == {}
    assert len(swap_trials(np.random.default_rng(0), atoms, 100)) == 4 * 4 + 2 * 2  # all pairs of unlike atoms
    assert swap_trials(np.random.default_rng(0), bulk("Ni"), 5) == []
