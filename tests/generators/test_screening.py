"""Generated structures kept or left out, by energies that are given."""

from __future__ import annotations

import pytest
from alloysmith.errors import StructureError
from alloysmith.generators.screening import early_fault, faults, limits_of
from ase import Atoms
from ase.build import bulk


def cell(symbols: str, energy_ev: float | None, **info: str) -> Atoms:
    atoms = bulk("Ni", "fcc", a=3.5, cubic=True)
    atoms.symbols = Atoms(symbols).symbols
    atoms.info = dict(info) if energy_ev is None else {"energy_ev_per_atom": energy_ev / 4, **info}
    return atoms


REFERENCE = [cell("Ni3Fe", -17.0), cell("Ni2Fe2", -16.0), cell("Ni2Fe2", -1.0, failure="left_phase")]


def test_limits_are_the_worst_of_the_reference() -> None:
    limits = limits_of(REFERENCE)
    assert (limits.energy_ev_per_atom, limits.relaxation_ev, limits.fraction) == (-4.0, 10.0, 0.75)
    with pytest.raises(StructureError, match="energy_ev"):
        limits_of([cell("Ni4", None)])


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        (cell("Ni2Fe2", -10.0), cell("Ni2Fe2", -16.0), ""),
        (cell("Ni2Fe2", -10.0), cell("Ni2Fe2", -15.9), "-3.975 eV per atom when relaxed, above -4.000 eV"),
        (cell("Ni2Fe2", -6.0), cell("Ni2Fe2", -16.5), "relaxation takes 10.5 eV off it"),
        (cell("Ni4", -16.0), cell("Ni4", -16.5), "100 % of it is Ni, more than 75 %"),
        (cell("Ni2Fe2", -6.0), cell("Ni2Fe2", None, failure="not_converged"), "no energy relaxed: not_converged"),
        (cell("Ni2Fe2", None), cell("Ni2Fe2", -16.0), "no energy as generated"),
    ],
)
def test_faults_are_named(before: Atoms, after: Atoms, fault: str) -> None:
    (found,) = faults([before], [after], limits_of(REFERENCE))
    assert found.startswith(fault)
    assert bool(found) == bool(fault)


def test_rows_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(StructureError, match="1 structures before relaxation and 2 after"):
        faults(REFERENCE[:1], REFERENCE[:2], limits_of(REFERENCE))
    with pytest.raises(StructureError, match="row 0 is Ni3Fe before"):
        faults(REFERENCE[:1], REFERENCE[1:2], limits_of(REFERENCE))


@pytest.mark.parametrize(
    ("draft", "fault"),
    [
        (cell("Ni2Fe2", -10.0), ""),
        (cell("Ni2Fe2", -6.1), ""),  # whether relaxation takes too much off it is not known yet
        (cell("Ni2Fe2", -5.9), "10.1 eV above what it may have when relaxed, more than 10 eV"),
        (cell("Ni4", -16.0), "100 % of it is Ni, more than 75 %"),
        (cell("Ni2Fe2", None, failure="bad_structure"), "no energy as generated: bad_structure"),
    ],
)
def test_what_no_relaxation_can_mend_is_told_before_it(draft: Atoms, fault: str) -> None:
    assert early_fault(draft, limits_of(REFERENCE)) == fault
    if fault:  # not even the best that it could become
        after = cell(str(draft.symbols), -16.0)
        assert faults([draft], [after], limits_of(REFERENCE)) != [""]
