"""Potentials on the command line: fit, predict, tabulate, card."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from alloysmith.generators.md_exploration import PerturbationSettings, perturbed_crystals
from alloysmith.oracles.lammps_engine import LammpsEngine
from alloysmith.oracles.potentials import FilesPotentialSettings
from alloysmith.structures.files import read_structures, write_structures
from alloysmith.structures.settings import SystemSettings
from alloysmith.surrogates.eam.settings import EamSettings
from alloysmith.surrogates.potentials.base import PotentialSpec
from alloysmith.surrogates.potentials.settings import load_potential, save_potential
from alloysmith.surrogates.potentials.torch_potential import TorchPotential
from alloysmith.tests.cli.toy import CommandLine
from ase import Atoms

CONFIG = """
potential: {kind: eam, overrides: {Cu: {beta: 4.6, A: 0.42}}}
elements: [Cu]
data: {files: [cu.extxyz], test_fraction: 0.2, validation_fraction: 0.1}
training: {max_epochs: 5}
seed: 3
"""


def _structures(n: int) -> list[Atoms]:
    cell = {"kind": "cubic", "repeat": [2, 2, 2]}
    space = SystemSettings.model_validate({"elements": ["Cu"], "phases": ["fcc"], "cell": cell}).space()
    return perturbed_crystals(space, n, PerturbationSettings(displacement_ang=(0.02, 0.15)), seed=1)


def _start() -> TorchPotential:
    model = EamSettings().build(("Cu",))
    return TorchPotential(PotentialSpec("eam", ("Cu",), model.cutoff_ang), model)


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A model file that needed no fit."""
    save_potential(_start(), tmp_path / "cu.safetensors")
    return tmp_path / "cu.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration, and copper labelled with the ZJW04 potential that the fit starts beside."""
    truth = _start()
    rows = _structures(14)
    for atoms, found in zip(rows, truth.evaluate(rows), strict=True):
        atoms.info["energy"] = found.energy_ev
        atoms.info["stress"] = found.stress.ravel()
        atoms.info["group"] = "first" if len(atoms.info) % 2 else "second"
        atoms.arrays["forces"] = found.forces
    write_structures(tmp_path / "cu.extxyz", rows)
    (tmp_path / "fit.yaml").write_text(CONFIG)
    return tmp_path


def test_a_potential_is_fitted_predicts_is_tabulated_and_described(alloysmith: CommandLine, folder: Path) -> None:
    model = folder / "cu.safetensors"
    fitted = alloysmith("fit", folder / "fit.yaml", "-o", model)
    assert fitted.code == 0, fitted.err
    for word in ("training", "validation", "test", "E MAE meV/at", "eam of Cu"):
        assert word in fitted.out
    assert not (folder / "cu.safetensors.checkpoint").exists()

    predicted = alloysmith("predict", model, folder / "cu.extxyz", "-o", folder / "out.extxyz")
    assert predicted.code == 0, predicted.err
    assert "meV/atom" in predicted.out
    rows = read_structures(folder / "out.extxyz")
    errors = [(a.info["predicted_energy_ev"] - a.info["energy"]) / len(a) for a in rows]
    assert np.abs(errors).mean() < 0.002
    forces = np.concatenate([a.arrays["predicted_forces_ev_ang"] - a.arrays["forces"] for a in rows])
    assert np.abs(forces).mean() < 0.02

    tabulated = alloysmith("tabulate", model, "-o", folder / "Cu.eam.alloy")
    assert tabulated.code == 0, tabulated.err
    assert "pair_style eam/alloy" in tabulated.out
    native = FilesPotentialSettings(
        pair_style="eam/alloy", pair_coeff=("* * Cu.eam.alloy Cu",), elements=("Cu",), base_dir=folder
    ).load()
    engine = LammpsEngine(native)
    (own,) = load_potential(model).evaluate(rows[:1])
    try:
        assert engine.compute(rows[0]).energy_ev == pytest.approx(own.energy_ev, abs=1e-5 * len(rows[0]))
    finally:
        engine.close()

    described = alloysmith("card", model)
    assert described.code == 0, described.err
    card = (folder / "cu.html").read_text()
    for word in ("Alloysmith potential card", "embedding F(ρ)", "Valid range", "cu.extxyz", "E MAE (meV/atom)"):
        assert word in card


def test_data_on_the_command_line_takes_the_place_of_the_configuration(alloysmith: CommandLine, folder: Path) -> None:
    (folder / "cu.extxyz").rename(folder / "other.extxyz")
    config, model = folder / "fit.yaml", folder / "cu.safetensors"
    assert alloysmith("fit", config, "-o", model).code == 2
    fitted = alloysmith("fit", config, "--data", folder / "other.extxyz", "-o", model, "--set", "training.max_epochs=1")
    assert fitted.code == 0, fitted.err


def test_everything_wrong_with_the_data_is_named_before_training(alloysmith: CommandLine, folder: Path) -> None:
    rows = read_structures(folder / "cu.extxyz")
    rows[2].arrays["forces"][0, 0] = np.nan
    rows[5].positions[1] = rows[5].positions[0]
    rows[7].symbols[0] = "Ag"
    write_structures(folder / "cu.extxyz", rows)
    ended = alloysmith("fit", folder / "fit.yaml", "-o", folder / "cu.safetensors")
    assert ended.code == 2
    for row in ("row 3", "row 6", "row 8"):
        assert row in ended.err
    assert not (folder / "cu.safetensors").exists()


def test_unknown_elements_are_left_out_of_predictions(alloysmith: CommandLine, folder: Path, start: Path) -> None:
    model = start
    rows = _structures(2)
    rows[0].symbols[3] = "Zn"
    write_structures(folder / "mixed.extxyz", rows)
    ended = alloysmith("predict", model, folder / "mixed.extxyz", "-o", folder / "out.extxyz")
    assert ended.code == 0, ended.err
    first, second = read_structures(folder / "out.extxyz")
    assert first.info["failure"] == "bad_structure"
    assert "Zn" in first.info["failure_message"]
    assert "predicted_energy_ev" in second.info


def test_what_a_potential_cannot_tell_is_left_out(alloysmith: CommandLine, start: Path, tmp_path: Path) -> None:
    dimer = Atoms("Cu2", positions=[(0.0, 0.0, 0.0), (0.0, 0.0, 2.2)])
    collapsed = Atoms("Cu", cell=[0.1, 0.1, 0.1], pbc=True)
    write_structures(tmp_path / "odd.extxyz", [dimer, collapsed])
    ended = alloysmith("predict", start, tmp_path / "odd.extxyz", "-o", tmp_path / "out.extxyz")
    assert ended.code == 0, ended.err
    first, second = read_structures(tmp_path / "out.extxyz")
    assert "predicted_stress_ev_ang3" not in first.info
    assert np.isfinite(first.info["predicted_energy_ev"])
    assert "per atom" in second.info["failure_message"]


def test_tables_and_cards_make_their_folder(alloysmith: CommandLine, start: Path, tmp_path: Path) -> None:
    table = alloysmith("tabulate", start, "-o", tmp_path / "new" / "Cu.eam.alloy")
    assert table.code == 0, table.err
    folder = alloysmith("card", start, "-o", tmp_path)
    assert "is a folder" in folder.err


def test_a_potential_learns_no_single_property(alloysmith: CommandLine, folder: Path) -> None:
    ended = alloysmith("fit", folder / "fit.yaml", "-o", folder / "cu.safetensors", "--property", "energy")
    assert ended.code == 2
    assert "leave --property out" in ended.err


def test_a_surrogate_has_no_table(alloysmith: CommandLine, tmp_path: Path) -> None:
    ended = alloysmith("tabulate", tmp_path / "none.safetensors", "-o", tmp_path / "x.eam.alloy")
    assert ended.code == 1
    assert "there is no model file" in ended.err
