"""The labelling stage of a round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ase import Atoms

from ...generators.base import Failure
from ...oracles.base import Label
from ..campaign import EXIT_FAILURES
from ..labelling import LabellingRun, label_structures
from .endings import Ending, LearningError, Limits
from .files import JOURNAL_NAME
from .site import Workplace


def label_all(site: Workplace[Any, Any], index: int, structures: Sequence[Atoms]) -> list[Label | Failure]:
    """Label structures by the configuration's oracle on its workers; none that the journal knows is labelled again.

    Raises:
        Ending: a signal, the time is spent, or the oracle only fails.
        LearningError: labels are missing for no known reason.
    """
    site.limits.check()

    def on_labels(n_ended: int, n_failed: int) -> None:
        failed = f", {n_failed} failed" if n_failed else ""
        site.on_progress(index, "labelling", f"{n_ended} of {len(structures)}{failed}")

    on_labels(0, 0)
    site.crew.close()  # the oracle's workers take the place of those that train
    with site.timed(index, "labelling"):
        run = label_structures(
            site.config.oracle,
            structures,
            [None] * len(structures),
            site.run_dir / JOURNAL_NAME,
            site.config.execution,
            on_progress=on_labels,
            is_time_up=site.limits.is_time_up,
        )
    return all_results(run, site.limits)


def all_results(run: LabellingRun, limits: Limits) -> list[Label | Failure]:
    """What a labelling gave, if it was brought to its end; what it gave until then is in its journal.

    Raises:
        Ending: a signal, the time is spent, or the oracle only fails.
        LearningError: labels are missing for no known reason.
    """
    if run.interrupted_by is not None:
        raise Ending("interrupted", f"by {run.interrupted_by.name}", 128 + run.interrupted_by)
    if run.aborted_because:
        raise Ending("failures", run.aborted_because, EXIT_FAILURES)
    ended = [result for result in run.results if result is not None]
    if len(ended) < len(run.results):
        limits.check()
        raise LearningError(f"{len(run.results) - len(ended)} labels were not made, for no known reason")
    return ended
