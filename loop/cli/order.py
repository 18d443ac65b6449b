"""`alloysmith order`: chemical short-range order by hybrid Monte Carlo and molecular dynamics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ...errors import ConfigError
from ...generators.chemical_order import ChemicalOrder, ChemicalOrderSettings, OrderRecord
from ...oracles.potentials import PotentialSettings
from ...structures.files import read_structures
from ...structures.settings import Settings
from ..config import load_settings
from ..signals import GracefulStop
from ..store.lock import RunLock
from .arguments import ConfigArgument, SetOption, find_config
from .console import ProgressBar, notes, output


class OrderConfig(Settings):
    """A run towards chemical order."""

    potential: PotentialSettings
    """The interatomic potential."""
    run: ChemicalOrderSettings = ChemicalOrderSettings()
    """How it is run, and what is recorded."""

    def resolved(self, base_dir: Path) -> OrderConfig:
        """A copy whose relative file names refer to ``base_dir``."""
        return self.model_copy(update={"potential": self.potential.resolved(base_dir)})


def order(
    config: ConfigArgument,
    structure: Annotated[Path, typer.Argument(metavar="STRUCTURE", help="A random alloy on ideal sites.")],
    folder: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder of the run.")],
    index: Annotated[int, typer.Option(min=0, help="Which structure of the file, counted from 0.")] = 0,
    overrides: SetOption = None,
) -> None:
    """Let an alloy take on chemical short-range order.

    Atoms of different elements are exchanged by the Metropolis rule while the crystal vibrates (LAMMPS' fix atom/swap).
    FOLDER/order.csv tells energies, accepted swaps and the excess of each pair over the random mixture, shell by shell;
    FOLDER/snapshots has a structure for each row. The same command goes on after a stop.

    Example: alloysmith order order/ta_nb_mo alloys.extxyz --index 20 -o ordered
    """
    settings: OrderConfig = load_settings(find_config(config), OrderConfig, overrides or ())
    frames = read_structures(structure)
    if index >= len(frames):
        raise ConfigError(f"{structure} has {len(frames)} structures, no number {index}")
    folder.mkdir(parents=True, exist_ok=True)
    lock = RunLock(folder, remedy="wait for it, or stop that process first")
    try:
        _run(ChemicalOrder(settings.potential.load(), settings.run, frames[index], folder), settings.run, folder)
    finally:
        lock.release()


def _run(run: ChemicalOrder, settings: ChemicalOrderSettings, folder: Path) -> None:
    """Go on to the last step, or to a signal, and say where the run stands."""
    columns = (TextColumn("steps"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[state]}"))
    with (
        GracefulStop() as signals,
        ProgressBar(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as progress,
    ):
        done = run.records[-1].step if run.records else 0
        bar = progress.add_task("order", total=settings.n_steps, completed=done, state="")

        def show(record: OrderRecord) -> bool:
            energy = f"{record.energy_ev_per_atom:.5f} eV/atom"
            progress.update(bar, completed=record.step, state=energy)
            return signals.received is None

        run.run(show)
    if signals.received is not None and not run.is_complete:
        notes().print(f"interrupted at step {run.records[-1].step}: the same command goes on", markup=False)
        raise typer.Exit(128 + signals.received)
    last = run.records[-1]
    excess = ", ".join(f"{pair} {value:+.3f}" for pair, value in last.delta.items() if pair.endswith(" 1"))
    output().print(f"wrote {folder}: step {last.step}; pairs beyond random in shell 1, by atom: {excess}", markup=False)
