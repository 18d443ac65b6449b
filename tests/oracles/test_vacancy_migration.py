"""Barriers of vacancy hops: known cases, both engines, and every failure brought about."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from alloysmith.errors import StructureError
from alloysmith.oracles.band import Band, BandLimits, BandSprings
from alloysmith.oracles.base import FailureKind, OracleError, Request
from alloysmith.oracles.crystal_relaxation import RelaxationLimits
from alloysmith.oracles.elastic_band import converge_band
from alloysmith.oracles.force_engine import Evaluation
from alloysmith.oracles.moving_band import MovingBand
from alloysmith.oracles.potentials import Zjw04PotentialSettings
from alloysmith.oracles.preconditioner import WithoutSites, spring_model
from alloysmith.oracles.vacancy_hop import HopEnds, HopStart, barriers, check_path, relax_end, relax_start
from alloysmith.oracles.vacancy_migration import VacancyMigration, VacancyMigrationSettings
from alloysmith.structures.vacancy_hop import VacancyHop, nearest_neighbours, read_hop, vector_between, with_hop
from ase import Atoms
from ase.build import bulk

POTENTIAL = Zjw04PotentialSettings(elements=("Ta", "Nb", "Mo"))


def settings(**changes: object) -> VacancyMigrationSettings:
    return VacancyMigrationSettings.model_validate({"potential": POTENTIAL.model_dump(), **changes})


@pytest.fixture(scope="module")
def oracle() -> Iterator[VacancyMigration]:
    built = settings(n_images=3).build()
    yield built
    built.close()


def alloy(seed: int = 1, repeat: int = 3) -> Atoms:
    atoms = bulk("Ta", cubic=True, a=3.27).repeat(repeat)
    atoms.numbers[:] = np.random.default_rng(seed).choice([73, 41, 42], len(atoms))
    atoms.info["phase"] = "bcc"
    return atoms


def request(atoms: Atoms, site: int = 0, which: int = 0) -> Request:
    return Request("x", with_hop(atoms, VacancyHop(site, nearest_neighbours(atoms, site)[which])))


def test_a_hop_in_an_element_is_the_same_both_ways_and_to_every_neighbour(oracle: VacancyMigration) -> None:
    atoms = bulk("Nb", cubic=True, a=3.3).repeat(3)
    found = [oracle.evaluate(request(atoms, site, which)).values for site, which in ((0, 0), (17, 5))]
    for values in found:
        assert values["barrier_forward_ev"] == pytest.approx(values["barrier_backward_ev"], abs=2e-5)
        assert values["barrier_forward_ev"] == pytest.approx(found[0]["barrier_forward_ev"], abs=2e-5)
        energies = np.asarray(values["path_energies_ev"])
        assert energies.max() == values["barrier_forward_ev"]
        np.testing.assert_allclose(energies, energies[::-1], atol=5e-3)


def test_there_and_back_again_have_the_same_saddle(oracle: VacancyMigration) -> None:
    atoms = alloy(3)
    there = request(atoms)
    label = oracle.evaluate(there)
    hop = read_hop(there.atoms)
    after = there.atoms.copy()
    after.numbers[[hop.vacancy_site, hop.neighbour]] = after.numbers[[hop.neighbour, hop.vacancy_site]]
    after.info["neighbour"] = hop.vacancy_site
    back = settings(n_images=3, cell="fixed").build()
    again = back.evaluate(Request("there", _in_cell(there.atoms, label.atoms.cell.array)))
    returned = back.evaluate(Request("back", _in_cell(after, label.atoms.cell.array)))
    back.close()
    assert returned.values["barrier_forward_ev"] == pytest.approx(again.values["barrier_backward_ev"], abs=1e-4)
    assert returned.values["barrier_backward_ev"] == pytest.approx(again.values["barrier_forward_ev"], abs=1e-4)


def _in_cell(atoms: Atoms, cell: np.ndarray) -> Atoms:
    changed = atoms.copy()
    changed.set_cell(cell, scale_atoms=True)
    return changed


def test_the_saddle_has_no_forces_and_one_way_down(oracle: VacancyMigration) -> None:
    label = oracle.evaluate(request(alloy(5), 4, 3))
    saddle = label.atoms[label.atoms.numbers > 0]
    found = oracle._engine.compute(saddle)
    assert np.abs(found.forces - found.forces.mean(axis=0)).max() < 1.1e-3
    first, last = (np.asarray(label.values["path_energies_ev"])[k] for k in (0, -1))
    assert first == 0.0
    assert label.values["barrier_forward_ev"] - last == pytest.approx(label.values["barrier_backward_ev"], abs=1e-9)


def test_hops_into_one_vacancy_share_its_relaxation(oracle: VacancyMigration) -> None:
    atoms = alloy(7)
    first, second = (oracle.evaluate(request(atoms, 2, which)) for which in (0, 1))
    assert not first.details["is_start_known"]
    assert second.details["is_start_known"]
    oracle.forget()
    alone = oracle.evaluate(request(atoms, 2, 1))
    assert alone.values["barrier_forward_ev"] == second.values["barrier_forward_ev"]  # to the last bit


def test_a_band_that_quasi_newton_steps_lose_is_found_by_damped_dynamics(
    oracle: VacancyMigration, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(alloy(11, 4))
    found = oracle.evaluate(asked)

    def lose(self: MovingBand) -> None:
        self._x[2] += np.random.default_rng(0).normal(scale=1.0, size=self._x[2].shape)
        self._evaluate(2)

    monkeypatch.setattr(MovingBand, "step", lose)
    again = oracle.evaluate(asked)
    assert again.details["n_band_calls"] > 5 * found.details["n_band_steps"]
    for name in ("barrier_forward_ev", "barrier_backward_ev"):
        assert again.values[name] == pytest.approx(found.values[name], abs=2e-5)
    np.testing.assert_allclose(again.values["saddle_position_ang"], found.values["saddle_position_ang"], atol=2e-3)


@pytest.mark.slow
@pytest.mark.timeout(400)  # LAMMPS' replicas wait for one another by polling, and there may be more of them than cores
def test_agrees_with_the_band_of_lammps(oracle: VacancyMigration) -> None:
    own = settings(engine="lammps_neb", n_images=3).build()
    for asked in (request(alloy(3, 4)), request(alloy(5, 4)), request(alloy(5, 3), 9, 6)):
        ours, theirs = oracle.evaluate(asked), own.evaluate(asked)
        for name in ("barrier_forward_ev", "barrier_backward_ev"):
            assert ours.values[name] == pytest.approx(theirs.values[name], abs=1e-3)
        np.testing.assert_allclose(ours.values["saddle_position_ang"], theirs.values["saddle_position_ang"], atol=5e-3)
    own.close()


def test_too_few_steps_are_no_convergence() -> None:
    for changes in ({"max_steps": 1}, {"max_force_calls": 10, "max_force_ev_ang": 1e-9}):
        hurried = settings(n_images=3, **changes).build()
        with pytest.raises(OracleError) as caught:
            hurried.evaluate(request(alloy()))
        assert caught.value.kind is FailureKind.NOT_CONVERGED
        hurried.close()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda atoms: atoms.numbers.__setitem__(5, 0), "has 2"),
        (lambda atoms: atoms.info.pop("neighbour"), "must be the index"),
        (lambda atoms: atoms.info.__setitem__("neighbour", 0), "must be the index"),
        (lambda atoms: atoms.positions.__setitem__((3, 1), np.nan), "NaN"),
    ],
)
def test_what_is_no_hop_is_refused(oracle: VacancyMigration, spoil, message: str) -> None:
    atoms = request(alloy()).atoms
    spoil(atoms)
    with pytest.raises(OracleError, match=message) as caught:
        oracle.evaluate(Request("x", atoms))
    assert caught.value.kind is FailureKind.BAD_STRUCTURE


class Wells:
    """Every atom in a harmonic well at its site, and one atom on a line with minima of its own."""

    def __init__(self, sites: np.ndarray, cell: np.ndarray, mover: int, minima: list[np.ndarray], pull=None) -> None:
        self.sites, self.cell, self.mover, self.minima, self.pull = sites, cell, mover, minima, pull
        self.n_calls = 0

    def load(self, atoms: Atoms) -> None:
        """Takes any."""

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        self.n_calls += 1
        away = positions - self.sites
        if self.pull is not None:
            away = away - self.pull(positions)
        to_minima = [positions[self.mover] - minimum for minimum in self.minima]
        away[self.mover] = min(to_minima, key=np.linalg.norm)
        away = away - away.mean(axis=0)
        return Evaluation(float(1.5 * (away**2).sum()), -3.0 * away, np.zeros((3, 3)))

    def compute(self, atoms: Atoms) -> Evaluation:
        return self.evaluate(atoms.positions, atoms.cell.array)

    def close(self) -> None:
        """Holds nothing."""


def wells(*, has_second: bool = True, pull=None) -> tuple[Wells, HopStart, int, np.ndarray]:
    crystal = alloy()
    neighbour = nearest_neighbours(crystal, 0)[0]
    is_present = np.arange(len(crystal)) != 0
    bare = crystal[is_present]
    hop, mover = vector_between(crystal, neighbour, 0), neighbour - 1
    minima = [bare.positions[mover], *([bare.positions[mover] + hop] if has_second else [])]
    engine = Wells(bare.positions.copy(), bare.cell.array, mover, minima, pull)
    start = HopStart(
        bare,
        bare.positions.copy(),
        crystal.positions[0],
        0.0,
        1.0,
        WithoutSites(spring_model(crystal), is_present),
    )
    return engine, start, mover, hop


LIMITS = RelaxationLimits(force_ev_ang=1e-3, stress_ev_ang3=np.inf)


def test_an_end_that_is_no_minimum_falls_back() -> None:
    engine, start, mover, hop = wells(has_second=False)
    with pytest.raises(OracleError, match="has returned") as caught:
        relax_end(engine, start, mover, hop, LIMITS)
    assert caught.value.kind is FailureKind.FELL_BACK


def test_an_end_to_which_another_atom_goes_is_another_hop() -> None:
    engine, start, mover, hop = wells()
    assert relax_end(engine, start, mover, hop, LIMITS).end_energy_ev == pytest.approx(0.0, abs=1e-6)
    other = (mover + 7) % len(start.sites)

    def pull(positions: np.ndarray) -> np.ndarray:
        shift = np.zeros_like(positions)
        if np.linalg.norm(positions[mover] - start.sites[mover]) > 1.0:
            shift[other, 0] = 1.5
        return shift

    engine, start, mover, hop = wells(pull=pull)
    with pytest.raises(OracleError, match="another hop") as caught:
        relax_end(engine, start, mover, hop, LIMITS)
    assert caught.value.kind is FailureKind.OTHER_PATH


def test_a_path_on_which_another_atom_moves_is_another_hop() -> None:
    _, start, mover, hop = wells()
    end = start.sites.copy()
    end[mover] += hop
    ends = HopEnds(start, mover, hop, end, 0.0)
    path = ends.path(3)
    check_path(ends, Band(path, np.array([0.0, 0.5, 1.0, 0.5, 0.0]), 2, 0.0, 1, 5))
    path[2, (mover + 3) % len(end)] += [0.0, 1.4, 0.0]
    with pytest.raises(OracleError, match="image 2") as caught:
        check_path(ends, Band(path, np.array([0.0, 0.5, 1.0, 0.5, 0.0]), 2, 0.0, 1, 5))
    assert caught.value.kind is FailureKind.OTHER_PATH


def test_a_barrier_below_zero_is_no_barrier() -> None:
    _, start, mover, hop = wells()
    assert barriers(HopEnds(start, mover, hop, start.sites, 0.2), [0.0, 0.5, 0.2]) == (0.5, pytest.approx(0.3))
    with pytest.raises(OracleError, match=r"-0\.1") as caught:
        barriers(HopEnds(start, mover, hop, start.sites, 0.6), [0.0, 0.5, 0.3])
    assert caught.value.kind is FailureKind.NO_SADDLE


def test_a_band_that_only_goes_down_has_no_saddle() -> None:
    crystal = alloy()
    is_present = np.arange(len(crystal)) != 0
    positions = crystal.positions[is_present]
    path = np.repeat(positions[None], 5, axis=0)
    path[:, 3, 0] += np.linspace(0.0, 2.0, 5)

    def slope(x: np.ndarray) -> tuple[float, np.ndarray]:
        away = x - positions
        forces = -3.0 * away
        forces[3, 0] = 0.0
        return float(1.5 * ((away**2).sum() - away[3, 0] ** 2)) - 0.0004 * float(away[3, 0]), forces

    guide = np.zeros_like(positions)
    guide[3, 0] = 1.0
    springs = BandSprings(crystal, is_present, bulk_modulus_ev_ang3=1.1, volume_ang3=crystal.get_volume())
    with pytest.raises(OracleError) as caught:
        converge_band([slope] * 5, path, guide=guide, springs=springs, limits=BandLimits())
    assert caught.value.kind is FailureKind.NO_SADDLE


def test_a_vacancy_that_does_not_stay_has_left_its_crystal() -> None:
    engine, start, mover, _ = wells()
    engine.minima = [start.vacancy]  # the neighbour falls in by itself
    engine.mover = mover
    with pytest.raises(OracleError, match="from its site") as caught:
        relax_start(
            engine,
            start.atoms,
            start.vacancy,
            springs=start.springs,
            cell_freedom="fixed",
            bulk_modulus_ev_ang3=1.0,
            limits=LIMITS,
        )
    assert caught.value.kind is FailureKind.LEFT_PHASE


def test_results_that_are_not_finite_are_failures() -> None:
    built = settings(n_images=3).build()
    built._images[2].evaluate = lambda positions, cell: Evaluation(float("nan"), np.full_like(positions, np.nan), cell)
    with pytest.raises(OracleError) as caught:
        built.evaluate(request(alloy()))
    assert caught.value.kind is FailureKind.CORRUPT_OUTPUT
    built.close()


def test_neighbours_of_a_site() -> None:
    fcc = bulk("Cu", cubic=True, a=3.6).repeat(3)
    assert len(nearest_neighbours(fcc, 5)) == 12
    bcc = alloy()
    found = nearest_neighbours(bcc, 5)
    assert len(found) == len(set(found)) == 8
    lengths = [np.linalg.norm(vector_between(bcc, 5, k)) for k in found]
    np.testing.assert_allclose(lengths, 3.27 * np.sqrt(0.75))
    with pytest.raises(StructureError, match="too small"):
        nearest_neighbours(bulk("Ta", cubic=True), 0, "bcc")
    with pytest.raises(StructureError, match="both"):
        with_hop(bcc, VacancyHop(3, 3))
