"""`alloysmith study`: a study from configuration to report, and what goes wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from alloysmith.loop.cli.arguments import shipped_configs
from alloysmith.loop.studies.config import load_study_config
from alloysmith.tests.cli.toy import CommandLine
from alloysmith.tests.studies import STUDY, write_study


def test_the_shipped_studies_are_valid() -> None:
    names = [name for name in shipped_configs() if name.startswith("studies/")]
    assert names
    for name in names:
        load_study_config(shipped_configs()[name])


def test_a_study_runs_goes_on_and_is_reported(alloysmith: CommandLine, tmp_path: Path) -> None:
    path, folder = write_study(tmp_path, n_trials=3), tmp_path / "study"
    ran = alloysmith("study", "run", path, "--study-dir", folder)
    assert ran.code == 0, ran.err
    for text in ("best trials", "validation_force_mae", "3 of 3 trials done", "best.yaml"):
        assert text in ran.out
    assert "trial 2 finished: validation_force_mae" in ran.err

    more = alloysmith("study", "resume", folder, "--set", "n_trials=4")
    assert more.code == 0, more.err
    assert "4 of 4 trials done" in more.out
    status = alloysmith("study", "status", folder, "--json")
    record = json.loads(status.out)
    assert (record["n_done"], record["is_running"], len(record["trials"])) == (4, False, 4)
    assert record["best"][0]["number"] == record["chosen"]
    assert "copper: 4 of 4 trials done" in alloysmith("study", "status", folder).out

    reported = alloysmith("study", "report", folder)
    assert reported.code == 0, reported.err
    assert "Alloysmith study report" in (folder / "report.html").read_text()

    fitted = alloysmith("fit", folder / "best.yaml", "-o", tmp_path / "cu.safetensors")
    assert fitted.code == 0, fitted.err


def test_the_best_trial_can_be_fitted_again(alloysmith: CommandLine, tmp_path: Path) -> None:
    path, folder = write_study(tmp_path, n_trials=3), tmp_path / "study"
    assert alloysmith("study", "run", path, "--study-dir", folder).code == 0
    record = json.loads(alloysmith("study", "status", folder, "--json").out)
    written = alloysmith("study", "best", folder, "-o", tmp_path / "again.yaml")
    assert written.code == 0, written.err
    assert f"trial {record['chosen']}" in written.out
    fitted = alloysmith("fit", tmp_path / "again.yaml", "-o", tmp_path / "model.safetensors")
    assert fitted.code == 0, fitted.err
    (chosen,) = [trial for trial in record["trials"] if trial["number"] == record["chosen"]]
    (row,) = [line.split() for line in fitted.out.splitlines() if line.startswith("validation")]
    assert float(row[5]) == pytest.approx(chosen["values"][0], abs=6e-5)
    other = 1 - min(record["chosen"], 1)
    assert f"trial {other}" in alloysmith("study", "best", folder, "-o", tmp_path / "b.yaml", "--trial", other).out
    refused = alloysmith("study", "best", folder, "-o", tmp_path / "c.yaml", "--trial", 17)
    assert (refused.code, "those that have: 0, 1, 2" in refused.err) == (2, True)


def test_what_goes_wrong_is_said(alloysmith: CommandLine, tmp_path: Path) -> None:
    path = write_study(tmp_path, space={"potential.n_interval": {"int": [8, 40]}})
    wrong = alloysmith("study", "run", path, "--study-dir", tmp_path / "study")
    assert wrong.code == 2
    assert "did you mean n_intervals?" in wrong.err
    assert not (tmp_path / "study").exists()
    for command in ("resume", "status", "report"):
        ended = alloysmith("study", command, tmp_path)
        assert ended.code == 1
        assert "holds no study" in ended.err
    alloysmith("study", "run", write_study(tmp_path, n_trials=1), "--study-dir", tmp_path / "study")
    changed = alloysmith("study", "resume", tmp_path / "study", "--set", "seed=4")
    assert changed.code == 2
    assert "may change n_trials" in changed.err


def _slow_study(folder: Path, executor: str, n_workers: int) -> Path:
    """Trials of some tenths of a second, so that a kill finds some of them running."""
    fit = {**STUDY["fit"], "training": {"max_epochs": 80, "optimizer": {"kind": "adam"}, "patience": None}}
    execution = {"executor": executor, "n_workers": n_workers}
    return write_study(folder, fit=fit, n_trials=6, execution=execution)


def _status(alloysmith: CommandLine, folder: Path) -> dict[str, Any]:
    ended = alloysmith("study", "status", folder, "--json")
    return json.loads(ended.out) if ended.code == 0 else {"n_done": 0, "trials": []}


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("executor", "n_workers"), [("in_process", 1), ("process_pool", 2)])
def test_a_kill_loses_no_finished_trial(executor: str, n_workers: int, alloysmith: CommandLine, tmp_path: Path) -> None:
    path, folder = _slow_study(tmp_path, executor, n_workers), tmp_path / "study"
    command = [sys.executable, "-m", "alloysmith", "study", "run", str(path), "--study-dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
        give_up_at = time.monotonic() + 240.0  # on a busy machine the imports alone take a minute
        while _status(alloysmith, folder)["n_done"] < 2 and time.monotonic() < give_up_at:
            time.sleep(0.3)
        os.kill(driver.pid, signal.SIGKILL)
    journal = folder / "journal.log"
    # the two things that a kill in the middle of a write leaves behind
    journal.write_bytes(journal.read_bytes() + b'{"op_code": 6, "worker')
    (folder / "journal.log.lock").unlink(missing_ok=True)
    (folder / "journal.log.lock").symlink_to(journal)
    before = _status(alloysmith, folder)["trials"]
    finished = {trial["number"]: trial for trial in before if trial["condition"] == "finished"}
    running = [trial for trial in before if trial["condition"] == "running"]
    assert len(finished) >= 2
    assert 1 <= len(running) <= n_workers

    resumed = alloysmith("study", "resume", folder)
    assert resumed.code == 0, resumed.err
    after = {trial["number"]: trial for trial in _status(alloysmith, folder)["trials"]}
    assert {number: after[number] for number in finished} == finished
    done = [trial for trial in after.values() if trial["condition"] == "finished"]
    assert len(done) == 6
    for trial in running:
        assert after[trial["number"]]["condition"] == "requeued"
        assert [t["parameters"] for t in done].count(trial["parameters"]) == 1

    if n_workers == 1:
        whole = tmp_path / "whole"
        assert alloysmith("study", "run", path, "--study-dir", whole).code == 0
        expected = _status(alloysmith, whole)["trials"]
        assert [t["values"] for t in done] == [t["values"] for t in expected]
