"""Cluster expansions by icet: the only file that imports icet, which is optional.

M. Ångqvist et al., Adv. Theory Simul. 2, 1900015 (2019). A lattice's cluster vector holds the averages of products of
point functions over all clusters of each kind; the property is a linear function of it.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from ..errors import ConfigError
from ..structures.lattice import ParentLattice, parent_lattice
from ..structures.space import DesignSpace
from ..surrogates.polynomial import PhasePolynomial, fit_piece
from .moves import swap, transmute

_VOLUME_ANG3 = 12.0  # per atom; sets the scale only
_LEAST_VARIANCE = 1e-6  # of the residual, relative to the scores'


def require_icet() -> None:
    """Say so now if icet is missing.

    Raises:
        ConfigError: it is.
    """
    if find_spec("icet") is None or find_spec("mchammer") is None:
        raise ConfigError(
            "the generator cluster_expansion needs icet, which is not installed; "
            "install it with `pip install icet` or `pip install 'alloysmith[icet]'`, or choose another generator"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without icet's warning that clusters meet their own images, which small cells cannot avoid and which the changes
    it computes take into account; and without the deprecation that spglib announces to icet."""
    logger = logging.getLogger("icet")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)


@lru_cache(maxsize=16)
def _cluster_space(lattice: ParentLattice, elements: tuple[str, ...], n_shells: tuple[int, ...]) -> Any:
    """icet's ``ClusterSpace`` with pairs, triplets, … up to a shell each."""
    from icet import ClusterSpace

    unit = parent_lattice(lattice.phase, lattice.kind, (1, 1, 1))
    radii = lattice.shell_distances(max(n_shells) + 1) * _VOLUME_ANG3 ** (1.0 / 3.0)
    cutoffs = [float(0.5 * (radii[n - 1] + radii[n])) for n in n_shells]
    with _quiet():
        return ClusterSpace(unit.decorate([elements[0]] * unit.n_sites, _VOLUME_ANG3), cutoffs, list(elements))


@dataclass(frozen=True)
class Expansion:
    """A fitted expansion of the score on one lattice.

    Attributes:
        space: whose elements occupations index.
        lattice: the sites.
        n_shells: outermost shell of pairs, of triplets, ….
        piece: posterior of the coefficients.
    """

    space: DesignSpace
    lattice: ParentLattice
    n_shells: tuple[int, ...]
    piece: PhasePolynomial

    def predict(self, occupations: np.ndarray) -> np.ndarray:
        """Expected scores ``[n]`` of occupations ``[n, n_sites]``."""
        return cluster_vectors(self.space, self.lattice, self.n_shells, occupations) @ self.piece.mean

    def climb(
        self,
        start: np.ndarray,
        coefficients: np.ndarray,
        temperatures: np.ndarray,
        transmute_share: float,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """The best ordering that a Metropolis chain of swaps and transmutations visits.

        Args:
            start: int8 ``[n_sites]``.
            coefficients: of the expansion, ``[n_clusters]``.
            temperatures: of each step, in units of the score.
            transmute_share: share of steps that change an element; 0 keeps the composition (canonical).
        """
        from icet import ClusterExpansion
        from mchammer.calculators import ClusterExpansionCalculator

        atoms = _decorated(self.space, self.lattice, start)
        cluster_space = _cluster_space(self.lattice, self.space.elements, self.n_shells)
        with _quiet():
            calculator = ClusterExpansionCalculator(atoms, ClusterExpansion(cluster_space, coefficients))
        numbers_of = np.array([atomic_numbers[element] for element in self.space.elements])
        here, best = start, start
        height = highest = 0.0
        for temperature, lot in zip(temperatures.tolist(), rng.random(len(temperatures)).tolist(), strict=True):
            moved = transmute(rng, self.space, here) if rng.random() < transmute_share else swap(rng, here)
            if moved is None:
                continue
            changed = np.flatnonzero(moved != here)
            sites, species = changed.tolist(), numbers_of[moved[changed]].tolist()
            change = calculator.calculate_change(
                sites=sites, current_occupations=numbers_of[here], new_site_occupations=species
            )
            gain = float(change) / self.lattice.n_sites
            if gain >= 0.0 or (temperature > 0.0 and lot < np.exp(gain / temperature)):
                calculator.accept_change(sites=sites, species=species)
                here, height = moved, height + gain
                if height > highest + 1e-12:
                    best, highest = here, height
        return best


def cluster_vectors(
    space: DesignSpace, lattice: ParentLattice, n_shells: tuple[int, ...], occupations: np.ndarray
) -> np.ndarray:
    """Cluster vectors ``[n, n_clusters]`` of occupations ``[n, n_sites]``; the first number is 1."""
    cluster_space = _cluster_space(lattice, space.elements, n_shells)
    vectors = np.empty((len(occupations), len(cluster_space)))
    for i, occupation in enumerate(occupations):
        vectors[i] = cluster_space.get_cluster_vector(_decorated(space, lattice, occupation))
    return vectors


def _decorated(space: DesignSpace, lattice: ParentLattice, occupation: np.ndarray) -> Atoms:
    """The occupation at the scale of the cluster space."""
    return lattice.decorate([space.elements[k] for k in occupation.tolist()], _VOLUME_ANG3)


def fit_expansion(
    space: DesignSpace, lattice: ParentLattice, n_shells: tuple[int, ...], occupations: np.ndarray, scores: np.ndarray
) -> Expansion:
    """Fit by Bayesian ridge regression, its strength that of largest evidence.

    Args:
        occupations: int8 ``[n, n_sites]``.
        scores: ``[n]``.
    """
    vectors = cluster_vectors(space, lattice, n_shells, occupations)
    least = _LEAST_VARIANCE * max(float(scores.var()), 1e-12)
    return Expansion(space, lattice, n_shells, fit_piece(vectors, scores, least))
