"""Aluminium small enough for pw.x to answer in a second, and whether there is a pw.x."""

from __future__ import annotations

import shutil

import pytest
from alloysmith.oracles.espresso import EspressoSettings
from alloysmith.oracles.pseudopotentials import DEBIAN_FOLDER
from ase import Atoms
from ase.build import bulk

PSEUDOPOTENTIAL = "Al.pz-vbc.UPF"
IS_INSTALLED = shutil.which("pw.x") is not None and (DEBIAN_FOLDER / PSEUDOPOTENTIAL).is_file()

needs_espresso = pytest.mark.skipif(
    not IS_INSTALLED, reason="needs pw.x: apt-get install quantum-espresso quantum-espresso-data"
)


def dimer(a_ang: float = 3.97) -> Atoms:
    """Two atoms, one off its site, without any symmetry."""
    atoms = bulk("Al", a=a_ang).repeat((1, 1, 2))
    atoms.positions[1] += [0.25, 0.1, 0.05]
    return atoms


def al_settings(**changes: object) -> EspressoSettings:
    """A second's worth of accuracy, from Debian's pseudopotentials whatever the environment says."""
    quick = {
        "pseudopotentials": {"Al": PSEUDOPOTENTIAL},
        "pseudo_dir": DEBIAN_FOLDER,
        "ecutwfc_ry": 12.0,
        "kpts": (2, 2, 1),
        "degauss_ry": 0.05,
    }
    return EspressoSettings.model_validate({**quick, **changes})
