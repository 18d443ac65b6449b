"""`alloysmith study run`, `resume`, `status`, `best` and `report`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from ...agents.optuna_study import TrialRecord
from ...errors import ConfigError
from ...structures.whole_file import write_whole
from ..config import validate_settings
from ..errors import RunDirectoryError
from ..report.build import write_page
from ..report.study import study_report
from ..store.lock import lock_holder
from ..studies.config import StudyConfig, load_study_config
from ..studies.results import BEST_NAME, FRONT_FOLDER, best_trials, compromise, fit_text
from ..studies.study import CONFIG_NAME, JOURNAL_NAME, n_done, n_trained, read_study_config, run_study, study_trials
from ..yaml_source import read_yaml
from .arguments import SetOption, find_config
from .console import ProgressBar, notes, output
from .writing import check_target

commands = typer.Typer(add_completion=False, rich_markup_mode="rich", no_args_is_help=True)

StudyArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a study.")]
_MAY_CHANGE = ("n_trials", "max_failures_in_a_row", "name", "execution")
_N_BEST = 10


@commands.callback()
def study() -> None:
    """Search the settings of a fit with Optuna.

    Each trial is a fit with settings that Optuna chose; the result is a configuration with the best ones, or a Pareto
    front. docs/studies.md explains the configuration.

    Example: alloysmith study run studies/eam_ni --data Ni_dft.extxyz.gz --study-dir studies/ni
    """


@commands.command()
def run(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A YAML file, or a shipped studies/… name.")],
    folder: Annotated[Path, typer.Option("--study-dir", metavar="DIR", help="Folder of the study.")],
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", metavar="FILE", help="Labelled structures, instead of the fit's; may be repeated."),
    ] = None,
    overrides: SetOption = None,
) -> None:
    """Run a study in a new folder, or go on with it.

    Each trial is a fit with settings that Optuna chose. DIR then holds best.yaml, a configuration for `alloysmith fit`;
    with several objectives also one for each trial of the Pareto front, in pareto/.

    Example: alloysmith study run studies/eam_ni --data Ni_dft.extxyz.gz --study-dir studies/ni
    """
    _run(load_study_config(find_config(config), overrides or (), data or ()), folder)


@commands.command()
def resume(folder: StudyArgument, overrides: SetOption = None) -> None:
    """Go on with a study that was stopped or killed, or give it more trials.

    Trials that were running are begun again with their parameters; none that had ended is lost. `--set` may change
    n_trials and execution.

    Example: alloysmith study resume studies/ni --set n_trials=200
    """
    read_study_config(folder)
    source = read_yaml(folder / CONFIG_NAME)
    for assignment in overrides or ():
        key = assignment.partition("=")[0].strip().split(".")[0]
        if key not in _MAY_CHANGE:
            raise ConfigError(
                f"--set {assignment}: a study that has begun may change {', '.join(_MAY_CHANGE)}; begin another one "
                "for other settings"
            )
        source.override(assignment)
    _run(validate_settings(source, StudyConfig, folder), folder)


@commands.command()
def status(
    folder: StudyArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON, for scripts.")] = False,
) -> None:
    """Print where a study stands, and its best trials.

    Example: alloysmith study status studies/ni
    """
    config = read_study_config(folder)
    trials = study_trials(config, folder)
    is_running = lock_holder(folder) is not None
    console = output()
    if as_json:
        text = orjson.dumps(_as_json(config, trials, folder, is_running), option=orjson.OPT_INDENT_2)
        console.out(text.decode())
        return
    console.print(f"{config.name}: {_counts(config, trials)}{', running' if is_running else ''}", markup=False)
    _print_best(config, trials)


@commands.command()
def best(
    folder: StudyArgument,
    target: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The YAML file to write.")],
    number: Annotated[
        int | None, typer.Option("--trial", metavar="N", min=0, help="This trial, instead of the chosen one.")
    ] = None,
) -> None:
    """Write the configuration of the best trial.

    With several objectives that is the compromise that `status` marks, unless --trial names another one. `alloysmith
    fit` takes the file; a campaign or a learning takes it as `fit: FILE`, instead of its surrogate or potential.

    Example: alloysmith study best studies/ni -o fit.yaml
    """
    config = read_study_config(folder)
    trials = study_trials(config, folder)
    front = best_trials(config, trials)
    if not front:
        raise RunDirectoryError(f"no trial of {folder} has finished yet; there is no best one")
    finished = {trial.number: trial for trial in trials if trial.condition == "finished"}
    if number is not None and number not in finished:
        raise ConfigError(f"trial {number} has not finished; those that have: {', '.join(map(str, finished))}")
    chosen = compromise(config, front) if number is None else finished[number]
    check_target(target)
    write_whole(target, fit_text(config, chosen, target.name).encode())
    output().print(f"wrote {target}: trial {chosen.number}; `alloysmith fit {target} -o MODEL`", markup=False)


@commands.command()
def report(
    folder: StudyArgument,
    path: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The page; DIR/report.html if left out.")
    ] = None,
) -> None:
    """Write a study's report, one HTML file that works offline.

    Example: alloysmith study report studies/ni
    """
    target = path if path is not None else folder / "report.html"
    config = read_study_config(folder)
    write_page(study_report(config, study_trials(config, folder), folder), target)
    output().print(f"wrote {target} ({target.stat().st_size / 1e6:.1f} MB)", markup=False)


def _run(config: StudyConfig, folder: Path) -> None:
    columns = (TextColumn("trials"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[best]}"))
    with ProgressBar(*columns, TimeElapsedColumn()) as progress:
        bar = progress.add_task("trials", total=config.n_trials, best="")
        known: dict[int, TrialRecord] = {}
        if (folder / JOURNAL_NAME).is_file() and (folder / CONFIG_NAME).is_file():
            known |= {trial.number: trial for trial in study_trials(config, folder)}

        def show(trial: TrialRecord) -> None:
            known[trial.number] = trial
            progress.update(bar, completed=n_done(list(known.values())))
            if trial.condition != "running":
                progress.console.print(_line(config, trial), markup=False)
            if front := best_trials(config, list(known.values())):
                progress.update(bar, best=f"best {config.objectives[0].metric} {front[0].values[0]:.5g}")

        end = run_study(config, folder, show)
    console = output()
    _print_best(config, end.trials)
    console.print(f"ended: {end.message} ({end.reason}); {_counts(config, end.trials)}", markup=False)
    if best_trials(config, end.trials):
        more = f", and {folder / FRONT_FOLDER} for each trial of the front" if len(config.objectives) > 1 else ""
        console.print(f"wrote {folder / BEST_NAME}{more}; `alloysmith fit` takes it", markup=False)
    if end.exit_code:
        raise typer.Exit(end.exit_code)


def _counts(config: StudyConfig, trials: Sequence[TrialRecord]) -> str:
    by_condition = {name: sum(trial.condition == name for trial in trials) for name in ("pruned", "failed", "running")}
    others = "".join(f", {n} {name}" for name, n in by_condition.items() if n)
    copied = n_done(trials) - n_trained(trials)
    copies = f", {copied} equal to others and not trained again" if copied else ""
    return f"{n_done(trials)} of {config.n_trials} trials done{others}{copies}"


def _line(config: StudyConfig, trial: TrialRecord) -> str:
    values = ", ".join(
        f"{objective.metric} {value:.5g}" for objective, value in zip(config.objectives, trial.values, strict=False)
    )
    what = values or trial.message.splitlines()[0] if values or trial.message else ""
    if trial.same_as is not None:
        what = f"as trial {trial.same_as}"
    return f"trial {trial.number} {trial.condition}{': ' if what else ''}{what}  [{_parameters(trial)}]"


def _parameters(trial: TrialRecord) -> str:
    return ", ".join(f"{_last(key)} {_text(value)}" for key, value in trial.parameters.items())


def _print_best(config: StudyConfig, trials: Sequence[TrialRecord]) -> None:
    finished = [trial for trial in trials if trial.condition == "finished"]
    if not finished:
        notes().print("no trial has finished yet", markup=False)
        return
    front = best_trials(config, trials)
    chosen = compromise(config, front).number
    if len(config.objectives) == 1:
        sign = 1.0 if config.objectives[0].direction == "minimize" else -1.0
        front = sorted(finished, key=lambda trial: sign * trial.values[0])[:_N_BEST]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("trial", justify="right")
    for objective in config.objectives:
        table.add_column(objective.metric, justify="right", overflow="fold")
    for key in config.space:
        table.add_column(_last(key), justify="right", overflow="fold")
    for trial in front:
        table.add_row(
            f"{trial.number}{' *' if trial.number == chosen else ''}",
            *(f"{value:.5g}" for value in trial.values),
            *(_text(trial.parameters.get(key)) for key in config.space),
        )
    console = output()
    console.print("Pareto front" if len(config.objectives) > 1 else "best trials", style="bold")
    console.print(table)
    console.print(f"* is {BEST_NAME}", markup=False)


def _as_json(config: StudyConfig, trials: Sequence[TrialRecord], folder: Path, is_running: bool) -> dict[str, Any]:
    front = best_trials(config, trials)
    return {
        "schema_version": 1,
        "study_dir": str(folder),
        "name": config.name,
        "is_running": is_running,
        "n_trials": config.n_trials,
        "n_done": n_done(trials),
        "n_trained": n_trained(trials),
        "objectives": [objective.model_dump() for objective in config.objectives],
        "best": [_trial_json(trial) for trial in front],
        "chosen": compromise(config, front).number if front else None,
        "trials": [_trial_json(trial) for trial in trials],
    }


def _trial_json(trial: TrialRecord) -> dict[str, Any]:
    return {
        "number": trial.number,
        "condition": trial.condition,
        "parameters": dict(trial.parameters),
        "values": list(trial.values),
        "figures": dict(trial.figures),
        "message": trial.message,
        "same_as": trial.same_as,
        "wall_s": trial.wall_s,
    }


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
