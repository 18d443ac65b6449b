"""Learning a potential: rounds of training a committee, exploring, choosing, labelling, until nothing new is found.

Each stage of a round is a function of the files before it and of seeds derived from the configuration's, and leaves one
whole file. So a learning that was killed goes on at the stage where it was, and ends as if it had not been.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import orjson
from ase import Atoms

from ...agents.deviation_bands import Bands, calibrate, eligible
from ...errors import AlloysmithError
from ...generators.md_exploration import explore, perturbed_crystals
from ...structures.files import read_structures, write_structures
from ...structures.space import DesignSpace
from ...surrogates.model_file import save_state
from ...surrogates.potentials.committee import Committee
from ...surrogates.potentials.environments import environment_features, farthest_points
from ...surrogates.potentials.frame import Frame
from ...surrogates.potentials.frame_split import split_frames
from ...surrogates.potentials.frames import load_frames
from ...surrogates.potentials.native import force_field_of
from ...surrogates.potentials.settings import load_potential
from ..campaign import EXIT_FAILURES
from ..errors import RunDirectoryError
from ..labelling import label_structures
from ..seeding import derive_seed
from ..signals import GracefulStop
from ..store.lock import RunLock
from .config import LearningConfig
from .figures import calibration_pairs, error_figures, has_settled
from .labelled import IS_TEST, failures_of, labelled_row, read_labelled
from .rounds import (
    CONFIG_NAME,
    JOURNAL_NAME,
    POTENTIAL_NAME,
    RoundFolder,
    RoundRecord,
    put,
    read_records,
)
from .training import train_committee

Stage = Literal["first structures", "training", "exploring", "choosing", "labelling"]
OnProgress = Callable[[int, Stage, str], None]
"""Called with the round, its stage, and how far it is."""

EndReason = Literal["settled", "rounds", "labels", "wall_time", "interrupted", "failures", "nothing_new"]


_CALIBRATION_ROUNDS = 3
"""Rounds whose labels still tell how wrong the committee is; it has learnt since."""


class LearningError(AlloysmithError):
    """A learning cannot go on: no usable labels, or an oracle that only fails."""


@dataclass(frozen=True)
class LearningEnd:
    """How a session ended.

    Attributes:
        reason: ``settled`` (nothing more to learn), ``rounds`` or ``labels`` (all that were allowed are spent),
            ``wall_time``, ``interrupted`` (a signal), ``failures`` (the oracle only fails), ``nothing_new``.
        message: the same in words.
        records: all rounds so far.
        exit_code: for the shell; 0 where it came to an end of its own.
    """

    reason: EndReason
    message: str
    records: Sequence[RoundRecord]
    exit_code: int = 0


class _Ending(Exception):  # noqa: N818 - no error: it carries the end of a session out of its stages
    def __init__(self, reason: EndReason, message: str, exit_code: int = 0) -> None:
        super().__init__(message)
        self.reason, self.message, self.exit_code = reason, message, exit_code


def learn(
    config: LearningConfig,
    run_dir: Path,
    *,
    on_progress: OnProgress | None = None,
    on_round: Callable[[RoundRecord], None] | None = None,
) -> LearningEnd:
    """Begin a learning in a new run directory, or go on with the one that is there.

    Args:
        on_progress: told what is going on.
        on_round: given each round as it is done.

    Raises:
        RunDirectoryError: the folder holds something else, a learning of another configuration, or cannot be written.
        LearningError: there is nothing to learn from.
    """
    _check_folder(config, run_dir)
    lock = RunLock(run_dir)
    try:
        with GracefulStop() as signals:
            session = _Session(config, run_dir, signals, on_progress or _silent, on_round)
            # only now that all files are read: a folder keeps the configuration that it was begun with
            put(run_dir / CONFIG_NAME, config.model_dump_json(indent=2).encode())
            try:
                end = session.run()
                if end.exit_code == 0:
                    session.finish()
            except _Ending as early:  # a signal, while it finished
                end = early
            return LearningEnd(end.reason, end.message, session.records, end.exit_code)
    finally:
        lock.release()


def _silent(index: int, stage: Stage, detail: str) -> None:
    """Progress that nobody follows."""


def _check_folder(config: LearningConfig, run_dir: Path) -> None:
    """Make the folder, or check that it holds this learning."""
    path = run_dir / CONFIG_NAME
    if path.is_file():
        try:
            known = LearningConfig.model_validate_json(path.read_bytes())
        except ValueError as error:
            raise RunDirectoryError(f"{path} is damaged or of another version: {error}") from error
        if known.results_hash() != config.results_hash():
            raise RunDirectoryError(
                f"{run_dir} holds a learning of another configuration; only budget, stopping and execution may change. "
                "Choose another --run-dir"
            )
    elif run_dir.exists() and any(run_dir.iterdir()):
        raise RunDirectoryError(f"{run_dir} is not empty and holds no learning; choose another --run-dir")
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunDirectoryError(f"{run_dir} cannot be made: {error.strerror or error}") from error


@dataclass
class _Session:
    """What is known while a session runs; all of it can be read again from the files of the rounds."""

    config: LearningConfig
    run_dir: Path
    signals: GracefulStop
    on_progress: OnProgress
    on_round: Callable[[RoundRecord], None] | None
    records: list[RoundRecord] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    test_frames: list[Frame] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    spent_before_s: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.records = read_records(self.run_dir)
        self.spent_before_s = sum(RoundFolder(self.run_dir, len(self.records)).read_seconds().values())
        self.spent_before_s += sum(sum(record.seconds.values()) for record in self.records)
        self.space: DesignSpace = self.config.system.space()
        data = self.config.data
        if data is not None:
            found = load_frames(data, self.config.system.elements)
            whole = data.model_copy(update={"validation_fraction": 0.0})
            parts = split_frames(found, whole, seed=derive_seed(self.config.seed, 0, "data"))
            self.frames += parts.train
            self.test_frames += parts.test
        for record in self.records:
            self._take_in(record.index)

    @property
    def elements(self) -> tuple[str, ...]:
        return self.config.system.elements

    def run(self) -> _Ending:
        """Do round after round, until there is a reason to end."""
        try:
            while True:
                self._look_at_limits()
                index = len(self.records)
                folder = RoundFolder(self.run_dir, index)
                folder.make()
                self.seconds = folder.read_seconds()
                record = self._first_round(folder) if index == 0 else self._round(folder, index)
                put(folder.record, record.as_json())
                self.records.append(record)
                if self.on_round is not None:
                    self.on_round(record)
        except _Ending as end:
            return end

    def finish(self) -> None:
        """Learn from the last labels as well; where the budget is raised later, the next round begins with this.

        Raises:
            LearningError: there are no labels yet.
        """
        if not self.frames:
            raise LearningError(
                f"the wall time of {self.config.budget.wall_s:g} s was spent before the first structures were "
                "labelled; raise budget.wall_s and give the same command, which goes on"
            )
        index = len(self.records)
        folder = RoundFolder(self.run_dir, index)
        folder.make()
        self.seconds = folder.read_seconds()
        self._committee(index, folder)

    # Rounds

    def _first_round(self, folder: RoundFolder) -> RoundRecord:
        initial = self.config.initial
        self.on_progress(0, "first structures", f"{initial.n_structures + initial.n_test} perturbed crystals")
        if not folder.chosen.exists():
            made = perturbed_crystals(
                self.space,
                initial.n_structures + initial.n_test,
                initial,
                seed=derive_seed(self.config.seed, 0, "first structures"),
            )
            is_test = np.random.default_rng(derive_seed(self.config.seed, 0, "test")).permutation(len(made))
            for k, atoms in enumerate(made):
                atoms.info[IS_TEST] = bool(is_test[k] < initial.n_test)
            put(folder.chosen, lambda path: write_structures(path, made))
        n_failed = self._label(0, folder)
        n_chosen = len(read_structures(folder.chosen))
        self._take_in(0)
        if not self.frames:
            reasons = failures_of(read_structures(folder.labelled)).most_common(1)
            why = f" ({reasons[0][1]} of them: {reasons[0][0]})" if reasons else ", test structures apart"
            raise LearningError(
                f"none of the {n_chosen} first structures has a label to learn from{why}; mend the oracle or `initial` "
                f"and begin in another folder; {folder.labelled} holds all reasons"
            )
        return RoundRecord(
            index=0,
            n_labels=len(self.frames),
            n_test=len(self.test_frames),
            n_chosen=n_chosen,
            n_failed=n_failed,
            seconds=dict(self.seconds),
        )

    def _round(self, folder: RoundFolder, index: int) -> RoundRecord:
        committee = self._committee(index, folder)
        train_errors = error_figures(committee.members[0], self.frames)
        test_errors = error_figures(committee.members[0], self.test_frames)
        n_steps, explosions = self._explore(index, folder, committee)
        visited = read_structures(folder.visited)
        deviations = np.array([float(atoms.info["force_deviation_ev_ang"]) for atoms in visited])
        bands = self._bands(committee)
        shares = np.bincount(bands.classify(deviations), minlength=3) / max(1, len(deviations))
        self._choose(index, folder, visited, deviations, bands)
        chosen = read_structures(folder.chosen) if folder.chosen.stat().st_size else []
        n_failed = self._label(index, folder) if chosen else 0
        new = self._take_in(index) if chosen else []
        calibration = calibration_pairs(committee, new)
        return RoundRecord(
            index=index,
            n_labels=len(self.frames),
            n_test=len(self.test_frames),
            n_chosen=len(chosen),
            n_failed=n_failed,
            n_visited=len(visited),
            n_explosions=len(explosions),
            n_md_steps=n_steps,
            shares=dict(zip(("accurate", "candidate", "failed"), (float(s) for s in shares), strict=True)),
            scale=bands.scale,
            new_errors=error_figures(committee, new),
            test_errors=test_errors,
            train_errors=train_errors,
            seconds=dict(self.seconds),
            calibration=calibration,
        )

    # Stages

    def _committee(self, index: int, folder: RoundFolder) -> Committee:
        """Train the members, or read what was trained before a kill."""
        if folder.committee.exists():
            return _read_committee(folder.committee)
        began = time.monotonic()
        n_members = self.config.committee.n_members

        def on_step(which: int, step: int) -> bool:
            detail = f"member {which + 1} of {n_members}, {len(self.frames)} labels, step {step}"
            self.on_progress(index, "training", detail)
            return self.signals.received is None

        earlier = RoundFolder(self.run_dir, index - 1).committee
        before = _read_committee(earlier) if earlier.exists() else None
        committee = train_committee(self.config, self.frames, index, on_step, before)
        self._note(folder, "training", began)
        if committee is None:
            self._check_signals()
            raise LearningError("the training ended without a signal")
        # the result first: who finds the committee takes it that the result is there
        put(self.run_dir / POTENTIAL_NAME, lambda path: save_state(committee.members[0].state(), path))
        put(folder.committee, lambda path: save_state(committee.state(), path))
        return committee

    def _explore(self, index: int, folder: RoundFolder, committee: Committee) -> tuple[int, Sequence[str]]:
        facts_path = folder.path / "visited.json"
        if folder.visited.exists():
            return _facts_of(facts_path)
        began = time.monotonic()
        settings = self.config.exploration
        self.on_progress(index, "exploring", f"{settings.n_trajectories} runs of {settings.n_steps} steps")

        def on_run(n_done: int) -> bool:
            self.on_progress(index, "exploring", f"run {n_done} of {settings.n_trajectories}")
            return self.signals.received is None and not self._is_time_up()

        self._check_time()

        with force_field_of(committee.members[0]) as force_field:
            found = explore(
                force_field,
                self.space,
                settings,
                round_index=index - 1,
                seed=derive_seed(self.config.seed, index, "exploration"),
                on_run=on_run,
            )
        self._check_time()
        structures = [visit.atoms for visit in found.visits]
        _, apart = committee.evaluate_with_disagreement(structures)
        for k, visit in enumerate(found.visits):
            visit.atoms.info = {**visit.facts, "round": index, "force_deviation_ev_ang": float(apart.force_ev_ang[k])}
        facts = orjson.dumps({"n_steps": found.n_steps, "explosions": list(found.explosions)})
        put(facts_path, facts)
        put(folder.visited, lambda path: write_structures(path, structures))
        self._note(folder, "exploring", began)
        return found.n_steps, found.explosions

    def _bands(self, committee: Committee) -> Bands:
        """Bounds as structures that were not learnt from calibrate them: test structures, and the latest labels."""
        pairs = [*calibration_pairs(committee, self.test_frames)]
        pairs += [pair for record in self.records[-_CALIBRATION_ROUNDS:] for pair in record.calibration]
        deviations, errors = np.array(pairs).reshape(-1, 2).T
        return calibrate(self.config.selection, deviations, errors)

    def _choose(
        self, index: int, folder: RoundFolder, visited: Sequence[Atoms], deviations: np.ndarray, bands: Bands
    ) -> None:
        """The structures of the round: from the eligible ones, far from each other and from what is labelled."""
        if folder.chosen.exists():
            return
        began = time.monotonic()
        self.on_progress(index, "choosing", f"of {len(visited)} visited structures")
        n = min(self.config.selection.batch_size, self._n_left())
        rows = eligible(self.config.selection, bands, deviations, n)
        cutoff = self.config.potential.cutoff_ang
        candidates = [visited[i] for i in rows]
        chosen: list[Atoms] = []
        if candidates:
            known = environment_features([frame.atoms for frame in self.frames], self.elements, cutoff)
            features = environment_features(candidates, self.elements, cutoff)
            chosen = [candidates[i] for i in farthest_points(features, n, known)]
        if chosen:
            put(folder.chosen, lambda path: write_structures(path, chosen))
        else:
            put(folder.chosen, b"")
        self._note(folder, "choosing", began)

    def _label(self, index: int, folder: RoundFolder) -> int:
        """Label what was chosen; return how many have none."""
        chosen = read_structures(folder.chosen)
        began = time.monotonic()
        if not folder.labelled.exists():
            self._check_time()

            def on_labels(n_ended: int, n_failed: int) -> None:
                failed = f", {n_failed} failed" if n_failed else ""
                self.on_progress(index, "labelling", f"{n_ended} of {len(chosen)}{failed}")

            on_labels(0, 0)
            run = label_structures(
                self.config.oracle,
                chosen,
                [None] * len(chosen),
                self.run_dir / JOURNAL_NAME,
                self.config.execution,
                on_progress=on_labels,
                is_time_up=self._is_time_up,
            )
            self._note(folder, "labelling", began)
            if run.interrupted_by is not None:
                raise _Ending("interrupted", f"by {run.interrupted_by.name}", 128 + run.interrupted_by)
            if run.aborted_because:
                raise _Ending("failures", run.aborted_because, EXIT_FAILURES)
            ended = [result for result in run.results if result is not None]
            if len(ended) < len(chosen):  # the others are in the journal, and not made twice
                raise self._time_is_up()
            rows = [labelled_row(atoms, result) for atoms, result in zip(chosen, ended, strict=True)]
            put(folder.labelled, lambda path: write_structures(path, rows))
        return sum("failure" in atoms.info for atoms in read_structures(folder.labelled))

    def _take_in(self, index: int) -> list[Frame]:
        """The labels of a round, from now on part of what is known; test structures are kept apart."""
        path = RoundFolder(self.run_dir, index).labelled
        if not path.exists():
            return []
        new, tests = read_labelled(path, f"round {index}")
        self.frames += new
        self.test_frames += tests
        return new

    # The end

    def _n_left(self) -> int:
        used = sum(record.n_chosen for record in self.records)
        return max(0, self.config.budget.n_labels - used)

    def _check_signals(self) -> None:
        if self.signals.received is not None:
            raise _Ending("interrupted", f"by {self.signals.received.name}", self.signals.exit_code)

    def _check_time(self) -> None:
        self._check_signals()
        if self._is_time_up():
            raise self._time_is_up()

    def _is_time_up(self) -> bool:
        allowed = self.config.budget.wall_s
        return allowed is not None and self.spent_before_s + time.monotonic() - self.started >= allowed

    def _time_is_up(self) -> _Ending:
        return _Ending("wall_time", f"{self.config.budget.wall_s:g} s are spent")

    def _look_at_limits(self) -> None:
        self._check_signals()
        stopping = self.config.stopping
        rounds = self.records[1:]
        if has_settled(self.records, stopping.candidate_share, stopping.error_change, stopping.patience):
            raise _Ending("settled", f"for {stopping.patience} rounds there was nothing more to learn")
        if len(rounds) >= stopping.patience and not any(record.n_chosen for record in rounds[-stopping.patience :]):
            message = f"for {stopping.patience} rounds exploration found no structure worth a label"
            raise _Ending("nothing_new", message)
        if self._n_left() == 0:
            raise _Ending("labels", f"{self.config.budget.n_labels} labels are spent")
        if len(rounds) >= stopping.max_rounds:
            raise _Ending("rounds", f"{stopping.max_rounds} rounds are done")
        self._check_time()

    def _note(self, folder: RoundFolder, stage: Stage, began: float) -> None:
        """Add to the time of a stage, which several sessions may take."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - began
        folder.write_seconds(self.seconds)


def _read_committee(path: Path) -> Committee:
    known = load_potential(path)
    if not isinstance(known, Committee):
        raise RunDirectoryError(f"{path} holds no committee; remove the folder of its round")
    return known


def _facts_of(path: Path) -> tuple[int, Sequence[str]]:
    try:
        facts = orjson.loads(path.read_bytes())
        return int(facts["n_steps"]), list(facts["explosions"])
    except (OSError, KeyError, orjson.JSONDecodeError) as error:
        raise RunDirectoryError(f"{path} is missing or damaged ({error}); remove its round's folder") from error
