"""Runs a program such as a DFT code for an oracle, so that nothing of it outlives its worker."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from .base import FailureKind, OracleError

_SUPERVISOR = Path(__file__).with_name("program_supervisor.py")


def find_program(name: str) -> Path | None:
    """The file that a command's first word stands for, if it is there."""
    found = shutil.which(name)
    return Path(found).resolve() if found else None


def run_program(
    command: Sequence[str],
    folder: Path,
    output: Path,
    errors: Path,
    *,
    removes_folder: bool = True,
    environment: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
) -> int:
    """Run ``command`` in ``folder`` to its end.

    When this process is killed, or the wait is interrupted, the program and all that it started are killed too.

    Args:
        output, errors: files for what it writes.
        removes_folder: whether ``folder`` is removed when this process is killed meanwhile.
        environment: the program's variables; those of this process by default.
        timeout_s: seconds after which it is killed.

    Returns:
        Its exit status; negative: the signal that ended it.

    Raises:
        OracleError: ``unavailable``: it cannot be started, or the files cannot be written; ``timed_out``.
    """
    supervisor = [sys.executable, "-I", "-S", str(_SUPERVISOR), str(folder) if removes_folder else "", *command]
    try:
        with output.open("wb") as out, errors.open("wb") as err:
            process = subprocess.Popen(
                supervisor,
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                env={**(os.environ if environment is None else environment)},
                start_new_session=True,  # who kills this process's group must leave the supervisor its work
            )
    except OSError as error:
        raise OracleError(
            FailureKind.UNAVAILABLE, f"{command[0]} cannot be run in {folder}: {error.strerror or error}"
        ) from error
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired as error:
        raise OracleError(
            FailureKind.TIMED_OUT, f"{command[0]} gave no answer within {timeout_s:g} s", {"timeout_s": timeout_s}
        ) from error
    finally:
        if process.stdin is not None:
            process.stdin.close()  # ends it, if it has not ended
        process.wait()


def ending(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"was killed by {name}" + (" (out of memory, perhaps)" if -status == signal.SIGKILL else "")
