"""The P-CDVAE as a generator of campaigns; what all generators promise is in tests/contracts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from alloysmith.generators.base import History, Objective
from alloysmith.generators.pcdvae import training_job
from alloysmith.generators.pcdvae.generator import PcdvaeGeneratorSettings
from alloysmith.generators.pcdvae.optimization import LatentOptimizationSettings
from alloysmith.generators.pcdvae.training_settings import PcdvaeTrainingSettings
from alloysmith.structures.settings import SystemSettings
from alloysmith.tests.generators.pcdvae.small import TINY
from alloysmith.tests.toy_campaign import ToyCampaign
from pydantic import ValidationError

SPACE = SystemSettings.model_validate({"elements": ["Ni", "Fe", "Cr"], "cell": {"repeat": [2, 2, 2]}}).space()
QUICK = PcdvaeGeneratorSettings(
    n_initial=4,
    growth=1.3,
    model=TINY,
    training=PcdvaeTrainingSettings(max_epochs=2, epoch_size=4, batch_size=4, n_validation_draws=1),
    n_epochs_again=1,
    optimization=LatentOptimizationSettings(decode_at=(5,), n_heads=2),
    n_levels=2,
    n_draws=2,
    n_best=3,
    random_share=0.0,
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
    assert all(moves[move] >= 1 for move in ("renewed", "optimized", "sampled", "interpolated")), moves
    learnt = [e.candidate.lineage for e in campaign.evaluations if e.candidate.lineage.move != "random"]
    assert all(np.isfinite(lineage.facts["forecast"]) for lineage in learnt)


def test_without_enough_labels_it_proposes_random_orderings() -> None:
    candidates = QUICK.build("vae", SPACE).propose(5, History(Objective("bulk_modulus_gpa")), seed=0)
    assert [c.lineage.move for c in candidates] == ["random"] * 5


def test_of_several_draws_it_proposes_the_one_that_a_head_prefers(monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = ToyCampaign()
    generator = QUICK.model_copy(update={"n_draws": 3}).build("vae", SPACE)
    campaign.run(generator, 4, batch=4)
    asked = []
    forecasts = type(generator)._forecasts

    def spy(self, fitted, heads, drawn):
        found = forecasts(self, fitted, heads, drawn)
        asked.append((drawn, found))
        return found

    monkeypatch.setattr(type(generator), "_forecasts", spy)
    candidates = generator.propose(6, campaign.history, seed=0)
    ((drawn, found),) = asked
    assert found.shape == (2, 6, 3)
    for k, candidate in enumerate(candidates):
        occupations = [draft.types.tolist() for draft in drawn[k]]
        mine = SPACE.occupation_of_numbers(candidate.atoms.numbers).tolist()
        values = [found[:, k, j] for j, occupation in enumerate(occupations) if occupation == mine]
        assert any((value >= found[:, k].max(1)).any() for value in values)


def test_a_limit_of_time_is_refused() -> None:
    with pytest.raises(ValidationError, match="depend on the machine"):
        PcdvaeGeneratorSettings(training=PcdvaeTrainingSettings(max_cpu_s=60.0))
