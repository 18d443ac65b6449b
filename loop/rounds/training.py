"""Training the committee of a round: members are jobs, and each is kept when it has ended."""

from __future__ import annotations

from collections.abc import Sequence

from ...generators.base import Failure
from ...surrogates.base import SurrogateState
from ...surrogates.model_file import save_state
from ..execution.base import Progress
from .files import Folder
from .site import C, F, Workplace


def train_members(site: Workplace[C, F], index: int, jobs: Sequence[object], what: str) -> dict[str, Failure]:
    """Train the members of a round's committee that have no file yet.

    Args:
        jobs: one for each member.
        what: the members are called, in the plural.

    Returns:
        Why members could not be trained, by number.

    Raises:
        Ending: a signal.
    """
    folder: Folder = site.folder(index)
    missing = {str(member): job for member, job in enumerate(jobs) if not folder.member(member).exists()}
    failures: dict[str, Failure] = {}

    def keep(name: str, result: object) -> None:
        if isinstance(result, Failure):
            failures[name] = result
        elif isinstance(result, SurrogateState):
            save_state(result, folder.member(int(name)))

    def share_done(progress: Progress) -> float:
        return progress.figures["share"]

    with site.timed(index, "training"):
        # a training is brought to its end even where the wall time is spent: the result knows all labels
        must_stop = site.limits.is_interrupted
        site.do(index, "training", missing, what, on_end=keep, share_done=share_done, must_stop=must_stop)
    site.limits.check_signals()
    return failures


def clear_members(folder: Folder, n_members: int) -> None:
    """Remove the members and what their trainings kept, once the round's result has them."""
    for member in range(n_members):
        checkpoint = folder.checkpoint(member)
        for path in (folder.member(member), *checkpoint.parent.glob(f"{checkpoint.name}*")):
            path.unlink(missing_ok=True)
