"""The program ``pw.x`` of Quantum ESPRESSO: which version there is, and a run of it in a folder."""

from __future__ import annotations

import os
import shlex
import tempfile
from functools import lru_cache
from pathlib import Path

from ..errors import ConfigError
from .base import OracleError
from .espresso_output import EspressoRun
from .external_program import find_program, run_program

INSTALLATION = (
    "`apt-get install quantum-espresso` on Debian and Ubuntu, `conda install -c conda-forge qe`, or "
    "https://www.quantum-espresso.org"
)
PREFIX = "espresso"
"""Of all files of a run: the input is ``espresso.pwi``."""
PROBE_LIMIT_S = 120.0
"""Seconds for the program to start, read its input and stop."""

_LONGEST_TMPDIR = 60
"""Sockets lie in it, whose names the kernel limits to about a hundred characters."""


def program_version(command: str) -> str:
    """Version of the ``pw.x`` that ``command`` runs, such as ``"6.7MaX"``.

    Raises:
        ConfigError: it is not there, or does not start.
    """
    words = shlex.split(command)
    if find_program(words[0]) is None:
        raise ConfigError(f"{words[0]} is not on the PATH, and the oracle's command is `{command}`. Get {INSTALLATION}")
    files = [path for word in words if (path := find_program(word)) is not None]
    return _asked_version(command, tuple((str(path), path.stat().st_mtime_ns) for path in files))


@lru_cache(maxsize=16)
def _asked_version(command: str, files: tuple[tuple[str, int], ...]) -> str:
    """Run ``command`` on nothing, and read what it calls itself; ``files`` make a new installation a new question."""
    with tempfile.TemporaryDirectory(prefix="alloysmith-espresso-") as name:
        folder = Path(name)
        (folder / f"{PREFIX}.pwi").write_text("")
        try:
            run = run_espresso(folder, command, removes_folder=True, timeout_s=PROBE_LIMIT_S)
        except OracleError as error:
            raise ConfigError(f"`{command}` does not start: {error.message}") from error
    if run.version is None:
        raise ConfigError(f"`{command}` does not start pw.x: {run.last_words()}. Get {INSTALLATION}")
    return run.version


def run_espresso(folder: Path, command: str, *, removes_folder: bool, timeout_s: float | None = None) -> EspressoRun:
    """Run ``pw.x`` on the input in ``folder``.

    Args:
        command: how it is run, without the input file.
        removes_folder: whether the folder goes when this process is killed meanwhile.

    Raises:
        OracleError: ``unavailable`` or ``timed_out``.
    """
    output, errors = folder / f"{PREFIX}.pwo", folder / f"{PREFIX}.err"
    environment = {**os.environ}
    environment.setdefault("OMP_NUM_THREADS", "1")
    if len(str(folder)) <= _LONGEST_TMPDIR:
        environment["TMPDIR"] = str(folder)  # what MPI leaves there when it is killed goes with the folder
    status = run_program(
        [*shlex.split(command), "-in", f"{PREFIX}.pwi"],
        folder,
        output,
        errors,
        removes_folder=removes_folder,
        environment=environment,
        timeout_s=timeout_s,
    )
    return EspressoRun(status, output.read_text(errors="replace"), errors.read_text(errors="replace"))
