"""What all stages of a session work with: configuration, run directory, limits, and who is told how far they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

from ..execution.base import Progress
from .crew import Crew, TimeLeft
from .endings import Limits
from .files import Folder

Stage = Literal["first structures", "tuning", "training", "judging", "exploring", "choosing", "labelling"]
OnProgress = Callable[[int, Stage, str], None]
"""Called with the round, its stage, and how far it is."""

C = TypeVar("C")
F = TypeVar("F", bound=Folder)


@dataclass(frozen=True)
class Workplace(Generic[C, F]):
    """A learning's place of work.

    Attributes:
        folder_type: makes the folder of a round, of the run directory and the round's number.
    """

    config: C
    run_dir: Path
    folder_type: Callable[[Path, int], F]
    crew: Crew
    limits: Limits
    on_progress: OnProgress

    def folder(self, index: int) -> F:
        """The folder of a round."""
        return self.folder_type(self.run_dir, index)

    @contextmanager
    def timed(self, index: int, stage: Stage) -> Iterator[None]:
        """Inside, wall time is added to that of the stage, which several sessions may take."""
        began = time.monotonic()
        try:
            yield
        finally:
            folder = self.folder(index)
            seconds = folder.read_seconds()
            folder.write_seconds({**seconds, stage: seconds.get(stage, 0.0) + time.monotonic() - began})

    def do(
        self,
        index: int,
        stage: Stage,
        jobs: Mapping[str, object],
        what: str,
        *,
        on_end: Callable[[str, object], None],
        share_done: Callable[[Progress], float],
        must_stop: Callable[[], bool],
    ) -> bool:
        """Do jobs on the configuration's workers and tell how far they are; see :meth:`~.crew.Crew.do`.

        Args:
            what: the jobs are called, in the plural.
        """
        time_left = TimeLeft()

        def tell(n_ended: int, share: float) -> None:
            self.on_progress(index, stage, f"{n_ended} of {len(jobs)} {what}, {share:.0%} done{time_left.words(share)}")

        tell(0, 0.0)
        return self.crew.do(jobs, on_end=on_end, share_done=share_done, on_progress=tell, must_stop=must_stop)
