"""How fast, and in how much memory, are barrier spectra predicted, and do they agree with labelled ones?

Models learn from a table of barriers by elastic bands, with the alloys marked `test` (or whole compositions) held out.
Then: barriers per CPU second of each kind of model on one core, beside the CPU time of a band in the same table; time
and largest memory of a process that predicts all hops, both ways, of samples of growing size; and mean and spread of
each moving species in each held-out alloy against the labelled barriers.

    alloysmith alloys alloys/ta_nb_mo -o alloys.extxyz
    alloysmith barriers oracles/vacancy_migration alloys.extxyz -o barriers.csv --hops 60
    python benchmarks/barrier_spectra.py --data barriers.csv

Without --data a small table is made first: 20 hops of each of 12 alloys, a CPU minute.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from alloysmith.loop.barrier_fitting import species_of, split_hops
from alloysmith.loop.cli.app import run_command_line
from alloysmith.surrogates.barriers.base import BarrierModel
from alloysmith.surrogates.barriers.hop_file import read_hops
from alloysmith.surrogates.barriers.hops import Hops, all_hops
from alloysmith.surrogates.barriers.settings import BarrierSettings, barrier_model_from_state
from alloysmith.surrogates.barriers.spectra import SpectraOptions, barrier_spectra
from alloysmith.surrogates.model_file import load_state, save_state
from ase import Atoms
from ase.build import bulk
from pydantic import TypeAdapter

PAIRS = {"kind": "ridge", "features": "pairs"}
FAST_TRAINING = {"optimizer": "adam", "schedule": "cosine", "max_epochs": 1}
MODELS: dict[str, tuple[str, dict[str, Any], int]] = {
    "ridge": ("ridge, counts and pairs", PAIRS, 4000),
    "trees": (
        "boosted trees on ridge of pairs (`fit/barriers`)",
        {"kind": "trees", "max_trees": 600, "learning_rate": 0.05, "base": PAIRS},
        4000,
    ),
    "dense": ("2 × 10 network, one-hot sites", {"kind": "dense", "training": FAST_TRAINING}, 4000),
    "lattice": ("4 lattice networks on ridge of pairs", {"kind": "lattice", "training": FAST_TRAINING}, 250),
    "cnn": (
        "CNN, 4 layers of 16 filters, 16³ voxels",
        {"kind": "cnn", "maps": {"n_shells": 5, "n_voxels": 16}, "filters": 16, "training": FAST_TRAINING},
        60,
    ),
}
"""What it is called, its settings, and the sites whose hops are timed; networks are hardly trained, which their speed
does not depend on."""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="table of barriers")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--repeats", nargs="*", type=int, default=[10, 40, 80], help="cubic cells along an edge")
    parser.add_argument("--measure", nargs=2, metavar=("MODEL", "REPEAT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    if arguments.measure:
        _measure(Path(arguments.measure[0]), int(arguments.measure[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data or _made(Path(folder))
        hops = read_hops(data).hops
        parts = _parts(hops, data)
        print(f"{len(parts['training'])} hops to learn from, {len(parts['test'])} to test on\n", flush=True)
        _print_speeds(arguments.models, parts, _band_cpu_s(data))
        model = _fit(MODELS["trees"][1], parts)
        path = Path(folder) / "trees.safetensors"
        save_state(model.state(), path)
        _print_sizes(path, arguments.repeats)
        _print_agreement(model, parts["test"])


def _made(folder: Path) -> Path:
    """A small table of barriers."""
    alloys, table = folder / "alloys.extxyz", folder / "barriers.csv"
    few = ("--set", "n_train=9", "--set", "n_test=3", "--set", "cell.repeat=[4,4,4]")
    hops = ("--hops", "20", "--executor", "in_process")
    for command in (
        ("alloys", "alloys/ta_nb_mo", "-o", str(alloys), *few),
        ("barriers", "oracles/vacancy_migration", str(alloys), "-o", str(table), *hops),
    ):
        if run_command_line(command) not in (0, 3):
            sys.exit("the table could not be made")
    return table


def _parts(hops: Hops, data: Path) -> dict[str, Hops]:
    """Hops to learn from, to validate with and to test on; the table's own test alloys where it names some."""
    with data.open() as file:
        rows = list(csv.DictReader(file))
    split = np.array([rows[row - 1].get("split", "") for row in hops.rows.tolist()])
    is_test = split == "test"
    if not is_test.any():
        return split_hops(hops, "composition", {"test": 0.15, "validation": 0.1}, seed=0)
    return {**split_hops(hops.take(~is_test), "composition", {"validation": 0.1}, seed=0), "test": hops.take(is_test)}


def _band_cpu_s(data: Path) -> float:
    """Mean CPU time of the table's elastic bands; NaN if it does not tell."""
    with data.open() as file:
        times = [float(row["cpu_s"]) for row in csv.DictReader(file) if row.get("cpu_s")]
    return float(np.mean(times)) if times else float("nan")


def _fit(settings: dict[str, Any], parts: dict[str, Hops]) -> BarrierModel:
    trainer = TypeAdapter(BarrierSettings).validate_python(settings)
    train, validation = parts["training"], parts["validation"]
    model: BarrierModel = trainer.fit(train, validation, elements=parts["test"].elements, seed=0)
    return model


def _alloy(repeat: int) -> Atoms:
    atoms = bulk("Nb", "bcc", a=3.25, cubic=True).repeat(repeat)
    atoms.symbols = np.random.default_rng(0).choice(["Ta", "Nb", "Mo"], size=len(atoms))
    return atoms


def _print_speeds(names: list[str], parts: dict[str, Hops], band_cpu_s: float) -> None:
    print(f"CPU time of an elastic band in the table, whose hop has two barriers: {band_cpu_s:.3f} s\n")
    print("| model | CPU-µs a barrier | barriers per CPU second | against a band, per barrier |")
    print("| --- | --- | --- | --- |")
    for name in names:
        title, settings, n_sites = MODELS[name]
        model = _fit(settings, parts)
        hops = all_hops([_alloy(14)])
        sites = np.random.default_rng(0).choice(hops.vacancy.max() + 1, size=n_sites, replace=False)
        chosen = hops.take(np.isin(hops.vacancy, sites))
        model.predict(chosen.take(np.arange(100)))  # compiles
        times = []
        for _ in range(3):
            start = time.process_time()
            model.predict(chosen)
            times.append((time.process_time() - start) / len(chosen))
        factor = 0.5 * band_cpu_s / min(times)
        print(f"| {title} | {1e6 * min(times):.1f} | {1.0 / min(times):,.0f} | {factor:,.0f} |", flush=True)


def _print_sizes(model: Path, repeats: list[int]) -> None:
    print("\n| atoms | barriers, both ways | CPU-s in all | of these for the lattice | largest memory (MiB) |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    for repeat in repeats:
        command = [sys.executable, __file__, "--measure", str(model), str(repeat)]
        print(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip(), flush=True)


def _measure(path: Path, repeat: int) -> None:
    """Predict one sample in this process, and print a row."""
    model = barrier_model_from_state(load_state(path))
    atoms = _alloy(repeat)
    barrier_spectra(model, _alloy(3))  # compiles
    start = time.process_time()
    first: list[float] = []
    found = barrier_spectra(
        model, atoms, SpectraOptions(), lambda block: first.append(time.process_time()) if not first else None
    )
    total = time.process_time() - start
    n_hops = sum(s.n_hops for by_species in found.values() for s in by_species.values())
    n_blocks = -(-len(atoms) // SpectraOptions().block_sites)
    lattice_s = max(0.0, first[0] - start - (total - (first[0] - start)) / max(n_blocks - 1, 1)) if n_blocks > 1 else 0
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"| {len(atoms):,} | {n_hops:,} | {total:.1f} | {lattice_s:.1f} | {memory:,.0f} |")


def _print_agreement(model: BarrierModel, test: Hops) -> None:
    """Means and spreads of each moving species in each held-out alloy, predicted and labelled."""
    predicted = model.predict(test).mean_ev
    species = species_of(test)
    differences: dict[str, list[float]] = {}
    n_groups = 0
    for k, members in test.by_crystal():
        spectra = barrier_spectra(model, test.crystals[k], SpectraOptions(both_ways=False))["forward"]
        for name in sorted(set(species[members].tolist())):
            of_it = members[species[members] == name]
            if len(of_it) < 5:
                continue
            n_groups += 1
            labelled, same = test.barriers_ev[of_it], predicted[of_it]
            whole = spectra[name]
            for what, value in (
                ("mean, the same hops", same.mean() - labelled.mean()),
                ("mean, all hops of the alloy", whole.mean_ev - labelled.mean()),
                ("what so few labelled hops make of a mean", labelled.std() / np.sqrt(len(of_it) - 1) * 0.8),
                ("spread, the same hops", same.std() - labelled.std()),
                ("spread, all hops of the alloy", whole.std_ev - labelled.std()),
            ):
                differences.setdefault(what, []).append(abs(float(value)))
    print(f"\n{n_groups} spectra of held-out alloys (one for each moving species) against labelled barriers\n")
    print("| figure of a spectrum | mean absolute difference (eV) |\n| --- | --- |")
    for what, values in differences.items():
        print(f"| {what} | {np.mean(values):.4f} |")


if __name__ == "__main__":
    main()
