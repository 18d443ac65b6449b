"""What a history says to a generator: the structures that are known, the best of them, and each chain's past.

Reading 100,000 evaluations for every proposal would cost more than the proposals, so the reading is remembered here and
only here. It is a memo of a pure function, in one place so that generators share it and hold nothing themselves: an
index is used again only for a history that begins with the very objects it was made from, and then reads on from there.
"""

from __future__ import annotations

import hashlib
from bisect import bisect
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..errors import StructureError
from ..structures.lattice import ParentLattice
from ..structures.locate import locate_sites
from ..structures.space import DesignSpace
from .base import Candidate, Evaluation, History, Lineage, Objective

KEY = "key"
"""Fact of a candidate's lineage that identifies its structure modulo symmetry; its atoms are in site order."""
N_TRIES = 1000
"""Drafts that are drawn in vain before a search says that it found nothing new."""
_N_TRIES_AFTER_SUCCESS = 30
"""The same once a proposal holds something: it may be short, whereas an empty one may end the campaign."""
_MAX_IN_VAIN = 20 * N_TRIES
"""Of all searches of one proposal; bounds its time where a space is exhausted."""
_N_REMEMBERED = 8
_N_PROBES = 64


@dataclass(frozen=True)
class Known:
    """An evaluation as generators see it.

    Attributes:
        evaluation: the evaluation.
        lattice: of its candidate.
        key: of its structure modulo symmetry.
        score: larger is better; ``None`` for a failure.
        is_in_site_order: whether its atoms are in the order of the lattice's sites, so that it can be a parent.
        space: whose elements ``occupation`` indexes.
    """

    evaluation: Evaluation
    lattice: ParentLattice
    key: str
    score: float | None
    is_in_site_order: bool
    space: DesignSpace

    @cached_property
    def occupation(self) -> np.ndarray:
        """int8 ``[n_sites]``."""
        return _occupation(self.space, self.evaluation.candidate)[1]

    @property
    def relaxed_volume_ang3(self) -> float:
        """Volume of an atom as it was labelled; of labelled ones only."""
        label = self.evaluation.label
        assert label is not None
        return abs(float(label.atoms.cell.volume)) / len(label.atoms)

    @property
    def request_id(self) -> str:
        return self.evaluation.request_id

    @property
    def parents(self) -> tuple[str, ...]:
        """Request ids to name as parents of what is derived from this."""
        return (self.request_id,) if self.is_in_site_order else ()


@dataclass(frozen=True, slots=True)
class Arrival:
    """How an evaluation stood when it ended.

    Attributes:
        position: of the evaluation in the history.
        rank: how many distinct structures were at least as good, 0 for a new best; ``None`` for failures, for
            structures that had been labelled before, and outside the space.
        n_known: distinct structures with a label, this one included if it is one.
    """

    position: int
    rank: int | None
    n_known: int


class HistoryIndex:
    """Evaluations by structure, by rank and by chain. Evaluations that lie outside the space are left out."""

    def __init__(self, space: DesignSpace, objective: Objective) -> None:
        self.space = space
        self.objective = objective
        self.keys: set[str] = set()
        self.by_id: dict[str, Known] = {}
        self._chains: defaultdict[str, defaultdict[int, list[Known]]] = defaultdict(lambda: defaultdict(list))
        self._arrivals: defaultdict[str, list[Arrival]] = defaultdict(list)
        self._ranked: list[tuple[float, int, Known]] = []
        self._ranked_keys: set[str] = set()
        self._read: list[Evaluation] = []

    def begins(self, evaluations: Sequence[Evaluation]) -> bool:
        """Whether this index was made of the first of these evaluations.

        The evaluations of a campaign only become more, so one object at an unchanged place vouches for all before it.
        Sixty-four are compared all the same, which is all of them in histories as short as those made by hand.
        """
        n = len(self._read)
        if n > len(evaluations):
            return False
        probes = range(n) if n <= _N_PROBES else np.linspace(0, n - 1, _N_PROBES).astype(int).tolist()
        return all(self._read[i] is evaluations[i] for i in probes)

    def read_on(self, history: History) -> None:
        """Add the evaluations not read yet."""
        for position in range(len(self._read), len(history.evaluations)):
            evaluation = history.evaluations[position]
            self._read.append(evaluation)
            known = self._known(evaluation, history.score(evaluation))
            rank = None if known is None else self._add(known, position)
            self._arrivals[evaluation.candidate.lineage.generator].append(Arrival(position, rank, len(self._ranked)))

    def _known(self, evaluation: Evaluation, score: float | None) -> Known | None:
        candidate = evaluation.candidate
        try:
            key = candidate_key(self.space, candidate)
            lattice = self.space.lattice(candidate.phase)
            is_in_order = KEY in candidate.lineage.facts or _is_in_site_order(self.space, candidate)
        except StructureError:
            return None
        return Known(evaluation, lattice, key, score, is_in_order, self.space)

    def _add(self, known: Known, position: int) -> int | None:
        """Returns its rank among the distinct structures, if it is a new one with a score."""
        self.keys.add(known.key)
        self.by_id[known.request_id] = known
        lineage = known.evaluation.candidate.lineage
        if "chain" in lineage.facts:
            self._chains[lineage.generator][int(lineage.facts["chain"])].append(known)
        if known.score is None or known.key in self._ranked_keys:
            return None
        self._ranked_keys.add(known.key)
        entry = (-known.score, position, known)
        rank = bisect(self._ranked, entry)
        self._ranked.insert(rank, entry)
        return rank

    def best(self, n: int) -> list[Known]:
        """The ``n`` best structures that differ modulo symmetry, best first."""
        return [known for _, _, known in self._ranked[:n]]

    def n_of(self, generator: str) -> int:
        """Evaluations of candidates of a generator."""
        return len(self._arrivals[generator])

    def arrivals(self, generator: str) -> Sequence[Arrival]:
        """How each evaluation of a generator's candidates stood when it ended, in order."""
        return self._arrivals[generator]

    def chains(self, generator: str) -> dict[int, list[Known]]:
        """The evaluations of each chain (the ``chain`` in the facts of their lineage) in order."""
        return self._chains[generator]


_remembered: list[HistoryIndex] = []


def read_history(history: History, space: DesignSpace) -> HistoryIndex:
    """The index of a history; cheap when only few evaluations are new since an earlier call."""
    for index in _remembered:
        if index.space == space and index.objective == history.objective and index.begins(history.evaluations):
            _remembered.remove(index)
            break
    else:
        index = HistoryIndex(space, history.objective)
    _remembered.insert(0, index)
    del _remembered[_N_REMEMBERED:]
    index.read_on(history)
    return index


class SeenKeys:
    """Keys of structures that need not be proposed again: evaluated, pending, or added since.

    Attributes:
        n_added: structures added since, which is what the proposal under way holds.
        n_in_vain: drafts drawn for it that were known.
    """

    def __init__(self, evaluated: set[str], others: set[str]) -> None:
        self._evaluated = evaluated
        self._others = others
        self.n_added = 0
        self.n_in_vain = 0

    def __contains__(self, key: object) -> bool:
        return key in self._others or key in self._evaluated

    def take(self, lattice: ParentLattice, occupation: np.ndarray) -> str | None:
        """The key of a structure that is new and is then known; ``None`` if it was known."""
        key = structure_key(lattice, occupation)
        if key in self:
            return None
        self._others.add(key)
        self.n_added += 1
        return key


def known_keys(history: History, space: DesignSpace) -> SeenKeys:
    """Keys (see :func:`structure_key`) of all structures evaluated or pending."""
    return SeenKeys(read_history(history, space).keys, pending_keys(history, space))


def pending_keys(history: History, space: DesignSpace) -> set[str]:
    """Keys of the structures that are pending."""
    pending = set()
    for candidate in history.pending:
        try:
            pending.add(candidate_key(space, candidate))
        except StructureError:  # outside the space, so nothing proposed can equal it
            continue
    return pending


def structure_key(lattice: ParentLattice, occupation: np.ndarray) -> str:
    """A short key of an occupation modulo the symmetry of its lattice (128 bits, 32 hexadecimal digits)."""
    return hashlib.blake2b(lattice.canonical(occupation), digest_size=16).hexdigest()


def candidate_key(space: DesignSpace, candidate: Candidate) -> str:
    """:func:`structure_key` of a candidate.

    Raises:
        StructureError: its structure is on no lattice of the space.
    """
    key = candidate.lineage.facts.get(KEY)
    return str(key) if key is not None else structure_key(*_occupation(space, candidate))


def make_candidate(
    space: DesignSpace,
    lattice: ParentLattice,
    occupation: np.ndarray,
    lineage: Lineage,
    key: str | None = None,
) -> Candidate:
    """A candidate on the ideal sites of ``lattice``, its key noted in its lineage.

    Args:
        key: its :func:`structure_key`, where that is known.
    """
    facts = {**lineage.facts, KEY: structure_key(lattice, occupation) if key is None else key}
    return Candidate(space.atoms(lattice, occupation), lattice.phase, replace(lineage, facts=facts))


def _occupation(space: DesignSpace, candidate: Candidate) -> tuple[ParentLattice, np.ndarray]:
    if KEY not in candidate.lineage.facts:
        return space.locate(candidate.atoms, candidate.phase)
    return space.lattice(candidate.phase), space.occupation_of_numbers(candidate.atoms.numbers)


def _is_in_site_order(space: DesignSpace, candidate: Candidate) -> bool:
    _, atom_of_site = locate_sites(candidate.atoms, (space.lattice(candidate.phase),))
    return bool((atom_of_site == np.arange(len(atom_of_site))).all())


Draft = tuple[ParentLattice, np.ndarray, Lineage]
"""A lattice, an occupation of it, and where that came from: what becomes a candidate if it is new."""


def first_new(space: DesignSpace, seen: SeenKeys, draw: Callable[[], Draft | None]) -> Candidate | None:
    """The first drawn structure that is not known yet, which is then added to ``seen``.

    It gives up with ``None`` after :data:`N_TRIES` drafts, since ever fewer are new while a small space fills up. That
    many do not prove that nothing is left. As soon as ``seen`` holds something new, far fewer have to do.

    Args:
        draw: makes a draft; ``None`` counts as a failed try.
    """
    is_thorough = seen.n_added == 0 and seen.n_in_vain < _MAX_IN_VAIN
    drawn: set[tuple[str, bytes]] = set()
    for _ in range(N_TRIES if is_thorough else _N_TRIES_AFTER_SUCCESS):
        seen.n_in_vain += 1
        draft = draw()
        if draft is None:
            continue
        lattice, occupation, lineage = draft
        identity = (lattice.phase, occupation.tobytes())
        if identity in drawn:  # known, and cheaper to tell so than by its key
            continue
        drawn.add(identity)
        key = seen.take(lattice, occupation)
        if key is not None:
            seen.n_in_vain -= 1
            return make_candidate(space, lattice, occupation, lineage, key)
    return None
