"""Fixtures of the oracle tests: one engine per potential, small alloys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from alloysmith.oracles.lammps_engine import LammpsEngine
from alloysmith.oracles.potentials import FilesPotentialSettings, WheelPotentialSettings
from ase import Atoms
from ase.build import bulk

MakeAlloy = Callable[..., Atoms]


@pytest.fixture(scope="session")
def nifecr() -> WheelPotentialSettings:
    return WheelPotentialSettings(name="MoCoNiVFeAlCr_2nn.meam")


@pytest.fixture(scope="session")
def nifecr_engine(nifecr: WheelPotentialSettings) -> Iterator[LammpsEngine]:
    engine = LammpsEngine(nifecr.load())
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def published_meam(shared_data: Path) -> FilesPotentialSettings:
    return FilesPotentialSettings(
        pair_style="meam",
        pair_coeff=("* * library.meam Ni Cr Fe NiCrFe.meam Ni Cr Fe",),
        base_dir=shared_data / "potentials" / "NiCrFe_meam",
    )


@pytest.fixture
def alloy() -> Atoms:
    return random_alloy(seed=1)


@pytest.fixture(scope="session")
def make_alloy() -> MakeAlloy:
    return random_alloy


def random_alloy(seed: int, phase: str = "fcc", repeat: int = 2, rattle_ang: float = 0.05) -> Atoms:
    """A rattled random NiFeCr solid solution."""
    unit = bulk("Ni", "fcc", a=3.57, cubic=True) if phase == "fcc" else bulk("Fe", "bcc", a=2.87, cubic=True)
    atoms = unit.repeat(repeat)
    rng = np.random.default_rng(seed)
    atoms.set_initial_magnetic_moments(None)
    atoms.numbers[:] = rng.choice([28, 26, 24], size=len(atoms), p=[0.4, 0.35, 0.25])
    if rattle_ang > 0.0:
        atoms.rattle(rattle_ang, seed=seed)
    return atoms
