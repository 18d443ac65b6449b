"""Campaigns for reports, made with the toy oracle and no loop: they draw at random."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from alloysmith.generators.base import Candidate, Evaluation, Failure, Lineage, Objective
from alloysmith.loop.report.record import CampaignRecord, WorkSpan
from alloysmith.oracles.base import FailureKind, Label, Request
from alloysmith.oracles.pair_model import PairModelSettings
from alloysmith.structures.settings import SystemSettings


def make_campaign(
    elements: tuple[str, ...] = ("Ni", "Fe", "Cr"),
    n: int = 40,
    seed: int = 0,
    direction: str = "maximize",
    name: str = "toy campaign",
    n_workers: int = 2,
) -> CampaignRecord:
    """The record of a campaign; one evaluation in ten fails."""
    space = SystemSettings(elements=elements).space()
    oracle = PairModelSettings().build()
    rng = np.random.default_rng(seed)
    kinds = (FailureKind.LEFT_PHASE, FailureKind.TIMED_OUT)
    evaluations: list[Evaluation] = []
    spans: list[WorkSpan] = []
    free_at = [1.7e9] * n_workers
    for index in range(n):
        phase = space.phases[index % 2]
        lattice = space.lattice(phase)
        atoms = space.atoms(lattice, space.random_occupation(rng, lattice))
        candidate = Candidate(atoms, phase, Lineage("random", "random"))
        request_id = f"r{index:06d}"
        result: Label | Failure = oracle.evaluate(Request(request_id, atoms, phase))
        if rng.random() < 0.1:
            result = Failure(kinds[index % 2], "the cell <collapsed> & became something else")
        worker = int(np.argmin(free_at))
        wall_s = float(rng.uniform(0.5, 2.0))
        outcome = "label" if isinstance(result, Label) else str(result.kind)
        spans.append(WorkSpan(f"worker-{worker}", request_id, free_at[worker], free_at[worker] + wall_s, outcome))
        free_at[worker] += wall_s + 0.05
        evaluations.append(Evaluation(request_id, index // 4, candidate, result, wall_s, f"worker-{worker}"))
    return CampaignRecord(
        name=name,
        folder=Path("runs/toy"),
        objective=Objective("bulk_modulus_gpa", direction),  # type: ignore[arg-type]
        unit="GPa",
        elements=elements,
        evaluations=evaluations,
        spans=spans,
        n_budget=n,
        elapsed_s=max(free_at) - 1.7e9,
        n_workers=n_workers,
        ending="all evaluations are spent",
        config={"name": name, "seed": seed, "system": {"elements": list(elements)}},
        software={"alloysmith": "0.1.0"},
    )
