"""What `alloysmith fit` and `alloysmith predict` do with models of forces from voxels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from ...generators.base import Failure
from ...oracles.base import FailureKind
from ...structures.files import read_structures, write_structures
from ...surrogates.base import SurrogateError
from ...surrogates.model_file import save_state
from ...surrogates.potentials.data_settings import FrameFileSettings
from ...surrogates.potentials.frame import Frame
from ...surrogates.potentials.frame_labels import read_frame
from ...surrogates.voxels.model import VoxelForceModel
from ..config import load_settings
from ..rows import put_failure
from ..voxel_fitting import ForceErrors, VoxelFitConfig, fit_voxels, force_errors
from .console import notes, output, training_progress
from .potentials import reason_against


def fit(config_path: Path, data: Sequence[Path], model: Path, overrides: Sequence[str]) -> None:
    """Fit a model of forces, showing how far it is; a killed training goes on with the same command."""
    config: VoxelFitConfig = load_settings(config_path, VoxelFitConfig, overrides)
    checkpoint = model.with_name(f"{model.name}.checkpoint")
    with training_progress() as show:
        fitted = fit_voxels(config, data, checkpoint_path=checkpoint, report=show)
    for finding in fitted.report.warnings:
        notes().print(f"warning: {finding}", markup=False)
    save_state(fitted.model.state(), model)
    checkpoint.unlink(missing_ok=True)
    console = output()
    console.print(error_table(fitted.errors))
    spec = fitted.model.spec
    console.print(f"wrote {model}: {spec.kind} of {', '.join(spec.elements)}, {spec.n_train} atoms", markup=False)


def predict(model: VoxelForceModel, structures: Path, target: Path) -> None:
    """Predict forces; where they are known, print the errors."""
    rows = read_structures(structures)
    usable: list[int] = []
    reason = ""
    for index, atoms in enumerate(rows):
        atoms.arrays.pop("predicted_forces_ev_ang", None)
        if reason_here := reason_against(atoms, model.spec.elements):
            put_failure(atoms, Failure(FailureKind.BAD_STRUCTURE, reason_here))
            reason = reason or reason_here
        else:
            usable.append(index)
    if not usable:
        raise SurrogateError(f"none of the {len(rows)} rows can be predicted; of the first one: {reason}")
    forces = model.predict([rows[index] for index in usable])
    labels = FrameFileSettings(path=str(structures), group_from=model.spec.facts.get("report_by", "group"))
    frames: list[Frame] = []
    predicted: list[np.ndarray] = []
    for index, found in zip(usable, forces, strict=True):
        frame, _ = read_frame(rows[index], "", "", labels, True)
        rows[index].arrays["predicted_forces_ev_ang"] = found
        if frame is not None:
            frames.append(frame)
            predicted.append(found)
    write_structures(target, rows)
    console = output()
    if frames:
        console.print(error_table({structures.name: force_errors(frames, predicted)}))
    else:
        notes().print("no row holds an energy and forces, so there are no errors to print", markup=False)
    n_others = len(rows) - len(usable)
    left_out = f"; {n_others} cannot be predicted, see their failure_message" if n_others else ""
    console.print(f"wrote {target}: {len(usable)} rows with predicted forces{left_out}", markup=False)


def error_table(errors: Mapping[str, ForceErrors]) -> Table:
    """Rows: part of the data and species or group of it; columns: figures of the forces."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("forces of", "atoms of"):
        table.add_column(name, overflow="fold")
    for name in ("n", "force eV/Å", "MAE", "RMSE", "Pearson r", "x", "y", "z"):
        table.add_column(name, justify="right", no_wrap=True)
    for part, rows in errors.items():
        for k, (name, row) in enumerate(rows.items()):
            table.add_row(
                part if k == 0 else "",
                name,
                str(row.n_atoms),
                f"{row.rms_force:.4f}",
                f"{row.mae:.4f}",
                f"{row.rmse:.4f}",
                f"{row.r:.4f}",
                *(f"{r:.4f}" for r in row.r_xyz),
            )
    return table
