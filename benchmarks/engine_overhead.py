"""What the engine itself costs for each evaluation, as a campaign grows to 100,000 of them.

What is measured is the time outside the oracle: decisions, the log (written and synced), the state. Then the log is
replayed, as `resume` and `status` do. Every size runs in a process of its own, so that its peak memory is its own.

    python benchmarks/engine_overhead.py [N ...]
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from alloysmith.loop.campaign import Campaign
from alloysmith.loop.config import CampaignConfig
from alloysmith.loop.state import replay
from alloysmith.loop.store.event_log import LOG_NAME

SIZES = (1_000, 10_000, 100_000)
BATCH_SIZE = 100
REPLAY_GOAL_S = 20.0
GROWTH_LIMIT = 1.3
"""Cost of an evaluation at the largest size over that at the smallest; linear growth in total means 1."""


def _peak_memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def run(n_evaluations: int, run_dir: Path) -> dict[str, float]:
    """A campaign of so many evaluations of 54 atoms at no cost."""
    config = CampaignConfig.model_validate(
        {
            "name": "overhead",
            "seed": 1,
            "system": {"elements": ["Ni", "Fe", "Cr"]},
            "oracle": {"kind": "pair_model", "delay_s": 0.0},
            "objective": {"property": "bulk_modulus_gpa"},
            "generators": {"random": {"kind": "random"}},
            "agent": {"kind": "direct", "generator": "random", "batch_size": BATCH_SIZE},
            "budget": {"n_evaluations": n_evaluations},
            "execution": {"executor": "in_process"},
        }
    )
    campaign = Campaign.create(config, run_dir)
    memory_before_mb = _peak_memory_mb()
    started = time.monotonic()
    campaign.run()
    wall_s = time.monotonic() - started
    oracle_s = sum(campaign.state.busy_s.values())
    return {
        "engine_ms": 1e3 * (wall_s - oracle_s) / n_evaluations,
        "log_mb": (run_dir / LOG_NAME).stat().st_size / 1e6,
        "run_memory_mb": _peak_memory_mb() - memory_before_mb,
    }


def measure_replay(run_dir: Path) -> dict[str, float]:
    """Read the log back."""
    memory_before_mb = _peak_memory_mb()
    started = time.monotonic()
    state = replay(run_dir)
    replay_s = time.monotonic() - started
    return {
        "replay_s": replay_s,
        "n_ended": float(state.n_ended),
        "replay_memory_mb": _peak_memory_mb() - memory_before_mb,
    }


def _in_own_process(what: str, *arguments: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, what, *arguments], check=True, stdout=subprocess.PIPE)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main(sizes: tuple[int, ...]) -> int:
    """Measure all sizes and print a table; 1 if a goal is missed."""
    print("engine ms: per evaluation, without the oracle; memory: growth of the process' peak")
    print(f"{'evaluations':>12}{'engine ms':>11}{'log MB':>9}{'run MB':>9}{'replay s':>10}{'replay MB':>11}")
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for n in sizes:
            run_dir = str(Path(scratch) / str(n))
            row = _in_own_process("run", str(n), run_dir) | _in_own_process("replay", run_dir)
            rows.append(row)
            print(
                f"{n:>12,}{row['engine_ms']:>11.2f}{row['log_mb']:>9.1f}{row['run_memory_mb']:>9.0f}"
                f"{row['replay_s']:>10.2f}{row['replay_memory_mb']:>11.0f}",
                flush=True,
            )
    growth = rows[-1]["engine_ms"] / rows[0]["engine_ms"]
    is_met = growth <= GROWTH_LIMIT and rows[-1]["replay_s"] <= REPLAY_GOAL_S
    print(f"cost of an evaluation at {sizes[-1]:,} over that at {sizes[0]:,}: {growth:.2f} (at most {GROWTH_LIMIT})")
    print(f"replay of the largest log: {rows[-1]['replay_s']:.1f} s (at most {REPLAY_GOAL_S:g} s)")
    print("goals met" if is_met else "GOALS MISSED")
    return 0 if is_met else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        print(json.dumps(run(int(sys.argv[2]), Path(sys.argv[3]))))
    elif sys.argv[1:2] == ["replay"]:
        print(json.dumps(measure_replay(Path(sys.argv[2]))))
    else:
        sys.exit(main(tuple(int(n) for n in sys.argv[1:]) or SIZES))
