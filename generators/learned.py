"""What generators share that learn from the campaign's evaluations: when to fit, on what, and a memo of the fits.

A fit is a function of its settings and of the first so many labelled evaluations, so a generator that fits holds
nothing itself: after a kill the same fit is made again. Fitting for every proposal would cost more than the proposals;
so fits are made at numbers of labels that grow by a factor, and the latest few are remembered here and only here.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from .base import Evaluation
from .seen import HistoryIndex, Known

_N_REMEMBERED = 4

_Fit = TypeVar("_Fit")

_remembered: list[tuple[Hashable, tuple[Evaluation, ...], object]] = []


def training_labels(index: HistoryIndex, n_initial: int, growth: float) -> list[Known]:
    """The labelled evaluations to learn from, oldest first: ``n_initial`` of them, or that times a power of ``growth``;
    empty as long as there are fewer."""
    labelled = [known for known in index.by_id.values() if known.score is not None]
    if len(labelled) < n_initial:
        return []
    size = float(n_initial)
    while int(size * growth) <= len(labelled):
        size *= growth
    return labelled[: int(size)]


def remembered_fit(key: Hashable, labelled: Sequence[Known], fit: Callable[[], _Fit]) -> _Fit:
    """What ``fit()`` returns, which must follow from ``key`` and ``labelled`` alone.

    Args:
        key: settings, design space and objective.
        labelled: what is fitted to.
    """
    evaluations = tuple(known.evaluation for known in labelled)
    for entry in _remembered:
        same = entry[0] == key and len(entry[1]) == len(evaluations)
        if same and all(a is b for a, b in zip(entry[1], evaluations, strict=True)):
            return entry[2]  # type: ignore[return-value]  # the key names the kind of fit
    found = fit()
    _remembered.insert(0, (key, evaluations, found))
    del _remembered[_N_REMEMBERED:]
    return found
