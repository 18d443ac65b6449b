"""The last labels: what was drawn is screened by its energy, relaxed and labelled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from ...generators.screening import ENERGY, FAULT, ScreeningLimits, early_fault, faults, limits_of
from ...oracles.base import Label
from ...structures.base import Phase
from ...structures.files import read_structures, write_structures
from ..rows import labelled_row
from ..seeding import derive_seed
from .generation import MODEL
from .site import Site

IS_LABELLED = "was_labelled"
"""In the info of drafts: whether a label was asked for."""
IS_SHUFFLED, SHUFFLED_PREFIX = "was_shuffled", "shuffled_"
"""In the info of drafts: whether a label was asked for with their atoms in random order, and how the name of its value
begins."""
DRAWN_ENERGY = "drawn_energy_ev_per_atom"
"""In the info of drafts: energy as they were drawn."""


def label_drafts(site: Site) -> None:
    """Find out which drafts are crystals, and label these, unless that was done before.

    A draft counts if it passes the filter of :mod:`~alloysmith.generators.screening` with the data that its model
    learnt from. What cannot pass it, by its energy as drawn, is not relaxed. Each one that counts is labelled once more
    with its atoms in random order, if the configuration says so: that is what its composition alone is worth.

    Raises:
        Ending: a signal, or the oracle is broken.
    """
    files = site.files
    if files.labelled_drafts.is_file():
        return
    rows = _screened(site, read_structures(files.drafts))
    if site.config.screening.shuffles:
        _compare_with_shuffled(site, rows)
    write_structures(files.labelled_drafts, rows)


def _screened(site: Site, drafts: Sequence[Atoms]) -> list[Atoms]:
    """The drafts, relaxed and labelled unless their energy forbids it, with what is wrong with them."""
    files, config = site.files, site.config
    limits = {name: limits_of(files.data(name, "train"), config.screening.max_relaxation_ev) for name in config.models}
    bare = [_bare(draft) for draft in drafts]
    phases: list[Phase | None] = [None] * len(drafts)
    energies = site.label("screening", config.single_points(), bare, phases, files.journal("screening"))
    before = [labelled_row(atoms, result) for atoms, result in zip(bare, energies, strict=True)]
    early = [
        draft.info.get(FAULT) or early_fault(row, limits[draft.info[MODEL]])
        for row, draft in zip(before, drafts, strict=True)
    ]
    chosen = [k for k, fault in enumerate(early) if not fault]
    results = site.label(
        "labelling", config.oracle, [bare[k] for k in chosen], phases[: len(chosen)], files.journal("drafts")
    )
    rows = [draft.copy() for draft in drafts]
    for k, row in enumerate(rows):
        row.info[IS_LABELLED] = not early[k]
        if ENERGY in before[k].info:
            row.info[DRAWN_ENERGY] = before[k].info[ENERGY]
        if early[k]:
            row.info[FAULT] = early[k]
    for k, result in zip(chosen, results, strict=True):
        after = labelled_row(bare[k], result)
        rows[k].set_cell(after.cell, scale_atoms=False)
        rows[k].positions = after.positions
        rows[k].info |= after.info
        if fault := _fault(before[k], after, limits[drafts[k].info[MODEL]]):
            rows[k].info[FAULT] = fault
    return rows


def _compare_with_shuffled(site: Site, rows: Sequence[Atoms]) -> None:
    """Note in each row that counts the property of the same atoms in random order, unless that cannot be labelled."""
    name, seed = site.config.objective.property, derive_seed(site.config.seed, 0, "shuffled")
    chosen = [k for k, row in enumerate(rows) if FAULT not in row.info]
    shuffled = []
    for k in chosen:
        atoms = _bare(rows[k])
        atoms.numbers = np.random.default_rng([seed, k]).permutation(atoms.numbers)
        shuffled.append(atoms)
    journal = site.files.journal("shuffled")
    results = site.label("shuffling", site.config.oracle, shuffled, [None] * len(shuffled), journal)
    for k, result in zip(chosen, results, strict=True):
        rows[k].info[IS_SHUFFLED] = True
        if isinstance(result, Label):
            rows[k].info[SHUFFLED_PREFIX + name] = float(result.values[name])


def _bare(atoms: Atoms) -> Atoms:
    bare = atoms.copy()
    bare.info = {}
    return bare


def _fault(before: Atoms, after: Atoms, limits: ScreeningLimits) -> str:
    (found,) = faults([before], [after], limits)
    return found
