"""What a campaign's condition means, and what can be done about it, in words."""

from __future__ import annotations

from ..events import Stopped
from ..summary import Condition

_OF_CONDITION: dict[Condition, str] = {
    "running": "a driver is at work",
    "interrupted": "a signal ended it; `resume` goes on",
    "aborted": "too many evaluations failed; see `report`, then `resume`",
    "failed": "an error ended it; `resume` goes on once it is mended",
    "killed": "its driver is gone without a word; `resume` goes on",
    "finished": "complete",
}
_OF_REASON = {
    "budget": "complete; `resume --set budget.n_evaluations=…` with a larger number goes on",
    "wall_time": "complete; `resume --set budget.wall_s=…` with a larger number goes on",
    "agent": "complete, by its agent's own rules, so `resume` leaves it as it is, whatever its budget; a new campaign "
    "with other settings of `agent` goes further",
    "idle": "complete, for want of structures to evaluate, so `resume` leaves it as it is, whatever its budget; a new "
    "campaign with a larger `system` or other `generators` goes further",
}


def explain(condition: Condition, stop: Stopped | None) -> str:
    """What a condition means.

    Args:
        stop: how the latest session ended, if it did: it tells whether a larger budget would be of use.
    """
    if condition != "finished" or stop is None:
        return _OF_CONDITION[condition]
    if stop.reason == "agent" and stop.message.startswith("exhausted:"):
        return _OF_REASON["idle"]
    return _OF_REASON.get(stop.reason, _OF_CONDITION[condition])
