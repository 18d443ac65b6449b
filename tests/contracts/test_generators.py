"""What every kind of generator promises."""

from __future__ import annotations

import time
from typing import Any, get_args

import numpy as np
import pytest
from alloysmith.errors import StructureError
from alloysmith.generators.base import Candidate, Evaluation, Generator, History, Lineage, Objective
from alloysmith.generators.seen import KEY, structure_key
from alloysmith.generators.settings import GeneratorSettings
from alloysmith.oracles.base import Label
from alloysmith.structures.base import structure_id
from alloysmith.structures.settings import SystemSettings
from alloysmith.structures.space import DesignSpace
from alloysmith.tests.generators.pcdvae.small import TINY
from alloysmith.tests.toy_campaign import SCORE, ToyCampaign, unlike_neighbours
from ase import Atoms
from pydantic import BaseModel, TypeAdapter, ValidationError

KINDS = sorted(settings.model_fields["kind"].default for settings in get_args(get_args(GeneratorSettings)[0]))
WITHOUT_REPEATS = sorted(set(KINDS) - {"local_search"})  # the paper's local search draws its trials blindly
# These look at the whole history, now and then.
LEARNING = ("surrogate_search", "ordering_model", "cluster_expansion", "pcdvae")
EXTRA = {
    "local_search": {"n_trials": 5, "n_steps": 3, "n_chains": 2},
    "ordering_model": {
        "n_initial": 20,
        "growth": 3.0,
        "n_samples": 10,
        "n_rounds": 1,
        "n_calls": 2,
        "n_shells": 2,
        "n_channels": 4,
        "n_layers": 1,
        "n_steps": 8,
    },
    "pcdvae": {
        "n_initial": 20,
        "growth": 10.0,
        "n_levels": 1,
        "n_draws": 2,
        "n_best": 2,
        "model": {
            **TINY.model_dump(exclude_unset=True),
            "encoder": {**TINY.encoder.model_dump(exclude_unset=True), "cutoff_ang": 2.8, "n_degrees": 1},
            "decoder": {**TINY.decoder.model_dump(exclude_unset=True), "cutoff_ang": 2.8, "n_degrees": 1},
        },
        "training": {"max_epochs": 1, "epoch_size": 4, "batch_size": 4, "n_validation_draws": 1},
        "optimization": {"n_heads": 0, "decode_at": [2]},
        "refinement": {"optimism": [1.0], "n_survivors": 1, "n_steps": 1},
    },
    "cluster_expansion": {"n_initial": 20, "growth": 3.0, "n_steps": 20},
    "portfolio": {
        "members": {
            "genetic": {"kind": "genetic"},
            "moves": {"kind": "composition_moves"},
            "chains": {"kind": "annealing", "n_chains": 2},
        }
    },
}
SPACES = {
    "both phases": SystemSettings(elements=("Ni", "Fe", "Cr"), max_fraction=0.9).space(),
    "unequal cells": SystemSettings(elements=("Al", "Ni"), cell={"kind": "cubic", "repeat": (2, 2, 2)}).space(),
    "narrow": SystemSettings(
        elements=("Ni", "Fe", "Cr", "Co"),
        phases=("bcc",),
        cell={"kind": "primitive", "repeat": (3, 3, 3)},
        min_fraction=0.2,
        max_fraction={"Ni": 0.3},
    ).space(),
}
SPACE = SPACES["both phases"]


def _build(kind: str, space: DesignSpace = SPACE, **settings: Any) -> Generator:
    options = {"kind": kind, **EXTRA.get(kind, {}), **settings}
    return TypeAdapter(GeneratorSettings).validate_python(options).build("this one", space)


def _moody(atoms: Atoms) -> float | None:
    """Every third structure fails, by its content."""
    return None if int(structure_id(atoms)[:6], 16) % 3 == 0 else unlike_neighbours(atoms)


def _fingerprints(candidates: list[Candidate]) -> list[tuple[Any, ...]]:
    return [(structure_id(c.atoms), c.phase, c.lineage, dict(c.lineage.facts)) for c in candidates]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_it_is_a_generator_with_the_name_it_was_given(kind):
    generator = _build(kind)
    assert isinstance(generator, Generator)
    assert generator.name == "this one"


def test_it_begins_without_a_history(kind):
    for n in (1, 3):
        candidates = _build(kind).propose(n, History(Objective(SCORE)), seed=0)
        assert 1 <= len(candidates) <= n


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_candidates_are_allowed_structures_on_ideal_sites(kind, space):
    campaign = ToyCampaign(_moody)
    campaign.run(_build(kind, space), 90, batch=15)
    assert len(campaign.evaluations) >= 60
    for evaluation in campaign.evaluations:
        candidate = evaluation.candidate
        lattice, occupation = space.locate(candidate.atoms, candidate.phase)
        assert lattice is space.lattice(candidate.phase)
        assert space.is_allowed(space.counts(occupation))
        assert structure_id(space.atoms(lattice, occupation)) == structure_id(candidate.atoms)
        assert candidate.atoms.info["phase"] == candidate.phase
        assert candidate.lineage.generator.split("/")[0] == "this one"
        assert candidate.lineage.facts[KEY] == structure_key(lattice, occupation)


def test_it_depends_on_its_arguments_only(kind):
    generator = _build(kind)
    campaign = ToyCampaign(_moody)
    campaign.run(generator, 60)
    campaign.submit(generator.propose(2, campaign.history, seed=5))
    first = generator.propose(8, campaign.history, seed=7)
    other = ToyCampaign(_moody)
    other.run(_build(kind), 25, seed=3)  # other work in between, by the same object and by another
    generator.propose(4, other.history, seed=7)
    again = generator.propose(8, campaign.history, seed=7)
    copied = History(campaign.objective, tuple(campaign.evaluations), tuple(campaign.history.pending))
    fresh = _build(kind).propose(8, copied, seed=7)
    assert _fingerprints(list(first)) == _fingerprints(list(again)) == _fingerprints(list(fresh))


def test_a_shorter_history_gives_what_it_gave(kind):
    generator = _build(kind)
    campaign = ToyCampaign()
    campaign.run(generator, 40)
    before = _fingerprints(list(generator.propose(5, campaign.history, seed=1)))
    early = History(campaign.objective, list(campaign.evaluations))
    campaign.run(generator, 70)
    assert _fingerprints(list(generator.propose(5, early, seed=1))) == before


def test_another_seed_gives_other_structures(kind):
    history = History(Objective(SCORE))
    first, second = (_build(kind).propose(1, history, seed=seed)[0] for seed in (0, 1))
    assert structure_id(first.atoms) != structure_id(second.atoms)


@pytest.mark.parametrize("kind", WITHOUT_REPEATS)
def test_no_structure_is_proposed_twice_modulo_symmetry(kind):
    campaign = ToyCampaign(_moody)
    campaign.run(_build(kind), 120)
    campaign.submit(_build(kind).propose(5, campaign.history, seed=77))
    campaign.submit(_build(kind).propose(5, campaign.history, seed=78))
    candidates = [e.candidate for e in campaign.evaluations] + list(campaign.history.pending)
    keys = [structure_key(*SPACE.locate(c.atoms, c.phase)) for c in candidates]
    assert len(keys) == len(set(keys))


def test_it_goes_on_when_everything_fails(kind):
    campaign = ToyCampaign(lambda atoms: None)
    campaign.run(_build(kind), 60)
    assert len(campaign.evaluations) == 60


def test_parents_are_evaluations_with_the_same_phase_first(kind):
    campaign = ToyCampaign()
    campaign.run(_build(kind), 150)
    by_id = {e.request_id: e for e in campaign.evaluations}
    for number, evaluation in enumerate(campaign.evaluations):
        parents = evaluation.candidate.lineage.parents
        assert all(int(parent[1:]) < number for parent in parents)
        if parents and evaluation.candidate.lineage.move != "phase":
            shared = [
                int((by_id[p].candidate.atoms.numbers == evaluation.candidate.atoms.numbers).sum()) for p in parents
            ]
            assert by_id[parents[0]].candidate.phase == evaluation.candidate.phase
            assert shared[0] == max(shared)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"random", "surrogate_search", "pcdvae"}))
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_it_improves_in_either_direction(kind, direction):
    campaign = ToyCampaign(lambda atoms: unlike_neighbours(atoms) + 100.0, direction)
    one_chain = {"n_chains": 1, "n_steps": None} if kind == "local_search" else {}
    campaign.run(_build(kind, **one_chain), 300, batch=10)
    scores = campaign.scores
    assert np.mean(scores[-100:]) > np.mean(scores[:20])


def test_asynchronous_campaigns_go_on_to_the_end(kind):
    campaign = ToyCampaign(_moody)
    campaign.run_asynchronously(_build(kind), 100, n_workers=3)
    assert len(campaign.evaluations) == 100


def test_a_hundred_at_once(kind):
    campaign = ToyCampaign()
    campaign.run(_build(kind), 60)
    candidates = _build(kind).propose(100, campaign.history, seed=0)
    assert 1 <= len(candidates) <= 100


def test_structures_from_elsewhere_do_not_disturb(kind):
    foreign = Atoms("Cu4", positions=np.arange(12.0).reshape(4, 3), cell=np.eye(3) * 9, pbc=True)
    lattice = SPACE.lattices[0]
    turned = SPACE.atoms(lattice, SPACE.random_occupation(np.random.default_rng(0), lattice))
    turned = turned[np.random.default_rng(1).permutation(len(turned))]
    given = Lineage("user", "given")
    evaluations = [
        Evaluation(f"r{k}", 0, Candidate(atoms, "fcc", given), Label({SCORE: 9.0 - k}, atoms, "f"))
        for k, atoms in enumerate((foreign, turned))
    ]
    history = History(Objective(SCORE), evaluations, [Candidate(foreign, "bcc", given)])
    candidates = _build(kind).propose(5, history, seed=0)
    assert candidates
    for candidate in candidates:
        assert not candidate.lineage.parents  # neither is in the order of the sites, so neither can warm-start


def test_a_small_space_is_exhausted_without_repeats_or_hanging(kind):
    space = SystemSettings(
        elements=("Ni", "Al"), phases=("fcc",), cell={"kind": "tetragonal", "repeat": (1, 1, 2)}
    ).space()
    campaign = ToyCampaign()
    campaign.run(_build(kind, space), 60)
    keys = {structure_key(*space.locate(e.candidate.atoms)) for e in campaign.evaluations}
    if kind in WITHOUT_REPEATS:
        assert len(keys) == len(campaign.evaluations)
    assert len(keys) >= 3


def test_an_unknown_setting_is_refused(kind):
    with pytest.raises(ValidationError, match="n_bananas"):
        _build(kind, n_bananas=3)


def test_every_setting_is_explained(kind):
    settings = next(s for s in get_args(get_args(GeneratorSettings)[0]) if s.model_fields["kind"].default == kind)
    assert issubclass(settings, BaseModel)
    properties = settings.model_json_schema()["properties"]
    assert all("description" in schema for name, schema in properties.items() if name != "kind")


@pytest.mark.parametrize("kind", sorted(set(KINDS) - set(LEARNING)))
def test_the_cost_of_a_candidate_does_not_grow_with_the_history(kind):
    campaign = ToyCampaign()
    campaign.run(_build(kind), 40)
    template = campaign.evaluations[0]
    for number in range(20_000):
        facts = {KEY: f"{number:032x}"}
        candidate = Candidate(
            template.candidate.atoms, template.candidate.phase, Lineage("elsewhere", "given", (), facts)
        )
        label = Label({SCORE: 0.01 * (number % 7)}, candidate.atoms, "toy")
        campaign.evaluations.append(Evaluation(f"s{number:06d}", 0, candidate, label))
    generator = _build(kind)
    generator.propose(1, campaign.history, seed=0)
    started = time.process_time()
    n = sum(len(generator.propose(1, campaign.history, seed=seed)) for seed in range(1, 41))
    assert n > 0
    assert (time.process_time() - started) / n < 6e-3  # about 0.7 ms on an idle core


def test_compositions_that_the_system_forbids_are_reported_at_once():
    with pytest.raises(StructureError, match="outside the bounds"):
        _build("random", compositions=("Ni",))
