"""Labels that do not belong together: files or groups whose energies have another zero, and absurd energies.

Composition alone tells little: melts and surfaces lie more than 2 eV/atom above crystals. So energies per atom are
fitted robustly (Huber) by composition *and* a few sums over each atom's neighbours, in the spirit of the embedded-atom
method: for each element the means of ρ, ρ^2-like steeper sums and of √ρ, ρ_i = Σ_j exp(-q (r_ij / (R_i + R_j) - 1)),
with covalent radii R. This linear model describes published DFT data of Ni, Mo, Cu, Ni-Mo and Nb-Mo-Ta-W to 4-30
meV/atom, so that a constant shift of some frames stands out. A set of frames is called shifted when a column of its own
has a coefficient above the threshold and far above its standard error; where sets have nothing in common that could be
compared (files of different pure elements), the standard error is large and nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from vesin import NeighborList

from .data_settings import FrameCheckSettings
from .frame import Frame
from .frame_report import RowDefect

_RANGE_ANG = 5.0
_STEEPNESS = (3.0, 6.0, 10.0)
_N_DENSITIES = 2
"""Of the first so many steepnesses the square root, an embedding energy, is taken as well."""
_COMPARABLE = (0.6, 1.6)
"""Bounds of an element's mean √ρ, relative to the median of all frames. Single atoms and dimers, whose energies do not
follow from those of condensed matter, lie below."""
_MAX_FOREIGN_SHARE = 0.15
_MIXING_EV_PER_ATOM = 1.0
"""Mixing may bring so much, so frames of a composition that is not near that of others may differ by it."""
_PRIOR_EV = 5.0
"""Expected size of the coefficients of neighbour sums, scaled to a standard deviation of one, eV/atom."""
_MIN_SPREAD = 1e-4
"""Sums that vary less, relative to their mean, say nothing."""
_N_SIGMA = 10.0
_MIN_FRAMES = 3
_MIN_GAP_SHARE = 0.05
"""Fewer frames that lie apart are absurd ones rather than a second reference."""
_MAX_SHIFTS = 10
_TIE = 0.02
"""Losses that differ less are equal, relative: then the smaller set is called the shifted one."""
_MAX_CANDIDATES = 60


@dataclass(frozen=True)
class _Level:
    """How closely energies are looked at.

    Attributes:
        noise_ev: smallest scatter that is assumed of the fit, eV/atom.
        min_shift_ev: smallest shift that is reported, eV/atom.
        max_deviation_ev: largest deviation of a single frame, eV/atom.
        is_structural: whether structures are looked at as well as compositions.
    """

    noise_ev: float
    min_shift_ev: float
    max_deviation_ev: float
    is_structural: bool


@dataclass(frozen=True)
class _Fit:
    """A robust fit: coefficients and their standard errors, residuals and leverages of the frames."""

    coefficients: np.ndarray
    errors: np.ndarray
    residuals: np.ndarray
    leverages: np.ndarray
    loss: float


@dataclass(frozen=True)
class _Candidate:
    name: str
    rows: np.ndarray  # bool [n_frames]
    comparable: np.ndarray  # bool [n_frames]: those of its rows that have their like outside


def check_energies(frames: Sequence[Frame], files: Sequence[str], settings: FrameCheckSettings) -> list[RowDefect]:
    """Shifted files and groups, and frames with absurd energies.

    Args:
        frames: with finite labels and sound geometries.
        files: name of the file of each frame.
    """
    if len(frames) < 2:
        return []
    elements = sorted({symbol for frame in frames for symbol in frame.atoms.symbols.species()})
    energies = np.array([frame.energy_ev / len(frame.atoms) for frame in frames])
    fractions, sums = energy_features([frame.atoms for frame in frames], elements)
    shift, deviation = settings.max_reference_shift_ev_per_atom, settings.max_energy_deviation_ev_per_atom
    # first what is wrong by more than any structure could explain, which needs but few frames
    for level in (_Level(1.0, max(4.0, shift), max(20.0, deviation), False), _Level(0.02, shift, deviation, True)):
        is_used = _is_condensed(fractions, sums) if level.is_structural else np.ones(len(frames), dtype=bool)
        found = _inspect(
            energies[is_used],
            fractions[is_used],
            sums[is_used],
            [frame for frame, used in zip(frames, is_used, strict=True) if used],
            [file for file, used in zip(files, is_used, strict=True) if used],
            elements,
            level,
        )
        if found:
            return found
    return []


def energy_features(structures: Sequence[Atoms], elements: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Atomic fractions ``[n, n_elements]`` and neighbour sums per atom ``[n, n_elements, n_sums]`` of structures.

    The first sum is that of √ρ of the longest-ranged density. Sums count atoms of one element each, so that they add up
    to the mean over the structure.
    """
    index = {symbol: k for k, symbol in enumerate(elements)}
    n_sums = len(_STEEPNESS) + _N_DENSITIES
    fractions = np.zeros((len(structures), len(elements)))
    sums = np.zeros((len(structures), len(elements), n_sums))
    search = NeighborList(cutoff=_RANGE_ANG, full_list=False)
    for k, atoms in enumerate(structures):
        n_atoms = len(atoms)
        types = np.array([index[symbol] for symbol in atoms.get_chemical_symbols()])
        first, second, distances = search.compute(
            points=atoms.positions, box=atoms.cell.array, periodic=atoms.pbc.tolist(), quantities="ijd"
        )
        radii = covalent_radii[atoms.numbers]
        reduced = distances / (radii[first] + radii[second]) - 1.0
        smooth = 0.5 * (1.0 + np.cos(np.pi * distances / _RANGE_ANG))
        densities = []
        for steepness in _STEEPNESS:
            pairs = np.exp(-steepness * reduced) * smooth
            densities.append(np.bincount(first, pairs, n_atoms) + np.bincount(second, pairs, n_atoms))
        per_atom = [np.sqrt(density) for density in densities[:_N_DENSITIES]] + densities
        fractions[k] = np.bincount(types, minlength=len(elements)) / n_atoms
        sums[k] = np.stack([np.bincount(types, v, len(elements)) for v in per_atom], axis=1) / n_atoms
    return fractions, sums


def _is_condensed(fractions: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Whether each frame's atoms have about as many neighbours as those of the others, bool ``[n_frames]``."""
    is_condensed = np.ones(len(fractions), dtype=bool)
    for element in range(fractions.shape[1]):
        present = fractions[:, element] > 0.0
        mean = sums[present, element, 0] / fractions[present, element]
        low, high = np.median(mean) * np.array(_COMPARABLE)
        is_condensed[present] &= (mean > low) & (mean < high)
    return is_condensed


def _inspect(
    energies: np.ndarray,
    fractions: np.ndarray,
    sums: np.ndarray,
    frames: Sequence[Frame],
    files: Sequence[str],
    elements: Sequence[str],
    level: _Level,
) -> list[RowDefect]:
    if len(frames) < 2:
        return []
    present = fractions.any(axis=0)
    columns = fractions[:, present]
    if level.is_structural:
        flat = sums.reshape(len(frames), -1)
        middle, spread = flat.mean(axis=0), flat.std(axis=0)
        varies = spread > _MIN_SPREAD * np.abs(middle)
        columns = np.hstack([columns, (flat - middle)[:, varies] / spread[varies]])
    n_intercepts = int(present.sum())
    candidates = list(_candidates(frames, files, fractions))
    shifts: list[_Candidate] = []
    while True:
        own = [c.rows.astype(float)[:, None] for c in shifts]
        fit = _fit(np.hstack([columns, *own]), energies, n_intercepts, len(shifts), level.noise_ev)
        best: tuple[float, _Candidate] | None = None
        for candidate in [*candidates, *_split_by_gap(fit.residuals, frames, level)]:
            wider = np.hstack([columns, *own, candidate.rows.astype(float)[:, None]])
            trial = _fit(wider, energies, n_intercepts, len(shifts) + 1, level.noise_ev)
            if _is_shifted(trial, candidate, level) and (best is None or trial.loss < best[0] * (1.0 - _TIE)):
                best = trial.loss, candidate
        if best is None or len(shifts) == _MAX_SHIFTS:
            break
        shifts.append(best[1])
    if not shifts:
        return list(_deviating(fit, frames, level))
    # what single frames should have is not known before the references agree
    resolved = [_told_apart(fractions[candidate.rows]) for candidate in shifts]
    own = [
        np.where(c.rows[:, None], fractions[:, which] if which else 1.0, 0.0)
        for c, which in zip(shifts, resolved, strict=True)
    ]
    wide = np.hstack([columns, *own])
    rest = _fit(wide, energies, n_intercepts, wide.shape[1] - columns.shape[1], level.noise_ev).coefficients
    rest = rest[columns.shape[1] :]
    found = []
    for candidate, which, shift in zip(shifts, resolved, fit.coefficients[columns.shape[1] :], strict=True):
        parts, rest = rest[: max(1, len(which))], rest[max(1, len(which)) :]
        named = ", ".join(f"{elements[k]} {part:+.3g}" for k, part in zip(which, parts, strict=False))
        detail = _describe(float(shift)) + (f" ({named})" if len(which) > 1 else "")
        found.append(RowDefect("mixed_energy_references", candidate.name, detail))
    return found


def _describe(shift: float) -> str:
    return f"energies {abs(shift):.3g} eV/atom {'above' if shift > 0 else 'below'} what the other frames let expect"


def _told_apart(fractions: np.ndarray) -> list[int]:
    """The elements whose atoms may have a shift of their own: all that are there, or none if too alike."""
    present = np.flatnonzero(fractions.any(axis=0))
    strengths = np.linalg.svd(fractions[:, present], compute_uv=False)
    is_clear = len(strengths) == len(present) and strengths[-1] > 0.1 * strengths[0]
    return [int(k) for k in present] if is_clear else []


def _candidates(frames: Sequence[Frame], files: Sequence[str], fractions: np.ndarray) -> Iterator[_Candidate]:
    """Files, then groups; the smaller half of two is the one to name."""
    labels: Mapping[str, np.ndarray] = {
        "file": np.array(files),
        "group": np.array([frame.group for frame in frames]),
    }
    seen: set[bytes] = set()
    compositions, which = np.unique(fractions.round(6), axis=0, return_inverse=True)
    for kind, values in labels.items():
        names, counts = np.unique(values, return_counts=True)
        for name in names[np.argsort(counts, kind="stable")][:_MAX_CANDIDATES]:
            rows = values == name
            if not _MIN_FRAMES <= rows.sum() <= len(rows) - _MIN_FRAMES or rows.tobytes() in seen:
                continue
            seen.add(rows.tobytes())
            others = compositions[np.unique(which[~rows])]
            near = np.array([np.abs(others - x).max(axis=1).min() < _MAX_FOREIGN_SHARE for x in compositions])
            label = f"{kind} {name}" if name else "the frames without group"
            yield _Candidate(f"{label} ({rows.sum()} frames)", rows, rows & near[which])


def _split_by_gap(residuals: np.ndarray, frames: Sequence[Frame], level: _Level) -> Iterator[_Candidate]:
    """The smaller of the two parts into which the widest gap cuts the residuals: shifted rows that no name tells."""
    order = np.argsort(residuals)
    n_least = max(_MIN_FRAMES, int(_MIN_GAP_SHARE * len(order)))
    gaps = np.diff(residuals[order])[n_least - 1 : len(order) - n_least]
    if len(gaps) == 0 or gaps.max() < level.min_shift_ev / 2:
        return
    cut = int(np.argmax(gaps)) + n_least
    members = np.sort(order[cut:] if 2 * cut > len(order) else order[:cut])
    rows = np.zeros(len(order), dtype=bool)
    rows[members] = True
    named = ", ".join(frames[k].source for k in members[:3].tolist())
    yield _Candidate(f"{len(members)} frames ({named}, …)", rows, rows)


def _is_shifted(fit: _Fit, candidate: _Candidate, level: _Level) -> bool:
    shift, error = abs(fit.coefficients[-1]), fit.errors[-1]
    # a set most of whose compositions have no like elsewhere may differ by its heat of mixing
    is_foreign = 2 * candidate.comparable.sum() < candidate.rows.sum()
    allowed = level.min_shift_ev + (_MIXING_EV_PER_ATOM if is_foreign else 0.0)
    return bool(shift > max(allowed, _N_SIGMA * error))


def _deviating(fit: _Fit, frames: Sequence[Frame], level: _Level) -> Iterator[RowDefect]:
    """Frames whose energy, left out of the fit, is far from what the others let expect."""
    free = np.maximum(1.0 - fit.leverages, 1e-6)
    scatter = max(level.noise_ev, 1.4826 * float(np.median(np.abs(fit.residuals))))
    left_out = fit.residuals / free
    is_far = np.abs(left_out) > np.maximum(level.max_deviation_ev, _N_SIGMA * scatter / np.sqrt(free))
    for k in np.flatnonzero(is_far & (free > 0.05)).tolist():
        per_atom = frames[k].energy_ev / len(frames[k].atoms)
        expected = per_atom - left_out[k]
        detail = f"{per_atom:.4g} eV/atom; other frames let expect {expected:.4g}"
        yield RowDefect("absurd_energy", frames[k].source, detail)


def _fit(columns: np.ndarray, energies: np.ndarray, n_intercepts: int, n_shifts: int, noise_ev: float) -> _Fit:
    """Huber's regression; a weak prior gives what the data does not determine a large standard error.

    Args:
        columns: ``[n_frames, n_columns]``: fractions, neighbour sums, shifts.
        n_intercepts: number of fractions.
        n_shifts: number of shifts.
    """
    n_frames, n_columns = columns.shape
    energies = energies - np.median(energies)
    weights = np.ones(n_frames)
    prior_std = np.full(n_columns, _PRIOR_EV)
    is_level = np.arange(n_columns) < n_intercepts
    is_level[n_columns - n_shifts :] = True
    prior_std[is_level] = 10.0 * (float(np.ptp(energies)) + 1.0)
    scale = max(noise_ev, float(np.std(energies)))
    for _ in range(40):
        weighted = columns * weights[:, None]
        covariance = np.linalg.inv(columns.T @ weighted + np.diag((scale / prior_std) ** 2))
        coefficients = covariance @ (weighted.T @ energies)
        residuals = energies - columns @ coefficients
        before, scale = scale, max(noise_ev, 1.4826 * float(np.median(np.abs(residuals))))
        weights = 1.0 / np.maximum(1.0, np.abs(residuals) / (1.5 * scale))
        if abs(scale - before) < 1e-3 * scale:
            break
    leverages = weights * np.einsum("ij,jk,ik->i", columns, covariance, columns)
    bound = 1.5 * noise_ev
    loss = np.where(np.abs(residuals) < bound, residuals**2 / 2, bound * (np.abs(residuals) - bound / 2)).sum()
    return _Fit(coefficients, np.sqrt(np.diag(covariance)) * scale, residuals, leverages, float(loss))
