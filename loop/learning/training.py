"""The training stage of a round: a committee from all labels, its members told apart by what they learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ...generators.base import Failure
from ...oracles.base import FailureKind
from ...surrogates.base import SurrogateState
from ...surrogates.model_file import load_state, save_state
from ...surrogates.potentials.committee import Committee
from ...surrogates.potentials.energy_reference import reference_energies, without_reference
from ...surrogates.potentials.frame import Frame
from ...surrogates.potentials.settings import load_potential, potential_from_state
from ...surrogates.potentials.torch_potential import TorchPotential
from ..errors import RunDirectoryError
from ..rounds.endings import LearningError
from ..rounds.files import put
from ..rounds.training import clear_members, train_members
from ..seeding import derive_seed
from .config import LearningConfig
from .jobs import MemberTraining
from .retuning import settings_in_use, settings_of_round
from .rounds import POTENTIAL_NAME
from .site import Site

_KEPT_BECAUSE = "kept_because"
"""In the facts of a member that is the one of the round before: why it was not trained."""


def committee_of_round(site: Site, index: int, frames: Sequence[Frame]) -> Committee:
    """Train the committee of a round as jobs, or read what was trained before a kill.

    Members that have ended are kept in files of their own until all have, and those that run leave checkpoints.

    Args:
        frames: all that may be learnt from, with energies as the oracle gives them. The first member learns from all
            of them, each of the others from a random share.

    Returns:
        The committee. Its potentials give energies as the oracle does: what ``energy_reference`` takes from the
        labels, the same for all members, is added again.

    Raises:
        Ending: a signal.
        SurrogateError: the labels do not determine the reference energies.
        LearningError: a training fails; one that misses its deadline only where there is no round before.
    """
    folder = site.folder(index)
    if folder.committee.exists():
        clear_members(folder, site.config.committee.n_members)  # a kill may have come before that
        return read_committee(site, index)
    config = settings_of_round(site, index, frames)
    members = range(site.config.committee.n_members)
    trainings = _trainings(site, index, config, frames)
    failures = train_members(site, index, trainings, f"members trained from {len(frames)} labels")
    _keep_earlier(site, index, failures)
    states = [load_state(folder.member(member)) for member in members]
    committee = Committee(tuple(potential_from_state(state) for state in states))
    # the result first: who finds the committee takes it that the result is there
    put(site.run_dir / POTENTIAL_NAME, lambda path: save_state(states[0], path))
    put(folder.committee, lambda path: save_state(committee.state(), path))
    clear_members(folder, len(members))
    return committee


def failures_of_members(committee: Committee) -> list[str]:
    """Why members of a committee are those of the round before."""
    reasons = [str(member.spec.facts.get(_KEPT_BECAUSE, "")) for member in committee.members]
    return [f"member {number}: {reason}" for number, reason in enumerate(reasons) if reason]


def _keep_earlier(site: Site, index: int, failures: Mapping[str, Failure]) -> None:
    """Let members that missed their deadline stay as they were in the round before, and say so in their files.

    Raises:
        LearningError: a training failed otherwise, there is no round before, or all members missed it.
    """
    has_earlier = index > 0 and site.folder(index - 1).committee.exists()
    is_hopeless = len(failures) == site.config.committee.n_members
    for name, failure in failures.items():
        is_late = failure.kind is FailureKind.TIMED_OUT
        if not is_late or not has_earlier or is_hopeless:
            advice = "; raise execution.job_deadline_s and give the same command, which goes on" if is_late else ""
            message = f"member {name} of the committee cannot be trained: {failure.message}{advice}"
            raise LearningError(f"round {index}: {message}")
    if failures:
        earlier = read_committee(site, index - 1)
        for name, failure in failures.items():
            member = earlier.members[int(name)]
            assert isinstance(member, TorchPotential)
            facts = {**member.spec.facts, _KEPT_BECAUSE: f"{failure.kind}: {failure.message}"}
            kept = TorchPotential(replace(member.spec, facts=facts), member.model)
            save_state(kept.state(), site.folder(index).member(int(name)))


def read_committee(site: Site, index: int) -> Committee:
    """The committee of a round that was trained.

    Raises:
        RunDirectoryError: its file holds something else.
        SurrogateError: it is damaged.
    """
    path = site.folder(index).committee
    known = load_potential(path)
    if not isinstance(known, Committee):
        raise RunDirectoryError(f"{path} holds no committee; remove the folder of its round")
    return known


def _trainings(site: Site, index: int, config: LearningConfig, frames: Sequence[Frame]) -> list[MemberTraining]:
    folder = site.folder(index)
    references = reference_energies(config.energy_reference, frames, config.system.elements)
    reduced = without_reference(frames, references)
    return [
        MemberTraining(
            config=config,
            frames=tuple(reduced if member == 0 else share_of(reduced, config, member)),
            references=references,
            seed=derive_seed(config.seed, index, "training", member),
            before=before,
            checkpoint_path=folder.checkpoint(member),
        )
        for member, before in enumerate(_weights_before(site, index, config))
    ]


def _weights_before(site: Site, index: int, config: LearningConfig) -> list[SurrogateState | None]:
    """What each member starts from: itself in the round before, where it is of the same shape; else ``None``."""
    nothing: list[SurrogateState | None] = [None] * config.committee.n_members
    if not config.starts_warm or index == 0 or not site.folder(index - 1).committee.exists():
        return nothing
    if settings_in_use(site, index - 1).potential != config.potential:
        return nothing
    members = read_committee(site, index - 1).members
    # one that was kept may be older than the latest settings
    return [None if _KEPT_BECAUSE in member.spec.facts else member.state() for member in members]


def share_of(frames: Sequence[Frame], config: LearningConfig, member: int) -> list[Frame]:
    """A member's random share of the frames, of several never all and never none.

    A frame that it leaves out it leaves out for good: a member that starts from its weights of the round before would
    otherwise know all of them after some rounds, as all members would.
    """
    chances = np.random.default_rng(derive_seed(config.seed, 0, "share", member)).random(len(frames))
    is_in = chances < config.committee.share
    if len(frames) > 1:
        is_in[np.argmin(chances)], is_in[np.argmax(chances)] = True, False
    return [frame for frame, mine in zip(frames, is_in | (len(frames) == 1), strict=True) if mine]
