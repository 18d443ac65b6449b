"""Programs that an oracle runs: their endings, and that nothing of them outlives who wanted them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from alloysmith.oracles.base import FailureKind, OracleError
from alloysmith.oracles.external_program import ending, find_program, run_program

FAMILY = "setsid sleep 300 & echo $! > pids; (trap '' TERM; sleep 300) & echo $! >> pids; echo $$ >> pids; sleep 300"
"""A program with a child in a session of its own, as the ranks of mpirun are, and one that ignores SIGTERM."""


def run(folder: Path, script: str, **options: float | None) -> int:
    return run_program(["sh", "-c", script], folder, folder / "out", folder / "err", removes_folder=False, **options)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def eventually(holds: Callable[[], bool], within_s: float = 10.0) -> bool:
    give_up_at = time.monotonic() + within_s
    while time.monotonic() < give_up_at:
        if holds():
            return True
        time.sleep(0.02)
    return holds()


def pids_in(folder: Path) -> list[int]:
    path = folder / "pids"
    assert eventually(lambda: path.is_file() and len(path.read_text().split()) == 3)
    return [int(pid) for pid in path.read_text().split()]


def test_status_signal_and_output(tmp_path: Path) -> None:
    assert run(tmp_path, "pwd; echo bad >&2; exit 3") == 3
    assert (tmp_path / "out").read_text() == f"{tmp_path}\n"
    assert (tmp_path / "err").read_text() == "bad\n"
    assert run(tmp_path, "kill -SEGV $$") == -signal.SIGSEGV
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGPIPE):
        assert run(tmp_path, f"kill -{int(number)} $$") == -number
    assert run(tmp_path, "cat") == 0  # nothing comes from standard input
    assert ending(3) == "ended with status 3"
    assert "SIGKILL (out of memory" in ending(-9)


def test_no_such_program(tmp_path: Path) -> None:
    out, err = tmp_path / "out", tmp_path / "err"
    assert run_program(["no-such-program"], tmp_path, out, err) == 127
    assert "no-such-program" in err.read_text()
    assert find_program("no-such-program") is None
    assert find_program("sh") is not None
    with pytest.raises(OracleError) as caught:
        run_program(["sh"], tmp_path, tmp_path / "no" / "folder", err)
    assert caught.value.kind is FailureKind.UNAVAILABLE


def test_a_timeout_kills_the_whole_family(tmp_path: Path) -> None:
    with pytest.raises(OracleError) as caught:
        run(tmp_path, FAMILY, timeout_s=1.0)
    assert caught.value.kind is FailureKind.TIMED_OUT
    assert all(is_gone(pid) for pid in pids_in(tmp_path))


def test_what_a_program_leaves_behind_is_killed(tmp_path: Path) -> None:
    assert run(tmp_path, "setsid sleep 300 & echo $! $! $! > pids") == 0
    assert all(is_gone(pid) for pid in pids_in(tmp_path))


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are found by Linux alone")
@pytest.mark.parametrize("takes_children", [False, True])
def test_nothing_outlives_an_owner_that_is_killed(tmp_path: Path, takes_children: bool) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir()
    program = (
        "import sys; from pathlib import Path; from alloysmith.oracles.external_program import run_program; "
        "f = Path(sys.argv[1]); run_program(['sh', '-c', sys.argv[2]], f, f / 'out', f / 'err')"
    )
    owner = subprocess.Popen([sys.executable, "-c", program, str(folder), FAMILY], start_new_session=True)
    pids = pids_in(folder)
    assert not any(is_gone(pid) for pid in pids)
    if takes_children:  # as Ray does with those of a worker
        for child in Path(f"/proc/{owner.pid}/task/{owner.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
    os.killpg(owner.pid, signal.SIGKILL)  # as a pool does with a worker that missed its deadline
    owner.wait()
    assert eventually(lambda: all(is_gone(pid) for pid in pids))
    assert eventually(lambda: not folder.exists())
