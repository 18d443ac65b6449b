"""Progress of long commands, where it is not shown on a terminal."""

from __future__ import annotations

import pytest
import typer
from alloysmith.loop.cli import console
from alloysmith.loop.cli.console import ProgressBar, training_progress


def test_ctrl_c_in_a_training_says_how_to_go_on(capsys) -> None:
    with pytest.raises(typer.Exit) as ended, training_progress():
        raise KeyboardInterrupt
    assert ended.value.exit_code == 130
    assert said(capsys)[-1].startswith("interrupted; the same command goes on from the last checkpoint")


def said(capsys) -> list[str]:
    return [line.strip() for line in capsys.readouterr().err.splitlines() if line.strip()]


def test_a_file_gets_a_line_now_and_then(monkeypatch, capsys) -> None:
    now = 100.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    with ProgressBar("{task.description}", "{task.completed} of {task.total}") as bar:
        task = bar.add_task("drawing", total=90)
        for done in range(90):
            now += 1.0
            bar.update(task, completed=done)
    assert said(capsys) == [f"drawing {n} of 90" for n in (29, 59, 89)]


@pytest.mark.parametrize(("seconds", "n_lines"), [(1.0, 0), (31.0, 3)])
def test_short_trainings_say_nothing(monkeypatch, capsys, seconds: float, n_lines: int) -> None:
    now = 0.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    with training_progress() as report:
        for step in range(3):
            now += seconds
            assert report(step, {"loss": 0.5})
    lines = said(capsys)
    assert len(lines) == n_lines
    assert all("loss 0.5" in line for line in lines)
