"""Small campaigns to show to agents."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from alloysmith.agents.base import Budget, CampaignView
from alloysmith.generators.base import Candidate, Evaluation, Failure, History, Lineage, Objective
from alloysmith.generators.seen import make_candidate
from alloysmith.oracles.base import FailureKind, Label
from alloysmith.structures.settings import SystemSettings
from alloysmith.structures.space import DesignSpace
from alloysmith.surrogates.base import Surrogate, TrainingSet
from alloysmith.surrogates.gaussian_process import GaussianProcessSettings

PROPERTY = "toy_gpa"
MakeEvaluations = Callable[..., list[Evaluation]]
MakeView = Callable[..., CampaignView]


@pytest.fixture(scope="session")
def space() -> DesignSpace:
    return SystemSettings(
        elements=("Ni", "Fe", "Cr"), cell={"kind": "cubic", "repeat": (2, 2, 2)}, max_fraction=0.9
    ).space()


def draw(space: DesignSpace, n: int, seed: int) -> list[Candidate]:
    """Random candidates of alternating phase."""
    rng = np.random.default_rng(seed)
    candidates = []
    for i in range(n):
        lattice = space.lattices[i % len(space.lattices)]
        occupation = space.random_occupation(rng, lattice)
        candidates.append(make_candidate(space, lattice, occupation, Lineage("test", "random")))
    return candidates


def toy_value(candidate: Candidate) -> float:
    """A smooth function of composition; BCC is better."""
    nickel = float((candidate.atoms.numbers == 28).mean())
    return 100.0 - 50.0 * (nickel - 0.4) ** 2 + (5.0 if candidate.phase == "bcc" else 0.0)


def ended(candidates: list[Candidate], value: Callable[[Candidate], float | None] = toy_value) -> list[Evaluation]:
    """Evaluations of the candidates; ``None`` means a failure."""
    evaluations = []
    for i, candidate in enumerate(candidates):
        result = value(candidate)
        evaluations.append(
            Evaluation(
                f"r{i:06d}",
                0,
                candidate,
                Failure(FailureKind.LEFT_PHASE, "toy")
                if result is None
                else Label({PROPERTY: result}, candidate.atoms, "toy"),
            )
        )
    return evaluations


def fitted(space: DesignSpace, evaluations: list[Evaluation]) -> Surrogate:
    """A Gaussian process on the labels."""
    labelled = [(e.candidate.atoms, float(e.label.values[PROPERTY])) for e in evaluations if e.label is not None]
    targets = np.array([[value] for _, value in labelled])
    data = TrainingSet([atoms for atoms, _ in labelled], targets, {PROPERTY: "GPa"})
    return GaussianProcessSettings().build(space).fit(data, seed=0)


def view_of(
    evaluations: list[Evaluation],
    *,
    surrogate: Surrogate | None = None,
    pending: tuple[Candidate, ...] = (),
    pool: tuple[Candidate, ...] = (),
    n_generated: int = 0,
    n_trained: int | None = None,
    elapsed_s: float = 0.0,
    direction: str = "maximize",
    seed: int = 1,
) -> CampaignView:
    """What an agent would see of these evaluations."""
    objective = Objective(PROPERTY, direction)  # type: ignore[arg-type]
    if n_trained is None:
        n_trained = surrogate.spec.n_train if surrogate is not None else 0
    history = History(objective, evaluations, pending, surrogate)
    return CampaignView(0, history, n_trained, {}, pool, n_generated, elapsed_s, seed)


PLENTY = Budget(n_evaluations=1000, n_wanted=1000)
