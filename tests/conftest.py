"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import alloysmith
import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of published data beside a developer's checkout; the test is skipped where it is absent."""
    folder = Path(alloysmith.__file__).resolve().parent.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the published data in {folder}, which is not part of the product")
    return folder
