"""Systems of DeePMD-kit: written and read back, signs and units of the virial, damaged ones named by their file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from alloysmith.errors import StructureError
from alloysmith.structures.deepmd_data import deepmd_systems, read_deepmd_sets
from alloysmith.structures.deepmd_writer import DeepmdWriter
from alloysmith.structures.files import read_structures
from ase import Atoms


def frame(symbols: str, seed: int, *, is_periodic: bool = True) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = Atoms(symbols, positions=rng.uniform(0.0, 5.0, size=(len(Atoms(symbols)), 3)), pbc=is_periodic)
    if is_periodic:
        atoms.cell = 6.0 * np.eye(3) + rng.uniform(-0.5, 0.5, size=(3, 3))
        stress = rng.normal(scale=0.01, size=(3, 3))
        atoms.info["stress"] = stress + stress.T
    atoms.info["energy"] = float(rng.normal())
    atoms.set_array("forces", rng.normal(size=(len(atoms), 3)))
    return atoms


def write(folder: Path, frames: list[Atoms], elements: tuple[str, ...] = (), **settings) -> None:
    with DeepmdWriter(folder, elements, **settings) as writer:
        for atoms in frames:
            forces = atoms.arrays.get("forces")
            writer.add(atoms, atoms.info["energy"], forces, atoms.info.get("stress"))


def assert_equal(found: Atoms, atoms: Atoms, order: np.ndarray) -> None:
    assert found.numbers.tolist() == atoms.numbers[order].tolist()
    assert found.pbc.tolist() == atoms.pbc.tolist()
    assert np.array_equal(found.positions, atoms.positions[order])
    assert np.array_equal(found.cell.array, atoms.cell.array)
    assert found.info["energy"] == atoms.info["energy"]
    assert np.array_equal(found.arrays["forces"], atoms.arrays["forces"][order])
    assert ("stress" in found.info) == ("stress" in atoms.info)
    if "stress" in atoms.info:
        assert found.info["stress"] == pytest.approx(atoms.info["stress"], rel=1e-14)


def test_compositions_are_systems_of_their_own(tmp_path: Path) -> None:
    """Elements sorted, sets filled one after the other, the type map common to all."""
    frames = [frame("NiAlNi", 1), frame("CuAl2", 2), frame("Ni2Al", 3), frame("NiAlNi", 4), frame("Al2", 5)]
    write(tmp_path / "all", frames, frames_per_set=2)
    systems = deepmd_systems(tmp_path / "all")
    assert [system.name for system in systems] == ["Al1Ni2", "Al2", "Al2Cu1"]
    assert {(system / "type_map.raw").read_text() for system in systems} == {"Al\nCu\nNi\n"}
    assert (systems[0] / "type.raw").read_text().split() == ["0", "2", "2"]
    parts = list(read_deepmd_sets(systems[0]))
    assert [(part.name, len(part)) for part in parts] == [("set.000", 2), ("set.001", 1)]
    found = [parts[0].atoms(0), parts[0].atoms(1), parts[1].atoms(0)]
    for atoms, original in zip(found, (frames[0], frames[2], frames[3]), strict=True):
        assert_equal(atoms, original, np.argsort(original.get_chemical_symbols(), kind="stable"))
    assert [len(atoms) for atoms in read_structures(tmp_path / "all")] == [3, 3, 3, 2, 3]


def test_mixed_systems_keep_the_order_of_atoms(tmp_path: Path) -> None:
    frames = [frame("NiAlNi", 1), frame("CuAl2", 2), frame("Al2", 3)]
    write(tmp_path / "all", frames, ("Ni",), is_mixed=True)
    assert [system.name for system in deepmd_systems(tmp_path / "all")] == ["2", "3"]
    assert (tmp_path / "all" / "3" / "type_map.raw").read_text().split() == ["Ni", "Al", "Cu"]
    types = np.load(tmp_path / "all" / "3" / "set.000" / "real_atom_types.npy")
    assert types.tolist() == [[0, 1, 0], [2, 1, 1]]
    found = read_structures(tmp_path / "all")
    for atoms, original in zip(found, (frames[2], frames[0], frames[1]), strict=True):
        assert_equal(atoms, original, np.arange(len(atoms)))


def test_places_without_an_atom_are_left_out(tmp_path: Path) -> None:
    write(tmp_path / "all", [frame("NiAlNi", 1)], is_mixed=True)
    path = tmp_path / "all" / "3" / "set.000" / "real_atom_types.npy"
    np.save(path, np.where(np.arange(3) == 1, -1, np.load(path)))
    (found,) = read_structures(tmp_path / "all")
    assert found.get_chemical_symbols() == ["Ni", "Ni"]
    assert found.arrays["forces"].tolist() == frame("NiAlNi", 1).arrays["forces"][[0, 2]].tolist()


def test_the_virial_is_minus_volume_times_stress(tmp_path: Path) -> None:
    atoms = frame("Al2", 1)
    write(tmp_path / "all", [atoms])
    virial = np.load(tmp_path / "all" / "Al2" / "set.000" / "virial.npy")
    assert virial.shape == (1, 9)
    assert virial[0] == pytest.approx(-atoms.cell.volume * atoms.info["stress"].ravel(), rel=1e-14)


def test_what_frames_lack_makes_other_systems(tmp_path: Path) -> None:
    bare, molecule = frame("Al2", 2), frame("Al2", 3, is_periodic=False)
    del bare.arrays["forces"], bare.info["stress"]
    write(tmp_path / "all", [frame("Al2", 1), bare, molecule])
    names = [system.name for system in deepmd_systems(tmp_path / "all")]
    assert names == ["Al2", "Al2-no-force-no-virial", "Al2-no-virial-nopbc"]
    found = read_structures(tmp_path / "all")
    assert set(found[1].info) == {"energy"}
    assert set(found[1].arrays) == {"numbers", "positions"}
    assert_equal(found[2], molecule, np.arange(2))


def test_text_files_are_read_where_there_are_no_sets(tmp_path: Path) -> None:
    frames = [frame("AlNi", 1), frame("AlNi", 2)]
    write(tmp_path / "all", frames)
    system = tmp_path / "all" / "Al1Ni1"
    for path in (system / "set.000").iterdir():
        np.savetxt(system / f"{path.stem}.raw", np.load(path))
        path.unlink()
    (system / "set.000").rmdir()
    for found, original in zip(read_structures(tmp_path / "all"), frames, strict=True):
        assert found.positions == pytest.approx(original.positions)
        assert found.info["energy"] == pytest.approx(original.info["energy"])
        assert found.info["stress"] == pytest.approx(original.info["stress"])


def test_arrays_on_disk_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in memory is bounded: here by nothing, so that each frame is appended."""
    monkeypatch.setattr("alloysmith.structures.deepmd_writer._MAX_BUFFERED_BYTES", 0)
    frames = [frame("AlNi", seed) for seed in range(12)]
    write(tmp_path / "all", frames, frames_per_set=10)
    assert np.load(tmp_path / "all" / "Al1Ni1" / "set.000" / "coord.npy").shape == (10, 6)
    for found, original in zip(read_structures(tmp_path / "all"), frames, strict=True):
        assert_equal(found, original, np.arange(2))


def test_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    slab = frame("Al2", 1)
    slab.pbc = (True, True, False)
    with pytest.raises(StructureError, match="periodic in some directions only"):
        write(tmp_path / "all", [frame("Al2", 2), slab])
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "all", [frame("Al2", 2)])
    with pytest.raises(StructureError, match="exists"):
        write(tmp_path / "all", [frame("Al2", 2)])
    with pytest.raises(StructureError, match="Xx are no"):
        DeepmdWriter(tmp_path / "other", ["Xx"])
    with pytest.raises(StructureError, match="an element twice"):
        DeepmdWriter(tmp_path / "other", ["Al", "Ni", "Al"])


def _cut(system: Path) -> None:
    path = system / "set.000" / "force.npy"
    path.write_bytes(path.read_bytes()[:-8])


def _short(system: Path) -> None:
    np.save(system / "set.000" / "energy.npy", np.zeros(1))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_cut, r"force\.npy cannot be read; it may be damaged or cut short"),
        (_short, r"energy\.npy has 1 frames, coord\.npy has 2"),
        (
            lambda s: np.save(s / "set.000" / "virial.npy", np.zeros((2, 6))),
            r"virial\.npy has shape \(2, 6\).* 9 numbers",
        ),
        (lambda s: np.save(s / "set.000" / "box.npy", np.array([["x"] * 9] * 2)), r"box\.npy holds <U1"),
        (lambda s: np.save(s / "set.000" / "energy.npy", np.array(1.0)), r"energy\.npy holds float64 of shape \(\)"),
        (
            lambda s: np.save(s / "set.000" / "real_atom_types.npy", np.zeros((2, 2))),
            r"real_atom_types\.npy holds float64 .* whole numbers",
        ),
        (lambda s: (s / "set.000" / "box.npy").unlink(), r"box\.npy is missing; .* nopbc"),
        (lambda s: (s / "set.000" / "coord.npy").unlink(), r"coord\.npy is missing"),
        (lambda s: (s / "type.raw").write_text("0 2"), r"type\.raw has types from 0 to 2; the type map has 2 elements"),
        (lambda s: (s / "type.raw").write_text("0 1 1"), r"coord\.npy has shape \(2, 6\)"),
        (lambda s: (s / "type.raw").write_text("0 Al"), r"type\.raw cannot be read"),
        (lambda s: (s / "type_map.raw").write_text("H1 O"), r"type_map\.raw names H1"),
        (lambda s: (s / "type_map.raw").unlink(), r"type_map\.raw is missing; .*type_map: \[Al"),
        (lambda s: (s / "set.000").rename(s / "old"), r"neither folders set\.\* with coord\.npy, nor coord\.raw"),
    ],
)
def test_damage_is_named_with_its_file(damage, says: str, tmp_path: Path) -> None:
    write(tmp_path / "all", [frame("AlNi", 1), frame("AlNi", 2)])
    damage(tmp_path / "all" / "Al1Ni1")
    with pytest.raises(StructureError, match=says):
        list(read_deepmd_sets(tmp_path / "all" / "Al1Ni1"))


def test_a_type_map_can_be_given(tmp_path: Path) -> None:
    write(tmp_path / "all", [frame("AlNi", 1)])
    (tmp_path / "all" / "Al1Ni1" / "type_map.raw").unlink()
    (part,) = read_deepmd_sets(tmp_path / "all" / "Al1Ni1", ("Fe", "Cr"))
    assert part.atoms(0).get_chemical_symbols() == ["Fe", "Cr"]


def test_a_folder_without_systems(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match="without DeePMD-kit systems"):
        read_structures(tmp_path)
