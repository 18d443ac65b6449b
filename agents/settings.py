"""All agents that a configuration can name by ``kind``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .bayesian import BayesianSettings
from .direct import DirectSettings

AgentSettings = Annotated[BayesianSettings | DirectSettings, Field(discriminator="kind")]
"""Settings of an agent."""
