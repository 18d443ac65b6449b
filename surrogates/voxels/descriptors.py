"""Descriptors of users: formulas for what an atom puts into the voxels.

Eq. 3 of the paper weights each atom's Gaussian with its atomic number, and lets users define other descriptors "to
account for structural, chemical, electronic or other characteristics". A formula is arithmetic on numbers of the atom,
not Python: it is checked name by name, so that a configuration or a model file of somebody else cannot do anything.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from ase.data import atomic_masses, covalent_radii

from ..base import SurrogateError

VARIABLES: Mapping[str, str] = MappingProxyType(
    {
        "Z": "atomic number",
        "mass": "atomic mass, u",
        "radius": "covalent radius, Å",
        "r": "distance from the atom in the centre, Å; 0 for this atom itself",
    }
)
"""What formulas can use."""

_FUNCTIONS: Mapping[str, Callable[..., np.ndarray]] = MappingProxyType(
    {
        "abs": np.abs,
        "cos": np.cos,
        "exp": np.exp,
        "log": np.log,
        "max": np.maximum,
        "min": np.minimum,
        "sin": np.sin,
        "sqrt": np.sqrt,
        "where": np.where,
    }
)
_BINARY: Mapping[type[ast.AST], Callable[..., np.ndarray]] = MappingProxyType(
    {
        ast.Add: np.add,
        ast.Sub: np.subtract,
        ast.Mult: np.multiply,
        ast.Div: np.divide,
        ast.Pow: np.power,
        ast.Eq: np.equal,
        ast.NotEq: np.not_equal,
        ast.Lt: np.less,
        ast.LtE: np.less_equal,
        ast.Gt: np.greater,
        ast.GtE: np.greater_equal,
    }
)


def check_formula(text: str) -> None:
    """Check that a text is a formula.

    Raises:
        ValueError: it is none; says what is wrong with it and what is allowed.
    """
    ones = {name: np.ones(1) for name in VARIABLES}
    with np.errstate(all="ignore"):
        _evaluate(_parsed(text), ones, text)


def formula_values(text: str, numbers: np.ndarray, distances_ang: np.ndarray) -> np.ndarray:
    """Values of a formula for atoms.

    Args:
        numbers: int ``[n]``, atomic numbers.
        distances_ang: ``[n]``, from the atom in the centre, Å.

    Returns:
        float64 ``[n]``; comparisons give 1 and 0.

    Raises:
        ValueError: it is no formula.
        SurrogateError: a value is not finite.
    """
    variables = {
        "Z": numbers.astype(float),
        "mass": atomic_masses[numbers],
        "radius": covalent_radii[numbers],
        "r": distances_ang,
    }
    with np.errstate(all="ignore"):
        values = np.broadcast_to(np.asarray(_evaluate(_parsed(text), variables, text), dtype=float), numbers.shape)
    bad = ~np.isfinite(values)
    if bad.any():
        first = int(np.argmax(bad))
        raise SurrogateError(
            f"the descriptor {text!r} is {values[first]} for Z = {numbers[first]}, r = {distances_ang[first]:.4g} Å; "
            "write it so that it is finite for all atoms, such as where(r > 0, 1 / max(r, 1), 0)"
        )
    return np.array(values)


def _parsed(text: str) -> ast.expr:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"{text!r} is no formula; {_ALLOWED}") from None


def _evaluate(node: ast.expr, variables: Mapping[str, np.ndarray], text: str) -> np.ndarray:
    def value(inner: ast.expr) -> np.ndarray:
        return _evaluate(inner, variables, text)

    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return np.asarray(float(number))
        case ast.Name(id=name) if name in variables:
            return variables[name]
        case ast.UnaryOp(op=ast.USub()):
            return np.negative(value(node.operand))
        case ast.BinOp() if type(node.op) in _BINARY:
            return _BINARY[type(node.op)](value(node.left), value(node.right))
        case ast.Compare(ops=[operator], comparators=[right]) if type(operator) in _BINARY:
            return np.asarray(_BINARY[type(operator)](value(node.left), value(right)), dtype=float)
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name in _FUNCTIONS:
            try:
                return _FUNCTIONS[name](*(value(argument) for argument in node.args))
            except (TypeError, ValueError):
                raise ValueError(f"{name} in {text!r} has {len(node.args)} arguments, which it does not take") from None
    raise ValueError(f"{ast.unparse(node)!r} in {text!r} is not allowed; {_ALLOWED}")


_ALLOWED = (
    f"a formula has numbers, {', '.join(VARIABLES)}, + - * / **, comparisons, and the functions {', '.join(_FUNCTIONS)}"
)
