"""The toy oracle: what it rewards, and the faults it injects."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from alloysmith.oracles.base import FailureKind, OracleError, Request
from alloysmith.oracles.pair_model import FaultSettings, PairModelOracle, PairModelSettings
from alloysmith.structures.base import structure_id
from ase.build import bulk


def value(symbols: list[str], **settings: object) -> float:
    atoms = bulk("Cu", cubic=True)
    atoms.set_chemical_symbols(symbols)
    oracle = PairModelSettings(**settings).build()
    return float(oracle.evaluate(Request("x", atoms.repeat(2), "fcc")).values["bulk_modulus_gpa"])


def fails(oracle: PairModelOracle, request: Request) -> FailureKind | None:
    try:
        oracle.evaluate(request)
    except OracleError as error:
        return error.kind
    return None


def test_order_and_composition_have_an_optimum() -> None:
    pure, ordered, other = value(["Ni"] * 4), value(["Ni", "Ni", "Fe", "Fe"]), value(["Fe"] * 4)
    assert ordered > max(pure, other)
    assert value(["Ni", "Ni", "Fe", "Fe"], unlike_bond_gpa=0.0) == pytest.approx(0.5 * (pure + other))


def test_faults_choose_their_structures_by_content() -> None:
    oracle = PairModelSettings(faults=(FaultSettings(effect="not_converged", fraction=0.3),)).build()
    rng = np.random.default_rng(0)
    requests = []
    for k in range(300):
        atoms = bulk("Cu", cubic=True).repeat(2)
        atoms.numbers[:] = rng.choice([24, 26, 28], len(atoms))
        requests.append(Request(str(k), atoms))
    failed = [request for request in requests if fails(oracle, request) is FailureKind.NOT_CONVERGED]
    assert failed == [request for request in requests if fails(oracle, request) is not None]
    assert 60 < len(failed) < 120


def test_a_fault_may_happen_once(tmp_path: Path) -> None:
    atoms = bulk("Cu", cubic=True)
    fault = FaultSettings(effect="crashed", structure_ids=(structure_id(atoms),), once_folder=tmp_path / "seen")
    oracle = PairModelSettings(faults=(fault,)).build()
    with pytest.raises(OracleError, match="injected"):
        oracle.evaluate(Request("x", atoms))
    assert oracle.evaluate(Request("x", atoms)).values["bulk_modulus_gpa"] > 0.0


@pytest.mark.parametrize(("effect", "status"), [("exit", 86), ("segfault", -11)])
def test_faults_that_end_the_process(effect: str, status: int) -> None:
    code = (
        "from alloysmith.oracles.pair_model import FaultSettings, PairModelSettings\n"
        "from alloysmith.oracles.base import Request\n"
        "from ase.build import bulk\n"
        f"faults = (FaultSettings(effect={effect!r}, request_ids=('x',)),)\n"
        "PairModelSettings(faults=faults).build().evaluate(Request('x', bulk('Cu')))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode == status
