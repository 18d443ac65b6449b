"""Hypothesis strategies shared by the tests: lattices, design spaces, occupations."""

from __future__ import annotations

import numpy as np
from alloysmith.structures.base import PHASES
from alloysmith.structures.lattice import CELL_KINDS, ParentLattice, parent_lattice
from alloysmith.structures.space import DesignSpace
from hypothesis import strategies as st

ELEMENTS = ("Ni", "Fe", "Cr", "Co")


@st.composite
def lattices(draw: st.DrawFn, max_repeat: int = 3) -> ParentLattice:
    """Small cells of any phase and kind, the smallest included."""
    repeat = draw(st.tuples(*[st.integers(1, max_repeat)] * 3))
    return parent_lattice(draw(st.sampled_from(PHASES)), draw(st.sampled_from(CELL_KINDS)), repeat)


@st.composite
def occupied_lattices(draw: st.DrawFn, n_elements: int = 3, max_repeat: int = 3) -> tuple[ParentLattice, np.ndarray]:
    """A lattice and an occupation of it."""
    lattice = draw(lattices(max_repeat))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return lattice, rng.integers(n_elements, size=lattice.n_sites).astype(np.int8)


@st.composite
def design_spaces(draw: st.DrawFn) -> DesignSpace:
    """One to four elements on 8 to 32 sites, with bounds that leave some compositions."""
    n = draw(st.integers(1, 4))
    kind = draw(st.sampled_from(("tetragonal", "cubic")))
    phases = draw(st.sampled_from((("fcc",), ("bcc",), ("fcc", "bcc"))))
    low = draw(st.sampled_from((0.0, 0.1)))
    high = draw(st.sampled_from((0.9, 1.0))) if n > 1 else 1.0
    return DesignSpace(
        elements=ELEMENTS[:n],
        lattices=tuple(parent_lattice(phase, kind, (2, 2, 2)) for phase in phases),
        min_fraction=(low,) * n,
        max_fraction=(high,) * n,
    )
