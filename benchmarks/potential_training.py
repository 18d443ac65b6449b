"""How long does it take to train an EAM potential, and how good does it get, with each optimizer?

The frames of one element (extended XYZ with energies, forces and stresses) are split at random: a test part of the size
of that in "Machine learning enhanced empirical potentials for metals and alloys" (Comput. Phys. Commun. 2021), a tenth
for validation, the rest for training. Each optimizer starts from the published ZJW04 parameters and gets the same CPU
time. The second column is the CPU time until the test errors are below the paper's ML-EAM in energy and force at once.
Labels are shifted by a constant energy per atom, so that the lowest one is minus ZJW04's cohesive energy. The published
Ni and Mo data sets (Zuo et al., J. Phys. Chem. A 124, 731, 2020) are at https://github.com/materialsvirtuallab/mlearn.

    python benchmarks/potential_training.py --data Ni.extxyz.gz --element Ni
    python benchmarks/potential_training.py --data Mo.extxyz.gz --element Mo --models eam spline spline-adp
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from alloysmith.surrogates.base import Metrics
from alloysmith.surrogates.eam.settings import EamSettings
from alloysmith.surrogates.potentials.data_settings import DataSettings, FrameFileSettings
from alloysmith.surrogates.potentials.energy_reference import without_reference
from alloysmith.surrogates.potentials.error_table import evaluate_errors
from alloysmith.surrogates.potentials.frame import Frame
from alloysmith.surrogates.potentials.frame_split import split_frames
from alloysmith.surrogates.potentials.frames import load_frames
from alloysmith.surrogates.potentials.training import train
from alloysmith.surrogates.potentials.training_settings import TrainingSettings

COHESIVE_EV = {"Ni": 4.45, "Mo": 6.81}
PAPER = {"Ni": (4.1, 0.05), "Mo": (23.8, 0.26)}  # ML-EAM, test: meV/atom, eV/Å
MODELS: Mapping[str, Mapping[str, Any]] = {
    "eam": {},
    "adp": {"angular": True},
    "spline": {"functions": "spline", "embedding": "spline"},
    "spline-adp": {"functions": "spline", "embedding": "spline", "angular": True},
}
OPTIMIZERS: Mapping[str, Mapping[str, Any]] = {
    "gauss_newton": {"optimizer": {"kind": "gauss_newton"}},
    "lbfgs": {"optimizer": {"kind": "lbfgs"}},
    # the paper's: learning rate 0.01, batches of 25
    "adam": {"optimizer": {"kind": "adam", "learning_rate": 0.01, "batch_frames": 25}},
    # the same, and the learning rate goes down over 60 epochs
    "adam-cosine": {
        "optimizer": {"kind": "adam", "learning_rate": 0.01, "batch_frames": 25},
        "schedule": {"kind": "cosine"},
        "max_epochs": 60,
    },
}


@dataclass(frozen=True)
class Parts:
    """Frames to train with, to validate and to test."""

    train: Sequence[Frame]
    validation: Sequence[Frame]
    test: Sequence[Frame]


def load(path: Path, element: str, test_share: float, seed: int) -> Parts:
    """Read, shift and split the frames."""
    settings = DataSettings(
        files=(FrameFileSettings(path=str(path.resolve())),), test_fraction=test_share, validation_fraction=0.1
    )
    split = split_frames(load_frames(settings, (element,)), settings, seed=seed)
    lowest = min(frame.energy_ev / len(frame.atoms) for frame in split.train)
    shift = {element: lowest + COHESIVE_EV[element]}
    return Parts(*(without_reference(part, shift) for part in (split.train, split.validation, split.test)))


def compare(parts: Parts, element: str, name: str, optimizer: str, cpu_s: float, energy_weight: float) -> str:
    """Train once; a row of the table."""
    model = EamSettings.model_validate(MODELS[name]).build((element,))
    reached: list[float] = []
    wanted_mev, wanted_force = PAPER[element]

    def report(step: int, metrics: Metrics) -> bool:
        errors = evaluate_errors(model, parts.test).overall
        if not reached and errors.energy_mae_mev <= wanted_mev and errors.force_mae <= wanted_force:
            reached.append(metrics["cpu_s"])
        return True

    settings = TrainingSettings.model_validate(
        {
            "loss": {"kind": "rmse", "energy": energy_weight},
            "max_cpu_s": cpu_s,
            "max_epochs": 100_000,
            "patience": None,
            **OPTIMIZERS[optimizer],
        }
    )
    result = train(model, parts.train, parts.validation, (), settings, seed=0, report=report)
    errors = evaluate_errors(model, parts.test).overall
    n = sum(tensor.numel() for tensor in model.parameters() if tensor.requires_grad)
    cells = [
        f"{name} ({n} parameters)",
        optimizer,
        f"{reached[0]:.0f}" if reached else "-",
        f"{errors.energy_mae_mev:.2f}",
        f"{errors.force_mae:.4f}",
        f"{errors.stress_mae_gpa:.2f}",
        f"{result.n_steps}",
        f"{result.cpu_s:.0f}",
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table; each run in a process of its own, for its memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="extended XYZ file of one element, may be .gz")
    parser.add_argument("--element", choices=sorted(PAPER), default="Ni")
    parser.add_argument("--models", nargs="+", choices=sorted(MODELS), default=["eam", "spline"])
    parser.add_argument("--optimizers", nargs="+", choices=list(OPTIMIZERS), default=list(OPTIMIZERS))
    parser.add_argument("--cpu-s", type=float, default=60.0, help="CPU seconds of each training (default 60)")
    parser.add_argument("--energy-weight", type=float, default=10.0, help="weight of the energy per atom (default 10)")
    parser.add_argument("--test-share", type=float, default=0.13, help="share of test frames (default 0.13)")
    parser.add_argument("--seed", type=int, default=0, help="of the split (default 0)")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.data is None:
        print("skipped: needs labelled frames, --data FILE --element Ni; see --help for the published sets")
        return
    if args.one:
        torch.set_num_threads(1)
        parts = load(args.data, args.element, args.test_share, args.seed)
        row = compare(parts, args.element, args.models[0], args.optimizers[0], args.cpu_s, args.energy_weight)
        print(row, flush=True)
        return
    head = ["model", "optimizer", "CPU-s to the paper's errors", "E MAE (meV/atom)", "F MAE (eV/Å)", "stress MAE (GPa)"]
    head += ["steps", "CPU-s", "peak memory (GiB)"]
    print("| " + " | ".join(head) + " |\n" + "| --- " * len(head) + "|", flush=True)
    parts = load(args.data, args.element, args.test_share, args.seed)
    start = EamSettings().build((args.element,))
    errors = evaluate_errors(start, parts.test).overall
    print(
        f"| ZJW04 as published | | | {errors.energy_mae_mev:.2f} | {errors.force_mae:.4f} "
        f"| {errors.stress_mae_gpa:.2f} | 0 | | |",
        flush=True,
    )
    failed = 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name in args.models:
        for optimizer in args.optimizers:
            command = [sys.executable, __file__, "--one", "--data", str(args.data), "--element", args.element]
            command += ["--models", name, "--optimizers", optimizer, "--cpu-s", str(args.cpu_s)]
            command += ["--energy-weight", str(args.energy_weight), "--test-share", str(args.test_share)]
            command += ["--seed", str(args.seed)]
            failed += subprocess.run(command, env=environment, check=False).returncode != 0
    if failed:
        sys.exit(f"{failed} trainings failed")


if __name__ == "__main__":
    main()
