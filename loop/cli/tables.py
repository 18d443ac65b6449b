"""`alloysmith tabulate` and `alloysmith card`: a fitted potential for other programs, and for people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...errors import ConfigError
from ...surrogates.model_file import load_state
from ...surrogates.potentials.base import Potential
from ...surrogates.potentials.native import native_suffix, write_native
from ...surrogates.potentials.settings import load_potential, potential_from_state
from ...surrogates.potentials.torch_potential import TorchPotential
from ...surrogates.voxels.settings import is_voxel_model, voxel_model_from_state
from ..report.build import write_page
from ..report.force_card import force_card
from ..report.potential_card import potential_card
from .console import output
from .writing import check_target

ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="A model file of a potential, from `fit`.")]


def tabulate(
    model: ModelArgument,
    target: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="File to write; *.eam.alloy or *.adp.")
    ] = None,
) -> None:
    """Write a fitted potential as a LAMMPS table.

    EAM and ADP potentials become files that LAMMPS, ASE and OpenKIM read. Energies in the table are without the
    reference energies that were taken from the data.

    Example: alloysmith tabulate ni.safetensors -o Ni.eam.alloy
    """
    potential = load_potential(model)
    suffix = native_suffix(potential)
    if suffix is None:
        raise ConfigError(f"{model} is of kind {potential.spec.kind}, which has no tables; run it with `alloysmith md`")
    path = target or model.with_name(f"{''.join(potential.spec.elements)}{suffix}")
    check_target(path)
    native = write_native(potential, path)
    console = output()
    console.print(f"wrote {path}; in LAMMPS:", markup=False)
    for command in native.commands:
        console.print(f"  {command}", markup=False)
    if potential.spec.reference_energies_ev:
        energies = ", ".join(f"{symbol} {value:.6g}" for symbol, value in potential.spec.reference_energies_ev.items())
        console.print(f"reference energies that the table leaves out (eV per atom): {energies}", markup=False)


def card(
    model: ModelArgument,
    target: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="HTML", help="File to write; beside MODEL if left out.")
    ] = None,
) -> None:
    """Write a fitted model's card, one HTML file.

    A potential's shows data, errors, constraints, functions, training and valid range; that of a model of forces known
    and predicted forces of the atoms that were held out, and how both are distributed.

    Example: alloysmith card ni.safetensors
    """
    path = target or model.with_suffix(".html")
    check_target(path)
    state = load_state(model)
    if is_voxel_model(state):
        document = force_card(voxel_model_from_state(state), model.stem)
    else:
        potential: Potential = potential_from_state(state)
        if not isinstance(potential, TorchPotential):
            raise ConfigError(
                f"{model} is of kind {potential.spec.kind}, which has no card of its own; name a single potential"
            )
        document = potential_card(potential, model.stem)
    write_page(document, path)
    output().print(f"wrote {path}", markup=False)
