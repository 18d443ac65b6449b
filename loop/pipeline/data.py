"""The first two stages: random orderings, and local searches that start from some of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from ...errors import StructureError
from ...generators.base import Lineage, Objective
from ...generators.local_search import swap_trials
from ...generators.random_orderings import random_candidate
from ...generators.seen import SeenKeys
from ...oracles.base import Label
from ...structures.composition import reduced_formula
from ...structures.files import read_structures, write_structures
from ..labelling import stated_phase
from ..rows import labelled_row
from ..seeding import derive_seed
from .config import PipelineConfig, PipelineDataSettings
from .site import SPLIT, Site

START = "start"
"""In the info of what came of a structure: the number of that one's row in the file of random orderings, from 0."""
CALLS = "oracle_calls"
"""In the info of what a local search ended with: structures it had labelled."""
VALUES = "values_by_step"
"""Likewise: the objective's property of the start, and after each step."""
_STEP = "search_step"
_SPLITS = ("train", "validation", "test")


def make_random_orderings(site: Site) -> None:
    """Label random orderings and divide them, unless that was done before.

    Raises:
        Ending: a signal, or the oracle is broken.
        StructureError: too few compositions, or labels, to divide.
    """
    files = site.files
    if files.random.is_file():
        return
    site.on_progress("random orderings", "arranging atoms")
    rows = random_orderings(site.config)
    phases = [stated_phase(row) for row in rows]
    results = site.label("random orderings", site.config.oracle, rows, phases, files.journal("random"))
    rows = [labelled_row(row, result) for row, result in zip(rows, results, strict=True)]
    usable = [row for row, result in zip(rows, results, strict=True) if isinstance(result, Label)]
    seed = derive_seed(site.config.seed, 0, "split")
    for row, split in zip(usable, splits(usable, site.config.data, seed), strict=True):
        row.info[SPLIT] = split
    write_structures(files.random, rows)


def random_orderings(config: PipelineConfig) -> list[Atoms]:
    """Random orderings of all compositions in all phases, no two the same modulo symmetry, on ideal sites."""
    space, data = config.system.space(), config.data
    plan = data.orderings().build("random", space).plan
    rng = np.random.default_rng(derive_seed(config.seed, 0, "random orderings"))
    seen = SeenKeys(set(), set())
    rows = []
    for _ in range(data.n_orderings):  # one of each after the other, so that phases that do not hold are spread
        for lattice, counts in plan:
            found = random_candidate(rng, space, lattice, seen, Lineage("random", "random"), counts)
            if found is not None:
                found.atoms.info = {"phase": found.phase}
                rows.append(found.atoms)
    return rows


def splits(rows: Sequence[Atoms], settings: PipelineDataSettings, seed: int) -> list[str]:
    """The part of the data that each structure belongs to.

    Raises:
        StructureError: too few to have one in each part.
    """
    if settings.split_by == "composition":
        units = [reduced_formula(row) for row in rows]
    else:
        units = [f"{k:06d}" for k in range(len(rows))]
    names = sorted(set(units))
    n_of = [max(1, round(x * len(names))) if x else 0 for x in (settings.validation_fraction, settings.test_fraction)]
    if sum(n_of) >= len(names):
        raise StructureError(
            f"{len(rows)} labelled structures, in {len(names)} groups by {settings.split_by}, cannot be divided into "
            "training, validation and test; take more of them"
        )
    order = [names[k] for k in np.random.default_rng(seed).permutation(len(names))]
    ends = np.cumsum([len(names) - sum(n_of), *n_of])
    split_of = {name: _SPLITS[int(np.searchsorted(ends, k, side="right"))] for k, name in enumerate(order)}
    return [split_of[unit] for unit in units]


def search_locally(site: Site) -> None:
    """Improve some of the random orderings, unless that was done before.

    All searches advance together: the trials of all of them in a step are labelled in one go, so that no worker waits
    for a search. After each step its structures are written down, and a killed search goes on from there.

    Raises:
        Ending: a signal, or the oracle is broken.
    """
    files, config = site.files, site.config
    if files.local_search.is_file():
        return
    settings = config.local_search
    grounds = read_structures(files.searching) if files.searching.is_file() else _starts(site)
    for step in range(int(grounds[0].info[_STEP]) + 1, settings.n_steps + 1):
        for old in files.run_dir.glob(files.journal("local_search_*").name):
            if old != files.journal(f"local_search_{step}"):
                old.unlink()
        grounds = _step(site, grounds, step)
        write_structures(files.searching, grounds)
    for row in grounds:
        row.info.pop(_STEP)
    write_structures(files.local_search, grounds)


def _starts(site: Site) -> list[Atoms]:
    """The structures that searches start from, of each part in turn."""
    config = site.config
    rows = read_structures(site.files.random)
    starts = []
    for index, split in enumerate(_SPLITS):
        members = [k for k, row in enumerate(rows) if row.info.get(SPLIT) == split]
        rng = np.random.default_rng(derive_seed(config.seed, 0, "local search", index))
        n = max(1, round(config.local_search.share * len(members))) if members else 0
        for k in sorted(rng.choice(members, size=n, replace=False).tolist() if n else []):
            start = rows[k].copy()
            start.info |= {START: k, CALLS: 0, _STEP: 0, VALUES: [float(rows[k].info[config.objective.property])]}
            starts.append(start)
    return starts


def _step(site: Site, grounds: Sequence[Atoms], step: int) -> list[Atoms]:
    """The structures after a step, of those before it."""
    config = site.config
    objective, settings = config.objective.build(), config.local_search
    seed = derive_seed(config.seed, step, "swaps")
    trials = [
        swap_trials(np.random.default_rng([seed, k]), ground, settings.n_trials) for k, ground in enumerate(grounds)
    ]
    batch = [trial for of_one in trials for trial in of_one]
    phases = [stated_phase(ground) for ground, of_one in zip(grounds, trials, strict=True) for _ in of_one]
    best = (max if objective.direction == "maximize" else min)(
        float(np.asarray(ground.info[VALUES]).ravel()[-1]) for ground in grounds
    )
    results = iter(
        site.label(
            "local search",
            config.oracle,
            batch,
            phases,
            site.files.journal(f"local_search_{step}"),
            prefix=f"step {step} of {settings.n_steps}, best {best:.2f}; ",
        )
    )
    return [
        _best(ground, [(trial, next(results)) for trial in of_one], objective, step)
        for ground, of_one in zip(grounds, trials, strict=True)
    ]


def _best(ground: Atoms, tried: Sequence[tuple[Atoms, object]], objective: Objective, step: int) -> Atoms:
    """The best of a structure and its trials, the earlier of equals, with the search so far in its info."""
    sign = 1.0 if objective.direction == "maximize" else -1.0
    values = np.atleast_1d(ground.info[VALUES]).tolist()
    kept, value = ground.copy(), float(values[-1])
    for trial, result in tried:
        if isinstance(result, Label) and objective.score(result) > sign * value:
            trial.info = dict(ground.info)
            kept = labelled_row(trial, result)
            value = float(result.values[objective.property])
    kept.info |= {_STEP: step, CALLS: int(ground.info[CALLS]) + len(tried), VALUES: [*values, value]}
    return kept
