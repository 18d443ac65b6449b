"""A pipeline of seconds, in this process or in one of its own that is to be killed."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

from alloysmith.loop.pipeline.config import PipelineConfig
from alloysmith.loop.pipeline.pipeline import run_pipeline
from alloysmith.tests.generators.pcdvae.small import TINY

SMALL: dict[str, Any] = {
    "seed": 1,
    "system": {"elements": ["Ni", "Fe", "Cr"], "cell": {"repeat": [1, 2, 2]}},
    "oracle": {"kind": "bulk_modulus", "potential": {"kind": "wheel", "name": "MoCoNiVFeAlCr_2nn.meam"}},
    "objective": {"property": "bulk_modulus_gpa"},
    "data": {"compositions": ["NiFe", "NiCr", "Ni2FeCr", "NiFe2Cr", "Ni3Fe"], "n_orderings": 2},
    "local_search": {"share": 0.3, "n_steps": 2, "n_trials": 3},
    "pcdvae": TINY.model_dump(mode="json"),
    "training": {"max_epochs": 8, "batch_size": 4, "learning_rate": 1e-2, "checkpoint_every_s": 0.0},
    "optimizations": {
        "published": {
            "optimization": {"decode_at": [5, 40], "n_heads": 0, "caution": 0.0, "trust_radius": None},
            "sampler": {"kind": "predictor_corrector", "n_levels": 2, "n_corrections": 0},
            "start_sigma_ang": 0.05,
        },
    },
    "execution": {"executor": "in_process"},
}


def small_config(**changes: object) -> PipelineConfig:
    """The configuration with other sections."""
    return PipelineConfig.model_validate({**SMALL, **changes})


def run_and_exit(config: PipelineConfig, run_dir: Path, killed_in: str | None = None, delay_s: float = 0.0) -> None:
    """Run a pipeline, and end the process.

    Args:
        killed_in: the stage at whose second message the process is killed; ``None``: never.
        delay_s: and so many seconds after the message.
    """
    n_messages = 0

    def count(stage: str, detail: str) -> None:
        nonlocal n_messages
        if stage != killed_in:
            return
        n_messages += 1
        if n_messages == 2:
            threading.Timer(delay_s, os.kill, (os.getpid(), signal.SIGKILL)).start()

    os._exit(run_pipeline(config, run_dir, on_progress=count).exit_code)
