"""Melts: compositions, labels, repeatability, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alloysmith.generators.melt_folder import MeltFolder
from alloysmith.generators.melt_sampling import Melt, MeltSamplingSettings, composition_distance, sample_melts
from alloysmith.oracles.base import OracleError
from alloysmith.oracles.lammps_engine import LammpsEngine
from alloysmith.oracles.potentials import LammpsPotential, WheelPotentialSettings
from alloysmith.structures.lattice import parent_lattice
from ase.stress import full_3x3_to_voigt_6_stress
from pydantic import ValidationError

SMALL: dict[str, Any] = {
    "compositions": ["Cu", "Cu70Ni30"],
    "temperatures_k": [1800],
    "cell": {"kind": "cubic", "repeat": [2, 2, 2]},
    "n_melting_steps": 200,
    "n_cooling_steps": 50,
    "n_equilibration_steps": 30,
    "n_frames": 3,
    "stride": 20,
}


@pytest.fixture(scope="module")
def cu_ni() -> LammpsPotential:
    return WheelPotentialSettings(name="CuNi.eam.alloy").load()


def test_frames_are_labelled_snapshots_of_each_composition(cu_ni: LammpsPotential) -> None:
    settings = MeltSamplingSettings.model_validate({**SMALL, "test_compositions": ["CuNi"]})
    melts = sample_melts(cu_ni, settings)
    assert [(m.composition, m.is_test) for m in melts] == [("Cu", False), ("Cu70Ni30", False), ("CuNi", True)]
    assert [str(m.frames[0].symbols.formula.convert("hill")) for m in melts] == ["Cu32", "Cu22Ni10", "Cu16Ni16"]
    assert [atoms.info["step"] for atoms in melts[0].frames] == [60, 80, 100]
    engine = LammpsEngine(cu_ni)
    for melt in melts:
        for atoms in melt.frames:
            found = engine.compute(atoms)
            assert atoms.info["energy"] == pytest.approx(found.energy_ev, abs=1e-8)
            np.testing.assert_allclose(atoms.arrays["forces"], found.forces, atol=1e-8)
            np.testing.assert_allclose(atoms.info["stress"], full_3x3_to_voigt_6_stress(found.stress), atol=1e-8)
            assert (atoms.info["group"], atoms.info["temperature_k"]) == (melt.composition, 1800.0)
            assert "momenta" not in atoms.arrays
    engine.close()
    assert 0.1 < melts[0].displacement_ang < 2.0
    # an ideal crystal is far below it: every atom has left its site
    assert melts[0].frames[-1].info["energy"] / 32 > -3.54 + 0.25


def test_a_melt_depends_on_its_place_and_seed_alone(cu_ni: LammpsPotential) -> None:
    first = sample_melts(cu_ni, MeltSamplingSettings.model_validate({**SMALL, "compositions": ["CuNi"]}))
    more = {**SMALL, "compositions": ["CuNi", "Ni"], "temperatures_k": [1800, 2000]}
    again = sample_melts(cu_ni, MeltSamplingSettings.model_validate(more))
    assert len(again) == 4
    assert list(first[0].frames) == list(again[0].frames)
    other = sample_melts(cu_ni, MeltSamplingSettings.model_validate({**SMALL, "compositions": ["CuNi"], "seed": 1}))
    assert list(first[0].frames) != list(other[0].frames)


def test_crystals_are_sampled_without_melting_and_are_the_same_at_all_temperatures(cu_ni: LammpsPotential) -> None:
    solid = {**SMALL, "compositions": ["Cu70Ni30"], "melting_temperature_k": None, "temperatures_k": [100, 600]}
    cold, hot = sample_melts(cu_ni, MeltSamplingSettings.model_validate(solid))
    np.testing.assert_array_equal(cold.frames[0].numbers, hot.frames[0].numbers)
    assert cold.displacement_ang < hot.displacement_ang < 0.5
    sites = parent_lattice("fcc", "cubic", (2, 2, 2)).scaled_positions
    for atoms in (*cold.frames, *hot.frames):  # all atoms are still at their sites
        offsets = atoms.get_scaled_positions() - sites
        offsets -= np.rint(offsets)
        assert np.abs((offsets - offsets.mean(axis=0)) @ atoms.cell.array).max() < 0.8


def test_a_sampling_that_was_killed_goes_on_and_ends_as_one_that_was_not(
    cu_ni: LammpsPotential, tmp_path: Path
) -> None:
    settings = MeltSamplingSettings.model_validate({**SMALL, "test_compositions": ["CuNi"], "n_frames": 2})
    folder = MeltFolder(tmp_path / "melts", settings, cu_ni.fingerprint)
    assert folder.read() == {}

    def keep_two(melt: Melt) -> None:
        folder.put(melt)
        if melt.composition == "Cu70Ni30":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample_melts(cu_ni, settings, keep_two)
    known = folder.read()
    assert list(known) == [(0, 0), (1, 0)]
    made: list[str] = []
    melts = sample_melts(cu_ni, settings, lambda melt: made.append(melt.composition), known)
    assert made == ["CuNi"]
    for melt, whole in zip(melts, sample_melts(cu_ni, settings), strict=True):
        assert (melt.place, melt.composition, melt.is_test) == (whole.place, whole.composition, whole.is_test)
        assert melt.displacement_ang == whole.displacement_ang
        assert melt.volume_ang3 == whole.volume_ang3
        for atoms, other in zip(melt.frames, whole.frames, strict=True):
            np.testing.assert_array_equal(atoms.positions, other.positions)
            np.testing.assert_array_equal(atoms.cell.array, other.cell.array)
            np.testing.assert_array_equal(atoms.arrays["forces"], other.arrays["forces"])
            np.testing.assert_array_equal(atoms.info.pop("stress"), other.info.pop("stress"))
            assert atoms.info == other.info
    warmer = settings.model_copy(update={"melting_temperature_k": 3600.0})
    assert MeltFolder(folder.path, warmer, cu_ni.fingerprint).read() == {}
    assert MeltFolder(folder.path, settings, "another").read() == {}
    folder.remove()
    assert not folder.path.exists()


def test_distances_between_compositions_count_the_atoms_to_exchange() -> None:
    assert composition_distance("Al75Ni25", "Al60Cu20Ni20") == pytest.approx(0.20)
    assert composition_distance("Al", "Ni") == 1.0
    assert composition_distance("AlNi", "Al50Ni50") == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"compositions": ["Cu70%"]}, "'Cu70%' is no formula"),
        ({"compositions": ["Cu", "Cu"]}, "named twice"),
        ({"test_compositions": ["Cu"]}, "learnt from and tested"),
        ({"temperatures_k": [4000]}, "below a temperature of the melts"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MeltSamplingSettings.model_validate({**SMALL, **change})


def test_a_run_that_explodes_is_told(cu_ni: LammpsPotential) -> None:
    with pytest.raises(OracleError, match=r"Cu.* at 1800 K stopped at step"):
        sample_melts(cu_ni, MeltSamplingSettings.model_validate({**SMALL, "timestep_fs": 20.0}))
