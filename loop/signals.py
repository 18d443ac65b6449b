"""SIGINT and SIGTERM: the first one asks for an end in good order, the second one ends at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_HANDLED = (signal.SIGINT, signal.SIGTERM)


class GracefulStop:
    """While entered, remembers the first signal in :attr:`received`; the second one raises.

    Outside the main thread, where Python delivers no signals, it does nothing.

    Args:
        note: written to standard error at the first signal.
    """

    def __init__(self, note: str = "") -> None:
        self._note = note
        self.received: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    @property
    def exit_code(self) -> int:
        """128 plus the number of the signal, as shells have it; 0 without one."""
        return 128 + self.received if self.received is not None else 0

    def __enter__(self) -> GracefulStop:
        if threading.current_thread() is threading.main_thread():
            for number in _HANDLED:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = signal.Signals(number)
            if self._note:
                os.write(2, f"{self._note}\n".encode())
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise SystemExit(128 + number)
