"""What every kind of surrogate promises."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from alloysmith.structures.settings import SystemSettings
from alloysmith.surrogates.base import Surrogate, SurrogateError, SurrogateTrainer, TrainingSet
from alloysmith.surrogates.lattice_surrogate import LatticeSurrogate
from alloysmith.surrogates.settings import SurrogateSettings, load_surrogate, save_surrogate, surrogate_from_state
from pydantic import TypeAdapter

KINDS = sorted(settings.model_fields["kind"].default for settings in get_args(get_args(SurrogateSettings)[0]))
SPACE = SystemSettings(elements=("Ni", "Fe", "Cr"), cell={"kind": "cubic", "repeat": (2, 2, 2)}).space()
PROPERTIES = {"bulk_modulus_gpa": "GPa", "energy_ev_per_atom": "eV"}


def _data(n: int, seed: int) -> TrainingSet:
    rng = np.random.default_rng(seed)
    structures = []
    for i in range(n):
        lattice = SPACE.lattices[i % 2]
        structures.append(SPACE.atoms(lattice, SPACE.random_occupation(rng, lattice)))
    nickel = np.array([(s.numbers == 28).mean() for s in structures])
    targets = np.stack([180.0 + 10.0 * nickel + rng.normal(scale=0.3, size=n), -4.2 - 0.3 * nickel], axis=1)
    return TrainingSet(structures, targets, PROPERTIES)


@pytest.fixture(params=KINDS)
def trainer(request: pytest.FixtureRequest) -> SurrogateTrainer:
    return TypeAdapter(SurrogateSettings).validate_python({"kind": request.param}).build(SPACE)


@pytest.fixture
def fitted(trainer: SurrogateTrainer) -> Surrogate:
    return trainer.fit(_data(40, 0), seed=3)


def test_protocols(trainer, fitted):
    assert isinstance(trainer, SurrogateTrainer)
    assert isinstance(fitted, Surrogate)
    assert isinstance(fitted, LatticeSurrogate)
    assert (dict(fitted.spec.properties), fitted.spec.elements, fitted.spec.n_train) == (PROPERTIES, SPACE.elements, 40)


def test_predictions_have_the_shapes_and_follow_the_data(fitted):
    data = _data(30, 1)
    prediction = fitted.predict(data.structures)
    assert prediction.mean.shape == prediction.std.shape == (30, 2)
    assert (prediction.std > 0.0).all()
    for column in range(2):
        assert np.corrcoef(prediction.mean[:, column], data.targets[:, column])[0, 1] > 0.8


def test_no_structures_give_no_predictions(fitted):
    assert fitted.predict([]).mean.shape == (0, 2)


def test_occupations_are_predicted_as_their_structures_are(fitted):
    lattice = SPACE.lattices[1]
    rng = np.random.default_rng(2)
    occupations = np.array([SPACE.random_occupation(rng, lattice) for _ in range(6)])
    structures = [SPACE.atoms(lattice, o) for o in occupations]
    fast, slow = fitted.predict_occupations(lattice, occupations), fitted.predict(structures)
    np.testing.assert_allclose(fast.mean, slow.mean, rtol=1e-8)
    np.testing.assert_allclose(fast.std, slow.std, rtol=1e-5)
    features = fitted.features(lattice, occupations)
    np.testing.assert_array_equal(fitted.predict_features(lattice.phase, features).mean, fast.mean)
    np.testing.assert_allclose(features[:, :3], SPACE.counts(occupations) / lattice.n_sites, atol=1e-12)


def test_joint_predictions_are_covariances(fitted):
    structures = _data(10, 3).structures
    joint = fitted.joint(structures, "energy_ev_per_atom")
    assert np.linalg.eigvalsh(joint.covariance).min() > -1e-8 * np.abs(joint.covariance).max()
    np.testing.assert_allclose(joint.mean, fitted.predict(structures).mean[:, 1], rtol=1e-9)


def test_fits_are_deterministic(trainer, fitted):
    again = trainer.fit(_data(40, 0), seed=3)
    a, b = fitted.state(), again.state()
    assert dict(a.settings) == dict(b.settings)
    assert a.arrays.keys() == b.arrays.keys()
    for name, array in a.arrays.items():
        np.testing.assert_array_equal(array, b.arrays[name])


def test_states_and_files_give_identical_predictions(fitted, tmp_path: Path):
    structures = _data(15, 4).structures
    expected = fitted.predict(structures)
    save_surrogate(fitted, tmp_path / "model.safetensors")
    for back in (surrogate_from_state(fitted.state()), load_surrogate(tmp_path / "model.safetensors")):
        found = back.predict(structures)
        np.testing.assert_array_equal(found.mean, expected.mean)
        np.testing.assert_array_equal(found.std, expected.std)
        assert back.spec == fitted.spec


def test_incomplete_states_are_refused(fitted):
    state = fitted.state()
    broken = type(state)(state.kind, state.settings, {})
    with pytest.raises(SurrogateError, match="incomplete"):
        surrogate_from_state(broken)


def test_progress_is_reported_and_ends_with_figures(trainer):
    steps: list[tuple[int, dict[str, float]]] = []

    def note(step, metrics):
        steps.append((step, dict(metrics)))
        return True

    trainer.fit(_data(40, 0), seed=3, report=note)
    assert [s for s, _ in steps] == sorted({s for s, _ in steps})
    assert {"rmse", "mae", "r2", "nll", "coverage_95", "n_train", "wall_s"} <= steps[-1][1].keys()
    assert steps[-1][1]["n_train"] == 40.0


def test_no_data_is_an_error(trainer):
    with pytest.raises(SurrogateError, match="at least one label"):
        trainer.fit(TrainingSet([], np.zeros((0, 2)), PROPERTIES), seed=0)


def test_foreign_elements_are_an_error(fitted):
    atoms = SPACE.lattices[0].decorate(["Al"] * SPACE.lattices[0].n_sites, 16.0)
    with pytest.raises(SurrogateError, match="holds Al"):
        fitted.predict([atoms])


@pytest.mark.parametrize("kind", KINDS)
def test_elements_are_enough_to_learn_from_files(kind):
    trainer = TypeAdapter(SurrogateSettings).validate_python({"kind": kind}).build(("Cr", "Fe", "Ni"))
    data = _data(24, 5)
    fitted = trainer.fit(data, seed=0)
    large = [s.repeat((1, 1, 2)) for s in data.structures[:4]]
    np.testing.assert_allclose(fitted.predict(large).mean, fitted.predict(data.structures[:4]).mean, rtol=1e-6)
