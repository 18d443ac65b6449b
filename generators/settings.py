"""The settings of every generator, told apart by their ``kind``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .member_settings import AnyMember
from .portfolio import PortfolioSettings

GeneratorSettings = Annotated[AnyMember | PortfolioSettings, Field(discriminator="kind")]
"""Settings of any generator; ``.build(name, space)`` makes it."""
