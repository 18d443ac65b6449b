"""The training stage of a round: the members of a committee as jobs of the executors, and the model they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...generators.base import Failure
from ...oracles.base import FailureKind
from ...surrogates.barriers.base import BarrierModel
from ...surrogates.barriers.cnn import CnnSettings
from ...surrogates.barriers.committee import barrier_committee, share_of_hops
from ...surrogates.barriers.dense_network import DenseNetworkSettings
from ...surrogates.barriers.hop_file import with_returns
from ...surrogates.barriers.hops import Hops
from ...surrogates.barriers.lattice_network import LatticeNetworkSettings
from ...surrogates.barriers.settings import BarrierSettings, barrier_model_from_state
from ...surrogates.base import Metrics, SurrogateState
from ...surrogates.model_file import load_state, save_state
from ...surrogates.threads import one_thread
from ..execution.base import Runner, Tell
from ..rounds.endings import LearningError
from ..rounds.files import put
from ..rounds.site import Workplace
from ..rounds.training import clear_members, train_members
from ..seeding import derive_seed
from .config import BarrierLearningConfig
from .pool import KnownHops
from .rounds import MODEL_NAME, BarrierFolder

Site = Workplace[BarrierLearningConfig, BarrierFolder]


@dataclass(frozen=True)
class MemberFit:
    """A member of a committee that is to be fitted: all that this takes.

    Attributes:
        checkpoint_path: where its state is kept, if the worker sees that folder.
    """

    settings: BarrierSettings
    train: Hops
    validation: Hops
    elements: tuple[str, ...]
    seed: int
    checkpoint_path: Path


class BarrierRunner(Runner):
    """Fits members; ``None`` comes of what was asked to end early."""

    def run(self, request: MemberFit, tell: Tell) -> SurrogateState | None:
        """Fit a member.

        Raises:
            SurrogateError: a training diverges, or there are too few hops.
        """
        was_ended = False

        def report(step: int, metrics: Metrics) -> bool:
            nonlocal was_ended
            was_ended = was_ended or not tell(step, {"share": _share_done(request.settings, metrics)})
            return not was_ended

        sees_folder = request.checkpoint_path.parent.is_dir()
        with one_thread():
            model = request.settings.fit(
                request.train,
                request.validation,
                elements=request.elements,
                seed=request.seed,
                report=report,
                checkpoint_path=request.checkpoint_path if sees_folder else None,
            )
        return None if was_ended else model.state()


def _share_done(settings: BarrierSettings, metrics: Metrics) -> float:
    """How far a training is; only those of networks tell."""
    if not isinstance(settings, CnnSettings | DenseNetworkSettings | LatticeNetworkSettings):
        return 0.0
    return min(1.0, (metrics["network"] - 1.0 + metrics["epoch"] / settings.training.max_epochs) / settings.n_members)


def member_fits(
    config: BarrierLearningConfig,
    learnt: Hops,
    validation: Hops,
    elements: tuple[str, ...],
    index: int,
    folder: BarrierFolder,
) -> list[MemberFit]:
    """What the members of a round are to be fitted to.

    Args:
        learnt: hops with known barriers.
        elements: the model is to know these.
    """
    jobs = []
    for member in range(config.committee.n_members):
        share = config.committee.share if config.committee.n_members > 1 else 1.0
        train = learnt.take(share_of_hops(len(learnt), share, derive_seed(config.seed, 0, "share", member)))
        if config.learns_returns:
            train = with_returns(train)
        seed = derive_seed(config.seed, index, "training", member)
        jobs.append(MemberFit(config.barrier, train, validation, elements, seed, folder.checkpoint(member)))
    return jobs


def model_of(members: list[BarrierModel], validation: Hops, n_train: int) -> BarrierModel:
    """One model of all members."""
    return members[0] if len(members) == 1 else barrier_committee(members, validation, n_train)


def model_of_round(site: Site, index: int, known: KnownHops, elements: tuple[str, ...]) -> BarrierModel:
    """Fit the model of a round as jobs, or read what was fitted before a kill.

    Members that have ended are kept in files of their own until all have; those that run leave checkpoints.

    Raises:
        Ending: a signal.
        LearningError: too few barriers, or a training fails.
    """
    folder = site.folder(index)
    if folder.model.exists():
        clear_members(folder, site.config.committee.n_members)  # a kill may have come before that
        return barrier_model_from_state(load_state(folder.model))
    learnt = known.learnt()
    validation = known.validation()
    if len(learnt) < 2 or len(validation) == 0:
        raise LearningError(
            f"of {len(known.labelled)} labelled hops {len(learnt)} have a barrier to learn from and {len(validation)} "
            "one to validate by; mend the oracle, or begin in another folder with more hops in `first`; "
            f"{folder.labelled} holds the reasons"
        )
    fits = member_fits(site.config, learnt, validation, elements, index, folder)
    failures = train_members(site, index, fits, f"members trained from {len(learnt)} barriers")
    _check(index, failures)
    members = [barrier_model_from_state(load_state(folder.member(member))) for member in range(len(fits))]
    model = model_of(members, validation, len(learnt))
    # the result first: who finds the round's model takes it that the result is there
    put(site.run_dir / MODEL_NAME, lambda path: save_state(model.state(), path))
    put(folder.model, lambda path: save_state(model.state(), path))
    clear_members(folder, site.config.committee.n_members)
    return model


def _check(index: int, failures: Mapping[str, Failure]) -> None:
    for name, failure in failures.items():
        is_late = failure.kind is FailureKind.TIMED_OUT
        advice = "; raise execution.job_deadline_s and give the same command, which goes on" if is_late else ""
        raise LearningError(f"round {index}: member {name} cannot be trained: {failure.message}{advice}")
