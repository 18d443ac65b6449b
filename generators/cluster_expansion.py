"""Cluster expansion and Monte Carlo: fit the score on the campaign's evaluations, climb the fit, propose the summits.

Each proposal climbs an expansion of its own, drawn from the posterior of the coefficients (Thompson sampling), by
simulated annealing on the lattice. Half of the chains keep their composition, one near those of the best structures;
the others change it on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveInt

from ..structures.base import Phase
from ..structures.settings import Settings
from ..structures.space import DesignSpace
from .base import Candidate, History, Lineage
from .icet_expansion import Expansion, fit_expansion, require_icet
from .learned import remembered_fit, training_labels
from .moves import shift_composition
from .random_orderings import filled_up
from .relatives import Relatives
from .seen import Draft, Known, known_keys, make_candidate, read_history

_LEAST_OF_A_PHASE = 4  # labels; a phase with fewer is not expanded
_N_PARENTS = 20
_MAX_CLIMBS = 3  # a proposal, until one of its summits is new


class ClusterExpansionSettings(Settings):
    """Cluster expansion (icet) fitted to the campaign's evaluations, and Monte Carlo on it; random orderings before
    there are enough labels. Needs the optional package icet."""

    kind: Literal["cluster_expansion"] = "cluster_expansion"
    n_initial: int = Field(default=32, ge=8)
    """Labels before the expansion is fitted for the first time."""
    growth: float = Field(default=1.05, gt=1.0)
    """Factor by which labels grow between fits, which take a fraction of a second."""
    random_share: float = Field(default=0.1, ge=0.0, le=1.0)
    """Chance of each proposal to be a random ordering instead."""
    pair_shells: int = Field(default=4, ge=1, le=6)
    """Outermost neighbour shell of pairs."""
    triplet_shells: int = Field(default=2, ge=0, le=6)
    """Outermost neighbour shell between any two sites of triplets; 0 leaves triplets out."""
    exploration: NonNegativeFloat = 0.5
    """Spread of the coefficients that each proposal draws, in standard deviations; 0 climbs the best fit alone."""
    n_steps: PositiveInt = 1500
    """Monte Carlo steps of each proposal."""
    start_temperature: NonNegativeFloat = 0.1
    """Temperature at the start, in units of the spread of the labels; it falls to zero linearly."""
    canonical_share: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of chains that keep their composition."""
    transmute_share: float = Field(default=0.4, ge=0.0, le=1.0)
    """Share of steps that change an element, in the other chains."""

    def build(self, name: str, space: DesignSpace) -> ClusterExpansionSearch:
        """The generator of these settings.

        Raises:
            ConfigError: icet is not installed.
        """
        require_icet()
        return ClusterExpansionSearch(name, space, self)

    @property
    def n_shells(self) -> tuple[int, ...]:
        """Outermost shells of pairs and, if any, triplets."""
        return (self.pair_shells, self.triplet_shells) if self.triplet_shells else (self.pair_shells,)


@dataclass(frozen=True)
class ClusterExpansionSearch:
    """Proposes maxima of drawn expansions."""

    name: str
    space: DesignSpace
    settings: ClusterExpansionSettings

    def propose(self, n: int, history: History, *, seed: int) -> Sequence[Candidate]:
        """Propose ``n`` new structures; fewer only where the space is exhausted."""
        rng = np.random.default_rng(seed)
        index = read_history(history, self.space)
        labelled = training_labels(index, self.settings.n_initial, self.settings.growth)
        proposed: list[Candidate] = []
        if labelled:
            key = (self.settings.n_shells, self.space, history.objective)
            expansions = remembered_fit(key, labelled, lambda: self._fit(labelled))
            ranked = [k for k in index.best(len(index.by_id)) if k.lattice.phase in expansions][:_N_PARENTS]
            spread = float(np.std([k.score for k in labelled if k.score is not None]))
            relatives = {phase: Relatives(index, e.lattice) for phase, e in expansions.items()}
            seen = known_keys(history, self.space)
            n_sampled = int(rng.binomial(n, 1.0 - self.settings.random_share)) if expansions else 0
            for _ in range(n_sampled):
                for _ in range(_MAX_CLIMBS):
                    lattice, summit, lineage = self._climb(rng, expansions, ranked, relatives, spread)
                    structure = seen.take(lattice, summit)
                    if structure is not None:
                        proposed.append(make_candidate(self.space, lattice, summit, lineage, structure))
                        break
        return filled_up(self.name, self.space, proposed, n, history, seed=seed)

    def _fit(self, labelled: Sequence[Known]) -> dict[Phase, Expansion]:
        expansions = {}
        for lattice in self.space.lattices:
            part = [known for known in labelled if known.lattice is lattice]
            if len(part) >= _LEAST_OF_A_PHASE:
                occupations = np.array([known.occupation for known in part])
                scores = np.array([known.score for known in part], dtype=float)
                expansions[lattice.phase] = fit_expansion(
                    self.space, lattice, self.settings.n_shells, occupations, scores
                )
        return expansions

    def _climb(
        self,
        rng: np.random.Generator,
        expansions: dict[Phase, Expansion],
        ranked: Sequence[Known],
        relatives: dict[Phase, Relatives],
        spread: float,
    ) -> Draft:
        """The summit of one chain, from one of the best structures whose composition may be changed a little."""
        s = self.settings
        parent = ranked[int(rng.integers(len(ranked), size=2).min())]
        expansion = expansions[parent.lattice.phase]
        start: np.ndarray | None = parent.occupation
        if rng.random() < 0.5:
            start = shift_composition(rng, self.space, parent.occupation, int(rng.geometric(0.4)))
        is_canonical = rng.random() < s.canonical_share
        summit = expansion.climb(
            parent.occupation if start is None else start,
            expansion.piece.drawn(1, rng, s.exploration)[0],
            s.start_temperature * spread * np.linspace(1.0, 0.0, s.n_steps),
            0.0 if is_canonical else s.transmute_share,
            rng,
        )
        facts = {"forecast": float(expansion.predict(summit[None])[0])}
        move = "canonical" if is_canonical else "climb"
        parents = relatives[expansion.lattice.phase].nearest(summit)
        return expansion.lattice, summit, Lineage(self.name, move, parents, facts)
