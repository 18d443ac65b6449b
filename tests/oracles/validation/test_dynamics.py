"""Dynamics of liquids: statistics of blocks, observables of known motions, runs that are killed, comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from alloysmith.oracles.base import OracleError
from alloysmith.oracles.lammps_engine import LammpsEngine
from alloysmith.oracles.potentials import WheelPotentialSettings
from alloysmith.oracles.trajectory import Trajectory
from alloysmith.oracles.validation.base import Bench, ForceField
from alloysmith.oracles.validation.block_statistics import agreement, estimate
from alloysmith.oracles.validation.dynamics import DynamicsSettings
from alloysmith.oracles.validation.liquid_dynamics import LiquidDynamics
from alloysmith.oracles.validation.liquid_observables import (
    Windows,
    autocorrelation,
    einstein_diffusion,
    green_kubo_diffusion,
    observables,
    partial_rdfs,
    spectrum,
)
from alloysmith.oracles.validation.melt import MeltSettings
from ase.build import bulk
from ase.data import atomic_numbers
from pydantic import ValidationError

WINDOWS = Windows(step_ps=0.01, r_max_ang=5.0, rdf_every=1, n_lags=101, n_displacements=200, n_spectrum=200)


def trajectory(symbols: list[str], positions: np.ndarray, cell_ang: float, velocities: np.ndarray | None) -> Trajectory:
    n = len(positions)
    return Trajectory(
        numbers=np.array([atomic_numbers[symbol] for symbol in symbols]),
        steps=np.arange(n),
        times_ps=np.arange(n) * WINDOWS.step_ps,
        positions=positions,
        cells=np.tile(cell_ang * np.eye(3), (n, 1, 1)),
        energies_ev=np.zeros(n),
        kinetic_energies_ev=np.zeros(n),
        temperatures_k=np.full(n, 300.0),
        stresses=np.zeros((n, 3, 3)),
        pressures_gpa=np.zeros(n),
        conserved_ev=np.zeros(n),
        velocities=velocities,
    )


class TestStatistics:
    def test_independent_blocks_have_the_error_of_the_mean(self) -> None:
        samples = np.random.default_rng(0).normal(loc=2.0, scale=3.0, size=(20, 50, 40))
        found = estimate(samples)
        assert found.n_blocks == 1000
        assert found.error == pytest.approx(np.full(40, 3.0 / np.sqrt(1000)), rel=0.1)

    def test_correlated_blocks_have_a_larger_one(self) -> None:
        """The scatter of means of first-order autoregressive series is what one series foretells."""
        rng = np.random.default_rng(0)
        series = np.zeros((400, 4, 60))
        for k in range(1, 60):
            series[..., k] = 0.6 * series[..., k - 1] + rng.normal(size=(400, 4))
        series = series[..., 10:]
        scatter = series.mean(axis=(1, 2)).std()
        foretold = np.median([estimate(one).error for one in series])
        assert foretold == pytest.approx(scatter, rel=0.1)

    def test_runs_that_keep_apart_are_seen(self) -> None:
        rng = np.random.default_rng(0)
        together = rng.normal(size=(4, 10, 1))
        apart = together + np.array([-4.0, 4.0, -4.0, 4.0])[:, None, None]
        assert estimate(apart).error[0] > 2.0 * apart.std() / np.sqrt(40)

    def test_a_single_block_has_no_error(self) -> None:
        with pytest.raises(ValueError, match="two blocks"):
            estimate(np.zeros((1, 1, 3)))

    def test_agreement_of_equals_and_of_others(self) -> None:
        rng = np.random.default_rng(1)
        x = np.linspace(0.0, 1.0, 50)
        overlaps = []
        for _ in range(200):
            one, other = (estimate(1.0 + x + rng.normal(scale=0.1, size=(4, 5, 50))) for _ in range(2))
            overlaps.append(agreement(x, one, other).overlaps)
        assert 0.88 < np.mean(overlaps) < 0.99, "wanted is 0.95"
        found = agreement(x, replace(one, mean=one.mean + 0.3), other)
        assert not found.overlaps
        assert found.integrated_difference == pytest.approx(0.3 / 1.5, rel=0.1)
        assert found.integrated_noise < 0.05
        assert found.share_within_two_errors < 0.05

    def test_points_without_error_count_where_they_differ(self) -> None:
        x, zeros = np.arange(3.0), estimate(np.zeros((2, 2, 3)))
        assert agreement(x, zeros, zeros).max_deviation_errors == 0.0
        assert not agreement(x, replace(zeros, mean=np.ones(3)), zeros).overlaps


class TestObservables:
    def test_an_ideal_gas_has_no_structure(self) -> None:
        rng = np.random.default_rng(0)
        frames = trajectory(["Al"] * 30 + ["Ni"] * 20, rng.uniform(-5.0, 25.0, size=(400, 50, 3)), 10.1, None)
        found = partial_rdfs(frames, [np.arange(30), np.arange(30, 50)], WINDOWS)
        assert found.shape == (3, 100)
        assert found[:, 20:].mean(axis=1) == pytest.approx(np.ones(3), abs=0.01)

    def test_neighbours_of_a_crystal_are_counted(self) -> None:
        atoms = bulk("Al", cubic=True, a=4.05).repeat(3)
        symbols = ["Ni" if z < 1.0 else "Al" for z in atoms.positions[:, 2]]
        frames = trajectory(symbols, atoms.positions[None], float(atoms.cell[0, 0]), None)
        members = [np.flatnonzero(np.array(symbols) == symbol) for symbol in ("Al", "Ni")]
        windows = replace(WINDOWS, r_max_ang=3.5)
        found = partial_rdfs(frames, members, windows)
        shells = 4.0 * np.pi * windows.radii_ang**2 * (windows.r_max_ang / windows.n_bins)
        sizes = np.array([len(own) for own in members])
        volume = atoms.cell.volume
        within = (found[0] @ shells * (sizes[0] - 1), found[1] @ shells * sizes[1], found[2] @ shells * (sizes[1] - 1))
        # an (001) layer: 4 neighbours within, 4 above and 4 below
        expected = (12.0 - 8.0 * sizes[1] / sizes[0], 8.0 * sizes[1] / sizes[0], 4.0)
        assert np.array(within) / volume == pytest.approx(expected, rel=0.01)

    def test_oscillators(self) -> None:
        """Autocorrelation is a cosine, the spectrum a line, the displacement that of the orbit."""
        rng = np.random.default_rng(0)
        times, phases = np.arange(400) * WINDOWS.step_ps, rng.uniform(0.0, 2.0 * np.pi, size=(64, 3))
        angles = 2.0 * np.pi * 5.0 * times[:, None, None] + phases
        speeds = 3.0 * np.cos(angles)
        found = autocorrelation(speeds, 101)
        assert found == pytest.approx(found[0] * np.cos(2.0 * np.pi * 5.0 * times[:101]), abs=0.02 * found[0])
        assert found[0] == pytest.approx(3 * 4.5, rel=0.02)
        density = spectrum(speeds, WINDOWS)
        frequencies = WINDOWS.frequencies_thz
        assert frequencies[np.argmax(density)] == pytest.approx(5.0)
        assert np.trapezoid(density, frequencies) == pytest.approx(1.0, rel=1e-3)
        frames = trajectory(["Al"] * 64, 3.0 / (2.0 * np.pi * 5.0) * np.sin(angles), 10.1, speeds)
        measured = observables(frames, ["Al"], WINDOWS)
        assert measured["msd"].shape == (1, 200)
        amplitude = 3.0 / (2.0 * np.pi * 5.0)
        assert measured["msd"].max() == pytest.approx(3 * 2.0 * amplitude**2, rel=0.05)
        assert measured["temperature"] == 300.0

    def test_diffusion_of_damped_particles(self) -> None:
        """Langevin particles of friction 1/τ: D = <v²> τ / 3, by both ways; the spectrum's value at 0 is 4 D/<v²>."""
        rng = np.random.default_rng(0)
        tau, step, n = 0.1, WINDOWS.step_ps, 4000
        keep = np.exp(-step / tau)
        kicks = rng.normal(size=(n, 200, 3)) * np.sqrt(1.0 - keep**2)
        speeds = np.empty_like(kicks)
        speeds[0] = rng.normal(size=(200, 3))
        for k in range(1, n):
            speeds[k] = keep * speeds[k - 1] + kicks[k]
        positions = np.cumsum(speeds * step, axis=0)
        expected = step * (0.5 + keep / (1.0 - keep))
        frames = trajectory(["Al"] * 200, positions, 10.1, speeds)
        found = observables(frames, ["Al"], replace(WINDOWS, rdf_every=5000))
        einstein = einstein_diffusion(WINDOWS.displacement_times_ps, found["msd"])
        green_kubo = green_kubo_diffusion(WINDOWS.lags_ps, found["vacf"])
        assert einstein[0] == pytest.approx(expected, rel=0.05)
        assert green_kubo[0] == pytest.approx(expected, rel=0.05)
        assert found["vdos"][0, 0] == pytest.approx(4.0 * expected, rel=0.15)


def melt(**dynamics: object) -> MeltSettings:
    settings = {
        **{"temperature_k": 1500, "reference_potential": "Zhou", "n_runs": 1, "block_ps": 0.4, "start_ps": 0.4},
        **{"equilibration_ps": 0.4, "npt_ps": 0.8, "nvt_ps": 0.8, "nve_ps": 0.4, "correlation_ps": 0.2},
        **{"resolution_thz": 5.0},
    }
    return MeltSettings.model_validate({"composition": {"Al": 48}, "dynamics": settings | dynamics})


def bench(folder: Path, messages: list[str], n_allowed: int = 10_000) -> Bench:
    """Al of Zhou, Johnson and Wadley, with the same potential under another name as its reference."""
    zhou = WheelPotentialSettings(name="Al_zhou.eam.alloy").load()

    def tell(message: str) -> None:
        messages.append(message)
        if len(messages) == n_allowed:
            raise KeyboardInterrupt

    references = {"Zhou": ForceField("Zhou", zhou.fingerprint, zhou)}
    return Bench(LammpsEngine(zhou), zhou, folder, tell, "student", zhou.fingerprint, references)


def measured(folder: Path, messages: list[str], n_allowed: int = 10_000, **dynamics: object) -> LiquidDynamics:
    settings = melt(**dynamics)
    found = settings.dynamics.measure(bench(folder, messages, n_allowed), settings.crystal())
    assert isinstance(found, LiquidDynamics)
    return found


def values_of(result: LiquidDynamics) -> Mapping[str, float]:
    return result.values()


@pytest.mark.slow
def test_a_killed_comparison_ends_as_one_that_was_not(tmp_path: Path) -> None:
    messages: list[str] = []
    whole = measured(tmp_path / "whole", messages)
    n_blocks = 1 + 2 * (3 + 3 + 1)
    assert len(messages) == n_blocks
    assert messages[0].startswith("run 1, Zhou, start: 0.4 ps")
    killed: list[str] = []
    for n_allowed in (3, 9):
        with pytest.raises(KeyboardInterrupt):
            measured(tmp_path / "killed", killed, n_allowed)
    again = measured(tmp_path / "killed", killed)
    assert len(killed) == n_blocks, "no block is run twice"
    assert asdict(again) == asdict(whole)
    kept = list((tmp_path / "whole").rglob("frames.extxyz"))
    assert len(kept) == 1 + 2 * 3
    assert set(values_of(whole)) == set(DynamicsSettings.value_names())
    density = whole.number("melt_density_g_cm3")
    assert 2.0 < density.value < 2.6
    assert density.reference is not None
    assert abs(density.value / density.reference - 1.0) < 0.05
    assert [curve.name for curve in whole.curves if curve.quantity == "rdf"] == ["Al-Al"]
    assert abs(whole.number("nve_drift_ev_per_atom_ps").value) < 1e-4
    assert [trace.label for trace in whole.energies] == ["student", "Zhou"]


def test_without_a_reference(tmp_path: Path) -> None:
    messages: list[str] = []
    found = measured(tmp_path, messages, reference_potential=None, timestep_fs=4.0, nve_timestep_fs=2.0)
    assert len(messages) == 1 + 3 + 3 + 1
    assert found.reference_label == ""
    assert set(values_of(found)) == {"melt_density_g_cm3", "self_diffusion_ang2_ps", "nve_drift_ev_per_atom_ps"}
    assert all(curve.reference is None for curve in found.curves)
    (trace,) = found.energies
    assert len(trace.times_ps) == 10, "a short run has points for a slope, too"
    assert 0.0 < trace.drift_error_ev_per_atom_ps < 1.0


def test_what_cannot_be_run(tmp_path: Path) -> None:
    with pytest.raises(OracleError, match="the reference potential Nobody is not at hand"):
        measured(tmp_path, [], reference_potential="Nobody")
    small = MeltSettings.model_validate({"composition": {"Al": 4}, "dynamics": {"temperature_k": 1000}})
    with pytest.raises(OracleError, match="less than 6 Å high"):
        small.dynamics.measure(bench(tmp_path, []), small.crystal())
    with pytest.raises(OracleError, match="molecular dynamics with Zhou ended in start before its last step"):
        measured(tmp_path, [], timestep_fs=20.0, sample_fs=20.0, start_temperature_k=20_000.0)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"dynamics": {"temperature_k": 1000}}, "either 'composition' or 'file'"),
        ({"composition": {"Xx": 3}, "dynamics": {"temperature_k": 1000}}, "composition names Xx"),
        (
            {"composition": {"Al": 64}, "dynamics": {"temperature_k": 1000, "block_ps": 1.0}},
            "too short for correlations",
        ),
        (
            {"composition": {"Al": 64}, "dynamics": {"temperature_k": 9, "n_runs": 1, "npt_ps": 4}},
            "two blocks at least",
        ),
        ({"composition": {"Al": 64}, "dynamics": {"temperature_k": 1000, "sample_fs": 1.0}}, "sample_fs must be from"),
    ],
)
def test_settings_that_make_no_sense(settings: dict, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        MeltSettings.model_validate(settings)


def test_the_start_structure() -> None:
    settings = MeltSettings.model_validate({"composition": {"Al": 60, "Ni": 40}, "dynamics": {"temperature_k": 1500}})
    atoms = settings.build()
    assert settings.title == "Al60Ni40 at 1500 K"
    assert atoms.symbols.formula.count() == {"Al": 60, "Ni": 40}
    assert atoms.get_all_distances(mic=True)[np.triu_indices(100, 1)].min() > 2.0
    assert settings.build() == atoms
    assert settings.model_copy(update={"seed": 1}).build() != atoms
