"""Ways to choose a batch: what is chosen, how it is spread, and that pending work counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from alloysmith.agents.batch import BatchProblem, Conditioned, pose_batch_problem
from alloysmith.agents.selection import Greedy, NoisyExpectedImprovement, RandomChoice, UpperBound
from alloysmith.generators.base import History, Objective
from alloysmith.surrogates.base import SurrogateError
from alloysmith.tests.agents.conftest import PROPERTY, draw, ended, fitted
from botorch.acquisition.logei import qLogNoisyExpectedImprovement
from botorch.models import SingleTaskGP
from botorch.sampling import SobolQMCNormalSampler

ALL = [NoisyExpectedImprovement(256), UpperBound(1.0), Greedy(), RandomChoice()]
INFORMED = ALL[:3]


def _names(selection) -> str:
    return type(selection).__name__


def _problem(mean, x, *, n_pending=0, n_best=0, chance=None, length=1.0, seed=0) -> BatchProblem:
    """A pool on a line, with a smooth covariance."""
    x, mean = np.asarray(x, dtype=float), np.asarray(mean, dtype=float)
    covariance = np.exp(-0.5 * ((x[:, None] - x[None]) / length) ** 2)
    n_pool = len(x) - n_pending - n_best
    chance = np.ones(n_pool) if chance is None else np.asarray(chance, dtype=float)
    return BatchProblem(n_pool, n_pending, mean, covariance, np.full(len(x), 1e-6), chance, seed)


@pytest.mark.parametrize("selection", INFORMED, ids=_names)
def test_the_best_of_equally_uncertain_candidates_comes_first(selection):
    problem = _problem([0.0, 3.0, 1.0, 2.9], [0.0, 10.0, 20.0, 30.0])
    assert selection.select(problem, 1) == [1]


@pytest.mark.parametrize("selection", [ALL[0], ALL[1]], ids=_names)
def test_uncertainty_is_worth_something(selection):
    problem = _problem([1.0, 1.0, 1.0], [0.0, 10.0, 20.0], n_best=1)
    problem.covariance[0, 0] = 1e-4
    assert selection.select(problem, 1) == [1]


@pytest.mark.parametrize("selection", INFORMED, ids=_names)
def test_batches_are_spread(selection):
    """Two groups of near twins: one of each is taken before a second one."""
    problem = _problem([2.0, 2.0, 2.0, 1.9, 1.9, 1.9], [0.0, 0.01, 0.02, 10.0, 10.01, 10.02])
    chosen = selection.select(problem, 2)
    assert sorted(i // 3 for i in chosen) == [0, 1]


@pytest.mark.parametrize("selection", INFORMED, ids=_names)
def test_twins_of_pending_work_are_passed_over(selection):
    free = _problem([2.0, 1.8], [0.0, 10.0])
    busy = _problem([2.0, 1.8, 2.0], [0.0, 10.0, 0.01], n_pending=1)
    assert selection.select(free, 1) == [0]
    assert selection.select(busy, 1) == [1]


@pytest.mark.parametrize("selection", INFORMED, ids=_names)
def test_likely_failures_are_avoided(selection):
    problem = _problem([2.0, 1.9, 0.0], [0.0, 10.0, 20.0], chance=[0.1, 1.0, 1.0])
    assert selection.select(problem, 1) == [1]


@pytest.mark.parametrize("selection", ALL, ids=_names)
def test_choices_differ_and_repeat(selection):
    rng = np.random.default_rng(3)
    problem = _problem(rng.normal(size=40), rng.uniform(0.0, 8.0, size=40), n_pending=3, n_best=5)
    chosen = selection.select(problem, 12)
    assert len(chosen) == len(set(chosen)) == 12
    assert all(0 <= i < problem.n_pool for i in chosen)
    assert selection.select(problem, 12) == chosen
    assert sorted(selection.select(problem, 100)) == list(range(problem.n_pool))


def test_random_choice_depends_on_the_seed():
    problems = [_problem(np.zeros(30), np.arange(30.0), seed=s) for s in (0, 1)]
    assert RandomChoice().select(problems[0], 5) != RandomChoice().select(problems[1], 5)


def test_identical_candidates_do_not_break_the_factorization():
    problem = _problem(np.ones(20), np.zeros(20), n_best=4)
    assert len(NoisyExpectedImprovement(64).select(problem, 5)) == 5


def test_it_ranks_as_botorch_does():
    """The same posterior, BoTorch's qLogNEI with many samples: values agree up to sampling error."""
    torch.manual_seed(0)
    x = torch.rand(12, 1, dtype=torch.float64)
    y = torch.sin(6.0 * x)
    model = SingleTaskGP(x, y, torch.full_like(y, 1e-4))
    model.covar_module.lengthscale = 0.2
    model.eval()
    pool = torch.linspace(0.0, 1.0, 25, dtype=torch.float64)[:, None]
    everything = torch.cat([pool, x])
    with torch.no_grad():
        posterior = model.posterior(everything)
        mean, covariance = posterior.mean[:, 0].numpy(), posterior.mvn.covariance_matrix.numpy()
        reference = qLogNoisyExpectedImprovement(
            model, x, sampler=SobolQMCNormalSampler(torch.Size([4096]), seed=0), prune_baseline=False
        )(pool[:, None])
    problem = BatchProblem(25, 0, mean, covariance, np.full(37, 1e-4), np.ones(25), 0)
    best = NoisyExpectedImprovement(4096).select(problem, 1)[0]
    assert float(reference[best]) > float(reference.max()) - 0.1


def test_conditioning_is_that_of_joint_normals():
    problem = _problem([0.0, 0.0, 0.0], [0.0, 0.5, 3.0])
    state = Conditioned.of(problem)
    state.measure(0)
    k = problem.covariance
    expected = k - np.outer(k[:, 0], k[0]) / (k[0, 0] + 1e-6)
    np.testing.assert_allclose(state.covariance, expected)
    assert state.std[0] < 0.01


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_problems_are_posed_with_larger_being_better(space, direction):
    evaluations = ended(draw(space, 30, 0))
    surrogate = fitted(space, evaluations)
    pool, pending = draw(space, 8, 1), draw(space, 2, 2)
    history = History(Objective(PROPERTY, direction), evaluations, pending, surrogate)
    problem = pose_batch_problem(space, pool, history, seed=0)
    assert (problem.n_pool, problem.n_pending, len(problem.mean)) == (8, 2, 34)
    sign = 1.0 if direction == "maximize" else -1.0
    expected = surrogate.predict([c.atoms for c in pool]).mean[:, 0]
    np.testing.assert_allclose(problem.mean[:8], sign * expected)


def test_a_surrogate_is_needed(space):
    history = History(Objective(PROPERTY), ended(draw(space, 4, 0)))
    with pytest.raises(SurrogateError, match="needs a surrogate"):
        pose_batch_problem(space, draw(space, 2, 1), history, seed=0)


def test_unseen_phases_get_the_mean_of_all_labels(space):
    evaluations = [e for e in ended(draw(space, 30, 0)) if e.candidate.phase == "fcc"]
    history = History(Objective(PROPERTY), evaluations, (), fitted(space, evaluations))
    pool = draw(space, 4, 1)
    problem = pose_batch_problem(space, pool, history, seed=0)
    scores = [history.score(e) for e in evaluations]
    for i, candidate in enumerate(pool):
        if candidate.phase == "bcc":
            assert problem.mean[i] == pytest.approx(np.mean(scores))
            assert problem.covariance[i, i] == pytest.approx(np.var(scores))
