"""`alloysmith generate`: structures from a trained crystal generator."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ...errors import StructureError
from ...generators.pcdvae.fitted import FittedPcdvae
from ...generators.pcdvae.generation import GenerationSettings, generated
from ...structures.files import read_structures, write_structures
from ...structures.phase import classify_phase
from ...surrogates.model_file import load_state
from ..config import load_settings, validate_settings
from ..yaml_source import YamlSource
from .arguments import SetOption, find_config
from .console import ProgressBar, output
from .writing import check_target


def generate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model file, from `fit` with `fit/pcdvae`.")],
    target: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Structure file to write.")],
    n: Annotated[int, typer.Option("-n", min=1, help="How many to draw, without --from.")] = 10,
    starts: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Structures to encode and to start from.")
    ] = None,
    optimize: Annotated[
        bool, typer.Option("--optimize", help="Optimize the property in latent space, drawing on the way.")
    ] = False,
    config: Annotated[
        str | None, typer.Option("--config", metavar="CONFIG", help="YAML file with other settings than the defaults.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Another seed gives other structures.")] = None,
    overrides: SetOption = None,
) -> None:
    """Generate structures with a trained crystal generator.

    Without --from, latent vectors are drawn at random; with it, those of the structures in FILE are taken. Each latent
    vector says the number of atoms, the cell, the composition and the phase, and the decoder puts atoms there. With
    --optimize the latent vectors are first moved to where the model expects better values of its property, and
    structures are drawn after 200, 500, 1000, 1500 and 2500 steps.

    Settings for --set, or for a YAML file given by --config: start (sites, anywhere), start_sigma_ang, latents
    (encodings, normal), sampler (kind, n_levels, n_corrections, n_steps, …), optimization (decode_at, n_heads, caution,
    trust_radius, …), seed. docs/pcdvae.md explains them.

    What is written are drafts: relax and label them with `alloysmith label`.

    Example: alloysmith generate vae.safetensors -n 50 -o drafts.extxyz

    Example: alloysmith generate vae.safetensors --from labelled.extxyz --optimize -o better.extxyz
    """
    given = [*(overrides or ()), *([] if seed is None else [f"seed={seed}"])]
    settings: GenerationSettings
    if config is not None:
        settings = load_settings(find_config(config), GenerationSettings, given)
    else:
        source = YamlSource("--set", {})
        for assignment in given:
            source.override(assignment)
        settings = validate_settings(source, GenerationSettings, Path())
    check_target(target, ("extxyz", "db", "json"))
    fitted = FittedPcdvae.from_state(load_state(model))
    rows = read_structures(starts) if starts is not None else []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with ProgressBar(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as progress:
        bar = progress.add_task("drawing", total=None)

        def show(what: str, done: int, total: int) -> None:
            progress.update(bar, description=what, completed=done, total=total)

        found = generated(fitted, settings, n, starts=rows, optimizes=optimize, note=show)
    write_structures(target, found)
    n_right = 0
    for atoms in found:
        try:
            n_right += classify_phase(atoms).majority == atoms.info.get("phase")
        except StructureError:  # a cell without room; it counts as wrong
            continue
    phases = Counter(str(atoms.info.get("phase", "any phase")) for atoms in found)
    output().print(
        f"wrote {target}: {len(found)} structures ({', '.join(f'{k} {name}' for name, k in sorted(phases.items()))}), "
        f"{n_right} of which are in the phase that was predicted for them, before any relaxation",
        markup=False,
    )
