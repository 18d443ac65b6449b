"""The root of the package's exceptions.

Every error that a user can cause or meet derives from :class:`AlloysmithError`; the command line prints it as
one message without a traceback. A message says what was got, what is allowed, and what to do about it.
"""

from __future__ import annotations


class AlloysmithError(Exception):
    """Base of all errors raised by the package on purpose."""

    exit_code: int = 1
    """Exit status of the command line when this error ends it."""


class ConfigError(AlloysmithError):
    """The configuration cannot be used: an unknown key, an impossible value, a missing file."""

    exit_code = 2


class StructureError(AlloysmithError):
    """A structure, composition or structure file cannot be used."""

    exit_code = 2
