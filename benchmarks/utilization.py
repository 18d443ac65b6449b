"""How busy the workers are: two of them, evaluations of 0.1 s, each executor, asynchronous beside synchronous.

Utilization is the time workers spent evaluating, divided by workers times the time from the first start to the last
end of an evaluation. The goal is 95 % in asynchronous mode.

    python benchmarks/utilization.py
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from alloysmith.loop.campaign import Campaign
from alloysmith.loop.config import CampaignConfig
from alloysmith.loop.events import Evaluated
from alloysmith.loop.store.event_log import read_events

N_WORKERS = 2
EVALUATION_S = 0.1
N_EVALUATIONS = 300
GOAL = 0.95


def measure(executor: str, mode: str, folder: Path) -> tuple[float, float]:
    """Utilization, and evaluations per second, of one campaign."""
    config = CampaignConfig.model_validate(
        {
            "name": f"utilization {executor} {mode}",
            "seed": 1,
            "system": {"elements": ["Ni", "Fe", "Cr"]},
            "oracle": {"kind": "pair_model", "delay_s": EVALUATION_S},
            "objective": {"property": "bulk_modulus_gpa"},
            "generators": {"search": {"kind": "genetic"}},
            "agent": {"kind": "direct", "generator": "search", "batch_size": 10},
            "budget": {"n_evaluations": N_EVALUATIONS},
            "execution": {"executor": executor, "mode": mode, "n_workers": N_WORKERS},
        }
    )
    Campaign.create(config, folder).run()
    ended = [event for event in read_events(folder) if isinstance(event, Evaluated)]
    span_s = max(event.ended_at for event in ended) - min(event.started_at for event in ended)
    busy_s = sum(event.ended_at - event.started_at for event in ended)
    return busy_s / (N_WORKERS * span_s), len(ended) / span_s


def main() -> int:
    """Measure all combinations and print a table; 1 if the goal is missed."""
    print(f"{N_WORKERS} workers, {N_EVALUATIONS} evaluations of {EVALUATION_S} s, 54-atom cells, rounds of 10")
    print(f"{'executor':<14}{'mode':<15}{'utilization':>12}{'evaluations/s':>15}")
    is_met = True
    with tempfile.TemporaryDirectory() as scratch:
        for executor in ("process_pool", "ray"):
            for mode in ("asynchronous", "synchronous"):
                utilization, rate = measure(executor, mode, Path(scratch) / f"{executor}-{mode}")
                print(f"{executor:<14}{mode:<15}{utilization:>12.1%}{rate:>15.2f}", flush=True)
                is_met &= mode == "synchronous" or utilization >= GOAL
    print(f"goal of {GOAL:.0%} in asynchronous mode: {'met' if is_met else 'MISSED'}")
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
