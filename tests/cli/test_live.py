"""The live view: what it draws, and that it keeps up."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from alloysmith.loop.campaign import Campaign
from alloysmith.loop.cli.live import LiveView, PlainView, SilentView, dashboard, event_line, progress_line, view_for
from alloysmith.loop.config import load_config
from alloysmith.loop.state import CampaignState, replay
from alloysmith.loop.store.event_log import read_events
from alloysmith.loop.summary import summarize, summarize_run_dir
from rich.console import Console


def _console(is_terminal: bool, width: int = 100) -> Console:
    return Console(file=io.StringIO(), force_terminal=is_terminal, width=width, height=40, color_system=None)


def _written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_dashboard_shows_what_matters(toy_run: Path) -> None:
    console = _console(True)
    state = replay(toy_run)
    lines = tuple(line for event in read_events(toy_run) if (line := event_line(event, state)) is not None)
    console.print(dashboard(summarize(state), lines[-5:], "runs/toy", state.updated_at + 5.0))
    text = _written(console)
    for word in ("toy", "runs/toy", "12 / 12", "GPa", "evaluations/h", "failed", "busy", "synchronous", "budget"):
        assert word in text, word
    assert max(map(len, text.splitlines())) <= 100


def test_the_dashboard_tells_who_proposes_where_there_are_several(toy_run: Path) -> None:
    console = _console(True)
    summary = summarize(replay(toy_run))
    console.print(dashboard(summary, (), "runs/toy", summary.updated_at))
    assert "proposals" not in _written(console)
    shared = replace(summary, recent_generators={"search/swaps": 20, "search/model": 60})
    console.print(dashboard(shared, (), "runs/toy", summary.updated_at))
    text = _written(console)
    assert text.index("search/model 75% of the last 80") < text.index("search/swaps 25% of the last 80")


def test_a_narrow_terminal_is_no_error(toy_run: Path) -> None:
    console = _console(True, width=40)
    console.print(dashboard(summarize(replay(toy_run)), (), "a/long/path/to/a/run/directory", 0.0))
    assert "12 / 12" in _written(console)


def test_the_live_view_takes_every_event(toy_run: Path) -> None:
    console = _console(True)
    state = CampaignState()
    with LiveView(console, "runs/toy") as view:
        for event in read_events(toy_run):
            state.apply(event)
            view.note(event, state)
    assert "12 / 12" in _written(console)


def test_the_plain_view_prints_lines(toy_run: Path) -> None:
    console = _console(False)
    state = CampaignState()
    with PlainView(console, interval_s=0.0) as view:
        for event in read_events(toy_run):
            state.apply(event)
            view.note(event, state)
    lines = _written(console).splitlines()
    assert len(lines) == 12
    assert lines[-1].startswith("12/12 evaluations, best")


@pytest.mark.parametrize(
    ("is_terminal", "is_quiet", "is_plain", "kind"),
    [
        (True, False, False, LiveView),
        (True, False, True, PlainView),
        (False, False, False, PlainView),
        (True, True, False, SilentView),
    ],
)
def test_the_view_fits_the_console(is_terminal: bool, is_quiet: bool, is_plain: bool, kind: type) -> None:
    assert isinstance(view_for(_console(is_terminal), "x", is_quiet=is_quiet, is_plain=is_plain), kind)


def test_a_campaign_without_a_label(toy_config: Path, tmp_path: Path) -> None:
    config = load_config(toy_config, ["oracle.faults=[{effect: not_converged, fraction: 1.0}]"])
    campaign = Campaign.create(config, tmp_path / "run")
    before = summarize_run_dir(campaign.state, campaign.run_dir)
    assert (before.condition, before.rate_per_hour, before.time_left_s) == ("killed", None, None)
    campaign.run()
    summary = summarize_run_dir(campaign.state, campaign.run_dir)
    assert summary.best is None
    assert summary.n_failed == {"not_converged": 12}
    assert "no label yet, 12 failed" in progress_line(summary)
    console = _console(True)
    console.print(dashboard(summary, (), "x", 0.0))
    assert "12 not_converged" in _written(console)
