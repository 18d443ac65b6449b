"""A generator that learns from labels next to nothing, in trainings that end as they are told to."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from alloysmith.errors import AlloysmithError
from alloysmith.generators.base import Candidate, History
from alloysmith.generators.learned import PlannedTraining, TrainingJob, current_model, training_stages
from alloysmith.generators.random_orderings import RandomOrderingsSettings
from alloysmith.generators.seen import read_history
from alloysmith.structures.space import DesignSpace
from alloysmith.surrogates.base import Report, SurrogateState

Ending = Literal["learn", "die once", "fail", "hang"]


@dataclass(frozen=True)
class RollCall(TrainingJob):
    """Learns which trainings there were."""

    n_labels: int
    then: Ending
    wall_s: float

    def run(
        self, before: SurrogateState | None, *, checkpoint_path: Path | None, report: Report
    ) -> SurrogateState | None:
        """Count to four."""
        for step in range(1, 5):
            time.sleep(self.wall_s / 4)
            if not report(step, {"share": step / 4, "loss": 1.0 / step}):
                return None
        if self.then == "fail":
            raise AlloysmithError("nothing can be learned from this")
        if self.then == "hang":
            time.sleep(1000.0)
        if self.then == "die once" and checkpoint_path is not None and not checkpoint_path.exists():
            checkpoint_path.write_text("it got so far")
            os._exit(3)
        called = [] if before is None else list(before.settings["called"])
        return SurrogateState("roll_call", {"called": [*called, self.n_labels]}, {})


@dataclass(frozen=True)
class RandomLearner:
    """Proposes random orderings that say what was known when they were proposed."""

    name: str
    space: DesignSpace
    goes_on: bool = True
    endings: Mapping[int, Ending] = field(default_factory=dict)
    wall_s: float = 0.0

    def propose(self, n: int, history: History, *, seed: int) -> Sequence[Candidate]:
        """See :class:`~alloysmith.generators.base.Generator`."""
        model = current_model(self.name, self.trainings(history), history)
        facts = {} if model is None else {"called": list(model.state.settings["called"])}
        found = RandomOrderingsSettings().build(self.name, self.space).propose(n, history, seed=seed)
        return [replace(c, lineage=replace(c.lineage, facts={**c.lineage.facts, **facts})) for c in found]

    def trainings(self, history: History) -> Sequence[PlannedTraining]:
        """See :class:`~alloysmith.generators.learned.Learner`."""
        stages = training_stages(read_history(history, self.space), 4, 1.5)
        return [
            PlannedTraining(self.name, stage, self.space, self.goes_on, partial(self._job, len(stage)))
            for stage in stages
        ]

    def _job(self, n_labels: int) -> RollCall:
        return RollCall(n_labels, self.endings.get(n_labels, "learn"), self.wall_s)
