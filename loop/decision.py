"""One decision round: the agent is asked until it says what to evaluate, to wait or to stop.

A decider changes nothing but the folder of models (where files are named by their content), so it can work in another
thread on a snapshot while evaluations go on.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np

from ..agents.base import Agent, Budget, CampaignView, Evaluate, Generate, Retrain, Stop, Tune
from ..generators.base import Candidate, Generator, History
from ..surrogates.base import Metrics, Surrogate, SurrogateTrainer, TrainingSet
from ..surrogates.model_file import dump_state
from ..surrogates.settings import load_surrogate
from .errors import CampaignError
from .generator_training import MODEL_SUFFIX, KnownModels, WantedTraining, survey
from .seeding import derive_seed
from .store.blobs import BlobStore
from .tuning import Tuner, Tuning

_MAX_QUESTIONS = 10_000


@dataclass(frozen=True)
class Fit:
    """A fitted surrogate and how it came about.

    Attributes:
        model: name of its file among the models.
        n_train: labels it was fitted on.
    """

    surrogate: Surrogate
    model: str
    n_train: int
    metrics: Metrics
    wall_s: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Decision:
    """What came out of a round.

    Attributes:
        round: its index.
        fits: surrogates fitted in it, in order.
        tunings: searches of the surrogate's settings, which came before the fits.
        candidates: what to evaluate; nothing means to wait.
        stop: why to end the campaign, if it is to end.
        wall_s: time it took.
        wanted: trainings that generators want. In synchronous campaigns, where nothing is proposed without them, the
            round is to be decided again once they have ended.
    """

    round: int
    fits: tuple[Fit, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    stop: str | None = None
    wall_s: float = 0.0
    tunings: tuple[Tuning, ...] = ()
    wanted: tuple[WantedTraining, ...] = ()


@dataclass(frozen=True)
class Question:
    """What a round starts from: a snapshot that nobody changes."""

    round: int
    history: History
    fit: Fit | None
    budget: Budget
    elapsed_s: float
    tuning: Tuning | None = None
    models: KnownModels = field(default_factory=lambda: MappingProxyType({}))


@dataclass
class Decider:
    """Asks the agent, and does what it wants done before it decides.

    Attributes:
        seed: of the campaign.
        properties: property the surrogate learns -> unit.
        hurry: when set, fits and searches end early; their decision will be thrown away.
        tuner: searches the surrogate's settings, where the agent may ask for it.
        waits_for_models: whether generators propose only with the models that they want, rather than with those that
            there are.
    """

    seed: int
    agent: Agent
    generators: Mapping[str, Generator]
    trainer: SurrogateTrainer | None
    properties: Mapping[str, str]
    models: BlobStore
    hurry: threading.Event = field(default_factory=threading.Event)
    tuner: Tuner | None = None
    waits_for_models: bool = True

    def decide(self, question: Question) -> Decision:
        """Work one round out; deterministic in the question, but for its budget of time.

        Raises:
            CampaignError: the agent asks for a generator or a surrogate that is not configured, or asks for ever.
        """
        started = time.monotonic()
        fit, fits = question.fit, list[Fit]()
        tuning, tunings = question.tuning, list[Tuning]()
        history = question.history
        pool: list[Candidate] = []
        n_asked: Counter[str] = Counter()
        wanted: dict[str, WantedTraining] = {}

        def ended(candidates: tuple[Candidate, ...] = (), stop: str | None = None) -> Decision:
            wall_s = time.monotonic() - started
            trainings = tuple(wanted.values())
            return Decision(question.round, tuple(fits), candidates, stop, wall_s, tuple(tunings), trainings)

        for _ in range(_MAX_QUESTIONS):
            view = CampaignView(
                round=question.round,
                history=history,
                n_trained=fit.n_train if fit is not None else 0,
                metrics=fit.metrics if fit is not None else {},
                pool=tuple(pool),
                n_generated=n_asked.total(),
                elapsed_s=question.elapsed_s,
                seed=derive_seed(self.seed, question.round, "agent"),
                n_tuned=tuning.n_labels if tuning is not None else 0,
            )
            actions = self.agent.decide(view, question.budget)
            for action in actions:
                match action:
                    case Generate(name, n):
                        generator = self._generator(name)
                        seed = derive_seed(self.seed, question.round, f"generator {name}", n_asked[name])
                        informed, trainings = survey(generator, history, question.models, self.models)
                        wanted |= {training.title: training for training in trainings}
                        if wanted and self.waits_for_models:
                            return ended()
                        pool.extend(generator.propose(n, informed, seed=seed))
                        n_asked[name] += 1
                    case Retrain(reason):
                        seed = derive_seed(self.seed, question.round, "surrogate", len(fits))
                        fit = self._fit(history, fit, tuning, reason, seed)
                        fits.append(fit)
                        history = replace(history, surrogate=fit.surrogate)
                    case Tune(reason):
                        searched = self._search(history, tuning, reason)
                        if searched is None:  # in a hurry
                            return ended()
                        tuning = searched
                        tunings.append(tuning)
                    case Evaluate(candidates):
                        return ended(candidates=tuple(candidates))
                    case Stop(reason):
                        return ended(stop=reason)
            if not actions or self.hurry.is_set():
                return ended()
        raise CampaignError(f"the agent asked {_MAX_QUESTIONS} times in round {question.round} without a decision")

    def load(self, model: str, n_train: int, metrics: Metrics) -> Fit:
        """A fit of an earlier session, from its model file."""
        return Fit(load_surrogate(self.models.path(model)), model, n_train, metrics)

    def _generator(self, name: str) -> Generator:
        if name not in self.generators:
            raise CampaignError(f"the agent asks generator {name!r}; configured are {', '.join(self.generators)}")
        return self.generators[name]

    def _search(self, history: History, previous: Tuning | None, reason: str) -> Tuning | None:
        """Search the surrogate's settings; a search of the same labels is the same, whatever round it comes in."""
        if self.tuner is None:
            raise CampaignError("the agent wants the surrogate's settings searched, and nothing says how")
        data = self._training_set(history)
        return self.tuner.search(data, previous, reason, derive_seed(self.seed, len(data.structures), "tuning"))

    def _fit(self, history: History, previous: Fit | None, tuning: Tuning | None, reason: str, seed: int) -> Fit:
        if self.trainer is None:
            raise CampaignError("the agent wants to train a surrogate, and none is configured; add `surrogate:`")
        started = time.monotonic()
        latest: dict[str, float] = {}

        def note(_: int, metrics: Metrics) -> bool:
            latest.clear()
            latest.update((name, float(value)) for name, value in metrics.items())
            return not self.hurry.is_set()

        data = self._training_set(history)
        is_new = tuning is not None and (previous is None or previous.n_train < tuning.n_labels)
        warm_start = previous.surrogate if previous is not None and not is_new else None
        trainer = self.trainer if self.tuner is None else self.tuner.trainer(tuning)
        fitted = trainer.fit(data, seed=seed, warm_start=warm_start, report=note)
        model = self.models.put(dump_state(fitted.state()), MODEL_SUFFIX)
        # Used as read back, so that a resumed campaign, which only has the file, goes on with the very same model.
        surrogate = load_surrogate(self.models.path(model))
        return Fit(surrogate, model, len(data.structures), latest, time.monotonic() - started, reason)

    def _training_set(self, history: History) -> TrainingSet:
        """All labels so far, on the ideal sites, which is where the surrogate will be asked."""
        structures, targets = [], []
        for evaluation in history.evaluations:
            label = evaluation.label
            if label is not None:
                structures.append(evaluation.candidate.atoms)
                targets.append([float(label.values[name]) for name in self.properties])
        return TrainingSet(structures, np.array(targets).reshape(len(targets), len(self.properties)), self.properties)


class Thinking:
    """A decision on its way, in a thread of its own, so that the event loop goes on meanwhile."""

    def __init__(self, decider: Decider, question: Question) -> None:
        self._decision: Decision | None = None
        self._error: BaseException | None = None
        self._done = threading.Event()
        # A daemon: a session that was told to end at once does not wait for the optimizer of an acquisition function.
        thread = threading.Thread(target=self._think, args=(decider, question), name="decision", daemon=True)
        thread.start()

    def _think(self, decider: Decider, question: Question) -> None:
        try:
            self._decision = decider.decide(question)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that asks for the result
            self._error = error
        finally:
            self._done.set()

    def wait(self, timeout_s: float) -> bool:
        """Whether the decision is there, after waiting for it up to ``timeout_s``."""
        return self._done.wait(timeout_s)

    def result(self) -> Decision:
        """The decision; raises what went wrong on the way to it."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        if self._decision is None:
            raise CampaignError("the decision ended without a result")
        return self._decision
