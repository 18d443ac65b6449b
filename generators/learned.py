"""What generators share that learn from the campaign's evaluations: when to fit, on what, and where.

A fit is a function of its settings and of the first so many labelled evaluations, so a generator that fits holds
nothing itself: after a kill the same fit is made again. Fitting for every proposal would cost more than the proposals;
so fits are made at numbers of labels that grow by a factor.

Fits of seconds are made where candidates are proposed, and the latest few are remembered here and only here. Fits of
minutes are *trainings*: the generator says which ones the history calls for, as jobs that can be sent anywhere, and
whoever runs the campaign has them done and gives the models back with the history. Where nobody does
(``History.models`` is ``None``), they are done on the spot as well.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from ..structures.base import structure_id
from ..surrogates.base import Report, SurrogateState
from .base import Evaluation, History, LearnedModel
from .seen import HistoryIndex, Known

_N_REMEMBERED = 8
_N_OF_A_KEY = 2  # so that a generator that fits often does not push out another one's fit that took minutes

_Fit = TypeVar("_Fit")

_remembered: list[tuple[Hashable, tuple[Evaluation, ...], object]] = []


def training_labels(index: HistoryIndex, n_initial: int, growth: float) -> list[Known]:
    """The labelled evaluations to learn from, oldest first: ``n_initial`` of them, or that times a power of ``growth``;
    empty as long as there are fewer."""
    labelled = _labelled(index)
    sizes = _sizes(len(labelled), n_initial, growth)
    return labelled[: sizes[-1]] if sizes else []


def training_stages(index: HistoryIndex, n_initial: int, growth: float) -> list[list[Known]]:
    """The same with all that it was before, ever more labels."""
    labelled = _labelled(index)
    return [labelled[:size] for size in _sizes(len(labelled), n_initial, growth)]


def _labelled(index: HistoryIndex) -> list[Known]:
    return [known for known in index.by_id.values() if known.score is not None]


def _sizes(n_labels: int, n_initial: int, growth: float) -> list[int]:
    sizes: dict[int, None] = {}  # a small growth may leave the number as it is
    size = float(n_initial)
    while int(size) <= n_labels:
        sizes[int(size)] = None
        size *= growth
    return list(sizes)


def remembered_fit(key: Hashable, labelled: Sequence[Known], fit: Callable[[], _Fit]) -> _Fit:
    """What ``fit()`` returns, which must follow from ``key`` and ``labelled`` alone.

    Args:
        key: settings, design space and objective.
        labelled: what is fitted to.
    """
    evaluations = tuple(known.evaluation for known in labelled)
    for number, (its_key, its_evaluations, its_fit) in enumerate(_remembered):
        same = its_key == key and len(its_evaluations) == len(evaluations)
        if same and all(a is b for a, b in zip(its_evaluations, evaluations, strict=True)):
            _remembered.insert(0, _remembered.pop(number))
            return its_fit  # type: ignore[return-value]  # the key names the kind of fit
    found = fit()
    _remembered.insert(0, (key, evaluations, found))
    of_key = [number for number, entry in enumerate(_remembered) if entry[0] == key]
    for number in reversed(of_key[_N_OF_A_KEY:]):
        del _remembered[number]
    del _remembered[_N_REMEMBERED:]
    return found


class TrainingJob(ABC):
    """A training as it is sent to a worker; picklable. What comes of it follows from it and its arguments alone."""

    @abstractmethod
    def run(
        self, before: SurrogateState | None, *, checkpoint_path: Path | None, report: Report
    ) -> SurrogateState | None:
        """Train.

        Args:
            before: the model to go on from, if any.
            checkpoint_path: where the training may keep its state, and goes on from if it is there.
            report: called with (step, figures), among them ``share``, of all work that is done, from 0 to 1; ``False``
                asks the training to end where it is.

        Returns:
            The model; ``None`` if it was asked to end.

        Raises:
            AlloysmithError: nothing can be learned from these labels.
        """


@dataclass(frozen=True)
class PlannedTraining:
    """A training that the history calls for.

    Attributes:
        generator: whose model it is.
        labelled: what it learns from.
        key: settings, design space and objective, which together with the labels decide what comes of it.
        goes_on: whether it starts from the model before, which then is needed too.
        job: makes the job.
    """

    generator: str
    labelled: Sequence[Known]
    key: Hashable
    goes_on: bool
    job: Callable[[], TrainingJob]

    @property
    def n_labels(self) -> int:
        """Labels it learns from; tells the trainings of a generator apart."""
        return len(self.labelled)

    def labels_hash(self) -> str:
        """Hash of the labels: ids, structures before and after evaluation, scores."""
        digest = blake2b(digest_size=16)
        for known in self.labelled:
            label = known.evaluation.label
            ends = (known.evaluation.candidate.atoms, *(() if label is None else (label.atoms,)))
            content = " ".join([known.request_id, *map(structure_id, ends), repr(known.score)])
            digest.update(content.encode() + b"\n")
        return digest.hexdigest()


@runtime_checkable
class Learner(Protocol):
    """A generator some of whose models need trainings, or one with such members."""

    def trainings(self, history: History) -> Sequence[PlannedTraining]:
        """All trainings that the history has called for so far; of each generator's in order, the last being the one
        whose model it wants. Cheap to ask."""
        ...


def current_model(name: str, trainings: Sequence[PlannedTraining], history: History) -> LearnedModel | None:
    """The model that the generator ``name`` proposes with: what it is given with the history, or else the last one of
    its trainings, done here and now."""
    if history.models is not None:
        return history.models.get(name)
    return LearnedModel(trainings[-1].n_labels, _trained_here(trainings)) if trainings else None


def _trained_here(trainings: Sequence[PlannedTraining]) -> SurrogateState:
    *earlier, last = trainings

    def train() -> SurrogateState:
        before = _trained_here(earlier) if last.goes_on and earlier else None
        state = last.job().run(before, checkpoint_path=None, report=lambda step, figures: True)
        assert state is not None  # it was not asked to end
        return state

    return remembered_fit(last.key, last.labelled, train)
