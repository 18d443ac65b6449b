"""What is held out when barriers are learnt, and what they are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from alloysmith.errors import ConfigError
from alloysmith.loop.barrier_fitting import BarrierFitConfig, fit_barriers, species_of, split_hops
from alloysmith.surrogates.barriers.data_settings import SplitBy
from alloysmith.surrogates.barriers.hop_file import HopFileError
from alloysmith.tests.surrogates.barriers.hop_tables import toy_hops, write_table


@pytest.mark.parametrize("by", ["composition", "structure", "vacancy", "hop"])
def test_units_stay_whole(by: SplitBy) -> None:
    hops = toy_hops(6, 400)
    parts = split_hops(hops, by, {"test": 0.2, "validation": 0.2}, seed=1)
    keys = {
        "composition": lambda h: set(h.groups),
        "structure": lambda h: set(h.crystal),
        "vacancy": lambda h: set(zip(h.crystal, h.vacancy, strict=True)),
        "hop": lambda h: set(h.rows),
    }[by]
    assert sorted(np.concatenate([part.rows for part in parts.values()])) == sorted(hops.rows)
    found = [keys(part) for part in parts.values()]
    assert sum(map(len, found)) == len(set.union(*found)) == len(keys(hops))
    again = split_hops(hops, by, {"test": 0.2, "validation": 0.2}, seed=1)
    np.testing.assert_array_equal(parts["test"].rows, again["test"].rows)


def test_too_few_compositions_are_told() -> None:
    with pytest.raises(ConfigError, match="2 units to split by composition"):
        split_hops(toy_hops(2, 50), "composition", {"test": 0.1, "validation": 0.1}, seed=0)


def test_a_test_table_is_never_learnt_and_baselines_see_the_same_hops(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    table = write_table(toy_hops(5, 500), tmp_path)
    write_table(toy_hops(2, 100, seed=50), tmp_path / "other")
    config = BarrierFitConfig.model_validate(
        {
            "barrier": {"kind": "ridge", "features": "pairs", "n_shells": 2},
            "data": {"files": [table.name], "test_files": ["other/barriers.csv"], "base_dir": tmp_path},
            "baselines": ["mean"],
        }
    )
    fitted = fit_barriers(config)
    assert fitted.errors["test"].n == 100
    assert fitted.errors["training"].n + fitted.errors["validation"].n == 500
    assert fitted.judged_on == "test"
    assert {figures.n for figures in fitted.baselines.values()} == {100}
    assert sum(figures.n for figures in fitted.by_species.values()) == 100
    assert fitted.errors["test"].mae < 0.3 * fitted.baselines["mean of the moving species"].mae
    assert set(species_of(toy_hops(1, 30))) <= {"Mo", "Nb", "Ta"}


def _config(folder: Path, **data: object) -> BarrierFitConfig:
    return BarrierFitConfig.model_validate(
        {
            "barrier": {"kind": "ridge", "n_shells": 2},
            "data": {"files": ["barriers.csv"], "base_dir": folder, **data},
            "baselines": ["mean"],
        }
    )


def test_a_hop_that_tests_is_never_learnt(tmp_path: Path) -> None:
    (tmp_path / "copied").mkdir()
    hops = toy_hops(5, 300)
    write_table(hops, tmp_path)
    write_table(hops.take(np.arange(20, 30)), tmp_path / "copied")
    with pytest.raises(
        HopFileError, match=r"barriers.csv: 10 of 300 rows are bad(.|\n)*row 21: the hop of .*row 1 once"
    ):
        fit_barriers(_config(tmp_path, test_files=["copied/barriers.csv"]))
    fitted = fit_barriers(_config(tmp_path, test_files=["copied/barriers.csv"], on_bad_row="drop"))
    assert fitted.errors["test"].n == 10
    assert fitted.errors["training"].n + fitted.errors["validation"].n == 290
    assert list(fitted.dropped[str(tmp_path / "barriers.csv")]) == list(range(21, 31))
    with pytest.raises(ConfigError, match="named twice"):
        fit_barriers(_config(tmp_path, test_files=["barriers.csv"]))


def _with_split(table: Path, names: Sequence[str]) -> None:
    header, *lines = table.read_text().splitlines()
    table.write_text("\n".join([f"{header},split", *(f"{a},{b}" for a, b in zip(lines, names, strict=True))]))


def test_the_split_that_a_table_names(tmp_path: Path) -> None:
    hops = toy_hops(6, 300)
    table = write_table(hops, tmp_path)
    _with_split(table, np.where(hops.crystal < 2, "test", "train").tolist())
    fitted = fit_barriers(_config(tmp_path, split_by="column"))
    n_test = int((hops.crystal < 2).sum())
    assert fitted.errors["test"].n == n_test
    assert 0 < fitted.errors["validation"].n < 300 - n_test - fitted.errors["validation"].n
    again = write_table(hops, tmp_path)
    _with_split(again, np.array(["Test", "train", "Validation"])[np.arange(300) % 3].tolist())
    named = fit_barriers(_config(tmp_path, split_by="column"))
    assert {name: figures.n for name, figures in named.errors.items()} == {
        "training": 100,
        "validation": 100,
        "test": 100,
    }
    _with_split(write_table(hops, tmp_path), ["train"] * 299 + ["rest"])
    with pytest.raises(ConfigError, match="holds 'rest'"):
        fit_barriers(_config(tmp_path, split_by="column"))
    write_table(hops, tmp_path)
    with pytest.raises(ConfigError, match="holds ''"):
        fit_barriers(_config(tmp_path, split_by="column"))


def test_backward_barriers_are_learnt_unless_told_otherwise(tmp_path: Path) -> None:
    table = write_table(toy_hops(6, 300), tmp_path)
    header, *lines = table.read_text().splitlines()
    table.write_text("\n".join([f"{header},barrier_backward_ev", *(f"{line},0.9" for line in lines)]))
    fitted = fit_barriers(_config(tmp_path))
    assert fitted.model.spec.n_train == 2 * fitted.errors["training"].n
    alone = fit_barriers(_config(tmp_path, learn_returns=False))
    assert alone.model.spec.n_train == alone.errors["training"].n == fitted.errors["training"].n
