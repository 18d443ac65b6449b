"""`alloysmith convert`: data there and back, inputs, models."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from alloysmith.loop.config import load_settings
from alloysmith.loop.potential_fitting import PotentialFitConfig
from alloysmith.oracles.lammps_engine import BAR_PER_EV_ANG3
from alloysmith.structures.deepmd_data import deepmd_systems
from alloysmith.structures.files import read_structures, write_structures
from alloysmith.surrogates.deeppot.settings import DeepPotSettings
from alloysmith.surrogates.eam.settings import EamSettings
from alloysmith.surrogates.potentials.base import PotentialSpec
from alloysmith.surrogates.potentials.frame import Frame
from alloysmith.surrogates.potentials.settings import save_potential
from alloysmith.surrogates.potentials.torch_potential import TorchPotential
from alloysmith.tests.cli.toy import CommandLine
from ase import Atoms
from ase.build import bulk
from ase.stress import full_3x3_to_voigt_6_stress


def frames(n: int) -> list[Atoms]:
    rng = np.random.default_rng(0)
    found = []
    for k in range(n):
        atoms = bulk("Ni", cubic=True).repeat((2, 1, 1))
        atoms.symbols[:3] = "Al"
        atoms.rattle(0.1, seed=k)
        stress = rng.normal(scale=0.01, size=(3, 3))
        atoms.info |= {"energy": float(rng.normal()), "stress": stress + stress.T}
        atoms.arrays["forces"] = rng.normal(size=(8, 3))
        found.append(atoms)
    return found


def test_data_there_and_back(alloysmith: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is as it was, to the last bits of the stress."""
    monkeypatch.setattr("alloysmith.loop.cli.convert._CHUNK", 3)
    write_structures(tmp_path / "data.extxyz", frames(7))
    ended = alloysmith("convert", tmp_path / "data.extxyz", "-o", tmp_path / "systems", "--elements", "Ni,Al")
    assert ended.code == 0, ended.err
    assert "7 frames in 1 systems (Al3Ni5)" in ended.out
    assert (tmp_path / "systems" / "Al3Ni5" / "type_map.raw").read_text().split() == ["Ni", "Al"]
    for target in ("back.extxyz", "back.extxyz.gz", "back.db"):
        ended = alloysmith("convert", tmp_path / "systems", "-o", tmp_path / target)
        assert ended.code == 0, ended.err
        for found, atoms in zip(read_structures(tmp_path / target), frames(7), strict=True):
            assert found.get_chemical_symbols() == atoms.get_chemical_symbols()
            assert np.array_equal(found.positions, atoms.positions)
            assert np.array_equal(found.arrays["forces"], atoms.arrays["forces"])
            assert found.info["energy"] == atoms.info["energy"]
    again = read_structures(tmp_path / "back.extxyz")[6]
    assert again.info["stress"] == pytest.approx(full_3x3_to_voigt_6_stress(frames(7)[6].info["stress"]), rel=1e-12)


def test_unusable_labels_leave_nothing(alloysmith: CommandLine, tmp_path: Path) -> None:
    rows = frames(3)
    del rows[1].info["energy"]
    write_structures(tmp_path / "data.extxyz", rows)
    ended = alloysmith("convert", tmp_path / "data.extxyz", "-o", tmp_path / "systems")
    assert ended.code == 1
    assert "data.extxyz row 2" in ended.err
    assert "nothing is written" in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["data.extxyz"]


def deepmd_input(folder: Path, **training) -> Path:
    content = {
        "model": {
            "type_map": ["Al", "Ni"],
            "descriptor": {"type": "se_e2_a", "sel": "auto", "rcut": 3.5, "rcut_smth": 2.5, "neuron": [4, 8]},
            "fitting_net": {"neuron": [8, 8]},
        },
        "learning_rate": {"start_lr": 0.01, "stop_lr": 0.001},
        "training": {"training_data": {"systems": ["systems"]}, "numb_steps": 6, **training},
    }
    (folder / "input.json").write_text(json.dumps(content))
    return folder / "input.json"


def test_an_input_becomes_a_fit_that_runs(alloysmith: CommandLine, tmp_path: Path) -> None:
    write_structures(tmp_path / "data.extxyz", frames(6))
    assert alloysmith("convert", tmp_path / "data.extxyz", "-o", tmp_path / "systems").code == 0
    (tmp_path / "fits").mkdir()
    path = tmp_path / "fits" / "fit.yaml"
    ended = alloysmith("convert", deepmd_input(tmp_path, oddity=3), "-o", path)
    assert ended.code == 0, ended.err
    assert "warning: training.oddity is 3; it has no counterpart" in ended.err
    assert "# changed: training.oddity is 3" in path.read_text()
    config: PotentialFitConfig = load_settings(path, PotentialFitConfig)
    assert config.training.optimizer.batch_frames == 4  # 32 atoms
    assert config.data.files[0].path == "../systems"
    checks = ("--set", "data.on_bad_frame=drop", "--set", "data.checks.max_energy_deviation_ev_per_atom=1000")
    ended = alloysmith("fit", path, "-o", tmp_path / "model.safetensors", *checks)
    assert ended.code == 0, ended.err
    assert "6 steps" in ended.out
    ended = alloysmith("convert", tmp_path / "model.safetensors", "-o", tmp_path / "model.yaml")
    assert ended.code == 0, ended.err
    assert "dp convert-backend model.yaml model.pth" in ended.out
    assert yaml.safe_load((tmp_path / "model.yaml").read_text())["model"]["type_map"] == ["Al", "Ni"]


def test_what_cannot_be_converted(alloysmith: CommandLine, tmp_path: Path) -> None:
    model = EamSettings(embedding="piecewise").build(["Cu"])
    save_potential(TorchPotential(PotentialSpec("eam", ("Cu",), 6.0), model), tmp_path / "eam.safetensors")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.json").write_text("{")
    for source, target, says in (
        ("eam.safetensors", "model.yaml", "is of kind eam"),
        ("empty", "data.extxyz", "neither a file nor a folder with DeePMD systems"),
        ("nowhere.extxyz", "systems", "neither a file nor a folder"),
        ("bad.json", "fit.yaml", "cannot be read as an input of DeePMD-kit"),
        ("bad.json", "fit.cif", "named as cif"),
    ):
        ended = alloysmith("convert", tmp_path / source, "-o", tmp_path / target)
        assert ended.code == 2, (source, ended.err)
        assert says in ended.err
        assert not (tmp_path / target).exists()


def test_an_input_that_no_fit_takes_leaves_what_was_there(alloysmith: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "fit.yaml").write_text("earlier")
    ended = alloysmith("convert", deepmd_input(tmp_path, seed=-1), "-o", tmp_path / "fit.yaml")
    assert ended.code == 2
    assert "input.json: seed" in ended.err
    assert (tmp_path / "fit.yaml").read_text() == "earlier"


_PEER = """
import sys
import numpy as np
from deepmd.utils.data import DeepmdData
data = DeepmdData(sys.argv[1], type_map=["Al", "Ni"])
for name, n, atomic in (("energy", 1, False), ("force", 3, True), ("virial", 9, False)):
    data.add(name, n, atomic=atomic, must=True, high_prec=True)
found = data.get_test()
np.savez(sys.argv[2], **{k: found[k] for k in ("coord", "box", "energy", "force", "virial", "type")})
"""


@pytest.mark.slow
def test_deepmd_kit_reads_what_is_written(alloysmith: CommandLine, tmp_path: Path) -> None:
    """Its own reader gives the same numbers, of plain and of mixed systems."""
    python = os.environ.get("DEEPMD_PYTHON")
    if python is None:
        pytest.skip("needs deepmd-kit 3 in an environment of its own; set DEEPMD_PYTHON to its interpreter")
    write_structures(tmp_path / "data.extxyz", frames(5))
    for name, options in (("plain", ()), ("mixed", ("--mixed", "--set-size", 2))):
        assert alloysmith("convert", tmp_path / "data.extxyz", "-o", tmp_path / name, *options).code == 0
        (system,) = deepmd_systems(tmp_path / name)
        subprocess.run([python, "-c", _PEER, system, tmp_path / "found.npz"], check=True, capture_output=True)
        found = np.load(tmp_path / "found.npz")
        assert len(found["energy"]) == 5
        originals = {round(atoms.info["energy"], 9): atoms for atoms in frames(5)}
        for k, energy in enumerate(found["energy"].ravel().tolist()):  # it shuffles them
            atoms = originals[round(energy, 9)]
            assert found["type"][k].tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
            assert found["coord"][k] == pytest.approx(atoms.positions.ravel(), abs=1e-12)
            assert found["box"][k] == pytest.approx(atoms.cell.array.ravel())
            assert found["force"][k] == pytest.approx(atoms.arrays["forces"].ravel())
            assert found["virial"][k] == pytest.approx(-atoms.cell.volume * atoms.info["stress"].ravel())


_LAMMPS = """units metal
atom_style atomic
atom_modify map array
read_data start.data
pair_style deepmd model.pth
pair_coeff * * Al Ni
compute v all pressure NULL virial
variable p equal (c_v[1]+c_v[2]+c_v[3])/3
thermo_style custom pe fmax v_p
thermo_modify format float %.12f
run 0
"""


def test_a_model_with_a_repulsion_of_nuclei_is_not_written_without_it(alloysmith: CommandLine, tmp_path: Path) -> None:
    model = DeepPotSettings(cutoff_ang=5.0, switch_ang=3.0, seed=0, core="zbl").build(["Al", "Ni"])
    spec = PotentialSpec("deeppot", ("Al", "Ni"), 5.0, core_ang={"Al-Ni": 1.5})
    save_potential(TorchPotential(spec, model), tmp_path / "model.safetensors")
    ended = alloysmith("convert", tmp_path / "model.safetensors", "-o", tmp_path / "model.yaml")
    assert ended.code != 0
    assert "fit it with potential.core: none" in ended.err


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_model_runs_under_pair_style_deepmd(alloysmith: CommandLine, tmp_path: Path) -> None:
    """The route of docs/deepmd.md: model file, YAML, ``dp convert-backend``, LAMMPS; the same energy."""
    python = os.environ.get("DEEPMD_PYTHON")
    if python is None or not Path(python).with_name("lmp").is_file():
        pytest.skip("needs deepmd-kit 3 with LAMMPS; set DEEPMD_PYTHON to the interpreter of its environment")
    atoms = frames(1)[0].repeat((2, 3, 3))
    model = DeepPotSettings(cutoff_ang=5.0, switch_ang=3.0, seed=0).build(["Al", "Ni"])
    model.prepare([Frame(atoms, -400.0)], seed=0)
    potential = TorchPotential(PotentialSpec("deeppot", ("Al", "Ni"), 5.0), model)
    save_potential(potential, tmp_path / "model.safetensors")
    assert alloysmith("convert", tmp_path / "model.safetensors", "-o", tmp_path / "model.yaml").code == 0
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    write_structures(tmp_path / "start.data", Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=True))
    (tmp_path / "in.lammps").write_text(_LAMMPS)
    for command in (("dp", "convert-backend", "model.yaml", "model.pth"), ("lmp", "-in", "in.lammps")):
        program = [Path(python).with_name(command[0]), *command[1:]]
        ended = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        if "Cannot find libcudart" in ended.stdout + ended.stderr:
            pytest.skip("DeePMD-kit's LAMMPS needs the CUDA 12 runtime in LD_LIBRARY_PATH, on a CPU too")
        assert ended.returncode == 0, ended.stderr[-2000:]
    lines = ended.stdout.splitlines()
    row = next(lines[k + 1] for k, line in enumerate(lines) if line.split()[:1] == ["PotEng"])
    energy, force, pressure = map(float, row.split())
    found = potential.evaluate([atoms])[0]
    assert energy == pytest.approx(found.energy_ev, abs=1e-6)
    assert force == pytest.approx(np.abs(found.forces).max(), abs=1e-6)
    assert pressure == pytest.approx(found.pressure_ev_ang3 * BAR_PER_EV_ANG3, abs=0.001)
