"""Embedded-atom models of every form, and structures to try them on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from alloysmith.surrogates.eam.model import EamModel
from alloysmith.surrogates.eam.settings import EamSettings
from ase import Atoms
from ase.build import bulk

FORMS: dict[str, tuple[tuple[str, ...], EamSettings]] = {
    "Ni": (("Ni",), EamSettings()),
    "Mo piecewise": (("Mo",), EamSettings(embedding="piecewise")),
    "Mo ADP": (("Mo",), EamSettings(angular=True, start="ml-adp-mo")),
    "NiMo mixing": (("Ni", "Mo"), EamSettings(cross="mixing")),
    "NiMo free": (("Ni", "Mo"), EamSettings(start="ml-eam-nimo")),
    "NiMo ADP": (("Ni", "Mo"), EamSettings(start="ml-adp-nimo", angular=True)),
    "Ni spline": (("Ni",), EamSettings(functions="spline", embedding="spline")),
    "NiMo spline": (("Ni", "Mo"), EamSettings(functions="spline", embedding="spline", start="ml-eam-nimo")),
    "NiMo spline ADP": (("Ni", "Mo"), EamSettings(functions="spline", embedding="spline", angular=True)),
    "Mo spline ADP": (("Mo",), EamSettings(functions="spline", angular=True)),
    "AlCuNi": (("Al", "Cu", "Ni"), EamSettings(taper_ang=0.5)),
}


def perturbed(model: EamModel, seed: int = 0) -> EamModel:
    """The same model with parameters that nothing is symmetric or zero in."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.0 + 0.01 * torch.rand(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def make_model(name: str) -> EamModel:
    """A model of :data:`FORMS` with parameters a little off its start."""
    elements, settings = FORMS[name]
    return perturbed(settings.build(elements))


def rattled(elements: Sequence[str], *, rattle_ang: float = 0.12, repeat: int = 2, seed: int = 0) -> Atoms:
    """A sheared, rattled crystal with randomly distributed elements."""
    mean = {("Ni",): 3.52, ("Mo",): 3.15 * 2 ** (1 / 3)}.get(tuple(elements), 3.75)
    atoms = bulk("Cu", "fcc", a=mean, cubic=True).repeat(repeat)
    rng = np.random.default_rng(seed)
    atoms.symbols[:] = rng.choice(list(elements), len(atoms))
    strain = np.eye(3) + 0.02 * rng.standard_normal((3, 3))
    atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    atoms.rattle(rattle_ang, seed=seed)
    return atoms
