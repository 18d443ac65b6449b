"""A P-CDVAE that learns from the campaign's evaluations and proposes orderings.

Latent vectors are drawn at random, optimized from those of the best structures, or taken from between two of them. What
the heads say of a latent vector (phase, composition) is put on the ideal sites of the design space, and the decoder
decides, in a few calls, which element goes where. Sites are known in a campaign, so positions need no diffusion: the
atoms start a little off their sites instead of anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from ...errors import StructureError
from ...structures.composition import nearest_counts
from ...structures.settings import Settings
from ...structures.space import DesignSpace
from ..base import Candidate, History, Lineage
from ..learned import PlannedTraining, current_model, training_stages
from ..random_orderings import RandomOrderingsSettings
from ..relatives import Relatives
from ..seen import HistoryIndex, Known, known_keys, make_candidate, read_history, structure_key
from .crystals import Crystal, crystal_from
from .fitted import FittedPcdvae
from .optimization import LatentOptimizationSettings, optimize_latents
from .sampler_settings import PredictorCorrectorSettings
from .sampling import Draft, drafts, sample
from .settings import PcdvaeSettings
from .training_job import PcdvaeTraining
from .training_settings import PcdvaeTrainingSettings

_MOVES = ("optimized", "sampled", "interpolated")


class PcdvaeGeneratorSettings(Settings):
    """A crystal diffusion variational autoencoder with a phase head; learns from the campaign's evaluations, and
    proposes random orderings before it has any."""

    kind: Literal["pcdvae"] = "pcdvae"
    n_initial: int = Field(default=64, ge=4)
    """Labels before the model is trained for the first time."""
    growth: float = Field(default=1.5, ge=1.05)
    """Factor by which labels grow between trainings."""
    model: PcdvaeSettings = PcdvaeSettings()
    """Sizes, noise and weights of the losses."""
    training: PcdvaeTrainingSettings = PcdvaeTrainingSettings(max_epochs=40, epoch_size=128, n_validation_draws=1)
    """The first training. Those after it start from the weights of the one before."""
    n_epochs_again: PositiveInt = 10
    """Epochs of the trainings after the first."""
    optimization: LatentOptimizationSettings = LatentOptimizationSettings(decode_at=(1000,))
    """How latent vectors are optimized; structures are drawn after the last step. The direction is the campaign's."""
    n_levels: PositiveInt = 16
    """Noise levels, and calls of the decoder, from which elements are drawn."""
    start_sigma_ang: float = Field(default=0.1, gt=0.0, le=1.0)
    """How far off their sites atoms start, Å."""
    n_best: int = Field(default=20, ge=2)
    """Best structures that latent vectors are optimized from and taken from between."""
    random_share: float = Field(default=0.1, ge=0.0, le=1.0)
    """Chance of each proposal to be a random ordering instead."""

    @model_validator(mode="after")
    def _learns_something(self) -> PcdvaeGeneratorSettings:
        if self.training.max_cpu_s is not None:
            raise ValueError("training.max_cpu_s would make a campaign depend on the machine; lower max_epochs instead")
        return self

    def build(self, name: str, space: DesignSpace) -> PcdvaeGenerator:
        """The generator of these settings."""
        return PcdvaeGenerator(name, space, self)


@dataclass(frozen=True)
class _Wish:
    """A latent vector, and how it came about."""

    latent: np.ndarray
    move: str


@dataclass(frozen=True)
class PcdvaeGenerator:
    """Proposes what the model decodes; random orderings where it has nothing new."""

    name: str
    space: DesignSpace
    settings: PcdvaeGeneratorSettings

    def propose(self, n: int, history: History, *, seed: int) -> Sequence[Candidate]:
        """See :class:`~alloysmith.generators.base.Generator`."""
        rng = np.random.default_rng(seed)
        index = read_history(history, self.space)
        model = current_model(self.name, self.trainings(history), history)
        n_random = n if model is None else int(rng.binomial(n, self.settings.random_share))
        proposed: list[Candidate] = []
        if model is not None and n > n_random:
            fitted = FittedPcdvae.from_state(model.state)
            wishes = self._wishes(fitted, index, history, n - n_random, rng)
            proposed = self._realized(fitted, wishes, index, history, model.n_labels, seed)
        pending = (*history.pending, *proposed)
        beside = History(history.objective, history.evaluations, pending, history.surrogate)
        random = RandomOrderingsSettings().build(self.name, self.space)
        return [*proposed, *random.propose(n - len(proposed), beside, seed=seed)]

    def trainings(self, history: History) -> Sequence[PlannedTraining]:
        """See :class:`~alloysmith.generators.learned.Learner`; each training goes on from the one of fewer labels."""
        s = self.settings
        stages = training_stages(read_history(history, self.space), s.n_initial, s.growth)
        key = (s.model_dump_json(), self.space, history.objective)
        name = history.objective.property
        return [
            PlannedTraining(self.name, labelled, key, True, partial(self._job, labelled, name, k))
            for k, labelled in enumerate(stages)
        ]

    def _job(self, labelled: Sequence[Known], name: str, seed: int) -> PcdvaeTraining:
        crystals = [crystal for known in labelled if (crystal := self._crystal(known, name)) is not None]
        return PcdvaeTraining(
            self.settings.model,
            self.settings.training,
            self.settings.n_epochs_again,
            self.space.elements,
            self.space.phases,
            max(lattice.n_sites for lattice in self.space.lattices),
            name,
            tuple(crystals),
            seed,
        )

    def _crystal(self, known: Known, name: str) -> Crystal | None:
        """The relaxed structure of an evaluation; ``None`` if it is none that a model can learn from."""
        label = known.evaluation.label
        assert label is not None
        phase = self.space.phases.index(known.lattice.phase)
        try:
            return crystal_from(label.atoms, self.space.elements, phase=phase, value=float(label.values[name]))
        except StructureError:
            return None

    def _wishes(
        self, fitted: FittedPcdvae, index: HistoryIndex, history: History, n: int, rng: np.random.Generator
    ) -> list[_Wish]:
        """``n`` latent vectors, made in the three ways in turn, whichever comes first."""
        s = self.settings
        first = int(rng.integers(len(_MOVES)))
        n_of = {move: len(range((k - first) % len(_MOVES), n, len(_MOVES))) for k, move in enumerate(_MOVES)}
        best = [self._crystal(known, history.objective.property) for known in index.best(s.n_best)]
        known = self._encoded(fitted, [crystal for crystal in best if crystal is not None])
        latents = {"sampled": fitted.random_latents(n_of["sampled"], rng)}
        if n_of["optimized"]:
            settings = s.optimization.model_copy(update={"direction": history.objective.direction})
            starts = known[rng.integers(len(known), size=n_of["optimized"])]
            found = optimize_latents(fitted, starts, settings, seed=int(rng.integers(2**31)))
            latents["optimized"] = found[settings.decode_at[-1]]
        pairs = known[rng.integers(len(known), size=(2, n_of["interpolated"]))]
        share = rng.random((n_of["interpolated"], 1))
        latents["interpolated"] = share * pairs[0] + (1.0 - share) * pairs[1]
        return [_Wish(z, move) for move in _MOVES for z in latents.get(move, ())]

    def _encoded(self, fitted: FittedPcdvae, best: Sequence[Crystal]) -> np.ndarray:
        if not best:
            return fitted.latents
        return FittedPcdvae.of(fitted.model, fitted.property, best).latents

    def _realized(
        self,
        fitted: FittedPcdvae,
        wishes: Sequence[_Wish],
        index: HistoryIndex,
        history: History,
        n_learnt: int,
        seed: int,
    ) -> list[Candidate]:
        """New structures on ideal sites, in the order of the wishes."""
        found = drafts(fitted.model, np.stack([wish.latent for wish in wishes]))
        wanted = [self._on_sites(draft) for draft in found]
        sampler = PredictorCorrectorSettings(n_levels=self.settings.n_levels, n_corrections=0)
        structures = sample(fitted.model, wanted, sampler, seed=seed)
        seen = known_keys(history, self.space)
        relatives = {lattice.phase: Relatives(index, lattice) for lattice in self.space.lattices}
        proposed = []
        for wish, draft, atoms in zip(wishes, wanted, structures, strict=True):
            lattice = self.space.lattices[draft.phase]
            occupation = self.space.occupation_of_numbers(atoms.numbers)
            key = structure_key(lattice, occupation)
            if key in seen:
                continue
            seen.add(key)
            parents = relatives[lattice.phase].nearest(occupation)
            lineage = Lineage(self.name, wish.move, parents, {"forecast": draft.value, "n_learnt": n_learnt})
            proposed.append(make_candidate(self.space, lattice, occupation, lineage, key))
        return proposed

    def _on_sites(self, draft: Draft) -> Draft:
        """A draft on the sites of its phase's lattice, with the nearest composition that the space allows."""
        lattice = self.space.lattices[draft.phase]
        counts = nearest_counts(self.space, draft.counts / draft.counts.sum(), lattice.n_sites).astype(np.int64)
        volume = abs(float(np.linalg.det(draft.cell))) / draft.counts.sum()
        cell = lattice.decorate(["H"] * lattice.n_sites, volume).cell.array
        return replace(
            draft,
            counts=counts,
            cell=cell,
            scaled_sites=lattice.scaled_positions,
            start_sigma_ang=self.settings.start_sigma_ang,
        )
