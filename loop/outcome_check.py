"""What a worker hands back is checked before it is written down: a line that cannot be applied would spoil the log."""

from __future__ import annotations

import numpy as np
import orjson

from ..generators.base import Failure
from ..oracles.base import FailureKind, Label
from .encoding import encode_value

_MAX_CHARACTERS = 2000


def recordable(result: Label | Failure, wanted: str) -> Label | Failure:
    """``result`` if it can be recorded and compared, else the failure that says why not.

    Args:
        result: what an evaluation gave.
        wanted: property of the objective, which has to be one finite number.
    """
    if isinstance(result, Failure):
        return _recordable_failure(result)
    value = np.asarray(result.values.get(wanted, np.nan))
    if value.ndim != 0 or value.dtype.kind not in "fiub" or not np.isfinite(value):
        got = f"an array of shape {value.shape}" if value.ndim else repr(value.item())
        return Failure(FailureKind.CORRUPT_OUTPUT, f"the objective needs one finite number as {wanted}, got {got}")
    try:
        orjson.dumps(encode_value([result.details, result.atoms.info]))
    except TypeError as error:
        return Failure(FailureKind.CORRUPT_OUTPUT, f"the label cannot be recorded: {error}")
    return result


def _recordable_failure(failure: Failure) -> Failure:
    message = failure.message.encode("utf-8", "backslashreplace").decode()
    details = failure.details
    try:
        orjson.dumps(encode_value(details))
    except TypeError:
        details = {"as_text": ascii(dict(details))[:_MAX_CHARACTERS]}
    if message == failure.message and details is failure.details:
        return failure
    return Failure(failure.kind, message, details)
