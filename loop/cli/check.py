"""`alloysmith validate` and `alloysmith schema`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import orjson
import typer
import yaml

from ..config import json_schema, load_config
from .arguments import ConfigArgument, MachineOption, SetOption, find_config
from .console import output


def validate(
    config: ConfigArgument,
    overrides: SetOption = None,
    machine: MachineOption = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="Print the configuration with all defaults.")] = False,
) -> None:
    """Check a configuration and print what it resolves to.

    Reads all files it names and tries the potential; ends with status 2 and a list of all problems if there are any.

    Example: alloysmith validate nifecr_quickstart --set budget.n_evaluations=50 --resolved
    """
    path = find_config(config)
    checked = load_config(path, overrides or (), machine)
    console = output()
    if resolved:
        console.out(yaml.safe_dump(checked.plain(), sort_keys=False, allow_unicode=True, width=100).rstrip())
    else:
        space = checked.system.space()
        lattices = ", ".join(lattice.describe() for lattice in space.lattices)
        objective, n = checked.objective, checked.budget.n_evaluations
        console.print(
            f"{path} is valid: {'–'.join(space.elements)} on {lattices}; "
            f"{objective.direction} {objective.property}; {n} evaluations",
            markup=False,
        )


def schema(
    path: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it to a file.")] = None,
) -> None:
    """Print the JSON schema of configurations, for editors.

    Example: alloysmith schema -o campaign.schema.json
    """
    text = orjson.dumps(json_schema(), option=orjson.OPT_INDENT_2).decode()
    if path is None:
        output().out(text)
    else:
        path.write_text(text + "\n", encoding="utf-8")
