"""What `doctor` finds, and that it says what to do."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest
from alloysmith.loop.cli import doctor
from alloysmith.tests.cli.toy import CommandLine


def test_a_quick_look_finds_this_machine_usable(alloysmith: CommandLine, tmp_path: Path) -> None:
    ended = alloysmith("doctor", tmp_path, "--quick")
    assert ended.code == 0, ended.out
    for word in ("python", "packages", "MPI library", "cores", "disk"):
        assert word in ended.out
    assert "campaigns can run here" in ended.out


def test_findings_as_json(alloysmith: CommandLine, tmp_path: Path) -> None:
    findings = json.loads(alloysmith("doctor", tmp_path, "--quick", "--json").out)
    assert {"what", "verdict", "found", "remedy"} == set(findings[0])
    assert all(f["remedy"] for f in findings if f["verdict"] != "ok")


def test_a_package_that_is_missing_or_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    requirements = ["no-such-package-at-all>=2.0", "numpy>=999.0", "pyyaml>=1.0", 'ruff>=0.9; extra == "dev"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: requirements)
    findings = list(doctor.examine_packages())
    assert [f.verdict for f in findings] == ["missing", "missing", "ok"]
    assert 'pip install "no-such-package-at-all>=2.0"' in findings[0].remedy
    assert "--upgrade" in findings[1].remedy
    assert findings[2].found.startswith("1 ")


def test_a_folder_that_cannot_be_written() -> None:
    (finding,) = doctor.examine_disk(Path("/proc/alloysmith"), "disk")
    assert finding.verdict == "missing"
    assert "choose a folder" in finding.remedy


def test_quantum_espresso_is_no_must(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (finding,) = doctor.examine_espresso()
    assert finding.verdict == "warning"
    assert "apt-get install quantum-espresso" in finding.remedy
    (tmp_path / "pw.x").write_text("#!/bin/sh\n")
    (tmp_path / "pw.x").chmod(0o755)
    monkeypatch.setenv("ESPRESSO_PSEUDO", str(tmp_path / "nowhere"))
    (finding,) = doctor.examine_espresso()
    assert (finding.verdict, "ESPRESSO_PSEUDO" in finding.remedy) == ("warning", True)
    monkeypatch.setenv("ESPRESSO_PSEUDO", str(tmp_path))
    (finding,) = doctor.examine_espresso()
    assert (finding.verdict, str(tmp_path) in finding.found) == ("ok", True)


def test_a_child_that_crashes_is_a_finding() -> None:
    finding = doctor.tried_in_child("thing", "import os; os.abort()", "reinstall the thing")
    assert finding.verdict == "missing"
    assert "reinstall the thing" in finding.remedy
    fine = doctor.tried_in_child("thing", "print('version 7')", "reinstall the thing")
    assert fine.verdict == "ok"
    assert fine.found.startswith("version 7")


@pytest.mark.slow
@pytest.mark.ray
def test_the_whole_examination(alloysmith: CommandLine, tmp_path: Path) -> None:
    ended = alloysmith("doctor", tmp_path)
    assert ended.code == 0, ended.out
    for word in ("torch", "LAMMPS", "Ray"):
        assert word in ended.out
