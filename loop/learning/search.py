"""What a search of a learning's settings found: one file in the folder of its round, and a part of the record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from ..errors import RunDirectoryError


@dataclass(frozen=True)
class TriedSettings:
    """Settings, and what came of a training with them.

    Attributes:
        parameters: dotted key -> value.
        error: on labels that it did not learn from; ``None`` where it failed.
        message: why it failed.
    """

    parameters: Mapping[str, Any]
    error: float | None
    message: str = ""


@dataclass(frozen=True)
class SettingsSearch:
    """A search.

    Attributes:
        n_labels: that there were, those for validation counted.
        n_validation: labels that trials were judged by.
        metric: the name of the errors.
        in_use: the settings before, which were tried as well; without parameters they are the configuration's.
        trials: the others, in the order in which they were chosen.
        parameters: the settings from now on.
        error: of these; ``None`` where all failed.
    """

    n_labels: int
    n_validation: int
    metric: str
    in_use: TriedSettings
    trials: tuple[TriedSettings, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    error: float | None = None

    def as_json(self) -> bytes:
        """The search as it is stored."""
        return orjson.dumps(self, option=orjson.OPT_INDENT_2)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> SettingsSearch:
        """Of what :meth:`as_json` wrote.

        Raises:
            KeyError, TypeError: it is something else.
        """
        parts = {
            "in_use": TriedSettings(**plain["in_use"]),
            "trials": tuple(TriedSettings(**trial) for trial in plain["trials"]),
        }
        return cls(**{**plain, **parts})


def read_search(path: Path) -> SettingsSearch | None:
    """The search of a round; ``None`` where there was none.

    Raises:
        RunDirectoryError: the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        return SettingsSearch.from_plain(orjson.loads(path.read_bytes()))
    except (orjson.JSONDecodeError, TypeError, KeyError) as error:
        raise RunDirectoryError(f"{path} is damaged ({error}); restore it, or remove its round's folder") from error


def read_tried(path: Path) -> TriedSettings:
    """A trial of a search that is under way.

    Raises:
        RunDirectoryError: the file is damaged.
    """
    try:
        return TriedSettings(**orjson.loads(path.read_bytes()))
    except (OSError, orjson.JSONDecodeError, TypeError) as error:
        raise RunDirectoryError(f"{path} is damaged ({error}); remove it") from error
