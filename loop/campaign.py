"""A campaign and its run directory, for people who write Python; the command line uses nothing else."""

from __future__ import annotations

import copy
import platform
import shutil
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from .. import __version__
from ..agents.bayesian import BayesianSettings
from ..generators.base import Evaluation
from ..generators.learned import Learner
from ..oracles.base import OracleSpec
from ..structures.space import DesignSpace
from .config import CampaignConfig, check_config, oracle_spec, validate_settings
from .controller import Controller, OnEvent
from .decision import Decider
from .errors import RunDirectoryError
from .events import Started, StopReason
from .execution.build import build_executor, connection
from .signals import GracefulStop
from .state import CampaignState, catch_up
from .store.blobs import MODELS_FOLDER, BlobStore
from .store.event_log import LOG_NAME, EventLog, LogPosition, read_events
from .store.lock import LOCK_NAME, RunLock
from .tuning import Tuner
from .yaml_source import YamlSource

CONFIG_NAME = "config.yaml"
README_NAME = "README.txt"
EXIT_FAILURES = 3
TUNING_FOLDER = "tuning"

_OWN_NAMES = (LOG_NAME, CONFIG_NAME, README_NAME, LOCK_NAME, MODELS_FOLDER, TUNING_FOLDER)
_README = """\
A campaign of Alloysmith.

events.jsonl  all that happened, one line an event; everything else follows from it. Never edit it.
config.yaml   the configuration as it was resolved, to read; the one that counts is the first line of events.jsonl.
models/       fitted surrogates, and models that generators learned; names end with the hash of their content.
tuning/       searches of the surrogate's settings, if the configuration asks for them.
lock          who is at work here.

alloysmith status DIR    where it stands
alloysmith resume DIR    go on
alloysmith report DIR    one HTML file
alloysmith export DIR -o results.extxyz
"""


@dataclass(frozen=True)
class CampaignResult:
    """How a session ended.

    Attributes:
        reason: see :data:`~.events.StopReason`.
        message: the same for people.
        exit_code: 0, 3 after too many failures, or 128 plus the number of the signal that ended it.
    """

    reason: StopReason
    message: str
    exit_code: int


class Campaign:
    """A campaign in a run directory. :meth:`create` or :meth:`open` one, then :meth:`run` it.

    Example:
        >>> config = load_config(Path("configs/nifecr_quickstart.yaml"))  # doctest: +SKIP
        >>> campaign = Campaign.create(config, Path("runs/first"))        # doctest: +SKIP
        >>> campaign.run()                                                # doctest: +SKIP
        >>> campaign.best(3)                                              # doctest: +SKIP
    """

    def __init__(self, run_dir: Path, state: CampaignState, position: LogPosition, config: CampaignConfig) -> None:
        self.run_dir = run_dir
        self.config = config
        self.state = state
        self._position = position

    @classmethod
    def create(cls, config: CampaignConfig, run_dir: Path, *, overwrite: bool = False) -> Campaign:
        """Make a run directory for a new campaign.

        Args:
            config: what to do.
            run_dir: a folder that does not exist yet or is empty.
            overwrite: remove the campaign that is there, if no driver is at work on it.

        Raises:
            ConfigError: the configuration contradicts itself.
            RunDirectoryError: the folder is not empty, or cannot be written.
        """
        check_config(config)
        _refuse_foreign_folder(run_dir, overwrite)
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunDirectoryError(
                f"{run_dir} cannot be made ({error.strerror}): choose another --run-dir, or make its parent writable"
            ) from error
        lock = RunLock(run_dir)
        try:
            _refuse_foreign_folder(run_dir, overwrite)  # again: another may have started here before the lock was ours
            _remove_campaign(run_dir)
            event = Started(
                seq=0,
                at=time.time(),
                config=config.plain(),
                config_hash=config.results_hash(),
                software={"alloysmith": __version__, "python": platform.python_version(), "numpy": np.__version__},
                oracle_fingerprint=oracle_spec(config.oracle).fingerprint,
            )
            _write_text(run_dir / CONFIG_NAME, yaml.safe_dump(config.plain(), sort_keys=False, allow_unicode=True))
            _write_text(run_dir / README_NAME, _README)
            log = EventLog.create(run_dir)
            try:
                log.append([event])
            finally:
                log.close()
        finally:
            lock.release()
        return cls.open(run_dir)

    @classmethod
    def open(cls, run_dir: Path, overrides: Sequence[str] = ()) -> Campaign:
        """A campaign that exists, read from its log.

        Args:
            run_dir: its folder.
            overrides: ``"dotted.key=value"``, for `execution` and `budget` only.

        Raises:
            RunDirectoryError: no campaign, a damaged log, or an override of what decides the results.
            ConfigError: an override that is not valid.
        """
        state = CampaignState()
        position = catch_up(state, run_dir, LogPosition())
        if state.n_events == 0:
            raise RunDirectoryError(
                f"{run_dir} holds no campaign: its log has no first event; "
                f"`alloysmith run CONFIG --run-dir {run_dir}` starts one"
            )
        return cls(run_dir, state, position, _session_config(run_dir, state, overrides))

    @property
    def is_complete(self) -> bool:
        """Whether running it would do nothing: its agent said stop, or its budget is spent."""
        stop = self.state.stop
        if stop is None:
            return False
        wall_s = self.config.budget.wall_s
        if wall_s is not None and self.state.elapsed_s >= wall_s:
            return True
        if self.state.pending:
            return False
        return stop.reason in ("agent", "idle") or self.state.n_requested >= self.config.budget.n_evaluations

    def run(self, on_event: OnEvent | None = None) -> CampaignResult:
        """Work until the campaign is over, or a signal comes. Running a complete campaign does nothing.

        Args:
            on_event: called with each event and the state, in the calling thread.

        Raises:
            RunDirectoryError: another driver is at work, or the log cannot be written.
            ExecutorError: no worker can be started.
            AlloysmithError: a part failed in a way that repeating will not mend.
        """
        if self.is_complete and self.state.stop is not None:
            return CampaignResult(self.state.stop.reason, self.state.stop.message, 0)
        lock = RunLock(self.run_dir)
        try:
            self._position = catch_up(self.state, self.run_dir, self._position)
            log = EventLog.open(self.run_dir, self._position)
            try:
                return self._run(log, on_event)
            finally:
                log.close()
                self._position = log.end
        finally:
            lock.release()

    def _run(self, log: EventLog, on_event: OnEvent | None) -> CampaignResult:
        config = self.config
        spec = oracle_spec(config.oracle)
        _refuse_changed_oracle(self.run_dir, self.state, config, spec)
        space = config.system.space()
        objective = config.objective.build()
        hurry = threading.Event()
        generators = {name: config.generators[name].build(name, space) for name in config.asked_generators()}
        decider = Decider(
            seed=config.seed,
            agent=config.agent.build(space, objective),
            generators=generators,
            trainer=config.surrogate.build(space) if config.surrogate is not None else None,
            properties={objective.property: spec.properties[objective.property]},
            models=BlobStore(self.run_dir / MODELS_FOLDER),
            hurry=hurry,
            tuner=_tuner(config, space, self.run_dir / TUNING_FOLDER, hurry),
            waits_for_models=config.execution.mode == "synchronous",
        )
        learns = any(isinstance(generator, Learner) for generator in generators.values())
        workers = [config.execution, *([config.execution.training_workers] if learns else [])]
        with (
            connection(*workers),
            closing(build_executor(config.execution, config.oracle.build)) as executor,
            GracefulStop() as signals,  # after Ray has started, which takes SIGTERM for itself
        ):
            stopped = Controller(config, self.state, log, executor, decider, signals, on_event).run()
        exit_code = {"failures": EXIT_FAILURES, "interrupted": signals.exit_code}.get(stopped.reason, 0)
        return CampaignResult(stopped.reason, stopped.message, exit_code)

    def best(self, n: int = 1) -> list[Evaluation]:
        """The ``n`` best labelled evaluations, best first."""
        objective = self.state.objective
        labelled = [(objective.score(e.label), e.request_id, e) for e in self.state.evaluations if e.label is not None]
        labelled.sort(key=lambda entry: (-entry[0], entry[1]))
        return [evaluation for _, _, evaluation in labelled[:n]]


def _tuner(config: CampaignConfig, space: DesignSpace, folder: Path, hurry: threading.Event) -> Tuner | None:
    if not isinstance(config.agent, BayesianSettings) or config.agent.retuning is None or config.surrogate is None:
        return None
    return Tuner(config.surrogate, space, config.agent.retuning, folder, hurry)


def _refuse_foreign_folder(run_dir: Path, overwrite: bool) -> None:
    """A new campaign takes a new or empty folder, or what is left of one that never got its first event."""
    if not run_dir.exists():
        return
    if not run_dir.is_dir():
        raise RunDirectoryError(f"{run_dir} is a file; choose another --run-dir")
    try:
        names = {path.name for path in run_dir.iterdir()}
    except OSError as error:
        raise RunDirectoryError(f"{run_dir} cannot be read ({error.strerror}); choose another --run-dir") from error
    if (run_dir / LOG_NAME).exists():
        has_started = next(iter(read_events(run_dir)), None) is not None if not overwrite else False
        if has_started:
            raise RunDirectoryError(
                f"{run_dir} holds a campaign already: go on with `alloysmith resume {run_dir}`, "
                "or choose another --run-dir for a new one"
            )
    elif names - set(_OWN_NAMES):
        raise RunDirectoryError(f"{run_dir} is not empty; choose a folder that does not exist yet, or an empty one")


def _refuse_changed_oracle(run_dir: Path, state: CampaignState, config: CampaignConfig, spec: OracleSpec) -> None:
    """Labels of different oracles are never mixed, not even under the same file name."""
    if state.oracle_fingerprint in ("", spec.fingerprint):
        return
    potential = getattr(config.oracle, "potential", None)
    files = "" if potential is None else f" or its potential ({potential.model_dump(mode='json', exclude_none=True)})"
    raise RunDirectoryError(
        f"the oracle {config.oracle.kind}{files} is not what it was when {run_dir} was started with Alloysmith "
        f"{state.software.get('alloysmith', '?')}: its fingerprint was {state.oracle_fingerprint} and is now "
        f"{spec.fingerprint}. Restore the file (or that version), or start a new campaign in another run directory; "
        "labels of different potentials cannot be compared"
    )


def _remove_campaign(run_dir: Path) -> None:
    """Remove what an earlier campaign wrote, and nothing else; the lock is ours by now."""
    try:
        for folder in (MODELS_FOLDER, TUNING_FOLDER):
            shutil.rmtree(run_dir / folder, ignore_errors=True)
        for name in (LOG_NAME, CONFIG_NAME, README_NAME):
            (run_dir / name).unlink(missing_ok=True)
    except OSError as error:
        raise RunDirectoryError(f"{run_dir} cannot be cleared: {error.strerror}") from error


def _write_text(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunDirectoryError(f"{path} cannot be written: {error.strerror}; choose another --run-dir") from error


def _session_config(run_dir: Path, state: CampaignState, overrides: Sequence[str]) -> CampaignConfig:
    """The configuration in the log with the latest session's execution and budget, and these overrides."""
    plain = {**state.config, "execution": dict(state.execution), "budget": dict(state.budget)}
    plain["execution"]["mode"] = state.config["execution"]["mode"]
    source = YamlSource(f"the configuration in {run_dir / LOG_NAME}", copy.deepcopy(plain))
    for assignment in overrides:
        source.override(assignment)
    config: CampaignConfig = validate_settings(source, CampaignConfig, run_dir)
    original: CampaignConfig = validate_settings(YamlSource(source.name, plain), CampaignConfig, run_dir)
    if config.results_hash() != original.results_hash():
        raise RunDirectoryError(
            f"{run_dir} was started with another configuration: {', '.join(overrides)} would change its results. "
            "Only execution (but its mode) and budget may change; start a new campaign for anything else"
        )
    return config
