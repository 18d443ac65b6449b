"""`alloysmith export`: a campaign's results in formats that other tools open."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer

from ...errors import ConfigError
from ...generators.base import Evaluation
from ...oracles.base import Label
from ...structures.files import file_format, write_structures
from ...structures.whole_file import write_whole
from ..rows import evaluation_row, origin
from ..state import CampaignState, replay
from ..texts import composition_text
from .arguments import RunDirArgument
from .console import output
from .writing import check_target

_SINGLE = ("vasp", "lammps-data")
"""Formats of one structure: of the best, unless a folder takes several."""


def export(
    run_dir: RunDirArgument,
    target: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="Its suffix says the format; or a folder, see --each."),
    ],
    best: Annotated[int | None, typer.Option(metavar="N", min=1, help="Only the N best, best first.")] = None,
    with_failed: Annotated[bool, typer.Option("--with-failed", help="Also what failed, with its `failure`.")] = False,
    each: Annotated[
        Literal["cif", "vasp"] | None,
        typer.Option(help="Write a file of this format for each structure, into the folder FILE."),
    ] = None,
) -> None:
    """Write a campaign's results in a format other tools open.

    .extxyz, .xyz (.gz too): relaxed structures with all values; .db: an ASE database; .csv: a table; .json:
    pymatgen structures; .cif; .vasp and .lmp: the best structure. Rows stand in the order of evaluation unless
    --best is given.

    Example: alloysmith export runs/first -o best --best 10 --each cif
    """
    state = replay(run_dir)
    is_table = target.suffix.lower() == ".csv"
    if each is not None:
        if target.is_file() or target.suffix:
            raise ConfigError(f"with --each the output is a folder, got {target}; leave its suffix out")
    elif not is_table and file_format(target) in _SINGLE:
        best = best if best is not None else 1
    if each is None:
        check_target(target)
    chosen = _chosen(state, best, with_failed)
    if not chosen:
        raise ConfigError(f"{run_dir} has no labelled evaluation yet; nothing to export")
    if each is not None:
        _write_folder(chosen, target, each)
    elif is_table:
        _write_table(chosen, state, target)
    else:
        write_structures(target, [evaluation_row(evaluation) for evaluation in chosen])
    output().print(f"wrote {target}: {len(chosen)} evaluation{'s' if len(chosen) > 1 else ''}", markup=False)


def _chosen(state: CampaignState, n_best: int | None, with_failed: bool) -> list[Evaluation]:
    if n_best is None:
        return [e for e in state.evaluations if with_failed or e.label is not None]
    objective = state.objective
    scored = [(-objective.score(e.label), e.request_id, e) for e in state.evaluations if e.label is not None]
    return [evaluation for _, _, evaluation in sorted(scored, key=lambda entry: entry[:2])[:n_best]]


def _write_folder(chosen: Sequence[Evaluation], folder: Path, suffix: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for rank, evaluation in enumerate(chosen, start=1):
        write_structures(folder / f"{rank:04d}-{evaluation.request_id}.{suffix}", evaluation_row(evaluation))


def _write_table(chosen: Sequence[Evaluation], state: CampaignState, path: Path) -> None:
    rows = [_table_row(evaluation, tuple(state.config["system"]["elements"])) for evaluation in chosen]
    names = list(dict.fromkeys(name for row in rows for name in row))

    def fill(scratch: Path) -> None:
        with scratch.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)

    write_whole(path, fill)


def _table_row(evaluation: Evaluation, elements: tuple[str, ...]) -> dict[str, Any]:
    atoms = evaluation.candidate.atoms
    counts = atoms.symbols.formula.count()
    row: dict[str, Any] = dict(origin(evaluation))
    row["composition"] = composition_text(atoms, elements)
    row.update({f"fraction_{element}": counts.get(element, 0) / len(atoms) for element in elements})
    if isinstance(evaluation.result, Label):
        scalars = {name: float(v) for name, v in evaluation.result.values.items() if np.ndim(v) == 0}
        return row | scalars | {"cpu_s": evaluation.result.cpu_s}
    return row | {
        "failure": str(evaluation.result.kind),
        "failure_message": " ".join(evaluation.result.message.split()),
    }
