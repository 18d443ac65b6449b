"""What every kind of barrier model promises, and what each learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from alloysmith.surrogates.barriers.base import BarrierModel
from alloysmith.surrogates.barriers.boosted_trees import BoostedTreesSettings, _features
from alloysmith.surrogates.barriers.calibration import Calibration
from alloysmith.surrogates.barriers.hop_lattice import hop_lattice
from alloysmith.surrogates.barriers.hops import Hops
from alloysmith.surrogates.barriers.lattice_network import LatticeNetwork
from alloysmith.surrogates.barriers.network_model import NetworkModel
from alloysmith.surrogates.barriers.settings import (
    BarrierSettings,
    barrier_model_from_state,
    is_barrier_model,
)
from alloysmith.surrogates.barriers.tree_growing import grow
from alloysmith.surrogates.base import SurrogateError
from alloysmith.surrogates.model_file import load_state, save_state
from alloysmith.tests.surrogates.barriers.hop_tables import ELEMENTS, random_crystal, toy_hops
from pydantic import TypeAdapter

SMALL: dict[str, dict[str, Any]] = {
    "ridge": {"n_shells": 2},
    "trees": {"n_shells": 2, "max_trees": 40, "base": {"kind": "ridge", "n_shells": 1}},
    "dense": {"n_shells": 2, "training": {"max_epochs": 25, "learning_rate": 0.02, "batch_size": 20}},
    "lattice": {
        "n_shells": 2,
        "n_members": 2,
        "width": 8,
        "base": {"kind": "ridge", "n_shells": 2},
        "training": {"optimizer": "adam", "schedule": "cosine", "max_epochs": 3, "learning_rate": 0.01},
    },
    "cnn": {
        "maps": {"n_voxels": 8, "n_shells": 2},
        "filters": 4,
        "training": {"max_epochs": 4, "learning_rate": 0.01, "batch_size": 20},
    },
}
KINDS = sorted(SMALL)


def settings_of(kind: str, **changes: Any) -> Any:
    return TypeAdapter(BarrierSettings).validate_python({"kind": kind, **SMALL[kind], **changes})


def fit(kind: str, train: Hops, validation: Hops, **changes: Any) -> BarrierModel:
    return settings_of(kind, **changes).fit(train, validation, elements=ELEMENTS, seed=3)


@pytest.fixture(scope="module")
def parts() -> tuple[Hops, Hops]:
    hops = toy_hops(6, 500)
    is_judged = hops.crystal == 5
    return hops.take(~is_judged), hops.take(is_judged)


@pytest.fixture(scope="module", params=KINDS)
def fitted(request: pytest.FixtureRequest, parts: tuple[Hops, Hops]) -> BarrierModel:
    return fit(request.param, *parts)


def test_all_kinds_are_tested() -> None:
    kinds = {settings.model_fields["kind"].default for settings in get_args(get_args(BarrierSettings)[0])}
    assert kinds == set(SMALL)


def test_a_model_beats_the_mean(fitted: BarrierModel, parts: tuple[Hops, Hops]) -> None:
    train, judged = parts
    assert isinstance(fitted, BarrierModel)
    assert (fitted.spec.elements, fitted.spec.phase, fitted.spec.n_train) == (ELEMENTS, "bcc", len(train))
    found = fitted.predict(judged)
    assert found.mean_ev.shape == found.std_ev.shape == (len(judged),)
    assert (found.std_ev > 0.0).all()
    of_mean = np.abs(judged.barriers_ev - train.barriers_ev.mean()).mean()
    assert np.abs(found.mean_ev - judged.barriers_ev).mean() < 0.7 * of_mean
    scaled = (found.mean_ev - judged.barriers_ev) / found.std_ev
    assert np.sqrt((scaled**2).mean()) == pytest.approx(1.0, abs=0.02)  # calibrated on these hops


def test_a_model_file_gives_the_same_predictions(
    fitted: BarrierModel, parts: tuple[Hops, Hops], tmp_path: Path
) -> None:
    save_state(fitted.state(), tmp_path / "m.safetensors")
    state = load_state(tmp_path / "m.safetensors")
    assert is_barrier_model(state)
    again = barrier_model_from_state(state)
    before, after = fitted.predict(parts[1]), again.predict(parts[1])
    np.testing.assert_array_equal(before.mean_ev, after.mean_ev)
    np.testing.assert_array_equal(before.std_ev, after.std_ev)
    assert again.spec == fitted.spec


def test_one_seed_one_model(fitted: BarrierModel, parts: tuple[Hops, Hops]) -> None:
    again = fit(fitted.spec.kind, *parts)
    np.testing.assert_array_equal(fitted.predict(parts[1]).mean_ev, again.predict(parts[1]).mean_ev)


def test_what_a_model_does_not_know_is_refused(fitted: BarrierModel) -> None:
    strange = random_crystal(0)
    strange.symbols[:] = "Fe"
    hops = toy_hops(1, 5)
    with pytest.raises(SurrogateError, match="Fe"):
        fitted.predict(Hops((strange,), *(getattr(hops, n) for n in COLUMNS)))
    with pytest.raises(SurrogateError, match="fcc"):
        fitted.predict(toy_hops(1, 5, "fcc"))


def test_a_training_does_not_go_on_with_other_hops(parts: tuple[Hops, Hops], tmp_path: Path) -> None:
    train, judged = parts
    settings = settings_of("lattice", base=None, n_members=1)
    known = {"elements": ELEMENTS, "seed": 3, "checkpoint_path": tmp_path / "c"}
    first = settings.fit(train, judged, **known)
    again = settings.fit(train, judged, **known)
    np.testing.assert_array_equal(first.predict(judged).mean_ev, again.predict(judged).mean_ev)
    with pytest.raises(SurrogateError, match="other inputs"):
        settings.fit(replace(train, vacancy=train.neighbour, neighbour=train.vacancy), judged, **known)
    with pytest.raises(SurrogateError, match="other inputs"):
        settings.fit(train, judged, **{**known, "elements": ELEMENTS[::-1]})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_networks_from_a_gpu_predict_without_one(parts: tuple[Hops, Hops]) -> None:
    model = fit("lattice", *parts)
    assert isinstance(model, NetworkModel)
    training = {**SMALL["lattice"]["training"], "device": "cuda"}
    moved = replace(model, settings=settings_of("lattice", training=training))
    np.testing.assert_array_equal(model.predict(parts[1]).mean_ev, moved.predict(parts[1]).mean_ev)


COLUMNS = ("crystal", "vacancy", "neighbour", "barriers_ev", "groups", "rows")


@pytest.mark.parametrize("kind", ["ridge", "lattice", pytest.param("cnn", marks=pytest.mark.slow)])
def test_fcc_is_learnt_as_well(kind: str) -> None:
    hops = toy_hops(4, 300, "fcc")
    changes = {"training": {**SMALL["cnn"]["training"], "max_epochs": 12}} if kind == "cnn" else {}
    model = fit(kind, hops.take(hops.crystal < 3), hops.take(hops.crystal == 3), **changes)
    judged = hops.take(hops.crystal == 3)
    error = np.abs(model.predict(judged).mean_ev - judged.barriers_ev).mean()
    assert error < 0.7 * np.abs(judged.barriers_ev - hops.barriers_ev.mean()).mean()


def test_unknown_sites_are_no_species(parts: tuple[Hops, Hops]) -> None:
    model = fit("lattice", *parts)
    crystal = random_crystal(9)
    hops = toy_hops(1, 5)
    base = Hops((crystal,), *(getattr(hops, n) for n in COLUMNS))
    crystal = crystal.copy()
    crystal.numbers[hops.vacancy[0]] = 0
    same = Hops((crystal,), *(getattr(hops, n) for n in COLUMNS))
    assert model.predict(base).mean_ev[0] == model.predict(same).mean_ev[0]


def test_trees_are_those_of_scikit_learn(parts: tuple[Hops, Hops]) -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    settings = BoostedTreesSettings(n_shells=2, max_trees=30)
    model = settings.fit(*parts, elements=ELEMENTS, seed=0)
    features = _features(settings, model.spec, parts[0])
    learner = HistGradientBoostingRegressor(
        max_iter=30,
        learning_rate=settings.learning_rate,
        max_leaf_nodes=settings.max_leaves,
        min_samples_leaf=settings.min_leaf_hops,
        l2_regularization=settings.l2,
        early_stopping=False,
    ).fit(features, parts[0].barriers_ev)
    trees = grow(settings, features, parts[0].barriers_ev, seed=0)
    judged = _features(settings, model.spec, parts[1])
    np.testing.assert_allclose(trees.values(judged), learner.predict(judged), atol=1e-12)
    np.testing.assert_allclose(trees.stages(judged)[:, -1], trees.values(judged), atol=1e-12)
    np.testing.assert_allclose(trees.first(7).values(judged), trees.stages(judged)[:, 7], atol=1e-12)


def _random_network() -> LatticeNetwork:
    torch.manual_seed(0)
    network = LatticeNetwork(hop_lattice("bcc", 3), 3, width=6, n_layers=2).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network.double()


def test_the_lattice_network_has_the_symmetry_of_the_hop() -> None:
    network, lattice = _random_network(), hop_lattice("bcc", 3)
    rng = np.random.default_rng(0)
    sites, moving = torch.as_tensor(rng.integers(0, 3, (5, len(lattice.sites)))), torch.tensor([0, 1, 2, 0, 1])
    crystal = torch.as_tensor(rng.dirichlet([1.0, 1.0, 1.0], 5))
    with torch.inference_mode():
        barriers = network(sites, moving, crystal)
        assert barriers.std() > 0.1
        for operation in lattice.operations:
            torch.testing.assert_close(network(sites[:, torch.as_tensor(operation)], moving, crystal), barriers)
        # there and back: the saddle is the same, so barriers differ by the energies of the two ends
        for operation in lattice.saddle_operations[len(lattice.operations) :]:
            back = sites[:, torch.as_tensor(operation)]
            there = network.saddle(sites, moving, crystal)
            torch.testing.assert_close(network.saddle(back, moving, crystal), there)
            assert (network(back, moving, crystal) - barriers).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["lattice", "dense", "cnn"])
def test_a_small_untrained_network_starts_at_its_linear_model(kind: str, parts: tuple[Hops, Hops]) -> None:
    training = {**SMALL[kind]["training"], "learning_rate": 1e-12, "max_epochs": 1}
    model = fit(kind, *parts, training=training, n_members=1, base={"kind": "ridge", "n_shells": 2})
    assert isinstance(model, NetworkModel)
    assert model.base is not None
    difference = model.predict(parts[1]).mean_ev - model.base.predict(parts[1]).mean_ev
    assert np.ptp(difference) < 1e-6


def test_calibration_finds_what_the_errors_were_made_with() -> None:
    rng = np.random.default_rng(0)
    spread = rng.uniform(0.0, 0.1, 4_000)
    residual = rng.normal(size=4_000) * np.sqrt(0.02**2 + (2.0 * spread) ** 2)
    found = Calibration.of(residual, spread)
    assert found.floor_ev == pytest.approx(0.02, rel=0.2)
    assert found.factor == pytest.approx(2.0, rel=0.1)
    single = Calibration.of(residual, np.zeros(4_000))
    assert single.std_ev(np.zeros(1))[0] == pytest.approx(residual.std(), rel=0.02)


@pytest.mark.parametrize("phase", ["bcc", "fcc"])
def test_pictures_turned_by_the_lattice_give_equivalent_hops_one_barrier(phase: str) -> None:
    hops = toy_hops(4, 200, phase)
    train, judged = hops.take(hops.crystal < 3), hops.take(hops.crystal == 3)
    maps = {"n_voxels": 8, "n_shells": 2, "width": 0.5, "turns": "lattice"}
    model = fit("cnn", train, judged, maps=maps, filters=(2, 3, 4, 5))
    mirrored = judged.crystals[3].copy()
    mirrored.positions[:, 0] *= -1.0
    mirrored.set_cell(mirrored.cell.array * [-1.0, 1.0, 1.0])
    seen = replace(judged, crystals=(*judged.crystals[:3], mirrored), lattices={})
    before, after = model.predict(judged), model.predict(seen)
    assert np.ptp(before.mean_ev) > 0.01
    np.testing.assert_allclose(before.mean_ev, after.mean_ev, atol=1e-5)
