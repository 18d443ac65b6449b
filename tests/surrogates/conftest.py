"""A synthetic property of composition and order, and labels of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from alloysmith.structures.settings import SystemSettings
from alloysmith.structures.space import DesignSpace
from alloysmith.surrogates.base import TrainingSet
from alloysmith.surrogates.features import OrderFeatures
from ase import Atoms

PROPERTIES = {"toy_modulus_gpa": "GPa"}


@pytest.fixture(scope="session")
def space() -> DesignSpace:
    return SystemSettings(
        elements=("Ni", "Fe", "Cr"), cell={"kind": "cubic", "repeat": (2, 2, 2)}, max_fraction=0.9
    ).space()


def toy_property(space: DesignSpace, structures: list[Atoms]) -> np.ndarray:
    """A smooth function ``[n]`` of composition and nearest-neighbour order, different in both phases."""
    table = OrderFeatures(space.elements, 1, False, space.lattices).from_atoms(structures)
    x, order = table.values[:, :3], table.values[:, 3:]
    value = 150.0 + 40.0 * x[:, 0] * x[:, 2] + 20.0 * x[:, 1] ** 2 + 60.0 * order[:, 1] - 30.0 * order[:, 0]
    return value + np.where([p == "bcc" for p in table.phases], 10.0 * x[:, 2] - 80.0 * order[:, 1], 0.0)


Labelled = Callable[[int, int], TrainingSet]


@pytest.fixture(scope="session")
def labelled(space: DesignSpace) -> Labelled:
    """``labelled(n, seed)``: structures of alternating phase with their toy property."""

    def make(n: int, seed: int) -> TrainingSet:
        rng = np.random.default_rng(seed)
        structures = []
        for i in range(n):
            lattice = space.lattices[i % 2]
            structures.append(space.atoms(lattice, space.random_occupation(rng, lattice)))
        return TrainingSet(structures, toy_property(space, structures)[:, None], PROPERTIES)

    return make
