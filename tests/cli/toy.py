"""A toy campaign that needs no LAMMPS, and how a command line ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

TOY: dict[str, object] = {
    "name": "toy",
    "seed": 3,
    "system": {"elements": ["Ni", "Fe", "Cr"], "cell": {"repeat": [2, 2, 2]}, "max_fraction": 0.9},
    "oracle": {"kind": "pair_model"},
    "objective": {"property": "bulk_modulus_gpa"},
    "generators": {"search": {"kind": "random"}},
    "agent": {"kind": "direct", "generator": "search", "batch_size": 6},
    "budget": {"n_evaluations": 12},
    "execution": {"executor": "in_process"},
}


@dataclass(frozen=True)
class Ended:
    """How a command line ended."""

    code: int
    out: str
    err: str


CommandLine = Callable[..., Ended]
