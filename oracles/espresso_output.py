"""What a run of ``pw.x`` gave: a label's values, when it proves that they are there and converged, or a typed failure.

An exit status of 0 proves nothing, nor does a single line of the output. Met with version 6.7: a run whose disk is full
ends with status 0 and half an output; one that was told not to insist on convergence writes "convergence has been
achieved" after one step, with a stress that is a fifth off; an unconverged one writes "JOB DONE". So all of these have
to agree: the status, the end of the output, the statement of convergence, the estimated accuracy, and every number.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.io.espresso import read_espresso_out

from .base import FailureKind, OracleError
from .external_program import ending

_READER_ERRORS = (  # what ASE's reader raises on damaged input
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    StopIteration,
    TypeError,
    ValueError,
)
_VERSION = re.compile(r"Program PWSCF\s+v\.?\s*(\S+)")
_ERROR = re.compile(r"Error in routine\s+(\S+)\s*\(\s*(-?\d+)\)\s*:\s*\n(.*?)\n\s*%%%", re.S)
_ACCURACY = re.compile(r"estimated scf accuracy\s+<\s+(\S+)\s*Ry")
_ACHIEVED = re.compile(r"convergence has been achieved in\s+(\d+) iterations")
_NOT_ACHIEVED = re.compile(r"convergence NOT achieved after\s+(\d+) iterations")
_ENERGY_MARK = re.compile(r"^!+\s+total energy", re.M)
_MAGNETIZATION = re.compile(r"total magnetization\s+=\s+(\S+)\s+Bohr")
_SCF_FORCE = re.compile(r"Total SCF correction =\s+(\S+)")
_NOT_WANTED = ("End of self-consistent calculation", "End of band structure calculation", "number of k points=")
"""Lines that would make ASE read bands, where an overflown number spoils a label that does not need it."""

_ROUTINES_OF_CONVERGENCE = ("c_bands", "electrons", "cdiaghg", "rdiaghg", "efermig", "efermit")
_ROUTINES_OF_INPUT = ("read", "iosys", "setup", "set_dft", "upf", "card", "input", "check_atoms_type")
_ROUTINES_OF_DISK = ("davcio", "diropn", "open_buffer", "check_tempdir", "seqopn", "mkdir", "write")
_EV_ANG_PER_RY_BOHR = 25.71104309541616


@dataclass(frozen=True)
class EspressoRun:
    """What a run left.

    Attributes:
        status: exit status; negative: the signal that ended it.
        output: of ``pw.x``.
        errors: what it wrote to standard error.
    """

    status: int
    output: str
    errors: str

    @property
    def version(self) -> str | None:
        """Version of ``pw.x``, such as ``"6.7MaX"``; ``None`` when it did not even begin."""
        match = _VERSION.search(self.output)
        return match[1] if match else None

    def last_words(self) -> str:
        """The end of what it wrote, on one line."""
        lines = [line.strip() for line in (self.errors.strip() or self.output.strip()).splitlines()]
        return " ".join(" ".join(line for line in lines if line.strip("-%= "))[-300:].split()) or "nothing was written"


@dataclass(frozen=True)
class EspressoResult:
    """A converged run.

    Attributes:
        energy_ev: "total energy", with smearing the free energy E - TS that forces and stress are derivatives of.
        forces: ``[n_atoms, 3]``, eV/Å.
        stress: ``[6]``, eV/Å^3, Voigt order xx yy zz yz xz xy, tension positive.
        details: iterations, accuracy reached (eV), what is left of the forces' own convergence (eV/Å, all atoms
            together), total magnetization (Bohr magnetons) of a spin-polarized run.
    """

    energy_ev: float
    forces: np.ndarray
    stress: np.ndarray
    details: dict[str, float]


def read_result(run: EspressoRun, atoms: Atoms, conv_thr_ry: float) -> EspressoResult:
    """Values of a run, if it proves them.

    Args:
        atoms: the structure that was asked for.
        conv_thr_ry: the convergence that was asked for.

    Raises:
        OracleError: ``not_converged``, ``corrupt_output``, ``crashed`` or ``unavailable``.
    """
    _check_ending(run)
    iterations = _ACHIEVED.findall(run.output)
    accuracy_ry = _last_accuracy(run.output)
    if not _reaches(accuracy_ry, conv_thr_ry):
        raise OracleError(
            FailureKind.NOT_CONVERGED,
            f"self-consistency is claimed after {iterations[-1]} iterations, but the estimated accuracy is "
            f"{accuracy_ry:.2g} Ry, and conv_thr_ry is {conv_thr_ry:.2g}",
            {"n_iterations": int(iterations[-1]), "scf_accuracy_ry": accuracy_ry},
        )
    if len(_ENERGY_MARK.findall(run.output)) != 1:
        raise _corrupt("there is more than one total energy; only plain self-consistent runs can be read")
    results = _read_with_ase(run.output, atoms)
    details = {"n_iterations": int(iterations[-1]), "scf_accuracy_ry": accuracy_ry}
    if found := _MAGNETIZATION.findall(run.output):
        details["total_magnetization_mub"] = float(found[-1])
    if found := _SCF_FORCE.findall(run.output):
        details["scf_force_correction_ev_ang"] = float(found[-1]) * _EV_ANG_PER_RY_BOHR
    if not np.isfinite(list(details.values())).all():
        raise _corrupt(f"not all figures are finite: {details}")
    return EspressoResult(*results, details)


def _check_ending(run: EspressoRun) -> None:
    """Check that the run came to its end, with a statement of convergence."""
    if match := _ERROR.search(run.output):
        raise _routine_error(match[1], " ".join(match[3].split()))
    if match := _NOT_ACHIEVED.search(run.output):
        accuracy_ry = _last_accuracy(run.output)
        raise OracleError(
            FailureKind.NOT_CONVERGED,
            f"no self-consistency after {match[1]} iterations: the estimated accuracy is {accuracy_ry:.2g} Ry. Try a "
            "smaller mixing_beta, a larger degauss_ry, or electron_maxstep in extra_input.electrons",
            {"n_iterations": int(match[1]), "scf_accuracy_ry": accuracy_ry if np.isfinite(accuracy_ry) else None},
        )
    if "No space left" in run.errors:
        raise OracleError(FailureKind.UNAVAILABLE, f"the disk of the scratch folder is full: {run.last_words()}")
    if run.status < 0:
        raise OracleError(FailureKind.CRASHED, f"pw.x {ending(run.status)}", {"last_words": run.last_words()})
    if run.version is None:
        raise OracleError(FailureKind.UNAVAILABLE, f"pw.x did not begin: it {ending(run.status)}: {run.last_words()}")
    if "JOB DONE" not in run.output:
        if run.status != 0:
            raise OracleError(FailureKind.CRASHED, f"pw.x {ending(run.status)}: {run.last_words()}")
        raise _corrupt("it ends before JOB DONE, though pw.x ended with status 0")
    if not _ACHIEVED.search(run.output):
        raise OracleError(FailureKind.NOT_CONVERGED, f"pw.x stopped before self-consistency and {ending(run.status)}")
    if run.status != 0:
        raise OracleError(FailureKind.CRASHED, f"pw.x {ending(run.status)}: {run.last_words()}")


def _routine_error(routine: str, message: str) -> OracleError:
    """The failure that an error of one of the program's routines is."""
    name = routine.lower()
    said = f"pw.x: {message} (routine {routine})"
    if name in _ROUTINES_OF_CONVERGENCE or "not converged" in message:
        return OracleError(FailureKind.NOT_CONVERGED, said)
    if any(part in name for part in _ROUTINES_OF_DISK):
        return OracleError(FailureKind.UNAVAILABLE, f"{said}; is the disk of the scratch folder full?")
    if any(part in name for part in _ROUTINES_OF_INPUT):
        return OracleError(FailureKind.UNAVAILABLE, f"{said}; correct the oracle's settings")
    return OracleError(FailureKind.CRASHED, said)


def _last_accuracy(output: str) -> float:
    found = _ACCURACY.findall(output)
    try:
        return float(found[-1]) if found else np.nan
    except ValueError:
        return np.nan


def _reaches(accuracy_ry: float, conv_thr_ry: float) -> bool:
    """Whether a printed accuracy (8 decimals, or two digits when below 1e-8) is one below the threshold."""
    return bool(np.isfinite(accuracy_ry)) and accuracy_ry <= 1.06 * conv_thr_ry + (5e-9 if accuracy_ry > 1e-8 else 0.0)


def _read_with_ase(output: str, atoms: Atoms) -> tuple[float, np.ndarray, np.ndarray]:
    wanted = "\n".join(line for line in output.splitlines() if not any(text in line for text in _NOT_WANTED))
    try:
        (image,) = read_espresso_out(io.StringIO(wanted + "\n"))
        results = image.calc.results
        energy_ev, forces, stress = float(results["energy"]), results["forces"], results["stress"]
    except _READER_ERRORS as error:
        raise _corrupt(f"it cannot be read ({type(error).__name__}: {error})") from error
    if image.numbers.tolist() != atoms.numbers.tolist():
        raise _corrupt(f"it is about {image.get_chemical_formula()}, not {atoms.get_chemical_formula()}")
    if forces.shape != (len(atoms), 3) or stress.shape != (6,):
        raise _corrupt(f"forces are {forces.shape} and stress is {stress.shape}; ({len(atoms)}, 3) and (6,) are needed")
    if not (np.isfinite(energy_ev) and np.isfinite(forces).all() and np.isfinite(stress).all()):
        raise _corrupt("energy, forces or stress are NaN or infinite")
    return energy_ev, forces, stress


def _corrupt(reason: str) -> OracleError:
    return OracleError(FailureKind.CORRUPT_OUTPUT, f"the output of pw.x cannot be used: {reason}")
