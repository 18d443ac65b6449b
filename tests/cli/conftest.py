"""The command line in this process (imports are paid once), and a toy campaign that has ended."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from alloysmith.loop.cli.app import run_command_line
from alloysmith.tests.cli.toy import TOY, CommandLine, Ended


@pytest.fixture
def alloysmith(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """Call ``alloysmith("run", config, …)``; arguments are turned into text."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")

    def call(*arguments: object) -> Ended:
        capsys.readouterr()
        code = run_command_line([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return call


@pytest.fixture
def toy_config(tmp_path: Path) -> Path:
    """The toy campaign's file."""
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump(TOY))
    return path


@pytest.fixture
def toy_run(alloysmith: CommandLine, toy_config: Path, tmp_path: Path) -> Path:
    """The run directory of a toy campaign that has ended."""
    run_dir = tmp_path / "run"
    ended = alloysmith("run", toy_config, "--run-dir", run_dir, "--quiet")
    assert ended.code == 0, ended.err
    return run_dir
