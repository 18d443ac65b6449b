"""Spectra of migration barriers: all hops of a crystal, counted block by block, so that its size does not matter.

Every site is vacant in turn, and each of its 8 (BCC) or 12 (FCC) neighbours hops into it (Fan, Xing and Cao 2022). The
barrier of the hop back, from the state after it, is another one: it is what a vacancy sees that has just hopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from .base import BarrierModel, BarrierPrediction
from .crystal_lattice import CrystalLattice
from .hop_lattice import hop_lattice
from .hops import Hops, site_hops

Direction = Literal["forward", "backward"]
BLOCK_SITES = 16_384
"""Sites whose hops are in memory at a time: some 100 MB with the models' own tables."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Barriers of many hops.

    Attributes:
        n_hops: how many.
        mean_ev, std_ev: mean, and standard deviation about it, eV; NaN without hops.
        min_ev, max_ev: extremes, eV.
        error_ev: the error to expect of one barrier, the root mean square of the model's spread, eV.
        bin_ev: width of the bins, eV.
        first_bin: bin k holds barriers from ``(first_bin + k) * bin_ev`` on, below the next.
        counts: int64 ``[n_bins]``; the first and the last are not empty.
    """

    n_hops: int
    mean_ev: float
    std_ev: float
    min_ev: float
    max_ev: float
    error_ev: float
    bin_ev: float
    first_bin: int
    counts: np.ndarray

    @property
    def edges_ev(self) -> np.ndarray:
        """``[n_bins + 1]``, eV."""
        return np.asarray((self.first_bin + np.arange(len(self.counts) + 1)) * self.bin_ev)

    @property
    def density_per_ev(self) -> np.ndarray:
        """``[n_bins]``, share of the hops by the width of the bin, 1/eV."""
        return np.asarray(self.counts / (max(self.n_hops, 1) * self.bin_ev))

    def quantile_ev(self, share: float) -> float:
        """The barrier below which a share of the hops lies, to a fraction of a bin, eV."""
        if self.n_hops == 0:
            return float("nan")
        below = np.concatenate([[0], np.cumsum(self.counts)]) / self.n_hops
        found = float(np.interp(share, below, self.edges_ev))
        return min(max(found, self.min_ev), self.max_ev)

    def coarsened(self, n_bins: int) -> Spectrum:
        """The same hops in bins ``n_bins`` times as wide."""
        before = self.first_bin % n_bins
        after = -(before + len(self.counts)) % n_bins
        counts = np.pad(self.counts, (before, after)).reshape(-1, n_bins).sum(axis=1)
        return replace(self, bin_ev=self.bin_ev * n_bins, first_bin=self.first_bin // n_bins, counts=counts)

    def smooth_enough(self) -> Spectrum:
        """In bins that are not too narrow for the number of hops (D. Freedman, P. Diaconis, 1981), for people."""
        if self.n_hops < 2:
            return self
        wanted_ev = 2.0 * (self.quantile_ev(0.75) - self.quantile_ev(0.25)) / self.n_hops ** (1.0 / 3.0)
        return self.coarsened(max(1, round(wanted_ev / self.bin_ev)))


class SpectrumCounter:
    """Adds barriers up, a block at a time, into a :class:`Spectrum`.

    Args:
        bin_ev: width of the bins, eV.
    """

    def __init__(self, bin_ev: float) -> None:
        self._bin_ev = bin_ev
        self._n = 0
        self._mean = 0.0
        self._squares = 0.0  # sum of squared deviations from the mean
        self._variances = 0.0
        self._extremes = (np.inf, -np.inf)
        self._first = 0
        self._counts = np.zeros(0, dtype=np.int64)

    def add(self, barriers_ev: np.ndarray, std_ev: np.ndarray) -> None:
        """Count barriers ``[n]`` with the model's spread ``[n]``, eV."""
        n = len(barriers_ev)
        if n == 0:
            return
        mean = float(barriers_ev.mean())
        shift = mean - self._mean
        total = self._n + n
        self._squares += float(((barriers_ev - mean) ** 2).sum()) + shift**2 * self._n * n / total
        self._mean += shift * n / total
        self._n = total
        self._variances += float((std_ev**2).sum())
        low, high = float(barriers_ev.min()), float(barriers_ev.max())
        self._extremes = min(self._extremes[0], low), max(self._extremes[1], high)
        bins = np.floor(barriers_ev / self._bin_ev).astype(np.int64)
        self._make_room(int(bins.min()), int(bins.max()))
        self._counts += np.bincount(bins - self._first, minlength=len(self._counts))

    def spectrum(self) -> Spectrum:
        """What was counted so far."""
        nan = float("nan")
        known = self._n > 0
        return Spectrum(
            self._n,
            self._mean if known else nan,
            float(np.sqrt(self._squares / self._n)) if known else nan,
            self._extremes[0] if known else nan,
            self._extremes[1] if known else nan,
            float(np.sqrt(self._variances / self._n)) if known else nan,
            self._bin_ev,
            self._first,
            self._counts.copy(),
        )

    def _make_room(self, first: int, last: int) -> None:
        if len(self._counts):
            first, last = min(first, self._first), max(last, self._first + len(self._counts) - 1)
        wider = np.zeros(last - first + 1, dtype=np.int64)
        start = self._first - first
        wider[start : start + len(self._counts)] = self._counts
        self._first, self._counts = first, wider


@dataclass(frozen=True)
class HopBlock:
    """The hops into some sites, and their barriers.

    Attributes:
        hops: into the sites.
        forward: their barriers.
        backward: those of the hops back, if asked for.
    """

    hops: Hops
    forward: BarrierPrediction
    backward: BarrierPrediction | None


@dataclass(frozen=True)
class SpectraOptions:
    """Which hops, and how they are counted.

    Attributes:
        n_sites: vacancies at so many random sites of a crystal, instead of at all.
        both_ways: whether the hops back are predicted too.
        bin_ev: width of the histograms' bins, eV.
        seed: of the choice of sites.
        block_sites: sites whose hops are in memory at a time; barriers do not depend on it.
    """

    n_sites: int | None = None
    both_ways: bool = True
    bin_ev: float = 0.02
    seed: int = 0
    block_sites: int = BLOCK_SITES

    def sites(self, n_atoms: int) -> np.ndarray:
        """Numbers of the sites of a crystal of ``n_atoms``, ascending."""
        if self.n_sites is None or self.n_sites >= n_atoms:
            return np.arange(n_atoms)
        return np.sort(np.random.default_rng(self.seed).choice(n_atoms, size=self.n_sites, replace=False))

    def n_hops(self, model: BarrierModel, atoms: Atoms) -> int:
        """How many hops there are one way in a crystal of the model's phase."""
        return len(self.sites(len(atoms))) * len(hop_lattice(model.spec.phase, 1).directions)


def predicted_blocks(model: BarrierModel, atoms: Atoms, options: SpectraOptions) -> Iterator[HopBlock]:
    """The barriers of all hops into a crystal's sites, block by block.

    Args:
        atoms: a perfect crystal, FCC or BCC, relaxed or not.

    Raises:
        StructureError: the structure is no FCC or BCC crystal.
        SurrogateError: an element or a phase that the model does not know.
    """
    lattice = CrystalLattice.of(atoms)
    sites = options.sites(len(atoms))
    for start in range(0, len(sites), options.block_sites):
        hops = site_hops(atoms, lattice, sites[start : start + options.block_sites])
        yield HopBlock(hops, model.predict(hops), model.predict(hops.returning()) if options.both_ways else None)


def barrier_spectra(
    model: BarrierModel,
    atoms: Atoms,
    options: SpectraOptions = SpectraOptions(),
    on_block: Callable[[HopBlock], object] | None = None,
) -> dict[Direction, dict[str, Spectrum]]:
    """Spectra of a crystal for each direction and each species that moves.

    Args:
        on_block: sees each block, for progress or to keep the barriers.

    Raises:
        StructureError, SurrogateError: see :func:`predicted_blocks`.
    """
    counters: dict[Direction, dict[str, SpectrumCounter]] = {"forward": {}}
    if options.both_ways:
        counters["backward"] = {}
    for block in predicted_blocks(model, atoms, options):
        moving = block.hops.moving_numbers
        predicted: dict[Direction, BarrierPrediction | None] = {"forward": block.forward, "backward": block.backward}
        for number in np.unique(moving).tolist():
            is_it = moving == number
            for direction, by_species in counters.items():
                found = predicted[direction]
                if found is not None:
                    counter = by_species.setdefault(chemical_symbols[number], SpectrumCounter(options.bin_ev))
                    counter.add(found.mean_ev[is_it], found.std_ev[is_it])
        if on_block is not None:
            on_block(block)
    return {
        direction: {symbol: by_species[symbol].spectrum() for symbol in sorted(by_species)}
        for direction, by_species in counters.items()
    }


def pooled(spectra: Sequence[Spectrum]) -> Spectrum:
    """The spectrum of all hops of several, which have bins of one width; at least one."""
    present = [s for s in spectra if s.n_hops > 0]
    if not present:
        return spectra[0]
    n = np.array([s.n_hops for s in present])
    means, stds, errors = (np.array([getattr(s, name) for s in present]) for name in ("mean_ev", "std_ev", "error_ev"))
    mean = float((n * means).sum() / n.sum())
    first = min(s.first_bin for s in present)
    counts = np.zeros(max(s.first_bin + len(s.counts) for s in present) - first, dtype=np.int64)
    for s in present:
        counts[s.first_bin - first :][: len(s.counts)] += s.counts
    return Spectrum(
        int(n.sum()),
        mean,
        float(np.sqrt((n * (stds**2 + (means - mean) ** 2)).sum() / n.sum())),
        min(s.min_ev for s in present),
        max(s.max_ev for s in present),
        float(np.sqrt((n * errors**2).sum() / n.sum())),
        present[0].bin_ev,
        first,
        counts,
    )
