"""The labelling stage of a round."""

from __future__ import annotations

from collections.abc import Sequence

from ase import Atoms

from ...structures.files import read_structures, write_structures
from ..campaign import EXIT_FAILURES
from ..labelling import label_structures
from .endings import Ending, LearningError
from .labelled import labelled_row
from .rounds import JOURNAL_NAME, put
from .site import Site


def labels_of_round(site: Site, index: int, chosen: Sequence[Atoms]) -> list[Atoms]:
    """Label what was chosen, or read what was labelled before a kill: rows with labels, or why they have none.

    Raises:
        Ending: a signal, the time is spent, or the oracle only fails.
    """
    path = site.folder(index).labelled
    if not path.exists():
        site.limits.check()

        def on_labels(n_ended: int, n_failed: int) -> None:
            failed = f", {n_failed} failed" if n_failed else ""
            site.on_progress(index, "labelling", f"{n_ended} of {len(chosen)}{failed}")

        on_labels(0, 0)
        site.crew.close()  # the oracle's workers take the place of those that train
        with site.timed(index, "labelling"):
            run = label_structures(
                site.config.oracle,
                chosen,
                [None] * len(chosen),
                site.run_dir / JOURNAL_NAME,
                site.config.execution,
                on_progress=on_labels,
                is_time_up=site.limits.is_time_up,
            )
        if run.interrupted_by is not None:
            raise Ending("interrupted", f"by {run.interrupted_by.name}", 128 + run.interrupted_by)
        if run.aborted_because:
            raise Ending("failures", run.aborted_because, EXIT_FAILURES)
        ended = [result for result in run.results if result is not None]
        if len(ended) < len(chosen):  # the others are in the journal, and not made twice
            site.limits.check()
            raise LearningError(f"round {index}: {len(chosen) - len(ended)} labels were not made, for no known reason")
        rows = [labelled_row(atoms, result) for atoms, result in zip(chosen, ended, strict=True)]
        put(path, lambda scratch: write_structures(scratch, rows))
    return list(read_structures(path))
