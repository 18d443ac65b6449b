"""Export of a model with angular terms as an ``adp`` file for LAMMPS and ASE.

LAMMPS' pair style sums F + φ/2 + μ²/2 + λ²/2 - ν²/6 over atoms, as Eq. 3 does, so that tables need no factors.
"""

from __future__ import annotations

from pathlib import Path

from ..base import SurrogateError
from .model import EamModel
from .tables import EamTables, setfl_text, tabulate, write_text

SUFFIX = ".adp"


def write_adp(
    model: EamModel,
    path: Path,
    *,
    comment: str = "Angular-dependent potential written by Alloysmith",
    n_r: int = 4001,
    n_rho: int = 10001,
    rho_max: float | None = None,
) -> EamTables:
    """Write the functions of a model; LAMMPS reads the file with ``pair_style adp``.

    Arguments, result and errors are those of :func:`~.setfl.write_setfl`; the name ends with ``.adp``.

    Raises:
        SurrogateError: the model has no angular terms, the name is another format's, or the file cannot be written.
    """
    if model.angular is None:
        raise SurrogateError("the model has no angular terms; export it as setfl (eam/alloy)")
    if not path.name.endswith(SUFFIX):
        raise SurrogateError(f"the name of an adp file ends with {SUFFIX}, got {path.name}")
    tables = tabulate(model, n_r=n_r, n_rho=n_rho, rho_max=rho_max)
    write_text(setfl_text(tables, comment), path)
    return tables
