"""Quantum ESPRESSO at work: purity, failures made on purpose, and physics against finite differences."""

from __future__ import annotations

import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from alloysmith.errors import ConfigError
from alloysmith.generators.base import Failure
from alloysmith.loop.execution.base import Task
from alloysmith.loop.execution.process_pool import ProcessPool
from alloysmith.oracles.base import FailureKind, OracleError, Request
from alloysmith.oracles.espresso import EspressoSinglePoint
from alloysmith.tests.oracles.espresso_cases import al_settings, dimer, needs_espresso
from ase import Atoms
from ase.build import bulk
from ase.eos import EquationOfState
from ase.units import GPa

pytestmark = needs_espresso


@pytest.fixture(scope="module")
def oracle() -> EspressoSinglePoint:
    return al_settings().build()


def failure(oracle: EspressoSinglePoint, atoms: Atoms) -> OracleError:
    with pytest.raises(OracleError) as caught:
        oracle.evaluate(Request("x", atoms))
    return caught.value


def programs_in(folder: Path) -> Iterator[int]:
    """Processes that work somewhere below a folder."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                place = Path((entry / "cwd").readlink())
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if place.is_relative_to(folder) and state not in "ZX":
                yield int(entry.name)


def eventually(holds: Callable[[], bool], within_s: float = 20.0) -> bool:
    give_up_at = time.monotonic() + within_s
    while time.monotonic() < give_up_at:
        if holds():
            return True
        time.sleep(0.02)
    return holds()


def test_the_energy_counts_from_lone_atoms_when_they_are_given(oracle: EspressoSinglePoint) -> None:
    atoms = dimer()
    atoms.set_initial_magnetic_moments([1.0, -1.0])  # of no concern to the oracle
    plain = oracle.evaluate(Request("x", atoms))
    shifted = al_settings(atomic_energies_ev={"Al": -53.0}).build().evaluate(Request("x", dimer()))
    assert shifted.values["energy_ev"] == pytest.approx(plain.values["energy_ev"] + 106.0, abs=1e-9)
    assert shifted.values["energy_ev_per_atom"] == pytest.approx(shifted.values["energy_ev"] / 2.0, abs=1e-9)
    assert np.array_equal(shifted.values["forces_ev_ang"], plain.values["forces_ev_ang"])
    assert "total_magnetization_mub" not in plain.details
    assert plain.cpu_s > 0.05


def test_no_self_consistency_is_no_label_and_its_folder_is_kept_if_asked(tmp_path: Path) -> None:
    one_step = {"electrons": {"electron_maxstep": 1}}
    error = failure(al_settings(extra_input=one_step, scratch_dir=tmp_path).build(), dimer())
    assert error.kind is FailureKind.NOT_CONVERGED
    assert error.details["n_iterations"] == 1
    assert not list(tmp_path.iterdir())
    error = failure(al_settings(extra_input=one_step, scratch_dir=tmp_path, keep_failed=True).build(), dimer())
    (folder,) = tmp_path.iterdir()
    assert str(folder) in error.message
    assert {"espresso.pwi", "espresso.pwo"} <= {path.name for path in folder.iterdir()}


def test_elements_and_structures_it_does_not_know(oracle: EspressoSinglePoint) -> None:
    atoms = dimer()
    atoms.symbols[1] = "Ni"
    error = failure(oracle, atoms)
    assert (error.kind, "Ni" in error.message) == (FailureKind.BAD_STRUCTURE, True)
    close = bulk("Al", a=4.0).repeat((1, 1, 2))
    close.positions[1] = close.positions[0] + 0.1
    assert failure(oracle, close).kind is FailureKind.BAD_STRUCTURE
    with pytest.raises(ConfigError, match="no pseudopotential for Ni"):
        al_settings().check(("Al", "Ni"))


def test_settings_are_tried_on_the_program_itself() -> None:
    al_settings().check(("Al",))
    with pytest.raises(ConfigError, match="no_such_key"):
        al_settings(extra_input={"system": {"no_such_key": 3}}).check(("Al",))


def test_a_program_or_pseudopotential_that_goes_away(tmp_path: Path) -> None:
    program = tmp_path / "my-pw.x"
    program.write_text('#!/bin/sh\nexec pw.x "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    file = tmp_path / "Al.UPF"
    file.write_bytes((al_settings().pseudo_dir / "Al.pz-vbc.UPF").read_bytes())
    oracle = al_settings(command=str(program), pseudo_dir=tmp_path, pseudopotentials={"Al": "Al.UPF"}).build()
    program.unlink()
    error = failure(oracle, dimer())
    assert (error.kind, "my-pw.x" in error.message) == (FailureKind.UNAVAILABLE, True)
    file.unlink()
    error = failure(oracle, dimer())
    assert (error.kind, "no longer there" in error.message) == (FailureKind.UNAVAILABLE, True)


def test_no_room_for_scratch() -> None:
    error = failure(al_settings(scratch_dir="/proc/scratch").build(), dimer())
    assert (error.kind, "scratch_dir" in error.message) == (FailureKind.UNAVAILABLE, True)


def test_a_program_that_is_killed(tmp_path: Path) -> None:
    oracle = al_settings(scratch_dir=tmp_path, ecutwfc_ry=40.0, kpts=(6, 6, 6)).build()

    def kill() -> None:
        assert eventually(lambda: any("iteration #  1" in p.read_text() for p in tmp_path.rglob("*.pwo")))
        for pid in programs_in(tmp_path):
            if Path(f"/proc/{pid}/comm").read_text().strip() == "pw.x":
                os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    error = failure(oracle, dimer())
    killer.join()
    assert (error.kind, "SIGKILL" in error.message) == (FailureKind.CRASHED, True)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_missed_deadline_leaves_no_program_and_no_folder(tmp_path: Path) -> None:
    endless = al_settings(scratch_dir=tmp_path, ecutwfc_ry=80.0, kpts=(20, 20, 20))
    seen: set[str] = set()

    def watch() -> None:
        while not is_over.wait(0.05):
            seen.update(Path(f"/proc/{pid}/comm").read_text().strip() for pid in programs_in(tmp_path))

    is_over = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    pool = ProcessPool(endless.build, 1)
    try:
        pool.submit(Task("t", Request("x", dimer()), deadline_s=4.0))
        (outcome,) = list(pool.completed(60.0))
        is_over.set()
        watcher.join()
        assert "pw.x" in seen
        assert isinstance(outcome.result, Failure)
        assert outcome.result.kind is FailureKind.TIMED_OUT
        assert eventually(lambda: not list(programs_in(tmp_path)))
        assert eventually(lambda: not list(tmp_path.iterdir()))
    finally:
        is_over.set()
        pool.close()


@pytest.mark.slow
def test_forces_are_the_gradient_of_the_energy() -> None:
    oracle = al_settings(ecutwfc_ry=16.0, kpts=(3, 3, 2), conv_thr_ry=1e-11).build()
    atoms, step_ang = dimer(), 0.01
    forces = oracle.evaluate(Request("x", atoms)).values["forces_ev_ang"][1]
    for axis in range(3):
        energies = []
        for sign in (1.0, -1.0):
            moved = atoms.copy()
            moved.positions[1, axis] += sign * step_ang
            energies.append(oracle.evaluate(Request("x", moved)).values["energy_ev"])
        assert forces[axis] == pytest.approx(-(energies[0] - energies[1]) / (2.0 * step_ang), rel=1e-3)


@pytest.mark.slow
def test_stress_is_the_gradient_of_the_energy() -> None:
    """With a smoothed kinetic energy, since else plane waves come and go with the strain (Pulay stress)."""
    smooth = {"system": {"ecfixed": 15.0, "qcutz": 60.0, "q2sigma": 3.0}}
    oracle = al_settings(ecutwfc_ry=22.0, kpts=(2, 2, 1), conv_thr_ry=1e-11, extra_input=smooth).build()
    atoms, step = dimer(3.9), 0.002
    values = oracle.evaluate(Request("x", atoms)).values
    stress = values["stress_ev_ang3"]
    assert np.ptp(stress) > 0.01  # so that a mistaken order would show
    for voigt, (i, j) in ((0, (0, 0)), (3, (1, 2)), (4, (0, 2)), (5, (0, 1))):
        energies = []
        for sign in (1.0, -1.0):
            strain = np.eye(3)
            strain[i, j] += 0.5 * sign * step
            strain[j, i] += 0.5 * sign * step
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            energies.append(oracle.evaluate(Request("x", strained)).values["energy_ev"])
        slope = (energies[0] - energies[1]) / (2.0 * step) / atoms.get_volume()
        assert stress[voigt] == pytest.approx(slope, rel=2e-3, abs=2e-6), voigt
    assert values["pressure_gpa"] == pytest.approx(-stress[:3].mean() / GPa, rel=1e-6)


@pytest.mark.slow
def test_aluminium_has_its_lattice_constant_and_bulk_modulus() -> None:
    """LDA gives 3.97 to 3.99 Å and 80 to 86 GPa; measured are 4.05 Å and 76 GPa."""
    oracle = al_settings(ecutwfc_ry=16.0, kpts=(8, 8, 8)).build()
    lattice_constants = np.linspace(3.85, 4.05, 5)
    labels = [oracle.evaluate(Request("x", bulk("Al", a=a))).values for a in lattice_constants]
    fit = EquationOfState(lattice_constants**3 / 4.0, [v["energy_ev"] for v in labels], eos="birchmurnaghan")
    volume, _, bulk_modulus = fit.fit()
    assert (4.0 * volume) ** (1.0 / 3.0) == pytest.approx(3.97, abs=0.03)
    assert bulk_modulus / GPa == pytest.approx(81.0, abs=6.0)
    pressures = [v["pressure_gpa"] for v in labels]
    assert pressures[0] > 5.0 > 0.0 > pressures[-1]
    assert np.all(np.diff(pressures) < 0.0)


@pytest.mark.slow
def test_nickel_is_magnetic() -> None:
    nickel = al_settings(
        pseudopotentials={"Ni": "Ni.pbe-nd-rrkjus.UPF"},
        ecutwfc_ry=24.0,
        ecutrho_ry=240.0,
        kpts=(4, 4, 4),
        degauss_ry=0.02,
        starting_magnetization={"Ni": 0.5},
    ).build()
    label = nickel.evaluate(Request("x", bulk("Ni", a=3.52)))
    assert label.details["total_magnetization_mub"] == pytest.approx(0.6, abs=0.15)  # measured: 0.6
