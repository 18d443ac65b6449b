"""Melting temperature by coexistence of crystal and melt, bisected; a task of hours that goes on after a kill."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from ...structures.settings import Settings
from ..base import FailureKind, OracleError
from .base import Bench
from .coexistence import CoexistencePlan, CoexistenceRun, run_coexistence
from .crystal import Crystal, equilibrium
from .two_phase import Protocol

_NEIGHBOUR_CUTOFF = {"fcc": 0.854, "bcc": 1.207}
"""Over the lattice constant: midway behind the first shell of fcc (12 atoms), behind the second of bcc (14)."""
_FULL_REPEAT: dict[str, tuple[int, int, int]] = {"fcc": (30, 10, 10), "bcc": (30, 15, 15)}
"""Of the paper "Machine learning enhanced empirical potentials for metals and alloys", section 4.1."""


@dataclass(frozen=True)
class MeltingPoint:
    """The melting temperature between two temperatures at which one phase won.

    Attributes:
        solidified_at_k, melted_at_k: the bracket.
        temperature_k: where the interface would stand still, by the speeds at both ends of the bracket; the middle
            of the bracket where speeds are not known; a temperature at which neither phase won.
        uncertainty_k: half of the bracket.
        is_from_velocities: whether speeds decided within the bracket.
        runs: every temperature that was examined, in that order.
    """

    solidified_at_k: float
    melted_at_k: float
    temperature_k: float
    uncertainty_k: float
    is_from_velocities: bool
    runs: tuple[CoexistenceRun, ...]

    def values(self) -> dict[str, float]:
        """The melting temperature."""
        return {"melting_temperature_k": self.temperature_k}


class MeltingSettings(Settings):
    """Melting temperature by solid-liquid coexistence."""

    kind: Literal["melting"] = "melting"
    low_k: PositiveFloat
    """A temperature at which the crystal surely grows; it is tried first."""
    high_k: PositiveFloat
    """A temperature at which the crystal surely melts; it is tried second."""
    tolerance_k: PositiveFloat = 50.0
    """The bracket is halved until it is no wider than this."""
    repeat: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    """Conventional cells of the two-phase cell, long along the first axis; by default 30 × 10 × 10 for fcc (12,000
    atoms) and 30 × 15 × 15 for bcc (13,500)."""
    crystal_repeat: PositiveInt = 6
    """Cells along each edge of the crystal that gives the lattice constant at each temperature."""
    timestep_fs: PositiveFloat = 1.0
    """Time step."""
    pressure_gpa: float = 0.0
    """External pressure."""
    max_time_ps: PositiveFloat = 300.0
    """Longest run at one temperature; it ends earlier when one phase is gone."""
    block_ps: PositiveFloat = 5.0
    """Time between saved states: what a kill can cost."""
    sample_ps: PositiveFloat = 1.0
    """Time between looks at the atoms."""
    equilibration_ps: PositiveFloat = 10.0
    """Time for the crystal to settle at a temperature; also the beginning of a run that its trend leaves out."""
    melting_ps: PositiveFloat = 3.0
    """Time in which one half is melted, and again to cool it to the temperature."""
    hot_factor: float = Field(default=2.5, gt=1.0)
    """Temperature of the half that is melted, over that of the run."""
    decided_fraction: float = Field(default=0.1, gt=0.0, lt=0.5)
    """A phase that is down to this share is counted as gone."""
    seed: int = Field(default=1, ge=0, le=2**30)
    """Seed of the velocities."""
    version: ClassVar[str] = "1"
    result_type: ClassVar[type] = MeltingPoint

    @model_validator(mode="after")
    def _is_a_bracket(self) -> MeltingSettings:
        if not self.low_k < self.high_k:
            raise ValueError(f"low_k {self.low_k:g} must be below high_k {self.high_k:g}")
        if self.sample_ps > self.block_ps:
            raise ValueError(f"sample_ps {self.sample_ps:g} must not exceed block_ps {self.block_ps:g}")
        return self

    @classmethod
    def value_names(cls) -> tuple[str, ...]:
        """See :class:`~.base.Property`."""
        return ("melting_temperature_k",)

    def measure(self, bench: Bench, crystal: Crystal) -> MeltingPoint:
        """See :func:`melting_point`."""
        return melting_point(bench, crystal, self)


def melting_point(bench: Bench, crystal: Crystal, settings: MeltingSettings) -> MeltingPoint:
    """Bracket the melting temperature; a call on the same folder goes on where the last one was killed.

    Raises:
        OracleError: ``unavailable`` without a LAMMPS form of the potential; ``bad_structure`` for a crystal that is
            neither fcc nor bcc; ``not_converged`` when the temperatures given do not enclose the melting point; and
            what the runs raise.
    """
    if bench.lammps is None:
        raise OracleError(
            FailureKind.UNAVAILABLE,
            "coexistence runs need the potential as LAMMPS commands or files; export it (setfl, adp) and name the file",
        )
    if crystal.lattice not in _NEIGHBOUR_CUTOFF:
        raise OracleError(
            FailureKind.BAD_STRUCTURE, f"coexistence is made for fcc and bcc crystals, {crystal.name} is neither"
        )
    start = float(equilibrium(bench.engine, crystal).atoms.cell[0, 0])
    protocol = Protocol(bench.lammps, settings.timestep_fs, settings.pressure_gpa, settings.seed + 1)
    plan = CoexistencePlan(
        crystal_repeat=(settings.crystal_repeat,) * 3,
        repeat=settings.repeat or _FULL_REPEAT[crystal.lattice],
        neighbour_cutoff=_NEIGHBOUR_CUTOFF[crystal.lattice],
        equilibration_ps=settings.equilibration_ps,
        melting_ps=settings.melting_ps,
        hot_factor=settings.hot_factor,
        block_ps=settings.block_ps,
        sample_ps=settings.sample_ps,
        max_time_ps=settings.max_time_ps,
        decided_fraction=settings.decided_fraction,
    )
    # not of the bracket: with another one, the temperatures that are done count still
    dynamics = (settings.timestep_fs, settings.pressure_gpa, settings.seed)
    identity = repr((bench.lammps.fingerprint, crystal.lattice, crystal.element, dynamics, plan))
    folder = bench.folder / f"melting-{hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()}"
    runs: list[CoexistenceRun] = []

    def run(temperature_k: float) -> CoexistenceRun:
        own = folder / f"{temperature_k:.3f}K"
        runs.append(run_coexistence(protocol, crystal.atoms, start, temperature_k, plan, own, bench.report))
        return runs[-1]

    low = run(settings.low_k)
    if low.outcome != "solidified":
        raise _outside(low, "grow", f"lower low_k, now {settings.low_k:g}")
    high = run(settings.high_k)
    if high.outcome != "melted":
        raise _outside(high, "melt", f"raise high_k, now {settings.high_k:g}")
    while high.temperature_k - low.temperature_k > settings.tolerance_k:
        middle = run(0.5 * (low.temperature_k + high.temperature_k))
        if middle.outcome == "solidified":
            low = middle
        elif middle.outcome == "melted":
            high = middle
        else:
            return _result(low, high, tuple(runs), middle.temperature_k)
    return _result(low, high, tuple(runs), None)


def _outside(run: CoexistenceRun, wanted: str, remedy: str) -> OracleError:
    found = _PAST[run.outcome or "coexisting"]
    return OracleError(
        FailureKind.NOT_CONVERGED,
        f"the crystal was to {wanted} at {run.temperature_k:g} K, but it {found}; {remedy}",
        {"temperature_k": run.temperature_k, "outcome": run.outcome},
    )


_PAST = {"melted": "melted", "solidified": "grew", "coexisting": "stayed beside the melt"}


def _result(
    low: CoexistenceRun, high: CoexistenceRun, runs: tuple[CoexistenceRun, ...], standing_at_k: float | None
) -> MeltingPoint:
    """The estimate within the bracket: where both phases stood, or where the interface's speed passes zero."""
    below, above = low.velocity_m_s, high.velocity_m_s
    width = high.temperature_k - low.temperature_k
    has_speeds = standing_at_k is None and below is not None and above is not None and below > 0.0 > above
    if standing_at_k is not None:
        temperature = standing_at_k
    elif has_speeds:
        assert below is not None
        assert above is not None
        temperature = low.temperature_k + width * below / (below - above)
    else:
        temperature = low.temperature_k + 0.5 * width
    return MeltingPoint(
        solidified_at_k=low.temperature_k,
        melted_at_k=high.temperature_k,
        temperature_k=temperature,
        uncertainty_k=0.5 * width,
        is_from_velocities=has_speeds,
        runs=runs,
    )
