"""`alloysmith sample`: labelled snapshots of melts and crystals, to learn from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from ase import Atoms
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from ...generators.melt_folder import MeltFolder
from ...generators.melt_sampling import (
    Melt,
    MeltSamplingSettings,
    composition_distance,
    planned_melts,
    sample_melts,
)
from ...structures.files import write_structures
from ...surrogates.potentials.native import force_field_of
from ..config import load_settings
from ..potential_choice import POTENTIAL_HELP, find_potential
from .arguments import ConfigArgument, SetOption, find_config
from .console import ProgressBar, notes, output
from .writing import check_target


def sample(
    potential: Annotated[str, typer.Argument(metavar="POTENTIAL", help=POTENTIAL_HELP)],
    config: ConfigArgument,
    target: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Extended XYZ file to write.")],
    test_target: Annotated[
        Path | None, typer.Option("--test-output", metavar="TEST", help="The same for the test compositions.")
    ] = None,
    overrides: SetOption = None,
) -> None:
    """Sample labelled melts or crystals by MD.

    Each composition of the configuration is molten, cooled to each temperature, equilibrated at zero or another
    pressure, and visited at intervals; with `melting_temperature_k: null` crystals are sampled instead. Frames hold
    energy, forces and stress by the potential that drove them, the composition as `group`, and the temperature. The
    table shows whether they are what they should be: how far atoms move from one frame to the next, and how
    the energies of consecutive frames correlate. For labels by another oracle, run `alloysmith label` on OUT.

    Melts that are done wait in the folder OUT.melts until all are: the same command goes on after Ctrl-C or a kill.

    Example: alloysmith sample zjw04 sampling/alcuni_melt -o melts.extxyz.gz --test-output melts_test.extxyz.gz

    Example: alloysmith sample zjw04 sampling/tanbmo_solid -o tanbmo.extxyz.gz
    """
    settings: MeltSamplingSettings = load_settings(find_config(config), MeltSamplingSettings, overrides or ())
    if settings.test_compositions and test_target is None:
        raise typer.BadParameter("there are test_compositions; name a file for them", param_hint="--test-output")
    for path in (target, test_target):
        if path is not None:
            check_target(path, ("extxyz",))
    found = find_potential(potential, settings.elements())
    folder = MeltFolder(target.with_name(f"{target.name}.melts"), settings, found.fingerprint)
    known = folder.read()
    n_melts = len(planned_melts(settings))
    if known:
        notes().print(f"{len(known)} of {n_melts} melts are in {folder.path}", markup=False)
    columns = (TextColumn("sampling"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[last]}"))
    with (
        force_field_of(found.potential) as force_field,
        ProgressBar(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as progress,
    ):
        bar = progress.add_task("sample", total=n_melts, completed=len(known), last="")

        def keep(melt: Melt) -> None:
            folder.put(melt)
            progress.update(bar, advance=1, last=f"{melt.composition} {melt.temperature_k:g} K")

        melts = sample_melts(force_field, settings, keep, known)
    output().print(_table(melts, settings))
    for path, is_test in ((target, False), (test_target, True)):
        frames: list[Atoms] = [atoms for melt in melts if melt.is_test is is_test for atoms in melt.frames]
        if path is not None and frames:
            write_structures(path, frames)
            output().print(f"wrote {path}: {len(frames)} frames", markup=False)
    folder.remove()


def _table(melts: list[Melt], settings: MeltSamplingSettings) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("composition")
    for name in ("K", "frames", "Å^3/atom", "moved Å", "correlation"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("for tests; nearest other")
    for melt in melts:
        distance, nearest = min(
            (composition_distance(melt.composition, other), other) for other in settings.compositions
        )
        table.add_row(
            melt.composition,
            f"{melt.temperature_k:g}",
            str(len(melt.frames)),
            f"{melt.volume_ang3:.2f}",
            f"{melt.displacement_ang:.2f}",
            f"{melt.energy_correlation:.2f}",
            f"{nearest}, {100 * distance:.0f} at.% away" if melt.is_test else "",
        )
    return table
