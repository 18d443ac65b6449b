"""What every oracle owes its callers."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import alloysmith
import numpy as np
import pytest
import yaml
from alloysmith.oracles.base import FailureKind, Oracle, OracleError, Request, WarmStart
from alloysmith.oracles.settings import OracleSettings
from alloysmith.structures.vacancy_hop import VacancyHop, nearest_neighbours, with_hop
from alloysmith.tests.oracles.espresso_cases import IS_INSTALLED
from ase import Atoms
from ase.build import bulk
from pydantic import TypeAdapter

CONFIGS = sorted((Path(alloysmith.__file__).parent / "configs" / "oracles").glob("*.yaml"))
ADAPTER: TypeAdapter = TypeAdapter(OracleSettings)


@pytest.fixture(scope="module", params=[*[path.stem for path in CONFIGS], "pair_model"])
def settings(request: pytest.FixtureRequest):
    if request.param == "pair_model":
        return ADAPTER.validate_python({"kind": "pair_model"})
    path = next(path for path in CONFIGS if path.stem == request.param)
    if request.param == "espresso_al":
        if not IS_INSTALLED:
            pytest.skip("needs pw.x: apt-get install quantum-espresso quantum-espresso-data")
        coarse = {"kspacing": None, "kpts": (2, 2, 2), "ecutwfc_ry": 10.0}  # a contract is no matter of accuracy
        return ADAPTER.validate_python({**yaml.safe_load(path.read_text()), **coarse})
    return ADAPTER.validate_python(yaml.safe_load(path.read_text())).resolved(path.parent)


@pytest.fixture(scope="module")
def oracle(settings) -> Iterator[Oracle]:
    built = settings.build()
    yield built
    built.close()


@pytest.fixture
def structure(settings) -> Callable[[int], Atoms]:
    return {"espresso": aluminium, "vacancy_migration": hop}.get(settings.kind, solid_solution)


def hop(seed: int) -> Atoms:
    """A neighbour's hop into the vacancy of a random Ta-Nb-Mo crystal."""
    atoms = bulk("Ta", cubic=True, a=3.27).repeat(3)
    atoms.numbers[:] = np.random.default_rng(seed).choice([73, 41, 42], len(atoms))
    return with_hop(atoms, VacancyHop(0, nearest_neighbours(atoms, 0, "bcc")[0]))


def elements_of(settings) -> tuple[str, ...]:
    return {"espresso": ("Al",), "vacancy_migration": ("X", "Ta", "Nb", "Mo")}.get(settings.kind, ("Ni", "Fe", "Cr"))


def aluminium(seed: int) -> Atoms:
    atoms = bulk("Al", a=4.0).repeat((1, 1, 2))
    atoms.rattle(0.1, seed=seed)
    return atoms


def solid_solution(seed: int) -> Atoms:
    atoms = bulk("Cu", cubic=True, a=3.57).repeat(2)
    atoms.numbers[:] = np.random.default_rng(seed).choice([24, 26, 28], len(atoms), p=[0.2, 0.3, 0.5])
    return atoms


def test_settings_accept_the_elements_and_build_an_oracle(settings, oracle: Oracle) -> None:
    elements = elements_of(settings)
    settings.check(elements)
    assert settings.known_elements() >= set(elements)
    assert isinstance(oracle, Oracle)
    assert ADAPTER.validate_json(settings.model_dump_json()) == settings


def test_label_is_complete_finite_and_ordered(oracle: Oracle, structure) -> None:
    atoms = structure(1)
    before = atoms.copy()
    label = oracle.evaluate(Request("x", atoms, "fcc"))
    assert set(label.values) == set(oracle.spec.properties)
    assert all(np.isfinite(value).all() for value in label.values.values())
    assert label.fingerprint == oracle.spec.fingerprint
    assert label.atoms.numbers.tolist() == atoms.numbers.tolist()
    assert label.cpu_s >= 0.0
    assert before == atoms  # the request is not touched


def test_label_is_a_pure_function_of_the_request(settings, oracle: Oracle, structure) -> None:
    one, two = Request("1", structure(1), "fcc"), Request("2", structure(2), "fcc")
    first = oracle.evaluate(one)
    second = oracle.evaluate(two)
    warm = Request("3", structure(1), "fcc", WarmStart(second.atoms, {}))
    warm_first = oracle.evaluate(warm)
    fresh = settings.build()
    pairs = [(first, oracle.evaluate(one)), (warm_first, oracle.evaluate(warm)), (warm_first, fresh.evaluate(warm))]
    fresh.close()
    for one_label, other_label in pairs:
        for name, value in one_label.values.items():
            assert np.array_equal(value, other_label.values[name]), name


def test_unusable_structures_are_typed_failures(oracle: Oracle, structure) -> None:
    for spoil in ("empty", "nan", "not periodic"):
        atoms = structure(1)
        if spoil == "empty":
            atoms = Atoms(cell=[5.0, 5.0, 5.0], pbc=True)
        elif spoil == "nan":
            atoms.positions[0, 0] = np.nan
        else:
            atoms.pbc = False
        with pytest.raises(OracleError) as caught:
            oracle.evaluate(Request("x", atoms, "fcc"))
        assert caught.value.kind is FailureKind.BAD_STRUCTURE
        copied = pickle.loads(pickle.dumps(caught.value))
        assert (copied.kind, copied.message) == (caught.value.kind, caught.value.message)
    assert oracle.evaluate(Request("x", structure(1), "fcc")).values


def test_settings_that_change_labels_change_the_fingerprint(settings) -> None:
    changes = {
        "single_point": {"potential": {"kind": "wheel", "name": "AlSiMgCuFe.meam"}},
        "relaxation": {"cell": "full"},
        "bulk_modulus": {"accuracy": "tight"},
        "elastic_tensor": {"cell": "full"},
        "espresso": {"ecutwfc_ry": 11.0},
        "pair_model": {"unlike_bond_gpa": 1.0},
        "vacancy_migration": {"potential": {"kind": "zjw04", "elements": ["Ta", "Mo", "Nb"]}},
    }
    changed = ADAPTER.validate_python({**settings.model_dump(), **changes[settings.kind]})
    assert changed.build().spec.fingerprint != settings.build().spec.fingerprint
    assert settings.build().spec.fingerprint == settings.build().spec.fingerprint
