"""Local search by atom swaps, as the "LS" data of Naghdi, Kaszuba et al. were made (NiFeCr, their section 3.2).

A chain starts from a random ordering. In every step a number of random transpositions of unlike atoms are tried, each
from the same ground structure; the best of the ground structure and the tried ones is the ground structure of the next
step. The composition never changes along a chain.

The state of a chain is in the lineage of its candidates: facts ``chain``, ``step`` (0 is the start) and ``swap``, and
the ground structure as the parent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from ase import Atoms
from pydantic import PositiveInt

from ..structures.settings import Settings
from ..structures.space import DesignSpace
from .base import Candidate, History, Lineage
from .moves import swapped, unlike_swaps
from .random_orderings import random_start
from .seen import HistoryIndex, Known, known_keys, make_candidate, read_history


class LocalSearchSettings(Settings):
    """Local search by swapping unlike atoms at fixed composition."""

    kind: Literal["local_search"] = "local_search"
    n_trials: PositiveInt = 20
    """Random transpositions tried in each step; the best structure, the step's starting one included, is kept."""
    n_steps: PositiveInt | None = 20
    """Steps after which a chain ends and another starts from a new random structure; without a value (null) a chain
    goes on as long as the budget lasts."""
    n_chains: PositiveInt = 1
    """Chains that run side by side, so that asynchronous campaigns need not wait for the end of a chain's step."""

    def build(self, name: str, space: DesignSpace) -> LocalSearch:
        """The generator of these settings."""
        return LocalSearch(name, space, self)


@dataclass(frozen=True)
class _Stage:
    """Where a chain stands: the step to propose for, and what of it is done.

    Attributes:
        ground: structure the step's trials are made from; ``None`` when the chain needs a start.
        tried: transpositions of this step that were evaluated or are pending.
        is_waiting: nothing can be proposed before pending work ends.
    """

    chain: int
    step: int
    ground: Known | None = None
    tried: tuple[tuple[int, int], ...] = ()
    is_waiting: bool = False


@dataclass(frozen=True)
class LocalSearch:
    """Proposes the trials of its chains' present steps; nothing while all chains wait for pending trials.

    Trials are drawn as in the paper, whether their structures are known or not, but none twice in one step.
    """

    name: str
    space: DesignSpace
    settings: LocalSearchSettings

    def propose(self, n: int, history: History, *, seed: int) -> Sequence[Candidate]:
        """Propose up to ``n`` trials or starts; chains that are behind come first."""
        rng = np.random.default_rng(seed)
        index = read_history(history, self.space)
        pending: dict[int, list[Candidate]] = {}
        for candidate in history.pending:
            if candidate.lineage.generator == self.name:
                pending.setdefault(int(candidate.lineage.facts["chain"]), []).append(candidate)
        seen = known_keys(history, self.space)
        stages = [self._stage(slot, index, pending) for slot in range(self.settings.n_chains)]
        n_chains = self.settings.n_chains
        proposed: list[Candidate] = []
        for stage in sorted(stages, key=lambda s: (s.chain // n_chains, s.step, len(s.tried), s.chain)):
            if stage.is_waiting or len(proposed) >= n:
                continue
            if stage.ground is not None:
                proposed += self._trials(rng, stage, stage.ground, n - len(proposed))
                continue
            start = random_start(rng, self.space, seen, self.name, {"chain": stage.chain, "step": 0})
            proposed += [] if start is None else [start]
        return proposed

    def _trials(self, rng: np.random.Generator, stage: _Stage, ground: Known, n: int) -> list[Candidate]:
        n_left = self.settings.n_trials - len(stage.tried)
        return [
            make_candidate(
                self.space,
                ground.lattice,
                swapped(ground.occupation, pair),
                Lineage(
                    self.name,
                    "swap",
                    ground.parents,
                    {"chain": stage.chain, "step": stage.step, "swap": list(pair)},
                ),
            )
            for pair in unlike_swaps(rng, ground.occupation, min(n, n_left), exclude=stage.tried)
        ]

    def _stage(self, slot: int, index: HistoryIndex, pending: dict[int, list[Candidate]]) -> _Stage:
        """Where the latest chain of a slot stands. A slot runs the chains slot, slot + n_chains, …, one at a time."""
        ended = index.chains(self.name)
        chain = max((c for c in (*ended, *pending) if c % self.settings.n_chains == slot), default=slot)
        known, waiting = ended.get(chain, []), pending.get(chain, [])
        if not known and not waiting:
            return _Stage(chain, 0)
        if not known or (waiting and _step(waiting[0]) == 0):
            return _Stage(chain, 0, is_waiting=True)
        step = max(_step(known[-1].evaluation.candidate), *(_step(c) for c in waiting), 0)
        tried = _of_step(known, step)
        if step == 0:
            return self._next(chain, 0, _best(tried))
        lineages = [k.evaluation.candidate.lineage for k in tried] + [c.lineage for c in waiting]
        ground = index.by_id[lineages[0].parents[0]]
        pairs = tuple((int(a), int(b)) for a, b in (lineage.facts["swap"] for lineage in lineages))
        if len(pairs) < min(self.settings.n_trials, _n_unlike(ground.occupation)):
            return _Stage(chain, step, ground, pairs)
        if waiting:
            return _Stage(chain, step, ground, pairs, is_waiting=True)
        return self._next(chain, step, _best([ground, *tried]))

    def _next(self, chain: int, step: int, ground: Known | None) -> _Stage:
        """The stage after a finished step; ``ground`` is what it ended with, ``None`` after a start that failed."""
        if ground is None:
            return _Stage(chain, 0)
        is_over = self.settings.n_steps is not None and step >= self.settings.n_steps
        if is_over or _n_unlike(ground.occupation) == 0:
            return _Stage(chain + self.settings.n_chains, 0)
        return _Stage(chain, step + 1, ground)


def _step(candidate: Candidate) -> int:
    return int(candidate.lineage.facts["step"])


def _of_step(known: Sequence[Known], step: int) -> list[Known]:
    """The evaluations of a chain's latest step, in order; read from the end, so the cost does not grow."""
    position = len(known)
    while position > 0 and _step(known[position - 1].evaluation.candidate) == step:
        position -= 1
    return list(known[position:])


def _best(known: Sequence[Known]) -> Known | None:
    """The best labelled one, the earlier of equals; ``None`` if all failed."""
    labelled = [k for k in known if k.score is not None]
    return max(labelled, key=lambda k: k.score if k.score is not None else -np.inf, default=None)


def _n_unlike(occupation: np.ndarray) -> int:
    """Number of pairs of sites with unlike atoms."""
    counts = np.bincount(occupation)
    return int(len(occupation) ** 2 - (counts**2).sum()) // 2


def swap_trials(rng: np.random.Generator, atoms: Atoms, n: int) -> list[Atoms]:
    """Up to ``n`` copies of a structure in each of which another two unlike atoms have changed places.

    The positions stay, so that those of a relaxed structure are a good start for relaxing the copies. Their ``info`` is
    empty.
    """
    trials = []
    for pair in unlike_swaps(rng, atoms.numbers, n):
        trial = atoms.copy()
        trial.info = {}
        trial.numbers = swapped(atoms.numbers, pair)
        trials.append(trial)
    return trials
