"""How well do models of migration barriers do on alloys they have not seen?

All models learn from the same hops of a table, with whole compositions held out, and are judged on these; then the
same for fewer hops, and for ridge regression with more and fewer neighbour shells. Without --data a table is made:
random BCC Ta-Nb-Mo of 128 atoms on a grid of compositions, ZJW04 EAM at zero pressure, each vacancy relaxed, each hop's
moving atom held on the middle plane of the hop while everything relaxes: not NEB barriers, but energies of relaxed
constrained states, which depend on the surroundings as barriers do and cost some 20 force evaluations each.

    python benchmarks/barrier_models.py
    python benchmarks/barrier_models.py --data barriers.csv --models ridge lattice --sizes 1000 5000
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from alloysmith.loop.barrier_fitting import hop_errors, hop_errors_by_species, species_of, split_hops
from alloysmith.oracles.lammps_engine import LammpsEngine
from alloysmith.oracles.potentials import FilesPotentialSettings
from alloysmith.surrogates.barriers.hop_file import read_hops
from alloysmith.surrogates.barriers.hops import Hops, all_hops
from alloysmith.surrogates.barriers.settings import BarrierSettings
from alloysmith.surrogates.eam.settings import EamSettings
from alloysmith.surrogates.eam.table_file import write_table
from ase import Atoms
from ase.build import bulk
from ase.io import write
from pydantic import TypeAdapter

ELEMENTS = ("Ta", "Nb", "Mo")
LATTICE_CONSTANTS = np.array([3.303, 3.301, 3.150])
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "ridge": ("ridge, counts", {"kind": "ridge"}),
    "ridge-plain": ("ridge, counts, one slope for all", {"kind": "ridge", "per_moving_species": False}),
    "ridge-sites": (
        "linear, one-hot sites (paper's)",
        {"kind": "ridge", "features": "sites", "per_moving_species": False},
    ),
    "pairs": ("ridge, counts and pairs", {"kind": "ridge", "features": "pairs"}),
    "trees": ("boosted trees, counts", {"kind": "trees"}),
    "best": (
        "boosted trees on ridge of pairs (`fit/barriers`)",
        {"kind": "trees", "max_trees": 300, "learning_rate": 0.06, "base": {"kind": "ridge", "features": "pairs"}},
    ),
    "dense": ("2 × 10 network, one-hot sites (paper's)", {"kind": "dense", "training": {"max_epochs": 60}}),
    "cnn": (
        "CNN, 4 layers of 16, 16³ voxels",
        {
            "kind": "cnn",
            "maps": {"n_shells": 5, "n_voxels": 16},
            "filters": 16,
            "training": {"learning_rate": 3e-3, "schedule": "cosine", "max_epochs": 9, "batch_size": 32},
        },
    ),
    "lattice": (
        "lattice network on ridge of pairs",
        {
            "kind": "lattice",
            "n_members": 1,
            "training": {"optimizer": "adam", "schedule": "cosine", "learning_rate": 5e-3, "max_epochs": 12},
        },
    ),
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="table of hops")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--sizes", nargs="*", type=int, default=[500, 1000, 2000, 4000], help="hops to learn from")
    parser.add_argument("--size-models", nargs="*", choices=list(MODELS), default=["ridge", "pairs", "trees", "best"])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = arguments.data or make_table(Path(folder), n_compositions=24, n_vacancies=40, seed=0)
        hops = read_hops(table).hops
    parts = split_hops(hops, "composition", {"test": 0.15, "validation": 0.1}, seed=arguments.seed)
    train, validation, test = (parts[name] for name in ("training", "validation", "test"))
    sizes = ", ".join(f"{name} {len(part)} hops of {len(np.unique(part.groups))}" for name, part in parts.items())
    print(f"{len(hops)} hops; {sizes} compositions\n")
    print("| model | test MAE (eV) | RMSE | R² | " + " | ".join(test.elements) + " moves | within 1 σ | CPU-s |")
    print("|" + " --- |" * (6 + len(test.elements)))
    spread = np.abs(test.barriers_ev - train.barriers_ev.mean()).mean()
    print(f"| mean | {spread:.4f} | | | {' | '.join(_species_spreads(train, test))} | | |")
    for name in arguments.models:
        label, settings = MODELS[name]
        print(f"| {label} | {_row(settings, train, validation, test, arguments)} |", flush=True)
    if arguments.sizes:
        print("\n| hops learnt from | " + " | ".join(MODELS[name][0] for name in arguments.size_models) + " |")
        print("| --- |" + " --- |" * len(arguments.size_models))
    order = np.random.default_rng(arguments.seed).permutation(len(train))
    for size in [s for s in arguments.sizes if s < len(train)]:
        some = train.take(np.sort(order[:size]))
        errors = [_fit(MODELS[n][1], some, validation, test, arguments)[0].mae for n in arguments.size_models]
        print(f"| {size} | " + " | ".join(f"{error:.4f}" for error in errors) + " |", flush=True)
    print("\n| shells | ridge, counts | ridge, counts and pairs |\n| --- | --- | --- |")
    for n_shells in range(1, 7):
        errors = [
            _fit({"kind": "ridge", "features": kind, "n_shells": n_shells}, train, validation, test, arguments)[0].mae
            for kind in ("counts", "pairs")
        ]
        print(f"| {n_shells} | {errors[0]:.4f} | {errors[1]:.4f} |", flush=True)


def _fit(
    settings: dict[str, Any], train: Hops, validation: Hops, test: Hops, arguments: argparse.Namespace
) -> tuple[Any, dict[str, Any], float]:
    """Errors on the test hops, those by species, and the CPU time of the fit."""
    trainer = TypeAdapter(BarrierSettings).validate_python(settings)
    start = time.process_time()
    model = trainer.fit(train, validation, elements=tuple(sorted(ELEMENTS)), seed=arguments.seed)
    cpu_s = time.process_time() - start
    found = model.predict(test)
    return hop_errors(found, test), hop_errors_by_species(found, test), cpu_s


def _row(settings: dict[str, Any], train: Hops, validation: Hops, test: Hops, arguments: argparse.Namespace) -> str:
    whole, by_species, cpu_s = _fit(settings, train, validation, test, arguments)
    species = [f"{by_species[name].mae:.4f}" if name in by_species else "" for name in test.elements]
    return (
        f"{whole.mae:.4f} | {whole.rmse:.4f} | {whole.r2:.4f} | {' | '.join(species)} | {whole.coverage_68:.0%} | "
        f"{cpu_s:.0f}"
    )


def _species_spreads(train: Hops, test: Hops) -> list[str]:
    """Error of answering with the mean of each moving species."""
    of_train, of_test = species_of(train), species_of(test)
    texts = []
    for name in test.elements:
        residual = test.barriers_ev[of_test == name] - train.barriers_ev[of_train == name].mean()
        texts.append(f"{np.abs(residual).mean():.4f}")
    return texts


def make_table(folder: Path, *, n_compositions: int, n_vacancies: int, seed: int) -> Path:
    """Energies of relaxed states on the middle planes of hops, above the relaxed vacancy, as a table of barriers."""
    potential = folder / "TaNbMo.eam.alloy"
    write_table(EamSettings(cutoff_ang=5.6).build(ELEMENTS), potential)
    settings = FilesPotentialSettings(
        pair_style="eam/alloy", pair_coeff=(f"* * {potential} {' '.join(ELEMENTS)}",), elements=ELEMENTS
    )
    rng = np.random.default_rng(seed)
    grid = np.array([(i, j, 12 - i - j) for i in range(13) for j in range(13 - i)]) / 12
    lines: list[tuple[str, int, int, float]] = []
    for k, fractions in enumerate(grid[rng.permutation(len(grid))[:n_compositions]]):
        crystal = _random_crystal(fractions, LammpsEngine(settings.load()), rng)
        write(folder / f"{k}.extxyz", crystal)
        engine = LammpsEngine(settings.load())
        for vacancy in rng.permutation(len(crystal))[:n_vacancies].tolist():
            lines += [(f"{k}.extxyz", vacancy, *hop) for hop in _barriers(crystal, vacancy, engine)]
        engine.close()
    with (folder / "barriers.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("structure", "vacancy_site", "neighbour", "barrier_ev"), *lines])
    return folder / "barriers.csv"


def _random_crystal(fractions: np.ndarray, engine: LammpsEngine, rng: np.random.Generator) -> Atoms:
    """A random solid solution whose ideal lattice is under no pressure."""
    atoms = bulk("Nb", "bcc", a=float(fractions @ LATTICE_CONSTANTS), cubic=True).repeat(4)
    counts = np.floor(fractions * len(atoms)).astype(int)
    counts[rng.permutation(3)[: len(atoms) - counts.sum()]] += 1
    atoms.symbols = rng.permutation(np.repeat(ELEMENTS, counts))
    scales, energies = np.array([0.99, 1.0, 1.01]), []
    for scale in scales:
        trial = atoms.copy()
        trial.set_cell(trial.cell * scale, scale_atoms=True)
        energies.append(engine.compute(trial).energy_ev)
    engine.close()
    curvature, slope, _ = np.polyfit(scales, energies, 2)
    atoms.set_cell(atoms.cell * (-slope / 2.0 / curvature), scale_atoms=True)
    return atoms


def _barriers(crystal: Atoms, vacancy: int, engine: LammpsEngine) -> list[tuple[int, float]]:
    """Neighbour and barrier of each hop into a vacancy."""
    broken = crystal.copy()
    del broken[vacancy]
    engine.load(broken)
    start, energy_ev = _relax(engine, broken.positions.copy(), crystal.cell.array)
    hops = all_hops([crystal])
    found = []
    for neighbour in hops.neighbour[hops.vacancy == vacancy].tolist():
        vector = crystal.get_distance(neighbour, vacancy, mic=True, vector=True)
        moving = neighbour - (neighbour > vacancy)
        positions = start.copy()
        positions[moving] = crystal.positions[neighbour] + 0.5 * vector
        held = (moving, vector / np.linalg.norm(vector))
        _, saddle_ev = _relax(engine, positions, crystal.cell.array, held)
        found.append((neighbour, round(saddle_ev - energy_ev, 6)))
    return found


def _relax(
    engine: LammpsEngine,
    positions: np.ndarray,
    cell: np.ndarray,
    held: tuple[int, np.ndarray] | None = None,
    max_force_ev_ang: float = 0.02,
) -> tuple[np.ndarray, float]:
    """FIRE (Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006)); an atom may be held on a plane."""
    velocity, step, mixing, n_downhill = np.zeros_like(positions), 0.1, 0.1, 0
    while True:
        found = engine.evaluate(positions, cell)
        forces = found.forces.copy()
        if held is not None:
            forces[held[0]] -= (forces[held[0]] @ held[1]) * held[1]
        if np.abs(forces).max() < max_force_ev_ang:
            return positions, found.energy_ev
        if (forces * velocity).sum() > 0.0:
            speed = np.linalg.norm(velocity) / np.linalg.norm(forces)
            velocity = (1.0 - mixing) * velocity + mixing * speed * forces
            n_downhill += 1
            if n_downhill > 5:
                step, mixing = min(1.1 * step, 0.5), 0.99 * mixing
        else:
            velocity[:] = 0.0
            step, mixing, n_downhill = 0.5 * step, 0.1, 0
        velocity += step * forces
        move = step * velocity
        positions = positions + move * min(1.0, 0.1 / max(np.abs(move).max(), 1e-12))


if __name__ == "__main__":
    main()
