"""Other values for single settings of a fit's configuration, by dotted key."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from ..errors import ConfigError
from .config_errors import explain
from .fitting import FitConfig
from .potential_fitting import PotentialFitConfig
from .yaml_source import YamlSource

AnyFit = PotentialFitConfig | FitConfig
"""The configuration of a fit of any kind."""


def fit_config(fit: AnyFit, parameters: Mapping[str, Any]) -> AnyFit:
    """The configuration of the fit with other values.

    Args:
        parameters: dotted key -> value.

    Raises:
        ConfigError: it does not take these values.
    """
    data = plain_fit(fit)
    for key, value in parameters.items():
        _set(data, fit, key, value)
    try:
        return type(fit).model_validate(data)
    except ValidationError as error:
        source = YamlSource("the fit", data)
        raise ConfigError("; ".join(explain(error, type(fit), source))) from error


def key_of(parameters: Mapping[str, Any]) -> str:
    """The same text for equal values, whatever their order."""
    return json.dumps(parameters, sort_keys=True, default=str)


def plain_fit(fit: AnyFit) -> dict[str, Any]:
    """As it was written: what was left out stays out."""
    return fit.model_dump(mode="json", exclude_unset=True)


def _set(data: Any, settings: Any, key: str, value: Any) -> None:
    """Set a dotted key; numbers are places in lists, and sections that were left out are begun with their default kind.

    Args:
        settings: those that ``data`` was made of.

    Raises:
        ConfigError: the way leads through something that has no such place.
    """
    *parents, last = key.split(".")
    node = data
    for depth, name in enumerate(parents):
        place = _place(node, name, ".".join(parents[: depth + 1]))
        is_item = isinstance(place, int) and isinstance(settings, tuple)
        settings = settings[int(place)] if is_item else getattr(settings, name, None)
        if isinstance(place, str) and node.get(place) is None:
            kind = getattr(settings, "kind", None)
            node[place] = [] if isinstance(settings, tuple) else {} if kind is None else {"kind": kind}
        node = node[place]
    node[_place(node, last, key)] = copy.deepcopy(value)


def _place(node: Any, name: str, key: str) -> str | int:
    if isinstance(node, dict):
        return name
    if isinstance(node, list) and name.isdecimal() and int(name) < len(node):
        return int(name)
    what = f"a list of {len(node)}" if isinstance(node, list) else f"inside {node!r}, which has no keys"
    raise ConfigError(f"{key} is not there: {name!r} is to be looked up in {what}")


def refusal(fit: AnyFit, key: str, value: Any) -> str:
    """Why the fit does not take a value; contradictions with other settings, which may change too, do not count."""
    data = plain_fit(fit)
    try:
        _set(data, fit, key, value)
        type(fit).model_validate(data)
    except ConfigError as error:
        return str(error)
    except ValidationError as error:
        if all(details["type"] == "value_error" for details in error.errors(include_url=False)):
            return ""
        lines = explain(error, type(fit), YamlSource("", data))
        return "; ".join(line.removeprefix(f"{key}: ") for line in lines)
    return ""
