"""`alloysmith init`: a configuration to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import orjson
import typer

from ...errors import ConfigError
from ..config import json_schema, load_config
from .arguments import find_config
from .console import output

_CONFIG_NAME = "campaign.yaml"
_SCHEMA_NAME = "campaign.schema.json"


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write; made if it is not there.")] = Path(),
    template: Annotated[
        str, typer.Option("--from", metavar="CONFIG", help="The configuration to start from.")
    ] = "nifecr_quickstart",
) -> None:
    """Write a starter configuration with comments.

    Writes campaign.yaml and the JSON schema that lets editors complete and check it.

    Example: alloysmith init my-alloy --from nifecr_bulk_modulus
    """
    source = find_config(template)
    load_config(source)
    target = folder / _CONFIG_NAME
    if target.exists():
        raise ConfigError(f"{target} exists already; choose another folder, or move it away")
    folder.mkdir(parents=True, exist_ok=True)
    text = source.read_text(encoding="utf-8")
    target.write_text(f"# yaml-language-server: $schema={_SCHEMA_NAME}\n{text}", encoding="utf-8")
    (folder / _SCHEMA_NAME).write_bytes(orjson.dumps(json_schema(), option=orjson.OPT_INDENT_2))
    console = output()
    console.print(f"wrote {target} and {folder / _SCHEMA_NAME}")
    console.print(
        f"next: edit {target}, then\n  alloysmith plan {target}\n  alloysmith run {target} --run-dir runs/first"
    )
