"""Migration barriers are learnt from the command line, from elastic bands to what other commands read."""

from __future__ import annotations

from pathlib import Path

import pytest
from alloysmith.tests.cli.toy import CommandLine

SMALL = {
    "pool.alloys.cell.repeat": "[3,3,3]",
    "pool.alloys.n_train": "3",
    "pool.alloys.n_test": "1",
    "pool.alloys.min_fraction": "0.2",
    "pool.n_hops": "20",
    "oracle.n_images": "1",
    "barrier": "{kind: ridge, n_shells: 1}",
    "first.n_hops": "6",
    "first.n_validation": "4",
    "selection.batch_size": "3",
    "budget.n_labels": "13",
    "execution.executor": "in_process",
}


@pytest.mark.slow
def test_barriers_are_learnt_reported_fitted_and_predicted(tmp_path: Path, alloysmith: CommandLine) -> None:
    run = tmp_path / "run"
    settings = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    done = alloysmith("learn", "learn_barriers_tanbmo", "--run-dir", run, *settings)
    assert done.code == 0
    assert "13 labels are spent" in done.out
    assert "Mo moves" in done.out
    again = alloysmith("learn", "learn_barriers_tanbmo", "--run-dir", run, *settings)
    assert (again.code, again.out) == (0, done.out)
    assert alloysmith("report", run).code == 0
    assert "Spectra by moving species" in (run / "report.html").read_text()
    refused = alloysmith("report", run, "--baseline", run)
    assert (refused.code, "no baselines" in refused.err) == (2, True)
    predicted = tmp_path / "predicted.csv"
    assert alloysmith("predict", run / "model.safetensors", run / "pool.csv", "-o", predicted).code == 0
    assert len(predicted.read_text().splitlines()) == 81
    fit = ("fit", "fit/barriers", "--data", run / "barriers.csv", "-o", tmp_path / "m.safetensors")
    by_column = ("--set", "data.split_by=column", "--set", "barrier={kind: ridge, n_shells: 1}")
    assert alloysmith(*fit, *by_column, "--set", "baselines=[mean]").code == 0


def test_what_cannot_be_used_is_said(tmp_path: Path, alloysmith: CommandLine) -> None:
    run = tmp_path / "run"
    done = alloysmith("learn", "learn_barriers_tanbmo", "--run-dir", run, "--set", "committee.n_members=1")
    assert done.code == 2
    assert "choose by diversity" in done.err
    missing = ("--set", "pool={structures: none.extxyz}")
    done = alloysmith("learn", "learn_barriers_tanbmo", "--run-dir", run, *missing)
    assert done.code != 0
    assert "none.extxyz" in done.err
    assert not (run / "config.json").exists()  # so that the corrected command may use the folder
    assert not (run / "pool.csv").exists()
