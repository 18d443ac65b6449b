"""What `alloysmith fit` and `alloysmith predict` do with interatomic potentials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress
from ase.units import GPa
from rich.table import Table

from ...generators.base import Failure
from ...oracles.base import FailureKind, OracleError
from ...oracles.structure_guard import check_geometry
from ...structures.files import read_structures, write_structures
from ...surrogates.base import Metrics, SurrogateError
from ...surrogates.potentials.base import Potential
from ...surrogates.potentials.data_settings import FrameFileSettings
from ...surrogates.potentials.error_table import ErrorTable
from ...surrogates.potentials.frame_labels import read_frame
from ...surrogates.potentials.settings import save_potential
from ...surrogates.potentials.staged_training import warm_up_checkpoint
from ..config import load_settings
from ..potential_fitting import PotentialFitConfig, fit_potential
from ..rows import put_failure
from .console import notes, output, training_progress


def fit(config_path: Path, data: Sequence[Path], model: Path, overrides: Sequence[str]) -> None:
    """Fit a potential, showing how far it is; the training goes on where a killed one of the same command was."""
    config: PotentialFitConfig = load_settings(config_path, PotentialFitConfig, overrides)
    checkpoint = model.with_name(f"{model.name}.checkpoint")
    with training_progress(_state) as show:
        fitted = fit_potential(config, data, checkpoint_path=checkpoint, report=show)
    for finding in fitted.report.warnings:
        notes().print(f"warning: {finding}", markup=False)
    save_potential(fitted.potential, model)
    for path in (checkpoint, warm_up_checkpoint(checkpoint)):
        path.unlink(missing_ok=True)
    console = output()
    console.print(error_table(fitted.errors))
    if fitted.constraints:
        console.print(constraint_table(fitted.constraints))
    result = fitted.training
    console.print(
        f"wrote {model}: {fitted.potential.spec.kind} of {', '.join(config.elements)}, "
        f"{fitted.potential.spec.n_train} frames, {result.n_steps} steps in {result.wall_s:.0f} s "
        f"({result.stop_reason.replace('_', ' ')})",
        markup=False,
    )


def predict(potential: Potential, structures: Path, target: Path) -> None:
    """Predict energies, forces and stresses; where they are known, print the errors."""
    rows = read_structures(structures)
    usable: list[int] = []
    reason = ""
    for index, atoms in enumerate(rows):
        if reason_here := reason_against(atoms, potential.spec.elements):
            put_failure(atoms, Failure(FailureKind.BAD_STRUCTURE, reason_here))
            reason = reason or reason_here
        else:
            usable.append(index)
    if not usable:
        raise SurrogateError(f"none of the {len(rows)} rows can be predicted; of the first one: {reason}")
    found = potential.evaluate([rows[index] for index in usable])
    labels = FrameFileSettings(path=str(structures), has_forces=False)
    tally: dict[str, list[np.ndarray]] = {"energy": [], "force": [], "stress": []}
    for index, value in zip(usable, found, strict=True):
        atoms = rows[index]
        _tally(tally, atoms, labels, value.energy_ev, value.forces, value.stress)
        atoms.info["predicted_energy_ev"] = value.energy_ev
        atoms.info["predicted_energy_ev_per_atom"] = value.energy_ev / len(atoms)
        if np.isfinite(value.stress).all():
            atoms.info["predicted_stress_ev_ang3"] = full_3x3_to_voigt_6_stress(value.stress)
        atoms.arrays["predicted_forces_ev_ang"] = value.forces
    write_structures(target, rows)
    console = output()
    if tally["energy"]:
        console.print(_prediction_errors(structures.name, tally))
    else:
        notes().print("no row holds an energy, so there are no errors to print", markup=False)
    n_others = len(rows) - len(usable)
    left_out = f"; {n_others} cannot be predicted, see their failure_message" if n_others else ""
    console.print(
        f"wrote {target}: {len(usable)} rows with predicted energy, forces and stress{left_out}", markup=False
    )


def reason_against(atoms: Atoms, known: Sequence[str]) -> str:
    """Why a potential of these elements cannot evaluate a structure; empty if it can."""
    if others := sorted(set(atoms.symbols.species()) - set(known)):
        return f"it holds {', '.join(others)}; the potential knows {', '.join(known)}"
    try:
        if atoms.pbc.any():  # neighbours in a collapsed cell would fill the memory
            check_geometry(atoms.positions, atoms.cell.array)
    except OracleError as error:
        return str(error)
    return ""


def error_table(errors: Mapping[str, ErrorTable]) -> Table:
    """Rows: part of the data and group; columns: errors."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("frames of", "group"):
        table.add_column(name, overflow="fold")
    for name in ("n", "E MAE meV/at", "E RMSE", "F MAE eV/Å", "F RMSE", "stress MAE GPa"):
        table.add_column(name, justify="right", no_wrap=True)
    for part, of_part in errors.items():
        rows = [(part, "all", of_part.overall)]
        if len(of_part.groups) > 1:
            rows += [("", name, row) for name, row in of_part.groups.items()]
        for first, group, row in rows:
            table.add_row(
                first,
                group,
                str(row.n_frames),
                f"{row.energy_mae_mev:.2f}",
                f"{row.energy_rmse_mev:.2f}",
                _number(row.force_mae, 4),
                _number(row.force_rmse, 4),
                _number(row.stress_mae_gpa, 3),
            )
    return table


def constraint_table(figures: Mapping[str, Mapping[str, tuple[float, float]]]) -> Table:
    """Rows: figures of constraints; columns: what the potential gives and what is wanted."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("constraint", overflow="fold")
    table.add_column("figure", overflow="fold")
    for name in ("potential", "target", "difference"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, values in figures.items():
        for k, (figure, (got, wanted)) in enumerate(values.items()):
            table.add_row(name if k == 0 else "", figure, f"{got:.5g}", f"{wanted:.5g}", f"{got - wanted:+.3g}")
    return table


def _state(step: int, metrics: Metrics) -> str:
    parts = [f"step {step}"]
    if "validation_energy_mae_mev" in metrics:
        parts.append(f"energy {metrics['validation_energy_mae_mev']:.2f} meV/atom")
    if "validation_force_mae" in metrics:
        parts.append(f"force {metrics['validation_force_mae']:.4f} eV/Å")
    if "score" in metrics:
        parts.append(f"score {metrics['score']:.5g}")
    return ", ".join(parts)


def _tally(
    tally: dict[str, list[np.ndarray]],
    atoms: Atoms,
    labels: FrameFileSettings,
    energy_ev: float,
    forces: np.ndarray,
    stress: np.ndarray,
) -> None:
    """Take in the errors on a row, where it is labelled."""
    frame, _ = read_frame(atoms, "", "", labels, False)
    if frame is None:
        return
    tally["energy"].append(np.array([energy_ev - frame.energy_ev]) / len(atoms) * 1000.0)
    if frame.forces is not None:
        tally["force"].append((forces - frame.forces).ravel())
    if frame.stress is not None and np.isfinite(stress).all():
        tally["stress"].append((stress - frame.stress).ravel() / GPa)


def _prediction_errors(name: str, tally: Mapping[str, Sequence[np.ndarray]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("rows", "quantity", "unit"):
        table.add_column(column, overflow="fold")
    for column in ("n", "MAE", "RMSE"):
        table.add_column(column, justify="right", no_wrap=True)
    units = {"energy": "meV/atom", "force": "eV/Å", "stress": "GPa"}
    for quantity, parts in tally.items():
        if parts:
            errors = np.concatenate(parts)
            rmse = float(np.sqrt((errors**2).mean()))
            n = str(len(errors))
            table.add_row(name, quantity, units[quantity], n, f"{np.abs(errors).mean():.4g}", f"{rmse:.4g}")
    return table


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "-"
