"""What a generator is: ask/tell, with everything it may know given as arguments.

A generator holds settings and the design space, nothing else. What it did before is in the history, where each
evaluation carries the lineage of its candidate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Protocol, runtime_checkable

from ase import Atoms

from ..oracles.base import FailureKind, Label
from ..structures.base import Phase
from ..surrogates.base import Surrogate, SurrogateState


@dataclass(frozen=True)
class Lineage:
    """Where a candidate came from.

    Attributes:
        generator: name of the generator as configured; ``"portfolio/member"`` for a member of a portfolio.
        move: what was done (``"random"``, ``"swap"``, ``"crossover"``, …).
        parents: request ids of the evaluations it was derived from; the first one warm-starts the oracle when it
            has the same sites and phase.
        facts: JSON-able notes the generator needs to go on from the history (chain and step of a local search).
    """

    generator: str
    move: str
    parents: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Candidate:
    """A proposed structure on ideal sites."""

    atoms: Atoms
    phase: Phase
    lineage: Lineage


@dataclass(frozen=True)
class Failure:
    """Why an evaluation ended without a label."""

    kind: FailureKind
    message: str
    details: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Evaluation:
    """A request that has ended, with a label or a failure.

    Attributes:
        request_id: unique within the campaign, increasing in the order of submission.
        round: decision round that submitted it.
        candidate: what was evaluated.
        result: label, or failure.
        wall_s: seconds the worker was occupied, all attempts together.
        worker: name of the worker that ended it.
    """

    request_id: str
    round: int
    candidate: Candidate
    result: Label | Failure
    wall_s: float = 0.0
    worker: str = ""

    @property
    def label(self) -> Label | None:
        return self.result if isinstance(self.result, Label) else None


@dataclass(frozen=True)
class Objective:
    """What the campaign optimizes: one scalar property of the oracle's labels."""

    property: str
    direction: Literal["maximize", "minimize"] = "maximize"

    def score(self, label: Label) -> float:
        """The property with the sign that makes larger better."""
        value = float(label.values[self.property])
        return value if self.direction == "maximize" else -value


@dataclass(frozen=True)
class LearnedModel:
    """A model that a generator has learned from a campaign's evaluations.

    Attributes:
        n_labels: it was trained on the first so many labelled evaluations.
        state: the model.
    """

    n_labels: int
    state: SurrogateState


@dataclass(frozen=True)
class History:
    """All that has ended so far, and what is on its way. Cheap to make: nothing is copied.

    Attributes:
        objective: what counts as good.
        evaluations: ended, in order of request id within synchronous campaigns, of ending in asynchronous ones.
        pending: candidates submitted and not yet ended.
        surrogate: latest fitted model of the objective, if any.
        models: name of a generator that learns -> the model it is to use, those without one left out; ``None`` where
            nobody trains for them (see :mod:`~alloysmith.generators.learned`).
    """

    objective: Objective
    evaluations: Sequence[Evaluation] = ()
    pending: Sequence[Candidate] = ()
    surrogate: Surrogate | None = None
    models: Mapping[str, LearnedModel] | None = None

    def score(self, evaluation: Evaluation) -> float | None:
        """Larger is better; ``None`` for a failure."""
        label = evaluation.label
        return None if label is None else self.objective.score(label)

    def best(self, n: int = 1) -> list[Evaluation]:
        """The ``n`` best labelled evaluations, best first; ties keep the earlier one first."""
        scored = [(s, i) for i, e in enumerate(self.evaluations) if (s := self.score(e)) is not None]
        scored.sort(key=lambda pair: (-pair[0], pair[1]))
        return [self.evaluations[i] for _, i in scored[:n]]


@runtime_checkable
class Generator(Protocol):
    """Proposes candidates."""

    @property
    def name(self) -> str: ...

    def propose(self, n: int, history: History, *, seed: int) -> Sequence[Candidate]:
        """Propose up to ``n`` candidates; deterministic in (n, history, seed).

        Fewer than ``n``, or none, means that the generator has nothing to add until pending work ends.
        """
        ...
