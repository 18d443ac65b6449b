"""A P-CDVAE that learns from the campaign's evaluations and proposes orderings.

Latent vectors are drawn at random, optimized from those of the best structures, or taken from between two of them. What
the heads say of a latent vector (phase, composition) is put on the ideal sites of the design space, and the decoder
decides, in a few calls, which element goes where. Sites are known in a campaign, so positions need no diffusion: the
atoms start a little off their sites instead of anywhere. And since a latent vector of a few dozen numbers does not hold
an ordering, half of what is drawn starts from the elements of the structure whose latent vector was optimized, under a
little noise, instead of from any order ("renewed").

Several structures are drawn for each proposal. They are encoded, and the one is proposed that is best in a draw from
what a Gaussian process on latent vectors expects of them. For some of the proposals that process is followed further:
they are what an evolution of all that was drawn ends with (:mod:`~alloysmith.generators.pcdvae.refinement`).
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
from ...structures.lattice import ParentLattice
from ...structures.settings import Settings
from ...structures.space import DesignSpace
from ...surrogates.potentials.schedules import CosineScheduleSettings
from ...surrogates.threads import one_thread
from ..base import Candidate, History, Lineage
from ..learned import PlannedTraining, current_model, training_stages
from ..ordering_search import by_turns
from ..random_orderings import filled_up
from ..relatives import Relatives
from ..seen import HistoryIndex, Known, known_keys, make_candidate, read_history
from .crystals import Crystal, crystal_from
from .element_noise import with_counts
from .fitted import FittedPcdvae, encodings
from .optimization import LatentOptimizationSettings, PropertyEnsemble, fit_ensemble, optimize_latents
from .refinement import LatentJudge, RefinementSettings
from .sampler_settings import PredictorCorrectorSettings
from .sampling import Draft, drafts, sample
from .settings import DecoderSettings, LossWeights, NoiseSettings, PcdvaeSettings
from .training_job import PcdvaeTraining
from .training_settings import PcdvaeTrainingSettings

_MOST_KNOWN = 1000  # labels that proposals are judged by; encoding them takes six seconds at 54 atoms
_MOVES = ("renewed", "optimized", "renewed", "interpolated", "renewed", "sampled")  # taken in turn


class PcdvaeGeneratorSettings(Settings):
    """A crystal diffusion variational autoencoder with a phase head; learns from the campaign's evaluations, and
    proposes random orderings before it has any."""

    kind: Literal["pcdvae"] = "pcdvae"
    n_initial: int = Field(default=32, ge=4)
    """Labels before the model is trained for the first time."""
    growth: float = Field(default=1.5, ge=1.05)
    """Factor by which labels grow between trainings."""
    model: PcdvaeSettings = PcdvaeSettings(
        decoder=DecoderSettings(n_wave_channels=0),
        noise=NoiseSettings(sigma_max_ang=0.1),
        weights=LossWeights(lattice=1.0, coordinates=1.0, phase=10.0, property=10.0),
        whitening=0.01,
    )
    """Sizes, noise and weights of the losses. Where sites are known, positions are hardly anything to learn: there are
    no density waves, noise is that of `start_sigma_ang`, phase and property weigh most, and latent vectors begin evenly
    spread, so that orderings can be told apart."""
    training: PcdvaeTrainingSettings = PcdvaeTrainingSettings(
        max_epochs=15,
        epoch_size=128,
        batch_size=16,
        schedule=CosineScheduleSettings(warmup_steps=8),
        n_validation_draws=1,
    )
    """The first training. Those after it start from the weights of the one before. In short trainings of few labels
    batches of 16 rank orderings better than batches of 4, at a lower cost."""
    n_epochs_again: PositiveInt = 5
    """Epochs of the trainings after the first."""
    optimization: LatentOptimizationSettings = LatentOptimizationSettings(decode_at=(1000,))
    """How latent vectors are optimized; structures are drawn after the last step. The direction is the campaign's."""
    n_levels: PositiveInt = 8
    """Noise levels, and calls of the decoder, from which elements are drawn."""
    n_draws: PositiveInt = 4
    """Structures drawn for each proposal; the one that promises most is proposed."""
    renewal: tuple[float, float] = (0.03, 0.5)
    """Smallest and largest noise of the elements that a known structure is drawn anew from; with 0.5 a third of its
    atoms take part in an exchange."""
    start_sigma_ang: float = Field(default=0.1, gt=0.0, le=1.0)
    """How far off their sites atoms start, Å; no further than the noise that the model learns."""
    n_best: int = Field(default=20, ge=2)
    """Best structures that latent vectors are optimized from and taken from between."""
    refinement: RefinementSettings = RefinementSettings()
    """The search that goes on from what is drawn."""
    random_share: float = Field(default=0.1, ge=0.0, le=1.0)
    """Chance of each proposal to be a random ordering instead."""

    @model_validator(mode="after")
    def _learns_something(self) -> PcdvaeGeneratorSettings:
        if self.training.max_cpu_s is not None:
            raise ValueError("training.max_cpu_s would make a campaign depend on the machine; lower max_epochs instead")
        if not 0.0 < self.renewal[0] <= self.renewal[1]:
            raise ValueError(f"renewal must be two positive numbers that do not descend, got {self.renewal}")
        largest = self.model.noise.sigma_max_ang
        if largest is not None and self.start_sigma_ang > largest:
            raise ValueError(
                f"start_sigma_ang is {self.start_sigma_ang:g} Å, but the model learns no more noise than "
                f"model.noise.sigma_max_ang: {largest:g}; raise that too"
            )
        return self

    def build(self, name: str, space: DesignSpace) -> PcdvaeGenerator:
        """The generator of these settings."""
        return PcdvaeGenerator(name, space, self)


@dataclass(frozen=True)
class _Wish:
    """A latent vector, how it came about, and the structure whose elements are drawn anew."""

    latent: np.ndarray
    move: str
    parent: Known | None = None


class _Proposals:
    """Candidates that nobody knows yet, collected one after the other."""

    def __init__(self, generator: PcdvaeGenerator, index: HistoryIndex, history: History, n_learnt: int) -> None:
        self.candidates: list[Candidate] = []
        self._generator, self._n_learnt = generator, n_learnt
        self._sign = 1.0 if history.objective.direction == "maximize" else -1.0
        self._seen = known_keys(history, generator.space)
        self._relatives = {lattice.phase: Relatives(index, lattice) for lattice in generator.space.lattices}

    def add(self, lattice: ParentLattice, occupation: np.ndarray, move: str, score: float) -> bool:
        """Take one unless it is known; whether it was taken."""
        key = self._seen.take(lattice, occupation)
        if key is None:
            return False
        facts = {"forecast": self._sign * score, "n_learnt": self._n_learnt}
        nearest = self._relatives[lattice.phase].nearest(occupation)
        lineage = Lineage(self._generator.name, move, nearest, facts)
        self.candidates.append(make_candidate(self._generator.space, lattice, occupation, lineage, key))
        return True


@dataclass(frozen=True)
class PcdvaeGenerator:
    """Proposes what the model decodes; random orderings where it has nothing new."""

    name: str
    space: DesignSpace
    settings: PcdvaeGeneratorSettings

    @one_thread()
    def propose(self, n: int, history: History, *, seed: int) -> Sequence[Candidate]:
        """See :class:`~alloysmith.generators.base.Generator`."""
        rng = np.random.default_rng(seed)
        index = read_history(history, self.space)
        model = current_model(self.name, self.trainings(history), history)
        n_random = n if model is None else int(rng.binomial(n, self.settings.random_share))
        proposed: list[Candidate] = []
        if model is not None and n > n_random:
            fitted = FittedPcdvae.from_state(model.state)
            n_heads = self.settings.optimization.n_heads
            heads = fit_ensemble(fitted, n_heads, seed=model.n_labels) if n_heads else None
            wishes = self._wishes(fitted, heads, index, history, n - n_random, rng)
            drawn = self._drawn(fitted, wishes, rng, seed)
            known = _few(index, model.n_labels)
            judge = LatentJudge.of(fitted.model, self.space, known, history.evaluations, seed=model.n_labels)
            made = _Proposals(self, index, history, model.n_labels)
            n_refined = int(rng.binomial(len(wishes), self.settings.refinement.share))
            self._propose_refined(n_refined, drawn, judge, index, made, rng)
            self._propose_drawn(wishes[n_refined:], drawn[n_refined:], judge, made, rng)
            proposed = made.candidates
        return filled_up(self.name, self.space, proposed, n, history, seed=seed)

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
        """An evaluation's structure on ideal sites, as proposals are judged, at the relaxed volume; ``None`` if it is
        none that a model can learn from."""
        label = known.evaluation.label
        assert label is not None
        phase = self.space.phases.index(known.lattice.phase)
        symbols = [self.space.elements[k] for k in known.occupation.tolist()]
        try:
            atoms = known.lattice.decorate(symbols, known.relaxed_volume_ang3)
            return crystal_from(atoms, self.space.elements, phase=phase, value=float(label.values[name]))
        except StructureError:
            return None

    def _wishes(
        self,
        fitted: FittedPcdvae,
        heads: PropertyEnsemble | None,
        index: HistoryIndex,
        history: History,
        n: int,
        rng: np.random.Generator,
    ) -> list[_Wish]:
        """``n`` latent vectors, made in several ways in turn, whichever comes first."""
        s = self.settings
        first = int(rng.integers(len(_MOVES)))
        moves = [_MOVES[(first + k) % len(_MOVES)] for k in range(n)]
        best, latents = self._best(fitted, index, history)
        climbers = [k for k, move in enumerate(moves) if move in ("renewed", "optimized")]
        starts = rng.integers(len(latents), size=(2, n)).min(0)  # the better of two
        ends = latents[starts]
        if climbers:
            settings = s.optimization.model_copy(update={"direction": history.objective.direction})
            found = optimize_latents(fitted, latents[starts[climbers]], settings, seed=0, ensemble=heads)
            ends[climbers] = found[settings.decode_at[-1]]
        others, shares = latents[rng.integers(len(latents), size=n)], rng.random(n)
        anywhere = fitted.random_latents(n, rng)
        wishes = []
        for k, move in enumerate(moves):
            if move == "renewed":
                wishes.append(_Wish(ends[k], move, best[starts[k]] if best else None))
            elif move == "optimized":
                wishes.append(_Wish(ends[k], move))
            elif move == "interpolated":
                wishes.append(_Wish(shares[k] * latents[starts[k]] + (1.0 - shares[k]) * others[k], move))
            else:
                wishes.append(_Wish(anywhere[k], move))
        return wishes

    def _best(self, fitted: FittedPcdvae, index: HistoryIndex, history: History) -> tuple[list[Known], np.ndarray]:
        """The best structures with their latent vectors, best first; only vectors if none can be encoded."""
        pairs = [
            (known, self._crystal(known, history.objective.property)) for known in index.best(self.settings.n_best)
        ]
        best = [known for known, crystal in pairs if crystal is not None]
        crystals = [crystal for _, crystal in pairs if crystal is not None]
        return best, encodings(fitted.model, crystals)[0] if crystals else fitted.latents

    def _drawn(
        self, fitted: FittedPcdvae, wishes: Sequence[_Wish], rng: np.random.Generator, seed: int
    ) -> list[list[Draft]]:
        """Structures on ideal sites, ``n_draws`` for each wish: drafts whose elements are decided."""
        n_draws = self.settings.n_draws
        found = drafts(fitted.model, np.stack([wish.latent for wish in wishes]))
        asked = [
            self._started(draft, wish.parent, rng)
            for wish, draft in zip(wishes, found, strict=True)
            for _ in range(n_draws)
        ]
        sampler = PredictorCorrectorSettings(n_levels=self.settings.n_levels, n_corrections=0)
        structures = sample(fitted.model, asked, sampler, seed=seed)
        decided = [
            replace(draft, types=self.space.occupation_of_numbers(atoms.numbers).astype(np.int64))
            for draft, atoms in zip(asked, structures, strict=True)
        ]
        return [decided[k : k + n_draws] for k in range(0, len(decided), n_draws)]

    def _started(self, draft: Draft, parent: Known | None, rng: np.random.Generator) -> Draft:
        """A draft on ideal sites that starts from the elements of a parent, in its phase, brought to the composition
        that the draft has; from any order without a parent."""
        if parent is None:
            return self._on_sites(draft)
        on_sites = self._on_sites(replace(draft, phase=self.space.phases.index(parent.lattice.phase)))
        low, high = np.log(self.settings.renewal)
        types = with_counts(parent.occupation.astype(np.int64), on_sites.counts, rng)
        return replace(on_sites, types=types, start_type_sigma=float(np.exp(rng.uniform(low, high))))

    def _propose_drawn(
        self,
        wishes: Sequence[_Wish],
        drawn: Sequence[Sequence[Draft]],
        judge: LatentJudge,
        made: _Proposals,
        rng: np.random.Generator,
    ) -> None:
        """For each wish the new structure that is best in one draw of what its structures may be."""
        for wish, row in zip(wishes, drawn, strict=True):
            lattice, occupations = self.space.lattices[row[0].phase], _occupations(row)
            mean, scores = judge.drawn(lattice, occupations, rng)
            for j in np.argsort(-scores, kind="stable").tolist():
                if made.add(lattice, occupations[j], wish.move, float(mean[j])):
                    break

    def _propose_refined(
        self,
        n: int,
        drawn: Sequence[Sequence[Draft]],
        judge: LatentJudge,
        index: HistoryIndex,
        made: _Proposals,
        rng: np.random.Generator,
    ) -> None:
        """Up to ``n`` of what all that was drawn, beside the best structures, is refined to."""
        if n == 0:
            return
        settings = self.settings.refinement
        optimism = rng.permutation(settings.optimism)[:n]
        best = index.best(self.settings.n_best)
        lattices, found = [], []
        for phase, lattice in enumerate(self.space.lattices):
            starts = [_occupations(row) for row in drawn if row[0].phase == phase]
            starts += [known.occupation[None] for known in best if known.lattice is lattice]
            if starts:
                lattices.append(lattice)
                found.append(judge.refined(lattice, np.concatenate(starts), optimism, settings, rng))
        expected = [judge.expected(lattice, ends.occupations) for lattice, ends in zip(lattices, found, strict=True)]
        n_before = len(made.candidates)
        for which, row, _ in by_turns(found):
            if len(made.candidates) - n_before == n:
                break
            made.add(lattices[which], found[which].occupations[row], "refined", float(expected[which][row]))

    def _on_sites(self, draft: Draft) -> Draft:
        """A draft on the sites of its phase's lattice, with the nearest composition that the space allows."""
        lattice = self.space.lattices[draft.phase]
        counts = nearest_counts(self.space, draft.counts / draft.counts.sum(), lattice.n_sites).astype(np.int64)
        volume = abs(float(np.linalg.det(draft.cell))) / draft.counts.sum()
        return replace(
            draft,
            counts=counts,
            cell=lattice.cell(volume),
            scaled_sites=lattice.scaled_positions,
            start_sigma_ang=self.settings.start_sigma_ang,
        )


def _occupations(row: Sequence[Draft]) -> np.ndarray:
    """int8 ``[n_drafts, n_sites]`` of drafts whose elements are decided."""
    return np.array([draft.types for draft in row], dtype=np.int8)


def _few(index: HistoryIndex, seed: int) -> list[Known]:
    """What proposals are judged by: all labels, or of very many the best and as many others at random."""
    known = [one for one in index.by_id.values() if one.score is not None]
    if len(known) <= _MOST_KNOWN:
        return known
    best = index.best(_MOST_KNOWN // 2)
    taken = {one.request_id for one in best}
    others = [one for one in known if one.request_id not in taken]
    chosen = np.random.default_rng(seed).permutation(len(others))[: _MOST_KNOWN - len(best)]
    return [*best, *(others[k] for k in np.sort(chosen).tolist())]
