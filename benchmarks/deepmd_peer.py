"""Energies, forces and virials of a DeePMD-kit model; runs in an environment that has deepmd-kit and its PyTorch.

Started by ``deeppot_parity.py``: ``python deepmd_peer.py MODEL.yaml FRAMES.npz RESULT.npz``.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from deepmd.dpmodel.utils.serialization import load_dp_model
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


if __name__ == "__main__":
    main(*sys.argv[1:4])
