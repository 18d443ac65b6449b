"""How structures, labels and candidates are written into the event log, and read back to the last bit.

A structure is one string: base64 of zlib of its numbers, cell, periodicity, positions and ``info``. Structures are
unpacked only when somebody looks at their atoms, so a log of 100,000 evaluations replays in seconds and stays small
in memory. Scalars are JSON numbers (shortest form that reads back exactly); arrays keep their dtype and bytes.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from ase import Atoms

from ..generators.base import Candidate, Lineage
from ..oracles.base import Label, Value

_HEADER = struct.Struct("<IB3xI")  # number of atoms, periodicity bits, length of the JSON tail
_ARRAY_KEY = "base64"


def encode_atoms(atoms: Atoms) -> str:
    """Pack species, cell, periodicity, positions, ``info`` and further per-atom arrays. Calculators are not kept.

    Raises:
        TypeError: ``info`` holds something that JSON cannot express.
    """
    extra = {name: encode_value(array) for name, array in atoms.arrays.items() if name not in ("numbers", "positions")}
    tail = orjson.dumps(
        {"info": {str(k): encode_value(v) for k, v in atoms.info.items()}, "arrays": extra},
        option=orjson.OPT_SERIALIZE_NUMPY,
    )
    periodicity = sum(1 << axis for axis in range(3) if atoms.pbc[axis])
    raw = b"".join(
        (
            _HEADER.pack(len(atoms), periodicity, len(tail)),
            np.ascontiguousarray(atoms.cell.array, dtype="<f8").tobytes(),
            np.ascontiguousarray(atoms.positions, dtype="<f8").tobytes(),
            np.ascontiguousarray(atoms.numbers, dtype="<u2").tobytes(),
            tail,
        )
    )
    return base64.b64encode(zlib.compress(raw, 1)).decode("ascii")


def decode_atoms(packed: str) -> Atoms:
    """Unpack what :func:`encode_atoms` made; coordinates are equal to the last bit."""
    raw = zlib.decompress(base64.b64decode(packed))
    n_atoms, periodicity, n_tail = _HEADER.unpack_from(raw)
    floats_at = _HEADER.size
    numbers_at = floats_at + 8 * (9 + 3 * n_atoms)
    tail_at = numbers_at + 2 * n_atoms
    floats = np.frombuffer(raw, dtype="<f8", count=9 + 3 * n_atoms, offset=floats_at)
    tail = orjson.loads(raw[tail_at : tail_at + n_tail])
    atoms = Atoms(
        numbers=np.frombuffer(raw, dtype="<u2", count=n_atoms, offset=numbers_at).astype(int),
        positions=floats[9:].reshape(n_atoms, 3).astype(float),
        cell=floats[:9].reshape(3, 3).astype(float),
        pbc=[bool(periodicity >> axis & 1) for axis in range(3)],
        info={k: decode_value(v) for k, v in tail["info"].items()},
    )
    for name, array in tail["arrays"].items():
        atoms.set_array(name, decode_value(array))
    return atoms


def encode_value(value: Any) -> Any:
    """A JSON-able form of a scalar, a string, an array or a nest of them; arrays and floats read back exactly.

    Raises:
        TypeError: anything else.
    """
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "fiub":
            raise TypeError(f"an array of numbers is needed, got dtype {value.dtype}")
        little = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<"))
        data = base64.b64encode(little.tobytes()).decode("ascii")
        return {_ARRAY_KEY: data, "dtype": little.dtype.str, "shape": list(value.shape)}
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): encode_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode_value(item) for item in value]
    raise TypeError(f"numbers, strings, arrays, lists and mappings can be recorded, got {type(value).__name__}")


def decode_value(value: Any) -> Any:
    """The inverse of :func:`encode_value` (tuples come back as lists)."""
    if isinstance(value, dict):
        if _ARRAY_KEY in value:
            flat = np.frombuffer(base64.b64decode(value[_ARRAY_KEY]), dtype=value["dtype"])
            return flat.reshape(value["shape"]).copy()
        return {key: decode_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [decode_value(item) for item in value]
    return value


class StoredCandidate(Candidate):
    """A candidate from the log, whose structure is unpacked when first looked at."""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> StoredCandidate:
        """From what :func:`encode_candidate` made."""
        self = object.__new__(cls)
        lineage = record["lineage"]
        facts = decode_value(lineage["facts"]) if "facts" in lineage else {}
        attributes = self.__dict__
        attributes["phase"] = record["phase"]
        attributes["lineage"] = Lineage(lineage["generator"], lineage["move"], tuple(lineage.get("parents", ())), facts)
        attributes["packed"] = record["atoms"]
        return self

    def __getattr__(self, name: str) -> Any:
        return _unpack(self, name)


class StoredLabel(Label):
    """A label from the log, whose structure is unpacked when first looked at."""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> StoredLabel:
        """From what :func:`encode_label` made."""
        self = object.__new__(cls)
        attributes = self.__dict__
        attributes["values"] = {name: _decode_quickly(value) for name, value in record["values"].items()}
        attributes["fingerprint"] = record["fingerprint"]
        attributes["cpu_s"] = record["cpu_s"]
        attributes["details"] = decode_value(record["details"]) if "details" in record else {}
        attributes["packed"] = record["atoms"]
        return self

    def __getattr__(self, name: str) -> Any:
        return _unpack(self, name)


def _decode_quickly(value: Any) -> Value:
    return value if isinstance(value, float) else decode_value(value)


def _unpack(owner: Candidate | Label, name: str) -> Atoms:
    """Serve ``owner.atoms`` the first time: afterwards it is an ordinary attribute and the packed form is gone."""
    attributes = owner.__dict__
    packed = attributes.get("packed")
    if name == "atoms" and packed is None and "atoms" in attributes:  # another thread was faster
        return attributes["atoms"]
    if name != "atoms" or packed is None:
        raise AttributeError(f"{type(owner).__name__} has no attribute {name!r}")
    attributes["atoms"] = atoms = decode_atoms(packed)
    attributes.pop("packed", None)
    return atoms


def peek_atoms(owner: Candidate | Label) -> Atoms:
    """The structure of a candidate or label, without keeping it unpacked for later."""
    packed = owner.__dict__.get("packed")
    return decode_atoms(packed) if packed is not None else owner.atoms


def encode_candidate(candidate: Candidate) -> dict[str, Any]:
    """A candidate as JSON-able data."""
    lineage: dict[str, Any] = {"generator": candidate.lineage.generator, "move": candidate.lineage.move}
    if candidate.lineage.parents:
        lineage["parents"] = list(candidate.lineage.parents)
    if candidate.lineage.facts:
        lineage["facts"] = encode_value(candidate.lineage.facts)
    return {"phase": candidate.phase, "lineage": lineage, "atoms": _packed(candidate)}


def encode_label(label: Label) -> dict[str, Any]:
    """A label as JSON-able data."""
    record: dict[str, Any] = {
        "values": {name: encode_value(value) for name, value in label.values.items()},
        "fingerprint": label.fingerprint,
        "cpu_s": float(label.cpu_s),
        "atoms": _packed(label),
    }
    if label.details:
        record["details"] = encode_value(label.details)
    return record


def _packed(owner: Candidate | Label) -> str:
    packed = owner.__dict__.get("packed")
    return packed if packed is not None else encode_atoms(owner.atoms)
