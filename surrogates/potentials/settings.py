"""All models that a configuration can name by ``kind``, and reading any potential from a model file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from ase import Atoms
from pydantic import Field

from ..base import SurrogateError, SurrogateState
from ..deeppot import settings as deeppot
from ..deeppot.settings import DeepPotSettings, deeppot_from_state
from ..eam import settings as eam
from ..eam.settings import EamSettings, eam_from_state
from ..model_file import load_state, save_state
from . import committee
from .base import Potential
from .committee import Committee, member_states
from .core_repulsion import core_radii

ModelSettings = Annotated[EamSettings | DeepPotSettings, Field(discriminator="kind")]
"""Settings of a model, by ``kind``."""


def core_of(settings: ModelSettings, structures: Sequence[Atoms], elements: Sequence[str]) -> dict[str, float]:
    """``core_ang`` of a potential with these settings that learns from these structures; mostly none.

    Raises:
        SurrogateError: an element that the potential lacks.
    """
    has_core = isinstance(settings, DeepPotSettings) and settings.core == "zbl"
    return core_radii(structures, elements) if has_core else {}


_KINDS = (eam.KIND, deeppot.KIND, committee.KIND)


def is_potential(state: SurrogateState) -> bool:
    """Whether a state is a potential's, rather than another surrogate's."""
    return state.kind in _KINDS


def potential_from_state(state: SurrogateState) -> Potential:
    """The fitted potential of a state.

    Raises:
        SurrogateError: an unknown kind, or an incomplete state.
    """
    if state.kind == eam.KIND:
        return eam_from_state(state)
    if state.kind == deeppot.KIND:
        return deeppot_from_state(state)
    if state.kind == committee.KIND:
        return Committee(tuple(potential_from_state(member) for member in member_states(state)))
    raise SurrogateError(f"a model of kind {state.kind!r} is no interatomic potential; those are {', '.join(_KINDS)}")


def save_potential(potential: Potential, path: Path) -> None:
    """Write a fitted potential to a model file.

    Raises:
        SurrogateError: the file cannot be written.
    """
    save_state(potential.state(), path)


def load_potential(path: Path) -> Potential:
    """Read a fitted potential from a model file.

    Raises:
        SurrogateError: the file is missing, damaged, or holds no potential of a kind and version known here.
    """
    return potential_from_state(load_state(path))
