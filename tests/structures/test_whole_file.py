"""A file is replaced whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from alloysmith.structures.whole_file import write_whole


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
