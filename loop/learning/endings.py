"""Why a session of a learning ends, and when."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

from ...errors import AlloysmithError
from ..signals import GracefulStop
from .config import LearningConfig
from .figures import has_settled
from .rounds import RoundRecord

EndReason = Literal["settled", "rounds", "labels", "wall_time", "interrupted", "failures", "nothing_new"]


class LearningError(AlloysmithError):
    """A learning cannot go on: no usable labels, an oracle that only fails, a training that diverges."""


class Ending(Exception):  # noqa: N818 - no error: it carries the end of a session out of its stages
    """The end of a session; see :class:`~.learning.LearningEnd`."""

    def __init__(self, reason: EndReason, message: str, exit_code: int = 0) -> None:
        super().__init__(message)
        self.reason, self.message, self.exit_code = reason, message, exit_code


class Limits:
    """Signals, time and budget of a session.

    Args:
        spent_before_s: wall time of the sessions before.
    """

    def __init__(self, config: LearningConfig, signals: GracefulStop, spent_before_s: float) -> None:
        self._config = config
        self._signals = signals
        self._spent_before_s = spent_before_s
        self._began = time.monotonic()

    def is_interrupted(self) -> bool:
        """Whether there was a signal."""
        return self._signals.received is not None

    def is_time_up(self) -> bool:
        """Whether the wall time is spent."""
        allowed = self._config.budget.wall_s
        return allowed is not None and self._spent_before_s + time.monotonic() - self._began >= allowed

    def must_stop(self) -> bool:
        """Whether either is so."""
        return self.is_interrupted() or self.is_time_up()

    def check_signals(self) -> None:
        """End the session if there was a signal."""
        if self._signals.received is not None:
            raise Ending("interrupted", f"by {self._signals.received.name}", self._signals.exit_code)

    def check(self) -> None:
        """End the session if there was a signal, or the time is spent."""
        self.check_signals()
        if self.is_time_up():
            raise Ending("wall_time", f"{self._config.budget.wall_s:g} s are spent")

    def n_labels_left(self, records: Sequence[RoundRecord]) -> int:
        """How many structures may still be labelled."""
        return max(0, self._config.budget.n_labels - sum(record.n_chosen for record in records))

    def check_between_rounds(self, records: Sequence[RoundRecord]) -> None:
        """End the session if there is a reason not to begin another round."""
        self.check_signals()
        stopping = self._config.stopping
        rounds = records[1:]
        if has_settled(records, stopping.candidate_share, stopping.error_change, stopping.patience):
            raise Ending("settled", f"for {stopping.patience} rounds there was nothing more to learn")
        if len(rounds) >= stopping.patience and not any(record.n_chosen for record in rounds[-stopping.patience :]):
            message = f"for {stopping.patience} rounds exploration found no structure worth a label"
            raise Ending("nothing_new", message)
        if self.n_labels_left(records) == 0:
            raise Ending("labels", f"{self._config.budget.n_labels} labels are spent")
        if len(rounds) >= stopping.max_rounds:
            raise Ending("rounds", f"{stopping.max_rounds} rounds are done")
        self.check()
