"""How many threads PyTorch may use; one for small linear algebra.

Matrices of a few hundred rows gain nothing from threads, which fight with the oracles for the cores; and sums in a
fixed order give the same bits on machines with different numbers of cores.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def threads(n_threads: int) -> Iterator[None]:
    """Let PyTorch use so many threads inside the block (or decorated function)."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
