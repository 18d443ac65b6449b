"""Energies of the elements: none, given, or fitted where the compositions allow it."""

from __future__ import annotations

import numpy as np
import pytest
from alloysmith.surrogates.base import SurrogateError
from alloysmith.surrogates.potentials.energy_reference import reference_energies, reference_energy, without_reference
from alloysmith.surrogates.potentials.frame import Frame
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st

ENERGIES = {"Ni": -5.6, "Mo": -10.9, "W": -12.9}


def frame(formula: str, energy_ev: float | None = None, forces: np.ndarray | None = None) -> Frame:
    atoms = Atoms(formula)
    counts = atoms.symbols.formula.count()
    total = sum(ENERGIES[symbol] * n for symbol, n in counts.items()) if energy_ev is None else energy_ev
    return Frame(atoms, total, forces, source=formula)


def test_nothing_is_taken_off_unless_asked_for():
    assert reference_energies("none", [frame("Ni3Mo")], ["Ni", "Mo"]) == {}
    frames = [frame("Ni3Mo")]
    assert without_reference(frames, {}) == frames


def test_given_energies_are_those_of_the_elements_in_order():
    assert list(reference_energies({"W": 1.0, "Mo": 2.0, "Ni": 3.0}, [], ["Ni", "Mo"]).items()) == [
        ("Ni", 3.0),
        ("Mo", 2.0),
    ]
    with pytest.raises(SurrogateError, match="no energy of Mo; it has Ni"):
        reference_energies({"Ni": 3.0}, [], ["Ni", "Mo"])


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.tuples(*[st.integers(0, 6)] * 3).filter(any), min_size=4, max_size=12),
    energies=st.tuples(*[st.floats(-20.0, 5.0)] * 3),
)
def test_least_squares_recovers_energies_or_refuses(counts: list[tuple[int, ...]], energies: tuple[float, ...]):
    elements = ("Ni", "Mo", "W")
    frames = []
    for amounts in counts:
        symbols = [symbol for symbol, n in zip(elements, amounts, strict=True) for _ in range(n)]
        frames.append(Frame(Atoms(symbols), float(np.dot(amounts, energies))))
    fractions = np.array([np.array(amounts) / sum(amounts) for amounts in counts])
    if np.linalg.matrix_rank(fractions, tol=1e-3 * np.linalg.norm(fractions, 2)) < 3:
        with pytest.raises(SurrogateError):
            reference_energies("least_squares", frames, elements)
        return
    found = reference_energies("least_squares", frames, elements)
    assert list(found) == list(elements)
    np.testing.assert_allclose(list(found.values()), energies, atol=1e-6)


def test_least_squares_fits_energies_per_atom():
    """Large cells have no more say than small ones."""
    frames = [frame("Ni", -5.0), frame("Ni100", -600.0)]
    assert reference_energies("least_squares", frames, ["Ni"]) == {"Ni": pytest.approx(-5.5)}


@pytest.mark.parametrize(
    ("formulas", "named"),
    [
        (["Ni3Mo", "Ni6Mo2", "Ni12Mo4"], "Ni, Mo"),
        (["Ni3Mo", "Ni6Mo2", "W2", "W"], "Ni, Mo"),
        (["NiMoW"], "Ni, Mo, W"),
        (["NiMo", "MoW", "Ni2Mo3W"], "Ni, Mo, W"),
    ],
)
def test_compositions_that_tell_nothing_are_an_error_that_names_the_elements(formulas: list[str], named: str):
    elements = [symbol for symbol in ENERGIES if any(symbol in formula for formula in formulas)]
    with pytest.raises(SurrogateError, match=f"tell apart the reference energies of {named};"):
        reference_energies("least_squares", [frame(formula) for formula in formulas], elements)


def test_an_element_that_no_frame_has_is_named():
    with pytest.raises(SurrogateError, match="reference energy of W, which no training frame has"):
        reference_energies("least_squares", [frame("Ni"), frame("Mo")], ["Ni", "Mo", "W"])


def test_references_are_taken_off_energies_alone():
    forces = np.ones((4, 3))
    given_frame = frame("Ni3Mo", -30.0, forces)
    (found,) = without_reference([given_frame], ENERGIES)
    assert found.energy_ev == pytest.approx(-30.0 + 3 * 5.6 + 10.9)
    assert found.forces is forces
    assert found.energy_ev + reference_energy(found, ENERGIES) == pytest.approx(-30.0)
    with pytest.raises(SurrogateError, match="Ni3Mo has Mo, which has no reference energy"):
        without_reference([given_frame], {"Ni": 1.0})
