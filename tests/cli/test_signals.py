"""A campaign in a process of its own: signals, exit codes, and the way back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from alloysmith.loop.store.event_log import LOG_NAME
from alloysmith.tests.cli.toy import CommandLine

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_in_good_order(
    number: signal.Signals, code: int, alloysmith: CommandLine, toy_config: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    slow = ("--set", "oracle.delay_s=0.2", "--set", "execution={executor: process_pool, n_workers: 2}")
    command = [sys.executable, "-m", "alloysmith", "run", str(toy_config), "--run-dir", str(run_dir), *slow]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    give_up_at = time.monotonic() + 60.0
    while time.monotonic() < give_up_at:
        if (run_dir / LOG_NAME).exists() and b"evaluated" in (run_dir / LOG_NAME).read_bytes():
            break
        time.sleep(0.02)
    running = json.loads(alloysmith("status", run_dir, "--json").out)
    os.kill(child.pid, number)
    out, err = child.communicate(timeout=60)
    assert child.returncode == code, err
    assert running["condition"] == "running"
    assert "interrupted" in out
    assert f"alloysmith resume {run_dir}" in err
    stopped = json.loads(alloysmith("status", run_dir, "--json").out)
    assert stopped["condition"] == "interrupted"
    assert 0 < stopped["n_evaluations"] < 12
    assert alloysmith("resume", run_dir, "--set", "execution.executor=in_process", "--quiet").code in (0, 2)
