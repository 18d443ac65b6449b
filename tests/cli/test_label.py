"""Labelling files: values where people look for them, rows as they were, and no work done twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
import yaml
from alloysmith.loop.config import ExecutionSettings
from alloysmith.loop.label_journal import JournalError, LabelJournal, request_key
from alloysmith.loop.labelling import label_structures
from alloysmith.oracles.base import Request
from alloysmith.oracles.pair_model import PairModelSettings
from alloysmith.structures.settings import SystemSettings
from alloysmith.tests.cli.toy import CommandLine
from ase import Atoms

IN_PROCESS = ("--executor", "in_process")


def structures(n: int, seed: int = 0) -> list[Atoms]:
    """Random FCC and BCC alloys with notes of their own."""
    space = SystemSettings.model_validate({"elements": ["Ni", "Fe"], "cell": {"repeat": [2, 2, 2]}}).space()
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(n):
        lattice = space.lattices[index % 2]
        atoms = space.atoms(lattice, space.random_occupation(rng, lattice))
        atoms.info["serial"] = index
        atoms.info["note"] = f"row {index}"
        atoms.arrays["site_tag"] = np.arange(len(atoms))
        rows.append(atoms)
    return rows


def oracle_file(folder: Path, **settings: object) -> Path:
    path = folder / "oracle.yaml"
    path.write_text(yaml.safe_dump({"kind": "pair_model", **settings}))
    return path


def test_rows_keep_what_they_held_and_gain_values(alloysmith: CommandLine, tmp_path: Path) -> None:
    rows = structures(6)
    ase.io.write(tmp_path / "in.extxyz", rows)
    oracle = oracle_file(tmp_path)
    ended = alloysmith("label", oracle, tmp_path / "in.extxyz", "-o", tmp_path / "out.extxyz", *IN_PROCESS)
    assert ended.code == 0, ended.err
    assert "6 labelled" in ended.out
    labelled = ase.io.read(tmp_path / "out.extxyz", ":")
    expected = PairModelSettings().build()
    for given, row in zip(rows, labelled, strict=True):
        label = expected.evaluate(Request("x", given, given.info["phase"]))
        assert row.info["bulk_modulus_gpa"] == pytest.approx(label.values["bulk_modulus_gpa"], abs=1e-6)
        assert (row.info["serial"], row.info["note"]) == (given.info["serial"], given.info["note"])
        assert row.info["oracle_fingerprint"] == label.fingerprint
        assert row.get_chemical_symbols() == given.get_chemical_symbols()
        assert np.array_equal(row.arrays["site_tag"], given.arrays["site_tag"])
        np.testing.assert_allclose(row.positions, given.positions, atol=1e-6)


def test_failures_are_rows_too(alloysmith: CommandLine, tmp_path: Path) -> None:
    ase.io.write(tmp_path / "in.extxyz", structures(20))
    oracle = oracle_file(tmp_path, faults=[{"effect": "left_phase", "fraction": 0.4}])
    ended = alloysmith("label", oracle, tmp_path / "in.extxyz", "-o", tmp_path / "out.extxyz", *IN_PROCESS)
    assert ended.code == 0, ended.err
    labelled = ase.io.read(tmp_path / "out.extxyz", ":")
    failed = [row for row in labelled if "failure" in row.info]
    assert 0 < len(failed) < 20
    assert f"{len(failed)} failed ({len(failed)} left_phase)" in ended.out
    assert [row.info["serial"] for row in labelled] == list(range(20))
    assert all(("bulk_modulus_gpa" in row.info) == ("failure" not in row.info) for row in labelled)
    assert all(row.info["failure"] == "left_phase" and "injected" in row.info["failure_message"] for row in failed)


def test_an_element_the_potential_lacks_costs_only_its_row(alloysmith: CommandLine, tmp_path: Path) -> None:
    rows = structures(3)
    rows[1].symbols[0] = "Xe"
    ase.io.write(tmp_path / "in.extxyz", rows)
    target = tmp_path / "out.extxyz"
    ended = alloysmith("label", "oracles/single_point", tmp_path / "in.extxyz", "-o", target, *IN_PROCESS)
    assert ended.code == 0, ended.err
    assert "2 labelled, 1 failed (1 bad_structure)" in ended.out
    labelled = ase.io.read(target, ":")
    assert [row.info.get("failure") for row in labelled] == [None, "bad_structure", None]
    assert "Xe" in labelled[1].info["failure_message"]
    assert ["energy_ev" in row.info for row in labelled] == [True, False, True]


def test_a_file_without_one_usable_row_is_refused(alloysmith: CommandLine, tmp_path: Path) -> None:
    rows = structures(2)
    for row in rows:
        row.symbols[0] = "Xe"
    ase.io.write(tmp_path / "in.extxyz", rows)
    target = tmp_path / "out.extxyz"
    ended = alloysmith("label", "oracles/single_point", tmp_path / "in.extxyz", "-o", target, *IN_PROCESS)
    assert ended.code == 2
    assert "no Xe" in ended.err
    assert not target.exists()


@pytest.mark.parametrize("effect", ["crashed", "unavailable"])
def test_breakdowns_are_tried_again(effect: str, alloysmith: CommandLine, tmp_path: Path) -> None:
    ase.io.write(tmp_path / "in.extxyz", structures(4))
    fault = {"effect": effect, "fraction": 1.0, "once_folder": str(tmp_path / "seen")}
    oracle = oracle_file(tmp_path, faults=[fault])
    ended = alloysmith("label", oracle, tmp_path / "in.extxyz", "-o", tmp_path / "out.extxyz", *IN_PROCESS)
    assert ended.code == 0, ended.err
    assert "4 labelled; 4 evaluated now" in ended.out


def test_unavailable_is_never_the_last_word(alloysmith: CommandLine, tmp_path: Path) -> None:
    ase.io.write(tmp_path / "in.extxyz", structures(4))
    fault = {"effect": "unavailable", "fraction": 1.0}
    oracle = oracle_file(tmp_path, faults=[fault])
    arguments = ("label", oracle, tmp_path / "in.extxyz", "-o", tmp_path / "out.extxyz", *IN_PROCESS)
    for _ in range(2):
        assert "4 failed (4 unavailable); 4 evaluated now" in alloysmith(*arguments).out


@pytest.mark.parametrize("effect", ["crashed", "unavailable"])
def test_a_broken_oracle_ends_it(effect: str, alloysmith: CommandLine, tmp_path: Path) -> None:
    ase.io.write(tmp_path / "in.extxyz", structures(15))
    oracle = oracle_file(tmp_path, faults=[{"effect": effect, "fraction": 1.0}])
    target = tmp_path / "out.extxyz"
    ended = alloysmith("label", oracle, tmp_path / "in.extxyz", "-o", target, *IN_PROCESS)
    assert ended.code == 3
    assert "10 evaluations in a row ended as crashed or unavailable" in ended.err
    assert not target.exists()
    assert (tmp_path / "out.extxyz.journal").read_bytes().count(b"\n") == 1, "only its head: all are tried again"


def test_nothing_is_labelled_twice(alloysmith: CommandLine, tmp_path: Path) -> None:
    rows = structures(5)
    arguments = ("label", oracle_file(tmp_path), tmp_path / "in.extxyz", "-o", tmp_path / "out.extxyz", *IN_PROCESS)
    ase.io.write(tmp_path / "in.extxyz", [*rows, *rows[:3]])
    assert "5 evaluated now" in alloysmith(*arguments).out
    first = (tmp_path / "out.extxyz").read_text()
    assert "0 evaluated now" in alloysmith(*arguments).out
    assert (tmp_path / "out.extxyz").read_text() == first
    ase.io.write(tmp_path / "in.extxyz", structures(7))
    assert "2 evaluated now" in alloysmith(*arguments).out
    assert len(ase.io.read(tmp_path / "out.extxyz", ":")) == 7


def test_failures_are_tried_again_only_when_asked(alloysmith: CommandLine, tmp_path: Path) -> None:
    ase.io.write(tmp_path / "in.extxyz", structures(4))
    fault = {"effect": "timed_out", "fraction": 1.0, "once_folder": str(tmp_path / "seen")}
    oracle = oracle_file(tmp_path, faults=[fault])
    arguments = ("label", oracle, tmp_path / "in.extxyz", "-o", tmp_path / "out.extxyz", *IN_PROCESS)
    assert "4 failed" in alloysmith(*arguments).out
    assert "4 failed" in alloysmith(*arguments).out
    assert "4 labelled; 4 evaluated now" in alloysmith(*arguments, "--retry-failed").out
    assert not any("failure" in row.info for row in ase.io.read(tmp_path / "out.extxyz", ":"))


def test_labels_of_two_oracles_never_mix(alloysmith: CommandLine, tmp_path: Path) -> None:
    ase.io.write(tmp_path / "in.extxyz", structures(2))
    arguments = (tmp_path / "in.extxyz", "-o", tmp_path / "out.extxyz", *IN_PROCESS)
    assert alloysmith("label", oracle_file(tmp_path), *arguments).code == 0
    before = (tmp_path / "out.extxyz").read_bytes()
    ended = alloysmith("label", oracle_file(tmp_path, unlike_bond_gpa=10.0), *arguments)
    assert ended.code == 1
    assert "another oracle" in ended.err
    assert (tmp_path / "out.extxyz").read_bytes() == before


@pytest.mark.slow
def test_a_structure_that_is_hard_on_its_worker(alloysmith: CommandLine, tmp_path: Path) -> None:
    rows = structures(4)
    ase.io.write(tmp_path / "in.extxyz", rows)
    faults = [{"effect": "exit", "fraction": 0.3}, {"effect": "hang", "fraction": 0.3}]
    oracle = oracle_file(tmp_path, faults=faults)
    ended = alloysmith(
        *("label", oracle, tmp_path / "in.extxyz", "-o", tmp_path / "out.extxyz"),
        *("--executor", "process_pool", "--workers", 1, "--deadline", 1),
    )
    assert ended.code == 0, ended.err
    kinds = [row.info.get("failure", "label") for row in ase.io.read(tmp_path / "out.extxyz", ":")]
    assert set(kinds) <= {"label", "crashed", "timed_out"}
    assert set(kinds) - {"label"}


def test_journal_survives_a_torn_line_and_tells_damage(tmp_path: Path) -> None:
    rows = structures(3)
    settings = PairModelSettings()
    path = tmp_path / "journal"
    execution = ExecutionSettings(executor="in_process")
    phases = [None] * 3
    label_structures(settings, rows, phases, path, execution)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    again = label_structures(settings, rows, phases, path, execution)
    assert again.n_evaluated == 1
    assert all(result is not None for result in again.results)
    assert path.read_bytes().startswith(whole[: whole[:-5].rfind(b"\n") + 1])
    path.write_bytes(whole.replace(b"label", b"lebal", 1))
    with pytest.raises(JournalError, match="line 2"):
        label_structures(settings, rows, phases, path, execution)


def test_two_labellings_of_one_output_are_refused(tmp_path: Path) -> None:
    with LabelJournal(tmp_path / "journal", "an oracle"), pytest.raises(JournalError, match="in use"):
        LabelJournal(tmp_path / "journal", "an oracle")


def _start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "alloysmith", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _wait_for_lines(path: Path, n: int, timeout_s: float = 60.0) -> None:
    give_up_at = time.monotonic() + timeout_s
    while time.monotonic() < give_up_at:
        if path.exists() and path.read_bytes().count(b"\n") >= n:
            return
        time.sleep(0.02)
    raise TimeoutError(f"{path} did not get {n} lines")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_goes_on_after_a_kill(number: signal.Signals, alloysmith: CommandLine, tmp_path: Path) -> None:
    rows = structures(30)
    n_distinct = len({request_key(row, row.info["phase"]) for row in rows})
    ase.io.write(tmp_path / "in.extxyz", rows)
    oracle = oracle_file(tmp_path, delay_s=0.1)
    out = tmp_path / "out.extxyz"
    arguments = ("label", oracle, tmp_path / "in.extxyz", "-o", out, "--executor", "process_pool", "--workers", 2)
    child = _start(*arguments)
    _wait_for_lines(tmp_path / "out.extxyz.journal", 8)
    os.kill(child.pid, number)
    child.communicate(timeout=30)
    assert child.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 128 + signal.SIGTERM)
    assert not out.exists()
    n_done = (tmp_path / "out.extxyz.journal").read_bytes().count(b"\n") - 1
    ended = alloysmith(*arguments)
    assert ended.code == 0, ended.err
    assert f"{n_distinct - n_done} evaluated now" in ended.out
    assert [row.info["serial"] for row in ase.io.read(out, ":")] == list(range(30))


@pytest.mark.slow
@pytest.mark.ray
def test_lammps_on_ray(alloysmith: CommandLine, tmp_path: Path) -> None:
    ase.io.write(tmp_path / "in.extxyz", structures(4))
    ended = alloysmith("label", "oracles/single_point", tmp_path / "in.extxyz", "-o", tmp_path / "out.extxyz.gz")
    assert ended.code == 0, ended.err
    for row in ase.io.read(tmp_path / "out.extxyz.gz", ":"):
        assert row.arrays["forces_ev_ang"].shape == (16, 3)
        assert np.shape(row.info["stress_ev_ang3"]) == (6,)
        assert row.info["energy_ev"] < 0.0
