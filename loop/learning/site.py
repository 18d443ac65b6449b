"""The place of work of a potential's learning."""

from __future__ import annotations

from ..rounds.site import Workplace
from .config import LearningConfig
from .rounds import RoundFolder

Site = Workplace[LearningConfig, RoundFolder]
