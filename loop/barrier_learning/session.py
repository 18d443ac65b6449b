"""A session of a learning of barriers: round after round, until there is a reason to end.

A round chooses hops, has them labelled, learns and is judged. Each stage is a function of the files before it and of
seeds derived from the configuration's, and leaves one whole file. So a learning that was killed goes on at the stage
where it was, and ends as if it had not been.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ...surrogates.barriers.base import BarrierModel
from ...surrogates.barriers.hops import Hops
from ...surrogates.barriers.settings import barrier_model_from_state
from ...surrogates.model_file import load_state
from ..hop_labelling import rows_text, table_row
from ..rounds.crew import Crew
from ..rounds.endings import Ending, LearningError, Limits
from ..rounds.files import put
from ..rounds.labels import label_all
from ..rounds.learning import do_rounds
from ..rounds.site import OnProgress
from ..signals import GracefulStop
from .choosing import first_choice, next_choice, read_choice, write_choice
from .config import BarrierLearningConfig
from .judging import (
    errors_on_new,
    figures_of,
    read_spectrum,
    reason_to_settle,
    spectrum_figures,
    spectrum_hops,
    write_spectrum,
)
from .pool import (
    HopPool,
    KnownHops,
    LabelledHop,
    drafted_pool,
    is_pool_there,
    labelled_json,
    read_labelled,
    read_pool,
    write_pool,
)
from .rounds import MODEL_NAME, TABLE_NAME, BarrierFolder, BarrierRound, read_barrier_rounds
from .training import Site, model_of_round


class BarrierSession:
    """What is known while a session runs; all of it can be read again from the files of the rounds.

    Attributes:
        records: of all rounds that are done.
    """

    def __init__(
        self,
        config: BarrierLearningConfig,
        run_dir: Path,
        crew: Crew,
        signals: GracefulStop,
        on_progress: OnProgress,
        on_round: Callable[[BarrierRound], None] | None,
    ) -> None:
        self.records = read_barrier_rounds(run_dir)
        spent_s = sum(BarrierFolder(run_dir, len(self.records)).read_seconds().values())
        spent_s += sum(sum(record.seconds.values()) for record in self.records)
        limits = Limits(config.budget.wall_s, signals, spent_s)
        self._site: Site = Site(config, run_dir, BarrierFolder, crew, limits, on_progress)
        self._on_round = on_round
        self._pool: HopPool
        self._known: KnownHops
        self._spectrum: Hops
        # what is wrong with the pool is told before anything is written
        self._draft = None if is_pool_there(run_dir) else drafted_pool(config)
        if self._draft is not None:
            config.oracle.check(self._draft.elements)

    def run(self) -> Ending:
        """Do round after round, until there is a reason to end."""
        self._open()
        return do_rounds(self._site, self.records, self._check_between_rounds, self._round, self._on_round)

    def finish(self) -> Sequence[str]:
        """Nothing is left to be learnt after a round.

        Raises:
            LearningError: there is no model yet.
        """
        if not (self._site.run_dir / MODEL_NAME).exists():
            raise LearningError(
                f"the wall time of {self._site.config.budget.wall_s:g} s was spent before the first hops were "
                "labelled; raise budget.wall_s and give the same command, which goes on"
            )
        return ()

    def _open(self) -> None:
        """Read the pool, once it is there, and what is known of it."""
        site = self._site
        if self._draft is not None:
            write_pool(self._draft, site.run_dir)
        self._pool = read_pool(site.run_dir)
        self._known = KnownHops(self._pool)
        for record in self.records:
            self._known.take_in(read_labelled(site.folder(record.index).labelled))
        self._spectrum = spectrum_hops(site.config, self._pool)

    def _n_left(self) -> int:
        return max(0, self._site.config.budget.n_labels - sum(record.n_chosen for record in self.records))

    def _check_between_rounds(self) -> None:
        stopping = self._site.config.stopping
        self._site.limits.check_signals()
        if reason := reason_to_settle(self.records, stopping):
            raise Ending("settled", reason)
        if self.records and self._n_left() == 0:
            raise Ending("labels", f"{self._site.config.budget.n_labels} labels are spent")
        if len(self.records) > stopping.max_rounds:
            raise Ending("rounds", f"{stopping.max_rounds} rounds are done")
        self._site.limits.check()

    def _round(self, folder: BarrierFolder, index: int) -> BarrierRound:
        site = self._site
        before = self._model_before(index)
        self._choose(folder, index, before)
        labelled = self._labels(folder, index)
        self._known.take_in(labelled)
        put(site.run_dir / TABLE_NAME, rows_text([hop.row for hop in self._known.labelled]).encode())
        model = model_of_round(site, index, self._known, self._pool.hops.elements)
        site.on_progress(index, "judging", f"{len(self._spectrum)} hops of the spectrum")
        with site.timed(index, "judging"):
            new = self._known.barriers([hop for hop in labelled if not hop.is_validation])
            of_new = {} if before is None else errors_on_new(before, new)
            validation = self._known.validation()
            barriers_ev = model.predict(self._spectrum).mean_ev
            write_spectrum(folder, barriers_ev)
            before_ev = None if index == 0 else read_spectrum(site.folder(index - 1))
            figures = figures_of(model, validation) | spectrum_figures(self._spectrum, barriers_ev, before_ev)
        kinds = Counter(hop.row["failure"] for hop in labelled if hop.row.get("failure"))
        return BarrierRound(
            index=index,
            n_labels=len(self._known.learnt()),
            n_validation=len(validation),
            n_chosen=len(labelled),
            n_failed=kinds.total(),
            failures=kinds,
            new_errors=of_new,
            seconds=folder.read_seconds(),
            **figures,
        )

    def _model_before(self, index: int) -> BarrierModel | None:
        return None if index == 0 else barrier_model_from_state(load_state(self._site.folder(index - 1).model))

    def _choose(self, folder: BarrierFolder, index: int, model: BarrierModel | None) -> None:
        if folder.chosen.exists():
            return
        site = self._site
        with site.timed(index, "choosing"):
            if model is None:
                site.on_progress(index, "choosing", "the first hops, at random")
                learnt, validation = first_choice(site.config, self._pool)
            else:
                n = min(site.config.selection.batch_size, self._n_left())
                site.on_progress(index, "choosing", f"{n} hops by {site.config.selection.kind}")
                learnt = next_choice(site.config, self._pool, self._known, model, index, n)
                validation = np.zeros(0, dtype=np.int64)
                if len(learnt) == 0:
                    raise Ending("nothing_new", "all hops of the pool have been labelled")
            write_choice(folder, learnt, validation)

    def _labels(self, folder: BarrierFolder, index: int) -> list[LabelledHop]:
        if not folder.labelled.exists():
            learnt, validation = read_choice(folder)
            numbers = np.concatenate([learnt, validation])
            wanted = self._pool.wanted(numbers)
            results = label_all(self._site, index, [hop.marked() for hop in wanted])
            labelled = []
            for k, (number, hop, result) in enumerate(zip(numbers.tolist(), wanted, results, strict=True)):
                is_validation = k >= len(learnt)
                row = {**table_row(hop, result), "split": "validation" if is_validation else "train"}
                labelled.append(LabelledHop(number, is_validation, row))
            put(folder.labelled, labelled_json(labelled))
        return read_labelled(folder.labelled)
