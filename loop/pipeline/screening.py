"""The last labels: what was drawn is screened by its energy, relaxed and labelled."""

from __future__ import annotations

from ase import Atoms

from ...generators.screening import ENERGY, Limits, early_fault, faults, limits_of
from ...structures.files import read_structures, write_structures
from ..rows import labelled_row
from .generation import MODEL
from .site import Site

FAULT = "fault"
"""In the info of drafts that do not count: what is wrong with them."""
IS_LABELLED = "was_labelled"
"""In the info of drafts: whether a label was asked for."""
DRAWN_ENERGY = "drawn_energy_ev_per_atom"
"""In the info of drafts: energy as they were drawn."""


def label_drafts(site: Site) -> None:
    """Find out which drafts are crystals, and label these, unless that was done before.

    A draft counts if it passes the filter of :mod:`~alloysmith.generators.screening` with the data that its model
    learnt from. What cannot pass it, by its energy as drawn, is not relaxed.

    Raises:
        Ending: a signal, or the oracle is broken.
    """
    files, config = site.files, site.config
    if files.labelled_drafts.is_file():
        return
    drafts = read_structures(files.drafts)
    limits = {name: limits_of(files.data(name, "train"), config.screening.max_relaxation_ev) for name in config.models}
    journals = files.journal("screening"), files.journal("drafts")
    nothing = [None] * len(drafts)
    energies = site.label("screening", config.single_points(), drafts, nothing, journals[0])
    before = [labelled_row(_bare(draft), result) for draft, result in zip(drafts, energies, strict=True)]
    early = [early_fault(row, limits[draft.info[MODEL]]) for row, draft in zip(before, drafts, strict=True)]
    chosen = [k for k, fault in enumerate(early) if not fault]
    results = site.label(
        "labelling", config.oracle, [_bare(drafts[k]) for k in chosen], [None] * len(chosen), journals[1]
    )
    rows = [draft.copy() for draft in drafts]
    for k, row in enumerate(rows):
        row.info[IS_LABELLED] = not early[k]
        if ENERGY in before[k].info:
            row.info[DRAWN_ENERGY] = before[k].info[ENERGY]
        if early[k]:
            row.info[FAULT] = early[k]
    for k, result in zip(chosen, results, strict=True):
        after = labelled_row(_bare(drafts[k]), result)
        rows[k].set_cell(after.cell, scale_atoms=False)
        rows[k].positions = after.positions
        rows[k].info |= after.info
        if fault := _fault(before[k], after, limits[drafts[k].info[MODEL]]):
            rows[k].info[FAULT] = fault
    write_structures(files.labelled_drafts, rows)
    for journal in journals:
        journal.unlink(missing_ok=True)


def _bare(atoms: Atoms) -> Atoms:
    bare = atoms.copy()
    bare.info = {}
    return bare


def _fault(before: Atoms, after: Atoms, limits: Limits) -> str:
    (found,) = faults([before], [after], limits)
    return found
