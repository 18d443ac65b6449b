"""Structures compared by pymatgen: whether one can be laid on the other, and the coordination of their sites."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any

import numpy as np
from ase import Atoms
from pymatgen.analysis.local_env import CN_OPT_PARAMS, CrystalNN, LocalStructOrderParams
from pymatgen.analysis.structure_matcher import StructureMatcher

from ...errors import StructureError
from ..pymatgen_json import to_pymatgen

_LARGEST_COORDINATION = 24
_BOND_ORDER = {9: ("q2", "q4", "q6"), 10: ("q2", "q4", "q6"), 11: ("q2", "q4", "q6"), 12: ("q2", "q4", "q6")}


def match_rms(first: Atoms, second: Atoms) -> float | None:
    """How far two structures are apart once one is laid on the other, species kept; ``None`` if they do not match.

    Tolerances are those of T. Xie et al., CDVAE (ICLR 2022): 0.5 for sites, 0.3 for lengths, 10° for angles. pymatgen
    reduces both to primitive cells first, and overlooks displacements of up to 0.25 Å in doing so: a pure element's
    displacements may count as none.

    Returns:
        The root mean square displacement in units of the cube root of the volume per atom.

    Raises:
        StructureError: a structure that is not periodic.
    """
    found = _matcher().get_rms_dist(to_pymatgen(first), to_pymatgen(second))
    return None if found is None else float(found[0])


@lru_cache(maxsize=1)
def _matcher() -> StructureMatcher:
    return StructureMatcher(stol=0.5, ltol=0.3, angle_tol=10.0)


def coordination_fingerprint(atoms: Atoms) -> np.ndarray:
    """Mean over the sites of the CrystalNN fingerprint, ``[61]``.

    For each number of neighbours up to 24 it has the likelihood of that number, then the likelihood times the order
    parameters of the motifs with that many neighbours (N. E. R. Zimmermann, A. Jain, RSC Adv. 10, 6063 (2020));
    elements are not looked at. The Euclidean distance of two such vectors is the fingerprint distance of the P-CDVAE
    paper.

    Raises:
        StructureError: a structure that is not periodic, or one whose neighbours cannot be found.
    """
    structure = to_pymatgen(atoms)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of oxidation states that an alloy does not have
            return np.mean([_site_fingerprint(structure, site) for site in range(len(structure))], axis=0)
    except (ValueError, RuntimeError, ZeroDivisionError, IndexError) as error:
        raise StructureError(f"the neighbours of {atoms!r} cannot be found ({error}); is it a crystal?") from error


def _site_fingerprint(structure: Any, site: int) -> np.ndarray:
    data = _crystal_nn().get_nn_data(structure, site)
    values: list[float] = []
    for coordination in range(1, _LARGEST_COORDINATION + 1):
        likelihood = float(data.cn_weights.get(coordination, 0.0))
        values.append(likelihood)
        motifs = _order_parameters().get(coordination)
        if motifs is None:
            continue
        n_motifs, parameters = motifs
        if likelihood == 0.0:
            values += [0.0] * n_motifs
            continue
        neighbours = [entry["site"] for entry in data.cn_nninfo[coordination]]
        found = parameters.get_order_parameters(
            [structure[site], *neighbours], 0, indices_neighs=list(range(1, len(neighbours) + 1))
        )
        values += [likelihood * (0.0 if value is None else float(value)) for value in found]
    return np.array(values)


@lru_cache(maxsize=1)
def _crystal_nn() -> CrystalNN:
    return CrystalNN(distance_cutoffs=None, x_diff_weight=0.0, cation_anion=False)


@lru_cache(maxsize=1)
def _order_parameters() -> dict[int, tuple[int, LocalStructOrderParams]]:
    """Order parameters of the motifs of each number of neighbours, and how many they are."""
    kinds: dict[int, list[tuple[str, Any]]] = {1: [("sgl_bd", None)]}
    for coordination, motifs in CN_OPT_PARAMS.items():
        kinds[int(coordination)] = [(m[0], m[1] if len(m) > 1 else None) for m in motifs.values()]
    for coordination, names in _BOND_ORDER.items():
        kinds.setdefault(coordination, []).extend((name, None) for name in names)
    return {
        coordination: (len(motifs), LocalStructOrderParams([n for n, _ in motifs], parameters=[p for _, p in motifs]))
        for coordination, motifs in kinds.items()
    }
