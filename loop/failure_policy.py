"""What is done about an evaluation or a training that failed: a decision, without side effects."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..oracles.base import FailureKind
from .config import FailurePolicySettings
from .events import FailureAction

_BREAKDOWNS = (FailureKind.CRASHED, FailureKind.UNAVAILABLE)
"""Failures that say nothing about the structure when they come one after the other."""


@dataclass(frozen=True)
class FailureDecision:
    """What to do.

    Attributes:
        action: try the request again, set it aside, or set it aside and end the campaign.
        reason: why the campaign ends; empty otherwise.
    """

    action: FailureAction
    reason: str = ""


def decide_training(
    settings: FailurePolicySettings, kind: FailureKind, attempt: int, *, has_model: bool
) -> FailureDecision:
    """Decide about a failed attempt to train a generator's model.

    It gets as many attempts as an evaluation. After the last one the generator goes on with the model that it has; a
    campaign whose generator cannot learn at all is not worth its evaluations.

    Args:
        has_model: whether the generator has one of fewer labels.
    """
    if attempt < settings.max_attempts.get(kind, 1):
        return FailureDecision("retry")
    if has_model:
        return FailureDecision("quarantine")
    return FailureDecision("abort", f"failed at attempt {attempt}, and there is no earlier model to go on with")


def decide(
    settings: FailurePolicySettings, kind: FailureKind, attempt: int, recent: Iterable[str | None]
) -> FailureDecision:
    """Decide about a failed attempt. One bad structure never ends a campaign; too many failures do.

    Args:
        settings: the policy.
        kind: of this failure.
        attempt: number of this attempt, from 1.
        recent: how the requests before it ended in this session, oldest first: a kind of failure, or ``None``.
    """
    if attempt < settings.max_attempts.get(kind, 1):
        return FailureDecision("retry")
    outcomes = [*recent, str(kind)]
    tail = outcomes[-settings.max_consecutive_breakdowns :]
    if len(tail) == settings.max_consecutive_breakdowns and all(outcome in _BREAKDOWNS for outcome in tail):
        return FailureDecision(
            "abort",
            f"{len(tail)} evaluations in a row ended as crashed or unavailable: the oracle or the workers are broken",
        )
    window = outcomes[-settings.window :]
    n_failed = sum(outcome is not None for outcome in window)
    if len(window) == settings.window and n_failed > settings.max_failed_fraction * settings.window:
        return FailureDecision(
            "abort",
            f"{n_failed} of the latest {settings.window} evaluations failed, and "
            f"failure_policy.max_failed_fraction is {settings.max_failed_fraction:g}",
        )
    return FailureDecision("quarantine")
