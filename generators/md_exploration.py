"""New structures for a potential to learn from: those its own molecular dynamics visits.

Where a potential is right, the dynamics stays in what it knows; where it is wrong, the dynamics goes there. Runs that
explode end at the step where they do, and what they visited before is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

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
    """Molecular dynamics with the current potential."""

    temperatures_k: tuple[PositiveFloat, ...] = Field(default=(300.0, 1000.0, 2000.0), min_length=1)
    """Temperatures; all pairs with the pressures are visited in turn."""
    pressures_gpa: tuple[float, ...] = Field(default=(0.0,), min_length=1)
    """Pressures."""
    n_trajectories: PositiveInt = 6
    """Runs in each round, each from another random structure."""
    n_steps: PositiveInt = 3000
    """Steps of each run."""
    timestep_fs: PositiveFloat = 2.0
    """Time step."""
    stride: PositiveInt = 50
    """Steps from one visited structure to the next."""

    def conditions(self, round_index: int) -> list[tuple[float, float]]:
        """Temperature and pressure of each run of a round; rounds go on where the one before ended."""
        grid = list(product(self.temperatures_k, self.pressures_gpa))
        start = round_index * self.n_trajectories
        return [grid[(start + k) % len(grid)] for k in range(self.n_trajectories)]


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
class Exploration:
    """What the runs of a round visited.

    Attributes:
        visits: in the order of runs and steps.
        n_steps: steps that were done.
        explosions: of each run that ended early, why.
    """

    visits: Sequence[Visit]
    n_steps: int
    explosions: Sequence[str]


def perturbed_crystals(space: DesignSpace, n: int, settings: PerturbationSettings, *, seed: int) -> list[Atoms]:
    """Random solid solutions, phases in turn, each strained, scaled and shaken by its own random amounts."""
    rng = np.random.default_rng(seed)
    return [_perturbed(rng, _solid_solution(rng, space, k), settings) for k in range(n)]


def explore(
    force_field: LammpsPotential | ForceEngine,
    space: DesignSpace,
    settings: ExplorationSettings,
    *,
    round_index: int,
    seed: int,
    on_run: Callable[[int], bool] | None = None,
) -> Exploration:
    """Run the dynamics of a round from random solid solutions.

    Args:
        on_run: called with the number of runs that have ended; returning ``False`` ends the exploration.
    """
    rng = np.random.default_rng(seed)
    visits: list[Visit] = []
    explosions: list[str] = []
    n_steps = 0
    for run, (temperature, pressure) in enumerate(settings.conditions(round_index)):
        start = _solid_solution(rng, space, round_index * settings.n_trajectories + run)
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
        conditions = {"run": run, "temperature_k": temperature, "pressure_gpa": pressure}
        try:
            ended = MolecularDynamics(force_field, md).run(start)
        except OracleError as error:
            if error.kind == FailureKind.UNAVAILABLE:
                raise
            # the potential cannot even hold the structure it starts from
            explosions.append(f"run {run} at {temperature:g} K: {error}")
            visits.append(Visit(start, {**conditions, "step": 0}))
        else:
            frames = ended.trajectory
            for index in range(1 if len(frames) > 1 else 0, len(frames)):
                atoms = Atoms(frames.numbers, positions=frames.positions[index], cell=frames.cells[index], pbc=True)
                visits.append(Visit(atoms, {**conditions, "step": int(frames.steps[index])}))
            n_steps += int(frames.steps[-1]) if len(frames) else 0
            if ended.stop is not None and ended.stop.is_explosion:
                explosions.append(f"run {run} at {temperature:g} K, step {ended.stop.step}: {ended.stop.message}")
        if on_run is not None and not on_run(run + 1):
            break
    return Exploration(visits, n_steps, explosions)


def _solid_solution(rng: np.random.Generator, space: DesignSpace, turn: int) -> Atoms:
    lattice = space.lattices[turn % len(space.lattices)]
    return space.atoms(lattice, space.random_occupation(rng, lattice))


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
