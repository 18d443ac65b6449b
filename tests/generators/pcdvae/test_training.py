"""Trainings that learn, that go on bit by bit, and that come back from divergence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from alloysmith.errors import StructureError
from alloysmith.generators.pcdvae import training
from alloysmith.generators.pcdvae.fitted import FittedPcdvae
from alloysmith.generators.pcdvae.labelled import CrystalDataSettings, labelled_crystals
from alloysmith.generators.pcdvae.model import Pcdvae
from alloysmith.generators.pcdvae.settings import DecoderSettings, EncoderSettings, PcdvaeSettings
from alloysmith.generators.pcdvae.training import train
from alloysmith.generators.pcdvae.training_settings import PcdvaeTrainingSettings
from alloysmith.surrogates.base import SurrogateError
from alloysmith.surrogates.model_file import load_state, save_state
from alloysmith.surrogates.potentials.schedules import CosineScheduleSettings, PlateauScheduleSettings
from alloysmith.tests.generators.pcdvae.small import ELEMENTS, alloys, crystals, tiny_model

QUICK = PcdvaeTrainingSettings(
    batch_size=4, learning_rate=5e-3, schedule=CosineScheduleSettings(), max_epochs=4, checkpoint_every_s=0.0
)


def weights(model) -> dict[str, np.ndarray]:
    return {name: x.detach().numpy().copy() for name, x in model.state_dict().items()}


def assert_equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for name, x in a.items():
        np.testing.assert_array_equal(x, b[name], err_msg=name)


def test_it_learns() -> None:
    model, known = tiny_model(), crystals()
    result = train(model, known, (), QUICK.model_copy(update={"max_epochs": 8, "epoch_size": 16}), seed=0)
    losses = [row["held_out_loss"] for row in result.history]
    assert losses[-1] < 0.8 * losses[0]
    first, last = result.history[0], result.history[-1]
    assert all(last[f"held_out_{name}"] < first[f"held_out_{name}"] for name in ("lattice", "coordinates", "types"))
    assert (result.n_steps, result.stop_reason, result.n_rollbacks) == (32, "all_epochs", 0)
    assert losses[result.best_epoch - 1] == min(losses)


def test_half_precision_learns_as_well() -> None:
    known = crystals()
    settings = QUICK.model_copy(update={"max_epochs": 5, "epoch_size": 16})
    full, half = (
        train(tiny_model(), known, (), settings.model_copy(update={"precision": precision}), seed=0).history
        for precision in ("float32", "bfloat16")
    )
    assert [row["training_loss"] for row in full] != [row["training_loss"] for row in half]
    assert half[-1]["held_out_loss"] == pytest.approx(full[-1]["held_out_loss"], rel=0.03)


@pytest.mark.parametrize(
    "changes",
    [{}, {"schedule": PlateauScheduleSettings(patience=1)}, {"precision": "bfloat16"}],
    ids=["cosine", "plateau", "bfloat16"],
)
def test_a_killed_training_goes_on_bit_by_bit(changes, tmp_path: Path) -> None:
    known, path = crystals(), tmp_path / "checkpoint"
    settings = QUICK.model_copy(update=changes)
    whole = tiny_model()
    in_one = train(whole, known[:4], known[4:], settings, seed=3)

    def kill(epoch: int, _) -> bool:
        if epoch == 3:
            raise KeyboardInterrupt
        return True

    with pytest.raises(KeyboardInterrupt):
        train(tiny_model(), known[:4], known[4:], settings, seed=3, checkpoint_path=path, report=kill)
    resumed = tiny_model()
    again = train(resumed, known[:4], known[4:], settings, seed=3, checkpoint_path=path)
    assert_equal(weights(whole), weights(resumed))
    assert list(again.history) == list(in_one.history)
    assert again.best_epoch == in_one.best_epoch


def test_so_does_one_whose_sums_are_long(tmp_path: Path) -> None:
    """From some size on, the last bits of matrix products depend on where in memory the weights begin."""
    cells = [atoms * (2, 2, 1) for atoms in alloys()]
    known = labelled_crystals(cells, CrystalDataSettings(elements=ELEMENTS, phases=("fcc", "bcc"))).crystals
    sizes = PcdvaeSettings(
        n_latent=32,
        encoder=EncoderSettings(n_channels=32, n_interaction_channels=16, n_output_channels=64),
        decoder=DecoderSettings(n_channels=32, n_triplet_channels=16, n_bilinear_channels=16),
    )
    settings = PcdvaeTrainingSettings(max_epochs=4, checkpoint_every_s=0.0, schedule=CosineScheduleSettings())

    def run(epochs: int, path: Path | None) -> Pcdvae:
        model = Pcdvae(sizes, ELEMENTS, ("fcc", "bcc"), max_atoms=32)
        going_on = {"checkpoint_path": path, "report": lambda epoch, _: epoch < epochs}
        train(model, known[:4], known[4:], settings, seed=0, **going_on)
        return model

    whole = run(4, None)
    run(2, tmp_path / "checkpoint")
    assert_equal(weights(whole), weights(run(4, tmp_path / "checkpoint")))
    assert all(p.untyped_storage().nbytes() == p.nbytes for p in whole.parameters())


def test_one_that_was_asked_to_end_can_go_on_and_other_inputs_are_refused(tmp_path: Path) -> None:
    known, path = crystals(), tmp_path / "checkpoint"
    ended = train(tiny_model(), known, (), QUICK, seed=0, checkpoint_path=path, report=lambda epoch, _: epoch < 2)
    assert (ended.stop_reason, len(ended.history)) == ("asked", 2)
    with pytest.raises(SurrogateError, match="other data"):
        train(tiny_model(), known[:5], (), QUICK, seed=0, checkpoint_path=path)
    with pytest.raises(SurrogateError, match="other seed"):
        train(tiny_model(), known, (), QUICK, seed=1, checkpoint_path=path)
    resumed, whole = tiny_model(), tiny_model()
    assert len(train(resumed, known, (), QUICK, seed=0, checkpoint_path=path).history) == 4
    train(whole, known, (), QUICK, seed=0)
    assert_equal(weights(resumed), weights(whole))


def test_divergence_is_rolled_back_and_told() -> None:
    settings = QUICK.model_copy(update={"learning_rate": 300.0, "max_rollbacks": 30, "max_epochs": 2})
    seen: list[dict[str, float]] = []
    model = tiny_model()
    result = train(model, crystals(), (), settings, seed=0, report=lambda _, m: seen.append(dict(m)) or True)
    told = [m for m in seen if "rate_scale" in m]
    assert len(told) == result.n_rollbacks >= 1
    assert told[0]["rate_scale"] == 0.5
    assert len(result.history) == 2
    assert all(np.isfinite(row["held_out_loss"]) for row in result.history)
    assert all(np.isfinite(x).all() for x in weights(model).values())


def test_one_that_is_killed_right_after_a_return_goes_on_bit_by_bit(tmp_path: Path) -> None:
    settings = QUICK.model_copy(update={"learning_rate": 300.0, "max_rollbacks": 30, "max_epochs": 2})
    known, path = crystals(), tmp_path / "checkpoint"
    whole = tiny_model()
    in_one = train(whole, known, (), settings, seed=0)

    def kill(_: int, metrics) -> bool:
        if metrics["rollbacks"] == 2 and "rate_scale" in metrics:
            raise KeyboardInterrupt
        return True

    with pytest.raises(KeyboardInterrupt):
        train(tiny_model(), known, (), settings, seed=0, checkpoint_path=path, report=kill)
    resumed = tiny_model()
    again = train(resumed, known, (), settings, seed=0, checkpoint_path=path)
    assert again.n_rollbacks == in_one.n_rollbacks >= 2
    assert_equal(weights(whole), weights(resumed))


def test_without_held_out_structures_it_judges_no_more_than_it_learns_from(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[int] = []
    judge = training._Training._judge

    def spy(self):
        judged.append(len(self.held_out))
        return judge(self)

    monkeypatch.setattr(training._Training, "_judge", spy)
    for epoch_size in (None, 8, 3):
        train(
            tiny_model(), crystals(), (), QUICK.model_copy(update={"max_epochs": 1, "epoch_size": epoch_size}), seed=0
        )
    assert judged == [6, 6, 3]


def test_a_training_that_diverges_for_good_is_an_error() -> None:
    settings = QUICK.model_copy(update={"learning_rate": 1e25, "max_rollbacks": 2})
    with pytest.raises(SurrogateError, match="diverges: 3 times in a row"):
        train(tiny_model(), crystals(), (), settings, seed=0)


def test_a_warm_start_keeps_units_and_one_structure_is_too_few() -> None:
    model, known = tiny_model(), crystals()
    train(model, known, (), QUICK, seed=0)
    mean = model.value_mean.clone()
    first = train(model, known[:3], (), QUICK, seed=1, is_warm=True).history[0]["held_out_lattice"]
    assert torch.equal(model.value_mean, mean)
    assert first < train(tiny_model(), known[:3], (), QUICK, seed=1).history[0]["held_out_lattice"]
    with pytest.raises(StructureError, match="1 structures"):
        train(tiny_model(), known[:1], (), QUICK, seed=0)


def test_a_trained_model_is_read_back_as_it_was(tmp_path: Path) -> None:
    model, known = tiny_model(), crystals()
    train(model, known, (), QUICK, seed=0)
    fitted = FittedPcdvae.of(model, "bulk_modulus_gpa", known)
    save_state(fitted.state(), tmp_path / "vae.safetensors")
    read = FittedPcdvae.from_state(load_state(tmp_path / "vae.safetensors"))
    assert_equal(weights(read.model), weights(model))
    assert read.model.settings == model.settings
    np.testing.assert_array_equal(read.latents, fitted.latents)
    assert read.sites.keys() == {(0, 8), (1, 8)}
    np.testing.assert_array_equal(read.sites[1, 8], known[1].positions @ np.linalg.inv(known[1].cell))
    rng = np.random.default_rng
    np.testing.assert_array_equal(read.random_latents(3, rng(0)), fitted.random_latents(3, rng(0)))
    assert not np.allclose(read.random_latents(3, rng(0), "normal"), fitted.random_latents(3, rng(0)))
