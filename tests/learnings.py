"""Learnings in processes of their own: one to be killed, and jobs that hang."""

from __future__ import annotations

import os
import time
from pathlib import Path

from alloysmith.generators.md_exploration import EndedRun
from alloysmith.loop.execution.base import Tell
from alloysmith.loop.learning.config import LearningConfig
from alloysmith.loop.learning.jobs import ExplorationRun, Job, LearningRunner, MemberTraining
from alloysmith.loop.learning.learning import learn
from alloysmith.surrogates.base import SurrogateState


def run_learning(config: LearningConfig, run_dir: Path) -> None:
    """Learn, and end the process."""
    os._exit(learn(config, run_dir).exit_code)


class HangingRunner(LearningRunner):
    """Hangs in each training of the second member, and in the first run of each round."""

    def run(self, request: Job, tell: Tell) -> SurrogateState | float | EndedRun | None:
        """Do a job, or never end."""
        is_second = isinstance(request, MemberTraining) and request.checkpoint_path.name.startswith("member-01")
        if is_second or (isinstance(request, ExplorationRun) and request.run.index == 0):
            time.sleep(1000.0)
        return super().run(request, tell)
