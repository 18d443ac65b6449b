"""First structures, and structures that dynamics visits."""

from __future__ import annotations

import numpy as np
import pytest
from alloysmith.generators.md_exploration import (
    ExplorationSettings,
    PerturbationSettings,
    explore,
    perturbed_crystals,
)
from alloysmith.oracles.potentials import WheelPotentialSettings
from alloysmith.structures.settings import SystemSettings
from alloysmith.structures.space import DesignSpace
from ase import Atoms
from ase.neighborlist import neighbor_list
from pydantic import ValidationError


@pytest.fixture
def aluminium() -> DesignSpace:
    cell = {"kind": "cubic", "repeat": [2, 2, 2]}
    return SystemSettings.model_validate({"elements": ["Al"], "phases": ["fcc"], "cell": cell}).space()


def test_first_structures_are_strained_and_shaken_within_bounds(aluminium: DesignSpace) -> None:
    settings = PerturbationSettings(max_strain=0.05, max_volume_change=0.1, displacement_ang=(0.05, 0.2))
    made = perturbed_crystals(aluminium, 20, settings, seed=3)
    again = perturbed_crystals(aluminium, 20, settings, seed=3)
    assert all(a == b for a, b in zip(made, again, strict=True))
    ideal = aluminium.atoms(aluminium.lattices[0], np.zeros(32, dtype=np.int8))
    ratios = np.array([atoms.get_volume() / ideal.get_volume() for atoms in made])
    assert 0.75 < ratios.min() < 0.95
    assert 1.05 < ratios.max() < 1.3
    for atoms in made:
        moves = atoms.get_scaled_positions(wrap=False) - ideal.get_scaled_positions(wrap=False)
        moves = (moves - np.round(moves)) @ atoms.cell.array
        assert 0.03 < np.sqrt((moves**2).sum(axis=1).mean()) < 0.25


def test_displacements_out_of_order_are_refused() -> None:
    with pytest.raises(ValidationError, match="smallest ≤ largest"):
        PerturbationSettings(displacement_ang=(0.3, 0.1))


def test_runs_take_the_conditions_in_turn_from_round_to_round() -> None:
    settings = ExplorationSettings(temperatures_k=(300.0, 900.0), pressures_gpa=(0.0, 5.0), n_trajectories=3)
    assert settings.conditions(0) == [(300.0, 0.0), (300.0, 5.0), (900.0, 0.0)]
    assert settings.conditions(1) == [(900.0, 5.0), (300.0, 0.0), (300.0, 5.0)]


def test_visits_come_from_the_runs_and_repeat_with_the_seed(aluminium: DesignSpace) -> None:
    settings = ExplorationSettings(temperatures_k=(300.0, 1500.0), n_trajectories=2, n_steps=60, stride=20)
    potential = WheelPotentialSettings(name="Al_zhou.eam.alloy").load()
    found = explore(potential, aluminium, settings, round_index=0, seed=5)
    assert [(v.facts["run"], v.facts["step"]) for v in found.visits] == [(r, s) for r in (0, 1) for s in (20, 40, 60)]
    assert found.n_steps == 120
    assert not found.explosions
    again = explore(potential, aluminium, settings, round_index=0, seed=5)
    for a, b in zip(found.visits, again.visits, strict=True):
        np.testing.assert_array_equal(a.atoms.positions, b.atoms.positions)
    cold, hot = found.visits[2].atoms, found.visits[5].atoms
    assert _spread(hot) > 1.5 * _spread(cold)


def test_an_explosion_is_told_and_what_came_before_it_is_kept(aluminium: DesignSpace) -> None:
    settings = ExplorationSettings(temperatures_k=(9000.0,), n_trajectories=1, n_steps=400, stride=2, timestep_fs=20.0)
    found = explore(WheelPotentialSettings(name="Al_zhou.eam.alloy").load(), aluminium, settings, round_index=0, seed=5)
    assert len(found.explosions) == 1
    assert "run 0 at 9000 K" in found.explosions[0]
    assert 0 < len(found.visits) < 200
    assert all(np.isfinite(visit.atoms.positions).all() for visit in found.visits)


def _spread(atoms: Atoms) -> float:
    """How uneven the distances of near neighbours are."""
    return float(np.std(neighbor_list("d", atoms, 3.4)))
