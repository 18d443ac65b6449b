"""An oracle over any structures: on any executor, resumable, every structure labelled once."""

from __future__ import annotations

import signal
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from ..generators.base import Failure
from ..oracles.base import FailureKind, Label, Request
from ..oracles.settings import OracleSettings
from ..structures.base import PHASES, Phase
from .config import ExecutionSettings, FailurePolicySettings, oracle_spec
from .execution.base import Executor, Task
from .execution.build import build_executor
from .failure_policy import decide
from .label_journal import LabelJournal, request_key
from .signals import GracefulStop

_PATIENCE_S = 0.2
_QUEUED_PER_WORKER = 2

OnProgress = Callable[[int, int], None]
"""Called with the number of distinct requests that have ended, and how many of them failed."""


@dataclass(frozen=True)
class LabellingRun:
    """How a labelling went.

    Attributes:
        results: label or failure of each structure, in their order; ``None`` for those not reached before it ended.
        n_evaluated: requests that ended now; the others were known from before, or equal to another structure.
        interrupted_by: the signal that ended it early.
        aborted_because: why failures ended it early; empty otherwise.
    """

    results: list[Label | Failure | None]
    n_evaluated: int
    interrupted_by: signal.Signals | None = None
    aborted_because: str = ""


def stated_phase(atoms: Atoms) -> Phase | None:
    """The phase that ``atoms.info["phase"]`` asks for, if it is one."""
    found = atoms.info.get("phase")
    return found if found in PHASES else None


def count_requests(structures: Sequence[Atoms], phases: Sequence[Phase | None]) -> int:
    """How many evaluations the structures take: equal ones that must keep the same phase take one."""
    return len({request_key(atoms, phase) for atoms, phase in zip(structures, phases, strict=True)})


def check_oracle(oracle: OracleSettings, structures: Sequence[Atoms]) -> None:
    """Check that an oracle works, and that it knows all elements of at least one of the structures.

    The others become failed rows: one odd structure is no reason to refuse a file.

    Raises:
        ConfigError: what is wrong, and what is there instead.
    """
    elements = [set(atoms.symbols.species()) for atoms in structures]
    known = oracle.known_elements()
    elements = [present for present in elements if present <= known] or elements
    oracle.check(sorted(set().union(*elements)))


def label_structures(
    oracle: OracleSettings,
    structures: Sequence[Atoms],
    phases: Sequence[Phase | None],
    journal_path: Path,
    execution: ExecutionSettings,
    *,
    retry_failed: bool = False,
    on_progress: OnProgress | None = None,
    is_time_up: Callable[[], bool] | None = None,
    policy: FailurePolicySettings | None = None,
    executor: Executor | None = None,
) -> LabellingRun:
    """Evaluate ``oracle`` on every structure that the journal does not know yet.

    Failures are treated as in a campaign, except that bad structures never end a labelling: they tell about the file,
    not about the oracle. What ended as unavailable is not written to the journal, nor is a crash before a label shows
    that the oracle works.

    Args:
        phases: for each structure, the phase it must still be in when relaxed; ``None`` means no check.
        journal_path: where outcomes are written as they come.
        execution: which executor, how many workers, the deadline of an evaluation.
        retry_failed: evaluate again what the journal knows as failed.
        is_time_up: asked again and again; ``True`` ends it as a signal does.
        policy: what is done about failures; as in a campaign by default.
        executor: of the same oracle, for callers who label again and again and close it themselves; if this is ended
            early, it still has work.

    Raises:
        ConfigError: the potential's files are missing or defective.
        ExecutorError: no worker can be started.
        JournalError: the journal cannot be used or written.
    """
    keys = [request_key(atoms, phase) for atoms, phase in zip(structures, phases, strict=True)]
    with LabelJournal(journal_path, oracle_spec(oracle).fingerprint) as journal:
        known = journal.outcomes
        missing: dict[str, int] = {}
        for index, key in enumerate(keys):
            if key not in known or (retry_failed and isinstance(known[key], Failure)):
                missing.setdefault(key, index)
        if not missing:
            return LabellingRun([known.get(key) for key in keys], 0)
        waiting = deque(Request(key, structures[i], phases[i]) for key, i in missing.items())
        session = _Session(journal, waiting, policy or FailurePolicySettings())
        n_known = len(set(keys)) - len(missing)
        workers = executor or build_executor(execution, oracle.build)
        try:
            with GracefulStop() as signals:
                while session.has_work and not session.aborted_because and signals.received is None:
                    if is_time_up is not None and is_time_up():
                        break
                    session.submit(workers, execution.deadline_s)
                    if session.collect(workers) and on_progress is not None:
                        on_progress(n_known + session.n_ended, session.n_failed)
                if not session.has_work and not session.aborted_because:
                    session.write_crashes()
                stopped_by = signals.received
        finally:
            if executor is None:
                workers.close()
        found = {**known, **session.unwritten}
        return LabellingRun([found.get(key) for key in keys], session.n_ended, stopped_by, session.aborted_because)


class _Session:
    """The requests of one labelling, until each has ended.

    Attributes:
        unwritten: failures that the journal does not hold: the next labelling tries those requests again.
        aborted_because: why it must not go on; empty while it may.
    """

    def __init__(self, journal: LabelJournal, waiting: deque[Request], policy: FailurePolicySettings) -> None:
        self._journal = journal
        self._waiting = waiting
        self._running: dict[str, Request] = {}
        self._n_attempts: Counter[str] = Counter()
        self._policy = policy
        self._recent: deque[str | None] = deque(
            maxlen=max(self._policy.window, self._policy.max_consecutive_breakdowns)
        )
        self.unwritten: dict[str, Failure] = {}
        self.aborted_because = ""
        self.n_ended = 0
        self.n_failed = 0

    @property
    def has_work(self) -> bool:
        return bool(self._waiting or self._running)

    def submit(self, executor: Executor, deadline_s: float) -> None:
        """Keep the workers supplied."""
        while self._waiting and len(self._running) < _QUEUED_PER_WORKER * executor.n_workers:
            request = self._waiting.popleft()
            key = request.request_id
            self._n_attempts[key] += 1
            task_id = f"{key}#{self._n_attempts[key]}"
            self._running[task_id] = request
            executor.submit(Task(task_id, request, deadline_s))

    def collect(self, executor: Executor) -> bool:
        """Take in what has ended, and write it down; return whether a request has ended."""
        outcomes = list(executor.completed(_PATIENCE_S))
        n_before = self.n_ended
        ended: dict[str, Label | Failure] = {}
        for outcome in outcomes:
            request = self._running.pop(outcome.task_id)
            if self._is_final(request, outcome.result):
                ended[request.request_id] = outcome.result
        self.n_ended += len(ended)
        self.n_failed += sum(isinstance(result, Failure) for result in ended.values())
        lasting = {key: result for key, result in ended.items() if not _is_breakdown(result)}
        self.unwritten.update(
            (key, result) for key, result in ended.items() if isinstance(result, Failure) and key not in lasting
        )
        if lasting:
            self._journal.record(lasting.items())
        if any(isinstance(result, Label) for result in lasting.values()):
            self.write_crashes()
        return self.n_ended > n_before

    def write_crashes(self) -> None:
        """Write down the crashes so far: the oracle works, so those structures are to blame."""
        crashes = {key: failure for key, failure in self.unwritten.items() if failure.kind == FailureKind.CRASHED}
        if crashes:
            self._journal.record(crashes.items())
            for key in crashes:
                del self.unwritten[key]

    def _is_final(self, request: Request, result: Label | Failure) -> bool:
        """Whether the request has ended, rather than being tried again."""
        if not isinstance(result, Failure):
            self._recent.append(None)
            return True
        if result.kind == FailureKind.BAD_STRUCTURE:
            return True
        decision = decide(self._policy, result.kind, self._n_attempts[request.request_id], self._recent)
        if decision.action == "retry":
            self._waiting.appendleft(request)
            return False
        self._recent.append(str(result.kind))
        if decision.action == "abort" and not self.aborted_because:
            self.aborted_because = f"{decision.reason}; the latest: {result.message}"
        return True


def _is_breakdown(result: Label | Failure) -> bool:
    return isinstance(result, Failure) and result.kind in (FailureKind.CRASHED, FailureKind.UNAVAILABLE)
