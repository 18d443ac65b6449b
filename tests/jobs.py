"""A job that counts, tells each number, and ends badly when told to."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Literal

from alloysmith.errors import AlloysmithError
from alloysmith.loop.execution.base import Runner, Tell


@dataclass(frozen=True)
class Count:
    """Count to ``n``; at the end do ``then``."""

    n: int
    then: Literal["return", "die", "hang", "raise", "fail"] = "return"


class Counter(Runner):
    """Runs :class:`Count`."""

    def run(self, request: Count, tell: Tell) -> list[int]:
        """The numbers that were told."""
        told = []
        for k in range(request.n):
            told.append(k)
            if not tell(k, {"square": float(k * k)}):
                return told
        match request.then:
            case "die":
                os._exit(3)
            case "hang":
                time.sleep(1000.0)
            case "raise":
                raise ZeroDivisionError("a defect")
            case "fail":
                raise AlloysmithError("it diverges")
        return told
