"""The search on a surrogate: what it finds, where it starts, what it leaves out."""

from __future__ import annotations

import numpy as np
import pytest
from alloysmith.generators.base import Candidate, Evaluation, Failure, History, Lineage, Objective
from alloysmith.generators.feasibility import chances, learn_feasibility
from alloysmith.generators.ordering_search import crossed_batch, swapped_batch, transmuted_batch
from alloysmith.generators.seen import candidate_key, make_candidate
from alloysmith.generators.surrogate_search import SurrogateSearchSettings
from alloysmith.oracles.base import FailureKind, Label
from alloysmith.structures.settings import SystemSettings
from alloysmith.structures.space import DesignSpace
from alloysmith.surrogates.base import TrainingSet
from alloysmith.surrogates.features import OrderFeatures
from alloysmith.surrogates.polynomial import PolynomialSettings
from alloysmith.surrogates.settings import GaussianProcessSettings

PROPERTY = "toy_gpa"
SPACE = SystemSettings(
    elements=("Ni", "Fe", "Cr"), cell={"kind": "cubic", "repeat": (2, 2, 2)}, max_fraction=0.75
).space()
ORDER = OrderFeatures(SPACE.elements, 1, False, SPACE.lattices)


def _toy(candidate: Candidate) -> float:
    """Likes Ni-Cr neighbours, and BCC."""
    features = ORDER.from_atoms([candidate.atoms]).values[0]
    return 100.0 + 100.0 * features[4] - 30.0 * features[1] + (3.0 if candidate.phase == "bcc" else 0.0)


def _evaluations(n: int, seed: int = 0, space: DesignSpace = SPACE) -> list[Evaluation]:
    rng = np.random.default_rng(seed)
    evaluations = []
    for i in range(n):
        lattice = space.lattices[i % len(space.lattices)]
        candidate = make_candidate(space, lattice, space.random_occupation(rng, lattice), Lineage("test", "random"))
        label = Label({PROPERTY: _toy(candidate)}, candidate.atoms, "toy")
        evaluations.append(Evaluation(f"r{i:06d}", 0, candidate, label))
    return evaluations


def _history(evaluations: list[Evaluation], direction: str = "maximize", polynomial: bool = False) -> History:
    targets = np.array([[_toy(e.candidate)] for e in evaluations])
    data = TrainingSet([e.candidate.atoms for e in evaluations], targets, {PROPERTY: "GPa"})
    settings = PolynomialSettings() if polynomial else GaussianProcessSettings()
    surrogate = settings.build(SPACE).fit(data, seed=0)
    return History(Objective(PROPERTY, direction), evaluations, (), surrogate)  # type: ignore[arg-type]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_it_goes_far_beyond_what_it_was_shown(direction):
    evaluations = _evaluations(40)
    history = _history(evaluations, direction)
    proposed = SurrogateSearchSettings(n_steps=15).build("search", SPACE).propose(40, history, seed=1)
    sign = 1.0 if direction == "maximize" else -1.0
    shown = max(sign * _toy(e.candidate) for e in evaluations)
    found = max(sign * _toy(c) for c in proposed)
    assert found > shown + 3.0


def test_it_proposes_only_new_structures_within_bounds():
    evaluations = _evaluations(30)
    history = _history(evaluations)
    search = SurrogateSearchSettings(n_steps=4).build("search", SPACE)
    first = search.propose(60, history, seed=1)
    again = search.propose(60, History(history.objective, evaluations, first[:20], history.surrogate), seed=1)
    known = {candidate_key(SPACE, e.candidate) for e in evaluations} | {candidate_key(SPACE, c) for c in first[:20]}
    assert len(first) == 60
    assert known.isdisjoint(candidate_key(SPACE, c) for c in again)
    for candidate in first:
        assert max((candidate.atoms.numbers == z).mean() for z in (28, 26, 24)) <= 0.75


def test_parents_share_the_most_sites():
    evaluations = _evaluations(30)
    by_id = {e.request_id: e for e in evaluations}
    proposed = SurrogateSearchSettings(n_steps=3).build("search", SPACE).propose(10, _history(evaluations), seed=0)
    for candidate in proposed:
        (parent,) = candidate.lineage.parents
        same_phase = [e for e in evaluations if e.candidate.phase == candidate.phase]
        shared = {e.request_id: (e.candidate.atoms.numbers == candidate.atoms.numbers).sum() for e in same_phase}
        assert by_id[parent].candidate.phase == candidate.phase
        assert shared[parent] == max(shared.values())


def test_any_surrogate_that_knows_lattices_will_do():
    proposed = (
        SurrogateSearchSettings(n_steps=5)
        .build("search", SPACE)
        .propose(10, _history(_evaluations(40), polynomial=True), seed=0)
    )
    assert len(proposed) == 10


def test_without_a_surrogate_it_proposes_random_structures():
    history = History(Objective(PROPERTY), _evaluations(4))
    proposed = SurrogateSearchSettings().build("search", SPACE).propose(6, history, seed=0)
    assert [c.lineage.move for c in proposed] == ["random"] * 6
    assert {c.lineage.generator for c in proposed} == {"search"}


def test_a_phase_the_surrogate_never_saw_is_left_out():
    evaluations = [e for e in _evaluations(40) if e.candidate.phase == "fcc"]
    proposed = SurrogateSearchSettings(n_steps=3).build("search", SPACE).propose(20, _history(evaluations), seed=0)
    assert {c.phase for c in proposed} == {"fcc"}


def test_regions_that_fail_are_left():
    def failed(evaluation: Evaluation) -> Evaluation:
        chromium = (evaluation.candidate.atoms.numbers == 24).mean()
        if evaluation.candidate.phase == "fcc" or chromium < 0.3:
            return evaluation
        return Evaluation(
            evaluation.request_id, 0, evaluation.candidate, Failure(FailureKind.LEFT_PHASE, "toy"), 0.0, ""
        )

    evaluations = [failed(e) for e in _evaluations(150)]
    labelled = [e for e in evaluations if e.label is not None]
    surrogate = _history(labelled).surrogate
    history = History(Objective(PROPERTY), evaluations, (), surrogate)
    feasibility = learn_feasibility(SPACE, evaluations)
    assert feasibility.chance("bcc", np.array([[0.3, 0.2, 0.5]]))[0] < 0.5
    assert feasibility.chance("bcc", np.array([[0.5, 0.4, 0.1]]))[0] > 0.8
    assert feasibility.chance("fcc", np.array([[0.3, 0.2, 0.5]]))[0] == 1.0
    proposed = SurrogateSearchSettings(n_steps=15).build("search", SPACE).propose(60, history, seed=0)
    in_bcc = [c for c in proposed if c.phase == "bcc"]
    chromium = [(c.atoms.numbers == 24).mean() for c in in_bcc]
    assert len(in_bcc) > 5
    assert np.mean(chromium) < 0.3
    assert chances(SPACE, evaluations, in_bcc).mean() > 0.5


def test_moves_keep_what_they_should():
    rng = np.random.default_rng(0)
    lattice = SPACE.lattices[0]
    parents = np.array([SPACE.random_occupation(rng, lattice) for _ in range(200)])
    swapped = swapped_batch(rng, parents)
    np.testing.assert_array_equal(SPACE.counts(swapped), SPACE.counts(parents))
    assert ((swapped != parents).sum(axis=1) >= 2).mean() > 0.9
    changed = (transmuted_batch(rng, parents, 3) != parents).sum(axis=1)
    assert changed.min() >= 0
    assert (changed == 1).mean() > 0.5
    crossed = crossed_batch(rng, parents, lattice)
    assert 0.02 < (crossed != parents).mean() < 0.4
    pure = np.zeros((5, lattice.n_sites), dtype=np.int8)
    np.testing.assert_array_equal(swapped_batch(rng, pure), pure)
    np.testing.assert_array_equal(transmuted_batch(rng, pure, 1), pure)
