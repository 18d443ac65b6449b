"""Embedded-atom potentials from the table of Zhou, Johnson and Wadley, for any of its elements together.

X. W. Zhou, R. A. Johnson, H. N. G. Wadley, Phys. Rev. B 69, 144113 (2004), with later additions in its form: densities
and pair functions of Eqs. 15 and 16 as Chen et al., Comput. Phys. Commun. (2021), number them, pair functions between
elements mixed from these (Eq. 17), embedding functions in three parts (Eq. 18).
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import resources

import numpy as np

from ..errors import ConfigError
from .setfl import EamTables, grid_step

CUTOFF_ANG = 6.5
TAPER_ANG = 1.0
"""Over this distance before the cutoff all functions of the distance go to zero without a jump."""
_N_R = 2001
_N_RHO = 5001
_HIGHEST_DENSITY = 4.0
"""By the largest ρ_e of the elements."""
_SMALLEST_RELATIVE_DENSITY = 1e-6

_Row = Mapping[str, float]


@lru_cache(maxsize=1)
def zjw04_rows() -> list[dict[str, str]]:
    """The table as it is, a row for each element and variant; the first row of an element is its default."""
    text = resources.files(__package__).joinpath("zjw04.csv").read_text()
    return list(csv.DictReader(io.StringIO(text)))


def zjw04_tables(elements: Sequence[str]) -> EamTables:
    """Functions of the elements' default rows on uniform grids.

    Raises:
        ConfigError: an element that the table does not have.
    """
    rows = [_row(symbol) for symbol in elements]
    dr = grid_step(CUTOFF_ANG, _N_R)
    r = np.arange(_N_R) * dr
    drho = _HIGHEST_DENSITY * max(row["rhoe"] for row in rows) / (_N_RHO - 1)
    end = _taper(r)
    densities = [row["fe"] * _damped(r, row["re"], row["beta"], row["lambda"]) for row in rows]
    pairs = [
        row["A"] * _damped(r, row["re"], row["alpha"], row["kappa"])
        - row["B"] * _damped(r, row["re"], row["beta"], row["lambda"])
        for row in rows
    ]
    mixed = [
        pairs[a] if a == b else 0.5 * (densities[b] / densities[a] * pairs[a] + densities[a] / densities[b] * pairs[b])
        for a in range(len(rows))
        for b in range(a, len(rows))
    ]
    return EamTables(
        elements=tuple(elements),
        cutoff_ang=CUTOFF_ANG,
        dr_ang=dr,
        drho=drho,
        embedding=np.array([_embedding(np.arange(_N_RHO) * drho, row) for row in rows]),
        density=end * np.array(densities),
        pair=end * np.array(mixed),
        dipole=None,
        quadrupole=None,
    )


def zjw04_fingerprint(elements: Sequence[str]) -> str:
    """Hash of all that decides the tables."""
    facts = [elements, [sorted(_row(s).items()) for s in elements], CUTOFF_ANG, TAPER_ANG, _N_R, _N_RHO]
    return hashlib.blake2b(f"zjw04 {facts}".encode(), digest_size=16).hexdigest()


def _row(symbol: str) -> _Row:
    for row in zjw04_rows():
        if row["species"] == symbol:
            names = [name for name in row if name not in ("species", "variant", "sources", "note")]
            return {name: float(row[name]) for name in names}
    known = ", ".join(dict.fromkeys(row["species"] for row in zjw04_rows()))
    raise ConfigError(f"the table of Zhou, Johnson and Wadley has no {symbol}; it has {known}")


def _damped(r: np.ndarray, unit: float, steepness: float, shift: float) -> np.ndarray:
    """exp(-steepness (x - 1)) / (1 + (x - shift)^20) with x = r / unit."""
    x = r / unit
    return np.asarray(np.exp(-steepness * (x - 1.0)) / (1.0 + (x - shift) ** 20))


def _taper(r: np.ndarray) -> np.ndarray:
    t = np.clip((r - (CUTOFF_ANG - TAPER_ANG)) / TAPER_ANG, 0.0, 1.0)
    return np.asarray(1.0 + t**3 * (-10.0 + t * (15.0 - 6.0 * t)))


def _embedding(density: np.ndarray, row: _Row) -> np.ndarray:
    def cubic(unit: float, names: Sequence[str]) -> np.ndarray:
        t = density / unit - 1.0
        c0, c1, c2, c3 = (row[name] for name in names)
        return np.asarray(c0 + t * (c1 + t * (c2 + t * c3)))

    inner = cubic(row["rhol"] * row["rhoe"], ("Fn0", "Fn1", "Fn2", "Fn3"))
    middle = cubic(row["rhoe"], ("F0", "F1", "F2", "F3"))
    log = np.log(np.maximum(density / row["rhos"], _SMALLEST_RELATIVE_DENSITY))
    outer = row["Fe"] * (1.0 - row["eta"] * log) * np.exp(row["eta"] * log)
    is_inner, is_outer = density < row["rhol"] * row["rhoe"], density >= row["rhoh"] * row["rhoe"]
    return np.where(is_inner, inner, np.where(is_outer, outer, middle))
