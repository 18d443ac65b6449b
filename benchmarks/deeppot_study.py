"""Deep potentials of Al-Cu-Ni melts: which settings matter, and how many trainings a study needs to find out.

The reference melt (``alloysmith sample zjw04 sampling/alcuni_melt``, here of 32 atoms) is learnt by the potentials of
``configs/studies/deeppot_alcuni.yaml``: all of its grid, and variants of its fit without virials, with another cutoff
or axis, and learnt at aluminium-rich compositions alone. A table as table 1 of Ryltsev and Chtchelkatchev (J. Mol. Liq.
349, 118181 (2022)), errors at compositions 20 at.% away beside it; then Optuna chooses from the grid, and what counts
is the number of trainings until its Pareto front has the hypervolume of the grid's.

    python benchmarks/deeppot_study.py --folder studies/alcuni

Killed, it goes on with the same command; without ``--folder`` nothing is kept.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from alloysmith.agents.optuna_study import OptunaStudy, TrialRecord
from alloysmith.agents.study_settings import GridSettings, RandomSettings, SamplerSettings, TpeSettings
from alloysmith.generators.melt_sampling import MeltSamplingSettings, composition_distance, sample_melts
from alloysmith.loop.config import load_settings
from alloysmith.loop.fit_changes import fit_config
from alloysmith.loop.potential_choice import find_potential
from alloysmith.loop.studies.config import StudyConfig, grid_size, load_study_config
from alloysmith.loop.studies.study import run_study
from alloysmith.loop.studies.trial import FitRunner, TrialRequest
from alloysmith.structures.files import read_structures, write_structures
from alloysmith.structures.whole_file import write_whole
from alloysmith.surrogates.potentials.native import force_field_of

CONFIGS = Path(str(resources.files("alloysmith.configs")))
VARIANTS: Mapping[str, Mapping[str, Any]] = {  # of the study's fit
    "no virials": {"training.loss.virial": 0.0},
    "cutoff 6.5 Å": {"potential.cutoff_ang": 6.5},
    "axis 6": {"potential.descriptor": {"start": "radial", "neuron": [12, 17], "axis_neuron": 6}},
}
CORNER = "aluminium-rich compositions alone"
N_SEEDS = 10


def make_melts(folder: Path) -> tuple[Path, Path]:
    """Frames of 32 atoms at the ten compositions, and at those for tests."""
    files = folder / "melts.extxyz.gz", folder / "melts_test.extxyz.gz"
    if not all(file.exists() for file in files):
        settings: MeltSamplingSettings = load_settings(
            CONFIGS / "sampling" / "alcuni_melt.yaml", MeltSamplingSettings, ["cell.repeat=[2, 2, 2]", "n_frames=10"]
        )
        with force_field_of(find_potential("zjw04", settings.elements()).potential) as force_field:
            melts = sample_melts(force_field, settings)
        for file, is_test in zip(files, (False, True), strict=True):
            write_structures(file, [atoms for melt in melts if melt.is_test is is_test for atoms in melt.frames])
    return files


def study_config(files: tuple[Path, Path]) -> StudyConfig:
    """The shipped study, over all of its grid and with these data."""
    changes = [
        "sampler={kind: grid}",
        "n_trials=1",
        "execution.executor=in_process",
        "md_speed.cpu_s=0.4",
        f"fit.data.test_files=[{files[1]}]",
    ]
    config = load_study_config(CONFIGS / "studies" / "deeppot_alcuni.yaml", changes, [files[0]])
    return config.model_copy(update={"n_trials": grid_size(config)})


def corner_files(files: tuple[Path, Path], folder: Path) -> tuple[Path, Path]:
    """Frames with half aluminium or more, and those of the ten compositions at least 20 at.% away from all of them."""
    rows = read_structures(files[0])
    groups = list(dict.fromkeys(atoms.info["group"] for atoms in rows))
    near = [name for name in groups if composition_distance(name, "Al") <= 0.5]
    far = [name for name in groups if min(composition_distance(name, other) for other in near) >= 0.2]
    made = folder / "corner.extxyz.gz", folder / "corner_test.extxyz.gz"
    for file, wanted in zip(made, (near, far), strict=True):
        write_structures(file, [atoms for atoms in rows if atoms.info["group"] in wanted])
    return made


def fit_variant(config: StudyConfig, name: str, changes: Mapping[str, Any], folder: Path) -> Mapping[str, float]:
    """Figures of one fit, kept in a file of its own."""
    path = folder / f"{name.replace(' ', '_')}.json"
    if not path.exists():
        fit = fit_config(config.fit, changes)
        figures = FitRunner().run(TrialRequest(fit, config.measured_speed), lambda step, metrics: True).figures
        write_whole(path, json.dumps(dict(figures)).encode())
    found: dict[str, float] = json.loads(path.read_text())
    return found


def table_row(name: str, figures: Mapping[str, float]) -> str:
    """Errors (RMSE: meV/atom, meV/Å, meV/atom), the same 20 at.% away, the cost of a step, of the training."""

    def errors(part: str) -> str:
        energy, virial = figures[f"{part}_energy_rmse_mev"], figures[f"{part}_virial_rmse_mev"]
        return f"{energy:.1f}, {1e3 * figures[f'{part}_force_rmse']:.0f}, {virial:.0f}"

    cost, speed = figures["md_us_per_atom_step"], figures["md_ns_per_day"]
    cells = [errors("validation"), errors("test"), f"{cost:.0f}", f"{speed:.1f}", f"{figures['cpu_s']:.0f}"]
    return f"| {name} | {' | '.join(cells)} |"


def hypervolume(points: np.ndarray, worst: np.ndarray) -> float:
    """Area that points ``[n, 2]`` (small is good) dominate below ``worst`` ``[2]``."""
    area, last = 0.0, float(worst[1])
    for x, y in points[np.lexsort((points[:, 1], points[:, 0]))]:
        if y < last:
            area += (float(worst[0]) - float(x)) * (last - float(y))
            last = float(y)
    return area


def shares(config: StudyConfig, trials: Sequence[TrialRecord], sampler: SamplerSettings, path: Path) -> list[float]:
    """Share of the grid's hypervolume after each training, when a sampler chooses from the grid.

    Settings that were trained before cost nothing, as in a study. Objectives count by their logarithms, since one is an
    error and the other a time.
    """
    values = {repr(sorted(trial.parameters.items())): trial.values for trial in trials}
    points = np.log(np.array(list(values.values())))
    worst = points.max(axis=0)
    most = hypervolume(points, worst)
    seed = int(path.stem.rpartition("-")[2])
    study = OptunaStudy(path, config.space, config.objectives, sampler, config.pruner, seed=seed)
    seen: dict[str, tuple[float, ...]] = {}
    found = []
    for _ in range(20 * len(values)):
        asked = study.ask()
        key = repr(sorted(asked.parameters.items()))
        study.finish(asked.number, values[key], {})
        if key not in seen:
            seen[key] = values[key]
            found.append(hypervolume(np.log(np.array(list(seen.values()))), worst) / most)
        if found[-1] > 1.0 - 1e-9:
            break
    return found


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where data, study and figures are kept")
    args = parser.parse_args()
    if args.folder is not None:
        args.folder.mkdir(parents=True, exist_ok=True)
        measure(args.folder.resolve())
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder))


def measure(folder: Path) -> None:
    """Train what is not yet in the folder, and print the tables."""
    files = make_melts(folder)
    config = study_config(files)
    head = "validation E, F, virial | 20 at.% away | µs/atom/step | ns/day | training, CPU-s"
    print(f"| embedding; axis; fitting; cutoff | {head} |\n| --- | --- | --- | --- | --- | --- |", flush=True)
    for name, changes in VARIANTS.items():
        print(
            table_row(f"(12, 17); 10; (200); 5.5; but {name}", fit_variant(config, name, changes, folder)), flush=True
        )
    corner = study_config(corner_files(files, folder))
    print(table_row(CORNER, fit_variant(corner, CORNER, {}, folder)), flush=True)
    end = run_study(config, folder / "study", _show)
    finished = [trial for trial in end.trials if trial.condition == "finished"]
    print(f"\n{len(finished)} of {grid_size(config)} points of the grid; trainings until 95 % and all of its front:")
    samplers: Mapping[str, SamplerSettings] = {
        "tpe": TpeSettings(n_startup_trials=4),
        "random": RandomSettings(kind="random"),
        "grid": GridSettings(kind="grid"),
    }
    for name, sampler in samplers.items():
        runs = []
        for seed in range(N_SEEDS if name != "grid" else 1):
            path = folder / f"{name}-{seed}.log"
            path.unlink(missing_ok=True)
            runs.append(shares(config, finished, sampler, path))
        needed = [[_first(run, level) for run in runs] for level in (0.95, 1 - 1e-9)]
        print(f"{name}: {np.median(needed[0]):g} {sorted(needed[0])}, {np.median(needed[1]):g} {sorted(needed[1])}")


def _first(run: Sequence[float], level: float) -> float:
    """After how many trainings the share is reached; infinity if it is not."""
    return next((k for k, share in enumerate(run, 1) if share >= level), math.inf)


def _show(trial: TrialRecord) -> None:
    if trial.condition == "finished":
        descriptor, fitting, cutoff = trial.parameters.values()
        name = f"{tuple(descriptor['neuron'])}; {descriptor['axis_neuron']}; ({fitting[0]}); {cutoff}"
        print(table_row(name, trial.figures), flush=True)


if __name__ == "__main__":
    main()
