"""Compositions as people write them, grids, and what a cell can realize."""

from __future__ import annotations

import numpy as np
import pytest
from alloysmith.errors import StructureError
from alloysmith.structures.composition import (
    composition_grid,
    format_composition,
    format_counts,
    nearest_counts,
    parse_composition,
    realize,
)
from alloysmith.structures.lattice import parent_lattice
from alloysmith.structures.settings import SystemSettings
from alloysmith.structures.space import DesignSpace
from alloysmith.tests.strategies import design_spaces
from hypothesis import given, settings
from hypothesis import strategies as st

NIFECR = SystemSettings(elements=("Ni", "Fe", "Cr"), max_fraction=0.9).space()
FCC = NIFECR.lattice("fcc")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ni0.5Fe0.3Cr0.2", {"Ni": 0.5, "Fe": 0.3, "Cr": 0.2}),
        ("Ni50Fe30Cr20", {"Ni": 0.5, "Fe": 0.3, "Cr": 0.2}),
        ("NiFeCr", {"Ni": 1 / 3, "Fe": 1 / 3, "Cr": 1 / 3}),
        ("Ni3Fe", {"Ni": 0.75, "Fe": 0.25}),
        (" Ni: 0.5, Fe: .5 ", {"Ni": 0.5, "Fe": 0.5}),
        ("Ni_1-Fe_3", None),
        ("Co", {"Co": 1.0}),
        ({"Ni": 2, "Fe": 6}, {"Ni": 0.25, "Fe": 0.75}),
    ],
)
def test_compositions_are_read(text, expected):
    if expected is None:
        with pytest.raises(StructureError, match="cannot be read at"):
            parse_composition(text)
    else:
        assert parse_composition(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds nothing"),
        ("Ni0", "holds nothing"),
        ("Ni0.5Qq0.5", "'Qq'"),
        ("NiFeNi", "Ni stands twice"),
        ("50% Ni", "cannot be read at '50% Ni'"),
        ({"Ni": -1.0, "Fe": 2.0}, "must not be negative"),
        ({"Ni": float("nan")}, "must not be negative"),
    ],
)
def test_nonsense_is_refused(text, message):
    with pytest.raises(StructureError, match=message):
        parse_composition(text)


@given(st.dictionaries(st.sampled_from(["Ni", "Fe", "Cr", "Al"]), st.integers(1, 99), min_size=1))
def test_what_is_written_reads_back(amounts):
    again = parse_composition(format_composition(amounts, digits=9))
    assert again == pytest.approx(parse_composition(amounts), abs=1e-8)


def test_formulas_are_short():
    assert format_composition({"Ni": 1, "Fe": 1, "Cr": 1}) == "Ni0.333Fe0.333Cr0.333"
    assert format_composition({"Ni": 3, "Cr": 0}) == "Ni"
    assert format_counts(("Ni", "Fe", "Cr"), np.array([27, 0, 27])) == "Ni27Cr27"


@given(design_spaces(), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_nearest_counts_are_allowed_and_nothing_allowed_is_nearer(space, seed):
    rng = np.random.default_rng(seed)
    fractions = rng.dirichlet(np.ones(len(space.elements)))
    lattice = space.lattices[0]
    counts = nearest_counts(space, fractions, lattice.n_sites)
    assert counts.sum() == lattice.n_sites
    assert space.is_allowed(counts)
    distance = ((counts - fractions * lattice.n_sites) ** 2).sum()
    for _ in range(50):
        other = space.random_counts(rng, lattice)
        assert ((other - fractions * lattice.n_sites) ** 2).sum() >= distance - 1e-9


def test_compositions_are_rounded_to_whole_atoms():
    np.testing.assert_array_equal(realize(NIFECR, FCC, "NiFeCr"), [18, 18, 18])
    np.testing.assert_array_equal(realize(NIFECR, FCC, "Ni0.5Fe0.5"), [27, 27, 0])
    assert np.abs(realize(NIFECR, FCC, "Ni0.7Fe0.2Cr0.1") - 54 * np.array([0.7, 0.2, 0.1])).max() < 1.0


def test_an_impossible_composition_names_the_nearest_one():
    with pytest.raises(StructureError, match=r"Ni48(Fe6|Fe3Cr3)"):
        realize(NIFECR, FCC, "Ni")
    with pytest.raises(StructureError, match="Co in the composition 'NiCo' is not among the elements Ni, Fe, Cr"):
        realize(NIFECR, FCC, "NiCo")


def test_grids_cover_the_allowed_simplex():
    grid = composition_grid(NIFECR, 0.1)
    assert len(grid) == 66 - 3  # all of the triangle except its corners
    np.testing.assert_allclose(grid.sum(axis=1), 1.0)
    assert grid.max() <= 0.9
    quaternary = DesignSpace(("Ni", "Fe", "Cr", "Co"), (parent_lattice("fcc"),), (0.05,) * 4, (0.35,) * 4)
    rows = composition_grid(quaternary, 0.05)
    assert len(rows) == len({tuple(row) for row in rows.tolist()})
    assert rows.min() >= 0.05 - 1e-12
    assert rows.max() <= 0.35 + 1e-12


@pytest.mark.parametrize(("step", "message"), [(0.3, "must divide 1"), (0.0, "must divide 1"), (-0.5, "must divide 1")])
def test_grids_need_a_step_that_divides_one(step, message):
    with pytest.raises(StructureError, match=message):
        composition_grid(NIFECR, step)


def test_a_grid_without_points_is_refused():
    narrow = DesignSpace(("Ni", "Fe"), (parent_lattice("fcc"),), (0.45, 0.0), (0.49, 1.0))
    with pytest.raises(StructureError, match="finer step"):
        composition_grid(narrow, 0.1)
