"""Labels of every kind of file arrive as the same frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ase.db
import numpy as np
import pytest
from alloysmith.errors import ConfigError, StructureError
from alloysmith.generators.base import Failure
from alloysmith.loop.rows import put_failure, put_label
from alloysmith.oracles.base import FailureKind, Request
from alloysmith.oracles.single_point import SinglePointSettings
from alloysmith.structures.files import write_structures
from alloysmith.surrogates.base import SurrogateError
from alloysmith.surrogates.potentials.data_settings import DataSettings
from alloysmith.surrogates.potentials.frame import Frame
from alloysmith.surrogates.potentials.frame_report import FrameError
from alloysmith.surrogates.potentials.frames import FrameSet, check_frames, frames_of_structures, load_frames
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.units import GPa
from pydantic import ValidationError

Labelled = Callable[..., list[Atoms]]
VOIGT = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])


def load(folder: Path, *files: object, **settings: object) -> FrameSet:
    return load_frames(DataSettings.model_validate({"files": files, **settings}).resolved(folder))


def assert_same(frames: tuple[Frame, ...] | list[Frame], structures: list[Atoms], atol: float = 1e-12) -> None:
    assert len(frames) == len(structures)
    for frame, atoms in zip(frames, structures, strict=True):
        assert frame.energy_ev == pytest.approx(atoms.info["energy"], abs=atol)
        np.testing.assert_allclose(frame.forces, atoms.arrays["forces"], atol=atol)
        np.testing.assert_allclose(frame.stress, atoms.info["stress"], atol=atol)
        np.testing.assert_allclose(frame.atoms.positions, atoms.positions, atol=atol)
        assert frame.atoms.calc is None
        assert not frame.atoms.info


@pytest.mark.parametrize("name", ["a.extxyz", "a.extxyz.gz", "a.db", "a.json"])
def test_files_written_by_the_package(tmp_path: Path, labelled: Labelled, name: str):
    structures = labelled(3, share=0.5)
    write_structures(tmp_path / name, structures)
    found = load(tmp_path, name)
    assert_same(found.frames, structures)
    assert [frame.source for frame in found.frames] == [f"{name} row {k}" for k in (1, 2, 3)]
    assert {frame.group for frame in found.frames} == {"a"}
    assert [(file.name, file.n_rows, file.n_frames) for file in found.files] == [(name, 3, 3)]


def test_ase_database_with_calculator_results(tmp_path: Path, labelled: Labelled):
    structures = labelled(2)
    with ase.db.connect(tmp_path / "a.db") as database:
        for atoms in structures:
            copied = atoms.copy()
            copied.info, stress = {}, atoms.info["stress"][VOIGT]
            del copied.arrays["forces"]
            copied.calc = SinglePointCalculator(
                copied, energy=atoms.info["energy"], forces=atoms.arrays["forces"], stress=stress
            )
            copied.set_constraint(FixAtoms([0]))
            database.write(copied, group="slab")
    found = load(tmp_path, "a.db")
    assert_same(found.frames, structures)  # the forces on fixed atoms too
    assert {frame.group for frame in found.frames} == {"slab"}
    assert not found.frames[0].atoms.constraints


def test_label_rows_of_the_package(tmp_path: Path):
    oracle = SinglePointSettings.model_validate(
        {"potential": {"kind": "wheel", "name": "Cu_zhou.eam.alloy"}, "kind": "single_point"}
    ).build()
    atoms = bulk("Cu", "fcc", a=3.7, cubic=True)
    atoms.rattle(0.1, seed=1)
    label = oracle.evaluate(Request("1", atoms))
    row, failed = atoms.copy(), atoms.copy()
    put_label(row, label)
    put_failure(failed, Failure(FailureKind.NOT_CONVERGED, "too many steps"))
    write_structures(tmp_path / "labels.extxyz", [failed, row])
    found = load(tmp_path, "labels.extxyz")
    (frame,) = found.frames
    assert frame.source == "labels.extxyz row 2"
    assert frame.energy_ev == label.values["energy_ev"]
    np.testing.assert_array_equal(frame.forces, label.values["forces_ev_ang"])
    np.testing.assert_array_equal(frame.stress[VOIGT], label.values["stress_ev_ang3"])
    volume_step = 1e-4
    energies = []
    for sign in (1, -1):
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array * (1 + sign * volume_step), scale_atoms=True)
        energies.append(oracle.evaluate(Request("2", strained)).values["energy_ev"])
    slope = (energies[0] - energies[1]) / (2 * volume_step) / atoms.cell.volume
    assert np.trace(frame.stress) == pytest.approx(slope, rel=1e-5)  # tension is positive
    (warning,) = found.report.warnings
    assert (warning.kind, warning.defects[0].source) == ("failed_label", "labels.extxyz row 1")
    assert found.files[0].n_rows == 2
    assert found.files[0].n_frames == 1


def test_energies_per_atom_of_label_rows_become_total(tmp_path: Path, labelled: Labelled):
    (atoms,) = labelled(1)
    row = atoms.copy()
    row.info = {"energy_ev_per_atom": atoms.info["energy"] / 8}
    write_structures(tmp_path / "a.extxyz", [row])
    found = load(tmp_path, {"path": "a.extxyz", "has_forces": False})
    assert found.frames[0].energy_ev == pytest.approx(atoms.info["energy"])
    assert found.frames[0].forces is None


STRESS_FORMS = {
    "nine numbers": ({}, "stress", lambda stress, volume: stress),
    "six numbers": ({}, "stress", lambda stress, volume: stress[VOIGT]),
    "named six numbers": ({"stress_key": "s"}, "s", lambda stress, volume: stress[VOIGT]),
    "named nine numbers": ({"stress_key": "s"}, "s", lambda stress, volume: stress.ravel()),
    "gpa": ({"stress_key": "s", "stress_unit": "gpa"}, "s", lambda stress, volume: stress / GPa),
    "vasp": (
        {"stress_key": "s", "stress_unit": "kbar", "stress_sign": "compression"},
        "s",
        lambda stress, volume: -stress / (0.1 * GPa),
    ),
    "virial": ({}, "virial", lambda stress, volume: -stress * volume),
    "named virial": ({"virial_key": "w"}, "w", lambda stress, volume: -stress[VOIGT] * volume),
}


@pytest.mark.parametrize("form", STRESS_FORMS)
def test_stresses_of_every_form_unit_and_sign(tmp_path: Path, labelled: Labelled, form: str):
    settings, key, convert = STRESS_FORMS[form]
    structures = labelled(1)
    row = structures[0].copy()
    row.info[key] = convert(row.info.pop("stress"), row.cell.volume)
    write_structures(tmp_path / "a.extxyz", [row])
    assert_same(load(tmp_path, {"path": "a.extxyz", **settings}).frames, structures, atol=1e-9)


def test_stress_and_virial_that_contradict_each_other_are_refused(tmp_path: Path, labelled: Labelled):
    row = labelled(1)[0]
    row.info["virial"] = row.info["stress"] * row.cell.volume  # the sign is wrong
    write_structures(tmp_path / "a.extxyz", [row])
    with pytest.raises(FrameError, match=r"contradicting stress in 1 frame: a\.extxyz row 1"):
        load(tmp_path, "a.extxyz")
    assert load(tmp_path, {"path": "a.extxyz", "stress_key": "stress"}).frames[0].stress is not None


def test_two_schemes_in_one_row_are_refused_until_one_is_named(tmp_path: Path, labelled: Labelled):
    row = labelled(1)[0]
    row.info["energy_ev"] = -1.0
    row.arrays["forces_ev_ang"] = np.zeros((8, 3))
    row.info["stress_ev_ang3"] = np.zeros(6)
    write_structures(tmp_path / "a.extxyz", [row])
    with pytest.raises(FrameError, match=r"has energy and energy_ev\. Say with energy_key"):
        load(tmp_path, "a.extxyz")
    (ours,) = load(tmp_path, {"path": "a.extxyz", "energy_key": "energy_ev"}).frames
    (theirs,) = load(tmp_path, {"path": "a.extxyz", "energy_key": "energy"}).frames
    assert ours.energy_ev == -1.0
    assert not ours.forces.any()  # all labels are of the named scheme
    assert not ours.stress.any()
    assert_same([theirs], [row])


def test_names_of_ones_own(tmp_path: Path, labelled: Labelled):
    structures = labelled(2)
    rows = [atoms.copy() for atoms in structures]
    for row in rows:
        row.info = {"dft_total": row.info["energy"], "s": row.info["stress"], "kind of run": "melt"}
        row.arrays["dft_f"] = row.arrays.pop("forces")
    write_structures(tmp_path / "a.extxyz", rows)
    keys = {"energy_key": "dft_total", "forces_key": "dft_f", "stress_key": "s", "group_from": "kind of run"}
    found = load(tmp_path, {"path": "a.extxyz", **keys})
    assert_same(found.frames, structures)
    assert {frame.group for frame in found.frames} == {"melt"}
    with pytest.raises(FrameError, match=r"no energy in 2 frames.*the frame has dft_f, dft_total, kind of run, s"):
        load(tmp_path, "a.extxyz")
    with pytest.raises(FrameError, match="missing stress in 2 frames"):
        load(tmp_path, {"path": "a.extxyz", **keys, "stress_key": "sigma"})


def test_files_by_pattern_groups_and_test_files(tmp_path: Path, labelled: Labelled):
    (tmp_path / "runs").mkdir()
    for k in range(3):
        write_structures(tmp_path / "runs" / f"{k}.extxyz", labelled(2, seed=k))
    write_structures(tmp_path / "t.extxyz", labelled(1, seed=9))
    found = load(tmp_path, {"path": "runs/*.extxyz", "group": "md"}, test_files=["t.extxyz"])
    assert [frame.source for frame in found.frames][::2] == [f"runs/{k}.extxyz row 1" for k in range(3)]
    assert {frame.group for frame in found.frames} == {"md"}
    assert [frame.source for frame in found.test_frames] == ["t.extxyz row 1"]
    assert len(found.all_frames()) == 7
    assert len({file.digest for file in found.files}) == 4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.extxyz", "there is no file"),
        ("*.db", "no file matches"),
        ("folder", "name a file in it"),
        ("POSCAR", "has no labels"),
        ("a.dat", "no structure format"),
    ],
)
def test_files_that_cannot_be_used_are_named(tmp_path: Path, name: str, message: str):
    (tmp_path / "folder").mkdir()
    (tmp_path / "POSCAR").write_text("x")
    (tmp_path / "a.dat").write_text("x")
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, name)


def test_a_file_named_twice_is_refused(tmp_path: Path, labelled: Labelled):
    write_structures(tmp_path / "a.extxyz", labelled(1))
    with pytest.raises(ConfigError, match="named twice"):
        load(tmp_path, "a.extxyz", "*.extxyz")
    with pytest.raises(ConfigError, match="named twice"):
        load(tmp_path, "a.extxyz", test_files=["a.extxyz"])


def test_a_damaged_file_is_refused_by_name(tmp_path: Path):
    (tmp_path / "a.extxyz").write_text("8\nnothing\nCu 0 0\n")
    with pytest.raises(StructureError, match=r"a\.extxyz: cannot be read"):
        load(tmp_path, "a.extxyz")


def test_settings_are_resolved_once_and_refuse_nonsense(tmp_path: Path):
    settings = DataSettings.model_validate({"files": ["a.extxyz"]}).resolved(tmp_path)
    assert settings.resolved(Path("/elsewhere")).base_dir == tmp_path
    for bad in (
        {"files": []},
        {"files": [{"path": "a", "energykey": "e"}]},
        {"files": ["a"], "test_fraction": 0.5, "validation_fraction": 0.5},
        {"files": ["a"], "test_fraction": 0.5, "test_files": ["b"]},
        {"files": ["a"], "energy_reference": "guess"},
        {"files": ["a"], "energy_reference": {"Xy": 1.0}},
    ):
        with pytest.raises(ValidationError):
            DataSettings.model_validate(bad)


def test_the_schema_for_editors_knows_both_forms():
    schema = DataSettings.model_json_schema()
    forms = schema["properties"]["files"]["items"]["anyOf"]
    assert {"type": "string"} in forms
    assert {"$ref": "#/$defs/FrameFileSettings"} in forms


# In memory


def test_structures_with_calculators(labelled: Labelled):
    structures = labelled(3)
    given = []
    for atoms in structures:
        copied = atoms.copy()
        copied.info, copied.calc = {}, EMT()
        del copied.arrays["forces"]
        copied.get_forces()
        copied.get_stress()
        given.append(copied)
    frames = frames_of_structures(given, source="melt")
    assert_same(frames, structures, atol=1e-9)
    assert frames[2].source == "melt 3"
    assert len(check_frames(frames).frames) == 3


def test_a_structure_moved_after_its_calculation_is_refused(labelled: Labelled):
    atoms = labelled(1)[0]
    atoms.calc = SinglePointCalculator(atoms, energy=1.0, forces=np.zeros((8, 3)))
    atoms.positions += 0.1
    with pytest.raises(FrameError, match="structure 1: the structure was changed"):
        frames_of_structures([atoms])


def test_frames_of_equal_source_are_refused(labelled: Labelled):
    frames = frames_of_structures(labelled(1))
    with pytest.raises(SurrogateError, match="same source"):
        check_frames([*frames, *frames])


# VASP


def vasp_step(free: float, zero: float, n_electronic: int) -> str:
    energies = f'<energy><i name="e_fr_energy">{free}</i><i name="e_0_energy">{zero}</i></energy>'
    cell = "<v>3.6 0 0</v><v>0 3.6 0</v><v>0 0 3.6</v>"
    positions = f"<v>0 0 0</v><v>{0.5 + free / 1000} 0.5 0</v><v>0.5 0 0.5</v><v>0 0.5 0.5</v>"
    return (
        f"<calculation>{n_electronic * f'<scstep>{energies}</scstep>'}"
        f'<structure><crystal><varray name="basis">{cell}</varray></crystal>'
        f'<varray name="positions">{positions}</varray></structure>'
        f'<varray name="forces">{4 * "<v>0 0 0</v>"}</varray>{energies}</calculation>'
    )


def vasprun(*steps: str) -> str:
    symbols = 4 * "<rc><c>Cu</c><c>1</c></rc>"
    return (
        '<modeling><parameters><i name="NELM">5</i><i name="EDIFF">-1</i></parameters>'
        f'<atominfo><array name="atoms"><set>{symbols}</set></array></atominfo>{"".join(steps)}</modeling>'
    )


def test_vasp_steps_their_energies_and_what_is_left_out(tmp_path: Path):
    (tmp_path / "melt").mkdir()
    steps = [vasp_step(-14.0, -13.9, 3), vasp_step(-13.0, -12.9, 5), vasp_step(-14.1, -14.0, 4)]
    (tmp_path / "melt" / "vasprun.xml").write_text(vasprun(*steps)[:-20])
    found = load(tmp_path, "*/vasprun.xml")
    assert [frame.energy_ev for frame in found.frames] == [-14.0]
    assert found.frames[0].source == "melt/vasprun.xml step 1"
    assert found.frames[0].group == "melt"
    assert {finding.kind for finding in found.report.warnings} == {"unconverged", "truncated_run"}
    assert "melt/vasprun.xml step 2: the electrons did not reach EDIFF" in str(found.report)
    (tmp_path / "melt" / "vasprun.xml").write_text(vasprun(*steps))
    assert [frame.energy_ev for frame in load(tmp_path, "*/vasprun.xml").frames] == [-14.0, -14.1]
    zero = load(tmp_path, "*/vasprun.xml", vasp_energy="sigma_to_zero")
    assert [frame.energy_ev for frame in zero.frames] == pytest.approx([-13.9, -14.0])
