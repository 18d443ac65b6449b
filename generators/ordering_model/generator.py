"""Proposes orderings from a model of orderings that learns from the campaign's evaluations.

A proposal samples, from the model, orderings that are much better than others of their composition: new ones at
compositions near those of the best, and variants of the best, some of whose sites are emptied and filled anew. The
model predicts the score of each; the best go through the same again; the best new ones of all are proposed. What is
best is judged by a trend in the composition that is drawn from its posterior anew for each choice (Thompson sampling),
so that compositions of which little is known are tried too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from ...structures.lattice import ParentLattice
from ...structures.settings import Settings
from ...structures.space import DesignSpace
from ...surrogates.base import Report, SurrogateState
from ..base import Candidate, History, Lineage
from ..learned import PlannedTraining, TrainingJob, current_model, training_stages
from ..moves import shift_composition
from ..random_orderings import filled_up
from ..relatives import Relatives
from ..seen import Known, known_keys, make_candidate, read_history
from .training import Labelled, NetworkSizes, OrderingModel, fit_ordering_model

_LEAST_OF_A_PHASE = 4  # labels; the model does not speak of a phase with fewer


class OrderingModelSettings(Settings):
    """A masked diffusion model of orderings on the lattice, conditioned on composition, phase and property; learns from
    the campaign's evaluations, and proposes random orderings before it has any."""

    kind: Literal["ordering_model"] = "ordering_model"
    n_initial: int = Field(default=32, ge=8)
    """Labels before the model is fitted for the first time."""
    growth: float = Field(default=1.4, ge=1.05)
    """Factor by which labels grow between fits."""
    random_share: float = Field(default=0.1, ge=0.0, le=1.0)
    """Chance of each proposal to be a random ordering instead, which keeps the model informed off the beaten track."""
    n_samples: PositiveInt = 96
    """Orderings sampled in each round of a proposal."""
    n_rounds: PositiveInt = 16
    """Rounds of a proposal; each starts from the best that the model foresees after the one before."""
    n_calls: PositiveInt = 6
    """Calls of the network that fill an ordering's empty sites."""
    exploration: NonNegativeFloat = 1.0
    """Spread of the trends that choices are made by, in standard deviations of its posterior; 0 trusts the best fit."""
    wanted: float = Field(default=5.0, ge=0.0)
    """Excess over the mean of a composition to ask for, in standard deviations: up to this, half of it at least."""
    n_shells: int = Field(default=4, ge=1, le=6)
    """Neighbour shells that sites look at in each layer."""
    n_channels: PositiveInt = 32
    """Features of a site."""
    n_layers: PositiveInt = 2
    """Rounds of messages between sites."""
    n_steps: PositiveInt = 300
    """Optimizer steps of each fit."""
    batch_size: PositiveInt = 32
    """Structures in a step."""
    learning_rate: PositiveFloat = 5e-3
    """Largest learning rate of a fit."""

    def build(self, name: str, space: DesignSpace) -> OrderingModelGenerator:
        """The generator of these settings."""
        return OrderingModelGenerator(name, space, self)

    @property
    def sizes(self) -> NetworkSizes:
        """The part that the network and its training are made from."""
        return NetworkSizes(
            self.n_shells, self.n_channels, self.n_layers, self.n_steps, self.batch_size, self.learning_rate
        )


@dataclass(frozen=True)
class _Pool:
    """Orderings of one lattice with what the model foresees of them, see :meth:`.OrderingModel.forecast`."""

    lattice: ParentLattice
    occupations: np.ndarray
    terms: np.ndarray
    excess: np.ndarray


@dataclass(frozen=True)
class OrderingTraining(TrainingJob):
    """See :func:`.fit_ordering_model`."""

    space: DesignSpace
    data: tuple[Labelled, ...]
    sizes: NetworkSizes

    def run(self, before: SurrogateState | None, *, checkpoint_path: Path | None, report: Report) -> SurrogateState:
        """Train anew, in seconds, without a checkpoint."""
        seed = sum(len(part.scores) for part in self.data)
        return fit_ordering_model(self.space, self.data, self.sizes, seed, report).state()


@dataclass(frozen=True)
class OrderingModelGenerator:
    """Proposes what the model samples and foresees to be best."""

    name: str
    space: DesignSpace
    settings: OrderingModelSettings

    def propose(self, n: int, history: History, *, seed: int) -> Sequence[Candidate]:
        """Propose ``n`` new structures; fewer only where the space is exhausted."""
        rng = np.random.default_rng(seed)
        index = read_history(history, self.space)
        learned = current_model(self.name, self.trainings(history), history)
        n_random = n if learned is None else int(rng.binomial(n, self.settings.random_share))
        proposed: list[Candidate] = []
        if learned is not None and n > n_random:
            model = OrderingModel.from_state(learned.state)
            ranked = [k for k in index.best(len(index.by_id)) if k.lattice.phase in model.phases]
            pools = self._search(model, ranked, rng)
            relatives = {pool.lattice.phase: Relatives(index, pool.lattice) for pool in pools}
            seen = known_keys(history, self.space)
            for ranking in self._rankings(model, pools, n - n_random, rng):
                for which, row in ranking:
                    pool = pools[which]
                    lattice, occupation = pool.lattice, pool.occupations[row]
                    structure = seen.take(lattice, occupation)
                    if structure is None:
                        continue
                    forecast = pool.terms[row] @ model.trend[lattice.phase].mean + pool.excess[row]
                    parents = relatives[lattice.phase].nearest(occupation)
                    facts = {"forecast": float(forecast), "n_learnt": learned.n_labels}
                    lineage = Lineage(self.name, "sampled", parents, facts)
                    proposed.append(make_candidate(self.space, lattice, occupation, lineage, structure))
                    break
        return filled_up(self.name, self.space, proposed, n, history, seed=seed)

    def trainings(self, history: History) -> Sequence[PlannedTraining]:
        """See :class:`~alloysmith.generators.learned.Learner`; each training starts anew."""
        s = self.settings
        stages = training_stages(read_history(history, self.space), s.n_initial, s.growth)
        key = (s.sizes, self.space, history.objective)
        return [
            PlannedTraining(self.name, labelled, key, False, partial(self._job, labelled))
            for labelled in stages
            if self._data(labelled)
        ]

    def _data(self, labelled: Sequence[Known]) -> list[list[Known]]:
        """Labels by lattice, lattices with too few left out."""
        parts = [[known for known in labelled if known.lattice is lattice] for lattice in self.space.lattices]
        return [part for part in parts if len(part) >= _LEAST_OF_A_PHASE]

    def _job(self, labelled: Sequence[Known]) -> OrderingTraining:
        data = [
            Labelled(
                part[0].lattice,
                np.array([known.occupation for known in part]),
                np.array([known.score for known in part], dtype=float),
            )
            for part in self._data(labelled)
        ]
        return OrderingTraining(self.space, tuple(data), self.settings.sizes)

    def _search(self, model: OrderingModel, ranked: Sequence[Known], rng: np.random.Generator) -> list[_Pool]:
        """Everything sampled, with what is foreseen of it."""
        s = self.settings
        parents: list[tuple[ParentLattice, np.ndarray]] = [(k.lattice, k.occupation) for k in ranked[: s.n_samples]]
        lattices = [lattice for lattice in self.space.lattices if lattice.phase in model.phases]
        pools: list[_Pool] = []
        for round_ in range(s.n_rounds):
            drafts: dict[ParentLattice, list[tuple[np.ndarray, np.ndarray]]] = {}
            for number in range(s.n_samples):
                if round_ == 0 and number % 2 == 0:
                    lattice = lattices[number // 2 % len(lattices)]
                    empty = np.full(lattice.n_sites, len(self.space.elements), dtype=np.int8)
                    draft = empty, self.space.random_counts(rng, lattice)
                else:
                    lattice, occupation = parents[int(rng.integers(len(parents), size=2).min())]
                    draft = self._draft(rng, occupation)
                drafts.setdefault(lattice, []).append(draft)
            for lattice, pairs in drafts.items():
                emptied, counts = (np.array(x) for x in zip(*pairs, strict=True))
                wanted = s.wanted * rng.uniform(0.5, 1.0, size=len(pairs))
                filled = model.sample(lattice, emptied, counts, wanted, s.n_calls, rng)
                pools.append(_Pool(lattice, filled, *model.forecast(lattice, filled)))
            firsts = [next(iter(ranking)) for ranking in self._rankings(model, pools, max(1, s.n_samples // 4), rng)]
            parents = [(pools[which].lattice, pools[which].occupations[row]) for which, row in firsts]
        return pools

    def _rankings(
        self, model: OrderingModel, pools: Sequence[_Pool], n: int, rng: np.random.Generator
    ) -> Iterator[Iterable[tuple[int, int]]]:
        """``n`` orders of everything sampled as (pool, row), best first, each by another drawn trend."""
        owners = np.concatenate([np.full(len(pool.excess), i) for i, pool in enumerate(pools)])
        rows = np.concatenate([np.arange(len(pool.excess)) for pool in pools])
        drawn = {phase: trend.drawn(n, rng, self.settings.exploration) for phase, trend in model.trend.items()}
        scores = np.concatenate([drawn[pool.lattice.phase] @ pool.terms.T + pool.excess for pool in pools], axis=1)
        for order in np.argsort(-scores, axis=1, kind="stable"):
            yield zip(owners[order].tolist(), rows[order].tolist(), strict=True)

    def _draft(self, rng: np.random.Generator, occupation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """An occupation with empty sites, and the counts it is to have when filled.

        One in five begins anew; the others keep a random share of the sites.
        """
        n_sites = len(occupation)
        n_elements = len(self.space.elements)
        empty = np.full(n_sites, n_elements, dtype=np.int8)
        changed: np.ndarray | None = occupation
        if rng.random() < 0.6:
            changed = shift_composition(rng, self.space, occupation, int(rng.geometric(0.4)))
        counts = self.space.counts(occupation if changed is None else changed)
        if rng.random() < 0.2:
            return empty, counts
        kept = occupation.copy()
        n_empty = int(rng.integers(2, max(3, n_sites // 2 + 1)))
        kept[rng.choice(n_sites, size=min(n_empty, n_sites), replace=False)] = n_elements
        for k in range(n_elements):  # where the new composition has fewer of an element than are kept
            surplus = int((kept == k).sum()) - int(counts[k])
            if surplus > 0:
                kept[rng.choice(np.flatnonzero(kept == k), size=surplus, replace=False)] = n_elements
        return kept, counts
