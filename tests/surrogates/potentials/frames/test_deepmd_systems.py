"""Systems of DeePMD-kit as the data of a fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from alloysmith.errors import ConfigError, StructureError
from alloysmith.structures.deepmd_writer import DeepmdWriter
from alloysmith.surrogates.potentials.data_settings import DataSettings
from alloysmith.surrogates.potentials.frame_report import FrameError
from alloysmith.surrogates.potentials.frames import FrameSet, load_frames
from ase import Atoms


@pytest.fixture
def systems(labelled, tmp_path: Path) -> tuple[Path, list[Atoms]]:
    """A folder with two systems, of Cu and of Cu-Ni, and the frames in it."""
    frames = [*labelled(5, seed=1), *labelled(6, seed=2, share=0.5)]
    with DeepmdWriter(tmp_path / "deep" / "er", frames_per_set=4) as writer:
        for atoms in frames:
            writer.add(atoms, atoms.info["energy"], atoms.arrays["forces"], atoms.info["stress"])
    return tmp_path / "deep", frames


def load(folder: Path, **settings) -> FrameSet:
    return load_frames(DataSettings(files=({"path": folder.name, **settings},), base_dir=folder.parent))  # type: ignore[arg-type]


def test_systems_are_found_at_any_depth(systems: tuple[Path, list[Atoms]]) -> None:
    folder, frames = systems
    found = load(folder)
    assert [(file.name, file.n_rows, file.n_frames) for file in found.files] == [
        ("deep/er/Cu4Ni4", 6, 6),
        ("deep/er/Cu8", 5, 5),
    ]
    by_source = {frame.source: frame for frame in found.frames}
    frame, atoms = by_source["deep/er/Cu8 set.001 frame 1"], frames[4]
    assert frame.group == "Cu8"
    assert frame.energy_ev == atoms.info["energy"]
    assert np.array_equal(frame.forces, atoms.arrays["forces"])
    assert frame.stress == pytest.approx(atoms.info["stress"], rel=1e-12)
    assert found.report.findings == ()


def test_content_and_not_place_decides_the_digest(systems: tuple[Path, list[Atoms]]) -> None:
    folder, _ = systems
    first = {file.name: file.digest for file in load(folder).files}
    energies = folder / "er" / "Cu8" / "set.000" / "energy.npy"
    np.save(energies, np.load(energies) + 1e-6)
    second = {file.name: file.digest for file in load(folder).files}
    assert [name for name in first if first[name] != second[name]] == ["deep/er/Cu8"]


def test_missing_labels_are_named(systems: tuple[Path, list[Atoms]]) -> None:
    folder, _ = systems
    (folder / "er" / "Cu8" / "set.001" / "force.npy").unlink()
    (folder / "er" / "Cu8" / "set.000" / "virial.npy").unlink()
    with pytest.raises(FrameError, match=r"missing forces in 1 frame: deep/er/Cu8 set\.001 frame 1") as raised:
        load(folder)
    (warning,) = raised.value.report.warnings
    assert str(warning).startswith("no virial in 1 frame: deep/er/Cu8 set.000: there is no virial")
    found = load(folder, has_forces=False)
    assert sum(frame.forces is None for frame in found.frames) == 1
    assert sum(frame.stress is None for frame in found.frames) == 4


def test_bad_values_are_named_by_frame(systems: tuple[Path, list[Atoms]]) -> None:
    folder, _ = systems
    path = folder / "er" / "Cu4Ni4" / "set.000" / "force.npy"
    forces = np.load(path)
    forces[2, 5] = np.nan
    np.save(path, forces)
    with pytest.raises(FrameError, match=r"not finite in 1 frame: deep/er/Cu4Ni4 set\.000 frame 3"):
        load(folder)


def test_a_damaged_system_is_named_by_its_file(systems: tuple[Path, list[Atoms]]) -> None:
    folder, _ = systems
    np.save(folder / "er" / "Cu8" / "set.000" / "energy.npy", np.zeros(3))
    with pytest.raises(StructureError, match=r"Cu8/set\.000/energy\.npy has 3 frames, coord\.npy has 4"):
        load(folder)


@pytest.mark.usefixtures("systems")
def test_folders_without_systems_and_doubles(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"no folder .*empty with DeePMD systems"):
        load(tmp_path / "empty")
    with pytest.raises(ConfigError, match="deep/er/Cu8 is named twice"):
        load_frames(DataSettings(files=("deep", "deep/er/Cu8"), base_dir=tmp_path))  # type: ignore[arg-type]
    assert len(load_frames(DataSettings(files=("deep/er/*",), base_dir=tmp_path)).frames) == 11  # type: ignore[arg-type]
