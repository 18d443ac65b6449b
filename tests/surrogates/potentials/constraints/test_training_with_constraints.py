"""Trainings with constraints: they reach the targets, and go on exactly although geometries are remembered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from alloysmith.surrogates.potentials.constraints.base import PhysicalConstraint
from alloysmith.surrogates.potentials.constraints.settings import ConstraintSettings
from alloysmith.surrogates.potentials.frame import Frame
from alloysmith.surrogates.potentials.optimizer_settings import AdamSettings, GaussNewtonSettings
from alloysmith.surrogates.potentials.training import train
from alloysmith.surrogates.potentials.training_settings import TrainingSettings
from alloysmith.tests.surrogates.potentials.constraints.embedded_morse import CUTOFF_ANG, EmbeddedMorse, nickel_like
from ase.build import bulk
from pydantic import TypeAdapter

FCC = {"lattice": "fcc", "formula": "Ni", "a_ang": 3.5}
ANY: TypeAdapter[ConstraintSettings] = TypeAdapter(ConstraintSettings)


def build(*all_keys: Mapping[str, Any]) -> list[PhysicalConstraint]:
    return [ANY.validate_python({"crystal": FCC, **keys}).build(("Ni",), CUTOFF_ANG) for keys in all_keys]


def frames() -> list[Frame]:
    """A single frame, so that the constraints decide."""
    atoms = bulk("Ni", "fcc", a=3.5)
    return [Frame(atoms, -3.911, np.zeros((1, 3)))]


def test_a_fit_reaches_its_targets() -> None:
    """The targets are what the model gives before its parameters are disturbed."""
    truth, model = nickel_like(), nickel_like()
    with torch.no_grad():
        model.table *= torch.tensor([1.2, 0.95, 1.01, 0.9, 1.05])
    elastic = {"kind": "elastic", "constants_gpa": {"c11": 175.02, "c12": 130.71, "c44": 104.38}}
    cohesive = {"kind": "cohesive", "energy_ev": -3.9110}
    vacancy = {"kind": "vacancy", "energy_ev": 1.0, "repeat": [2, 2, 2], "refresh_every": 5}
    (wanted, _) = build(vacancy)[0].figures(truth)["vacancy_formation_energy_ev"]
    constraints = build(elastic, cohesive, {**vacancy, "energy_ev": wanted})
    assert abs(constraints[0].figures(model)["c11_gpa"][0] - 175.0) > 10.0
    settings = TrainingSettings(optimizer=GaussNewtonSettings(), max_epochs=6)
    train(model, frames(), (), constraints, settings, seed=0)
    for found, target in constraints[0].figures(model).values():
        assert found == pytest.approx(target, abs=1.0)
    assert constraints[1].figures(model)["energy_ev_per_atom"][0] == pytest.approx(-3.9110, abs=2e-3)
    assert constraints[2].figures(model)["vacancy_formation_energy_ev"][0] == pytest.approx(wanted, abs=0.02)


def test_killed_and_resumed_is_the_same_with_remembered_geometries(tmp_path: Path) -> None:
    keys = {"kind": "vacancy", "energy_ev": 1.2, "repeat": [2, 2, 2], "refresh_every": 7}
    settings = TrainingSettings(
        optimizer=AdamSettings(learning_rate=0.01, batch_frames=1), max_epochs=20, checkpoint_every_s=0.0
    )

    class KilledError(Exception):
        pass

    def stop(step: int, metrics: Mapping[str, float]) -> bool:
        if step == 11:
            raise KilledError
        return True

    def table(model: EmbeddedMorse) -> np.ndarray:
        return model.table.detach().numpy().copy()

    whole, again, resumed = nickel_like(), nickel_like(), nickel_like()
    constraints = build(keys)
    train(whole, frames(), (), constraints, settings, seed=0)
    assert np.abs(table(whole) - table(nickel_like())).max() > 0.01
    train(again, frames(), (), constraints, settings, seed=0)  # not moved by what the first left behind
    np.testing.assert_array_equal(table(again), table(whole))
    path = tmp_path / "training.ckpt"
    with pytest.raises(KilledError):
        train(nickel_like(), frames(), (), build(keys), settings, seed=0, report=stop, checkpoint_path=path)
    train(resumed, frames(), (), build(keys), settings, seed=0, checkpoint_path=path)
    np.testing.assert_array_equal(table(resumed), table(whole))
