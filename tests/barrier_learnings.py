"""Learnings of barriers that a formula gives, in a process of their own where they are to be killed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from alloysmith.loop.barrier_learning.config import BarrierLearningConfig
from alloysmith.loop.barrier_learning.learning import learn_barriers
from alloysmith.tests.formula_barriers import FormulaSettings


def formula_config(**changes: Any) -> BarrierLearningConfig:
    """A small learning."""
    oracle = {"potential": {"kind": "zjw04", "elements": ["Ta", "Nb", "Mo"]}, "max_steps": 1, "max_force_calls": 29}
    cell = {"kind": "cubic", "repeat": [3, 3, 3]}
    small: dict[str, Any] = {
        "pool": {"alloys": {"elements": ["Ta", "Nb", "Mo"], "cell": cell, "n_train": 7, "n_test": 2}, "n_hops": 40},
        "barrier": {"kind": "ridge", "n_shells": 1},
        "committee": {"n_members": 3, "share": 0.7},
        "first": {"n_hops": 16, "n_validation": 12},
        "selection": {"batch_size": 8},
        "feature_shells": 1,
        "n_spectrum": 100,
        "stopping": {"max_rounds": 3, "error_change": None, "spectrum_change_ev": None},
        "budget": {"n_labels": 200},
        "execution": {"executor": "in_process"},
    }
    settings = FormulaSettings.model_validate({**oracle, **changes.pop("oracle", {})})
    return BarrierLearningConfig.model_validate({**small, **changes, "oracle": settings})


def run_barrier_learning(config: BarrierLearningConfig, run_dir: Path) -> None:
    """Learn, and end the process."""
    os._exit(learn_barriers(config, run_dir).exit_code)
