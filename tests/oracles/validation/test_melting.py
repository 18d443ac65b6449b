"""Melting by coexistence: the order parameter, the trend, decisions, the bisection, kills."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from alloysmith.oracles.base import FailureKind, OracleError
from alloysmith.oracles.lammps_engine import LammpsEngine
from alloysmith.oracles.potentials import WheelPotentialSettings
from alloysmith.oracles.validation import melting
from alloysmith.oracles.validation.base import Bench
from alloysmith.oracles.validation.bond_order import averaged_q6
from alloysmith.oracles.validation.coexistence import (
    CoexistencePlan,
    CoexistenceRun,
    Outcome,
    _judged,
    run_coexistence,
    trend,
)
from alloysmith.oracles.validation.crystal import ValidatedCrystal
from alloysmith.oracles.validation.melting import MeltingSettings, melting_point
from alloysmith.oracles.validation.state_file import read_json, write_json
from alloysmith.oracles.validation.two_phase import Protocol
from ase.build import bulk
from pydantic import ValidationError

W = WheelPotentialSettings(name="W_zhou.eam.alloy")
BCC_W = ValidatedCrystal(lattice="bcc", formula="W").crystal()
PLAN = CoexistencePlan(
    crystal_repeat=(4, 4, 4),
    repeat=(8, 4, 4),
    neighbour_cutoff=1.207,
    equilibration_ps=0.6,
    melting_ps=0.9,
    hot_factor=3.0,
    block_ps=0.4,
    sample_ps=0.2,
    max_time_ps=12.0,
    decided_fraction=0.15,
)


def coexistence(
    temperature_k: float, folder: Path, report: Callable[[str], None] = lambda _: None, plan: CoexistencePlan = PLAN
) -> CoexistenceRun:
    protocol = Protocol(W.load(), 3.0, 0.0, 11)
    return run_coexistence(protocol, BCC_W.atoms, 3.165, temperature_k, plan, folder, report)


@pytest.mark.parametrize(
    ("lattice", "a", "cutoff", "expected"), [("fcc", 3.6, 0.854, 0.57452), ("bcc", 3.2, 1.207, 0.51069)]
)
def test_order_of_perfect_crystals(lattice: str, a: float, cutoff: float, expected: float) -> None:
    atoms = bulk("Cu", lattice, a=a, cubic=True).repeat(3)
    np.testing.assert_allclose(averaged_q6(atoms.positions, atoms.cell.array, cutoff * a), expected, atol=1e-5)


def test_order_does_not_depend_on_the_axes() -> None:
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True).repeat(3)
    atoms.rattle(0.2, seed=1)
    before = averaged_q6(atoms.positions, atoms.cell.array, 3.1)
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))  # the library that finds neighbours wants a right-handed cell
    after = averaged_q6(atoms.positions @ turn, atoms.cell.array @ turn, 3.1)
    np.testing.assert_allclose(after, before, atol=1e-10)
    assert before.std() > 0.001


def test_order_of_disorder_is_low() -> None:
    rng = np.random.default_rng(3)
    gas = averaged_q6(rng.uniform(0.0, 20.0, (600, 3)), 20.0 * np.eye(3), 3.3)
    assert gas.mean() < 0.25


def test_the_trend_knows_its_error() -> None:
    rng = np.random.default_rng(4)
    times = np.arange(200.0)
    z = []
    for _ in range(200):
        noise = np.zeros(200)
        for k in range(1, 200):  # correlated, as the share of crystal is
            noise[k] = 0.7 * noise[k - 1] + rng.normal(0.0, 0.02)
        slope, error = trend(times, 0.5 + 1e-3 * times + noise)
        z.append((slope - 1e-3) / error)
    assert abs(np.mean(z)) < 0.25
    assert 0.8 < np.std(z) < 1.3
    assert trend(times[:4], times[:4]) == (0.0, np.inf)


def judged(fractions: np.ndarray, max_time_ps: float = 100.0) -> CoexistenceRun:
    times = tuple(np.arange(1.0, len(fractions) + 1.0).tolist())
    run = CoexistenceRun(
        1000.0, times_ps=times, crystal_fractions=tuple(fractions.tolist()), lengths_ang=(100.0,) * len(fractions)
    )
    return _judged(run, replace(PLAN, max_time_ps=max_time_ps, equilibration_ps=5.0, decided_fraction=0.1))


def test_decisions() -> None:
    noise = np.random.default_rng(5).normal(0.0, 0.01, 100)
    falling = judged(np.maximum(0.5 - 0.01 * np.arange(60) + noise[:60], 0.0))
    assert falling.outcome == "melted"
    assert falling.velocity_m_s == pytest.approx(-0.5 * 100.0 * 0.01 * 100.0, rel=0.05)
    assert judged(0.5 + 0.01 * np.arange(50) + noise[:50]).outcome == "solidified"
    assert judged(0.5 + noise[:50]).outcome is None, "the time is not over"
    assert judged(0.5 + noise).outcome == "coexisting"
    assert judged(0.5 + 0.002 * np.arange(100) + noise).outcome == "solidified", "a clear trend, though nothing is gone"
    one_dip = 0.5 + noise
    one_dip[-1] = 0.0
    assert judged(one_dip).outcome == "coexisting", "one sample is no decision"


@pytest.mark.parametrize(("temperature_k", "outcome"), [(3000.0, "solidified"), (5600.0, "melted")])
def test_crystal_and_melt_far_from_the_melting_point(temperature_k: float, outcome: Outcome, tmp_path: Path) -> None:
    run = coexistence(temperature_k, tmp_path)
    assert run.outcome == outcome
    assert run.crystal_order is not None
    if run.threshold is not None:
        assert run.melt_order is not None
        assert run.melt_order < 0.25
        assert run.crystal_order > 0.3
        assert run.melt_order < run.threshold < run.crystal_order
        assert run.melt_share < 0.1 < 0.9 < run.crystal_share
        assert np.mean(run.temperatures_k) == pytest.approx(temperature_k, rel=0.15)


def test_a_run_that_was_cut_off_ends_as_one_that_was_not(tmp_path: Path) -> None:
    plan = replace(PLAN, max_time_ps=1.2)

    class PowerCutError(Exception):
        pass

    calls = []

    def cut(message: str) -> None:
        calls.append(message)
        if len(calls) == 3:
            raise PowerCutError

    whole = coexistence(4600.0, tmp_path / "whole", plan=plan)
    with pytest.raises(PowerCutError):
        coexistence(4600.0, tmp_path / "cut", cut, plan)
    state = read_json(tmp_path / "cut" / "state.json")
    assert state["n_blocks"] == 1
    # a kill during the next block leaves half a restart file behind
    (tmp_path / "cut" / ".block-2.restart.writing").write_bytes(b"half")
    shutil.copy(tmp_path / "cut" / "block-1.restart", tmp_path / "cut" / "block-2.restart")
    resumed = coexistence(4600.0, tmp_path / "cut", plan=plan)
    assert resumed == whole
    assert len(whole.times_ps) == 6
    assert coexistence(4600.0, tmp_path / "whole", cut, plan) == whole, "nothing is done again"


def test_a_damaged_state_is_told(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"temperature_k": 3')
    with pytest.raises(OracleError, match="damaged"):
        coexistence(3000.0, tmp_path)
    write_json(tmp_path / "state.json", {"temperature_k": 3000.0, "restart": "block-7.restart", "n_blocks": 7})
    with pytest.raises(OracleError, match=r"block-7\.restart is missing"):
        coexistence(3000.0, tmp_path)


class FakeRuns:
    """Instead of dynamics: an interface whose speed is proportional to the undercooling."""

    def __init__(self, melting_k: float, dead_band_k: float = 0.0) -> None:
        self.temperatures: list[float] = []
        self._melting_k = melting_k
        self._dead_band_k = dead_band_k

    def __call__(self, *arguments: object) -> CoexistenceRun:
        temperature = arguments[3]
        assert isinstance(temperature, float)
        self.temperatures.append(temperature)
        distance = self._melting_k - temperature
        outcome: Outcome = "solidified" if distance > 0.0 else "melted"
        if abs(distance) < self._dead_band_k:
            outcome = "coexisting"
        return CoexistenceRun(temperature, outcome=outcome, velocity_m_s=0.1 * distance, velocity_error_m_s=0.5)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(LammpsEngine(W.load()), W.load(), tmp_path)


def test_the_bracket_is_halved_around_the_melting_point(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = FakeRuns(1234.0)
    monkeypatch.setattr(melting, "run_coexistence", runs)
    found = melting_point(bench, BCC_W, MeltingSettings(low_k=1000, high_k=1800, tolerance_k=60))
    assert runs.temperatures == [1000.0, 1800.0, 1400.0, 1200.0, 1300.0, 1250.0]
    assert (found.solidified_at_k, found.melted_at_k) == (1200.0, 1250.0)
    assert found.temperature_k == pytest.approx(1234.0)
    assert found.is_from_velocities
    assert found.uncertainty_k == 25.0


def test_phases_that_both_stay_are_at_the_melting_point(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(melting, "run_coexistence", FakeRuns(1390.0, dead_band_k=20.0))
    found = melting_point(bench, BCC_W, MeltingSettings(low_k=1000, high_k=1800, tolerance_k=60))
    assert found.temperature_k == 1400.0
    assert (found.solidified_at_k, found.melted_at_k) == (1000.0, 1800.0)


@pytest.mark.parametrize(("melting_k", "says"), [(900.0, "lower low_k"), (2000.0, "raise high_k")])
def test_a_bracket_beside_the_melting_point(
    melting_k: float, says: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(melting, "run_coexistence", FakeRuns(melting_k))
    with pytest.raises(OracleError, match=says) as caught:
        melting_point(bench, BCC_W, MeltingSettings(low_k=1000, high_k=1800))
    assert caught.value.kind == FailureKind.NOT_CONVERGED


def test_what_cannot_melt_here(bench: Bench) -> None:
    settings = MeltingSettings(low_k=1000, high_k=1800)
    with pytest.raises(OracleError, match="export it") as caught:
        melting_point(replace(bench, lammps=None), BCC_W, settings)
    assert caught.value.kind == FailureKind.UNAVAILABLE
    hcp = ValidatedCrystal(lattice="hcp", formula="W").crystal()
    with pytest.raises(OracleError, match="fcc and bcc"):
        melting_point(bench, hcp, settings)
    with pytest.raises(ValidationError, match="must be below"):
        MeltingSettings(low_k=1800, high_k=1000)


@pytest.mark.slow
def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from alloysmith.tests.oracles.validation.test_melting import coexistence
        coexistence(4600.0, Path(sys.argv[1]), print)
        """
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "killed")], stdout=subprocess.DEVNULL)
    state = tmp_path / "killed" / "state.json"
    give_up_at = time.monotonic() + 90.0
    while time.monotonic() < give_up_at and not (state.exists() and read_json(state)["n_blocks"] >= 2):
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait(30) == -signal.SIGKILL
    n_blocks = read_json(state)["n_blocks"]
    messages: list[str] = []
    resumed = coexistence(4600.0, tmp_path / "killed", messages.append)
    assert 2 <= n_blocks < resumed.n_blocks
    assert len(messages) == resumed.n_blocks - n_blocks, "only what was missing"
    assert resumed == coexistence(4600.0, tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_melting_point_of_a_small_cell(tmp_path: Path) -> None:
    """Cells of 600 atoms gave 4,500 to 4,875 K for this potential; here they are smaller yet."""
    bench = Bench(LammpsEngine(W.load()), W.load(), tmp_path)
    settings = MeltingSettings(
        low_k=3200,
        high_k=5600,
        tolerance_k=700,
        repeat=(10, 4, 4),
        crystal_repeat=4,
        timestep_fs=3.0,
        max_time_ps=15.0,
        block_ps=2.0,
        equilibration_ps=3.0,
    )
    found = melting_point(bench, BCC_W, settings)
    assert 3700.0 < found.temperature_k < 5200.0
    assert found.melted_at_k - found.solidified_at_k <= 700.0
    assert found.solidified_at_k < found.temperature_k < found.melted_at_k
    n_messages: list[str] = []
    again = melting_point(replace(bench, report=n_messages.append), BCC_W, settings)
    assert again == found
    assert n_messages == []
