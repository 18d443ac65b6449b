"""Memory that is freed is used again, without page faults."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import resource
import torch
from alloysmith.surrogates.potentials.freed_memory import keep_freed_memory

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(1 << 23)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = page_faults()
is_kept = keep_freed_memory()
page_faults()  # the heap grows, once
print(is_kept, before, page_faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="an allocator of Linux")
def test_arrays_take_memory_that_was_freed() -> None:
    child = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    is_kept, before, after = child.stdout.split()
    assert is_kept == "True"
    assert int(before) > 200  # 20 arrays of 32 MiB, in pages of 4 KiB, or of 2 MiB where the kernel makes them so large
    assert int(after) < 0.02 * int(before)
