"""Fitting and predicting from files."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from alloysmith.loop.fitting import FitConfig, error_figures, fit_surrogate
from alloysmith.oracles.base import Request
from alloysmith.oracles.pair_model import PairModelSettings
from alloysmith.structures.settings import SystemSettings
from alloysmith.surrogates.polynomial import PolynomialSettings
from alloysmith.tests.cli.toy import CommandLine
from ase import Atoms
from ase.build import bulk


def labelled(n: int, seed: int = 0) -> list[Atoms]:
    """Toy alloys with their toy bulk modulus."""
    space = SystemSettings.model_validate({"elements": ["Ni", "Fe"], "cell": {"repeat": [2, 2, 2]}}).space()
    oracle = PairModelSettings().build()
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(n):
        lattice = space.lattices[index % 2]
        atoms = space.atoms(lattice, space.random_occupation(rng, lattice))
        label = oracle.evaluate(Request("x", atoms, lattice.phase))
        atoms.info["bulk_modulus_gpa"] = float(label.values["bulk_modulus_gpa"])  # type: ignore[arg-type]
        rows.append(atoms)
    return rows


@pytest.mark.parametrize("fit", ["fit/polynomial", "fit/gaussian_process"])
def test_fit_then_predict(fit: str, alloysmith: CommandLine, tmp_path: Path) -> None:
    ase.io.write(tmp_path / "data.extxyz", labelled(60))
    ase.io.write(tmp_path / "more.extxyz", labelled(15, seed=1))
    model = tmp_path / "model.safetensors"
    fitted = alloysmith("fit", fit, "--data", tmp_path / "data.extxyz", "-o", model)
    assert fitted.code == 0, fitted.err
    assert "held out" in fitted.out
    assert "training" in fitted.out
    predicted = alloysmith("predict", model, tmp_path / "more.extxyz", "-o", tmp_path / "out.extxyz")
    assert predicted.code == 0, predicted.err
    for word in ("MAE", "RMSE", "R²", "RMSE of mean", "15"):
        assert word in predicted.out
    rows = ase.io.read(tmp_path / "out.extxyz", ":")
    residual = np.array([r.info["predicted_bulk_modulus_gpa"] - r.info["bulk_modulus_gpa"] for r in rows])
    spread = np.std([r.info["bulk_modulus_gpa"] for r in rows])
    assert np.sqrt(np.mean(residual**2)) < 0.5 * spread
    assert all(r.info["predicted_bulk_modulus_gpa_std"] > 0.0 for r in rows)


def test_predict_without_labels_prints_no_table(alloysmith: CommandLine, tmp_path: Path) -> None:
    rows = labelled(20)
    ase.io.write(tmp_path / "data.extxyz", rows)
    for row in rows:
        del row.info["bulk_modulus_gpa"]
    ase.io.write(tmp_path / "bare.extxyz", rows)
    model = tmp_path / "model.safetensors"
    assert alloysmith("fit", "fit/polynomial", "--data", tmp_path / "data.extxyz", "-o", model).code == 0
    ended = alloysmith("predict", model, tmp_path / "bare.extxyz", "-o", tmp_path / "out.extxyz")
    assert ended.code == 0, ended.err
    assert "MAE" not in ended.out
    assert "no errors to print" in ended.err


def test_rows_that_failed_or_lack_the_value_are_left_out() -> None:
    rows = labelled(24)
    rows[0].info["failure"] = "left_phase"
    del rows[1].info["bulk_modulus_gpa"]
    result = fit_surrogate(FitConfig(surrogate=PolynomialSettings(), test_fraction=0.25), rows)
    assert result.n_left_out == 2
    held_out = result.errors["held out"]["bulk_modulus_gpa"]
    assert held_out.n == round(0.25 * 22)
    assert result.surrogate.spec.n_train == 22 - held_out.n


def test_the_phase_is_recognized_where_it_is_not_stated() -> None:
    rows = labelled(24)
    stated = fit_surrogate(FitConfig(surrogate=PolynomialSettings()), rows)
    for row in rows:
        del row.info["phase"]
    recognized = fit_surrogate(FitConfig(surrogate=PolynomialSettings()), rows)
    assert recognized.errors == stated.errors


def _odd_rows() -> list[Atoms]:
    """A foreign element, a phase that is neither, no cell."""
    alien, hexagonal, molecule = labelled(1)[0], bulk("Ni", "hcp", a=2.5, c=4.08).repeat((3, 3, 2)), Atoms("NiFe")
    alien.symbols[0] = "Xe"
    for row in (alien, hexagonal, molecule):
        row.info["bulk_modulus_gpa"] = 150.0
    return [alien, hexagonal, molecule]


def test_odd_rows_are_left_out_of_a_fit(alloysmith: CommandLine, tmp_path: Path) -> None:
    ase.io.write(tmp_path / "data.extxyz", [*_odd_rows(), *labelled(24)])
    model = tmp_path / "model.safetensors"
    arguments = ("fit", "fit/polynomial", "--data", tmp_path / "data.extxyz", "-o", model)
    ended = alloysmith(*arguments, "--set", "elements=[Ni, Fe]", "--set", "test_fraction=0")
    assert ended.code == 0, ended.err
    assert "3 labelled rows cannot be used and are left out; the first, row 1: it holds Xe" in ended.err
    assert "24 rows" in ended.out
    ase.io.write(tmp_path / "data.extxyz", _odd_rows())
    ended = alloysmith(*arguments, "--set", "elements=[Ni, Fe]")
    assert ended.code == 2
    assert "none of the 3 labelled rows can be used" in ended.err


def test_odd_rows_keep_their_place_among_predictions(alloysmith: CommandLine, tmp_path: Path) -> None:
    rows = labelled(24)
    ase.io.write(tmp_path / "data.extxyz", [row for row in rows if row.info["phase"] == "fcc"])
    model = tmp_path / "model.safetensors"
    assert alloysmith("fit", "fit/polynomial", "--data", tmp_path / "data.extxyz", "-o", model).code == 0
    ase.io.write(tmp_path / "mixed.extxyz", [rows[1], *_odd_rows(), rows[0]])
    ended = alloysmith("predict", model, tmp_path / "mixed.extxyz", "-o", tmp_path / "out.extxyz")
    assert ended.code == 0, ended.err
    assert "4 of 5 rows cannot be predicted; the first, row 1: its phase is bcc" in ended.err
    found = ase.io.read(tmp_path / "out.extxyz", ":")
    assert ["predicted_bulk_modulus_gpa" in row.info for row in found] == [False, False, False, False, True]
    assert [row.info.get("failure") for row in found] == [*["bad_structure"] * 4, None]
    assert "Xe" in found[1].info["failure_message"]
    ase.io.write(tmp_path / "odd.extxyz", _odd_rows())
    ended = alloysmith("predict", model, tmp_path / "odd.extxyz", "-o", tmp_path / "none.extxyz")
    assert ended.code == 2
    assert not (tmp_path / "none.extxyz").exists()


def test_the_only_row_of_a_phase_is_learnt_rather_than_held_out() -> None:
    rows = [row for row in labelled(40) if row.info["phase"] == "fcc"] + [labelled(2)[1]]
    for seed in range(4):
        result = fit_surrogate(FitConfig(surrogate=PolynomialSettings(), test_fraction=0.6, seed=seed), rows)
        assert result.errors["held out"]["bulk_modulus_gpa"].n + result.surrogate.spec.n_train == len(rows)


def test_figures_of_errors() -> None:
    target = np.array([1.0, 2.0, 3.0, np.nan])
    figures = error_figures(np.array([1.5, 2.0, 2.5, 9.0]), np.full(4, 0.4), target)
    assert (figures.n, figures.mae) == (3, pytest.approx(1.0 / 3.0))
    assert figures.rmse == pytest.approx(np.sqrt(0.5 / 3.0))
    assert figures.rmse_of_mean == pytest.approx(np.sqrt(2.0 / 3.0))
    assert figures.r2 == pytest.approx(0.75)
    assert figures.coverage_68 == pytest.approx(1.0 / 3.0)
