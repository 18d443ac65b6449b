"""The worker process of :mod:`.process_pool`: builds its oracle, then does what comes down its connection."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import pickle
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

from .base import Progress
from .work import cannot_build, perform, release
from .worker_pool import Verdict

_PR_SET_PDEATHSIG = 1


def main(descriptor: int, driver: int) -> None:
    """Serve until the connection closes or the driver dies.

    Args:
        descriptor: file descriptor of the connection to the driver.
        driver: process id of the driver.
    """
    os.set_inheritable(descriptor, False)  # else a program that the oracle starts would keep it open
    _die_with(driver)
    faulthandler.enable()
    connection: Connection[Any, Any] = Connection(descriptor)
    try:
        _serve(connection)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(0)  # the driver has gone, or wants no more; tearing an interpreter down in order takes a second


def _serve(connection: Connection[Any, Any]) -> None:
    name, pickled_factory = connection.recv()
    try:
        holder = pickle.loads(pickled_factory)()
    except Exception as error:  # noqa: BLE001 - whatever keeps the oracle from being made is told to the driver
        connection.send(cannot_build(error))
        return
    connection.send(None)

    def say(progress: Progress) -> bool:
        connection.send(progress)
        verdict: Verdict = connection.recv()
        return verdict.goes_on

    try:
        while True:
            connection.send(perform(holder, connection.recv(), name, say))
    finally:
        release(holder)


def _die_with(driver: int) -> None:
    """Have the kernel kill this process when the driver dies, even in the middle of an evaluation."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != driver:  # it died before that
        os._exit(1)
