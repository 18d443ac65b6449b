"""All surrogates that a configuration can name by ``kind``, and reading any of them from a model file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from . import gaussian_process, polynomial
from .base import Surrogate, SurrogateError, SurrogateState
from .gaussian_process import GaussianProcess, GaussianProcessSettings
from .model_file import load_state, save_state
from .polynomial import Polynomial, PolynomialSettings

SurrogateSettings = Annotated[GaussianProcessSettings | PolynomialSettings, Field(discriminator="kind")]
"""Settings of a surrogate."""


def surrogate_from_state(state: SurrogateState) -> Surrogate:
    """The fitted surrogate of a state.

    Raises:
        SurrogateError: an unknown kind, or an incomplete state.
    """
    if state.kind == gaussian_process.KIND:
        return GaussianProcess.from_state(state)
    if state.kind == polynomial.KIND:
        return Polynomial.from_state(state)
    known = ", ".join((gaussian_process.KIND, polynomial.KIND))
    raise SurrogateError(f"unknown kind of surrogate {state.kind!r}; this program knows {known}")


def save_surrogate(surrogate: Surrogate, path: Path) -> None:
    """Write a fitted surrogate to a model file.

    Raises:
        SurrogateError: the file cannot be written.
    """
    save_state(surrogate.state(), path)


def load_surrogate(path: Path) -> Surrogate:
    """Read a fitted surrogate from a model file.

    Raises:
        SurrogateError: the file is missing, damaged, or of an unknown kind or version.
    """
    return surrogate_from_state(load_state(path))
