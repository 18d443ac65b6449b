"""Whole campaigns: failures on the way, budgets, learning, resuming, and run directories that cannot be used."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from alloysmith.agents.base import Action, Budget, CampaignView, Evaluate, Generate, Retrain
from alloysmith.errors import AlloysmithError
from alloysmith.generators.base import Candidate, Evaluation, Failure, History, Lineage, Objective
from alloysmith.loop.campaign import Campaign
from alloysmith.loop.config import CampaignConfig, FailurePolicySettings
from alloysmith.loop.decision import Decider, Question, Thinking
from alloysmith.loop.errors import CampaignError, RunDirectoryError
from alloysmith.loop.events import Evaluated, Event, Failed, Requested, Retrained, Stopped
from alloysmith.loop.execution.base import Task
from alloysmith.loop.execution.work import run_task
from alloysmith.loop.failure_policy import decide
from alloysmith.loop.seeding import derive_seed
from alloysmith.loop.state import CampaignState, replay
from alloysmith.loop.store.blobs import BlobStore
from alloysmith.loop.store.event_log import LOG_NAME, read_events
from alloysmith.oracles.base import FailureKind, Label, OracleSpec, Request
from ase.build import bulk

MakeConfig = Callable[..., CampaignConfig]
Same = Callable[[Evaluation, Evaluation], bool]
BAYESIAN = {"kind": "bayesian", "generators": ["random"], "n_initial": 8, "batch_size": 4, "n_pool": 30}
PORTFOLIO = {
    "kind": "portfolio",
    "members": {
        "swaps": {"kind": "local_search", "n_trials": 3},
        "chains": {"kind": "annealing"},
        "children": {"kind": "genetic"},
    },
}


def _run(config: CampaignConfig, run_dir: Path) -> Campaign:
    campaign = Campaign.create(config, run_dir)
    campaign.run()
    return campaign


def test_a_campaign_spends_its_budget_and_knows_its_best(make_config: MakeConfig, tmp_path: Path) -> None:
    campaign = _run(make_config(), tmp_path / "run")
    state = campaign.state
    assert (state.n_ended, state.n_labels, state.n_requested, len(state.pending)) == (12, 12, 12, 0)
    assert [e.round for e in state.evaluations] == [0] * 4 + [1] * 4 + [2] * 4
    values = [float(e.label.values["bulk_modulus_gpa"]) for e in state.evaluations if e.label is not None]
    assert state.best_value == max(values)
    assert campaign.best(12)[0] is state.best
    assert (tmp_path / "run" / "config.yaml").read_text().startswith("name: small")
    assert campaign.run().reason == "budget"
    assert replay(tmp_path / "run").n_events == state.n_events, "running a complete campaign does nothing"


def test_minimizing_keeps_the_smallest(make_config: MakeConfig, tmp_path: Path) -> None:
    state = _run(make_config(objective__direction="minimize"), tmp_path / "run").state
    values = [float(e.label.values["bulk_modulus_gpa"]) for e in state.evaluations if e.label is not None]
    assert state.best_value == min(values) < max(values)


@pytest.mark.parametrize("mode", ["synchronous", "asynchronous"])
def test_failures_are_recorded_and_the_campaign_goes_on(make_config: MakeConfig, tmp_path: Path, mode: str) -> None:
    kinds = ["bad_structure", "not_converged", "left_phase", "corrupt_output"]
    faults = [{"effect": kind, "request_ids": [f"000000{i}"]} for i, kind in enumerate(kinds)]
    state = _run(make_config(oracle__faults=faults, execution__mode=mode), tmp_path / "run").state
    assert dict(state.n_failed) == dict.fromkeys(kinds, 1)
    assert dict(state.n_retried) == {"corrupt_output": 1}
    assert (state.n_ended, state.n_labels) == (12, 8)
    failed = [event for event in read_events(tmp_path / "run") if isinstance(event, Failed)]
    assert sorted((e.failure.kind, e.attempt, e.action) for e in failed) == [
        ("bad_structure", 1, "quarantine"),
        ("corrupt_output", 1, "retry"),
        ("corrupt_output", 2, "quarantine"),
        ("left_phase", 1, "quarantine"),
        ("not_converged", 1, "quarantine"),
    ]


def test_a_retry_that_succeeds_gives_a_label(make_config: MakeConfig, tmp_path: Path) -> None:
    fault = {"effect": "crashed", "fraction": 0.5, "once_folder": str(tmp_path / "once")}
    state = _run(make_config(oracle__faults=[fault]), tmp_path / "run").state
    assert state.n_labels == 12
    assert state.n_retried["crashed"] > 0


@pytest.mark.slow
def test_hangs_and_crashes_cost_one_evaluation_each(make_config: MakeConfig, tmp_path: Path) -> None:
    faults = [
        {"effect": "hang", "request_ids": ["0000001"]},
        {"effect": "segfault", "request_ids": ["0000002"]},
        {"effect": "exit", "request_ids": ["0000005"]},
    ]
    config = make_config(
        oracle__faults=faults,
        execution__executor="process_pool",
        execution__n_workers=2,
        execution__deadline_s=1.0,
        failure_policy__max_attempts={},
    )
    state = _run(config, tmp_path / "run").state
    assert dict(state.n_failed) == {"timed_out": 1, "crashed": 2}
    assert (state.n_ended, state.n_labels) == (12, 9)


@pytest.mark.ray
@pytest.mark.slow
def test_a_campaign_on_ray_is_that_of_one_process(make_config: MakeConfig, same_result: Same, tmp_path: Path) -> None:
    fault = {"effect": "left_phase", "fraction": 0.2}
    alone = _run(make_config(oracle__faults=[fault]), tmp_path / "alone").state
    config = make_config(oracle__faults=[fault], execution__executor="ray", execution__n_workers=2)
    spread = _run(config, tmp_path / "ray").state
    assert spread.n_failed == alone.n_failed
    assert all(same_result(a, b) for a, b in zip(alone.evaluations, spread.evaluations, strict=True))
    assert set(spread.busy_s) <= {"worker-0", "worker-1"}


@pytest.mark.parametrize(
    ("effect", "message"),
    [("unavailable", "3 evaluations in a row"), ("left_phase", "5 of the latest 5 evaluations failed")],
)
def test_too_many_failures_end_a_campaign_with_a_reason(
    make_config: MakeConfig, tmp_path: Path, effect: str, message: str
) -> None:
    config = make_config(
        oracle__faults=[{"effect": effect, "fraction": 1.0}],
        failure_policy={"window": 5, "max_consecutive_breakdowns": 3, "max_attempts": {}},
    )
    campaign = Campaign.create(config, tmp_path / "run")
    result = campaign.run()
    assert (result.reason, result.exit_code) == ("failures", 3)
    assert message in result.message
    assert "injected fault" in result.message
    n_before = campaign.state.n_ended
    again = Campaign.open(tmp_path / "run")
    assert again.run().reason == "failures", "a new session gives it a new chance"
    assert again.state.n_ended > n_before


@pytest.mark.parametrize(
    ("attempt", "kind", "recent", "action"),
    [
        (1, "crashed", [], "retry"),
        (2, "crashed", [], "quarantine"),
        (1, "left_phase", [], "quarantine"),
        (2, "unavailable", [], "retry"),
        (3, "unavailable", ["unavailable"] * 8, "quarantine"),
        (3, "unavailable", ["crashed"] * 9, "abort"),
        (3, "unavailable", ["crashed"] * 8 + [None], "quarantine"),
        (1, "left_phase", ["left_phase"] * 30, "quarantine"),
        (1, "left_phase", [None] * 9 + ["left_phase"] * 40, "abort"),
        (1, "left_phase", [None] * 10 + ["left_phase"] * 39, "quarantine"),
    ],
)
def test_the_failure_policy(attempt: int, kind: str, recent: list[str | None], action: str) -> None:
    decision = decide(FailurePolicySettings(), FailureKind(kind), attempt, recent)
    assert decision.action == action
    assert bool(decision.reason) == (action == "abort")


class BrokenOracle:
    """Breaks the promises of oracles in a chosen way."""

    spec = OracleSpec("broken", "1", {"bulk_modulus_gpa": "GPa"}, "broken")

    def __init__(self, values: dict[str, float] | None, position: float = 0.0) -> None:
        self._values = values
        self._position = position

    def evaluate(self, request: Request) -> Label:
        if self._values is None:
            raise ZeroDivisionError("division of nothing")
        atoms = request.atoms.copy()
        atoms.positions[0, 0] = self._position
        return Label(self._values, atoms, "broken")

    def close(self) -> None:
        """Nothing is held."""


@pytest.mark.parametrize(
    ("oracle", "kind", "message"),
    [
        (BrokenOracle({"bulk_modulus_gpa": float("nan")}), "corrupt_output", "values of bulk_modulus_gpa"),
        (BrokenOracle({"bulk_modulus_gpa": float("inf")}), "corrupt_output", "not finite"),
        (BrokenOracle({}), "corrupt_output", "no value for bulk_modulus_gpa"),
        (BrokenOracle({"bulk_modulus_gpa": 1.0}, np.nan), "corrupt_output", "the positions"),
        (BrokenOracle(None), "crashed", "ZeroDivisionError: division of nothing"),
    ],
)
def test_broken_promises_of_an_oracle_are_failures(oracle: BrokenOracle, kind: str, message: str) -> None:
    result = run_task(oracle, Task("a#1", Request("a", bulk("Ni", cubic=True)), 1.0), "here").result
    assert isinstance(result, Failure)
    assert result.kind == kind
    assert message in result.message


@pytest.mark.parametrize(
    ("changes", "stride"),
    [
        ({}, 1),
        ({"agent": BAYESIAN, "surrogate": {"kind": "polynomial"}}, 3),
        (
            {
                "agent": {**BAYESIAN, "generators": ["learned"]},
                "surrogate": {"kind": "gaussian_process"},
                "generators": {"learned": {"kind": "surrogate_search"}},
            },
            9,
        ),
        ({"generators": {"search": PORTFOLIO}}, 3),
    ],
    ids=["genetic", "polynomial", "gaussian_process", "portfolio"],
)
def test_interrupted_between_any_two_events_it_ends_the_same(
    make_config: MakeConfig, same_result: Same, tmp_path: Path, changes: dict[str, object], stride: int
) -> None:
    """The log is cut after each of its lines in turn, as a kill at that instant would leave it."""
    fault = {"effect": "left_phase", "fraction": 0.2}
    config = make_config(oracle__faults=[fault], budget__n_evaluations=16, **changes)
    expected = _run(config, tmp_path / "whole").state
    lines = (tmp_path / "whole" / LOG_NAME).read_bytes().splitlines(keepends=True)
    assert len(lines) > 18
    after_fits = {i + 1 for i, line in enumerate(lines) if b'"type":"retrained"' in line}
    assert bool(after_fits) == ("surrogate" in changes)
    for n_lines in sorted(after_fits | set(range(1, len(lines), stride))):
        run_dir = tmp_path / f"cut-{n_lines}"
        Campaign.create(config, run_dir)
        if (tmp_path / "whole" / "models").exists():
            (run_dir / "models").symlink_to(tmp_path / "whole" / "models")
        (run_dir / LOG_NAME).write_bytes(b"".join(lines[:n_lines]) + lines[n_lines][:20])
        campaign = Campaign.open(run_dir)
        campaign.run()
        found = campaign.state
        assert found.n_ended == 16
        assert all(same_result(a, b) for a, b in zip(expected.evaluations, found.evaluations, strict=True)), n_lines


def test_a_resumed_campaign_does_not_fit_again(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(agent=BAYESIAN, surrogate={"kind": "polynomial"}, budget__n_evaluations=16)
    run_dir = tmp_path / "run"
    _run(config, run_dir)
    events = list(read_events(run_dir))
    fits = [event for event in events if isinstance(event, Retrained)]
    assert fits
    assert all((run_dir / "models" / fit.model).is_file() for fit in fits)
    log = (run_dir / LOG_NAME).read_bytes().splitlines(keepends=True)
    last_request = max(event.seq for event in events if isinstance(event, Requested))
    (run_dir / LOG_NAME).write_bytes(b"".join(log[: last_request + 1]))
    Campaign.open(run_dir).run()
    assert [e.model for e in read_events(run_dir) if isinstance(e, Retrained)] == [fit.model for fit in fits]
    (run_dir / "models" / fits[-1].model).write_bytes(b"nonsense")
    (run_dir / LOG_NAME).write_bytes(b"".join(log[: last_request + 1]))
    with pytest.raises(RunDirectoryError, match="is damaged"):
        Campaign.open(run_dir).run()


def test_a_bayesian_campaign_runs_asynchronously(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(
        agent=BAYESIAN,
        surrogate={"kind": "polynomial"},
        budget__n_evaluations=20,
        execution__mode="asynchronous",
    )
    state = _run(config, tmp_path / "run").state
    assert (state.n_ended, len(state.pending)) == (20, 0)
    assert state.retrains
    assert [e.request_id for e in state.evaluations] != []


def test_budgets_and_machines_may_change_but_not_the_science(make_config: MakeConfig, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    _run(make_config(), run_dir)
    more = Campaign.open(run_dir, ["budget.n_evaluations=20", "execution.deadline_s=5"])
    assert more.run().reason == "budget"
    assert more.state.n_ended == 20
    assert Campaign.open(run_dir).config.budget.n_evaluations == 20, "what the latest session was told stays"
    with pytest.raises(RunDirectoryError, match=r"another configuration: seed=9 would change its results"):
        Campaign.open(run_dir, ["seed=9"])
    with pytest.raises(RunDirectoryError, match="another configuration"):
        Campaign.open(run_dir, ["execution.mode=asynchronous"])
    with pytest.raises(AlloysmithError, match="did you mean n_evaluations"):
        Campaign.open(run_dir, ["budget.n_evaluation=9"])


def test_wall_time_counts_all_sessions(make_config: MakeConfig, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    config = make_config(oracle__delay_s=0.05, budget={"n_evaluations": 1000, "wall_s": 0.4}, agent__batch_size=20)
    first = Campaign.create(config, run_dir)
    assert first.run().reason == "wall_time"
    assert 0.4 <= first.state.elapsed_s < 5.0
    assert 0 < first.state.n_ended < 1000
    assert Campaign.open(run_dir).run().reason == "wall_time"
    second = Campaign.open(run_dir, ["budget.wall_s=60", "budget.n_evaluations=25"])
    assert second.run().reason == "budget"
    assert second.state.elapsed_s > first.state.elapsed_s


def test_children_start_from_their_parents_results(make_config: MakeConfig, tmp_path: Path) -> None:
    _run(make_config(generators={"search": {"kind": "local_search"}}, budget__n_evaluations=24), tmp_path / "run")
    requests = [r for e in read_events(tmp_path / "run") if isinstance(e, Requested) for r in e.requests]
    state = replay(tmp_path / "run")
    warm = [r for r in requests if r.warm_start is not None]
    assert warm
    for request in warm:
        assert request.warm_start == request.candidate.lineage.parents[0]
        assert state.by_id[str(request.warm_start)].candidate.phase == request.candidate.phase


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda run_dir: run_dir.write_text("a file"), "is a file; choose another --run-dir"),
        (lambda run_dir: (run_dir.mkdir(), (run_dir / "thesis.tex").write_text("x")), "is not empty"),
        (lambda run_dir: run_dir.parent.joinpath("parent").write_text("x"), None),
    ],
)
def test_folders_that_cannot_become_run_directories(
    make_config: MakeConfig, tmp_path: Path, prepare: Callable[[Path], object], message: str | None
) -> None:
    prepare(tmp_path / "run")
    if message is None:
        with pytest.raises(RunDirectoryError, match=r"cannot be made \(Not a directory\)"):
            Campaign.create(make_config(), tmp_path / "parent" / "run")
        return
    with pytest.raises(RunDirectoryError, match=message):
        Campaign.create(make_config(), tmp_path / "run")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc, where not even root may make folders")
def test_an_unwritable_folder_is_refused(make_config: MakeConfig) -> None:
    with pytest.raises(RunDirectoryError, match=r"/proc/run cannot be made .*: choose another --run-dir"):
        Campaign.create(make_config(), Path("/proc/run"))


def test_a_campaign_is_not_overwritten_by_accident(make_config: MakeConfig, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    _run(make_config(), run_dir)
    (run_dir / "report.html").write_text("mine")
    with pytest.raises(RunDirectoryError, match="holds a campaign already: go on with `alloysmith resume"):
        Campaign.create(make_config(), run_dir)
    fresh = Campaign.create(make_config(seed=8), run_dir, overwrite=True)
    assert fresh.state.n_requested == 0
    assert (run_dir / "report.html").read_text() == "mine"


def test_what_never_got_its_first_event_may_be_started(make_config: MakeConfig, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    Campaign.create(make_config(), run_dir)
    log = run_dir / LOG_NAME
    log.write_bytes(log.read_bytes()[:50])
    with pytest.raises(RunDirectoryError, match="holds no campaign"):
        Campaign.open(run_dir)
    assert _run(make_config(), run_dir).state.n_ended == 12


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_there_must_be_a_campaign_to_resume(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunDirectoryError, match="is not a run directory"):
        Campaign.open(tmp_path / name)


def test_events_are_told_as_they_happen(make_config: MakeConfig, tmp_path: Path) -> None:
    seen: list[tuple[Event, int]] = []

    def watch(event: Event, state: CampaignState) -> None:
        seen.append((event, state.n_ended))

    Campaign.create(make_config(), tmp_path / "run").run(watch)
    assert [event.seq for event, _ in seen] == list(range(1, 1 + len(seen)))
    assert isinstance(seen[-1][0], Stopped)
    assert [n for event, n in seen if isinstance(event, Evaluated)] == list(range(1, 13))


class ScriptedAgent:
    """Answers with one action after the other."""

    def __init__(self, *actions: Sequence[Action]) -> None:
        self._actions = list(actions)
        self.views: list[CampaignView] = []

    def decide(self, view: CampaignView, budget: Budget) -> Sequence[Action]:
        self.views.append(view)
        return self._actions.pop(0) if len(self._actions) > 1 else self._actions[0]


class OneAtom:
    """Proposes single atoms."""

    name = "one"

    def propose(self, n: int, history: History, *, seed: int) -> Sequence[Candidate]:
        return [Candidate(bulk("Ni"), "fcc", Lineage("one", "new", facts={"seed": seed})) for _ in range(n)]


def _decider(agent: ScriptedAgent, tmp_path: Path) -> Decider:
    return Decider(5, agent, {"one": OneAtom()}, None, {"bulk_modulus_gpa": "GPa"}, BlobStore(tmp_path))


def _question() -> Question:
    return Question(3, History(Objective("bulk_modulus_gpa")), None, Budget(10), 0.0)


def test_an_agent_is_asked_until_it_decides(tmp_path: Path) -> None:
    chosen = Evaluate((Candidate(bulk("Ni"), "fcc", Lineage("one", "new")),))
    agent = ScriptedAgent([Generate("one", 2)], [Generate("one", 1)], [chosen])
    decision = Thinking(_decider(agent, tmp_path), _question()).result()
    assert decision.candidates == chosen.candidates
    assert [(len(view.pool), view.n_generated) for view in agent.views] == [(0, 0), (2, 1), (3, 2)]
    seeds = {candidate.lineage.facts["seed"] for candidate in agent.views[-1].pool}
    assert seeds == {derive_seed(5, 3, "generator one", 0), derive_seed(5, 3, "generator one", 1)}


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (Generate("two", 1), "asks generator 'two'; configured are one"),
        (Retrain("because"), "none is configured; add `surrogate:`"),
        (Generate("one", 0), "times in round 3 without a decision"),
    ],
)
def test_agents_that_ask_for_the_impossible(tmp_path: Path, action: Action, message: str) -> None:
    thinking = Thinking(_decider(ScriptedAgent([action]), tmp_path), _question())
    with pytest.raises(CampaignError, match=message):
        thinking.result()


def test_seeds_differ_by_everything_they_derive_from() -> None:
    seeds = {
        derive_seed(campaign, round_index, part, index)
        for campaign in (0, 1)
        for round_index in (0, 1, 2)
        for part in ("agent", "surrogate", "generator a")
        for index in (0, 1)
    }
    assert len(seeds) == 36
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(1, 2, "agent") == derive_seed(1, 2, "agent", 0)


def test_a_campaign_runs_in_another_thread_without_signals(make_config: MakeConfig, tmp_path: Path) -> None:
    campaign = Campaign.create(make_config(), tmp_path / "run")
    thread = threading.Thread(target=campaign.run)
    thread.start()
    thread.join(30)
    assert campaign.state.n_ended == 12
    assert time.time() - campaign.state.updated_at < 60
