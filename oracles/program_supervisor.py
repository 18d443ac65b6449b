"""A script, not a module: runs a program, and ends it and all it started when the process that wanted it is gone.

    python program_supervisor.py FOLDER PROGRAM ARGUMENTS…      (standard input: a pipe that the owner holds open)

The owner may be killed at any moment, by a deadline for one. Then the pipe closes, and this process kills the program
with all its descendants, also those that sit in process groups of their own, as the ranks of `mpirun` do; orphans
become its children. FOLDER, unless empty, is removed then. Otherwise it ends as the program does: status and signal.

It needs the standard library alone, so that it starts in a tenth of a second.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_NOT_FOUND = 127


def main(folder: str, command: list[str]) -> None:
    """Run ``command``; never returns."""
    is_linux = sys.platform == "linux"
    if is_linux:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    owner = os.dup(0)
    try:
        program = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent if is_linux else None)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr, flush=True)  # noqa: T201 - what a shell would say
        os._exit(_NOT_FOUND)

    is_abandoned = threading.Event()

    def watch() -> None:
        while os.read(owner, 1024):
            pass
        is_abandoned.set()
        _kill_all(program)
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    status = program.wait()
    if is_abandoned.is_set():
        watcher.join()  # it ends this process when all is clean
    _kill_all(program)  # what it left behind
    if status < 0:
        os.kill(os.getpid(), -status)
    os._exit(status)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _kill_all(program: subprocess.Popen[bytes]) -> None:
    """Kill every descendant, until there is none: a dying one may have started another."""
    if sys.platform != "linux":
        program.kill()
        return
    for _ in range(100):
        victims = _descendants()
        if not victims:
            return
        for pid in victims:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _descendants() -> list[int]:
    """Processes below this one that are not dead yet."""
    children: dict[int, list[int]] = {}
    dead = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it ended meanwhile
            children.setdefault(int(fields[1]), []).append(int(entry.name))
            if fields[0] in "ZX":
                dead.add(int(entry.name))
    found, to_visit = [], [os.getpid()]
    while to_visit:
        below = children.get(to_visit.pop(), [])
        found += below
        to_visit += below
    return [pid for pid in found if pid not in dead]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
