"""Constraints on the models they are made for: EAM and ADP with the forms of ZJW04 and Mishin."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from alloysmith.surrogates.eam.settings import EamSettings
from alloysmith.surrogates.potentials.constraints.settings import ConstraintSettings
from pydantic import TypeAdapter

NICKEL = {"lattice": "fcc", "formula": "Ni", "a_ang": 3.5}
MOLYBDENUM = {"lattice": "bcc", "formula": "Mo", "a_ang": 3.16}
HCP = {"lattice": "hcp", "formula": "Ni", "a_ang": 2.48, "c_ang": 4.05}
C = {"c11": 276.0, "c12": 159.0, "c44": 132.0}
ANY: TypeAdapter[ConstraintSettings] = TypeAdapter(ConstraintSettings)


@pytest.mark.parametrize(
    "keys",
    [
        {"kind": "elastic", "crystal": NICKEL, "constants_gpa": C},
        {"kind": "elastic", "crystal": HCP, "constants_gpa": C},
        {"kind": "equilibrium", "crystal": MOLYBDENUM},
        {"kind": "rose", "crystal": NICKEL, "energy_ev": -4.4, "bulk_modulus_gpa": 190.0},
        {"kind": "surface", "crystal": MOLYBDENUM, "energy_j_m2": 2.8, "miller": [1, 1, 0], "is_relaxed": False},
    ],
    ids=lambda keys: f"{keys['kind']} {keys['crystal']['lattice']}",
)
def test_the_gradient_is_that_of_finite_differences(keys: dict[str, Any]) -> None:
    model = EamSettings(angular=True).build(("Ni", "Mo"))
    one = ANY.validate_python(keys).build(model.elements, model.cutoff_ang)
    parameters = [tensor for tensor in model.parameters() if tensor.requires_grad]
    generator = torch.Generator().manual_seed(0)
    direction = [torch.randn(tensor.shape, generator=generator, dtype=torch.float64) for tensor in parameters]
    slopes = torch.autograd.grad(one.loss(model), parameters, allow_unused=True)
    expected = sum(float((s * d).sum()) for s, d in zip(slopes, direction, strict=True) if s is not None)

    def loss_at(step: float) -> float:
        with torch.no_grad():
            for tensor, change in zip(parameters, direction, strict=True):
                tensor += step * change
        value = float(one.loss(model).detach())
        with torch.no_grad():
            for tensor, change in zip(parameters, direction, strict=True):
                tensor -= step * change
        return value

    h = 1e-6
    found = (8.0 * (loss_at(h) - loss_at(-h)) - (loss_at(2.0 * h) - loss_at(-2.0 * h))) / (12.0 * h)
    assert found == pytest.approx(expected, rel=1e-5)
