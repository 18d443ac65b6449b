"""The least that plays a campaign for a generator: it evaluates with a toy objective and keeps the history."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from alloysmith.generators.base import Candidate, Evaluation, Failure, Generator, History, Objective
from alloysmith.oracles.base import FailureKind, Label
from ase import Atoms

SCORE = "score_gpa"
Judge = Callable[[Atoms], float | None]
"""Value of a structure; ``None`` for a failed evaluation."""


def unlike_neighbours(atoms: Atoms) -> float:
    """A toy objective: like atoms should not follow each other along the list of sites."""
    return float(np.mean(atoms.numbers != np.roll(atoms.numbers, 1)))


class ToyCampaign:
    """Pending candidates and evaluations of one generator."""

    def __init__(self, judge: Judge = unlike_neighbours, direction: str = "maximize") -> None:
        self.judge = judge
        self.objective = Objective(SCORE, direction)  # type: ignore[arg-type]
        self.evaluations: list[Evaluation] = []
        self.pending: list[tuple[str, Candidate]] = []
        self._n_requested = 0

    @property
    def history(self) -> History:
        return History(self.objective, self.evaluations, [candidate for _, candidate in self.pending])

    @property
    def scores(self) -> list[float]:
        """Scores of the labelled evaluations, larger being better."""
        return [s for e in self.evaluations if (s := self.history.score(e)) is not None]

    def submit(self, candidates: Sequence[Candidate]) -> None:
        for candidate in candidates:
            self.pending.append((f"r{self._n_requested:06d}", candidate))
            self._n_requested += 1

    def end(self, position: int = 0) -> Evaluation:
        """Evaluate one pending candidate."""
        request_id, candidate = self.pending.pop(position)
        value = self.judge(candidate.atoms)
        result: Label | Failure = Failure(FailureKind.NOT_CONVERGED, "toy failure")
        if value is not None:
            result = Label({SCORE: value}, candidate.atoms, "toy")
        self.evaluations.append(Evaluation(request_id, 0, candidate, result))
        return self.evaluations[-1]

    def run(self, generator: Generator, n: int, batch: int = 10, seed: int = 0) -> None:
        """Rounds of ``batch`` until ``n`` evaluations have ended, or the generator has nothing more."""
        round_ = 0
        while len(self.evaluations) < n:
            candidates = generator.propose(
                min(batch, n - len(self.evaluations)), self.history, seed=seed * 10_000 + round_
            )
            if not candidates:
                return
            self.submit(candidates)
            while self.pending:
                self.end()
            round_ += 1

    def run_asynchronously(self, generator: Generator, n: int, n_workers: int = 4, seed: int = 0) -> None:
        """Ask for one candidate whenever a worker is free; evaluations end in random order."""
        rng = np.random.default_rng(seed)
        for decision in range(100 * n):
            if len(self.evaluations) >= n:
                return
            free = n_workers - len(self.pending)
            candidates = generator.propose(free, self.history, seed=seed * 10_000 + decision) if free else ()
            self.submit(candidates)
            if not self.pending:
                return
            self.end(int(rng.integers(len(self.pending))))
