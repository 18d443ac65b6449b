"""`alloysmith sample`: its files, its table, and the shipped configurations."""

from __future__ import annotations

from pathlib import Path

import ase.io
import pytest
from alloysmith.generators.melt_sampling import MeltSamplingSettings, composition_distance
from alloysmith.loop.cli.arguments import shipped_configs
from alloysmith.loop.config import load_settings
from alloysmith.surrogates.potentials.data_settings import DataSettings
from alloysmith.surrogates.potentials.frames import load_frames
from alloysmith.tests.cli.toy import CommandLine

CONFIG = """
compositions: [Al, AlNi]
test_compositions: [Al75Ni25]
temperatures_k: [2000]
cell: {repeat: [2, 2, 2], kind: cubic}
n_melting_steps: 100
n_cooling_steps: 20
n_equilibration_steps: 20
n_frames: 2
stride: 10
"""


def test_samples_can_be_learnt_from(alloysmith: CommandLine, tmp_path: Path) -> None:
    config, target, test = tmp_path / "melts.yaml", tmp_path / "melts.extxyz.gz", tmp_path / "test.extxyz"
    config.write_text(CONFIG)
    refused = alloysmith("sample", "zjw04", config, "-o", target)
    assert refused.code == 2
    assert "--test-output" in refused.err
    broken = alloysmith("sample", "zjw04", config, "-o", target, "--test-output", test, "--set", "timestep_fs=20")
    assert broken.code == 1
    ended = alloysmith("sample", "zjw04", config, "-o", target, "--test-output", test)
    assert ended.code == 0, ended.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["melts.extxyz.gz", "melts.yaml", "test.extxyz"]
    assert "Al, 25 at.% away" in ended.out
    assert f"wrote {target}: 4 frames" in ended.out
    data = load_frames(DataSettings(files=(str(target),), test_files=(str(test),)))
    assert [frame.group for frame in data.frames] == ["Al", "Al", "AlNi", "AlNi"]
    assert all(frame.forces is not None and frame.stress is not None for frame in data.frames)
    assert {frame.group for frame in data.test_frames} == {"Al75Ni25"}
    assert {atoms.info["temperature_k"] for atoms in ase.io.read(target, index=":")} == {2000.0}


@pytest.mark.parametrize("name", [name for name in shipped_configs() if name.startswith("sampling/")])
def test_shipped_test_compositions_are_far_from_the_others(name: str) -> None:
    settings: MeltSamplingSettings = load_settings(shipped_configs()[name], MeltSamplingSettings)
    for test in settings.test_compositions:
        assert min(composition_distance(test, other) for other in settings.compositions) > 0.199
