"""A script, not a module: runs a program, and ends it and all it started when the process that wanted it is gone.

    python program_supervisor.py FOLDER PROGRAM ARGUMENTS…      (standard input: a pipe that the owner holds open)

The owner may be killed at any moment, by a deadline for one. Then the pipe closes, and this process ends the program
with all its descendants, also those that sit in process groups of their own, as the ranks of `mpirun` do; orphans
become its children. FOLDER, unless empty, is removed then. Otherwise it ends as the program does: status and signal.

The supervisor is the owner's grandchild: Ray kills the children of a worker with it, and the one in between is all it
finds. It needs the standard library alone, so that it starts in a tenth of a second.
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
_GRACE_S = 2.0


def main(folder: str, command: list[str]) -> None:
    """Run ``command``; never returns."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    supervisor = os.fork()
    if supervisor:
        os.close(0)
        _end_like(os.waitstatus_to_exitcode(os.waitpid(supervisor, 0)[1]))
    os.setsid()
    _supervise(folder, command)


def _supervise(folder: str, command: list[str]) -> None:
    is_linux = sys.platform == "linux"
    if is_linux:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        program = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent if is_linux else None)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr, flush=True)  # noqa: T201 - what a shell would say
        os._exit(_NOT_FOUND)
    is_abandoned, has_ended = threading.Event(), threading.Event()

    def watch() -> None:
        while os.read(0, 1024):
            pass
        is_abandoned.set()
        with contextlib.suppress(ProcessLookupError):
            os.kill(program.pid, signal.SIGTERM)  # mpirun then puts its shared memory away
        has_ended.wait(_GRACE_S)
        _kill_all(program)
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    status = program.wait()
    has_ended.set()
    if is_abandoned.is_set():
        watcher.join()  # it ends this process when all is clean
    _kill_all(program)  # what it left behind
    _end_like(status)


def _end_like(status: int) -> None:
    """End with an exit status, or by the signal that a negative one stands for."""
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
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
