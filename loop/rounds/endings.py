"""Why a session of a learning ends: signals and time, which all learnings know; the rest is up to each."""

from __future__ import annotations

import time
from typing import Literal

from ...errors import AlloysmithError
from ..signals import GracefulStop

EndReason = Literal["settled", "rounds", "labels", "wall_time", "interrupted", "failures", "nothing_new"]


class LearningError(AlloysmithError):
    """A learning cannot go on: no usable labels, an oracle that only fails, a training that diverges."""


class Ending(Exception):  # noqa: N818 - no error: it carries the end of a session out of its stages
    """The end of a session; see :class:`~.learning.LearningEnd`."""

    def __init__(self, reason: EndReason, message: str, exit_code: int = 0) -> None:
        super().__init__(message)
        self.reason, self.message, self.exit_code = reason, message, exit_code


class Limits:
    """Signals and wall time of a session.

    Args:
        wall_s: that may be spent, all sessions together; ``None`` without a limit.
        spent_before_s: wall time of the sessions before.
    """

    def __init__(self, wall_s: float | None, signals: GracefulStop, spent_before_s: float) -> None:
        self._wall_s = wall_s
        self._signals = signals
        self._spent_before_s = spent_before_s
        self._began = time.monotonic()

    def is_interrupted(self) -> bool:
        """Whether there was a signal."""
        return self._signals.received is not None

    def is_time_up(self) -> bool:
        """Whether the wall time is spent."""
        return self._wall_s is not None and self._spent_before_s + time.monotonic() - self._began >= self._wall_s

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
            raise Ending("wall_time", f"{self._wall_s:g} s are spent")
