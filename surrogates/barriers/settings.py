"""All barrier models that a configuration can name by ``kind``, and reading any of them from a model file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import Field, TypeAdapter

from ..base import SurrogateError, SurrogateState
from . import boosted_trees, committee, network_model, ridge
from .base import BarrierModel
from .boosted_trees import BoostedTrees, BoostedTreesSettings
from .cnn import CnnSettings
from .committee import BarrierCommittee, committee_from_state
from .dense_network import DenseNetworkSettings
from .lattice_network import LatticeNetworkSettings
from .network_model import NetworkModel, network_from_state
from .ridge import Ridge, RidgeSettings

NetworkKinds = Annotated[CnnSettings | DenseNetworkSettings | LatticeNetworkSettings, Field(discriminator="kind")]
"""Settings of networks."""

BarrierSettings = Annotated[
    RidgeSettings | BoostedTreesSettings | CnnSettings | DenseNetworkSettings | LatticeNetworkSettings,
    Field(discriminator="kind"),
]
"""Settings of a barrier model."""


def _read_network(state: SurrogateState) -> NetworkModel:
    return network_from_state(state, TypeAdapter(NetworkKinds).validate_python)


def _read_committee(state: SurrogateState) -> BarrierCommittee:
    return committee_from_state(state, barrier_model_from_state)


_READERS: dict[str, Callable[[SurrogateState], BarrierModel]] = {
    ridge.KIND: Ridge.from_state,
    boosted_trees.KIND: BoostedTrees.from_state,
    network_model.KIND: _read_network,
    committee.KIND: _read_committee,
}


def is_barrier_model(state: SurrogateState) -> bool:
    """Whether a model file holds a barrier model."""
    return state.kind in _READERS


def barrier_model_from_state(state: SurrogateState) -> BarrierModel:
    """The fitted model of a state.

    Raises:
        SurrogateError: an unknown kind, or an incomplete state.
    """
    if state.kind not in _READERS:
        raise SurrogateError(f"{state.kind!r} is no kind of barrier model; this program knows {', '.join(_READERS)}")
    return _READERS[state.kind](state)
