"""Model files: what goes in comes out, and damage is noticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from alloysmith.surrogates.base import SurrogateError, SurrogateState
from alloysmith.surrogates.model_file import dump_state, load_state, save_state
from alloysmith.surrogates.settings import load_surrogate
from safetensors.numpy import save_file

STATE = SurrogateState("toy", {"b": [1, 2], "a": "text"}, {"w": np.arange(6.0).reshape(2, 3), "n": np.array([3])})


def test_states_come_back(tmp_path: Path):
    save_state(STATE, tmp_path / "model")
    back = load_state(tmp_path / "model")
    assert (back.kind, dict(back.settings)) == ("toy", {"b": [1, 2], "a": "text"})
    assert back.arrays["w"].dtype == np.float64
    np.testing.assert_array_equal(back.arrays["w"], STATE.arrays["w"])
    assert dump_state(back) == dump_state(STATE)


@pytest.mark.parametrize("where", [0.02, 0.3, 0.6, 0.97])
def test_a_changed_byte_is_noticed(tmp_path: Path, where: float):
    content = bytearray(dump_state(STATE))
    position = int(where * len(content))
    content[position] ^= 0x11
    (tmp_path / "model").write_bytes(bytes(content))
    with pytest.raises(SurrogateError, match=r"damaged|no surrogate|version"):
        load_state(tmp_path / "model")


@pytest.mark.parametrize("n_bytes", [0, 5, 100, -3])
def test_a_torn_file_is_noticed(tmp_path: Path, n_bytes: int):
    (tmp_path / "model").write_bytes(dump_state(STATE)[:n_bytes])
    with pytest.raises(SurrogateError, match="damaged"):
        load_state(tmp_path / "model")


def test_other_files_are_refused(tmp_path: Path):
    save_file({"w": np.zeros(2)}, tmp_path / "weights")
    with pytest.raises(SurrogateError, match="no surrogate"):
        load_state(tmp_path / "weights")
    with pytest.raises(SurrogateError, match="there is no model file"):
        load_state(tmp_path / "absent")


def test_unknown_kinds_are_refused(tmp_path: Path):
    save_state(STATE, tmp_path / "model")
    with pytest.raises(SurrogateError, match="unknown kind of surrogate 'toy'"):
        load_surrogate(tmp_path / "model")


def test_an_impossible_place_is_an_error(tmp_path: Path):
    with pytest.raises(SurrogateError, match="cannot write"):
        save_state(STATE, tmp_path / "no" / "such" / "folder")
