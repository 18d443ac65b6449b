"""A small study of the potential's settings as a stage of a round, where the labels have grown enough.

Trials are jobs, as the trainings of members are. They are chosen in batches of a fixed size, from the seed and from
what the batches before gave, and told in the order in which they were chosen: so what is tried depends neither on the
number of workers nor on which ends first. Each that has ended is a file until all have; a search that was killed asks
again for the same settings, and does those that are not there.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from ...agents.optuna_study import OptunaStudy
from ...agents.study_settings import NoPrunerSettings, PotentialRetuningSettings, StudyObjective
from ...errors import ConfigError
from ...generators.base import Failure
from ...surrogates.potentials.energy_reference import reference_energies, without_reference
from ...surrogates.potentials.frame import Frame
from ..execution.base import Progress
from ..fit_changes import key_of
from ..rounds.files import put
from ..seeding import derive_seed
from .config import LearningConfig, with_parameters
from .jobs import SettingsTrial, checkpoints_of
from .search import SettingsSearch, TriedSettings, read_search, read_tried
from .site import Site

_IN_USE = "in_use"
"""The name of the trial of the settings that are in use."""
_JobOf = Callable[[str, Mapping[str, Any]], SettingsTrial]


def settings_of_round(site: Site, index: int, frames: Sequence[Frame]) -> LearningConfig:
    """The configuration that the committee of a round is trained with; searched now, if that is due.

    Args:
        frames: all that may be learnt from, with energies as the oracle gives them.

    Raises:
        Ending: a signal.
        SurrogateError: the labels do not determine the reference energies.
        RunDirectoryError: a search of an earlier round is damaged.
    """
    retuning = site.config.retuning
    if retuning is not None and not site.folder(index).search.exists():
        last = _latest(site, index)
        if retuning.is_due(len(frames), last.n_labels if last else 0):
            with site.timed(index, "tuning"):
                _search(site, index, frames, retuning, last.parameters if last else {})
    return settings_in_use(site, index)


def settings_in_use(site: Site, index: int) -> LearningConfig:
    """The configuration with what the latest search until this round has found.

    Raises:
        RunDirectoryError: a search is damaged.
    """
    last = _latest(site, index)
    return site.config if last is None else with_parameters(site.config, last.parameters)


def _latest(site: Site, index: int) -> SettingsSearch | None:
    searches = (read_search(site.folder(earlier).search) for earlier in range(index, 0, -1))
    return next((search for search in searches if search is not None), None)


def _search(
    site: Site, index: int, frames: Sequence[Frame], retuning: PotentialRetuningSettings, in_use: Mapping[str, Any]
) -> None:
    folder, config = site.folder(index), site.config
    references = reference_energies(config.energy_reference, frames, config.system.elements)
    reduced = without_reference(frames, references)
    order = np.random.default_rng(derive_seed(config.seed, index, "validation")).permutation(len(reduced))
    n_validation = min(max(1, round(retuning.validation_share * len(reduced))), len(reduced) - 1)
    validation = tuple(reduced[i] for i in np.sort(order[:n_validation]))
    learnt = tuple(reduced[i] for i in np.sort(order[n_validation:]))
    # the same for all trials: they are told apart by their settings alone
    seed = derive_seed(config.seed, index, "trial")

    def job_of(name: str, parameters: Mapping[str, Any]) -> SettingsTrial:
        tried = with_parameters(config, parameters)
        return SettingsTrial(
            tried, learnt, validation, references, retuning.metric, seed, folder.trial_checkpoint(name)
        )

    with tempfile.TemporaryDirectory(prefix="alloysmith-") as scratch:
        objective = StudyObjective(metric=retuning.metric)
        study_seed = derive_seed(config.seed, index, "search")
        journal = Path(scratch) / "journal.log"
        study = OptunaStudy(
            journal, retuning.space, (objective,), retuning.sampler, NoPrunerSettings(), seed=study_seed
        )
        tried = dict(_tried(site, index, retuning, study, job_of, in_use))
    before = tried.pop(_IN_USE)
    best = min((before, *tried.values()), key=lambda one: math.inf if one.error is None else one.error)
    found = SettingsSearch(
        len(frames), n_validation, retuning.metric, before, tuple(tried.values()), best.parameters, best.error
    )
    put(folder.search, found.as_json())
    for name in (_IN_USE, *tried):
        for path in (folder.trial(name), *checkpoints_of(folder.trial_checkpoint(name))):
            path.unlink(missing_ok=True)


def _tried(
    site: Site,
    index: int,
    retuning: PotentialRetuningSettings,
    study: OptunaStudy,
    job_of: _JobOf,
    in_use: Mapping[str, Any],
) -> Iterator[tuple[str, TriedSettings]]:
    """Names of trials and what came of them: first of the settings in use, then batch by batch."""
    known: dict[str, TriedSettings] = {}
    n_done = 0
    while n_done < retuning.n_trials:
        asked = [study.ask() for _ in range(min(retuning.batch_size, retuning.n_trials - n_done))]
        wanted = {} if known else {_IN_USE: in_use}
        names = [f"{n_done + k:02d}" for k in range(len(asked))]
        settings = {name: trial.parameters for name, trial in zip(names, asked, strict=True)}
        new = {key_of(parameters): name for name, parameters in reversed(settings.items())}  # the first of equal ones
        wanted |= {name: settings[name] for key, name in reversed(new.items()) if key not in known}
        ended = _do(site, index, wanted, job_of)
        if _IN_USE in ended:
            yield _IN_USE, ended[_IN_USE]
        known |= {key: ended[name] for key, name in new.items() if name in ended}
        for name, trial in zip(names, asked, strict=True):
            found = known[key_of(trial.parameters)]
            if found.error is None:
                study.fail(trial.number, found.message)
            else:
                study.finish(trial.number, [found.error], {retuning.metric: found.error})
            yield name, found
        n_done += len(asked)


def _do(site: Site, index: int, wanted: Mapping[str, Mapping[str, Any]], job_of: _JobOf) -> Mapping[str, TriedSettings]:
    """Try settings, those that have no file yet."""
    folder = site.folder(index)

    def keep(name: str, result: object) -> None:
        parameters = wanted[name]
        if isinstance(result, Failure):
            found = TriedSettings(parameters, None, f"{result.kind}: {result.message}")
        elif isinstance(result, float) and math.isfinite(result):
            found = TriedSettings(parameters, result)
        else:
            found = TriedSettings(parameters, None, f"its error is {result}")
        put(folder.trial(name), orjson.dumps(found))

    jobs: dict[str, SettingsTrial] = {}
    for name, parameters in wanted.items():
        if folder.trial(name).exists():
            continue
        try:
            jobs[name] = job_of(name, parameters)
        except ConfigError as error:  # settings that contradict each other
            put(folder.trial(name), orjson.dumps(TriedSettings(parameters, None, str(error))))

    def share_done(progress: Progress) -> float:
        return progress.figures["share"]

    site.do(
        index,
        "tuning",
        jobs,
        "settings tried",
        on_end=keep,
        share_done=share_done,
        must_stop=site.limits.is_interrupted,
    )
    site.limits.check_signals()
    return {name: read_tried(folder.trial(name)) for name in wanted}
