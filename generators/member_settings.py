"""The settings of every generator that stands by itself, and so may be a member of a portfolio."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .annealing import AnnealingSettings
from .cluster_expansion import ClusterExpansionSettings
from .composition_moves import CompositionMovesSettings
from .genetic import GeneticSettings
from .local_search import LocalSearchSettings
from .ordering_model.generator import OrderingModelSettings
from .pcdvae.generator import PcdvaeGeneratorSettings
from .random_orderings import RandomOrderingsSettings
from .surrogate_search import SurrogateSearchSettings

AnyMember = (
    RandomOrderingsSettings
    | LocalSearchSettings
    | CompositionMovesSettings
    | GeneticSettings
    | AnnealingSettings
    | SurrogateSearchSettings
    | OrderingModelSettings
    | PcdvaeGeneratorSettings
    | ClusterExpansionSettings
)
MemberSettings = Annotated[AnyMember, Field(discriminator="kind")]
"""Settings of any generator but a portfolio."""
