"""Several generators that share out every proposal by what each has yielded lately.

Which generator is best is unknown beforehand and changes as a search goes on: moves from the best structures pay early,
a model pays once it has learned, nothing pays near the optimum. So the choice of a member is a bandit problem with
payoffs that drift:

- *Credit by rank.* What an evaluation yields is where its structure came in among the best distinct ones when it ended,
  from 1 for a new best down to 0. Ranks instead of improvements make the choice the same for every monotone rescaling
  of the objective, and no single great leap pays for hundreds of idle proposals (Fialho, Schoenauer and Sebag, GECCO
  2010, p. 767, who sum ranks in a window). Only the top counts, since a search is as good as its best, not its mean
  (Streeter and Smith, CP 2006, p. 560: payoffs above a threshold that rises). Failures, and structures that had been
  labelled before, yield nothing.
- *A sliding window* over the latest evaluations, so that a member that turns bad loses its share (Garivier and
  Moulines, ALT 2011, p. 174).
- *Thompson sampling* (Biometrika 25, 285, 1933; with a window: Trovò et al., J. Artif. Intell. Res. 68, 311, 2020):
  each proposal goes to the member with the largest yield drawn from the posteriors. An upper confidence bound (Auer,
  Cesa-Bianchi and Fischer, Mach. Learn. 47, 235, 2002) would hand a whole batch to one member, and go on doing so as
  long as results are pending; draws spread a batch by themselves (Chapelle and Li, NIPS 2011, p. 2249). The prior is
  centred at what all members yield together, as yields fall by orders of magnitude while a search converges.
- *A least share* for every member (Thierens, GECCO 2005, p. 1539), which is what notices that one has become good.

Members see the history of all, and go on from what others have found. So they are not the independent arms of a bandit:
a model that proposes nearly everything learns from little but its own proposals and may stay caught in a poor region,
which is why the share that is split evenly is a large one by default.

A candidate's lineage names portfolio and member, so that yields, and whatever members keep in lineages, follow from the
history.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from pydantic import Field, PositiveInt, field_validator

from ..structures.settings import Settings
from ..structures.space import DesignSpace
from .base import Candidate, Generator, History
from .learned import Learner, PlannedTraining
from .member_settings import MemberSettings
from .seen import Arrival, candidate_key, pending_keys, read_history

_TOP = 0.1  # of the structures known; otherwise the first dozens would all yield something, whoever they are from
_PRIOR_EVALUATIONS = 4.0  # that the prior of a member's yield is worth


class PortfolioSettings(Settings):
    """Several generators that share out each round's proposals by what each has yielded lately."""

    kind: Literal["portfolio"] = "portfolio"
    members: dict[str, MemberSettings] = Field(min_length=2)
    """The generators, under names of your choice; in lineages and reports they are called `portfolio/member`."""
    scheme: Literal["thompson", "even"] = "thompson"
    """`thompson` gives most to whoever yields most; `even` gives all members the same."""
    window: PositiveInt = 100
    """Latest evaluations of all members together that yields are counted in."""
    n_best: PositiveInt = 20
    """An evaluation yields 1 as the new best, evenly less down to 0 behind the best tenth of the different structures
    labelled so far, or this many of them where that is fewer."""
    even_share: float = Field(default=0.4, ge=0.0, le=1.0)
    """Share of the proposals that is split evenly, whatever members yield; with 0.4, each of four gets a tenth at
    least."""

    @field_validator("members")
    @classmethod
    def _can_be_told_apart(cls, members: dict[str, MemberSettings]) -> dict[str, MemberSettings]:
        for name in members:
            if not name or "/" in name:
                raise ValueError(f"a member's name must be a text without '/', got {name!r}")
        return members

    def build(self, name: str, space: DesignSpace) -> Portfolio:
        """The generator of these settings, and its members.

        Raises:
            AlloysmithError: a member cannot be made.
        """
        # Sorted, so that the order in a file does not matter, as it does not to the hash of a configuration.
        members = {
            member: settings.build(f"{name}/{member}", space) for member, settings in sorted(self.members.items())
        }
        return Portfolio(name, space, self, members)


def credit(arrival: Arrival, n_best: int) -> float:
    """What an evaluation yields: from 1 for a new best, evenly less, to 0 behind the best tenth, or ``n_best``.

    Among fewer than ten structures a new best yields a tenth for each of them: the first is one whoever proposes it.
    """
    if arrival.rank is None:
        return 0.0
    n_top = _TOP * arrival.n_known
    return min(1.0, n_top) * max(0.0, 1.0 - arrival.rank / min(n_best, max(1.0, n_top)))


@dataclass(frozen=True)
class Yield:
    """What a member did within the window.

    Attributes:
        total: sum of what its evaluations yielded.
        n: its evaluations.
    """

    total: float
    n: int


@dataclass(frozen=True)
class Portfolio:
    """Asks its members, in shares by their yields."""

    name: str
    space: DesignSpace
    settings: PortfolioSettings
    members: Mapping[str, Generator]

    def propose(self, n: int, history: History, *, seed: int) -> Sequence[Candidate]:
        """Propose up to ``n`` candidates; fewer only where no member has more to offer.

        What a member does not deliver, or delivers although another one has just done so, others replace.
        """
        rng = np.random.default_rng(seed)
        yields = self.yields(history)
        taken = pending_keys(history, self.space)
        proposed: list[Candidate] = []
        able = list(self.members)
        turn = 0
        while able and len(proposed) < n:
            wanted = self._shared_out(n - len(proposed), [yields[member] for member in able], rng)
            # Whoever comes first is credited with what several find, so the order is drawn.
            for k in rng.permutation(np.flatnonzero(wanted)).tolist():
                beside = replace(history, pending=(*history.pending, *proposed))
                found = self.members[able[k]].propose(int(wanted[k]), beside, seed=_seed(seed, able[k], turn))
                keys = [candidate_key(self.space, candidate) for candidate in found]
                new = [candidate for candidate, key in zip(found, keys, strict=True) if key not in taken]
                taken.update(keys)
                proposed += new
                wanted[k] -= len(new)
            able = [member for member, n_missing in zip(able, wanted.tolist(), strict=True) if n_missing == 0]
            turn += 1
        # Of a round, what ends first is measured against a poorer best: nobody's candidates may always come first.
        return [proposed[k] for k in rng.permutation(len(proposed)).tolist()]

    def trainings(self, history: History) -> list[PlannedTraining]:
        """See :class:`~alloysmith.generators.learned.Learner`: those of its members."""
        learners = [member for member in self.members.values() if isinstance(member, Learner)]
        return [training for learner in learners for training in learner.trainings(history)]

    def yields(self, history: History) -> dict[str, Yield]:
        """What each member did in the latest evaluations of all of them together; costs the same for any history."""
        index = read_history(history, self.space)
        n_latest = self.settings.window
        latest = [
            (arrival.position, member, credit(arrival, self.settings.n_best))
            for member, generator in self.members.items()
            for arrival in index.arrivals(generator.name)[-n_latest:]
        ]
        total, n = dict.fromkeys(self.members, 0.0), dict.fromkeys(self.members, 0)
        for _, member, gained in sorted(latest)[-n_latest:]:
            total[member] += gained
            n[member] += 1
        return {member: Yield(total[member], n[member]) for member in self.members}

    def _shared_out(self, n: int, yields: Sequence[Yield], rng: np.random.Generator) -> np.ndarray:
        """How many of ``n`` proposals each of some members shall make, int ``[n_members]``."""
        n_members = len(yields)
        if self.settings.scheme == "even":
            chosen = rng.permutation(n_members)[np.arange(n) % n_members]
        else:
            total, n_done = (np.array([getattr(y, name) for y in yields], dtype=float) for name in ("total", "n"))
            usual = (total.sum() + 1.0) / (n_done.sum() + 2.0)
            gains = _PRIOR_EVALUATIONS * usual + total
            blanks = _PRIOR_EVALUATIONS * (1.0 - usual) + n_done - total
            chosen = rng.beta(gains, blanks, size=(n, n_members)).argmax(axis=1)
            is_for_all = rng.random(n) < self.settings.even_share
            chosen[is_for_all] = rng.integers(n_members, size=int(is_for_all.sum()))
        return np.bincount(chosen, minlength=n_members)


def _seed(seed: int, member: str, turn: int) -> int:
    """Of a member's proposal, ``turn`` counting how often members were asked for the same one."""
    sequence = np.random.SeedSequence(seed, spawn_key=(zlib.crc32(member.encode()), turn))
    return int(sequence.generate_state(1)[0])
