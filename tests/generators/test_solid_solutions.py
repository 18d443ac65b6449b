"""Random alloys spread over the compositions of a system."""

from __future__ import annotations

import numpy as np
import pytest
from alloysmith.errors import StructureError
from alloysmith.generators.solid_solutions import (
    CompositionLineSettings,
    SolidSolutionSettings,
    solid_solutions,
    spread_compositions,
)
from alloysmith.structures.settings import CellSettings

SMALL = CellSettings(kind="cubic", repeat=(3, 3, 3))


def fractions(rows, elements) -> np.ndarray:
    return np.array([[(np.array(r.get_chemical_symbols()) == e).mean() for e in elements] for r in rows])


def test_training_and_test_compositions_are_a_triangular_grid() -> None:
    elements = ("Ta", "Nb", "Mo")
    settings = SolidSolutionSettings(elements=elements)
    alloys = solid_solutions(settings)
    assert [row.info["split"] for row in alloys] == ["train"] * 46 + ["test"] * 9
    found = fractions(alloys, elements)
    assert len({tuple(row) for row in found.round(6).tolist()}) == 55
    np.testing.assert_allclose(found * 9, np.round(found * 9), atol=0.03)  # 250 atoms
    assert (found[46:] > 0.05).all()  # tests are no extrapolation
    apart = np.linalg.norm(found[46:, None] - found[46:], axis=2)[~np.eye(9, dtype=bool)]
    assert apart.min() > 0.15
    again = solid_solutions(settings)
    assert all((a.numbers == b.numbers).all() for a, b in zip(alloys, again, strict=True))
    other = solid_solutions(settings.model_copy(update={"seed": 1}))
    assert any((a.numbers != b.numbers).any() for a, b in zip(alloys, other, strict=True))


def test_any_number_of_compositions_and_fcc() -> None:
    settings = SolidSolutionSettings(
        elements=("Ni", "Fe", "Cr"), phase="fcc", cell=SMALL, n_train=7, n_test=0, min_fraction=0.1
    )
    alloys = solid_solutions(settings)
    assert len(alloys) == 7
    assert {row.info["phase"] for row in alloys} == {"fcc"}
    assert (fractions(alloys, settings.elements) > 0.09).all()
    with pytest.raises(StructureError, match="no composition"):
        solid_solutions(settings.model_copy(update={"min_fraction": 0.4}))
    space = SolidSolutionSettings(elements=("Ni", "Fe"), cell=SMALL).space()
    np.testing.assert_allclose(spread_compositions(space, 5)[:, 0], [0.0, 0.25, 0.5, 0.75, 1.0])


def test_compositions_on_a_line_in_cells_that_rare_elements_need() -> None:
    line = CompositionLineSettings(start="TaNbMo", end="Mo", n_points=5, min_atoms_of_each=20)
    settings = SolidSolutionSettings(elements=("Ta", "Nb", "Mo"), cell=SMALL, line=line)
    alloys = solid_solutions(settings)
    found = fractions(alloys, settings.elements)
    np.testing.assert_allclose(found[:, 2], np.linspace(1 / 3, 1, 5), atol=0.02)
    np.testing.assert_allclose(found[:, 0], found[:, 1], atol=0.02)
    assert [len(row) for row in alloys] == [128, 128, 128, 250, 54]  # the pure element needs no larger cell
    for row in alloys:
        assert all((row.symbols == element).sum() in (0, *range(20, 300)) for element in settings.elements)
    strange = line.model_copy(update={"end": "W"})
    with pytest.raises(StructureError, match="the line has W"):
        solid_solutions(settings.model_copy(update={"line": strange}))
    vast = line.model_copy(update={"end": "Ta0.0001Mo0.9999", "min_atoms_of_each": 5000})
    with pytest.raises(StructureError, match="more than 2000000 atoms"):
        solid_solutions(settings.model_copy(update={"line": vast}))
