"""Barriers from somebody's table, from the command line."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from alloysmith.loop.barrier_fitting import BarrierFitConfig
from alloysmith.loop.cli.arguments import shipped_configs
from alloysmith.loop.config import load_settings
from alloysmith.tests.cli.toy import CommandLine
from alloysmith.tests.surrogates.barriers.hop_tables import toy_hops, write_table

SMALL = "barrier: {kind: ridge, n_shells: 2}\nbaselines: [mean]\n"


def test_fit_then_predict_a_table(alloysmith: CommandLine, tmp_path: Path) -> None:
    table = write_table(toy_hops(6, 600), tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL)
    model, out = tmp_path / "m.safetensors", tmp_path / "out.csv"
    fitted = alloysmith("fit", tmp_path / "small.yaml", "--data", table, "-o", model)
    assert fitted.code == 0, fitted.err
    for text in ("training hops", "test hops", "Mo moves", "mean of the moving species", "MAE eV", "R²"):
        assert text in fitted.out
    predicted = alloysmith("predict", model, table, "-o", out)
    assert predicted.code == 0, predicted.err
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert len(rows) == 600
    assert rows[0]["remark"] == "made up"
    error = [float(r["predicted_barrier_ev"]) - float(r["barrier_ev"]) for r in rows]
    assert np.abs(error).mean() < 0.05
    assert all(float(r["predicted_barrier_ev_std"]) > 0.0 for r in rows)


def test_rows_without_barriers_are_predicted_and_bad_ones_are_marked(alloysmith: CommandLine, tmp_path: Path) -> None:
    table = write_table(toy_hops(6, 300), tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL)
    model = tmp_path / "m.safetensors"
    assert alloysmith("fit", tmp_path / "small.yaml", "--data", table, "-o", model).code == 0
    lines = [line.split(",")[:3] for line in table.read_text().splitlines()[:4]]
    lines[2][2] = "999"
    bare = tmp_path / "bare.csv"
    bare.write_text("\n".join(",".join(line) for line in lines))
    predicted = alloysmith("predict", model, bare, "-o", tmp_path / "out.csv")
    assert predicted.code == 0, predicted.err
    assert "no row holds a barrier" in predicted.err
    assert "row 2" in predicted.err
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [bool(r["predicted_barrier_ev"]) for r in rows] == [True, False, True]
    assert "999" in rows[1]["failure_message"]


def test_bad_tables_and_targets_end_with_a_message(alloysmith: CommandLine, tmp_path: Path) -> None:
    table = write_table(toy_hops(1, 10), tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL)
    one = alloysmith("fit", tmp_path / "small.yaml", "--data", table, "-o", tmp_path / "m.safetensors")
    assert one.code == 2
    assert "split by composition" in one.err
    table.write_text(table.read_text().replace("structures/0", "structures/7"))
    bad = alloysmith("fit", tmp_path / "small.yaml", "--data", table, "-o", tmp_path / "m.safetensors")
    assert bad.code != 0
    assert "row 1:" in bad.err
    none = alloysmith("fit", tmp_path / "small.yaml", "-o", tmp_path / "m.safetensors")
    assert none.code == 2
    assert "--data" in none.err


def test_shipped_configurations_are_read() -> None:
    names = [name for name in shipped_configs() if name.startswith("fit/barrier")]
    kinds = {name: load_settings(shipped_configs()[name], BarrierFitConfig).barrier.kind for name in names}
    assert kinds == {
        "fit/barriers": "dense",
        "fit/barrier_cnn": "cnn",
        "fit/barrier_cnn_paper": "cnn",
        "fit/barrier_lattice": "lattice",
    }


@pytest.mark.slow
def test_compilers_and_learners_are_loaded_only_where_they_are_used() -> None:
    code = (
        "import sys, alloysmith.loop.cli.app, alloysmith.surrogates.barriers.settings as s; "
        "print([m for m in ('numba', 'sklearn') if m in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
