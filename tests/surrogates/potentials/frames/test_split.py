"""Random parts: reproducible, of the size asked for, and without the same structure on two sides."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from alloysmith.structures.base import structure_id
from alloysmith.surrogates.base import SurrogateError
from alloysmith.surrogates.potentials.data_settings import DataSettings
from alloysmith.surrogates.potentials.frame import Frame
from alloysmith.surrogates.potentials.frame_report import FrameReport
from alloysmith.surrogates.potentials.frame_split import split_frames
from alloysmith.surrogates.potentials.frames import FrameSet, load_frames
from ase import Atoms
from hypothesis import given
from hypothesis import strategies as st


def frame_set(groups: list[str], copies: dict[int, int] | None = None) -> FrameSet:
    """One atom at a place of its own in each frame; ``copies[k]`` is the frame that frame k is a copy of."""
    places = [(copies or {}).get(k, k) for k in range(len(groups))]
    frames = [
        Frame(Atoms("Ni", [[0.1 * place, 0, 0]]), 0.0, group=group, source=str(k))
        for k, (place, group) in enumerate(zip(places, groups, strict=True))
    ]
    return FrameSet(tuple(frames), (), FrameReport(()))


def settings(**values: object) -> DataSettings:
    return DataSettings.model_validate({"files": ["a.extxyz"], **values})


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=5),
    shares=st.tuples(st.floats(0.0, 0.45), st.floats(0.0, 0.45)),
    by_group=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_parts_are_disjoint_complete_and_of_the_size_asked_for(
    sizes: list[int], shares: tuple[float, float], by_group: bool, seed: int
):
    groups = [f"g{k}" for k, size in enumerate(sizes) for _ in range(size)]
    data = frame_set(groups)
    chosen = settings(test_fraction=shares[0], validation_fraction=shares[1], stratify_by_group=by_group)
    n_test, n_validation = (round(share * len(groups)) for share in shares)
    if n_test + n_validation >= len(groups):
        with pytest.raises(SurrogateError, match="leave none to learn from"):
            split_frames(data, chosen, seed=seed)
        return
    found = split_frames(data, chosen, seed=seed)
    rows = [*found.train_rows, *found.validation_rows, *found.test_rows]
    assert sorted(rows) == list(range(len(groups)))
    assert (len(found.test), len(found.validation)) == (n_test, n_validation)
    assert list(found.train_rows) == sorted(found.train_rows)
    assert found.train == tuple(data.frames[k] for k in found.train_rows)
    assert found == split_frames(data, chosen, seed=seed)
    if by_group:
        for part, share in ((found.test, shares[0]), (found.validation, shares[1])):
            counts = Counter(frame.group for frame in part)
            for k, size in enumerate(sizes):
                assert abs(counts[f"g{k}"] - share * size) < 2.0


def test_seeds_give_different_parts():
    data = frame_set(["a"] * 50)
    chosen = settings(test_fraction=0.3)
    parts = {split_frames(data, chosen, seed=seed).test_rows for seed in range(5)}
    assert len(parts) == 5


def test_every_row_is_tested_as_often_as_others():
    data = frame_set(["a"] * 20)
    counts = np.zeros(20)
    for seed in range(400):
        counts[list(split_frames(data, settings(test_fraction=0.25), seed=seed).test_rows)] += 1
    assert np.all(np.abs(counts / 400 - 0.25) < 0.08)  # 3.7 standard deviations of a binomial


def test_small_groups_are_represented_when_stratified():
    data = frame_set(["melt"] * 96 + ["surface"] * 4)
    for seed in range(10):
        found = split_frames(data, settings(test_fraction=0.25, stratify_by_group=True), seed=seed)
        assert Counter(frame.group for frame in found.test) == {"melt": 24, "surface": 1}


@pytest.mark.parametrize("by_group", [False, True])
def test_copies_stay_together(by_group: bool):
    copies = {k: k - 1 for k in range(1, 40, 2)}
    data = frame_set(["a", "b"] * 20, copies)
    for seed in range(10):
        found = split_frames(data, settings(test_fraction=0.3, stratify_by_group=by_group), seed=seed)
        parts = [{structure_id(frame.atoms) for frame in part} for part in (found.train, found.validation, found.test)]
        assert len(set.union(*parts)) == sum(map(len, parts))
        assert abs(len(found.test) - 12) <= 1


def test_test_files_are_the_test_part():
    data = frame_set(["a"] * 10)
    extra = Frame(Atoms("Mo"), 1.0, source="t")
    found = split_frames(FrameSet(data.frames, (extra,), data.report), settings(), seed=1)
    assert found.test == (extra,)
    assert found.test_rows == ()
    assert len(found.train) == 9


def test_published_data_is_split_to_the_row(shared_data: Path):
    chosen = settings(files=["mo/Mo_dft.extxyz.gz"], test_fraction=0.1, stratify_by_group=True).resolved(shared_data)
    data = load_frames(chosen)
    found = split_frames(data, chosen, seed=7)
    assert (len(found.train), len(found.validation), len(found.test)) == (209, 26, 26)
    assert {frame.group for frame in found.test} == {frame.group for frame in data.frames}
