"""The training stage of a round: a committee from all labels, its members told apart by what they learn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...generators.base import Failure
from ...surrogates.base import SurrogateState
from ...surrogates.model_file import load_state, save_state
from ...surrogates.potentials.committee import Committee
from ...surrogates.potentials.energy_reference import reference_energies, without_reference
from ...surrogates.potentials.frame import Frame
from ...surrogates.potentials.settings import load_potential, potential_from_state
from ..errors import RunDirectoryError
from ..execution.base import Progress
from ..seeding import derive_seed
from .config import LearningConfig
from .endings import LearningError
from .jobs import MemberTraining, checkpoints_of
from .rounds import POTENTIAL_NAME, put
from .site import Site


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
        LearningError: a training fails.
    """
    folder = site.folder(index)
    if folder.committee.exists():
        return read_committee(site, index)
    members = range(site.config.committee.n_members)
    jobs = {
        str(member): job
        for member, job in enumerate(_trainings(site, index, frames))
        if not folder.member(member).exists()
    }
    failures: dict[str, Failure] = {}

    def keep(name: str, result: object) -> None:
        if isinstance(result, Failure):
            failures[name] = result
        elif isinstance(result, SurrogateState):
            save_state(result, folder.member(int(name)))

    n_epochs = site.config.training.max_epochs

    def share_done(progress: Progress) -> float:
        return min(1.0, progress.figures["epoch"] / n_epochs)

    with site.timed(index, "training"):
        what = f"members trained from {len(frames)} labels"
        # a training is brought to its end even where the wall time is spent: the result knows all labels
        site.do(index, "training", jobs, what, on_end=keep, share_done=share_done, must_stop=site.limits.is_interrupted)
    for name, failure in failures.items():
        raise LearningError(f"round {index}: member {name} of the committee cannot be trained: {failure.message}")
    site.limits.check_signals()
    states = [load_state(folder.member(member)) for member in members]
    committee = Committee(tuple(potential_from_state(state) for state in states))
    # the result first: who finds the committee takes it that the result is there
    put(site.run_dir / POTENTIAL_NAME, lambda path: save_state(states[0], path))
    put(folder.committee, lambda path: save_state(committee.state(), path))
    for member in members:
        for path in (folder.member(member), *checkpoints_of(folder.checkpoint(member))):
            path.unlink(missing_ok=True)
    return committee


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


def _trainings(site: Site, index: int, frames: Sequence[Frame]) -> list[MemberTraining]:
    config, folder = site.config, site.folder(index)
    references = reference_energies(config.energy_reference, frames, config.system.elements)
    reduced = without_reference(frames, references)
    has_earlier = config.starts_warm and index > 0 and site.folder(index - 1).committee.exists()
    before = read_committee(site, index - 1) if has_earlier else None
    return [
        MemberTraining(
            config=config,
            frames=tuple(reduced if member == 0 else share_of(reduced, config, member)),
            references=references,
            seed=derive_seed(config.seed, index, "training", member),
            before=None if before is None else before.members[member].state(),
            checkpoint_path=folder.checkpoint(member),
        )
        for member in range(config.committee.n_members)
    ]


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
