"""The errors of running a campaign."""

from __future__ import annotations

from ..errors import AlloysmithError


class RunDirectoryError(AlloysmithError):
    """A run directory cannot be used: it exists, is in use, cannot be written, is full, or its log is damaged."""


class CampaignError(AlloysmithError):
    """A campaign cannot go on: its agent asked for something that is not there."""
