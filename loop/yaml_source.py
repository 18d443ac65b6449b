"""YAML files as plain data that remembers where each value was written."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError

KeyPath = tuple[str | int, ...]


@dataclass
class YamlSource:
    """Plain data with the origin of each value.

    Attributes:
        name: what to call it in messages, usually the file.
        data: the parsed mapping.
        origins: path of keys -> where it was written (``"line 12"``, ``"--set budget.wall_s=60"``).
    """

    name: str
    data: dict[str, Any]
    origins: dict[KeyPath, str] = field(default_factory=dict)

    def origin(self, path: KeyPath) -> str:
        """Where ``path``, or the nearest thing around it, was written; empty when nobody wrote it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return ""

    def override(self, assignment: str) -> None:
        """Apply ``"dotted.key=value"``, the value parsed as YAML.

        Raises:
            ConfigError: no ``=``, a value that is not YAML, or a key below something that is not a mapping.
        """
        key, separator, text = assignment.partition("=")
        keys = key.strip().split(".")
        if not separator or not all(keys):
            raise ConfigError(f"--set {assignment}: write key=value, dots for depth: budget.n_evaluations=50")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {assignment}: the value is not YAML: {_problem(error)}") from error
        node = self.data
        for depth, name in enumerate(keys[:-1]):
            child = node.setdefault(name, {})
            if not isinstance(child, dict):
                parent = ".".join(keys[: depth + 1])
                raise ConfigError(f"--set {assignment}: {parent} is {child!r}, it has no keys to set")
            node = child
        node[keys[-1]] = value
        self._mark(tuple(keys), value, f"--set {assignment}")

    def merge(self, other: YamlSource) -> None:
        """Lay ``other`` over this: its values win, mappings are merged."""
        _merge(self.data, other.data)
        for path, origin in other.origins.items():
            self.origins[path] = f"{other.name} {origin}"

    def _mark(self, path: KeyPath, value: Any, origin: str) -> None:
        for old in [old for old in self.origins if old[: len(path)] == path]:
            del self.origins[old]
        self.origins[path] = origin
        if isinstance(value, dict):
            for key, child in value.items():
                self._mark((*path, key), child, origin)


def read_yaml(path: Path) -> YamlSource:
    """Read a YAML file whose top level is a mapping.

    Raises:
        ConfigError: the file cannot be read, is not YAML, names a key twice, or is not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist{_similar_file(path)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path} is not YAML: {_problem(error)}") from error
    if not isinstance(data, dict):
        got = "empty" if data is None else f"a {type(data).__name__}"
        raise ConfigError(f"{path} is {got}; a configuration is a mapping of keys to values")
    source = YamlSource(str(path), data)
    if root is not None:
        _record_lines(root, (), source)
    return source


def _record_lines(node: yaml.Node, path: KeyPath, source: YamlSource) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key_node, child in node.value:
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if key in seen:
                where = ".".join(map(str, (*path, key)))
                raise ConfigError(f"{source.name}: {where} is given twice, in lines {seen[key]} and {line}; keep one")
            seen[key] = line
            source.origins[(*path, key)] = f"line {line}"
            _record_lines(child, (*path, key), source)
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            source.origins[(*path, index)] = f"line {child.start_mark.line + 1}"
            _record_lines(child, (*path, index), source)


def _merge(base: dict[str, Any], top: Mapping[str, Any]) -> None:
    for key, value in top.items():
        present = base.get(key)
        if isinstance(present, dict) and isinstance(value, Mapping):
            _merge(present, value)
        else:
            base[key] = value


def _similar_file(path: Path) -> str:
    folder = path.parent
    names = [p.name for p in folder.iterdir() if p.suffix in (".yaml", ".yml")] if folder.is_dir() else []
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {folder / close[0]}?" if close else ""


def _problem(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return str(error)
