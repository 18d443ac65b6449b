"""Small campaigns on the analytic pair model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alloysmith.generators.base import Evaluation
from alloysmith.loop.config import CampaignConfig
from alloysmith.oracles.base import Label


def _small_config(**changes: Any) -> CampaignConfig:
    """A synchronous campaign of 12 evaluations in the driver; ``a__b=value`` changes ``a.b``."""
    plain: dict[str, Any] = {
        "name": "small",
        "seed": 7,
        "system": {"elements": ["Ni", "Fe", "Cr"], "cell": {"repeat": [2, 2, 2]}},
        "oracle": {"kind": "pair_model"},
        "objective": {"property": "bulk_modulus_gpa"},
        "generators": {"search": {"kind": "genetic"}, "random": {"kind": "random"}},
        "agent": {"kind": "direct", "generator": "search", "batch_size": 4},
        "budget": {"n_evaluations": 12},
        "execution": {"executor": "in_process"},
    }
    for dotted, value in changes.items():
        node = plain
        *parents, key = dotted.split("__")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[key] = value
    return CampaignConfig.model_validate(plain)


@pytest.fixture
def make_config() -> Callable[..., CampaignConfig]:
    """Makes small configurations."""
    return _small_config


@pytest.fixture
def write_yaml(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a configuration file."""

    def write(text: str) -> Path:
        path = tmp_path / "campaign.yaml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def same_result() -> Callable[[Evaluation, Evaluation], bool]:
    """Whether two evaluations agree to the last bit in everything but clocks and workers."""
    return _same_result


def _same_result(a: Evaluation, b: Evaluation) -> bool:
    if (a.request_id, a.round, a.candidate.phase, type(a.result).__mro__[-2]) != (
        b.request_id,
        b.round,
        b.candidate.phase,
        type(b.result).__mro__[-2],
    ):
        return False
    if _plain_lineage(a) != _plain_lineage(b) or not _same_atoms(a.candidate.atoms, b.candidate.atoms):
        return False
    if isinstance(a.result, Label) and isinstance(b.result, Label):
        return (
            dict(a.result.values) == dict(b.result.values)
            and a.result.fingerprint == b.result.fingerprint
            and _same_atoms(a.result.atoms, b.result.atoms)
        )
    return not isinstance(a.result, Label) and not isinstance(b.result, Label) and a.result.kind == b.result.kind


def _plain_lineage(evaluation: Evaluation) -> Mapping[str, Any]:
    lineage = evaluation.candidate.lineage
    return {"who": lineage.generator, "move": lineage.move, "parents": lineage.parents, "facts": dict(lineage.facts)}


def _same_atoms(a: Any, b: Any) -> bool:
    return (
        np.array_equal(a.numbers, b.numbers)
        and np.array_equal(a.positions, b.positions)
        and np.array_equal(a.cell.array, b.cell.array)
        and a.info == b.info
    )
