"""A study that takes tenths of a second: copper labelled with the potential that the fits start beside."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml
from alloysmith.structures.files import write_structures
from alloysmith.surrogates.eam.settings import EamSettings
from alloysmith.surrogates.potentials.base import PotentialSpec
from alloysmith.surrogates.potentials.torch_potential import TorchPotential
from ase.build import bulk

STUDY: dict[str, Any] = {
    "name": "copper",
    "seed": 5,
    "fit": {
        "potential": {"kind": "eam", "cutoff_ang": 4.0, "overrides": {"Cu": {"beta": 4.6, "A": 0.42}}},
        "elements": ["Cu"],
        "data": {"files": ["cu.extxyz"], "validation_fraction": 0.25},
        "training": {"max_epochs": 3, "optimizer": {"kind": "adam"}},
    },
    "space": {
        "training.optimizer.learning_rate": {"float": [1e-4, 0.1], "log": True},
        "potential.embedding": {"categorical": ["smooth", "piecewise"]},
        "training.optimizer.batch_frames": {"int": [2, 8]},
    },
    "objectives": [{"metric": "validation_force_mae"}],
    "n_trials": 4,
    "execution": {"executor": "in_process"},
}


def write_copper(path: Path) -> None:
    """Twelve labelled frames of four shaken atoms."""
    model = EamSettings().build(("Cu",))
    truth = TorchPotential(PotentialSpec("eam", ("Cu",), model.cutoff_ang), model)
    rows = [bulk("Cu", cubic=True) for _ in range(12)]
    for k, atoms in enumerate(rows):
        atoms.rattle(0.02 + 0.01 * k, seed=k)
    for atoms, found in zip(rows, truth.evaluate(rows), strict=True):
        atoms.info["energy"] = found.energy_ev
        atoms.arrays["forces"] = found.forces
    write_structures(path, rows)


def write_study(folder: Path, **changes: Any) -> Path:
    """The study's file and its data; ``changes`` replace sections of :data:`STUDY`."""
    if not (folder / "cu.extxyz").exists():
        write_copper(folder / "cu.extxyz")
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**copy.deepcopy(STUDY), **changes}, sort_keys=False))
    return path
