"""JSON files that are whole whenever a process dies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from ...structures.whole_file import write_whole
from ..base import FailureKind, OracleError


def write_json(path: Path, content: Any) -> None:
    """Replace a file by JSON; afterwards it holds either the old content or the new, whatever happens meanwhile.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    write_whole(path, orjson.dumps(content, option=orjson.OPT_INDENT_2))


def read_json(path: Path) -> Any:
    """Content of a file that :func:`write_json` wrote, or ``None`` where there is none.

    Raises:
        OracleError: ``corrupt_output`` when it is damaged.
    """
    try:
        return orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except orjson.JSONDecodeError as error:
        raise OracleError(
            FailureKind.CORRUPT_OUTPUT, f"{path} is damaged ({error}); delete it to begin this part anew"
        ) from error
