"""Barriers, alloys and chemical order from the command line."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from alloysmith.loop.store.lock import RunLock
from alloysmith.structures.files import read_structures
from alloysmith.tests.cli.toy import CommandLine

SMALL = ("--set", "cell.repeat=[3,3,3]", "--set", "n_train=2", "--set", "n_test=1", "--set", "min_fraction=0.2")
QUICK = ("--executor", "in_process", "--set", "n_images=1")


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture
def alloys(tmp_path: Path, alloysmith: CommandLine) -> Path:
    path = tmp_path / "alloys.extxyz"
    assert alloysmith("alloys", "alloys/ta_nb_mo", "-o", path, *SMALL).code == 0
    return path


def test_a_table_of_barriers_is_made_once(alloys: Path, alloysmith: CommandLine, tmp_path: Path) -> None:
    assert [row.info["split"] for row in read_structures(alloys)] == ["train", "train", "test"]
    table, saddles = tmp_path / "barriers.csv", tmp_path / "saddles.extxyz"
    command = ("barriers", "oracles/vacancy_migration", alloys, "-o", table, "--hops", 1, "--saddles", saddles, *QUICK)
    done = alloysmith(*command)
    assert done.code == 0
    assert "3 of 3 barriers" in done.out or "failed" in done.out
    rows = rows_of(table)
    assert len(rows) == 3
    assert [row["split"] for row in rows] == ["train", "train", "test"]
    frames = read_structures(alloys)
    for row in rows:
        name, _, index = row["structure"].rpartition("@")
        assert (table.parent / name).resolve() == alloys.resolve()
        assert frames[int(index)].symbols[int(row["neighbour"])] == row["moving_species"]
        assert bool(row["barrier_ev"]) != bool(row["failure"])
    labelled = [row for row in rows if row["barrier_ev"]]
    assert len(read_structures(saddles)) == len(labelled)
    assert read_structures(saddles)[0].info["barrier_forward_ev"] == pytest.approx(
        float(labelled[0]["barrier_ev"]), abs=1e-6
    )
    again = alloysmith(*command)
    assert "0 evaluated now" in again.out
    listed = tmp_path / "elsewhere" / "again.csv"
    assert alloysmith("barriers", "oracles/vacancy_migration", table, "-o", listed, *QUICK).code == 0
    assert [row["barrier_ev"] for row in rows_of(listed)] == [row["barrier_ev"] for row in rows]
    for row in rows_of(listed):
        assert (listed.parent / row["structure"].rpartition("@")[0]).resolve() == alloys.resolve()


def test_what_cannot_be_used_is_said(alloys: Path, alloysmith: CommandLine, tmp_path: Path) -> None:
    def refused(*arguments: object) -> str:
        done = alloysmith("barriers", "oracles/vacancy_migration", *arguments, "--executor", "in_process")
        assert done.code == 2
        return done.err

    assert "*.csv" in refused(alloys, "-o", tmp_path / "x.extxyz")
    assert "two ways" in refused(alloys, "-o", tmp_path / "x.csv", "--hops", 1, "--vacancies", 1)
    table = tmp_path / "hops.csv"
    table.write_text("structure,vacancy_site\nx,1\n")
    assert "missing: neighbour" in refused(table, "-o", tmp_path / "x.csv")
    table.write_text(f"structure,vacancy_site,neighbour\n{alloys}@0,1,999\n")
    assert "line 2" in refused(table, "-o", tmp_path / "x.csv")
    for row in (f"{alloys},1,2", f"{alloys}@-1,1,2", f"{alloys}@3,1,2", f"{alloys}@0,1"):
        table.write_text(f"structure,vacancy_site,neighbour\n{row}\n")
        assert "line 2" in refused(table, "-o", tmp_path / "x.csv")


def test_order_goes_on(alloys: Path, alloysmith: CommandLine, tmp_path: Path) -> None:
    run = ("order", "order/ta_nb_mo", alloys, "-o", tmp_path / "run", "--set", "run.block_steps=100")
    assert alloysmith(*run, "--set", "run.n_steps=100").code == 0
    done = alloysmith(*run, "--set", "run.n_steps=200")
    assert done.code == 0
    assert "step 200" in done.out
    assert [row["step"] for row in rows_of(tmp_path / "run" / "order.csv")] == ["100", "200"]


def test_a_run_towards_order_has_one_driver(alloys: Path, alloysmith: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    lock = RunLock(folder)
    refused = alloysmith("order", "order/ta_nb_mo", alloys, "-o", folder)
    lock.release()
    assert refused.code != 0
    assert "wait for it" in refused.err
    assert [path.name for path in folder.iterdir()] == ["lock"]
