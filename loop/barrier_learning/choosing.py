"""The choice of a round: which hops of the pool are labelled."""

from __future__ import annotations

import numpy as np
import orjson

from ...agents.pool_selection import choose
from ...surrogates.barriers.base import BarrierModel
from ...surrogates.barriers.committee import BarrierCommittee
from ...surrogates.barriers.hop_lattice import hop_lattice
from ...surrogates.barriers.hops import Hops, occupations, phase_of
from ...surrogates.barriers.site_features import site_features
from ..errors import RunDirectoryError
from ..rounds.files import put
from ..seeding import derive_seed
from .config import BarrierLearningConfig
from .pool import HopPool, KnownHops
from .rounds import BarrierFolder


def first_choice(config: BarrierLearningConfig, pool: HopPool) -> tuple[np.ndarray, np.ndarray]:
    """Random hops: numbers in the pool of those to learn from, and of those for validation."""
    rng = np.random.default_rng(derive_seed(config.seed, 0, "first hops"))
    everything = rng.permutation(len(pool.hops))
    held_out = pool.is_held_out[everything]
    n_validation = config.first.n_validation
    if held_out.any():
        validation, others = everything[held_out][:n_validation], everything[~held_out]
    else:
        validation, others = everything[:n_validation], everything[n_validation:]
    return others[: config.first.n_hops], validation


def next_choice(
    config: BarrierLearningConfig, pool: HopPool, known: KnownHops, model: BarrierModel, index: int, n: int
) -> np.ndarray:
    """Numbers in the pool of the hops to learn from next, at most ``n``; fewer where the pool is used up."""
    candidates = np.flatnonzero(~known.is_labelled() & ~pool.is_held_out)
    if len(candidates) == 0:
        return candidates
    hops = pool.hops.take(candidates)
    spreads = np.zeros(len(hops))
    if config.selection.needs_spread and isinstance(model, BarrierCommittee):
        spreads = model.mean_and_spread(hops)[1]
    learnt = known.learnt()
    rows = choose(
        config.selection,
        n,
        spreads=spreads,
        features=hop_features(hops, config.feature_shells, pool.hops.elements),
        known=hop_features(learnt, config.feature_shells, pool.hops.elements),
        seed=derive_seed(config.seed, index, "choice"),
    )
    return candidates[rows]


def hop_features(hops: Hops, n_shells: int, elements: tuple[str, ...]) -> np.ndarray:
    """What surrounds hops: the moving species, the composition, counts of species on equivalent sites.

    Returns:
        ``[n_hops, n_features]``.
    """
    lattice = hop_lattice(phase_of(hops), n_shells)
    found = site_features("counts", occupations(hops, lattice, elements), lattice, len(elements))
    return np.asarray(found, dtype=float)


def write_choice(folder: BarrierFolder, learnt: np.ndarray, validation: np.ndarray) -> None:
    """Keep the numbers of what was chosen."""
    put(folder.chosen, orjson.dumps({"learnt": learnt.tolist(), "validation": validation.tolist()}))


def read_choice(folder: BarrierFolder) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of :func:`write_choice`.

    Raises:
        RunDirectoryError: the file is damaged.
    """
    try:
        plain = orjson.loads(folder.chosen.read_bytes())
        return np.array(plain["learnt"], dtype=np.int64), np.array(plain["validation"], dtype=np.int64)
    except (orjson.JSONDecodeError, TypeError, KeyError, ValueError) as error:
        raise RunDirectoryError(
            f"{folder.chosen} is damaged ({error}); remove it, and the choice is repeated"
        ) from error
