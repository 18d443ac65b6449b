"""Does it pay to choose the hops whose barriers are computed, rather than to take any?

Replays the learning of barriers (`alloysmith learn` with `barrier:`) on a table that holds the barriers of all hops, so
that no band is relaxed: choices, committee and training are the product's own, a label is a look into the table. Hops
of the compositions that the table's column `split` calls `test` are never learnt from: some validate, the others
judge. For each selection and seed: the mean absolute error after each round, and how many labels it takes to come to
where random selection ends.

    alloysmith alloys alloys/ta_nb_mo -o alloys.extxyz
    alloysmith barriers oracles/vacancy_migration alloys.extxyz -o barriers.csv --hops 60
    python benchmarks/barrier_campaign.py --data barriers.csv

Without --data such a table is made first, of fewer hops. With --save the same command goes on where it was ended.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from alloysmith.loop.barrier_fitting import species_of
from alloysmith.loop.barrier_learning.choosing import first_choice, next_choice
from alloysmith.loop.barrier_learning.config import BarrierLearningConfig
from alloysmith.loop.barrier_learning.pool import HopPool, KnownHops, LabelledHop
from alloysmith.loop.barrier_learning.rounds import BarrierFolder
from alloysmith.loop.barrier_learning.training import BarrierRunner, member_fits, model_of
from alloysmith.surrogates.barriers.base import BarrierModel
from alloysmith.surrogates.barriers.committee import BarrierCommittee
from alloysmith.surrogates.barriers.hop_file import HopTable, read_hops
from alloysmith.surrogates.barriers.settings import barrier_model_from_state

SELECTIONS: dict[str, dict[str, Any]] = {
    "random": {"kind": "random"},
    "uncertainty": {"kind": "uncertainty"},
    "k-means": {"kind": "diversity", "diversity": "k_means"},
    "farthest points": {"kind": "diversity", "diversity": "farthest_points"},
    "both, k-means": {"kind": "both", "diversity": "k_means"},
    "both, farthest points": {"kind": "both", "diversity": "farthest_points"},
}
MODELS: dict[str, dict[str, Any]] = {
    "ridge": {"kind": "ridge", "features": "pairs", "n_shells": 6},
    "counts": {"kind": "ridge", "features": "counts", "n_shells": 6},
    "trees": {
        "kind": "trees",
        "n_shells": 5,
        "max_trees": 150,
        "min_leaf_hops": 8,
        "base": {"kind": "ridge", "features": "pairs", "n_shells": 6},
    },
    "lattice": {
        "kind": "lattice",
        "n_members": 1,
        "n_shells": 5,
        "base": {"kind": "ridge", "features": "pairs", "n_shells": 6},
        "training": {"optimizer": "adam", "schedule": "cosine", "learning_rate": 5e-3, "max_epochs": 15},
    },
}


@dataclass(frozen=True)
class Replay:
    """A learning on labels that are known.

    Attributes:
        n_labels: ``[n_rounds]``, labels used for learning.
        mae_ev: ``[n_rounds]``, on hops of test compositions that did not validate.
        species_mae_ev: the last round's, by moving species.
        rank_correlation: of spread and error on the hops that are left to choose from at the end.
    """

    n_labels: list[int]
    mae_ev: list[float]
    species_mae_ev: dict[str, float]
    rank_correlation: float


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="table with the barriers of all hops")
    parser.add_argument("--save", type=Path, help="JSON lines: replays are kept there, and not done again")
    parser.add_argument("--selections", nargs="+", choices=list(SELECTIONS), default=list(SELECTIONS))
    parser.add_argument("--model", choices=list(MODELS), default="ridge")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--share", type=float, default=0.8)
    parser.add_argument("--first", type=int, default=60, help="random hops to begin with")
    parser.add_argument("--batch", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=14, help="of choosing")
    parser.add_argument("--validation", type=int, default=100)
    parser.add_argument("--shells", type=int, default=2, help="that diversity looks at")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.data is None:
            arguments.data = made_table(Path(folder))
        table = read_hops(arguments.data)
        began = time.process_time()
        runs = all_replays(arguments, table)
    print(f"{len(table.hops)} hops, {arguments.seeds} seeds, model {arguments.model}; ", end="")
    print(f"{time.process_time() - began:.0f} CPU-s now\n")
    print_curves(runs)
    if "random" in runs:
        print()
        print_savings(runs)


def made_table(folder: Path) -> Path:
    """A table of 20 hops of each of 55 alloys."""
    command = [sys.executable, "-m", "alloysmith"]
    alloys, table = folder / "alloys.extxyz", folder / "barriers.csv"
    subprocess.run([*command, "alloys", "alloys/ta_nb_mo", "-o", alloys], check=True)
    more = ["--hops", "20", "--executor", "process_pool"]
    subprocess.run([*command, "barriers", "oracles/vacancy_migration", alloys, "-o", table, *more], check=True)
    return table


def all_replays(arguments: argparse.Namespace, table: HopTable) -> dict[str, list[Replay]]:
    """The replays of each selection, those that were kept or new ones, one for each seed."""
    kept = {}
    if arguments.save is not None and arguments.save.exists():
        kept = {line["key"]: Replay(**line["replay"]) for line in map(json.loads, arguments.save.open())}
    runs: dict[str, list[Replay]] = {}
    for seed in range(arguments.seeds):
        for name in arguments.selections:
            config = configuration(arguments, name, seed)
            key = f"{config.results_hash()}-{arguments.rounds}"
            if key not in kept:
                kept[key] = replay(config, table)
                if arguments.save is not None:
                    with arguments.save.open("a") as file:
                        file.write(json.dumps({"key": key, "replay": vars(kept[key])}) + "\n")
            runs.setdefault(name, []).append(kept[key])
    return runs


def configuration(arguments: argparse.Namespace, selection: str, seed: int) -> BarrierLearningConfig:
    """The learning that is replayed."""
    n_first = {"n_hops": arguments.first, "n_validation": arguments.validation}
    return BarrierLearningConfig.model_validate(
        {
            "seed": seed,
            "pool": {"hops": arguments.data},
            "oracle": {"kind": "vacancy_migration", "potential": {"kind": "zjw04", "elements": ["Ta", "Nb", "Mo"]}},
            "barrier": MODELS[arguments.model],
            "committee": {"n_members": arguments.members, "share": arguments.share},
            "first": n_first,
            "selection": {**SELECTIONS[selection], "batch_size": arguments.batch},
            "feature_shells": arguments.shells,
            "stopping": {"max_rounds": arguments.rounds},
        }
    )


def replay(config: BarrierLearningConfig, table: HopTable) -> Replay:
    """Learn from the labels of a table."""
    hops = table.hops
    rows = [table.lines[row - 1] for row in hops.rows.tolist()]
    pool = HopPool(hops, np.array([row["split"] == "test" for row in rows]))
    known = KnownHops(pool)
    learnt, validation = first_choice(config, pool)
    known.take_in([LabelledHop(k, True, rows[k]) for k in validation.tolist()])
    judged = hops.take(np.setdiff1d(np.flatnonzero(pool.is_held_out), validation))
    n_labels, errors = [], []
    model = None
    for index in range(config.stopping.max_rounds + 1):
        if model is not None:
            learnt = next_choice(config, pool, known, model, index, config.selection.batch_size)
        known.take_in([LabelledHop(k, False, rows[k]) for k in learnt.tolist()])
        model = fitted(config, known, index)
        error = np.abs(model.predict(judged).mean_ev - judged.barriers_ev)
        n_labels.append(len(known.learnt()))
        errors.append(float(error.mean()))
    species = species_of(judged)
    by_species = {name: float(error[species == name].mean()) for name in np.unique(species).tolist()}
    assert model is not None
    correlation = _rank_correlation(model, hops.take(~known.is_labelled() & ~pool.is_held_out))
    return Replay(n_labels, errors, by_species, correlation)


def fitted(config: BarrierLearningConfig, known: KnownHops, index: int) -> BarrierModel:
    """The model of a round, as the product fits it."""
    validation = known.validation()
    nowhere = BarrierFolder(Path(tempfile.gettempdir()) / "not there", index)  # so that there are no checkpoints
    fits = member_fits(config, known.learnt(), validation, known.learnt().elements, index, nowhere)
    members = []
    for fit in fits:
        state = BarrierRunner().run(fit, lambda step, figures: True)
        assert state is not None
        members.append(barrier_model_from_state(state))
    return model_of(members, validation, len(known.learnt()))


def _rank_correlation(model: BarrierModel, hops: Any) -> float:
    if not isinstance(model, BarrierCommittee):
        return float("nan")
    mean, spread = model.mean_and_spread(hops)
    ranks = [np.argsort(np.argsort(values)) for values in (spread, np.abs(mean - hops.barriers_ev))]
    return float(np.corrcoef(ranks)[0, 1])


def print_curves(runs: dict[str, list[Replay]]) -> None:
    """Mean and standard deviation over seeds of the error, at some numbers of labels."""
    labels = next(iter(runs.values()))[0].n_labels
    shown = sorted({0, 2, 4, 7, 10, len(labels) - 1} & set(range(len(labels))))
    species = sorted(next(iter(runs.values()))[0].species_mae_ev)
    head = [f"{labels[k]} labels" for k in shown]
    print(f"| selection | {' | '.join(head)} | " + " | ".join(f"{s} moves" for s in species) + " | spread and error |")
    print("| --- |" + " --- |" * (len(head) + len(species) + 1))
    for name, found in runs.items():
        errors = 1000.0 * np.array([run.mae_ev for run in found])
        cells = [f"{errors[:, k].mean():.1f} ± {errors[:, k].std():.1f}" for k in shown]
        cells += [f"{1000.0 * np.mean([run.species_mae_ev[s] for run in found]):.1f}" for s in species]
        cells.append(f"{np.mean([run.rank_correlation for run in found]):.2f}")
        print(f"| {name} | {' | '.join(cells)} |")


def print_savings(runs: dict[str, list[Replay]]) -> None:
    """Labels that each selection needs to come to where random selection ends."""
    random = runs["random"]
    goal = float(np.mean([run.mae_ev[-1] for run in random]))
    print(f"random ends at {1000.0 * goal:.1f} meV with {random[0].n_labels[-1]} labels\n")
    print("| selection | labels to random's end, by the mean | by seed | seeds that end lower |")
    print("| --- | --- | --- | --- |")
    for name, found in runs.items():
        mean = np.mean([run.mae_ev for run in found], axis=0)
        needed = labels_to(found[0].n_labels, mean.tolist(), goal)
        each = [labels_to(a.n_labels, a.mae_ev, float(b.mae_ev[-1])) for a, b in zip(found, random, strict=True)]
        n_better = sum(a.mae_ev[-1] < b.mae_ev[-1] for a, b in zip(found, random, strict=True))
        print(f"| {name} | {_or_more(needed)} | {', '.join(map(_or_more, each))} | {n_better} of {len(found)} |")


def labels_to(n_labels: Sequence[int], errors: Sequence[float], goal: float) -> float:
    """Labels at which the error first is as low as wanted, between rounds by interpolation; infinite if it never is."""
    at = np.flatnonzero(np.array(errors) <= goal + 1e-12)
    if len(at) == 0:
        return float("inf")
    k = int(at[0])
    if k == 0:
        return float(n_labels[0])
    share = (errors[k - 1] - goal) / (errors[k - 1] - errors[k])
    return float(n_labels[k - 1] + share * (n_labels[k] - n_labels[k - 1]))


def _or_more(labels: float) -> str:
    return "not reached" if np.isinf(labels) else f"{labels:.0f}"


if __name__ == "__main__":
    main()
