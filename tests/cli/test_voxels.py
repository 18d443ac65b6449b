"""Forces from voxels, from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from alloysmith.loop.cli.arguments import shipped_configs
from alloysmith.loop.config import load_settings
from alloysmith.loop.voxel_fitting import VoxelFitConfig, fit_voxels
from alloysmith.structures.files import read_structures, write_structures
from alloysmith.surrogates.model_file import dump_state, load_state
from alloysmith.surrogates.voxels.settings import voxel_model_from_state
from alloysmith.tests.cli.toy import CommandLine
from alloysmith.tests.surrogates.voxels.snapshots import toy_frames
from ase import Atoms

SMALL = """
voxel_forces:
  kind: dense
  grid: {n_voxels: 5, cutoff_ang: 3.9}
  widths: [16]
  training: {max_epochs: 4, batch_size: 16, learning_rate: 0.01}
"""


def labelled(n: int) -> list[Atoms]:
    structures = []
    for frame in toy_frames(n):
        atoms = frame.atoms.copy()
        atoms.info |= {"energy": frame.energy_ev, "temperature_k": float(frame.group)}
        atoms.arrays["forces"] = frame.forces
        structures.append(atoms)
    return structures


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    path = tmp_path / "frames.extxyz"
    write_structures(path, labelled(28))
    (tmp_path / "small.yaml").write_text(SMALL)
    return path


def test_fit_predict_and_card(alloysmith: CommandLine, frames: Path, tmp_path: Path) -> None:
    model, out = tmp_path / "m.safetensors", tmp_path / "out.extxyz"
    fitted = alloysmith("fit", tmp_path / "small.yaml", "--data", frames, "-o", model)
    assert fitted.code == 0, fitted.err
    for text in ("training", "validation", "test", "Mo", "Ta", "300", "600", "Pearson r", "RMSE"):
        assert text in fitted.out
    assert "dense of Mo, Nb, Ta, 320 atoms" in fitted.out  # 20 of 28 snapshots of 16 atoms
    assert not list(tmp_path.glob("*.checkpoint"))

    other = Atoms("Cu2", positions=[[0, 0, 0], [2, 0, 0]], cell=[4, 4, 4], pbc=True)
    unlabelled = labelled(1)[0]
    del unlabelled.arrays["forces"]
    write_structures(tmp_path / "more.extxyz", [*labelled(3), other, unlabelled])
    predicted = alloysmith("predict", model, tmp_path / "more.extxyz", "-o", out)
    assert predicted.code == 0, predicted.err
    assert "600" in predicted.out
    assert "1 cannot be predicted" in predicted.out
    rows = read_structures(out)
    assert "holds Cu" in rows[3].info["failure_message"]
    expected = voxel_model_from_state(load_state(model)).predict([rows[0], rows[4]])
    np.testing.assert_allclose(rows[0].arrays["predicted_forces_ev_ang"], expected[0], atol=1e-6)
    np.testing.assert_allclose(rows[4].arrays["predicted_forces_ev_ang"], expected[1], atol=1e-6)

    card = alloysmith("card", model)
    assert card.code == 0, card.err
    page = (tmp_path / "m.html").read_text()
    for text in ("Known and predicted forces", "Distributions", "Pearson r", "64 held-out atoms"):
        assert text in page


def test_snapshots_are_held_out_whole_and_in_equal_shares(frames: Path) -> None:
    config = VoxelFitConfig.model_validate({"voxel_forces": {"kind": "dense", "training": {"max_epochs": 1}}})
    fitted = fit_voxels(config, [frames])
    assert {part: rows["all"].n_atoms for part, rows in fitted.errors.items()} == {
        "training": 64,  # every fifth of the 20 snapshots
        "validation": 64,
        "test": 64,
    }
    test = fitted.errors["test"]
    assert test["300"].n_atoms == test["600"].n_atoms == 32
    known = np.concatenate([atoms.arrays["forces"] for atoms in labelled(28)]).astype(np.float32)
    shown = fitted.model.held_out
    assert shown is not None
    rows = [int(np.flatnonzero((known == force).all(axis=1))[0]) for force in shown.known]
    assert len(rows) == 64
    assert len({row // 16 for row in rows}) == 4  # four whole snapshots of 16 atoms


def test_a_fit_is_repeatable(frames: Path) -> None:
    config = VoxelFitConfig.model_validate({"voxel_forces": {"kind": "dense", "training": {"max_epochs": 2}}})
    first, second = (fit_voxels(config, [frames]).model for _ in range(2))
    assert dump_state(first.state()) == dump_state(second.state())
    other = fit_voxels(config.model_copy(update={"seed": 1}), [frames]).model
    assert dump_state(first.state()) != dump_state(other.state())


def test_bad_input_ends_with_a_message(alloysmith: CommandLine, frames: Path, tmp_path: Path) -> None:
    small, model = tmp_path / "small.yaml", tmp_path / "m.safetensors"
    none = alloysmith("fit", small, "-o", model)
    assert none.code == 2
    assert "--data FILE" in none.err
    formula = alloysmith("fit", small, "--data", frames, "-o", model, "--set", "voxel_forces.grid.descriptors=[charge]")
    assert formula.code == 2
    assert "a formula has numbers, Z, mass" in formula.err
    bare = tmp_path / "bare.extxyz"
    structures = labelled(4)
    del structures[2].arrays["forces"]
    write_structures(bare, structures)
    without = alloysmith("fit", small, "--data", bare, "-o", model)
    assert without.code != 0
    assert "row 3" in without.err
    named = alloysmith("fit", small, "--data", frames, "-o", model, "--property", "energy")
    assert named.code == 2
    assert "leave --property out" in named.err
    assert not model.exists()


def test_shipped_configurations_are_read() -> None:
    names = [name for name in shipped_configs() if name.startswith("fit/voxel")]
    filters = {name: load_settings(shipped_configs()[name], VoxelFitConfig).voxel_forces.filters for name in names}
    assert filters == {"fit/voxel_forces": 32, "fit/voxel_forces_paper": 256}
