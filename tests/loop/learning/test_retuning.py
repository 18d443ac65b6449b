"""A learning searches its potential's settings as labels grow; killed in a search, it ends as if it had not been."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import orjson
import pytest
from alloysmith.loop.cli.learn import _lines
from alloysmith.loop.learning.config import LearningConfig
from alloysmith.loop.learning.learning import PotentialEnd, learn
from alloysmith.loop.learning.rounds import POTENTIAL_NAME, RoundFolder, RoundRecord
from alloysmith.loop.learning.search import SettingsSearch, TriedSettings, read_search
from alloysmith.loop.report.learning import learning_report
from alloysmith.loop.rounds.site import Stage
from alloysmith.surrogates.potentials.settings import load_potential
from alloysmith.tests.learnings import run_learning

RETUNING = {
    "space": {
        "training.max_epochs": {"int": [1, 6]},
        "potential.embedding": {"categorical": ["smooth", "piecewise"]},
        "training.loss.force": {"float": [0.1, 10.0], "log": True},
    },
    "n_trials": 3,
    "batch_size": 2,
    "least_labels": 4,
    "growth": 1.4,
}
SMALL = {
    "system": {"elements": ["Al"], "phases": ["fcc"], "cell": {"kind": "cubic", "repeat": [2, 2, 2]}},
    "oracle": {"kind": "single_point", "potential": {"kind": "wheel", "name": "AlCu.adp"}},
    "potential": {"kind": "eam"},
    "training": {"max_epochs": 1},
    "committee": {"n_members": 2},
    "initial": {"n_structures": 4, "n_test": 2},
    "exploration": {"temperatures_k": [300.0], "n_trajectories": 1, "n_steps": 20, "stride": 10},
    "selection": {"batch_size": 2, "target_force_error_ev_ang": 1e-4, "failed_force_error_ev_ang": 100.0},
    "stopping": {"max_rounds": 2},
    "budget": {"n_labels": 40},
    "execution": {"executor": "in_process"},
    "retuning": RETUNING,
}


def _config(**changes: object) -> LearningConfig:
    return LearningConfig.model_validate({**SMALL, **changes})


def _figures(end: PotentialEnd) -> list[RoundRecord]:
    return [replace(record, seconds={}) for record in end.records]


def _files(run_dir: Path) -> dict[str, bytes]:
    """All files that tell what was learnt."""
    names = ("*.safetensors", "rounds/*/*.safetensors", "rounds/*/*.extxyz", "rounds/*/search.json")
    return {str(path.relative_to(run_dir)): path.read_bytes() for name in names for path in run_dir.glob(name)}


def _searches(end: PotentialEnd) -> list[SettingsSearch]:
    return [record.search for record in end.records if record.search is not None]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PotentialEnd]:
    """A learning with searches; copy its folder before going on with it."""
    folder = tmp_path_factory.mktemp("ended") / "run"
    return folder, learn(_config(), folder)


def test_settings_are_searched_as_labels_grow_and_the_best_ones_are_used(ended: tuple[Path, PotentialEnd]) -> None:
    folder, end = ended
    assert [record.n_labels for record in end.records] == [4, 6, 8]
    assert [record.search is not None for record in end.records] == [False, True, True]
    first, second = _searches(end)
    assert (first.n_labels, second.n_labels, first.in_use.parameters) == (4, 6, {})
    assert second.in_use.parameters == first.parameters
    for search in (first, second):
        tried = [search.in_use, *search.trials]
        errors = [one.error for one in tried if one.error is not None]
        assert len(errors) == 4
        assert search.error == min(errors)
        assert search.parameters in [one.parameters for one in tried if one.error == search.error]
    assert first.error is not None
    assert first.in_use.error is not None
    assert first.error < first.in_use.error
    # the third committee, of 8 labels, came without a search
    assert not RoundFolder(folder, 3).search.exists()
    for index, used in ((1, first), (2, second), (3, second)):
        student = load_potential(RoundFolder(folder, index).committee).members[0]  # type: ignore[attr-defined]
        assert student.spec.facts["n_steps"] == used.parameters["training.max_epochs"]
        assert student.model.settings()["embedding"] == used.parameters["potential.embedding"]
    assert [path.name for path in folder.glob("rounds/*/trial-*")] == []


def test_searches_are_told_and_reported(ended: tuple[Path, PotentialEnd]) -> None:
    folder, end = ended
    told, _ = _lines(end.records[1])
    assert told.startswith("round 1: tried 3 settings on 4 labels; now training.max_epochs=")
    document = learning_report(folder)
    for text in ("Searches of settings", "potential.embedding", "as configured", ", used from here on"):
        assert text in document


def test_trials_that_had_ended_before_a_kill_are_not_done_again(
    ended: tuple[Path, PotentialEnd], tmp_path: Path
) -> None:
    whole, end = ended
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    folder = RoundFolder(copy, 2)
    search = read_search(folder.search)
    assert search is not None
    shutil.rmtree(RoundFolder(copy, 3).path)
    for path in folder.path.iterdir():
        path.unlink()
    (copy / POTENTIAL_NAME).unlink()
    # as a kill leaves it within the first batch
    folder.trial("in_use").write_bytes(orjson.dumps(search.in_use))
    folder.trial("01").write_bytes(orjson.dumps(search.trials[1]))
    stages: list[tuple[int, Stage, str]] = []
    again = learn(_config(), copy, on_progress=lambda *told: stages.append(told))
    assert _figures(again) == _figures(end)
    assert _files(copy) == _files(whole)
    told = [detail for _, stage, detail in stages if stage == "tuning"]
    assert told.count("1 of 1 settings tried, 100% done") == 2  # what was left of the first batch, and the second


def test_equal_settings_are_tried_once_and_failed_ones_are_told(tmp_path: Path) -> None:
    space = {"training.optimizer": {"categorical": [{"kind": "adam", "learning_rate": 1e6}, {"kind": "lbfgs"}]}}
    training = {"max_epochs": 3, "max_rollbacks": 0, "explosion_factor": 1.5}
    sampler = {"kind": "random"}
    stages: list[tuple[int, Stage, str]] = []
    end = learn(
        _config(
            training={**training, "optimizer": {"kind": "lbfgs"}},
            retuning={**RETUNING, "space": space, "n_trials": 5, "batch_size": 5, "sampler": sampler},
            stopping={"max_rounds": 1},
        ),
        tmp_path,
        on_progress=lambda *told: stages.append(told),
    )
    (search,) = _searches(end)
    assert ("tuning", "0 of 3 settings tried, 0% done") in {told[1:] for told in stages}
    failed = [one for one in search.trials if one.error is None]
    assert 0 < len(failed) < 5
    assert all("diverges" in one.message for one in failed)
    assert {one.error for one in search.trials} == {None, search.in_use.error}
    assert search.parameters == {}  # those in use, which nothing beats


def test_a_search_without_any_success_keeps_the_settings() -> None:
    record = RoundRecord(index=1, n_labels=8, n_test=0, n_chosen=2, n_failed=0)
    failed = TriedSettings({"training.max_epochs": 3}, None, "timed_out: after 3 s")
    search = SettingsSearch(8, 2, "validation_force_rmse", TriedSettings({}, None, "so too"), (failed,), {}, None)
    assert _lines(replace(record, search=search))[0] == "round 1: tried 1 settings on 8 labels; all failed"
    stored = replace(record, search=search, failures=("run 1: timed_out",))
    assert RoundRecord.from_json(stored.as_json(), Path("record.json")) == stored


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {"training.max_epoch": {"int": [1, 3]}}}, r"retuning\.space\.training\.max_epoch.*did you mean"),
        ({"space": {"training.max_epochs": {"int": [0, 3]}}}, r"greater than or equal to 1"),
        ({"space": {"max_epochs": {"int": [1, 3]}}}, r"such as training\.max_epochs"),
        ({"space": {"potential.kind": {"categorical": ["eam", "adp"]}}}, r"keeps the kind"),
        ({"metric": "score"}, r"there is no score; there are .*validation_force_mae"),
        ({"sampler": {"kind": "grid"}}, r"needs a `step`"),
    ],
)
def test_what_cannot_be_searched_is_told_at_once(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _config(retuning={**RETUNING, **changes})


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_learning_that_was_killed_in_its_searches_ends_as_the_uninterrupted_one(
    ended: tuple[Path, PotentialEnd], tmp_path: Path
) -> None:
    whole, end = ended
    config = _config(execution={"executor": "process_pool", "n_workers": 2})
    context = get_context("forkserver")
    context.set_forkserver_preload(["alloysmith.loop.learning.learning"])
    run = tmp_path / "run"
    for file in ("0001/trial-*.json", "0001/search.json", "0002/trial-*.json"):
        driver = context.Process(target=run_learning, args=(config, run))
        driver.start()
        while driver.is_alive() and not any(run.glob(f"rounds/{file}")):
            time.sleep(0.005)
        assert driver.is_alive()
        driver.kill()
        driver.join()
    again = learn(config, run)
    assert _figures(again) == _figures(end)
    assert _files(run) == _files(whole)
