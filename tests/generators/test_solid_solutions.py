"""Random alloys spread over the compositions of a system."""

from __future__ import annotations

import numpy as np
import pytest
from alloysmith.errors import StructureError
from alloysmith.generators.solid_solutions import SolidSolutionSettings, solid_solutions, spread_compositions
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
