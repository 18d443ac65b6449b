"""Bad frames are named, all of them together, before anything is learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from alloysmith.structures.files import write_structures
from alloysmith.surrogates.base import SurrogateError
from alloysmith.surrogates.potentials.data_settings import DataSettings, FrameCheckSettings
from alloysmith.surrogates.potentials.frame import Frame
from alloysmith.surrogates.potentials.frame_report import FrameError
from alloysmith.surrogates.potentials.frames import check_frames, frames_of_structures, load_frames
from ase import Atoms
from ase.build import bulk, fcc111

Labelled = Callable[..., list[Atoms]]
Spoil = Callable[[Atoms], None]


def spoiled(key: str, value: object) -> Spoil:
    def spoil(atoms: Atoms) -> None:
        atoms.info[key] = value

    return spoil


def no_forces(atoms: Atoms) -> None:
    del atoms.arrays["forces"]


def nan_force(atoms: Atoms) -> None:
    atoms.arrays["forces"][3, 1] = np.nan


def flat_forces(atoms: Atoms) -> None:
    atoms.arrays["forces"] = atoms.arrays["forces"][:, :2].copy()


def huge_force(atoms: Atoms) -> None:
    atoms.arrays["forces"][:2, 0] += (1e3, -1e3)


def nan_position(atoms: Atoms) -> None:
    atoms.positions[0, 0] = np.nan


def overlap(atoms: Atoms) -> None:
    atoms.positions[1] = atoms.positions[0] + 0.4


def overlap_with_image(atoms: Atoms) -> None:
    atoms.positions[1] = atoms.positions[0] + atoms.cell[0] + 0.3


def dense(atoms: Atoms) -> None:
    atoms.set_cell(atoms.cell * 0.7, scale_atoms=True)


def sparse(atoms: Atoms) -> None:
    atoms.set_cell(atoms.cell * 60.0)


def flat_cell(atoms: Atoms) -> None:
    atoms.set_cell([*atoms.cell[:2], atoms.cell[0] + 2 * atoms.cell[1]])


def other_element(atoms: Atoms) -> None:
    atoms.symbols[2] = "Al"


BAD: dict[str, tuple[Spoil, str]] = {
    "no energy": (lambda atoms: atoms.info.pop("energy"), "no_energy"),
    "NaN energy": (spoiled("energy", float("nan")), "not_finite"),
    "text for energy": (spoiled("energy", "failed"), "bad_shape"),
    "absurd energy": (spoiled("energy", 5e3), "absurd_energy"),
    "energy per atom": (lambda atoms: atoms.info.update(energy=-3.5), "absurd_energy"),
    "no forces": (no_forces, "missing_forces"),
    "NaN force": (nan_force, "not_finite"),
    "two force components": (flat_forces, "bad_shape"),
    "huge force": (huge_force, "huge_forces"),
    "infinite stress": (spoiled("stress", np.full((3, 3), np.inf)), "not_finite"),
    "five stresses": (spoiled("stress", np.zeros(5)), "bad_shape"),
    "asymmetric stress": (spoiled("stress", np.arange(9.0).reshape(3, 3)), "asymmetric_stress"),
    "NaN position": (nan_position, "not_finite"),
    "overlap": (overlap, "overlapping_atoms"),
    "overlap with an image": (overlap_with_image, "overlapping_atoms"),
    "dense": (dense, "unphysical_density"),
    "sparse": (sparse, "unphysical_density"),
    "flat cell": (flat_cell, "bad_cell"),
    "other element": (other_element, "unknown_element"),
}


@pytest.fixture(scope="module")
def sound(labelled: Labelled) -> list[Atoms]:
    structures = labelled(40)
    for atoms in structures:  # in a database calculated with totals, energies are far from zero
        atoms.info["energy"] -= 4.0 * len(atoms)
    return structures


def rows(structures: list[Atoms]) -> list[Atoms]:
    return [atoms.copy() for atoms in structures]


def load(path: Path, **settings: object):
    return load_frames(
        DataSettings.model_validate({"files": [path.name], **settings}).resolved(path.parent), ["Cu", "Ni"]
    )


def test_sound_frames_give_no_findings(sound: list[Atoms]):
    found = check_frames(frames_of_structures(rows(sound)))
    assert not found.report.findings
    assert len(found.frames) == 40


@pytest.mark.parametrize("name", BAD)
def test_a_bad_frame_is_named_and_may_be_dropped(tmp_path: Path, sound: list[Atoms], name: str):
    spoil, kind = BAD[name]
    structures = rows(sound)
    structures[6] = structures[6].copy()
    spoil(structures[6])
    path = tmp_path / "a.db"  # keeps all that is wrong, unlike a text file's fixed columns
    write_structures(path, structures)
    with pytest.raises(FrameError) as caught:
        load(path)
    (error,) = [finding for finding in caught.value.report.errors if finding.kind == kind]
    assert [defect.source for defect in error.defects] == ["a.db row 7"]
    assert "a.db row 7" in str(caught.value)
    kept = load(path, on_bad_frame="drop")
    assert [frame.source for frame in kept.frames] == [f"a.db row {k}" for k in range(1, 41) if k != 7]
    assert kind in {finding.kind for finding in kept.report.errors}
    assert kept.files[0].n_frames == 39


def test_all_problems_are_reported_together(tmp_path: Path, sound: list[Atoms]):
    structures = rows(sound)
    for k, name in enumerate(("no energy", "NaN force", "overlap", "dense", "other element", "absurd energy")):
        BAD[name][0](structures[5 * k])
    for k in range(31, 39):
        no_forces(structures[k])
    write_structures(tmp_path / "a.extxyz", structures)
    with pytest.raises(FrameError) as caught:
        load(tmp_path / "a.extxyz")
    kinds = {finding.kind: len(finding.defects) for finding in caught.value.report.errors}
    assert kinds == {
        "no_energy": 1,
        "not_finite": 1,
        "overlapping_atoms": 1,
        "unphysical_density": 1,
        "unknown_element": 1,
        "absurd_energy": 1,
        "missing_forces": 8,
    }
    message = str(caught.value)
    assert "the 40 labelled frames have defects" in message
    assert "missing forces in 8 frames: a.extxyz row 32" in message
    assert "and 3 more" in message
    assert "unknown element in 1 frame: a.extxyz row 21: Al" in message
    assert caught.value.exit_code == 2
    assert "With on_bad_frame: drop" in message


def test_a_row_with_two_defects_counts_once(sound: list[Atoms]):
    structures = rows(sound)
    no_forces(structures[0])
    structures[0].info["energy"] = float("nan")
    with pytest.raises(FrameError, match=r"the 40 labelled.*\n.*not finite in 1 frame.*\n.*missing forces in 1 frame"):
        frames_of_structures(structures)


def test_missing_forces_may_be_declared_or_without_weight(tmp_path: Path, sound: list[Atoms]):
    structures = rows(sound)
    no_forces(structures[0])
    write_structures(tmp_path / "a.extxyz", structures)
    settings = {"files": [{"path": "a.extxyz", "has_forces": False}]}
    assert load(tmp_path / "a.extxyz", **settings).frames[0].forces is None
    plain = DataSettings.model_validate({"files": ["a.extxyz"]}).resolved(tmp_path)
    found = load_frames(plain, forces_needed=False)
    assert found.frames[0].forces is None
    assert found.frames[1].forces is not None


def test_nothing_left_is_an_error(tmp_path: Path, sound: list[Atoms]):
    structures = rows(sound[:2])
    for atoms in structures:
        no_forces(atoms)
    write_structures(tmp_path / "a.extxyz", structures)
    with pytest.raises(SurrogateError, match="no labelled frame is left"):
        load(tmp_path / "a.extxyz", on_bad_frame="drop")


def test_usual_data_passes(labelled: Labelled, sound: list[Atoms]):
    """Slabs and molecules in vacuum, single atoms, clusters without a cell, wires with one cell vector."""
    energy_ev = {"forces": None, "stress": None}
    slab = fcc111("Cu", (2, 2, 3), vacuum=12.0)
    slab.pbc = True
    wire = Atoms("Cu2", [[0, 0, 0], [0, 0, 2.4]], cell=[0, 0, 4.8], pbc=[False, False, True])
    layer = Atoms("Cu", cell=[[2.5, 0, 0], [1.25, 2.2, 0], [0, 0, 0]], pbc=[True, True, False])
    single = Atoms("Cu", cell=[20.0, 20.0, 20.0], pbc=True)
    dimer = Atoms("Cu2", [[0, 0, 0], [0, 0, 2.2]])
    extra = [(slab, -3.5), (wire, -1.7), (layer, -2.4), (single, -0.5), (dimer, -1.5)]  # a crystal has -4
    frames = frames_of_structures(rows(sound))
    frames += [
        Frame(atoms, per_atom * len(atoms), source=f"odd {k}", **energy_ev) for k, (atoms, per_atom) in enumerate(extra)
    ]
    assert not check_frames(frames).report.findings


def test_forces_that_do_not_add_up_are_warned_about(sound: list[Atoms]):
    structures = rows(sound)
    structures[2].arrays["forces"] = structures[2].arrays["forces"] + 0.02
    found = check_frames(frames_of_structures(structures))
    (warning,) = found.report.warnings
    assert warning.kind == "net_force"
    assert "structure 3: 0.02 eV/Å per atom" in str(warning)
    assert len(found.frames) == 40


def test_duplicates_are_warned_about_and_contradictions_refused(sound: list[Atoms]):
    frames = frames_of_structures(rows(sound))
    same = replace(frames[4], source="copy")
    found = check_frames([*frames, same])
    (warning,) = found.report.findings
    assert (warning.kind, warning.severity) == ("duplicate", "warning")
    assert "copy: equals structure 5" in str(warning)
    other = replace(frames[4], source="copy", energy_ev=frames[4].energy_ev + 0.1)
    with pytest.raises(FrameError, match="conflicting duplicates in 2 frames: structure 5: equals copy"):
        check_frames([*frames, other])
    pushed = replace(frames[4], source="copy", forces=frames[4].forces + 0.1 * np.sign(frames[4].forces))
    with pytest.raises(FrameError, match="conflicting duplicates"):
        check_frames([*frames, pushed])
    kept = check_frames([*frames, other], drop_bad=True)
    assert {frame.source for frame in kept.frames} == {frame.source for frame in frames} - {"structure 5"}


def test_test_frames_must_not_be_among_those_learned_from(tmp_path: Path, sound: list[Atoms]):
    write_structures(tmp_path / "a.extxyz", rows(sound))
    write_structures(tmp_path / "t.extxyz", rows(sound[8:9]))
    with pytest.raises(FrameError, match=r"a\.extxyz row 9: equals t\.extxyz row 1"):
        load(tmp_path / "a.extxyz", test_files=["t.extxyz"])
    kept = load(tmp_path / "a.extxyz", test_files=["t.extxyz"], on_bad_frame="drop")
    assert (len(kept.frames), len(kept.test_frames)) == (39, 1)


def test_thresholds_are_settings(sound: list[Atoms]):
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True)
    atoms.positions[1] *= 0.6  # 1.53 Å from its neighbour
    frame = Frame(atoms, -30.0, np.zeros((4, 3)), source="close")
    assert check_frames([frame]).frames
    with pytest.raises(FrameError, match="overlapping atoms"):
        check_frames([frame], FrameCheckSettings(min_distance=0.65))


@pytest.mark.parametrize(
    ("files", "group_from", "n_frames", "n_duplicates"),
    [
        (["cu/Cu_dft"], "src", 228, 1),
        (["ni/Ni_dft"], "group", 409, 0),
        (["mo/Mo_dft"], "group", 261, 2),
        (["ni/Ni_dft", "mo/Mo_dft", "nimo/NiMo_elastic_dft"], "group", 912, 2),
        pytest.param(["nbmotaw/NbMoTaW_train"], "src", 5282, 0, marks=pytest.mark.slow),
    ],
)
def test_published_data_passes(shared_data: Path, files: list[str], group_from: str, n_frames: int, n_duplicates: int):
    """Crystals under strain, surfaces, vacancies, a grain boundary, and melts up to 2.7 eV/atom above them."""
    listed = [{"path": f"{name}.extxyz.gz", "group_from": group_from} for name in files]
    found = load_frames(DataSettings.model_validate({"files": listed}).resolved(shared_data))
    assert len(found.frames) == n_frames
    counts = {finding.kind: len(finding.defects) for finding in found.report.findings}
    assert counts == ({"duplicate": n_duplicates} if n_duplicates else {})
