"""Export of an EAM model as a ``setfl`` file for LAMMPS' ``eam/alloy``, ASE and OpenKIM."""

from __future__ import annotations

from pathlib import Path

from ..base import SurrogateError
from .model import EamModel
from .tables import EamTables, setfl_text, tabulate, write_text

SUFFIX = ".eam.alloy"


def write_setfl(
    model: EamModel,
    path: Path,
    *,
    comment: str = "Embedded-atom potential written by Alloysmith",
    n_r: int = 4001,
    n_rho: int = 10001,
    rho_max: float | None = None,
) -> EamTables:
    """Write the functions of a model; LAMMPS reads the file with ``pair_style eam/alloy``.

    Args:
        path: its name must end with ``.eam.alloy``, by which programs know the format.
        comment: where the potential comes from, for the first line of the file.
        n_r, n_rho, rho_max: see :func:`~.tables.tabulate`.

    Returns:
        What was written, with the range that is valid.

    Raises:
        SurrogateError: the model has angular terms, the name is another format's, or the file cannot be written.
    """
    if model.angular is not None:
        raise SurrogateError("the model has angular terms, which setfl files do not hold; export it as adp")
    if not path.name.endswith(SUFFIX):
        raise SurrogateError(f"the name of a setfl file ends with {SUFFIX}, got {path.name}")
    tables = tabulate(model, n_r=n_r, n_rho=n_rho, rho_max=rho_max)
    write_text(setfl_text(tables, comment), path)
    return tables
