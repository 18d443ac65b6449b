"""`alloysmith compare`: generated structures beside a reference set."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from ...errors import ConfigError
from ...structures.files import read_structures
from ...structures.similarity.comparison import PairFigures, Row, SetFigures, as_json, compare_pairs, compare_sets
from ...structures.whole_file import write_whole
from .console import ProgressBar, output


def compare(
    generated: Annotated[Path, typer.Argument(metavar="GENERATED", help="File of generated structures.")],
    folder: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of results.")],
    reference: Annotated[
        Path | None,
        typer.Option("--reference", "-r", metavar="FILE", help="What they are compared with: the training set."),
    ] = None,
    is_paired: Annotated[
        bool,
        typer.Option("--paired", help="Compare the n-th structure with the n-th of the reference (reconstruction)."),
    ] = False,
    has_fingerprints: Annotated[
        bool, typer.Option("--fingerprints", help="With --paired: coordination fingerprints too; a second a pair.")
    ] = False,
    properties: Annotated[
        list[str] | None,
        typer.Option("--property", "-p", metavar="NAME", help="Value in the structures' info, for statistics."),
    ] = None,
) -> None:
    """Compare generated structures with a reference set.

    Without --paired: which are valid, unique modulo symmetry, and not in the reference; their phases, and how their
    volumes, compositions and properties are distributed beside the reference's. With --paired, for models that encode
    and decode: match rate and displacement, G-distances with elements and without, fingerprint distance.
    DIR/comparison.json has the figures, DIR/structures.csv a row for each structure.

    Example: alloysmith compare generated.extxyz --reference train.extxyz -p bulk_modulus_gpa -o compared
    """
    if is_paired and reference is None:
        raise ConfigError("--paired needs --reference: the structures that the generated ones should have become")
    if is_paired and properties:
        raise ConfigError("--property makes statistics of whole sets; leave out --paired")
    if has_fingerprints and not is_paired:
        raise ConfigError("--fingerprints are compared pair by pair; add --paired")
    made = read_structures(generated, allow_defects=True)
    known = [] if reference is None else read_structures(reference)
    folder.mkdir(parents=True, exist_ok=True)
    figures: SetFigures | PairFigures
    if is_paired:
        columns = (TextColumn("pairs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with ProgressBar(*columns) as progress:
            bar = progress.add_task("pairs", total=len(made))
            figures, rows = compare_pairs(
                made,
                known,
                has_fingerprints=has_fingerprints,
                report=lambda done: progress.update(bar, completed=done),
            )
    else:
        figures, rows = compare_sets(made, known, properties or ())
    write_whole(folder / "comparison.json", (json.dumps(as_json(figures), indent=2) + "\n").encode())
    write_whole(folder / "structures.csv", _csv(rows).encode())
    output().print(_table(as_json(figures)))
    output().print(f"wrote {folder / 'comparison.json'}, {folder / 'structures.csv'}", markup=False)


def _csv(rows: Sequence[Row]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _table(figures: dict[str, Any]) -> Table:
    table = Table(box=None, show_header=False)
    table.add_column("")
    table.add_column("", justify="right")
    for name, value in _lines(figures):
        table.add_row(name, value)
    return table


def _lines(figures: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for name, value in figures.items():
        label = f"{prefix}{name}"
        if isinstance(value, dict):
            lines += _lines(value, f"{label}.")
        elif value is not None:
            lines.append((label, f"{value:.4f}" if isinstance(value, float) else str(value)))
    return lines
