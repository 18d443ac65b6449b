"""Optuna's journal as a study's memory: choices by seed and place, trials queued again, torn lines."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from alloysmith.agents.optuna_study import OptunaStudy, StudyError, importances, read_trials
from alloysmith.agents.study_settings import (
    CmaEsSettings,
    GpSettings,
    GridSettings,
    HyperbandPrunerSettings,
    MedianPrunerSettings,
    NoPrunerSettings,
    Nsga2Settings,
    ParameterRange,
    PrunerSettings,
    RandomSettings,
    SamplerSettings,
    StudyObjective,
    TpeSettings,
    WilcoxonPrunerSettings,
)
from pydantic import ValidationError

SPACE = {
    "x": ParameterRange(float=(-2.0, 2.0)),
    "n": ParameterRange(int=(1, 8)),
    "how": ParameterRange(categorical=(True, "fast", {"kind": "adam"})),
}
ONE = (StudyObjective(metric="cost"),)
SAMPLERS: dict[str, SamplerSettings] = {
    "tpe": TpeSettings(n_startup_trials=3),
    "gp": GpSettings(kind="gp", n_startup_trials=6),
    "nsga2": Nsga2Settings(kind="nsga2", population_size=3),
    "cmaes": CmaEsSettings(kind="cmaes"),
    "random": RandomSettings(kind="random"),
}


def _study(
    path: Path,
    sampler: SamplerSettings | None = None,
    pruner: PrunerSettings | None = None,
    space: dict[str, ParameterRange] = SPACE,
    objectives: tuple[StudyObjective, ...] = ONE,
) -> OptunaStudy:
    return OptunaStudy(
        path, space, objectives, sampler or RandomSettings(kind="random"), pruner or NoPrunerSettings(), seed=7
    )


def _cost(parameters: Any) -> float:
    return float((parameters["x"] - 0.5) ** 2 + 0.1 * parameters["n"] + (parameters["how"] == "fast"))


def _go(study: OptunaStudy, n: int) -> None:
    for _ in range(n):
        asked = study.ask()
        study.finish(asked.number, [_cost(asked.parameters)], {"cost": _cost(asked.parameters)})


def _rows(path: Path) -> list[tuple[int, Any, tuple[float, ...]]]:
    trials = [trial for trial in read_trials(path, SPACE) if trial.condition == "finished"]
    return sorted((trial.index, repr(sorted(trial.parameters.items())), trial.values) for trial in trials)


@pytest.mark.parametrize("kind", list(SAMPLERS))
def test_a_study_that_was_cut_off_goes_on_as_one_that_was_not(kind: str, tmp_path: Path) -> None:
    whole, torn = tmp_path / "whole.log", tmp_path / "torn.log"
    _go(_study(whole, SAMPLERS[kind]), 7)
    study = _study(torn, SAMPLERS[kind])
    _go(study, 4)
    cut = study.ask()
    torn.write_bytes(torn.read_bytes() + b'{"op_code":5,"trial_')  # the driver died while it wrote
    again = _study(torn, SAMPLERS[kind])
    assert again.requeue_running() == 1
    assert again.requeue_running() == 0
    _go(again, 3)
    found, expected = _rows(torn), _rows(whole)
    if kind in ("cmaes", "nsga2"):  # their generations leave out a trial that is done again
        found, expected = found[:5], expected[:5]
    assert found == expected
    by_number = {trial.number: trial for trial in again.trials()}
    assert by_number[cut.number].condition == "requeued"
    assert by_number[cut.number + 1].parameters == by_number[cut.number].parameters
    assert again.n_asked() == 7


def test_tpe_learns(tmp_path: Path) -> None:
    study = _study(tmp_path / "log", TpeSettings(n_startup_trials=8))
    _go(study, 40)
    values = [trial.values[0] for trial in study.trials()]
    assert min(values[8:]) < min(values[:8])
    assert sum(values[20:]) < sum(values[:20])
    shares = importances(tmp_path / "log", 0)
    assert set(shares) == set(SPACE)
    assert math.isclose(sum(shares.values()), 1.0, rel_tol=1e-6)


def test_a_grid_visits_each_point_once_in_order(tmp_path: Path) -> None:
    space = {"a": ParameterRange(float=(0.0, 1.0), step=0.5), "b": ParameterRange(categorical=([1], [2]))}
    study = _study(tmp_path / "log", GridSettings(kind="grid"), space=space)
    seen = []
    for k in range(6):
        asked = study.ask()
        seen.append((asked.parameters["a"], asked.parameters["b"]))
        if k == 2:
            study = _study(tmp_path / "log", GridSettings(kind="grid"), space=space)
            study.requeue_running()
            assert study.ask().parameters == asked.parameters
            study.finish(study.trials()[-1].number, [0.0], {})
        else:
            study.finish(asked.number, [0.0], {})
    assert seen == [(a, b) for a in (0.0, 0.5, 1.0) for b in ([1], [2])]


@pytest.mark.parametrize(
    "pruner",
    [
        MedianPrunerSettings(kind="median", n_startup_trials=3),
        HyperbandPrunerSettings(kind="hyperband", min_resource=2, max_resource=12),
        WilcoxonPrunerSettings(kind="wilcoxon"),
    ],
    ids=["median", "hyperband", "wilcoxon"],
)
def test_hopeless_trials_are_pruned(pruner: PrunerSettings, tmp_path: Path) -> None:
    study = _study(tmp_path / "log", pruner=pruner)
    lengths = []
    for k in range(12):
        asked = study.ask()
        level = 0.01 if k < 4 else 100.0
        n = 0
        while n < 12:
            n += 1
            if not study.report(asked.number, n, level * (1.0 + 1.0 / n + 0.01 * k)):
                study.prune(asked.number, {"cost": level})
                break
        else:
            study.finish(asked.number, [level], {})
        lengths.append(n)
    assert lengths[0] == 12
    assert min(lengths[4:]) < 12
    assert any(trial.condition == "pruned" and trial.figures for trial in study.trials())


def test_failures_keep_their_reason_and_several_objectives_their_values(tmp_path: Path) -> None:
    two = (StudyObjective(metric="cost"), StudyObjective(metric="speed", direction="maximize"))
    study = _study(tmp_path / "log", TpeSettings(), objectives=two)
    study.fail(study.ask().number, "the training diverges")
    study.finish(study.ask().number, [1.0, 5.0], {"cost": 1.0, "speed": 5.0})
    failed, finished = read_trials(tmp_path / "log", SPACE)
    assert (failed.condition, failed.message) == ("failed", "the training diverges")
    assert (finished.condition, finished.values) == ("finished", (1.0, 5.0))


def test_a_journal_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="does not exist"):
        read_trials(tmp_path / "log", SPACE)
    (tmp_path / "log").write_text("thesis\nchapter 1\n")
    with pytest.raises(StudyError, match="is damaged"):
        read_trials(tmp_path / "log", SPACE)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "exactly one"),
        ({"int": [1, 2], "float": [1, 2]}, "int and float"),
        ({"int": [4, 4]}, "range is empty"),
        ({"float": [2.0, 1.0]}, "range is empty"),
        ({"float": [0.0, 1.0], "log": True}, "above 0"),
        ({"float": [1.0, 2.0], "log": True, "step": 0.1}, "exclude each other"),
        ({"categorical": []}, "two values or more"),
        ({"categorical": [1, 1]}, "given twice"),
        ({"int": [1, 9], "step": 0.5}, "must be an integer"),
        ({"float": [0.0, float("inf")]}, "finite"),
    ],
)
def test_impossible_ranges_are_named(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ParameterRange.model_validate(keys)
