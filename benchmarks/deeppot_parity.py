"""Deep potentials beside DeePMD-kit: equal numbers from equal weights; `deeppot_speed.py` has the times.

Frames are 108-atom cells of liquid-like Al-Cu-Ni (strongly displaced random alloys). The table compares energies,
forces and virials of a model that was exported to DeePMD-kit with ours, which come from its compressed embeddings.

DeePMD-kit needs an environment of its own (``pip install 'deepmd-kit[torch]==3.2.0'``):

    python benchmarks/deeppot_parity.py --deepmd-python /path/to/its/bin/python
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from alloysmith.surrogates.deeppot.deepmd_file import write_deepmd
from alloysmith.surrogates.deeppot.model import DeepPotModel
from alloysmith.surrogates.deeppot.settings import DeepPotSettings
from alloysmith.surrogates.eam.settings import EamSettings
from alloysmith.surrogates.potentials.base import PotentialSpec
from alloysmith.surrogates.potentials.frame import Frame
from alloysmith.surrogates.potentials.torch_potential import TorchPotential
from ase.build import bulk

ELEMENTS = ("Al", "Cu", "Ni")
MODELS: Mapping[str, Mapping[str, Any]] = {  # of "Development of a deep learning potential for Al-Cu-Ni", table 1
    "DP-8": {"descriptor": {"neuron": (10, 20), "axis_neuron": 4}, "fitting_net": {"neuron": (50, 50)}},
    "DP-2": {"descriptor": {"neuron": (50, 100), "axis_neuron": 8}, "fitting_net": {"neuron": (240, 240, 240)}},
}


def melt_frames(n_frames: int, seed: int = 0) -> list[Frame]:
    """Labelled cells; 36 atoms of each element in the same order in all of them."""
    eam = EamSettings(cutoff_ang=6.0).build(ELEMENTS)
    teacher = TorchPotential(PotentialSpec("eam", ELEMENTS, 6.0), eam)
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n_frames):
        atoms = bulk("Al", cubic=True, a=3.8).repeat(3)
        atoms.symbols[:] = np.repeat(ELEMENTS, 36)
        atoms.positions = rng.permutation(atoms.positions) + rng.normal(scale=0.3, size=(108, 3))
        label = teacher.evaluate([atoms])[0]
        found.append(Frame(atoms, label.energy_ev, label.forces, label.stress))
    return found


def learnt_like(name: str, frames: Sequence[Frame]) -> DeepPotModel:
    """A model whose weights are as large as after training, so that all its parts matter."""
    model = DeepPotSettings.model_validate({"seed": 0, **MODELS[name]}).build(ELEMENTS)
    model.prepare(frames, seed=0)
    with torch.no_grad():
        for a in range(len(ELEMENTS)):
            model.fitting(a).weights[0] *= 10.0
            model.fitting(a).output_weight *= 10.0
            model.fitting(a).output_bias += 0.1 * (a + 1)
    return model


def differences(name: str, frames: Sequence[Frame], deepmd_python: Path, folder: Path) -> dict[str, float]:
    """Largest differences in energy per atom (eV), force (eV/Å) and virial per atom (eV), and the largest force.

    Raises:
        subprocess.CalledProcessError: DeePMD-kit fails.
    """
    model = learnt_like(name, frames)
    ours = TorchPotential(PotentialSpec("deeppot", ELEMENTS, model.cutoff_ang), model).evaluate(
        [frame.atoms for frame in frames]
    )
    write_deepmd(model, folder / f"{name}.yaml")
    np.savez(
        folder / "frames.npz",
        positions=[frame.atoms.positions for frame in frames],
        cells=[frame.atoms.cell.array for frame in frames],
        types=[ELEMENTS.index(symbol) for symbol in frames[0].atoms.symbols],
    )
    peer = Path(__file__).with_name("deepmd_peer.py")
    command = [deepmd_python, peer, folder / f"{name}.yaml", folder / "frames.npz", folder / "found.npz"]
    subprocess.run(command, env=_environment(), check=True, capture_output=True, text=True)
    theirs = np.load(folder / "found.npz")
    energies = np.array([found.energy_ev for found in ours])
    forces = np.array([found.forces for found in ours])
    volumes = np.array([frame.atoms.get_volume() for frame in frames])
    virials = -np.array([found.stress for found in ours]) * volumes[:, None, None]
    n_atoms = len(frames[0].atoms)
    return {
        "energy": float(np.abs(energies - theirs["energy"][:, 0]).max() / n_atoms),
        "force": float(np.abs(forces - theirs["force"]).max()),
        "virial": float(np.abs(virials.reshape(-1, 9) - theirs["virial"]).max() / n_atoms),
        "largest_force": float(np.abs(forces).max()),
    }


def _environment() -> dict[str, str]:
    threads = {"OMP_NUM_THREADS": "1", "DP_INTRA_OP_PARALLELISM_THREADS": "1", "DP_INTER_OP_PARALLELISM_THREADS": "1"}
    return {**os.environ, **threads, "CUDA_VISIBLE_DEVICES": ""}


def main() -> None:
    """Print the tables; ends with an error where numbers differ by more than 1e-6."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deepmd-python", type=Path, help="Python of an environment with deepmd-kit 3")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--frames", type=int, default=4, help="number of frames that are compared (default 4)")
    args = parser.parse_args()
    if args.deepmd_python is None:
        print("skipped: needs an environment with deepmd-kit, --deepmd-python PATH; see --help")
        return
    torch.set_num_threads(1)
    is_equal = True
    print("| model | energy (eV/atom) | force (eV/Å) | virial (eV/atom) | largest force (eV/Å) |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    for name in args.models:
        with tempfile.TemporaryDirectory() as folder:
            found = differences(name, melt_frames(args.frames), args.deepmd_python, Path(folder))
        is_equal &= max(found["energy"], found["force"], found["virial"]) < 1e-6
        cells = [f"{found[key]:.1e}" for key in ("energy", "force", "virial")]
        print(f"| {name} | {' | '.join(cells)} | {found['largest_force']:.2f} |", flush=True)
    if not is_equal:
        sys.exit("numbers differ by more than 1e-6")


if __name__ == "__main__":
    main()
