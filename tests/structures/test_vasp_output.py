"""VASP outputs: every complete ionic step, both energies, signs and units, and what did not converge."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
import pytest
from alloysmith.errors import StructureError
from alloysmith.structures.vasp_output import is_vasp_output, read_vasp_output
from ase import Atoms
from ase.build import bulk
from ase.constraints import FixAtoms

STRESS_KBAR = np.array([[12.0, 1.0, 2.0], [1.0, -8.0, 3.0], [2.0, 3.0, 5.0]])
EV_ANG3_PER_KBAR = 1.0 / 1602.1766208


@dataclass(frozen=True)
class Step:
    """An ionic step: electronic energies (free, to zero smearing), a force on the first atom."""

    electronic: Sequence[tuple[float, float]]
    force: float = 0.25
    shift: float = 0.0


SHORT = Step([(-10.0, -9.9), (-11.0, -10.98)])
LATER = Step([(-12.0, -11.9), (-12.5, -12.48)], force=-0.5, shift=0.1)
STUCK = Step([(-9.0, -8.9), (-11.0, -10.9), (-9.5, -9.4), (-11.2, -11.1)])
CALM = Step([(-9.0, -8.9), (-11.0, -10.9), (-11.2, -11.1), (-11.2 + 5e-5, -11.1)])


def crystal() -> Atoms:
    atoms = bulk("Ni", "fcc", a=3.5, cubic=True)
    atoms.symbols[3] = "Mo"
    return atoms


def vectors(name: str, rows: np.ndarray) -> str:
    body = "".join(f"<v> {' '.join(f'{x:.8f}' for x in row)} </v>\n" for row in rows)
    return f'<varray name="{name}">\n{body}</varray>\n'


def energy(free: float, zero: float) -> str:
    return f'<energy><i name="e_fr_energy">{free:.8f}</i><i name="e_0_energy">{zero:.8f}</i></energy>\n'


def moved(step: Step) -> Atoms:
    atoms = crystal()
    atoms.positions[0, 0] += step.shift
    return atoms


def forces_of(step: Step) -> np.ndarray:
    forces = np.zeros((4, 3))
    forces[0, 1], forces[1, 1] = step.force, -step.force
    return forces


def structure(atoms: Atoms) -> str:
    basis = vectors("basis", atoms.cell.array)
    positions = vectors("positions", atoms.get_scaled_positions(wrap=False))
    return f"<structure><crystal>{basis}</crystal>{positions}</structure>\n"


def calculation(step: Step, pv_ev: float) -> str:
    scsteps = "".join(f"<scstep>{energy(*pair)}</scstep>\n" for pair in step.electronic)
    free, _ = step.electronic[-1]
    wrong_zero = energy(free + pv_ev, 0.123)  # VASP's own e_0_energy is wrong here
    return (
        f"<calculation>\n{scsteps}{structure(moved(step))}"
        f"{vectors('forces', forces_of(step))}{vectors('stress', STRESS_KBAR)}{wrong_zero}</calculation>\n"
    )


def vasprun(steps: Sequence[Step], pstress_kbar: float = 0.0) -> str:
    atoms = crystal()
    rows = "".join(f"<rc><c>{s} </c><c>1</c></rc>" for s in atoms.get_chemical_symbols())
    initial = structure(atoms).replace("<structure>", '<structure name="initialpos">')
    pv_ev = pstress_kbar * EV_ANG3_PER_KBAR * atoms.cell.volume
    return (
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<modeling>\n'
        '<kpoints><varray name="kpointlist"><v>0 0 0</v></varray><varray name="weights"><v>1</v></varray></kpoints>\n'
        f'<parameters><separator name="electronic"><i name="EDIFF">0.0001</i><i type="int" name="NELM">4</i>'
        f'<i name="PSTRESS">{pstress_kbar}</i></separator></parameters>\n'
        f'<atominfo><array name="atoms"><set>{rows}</set></array></atominfo>\n'
        f"{initial}"
        f"{''.join(calculation(step, pv_ev) for step in steps)}</modeling>\n"
    )


def outcar(steps: Sequence[Step], ending: str = " General timing and accounting informations for this job:\n") -> str:
    text = (
        2
        * " POTCAR:    PAW_PBE Ni_pv 06Sep2000\n POTCAR:    PAW_PBE Mo 08Apr2002\n"
        + "   VRHFIN =Ni: \n   VRHFIN =Mo : 5s4d\n"
        "   ions per type =               3   1\n"
        "   ISPIN  =      1    spin polarized calculation?\n"
        "--------------------------------------- Iteration      1(   1)  -------------------------------------\n"
    )
    for step in steps:
        atoms = moved(step)
        atoms.wrap()
        is_converged = len(step.electronic) < 4
        text += "------------------------ aborting loop because EDIFF is reached ---\n" if is_converged else ""
        xx, yy, zz = np.diag(STRESS_KBAR)
        xy, yz, zx = STRESS_KBAR[0, 1], STRESS_KBAR[1, 2], STRESS_KBAR[2, 0]
        text += f"  in kB    {xx:12.5f}{yy:12.5f}{zz:12.5f}{xy:12.5f}{yz:12.5f}{zx:12.5f}\n"
        text += "      direct lattice vectors                 reciprocal lattice vectors\n"
        for row in atoms.cell.array:
            text += "  " + " ".join(f"{x:14.9f}" for x in (*row, 0.0, 0.0, 0.0)) + "\n"
        text += "\n POSITION                                       TOTAL-FORCE (eV/Angst)\n ---------\n"
        for position, force in zip(atoms.positions, forces_of(step), strict=True):
            text += " ".join(f"{x:14.8f}" for x in (*position, *force)) + "\n"
        text += " ---------\n    total drift:  0.0 0.0 0.0\n"
        free, zero = step.electronic[-1]
        text += (
            "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n  ---------------------------------------------------\n"
        )
        text += f"  free  energy   TOTEN  = {free:16.8f} eV\n\n"
        text += f"  energy  without entropy= {zero - 0.1:16.8f}  energy(sigma->0) = {zero:16.8f}\n"
    return text + ending


WRITERS = {"vasprun.xml": vasprun, "OUTCAR": outcar}


@pytest.mark.parametrize("name", WRITERS)
def test_steps_have_both_energies_forces_and_stress_under_ase_signs(tmp_path: Path, name: str):
    (tmp_path / name).write_text(WRITERS[name]([SHORT, LATER]))
    run = read_vasp_output(tmp_path / name)
    assert not run.is_truncated
    assert [step.number for step in run.steps] == [1, 2]
    for found, step in zip(run.steps, (SHORT, LATER), strict=True):
        assert found.is_converged
        assert found.atoms.get_chemical_symbols() == ["Ni", "Ni", "Ni", "Mo"]
        free, zero = step.electronic[-1]
        assert found.atoms.info["free_energy"] == pytest.approx(free, abs=1e-7)
        assert found.atoms.info["energy"] == pytest.approx(zero, abs=1e-7)
        np.testing.assert_allclose(found.atoms.arrays["forces"], forces_of(step), atol=1e-8)
        np.testing.assert_allclose(found.atoms.info["stress"], -STRESS_KBAR * EV_ANG3_PER_KBAR, rtol=1e-6)
        difference = found.atoms.positions - moved(step).positions
        fractions = difference @ np.linalg.inv(found.atoms.cell.array)
        np.testing.assert_allclose(fractions, np.round(fractions), atol=1e-7)


@pytest.mark.parametrize("name", WRITERS)
def test_values_are_those_that_ase_reads(tmp_path: Path, name: str):
    (tmp_path / name).write_text(WRITERS[name]([SHORT, LATER]))
    for found, atoms in zip(read_vasp_output(tmp_path / name).steps, ase.io.read(tmp_path / name, ":"), strict=True):
        results = atoms.calc.results
        assert found.atoms.info["energy"] == pytest.approx(results["energy"], abs=1e-9)
        assert found.atoms.info["free_energy"] == pytest.approx(results["free_energy"], abs=1e-9)
        np.testing.assert_allclose(found.atoms.arrays["forces"], results["forces"], atol=1e-12)
        np.testing.assert_allclose(
            found.atoms.info["stress"][[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]], results["stress"], rtol=1e-7
        )
        np.testing.assert_allclose(found.atoms.positions, atoms.positions, atol=1e-9)


@pytest.mark.parametrize("name", WRITERS)
def test_unconverged_electrons_are_marked(tmp_path: Path, name: str):
    (tmp_path / name).write_text(WRITERS[name]([SHORT, STUCK, LATER]))
    assert [step.is_converged for step in read_vasp_output(tmp_path / name).steps] == [True, False, True]


def test_vasprun_that_converges_in_the_last_allowed_step_counts_as_converged(tmp_path: Path):
    (tmp_path / "vasprun.xml").write_text(vasprun([CALM, STUCK]))
    assert [step.is_converged for step in read_vasp_output(tmp_path / "vasprun.xml").steps] == [True, False]


def test_external_pressure_is_taken_out_of_the_energy(tmp_path: Path):
    (tmp_path / "vasprun.xml").write_text(vasprun([SHORT], pstress_kbar=50.0))
    (step,) = read_vasp_output(tmp_path / "vasprun.xml").steps
    assert step.atoms.info["free_energy"] == pytest.approx(-11.0, abs=1e-5)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("share", [0.75, 0.9])
def test_a_run_cut_short_gives_its_complete_steps(tmp_path: Path, name: str, share: float):
    text = WRITERS[name]([SHORT, LATER])
    (tmp_path / name).write_text(text[: int(len(text) * share)])
    run = read_vasp_output(tmp_path / name)
    assert run.is_truncated
    assert len(run.steps) == 1
    assert run.steps[0].atoms.info["free_energy"] == pytest.approx(-11.0, abs=1e-7)


def test_compressed_files_are_read(tmp_path: Path):
    (tmp_path / "vasprun.xml.gz").write_bytes(gzip.compress(vasprun([SHORT]).encode()))
    (tmp_path / "OUTCAR.gz").write_bytes(gzip.compress(outcar([SHORT]).encode()))
    assert len(read_vasp_output(tmp_path / "vasprun.xml.gz").steps) == 1
    assert len(read_vasp_output(tmp_path / "OUTCAR.gz").steps) == 1


def test_numbers_that_overflowed_are_nan_rather_than_an_unreadable_file(tmp_path: Path):
    text = vasprun([SHORT]).replace("0.25000000", "**********")
    (tmp_path / "vasprun.xml").write_text(text)
    (step,) = read_vasp_output(tmp_path / "vasprun.xml").steps
    assert np.isnan(step.atoms.arrays["forces"][0, 1])


def test_constraints_beside_an_outcar_hide_no_forces(tmp_path: Path):
    fixed = crystal()
    fixed.set_constraint(FixAtoms([0, 1]))
    ase.io.write(tmp_path / "POSCAR", fixed, format="vasp")
    (tmp_path / "OUTCAR").write_text(outcar([SHORT]))
    (step,) = read_vasp_output(tmp_path / "OUTCAR").steps
    assert not step.atoms.constraints
    assert step.atoms.arrays["forces"][0, 1] == 0.25


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("text", ["", "something else\n", "<modeling><atominfo>"])
def test_what_is_no_vasp_output_is_refused_by_name(tmp_path: Path, name: str, text: str):
    (tmp_path / name).write_text(text)
    with pytest.raises(StructureError, match=name):
        read_vasp_output(tmp_path / name)


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(StructureError, match="no such file"):
        read_vasp_output(tmp_path / "OUTCAR")


@pytest.mark.parametrize("name", ["vasprun.xml", "vasprun_2.xml.gz", "OUTCAR", "OUTCAR.relax.gz", "outcar"])
def test_names_of_vasp_outputs(name: str):
    assert is_vasp_output(f"folder/{name}")
    assert not is_vasp_output(f"{name[:3]}.extxyz")
