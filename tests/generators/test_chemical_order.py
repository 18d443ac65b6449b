"""Hybrid Monte Carlo and molecular dynamics: order, repeatability, stopping and going on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from alloysmith.errors import ConfigError
from alloysmith.generators.chemical_order import ChemicalOrder, ChemicalOrderSettings, OrderRecord, pair_excess
from alloysmith.oracles.base import FailureKind, OracleError
from alloysmith.oracles.potentials import LammpsPotential, Zjw04PotentialSettings
from alloysmith.structures.files import read_structures
from ase import Atoms
from ase.build import bulk

ELEMENTS = ("Ta", "Mo")


@pytest.fixture(scope="module")
def potential() -> LammpsPotential:
    return Zjw04PotentialSettings(elements=ELEMENTS).load()


def alloy() -> Atoms:
    atoms = bulk("Ta", cubic=True, a=3.25).repeat(3)
    atoms.numbers[:] = np.random.default_rng(0).permutation(np.repeat([73, 42], 27))
    return atoms


def short(**changes: object) -> ChemicalOrderSettings:
    base = {"n_steps": 60, "block_steps": 20, "swap_steps": 10, "n_trials": 10, "n_shells": 2}
    return ChemicalOrderSettings.model_validate({**base, **changes})


def test_pairs_are_counted_against_the_random_mixture() -> None:
    ordered = bulk("Ta", cubic=True, a=3.25).repeat(3)
    ordered.numbers[1::2] = 42  # B2: every first neighbour is of the other kind
    found = pair_excess(ordered, "bcc", 2, ELEMENTS)
    assert found["Ta-Mo 1"] == pytest.approx(4.0 - 2.0)  # four bonds an atom, half of them expected
    assert found["Ta-Ta 1"] == pytest.approx(-1.0)
    assert found["Ta-Mo 2"] == pytest.approx(-1.5)
    assert sum(value for name, value in found.items() if name.endswith(" 1")) == pytest.approx(0.0, abs=1e-12)


def test_a_run_that_was_stopped_goes_on_as_one_that_was_not(potential: LammpsPotential, tmp_path: Path) -> None:
    whole = ChemicalOrder(potential, short(), alloy(), tmp_path / "whole")
    whole.run(lambda record: True)
    assert whole.is_complete
    parts = ChemicalOrder(potential, short(), alloy(), tmp_path / "parts")
    parts.run(lambda record: False)
    assert not parts.is_complete
    seen: list[OrderRecord] = []
    resumed = ChemicalOrder(potential, short(), alloy(), tmp_path / "parts")
    resumed.run(lambda record: seen.append(record) is None)
    assert [record.step for record in seen] == [40, 60]
    for name in ("order.csv", "snapshots/step_0000000060.extxyz"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    last = whole.records[-1]
    assert 0.0 < last.accepted["Ta-Mo"] <= 1.0
    assert last.inherent_energy_ev_per_atom < last.energy_ev_per_atom
    (snapshot,) = read_structures(tmp_path / "whole" / "snapshots" / "step_0000000060.extxyz")
    assert sorted(snapshot.numbers.tolist()) == sorted(alloy().numbers.tolist())
    assert (snapshot.numbers != alloy().numbers).any()
    with pytest.raises(ConfigError, match="other settings"):
        ChemicalOrder(potential, short(seed=1), alloy(), tmp_path / "whole")
    state = tmp_path / "whole" / "state.npz"
    for content in (b"broken", state.read_bytes()[:-100], b""):
        state.write_bytes(content)
        with pytest.raises(ConfigError, match="damaged"):
            ChemicalOrder(potential, short(), alloy(), tmp_path / "whole")


def test_what_cannot_run_is_refused(potential: LammpsPotential, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="multiple"):
        ChemicalOrder(potential, short(block_steps=25), alloy(), tmp_path)
    wild = short(timestep_fs=10.0, temperature_k=60_000.0, relaxes_cell=False)
    with pytest.raises(OracleError) as caught:
        ChemicalOrder(potential, wild, alloy(), tmp_path / "wild").run(lambda record: True)
    assert caught.value.kind is FailureKind.CORRUPT_OUTPUT


@pytest.mark.slow
def test_unlike_neighbours_that_attract_find_each_other(potential: LammpsPotential, tmp_path: Path) -> None:
    settings = short(n_steps=3000, block_steps=1000, swap_steps=100, n_trials=30)
    run = ChemicalOrder(potential, settings, alloy(), tmp_path)
    run.run(lambda record: True)
    start = pair_excess(alloy(), "bcc", 1, ELEMENTS)["Ta-Mo 1"]
    assert run.records[-1].inherent_energy_ev_per_atom < run.records[0].inherent_energy_ev_per_atom + 1e-3
    assert run.records[-1].delta["Ta-Mo 1"] != pytest.approx(start, abs=0.01)
