"""What makes a deep potential of a metal alloy good within minutes on one CPU core?

Ways to train a deep potential on DFT frames of Nb-Mo-Ta-W (Li et al., npj Comput. Mater. 6, 70, 2020), each with the
same split and CPU time: DeePMD-kit itself where its environment is named, its loss and schedule here, other optimizers,
starts of the networks from the data, and least-squares solutions of the output layers. Test frames are like those of
the training; the last two columns are random quaternaries with atoms displaced by 0.1 and 0.2 Å, of which the data has
nothing: their labels are of the SNAP published with the data (itself 4 to 5 meV/atom and 0.13 eV/Å from DFT).

    python benchmarks/deeppot_training.py --data /path/to/data
    python benchmarks/deeppot_training.py --data /path/to/data --deepmd-python /path/to/its/bin/python --cpu-s 600
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from alloysmith.oracles.lammps_engine import LammpsEngine
from alloysmith.oracles.potentials import FilesPotentialSettings
from alloysmith.structures.deepmd_writer import DeepmdWriter
from alloysmith.surrogates.deeppot.settings import DeepPotSettings
from alloysmith.surrogates.potentials.base import PotentialSpec
from alloysmith.surrogates.potentials.data_settings import DataSettings, FrameFileSettings
from alloysmith.surrogates.potentials.frame import Frame
from alloysmith.surrogates.potentials.frame_split import split_frames
from alloysmith.surrogates.potentials.frames import load_frames
from alloysmith.surrogates.potentials.torch_potential import TorchPotential
from alloysmith.surrogates.potentials.training import train
from alloysmith.surrogates.potentials.training_settings import TrainingSettings
from ase.build import bulk

ELEMENTS = ("Nb", "Mo", "Ta", "W")
DISPLACEMENTS_ANG = (0.1, 0.2)
N_ALLOYS = 10

DEEPMD_NETS: dict[str, Any] = {
    "descriptor": {"neuron": [10, 20, 40], "axis_neuron": 6},
    "fitting_net": {"neuron": [60, 60, 60]},
}
DATA_NETS: dict[str, Any] = {
    "cutoff_ang": 5.5,
    "switch_ang": 3.0,
    "descriptor": {"start": "radial", "neuron": [16, 22], "axis_neuron": 14},
    "fitting_net": {"start": "principal", "start_spread": 1.0, "neuron": [200]},
}
RANDOM_NETS: dict[str, Any] = {
    **DATA_NETS,
    "descriptor": {"neuron": [16, 22], "axis_neuron": 14},
    "fitting_net": {"neuron": [200]},
}
PREFACTORS = {"kind": "squared", "start_energy": 0.02, "start_force": 1000, "start_virial": 0.01, "limit_virial": 0.1}
RMSE = {"kind": "rmse", "energy": 5.0, "force": 1.0, "virial": 0.3}
ADAM = {"kind": "adam", "learning_rate": 0.002, "batch_frames": 16}
SOLVE = {"kind": "least_squares", "ridge": 1e-4}


@dataclass(frozen=True)
class Way:
    """A potential and how it is trained; ``ms_per_frame`` turns CPU time into steps of a schedule."""

    potential: Mapping[str, Any]
    training: Mapping[str, Any]
    ms_per_frame: float | None = None


WAYS: Mapping[str, Way] = {
    "DeePMD-kit's networks, loss and schedule": Way(
        {"cutoff_ang": 6.0, "switch_ang": 4.0, **DEEPMD_NETS},
        {
            "loss": PREFACTORS,
            "optimizer": {"kind": "adam", "learning_rate": 0.003, "batch_frames": 4},
            "schedule": {"kind": "exponential", "final_factor": 1e-3},
        },
        9.0,
    ),
    "RMSE loss, batches of 16, cosine": Way(
        {"cutoff_ang": 6.0, "switch_ang": 4.0, **DEEPMD_NETS},
        {"loss": RMSE, "optimizer": ADAM, "schedule": {"kind": "cosine"}},
        6.5,
    ),
    "start from data, Adam": Way(DATA_NETS, {"loss": RMSE, "optimizer": ADAM, "schedule": {"kind": "cosine"}}, 4.0),
    "random start, least squares": Way(RANDOM_NETS, {"loss": RMSE, "optimizer": SOLVE}),
    "start from data, least squares": Way(DATA_NETS, {"loss": RMSE, "optimizer": SOLVE}),
    "the same, 400 hidden neurons": Way(
        {**DATA_NETS, "fitting_net": {**DATA_NETS["fitting_net"], "neuron": [400]}}, {"loss": RMSE, "optimizer": SOLVE}
    ),
}


@dataclass(frozen=True)
class Parts:
    """Frames to train with, to test, and those of alloys beyond the data, for each displacement."""

    train: Sequence[Frame]
    test: Sequence[Frame]
    alloys: Sequence[Sequence[Frame]]


def load(path: Path, n_frames: int | None) -> Sequence[Sequence[Frame]]:
    """Training and test frames, a tenth; the same ones each time."""
    settings = DataSettings(
        files=(FrameFileSettings(path=str(path.resolve())),), test_fraction=0.1, stratify_by_group=True
    )
    split = split_frames(load_frames(settings, ELEMENTS), settings, seed=0)
    order = np.random.default_rng(0).permutation(len(split.train))[:n_frames]
    return [split.train[k] for k in order], split.test


def snap_engine(folder: Path, scratch: Path) -> LammpsEngine:
    """The published SNAP, without the keyword that today's LAMMPS refuses."""
    lines = (folder / "Ta-W-Nb-Mo.snapparam").read_text().splitlines()
    (scratch / "snapparam").write_text("\n".join(line for line in lines if "diagonalstyle" not in line) + "\n")
    coeff = f"* * {folder / 'Ta-W-Nb-Mo.snapcoeff'} {scratch / 'snapparam'} Ta W Nb Mo"
    potential = FilesPotentialSettings(pair_style="snap", pair_coeff=(coeff,), elements=("Ta", "W", "Nb", "Mo")).load()
    return LammpsEngine(potential)


def zero_of(engine: LammpsEngine, frames: Sequence[Frame]) -> np.ndarray:
    """Energy per atom of each element, eV, by which SNAP's zero differs from the labels'."""
    shares = [[f.atoms.symbols.count(symbol) / len(f.atoms) for symbol in ELEMENTS] for f in frames]
    misses = [(f.energy_ev - engine.compute(f.atoms).energy_ev) / len(f.atoms) for f in frames]
    return np.linalg.lstsq(np.array(shares), np.array(misses), rcond=None)[0]


def alloys(engine: LammpsEngine, zero_ev: np.ndarray) -> list[list[Frame]]:
    """Random quaternaries with displaced atoms, labelled by SNAP."""
    rng = np.random.default_rng(1)
    found = []
    for displacement in DISPLACEMENTS_ANG:
        rows = []
        for _ in range(N_ALLOYS):
            atoms = bulk("W", "bcc", a=3.25, cubic=True).repeat(3)
            atoms.symbols[:] = rng.permutation(np.resize(ELEMENTS, len(atoms)))
            atoms.positions += rng.normal(scale=displacement, size=(len(atoms), 3))
            label = engine.compute(atoms)
            shift = sum(zero_ev[ELEMENTS.index(symbol)] for symbol in atoms.symbols)
            rows.append(Frame(atoms, label.energy_ev + shift, np.array(label.forces)))
        found.append(rows)
    return found


def errors(predicted: Sequence[tuple[float, np.ndarray]], frames: Sequence[Frame]) -> str:
    """Mean absolute errors of energy (meV/atom) and forces (eV/Å)."""
    energy = [abs(e - f.energy_ev) / len(f.atoms) for (e, _), f in zip(predicted, frames, strict=True)]
    known = [np.abs(p - f.forces).reshape(-1) for (_, p), f in zip(predicted, frames, strict=True)]
    return f"{1e3 * np.mean(energy):.1f} / {np.concatenate(known).mean():.3f}"


def row(name: str, cpu_s: float, parts: Parts, predict: Any) -> str:
    """A row of the table."""
    hot = [frame for frame in parts.test if np.abs(frame.forces).max() > 1.0]
    columns = [errors(predict(frames), frames) for frames in (parts.test, hot, *parts.alloys)]
    return f"| {name} | {cpu_s:.0f} | {' | '.join(columns)} |"


def ours(way: Way, parts: Parts, cpu_s: float) -> tuple[float, Any]:
    """Train here; the CPU time, and the function that predicts."""
    schedule: dict[str, Any] = {"max_cpu_s": cpu_s, "max_epochs": 10_000, "patience": None, "dtype": "float32"}
    if way.ms_per_frame is not None:
        n_steps = int(1e3 * cpu_s / way.ms_per_frame / way.training["optimizer"]["batch_frames"])
        schedule |= {"max_steps": n_steps, "validate_every": max(n_steps // 10, 1), "max_cpu_s": 1.5 * cpu_s}
    model = DeepPotSettings.model_validate(dict(way.potential)).build(ELEMENTS)
    settings = TrainingSettings.model_validate({**way.training, **schedule})
    result = train(model, parts.train, parts.train[:100], (), settings, seed=0)
    potential = TorchPotential(PotentialSpec("deeppot", ELEMENTS, model.cutoff_ang), model)

    def predict(frames: Sequence[Frame]) -> list[tuple[float, np.ndarray]]:
        found = potential.evaluate([frame.atoms for frame in frames])
        return [(label.energy_ev, label.forces) for label in found]

    return result.cpu_s, predict


def deepmd(python: Path, parts: Parts, cpu_s: float, folder: Path) -> tuple[float, Any]:
    """Train with DeePMD-kit for about so long; the CPU time, and the function that predicts.

    Raises:
        subprocess.CalledProcessError: DeePMD-kit fails.
    """
    with DeepmdWriter(folder / "data", ELEMENTS) as writer:
        for frame in parts.train:
            writer.add(frame.atoms, frame.energy_ev, frame.forces, frame.stress)
    systems = [str(path) for path in sorted((folder / "data").iterdir()) if path.is_dir()]

    def spend(n_steps: int) -> float:
        script = {
            "model": {
                "type_map": list(ELEMENTS),
                "descriptor": {
                    **DEEPMD_NETS["descriptor"],
                    "type": "se_e2_a",
                    "sel": "auto",
                    "rcut": 6.0,
                    "rcut_smth": 4.0,
                    "precision": "float32",
                },
                "fitting_net": {**DEEPMD_NETS["fitting_net"], "precision": "float32"},
            },
            "learning_rate": {"type": "exp", "start_lr": 0.003, "stop_lr": 3e-6, "decay_steps": max(n_steps // 200, 1)},
            "loss": {
                "start_pref_e": 0.02,
                "limit_pref_e": 1,
                "start_pref_f": 1000,
                "limit_pref_f": 1,
                "start_pref_v": 0.01,
                "limit_pref_v": 0.1,
            },
            "training": {
                "training_data": {"systems": systems, "batch_size": "auto:64"},
                "numb_steps": n_steps,
                "disp_freq": n_steps,
                "save_freq": n_steps,
                "seed": 0,
            },
        }
        (folder / "input.json").write_text(json.dumps(script))
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [python, "-m", "deepmd", "--pt", "train", "input.json"]
        subprocess.run(command, cwd=folder, env=_environment(), check=True, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    few, more = spend(20), spend(120)
    per_step = max((more - few) / 100, 1e-3)
    spent = spend(max(int((cpu_s - few) / per_step), 100))
    command = [python, "-m", "deepmd", "--pt", "freeze", "-o", "model.pth"]
    subprocess.run(command, cwd=folder, env=_environment(), check=True, capture_output=True, text=True)

    def predict(frames: Sequence[Frame]) -> list[tuple[float, np.ndarray]]:
        atoms = [frame.atoms for frame in frames]
        np.savez(
            folder / "ask.npz",
            sizes=[len(a) for a in atoms],
            positions=np.concatenate([a.positions for a in atoms]),
            cells=[a.cell.array for a in atoms],
            types=[ELEMENTS.index(symbol) for a in atoms for symbol in a.symbols],
        )
        peer = Path(__file__).with_name("deepmd_peer.py")
        command = [python, peer, "model.pth", "ask.npz", "answer.npz"]
        subprocess.run(command, cwd=folder, env=_environment(), check=True, capture_output=True, text=True)
        answer = np.load(folder / "answer.npz")
        ends = np.cumsum([len(a) for a in atoms])[:-1]
        return list(zip(answer["energy"].tolist(), np.split(answer["force"], ends), strict=True))

    return spent, predict


def _environment() -> dict[str, str]:
    threads = {"OMP_NUM_THREADS": "1", "DP_INTRA_OP_PARALLELISM_THREADS": "1", "DP_INTER_OP_PARALLELISM_THREADS": "1"}
    return {**os.environ, **threads, "CUDA_VISIBLE_DEVICES": ""}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with nbmotaw/NbMoTaW_train.extxyz.gz and potentials/snap")
    parser.add_argument("--frames", type=int, help="number of training frames (default all)")
    parser.add_argument("--cpu-s", type=float, default=300.0, help="CPU seconds of each training (default 300)")
    parser.add_argument("--deepmd-python", type=Path, help="Python of an environment with deepmd-kit 3")
    parser.add_argument("--ways", nargs="+", type=int, help="numbers of the rows, from 1 (default all; 0 is none)")
    args = parser.parse_args()
    path = None if args.data is None else args.data / "nbmotaw" / "NbMoTaW_train.extxyz.gz"
    if path is None or not path.is_file():
        print("skipped: needs DFT frames, --data FOLDER; see --help")
        return
    torch.set_num_threads(1)
    learnt, test = load(path, args.frames)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        engine = snap_engine(args.data.resolve() / "potentials" / "snap", folder)
        zero = zero_of(engine, test)
        parts = Parts(learnt, test, alloys(engine, zero))

        def snap(frames: Sequence[Frame]) -> list[tuple[float, np.ndarray]]:
            found = [(frame, engine.compute(frame.atoms)) for frame in frames]
            shifts = [sum(zero[ELEMENTS.index(symbol)] for symbol in frame.atoms.symbols) for frame in frames]
            return [(e.energy_ev + shift, e.forces) for (_, e), shift in zip(found, shifts, strict=True)]

        print("| way | CPU-s | test | test, forces above 1 eV/Å | quaternary, 0.1 Å | quaternary, 0.2 Å |")
        print("| --- | --- | --- | --- | --- | --- |")
        print(row("SNAP, published (saw the test frames)", 0.0, parts, snap), flush=True)
        engine.close()
        if args.deepmd_python is not None:
            spent, predict = deepmd(args.deepmd_python, parts, args.cpu_s, folder)
            print(row("deepmd-kit", spent, parts, predict), flush=True)
        for k, (way_name, way) in enumerate(WAYS.items(), 1):
            if args.ways is None or k in args.ways:
                spent, predict = ours(way, parts, args.cpu_s)
                print(row(way_name, spent, parts, predict), flush=True)


if __name__ == "__main__":
    main()
