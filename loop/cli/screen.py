"""`alloysmith screen`: generated structures that are worth a label."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from ...generators.screening import check_energies, faults, limits_of
from ...structures.files import read_structures, write_structures
from .console import notes, output
from .writing import check_target


def screen(
    drafts: Annotated[Path, typer.Argument(metavar="BEFORE", help="Structures as generated, with energies.")],
    relaxed: Annotated[Path, typer.Argument(metavar="AFTER", help="The same rows, relaxed, with energies.")],
    reference: Annotated[
        Path, typer.Option("--reference", metavar="FILE", help="Relaxed training structures, with energies.")
    ],
    target: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Extended XYZ file of those to keep.")],
    relaxation_ev: Annotated[
        float,
        typer.Option("--max-relaxation", min=0.0, metavar="EV", help="Energy that relaxation may take."),
    ] = 10.0,
) -> None:
    """Keep the generated structures that are worth a label.

    A structure is kept if it, relaxed, has no more energy per atom than the worst of the reference, if relaxation took
    at most 10 eV off its cell, and if no element has a larger share in it than in the reference. Energies are
    `energy_ev_per_atom` in the rows' info, from `alloysmith label`, all with one potential. With `--phase any` drafts
    that relax into another phase are kept, as in the paper. If none is kept, nothing is written, and it ends with
    status 1.

    alloysmith label oracles/single_point drafts.extxyz -o before.extxyz

    alloysmith label oracles/relaxation drafts.extxyz -o after.extxyz --phase any

    alloysmith label oracles/relaxation train.extxyz -o reference.extxyz

    Example: alloysmith screen before.extxyz after.extxyz --reference reference.extxyz -o kept.extxyz
    """
    check_target(target, ("extxyz", "db", "json"))
    after = read_structures(relaxed)
    limits = limits_of(read_structures(reference), relaxation_ev)
    before = read_structures(drafts)
    check_energies(before, after)
    found = faults(before, after, limits)
    kept = [atoms for atoms, fault in zip(after, found, strict=True) if not fault]
    console = output()
    for fault, n in Counter(f for f in found if f).most_common():
        console.print(f"left out: {fault}" + (f" ({n} times)" if n > 1 else ""), markup=False)
    if kept:
        write_structures(target, kept)
        console.print(f"wrote {target}: {len(kept)} of {len(found)} structures, relaxed", markup=False)
    else:
        stale = f"; the {target.name} that is there is of an earlier call" if target.exists() else ""
        notes().print(f"none of {len(found)} structures is kept, so nothing was written{stale}", markup=False)
        raise typer.Exit(1)
