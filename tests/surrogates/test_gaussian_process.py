"""The Gaussian process against textbook formulas and known functions."""

from __future__ import annotations

import numpy as np
import pytest
from alloysmith.structures.base import PHASES
from alloysmith.surrogates.base import SurrogateError, TrainingSet
from alloysmith.surrogates.gaussian_process import GaussianProcess, GaussianProcessSettings
from alloysmith.surrogates.phase_process import FitOptions, Hyperparameters, PhaseProcess, fit_process
from alloysmith.tests.surrogates.conftest import PROPERTIES, Labelled, toy_property

GROUPS = np.array([0, 0, 1, 1, 1])
HYPER = Hyperparameters(np.array([0.8, 0.3]), 2.0, 0.01, 0.2, 100.0, 5.0)
OPTIONS = FitOptions(max_iterations=40, n_fit=400, outlier_threshold=6.0)


def _covariance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    difference = (a[:, None] - b[None]) / HYPER.lengths[GROUPS]
    r = np.sqrt(5.0 * (difference**2).sum(axis=2))
    return HYPER.variance * (1.0 + r + r**2 / 3.0) * np.exp(-r)


@pytest.fixture
def process() -> PhaseProcess:
    rng = np.random.default_rng(0)
    return PhaseProcess(rng.random((30, 5)), 100.0 + 5.0 * rng.normal(size=30), GROUPS, HYPER)


def test_posterior_equals_that_of_plain_linear_algebra(process):
    new = np.random.default_rng(1).random((7, 5))
    k = _covariance(process.inputs, process.inputs) + HYPER.noise * np.eye(30)
    cross = _covariance(new, process.inputs)
    standardized = (process.targets - HYPER.shift) / HYPER.scale - HYPER.mean
    mean = HYPER.shift + HYPER.scale * (HYPER.mean + cross @ np.linalg.solve(k, standardized))
    covariance = HYPER.scale**2 * (_covariance(new, new) - cross @ np.linalg.solve(k, cross.T))
    found_mean, found_std = process.predict(new)
    np.testing.assert_allclose(found_mean, mean, rtol=1e-9)
    np.testing.assert_allclose(found_std, np.sqrt(np.diag(covariance)), rtol=1e-7)
    joint_mean, joint_covariance = process.joint(new)
    np.testing.assert_allclose(joint_mean, mean, rtol=1e-9)
    np.testing.assert_allclose(joint_covariance, covariance, atol=1e-8)


def test_leave_one_out_equals_leaving_one_out(process):
    mean, std = process.leave_one_out()
    for i in (0, 13, 29):
        rest = np.arange(30) != i
        without = PhaseProcess(process.inputs[rest], process.targets[rest], GROUPS, HYPER)
        expected, spread = without.predict(process.inputs[i : i + 1])
        assert mean[i] == pytest.approx(expected[0], rel=1e-9)
        assert std[i] == pytest.approx(np.hypot(spread[0], np.sqrt(process.noise_variance)), rel=1e-7)


def test_predictions_in_chunks_equal_predictions_at_once(process, monkeypatch):
    new = np.random.default_rng(2).random((50, 5))
    whole = process.predict(new)
    monkeypatch.setattr("alloysmith.surrogates.phase_process._PREDICT_CHUNK", 300)
    np.testing.assert_allclose(process.predict(new), whole, rtol=1e-10)


def test_it_learns_and_knows_what_it_does_not_know(space, labelled: Labelled):
    surrogate = GaussianProcessSettings().build(space).fit(labelled(90, 0), seed=0)
    test = labelled(300, 1)
    prediction = surrogate.predict(test.structures)
    residual = test.targets[:, 0] - prediction.mean[:, 0]
    assert np.sqrt(np.mean(residual**2)) < 0.15 * test.targets.std()
    covered = np.mean(np.abs(residual) < 1.96 * prediction.std[:, 0])
    assert 0.88 <= covered <= 1.0
    assert surrogate.metrics["n_outliers"] <= 2


def test_a_wild_label_is_set_aside(space, labelled: Labelled):
    clean = labelled(60, 2)
    targets = clean.targets.copy()
    targets[17] -= 60.0
    wild = TrainingSet(clean.structures, targets, PROPERTIES)
    test = labelled(200, 3)

    def rmse(threshold: float) -> float:
        surrogate = GaussianProcessSettings(outlier_threshold=threshold).build(space).fit(wild, seed=0)
        return float(np.sqrt(np.mean((surrogate.predict(test.structures).mean - test.targets) ** 2)))

    assert rmse(6.0) < 0.3 * rmse(0.0)


def test_a_label_is_believed_once_others_confirm_it():
    rng = np.random.default_rng(4)
    inputs = rng.random((60, 5))
    inputs[48:, 0] += 1.5  # a region of its own, with values of its own
    targets = inputs.sum(axis=1) + np.where(np.arange(60) < 48, 0.0, 30.0)
    alone, confirmed = (
        fit_process(inputs[:n], targets[:n], GROUPS, OPTIONS, least_scale=0.1, seed=0) for n in (49, 60)
    )
    assert alone.n_outliers == 1
    assert confirmed.n_outliers <= 3  # on the edge between both
    assert np.sum(np.abs(confirmed.predict(inputs[48:])[0] - targets[48:]) < 3.0) >= 9


def test_warm_starts_continue_and_reach_the_same_fit(space, labelled: Labelled):
    trainer = GaussianProcessSettings().build(space)
    data, test = labelled(80, 5), labelled(100, 6)
    earlier = trainer.fit(labelled(72, 5), seed=0)
    warm = trainer.fit(data, seed=0, warm_start=earlier).predict(test.structures).mean
    cold = trainer.fit(data, seed=0).predict(test.structures).mean
    assert np.abs(warm - cold).max() < 0.25 * test.targets.std()
    assert np.abs(warm - cold).mean() < 0.02 * test.targets.std()


def test_hyperparameters_of_many_labels_come_from_a_sample(space, labelled: Labelled):
    data = labelled(90, 7)
    few = GaussianProcessSettings(n_fit=30).build(space).fit(data, seed=0)
    assert sum(len(p[0].targets) + p[0].n_outliers for p in few.processes.values()) == 90
    test = labelled(100, 8)
    assert np.corrcoef(few.predict(test.structures).mean[:, 0], test.targets[:, 0])[0, 1] > 0.95


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_few_labels_are_enough_to_start(space, labelled: Labelled, n):
    surrogate = GaussianProcessSettings().build(space).fit(labelled(n, 9), seed=0)
    known = [s for s in labelled(40, 10).structures if s.info["phase"] in surrogate.phases]
    prediction = surrogate.predict(known)
    assert np.isfinite(prediction.mean).all()
    assert (prediction.std > 0.0).all()


def test_equal_labels_do_not_break_it(space, labelled: Labelled):
    data = labelled(20, 11)
    constant = TrainingSet(data.structures, np.full((20, 1), 180.0), PROPERTIES)
    surrogate = GaussianProcessSettings().build(space).fit(constant, seed=0)
    assert surrogate.predict(labelled(10, 12).structures).mean == pytest.approx(180.0, abs=1e-3)


def test_an_unseen_phase_is_refused(space, labelled: Labelled):
    data = labelled(20, 13)
    rows = [i for i, s in enumerate(data.structures) if s.info["phase"] == "fcc"]
    only_fcc = TrainingSet([data.structures[i] for i in rows], data.targets[rows], PROPERTIES)
    surrogate = GaussianProcessSettings().build(space).fit(only_fcc, seed=0)
    assert surrogate.phases == ("fcc",)
    with pytest.raises(SurrogateError, match="bcc was not in the training data"):
        surrogate.predict(data.structures)


def test_joint_predictions_agree_with_single_ones(space, labelled: Labelled):
    surrogate = GaussianProcessSettings().build(space).fit(labelled(60, 14), seed=0)
    structures = labelled(12, 15).structures
    joint = surrogate.joint(structures, "toy_modulus_gpa")
    single = surrogate.predict(structures)
    np.testing.assert_allclose(joint.mean, single.mean[:, 0], rtol=1e-9)
    np.testing.assert_allclose(np.sqrt(np.diag(joint.covariance)), single.std[:, 0], rtol=1e-5)
    phases = np.array([s.info["phase"] for s in structures])
    assert (joint.covariance[np.ix_(phases == PHASES[0], phases == PHASES[1])] == 0.0).all()


def test_two_properties_are_two_processes(space, labelled: Labelled):
    data = labelled(60, 16)
    both = TrainingSet(
        data.structures, np.hstack([data.targets, -2.0 * data.targets]), {"a_gpa": "GPa", "b_gpa": "GPa"}
    )
    prediction = GaussianProcessSettings().build(space).fit(both, seed=0).predict(labelled(20, 17).structures)
    np.testing.assert_allclose(prediction.mean[:, 1], -2.0 * prediction.mean[:, 0], rtol=1e-3)


def test_a_stopped_fit_is_usable(space, labelled: Labelled):
    calls: list[int] = []

    def stop(step: int, _: object) -> bool:
        calls.append(step)
        return False

    surrogate = GaussianProcessSettings().build(space).fit(labelled(40, 18), seed=0, report=stop)
    assert calls == [1, 2, 3]
    assert isinstance(surrogate, GaussianProcess)
    assert surrogate.phases == ("bcc", "fcc")
    bcc, fcc = (p[0].hyperparameters for p in surrogate.processes.values())
    assert bcc.variance != 1.0
    assert (fcc.variance, fcc.noise) == pytest.approx((1.0, 1e-3))  # the prior's, for lack of a fit


def test_structures_of_other_sizes_are_predicted_alike(space, labelled: Labelled):
    surrogate = GaussianProcessSettings().build(space).fit(labelled(80, 19), seed=0)
    small = labelled(4, 20).structures
    large = [s.repeat((2, 1, 1)) for s in small]
    np.testing.assert_allclose(surrogate.predict(large).mean, surrogate.predict(small).mean, atol=1e-8)
    assert toy_property(space, list(small)) == pytest.approx(toy_property(space, large))
