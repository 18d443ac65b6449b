"""What is wrong with a configuration, said in a way that helps: full key, line, allowed values, "did you mean"."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from .yaml_source import KeyPath, YamlSource


def explain(error: ValidationError, model: Any, source: YamlSource) -> list[str]:
    """One line for each thing that is wrong.

    Args:
        error: what pydantic found.
        model: the type that was validated against.
        source: the data, with the lines it came from.
    """
    problems: dict[KeyPath, list[str]] = {}
    for details in error.errors(include_url=False):
        path = _data_path(details, source.data)
        message = _message(details, path, model, source)
        if message not in problems.setdefault(path, []):
            problems[path].append(message)
    return [_line(path, messages, source) for path, messages in problems.items()]


def dotted(path: KeyPath) -> str:
    """``("a", "b", 0)`` as ``a.b[0]``."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def _line(path: KeyPath, messages: Sequence[str], source: YamlSource) -> str:
    origin = source.origin(path)
    where = f"{origin}: " if origin else ""
    name = f"{dotted(path)}: " if path else ""
    return f"{where}{name}{'; or '.join(messages)}"


def _data_path(details: ErrorDetails, data: Any) -> KeyPath:
    """The error's location without the names of union members, which pydantic puts in and nobody wrote."""
    path: list[str | int] = []
    node = data
    last = len(details["loc"]) - 1
    for depth, key in enumerate(details["loc"]):
        is_written = key in node if isinstance(node, dict) else isinstance(node, list) and isinstance(key, int)
        if is_written:
            path.append(key)
            node = _child(node, key)
        elif depth == last and details["type"] == "missing":
            path.append(key)
    if details["type"] in ("union_tag_invalid", "union_tag_not_found") and isinstance(node, dict):
        path.append("kind")
    return tuple(path)


def _message(details: ErrorDetails, path: KeyPath, model: Any, source: YamlSource) -> str:
    kind = details["type"]
    if kind == "extra_forbidden":
        return f"unknown key{_suggest_key(path, model, source.data)}"
    if kind == "missing":
        return f"is missing{_describe(path, model, source.data)}"
    if kind == "union_tag_not_found":
        return f"is missing; one of {_tags(path, model, source.data)}"
    if kind == "union_tag_invalid":
        got = details["ctx"]["tag"]
        tags = _tags(path, model, source.data)
        return f"{got!r} is not one of {tags}{_did_you_mean(str(got), tags.split(', '))}"
    text = details["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if kind in ("value_error", "assertion_error"):
        return text
    value = details["input"]
    shown = repr(value) if len(repr(value)) <= 60 else f"a {type(value).__name__}"
    suggestion = ""
    if kind == "literal_error" and isinstance(value, str):
        suggestion = _did_you_mean(value, [part.strip("' ") for part in text.replace(" or ", ",").split(",")])
    return f"got {shown}, {text}{suggestion}"


def _suggest_key(path: KeyPath, model: Any, data: Any) -> str:
    *parents, key = path
    fields = _fields(tuple(parents), model, data)
    here = _did_you_mean(str(key), list(fields))
    if here:
        return here
    elsewhere = [p for p in _all_paths(model, data, ()) if p[-1] == key]
    if elsewhere:
        return f"; did you mean {dotted(min(elsewhere, key=len))}?"
    return f"; allowed here: {', '.join(sorted(fields))}" if fields else ""


def _did_you_mean(got: str, allowed: Sequence[str]) -> str:
    close = difflib.get_close_matches(got, allowed, n=1, cutoff=0.55)
    return f"; did you mean {close[0]}?" if close else ""


def _describe(path: KeyPath, model: Any, data: Any) -> str:
    field = _fields(path[:-1], model, data).get(str(path[-1]))
    text = field.description if field is not None else None
    return f" ({text.split('. ')[0].rstrip('.')})" if text else ""


def _tags(path: KeyPath, model: Any, data: Any) -> str:
    members = [member for annotation in _types(path[:-1], model, data) for member in _members(annotation)]
    return ", ".join(tag for member in members if (tag := _kind(member)) is not None)


def _fields(path: KeyPath, model: Any, data: Any) -> Mapping[str, Any]:
    """The fields allowed at ``path``; those of the chosen kind where there is a choice."""
    node = _node(path, data)
    fields: dict[str, Any] = {}
    for annotation in _types(path, model, data):
        for member in _chosen(annotation, node):
            fields.update(member.model_fields)
    return fields


def _types(path: KeyPath, model: Any, data: Any) -> list[Any]:
    """The type annotations that hold at ``path``."""
    annotations: list[Any] = [model]
    node = data
    for key in path:
        below: list[Any] = []
        for annotation in annotations:
            for member in _alternatives(annotation):
                if isinstance(member, type) and issubclass(member, BaseModel):
                    if member in _chosen(annotation, node) and str(key) in member.model_fields:
                        below.append(_field_type(member, str(key)))
                elif get_args(member):  # the values of a mapping, the items of a list or tuple
                    below.extend(a for a in get_args(member)[-1:] if a is not Ellipsis)
                    below.extend(a for a in get_args(member)[:1] if get_args(member)[-1] is Ellipsis)
        annotations = below
        node = _child(node, key)
    return annotations


def _field_type(model: type[BaseModel], name: str) -> Any:
    return model.model_fields[name].annotation


def _alternatives(annotation: Any) -> Iterator[Any]:
    """The members of a union, or the type itself; ``Annotated`` is looked through."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _alternatives(member)
    else:
        yield annotation


def _members(annotation: Any) -> list[type[BaseModel]]:
    return [a for a in _alternatives(annotation) if isinstance(a, type) and issubclass(a, BaseModel)]


def _chosen(annotation: Any, node: Any) -> list[type[BaseModel]]:
    members = _members(annotation)
    if isinstance(node, dict) and len(members) > 1 and "kind" in node:
        return [member for member in members if _kind(member) == node["kind"]]
    return members


def _kind(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("kind")
    if field is None or get_origin(field.annotation) is not Literal:
        return None
    return str(get_args(field.annotation)[0])


def _all_paths(model: Any, data: Any, path: KeyPath) -> Iterator[KeyPath]:
    for member in _chosen(model, data):
        for name in member.model_fields:
            yield (*path, name)
            yield from _all_paths(_field_type(member, name), _child(data, name), (*path, name))


def _node(path: KeyPath, data: Any) -> Any:
    for key in path:
        data = _child(data, key)
    return data


def _child(node: Any, key: str | int) -> Any:
    if isinstance(node, dict):
        return node.get(key)
    if isinstance(node, list) and isinstance(key, int) and key < len(node):
        return node[key]
    return None
