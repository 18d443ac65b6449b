"""Jobs that end badly: one that counts and does so when told to, and a learning's that hang."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Literal

from alloysmith.errors import AlloysmithError
from alloysmith.generators.md_exploration import EndedRun
from alloysmith.loop.execution.base import Runner, Tell
from alloysmith.loop.learning.jobs import ExplorationRun, Job, LearningRunner, MemberTraining
from alloysmith.surrogates.base import SurrogateState


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


class HangingRunner(LearningRunner):
    """Hangs in each training of the second member, and in the first run of each round."""

    def run(self, request: Job, tell: Tell) -> SurrogateState | float | EndedRun | None:
        """Do a job, or never end."""
        is_second = isinstance(request, MemberTraining) and request.checkpoint_path.name.startswith("member-01")
        if is_second or (isinstance(request, ExplorationRun) and request.run.index == 0):
            time.sleep(1000.0)
        return super().run(request, tell)
