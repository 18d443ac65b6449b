"""The live view of a campaign: a dashboard in a terminal, lines of progress anywhere else."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..events import (
    Evaluated,
    Event,
    Failed,
    GeneratorTrained,
    GeneratorTraining,
    GeneratorTrainingFailed,
    Requested,
    Resumed,
    Retrained,
    Stopped,
    Tuned,
)
from ..state import CampaignState
from ..summary import CampaignSummary, TrainingSummary, summarize
from ..texts import axis_label, composition_text, duration_text, number_text, unit_of, value_text

_N_EVENTS = 8
_PLAIN_INTERVAL_S = 10.0
_REFRESH_PER_S = 4
_MAX_WORKER_ROWS = 16
_MAX_GENERATOR_ROWS = 8


class View(Protocol):
    """Shows a campaign while it runs; a context manager that takes its events."""

    def __enter__(self) -> View: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def note(self, event: Event, state: CampaignState) -> None:
        """Take an event that was applied to ``state``."""
        ...


class SilentView:
    """Shows nothing."""

    def __enter__(self) -> View:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def note(self, event: Event, state: CampaignState) -> None:
        """Nothing."""


class PlainView:
    """Prints a line now and then, at news ``interval_s`` or more behind the last line; failed trainings at once."""

    def __init__(self, console: Console, interval_s: float = _PLAIN_INTERVAL_S) -> None:
        self._console = console
        self._interval_s = interval_s
        self._printed_at = 0.0

    def __enter__(self) -> View:
        self._printed_at = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def note(self, event: Event, state: CampaignState) -> None:
        """Print if it is time."""
        now = time.monotonic()
        if isinstance(event, GeneratorTrainingFailed) and (line := event_line(event, state)) is not None:
            self._console.print(line.plain, markup=False)
        if now - self._printed_at >= self._interval_s and isinstance(event, Evaluated | Failed | GeneratorTraining):
            self._printed_at = now
            self._console.print(progress_line(summarize(state)), markup=False)


class LiveView:
    """A dashboard that refreshes four times a second, between events too.

    Args:
        console: an interactive terminal.
        title: shown at the top, usually the run directory.
    """

    def __init__(self, console: Console, title: str) -> None:
        self._title = title
        self._events: deque[Text] = deque(maxlen=_N_EVENTS)
        self._frame: Callable[[], RenderableType] = lambda: Text("starting the workers …", style="dim")
        self._live = Live(
            console=console,
            get_renderable=lambda: self._frame(),
            refresh_per_second=_REFRESH_PER_S,
            vertical_overflow="crop",
        )

    def __enter__(self) -> View:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def note(self, event: Event, state: CampaignState) -> None:
        """Make the next frame; the drawing thread only ever sees finished, immutable summaries."""
        line = event_line(event, state)
        if line is not None:
            self._events.append(line)
        self.show(summarize(state))

    def show(self, summary: CampaignSummary) -> None:
        """Draw ``summary`` from now on."""
        events = tuple(self._events)
        self._frame = lambda: dashboard(summary, events, self._title, time.time())


def view_for(console: Console, title: str, *, is_quiet: bool, is_plain: bool) -> View:
    """The view that fits the console."""
    if is_quiet:
        return SilentView()
    return PlainView(console) if is_plain or not console.is_terminal else LiveView(console, title)


def progress_line(summary: CampaignSummary) -> str:
    """One line: ``120/300 evaluations, best 197.31 GPa (fcc Fe30Cr19Ni5), 8 failed, 412/h, 26 min left``."""
    parts = [f"{summary.n_evaluations}/{summary.n_budget} evaluations", best_text(summary)]
    n_failed = sum(summary.n_failed.values())
    if n_failed:
        parts.append(f"{n_failed} failed")
    if summary.rate_per_hour is not None:
        parts.append(f"{number_text(summary.rate_per_hour)}/h")
    if summary.condition == "running" and summary.time_left_s is not None:
        parts.append(f"{duration_text(summary.time_left_s)} left")
    parts += [f"training {training_text(training)}" for training in summary.trainings]
    return ", ".join(parts)


def training_text(training: TrainingSummary) -> str:
    """``search on 96 labels: 40%, loss 0.83, 2 min 05 s left``."""
    loss = "" if training.loss is None else f", loss {training.loss:.3g}"
    left = "" if training.time_left_s is None else f", {duration_text(training.time_left_s)} left"
    return f"{training.generator} on {training.n_train} labels: {training.share:.0%}{loss}{left}"


def best_text(summary: CampaignSummary) -> str:
    """``best 197.31 GPa (fcc Fe30Cr19Ni5)``."""
    if summary.best is None:
        return "no label yet"
    unit = unit_of(summary.objective_property)
    return (
        f"best {value_text(summary.best.value)} {unit}".rstrip() + f" ({summary.best.phase} {summary.best.composition})"
    )


def event_line(event: Event, state: CampaignState) -> Text | None:
    """What happened, in a line; ``None`` for what is not news."""
    clock = time.strftime("%H:%M:%S ", time.localtime(event.at))
    match event:
        case Evaluated():
            value = float(event.label.values[state.objective.property])
            composition = composition_text(event.label.atoms, state.config["system"]["elements"])
            is_best = state.best is not None and state.best.request_id == event.request_id
            text = f"{event.request_id}  {value_text(value)}  {composition}"
            return Text(clock + text + ("  new best" if is_best else ""), style="bold green" if is_best else "")
        case Failed():
            first_line = event.failure.message.splitlines()[0] if event.failure.message else ""
            kind, action = event.failure.kind, event.action
            return Text(f"{clock}{event.request_id}  {kind}, {action}: {first_line}", style="red", overflow="ellipsis")
        case Requested():
            return Text(f"{clock}round {event.round}: {len(event.requests)} requested", style="cyan")
        case Retrained():
            return Text(f"{clock}surrogate fitted on {event.n_train} labels in {event.wall_s:.1f} s", style="magenta")
        case Tuned():
            before = "not finite" if event.error_before is None else f"{event.error_before:.4g}"
            is_kept = event.error is None or event.error == event.error_before
            found = "kept" if is_kept else f"{before} → {event.error:.4g}"
            return Text(f"{clock}surrogate's settings searched on {event.n_labels} labels: {found}", style="magenta")
        case GeneratorTraining(step=0):
            return Text(f"{clock}training {event.generator} on {event.n_train} labels", style="magenta")
        case GeneratorTrained():
            took = duration_text(event.wall_s)
            return Text(f"{clock}{event.generator} trained on {event.n_train} labels in {took}", style="magenta")
        case GeneratorTrainingFailed():
            what = f"training {event.generator} on {event.n_train} labels"
            first_line = event.failure.message.partition("\n")[0]
            text = f"{clock}{what}: {event.failure.kind}, {event.action}: {first_line}"
            return Text(text, style="red", overflow="ellipsis")
        case Resumed():
            return Text(f"{clock}{event.driver} takes over", style="cyan")
        case Stopped():
            return Text(f"{clock}{event.reason}: {event.message}", style="bold")
        case _:
            return None


def dashboard(summary: CampaignSummary, events: tuple[Text, ...], title: str, now: float) -> RenderableType:
    """The whole view; ``now`` in Unix time."""
    idle_s = max(0.0, now - summary.updated_at) if summary.condition == "running" else 0.0
    body = Group(
        _budget(summary, idle_s),
        Text(""),
        _columns(summary),
        Text(""),
        *(_one_line(line) for line in events),
    )
    return Panel(
        body, title=f"[bold]{summary.name}[/] · {title}", title_align="left", border_style="cyan", padding=(1, 2)
    )


def _one_line(text: Text) -> Text:
    short = text.copy()
    short.no_wrap, short.overflow = True, "ellipsis"
    return short


def _budget(summary: CampaignSummary, idle_s: float) -> Table:
    left = ""
    if summary.condition == "running":
        seconds = summary.time_left_s
        left = f", {'–' if seconds is None else duration_text(max(0.0, seconds - idle_s))} left"
    bar = ProgressBar(total=max(1, summary.n_budget), completed=summary.n_evaluations, complete_style="green")
    row = Table.grid(padding=(0, 2), expand=True)
    row.add_column()
    row.add_column(ratio=1)
    row.add_column(justify="right")
    elapsed = duration_text(summary.elapsed_s + idle_s)
    row.add_row(Text(f"{summary.n_evaluations} / {summary.n_budget}", style="bold"), bar, Text(f"{elapsed}{left}"))
    return row


def _columns(summary: CampaignSummary) -> Table:
    grid = Table.grid(padding=(0, 4), expand=True)
    grid.add_column(ratio=1)
    grid.add_column(ratio=1)
    grid.add_row(_facts(summary), _workers(summary))
    return grid


def _facts(summary: CampaignSummary) -> Table:
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column()
    label = axis_label(summary.objective_property, unit_of(summary.objective_property))
    best = summary.best
    if best is None:
        facts.add_row("best", f"no {label} yet")
    else:
        facts.add_row(
            "best", Text(f"{value_text(best.value)} {unit_of(summary.objective_property)}", style="bold green")
        )
        facts.add_row("", f"{best.phase} {best.composition}")
        facts.add_row("", f"{best.request_id}, {best.generator}: {best.move}")
    rate = summary.rate_per_hour
    facts.add_row("rate", "–" if rate is None else f"{number_text(rate)} evaluations/h")
    failed = ", ".join(f"{n} {kind}" for kind, n in sorted(summary.n_failed.items(), key=lambda i: -i[1]))
    facts.add_row("failed", Text(failed, style="red") if failed else "none")
    if summary.n_retried:
        facts.add_row("retried", ", ".join(f"{n} {kind}" for kind, n in summary.n_retried.items()))
    if summary.surrogate:
        rmse = summary.surrogate.get("rmse")
        note = f", rmse {rmse:.3g}" if rmse is not None else ""
        facts.add_row("surrogate", f"{summary.surrogate['n_train']:.0f} labels{note}")
    for name, n_train in summary.generator_models.items():
        facts.add_row("model", f"{name}, {n_train} labels")
    for training in summary.trainings:
        facts.add_row("training", Text(training_text(training), style="magenta"))
    if len(summary.recent_generators) > 1:
        n_recent = sum(summary.recent_generators.values())
        ranked = sorted(summary.recent_generators.items(), key=lambda item: (-item[1], item[0]))
        for number, (generator, n) in enumerate(ranked[:_MAX_GENERATOR_ROWS]):
            facts.add_row("" if number else "proposals", Text(f"{generator} {n / n_recent:.0%} of the last {n_recent}"))
    facts.add_row("pending", f"{summary.n_pending}, round {summary.n_rounds}, {summary.mode}")
    return facts


def _workers(summary: CampaignSummary) -> Table:
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(ratio=1)
    table.add_column(justify="right", no_wrap=True)
    for worker in list(summary.workers)[:_MAX_WORKER_ROWS]:
        share = summary.utilization(worker)
        bar = ProgressBar(total=1.0, completed=share, complete_style="cyan", finished_style="cyan")
        table.add_row(worker, bar, f"{share:4.0%} busy")
    n_more = len(summary.workers) - _MAX_WORKER_ROWS
    if n_more > 0:
        table.add_row(f"and {n_more} more", "", "")
    return table
