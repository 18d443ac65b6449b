"""`alloysmith fit` and `alloysmith predict`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from ...errors import ConfigError, StructureError
from ...generators.base import Failure
from ...oracles.base import FailureKind
from ...structures.base import PHASES
from ...structures.files import read_structures, write_structures
from ...surrogates.barriers.settings import barrier_model_from_state, is_barrier_model
from ...surrogates.lattice_surrogate import LatticeSurrogate
from ...surrogates.model_file import load_state
from ...surrogates.potentials.settings import is_potential, potential_from_state
from ...surrogates.settings import save_surrogate, surrogate_from_state
from ...surrogates.voxels.settings import is_voxel_model, voxel_model_from_state
from ..config import load_settings
from ..fitting import (
    ErrorFigures,
    FitConfig,
    describe_unusable,
    error_figures,
    fit_surrogate,
    known_value,
    usable_rows,
)
from ..rows import put_failure
from ..texts import unit_of
from ..yaml_source import read_yaml
from . import barriers, crystal_models, potentials, voxels
from .arguments import SetOption, find_config
from .console import notes, output
from .writing import check_model_target, check_target


def fit(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="YAML file of a fit, or a shipped fit/… name.")],
    model: Annotated[Path, typer.Option("--output", "-o", metavar="MODEL", help="The model file to write.")],
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data", metavar="FILE", help="Labelled structures or hops, not those of CONFIG; may be repeated."
        ),
    ] = None,
    properties: Annotated[
        list[str] | None, typer.Option("--property", metavar="NAME", help="What to learn; instead of `properties`.")
    ] = None,
    overrides: SetOption = None,
) -> None:
    """Fit a surrogate, a potential, or another model.

    A configuration with `surrogate:` learns scalar properties of crystals; one with `potential:` learns energies,
    forces and stresses of any structures; one with `barrier:` learns vacancy migration barriers from a CSV table of
    hops; one with `voxel_forces:` learns forces from voxels; one with `pcdvae:` learns to generate crystals. A share of
    the rows (`test_fraction`) is held out; the errors on it are printed beside those on the training rows.

    For surrogates, rows without the property, or with a `failure`, are left out, as are those that are no FCC or BCC
    crystal of the surrogate's elements. For potentials, everything that is wrong with the data is named before the
    training begins; a training that was killed goes on with the same command.

    Example: alloysmith fit fit/gaussian_process --data labelled.extxyz -o model.safetensors

    Example: alloysmith fit fit/eam_ni --data dft.extxyz -o ni.safetensors

    Example: alloysmith fit fit/barriers --data barriers.csv -o barriers.safetensors

    Example: alloysmith fit fit/voxel_forces --data frames.extxyz -o forces.safetensors

    Example: alloysmith fit fit/pcdvae --data labelled.extxyz -o vae.safetensors
    """
    path = find_config(config)
    keys = read_yaml(path).data
    if "pcdvae" in keys:
        check_model_target(model)
        crystal_models.fit(path, data or (), properties or (), model, overrides or ())
        return
    for key, others, learns in (
        ("potential", potentials, "energies, forces and stresses"),
        ("barrier", barriers, "migration barriers"),
        ("voxel_forces", voxels, "forces"),
    ):
        if key in keys:
            if properties:
                raise ConfigError(f"a {key} model learns {learns}; leave --property out")
            check_model_target(model)
            others.fit(path, data or (), model, overrides or ())
            return
    chosen = [f"properties=[{', '.join(properties)}]"] if properties else []
    settings: FitConfig = load_settings(path, FitConfig, [*(overrides or ()), *chosen])
    files = data or settings.files
    if not files:
        raise ConfigError("give --data FILE, the labelled structures to learn from, or `files` in the configuration")
    check_model_target(model)
    result = fit_surrogate(settings, [atoms for file in files for atoms in read_structures(file)])
    save_surrogate(result.surrogate, model)
    if result.unusable:
        notes().print(
            f"warning: {len(result.unusable)} labelled rows cannot be used and are left out; "
            f"{describe_unusable(result.unusable)}",
            markup=False,
        )
    console = output()
    console.print(error_table(result.errors))
    left_out = f"; {result.n_left_out} rows without a value left out" if result.n_left_out else ""
    console.print(
        f"wrote {model}: {result.surrogate.spec.kind}, {result.surrogate.spec.n_train} rows{left_out}", markup=False
    )


def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model file, from `fit` or a run's models/ folder.")],
    structures: Annotated[Path, typer.Argument(metavar="STRUCTURES", help="Structure file, or table of hops.")],
    target: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Structure file, or table, to write.")],
) -> None:
    """Predict with any fitted model.

    A potential adds predicted_energy_ev, predicted_forces_ev_ang and predicted_stress_ev_ang3, and prints errors
    where rows are labelled. A surrogate adds predicted_<property> and predicted_<property>_std to the info of each
    row, and prints errors where the property itself is there. A row that cannot be predicted, because of its elements
    or phase, gets none, but a `failure` and its reason in `failure_message`. A barrier model takes a CSV table of hops
    and writes it with the columns predicted_barrier_ev, predicted_barrier_ev_std and failure_message. A model of forces
    adds predicted_forces_ev_ang.

    Example: alloysmith predict model.safetensors structures.extxyz -o predicted.extxyz
    """
    state = load_state(model)
    if is_barrier_model(state):
        check_target(target)
        barriers.predict(barrier_model_from_state(state), structures, target)
        return
    check_target(target, ("extxyz", "db", "json"))
    if is_potential(state):
        potentials.predict(potential_from_state(state), structures, target)
        return
    if is_voxel_model(state):
        voxels.predict(voxel_model_from_state(state), structures, target)
        return
    surrogate = surrogate_from_state(state)
    rows = read_structures(structures)
    phases = surrogate.phases if isinstance(surrogate, LatticeSurrogate) else PHASES
    usable, unusable = usable_rows(rows, surrogate.spec.elements, phases)
    if not usable:
        raise StructureError(f"none of the {len(rows)} rows can be predicted; {describe_unusable(unusable)}")
    prediction = surrogate.predict(list(usable.values()))
    names = list(surrogate.spec.properties)
    errors: dict[str, ErrorFigures] = {}
    for k, name in enumerate(names):
        known = [known_value(rows[index], (name,)) for index in usable]
        values = np.array([np.nan if value is None else value[0] for value in known])
        if np.isfinite(values).any():
            errors[name] = error_figures(prediction.mean[:, k], prediction.std[:, k], values)
        for row in rows:
            row.info.pop(f"predicted_{name}", None)
            row.info.pop(f"predicted_{name}_std", None)
        for n, index in enumerate(usable):
            rows[index].info[f"predicted_{name}"] = float(prediction.mean[n, k])
            rows[index].info[f"predicted_{name}_std"] = float(prediction.std[n, k])
    for index, reason in unusable.items():
        put_failure(rows[index], Failure(FailureKind.BAD_STRUCTURE, reason))
    write_structures(target, rows)
    if unusable:
        notes().print(
            f"warning: {len(unusable)} of {len(rows)} rows cannot be predicted; {describe_unusable(unusable)}",
            markup=False,
        )
    console = output()
    if errors:
        console.print(error_table({structures.name: errors}))
    else:
        notes().print(f"no row holds {' or '.join(names)}, so there are no errors to print", markup=False)
    console.print(f"wrote {target}: {len(usable)} rows with predicted {', '.join(names)}", markup=False)


def error_table(errors: Mapping[str, Mapping[str, ErrorFigures]]) -> Table:
    """Rows: set of structures and property; columns: the figures."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("rows", "property", "unit"):
        table.add_column(name, overflow="fold")
    for name in ("n", "MAE", "RMSE", "R²", "RMSE of mean", "within 1 σ"):
        table.add_column(name, justify="right", no_wrap=True)
    for part, figures_of in errors.items():
        for name, figures in figures_of.items():
            table.add_row(
                part,
                name,
                unit_of(name),
                str(figures.n),
                f"{figures.mae:.4g}",
                f"{figures.rmse:.4g}",
                f"{figures.r2:.4f}",
                f"{figures.rmse_of_mean:.4g}",
                f"{figures.coverage_68:.0%}",
            )
    return table
