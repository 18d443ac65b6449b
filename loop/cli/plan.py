"""`alloysmith plan`: what would be spent, before anything is."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from ...generators.base import Generator
from ...generators.learned import Learner
from ...generators.portfolio import Portfolio
from ..config import CampaignConfig, load_config
from ..planning import LatticePlan, Plan, Trial, make_plan
from ..texts import composition_text, duration_text, number_text
from .arguments import ConfigArgument, MachineOption, SetOption, find_config
from .console import notes, output


def plan(
    config: ConfigArgument,
    overrides: SetOption = None,
    machine: MachineOption = None,
    trial: Annotated[bool, typer.Option(help="Evaluate a few structures to measure what one costs here.")] = True,
) -> None:
    """Say what a campaign would do and spend, without spending it.

    Prints the size of the search, the cost of an evaluation and the time that all of them take on this machine. The
    trial evaluations run in a process of their own and are thrown away; --no-trial takes the oracle's own hint.

    Example: alloysmith plan nifecr_bulk_modulus --set execution.n_workers=8
    """
    settings = load_config(find_config(config), overrides or (), machine)
    if trial:
        notes().print("evaluating a few structures …", markup=False)
    found = make_plan(settings, with_trials=trial)
    table = Table.grid(padding=(0, 3))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, text in _lines(settings, found):
        table.add_row(name, text)
    output().print(table)


def _lines(config: CampaignConfig, plan: Plan) -> list[tuple[str, str]]:
    space = config.system.space()
    execution = config.execution
    workers = f"{plan.n_workers} worker{'s' if plan.n_workers > 1 else ''}"
    lines = [
        ("campaign", f"{config.name}, seed {config.seed}"),
        ("goal", f"{config.objective.direction} {config.objective.property} ({plan.oracle.name})"),
        ("elements", ", ".join(space.elements)),
        *(("lattice", _lattice_line(lattice)) for lattice in plan.lattices),
        ("generators", ", ".join(f"{name} ({settings.kind})" for name, settings in config.generators.items())),
        ("agent", config.agent.kind + (f" with {config.surrogate.kind}" if config.surrogate is not None else "")),
        ("evaluations", f"{number_text(plan.n_evaluations)} on {workers} ({execution.executor}, {execution.mode})"),
    ]
    lines += [("trial", _trial_line(trial, space.elements)) for trial in plan.trials]
    is_measured = any(not trial.failure for trial in plan.trials)
    source = "measured" if is_measured else "the oracle's hint"
    total_s = plan.n_evaluations * plan.evaluation_s
    lines += [
        ("cost", f"{plan.evaluation_s:.3g} s an evaluation ({source}), {duration_text(total_s)} of one core in all"),
        ("time", f"about {duration_text(plan.evaluations_s)} for the evaluations; {_on_top(config)} come on top"),
    ]
    if config.budget.wall_s is not None:
        lines.append(("time limit", duration_text(config.budget.wall_s)))
    return lines


def _learns(generator: Generator) -> bool:
    if isinstance(generator, Portfolio):
        return any(map(_learns, generator.members.values()))
    return isinstance(generator, Learner)


def _on_top(config: CampaignConfig) -> str:
    """What takes time beside evaluations, and is not foreseen."""
    space = config.system.space()
    learners = [n for n, settings in config.generators.items() if _learns(settings.build(n, space))]
    if not learners:
        return "the agent's decisions"
    return f"the agent's decisions, and the trainings of {', '.join(learners)}, which may take longer than all else,"


def _lattice_line(lattice: LatticePlan) -> str:
    digits = len(str(lattice.n_orderings)) - 1
    return (
        f"{lattice.description}: {lattice.n_sites} sites, {number_text(lattice.n_compositions)} compositions, "
        f"about 10^{digits} orderings"
    )


def _trial_line(trial: Trial, elements: tuple[str, ...]) -> str:
    structure = f"{trial.phase} {composition_text(trial.atoms, elements)}"
    outcome = f"failed: {' '.join(trial.failure.split())}" if trial.failure else "labelled"
    return f"{structure}, {trial.wall_s:.3g} s, {outcome}"
