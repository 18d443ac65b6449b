"""What was found wrong with labelled data, all of it together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ..base import SurrogateError

Severity = Literal["error", "warning"]
Defect = Literal[
    "no_energy",
    "ambiguous_labels",
    "not_finite",
    "bad_shape",
    "missing_forces",
    "missing_stress",
    "no_virial",
    "asymmetric_stress",
    "contradicting_stress",
    "unconverged",
    "truncated_run",
    "failed_label",
    "unknown_element",
    "bad_cell",
    "overlapping_atoms",
    "unphysical_density",
    "huge_forces",
    "net_force",
    "absurd_energy",
    "duplicate",
    "conflicting_duplicates",
    "test_frame_in_training",
    "mixed_energy_references",
]
_N_NAMED = 5


@dataclass(frozen=True)
class RowDefect:
    """Something wrong with one frame.

    Attributes:
        kind: what it is.
        source: file and row.
        detail: what was found there.
        severity: errors forbid to learn from the frame.
    """

    kind: Defect
    source: str
    detail: str
    severity: Severity = "error"


@dataclass(frozen=True)
class Finding:
    """A kind of defect, with all the frames that have it.

    Attributes:
        advice: what to do about it.
        defects: at least one; of the same kind and severity.
        is_about_set: whether the frames disagree as a set, so that leaving some out is no remedy.
    """

    kind: Defect
    severity: Severity
    advice: str
    defects: tuple[RowDefect, ...]
    is_about_set: bool = False

    def __str__(self) -> str:
        named = "; ".join(f"{defect.source}: {defect.detail}" for defect in self.defects[:_N_NAMED])
        n = len(self.defects)
        count = "" if self.is_about_set else f" in {n} frame{'s' * (n != 1)}"
        rest = f"; and {n - _N_NAMED} more" if n > _N_NAMED else ""
        return f"{self.kind.replace('_', ' ')}{count}: {named}{rest}. {self.advice}"


_ADVICE: dict[Defect, str] = {
    "no_energy": "Every frame needs a total energy: name it with energy_key, or leave the frames out",
    "ambiguous_labels": "Say with energy_key, forces_key and stress_key which labels to use",
    "not_finite": "Relabel the frames or leave them out",
    "bad_shape": "Forces are three numbers per atom, stresses 3 × 3 or six numbers, energies one",
    "missing_forces": "Name them with forces_key, or say has_forces: false for the file",
    "missing_stress": "Correct stress_key or virial_key, or leave the frames out",
    "no_virial": "Densities under pressure may come out wrong: add virial.npy, or give the virial no weight",
    "asymmetric_stress": "Check what the numbers are and their order",
    "contradicting_stress": "Stress and virial of a frame differ: name the right one with stress_key or virial_key",
    "unconverged": "Left out: converge these calculations if the frames are needed",
    "truncated_run": "The complete steps are used",
    "failed_label": "Left out: their labelling failed",
    "unknown_element": "Add the elements to the potential, or leave the frames out",
    "bad_cell": "Give three independent cell vectors along periodic directions",
    "overlapping_atoms": "Leave the frames out, or lower checks.min_distance if they are meant to be there",
    "unphysical_density": "Check cell and units, or change checks.min_volume and checks.max_volume_ang3_per_atom",
    "huge_forces": "Leave the frames out, or raise checks.max_force_ev_ang if they are meant to be there",
    "net_force": "Forces should add up to zero: external fields, or loose convergence?",
    "absurd_energy": "Relabel the frames or leave them out",
    "duplicate": "Copies weigh more than others; a random split keeps them together",
    "conflicting_duplicates": "The same structure has different labels: keep those of one method",
    "test_frame_in_training": "Test errors would be flattered: take these frames from files or from test_files",
    "mixed_energy_references": (
        "Either side may be the odd one. Bring all labels to one reference (total energies of one setup), or leave "
        "files out; raise checks.max_reference_shift_ev_per_atom only if the difference is physical"
    ),
}
_ABOUT_SET: frozenset[Defect] = frozenset({"mixed_energy_references"})


@dataclass(frozen=True)
class FrameReport:
    """All findings on a set of frames."""

    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Findings that forbid to learn from the data as it is."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Findings that one should know."""
        return tuple(finding for finding in self.findings if finding.severity == "warning")

    def __str__(self) -> str:
        return "\n".join(f"{finding.severity}: {finding}" for finding in self.findings)


class FrameError(SurrogateError):
    """Labelled data that must not be learned from.

    Attributes:
        report: all that was found.
    """

    exit_code = 2

    def __init__(self, report: FrameReport, n_frames: int) -> None:
        listed = "\n".join(f"  {number}. {finding}" for number, finding in enumerate(report.errors, start=1))
        remedy = ""
        if not any(finding.is_about_set for finding in report.errors):
            remedy = "\nWith on_bad_frame: drop, the frames named are left out."
        super().__init__(f"the {n_frames} labelled frames have defects:\n{listed}{remedy}")
        self.report = report


def build_report(defects: Iterable[RowDefect]) -> FrameReport:
    """Sort defects into findings, errors first, in the order in which their kinds were found."""
    members: dict[tuple[Severity, Defect], list[RowDefect]] = {}
    for defect in defects:
        members.setdefault((defect.severity, defect.kind), []).append(defect)
    found = [
        Finding(kind, severity, _ADVICE[kind], tuple(rows), kind in _ABOUT_SET)
        for (severity, kind), rows in members.items()
    ]
    return FrameReport(tuple(sorted(found, key=lambda finding: finding.severity)))


def bad_sources(defects: Sequence[RowDefect]) -> Iterator[str]:
    """Sources of the frames that must not be learned from."""
    return (defect.source for defect in defects if defect.severity == "error" and defect.kind not in _ABOUT_SET)
