"""Crystal and melt side by side at one temperature, until one of them has gone or the time is over.

J. R. Morris, C. Z. Wang, K. M. Ho, C. T. Chan, Phys. Rev. B 49, 3109 (1994): the phase that grows is the stable one.
Atoms are told apart by averaged bond order (:mod:`.bond_order`); the threshold lies midway between the crystal at
this temperature and the melt, both measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from ase import Atoms
from pydantic import TypeAdapter, ValidationError

from ..base import FailureKind, OracleError
from .bond_order import averaged_q6
from .state_file import read_json, write_json
from .two_phase import Protocol, Snapshot, advance, equilibrate_crystal, melt_half

Outcome = Literal["melted", "solidified", "coexisting"]

_M_S_PER_ANG_PS = 100.0
_MELTED_ORDER = 0.55
"""A crystal whose mean order fell below this share of the perfect lattice's has melted; hot ones keep 0.75."""
_MAX_MELT_ORDER = 0.55
_FIRST_RESTART = "block-0.restart"
_CRYSTAL_SAMPLES = 10
_MIN_TREND_POINTS = 5
_SIGNIFICANCE = 2.0
_LEAST_CHANGE = 0.05


@dataclass(frozen=True)
class CoexistencePlan:
    """How one temperature is examined.

    Attributes:
        crystal_repeat: supercell that gives the lattice constant at the temperature.
        repeat: two-phase supercell, long along the first vector.
        neighbour_cutoff: reach of the bond order, over the lattice constant.
        equilibration_ps: of the crystal, and time that the trend leaves out.
        melting_ps: time the half is kept hot, and again to cool it.
        hot_factor: temperature of the hot half over the run's.
        block_ps: time between two saved states.
        sample_ps: time between two looks at the atoms.
        max_time_ps: longest run.
        decided_fraction: a phase that has fallen to this share is gone.
    """

    crystal_repeat: tuple[int, int, int]
    repeat: tuple[int, int, int]
    neighbour_cutoff: float
    equilibration_ps: float
    melting_ps: float
    hot_factor: float
    block_ps: float
    sample_ps: float
    max_time_ps: float
    decided_fraction: float


@dataclass(frozen=True)
class CoexistenceRun:
    """A run at one temperature, finished or on its way.

    Attributes:
        temperature_k: of the thermostat.
        lattice_constant_ang: of the crystal at this temperature; ``None`` before it is known, or when it
            melted at once.
        crystal_order, melt_order, threshold: mean averaged q6 of both phases, and what divides them.
        crystal_share, melt_share: share of the atoms above the threshold in each phase alone.
        times_ps, crystal_fractions, temperatures_k, lengths_ang: samples; the fraction is 1 in the crystal alone and
            0 in the melt alone; the length is that along the interface's normal.
        restart: restart file of the last block, in the run's folder.
        n_blocks: blocks that are done.
        outcome: how it ended, ``None`` while it has not.
        velocity_m_s: speed of each interface, positive when the crystal grows; ``None`` when it was not resolved.
        velocity_error_m_s: its standard error.
    """

    temperature_k: float
    lattice_constant_ang: float | None = None
    crystal_order: float | None = None
    melt_order: float | None = None
    threshold: float | None = None
    crystal_share: float = 1.0
    melt_share: float = 0.0
    times_ps: tuple[float, ...] = ()
    crystal_fractions: tuple[float, ...] = ()
    temperatures_k: tuple[float, ...] = ()
    lengths_ang: tuple[float, ...] = ()
    restart: str | None = None
    n_blocks: int = 0
    outcome: Outcome | None = None
    velocity_m_s: float | None = None
    velocity_error_m_s: float | None = None


def run_coexistence(
    protocol: Protocol,
    unit: Atoms,
    lattice_constant_ang: float,
    temperature_k: float,
    plan: CoexistencePlan,
    folder: Path,
    report: Callable[[str], None],
) -> CoexistenceRun:
    """Examine one temperature, or go on where ``folder`` says that it was left.

    Args:
        unit: cubic unit cell, of any size.
        lattice_constant_ang: where the crystal begins.
        folder: holds the state of this temperature alone; a kill loses one block at most.
        report: is told how far it is.

    Raises:
        OracleError: ``corrupt_output`` or ``unavailable`` from LAMMPS, or for a damaged state file; ``not_converged``
            when the half does not melt.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run = _read(folder) or CoexistenceRun(temperature_k)
    while run.outcome is None:
        done_ps = run.times_ps[-1] if run.times_ps else 0.0
        share = f", {run.crystal_fractions[-1]:.0%} crystal" if run.times_ps else ""
        report(f"{temperature_k:g} K: {done_ps:.0f} of {plan.max_time_ps:.0f} ps{share}")
        previous = run.restart
        if run.restart is None:
            run = _prepared(protocol, unit, lattice_constant_ang, run, plan, folder)
        else:
            run = _block(protocol, unit, run, plan, folder)
        write_json(folder / "state.json", asdict(run))
        if previous is not None and previous != run.restart:
            (folder / previous).unlink(missing_ok=True)
    return run


def _read(folder: Path) -> CoexistenceRun | None:
    path = folder / "state.json"
    content = read_json(path)
    if content is None:
        return None
    try:
        run = TypeAdapter(CoexistenceRun).validate_python(content)
    except ValidationError as error:
        raise OracleError(
            FailureKind.CORRUPT_OUTPUT, f"{path} is not the state of a coexistence run; delete its folder"
        ) from error
    if run.outcome is None and run.restart is not None and not (folder / run.restart).is_file():
        raise OracleError(FailureKind.CORRUPT_OUTPUT, f"{folder / run.restart} is missing; delete {folder}")
    return run


def _prepared(
    protocol: Protocol,
    unit: Atoms,
    lattice_constant_ang: float,
    run: CoexistenceRun,
    plan: CoexistencePlan,
    folder: Path,
) -> CoexistenceRun:
    """The crystal at this temperature, the two-phase cell made of it, and the threshold between the phases."""
    atoms = _cell(unit, lattice_constant_ang, plan.crystal_repeat)
    samples = equilibrate_crystal(protocol, atoms, run.temperature_k, plan.equilibration_ps, _CRYSTAL_SAMPLES)
    lattice_constant = float(np.mean([s.lengths_ang[0] for s in samples])) / plan.crystal_repeat[0]
    cutoff = plan.neighbour_cutoff * lattice_constant
    crystal_orders = np.concatenate([_order(sample, cutoff) for sample in samples])
    crystal_order = float(crystal_orders.mean())
    perfect = _perfect_order(unit, plan)
    if float(_order(samples[-1], cutoff).mean()) < _MELTED_ORDER * perfect:
        return replace(run, outcome="melted", crystal_order=crystal_order)
    two_phase = _cell(unit, lattice_constant, plan.repeat)
    hot = melt_half(
        protocol,
        two_phase,
        run.temperature_k,
        plan.hot_factor * run.temperature_k,
        plan.melting_ps,
        folder / _FIRST_RESTART,
    )
    melt_orders = _order(hot, cutoff)[_inside_melt(two_phase)]
    melt_order = float(melt_orders.mean())
    if melt_order > _MAX_MELT_ORDER * perfect:
        raise OracleError(
            FailureKind.NOT_CONVERGED,
            f"the hot half did not melt: its mean q6 is {melt_order:.2f}, the perfect crystal's {perfect:.2f}; raise "
            "hot_factor or melting_ps",
        )
    threshold = 0.5 * (crystal_order + melt_order)
    return replace(
        run,
        lattice_constant_ang=lattice_constant,
        crystal_order=crystal_order,
        melt_order=melt_order,
        threshold=threshold,
        crystal_share=float((crystal_orders > threshold).mean()),
        melt_share=float((melt_orders > threshold).mean()),
        restart=_FIRST_RESTART,
    )


def _block(protocol: Protocol, unit: Atoms, run: CoexistenceRun, plan: CoexistencePlan, folder: Path) -> CoexistenceRun:
    """One block of the two-phase run, and whether it is over."""
    assert run.restart is not None
    assert run.lattice_constant_ang is not None
    assert run.threshold is not None
    n_atoms = len(unit) * int(np.prod(plan.repeat))
    target = f"block-{run.n_blocks + 1}.restart"
    n_samples = max(1, round(plan.block_ps / plan.sample_ps))
    samples = advance(
        protocol, folder / run.restart, folder / target, n_atoms, run.temperature_k, plan.block_ps, n_samples
    )
    cutoff = plan.neighbour_cutoff * run.lattice_constant_ang
    begun_ps = run.n_blocks * plan.block_ps
    shares = np.array([(_order(sample, cutoff) > run.threshold).mean() for sample in samples])
    fractions = (shares - run.melt_share) / (run.crystal_share - run.melt_share)
    run = replace(
        run,
        times_ps=run.times_ps + tuple(begun_ps + plan.block_ps * (k + 1) / len(samples) for k in range(len(samples))),
        crystal_fractions=run.crystal_fractions + tuple(fractions.tolist()),
        temperatures_k=run.temperatures_k + tuple(sample.temperature_k for sample in samples),
        lengths_ang=run.lengths_ang + tuple(float(sample.lengths_ang[0]) for sample in samples),
        restart=target,
        n_blocks=run.n_blocks + 1,
    )
    return _judged(run, plan)


def _judged(run: CoexistenceRun, plan: CoexistencePlan) -> CoexistenceRun:
    """The run with its outcome, when it has one, and the speed of its interfaces."""
    last = np.array(run.crystal_fractions[-2:])
    outcome: Outcome | None = None
    if len(last) == 2 and (last < plan.decided_fraction).all():
        outcome = "melted"
    elif len(last) == 2 and (last > 1.0 - plan.decided_fraction).all():
        outcome = "solidified"
    is_over = run.times_ps[-1] >= plan.max_time_ps - 1e-9
    if outcome is None and not is_over:
        return run
    times, fractions = np.array(run.times_ps), np.array(run.crystal_fractions)
    has_both = (fractions > plan.decided_fraction) & (fractions < 1.0 - plan.decided_fraction)
    used = has_both & (times > plan.equilibration_ps)
    if used.sum() < _MIN_TREND_POINTS:  # a fast interface: what there is of it has to do
        used = has_both
    slope, error = trend(times[used], fractions[used])
    if outcome is None:
        change = abs(slope) * float(np.ptp(times[used])) if used.any() else 0.0
        is_clear = abs(slope) > _SIGNIFICANCE * error and change > _LEAST_CHANGE
        outcome = ("solidified" if slope > 0.0 else "melted") if is_clear else "coexisting"
    if not np.isfinite(error):
        return replace(run, outcome=outcome)
    speed = 0.5 * float(np.mean(run.lengths_ang)) * _M_S_PER_ANG_PS  # two interfaces share the change
    return replace(run, outcome=outcome, velocity_m_s=speed * slope, velocity_error_m_s=speed * error)


def trend(times: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Slope of a line through a time series, and its standard error with the residuals' correlation.

    The error of independent residuals is enlarged by ``sqrt((1 + r) / (1 - r))`` for a correlation ``r`` of
    neighbouring ones, as in a first-order autoregressive process.

    Returns:
        Slope and error per unit of time; ``(0, inf)`` for fewer than five points.
    """
    n = len(times)
    if n < _MIN_TREND_POINTS:
        return 0.0, np.inf
    centred = times - times.mean()
    slope = float(centred @ values / (centred @ centred))
    rest = values - values.mean() - slope * centred
    variance = float(rest @ rest) / (n - 2)
    correlation = float(np.clip(rest[1:] @ rest[:-1] / max(float(rest @ rest), 1e-300), 0.0, 0.95))
    inflation = (1.0 + correlation) / (1.0 - correlation)
    return slope, float(np.sqrt(variance / (centred @ centred) * inflation))


def _cell(unit: Atoms, lattice_constant_ang: float, repeat: tuple[int, int, int]) -> Atoms:
    atoms = unit.copy()
    atoms.set_cell([lattice_constant_ang] * 3, scale_atoms=True)
    return atoms.repeat(repeat)


def _order(sample: Snapshot, cutoff_ang: float) -> np.ndarray:
    return averaged_q6(sample.positions, np.diag(sample.lengths_ang), cutoff_ang)


def _perfect_order(unit: Atoms, plan: CoexistencePlan) -> float:
    atoms = _cell(unit, 1.0, (3, 3, 3))
    return float(averaged_q6(atoms.positions, atoms.cell.array, plan.neighbour_cutoff).mean())


def _inside_melt(atoms: Atoms) -> np.ndarray:
    """Atoms that began well inside the half that melts."""
    along = atoms.positions[:, 0] / float(atoms.cell[0, 0])
    return (along > 0.65) & (along < 0.85)
