"""How many threads sums may use; one for small linear algebra.

Matrices of a few hundred rows gain nothing from threads, which fight with the oracles for the cores; and sums in a
fixed order give the same bits on machines with different numbers of cores.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, all sums are done by one thread, those of NumPy, SciPy and scikit-learn too."""
    with threads(1), threadpool_limits(limits=1, user_api="blas"):
        yield


@contextmanager
def threads(n_threads: int) -> Iterator[None]:
    """Let PyTorch use so many threads inside the block (or decorated function)."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
