"""The settings of every oracle, told apart by their ``kind``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .bulk_modulus import BulkModulusSettings
from .elastic_tensor import ElasticTensorSettings
from .espresso import EspressoSettings
from .pair_model import PairModelSettings
from .relaxation import RelaxationSettings
from .single_point import SinglePointSettings
from .vacancy_migration import VacancyMigrationSettings

OracleSettings = Annotated[
    BulkModulusSettings
    | ElasticTensorSettings
    | RelaxationSettings
    | SinglePointSettings
    | EspressoSettings
    | PairModelSettings
    | VacancyMigrationSettings,
    Field(discriminator="kind"),
]
"""Settings of any oracle; ``.check(elements)`` finds what is wrong with them, ``.build()`` makes the oracle."""
