"""Where hops and their barriers come from, and which of them are set aside."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from ...structures.settings import Settings

SplitBy = Literal["composition", "structure", "vacancy", "hop", "column"]


class ColumnSettings(Settings):
    """Names of the columns in a table of hops; by default the usual ones are tried, whatever their case."""

    structure: str | None = None
    """Structure file, relative to the table, with `@index` for one of several structures: `structure`, `file`, `path`,
    `filename`, `poscar`."""
    vacancy_site: str | None = None
    """Number of the atom that is removed: `vacancy_site`, `vacancy`, `vacancy_index`, `vacancy_id`, `site`. Three
    columns `vacancy_x`, `vacancy_y`, `vacancy_z`, Å, may stand in its place, for structures that have the vacancy."""
    neighbour: str | None = None
    """Number of the atom that moves: `neighbour`, `neighbor`, `neighbour_index`, `neighbor_index`, `moving_atom`,
    `mover`, `migrating_atom`."""
    barrier: str | None = None
    """Barrier: `barrier_ev`, `barrier`, `energy_barrier`, `migration_barrier`, `migration_energy`,
    `migration_energy_ev`."""
    barrier_backward: str | None = None
    """Barrier of the same hop the other way, if known: `barrier_backward_ev`, `barrier_backward`, `backward_barrier`,
    `backward_barrier_ev`, `reverse_barrier`."""
    group: str | None = None
    """Name of the alloy, for a split by composition: `composition`, `alloy`, `group`; without it the composition of
    the structure is taken, in per cent."""
    split: str | None = None
    """What a hop is for, for `split_by: column`: `split`, holding `train`, `validation` or `test`."""


class HopDataSettings(Settings):
    """Tables of hops with their barriers."""

    files: tuple[str, ...] = ()
    """CSV tables to learn from; `alloysmith fit --data FILE` names them on the command line instead."""
    test_files: tuple[str, ...] = ()
    """Tables that are never learnt from."""
    columns: ColumnSettings = ColumnSettings()
    """Names of the columns, where they are not the usual ones."""
    first_index: Literal[0, 1] = 0
    """The number of the first atom in the table."""
    barrier_unit: Literal["eV", "meV"] = "eV"
    """Unit of the barriers in the table."""
    learn_returns: bool = True
    """Learn each hop the other way too, where the table has its barrier in a column such as `barrier_backward_ev`."""
    split_by: SplitBy = "composition"
    """What is held out as a whole: the hops of a `composition`, of a `structure`, of a `vacancy`, or each `hop` by
    itself. Hops of one structure know one another, so that `vacancy` and `hop` flatter a model that is meant for new
    alloys. `column`: what the column `split` of the table says, which `alloysmith barriers` writes; where it names no
    hops for the validation, compositions of those to learn from are taken."""
    test_fraction: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Share of the compositions (structures, …) that is set aside for the test errors; none with `test_files` or
    `split_by: column`."""
    validation_fraction: float = Field(default=0.1, gt=0.0, lt=1.0)
    """Share of those that decides when a training stops and which weights are kept."""
    on_bad_row: Literal["error", "drop"] = "error"
    """`error`: bad rows end the fit before it begins, all named together. `drop`: they are left out, and listed."""
    base_dir: Path | None = None
    """Folder that file names are relative to; set when the config file is read."""

    @model_validator(mode="after")
    def _leaves_something(self) -> HopDataSettings:
        if self.test_fraction + self.validation_fraction >= 1.0:
            raise ValueError(
                f"test_fraction {self.test_fraction:g} and validation_fraction {self.validation_fraction:g} leave "
                "nothing to learn from; together they must be below 1"
            )
        return self

    def resolved(self, base_dir: Path) -> HopDataSettings:
        """A copy whose relative file names refer to ``base_dir``; a base set before is kept."""
        return self if self.base_dir is not None else self.model_copy(update={"base_dir": base_dir.resolve()})

    def path(self, file: str) -> Path:
        """Where a file is."""
        return (self.base_dir or Path()) / file
