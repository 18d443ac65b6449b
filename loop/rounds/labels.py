"""The labelling stage of a round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ase import Atoms

from ...generators.base import Failure
from ...oracles.base import Label
from ..campaign import EXIT_FAILURES
from ..labelling import label_structures
from .endings import Ending, LearningError
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
    if run.interrupted_by is not None:
        raise Ending("interrupted", f"by {run.interrupted_by.name}", 128 + run.interrupted_by)
    if run.aborted_because:
        raise Ending("failures", run.aborted_because, EXIT_FAILURES)
    ended = [result for result in run.results if result is not None]
    if len(ended) < len(structures):  # the others are in the journal, and not made twice
        site.limits.check()
        raise LearningError(f"round {index}: {len(structures) - len(ended)} labels were not made, for no known reason")
    return ended
