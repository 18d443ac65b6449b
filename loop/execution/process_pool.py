"""Evaluations in processes of this machine, which may hang or crash without hurting anybody else.

Each worker is a fresh interpreter (nothing is forked, so threads and GPU contexts of the driver do no harm) at the
other end of a socket, in a session of its own.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from typing import IO, Any

from ...generators.base import Failure
from .base import ExecutorError, Judge, Outcome, Progress, Task, WorkerFactory
from .work import THREAD_VARIABLES
from .worker_pool import Death, Message, Ready, Verdict, Worker, WorkerPool

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[3]); "
    f"from {__package__}.pool_worker import main; main(int(sys.argv[1]), int(sys.argv[2]))"
)
_CLOSE_GRACE_S = 1.0
_LARGEST_AHEAD = 1 << 16
"""Bytes of a task that may be sent to a busy worker: what surely fits the socket's buffer, so that sending never waits
for a worker that hangs."""
_CHATTER_LIMIT = 1 << 20
_LAST_WORDS = 2000


class ProcessWorker(Worker):
    """A worker process."""

    def __init__(self, name: str, pickled_factory: bytes) -> None:
        super().__init__(name)
        ours, theirs = socket.socketpair()
        self._chatter: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by kill()
        with theirs:
            try:
                self.process = subprocess.Popen(
                    [sys.executable, "-c", _BOOT, str(theirs.fileno()), str(os.getpid()), json.dumps(sys.path)],
                    stdin=subprocess.DEVNULL,
                    stdout=self._chatter,
                    stderr=self._chatter,
                    env={**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")},
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,  # a Ctrl-C in the terminal is for the driver alone
                )
            except OSError as error:
                ours.close()
                self._chatter.close()
                raise ExecutorError(f"no worker process can be started: {error}") from error
        self.connection: Connection[Any, Any] = Connection(ours.detach())
        self._died_idle = False
        try:
            self.connection.send((name, pickled_factory))
        except (BrokenPipeError, ConnectionResetError):
            return  # it died at once, which receive() will tell

    def send(self, task: Task) -> bool:
        """Pass a task on; a large one only while the worker is listening."""
        message = pickle.dumps(task)
        if self.tasks and len(message) > _LARGEST_AHEAD:
            return False
        try:
            self.connection.send_bytes(message)
        except (BrokenPipeError, ConnectionResetError):
            if self.tasks:
                return False  # it is dead, and what it was busy with pays when receive() tells
            self._died_idle = True
        return True

    def receive(self) -> Message:
        """The next message, or its death."""
        try:
            message: Progress | Outcome | Failure | None = self.connection.recv()
        except (EOFError, OSError):  # an OSError when it died halfway through a message
            return self._death()
        except pickle.UnpicklingError as error:
            return Death("sent an answer that cannot be read", {"error": str(error)})
        if os.fstat(self._chatter.fileno()).st_size > _CHATTER_LIMIT:
            self._chatter.truncate(0)
        return Ready() if message is None else message

    def answer(self, verdict: Verdict) -> None:
        """Send the answer down the connection."""
        try:
            self.connection.send(verdict)
        except (BrokenPipeError, ConnectionResetError):
            return  # it died, which receive() will tell

    def kill(self) -> None:
        """End the process and whatever it started."""
        self.connection.close()
        try:
            os.killpg(self.process.pid, signal.SIGKILL)  # what it started may outlive it
        except (ProcessLookupError, PermissionError):  # nobody is left, or only its corpse
            self.process.kill()
        self.process.wait()
        self._chatter.close()

    def _death(self) -> Death:
        try:
            status = self.process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            return Death("closed its connection", {"last_words": self._last_words()}, self._died_idle)
        cause = f"was killed by {_signal_name(-status)}" if status < 0 else f"exited with status {status}"
        return Death(cause, {"exit_status": status, "last_words": self._last_words()}, self._died_idle)

    def _last_words(self) -> str:
        """The end of what it wrote to its terminal."""
        self._chatter.seek(0, os.SEEK_END)
        self._chatter.seek(max(0, self._chatter.tell() - _LAST_WORDS))
        return self._chatter.read().decode(errors="replace").strip()


class ProcessPool(WorkerPool[ProcessWorker]):
    """A pool of worker processes.

    Args:
        factory: makes the oracle of a worker; picklable, from a module that workers can import.
        n_workers: number of processes.
        judge: answers the progress of jobs.

    Raises:
        ExecutorError: the factory cannot be pickled, or no process can be started.
    """

    def __init__(self, factory: WorkerFactory, n_workers: int, judge: Judge | None = None) -> None:
        super().__init__(n_workers, judge)
        try:
            self._pickled_factory = pickle.dumps(factory)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ExecutorError(f"the oracle factory cannot be sent to workers: {error}") from error
        try:
            self._staff()
        except ExecutorError:
            self.close()
            raise

    def _hire(self, name: str) -> ProcessWorker:
        return ProcessWorker(name, self._pickled_factory)

    def _wait(self, workers: Sequence[ProcessWorker], timeout_s: float | None) -> list[ProcessWorker]:
        ready = wait([worker.connection for worker in workers], timeout_s)
        return [worker for worker in workers if worker.connection in ready]

    def _dismiss(self, workers: Sequence[ProcessWorker]) -> None:
        """Kill those at work at once, and idle ones after they had a moment to close their oracles."""
        idle = [worker for worker in workers if worker.is_ready and not worker.tasks]
        for worker in idle:
            worker.connection.close()
        give_up_at = time.monotonic() + _CLOSE_GRACE_S
        for worker in idle:
            try:
                worker.process.wait(max(0.0, give_up_at - time.monotonic()))
            except subprocess.TimeoutExpired:
                continue  # killed with the others
        for worker in workers:
            worker.kill()


def _signal_name(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    return f"{name} (out of memory, perhaps)" if number == signal.SIGKILL else name
