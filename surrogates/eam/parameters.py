"""Parameters of ZJW04 functions: the published tables, files of one's own, and changes to single values.

A set has a row for each element (``Ni``) and, where they exist, for pairs (``Mo-Ni``: free cross terms of Eq. 16;
``Mo-Mo``: the angular functions of Eqs. 23 and 24). Files are tables of comma-separated values with a column
``species`` and one for each parameter, as the tables in this package are; what a row does not have is left empty.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from ...oracles.zjw04 import zjw04_rows
from ..base import SurrogateError

RADIAL = ("re", "fe", "alpha", "beta", "A", "B", "kappa", "lambda")
"""Parameters of an element's density and pair function, Eqs. 15 and 16."""
EMBEDDING = ("rhoe", "rhos", "Fn0", "Fn1", "Fn2", "Fn3", "F0", "F1", "F2", "F3", "eta", "Fe", "rhol", "rhoh")
"""Parameters of an element's embedding function, Eq. 18; ``rhol`` and ``rhoh`` are its two bounds by ρ_e."""
CROSS = ("re", "alpha", "beta", "A", "B", "kappa", "lambda")
"""Parameters of the pair function between two elements, Eq. 16."""
ANGULAR = ("d1", "d2", "d3", "q1", "q2", "q3", "rc", "h")
"""Parameters of the angular functions of a pair, Eqs. 23 to 25; ``rc`` and ``h`` are r_0 and r_h in Å."""
POSITIVE = frozenset({"re", "fe", "alpha", "beta", "A", "B", "rhoe", "rhos", "rhol", "rhoh", "rc", "h"})
"""Parameters that make sense only above zero."""

_ELEMENT = RADIAL + EMBEDDING
_DEFAULTS = {"rhol": 0.85, "rhoh": 1.15}
_NAMES = frozenset(_ELEMENT + CROSS + ANGULAR)


@dataclass(frozen=True)
class EamParameters:
    """A set of parameters.

    Attributes:
        elements: by chemical symbol, values of :data:`RADIAL` and :data:`EMBEDDING`.
        cross: by pair of different symbols in alphabetical order, values of :data:`CROSS`.
        angular: by pair of symbols in alphabetical order, values of :data:`ANGULAR`.
    """

    elements: Mapping[str, Mapping[str, float]]
    cross: Mapping[tuple[str, str], Mapping[str, float]] = field(default_factory=dict)
    angular: Mapping[tuple[str, str], Mapping[str, float]] = field(default_factory=dict)

    def require(self, elements: Sequence[str], source: str) -> None:
        """Check that the set has all elements.

        Raises:
            SurrogateError: it does not.
        """
        missing = [symbol for symbol in elements if symbol not in self.elements]
        if missing:
            raise SurrogateError(
                f"{source} has no parameters for {', '.join(missing)}; it has {', '.join(sorted(self.elements))}. "
                "Give a file of parameters or overrides for every parameter of these elements"
            )

    def with_values(self, overrides: Mapping[str, Mapping[str, float]]) -> EamParameters:
        """A copy in which single values are replaced or added; keys are species as in a file: ``Ni``, ``Mo-Ni``.

        Raises:
            SurrogateError: a parameter's name is unknown, a value is impossible, or an added row is incomplete.
        """
        rows = _rows_of(self)
        for species, values in overrides.items():
            key = _species(species, "overrides")
            rows[key] = {**rows.get(key, {}), **values}
        return _from_rows(rows, "overrides")


def pair_key(first: str, second: str) -> tuple[str, str]:
    """Two symbols in alphabetical order."""
    return (first, second) if first <= second else (second, first)


def zjw04(variants: Mapping[str, str] | None = None) -> EamParameters:
    """The table of Zhou, Johnson and Wadley with later additions in its form.

    Args:
        variants: by chemical symbol, which row to take where sources differ; :func:`zjw04_variants` lists them.

    Raises:
        SurrogateError: an element or a variant that the table does not have.
    """
    variants = dict(variants or {})
    known = zjw04_variants()
    for symbol, variant in variants.items():
        if variant not in known.get(symbol, ()):
            choices = ", ".join(f"{s}: {'/'.join(v)}" for s, v in sorted(known.items()) if len(v) > 1)
            raise SurrogateError(f"the ZJW04 table has no variant {variant!r} of {symbol}; it has {choices}")
    rows: dict[tuple[str, ...], dict[str, float]] = {}
    for row in zjw04_rows():
        symbol = row["species"]
        if row["variant"] == variants.get(symbol, known[symbol][0]):
            rows[(symbol,)] = _values(row, "zjw04.csv")
    return _from_rows(rows, "zjw04.csv")


def zjw04_variants() -> dict[str, tuple[str, ...]]:
    """Variants of each element of the ZJW04 table, the default first."""
    found: dict[str, list[str]] = {}
    for row in zjw04_rows():
        found.setdefault(row["species"], []).append(row["variant"])
    return {symbol: tuple(variants) for symbol, variants in found.items()}


def published_names() -> tuple[str, ...]:
    """Names of the parameter sets of Chen et al."""
    return tuple(dict.fromkeys(row["set"] for row in _package_table("published.csv")))


def published(name: str) -> EamParameters:
    """A set of the appendix of Chen et al.: ``ml-eam-ni``, ``ml-eam-mo``, ``ml-adp-mo``, ``ml-eam-nimo``, ….

    Raises:
        SurrogateError: there is no such set.
    """
    rows = {
        _species(row["species"], name): _values(row, name)
        for row in _package_table("published.csv")
        if row["set"] == name
    }
    if not rows:
        raise SurrogateError(f"there is no published set {name!r}; there are {', '.join(published_names())}")
    return _from_rows(rows, name)


def read_parameters(path: Path) -> EamParameters:
    """Read a file of parameters; see the module's text for its form.

    Raises:
        SurrogateError: the file is missing, not a table, or holds unknown, impossible or incomplete values.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SurrogateError(f"cannot read the parameters {path}: {error}") from error
    reader = csv.DictReader(io.StringIO(text))
    if "species" not in (reader.fieldnames or ()):
        raise SurrogateError(f"{path} has no column 'species'; it needs one, and one for each parameter")
    rows: dict[tuple[str, ...], dict[str, float]] = {}
    for row in reader:
        key = _species(row["species"] or "", str(path))
        rows[key] = {**rows.get(key, {}), **_values(row, str(path))}
    if not rows:
        raise SurrogateError(f"{path} has no rows")
    return _from_rows(rows, str(path))


def write_parameters(parameters: EamParameters, path: Path) -> None:
    """Write a file that :func:`read_parameters` reads back with identical values.

    Raises:
        SurrogateError: the file cannot be written.
    """
    columns = ("species", *dict.fromkeys(_ELEMENT + CROSS + ANGULAR))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    for key, values in _rows_of(parameters).items():
        writer.writerow({"species": "-".join(key), **{name: repr(value) for name, value in values.items()}})
    try:
        path.write_text(buffer.getvalue())
    except OSError as error:
        raise SurrogateError(f"cannot write the parameters {path}: {error}") from error


def _package_table(name: str) -> list[dict[str, str]]:
    text = resources.files(__package__).joinpath(name).read_text()
    return list(csv.DictReader(io.StringIO(text)))


def _values(row: Mapping[str, str | None], source: str) -> dict[str, float]:
    values = {}
    for name, text in row.items():
        if name in _NAMES and text:
            try:
                values[name] = float(text)
            except ValueError as error:
                raise SurrogateError(
                    f"{source}: {name} of {row.get('species')} is {text!r}, which is no number"
                ) from error
    return values


def _species(text: str, source: str) -> tuple[str, ...]:
    symbols = text.strip().split("-")
    if not 1 <= len(symbols) <= 2 or not all(s.isalpha() for s in symbols):
        raise SurrogateError(f"{source}: {text!r} is neither an element (Ni) nor a pair of elements (Mo-Ni)")
    return tuple(sorted(symbols))


def _rows_of(parameters: EamParameters) -> dict[tuple[str, ...], dict[str, float]]:
    rows: dict[tuple[str, ...], dict[str, float]] = {(s,): dict(v) for s, v in parameters.elements.items()}
    for table in (parameters.cross, parameters.angular):
        for pair, values in table.items():
            rows[pair] = {**rows.get(pair, {}), **values}
    return rows


def _from_rows(rows: Mapping[tuple[str, ...], Mapping[str, float]], source: str) -> EamParameters:
    elements, cross, angular = {}, {}, {}
    for key, values in rows.items():
        name = "-".join(key)
        unknown = sorted(set(values) - _NAMES)
        if unknown:
            raise SurrogateError(f"{source}: {name} has unknown parameters {', '.join(unknown)}")
        bad = [f"{k} = {v}" for k, v in values.items() if not abs(v) < 1e300 or (k in POSITIVE and v <= 0)]
        if bad:
            raise SurrogateError(f"{source}: {name} has {', '.join(bad)}; it must be finite and, here, above zero")
        if len(key) == 1:
            elements[key[0]] = _complete({**_DEFAULTS, **values}, _ELEMENT, name, source)
            continue
        pair = pair_key(*key)
        if pair[0] != pair[1] and set(values) & set(CROSS):
            cross[pair] = _complete(values, CROSS, name, source)
        if set(values) & set(ANGULAR):
            angular[pair] = _complete(values, ANGULAR, name, source)
    return EamParameters(elements, cross, angular)


def _complete(values: Mapping[str, float], names: Sequence[str], species: str, source: str) -> dict[str, float]:
    missing = [name for name in names if name not in values]
    if missing:
        raise SurrogateError(f"{source}: {species} lacks {', '.join(missing)}")
    return {name: float(values[name]) for name in names}
