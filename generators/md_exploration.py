"""New structures for a potential to learn from: those its own molecular dynamics visits.

Where a potential is right, the dynamics stays in what it knows; where it is wrong, the dynamics goes there. Runs that
explode end at the step where they do, and what they visited before is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import gcd
from typing import Any, Literal

import numpy as np
from ase import Atoms
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from ..oracles.base import FailureKind, OracleError
from ..oracles.force_engine import ForceEngine
from ..oracles.md_settings import MdLimits, MdSettings
from ..oracles.molecular_dynamics import MolecularDynamics
from ..oracles.potentials import LammpsPotential
from ..structures.settings import Settings
from ..structures.space import DesignSpace

MAX_RATTLE_SHARE = 0.5
"""Of the nearest distance: atoms are never displaced further, whatever the settings say."""


class PerturbationSettings(Settings):
    """Structures to begin with, before there is a potential: crystals, strained and shaken."""

    n_structures: PositiveInt = 40
    """How many."""
    n_test: int = Field(default=0, ge=0)
    """As many more, which are labelled and never learnt from; the errors on them show how the learning goes."""
    max_strain: float = Field(default=0.06, ge=0.0, lt=0.3)
    """Largest component of the random strain."""
    max_volume_change: float = Field(default=0.15, ge=0.0, lt=0.6)
    """Largest relative change of the volume, either way, beside the strain."""
    displacement_ang: tuple[float, float] = (0.02, 0.4)
    """Smallest and largest root mean square displacement of the atoms, Å; each structure takes one in between."""

    @model_validator(mode="after")
    def _is_ordered(self) -> PerturbationSettings:
        low, high = self.displacement_ang
        if not 0.0 <= low <= high:
            raise ValueError(f"displacement_ang needs 0 ≤ smallest ≤ largest, got {low:g}, {high:g}")
        return self


class ExplorationSettings(Settings):
    """Molecular dynamics that visits new structures."""

    temperatures_k: tuple[PositiveFloat, ...] = Field(default=(300.0, 1000.0, 2000.0), min_length=1)
    """Temperatures. All triples of a temperature, a pressure and a phase of the system are visited in turn, in an order
    that spreads each round over all of them."""
    pressures_gpa: tuple[float, ...] = Field(default=(0.0,), min_length=1)
    """Pressures."""
    n_trajectories: PositiveInt = 6
    """Runs in each round, each from a random solid solution of a composition of its own; the compositions of a round
    are spread over all that the system allows."""
    n_steps: PositiveInt = 3000
    """Steps of each run."""
    timestep_fs: PositiveFloat = 2.0
    """Time step."""
    stride: PositiveInt = 50
    """Steps from one visited structure to the next."""
    force_field: Literal["student", "teacher"] = "student"
    """Whose dynamics it is: that of the potential that learns, which goes where it is wrong; or that of the oracle, as
    in sampling by ab-initio molecular dynamics, which wants an oracle of kind `single_point`."""

    def conditions(self, n_lattices: int, round_index: int) -> list[tuple[float, float, int]]:
        """Temperature, pressure and lattice of each run of a round; rounds go on where the one before ended."""
        grid = list(product(self.temperatures_k, self.pressures_gpa, range(n_lattices)))
        stride = _spreading_stride(len(grid))
        start = round_index * self.n_trajectories
        return [grid[(start + k) * stride % len(grid)] for k in range(self.n_trajectories)]


@dataclass(frozen=True)
class PlannedRun:
    """A run of molecular dynamics that is to be done.

    Attributes:
        index: in its round, from 0.
        start: a solid solution.
        md: settings of the run.
    """

    index: int
    start: Atoms
    md: MdSettings


@dataclass(frozen=True)
class Visit:
    """A structure that a run visited.

    Attributes:
        atoms: the structure.
        facts: JSON-able: run, step, temperature_k and pressure_gpa of the run.
    """

    atoms: Atoms
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class EndedRun:
    """What a run visited.

    Attributes:
        visits: in the order of steps; of a run that exploded those before, the last sane one included.
        n_steps: steps that were done.
        explosion: why it ended early; empty where it did not.
    """

    visits: Sequence[Visit]
    n_steps: int
    explosion: str = ""


def perturbed_crystals(space: DesignSpace, n: int, settings: PerturbationSettings, *, seed: int) -> list[Atoms]:
    """Random solid solutions, phases in turn, compositions spread evenly over what is allowed; each is strained, scaled
    and shaken by its own random amounts."""
    rng = np.random.default_rng(seed)
    made = []
    for k in range(n):
        place = _evenly_spread(k, len(space.elements), seed)
        made.append(_perturbed(rng, _solid_solution(rng, space, k % len(space.lattices), place), settings))
    return made


def planned_runs(space: DesignSpace, settings: ExplorationSettings, *, round_index: int, seed: int) -> list[PlannedRun]:
    """The runs of a round.

    Args:
        round_index: from 0.
        seed: the same for all rounds, whose compositions continue one sequence.
    """
    rng = np.random.default_rng([seed, round_index])
    runs = []
    for index, (temperature, pressure, which) in enumerate(settings.conditions(len(space.lattices), round_index)):
        place = _evenly_spread(round_index * settings.n_trajectories + index, len(space.elements), seed)
        start = _solid_solution(rng, space, which, place)
        md = MdSettings(
            ensemble="npt",
            temperature_k=temperature,
            pressure_gpa=pressure,
            timestep_fs=settings.timestep_fs,
            n_steps=settings.n_steps,
            stride=settings.stride,
            block_steps=settings.n_steps,
            seed=int(rng.integers(1, 2**31 - 1)),
            limits=MdLimits(min_volume_ratio=0.6, max_volume_ratio=1.8),
        )
        runs.append(PlannedRun(index, start, md))
    return runs


def explore(
    force_field: LammpsPotential | ForceEngine, run: PlannedRun, on_step: Callable[[int], bool] | None = None
) -> EndedRun | None:
    """Do a run.

    Args:
        on_step: called with the step of each visited structure; returning ``False`` ends the run.

    Returns:
        ``None`` where ``on_step`` has ended it.

    Raises:
        OracleError: ``unavailable``: LAMMPS cannot be used, or not with this force field.
    """
    conditions = {
        "run": run.index,
        "temperature_k": run.md.temperature_k,
        "pressure_gpa": run.md.pressure_gpa,
    }
    where = f"run {run.index} at {run.md.temperature_k:g} K"
    observer = None if on_step is None else lambda frame: on_step(int(frame.steps[-1]))
    try:
        ended = MolecularDynamics(force_field, run.md).run(run.start, observer)
    except OracleError as error:
        if error.kind == FailureKind.UNAVAILABLE:
            raise
        # the potential cannot even hold the structure it starts from
        return EndedRun([Visit(run.start, {**conditions, "step": 0})], 0, f"{where}: {error}")
    if ended.stop is not None and not ended.stop.is_explosion:
        return None
    frames = ended.trajectory
    visits = []
    for index in range(1 if len(frames) > 1 else 0, len(frames)):
        atoms = Atoms(frames.numbers, positions=frames.positions[index], cell=frames.cells[index], pbc=True)
        visits.append(Visit(atoms, {**conditions, "step": int(frames.steps[index])}))
    explosion = "" if ended.stop is None else f"{where}, step {ended.stop.step}: {ended.stop.message}"
    return EndedRun(visits, int(frames.steps[-1]) if len(frames) else 0, explosion)


def _spreading_stride(n: int) -> int:
    """The number nearest to the golden section of ``n`` that has no divisor in common with it: its multiples modulo
    ``n`` visit all of 0 … n-1 once, and any few in a row lie far apart."""
    wanted = n * (np.sqrt(5.0) - 1.0) / 2.0
    coprime = [k for k in range(1, n + 1) if gcd(k, n) == 1]
    return min(coprime, key=lambda k: abs(k - wanted))


def _evenly_spread(turn: int, n_elements: int, seed: int) -> np.ndarray:
    """Quantiles for :meth:`DesignSpace.counts_at`, ``[n_elements]``: a sequence whose members, and any few in a row,
    fill the unit cube evenly. They are multiples of powers of what the golden ratio is in so many dimensions, modulo 1,
    from a random origin. The last element's count follows from the others and needs none."""
    n = n_elements - 1
    ratio = 2.0
    for _ in range(60):  # the root of x^(n + 1) = x + 1
        ratio = (1.0 + ratio) ** (1.0 / (n + 1))
    place = np.zeros(n_elements)
    place[:n] = (np.random.default_rng(seed).random(n) + turn * ratio ** -np.arange(1.0, n + 1)) % 1.0
    return place


def _solid_solution(rng: np.random.Generator, space: DesignSpace, which: int, place: np.ndarray) -> Atoms:
    """A random solid solution on a lattice, of the composition at a place of the unit cube."""
    lattice = space.lattices[which]
    return space.atoms(lattice, space.random_occupation(rng, lattice, space.counts_at(place, lattice)))


def _perturbed(rng: np.random.Generator, atoms: Atoms, settings: PerturbationSettings) -> Atoms:
    strain = rng.uniform(-settings.max_strain, settings.max_strain, (3, 3))
    strain = (strain + strain.T) / 2
    stretch = (1.0 + rng.uniform(-settings.max_volume_change, settings.max_volume_change)) ** (1 / 3)
    perturbed = atoms.copy()
    perturbed.set_cell(atoms.cell.array @ (np.eye(3) + strain) * stretch, scale_atoms=True)
    amount = rng.uniform(*settings.displacement_ang)
    moves = rng.normal(0.0, amount / np.sqrt(3.0), (len(atoms), 3))
    lengths = np.linalg.norm(moves, axis=1, keepdims=True)
    largest = MAX_RATTLE_SHARE * (perturbed.get_volume() / len(atoms)) ** (1 / 3)
    perturbed.positions += moves * np.minimum(1.0, largest / np.maximum(lengths, 1e-12))
    perturbed.info = {}
    return perturbed
