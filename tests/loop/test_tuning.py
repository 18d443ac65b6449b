"""Searches of the surrogate's settings within a campaign, and winners of studies that campaigns and learnings take."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from alloysmith.agents.optuna_study import OptunaStudy, read_trials
from alloysmith.errors import ConfigError
from alloysmith.generators.base import Evaluation
from alloysmith.loop.campaign import Campaign
from alloysmith.loop.config import CampaignConfig, check_config, load_config
from alloysmith.loop.events import Requested, Retrained, Tuned
from alloysmith.loop.fitting import ErrorFigures, cross_validated
from alloysmith.loop.learning.config import load_learning_config
from alloysmith.loop.report.build import write_report
from alloysmith.loop.state import replay
from alloysmith.loop.store.event_log import read_events

MakeConfig = Callable[..., CampaignConfig]
SameResult = Callable[[Evaluation, Evaluation], bool]

RETUNING: dict[str, Any] = {
    "space": {"surrogate.degree": {"int": [1, 3]}},
    "n_trials": 3,
    "least_labels": 10,
    "growth": 2.0,
    "validation_folds": 3,
    "error": "rmse",
    "sampler": {"kind": "grid"},
}


def _config(make_config: MakeConfig, **changes: Any) -> CampaignConfig:
    agent = {"kind": "bayesian", "n_initial": 6, "batch_size": 2, "n_pool": 20, "selection": {"kind": "upper_bound"}}
    return make_config(
        agent={**agent, "retraining": {"every": 2}, "retuning": {**RETUNING, **changes}},
        surrogate={"kind": "polynomial", "degree": 1},
        budget__n_evaluations=24,
    )


def _tuned(run_dir: Path) -> list[Tuned]:
    return [event for event in read_events(run_dir) if isinstance(event, Tuned)]


def _same(a: Path, b: Path, same_result: SameResult) -> bool:
    one, other = replay(a).evaluations, replay(b).evaluations
    return len(one) == len(other) and all(same_result(x, y) for x, y in zip(one, other, strict=True))


def test_settings_are_searched_when_labels_have_grown(make_config: MakeConfig, tmp_path: Path) -> None:
    config = _config(make_config)
    check_config(config)
    Campaign.create(config, tmp_path / "run").run()
    found = _tuned(tmp_path / "run")
    assert [event.n_labels for event in found] == [10, 20]
    for event in found:
        assert event.error is not None
        assert event.error_before is not None
        assert event.error <= event.error_before
        assert event.settings["kind"] == "polynomial"
    events: Sequence[Any] = list(read_events(tmp_path / "run"))
    for event in found:  # what was found is learnt with at once, in the same round
        (fit,) = [e for e in events if isinstance(e, Retrained) and e.round == event.round]
        assert fit.reason == f"settings searched on {event.n_labels} labels"
        assert fit.n_train == event.n_labels
    state = replay(tmp_path / "run")
    assert [event.n_labels for event in state.tunings] == [10, 20]
    last = max(e.round for e in events if isinstance(e, Retrained))
    model = next(e for e in events if isinstance(e, Retrained) and e.round == last).model
    assert (tmp_path / "run" / "models" / model).is_file()
    assert (tmp_path / "run" / "tuning" / "000010" / "journal.log").is_file()
    write_report(tmp_path / "run", tmp_path / "report.html")
    document = (tmp_path / "report.html").read_text()
    assert "RMSE before" in document
    assert "settings from then on" in document


def test_the_best_of_the_settings_is_kept(make_config: MakeConfig, tmp_path: Path) -> None:
    Campaign.create(_config(make_config), tmp_path / "run").run()
    for event in _tuned(tmp_path / "run"):
        journal = tmp_path / "run" / "tuning" / f"{event.n_labels:06d}" / "journal.log"
        values = [trial.values[0] for trial in read_trials(journal, {}) if trial.condition == "finished"]
        assert len(values) == 3
        assert event.error == min([event.error_before, *values])


@pytest.mark.parametrize("broken", [{1}, {1, 2, 3}])
def test_an_error_that_is_not_finite_is_beaten_by_any_other(
    broken: set[int], make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judged(trainer: Any, *args: Any, **more: Any) -> dict[str, ErrorFigures]:
        found = cross_validated(trainer, *args, **more)
        is_broken = trainer.degree in broken
        return {name: replace(figures, rmse=math.nan) if is_broken else figures for name, figures in found.items()}

    monkeypatch.setattr("alloysmith.loop.tuning.cross_validated", judged)
    Campaign.create(_config(make_config, growth=9.0), tmp_path / "run").run()
    (event,) = _tuned(tmp_path / "run")
    assert event.error_before is None
    if broken == {1}:
        assert event.settings["degree"] in (2, 3)
        assert event.error is not None
        assert event.error > 0.0
    else:
        assert (event.settings["degree"], event.error) == (1, None)
    write_report(tmp_path / "run", tmp_path / "report.html")
    assert "not finite" in (tmp_path / "report.html").read_text()


class _Cut(BaseException):
    """The driver is killed; nothing may catch it."""


def test_a_search_that_was_cut_off_ends_as_one_that_was_not(
    make_config: MakeConfig, same_result: SameResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config(make_config, sampler={"kind": "tpe", "n_startup_trials": 1}, n_trials=4)
    Campaign.create(config, tmp_path / "whole").run()
    n_told: list[int] = []
    finish = OptunaStudy.finish

    def dying(self: OptunaStudy, *args: Any, **more: Any) -> None:
        n_told.append(1)
        if len(n_told) == 3:
            raise _Cut
        finish(self, *args, **more)

    Campaign.create(config, tmp_path / "cut")
    with monkeypatch.context() as patch:
        patch.setattr(OptunaStudy, "finish", dying)
        with pytest.raises(_Cut):
            Campaign.open(tmp_path / "cut").run()
    assert not _tuned(tmp_path / "cut")
    assert Campaign.open(tmp_path / "cut").run().reason == "budget"
    assert _same(tmp_path / "whole", tmp_path / "cut", same_result)
    for a, b in zip(_tuned(tmp_path / "whole"), _tuned(tmp_path / "cut"), strict=True):
        assert (a.n_labels, a.settings, a.error, a.error_before) == (b.n_labels, b.settings, b.error, b.error_before)


def test_a_search_whose_decision_was_torn_off_is_done_again(
    make_config: MakeConfig, same_result: SameResult, tmp_path: Path
) -> None:
    config = _config(make_config)
    Campaign.create(config, tmp_path / "whole").run()
    Campaign.create(config, tmp_path / "torn").run()
    log = tmp_path / "torn" / "events.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    events = list(read_events(tmp_path / "torn"))
    first = next(k for k, event in enumerate(events) if isinstance(event, Tuned))
    assert isinstance(events[first + 2], Requested)
    log.write_bytes(b"".join(lines[: first + 1]))  # killed between the lines of one decision
    os.sync()
    Campaign.open(tmp_path / "torn").run()
    assert _same(tmp_path / "whole", tmp_path / "torn", same_result)
    assert [event.n_labels for event in replay(tmp_path / "torn").tunings] == [10, 20]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_campaign_killed_in_a_search_ends_as_one_that_was_not(
    make_config: MakeConfig, same_result: SameResult, tmp_path: Path
) -> None:
    simple = {"kind": "gaussian_process", "n_shells": 0, "has_chains": False}
    space = {"surrogate": {"categorical": [{"kind": "polynomial", "degree": 2}, simple]}}
    config = _config(make_config, space=space, sampler={"kind": "random"}, n_trials=16, growth=9.0)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    Campaign.create(config, whole).run()
    Campaign.create(config, killed)
    journal = killed / "tuning" / "000010" / "journal.log"
    command = [sys.executable, "-m", "alloysmith", "resume", str(killed), "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
        give_up_at = time.monotonic() + 120.0
        while not (journal.is_file() and journal.read_bytes().count(b"figures") > 2) and time.monotonic() < give_up_at:
            time.sleep(0.002)
        os.kill(driver.pid, signal.SIGKILL)
    n_before = sum(trial.condition == "finished" for trial in read_trials(journal, {}))
    assert 2 <= n_before < 16
    assert not _tuned(killed)
    Campaign.open(killed).run()
    assert sum(trial.condition == "finished" for trial in read_trials(journal, {})) == 16
    assert _same(whole, killed, same_result)
    assert [(e.settings, e.error) for e in _tuned(killed)] == [(e.settings, e.error) for e in _tuned(whole)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": {"surrogate.degre": {"int": [1, 3]}}}, r"agent\.retuning\.space.*did you mean degree"),
        ({"space": {"degree": {"int": [1, 3]}}}, r"searches settings of its surrogate, such as surrogate\.degree"),
        ({"space": {"surrogate.degree": {"int": [1, 99]}}}, r"less than or equal to"),
        ({"n_trials": 4}, r"a grid needs .* at least n_trials = 4 points"),
    ],
)
def test_what_cannot_be_searched_is_refused(change: dict[str, Any], message: str, make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match=message):
        check_config(_config(make_config, **change))


def test_a_campaign_takes_the_surrogate_of_a_study(make_config: MakeConfig, tmp_path: Path) -> None:
    plain = {k: v for k, v in _config(make_config).plain().items() if k not in ("surrogate", "failure_policy")}
    (tmp_path / "best.yaml").write_text("surrogate: {kind: gaussian_process, n_shells: 2}\nvalidation_folds: 5\n")
    path = tmp_path / "campaign.yaml"
    path.write_text(yaml.safe_dump({**plain, "agent": {**plain["agent"], "retuning": None}, "fit": "best.yaml"}))
    config = load_config(path)
    assert config.surrogate is not None
    assert config.surrogate.model_dump(exclude_unset=True) == {"kind": "gaussian_process", "n_shells": 2}
    with pytest.raises(ConfigError, match=r"surrogate is given, and best\.yaml brings one too"):
        load_config(path, ["surrogate.kind=polynomial"])
    with pytest.raises(ConfigError, match=r"beste\.yaml does not exist; did you mean .*best\.yaml"):
        load_config(path, ["fit=beste.yaml"])


def test_a_learning_takes_the_potential_of_a_study(tmp_path: Path) -> None:
    fit = {"potential": {"kind": "eam", "cutoff_ang": 4.5}, "elements": ["Al"], "training": {"max_epochs": 7}}
    (tmp_path / "best.yaml").write_text(yaml.safe_dump(fit))
    learning = {
        "system": {"elements": ["Al"]},
        "oracle": {"kind": "single_point", "potential": {"kind": "wheel", "name": "Al_zhou.eam.alloy"}},
        "fit": "best.yaml",
    }
    path = tmp_path / "learn.yaml"
    path.write_text(yaml.safe_dump(learning))
    config = load_learning_config(path)
    assert config.potential.kind == "eam"
    assert (config.potential.cutoff_ang, config.training.max_epochs) == (4.5, 7)
