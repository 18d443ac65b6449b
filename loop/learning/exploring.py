"""The exploration stage of a round: runs of molecular dynamics, and how far the committee is apart where they went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from ase import Atoms

from ...generators.base import Failure
from ...generators.md_exploration import EndedRun, planned_runs
from ...oracles.single_point import SinglePointSettings
from ...structures.files import read_structures, write_structures
from ...surrogates.potentials.committee import Committee
from ..errors import RunDirectoryError
from ..execution.base import Progress
from ..rounds.endings import LearningError
from ..rounds.files import put
from ..seeding import derive_seed
from .jobs import ExplorationRun
from .rounds import RunFiles
from .site import Site


@dataclass(frozen=True)
class Explored:
    """What the runs of a round visited.

    Attributes:
        visited: in the order of runs and steps; their info says where, and the committee's deviation.
        n_steps: steps that were done.
        explosions: of each run that ended early, why.
        failures: of each run that gave nothing, why.
    """

    visited: Sequence[Atoms]
    n_steps: int
    explosions: Sequence[str]
    failures: Sequence[str]


def exploration_of_round(site: Site, index: int, committee: Committee) -> Explored:
    """Do the runs of a round as jobs, or read what they visited before a kill.

    Raises:
        Ending: a signal, or the time is spent.
        LearningError: no run can be done.
    """
    folder = site.folder(index)
    if not folder.explored.is_whole():
        site.limits.check()
        with site.timed(index, "exploring"):
            _explore(site, index, committee)
    return Explored(_read_visits(folder.explored), *_read_facts(folder.explored))


def _explore(site: Site, index: int, committee: Committee) -> None:
    config, folder = site.config, site.folder(index)
    settings, oracle = config.exploration, config.oracle
    teacher = oracle if settings.force_field == "teacher" and isinstance(oracle, SinglePointSettings) else None
    seed = derive_seed(config.seed, 0, "exploration")
    runs = planned_runs(config.system.space(), settings, round_index=index - 1, seed=seed)
    state = committee.state()
    jobs = {str(run.index): ExplorationRun(run, state, teacher) for run in runs if not folder.run(run.index).is_whole()}

    def keep(name: str, result: object) -> None:
        files = folder.run(int(name))
        if isinstance(result, Failure):
            _put(files, [], 0, [], [f"run {name}: {result.kind}: {result.message}"])
        elif isinstance(result, EndedRun):
            for visit in result.visits:
                visit.atoms.info = {**visit.facts, "round": index}
            explosions = [result.explosion] if result.explosion else []
            _put(files, [visit.atoms for visit in result.visits], result.n_steps, explosions, [])

    def share_done(progress: Progress) -> float:
        return min(1.0, progress.step / settings.n_steps)

    site.do(index, "exploring", jobs, "runs", on_end=keep, share_done=share_done, must_stop=site.limits.must_stop)
    site.limits.check()
    parts = [_read_facts(folder.run(run.index)) for run in runs]
    failures = [text for part in parts for text in part[2]]
    if len(failures) == len(runs):  # in this session or before a kill
        for run in runs:
            folder.run(run.index).remove()
        raise LearningError(f"round {index}: no run of exploration can be done; {failures[0]}")
    visited = [atoms for run in runs for atoms in _read_visits(folder.run(run.index))]
    n_steps = sum(part[0] for part in parts)
    explosions = [text for part in parts for text in part[1]]
    _put(folder.explored, visited, n_steps, explosions, failures)
    for run in runs:
        folder.run(run.index).remove()


def _put(
    files: RunFiles, visited: Sequence[Atoms], n_steps: int, explosions: Sequence[str], failures: Sequence[str]
) -> None:
    """The structures last: who finds them takes it that the facts are there."""
    facts = {"n_steps": n_steps, "explosions": list(explosions), "failures": list(failures)}
    put(files.facts, orjson.dumps(facts))
    put(files.structures, (lambda path: write_structures(path, visited)) if visited else b"")


def _read_visits(files: RunFiles) -> list[Atoms]:
    return list(read_structures(files.structures)) if files.structures.stat().st_size else []


def _read_facts(files: RunFiles) -> tuple[int, list[str], list[str]]:
    try:
        facts = orjson.loads(files.facts.read_bytes())
        return int(facts["n_steps"]), list(facts["explosions"]), list(facts.get("failures", ()))
    except (OSError, KeyError, orjson.JSONDecodeError) as error:
        raise RunDirectoryError(f"{files.facts} is missing or damaged ({error}); remove its round's folder") from error
