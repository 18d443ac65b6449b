"""Tables of hops that somebody else wrote."""

from __future__ import annotations

import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
from alloysmith.surrogates.barriers.data_settings import HopDataSettings
from alloysmith.surrogates.barriers.hop_file import HopFileError, join, read_hops
from alloysmith.surrogates.barriers.hop_lattice import hop_lattice
from alloysmith.surrogates.barriers.hops import all_hops, occupations
from alloysmith.tests.surrogates.barriers.hop_tables import ELEMENTS, random_crystal, toy_hops, write_table


def test_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    hops = toy_hops(3, 40)
    read = read_hops(write_table(hops, tmp_path)).hops
    lattice = hop_lattice("bcc", 3)
    before, after = (occupations(h, lattice, ELEMENTS) for h in (hops, read))
    np.testing.assert_array_equal(before.sites, after.sites)
    np.testing.assert_array_equal(before.moving, after.moving)
    np.testing.assert_array_equal(hops.barriers_ev, read.barriers_ev)
    assert len(set(read.groups)) == 3
    assert read.elements == ELEMENTS
    both = join([read, read])
    np.testing.assert_array_equal(occupations(both, lattice, ELEMENTS).sites, np.tile(after.sites, (2, 1)))


def test_other_names_other_separators_and_frames_of_one_file(tmp_path: Path) -> None:
    hops = toy_hops(2, 20)
    ase.io.write(tmp_path / "all.extxyz", list(hops.crystals))
    lines = ["# somebody's data", "File; Vacancy Index; Neighbor; Barrier; alloy"]
    for k, v, n, b in zip(hops.crystal, hops.vacancy, hops.neighbour, hops.barriers_ev, strict=True):
        lines.append(f"all.extxyz@{k}; {v + 1}; {n + 1}.0; {1000.0 * b}; alloy {k}")
    (tmp_path / "table.csv").write_text("\ufeff" + "\r\n".join(lines) + "\n", encoding="utf-8")
    read = read_hops(tmp_path / "table.csv", HopDataSettings(first_index=1, barrier_unit="meV")).hops
    np.testing.assert_array_equal(read.vacancy, hops.vacancy)
    np.testing.assert_array_equal(read.neighbour, hops.neighbour)
    np.testing.assert_allclose(read.barriers_ev, hops.barriers_ev)
    assert set(read.groups) == {"alloy 0", "alloy 1"}


def test_any_format_of_ase_and_columns_named_in_the_settings(tmp_path: Path) -> None:
    atoms = random_crystal(1)
    hop = all_hops([atoms]).take(np.arange(1))
    lines = ["s,v,n,e"]
    for name in ("cell.xsf", "cell.json", "cell.traj"):
        ase.io.write(tmp_path / name, atoms)
        lines.append(f"{name},{hop.vacancy[0]},{hop.neighbour[0]},0.5")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    settings = HopDataSettings.model_validate(
        {"columns": {"structure": "s", "vacancy_site": "v", "neighbour": "n", "barrier": "e"}}
    )
    read = read_hops(tmp_path / "t.csv", settings).hops
    assert read.barriers_ev.tolist() == [0.5] * 3
    for crystal in read.crystals:
        np.testing.assert_array_equal(crystal.numbers, atoms.numbers)


def test_structures_that_have_the_vacancy(tmp_path: Path) -> None:
    atoms = random_crystal(2)
    atoms.rattle(0.05, seed=1)
    hops = all_hops([atoms])
    hop = hops.take(np.flatnonzero(hops.vacancy == 20))
    place = atoms.positions[20]
    broken = atoms.copy()
    del broken[20]
    ase.io.write(tmp_path / "broken.vasp", broken)
    numbers = hop.neighbour - (hop.neighbour > 20)
    lines = ["structure,vacancy_x,vacancy_y,vacancy_z,mover,barrier"]
    lines += [f"broken.vasp,{place[0]},{place[1]},{place[2]},{n},1.0" for n in numbers]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    read = read_hops(tmp_path / "t.csv").hops
    assert read.elements == ELEMENTS
    lattice = hop_lattice("bcc", 3)
    found, wanted = occupations(read, lattice, ELEMENTS), occupations(hop, lattice, ELEMENTS)
    order, known = (np.lexsort(o.sites.T) for o in (found, wanted))
    np.testing.assert_array_equal(found.sites[order], wanted.sites[known])


def test_every_bad_row_is_named(tmp_path: Path) -> None:
    hops = toy_hops(1, 4)
    path = write_table(hops, tmp_path)
    lines = path.read_text().splitlines()
    v, n = int(hops.vacancy[0]), int(hops.neighbour[0])
    far = int(np.argmax(hops.crystals[0].get_distances(v, np.arange(54), mic=True)))
    bad = {
        5: (f"structures/9.extxyz,{v},{n},0.5", "no file"),
        6: (f"structures/0.extxyz,{v},54,0.5", "atoms 0 to 53"),
        7: (f"structures/0.extxyz,{v},{far},0.5", "no nearest neighbour"),
        8: (f"structures/0.extxyz,{v},{v},0.5", "no nearest neighbour"),
        9: (f"structures/0.extxyz,{v},{n},nan", "finite"),
        10: (f"structures/0.extxyz,{v},{n},high", "'high'"),
        11: (f"structures/0.extxyz,{v},{n},0.7", "row 1 once more"),
        12: (f"structures/0.extxyz,{v}.5,{n},0.7", "whole number"),
        13: (f"structures/0.extxyz@3,{v},{n},0.7", "@3"),
    }
    path.write_text("\n".join([*lines, *(f"{text}," for text, _ in bad.values())]))
    with pytest.raises(HopFileError) as caught:
        read_hops(path)
    for row, (_, what) in bad.items():
        named = next(line for line in str(caught.value).splitlines() if line.startswith(f"row {row}:"))
        assert what in named
    table = read_hops(path, HopDataSettings(on_bad_row="drop"))
    assert table.hops.rows.tolist() == [1, 2, 3, 4]
    assert set(table.dropped) == set(bad)


def test_calculations_that_failed_are_left_out(tmp_path: Path) -> None:
    path = write_table(toy_hops(1, 4), tmp_path)
    header, *lines = path.read_text().splitlines()
    lines = [line.replace(",made up", ",,") for line in lines]
    v, n = lines[1].split(",")[1:3]
    lines[1] = f"structures/0.extxyz,{v},{n},,,not_converged"
    path.write_text("\n".join([f"{header},failure", *lines]))
    table = read_hops(path)
    assert table.hops.rows.tolist() == [1, 3, 4]
    assert "not_converged" in table.dropped[2]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("", "no rows"),
        ("structure,vacancy,neighbour\n", "no rows"),
        ("structure,vacancy,neighbour\na,1,2\n", "column for barrier"),
        ("structure,neighbour,barrier\na,1,2\n", "vacancy_site"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, content: str, word: str) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(HopFileError, match=word):
        read_hops(tmp_path / "t.csv")
    with pytest.raises(HopFileError, match="cannot read"):
        read_hops(tmp_path / "none.csv")


def test_many_hops_load_fast(tmp_path: Path) -> None:
    crystals = [random_crystal(k, repeat=4) for k in range(10)]
    hops = all_hops(crystals)
    hops.barriers_ev[:] = 1.0
    path = write_table(hops, tmp_path)
    start = time.process_time()
    read = read_hops(path).hops
    assert len(read) == 10_240
    assert time.process_time() - start < 5.0  # 0.7 s on an idle core
