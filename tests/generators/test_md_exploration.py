"""First structures, and structures that dynamics visits."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest
from alloysmith.generators.md_exploration import (
    ExplorationSettings,
    PerturbationSettings,
    PlannedRun,
    explore,
    perturbed_crystals,
    planned_runs,
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


def test_runs_take_all_conditions_in_turn_and_each_round_is_spread_over_them() -> None:
    temperatures = (100.0, 200.0, 300.0, 400.0, 500.0)
    settings = ExplorationSettings(temperatures_k=temperatures, pressures_gpa=(0.0, 5.0), n_trajectories=4)
    taken = [settings.conditions(2, turn) for turn in range(5)]
    assert {(t, p, lattice) for turn in taken for t, p, lattice in turn} == set(
        product(temperatures, (0.0, 5.0), (0, 1))
    )
    for turn in taken:
        found = [t for t, _, _ in turn]
        assert min(found) <= 200.0 < 400.0 <= max(found)


def test_compositions_of_each_round_cover_what_the_system_allows() -> None:
    plain = {"elements": ["Al", "Cu", "Ni"], "phases": ["fcc"], "cell": {"kind": "cubic", "repeat": [2, 2, 2]}}
    space = SystemSettings.model_validate({**plain, "max_fraction": {"Ni": 0.5}}).space()
    settings = ExplorationSettings(n_trajectories=8)
    for turn in range(4):
        runs = planned_runs(space, settings, round_index=turn, seed=3)
        shares = np.array([[np.mean(run.start.symbols == s) for s in space.elements] for run in runs])
        assert shares[:, 2].max() <= 0.5
        assert np.ptp(shares, axis=0).min() > 0.3
        # no gap in the first element's fraction is much larger than with evenly spread ones
        assert np.diff(np.sort(shares[:, 0])).max() < 0.45
    again = planned_runs(space, settings, round_index=3, seed=3)
    assert all(a.start == b.start and a.md == b.md for a, b in zip(runs, again, strict=True))
    other = planned_runs(space, settings, round_index=3, seed=4)
    assert any(a.start != b.start for a, b in zip(runs, other, strict=True))


def _only_run(space: DesignSpace, settings: ExplorationSettings) -> PlannedRun:
    (run,) = planned_runs(space, settings, round_index=0, seed=5)
    return run


def test_visits_come_from_the_run_and_repeat(aluminium: DesignSpace) -> None:
    potential = WheelPotentialSettings(name="Al_zhou.eam.alloy").load()
    last = []
    for temperature in (300.0, 300.0, 1500.0):
        settings = ExplorationSettings(temperatures_k=(temperature,), n_trajectories=1, n_steps=60, stride=20)
        seen: list[int] = []
        found = explore(potential, _only_run(aluminium, settings), lambda step, seen=seen: seen.append(step) is None)
        assert found is not None
        assert [v.facts["step"] for v in found.visits] == [20, 40, 60]
        assert seen == [20, 40, 60]
        assert (found.n_steps, found.explosion) == (60, "")
        last.append(found.visits[-1].atoms)
    np.testing.assert_array_equal(last[0].positions, last[1].positions)
    assert _spread(last[2]) > 1.5 * _spread(last[0])


def test_a_run_that_is_asked_to_end_gives_nothing(aluminium: DesignSpace) -> None:
    settings = ExplorationSettings(n_trajectories=1, n_steps=60, stride=20)
    potential = WheelPotentialSettings(name="Al_zhou.eam.alloy").load()
    assert explore(potential, _only_run(aluminium, settings), lambda step: step < 40) is None


def test_an_explosion_is_caught_at_its_step_and_the_last_sane_structure_is_kept(aluminium: DesignSpace) -> None:
    settings = ExplorationSettings(temperatures_k=(9000.0,), n_trajectories=1, n_steps=400, stride=2, timestep_fs=20.0)
    found = explore(WheelPotentialSettings(name="Al_zhou.eam.alloy").load(), _only_run(aluminium, settings))
    assert found is not None
    step = int(re.fullmatch(r"run 0 at 9000 K, step (\d+): .*", found.explosion, re.DOTALL).group(1))  # type: ignore[union-attr]
    assert 2 < step < 400
    last = found.visits[-1]
    assert 0 < step - last.facts["step"] <= settings.stride
    assert found.n_steps == last.facts["step"]
    for visit in found.visits:
        assert np.isfinite(visit.atoms.positions).all()
        assert neighbor_list("d", visit.atoms, 1.0).size == 0


def _spread(atoms: Atoms) -> float:
    """How uneven the distances of near neighbours are."""
    return float(np.std(neighbor_list("d", atoms, 3.4)))
