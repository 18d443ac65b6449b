"""One small potential, in LAMMPS and as a model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from alloysmith.oracles.lammps_engine import LammpsEngine
from alloysmith.surrogates.potentials.constraints.base import Setting
from alloysmith.tests.surrogates.potentials.constraints.embedded_morse import (
    CUTOFF_ANG,
    EmbeddedMorse,
    alloy_like,
    lammps_potential,
)


@pytest.fixture
def model() -> EmbeddedMorse:
    return alloy_like()


@pytest.fixture(scope="session")
def setting() -> Setting:
    return Setting(("Ni", "Mo"), CUTOFF_ANG)


@pytest.fixture(scope="session")
def lammps_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LammpsEngine]:
    engine = LammpsEngine(lammps_potential(alloy_like(), tmp_path_factory.mktemp("setfl")))
    yield engine
    engine.close()
