"""How fast deep potentials are, beside DeePMD-kit: a step of training, what is learnt in it, and a step of MD.

Frames are cells of 108 atoms from melts of Al-Cu-Ni, run in LAMMPS with the EAM potential of Zhou, Johnson and Wadley
and labelled by it. Every figure is CPU time on one thread, of processes that are started as users start them: the
difference between a long and a short run, the median of several, so that start-up does not count, but the loading of
data and the search for neighbours do. Both programs have the same architectures, data, loss, schedule and batches.

DeePMD-kit needs an environment of its own (``pip install 'deepmd-kit[torch,lmp]==3.2.0' nvidia-cuda-runtime-cu12``; its
LAMMPS plugin wants ``libcudart.so.12`` on a CPU, too: name that package's ``nvidia/cuda_runtime/lib`` in
``LD_LIBRARY_PATH``):

    DEEPMD_PYTHON=/path/to/its/bin/python python benchmarks/deeppot_speed.py
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from alloysmith.oracles.md_settings import MdLimits, MdSettings
from alloysmith.oracles.molecular_dynamics import MolecularDynamics
from alloysmith.surrogates.deeppot.deepmd_file import write_deepmd
from alloysmith.surrogates.deeppot.model import DeepPotModel
from alloysmith.surrogates.deeppot.settings import DeepPotSettings
from alloysmith.surrogates.eam.settings import EamSettings
from alloysmith.surrogates.potentials.base import PotentialSpec
from alloysmith.surrogates.potentials.engine import PotentialEngine
from alloysmith.surrogates.potentials.frame import Frame
from alloysmith.surrogates.potentials.native import force_field_of
from alloysmith.surrogates.potentials.settings import load_potential, save_potential
from alloysmith.surrogates.potentials.torch_potential import TorchPotential
from alloysmith.surrogates.potentials.training import train
from alloysmith.surrogates.potentials.training_settings import TrainingSettings
from ase import Atoms
from ase.build import bulk
from ase.io import read, write

ELEMENTS = ("Al", "Cu", "Ni")
MODELS: Mapping[str, Mapping[str, Any]] = {
    "DP-8": {"descriptor": {"neuron": (10, 20), "axis_neuron": 4}, "fitting_net": {"neuron": (50, 50)}},
    "DP-2": {"descriptor": {"neuron": (25, 50, 100), "axis_neuron": 8}, "fitting_net": {"neuron": (240, 240, 240)}},
}
ENERGY, FORCE, VIRIAL = 0.2, 500.0, 0.1  # prefactors of the loss, from the first step to the last
RATE, LAST_RATE, DECAY_STEPS = 1e-3, 1e-5, 10
N_TRAIN, N_VALIDATION = 48, 16
SPACING_ANG, MELT_K, RUN_K = 3.9, 2000.0, 600.0


@dataclass(frozen=True)
class Cost:
    """CPU time (s) and peak memory (MiB) of a process."""

    cpu_s: float
    memory_mib: float


def alloy(n_repeats: int) -> Atoms:
    """A crystal of equal parts of the elements at random places, as the start of a melt."""
    atoms = bulk("Al", cubic=True, a=SPACING_ANG).repeat(n_repeats)
    kinds = np.arange(len(atoms)) % len(ELEMENTS)
    atoms.symbols[:] = np.array(ELEMENTS)[np.random.default_rng(0).permutation(kinds)]
    atoms.rattle(0.05, seed=0)
    return atoms


def melt_frames(n_frames: int) -> list[Frame]:
    """Labelled frames of one run; atoms are in the same order in all of them, as one system of DeePMD-kit needs."""
    teacher = TorchPotential(PotentialSpec("eam", ELEMENTS, 6.0), EamSettings(cutoff_ang=6.0).build(ELEMENTS))
    settings = MdSettings(temperature_k=MELT_K, n_steps=(n_frames + 40) * 50, stride=50)
    with force_field_of(teacher) as force_field:
        run = MolecularDynamics(force_field, settings).run(alloy(3))
    structures = [run.trajectory.atoms(k) for k in range(41, 41 + n_frames)]
    labels = teacher.evaluate(structures)
    pairs = zip(structures, labels, strict=True)
    return [Frame(atoms, label.energy_ev, label.forces, label.stress) for atoms, label in pairs]


def model_settings(name: str, *, is_normalized: bool) -> DeepPotSettings:
    """A model of either table; DeePMD-kit has no normalized descriptors."""
    parts = MODELS[name]
    fitting = {**parts["fitting_net"], "normalize_features": is_normalized}
    return DeepPotSettings.model_validate({"seed": 0, **parts, "fitting_net": fitting})


def our_settings(n_steps: int, validate_every: int, dtype: str, rate: float) -> TrainingSettings:
    """As :func:`deepmd_input`, where the first learning rate is the same."""
    return TrainingSettings.model_validate(
        {
            "loss": {
                "kind": "squared",
                **{f"{when}_energy": ENERGY for when in ("start", "limit")},
                **{f"{when}_force": FORCE for when in ("start", "limit")},
                **{f"{when}_virial": VIRIAL for when in ("start", "limit")},
            },
            "optimizer": {"kind": "adam", "learning_rate": rate, "batch_frames": 2},
            "schedule": {"kind": "exponential", "final_factor": LAST_RATE / rate, "every_steps": DECAY_STEPS},
            "max_epochs": 100_000,
            "max_steps": n_steps,
            "validate_every": validate_every,
            "patience": None,
            "dtype": dtype,
            "device": "cpu",
        }
    )


def deepmd_input(name: str, folder: Path, n_steps: int, validate_every: int, dtype: str) -> dict[str, Any]:
    """DeePMD-kit's input for the same training."""
    parts = MODELS[name]
    descriptor = {**parts["descriptor"], "type": "se_e2_a", "sel": "auto", "rcut": 6.0, "rcut_smth": 5.0}
    prefactors = {"e": ENERGY, "f": FORCE, "v": VIRIAL}
    return {
        "model": {
            "type_map": list(ELEMENTS),
            "descriptor": {**descriptor, "type_one_side": False, "precision": dtype},
            "fitting_net": {**parts["fitting_net"], "precision": dtype},
        },
        "learning_rate": {"type": "exp", "start_lr": RATE, "stop_lr": LAST_RATE, "decay_steps": DECAY_STEPS},
        "loss": {f"{when}_pref_{key}": value for key, value in prefactors.items() for when in ("start", "limit")},
        "training": {
            "training_data": {"systems": [str(folder / "train")], "batch_size": 2},
            "validation_data": {"systems": [str(folder / "validation")], "batch_size": N_VALIDATION, "numb_btch": 1},
            "numb_steps": n_steps,
            "disp_freq": validate_every,
            "save_freq": n_steps,
            "seed": 0,
        },
    }


def write_system(frames: Sequence[Frame], folder: Path) -> None:
    """As DeePMD-kit reads them (``deepmd/npy``); its virial is minus volume times stress."""
    (folder / "set.000").mkdir(parents=True, exist_ok=True)
    types = [ELEMENTS.index(symbol) for symbol in frames[0].atoms.symbols]
    (folder / "type.raw").write_text("\n".join(map(str, types)) + "\n")
    (folder / "type_map.raw").write_text("\n".join(ELEMENTS) + "\n")
    columns: dict[str, list[Any]] = {"coord": [], "box": [], "energy": [], "force": [], "virial": []}
    for frame in frames:
        if frame.forces is None or frame.stress is None:
            raise ValueError("the teacher labels everything")
        columns["coord"].append(frame.atoms.positions.reshape(-1))
        columns["box"].append(frame.atoms.cell.array.reshape(-1))
        columns["energy"].append([frame.energy_ev])
        columns["force"].append(frame.forces.reshape(-1))
        columns["virial"].append(-frame.atoms.get_volume() * frame.stress.reshape(-1))
    for column, rows in columns.items():
        np.save(folder / "set.000" / f"{column}.npy", np.array(rows))


def read_system(folder: Path) -> list[Frame]:
    """What :func:`write_system` wrote, for a child of ours."""
    symbols = [ELEMENTS[int(line)] for line in (folder / "type.raw").read_text().split()]
    columns = [np.load(folder / "set.000" / f"{name}.npy") for name in ("coord", "box", "energy", "force", "virial")]
    found = []
    for x, box, energy, forces, virial in zip(*columns, strict=True):
        atoms = Atoms(symbols, positions=x.reshape(-1, 3), cell=box.reshape(3, 3), pbc=True)
        stress = -virial.reshape(3, 3) / atoms.get_volume()
        found.append(Frame(atoms, float(energy[0]), forces.reshape(-1, 3), stress))
    return found


def cost_of(command: Sequence[object], folder: Path) -> Cost:
    """Run a process to its end.

    Raises:
        RuntimeError: it failed.
    """
    threads = {"OMP_NUM_THREADS": "1", "DP_INTRA_OP_PARALLELISM_THREADS": "1", "DP_INTER_OP_PARALLELISM_THREADS": "1"}
    environment = {**os.environ, **threads, "CUDA_VISIBLE_DEVICES": ""}
    words = [str(word) for word in command]
    launch = [sys.executable, "-I", "-S", "-c", _LAUNCHER, "cost.json", *words]
    with (folder / "log").open("w") as log:
        subprocess.run(launch, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, check=True)
    found = json.loads((folder / "cost.json").read_text())
    if found["status"] != 0:
        raise RuntimeError(f"{' '.join(words)} failed:\n{(folder / 'log').read_text()[-3000:]}")
    return Cost(found["cpu_s"], found["memory_kib"] / 1024)


_LAUNCHER = """
import json, os, sys
path, *command = sys.argv[1:]
_, status, usage = os.wait4(os.posix_spawnp(command[0], command, os.environ), 0)
cost = {"status": status, "cpu_s": usage.ru_utime + usage.ru_stime, "memory_kib": usage.ru_maxrss}
with open(path, "w") as file:
    json.dump(cost, file)
"""
"""Starts a process and waits for it. Linux counts the memory of the process that starts another as the other's, too:
so it is one of 10 MiB."""


def per_step(run: Callable[[int], Cost], n_steps: int, n_repeats: int) -> Cost:
    """Cost of a step, from runs of ``n_steps`` and of a fifth of them."""
    n_short = n_steps // 5
    found = [(run(n_short), run(n_steps)) for _ in range(n_repeats)]
    times = [(long.cpu_s - short.cpu_s) / (n_steps - n_short) for short, long in found]
    return Cost(statistics.median(times), max(long.memory_mib for _, long in found))


def ours(job: Mapping[str, Any], folder: Path) -> Cost:
    """Do a job of :func:`child` in a process of its own."""
    return cost_of([sys.executable, Path(__file__).resolve(), "--child", json.dumps(job)], folder)


def child(job: Mapping[str, Any]) -> None:
    """Train (``steps``), or run MD with a model (``start``)."""
    torch.set_num_threads(1)
    folder = Path(job["folder"])
    if "start" in job:
        limits = MdLimits(max_force_ev_ang=1e4, min_distance_ang=0.0, max_temperature_k=1e5)  # LAMMPS alone has none
        settings = MdSettings(
            ensemble="nve", temperature_k=RUN_K, n_steps=job["steps"], stride=job["steps"], limits=limits
        )
        run = MolecularDynamics(PotentialEngine(load_potential(folder / job["model"])), settings)
        stop = run.run(read(folder / job["start"])).stop
        if stop is not None:
            raise RuntimeError(stop.message)
        return
    frames, held_out = read_system(folder / "train"), read_system(folder / "validation")
    model = model_settings(job["name"], is_normalized=job["is_normalized"]).build(ELEMENTS)
    settings = our_settings(job["steps"], job["validate_every"], job["dtype"], job.get("rate", RATE))
    result = train(model, frames, held_out, (), settings, seed=0)
    if "model" in job:
        save_potential(TorchPotential(PotentialSpec("deeppot", ELEMENTS, 6.0), model), folder / job["model"])
        (folder / "history.json").write_text(json.dumps([dict(row) for row in result.history]))


def training_steps(
    names: Sequence[str], dtypes: Sequence[str], steps: int, python: Path, repeats: int, folder: Path
) -> None:
    """Print the table of training."""
    print("\n| model | precision | deepmd-kit, CPU-ms a step | ours | ratio | deepmd-kit, MiB | ours |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for name in names:
        n_steps = steps if name == "DP-8" else steps // 2
        for dtype in dtypes:

            def theirs(n: int, name: str = name, dtype: str = dtype) -> Cost:
                (folder / "input.json").write_text(json.dumps(deepmd_input(name, folder, n, n, dtype)))
                return cost_of([python, "-m", "deepmd", "--pt", "train", "input.json"], folder)

            def mine(n: int, name: str = name, dtype: str = dtype) -> Cost:
                job = {"name": name, "is_normalized": True, "steps": n, "validate_every": n, "dtype": dtype}
                return ours({"folder": str(folder), **job}, folder)

            a, b = per_step(theirs, n_steps, repeats), per_step(mine, n_steps, repeats)
            times = f"{1e3 * a.cpu_s:.0f} | {1e3 * b.cpu_s:.0f} | {a.cpu_s / b.cpu_s:.1f}"
            print(f"| {name} | {dtype} | {times} | {a.memory_mib:.0f} | {b.memory_mib:.0f} |", flush=True)


def learning_curves(name: str, n_steps: int, python: Path, folder: Path) -> None:
    """Print errors on held-out frames in the course of equal trainings from equal weights."""
    every = n_steps // 8
    start = model_settings(name, is_normalized=False).build(ELEMENTS)
    start.prepare(read_system(folder / "train"), seed=0)
    export(start, "start", python, folder)
    (folder / "input.json").write_text(json.dumps(deepmd_input(name, folder, n_steps, every, "float64")))
    cost_of([python, "-m", "deepmd", "--pt", "train", "--init-frz-model", "start.pth", "input.json"], folder)
    rows = np.atleast_1d(np.genfromtxt(folder / "lcurve.out", names=True))
    theirs = {int(row["step"]): (1e3 * row["rmse_e_val"], row["rmse_f_val"]) for row in rows}
    curves = {"deepmd-kit": theirs}
    for title, is_normalized in (("ours, equal start", False), ("ours, as it is by default", True)):
        job = {"name": name, "is_normalized": is_normalized, "steps": n_steps, "validate_every": every}
        ours({"folder": str(folder), **job, "dtype": "float64", "model": f"{name}.safetensors"}, folder)
        history = json.loads((folder / "history.json").read_text())
        curves[title] = {
            int(row["step"]): (row["validation_energy_rmse_mev"], row["validation_force_rmse"]) for row in history
        }
    print(f"\n{name}: RMSE of energies (meV/atom) and forces (eV/Å) of held-out frames\n")
    print(f"| step | {' | '.join(curves)} |\n| --- | {' | '.join('---' for _ in curves)} |")
    for step in range(every, n_steps + 1, every):
        cells = ["{:.1f}, {:.3f}".format(*curve[step]) if step in curve else "" for curve in curves.values()]
        print(f"| {step} | {' | '.join(cells)} |", flush=True)


def export(model: DeepPotModel, stem: str, python: Path, folder: Path) -> None:
    """Give a model to DeePMD-kit as ``stem.pth``."""
    write_deepmd(model, folder / f"{stem}.yaml")
    cost_of([python, "-m", "deepmd", "convert-backend", f"{stem}.yaml", f"{stem}.pth"], folder)


def dynamics(names: Sequence[str], sizes: Sequence[int], steps: int, python: Path, repeats: int, folder: Path) -> None:
    """Print the table of MD; the model of each name has been trained, so that its forces hold the melt together."""
    print("\n| model | atoms | pair_style deepmd, µs an atom and step | compressed | ours | MiB | MiB | MiB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for name in names:
        potential = load_potential(folder / f"{name}.safetensors")
        if not isinstance(potential, TorchPotential) or not isinstance(potential.model, DeepPotModel):
            raise TypeError(f"{name} is no deep potential")
        potential.evaluate([alloy(4)])  # compiles what the disk keeps for the runs below
        export(potential.model, name, python, folder)
        script = deepmd_input(name, folder, 1, 1, "float64")
        (folder / "input.json").write_text(json.dumps(script))
        compress = ["compress", "-i", f"{name}.pth", "-o", f"{name}-compressed.pth", "-t", "input.json"]
        cost_of([python, "-m", "deepmd", "--pt", *compress], folder)
        for size in sizes:
            atoms = alloy(round((size / 4) ** (1 / 3)))
            n_steps = max(steps * 256 // len(atoms), 5)
            write(folder / "start.data", atoms, format="lammps-data", specorder=list(ELEMENTS), masses=True)
            write(folder / "start.xyz", atoms, format="extxyz")
            found = []
            for model in (f"{name}.pth", f"{name}-compressed.pth"):

                def theirs(n: int, model: str = model) -> Cost:
                    (folder / "in.lammps").write_text(_LAMMPS.format(model=model, steps=n, temperature=RUN_K))
                    return cost_of([python.parent / "lmp", "-in", "in.lammps"], folder)

                found.append(per_step(theirs, n_steps, repeats))
            job = {"folder": str(folder), "model": f"{name}.safetensors", "start": "start.xyz"}
            found.append(per_step(lambda n, job=job: ours({**job, "steps": n}, folder), 10 * n_steps, repeats))
            times = [f"{1e6 * cost.cpu_s / len(atoms):.0f}" for cost in found]
            memory = [f"{cost.memory_mib:.0f}" for cost in found]
            print(f"| {name} | {len(atoms)} | {' | '.join(times)} | {' | '.join(memory)} |", flush=True)


_LAMMPS = """units metal
atom_style atomic
read_data start.data
pair_style deepmd {model}
pair_coeff * * Al Cu Ni
neighbor 0.5 bin
neigh_modify every 1 delay 0 check yes
velocity all create {temperature} 1
timestep 0.001
fix 1 all nve
thermo 1000000
run {steps}
"""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("DEEPMD_PYTHON")
    parser.add_argument("--deepmd-python", type=Path, default=default, help="default: the variable DEEPMD_PYTHON")
    parser.add_argument("--parts", nargs="+", choices=["steps", "curves", "md"], default=["steps", "curves", "md"])
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--dtypes", nargs="+", choices=["float64", "float32"], default=["float64", "float32"])
    parser.add_argument("--repeats", type=int, default=3, help="each figure is the median of so many (default 3)")
    parser.add_argument("--curve-steps", type=int, default=400, help="steps of the learning curves (default 400)")
    parser.add_argument("--steps", type=int, default=100, help="of a training of DP-8, half as many of DP-2")
    parser.add_argument(
        "--md-steps", type=int, default=30, help="of 256 atoms with DeePMD-kit; ours makes ten times more"
    )
    parser.add_argument("--sizes", nargs="+", type=int, default=[256, 2048], help="atoms of the runs of MD")
    parser.add_argument("--folder", type=Path, help="keeps frames and models for the next time")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(json.loads(args.child))
        return
    if args.deepmd_python is None:
        print("skipped: needs an environment with deepmd-kit, --deepmd-python PATH; see --help")
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = (args.folder or Path(scratch)).absolute()
        if not (folder / "validation").exists():
            frames = melt_frames(N_TRAIN + N_VALIDATION)
            write_system(frames[:N_TRAIN], folder / "train")
            write_system(frames[N_TRAIN:], folder / "validation")
        python = args.deepmd_python.absolute()
        if "md" in args.parts:
            for name in args.models:
                if (folder / f"{name}.safetensors").exists():
                    continue
                job = {"name": name, "is_normalized": True, "steps": 400, "validate_every": 400, "dtype": "float32"}
                ours({"folder": str(folder), **job, "rate": 5e-3, "model": f"{name}.safetensors"}, folder)
            dynamics(args.models, args.sizes, args.md_steps, python, args.repeats, folder)
        if "steps" in args.parts:
            training_steps(args.models, args.dtypes, args.steps, python, args.repeats, folder)
        if "curves" in args.parts and "DP-8" in args.models:
            learning_curves("DP-8", args.curve_steps, python, folder)


if __name__ == "__main__":
    main()
