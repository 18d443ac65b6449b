"""When a learning of a potential has learnt enough, or may learn no more."""

from __future__ import annotations

from collections.abc import Sequence

from ..rounds.endings import Ending, Limits
from .config import LearningConfig
from .figures import has_settled
from .rounds import RoundRecord


def n_labels_left(config: LearningConfig, records: Sequence[RoundRecord]) -> int:
    """How many structures may still be labelled."""
    return max(0, config.budget.n_labels - sum(record.n_chosen for record in records))


def check_between_rounds(config: LearningConfig, limits: Limits, records: Sequence[RoundRecord]) -> None:
    """End the session if there is a reason not to begin another round."""
    limits.check_signals()
    stopping = config.stopping
    rounds = records[1:]
    if has_settled(records, stopping.candidate_share, stopping.error_change, stopping.patience):
        raise Ending("settled", f"for {stopping.patience} rounds there was nothing more to learn")
    if len(rounds) >= stopping.patience and not any(record.n_chosen for record in rounds[-stopping.patience :]):
        message = f"for {stopping.patience} rounds exploration found no structure worth a label"
        raise Ending("nothing_new", message)
    if n_labels_left(config, records) == 0:
        raise Ending("labels", f"{config.budget.n_labels} labels are spent")
    if len(rounds) >= stopping.max_rounds:
        raise Ending("rounds", f"{stopping.max_rounds} rounds are done")
    limits.check()
