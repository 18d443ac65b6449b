"""Outputs of real runs of pw.x, good and bad, and good ones that are damaged at every place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import alloysmith
import numpy as np
import pytest
from alloysmith.oracles.base import FailureKind, OracleError
from alloysmith.oracles.espresso_output import EspressoRun, read_result
from alloysmith.tests.oracles.espresso_cases import dimer
from ase import Atoms
from ase.units import create_units

FOLDER = Path(alloysmith.__file__).parent / "tests" / "data" / "espresso"
STATUS = json.loads((FOLDER / "runs.json").read_text())
CONV_THR_RY = 1e-9
UNITS = create_units("2006")  # what ASE takes for this program
Ry, Bohr = UNITS["Ry"], UNITS["Bohr"]


def recorded(name: str) -> EspressoRun:
    return EspressoRun(STATUS[name]["status"], (FOLDER / f"{name}.pwo").read_text(), STATUS[name]["errors"])


def failure(run: EspressoRun, atoms: Atoms | None = None) -> OracleError:
    with pytest.raises(OracleError) as caught:
        read_result(run, atoms or dimer(), CONV_THR_RY)
    return caught.value


def test_values_of_a_converged_run_are_what_the_file_says() -> None:
    run = recorded("converged")
    found = read_result(run, dimer(), CONV_THR_RY)
    (energy_line,) = [line for line in run.output.splitlines() if line.startswith("!")]
    assert found.energy_ev == pytest.approx(float(energy_line.split()[-2]) * Ry, rel=1e-12)
    rows = [line.split()[-3:] for line in run.output.splitlines() if "force =" in line and line.lstrip()[:4] == "atom"]
    np.testing.assert_allclose(found.forces, np.array(rows, dtype=float) * Ry / Bohr, rtol=1e-12)
    assert np.abs(found.forces).max() > 0.1
    lines = run.output.splitlines()
    (at,) = [k for k, line in enumerate(lines) if "total   stress" in line]
    printed = np.array([line.split()[:3] for line in lines[at + 1 : at + 4]], dtype=float)
    expected = -printed * Ry / Bohr**3  # pw.x counts compression as positive
    xx_to_xy = expected[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    np.testing.assert_allclose(found.stress, xx_to_xy, rtol=1e-12)
    assert run.version == "6.7MaX"
    assert found.details["n_iterations"] > 3
    assert found.details["scf_accuracy_ry"] < CONV_THR_RY
    assert "total_magnetization_mub" not in found.details
    assert "total_magnetization_mub" in read_result(recorded("magnetic"), dimer(), CONV_THR_RY).details


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("not_converged", FailureKind.NOT_CONVERGED, "after 2 iterations"),
        ("claims_convergence", FailureKind.NOT_CONVERGED, "claimed after 2 iterations"),
        ("killed", FailureKind.CRASHED, "SIGKILL"),
        ("full_disk", FailureKind.CORRUPT_OUTPUT, "before JOB DONE"),
        ("missing_pseudopotential", FailureKind.UNAVAILABLE, "NoSuch.UPF not found"),
        ("unknown_key", FailureKind.UNAVAILABLE, "nosuchkey"),
    ],
)
def test_bad_runs_are_failures_of_their_kind(name: str, kind: FailureKind, said: str) -> None:
    error = failure(recorded(name))
    assert (error.kind, said in error.message) == (kind, True), error.message
    json.dumps(error.details, allow_nan=False)


@pytest.mark.parametrize("status", [0, 1])
def test_an_output_cut_anywhere_gives_no_label(status: int) -> None:
    run = recorded("converged")
    last = run.output.index("JOB DONE")
    for length in range(0, last, 97):
        error = failure(replace(run, output=run.output[:length], status=status))
        assert error.kind in (FailureKind.CORRUPT_OUTPUT, FailureKind.CRASHED, FailureKind.UNAVAILABLE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Forces acting on atoms", "Forces have gone"),
        ("total   stress", "no stress"),
        ("!    total energy", "     total energy"),
        ("     atom    2 type  1   force =", "\n"),
    ],
)
def test_a_missing_part_gives_no_label(old: str, new: str) -> None:
    run = recorded("converged")
    assert old in run.output
    assert failure(replace(run, output=run.output.replace(old, new))).kind is FailureKind.CORRUPT_OUTPUT


@pytest.mark.parametrize("bad", ["NaN", "*************", "Infinity"])
@pytest.mark.parametrize("after", ["atom    1 type  1   force =", "(kbar)     P=", "!    total energy              ="])
def test_numbers_that_are_none_give_no_label(bad: str, after: str) -> None:
    run = recorded("converged")
    before, _, rest = run.output.partition(after)
    if after.startswith("(kbar)"):  # the first number of the line below
        head, newline, below = rest.partition("\n")
        after, rest = after + head + newline, below
    spoilt = before + after + " " + bad + " " + rest.lstrip(" ").partition(" ")[2]
    assert failure(replace(run, output=spoilt)).kind is FailureKind.CORRUPT_OUTPUT


def test_a_status_that_contradicts_the_output_is_believed() -> None:
    run = recorded("converged")
    assert failure(replace(run, status=1)).kind is FailureKind.CRASHED
    assert failure(replace(run, status=-9)).kind is FailureKind.CRASHED


def test_an_output_about_something_else() -> None:
    other = dimer()
    other.symbols[0] = "Ni"
    assert failure(recorded("converged"), other).kind is FailureKind.CORRUPT_OUTPUT
    assert failure(recorded("converged"), dimer() * (1, 1, 2)).kind is FailureKind.CORRUPT_OUTPUT


def test_convergence_is_measured_against_what_was_asked() -> None:
    run = recorded("converged")
    accuracy_ry = read_result(run, dimer(), CONV_THR_RY).details["scf_accuracy_ry"]
    with pytest.raises(OracleError) as caught:
        read_result(run, dimer(), accuracy_ry / 2.0)
    assert caught.value.kind is FailureKind.NOT_CONVERGED


@pytest.mark.parametrize(
    ("routine", "message", "kind"),
    [
        ("c_bands", "too many bands are not converged", FailureKind.NOT_CONVERGED),
        ("cdiaghg", "problems computing cholesky", FailureKind.NOT_CONVERGED),
        ("davcio", "error while writing to file", FailureKind.UNAVAILABLE),
        ("set_dft_from_name", "conflicting values for igcx", FailureKind.UNAVAILABLE),
        ("allocate_fft", "something else", FailureKind.CRASHED),
    ],
)
def test_errors_of_routines(routine: str, message: str, kind: FailureKind) -> None:
    percent = " " + 78 * "%"
    header = recorded("converged").output[:2000]
    text = (
        f"{header}\n{percent}\n     Error in routine {routine} (1):\n     {message}\n{percent}\n\n     stopping ...\n"
    )
    error = failure(EspressoRun(1, text, ""))
    assert (error.kind, message in error.message) == (kind, True)


def test_a_program_that_is_not_pw_x() -> None:
    error = failure(EspressoRun(127, "", "pw.x: No such file or directory\n"))
    assert error.kind is FailureKind.UNAVAILABLE
    assert "No such file" in error.message


def test_bands_that_overflow_do_not_matter() -> None:
    run = recorded("converged")
    head, mark, tail = run.output.partition("bands (ev):\n\n")
    spoilt = head + mark + "   " + 80 * "*" + tail[tail.index("\n") :]
    assert read_result(replace(run, output=spoilt), dimer(), CONV_THR_RY).energy_ev < 0.0
