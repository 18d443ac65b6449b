"""A session of a learning: round after round, each of them its stages in turn, until there is a reason to end.

Each stage is a function of the files before it and of seeds derived from the configuration's, and leaves one whole
file. So a learning that was killed goes on at the stage where it was, and ends as if it had not been.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ...generators.md_exploration import perturbed_crystals
from ...structures.files import read_structures, write_structures
from ...surrogates.potentials.torch_potential import TorchPotential
from ..rounds.crew import Crew
from ..rounds.endings import Ending, LearningError, Limits
from ..rounds.files import put
from ..rounds.learning import do_rounds
from ..rounds.site import OnProgress
from ..seeding import derive_seed
from ..signals import GracefulStop
from .choosing import bands_of_round, choice_of_round
from .config import LearningConfig
from .endings import check_between_rounds, n_labels_left
from .exploring import exploration_of_round
from .figures import judge
from .jobs import DEVIATION
from .knowledge import Knowledge
from .labelled import IS_TEST, failures_of
from .labels import labels_of_round
from .rounds import RoundFolder, RoundRecord, read_records
from .search import read_search
from .site import Site
from .training import committee_of_round, failures_of_members


class Session:
    """What is known while a session runs; all of it can be read again from the files of the rounds.

    Attributes:
        records: of all rounds that are done.
    """

    def __init__(
        self,
        config: LearningConfig,
        run_dir: Path,
        crew: Crew,
        signals: GracefulStop,
        on_progress: OnProgress,
        on_round: Callable[[RoundRecord], None] | None,
    ) -> None:
        self.records = read_records(run_dir)
        spent_s = sum(RoundFolder(run_dir, len(self.records)).read_seconds().values())
        spent_s += sum(sum(record.seconds.values()) for record in self.records)
        limits = Limits(config.budget.wall_s, signals, spent_s)
        self._site = Site(config, run_dir, RoundFolder, crew, limits, on_progress)
        self._on_round = on_round
        self._knowledge = Knowledge(config)
        for record in self.records:
            self._knowledge.take_in(self._site.folder(record.index), record.index)

    def run(self) -> Ending:
        """Do round after round, until there is a reason to end."""

        def check() -> None:
            check_between_rounds(self._site.config, self._site.limits, self.records)

        def do_round(folder: RoundFolder, index: int) -> RoundRecord:
            return self._first_round(folder) if index == 0 else self._round(folder, index)

        return do_rounds(self._site, self.records, check, do_round, self._on_round)

    def finish(self) -> Sequence[str]:
        """Learn from the last labels as well; where the budget is raised later, the next round begins with this.

        Returns:
            Why members could not.

        Raises:
            LearningError: there are no labels yet.
            Ending: a signal.
        """
        if not self._knowledge.frames:
            raise LearningError(
                f"the wall time of {self._site.config.budget.wall_s:g} s was spent before the first structures were "
                "labelled; raise budget.wall_s and give the same command, which goes on"
            )
        index = len(self.records)
        self._site.folder(index).make()
        return failures_of_members(committee_of_round(self._site, index, self._knowledge.frames))

    def _first_round(self, folder: RoundFolder) -> RoundRecord:
        initial, seed = self._site.config.initial, self._site.config.seed
        n = initial.n_structures + initial.n_test
        self._site.on_progress(0, "first structures", f"{n} perturbed crystals")
        if not folder.chosen.exists():
            space = self._site.config.system.space()
            made = perturbed_crystals(space, n, initial, seed=derive_seed(seed, 0, "first structures"))
            is_test = np.random.default_rng(derive_seed(seed, 0, "test")).permutation(n) < initial.n_test
            for atoms, is_for_test in zip(made, is_test.tolist(), strict=True):
                atoms.info[IS_TEST] = is_for_test
            put(folder.chosen, lambda path: write_structures(path, made))
        rows = labels_of_round(self._site, 0, read_structures(folder.chosen))
        self._knowledge.take_in(folder, 0)
        failures = failures_of(rows)
        if not self._knowledge.frames:
            reasons = failures.most_common(1)
            why = f" ({reasons[0][1]} of them: {reasons[0][0]})" if reasons else ", test structures apart"
            raise LearningError(
                f"none of the {len(rows)} first structures has a label to learn from{why}; mend the oracle or "
                f"`initial` and begin in another folder; {folder.labelled} holds all reasons"
            )
        return self._record(folder, 0, n_chosen=len(rows), n_failed=failures.total())

    def _round(self, folder: RoundFolder, index: int) -> RoundRecord:
        site, knowledge = self._site, self._knowledge
        committee = committee_of_round(site, index, knowledge.frames)
        of_tests = judge(committee, knowledge.tests)
        explored = exploration_of_round(site, index, committee)
        deviations = np.array([float(atoms.info[DEVIATION]) for atoms in explored.visited])
        bands = bands_of_round(site, self.records, of_tests.calibration)
        shares = np.bincount(bands.classify(deviations), minlength=3) / max(1, len(deviations))
        n_left = n_labels_left(site.config, self.records)
        chosen = choice_of_round(site, index, explored.visited, deviations, bands, committee, knowledge, n_left)
        rows = labels_of_round(site, index, chosen) if chosen else []
        of_new = judge(committee, knowledge.take_in(folder, index))
        student = committee.members[0]
        facts: Mapping[str, object] = student.spec.facts if isinstance(student, TorchPotential) else {}
        train_errors = facts.get("training_errors", {})
        return self._record(
            folder,
            index,
            n_chosen=len(chosen),
            n_failed=failures_of(rows).total(),
            n_visited=len(explored.visited),
            n_explosions=len(explored.explosions),
            n_md_steps=explored.n_steps,
            shares=dict(zip(("accurate", "candidate", "failed"), shares.tolist(), strict=True)),
            scale=bands.scale,
            new_errors=of_new.errors,
            test_errors=of_tests.errors,
            train_errors=train_errors,
            calibration=of_new.calibration,
            search=read_search(folder.search),
            failures=(*failures_of_members(committee), *explored.failures),
        )

    def _record(self, folder: RoundFolder, index: int, **figures: object) -> RoundRecord:
        return RoundRecord(
            index=index,
            n_labels=len(self._knowledge.frames),
            n_test=len(self._knowledge.tests),
            seconds=folder.read_seconds(),
            **figures,  # type: ignore[arg-type]
        )
