"""A file is replaced whole or not at all."""

from __future__ import annotations

import os
import signal
from multiprocessing import get_context
from pathlib import Path

import pytest
from alloysmith.structures.whole_file import SCRATCH_PREFIX, remove_unfinished, write_whole


def test_content_and_what_fills_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, b"one")
    assert path.read_bytes() == b"one"
    write_whole(path, lambda scratch: scratch.write_text(f"two in {scratch.suffix}"))
    assert path.read_text() == "two in .txt"
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, b"old")

    def fail(scratch: Path) -> None:
        scratch.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "none" / "a.txt", b"new")


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    below = tmp_path / "rounds" / "0001"
    below.mkdir(parents=True)

    def die(scratch: Path) -> None:
        scratch.write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)

    child = get_context("fork").Process(target=write_whole, args=(below / "a.json", die))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    (left,) = below.iterdir()
    (tmp_path / f"{SCRATCH_PREFIX}1-folder").mkdir()
    kept = tmp_path / "rounds" / "b.json"
    kept.write_bytes(b"whole")
    assert left.name.startswith(SCRATCH_PREFIX)
    remove_unfinished(tmp_path)
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "rounds", below, kept]
