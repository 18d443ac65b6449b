"""Arguments and options that several commands share, and the configurations that ship with the package."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import typer

from ...errors import ConfigError

ConfigArgument = Annotated[
    str, typer.Argument(metavar="CONFIG", help="A YAML file, or the name of one that ships with the package.")
]
RunDirArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The run directory of a campaign.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key of the settings, dots for depth: PART.KEY=VALUE. May be repeated.",
    ),
]
MachineOption = Annotated[
    Path | None, typer.Option("--machine", metavar="FILE", help="YAML file with the execution section of this machine.")
]
ExecutorOption = Annotated[
    Literal["ray", "process_pool", "in_process"], typer.Option("--executor", help="Where evaluations run.")
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="Workers; the number of usable cores if left out.")
]
DeadlineOption = Annotated[float, typer.Option("--deadline", metavar="SECONDS", min=0.1, help="Of an evaluation.")]
RetryFailedOption = Annotated[bool, typer.Option("--retry-failed", help="Evaluate again what failed before.")]


def shipped_configs() -> dict[str, Path]:
    """Name -> file of the configurations in the package: ``nifecr_quickstart``, ``oracles/…``, ``fit/…``."""
    folder = Path(str(resources.files("alloysmith.configs")))
    files = sorted(folder.rglob("*.yaml"))
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in files}


def find_config(text: str) -> Path:
    """The file of a configuration given as a path or by the name of a shipped one.

    Raises:
        ConfigError: neither; the names there are are listed.
    """
    path = Path(text).expanduser()
    if path.exists():
        return path
    shipped = shipped_configs()
    name = text.removesuffix(".yaml")
    if name in shipped:
        return shipped[name]
    close = difflib.get_close_matches(name, shipped, n=1)
    beside = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
    close_file = difflib.get_close_matches(path.name, beside, n=1)
    hint = (
        f"; did you mean {path.parent / close_file[0]}?"
        if close_file
        else f"; did you mean {close[0]}?"
        if close
        else ""
    )
    raise ConfigError(
        f"there is no file {text}, and no configuration of that name in the package{hint}\n"
        f"shipped: {', '.join(shipped) or 'none'}"
    )
