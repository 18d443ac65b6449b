"""What is held out when barriers are learnt, and what they are compared with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from alloysmith.errors import ConfigError
from alloysmith.loop.barrier_fitting import BarrierFitConfig, fit_barriers, species_of, split_hops
from alloysmith.surrogates.barriers.data_settings import SplitBy
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
