"""Random solid solutions: random orderings at random, listed or gridded compositions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from pydantic import Field

from ..structures.composition import composition_grid, realize
from ..structures.lattice import ParentLattice
from ..structures.settings import Settings
from ..structures.space import DesignSpace
from .base import Candidate, History, Lineage
from .seen import Draft, SeenKeys, first_new, known_keys, read_history


class RandomOrderingsSettings(Settings):
    """Random orderings, evenly over the phases, never the same structure twice (modulo symmetry)."""

    kind: Literal["random"] = "random"
    compositions: tuple[str, ...] = ()
    """Compositions to take in turn, for example `[Ni0.5Fe0.3Cr0.2, NiFeCr]`, rounded to whole atoms. Without any, and
    without a grid, each structure's composition is drawn uniformly from all that the system allows."""
    grid_step: float | None = Field(default=None, gt=0.0, le=1.0)
    """Take in turn all compositions on a grid of this spacing of atomic fractions; must divide 1, as 0.05 does."""

    def build(self, name: str, space: DesignSpace) -> RandomOrderings:
        """The generator of these settings.

        Raises:
            StructureError: a composition that the system does not allow.
        """
        generator = RandomOrderings(name, space, self)
        generator.plan  # noqa: B018  (an impossible composition is reported now rather than in mid-campaign)
        return generator


@dataclass(frozen=True)
class RandomOrderings:
    """Proposes random orderings; fewer than asked for only where the space is exhausted."""

    name: str
    space: DesignSpace
    settings: RandomOrderingsSettings

    @cached_property
    def plan(self) -> tuple[tuple[ParentLattice, np.ndarray | None], ...]:
        """Lattices and counts (``None``: drawn each time) that proposals go through in turn, phases alternating."""
        compositions: list[str | Mapping[str, float] | None] = list(self.settings.compositions)
        if self.settings.grid_step is not None:
            grid = composition_grid(self.space, self.settings.grid_step)
            compositions += [dict(zip(self.space.elements, row.tolist(), strict=True)) for row in grid]
        return tuple(
            (lattice, None if composition is None else realize(self.space, lattice, composition))
            for composition in compositions or [None]
            for lattice in self.space.lattices
        )

    def propose(self, n: int, history: History, *, seed: int) -> Sequence[Candidate]:
        """Propose ``n`` new random orderings."""
        rng = np.random.default_rng(seed)
        seen = known_keys(history, self.space)
        turn = read_history(history, self.space).n_of(self.name)
        turn += sum(candidate.lineage.generator == self.name for candidate in history.pending)
        proposed: list[Candidate] = []
        n_failed = 0
        while len(proposed) < n and n_failed < len(self.plan):
            lattice, counts = self.plan[turn % len(self.plan)]
            turn += 1
            candidate = random_candidate(rng, self.space, lattice, seen, Lineage(self.name, "random"), counts)
            if candidate is None:
                n_failed += 1
            else:
                n_failed = 0
                proposed.append(candidate)
        return proposed


def filled_up(
    name: str, space: DesignSpace, proposed: Sequence[Candidate], n: int, history: History, *, seed: int
) -> list[Candidate]:
    """What a generator of this name proposes, with new random orderings after it to make ``n``."""
    beside = replace(history, pending=(*history.pending, *proposed))
    random = RandomOrderings(name, space, RandomOrderingsSettings())
    return [*proposed, *random.propose(n - len(proposed), beside, seed=seed)]


def random_candidate(
    rng: np.random.Generator,
    space: DesignSpace,
    lattice: ParentLattice,
    seen: SeenKeys,
    lineage: Lineage,
    counts: np.ndarray | None = None,
) -> Candidate | None:
    """A new random ordering on ``lattice``, at a random composition if no ``counts`` are given; ``None`` if every one
    that was tried is known."""

    def draw() -> Draft:
        return lattice, space.random_occupation(rng, lattice, counts), lineage

    return first_new(space, seen, draw)


def random_start(
    rng: np.random.Generator, space: DesignSpace, seen: SeenKeys, generator: str, facts: Mapping[str, Any]
) -> Candidate | None:
    """The random structure that the chain ``facts["chain"]`` starts from; phases alternate from chain to chain."""
    lattice = space.lattices[int(facts["chain"]) % len(space.lattices)]
    return random_candidate(rng, space, lattice, seen, Lineage(generator, "start", facts=facts))
