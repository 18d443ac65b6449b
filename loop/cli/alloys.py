"""`alloysmith alloys`: random solid solutions over the compositions of a system."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...generators.solid_solutions import SolidSolutionSettings, solid_solutions
from ...structures.files import write_structures
from ..config import load_settings
from .arguments import ConfigArgument, SetOption, find_config
from .console import output
from .writing import check_target


def alloys(
    config: ConfigArgument,
    target: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Extended XYZ file to write.")],
    overrides: SetOption = None,
) -> None:
    """Write random alloys over a system's compositions.

    Each row's info tells its composition, its phase, and whether it is one to learn from (split=train) or to test on.
    With `line` in the configuration the compositions lie on a line instead, in cells as large as rare elements need.

    Example: alloysmith alloys alloys/ta_nb_mo -o alloys.extxyz --set seed=1
    """
    settings: SolidSolutionSettings = load_settings(find_config(config), SolidSolutionSettings, overrides or ())
    check_target(target, ("extxyz",))
    rows = solid_solutions(settings)
    write_structures(target, rows)
    if settings.line is not None:
        text = f"{len(rows)} compositions along a line, {len(rows[0]):,} to {max(map(len, rows)):,} atoms each"
    else:
        text = (
            f"{settings.n_train} compositions to learn from and {settings.n_test} to test on, {len(rows[0])} atoms each"
        )
    output().print(f"wrote {target}: {text}", markup=False)
