"""What a pipeline found, of the files of its run directory.

The two tables are those of Naghdi, Kaszuba et al., "Efficient autoencoder pipeline for discovering high entropy alloys
with molecular dynamics data" (2024): Table 3, what was drawn at each step of the optimization, and Table A1, how many
of the starts were brought above percentiles of what the models learnt from.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from ...errors import StructureError
from ...generators.screening import FAULT
from ...structures.files import read_structures
from ...structures.phase import classify_phase
from ..rounds.files import put
from .config import ModelName, PipelineConfig
from .data import CALLS, START
from .generation import MODEL, OPTIMIZATION, STEP
from .screening import IS_LABELLED, IS_SHUFFLED, SHUFFLED_PREFIX
from .site import SPLIT, PipelineFiles

PERCENTILES = (50, 75, 90, 95, 99, 100)
_N_TOP = 10


@dataclass(frozen=True)
class StepRow:
    """A row of Table 3.

    Attributes:
        model, optimization: empty for the starts.
        step: of the optimization; 0 for the starts.
        n_drawn: structures drawn.
        n_correct: those that count.
        n_in_phase: those of them that, relaxed, are in the phase that the model said.
        mean, mean_top, best: of the objective's property over those that count; NaN without any.
        mean_shuffled: of the same atoms in random order; NaN where that was not asked for.
    """

    model: str
    optimization: str
    step: int
    n_drawn: int
    n_correct: int
    n_in_phase: int
    mean: float
    mean_top: float
    best: float
    mean_shuffled: float


@dataclass(frozen=True)
class ThresholdRow:
    """A row of Table A1.

    Attributes:
        reference: whose percentiles: ``random`` (training part) or ``local_search`` (what searches ended with).
        threshold: value of the percentile.
        share: of the starts from which something better was drawn at any step.
    """

    model: str
    optimization: str
    reference: str
    percentile: int
    threshold: float
    share: float


@dataclass(frozen=True)
class Best:
    """The best structure of some.

    Attributes:
        where: it was found.
    """

    value: float
    where: str
    atoms: Atoms


@dataclass(frozen=True)
class Findings:
    """All that a pipeline found.

    Attributes:
        random, searched, drafts: rows of the three files; drafts that do not count included.
        best: of the random orderings, the local searches, and the drafts; those that there are.
        calls: what was asked of the oracle, by stage; energies without relaxation are counted apart.
        n_single_points: energies of drafts as drawn.
    """

    config: PipelineConfig
    random: Sequence[Atoms]
    searched: Sequence[Atoms]
    drafts: Sequence[Atoms]
    table_3: Sequence[StepRow]
    table_a1: Sequence[ThresholdRow]
    best: dict[str, Best]
    calls: dict[str, int]
    n_single_points: int

    def value(self, atoms: Atoms) -> float:
        """The objective's property of a labelled row."""
        return float(atoms.info[self.config.objective.property])


def read_findings(files: PipelineFiles, config: PipelineConfig) -> Findings:
    """Put together what the files of a finished pipeline say.

    Raises:
        StructureError: a file is missing or damaged.
    """
    random, searched, drafts = (read_structures(p) for p in (files.random, files.local_search, files.labelled_drafts))
    name, sign = config.objective.property, _sign(config)
    usable = [row for row in random if SPLIT in row.info]
    correct = [row for row in drafts if FAULT not in row.info]
    test = {k: row for k, row in enumerate(random) if row.info.get(SPLIT) == "test"}
    table_3 = [_row("", "", 0, list(test.values()), list(test.values()), name, sign)]
    for model, form, step in _keys(config):
        mine = [row for row in drafts if _key(row) == (model, form, step)]
        table_3.append(_row(model, form, step, mine, [row for row in mine if FAULT not in row.info], name, sign))
    references = {
        "random": [row.info[name] for row in usable if row.info[SPLIT] == "train"],
        "local_search": [row.info[name] for row in searched if row.info[SPLIT] == "train"],
    }
    table_a1 = [
        row
        for model in config.models
        for form in config.optimizations
        for row in _thresholds(model, form, correct, list(test), references, name, sign)
    ]
    found = {"random": usable, "local_search": searched, "drafts": correct}
    best = {key: _best(rows, name, sign) for key, rows in found.items() if rows}
    calls = {
        "random": len(random),
        "local_search": sum(int(row.info[CALLS]) for row in searched),
        "drafts": sum(bool(row.info[IS_LABELLED]) for row in drafts),
        "shuffled": sum(bool(row.info.get(IS_SHUFFLED)) for row in drafts),
    }
    return Findings(config, random, searched, drafts, table_3, table_a1, best, calls, len(drafts))


def _sign(config: PipelineConfig) -> float:
    return 1.0 if config.objective.direction == "maximize" else -1.0


def _keys(config: PipelineConfig) -> Iterator[tuple[ModelName, str, int]]:
    for model in config.models:
        for form, settings in config.optimizations.items():
            for step in settings.optimization.decode_at:
                yield model, form, step


def _key(draft: Atoms) -> tuple[str, str, int]:
    return str(draft.info[MODEL]), str(draft.info[OPTIMIZATION]), int(draft.info[STEP])


def _row(
    model: str, form: str, step: int, drawn: Sequence[Atoms], correct: Sequence[Atoms], name: str, sign: float
) -> StepRow:
    values = np.sort([sign * float(row.info[name]) for row in correct])[::-1] * sign
    mean, top, best = (float(part.mean()) if len(part) else np.nan for part in (values, values[:_N_TOP], values[:1]))
    shuffled = [row.info[SHUFFLED_PREFIX + name] for row in correct if SHUFFLED_PREFIX + name in row.info]
    n_in_phase = sum(map(_is_in_phase, correct))
    of_shuffled = float(np.mean(shuffled)) if shuffled else np.nan
    return StepRow(model, form, step, len(drawn), len(correct), n_in_phase, mean, top, best, of_shuffled)


def _is_in_phase(atoms: Atoms) -> bool:
    try:
        return classify_phase(atoms).majority == atoms.info.get("phase")
    except StructureError:  # a cell without room
        return False


def _thresholds(
    model: str,
    form: str,
    correct: Sequence[Atoms],
    starts: Sequence[int],
    references: dict[str, list[float]],
    name: str,
    sign: float,
) -> Iterator[ThresholdRow]:
    reached = dict.fromkeys(starts, -np.inf)
    for row in correct:
        if (row.info[MODEL], row.info[OPTIMIZATION]) == (model, form):
            start = int(row.info[START])
            reached[start] = max(reached[start], sign * float(row.info[name]))
    best = np.array(list(reached.values()))
    for reference, known in references.items():
        for percentile in PERCENTILES if known else ():
            threshold = float(np.percentile(sign * np.array(known), percentile))
            share = float((best > threshold).mean())
            yield ThresholdRow(model, form, reference, percentile, sign * threshold, share)


def _best(rows: Sequence[Atoms], name: str, sign: float) -> Best:
    row = max(rows, key=lambda atoms: sign * float(atoms.info[name]))
    info = row.info
    where = f"model {info[MODEL]}, {info[OPTIMIZATION]}, step {info[STEP]}" if MODEL in info else ""
    return Best(float(info[name]), where, row)


def best_line(findings: Findings, unit: str) -> str:
    """The best value of the drafts against those of the data, in a sentence."""
    best = findings.best
    if "drafts" not in best:
        return "no structure that was drawn counts, so there is no best one"
    value, of_search, of_random = (best[key].value for key in ("drafts", "local_search", "random"))
    sign = _sign(findings.config)
    better, worse = ("above", "below") if findings.config.objective.direction == "maximize" else ("below", "above")

    def against(other: float) -> str:
        return "as good as" if value == other else better if sign * value > sign * other else worse

    return (
        f"best drawn: {value:.2f} {unit} ({best['drafts'].where}); {against(of_search)} the best of the local "
        f"searches, {of_search:.2f}, and {against(of_random)} that of the random orderings, {of_random:.2f}"
    )


def write_tables(findings: Findings, files: PipelineFiles) -> None:
    """Write both tables, as CSV and as Markdown.

    Raises:
        RunDirectoryError: the disk is full or the folder cannot be written.
    """
    for path, table in ((files.table_3, table_3_cells(findings)), (files.table_a1, table_a1_cells(findings))):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(table)
        put(path.with_suffix(".csv"), text.getvalue().encode())
        lines = [table[0], ["---"] * len(table[0]), *table[1:]]
        put(path.with_suffix(".md"), "".join(f"| {' | '.join(line)} |\n" for line in lines).encode())


def table_3_cells(findings: Findings) -> list[list[str]]:
    """Table 3, its header first."""
    name = findings.config.objective.property
    header = ["model", "optimization", "step", "drawn", "correct", "in_phase"]
    rows = [
        [
            row.model or "initial",
            row.optimization,
            str(row.step) if row.model else "",
            str(row.n_drawn),
            str(row.n_correct),
            str(row.n_in_phase),
            *("" if np.isnan(x) else f"{x:.2f}" for x in (row.mean, row.mean_top, row.best, row.mean_shuffled)),
        ]
        for row in findings.table_3
    ]
    header += [f"mean_{name}", f"mean_top_{_N_TOP}_{name}", f"best_{name}", f"mean_{SHUFFLED_PREFIX}{name}"]
    return [header, *rows]


def table_a1_cells(findings: Findings) -> list[list[str]]:
    """Table A1, its header first: shares of the starts, in percent."""
    name = findings.config.objective.property
    header = ["model", "optimization", "percentile", "of", name, "starts_above_percent"]
    rows = [
        [
            row.model,
            row.optimization,
            str(row.percentile),
            row.reference,
            f"{row.threshold:.2f}",
            f"{100 * row.share:.1f}",
        ]
        for row in findings.table_a1
    ]
    return [header, *rows]
