"""The choice of a round: which of the visited structures are labelled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from ...agents.deviation_bands import Bands, calibrate, eligible
from ...structures.files import read_structures, write_structures
from ...surrogates.potentials.committee import Committee
from ...surrogates.potentials.d_optimality import d_optimal, energy_gradients
from ...surrogates.potentials.environments import farthest_points
from ...surrogates.potentials.optimizer_settings import LeastSquaresSettings
from ...surrogates.potentials.torch_potential import TorchPotential
from ..rounds.files import put
from ..seeding import derive_seed
from .knowledge import Knowledge
from .labelled import IS_TEST
from .rounds import RoundRecord
from .site import Site

_CALIBRATION_ROUNDS = 3
"""Rounds whose labels still tell how wrong the committee is; it has learnt since."""


def bands_of_round(site: Site, records: Sequence[RoundRecord], of_tests: Sequence[tuple[float, float]]) -> Bands:
    """Bounds as structures that were not learnt from calibrate them: test structures, and the latest labels.

    Args:
        of_tests: deviation and error of each test structure.
    """
    pairs = [*of_tests, *(pair for record in records[-_CALIBRATION_ROUNDS:] for pair in record.calibration)]
    deviations, errors = np.array(pairs).reshape(-1, 2).T
    return calibrate(site.config.selection, deviations, errors)


def choice_of_round(
    site: Site,
    index: int,
    visited: Sequence[Atoms],
    deviations: np.ndarray,
    bands: Bands,
    committee: Committee,
    knowledge: Knowledge,
    n_left: int,
) -> list[Atoms]:
    """The structures to label, those for tests last and marked; perhaps none. Read from their file where it is there.

    Args:
        deviations: ``[n_visited]``, eV/Å.
        n_left: labels that the budget allows.
    """
    path = site.folder(index).chosen
    if not path.exists():
        site.on_progress(index, "choosing", f"of {len(visited)} visited structures")
        with site.timed(index, "choosing"):
            selection = site.config.selection
            rng = np.random.default_rng(derive_seed(site.config.seed, index, "choice"))
            n_test = min(selection.n_test, len(visited), n_left)
            tests = rng.choice(len(visited), n_test, replace=False)
            rest = np.setdiff1d(np.arange(len(visited)), tests)
            n = min(selection.batch_size, n_left - n_test)
            if selection.kind == "random":
                rows = rng.choice(rest, min(n, len(rest)), replace=False)
            else:
                candidates = rest[eligible(selection, bands, deviations[rest], n)]
                spread = _spread(site, [visited[i] for i in candidates], n, committee, knowledge)
                rows = candidates[spread]
            chosen = [_marked(visited[i], False) for i in rows] + [_marked(visited[i], True) for i in tests]
            put(path, (lambda scratch: write_structures(scratch, chosen)) if chosen else b"")
    return list(read_structures(path)) if path.stat().st_size else []


def _spread(site: Site, candidates: Sequence[Atoms], n: int, committee: Committee, knowledge: Knowledge) -> list[int]:
    """Rows of up to ``n`` candidates, spread over what they have to teach beside what is known."""
    if not candidates:
        return []
    student = committee.members[0]
    if site.config.selection.diversity == "d_optimal" and isinstance(student, TorchPotential):
        # of all labels anew: they are those of the student as it has become, and cost less than a step of its training
        is_solved = isinstance(site.config.training.optimizer, LeastSquaresSettings)
        known = energy_gradients(student.model, [f.atoms for f in knowledge.frames], linear_only=is_solved)
        return d_optimal(energy_gradients(student.model, candidates, linear_only=is_solved), n, known)
    return farthest_points(knowledge.features_of(candidates), n, knowledge.features())


def _marked(atoms: Atoms, is_test: bool) -> Atoms:
    marked = atoms.copy()
    if is_test:
        marked.info[IS_TEST] = True
    return marked
