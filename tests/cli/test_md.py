"""`alloysmith md`: potentials of all sources, resuming, explosions, bad input."""

from __future__ import annotations

import shutil
from pathlib import Path

import ase.io
import numpy as np
import pytest
from alloysmith.oracles.potential_files import wheel_folder
from alloysmith.surrogates.eam.settings import EamSettings
from alloysmith.surrogates.potentials.base import PotentialSpec
from alloysmith.surrogates.potentials.settings import save_potential
from alloysmith.surrogates.potentials.torch_potential import TorchPotential
from alloysmith.tests.cli.toy import CommandLine
from ase.build import bulk

POTENTIAL = "CuNi.eam.alloy"


@pytest.fixture
def crystal(tmp_path: Path) -> Path:
    path = tmp_path / "cu.extxyz"
    ase.io.write(path, bulk("Cu", "fcc", a=3.62))
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    built = EamSettings(cutoff_ang=5.0).build(["Ni", "Cu"])
    spec = PotentialSpec("eam", ("Ni", "Cu"), built.cutoff_ang, reference_energies_ev={"Cu": -1.5, "Ni": -3.0})
    save_potential(TorchPotential(spec, built), path)
    return path


def test_a_run_that_was_stopped_and_resumed_writes_the_same_file(
    alloysmith: CommandLine, crystal: Path, tmp_path: Path
) -> None:
    base = ("md", POTENTIAL, crystal, "--repeat", 3, 3, 3, "--temperature", 500, "--pressure", 1, "--steps", 40)
    more = ("--stride", 5, "--set", "block_steps=10", "--barostat", "aniso", "--set", "with_velocities=true")
    whole = alloysmith(*base, *more, "-o", tmp_path / "whole.extxyz")
    assert whole.code == 0, whole.err
    assert "9 frames, to step 40 of 40" in whole.out
    parts = (*base, *more, "-o", tmp_path / "parts.extxyz", "--set", "limits.wall_s=1e-6")
    first = alloysmith(*parts)
    assert first.code == 0
    assert "stopped at step 10 (wall_time)" in first.err
    with (tmp_path / "parts.extxyz").open("a") as file:
        file.write("27\nwritten by a run that was killed before it")  # goes when the run is resumed
    for step in (20, 30):
        assert f"stopped at step {step}" in alloysmith(*parts, "--resume").err
    last = alloysmith(*parts, "--resume")
    assert (last.code, last.err.strip()) == (0, "")
    assert (tmp_path / "parts.extxyz").read_bytes() == (tmp_path / "whole.extxyz").read_bytes()
    frames = ase.io.read(tmp_path / "parts.extxyz", index=":")
    assert [atoms.info["step"] for atoms in frames] == list(range(0, 41, 5))
    again = alloysmith(*parts, "--resume")
    assert again.code == 2
    assert "--steps" in again.err
    other = alloysmith(*parts, "--resume", "--temperature", 600, "--steps", 50)
    assert other.code == 2
    assert "temperature_k (500.0 then, 600.0 now)" in other.err


def test_every_source_of_a_potential(alloysmith: CommandLine, crystal: Path, model: Path, tmp_path: Path) -> None:
    shutil.copy(wheel_folder() / POTENTIAL, tmp_path / "mine.eam.alloy")
    (tmp_path / "p.yaml").write_text("kind: files\npair_style: eam/alloy\npair_coeff: ['* * mine.eam.alloy Cu']\n")
    energies = []
    for source in (POTENTIAL, tmp_path / "mine.eam.alloy", tmp_path / "p.yaml", model, "zjw04"):
        for route in ((), ("--external",)):
            out = tmp_path / "out.extxyz"
            arguments = ("md", source, crystal, "--repeat", 3, 3, 3, "--steps", 20, "--stride", 10, "-o", out)
            ended = alloysmith(*arguments, "--temperature", 700, "--pressure", 0, *route)
            assert ended.code == 0, ended.err
            energies.append([atoms.get_potential_energy() for atoms in ase.io.read(out, index=":")])
    assert np.ptp(energies[:6], axis=0) == pytest.approx(np.zeros(3), abs=1e-8)
    assert energies[6] == pytest.approx(energies[7], abs=27 * 1e-5)  # a table against the model, references included
    assert energies[7][0] < 27 * (-1.5 - 3.0)
    assert energies[8] == pytest.approx(energies[9], abs=27 * 1e-5)


def test_an_explosion_ends_with_status_1_and_keeps_what_was_sane(
    alloysmith: CommandLine, crystal: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.extxyz"
    arguments = ("md", POTENTIAL, crystal, "--repeat", 3, 3, 3, "--steps", 500, "--stride", 5, "-o", out)
    ended = alloysmith(*arguments, "--temperature", 1000, "--timestep", 20, "--set", "limits.max_temperature_k=1200")
    assert ended.code == 1
    assert "temperature" in ended.err
    assert "at most 1200 K" in ended.err
    frames = ase.io.read(out, index=":")
    assert all(atoms.info["temperature_k"] < 1300.0 for atoms in frames)
    assert f"{len(frames)} frames" in ended.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((POTENTIAL, "cu.extxyz", "-o", "out.cif"), ".extxyz"),
        (("CuNi.eam.aloy", "cu.extxyz", "-o", "out.extxyz"), "CuNi.eam.alloy"),
        (("none/mine.adp", "cu.extxyz", "-o", "out.extxyz"), "no potential file"),
        (("cu.extxyz", "cu.extxyz", "-o", "out.extxyz"), "pair_style"),
        (("none.safetensors", "cu.extxyz", "-o", "out.extxyz"), "no model file"),
        (("zjw4", "cu.extxyz", "-o", "out.extxyz"), "did you mean zjw04"),
        ((POTENTIAL, "cu.extxyz", "-o", "out.extxyz", "--repeat", 0, 1, 1), "at least 1"),
        ((POTENTIAL, "none.extxyz", "-o", "out.extxyz"), "no such file"),
        ((POTENTIAL, "cu.extxyz", "-o", "out.extxyz"), "one atom"),
        ((POTENTIAL, "cu.extxyz", "-o", "out.extxyz", "--resume"), "no state"),
        ((POTENTIAL, "cu.extxyz", "-o", "out.extxyz", "--ensemble", "nvt", "--pressure", 3), "no target pressure"),
        ((POTENTIAL, "cu.extxyz", "-o", "out.extxyz", "--set", "step=3"), "did you mean"),
        (("Al_zhou.eam.alloy", "cu.extxyz", "-o", "out.extxyz", "--repeat", 2, 2, 2), "no Cu"),
    ],
)
def test_bad_input(
    arguments: tuple[object, ...],
    says: str,
    alloysmith: CommandLine,
    crystal: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = alloysmith("md", *arguments)
    assert ended.code in (1, 2)
    assert says in ended.err
    assert "internal error" not in ended.err
    assert not (tmp_path / "out.extxyz").exists()
