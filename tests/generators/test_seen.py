"""The index of a history: a memo that never changes an answer."""

from __future__ import annotations

import itertools

import numpy as np
from alloysmith.generators.base import Candidate, Evaluation, History, Lineage
from alloysmith.generators.random_orderings import RandomOrderingsSettings
from alloysmith.generators.seen import (
    KEY,
    N_TRIES,
    Draft,
    SeenKeys,
    candidate_key,
    first_new,
    known_keys,
    make_candidate,
    read_history,
    structure_key,
)
from alloysmith.oracles.base import Label
from alloysmith.structures.settings import SystemSettings
from alloysmith.structures.space import DesignSpace
from alloysmith.tests.toy_campaign import SCORE, ToyCampaign

SPACE = SystemSettings(elements=("Ni", "Fe", "Cr")).space()


def _campaign(n: int = 30) -> ToyCampaign:
    campaign = ToyCampaign()
    campaign.run(RandomOrderingsSettings().build("random", SPACE), n)
    return campaign


def _best(campaign: ToyCampaign, n: int) -> list[str]:
    return [e.request_id for e in campaign.history.best(n)]


def test_it_ranks_as_the_history_does():
    campaign = _campaign()
    index = read_history(campaign.history, SPACE)
    assert [k.request_id for k in index.best(10)] == _best(campaign, 10)
    campaign.run(RandomOrderingsSettings().build("random", SPACE), 60, seed=1)
    assert [k.request_id for k in read_history(campaign.history, SPACE).best(10)] == _best(campaign, 10)
    assert len(read_history(campaign.history, SPACE).by_id) == 60


def test_a_growing_history_is_read_once():
    campaign = _campaign()
    first = read_history(campaign.history, SPACE)
    campaign.run(RandomOrderingsSettings().build("random", SPACE), 31, seed=2)
    assert read_history(campaign.history, SPACE) is first
    assert read_history(History(campaign.objective, tuple(campaign.evaluations)), SPACE) is first


def test_another_past_is_another_index():
    campaign = _campaign()
    index = read_history(campaign.history, SPACE)
    reordered = campaign.evaluations[::-1]
    assert read_history(History(campaign.objective, reordered), SPACE) is not index
    shorter = read_history(History(campaign.objective, campaign.evaluations[:10]), SPACE)
    assert len(shorter.by_id) == 10
    other_space = DesignSpace(("Ni", "Fe", "Cr"), SPACE.lattices[:1])
    assert {k.lattice.phase for k in read_history(campaign.history, other_space).by_id.values()} == {"fcc"}
    assert len(read_history(campaign.history, SPACE).by_id) == 30


def test_keys_are_those_of_the_structures_noted_or_not():
    campaign = _campaign(6)
    for evaluation in campaign.evaluations:
        candidate = evaluation.candidate
        bare = Candidate(candidate.atoms, candidate.phase, Lineage("user", "given"))
        assert candidate_key(SPACE, bare) == candidate_key(SPACE, candidate) == candidate.lineage.facts[KEY]


def test_images_are_known_and_additions_too():
    campaign = _campaign(4)
    lattice, occupation = SPACE.locate(campaign.evaluations[0].candidate.atoms)
    seen = known_keys(campaign.history, SPACE)
    assert structure_key(lattice, occupation[lattice.permutations[5]]) in seen
    new = structure_key(lattice, np.zeros(54, dtype=np.int8))
    assert new not in seen
    assert seen.take(lattice, np.zeros(54, dtype=np.int8)) == new
    assert new in seen
    assert seen.take(lattice, np.zeros(54, dtype=np.int8)) is None
    assert seen.n_added == 1
    assert new not in known_keys(campaign.history, SPACE)


def test_pending_structures_are_known():
    campaign = _campaign(4)
    candidate = make_candidate(SPACE, SPACE.lattices[0], np.zeros(54, dtype=np.int8), Lineage("user", "given"))
    campaign.submit([candidate])
    assert candidate.lineage.facts[KEY] in known_keys(campaign.history, SPACE)


def test_a_structure_in_another_order_is_known_but_no_parent():
    lattice = SPACE.lattices[0]
    occupation = SPACE.random_occupation(np.random.default_rng(0), lattice)
    atoms = SPACE.atoms(lattice, occupation)
    shuffled = atoms[np.random.default_rng(1).permutation(54)]
    evaluations = [
        Evaluation("r0", 0, Candidate(a, "fcc", Lineage("user", "given")), Label({SCORE: s}, a, "toy"))
        for a, s in ((shuffled, 2.0), (SPACE.atoms(lattice, 2 - occupation), 1.0))
    ]
    first, second = read_history(History(_campaign(1).objective, evaluations), SPACE).best(2)
    assert first.key == structure_key(lattice, occupation)
    assert first.parents == ()
    assert second.parents == ("r0",)


def test_a_small_space_is_searched_to_its_end():
    space = SystemSettings(elements=("Ni", "Al"), phases=("fcc",), cell={"kind": "cubic", "repeat": (2, 1, 1)}).space()
    lattice = space.lattices[0]
    everything = {
        structure_key(lattice, np.array(occupation, dtype=np.int8))
        for occupation in itertools.product((0, 1), repeat=lattice.n_sites)
    }
    for seed in range(5):
        campaign = ToyCampaign()
        campaign.run(RandomOrderingsSettings().build("random", space), len(everything), seed=seed)
        assert {candidate_key(space, e.candidate) for e in campaign.evaluations} == everything


def test_where_nothing_is_new_the_search_ends():
    space = SystemSettings(elements=("Ni", "Al"), phases=("fcc",), cell={"kind": "cubic", "repeat": (1, 1, 1)}).space()
    lattice, pure, n_drawn = space.lattices[0], np.zeros(4, dtype=np.int8), 0

    def draw() -> Draft:
        nonlocal n_drawn
        n_drawn += 1
        return lattice, pure, Lineage("random", "random")

    seen = SeenKeys({structure_key(lattice, pure)}, set())
    assert all(first_new(space, seen, draw) is None for _ in range(100))
    assert N_TRIES < n_drawn < 25 * N_TRIES
