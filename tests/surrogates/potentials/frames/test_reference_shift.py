"""Energies that do not belong together are found, and nothing is said where there is nothing to find."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from alloysmith.structures.files import read_structures, write_structures
from alloysmith.surrogates.potentials.data_settings import DataSettings, FrameCheckSettings
from alloysmith.surrogates.potentials.energy_reference import reference_energy
from alloysmith.surrogates.potentials.frame import Frame
from alloysmith.surrogates.potentials.frame_report import FrameError, RowDefect
from alloysmith.surrogates.potentials.frames import check_frames, frames_of_structures, load_frames
from alloysmith.surrogates.potentials.reference_shift import check_energies
from ase import Atoms

Labelled = Callable[..., list[Atoms]]
ATOMIC_NI_EV = 1.34
"""What tells a total energy of Ni with PBE (-5.78 eV) from the cohesive one (-4.44 eV)."""


def shifted(frames: Sequence[Frame], by_element: Mapping[str, float]) -> list[Frame]:
    zero = dict.fromkeys(("Ni", "Mo", "Cu", "Nb", "Ta", "W"), 0.0)
    return [
        replace(frame, energy_ev=frame.energy_ev + reference_energy(frame, zero | dict(by_element))) for frame in frames
    ]


def check(*files: Sequence[Frame]) -> list[RowDefect]:
    names = [f"{'abcdef'[k]}.extxyz" for k, frames in enumerate(files) for _ in frames]
    return check_energies([frame for frames in files for frame in frames], names, FrameCheckSettings())


def published(shared_data: Path, name: str, group_from: str = "group") -> list[Frame]:
    settings = {"files": [{"path": f"{name}.extxyz.gz", "group_from": group_from}]}
    return list(load_frames(DataSettings.model_validate(settings).resolved(shared_data)).frames)


@pytest.fixture(scope="module")
def ni(shared_data: Path) -> list[Frame]:
    return published(shared_data, "ni/Ni_dft")


@pytest.fixture(scope="module")
def mo(shared_data: Path) -> list[Frame]:
    return published(shared_data, "mo/Mo_dft")


@pytest.fixture(scope="module")
def nimo(shared_data: Path) -> list[Frame]:
    return published(shared_data, "nimo/NiMo_elastic_dft", "src")


def halves(frames: Sequence[Frame]) -> tuple[list[Frame], list[Frame]]:
    order = np.random.default_rng(3).permutation(len(frames)).tolist()
    middle = len(frames) // 2
    return [frames[k] for k in order[:middle]], [frames[k] for k in order[middle:]]


@pytest.mark.parametrize("shift_ev", [0.5, ATOMIC_NI_EV, -4e4])
def test_a_shifted_half_of_published_data_is_named(ni: list[Frame], shift_ev: float):
    one, other = halves(ni)
    (found,) = check(one, shifted(other, {"Ni": shift_ev}))
    assert found.kind == "mixed_energy_references"
    # which of the halves is odd cannot be known
    sign = "above" if ("b.extxyz" in found.source) == (shift_ev > 0) else "below"
    assert f"energies {abs(shift_ev):.3g} eV/atom {sign}" in found.detail
    assert not check(one, other)


def test_the_smaller_of_two_sets_is_named(ni: list[Frame]):
    (found,) = check(ni[:100], shifted(ni[100:], {"Ni": -ATOMIC_NI_EV}))
    assert found.source == "file a.extxyz (100 frames)"
    assert found.detail.startswith("energies 1.34 eV/atom above")


def test_a_shifted_half_is_found_without_names_too(ni: list[Frame]):
    one, other = halves([replace(frame, group="") for frame in ni])
    (found,) = check(one + shifted(other, {"Ni": ATOMIC_NI_EV}))
    assert found.source.startswith("204 frames (ni/Ni_dft.extxyz.gz row")
    assert found.detail.startswith("energies 1.34 eV/atom below")


@pytest.mark.parametrize("name", ["ni", "mo"])
def test_each_shifted_group_is_named_and_no_pair_of_groups_raises_an_alarm(name: str, request: pytest.FixtureRequest):
    frames: list[Frame] = request.getfixturevalue(name)[::3]
    groups = sorted({frame.group for frame in frames})
    parts = {group: [frame for frame in frames if frame.group == group] for group in groups}
    for group in groups:
        rest = [frame for frame in frames if frame.group != group]
        (found,) = check(rest + shifted(parts[group], {"Ni": 0.6, "Mo": 0.6}))
        assert found.source.startswith(f"group {group} (")
    for one, other in combinations(groups, 2):  # melts beside surfaces, strained crystals beside vacancies, …
        assert not check(parts[one], parts[other])


def test_alloys_and_elements_of_different_references(ni: list[Frame], mo: list[Frame], nimo: list[Frame]):
    total = {"Ni": ATOMIC_NI_EV, "Mo": 4.05}
    ni, mo, nimo = ni[::3], mo[::2], nimo[::4]
    assert not check(ni, mo, nimo)
    assert not check(shifted(ni, total), shifted(mo, total), shifted(nimo, total))
    for spoiled in (
        (ni, mo, shifted(nimo, total)),
        (ni, shifted(mo, total), nimo),
        (shifted(ni, total), shifted(mo, total), nimo),
    ):
        assert {found.kind for found in check(*spoiled)} == {"mixed_energy_references"}


def test_elements_that_share_no_file_cannot_be_compared(ni: list[Frame], mo: list[Frame]):
    ni, mo = ni[::4], mo[::2]
    assert not check(ni, mo)
    assert not check(ni, shifted(mo, {"Mo": 4.05}))


@pytest.mark.slow
def test_shifts_by_element_are_told(shared_data: Path):
    structures = read_structures(shared_data / "nbmotaw" / "NbMoTaW_train.extxyz.gz")[::8]
    one, other = halves(frames_of_structures(structures))
    atomic = {"Mo": 4.0, "Nb": 2.5, "Ta": 3.7, "W": 4.1}
    (found,) = check(one, shifted(other[:300], atomic))
    assert found.source == "file b.extxyz (300 frames)"
    told = re.findall(r"(\w+) ([+-][\d.]+)", found.detail)
    assert {symbol: float(value) for symbol, value in told} == pytest.approx(atomic, abs=0.03)


# Without published data: labels of ASE's effective-medium theory


def test_a_shifted_file_of_alloys(tmp_path: Path, labelled: Labelled):
    mixed = [labelled(10, seed=k, share=share)[0] for k, share in enumerate((0.0, 0.25, 0.5, 0.75, 1.0))]
    structures = [atoms for share in (0.0, 0.25, 0.5, 1.0) for atoms in labelled(15, seed=int(8 * share), share=share)]
    write_structures(tmp_path / "a.extxyz", structures)
    write_structures(tmp_path / "b.extxyz", mixed)
    settings = DataSettings.model_validate({"files": ["a.extxyz", "b.extxyz"]}).resolved(tmp_path)
    with_duplicates = load_frames(settings).report
    assert {finding.kind for finding in with_duplicates.findings} <= {"duplicate"}
    for atoms in mixed:
        atoms.positions += 0.01  # no copies of the others
        atoms.info["energy"] -= 2.0 * np.sum(atoms.symbols == "Ni") + 1.0 * np.sum(atoms.symbols == "Cu")
    write_structures(tmp_path / "b.extxyz", mixed)
    message = r"file b\.extxyz \(5 frames\): energies 1\.\d+ eV/atom below .* \(Cu -1, Ni -2\)"
    for on_bad_frame in ("error", "drop"):  # leaving out is no remedy
        with pytest.raises(FrameError, match=message):
            load_frames(settings.model_copy(update={"on_bad_frame": on_bad_frame}))


@pytest.mark.parametrize("n_frames", [1, 2, 3, 5, 12])
def test_few_frames_raise_no_alarm(labelled: Labelled, n_frames: int):
    structures = [labelled(1, seed=k, share=0.5 * (k % 3))[0] for k in range(n_frames)]
    for k, atoms in enumerate(structures):
        atoms.info["group"] = f"run {k // 4}"
    assert not check_frames(frames_of_structures(structures)).report.findings


def test_few_frames_of_another_code_are_found(labelled: Labelled):
    frames = frames_of_structures(labelled(4, group="one") + labelled(4, seed=1, group="other"))
    frames[4:] = [replace(frame, energy_ev=frame.energy_ev - 8 * 5e3) for frame in frames[4:]]
    with pytest.raises(FrameError, match="mixed energy references: group o"):
        check_frames(frames)


@pytest.mark.parametrize("n_absurd", [1, 2])
def test_absurd_energies_are_named_one_by_one(labelled: Labelled, n_absurd: int):
    frames = frames_of_structures(labelled(30, share=0.25))
    for k in range(n_absurd):
        frames[7 * k] = replace(frames[7 * k], energy_ev=frames[7 * k].energy_ev + 8 * 2.0 * (-1) ** k)
    with pytest.raises(FrameError, match=f"absurd energy in {n_absurd} frame") as caught:
        check_frames(frames)
    (error,) = caught.value.report.errors
    assert [defect.source for defect in error.defects] == [f"structure {7 * k + 1}" for k in range(n_absurd)]
    assert "other frames let expect" in error.defects[0].detail


def test_the_threshold_is_a_setting(labelled: Labelled):
    one, other = labelled(20, group="one"), labelled(20, seed=1, group="other")
    for atoms in other:
        atoms.info["energy"] += 8 * 0.3
    frames = frames_of_structures(one + other)
    assert not check_frames(frames).report.findings
    with pytest.raises(FrameError, match=r"energies 0\.\d+ eV/atom"):
        check_frames(frames, FrameCheckSettings(max_reference_shift_ev_per_atom=0.2))
