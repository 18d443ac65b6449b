"""Several barrier models as one: their mean is the prediction, and how much they differ tells the error to expect.

Any kind of model can be a member. Members are told apart by their seeds and by the hops that they learn from: random
shares of them, as in bagging (L. Breiman, Machine Learning 24, 123 (1996)), without which models that are not random
would all be the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..base import SurrogateError, SurrogateState
from .base import BarrierModel, BarrierPrediction, BarrierSpec
from .calibration import Calibration
from .hops import Hops

KIND = "barrier_committee"


@dataclass(frozen=True, eq=False)
class BarrierCommittee:
    """Fitted members.

    Attributes:
        spec: that of the members, with all hops that they learnt from.
        calibration: of their spread.
    """

    spec: BarrierSpec
    members: Sequence[BarrierModel]
    calibration: Calibration

    def predict(self, hops: Hops) -> BarrierPrediction:
        """See :class:`~.base.BarrierModel`."""
        mean, spread = self.mean_and_spread(hops)
        return BarrierPrediction(mean, self.calibration.std_ev(spread))

    def mean_and_spread(self, hops: Hops) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation over the members, ``[n_hops]`` each, eV."""
        found = np.array([member.predict(hops).mean_ev for member in self.members])
        return found.mean(axis=0), found.std(axis=0)

    def state(self) -> SurrogateState:
        """See :class:`~.base.BarrierModel`."""
        states = [member.state() for member in self.members]
        return SurrogateState(
            KIND,
            {
                "spec": self.spec.as_settings(),
                "calibration": [self.calibration.floor_ev, self.calibration.factor],
                "members": [{"kind": state.kind, "settings": dict(state.settings)} for state in states],
            },
            {f"{k}/{name}": value for k, state in enumerate(states) for name, value in state.arrays.items()},
        )


def barrier_committee(members: Sequence[BarrierModel], validation: Hops, n_train: int) -> BarrierCommittee:
    """Members as one model.

    Args:
        validation: hops with known barriers that calibrate the spread.
        n_train: different hops that they learnt from, all together.
    """
    found = np.array([member.predict(validation).mean_ev for member in members])
    calibration = Calibration.of(found.mean(axis=0) - validation.barriers_ev, found.std(axis=0))
    return BarrierCommittee(replace(members[0].spec, n_train=n_train), tuple(members), calibration)


def share_of_hops(n_hops: int, share: float, seed: int) -> np.ndarray:
    """Which hops a member learns from, bool ``[n_hops]``: each with this chance, of several never all and never none.

    The choice for a hop does not depend on how many follow it, so that a member that leaves a hop out does so for good.
    """
    chances = np.random.default_rng(seed).random(n_hops)
    is_in: np.ndarray = (chances < share) | (n_hops == 1)
    if n_hops > 1 and share < 1.0:
        is_in[np.argmin(chances)], is_in[np.argmax(chances)] = True, False
    return is_in


def committee_from_state(state: SurrogateState, read: Callable[[SurrogateState], BarrierModel]) -> BarrierCommittee:
    """The inverse of :meth:`BarrierCommittee.state`.

    Args:
        read: makes a member of its state.

    Raises:
        SurrogateError: something is missing.
    """
    try:
        members = []
        for k, member in enumerate(state.settings["members"]):
            prefix = f"{k}/"
            arrays = {n.removeprefix(prefix): v for n, v in state.arrays.items() if n.startswith(prefix)}
            members.append(read(SurrogateState(member["kind"], member["settings"], arrays)))
        calibration = Calibration(*state.settings["calibration"])
        return BarrierCommittee(BarrierSpec.from_settings(state.settings["spec"]), tuple(members), calibration)
    except (KeyError, TypeError, ValueError) as error:
        raise SurrogateError(f"the committee's state is incomplete ({error!r}); fit it again") from error
