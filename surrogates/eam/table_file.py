"""A model as the table that LAMMPS, ASE and OpenKIM read: ``setfl``, or ``adp`` where it has angular terms.

LAMMPS' pair style ``adp`` sums F + φ/2 + μ²/2 + λ²/2 - ν²/6 over atoms, as Eq. 3 of "Machine learning enhanced
empirical potentials for metals and alloys" does, so that tables need no factors.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...oracles.setfl import EamTables, setfl_text
from ..base import SurrogateError
from .model import EamModel
from .tables import tabulate, write_text


@dataclass(frozen=True)
class TableFormat:
    """A kind of table.

    Attributes:
        pair_style: of LAMMPS.
        suffix: how file names end, by which programs know the format.
    """

    pair_style: str
    suffix: str


_SETFL = TableFormat("eam/alloy", ".eam.alloy")
_ADP = TableFormat("adp", ".adp")


def table_format(model: EamModel) -> TableFormat:
    """The format that holds all terms of a model."""
    return _SETFL if model.angular is None else _ADP


def write_table(
    model: EamModel,
    path: Path,
    *,
    comment: str = "Embedded-atom potential written by Alloysmith",
    n_r: int = 4001,
    n_rho: int = 10001,
    rho_max: float | None = None,
) -> EamTables:
    """Write the functions of a model.

    Args:
        path: its name must end with the suffix of :func:`table_format`.
        comment: where the potential comes from, for the first line of the file.
        n_r, n_rho, rho_max: see :func:`~.tables.tabulate`.

    Returns:
        What was written, with the range that is valid.

    Raises:
        SurrogateError: the name is another format's, or the file cannot be written.
    """
    suffix = table_format(model).suffix
    if not path.name.endswith(suffix):
        having = "has no" if model.angular is None else "has"
        raise SurrogateError(
            f"the file of a model that {having} angular terms must be named *{suffix}, got {path.name}"
        )
    tables = tabulate(model, n_r=n_r, n_rho=n_rho, rho_max=rho_max)
    write_text(setfl_text(tables, comment), path)
    return tables
