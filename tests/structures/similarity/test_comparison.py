"""Generated structures beside references, as sets and pair by pair."""

from __future__ import annotations

import json

import numpy as np
import pytest
from alloysmith.errors import StructureError
from alloysmith.loop.cli.app import run_command_line
from alloysmith.structures.files import write_structures
from alloysmith.structures.lattice import parent_lattice
from alloysmith.structures.similarity.comparison import compare_pairs, compare_sets
from alloysmith.structures.similarity.identity import fault_of, identify
from alloysmith.structures.similarity.matching import coordination_fingerprint, match_rms
from ase import Atoms
from ase.build import bulk


def _alloy(seed: int, phase: str = "fcc", displacement_ang: float = 0.03, repeat=(2, 2, 2)) -> Atoms:
    rng = np.random.default_rng(seed)
    lattice = parent_lattice(phase, "tetragonal", repeat)
    atoms = lattice.decorate(rng.choice([26, 28], size=lattice.n_sites), 11.4)
    atoms.positions += rng.normal(0.0, displacement_ang, atoms.positions.shape)
    return atoms


def _image(atoms: Atoms, seed: int) -> Atoms:
    """The same ordering: shifted, its atoms and axes renamed, relaxed in another way."""
    rng = np.random.default_rng(seed)
    image = atoms[rng.permutation(len(atoms))]
    axes = rng.permutation(3)
    image.set_cell(image.cell.array[axes], scale_atoms=False)
    image.positions += rng.normal(size=3) + rng.normal(0.0, 0.02, image.positions.shape)
    image.set_cell(image.cell.array * 1.01, scale_atoms=True)
    return image


@pytest.mark.parametrize(("phase", "repeat"), [("fcc", (2, 2, 2)), ("bcc", (1, 2, 3)), ("fcc", (3, 1, 2))])
def test_images_of_one_ordering_are_one_structure(phase, repeat):
    atoms = _alloy(1, phase, repeat=repeat)
    other = atoms.copy()
    swapped = [int(np.flatnonzero(atoms.numbers == z)[0]) for z in (26, 28)]
    other.numbers[swapped] = other.numbers[swapped[::-1]]
    others = [_alloy(2, phase, repeat=repeat), _image(atoms, 3), _image(atoms, 4)]
    assert identify([atoms, *others]).tolist() == [0, 1, 0, 0]


def test_what_is_on_no_lattice_is_told_apart_by_matching():
    first, second = bulk("NaCl", "rocksalt", a=5.6, cubic=True), bulk("NaCl", "cesiumchloride", a=3.4)
    second = second.repeat((2, 2, 1))
    moved = first.copy()
    moved.positions += 0.7
    assert identify([first, second, moved, _alloy(0)]).tolist() == [0, 1, 0, 2]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda a: a.positions.__setitem__(0, a.positions[1] + 0.1), "apart"),
        (lambda a: a.positions.__setitem__(0, np.nan), "not finite"),
        (lambda a: a.set_cell(np.zeros((3, 3))), "a cell of 0 Å"),
        (lambda a: a.set_pbc(False), "not periodic"),
        (lambda a: a.numbers.__setitem__(0, 0), "without an element"),
    ],
)
def test_faults_are_named(change, fault):
    atoms = _alloy(0)
    assert fault_of(atoms) is None
    change(atoms)
    assert fault in (fault_of(atoms) or "")


def test_sets_are_counted():
    train = [_alloy(seed) for seed in range(4)]
    for k, atoms in enumerate(train):
        atoms.info["bulk_modulus_gpa"] = 180.0 + k
    broken = _alloy(9)
    broken.positions[0] = broken.positions[1]
    made = [_image(train[0], 1), _alloy(5), _image(_alloy(5), 2), _alloy(6, "bcc"), broken]
    for atoms, value in zip(made, (181.0, 185.0, 185.0, 190.0, 999.0), strict=True):
        atoms.info["bulk_modulus_gpa"] = value
    figures, rows = compare_sets(made, train, ["bulk_modulus_gpa"])
    assert (figures.n_generated, figures.n_reference) == (5, 4)
    assert figures.valid == pytest.approx(4 / 5)
    assert figures.unique == pytest.approx(3 / 4)
    assert figures.novel == pytest.approx(2 / 3)
    assert figures.valid_unique_novel == pytest.approx(2 / 5)
    assert figures.phases == {"bcc": 0.25, "fcc": 0.75}
    assert [row.get("same_as") for row in rows] == [None, None, 1, None, None]
    assert [row.get("is_novel") for row in rows] == [False, True, True, True, None]
    found = figures.properties["bulk_modulus_gpa"]
    assert (found.n, found.most, found.mean) == (4, 190.0, pytest.approx(185.25))  # the broken one does not count
    assert found.above_reference == pytest.approx(3 / 4)
    assert found.distance == pytest.approx(185.25 - 181.5)


def test_a_set_beside_itself_has_no_distance():
    train = [_alloy(seed) for seed in range(3)]
    figures, _ = compare_sets(train, train)
    assert (figures.valid, figures.unique, figures.novel) == (1.0, 1.0, 0.0)
    assert figures.volume_distance_ang3 == figures.composition_distance == 0.0


def test_pairs_are_matched():
    truth = [_alloy(0), _alloy(1), _alloy(2)]
    shuffled = truth[1].copy()
    shuffled.numbers = np.random.default_rng(0).permutation(shuffled.numbers)
    broken = truth[2].copy()
    broken.positions[0] = np.nan
    figures, rows = compare_pairs([_image(truth[0], 7), shuffled, broken], truth)
    assert figures.match_rate == pytest.approx(1 / 3)
    assert figures.valid == pytest.approx(2 / 3)
    assert 0.0 < rows[0]["rms"] < 0.05
    assert rows[1]["rms"] is None
    assert rows[1]["blind_g_distance"] < 1e-9 < 0.1 < rows[1]["g_distance"]
    assert rows[0]["g_distance"] < rows[1]["g_distance"]
    assert "g_distance" not in rows[2]


def test_displacements_are_in_units_of_the_spacing():
    atoms = _alloy(0, displacement_ang=0.0)
    moved = atoms.copy()
    moved.positions[0, 0] += 0.2
    # The best shift leaves 15/16 of the displacement at the moved atom and 1/16 at the 15 others.
    expected = 0.2 * np.sqrt(15.0) / 16.0 / (atoms.get_volume() / 16.0) ** (1.0 / 3.0)
    assert match_rms(atoms, moved) == pytest.approx(expected, rel=1e-3)


def test_coordination_fingerprints_know_the_lattice_and_not_the_elements():
    fcc, bcc = bulk("Ni"), bulk("Fe")
    vectors = [coordination_fingerprint(atoms) for atoms in (fcc, bulk("Cu", a=3.52), bcc)]
    assert vectors[0].shape == (61,)
    assert np.linalg.norm(vectors[0] - vectors[1]) < 1e-6
    assert np.linalg.norm(vectors[0] - vectors[2]) > 0.5
    assert vectors[0][44] > 0.9  # the likelihood of 12 neighbours, after 11 others and their 33 motifs


def test_nonsense_is_refused():
    with pytest.raises(StructureError, match="no generated structures"):
        compare_sets([])
    broken = _alloy(0)
    broken.positions[0] = broken.positions[1]
    with pytest.raises(StructureError, match="structure 1 of the reference"):
        compare_sets([_alloy(0)], [_alloy(1), broken])
    with pytest.raises(StructureError, match="no valid generated structure has a number 'colour'"):
        compare_sets([_alloy(0)], properties=["colour"])
    with pytest.raises(StructureError, match="got 1 and 2"):
        compare_pairs([_alloy(0)], [_alloy(1), _alloy(2)])


def test_the_command_writes_figures_and_rows(tmp_path, capsys):
    made, train = [_alloy(0), _image(_alloy(0), 1)], [_alloy(5), _alloy(6)]
    write_structures(tmp_path / "made.extxyz", made)
    write_structures(tmp_path / "train.extxyz", train)
    files = [str(tmp_path / "made.extxyz"), "--reference", str(tmp_path / "train.extxyz"), "-o", str(tmp_path / "out")]
    assert run_command_line(["compare", *files]) == 0
    figures = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert (figures["unique"], figures["novel"]) == (0.5, 1.0)
    assert len((tmp_path / "out" / "structures.csv").read_text().splitlines()) == 3
    write_structures(tmp_path / "pair.extxyz", [bulk("Ni")])
    pair = [str(tmp_path / "pair.extxyz"), "-r", str(tmp_path / "pair.extxyz"), "-o", str(tmp_path / "out")]
    assert run_command_line(["compare", *pair, "--paired", "--fingerprints"]) == 0
    figures = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert (figures["n_pairs"], figures["match_rate"]) == (1, 1.0)
    assert figures["g_distance"] == figures["fingerprint_distance"] == 0.0
    assert run_command_line(["compare", files[0], "-o", str(tmp_path / "out"), "--paired"]) != 0
    assert "--reference" in capsys.readouterr().err
