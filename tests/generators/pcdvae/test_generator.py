"""The P-CDVAE as a generator of campaigns; what all generators promise is in tests/contracts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from alloysmith.generators.base import History, Objective
from alloysmith.generators.pcdvae import generator, training_job
from alloysmith.generators.pcdvae.generator import PcdvaeGeneratorSettings, _few
from alloysmith.generators.pcdvae.refinement import LatentJudge, RefinementSettings
from alloysmith.generators.pcdvae.training_settings import PcdvaeTrainingSettings
from alloysmith.generators.random_orderings import RandomOrderingsSettings
from alloysmith.generators.seen import read_history, structure_key
from alloysmith.structures.settings import SystemSettings
from alloysmith.tests.generators.pcdvae.small import TINY
from alloysmith.tests.toy_campaign import ToyCampaign
from pydantic import ValidationError

SPACE = SystemSettings.model_validate({"elements": ["Ni", "Fe", "Cr"], "cell": {"repeat": [2, 2, 2]}}).space()
QUICK = PcdvaeGeneratorSettings.model_validate(
    {
        "n_initial": 4,
        "growth": 1.3,
        "model": TINY.model_dump(exclude_unset=True),  # small, and otherwise as campaigns have it
        "training": {"max_epochs": 2, "epoch_size": 4, "n_validation_draws": 1},
        "n_epochs_again": 1,
        "optimization": {"decode_at": (5,), "n_heads": 2},
        "n_levels": 2,
        "n_draws": 2,
        "n_best": 3,
        "refinement": {"n_survivors": 2, "n_steps": 3},
        "random_share": 0.0,
    }
)


def test_it_trains_when_labels_have_grown_and_goes_on_from_earlier_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[tuple[int, bool, int]] = []
    train = training_job.train

    def spy(model, crystals, held_out, settings, **options):
        trained.append((len(crystals), options["is_warm"], settings.max_epochs))
        return train(model, crystals, held_out, settings, **options)

    monkeypatch.setattr(training_job, "train", spy)
    campaign = ToyCampaign()
    campaign.run(QUICK.build("vae", SPACE), 16, batch=4)
    assert trained == [(n, n > 4, 2 if n == 4 else 1) for n in (4, 5, 6, 8, 11)]
    moves = Counter(e.candidate.lineage.move for e in campaign.evaluations)
    assert moves["random"] >= 4
    assert all(moves[move] >= 1 for move in ("renewed", "optimized", "sampled", "interpolated", "refined")), moves
    learnt = [e.candidate.lineage for e in campaign.evaluations if e.candidate.lineage.move != "random"]
    assert all(np.isfinite(lineage.facts["forecast"]) for lineage in learnt)


def test_without_enough_labels_it_proposes_random_orderings() -> None:
    candidates = QUICK.build("vae", SPACE).propose(5, History(Objective("bulk_modulus_gpa")), seed=0)
    assert [c.lineage.move for c in candidates] == ["random"] * 5


def test_of_several_draws_it_proposes_the_best_in_a_draw_of_what_they_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = ToyCampaign()
    generator = QUICK.model_copy(update={"n_draws": 3, "refinement": RefinementSettings(share=0.0)}).build("vae", SPACE)
    campaign.run(generator, 12, batch=4)
    asked = []
    drawn = LatentJudge.drawn

    def spy(self, lattice, occupations, rng):
        found = drawn(self, lattice, occupations, rng)
        asked.append((lattice, occupations, *found))
        return found

    monkeypatch.setattr(LatentJudge, "drawn", spy)
    candidates = generator.propose(6, campaign.history, seed=0)
    assert len(asked) == 6
    known = {structure_key(c.lattice, c.occupation) for c in read_history(campaign.history, SPACE).by_id.values()}
    for (lattice, occupations, mean, scores), candidate in zip(asked, candidates, strict=False):
        keys = [structure_key(lattice, one) for one in occupations]
        mine = structure_key(lattice, SPACE.occupation_of_numbers(candidate.atoms.numbers))
        best = next((k for k in np.argsort(-scores) if keys[k] not in known), None)
        if best is None:  # nothing new: a random ordering comes instead
            continue
        assert mine == keys[best]
        assert candidate.lineage.facts["forecast"] == pytest.approx(mean[best])
        known.add(mine)


def test_refined_proposals_promise_more_than_what_they_were_refined_from() -> None:
    campaign = ToyCampaign()
    plain, refined = (
        QUICK.model_copy(update={"refinement": RefinementSettings(share=share, optimism=(0.0,))}).build("vae", SPACE)
        for share in (0.0, 1.0)
    )
    campaign.run(plain, 20)
    forecasts = {
        name: [
            c.lineage.facts["forecast"] for c in g.propose(4, campaign.history, seed=0) if c.lineage.move != "random"
        ]
        for name, g in (("plain", plain), ("refined", refined))
    }
    assert len(forecasts["refined"]) == 4
    assert min(forecasts["refined"]) > max(forecasts["plain"])
    assert max(forecasts["refined"]) > max(campaign.scores) - 0.5


def test_a_few_settings_change_nothing_else() -> None:
    default = PcdvaeGeneratorSettings()
    given = PcdvaeGeneratorSettings.model_validate(
        {
            "model": {"n_latent": 32, "decoder": {"n_channels": 32}},
            "training": {"device": "cuda"},
            "optimization": {"n_heads": 0},
        }
    )
    decoder = default.model.decoder.model_copy(update={"n_channels": 32})
    assert given.model == default.model.model_copy(update={"n_latent": 32, "decoder": decoder})
    assert given.training == default.training.model_copy(update={"device": "cuda"})
    assert given.optimization == default.optimization.model_copy(update={"n_heads": 0})


def test_atoms_that_start_further_off_than_the_model_has_learnt_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"start_sigma_ang is 0\.3 Å, but the model learns no more noise than"):
        PcdvaeGeneratorSettings(start_sigma_ang=0.3)


def test_very_many_labels_are_judged_by_the_best_and_some_others(monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = ToyCampaign()
    campaign.run(RandomOrderingsSettings().build("random", SPACE), 30)
    index = read_history(campaign.history, SPACE)
    everything = _few(index, seed=0)
    assert [k.request_id for k in everything] == list(index.by_id)
    monkeypatch.setattr(generator, "_MOST_KNOWN", 12)
    few = _few(index, seed=0)
    assert [k.request_id for k in few[:6]] == [k.request_id for k in index.best(6)]
    assert len({k.request_id for k in few}) == 12
    assert [k.request_id for k in _few(index, seed=1)[:6]] == [k.request_id for k in few[:6]]
    assert {k.request_id for k in _few(index, seed=1)} != {k.request_id for k in few}


def test_a_limit_of_time_is_refused() -> None:
    with pytest.raises(ValidationError, match="depend on the machine"):
        PcdvaeGeneratorSettings(training=PcdvaeTrainingSettings(max_cpu_s=60.0))
