"""`alloysmith convert`: labelled structures, settings and models from and to DeePMD-kit."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from ase import Atoms
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

from ... import __version__
from ...errors import ConfigError, StructureError
from ...structures.deepmd_writer import DeepmdWriter
from ...structures.extxyz import append_extxyz
from ...structures.files import file_format, write_structures
from ...structures.whole_file import write_whole
from ...surrogates.base import SurrogateError
from ...surrogates.deeppot.deepmd_file import write_deepmd
from ...surrogates.deeppot.deepmd_input import Remark, translate_input
from ...surrogates.deeppot.model import DeepPotModel
from ...surrogates.potentials.data_settings import FrameFileSettings
from ...surrogates.potentials.frame import Frame
from ...surrogates.potentials.frame_report import RowDefect, build_report
from ...surrogates.potentials.frame_rows import frame_rows, labelled_paths
from ...surrogates.potentials.settings import load_potential
from ...surrogates.potentials.torch_potential import TorchPotential
from ..config import validate_settings
from ..potential_fitting import PotentialFitConfig
from ..yaml_source import YamlSource
from .console import ProgressBar, notes, output
from .writing import check_target

_YAML = (".yaml", ".yml")
_CHUNK = 200
_MAX_DEFECTS = 1000


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="Labelled structures, a folder of DeePMD systems, an input.json, a model."
        ),
    ],
    target: Annotated[
        Path, typer.Option("--output", "-o", metavar="TARGET", help="A folder, or a file whose suffix says the format.")
    ],
    elements: Annotated[
        str, typer.Option(metavar="SYMBOLS", help="Type map, with commas: Al,Cu,Ni; alphabetical if left out.")
    ] = "",
    is_mixed: Annotated[
        bool, typer.Option("--mixed", help="Write deepmd/npy/mixed: one system for all compositions of a size.")
    ] = False,
    frames_per_set: Annotated[int, typer.Option("--set-size", metavar="N", min=1, help="Frames in a set.*.")] = 5000,
) -> None:
    """Convert data and models from and to DeePMD-kit.

    Structures with energies, forces and stresses (any file that fit reads) become deepmd/npy systems in the folder
    TARGET, and a folder of systems (npy, mixed, raw) becomes a structure file. Neither is held in memory. An
    input.json becomes the configuration of a fit; each key without a counterpart is told, and written in its head.
    A deep potential becomes a file of DeePMD-kit's, which `dp convert-backend` takes.

    Example: alloysmith convert melt.extxyz -o melt_deepmd

    Example: alloysmith convert melt_deepmd -o melt.extxyz

    Example: alloysmith convert input.json -o fit.yaml

    Example: alloysmith convert model.safetensors -o model.yaml
    """
    if source.suffix == ".safetensors":
        _convert_model(source, target)
    elif target.suffix in _YAML:
        _convert_input(source, target)
    elif target.suffix:
        _write_file(source, target, elements)
    else:
        symbols = [symbol.strip() for symbol in elements.split(",") if symbol.strip()]
        _write_systems(source, target, DeepmdWriter(target, symbols, frames_per_set=frames_per_set, is_mixed=is_mixed))


def _convert_model(source: Path, target: Path) -> None:
    potential = load_potential(source)
    if not isinstance(potential, TorchPotential) or not isinstance(potential.model, DeepPotModel):
        raise ConfigError(f"{source} is of kind {potential.spec.kind}; DeePMD-kit has single models of kind deeppot")
    if target.suffix not in _YAML:
        raise ConfigError(f"a model for DeePMD-kit is written as .yaml, got {target.name}; dp makes .pth and .pb of it")
    if potential.spec.reference_energies_ev:
        raise ConfigError(
            f"{source} adds reference energies to what its network gives; fit it with energy_reference: none"
        )
    if potential.spec.core_ang:
        raise ConfigError(
            f"{source} adds the repulsion of nuclei to what its network gives, which DeePMD-kit's file has no place "
            "for; fit it with potential.core: none"
        )
    check_target(target)
    model = potential.model
    write_whole(target, lambda scratch: write_deepmd(model, scratch))
    console = output()
    console.print(f"wrote {target}; with DeePMD-kit 3 and its LAMMPS:", markup=False)
    console.print(f"  dp convert-backend {target.name} {target.stem}.pth", markup=False)
    console.print(f"  pair_style deepmd {target.stem}.pth", markup=False)
    console.print(f"  pair_coeff * * {' '.join(potential.spec.elements)}", markup=False)


def _convert_input(source: Path, target: Path) -> None:
    try:
        content = json.loads(source.read_text()) if source.suffix == ".json" else yaml.safe_load(source.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{source} cannot be read as an input of DeePMD-kit: {error}") from error
    check_target(target)
    translated = translate_input(content, source.parent)
    config = _with_paths(dict(translated.config), source.parent, target.parent)
    head = [f"# Translated from DeePMD-kit's {source.name} by Alloysmith {__version__}."]
    head += [f"# {remark.kind}: {remark.key} {remark.text}" for remark in translated.remarks]
    body = yaml.safe_dump(config, sort_keys=False, default_flow_style=None, allow_unicode=True, width=110)
    validate_settings(YamlSource(source.name, config), PotentialFitConfig, target.parent)
    write_whole(target, ("\n".join(head) + "\n" + body).encode())
    for remark in translated.remarks:
        notes().print(_remark_text(remark), markup=False)
    output().print(f"wrote {target}; next: alloysmith fit {target} -o model.safetensors", markup=False)


def _remark_text(remark: Remark) -> str:
    return f"{'warning' if remark.kind == 'changed' else 'left out'}: {remark.key} {remark.text}"


def _with_paths(config: dict[str, Any], old: Path, new: Path) -> dict[str, Any]:
    """The configuration with paths that refer to the folder it is written to."""
    if old.resolve() == new.resolve():
        return config

    def moved(entry: str | Mapping[str, Any]) -> str | dict[str, Any]:
        if isinstance(entry, str):
            return os.path.relpath((old / entry).resolve(), new.resolve())
        return {**entry, "path": moved(entry["path"])}

    data = dict(config["data"])
    for name in ("files", "test_files"):
        if name in data:
            data[name] = [moved(entry) for entry in data[name]]
    return {**config, "data": data}


def _write_systems(source: Path, target: Path, writer: DeepmdWriter) -> None:
    if target.parent != Path() and not target.parent.is_dir():
        raise ConfigError(f"{target.parent} is no folder; make it first")
    with writer:
        for frame in _frames(source, ()):
            try:
                writer.add(frame.atoms, frame.energy_ev, frame.forces, frame.stress)
            except StructureError as error:
                raise StructureError(f"{frame.source}: {error}") from error
    shown = ", ".join(writer.systems[:5]) + (", …" if len(writer.systems) > 5 else "")
    output().print(f"wrote {target}: {writer.n_frames} frames in {len(writer.systems)} systems ({shown})", markup=False)


def _write_file(source: Path, target: Path, elements: str) -> None:
    check_target(target, ("extxyz", "db", "json"))
    type_map = tuple(symbol.strip() for symbol in elements.split(",") if symbol.strip())
    found = (_labelled(frame) for frame in _frames(source, type_map))
    n_frames = 0
    if file_format(target) != "extxyz" or target.suffix == ".gz":
        structures = list(found)
        write_structures(target, structures)
        n_frames = len(structures)
    else:

        def fill(scratch: Path) -> None:
            nonlocal n_frames
            scratch.touch()
            chunk: list[Atoms] = []
            for atoms in found:
                chunk.append(atoms)
                n_frames += 1
                if len(chunk) == _CHUNK:
                    append_extxyz(scratch, chunk)
                    chunk = []
            append_extxyz(scratch, chunk)

        write_whole(target, fill)
    output().print(f"wrote {target}: {n_frames} frames", markup=False)


def _labelled(frame: Frame) -> Atoms:
    atoms = frame.atoms.copy()
    atoms.info["energy"] = frame.energy_ev
    if frame.group:
        atoms.info["group"] = frame.group
    if frame.forces is not None:
        atoms.set_array("forces", frame.forces)
    if frame.stress is not None:
        atoms.info["stress"] = frame.stress
    return atoms


def _frames(source: Path, type_map: tuple[str, ...]) -> Iterator[Frame]:
    """All usable frames; warnings are told at the end, errors raised there.

    Raises:
        SurrogateError: frames without usable labels, all named; or none at all.
    """
    paths = labelled_paths(source)
    if not paths:
        raise ConfigError(f"{source} is neither a file nor a folder with DeePMD systems (type.raw)")
    labels = FrameFileSettings(path=str(source), has_forces=False, type_map=type_map or None)
    defects: list[RowDefect] = []
    n_frames = n_defects = 0
    columns = (TextColumn("{task.fields[n]} frames"), BarColumn(), TimeElapsedColumn())
    with ProgressBar(*columns) as progress:
        bar = progress.add_task("", total=None, n=0)
        for path in paths:
            name = str(path if path == source else path.relative_to(source))
            for row in frame_rows(name, path, labels, forces_needed=False):
                n_defects += len(row.defects)
                defects.extend(row.defects[: max(0, _MAX_DEFECTS - len(defects))])
                if row.frame is not None:
                    n_frames += 1
                    yield row.frame
                    if n_frames % 100 == 0:
                        progress.update(bar, n=n_frames)
    report = build_report(defects)
    if report.errors:
        more = f" (of {n_defects})" if n_defects > len(defects) else ""
        raise SurrogateError(f"{source} has labels that cannot be used{more}; nothing is written\n{report}")
    for finding in report.warnings:
        notes().print(f"warning: {finding}", markup=False)
    if n_frames == 0:
        raise SurrogateError(f"{source} holds no labelled frame")
