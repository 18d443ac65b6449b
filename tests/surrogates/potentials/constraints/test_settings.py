"""Constraints from a configuration: what is built, and messages for what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from alloysmith.errors import ConfigError
from alloysmith.loop.config import validate_settings
from alloysmith.loop.yaml_source import YamlSource
from alloysmith.structures.files import write_structures
from alloysmith.surrogates.base import SurrogateError
from alloysmith.surrogates.potentials.constraint import Constraint
from alloysmith.surrogates.potentials.constraints.base import PhysicalConstraint, ResidualConstraint
from alloysmith.surrogates.potentials.constraints.settings import ConstraintSettings
from alloysmith.tests.surrogates.potentials.constraints.embedded_morse import CUTOFF_ANG, EmbeddedMorse
from ase.build import bulk
from pydantic import TypeAdapter, ValidationError

FCC = {"lattice": "fcc", "formula": "Ni", "a_ang": 3.5}
BCC = {"lattice": "bcc", "formula": "Ni", "a_ang": 2.77}
MO = {"lattice": "bcc", "formula": "Mo", "a_ang": 3.15}
WHOLE: list[dict[str, Any]] = [
    {"kind": "rose", "crystal": FCC, "energy_ev": -4.4, "bulk_modulus_gpa": 190.0},
    {"kind": "elastic", "crystal": FCC, "constants_gpa": {"c11": 276.0, "c12": 159.0, "c44": 132.0}},
    {"kind": "equilibrium", "crystal": MO},
    {"kind": "cohesive", "crystal": FCC, "energy_ev": -4.4, "energy_zero": "atoms"},
    {"kind": "energy_difference", "crystal": FCC, "others": [BCC], "difference_ev": -0.09},
    {"kind": "vacancy", "crystal": FCC, "energy_ev": 1.46, "repeat": [2, 2, 2]},
    {"kind": "surface", "crystal": FCC, "energy_j_m2": 1.92, "miller": [1, 1, 1]},
]
ANY: TypeAdapter[ConstraintSettings] = TypeAdapter(ConstraintSettings)


def build(keys: dict[str, Any], **arguments: Any) -> PhysicalConstraint:
    return ANY.validate_python(keys).build(("Ni", "Mo"), CUTOFF_ANG, **arguments)


@pytest.mark.parametrize("keys", WHOLE, ids=lambda keys: keys["kind"])
def test_every_kind_is_built_and_pulls_at_the_parameters(keys: dict[str, Any], model: EmbeddedMorse) -> None:
    one, heavy = build(keys), build({**keys, "weight": 7.0})
    assert isinstance(one, Constraint)
    assert isinstance(one, ResidualConstraint)
    assert one.name.startswith(keys["kind"] + "/")
    loss = one.loss(model)
    assert loss.shape == ()
    assert float(loss.detach()) == pytest.approx(float(one.residuals(model).detach().square().sum()), rel=1e-12)
    assert float(heavy.loss(model).detach()) == pytest.approx(7.0 * float(loss.detach()), rel=1e-9)
    (gradient,) = torch.autograd.grad(loss, model.table)
    assert torch.isfinite(gradient).all()
    assert float(gradient.abs().max()) > 0.0
    assert all(len(pair) == 2 for pair in one.figures(model).values())


def test_names_tell_crystals_and_surfaces_apart() -> None:
    names = [build(keys).name for keys in WHOLE]
    assert names[0] == "rose/fcc Ni"
    assert names[4] == "energy_difference/fcc Ni - bcc Ni"
    assert names[6] == "surface/fcc Ni (1 1 1)"
    assert len(set(names)) == len(names)
    assert build({**WHOLE[0], "name": "eos"}).name == "eos"


def test_single_precision(model: EmbeddedMorse) -> None:
    model.to(torch.float32)
    one = build(WHOLE[1], dtype=torch.float32)
    assert one.figures(model)["c11_gpa"][0] == pytest.approx(176.0, abs=30.0)


@pytest.mark.parametrize("kind", [0, 3])
def test_reference_energies_are_taken_from_targets_on_the_labels_zero(kind: int, model: EmbeddedMorse) -> None:
    reference = {"Ni": -1.5, "Mo": -9.0}
    on_labels = build({**WHOLE[kind], "energy_ev": -5.9, "energy_zero": "labels"}, reference_energies_ev=reference)
    on_atoms = build({**WHOLE[kind], "energy_ev": -4.4, "energy_zero": "atoms"}, reference_energies_ev=reference)
    figure = "rose_middle_ev_per_atom" if kind == 0 else "energy_ev_per_atom"
    assert on_labels.figures(model)[figure][1] == pytest.approx(-4.4)
    assert on_atoms.figures(model)[figure] == (pytest.approx(on_labels.figures(model)[figure][0]), pytest.approx(-4.4))


def test_range_by_volume_and_depth() -> None:
    by_volume = ANY.validate_python({**WHOLE[0], "along": "volume", "n_points": 3}).scalings()  # type: ignore
    assert (1.0 + by_volume) ** 3 == pytest.approx([0.9, 1.0, 1.1])
    by_length = ANY.validate_python(WHOLE[0]).scalings()  # type: ignore[union-attr]
    assert by_length == pytest.approx([-0.1 + 0.01 * k for k in range(21)])


def test_the_depth_decides_the_shape_and_the_energy_the_level(model: EmbeddedMorse) -> None:
    deep = build({**WHOLE[0], "energy_ev": -100.0, "depth_ev": 4.4}).figures(model)
    plain = build(WHOLE[0]).figures(model)
    for end in ("rose_first_ev_per_atom", "rose_last_ev_per_atom", "rose_middle_ev_per_atom"):
        assert deep[end][1] - plain[end][1] == pytest.approx(-95.6)
    free = build({**WHOLE[0], "energy_zero": "free"}).figures(model)
    assert free["rose_middle_ev_per_atom"] == (pytest.approx(0.0, abs=1e-9), pytest.approx(0.0, abs=1e-9))


def test_files_are_relative_to_the_configuration(tmp_path: Path, model: EmbeddedMorse) -> None:
    write_structures(tmp_path / "ni.extxyz", bulk("Ni", "fcc", a=3.5, cubic=True).repeat(2))
    write_structures(tmp_path / "bcc.extxyz", bulk("Ni", "bcc", a=2.77, cubic=True))
    keys = {**WHOLE[4], "crystal": {"file": "ni.extxyz"}, "others": [{"file": "bcc.extxyz"}]}
    source = YamlSource("a configuration", keys)
    found = validate_settings(source, ConstraintSettings, tmp_path).build(("Ni", "Mo"), CUTOFF_ANG).figures(model)
    assert found["energy_difference_ev_per_atom"][0] == pytest.approx(
        build(WHOLE[4]).figures(model)["energy_difference_ev_per_atom"][0], abs=1e-12
    )
    with pytest.raises(ConfigError, match="there is no such file"):
        validate_settings(source, ConstraintSettings, tmp_path / "elsewhere").build(("Ni", "Mo"), CUTOFF_ANG)


def test_crystals_whose_atoms_do_not_meet_are_refused() -> None:
    with pytest.raises(ConfigError, match="no two atoms of fcc Ni are within the cutoff"):
        build({**WHOLE[0], "crystal": {"lattice": "fcc", "formula": "Ni", "a_ang": 35.2}})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kind": "melting"}, "does not match any of the expected tags"),
        ({**WHOLE[0], "weight": 0.0}, "greater than 0"),
        ({**WHOLE[0], "wieght": 1.0}, "Extra inputs"),
        ({**WHOLE[0], "first": 0.1, "last": -0.1}, "must begin below its end"),
        ({**WHOLE[0], "energy_ev": 3.0}, "give depth_ev"),
        ({**WHOLE[0], "loss": "norm", "tolerance_ev": 0.1}, "tolerance_ev belongs to loss: squared"),
        ({**WHOLE[1], "constants_gpa": {}}, "at least 1 item"),
        ({**WHOLE[1], "constants_gpa": {"bulk": 190.0}}, "no elastic constant"),
        ({**WHOLE[1], "constants_gpa": {"c12": 150.0, "c21": 150.0}}, "given twice"),
        ({**WHOLE[1], "gate_gpa": 1.0}, "gate_gpa has no effect with loss: squared"),
        ({**WHOLE[1], "loss": "norm", "tolerance_gpa": 1.0}, "tolerance_gpa has no effect with loss: norm"),
        ({**WHOLE[3], "energy_ev": 4.4}, "must be negative"),
        ({**WHOLE[6], "miller": [2, 2, 0]}, "without a common divisor"),
        ({**WHOLE[6], "miller": [0, 0, 0]}, "without a common divisor"),
    ],
)
def test_wrong_settings_are_named(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ANY.validate_python(keys)


@pytest.mark.parametrize("keys", WHOLE, ids=lambda keys: keys["kind"])
def test_an_element_without_parameters_is_named(keys: dict[str, Any]) -> None:
    with pytest.raises(SurrogateError, match=rf"constraint '{keys['kind']}/.* has no (Ni|Mo)"):
        ANY.validate_python(keys).build(("Cu",), CUTOFF_ANG)


def test_defects_of_compounds_are_refused() -> None:
    compound = {"lattice": "l12", "formula": "Ni3Mo", "a_ang": 3.6}
    for keys in WHOLE[5:]:
        with pytest.raises(ConfigError, match="depends on chemical potentials"):
            build({**keys, "crystal": compound})


@pytest.mark.parametrize("keys", WHOLE, ids=lambda keys: keys["kind"])
def test_a_model_of_another_range_is_refused(keys: dict[str, Any], model: EmbeddedMorse) -> None:
    one = ANY.validate_python(keys).build(("Ni", "Mo"), 5.0)
    with pytest.raises(SurrogateError, match="build it for this model"):
        one.loss(model)
    with pytest.raises(SurrogateError, match="build it for this model"):
        ANY.validate_python(keys).build(("Mo", "Ni"), CUTOFF_ANG).figures(model)
