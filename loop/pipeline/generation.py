"""The middle stages: models are trained, the test structures' latent vectors optimized, and structures drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import orjson
from ase import Atoms

from ...generators.base import Failure
from ...generators.pcdvae.fitted import FittedPcdvae
from ...generators.pcdvae.labelled import CrystalDataSettings
from ...generators.pcdvae.optimization import optimize_latents
from ...structures.files import read_structures, write_structures
from ...surrogates.model_file import load_state, save_state
from ..execution.base import Progress
from ..pcdvae_fitting import PcdvaeFitConfig
from ..rounds.crew import TimeLeft
from ..rounds.endings import LearningError
from ..rounds.files import put
from ..seeding import derive_seed
from .config import ModelName, PipelineConfig
from .data import START
from .jobs import Drawing, ModelTraining, TrainedModel
from .site import SPLIT, Site, Stage

MODEL, OPTIMIZATION, STEP = "model", "optimization", "latent_step"
"""In the info of drafts: the model, the way of optimizing, and the steps that were made."""
_DRAFTS_PER_JOB = 32


def train_models(site: Site) -> None:
    """Train the models that are not there yet, each a job.

    Raises:
        Ending: a signal.
        LearningError: a training failed.
    """
    files, config = site.files, site.config
    names = {str(name): name for name in config.models if not files.model(name).is_file()}
    files.models.mkdir(exist_ok=True)
    jobs = {
        key: ModelTraining(
            _fit_config(config),
            tuple(files.data(name, "train")),
            tuple(files.data(name, "validation")),
            files.checkpoint(name),
        )
        for key, name in names.items()
    }

    def keep(name: str, result: object) -> None:
        if isinstance(result, TrainedModel):
            put(files.model_facts(names[name]), orjson.dumps(result.facts, option=orjson.OPT_INDENT_2))
            save_state(result.state, files.model(names[name]))

    _do(site, "training", jobs, "models", keep)


def _fit_config(config: PipelineConfig) -> PcdvaeFitConfig:
    return PcdvaeFitConfig(
        pcdvae=config.pcdvae,
        training=config.training,
        data=CrystalDataSettings(
            property=config.objective.property, elements=config.system.elements, validation_fraction=0.0
        ),
        seed=derive_seed(config.seed, 0, "models"),
    )


@dataclass(frozen=True)
class _Plan:
    """Structures to draw from a model at one step of an optimization, a part of them.

    Attributes:
        name: of the part's file.
        rows: numbers of the random orderings that were started from.
    """

    name: str
    info: Mapping[str, object]
    rows: tuple[int, ...]
    job: Drawing


def draw_drafts(site: Site) -> None:
    """Optimize the test structures in the latent space of each model and draw structures on the way.

    Each part that was drawn is kept, until all of them are in one file.

    Raises:
        Ending: a signal.
        LearningError: a part could not be drawn.
    """
    files = site.files
    if files.drafts.is_file():
        return
    files.draft_parts.mkdir(exist_ok=True)
    plans = [plan for name in site.config.models for plan in _plans(site, name)]
    parts = {plan.name: files.draft_parts / f"{plan.name}.extxyz" for plan in plans}

    def keep(name: str, result: object) -> None:
        if isinstance(result, list):
            write_structures(parts[name], result)

    jobs = {plan.name: plan.job for plan in plans if not parts[plan.name].is_file()}
    _do(site, "drawing", jobs, f"parts of {_DRAFTS_PER_JOB}", keep)
    drafts: list[Atoms] = []
    for plan in plans:
        for row, atoms in zip(plan.rows, read_structures(parts[plan.name]), strict=True):
            atoms.info |= {**plan.info, START: row}
            drafts.append(atoms)
    write_structures(files.drafts, drafts)


def _plans(site: Site, name: ModelName) -> list[_Plan]:
    """What is drawn from a model."""
    config = site.config
    state = load_state(site.files.model(name))
    fitted = FittedPcdvae.from_state(state)
    known = read_structures(site.files.random)
    starts = [k for k, row in enumerate(known) if row.info.get(SPLIT) == "test"]
    latents = fitted.encode([known[k] for k in starts])
    plans = []
    for index, (form, settings) in enumerate(config.optimizations.items()):
        site.limits.check()
        chosen = settings.optimization.model_copy(update={"direction": config.objective.direction})

        def tell(step: int, form: str = form, last: int = chosen.decode_at[-1]) -> None:
            site.on_progress("optimizing", f"model {name}, {form}: step {step:,} of {last:,}")

        seed = derive_seed(config.seed, index, f"optimizing/{name}")
        found = optimize_latents(fitted, latents, chosen, seed=seed, progress=tell)
        for step, moved in found.items():
            for part, first in enumerate(range(0, len(starts), _DRAFTS_PER_JOB)):
                chunk = slice(first, first + _DRAFTS_PER_JOB)
                seed = derive_seed(config.seed, step, f"drawing/{name}/{index}", part)
                plans.append(
                    _Plan(
                        f"{name}-{index}-{step}-{part}",
                        {MODEL: name, OPTIMIZATION: form, STEP: step},
                        tuple(starts[chunk]),
                        Drawing(state, np.asarray(moved[chunk]), settings, seed),
                    )
                )
    return plans


def _do(site: Site, stage: Stage, jobs: Mapping[str, object], what: str, keep: Callable[[str, object], None]) -> None:
    """Do jobs on the workers and tell how far they are.

    Raises:
        Ending: a signal.
        LearningError: one of them failed.
    """
    time_left = TimeLeft()
    failures: list[str] = []

    def on_end(name: str, result: object) -> None:
        if isinstance(result, Failure):
            failures.append(f"{name}: {result.message}")
        else:
            keep(name, result)

    def tell(n_ended: int, share: float) -> None:
        site.on_progress(stage, f"{n_ended} of {len(jobs)} {what}, {share:.0%} done{time_left.words(share)}")

    def share_done(progress: Progress) -> float:
        return progress.figures["share"]

    site.limits.check()
    site.labellers.close()
    site.crew.do(jobs, on_end=on_end, share_done=share_done, on_progress=tell, must_stop=site.limits.is_interrupted)
    site.limits.check()
    if failures:
        raise LearningError(f"{stage}: {'; '.join(failures)}")
