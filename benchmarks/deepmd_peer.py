"""Energies, forces and virials of a DeePMD-kit model; runs in an environment that has deepmd-kit and its PyTorch.

Started by ``deeppot_parity.py`` with a model of DeePMD-kit's own file format and frames of equal size, and by
``deeppot_training.py`` with a frozen model and frames of any: ``python deepmd_peer.py MODEL FRAMES.npz RESULT.npz``.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from deepmd.dpmodel.utils.serialization import load_dp_model
from deepmd.infer import DeepPot
from deepmd.pt.model.model import BaseModel


def main(model_file: str, frames_file: str, result_file: str) -> None:
    """Evaluate the frames one by one; virials are DeePMD-kit's, with its sign."""
    model = BaseModel.deserialize(load_dp_model(model_file)["model"])
    frames = np.load(frames_file)
    found: dict[str, list[np.ndarray]] = {"energy": [], "force": [], "virial": []}
    for positions, cell in zip(frames["positions"], frames["cells"], strict=True):
        output = model(
            torch.tensor(positions[None], dtype=torch.float64),
            torch.tensor(frames["types"][None]),
            box=torch.tensor(cell.reshape(1, 9), dtype=torch.float64),
        )
        for name, rows in found.items():
            rows.append(output[name].detach().numpy()[0])
    np.savez(result_file, **{name: np.array(rows) for name, rows in found.items()})


def predict(model_file: str, frames_file: str, result_file: str) -> None:
    """Energies ``[n_frames]`` and forces ``[n_atoms_in_all, 3]`` of a frozen model."""
    model = DeepPot(model_file)
    frames = np.load(frames_file)
    ends = np.cumsum(frames["sizes"])[:-1]
    energies, forces = [], []
    for positions, types, cell in zip(
        np.split(frames["positions"], ends), np.split(frames["types"], ends), frames["cells"], strict=True
    ):
        energy, force, _ = model.eval(positions[None], cell[None], types)
        energies.append(float(energy[0, 0]))
        forces.append(force[0])
    np.savez(result_file, energy=np.array(energies), force=np.concatenate(forces))


if __name__ == "__main__":
    (predict if sys.argv[1].endswith(".pth") else main)(*sys.argv[1:4])
