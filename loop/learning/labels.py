"""The labelling stage of a round."""

from __future__ import annotations

from collections.abc import Sequence

from ase import Atoms

from ...structures.files import read_structures, write_structures
from ..rounds.files import put
from ..rounds.labels import label_all
from .labelled import labelled_row
from .site import Site


def labels_of_round(site: Site, index: int, chosen: Sequence[Atoms]) -> list[Atoms]:
    """Label what was chosen, or read what was labelled before a kill: rows with labels, or why they have none.

    Raises:
        Ending: a signal, the time is spent, or the oracle only fails.
    """
    path = site.folder(index).labelled
    if not path.exists():
        ended = label_all(site, index, chosen)
        rows = [labelled_row(atoms, result) for atoms, result in zip(chosen, ended, strict=True)]
        put(path, lambda scratch: write_structures(scratch, rows))
    return list(read_structures(path))
