"""Search efficiency: evaluations that each method needs, at equal numbers of oracle calls.

Runs the default campaign, the same with a Gaussian process on composition and phase alone, and the generators that need
no agent (random orderings, the local search of the P-CDVAE paper, a genetic algorithm, simulated annealing, cluster
expansion and Monte Carlo, the model of orderings; a portfolio of four of them, by yields and evenly) from several seeds
with the same oracle. Prints when each passed the targets, the best value after given numbers of evaluations, and the
mean of the best-so-far curve, which is the area under it; median and range over seeds. What a method learns from counts
among its evaluations.

    python benchmarks/search.py --seeds 5 --evaluations 400
    python benchmarks/search.py --methods genetic --evaluations 3000 --seeds 2
    python benchmarks/search.py --config configs/nifecr_distortion.yaml --targets 0.15 0.2 --digits 3

Campaigns are kept below ``--out`` and resumed, so the command can be interrupted and repeated. The curves are written
there too: ``curves.csv``, and ``curves.html`` with their means and ranges over seeds.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from alloysmith.loop.campaign import Campaign
from alloysmith.loop.config import load_config
from plotly.colors import hex_to_rgb, qualitative

ROOT = Path(__file__).resolve().parents[1]
MEMBERS = (
    "{" + ", ".join(f"{k}: {{kind: {k}}}" for k in ("local_search", "genetic", "random", "cluster_expansion")) + "}"
)
"""Of the portfolios: methods that run by themselves as well."""
PCDVAE_TRAINING = "{precision: bfloat16}"
"""The generator's own but for the precision, of which this one costs less here."""
BASELINES: dict[str, dict[str, object]] = {
    "random": {"kind": "random"},
    "local_search": {"kind": "local_search"},
    "genetic": {"kind": "genetic"},
    "annealing": {"kind": "annealing", "n_chains": 1},
    "cluster_expansion": {"kind": "cluster_expansion"},
    "ordering_model": {"kind": "ordering_model"},
    "pcdvae": {"kind": "pcdvae", "training": PCDVAE_TRAINING},
    "portfolio": {"kind": "portfolio", "members": MEMBERS},
    "portfolio_even": {"kind": "portfolio", "members": MEMBERS, "scheme": "even"},
}
BAYESIAN = (
    "generators={search: {kind: surrogate_search}}",
    "agent={kind: bayesian, generators: [search], n_initial: 16, batch_size: 5, selection: {kind: qlognei},"
    " retraining: {every: 5}}",
)
"""The default campaign, as in configs/nifecr_bulk_modulus.yaml."""
SURROGATES: dict[str, dict[str, object]] = {
    "bayesian": {"kind": "gaussian_process"},
    "bayesian_composition": {"kind": "gaussian_process", "n_shells": 0, "has_chains": "false"},
}
METHODS = (*SURROGATES, *BASELINES)
COSTLY = ("pcdvae",)
"""Methods whose campaigns take many CPU-minutes; they run when they are named."""


@dataclass(frozen=True)
class Curve:
    """One campaign: the best value after each evaluation, failures counted, NaN before the first label; each value,
    NaN for failures, with the move that it came by; its cost."""

    method: str
    seed: int
    best: np.ndarray
    values: np.ndarray
    moves: Sequence[str]
    wall_s: float
    cpu_s: float
    sign: float

    @property
    def n_failed(self) -> int:
        """Evaluations without a label."""
        return int(np.isnan(self.values).sum())

    @property
    def area(self) -> float:
        """Mean of the best value over the evaluations from the first label on."""
        return float(np.nanmean(self.best))


def overrides(method: str, seed: int, n_evaluations: int, extra: Sequence[str]) -> list[str]:
    """Overrides of the default campaign that make it the method's."""
    chosen = [f"seed={seed}", f"budget.n_evaluations={n_evaluations}", "execution.executor=in_process", *extra]
    if method in SURROGATES:
        chosen += [*BAYESIAN, f"surrogate={flow(SURROGATES[method])}"]
    if method in BASELINES:
        generator = dict(BASELINES[method])
        if method == "annealing":
            generator["n_evaluations"] = n_evaluations
        # batches of ten as the default campaign; a step of the local search is its own batch of 20
        batch = 20 if method == "local_search" else 10
        chosen += [
            f"generators={{search: {flow(generator)}}}",
            "surrogate=null",
            f"agent={{kind: direct, generator: search, batch_size: {batch}}}",
        ]
    return chosen


def flow(mapping: dict[str, object]) -> str:
    """A YAML flow mapping."""
    return "{" + ", ".join(f"{key}: {value}" for key, value in mapping.items()) + "}"


def run_one(method: str, seed: int, n_evaluations: int, config: Path, out: Path, extra: Sequence[str]) -> Curve:
    """Run or resume one campaign to its end."""
    run_dir = out / f"{method}-{seed}"
    if (run_dir / "events.jsonl").exists():
        campaign = Campaign.open(run_dir, [f"budget.n_evaluations={n_evaluations}"])
    else:
        campaign = Campaign.create(load_config(config, overrides(method, seed, n_evaluations, extra)), run_dir)
    started = time.process_time()
    campaign.run()
    spent = run_dir / "cpu_s.txt"  # of all sessions
    cpu_s = time.process_time() - started + (float(spent.read_text()) if spent.exists() else 0.0)
    spent.write_text(f"{cpu_s:.2f}\n")
    objective = campaign.config.objective.build()
    sign = 1.0 if objective.direction == "maximize" else -1.0
    evaluations = sorted(campaign.state.evaluations, key=lambda e: e.request_id)[:n_evaluations]
    scores = np.array([objective.score(e.label) if e.label is not None else -np.inf for e in evaluations])
    best = np.maximum.accumulate(scores)
    best[np.isneginf(best)] = np.nan
    values = np.where(np.isneginf(scores), np.nan, sign * scores)
    moves = [e.candidate.lineage.move for e in evaluations]
    return Curve(method, seed, sign * best, values, moves, campaign.state.elapsed_s, cpu_s, sign)


def passes(curve: Curve, target: float) -> float:
    """Evaluations until ``target`` was passed; infinite if never."""
    hits = np.flatnonzero(curve.sign * (curve.best - target) > 0.0)
    return float(hits[0] + 1) if len(hits) else float("inf")


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Median and range; ``-`` stands for never."""

    def text(value: float) -> str:
        return "-" if not np.isfinite(value) else f"{value:.{digits}f}"

    return f"{text(statistics.median(values))} ({text(min(values))}..{text(max(values))})"


def print_table(curves: Sequence[Curve], targets: Sequence[float], marks: Sequence[int], digits: int) -> None:
    """One row a method."""
    header = ["method", "seeds", *(f"evaluations to {t:g}" for t in targets), *(f"best after {m}" for m in marks)]
    header += ["mean of best", "failed", "CPU-s"]
    print("| " + " | ".join(header) + " |")
    print("|" + " --- |" * len(header))
    for method in METHODS:
        mine = [c for c in curves if c.method == method]
        if not mine:
            continue
        row = [method, str(len(mine))]
        row += [spread([passes(c, t) for c in mine]) for t in targets]
        row += [spread([float(c.best[min(m, len(c.best)) - 1]) for c in mine], digits) for m in marks]
        row.append(spread([c.area for c in mine], digits))
        row.append(spread([c.n_failed for c in mine]))
        row.append(spread([c.cpu_s for c in mine]))
        print("| " + " | ".join(row) + " |")


def print_moves(curves: Sequence[Curve], digits: int) -> None:
    """What each method's moves came to: one row a move, all seeds together."""
    print("\n| method | move | evaluations | failed | mean | mean of the last fifth | best |\n|" + " --- |" * 7)
    for method in dict.fromkeys(c.method for c in curves):
        mine = [c for c in curves if c.method == method]
        for move in sorted({move for c in mine for move in c.moves}):
            values = [c.values[[m == move for m in c.moves]] for c in mine]
            late = np.concatenate([v[-max(1, len(v) // 5) :] for v in values if len(v)])
            together = np.concatenate(values)
            if np.isnan(late).all():
                continue
            best = np.nanmax(mine[0].sign * together) * mine[0].sign
            numbers = (np.nanmean(together), np.nanmean(late), best)
            row = [method, move, str(len(together)), str(int(np.isnan(together).sum()))]
            print("| " + " | ".join([*row, *(f"{x:.{digits}f}" for x in numbers)]) + " |")


def write_curves(curves: Sequence[Curve], out: Path) -> None:
    """``curves.csv``, and ``curves.html`` with the mean and range of each method."""
    curves = sorted(curves, key=lambda c: (METHODS.index(c.method), c.seed))
    with (out / "curves.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "seed", "evaluations", "best"])
        for curve in curves:
            writer.writerows((curve.method, curve.seed, k, value) for k, value in enumerate(curve.best.tolist(), 1))
    by_method = {
        method: [c for c in curves if c.method == method] for method in dict.fromkeys(c.method for c in curves)
    }
    figure = go.Figure()
    best_first = sorted(by_method, key=lambda method: -statistics.mean(c.sign * c.area for c in by_method[method]))
    for method, colour in zip(best_first, cycle(qualitative.D3), strict=False):
        found = [curve.best for curve in by_method[method]]
        together = np.array([best[: min(map(len, found))] for best in found])
        x, shade = np.arange(1, together.shape[1] + 1), f"rgba({', '.join(map(str, hex_to_rgb(colour)))}, 0.12)"
        band = {"x": x, "legendgroup": method, "hoverinfo": "skip", "showlegend": False, "line": {"width": 0}}
        figure.add_scatter(y=together.max(0), **band)
        figure.add_scatter(y=together.min(0), fill="tonexty", fillcolor=shade, **band)
        figure.add_scatter(
            x=x, y=together.mean(0), name=method, legendgroup=method, line={"color": colour, "width": 2.5}
        )
    figure.update_layout(
        template="plotly_white",
        margin={"l": 60, "r": 20, "t": 20, "b": 50},
        xaxis_title="evaluations",
        yaxis_title="best so far, mean and range over seeds",
    )
    figure.write_html(out / "curves.html")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "nifecr_bulk_modulus.yaml")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=[m for m in METHODS if m not in COSTLY])
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, from 0")
    parser.add_argument("--evaluations", type=int, default=400)
    parser.add_argument("--targets", type=float, nargs="*", default=[197.26, 197.5])
    parser.add_argument("--marks", type=int, nargs="*", default=[50, 100, 200, 400])
    parser.add_argument("--digits", type=int, default=2, help="decimals of values")
    parser.add_argument("--moves", action="store_true", help="print what the moves of each method came to")
    parser.add_argument("--set", dest="extra", action="append", default=[], help="override of the configuration")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "benchmark-search")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    curves: list[Curve] = []
    with ProcessPoolExecutor(args.processes, mp_context=get_context("spawn")) as pool:
        jobs = [
            pool.submit(run_one, method, seed, args.evaluations, args.config, args.out, args.extra)
            for method in args.methods
            for seed in range(args.seeds)
        ]
        for job in as_completed(jobs):
            curve = job.result()
            curves.append(curve)
            print(
                f"{curve.method:>14} seed {curve.seed}: best {curve.best[-1]:.3f} after {len(curve.best)}; passed "
                + ", ".join(f"{t:g} after {passes(curve, t):g}" for t in args.targets)
                + f"; {curve.wall_s:.0f} s",
                flush=True,
            )
    print()
    print_table(curves, args.targets, args.marks, args.digits)
    if args.moves:
        print_moves(curves, args.digits)
    write_curves(curves, args.out)


if __name__ == "__main__":
    main()
