"""The suite: failures are records, finished work stays, potentials do not mix."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alloysmith.errors import ConfigError
from alloysmith.oracles.lammps_engine import LammpsEngine
from alloysmith.oracles.potentials import WheelPotentialSettings
from alloysmith.oracles.validation.base import Bench
from alloysmith.oracles.validation.elastic_constants import ElasticConstants
from alloysmith.oracles.validation.record import RECORD_NAME, PotentialIdentity, ValidationRecord, read_record
from alloysmith.oracles.validation.settings import ValidationSettings
from alloysmith.oracles.validation.suite import Progress, run_suite, tasks_of
from pydantic import ValidationError

FAST = [
    {"kind": "eos", "n_points": 7, "n_fit_points": 5},
    {"kind": "elastic"},
    {"kind": "vacancy", "min_length_ang": 7.0},
]
IDENTITY = PotentialIdentity("Cu Mishin", "f00d", ("Cu",))


@pytest.fixture(scope="module")
def engine() -> Iterator[LammpsEngine]:
    engine = LammpsEngine(WheelPotentialSettings(name="Cu_mishin1.eam.alloy").load())
    yield engine
    engine.close()


def settings(**changes: Any) -> ValidationSettings:
    content = {
        "name": "copper",
        "crystals": [{"name": "fcc Cu", "lattice": "fcc", "formula": "Cu"}],
        "properties": FAST,
        **changes,
    }
    return ValidationSettings.model_validate(content)


def run(
    engine: LammpsEngine,
    folder: Path,
    wanted: ValidationSettings,
    identity: PotentialIdentity = IDENTITY,
    **options: Any,
) -> tuple[ValidationRecord, list[str]]:
    """The record, and what was measured now."""
    new: list[str] = []

    def see(progress: Progress) -> None:
        if progress.entry is not None and progress.is_new:
            new.append(f"{progress.task.crystal.name}/{progress.task.property.kind}")

    record = run_suite(
        tasks_of(wanted, identity.fingerprint), identity, Bench(engine, None, folder), on_progress=see, **options
    )
    return record, new


def test_finished_properties_are_not_measured_again(engine: LammpsEngine, tmp_path: Path) -> None:
    first, new = run(engine, tmp_path, settings())
    assert new == ["fcc Cu/eos", "fcc Cu/elastic", "fcc Cu/vacancy"]
    n_calls = engine.n_calls
    again, new = run(engine, tmp_path, settings())
    assert (again, new, engine.n_calls) == (first, [], n_calls)
    changed = settings(properties=[FAST[0], FAST[1], {"kind": "vacancy", "min_length_ang": 10.5}])
    record, new = run(engine, tmp_path, changed)
    assert new == ["fcc Cu/vacancy"], "other settings are another property"
    assert len(record.entries) == 4


def test_results_come_back_from_the_file_as_they_were(engine: LammpsEngine, tmp_path: Path) -> None:
    record, _ = run(engine, tmp_path, settings())
    read = read_record(tmp_path)
    assert read == record
    assert read is not None
    elastic = next(entry for entry in read.entries.values() if entry.property == "elastic")
    result = elastic.read_result()
    assert isinstance(result, ElasticConstants)
    assert result.values() == elastic.values
    assert elastic.values["c11_gpa"] == pytest.approx(169.9, abs=0.15)


def test_a_failure_is_a_record_and_ends_nothing(engine: LammpsEngine, tmp_path: Path) -> None:
    crystals = [
        {"name": "fcc W", "lattice": "fcc", "formula": "W"},
        {"name": "fcc Cu", "lattice": "fcc", "formula": "Cu"},
    ]
    wanted = settings(crystals=crystals, properties=[FAST[1], {"kind": "melting", "low_k": 900, "high_k": 1500}])
    record, _ = run(engine, tmp_path, wanted)
    kinds = [(e.crystal, e.property, e.failure.kind if e.failure else None) for e in record.entries.values()]
    assert kinds == [
        ("fcc W", "elastic", "bad_structure"),
        ("fcc W", "melting", "unavailable"),
        ("fcc Cu", "elastic", None),
        ("fcc Cu", "melting", "unavailable"),
    ]
    failed = next(iter(record.entries.values()))
    assert failed.failure is not None
    assert "no W" in failed.failure.message
    assert failed.values == {}
    _, new = run(engine, tmp_path, wanted)
    assert new == ["fcc W/melting", "fcc Cu/melting"], "what was unavailable may be there now"
    _, new = run(engine, tmp_path, wanted, retry_failed=True)
    assert new == ["fcc W/elastic", "fcc W/melting", "fcc Cu/melting"]


def test_a_library_that_raises_is_a_failure_too(
    engine: LammpsEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("somewhere below")

    monkeypatch.setattr("alloysmith.oracles.validation.elastic_constants.strain_response", broken)
    record, new = run(engine, tmp_path, settings())
    assert len(new) == 3
    (failure,) = [entry.failure for entry in record.entries.values() if entry.failure]
    assert (failure.kind, failure.message) == ("crashed", "ZeroDivisionError: somewhere below")


def test_potentials_do_not_mix(engine: LammpsEngine, tmp_path: Path) -> None:
    run(engine, tmp_path, settings(properties=[FAST[1]]))
    with pytest.raises(ConfigError, match=r"results of Cu Mishin \(f00d\), another potential than the other"):
        run(engine, tmp_path, settings(), PotentialIdentity("other", "beef", ("Cu",)))


def test_a_damaged_record_is_told(engine: LammpsEngine, tmp_path: Path) -> None:
    run(engine, tmp_path, settings(properties=[FAST[1]]))
    path = tmp_path / RECORD_NAME
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ConfigError, match="is damaged"):
        run(engine, tmp_path, settings())
    path.write_text('{"schema": 99}')
    with pytest.raises(ConfigError, match="version 99"):
        read_record(tmp_path)


def test_only_some_properties() -> None:
    assert [task.property.kind for task in tasks_of(settings(), "f", ["elastic", "eos"])] == ["eos", "elastic"]
    with pytest.raises(ConfigError, match="no property elastics"):
        tasks_of(settings(), "f", ["elastics"])
    with pytest.raises(ConfigError, match="none of the properties surfaces"):
        tasks_of(settings(), "f", ["surfaces"])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"properties": [FAST[1], FAST[1]]}, "elastic is given more than once"),
        ({"crystals": [{"name": "a", "lattice": "fcc", "formula": "Cu"}] * 2}, "different names"),
    ],
)
def test_contradictions(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        settings(**changes)


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ({"c11": 100.0}, "did you mean c11_gpa"),
        ({"surface_energy_222_j_m2": 1.0}, "no property gives"),
        ({"c11_gpa": [2.0, 1.0]}, r"write \[low, high\]"),
    ],
)
def test_references_that_nothing_can_be_compared_with(reference: dict[str, Any], says: str) -> None:
    crystal = {"name": "a", "lattice": "fcc", "formula": "Cu", "reference": {"DFT": reference}}
    with pytest.raises(ValidationError, match=says):
        settings(crystals=[crystal])
