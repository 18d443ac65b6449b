"""How well do models of migration barriers do on alloys they have not seen?

    alloysmith alloys alloys/ta_nb_mo -o alloys.extxyz
    alloysmith barriers oracles/vacancy_migration alloys.extxyz -o barriers.csv --hops 60
    python benchmarks/barrier_models.py barriers.csv

All models learn from the hops of the compositions that the table's column `split` calls `train`, a tenth of which
choose weights, and are judged on those it calls `test`; hops are learnt both ways where the table has
`barrier_backward_ev`.
Then the same for fewer hops (--sizes), with more and fewer neighbour shells (--shells), and for deeper networks
(--depths). `--other ordered.csv` is a table to judge on besides, such as one of alloys with short-range order.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from alloysmith.loop.barrier_fitting import hop_errors, hop_errors_by_species, species_of, split_by_name
from alloysmith.surrogates.barriers.base import BarrierModel
from alloysmith.surrogates.barriers.hop_file import read_hops, with_returns
from alloysmith.surrogates.barriers.hops import Hops, all_hops
from alloysmith.surrogates.barriers.settings import BarrierSettings
from ase import Atoms
from pydantic import TypeAdapter

PAIRS = {"kind": "ridge", "features": "pairs", "n_shells": 6}
DENSE_TRAINING = {
    "optimizer": "adam",
    "schedule": "cosine",
    "learning_rate": 2e-3,
    "weight_decay": 1e-4,
    "loss": "huber",
    "max_epochs": 30,
}
CNN_TRAINING = {**DENSE_TRAINING, "learning_rate": 3e-3, "batch_size": 16, "max_epochs": 20}
CNN_MAPS = {"n_shells": 8, "n_voxels": 16, "width": 0.5, "turns": "lattice", "ideal_sites": True}
CNN = {"kind": "cnn", "maps": CNN_MAPS, "filters": (16, 32, 64, 128), "training": CNN_TRAINING}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": (
        "linear, one-hot sites (paper's)",
        {"kind": "ridge", "features": "sites", "n_shells": 8, "per_moving_species": False},
    ),
    "dense-sites": (
        "2 × 10 network, one-hot sites (paper's)",
        {"kind": "dense", "n_shells": 8, "training": {"max_epochs": 60}},
    ),
    "ridge": ("ridge, counts", {"kind": "ridge", "n_shells": 7}),
    "trees": ("boosted trees, counts", {"kind": "trees", "n_shells": 7}),
    "pairs": ("ridge, counts and pairs", PAIRS),
    "trees-on-pairs": (
        "boosted trees on ridge of pairs",
        {"kind": "trees", "n_shells": 7, "max_trees": 600, "learning_rate": 0.05, "base": PAIRS},
    ),
    "dense": (
        "dense networks on ridge of pairs (`fit/barriers`)",
        {
            "kind": "dense",
            "features": "counts",
            "n_shells": 7,
            "hidden": (256, 256),
            "n_members": 4,
            "base": PAIRS,
            "training": DENSE_TRAINING,
        },
    ),
    "lattice": (
        "lattice network on ridge of pairs",
        {
            "kind": "lattice",
            "n_shells": 6,
            "n_members": 1,
            "base": PAIRS,
            "training": {"optimizer": "adam", "schedule": "cosine", "learning_rate": 5e-3, "max_epochs": 25},
        },
    ),
    "cnn": ("CNN on pictures (`fit/barrier_cnn`)", CNN),
    "cnn-on-pairs": ("CNN on pictures, on ridge of pairs", {**CNN, "base": PAIRS}),
}


@dataclass(frozen=True)
class Parts:
    """Hops to learn from (both ways), to choose weights with (both ways) and to judge by."""

    train: Hops
    validation: Hops
    test: Hops


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="table of hops, with a column `split`")
    parser.add_argument("--other", type=Path, help="table to judge on besides")
    parser.add_argument("--models", nargs="*", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--sizes", nargs="*", type=int, default=[300, 1000], help="hops to learn from")
    parser.add_argument("--size-models", nargs="*", choices=list(MODELS), default=["linear", "pairs", "trees", "dense"])
    parser.add_argument("--shells", nargs="*", type=int, default=list(range(1, 9)), help="neighbour shells")
    parser.add_argument("--shell-models", nargs="*", choices=list(MODELS), default=["linear", "ridge", "dense-sites"])
    parser.add_argument("--depths", nargs="*", type=int, default=[], help="convolutions in each of the four stages")
    parser.add_argument("--epochs", type=int, help="of convolutional networks in the last two, where time is short")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    table = read_hops(arguments.data)
    known = split_by_name(table.hops, table.parts, 0.1, seed=arguments.seed)
    parts = Parts(with_returns(known["training"]), with_returns(known["validation"]), known["test"])
    for name, hops in known.items():
        print(f"{name}: {len(hops)} hops of {len(np.unique(hops.groups))} compositions")
    other = None if arguments.other is None else read_hops(arguments.other).hops
    compare(arguments.models, parts, other, arguments.seed)
    if arguments.sizes:
        learning_curve(arguments.size_models, arguments.sizes, known["training"], parts, arguments.seed)
    if arguments.shells:
        shells(arguments.shell_models, arguments.shells, parts, arguments.epochs, arguments.seed)
    if arguments.depths:
        depths(arguments.depths, parts, arguments.epochs, arguments.seed)


def compare(names: Sequence[str], parts: Parts, other: Hops | None, seed: int) -> None:
    """Errors of the models, those of each moving species, and what they cost."""
    elements = parts.test.elements
    judged = {"test": parts.test} if other is None else {"test": parts.test, "other": other}
    print("\n| model | hops | MAE (eV) | RMSE | R² | " + " | ".join(f"{e} moves" for e in elements), end="")
    print(" | within 1 σ | CPU-s | barriers per CPU-s |\n|" + " --- |" * (8 + len(elements)))
    means = {e: parts.train.barriers_ev[species_of(parts.train) == e].mean() for e in elements}
    for part, hops in judged.items():
        off = np.abs(hops.barriers_ev - [means[name] for name in species_of(hops)])
        by_species = [f"{off[species_of(hops) == e].mean():.4f}" for e in elements]
        print(f"| mean of the moving species | {part} | {off.mean():.4f} | | | {' | '.join(by_species)} | | | |")
    for name in names:
        label, settings = MODELS[name]
        start = time.process_time()
        model = fit(settings, parts, seed)
        cpu_s = time.process_time() - start
        for part, hops in judged.items():
            row, rate = _row(model, hops, elements), _rate(model, hops.crystals[-1])
            print(f"| {label} | {part} | {row} | {cpu_s:.0f} | {rate:.0f} |", flush=True)


def learning_curve(names: Sequence[str], sizes: Sequence[int], known: Hops, parts: Parts, seed: int) -> None:
    """Errors for fewer hops, drawn at random from all compositions to learn from."""
    print("\n| hops learnt from | " + " | ".join(MODELS[name][0] for name in names) + " |")
    print("| --- |" + " --- |" * len(names))
    order = np.random.default_rng(seed).permutation(len(known))
    for size in [s for s in sizes if s < len(known)]:
        some = Parts(with_returns(known.take(np.sort(order[:size]))), parts.validation, parts.test)
        errors = [_mae(fit(_longer(MODELS[name][1], len(known) / size), some, seed), parts.test) for name in names]
        print(f"| {size} | " + " | ".join(f"{error:.4f}" for error in errors) + " |", flush=True)


def shells(names: Sequence[str], counts: Sequence[int], parts: Parts, epochs: int | None, seed: int) -> None:
    """Errors with fewer and more neighbour shells (Fan, Xing and Cao 2022, Fig. 2)."""
    print("\n| shells | " + " | ".join(MODELS[name][0] for name in names) + " |\n| --- |" + " --- |" * len(names))
    for n_shells in counts:
        errors = []
        for name in names:
            settings = MODELS[name][1]
            if "maps" in settings:
                settings = _with_epochs({**settings, "maps": {**settings["maps"], "n_shells": n_shells}}, epochs)
            else:
                settings = {**settings, "n_shells": n_shells}
            errors.append(_mae(fit(settings, parts, seed), parts.test))
        print(f"| {n_shells} | " + " | ".join(f"{error:.4f}" for error in errors) + " |", flush=True)


def depths(counts: Sequence[int], parts: Parts, epochs: int | None, seed: int) -> None:
    """Errors of deeper and shallower convolutional networks."""
    print("\n| convolutions | test MAE (eV) |\n| --- | --- |")
    for count in counts:
        settings = _with_epochs({**CNN, "layers_per_stage": count}, epochs)
        print(f"| {4 * count} | {_mae(fit(settings, parts, seed), parts.test):.4f} |", flush=True)


def fit(settings: dict[str, Any], parts: Parts, seed: int) -> BarrierModel:
    """The fitted model of some settings."""
    trainer = TypeAdapter(BarrierSettings).validate_python(settings)
    return trainer.fit(parts.train, parts.validation, elements=parts.test.elements, seed=seed)


def _with_epochs(settings: dict[str, Any], epochs: int | None) -> dict[str, Any]:
    """Networks that learn for so many epochs, or as they were."""
    return settings if epochs is None else {**settings, "training": {**settings["training"], "max_epochs": epochs}}


def _longer(settings: dict[str, Any], factor: float) -> dict[str, Any]:
    """Networks learn for as many steps from fewer hops."""
    if "training" not in settings:
        return settings
    return _with_epochs(settings, round(settings["training"]["max_epochs"] * factor))


def _mae(model: BarrierModel, hops: Hops) -> float:
    return hop_errors(model.predict(hops), hops).mae


def _row(model: BarrierModel, hops: Hops, elements: Sequence[str]) -> str:
    found = model.predict(hops)
    whole, by_species = hop_errors(found, hops), hop_errors_by_species(found, hops)
    species = " | ".join(f"{by_species[name].mae:.4f}" if name in by_species else "" for name in elements)
    return f"{whole.mae:.4f} | {whole.rmse:.4f} | {whole.r2:.4f} | {species} | {whole.coverage_68:.0%}"


def _rate(model: BarrierModel, crystal: Atoms) -> float:
    """Barriers predicted in a CPU second: all hops of a crystal, whose surroundings are looked up anew."""
    start = time.process_time()
    n_hops = len(model.predict(all_hops([crystal])).mean_ev)
    return n_hops / (time.process_time() - start)


if __name__ == "__main__":
    main()
