"""Trainings of generators: done by workers, kept as files, the same wherever and however often they are cut off."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from alloysmith.agents.base import Action, Agent, Budget, CampaignView, Evaluate, Generate, Stop
from alloysmith.errors import ConfigError
from alloysmith.generators.base import Evaluation, Failure, Generator, History, LearnedModel
from alloysmith.generators.pcdvae.fitted import FittedPcdvae
from alloysmith.loop import generator_training
from alloysmith.loop.campaign import Campaign
from alloysmith.loop.cli.live import PlainView, dashboard, event_line
from alloysmith.loop.config import CampaignConfig, check_config
from alloysmith.loop.controller import Controller
from alloysmith.loop.decision import Decider
from alloysmith.loop.events import (
    Evaluated,
    Event,
    GeneratorTrained,
    GeneratorTraining,
    GeneratorTrainingFailed,
    Stopped,
)
from alloysmith.loop.execution.base import ExecutorError
from alloysmith.loop.execution.build import build_executor
from alloysmith.loop.report.generator_models import generator_models
from alloysmith.loop.report.record import read_record
from alloysmith.loop.signals import GracefulStop
from alloysmith.loop.state import CampaignState, catch_up, replay
from alloysmith.loop.store.blobs import BlobStore
from alloysmith.loop.store.event_log import LOG_NAME, EventLog, LogPosition, read_events
from alloysmith.loop.summary import summarize
from alloysmith.oracles.base import FailureKind
from alloysmith.surrogates.model_file import load_state
from alloysmith.tests.generators.pcdvae.small import TINY
from alloysmith.tests.learner import RandomLearner
from rich.console import Console

MakeConfig = Callable[..., CampaignConfig]
Same = Callable[[Evaluation, Evaluation], bool]

PCDVAE: dict[str, Any] = {
    "kind": "pcdvae",
    "n_initial": 4,
    "growth": 1.6,
    "model": TINY.model_dump(exclude_unset=True),
    "training": {"max_epochs": 2, "epoch_size": 4, "batch_size": 4, "n_validation_draws": 1, "checkpoint_every_s": 0},
    "n_epochs_again": 1,
    "optimization": {"decode_at": [3], "n_heads": 0},
    "n_levels": 1,
    "n_best": 2,
    "random_share": 0.0,
}


def _drive(
    config: CampaignConfig, run_dir: Path, learner: Generator, agent: Agent | None = None
) -> tuple[Stopped, CampaignState, list[Event]]:
    """A session of a campaign whose generator, and perhaps agent, is no configured one."""
    if not run_dir.exists():
        Campaign.create(config, run_dir)
    state = CampaignState()
    log = EventLog.open(run_dir, catch_up(state, run_dir, LogPosition()))
    decider = Decider(
        config.seed,
        agent or config.agent.build(config.system.space(), config.objective.build()),
        {"search": learner},
        None if config.surrogate is None else config.surrogate.build(config.system.space()),
        {"bulk_modulus_gpa": "GPa"},
        BlobStore(run_dir / "models"),
        waits_for_models=config.execution.mode == "synchronous",
    )
    executor = build_executor(config.execution, config.oracle.build)
    try:
        with GracefulStop() as signals:
            stopped = Controller(config, state, log, executor, decider, signals).run()
    finally:
        executor.close()
        log.close()
    return stopped, state, list(read_events(run_dir))


def _learner(config: CampaignConfig, **settings: Any) -> RandomLearner:
    return RandomLearner("search", config.system.space(), **settings)


def _called(evaluations: Sequence[Evaluation]) -> list[list[int]]:
    return [list(e.candidate.lineage.facts.get("called", [])) for e in evaluations]


IN_WORKER = {"execution__training": {"executor": "process_pool"}}


@pytest.mark.parametrize(
    "place", [{}, pytest.param(IN_WORKER, marks=pytest.mark.slow)], ids=["in the driver", "in a worker"]
)
def test_a_round_waits_for_the_models_it_wants(make_config: MakeConfig, tmp_path: Path, place: dict[str, Any]) -> None:
    config = make_config(budget__n_evaluations=16, **place)
    stopped, state, events = _drive(config, tmp_path / "run", _learner(config))
    assert stopped.reason == "budget"
    # Labels grow by four a round; trainings are due at 4, 6, 9 and 13, each going on from the one before.
    assert _called(state.evaluations) == [[]] * 4 + [[4]] * 4 + [[4, 6]] * 4 + [[4, 6, 9]] * 4
    trained = [event for event in events if isinstance(event, GeneratorTrained)]
    assert [event.n_train for event in trained] == [4, 6, 9]
    assert [event.before for event in trained] == [None, *(event.model for event in trained[:-1])]
    begun = [event for event in events if isinstance(event, GeneratorTraining) and event.step == 0]
    assert [event.n_train for event in begun] == [4, 6, 9]
    assert sorted(path.name for path in (tmp_path / "run" / "models").iterdir()) == sorted(e.model for e in trained)
    first = load_state(tmp_path / "run" / "models" / trained[0].model)
    assert trained[0].model.startswith("search-000004-")
    about = {"generator": "search", "n_train": 4, "labels": trained[0].labels}
    assert first.settings == {"called": [4], "trained_on": about}
    assert len({event.labels for event in trained}) == 3


def test_a_model_that_starts_anew_needs_no_earlier_one(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(agent__batch_size=8, budget__n_evaluations=16)
    _, state, _ = _drive(config, tmp_path / "run", _learner(config, goes_on=False))
    assert _called(state.evaluations) == [[]] * 8 + [[6]] * 8


def test_alone_a_generator_proposes_as_in_a_campaign(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(budget__n_evaluations=12)
    learner = _learner(config)
    _, state, _ = _drive(config, tmp_path / "run", learner)
    alone = History(state.objective, state.evaluations)
    assert learner.trainings(alone)[-1].n_labels == 9
    model = load_state(tmp_path / "run" / "models" / str(state.models["search"][6]))
    given = History(state.objective, state.evaluations[:8], models={"search": LearnedModel(6, model)})
    (from_file,) = learner.propose(1, given, seed=3)
    (from_labels,) = learner.propose(1, History(state.objective, state.evaluations[:8]), seed=3)
    assert from_file.lineage == from_labels.lineage


BAYESIAN = {
    "agent": {"kind": "bayesian", "n_initial": 4, "batch_size": 4, "n_pool": 12, "selection": {"kind": "greedy"}},
    "surrogate": {"kind": "polynomial"},
}


@pytest.mark.parametrize("agent", [{}, BAYESIAN], ids=["direct", "bayesian"])
def test_cut_off_between_any_two_events_nothing_is_trained_twice(
    make_config: MakeConfig, same_result: Same, tmp_path: Path, agent: dict[str, Any]
) -> None:
    config = make_config(budget__n_evaluations=12, **agent)
    _, expected, events = _drive(config, tmp_path / "whole", _learner(config))
    assert bool(expected.retrains) == bool(agent)
    assert [event.n_train for event in events if isinstance(event, GeneratorTrained)] == [4, 6]
    lines = (tmp_path / "whole" / LOG_NAME).read_bytes().splitlines(keepends=True)
    names = b'"type":"generator_train', b'"type":"retrained'
    near = {i + k for i, line in enumerate(lines) if any(name in line for name in names) for k in (0, 1)}
    for n_lines in sorted(near):
        run_dir = tmp_path / f"cut-{n_lines}"
        Campaign.create(config, run_dir)
        (run_dir / LOG_NAME).write_bytes(b"".join(lines[:n_lines]) + lines[n_lines][:20])
        (run_dir / "models").symlink_to(tmp_path / "whole" / "models")
        _, found, events = _drive(config, run_dir, _learner(config))
        assert all(same_result(a, b) for a, b in zip(expected.evaluations, found.evaluations, strict=True)), n_lines
        assert [event.n_train for event in events if isinstance(event, GeneratorTrained)] == [4, 6]


def test_progress_is_shown(make_config: MakeConfig, tmp_path: Path) -> None:
    campaign = Campaign.create(make_config(), tmp_path / "run")
    console = Console(file=StringIO(), width=200)
    failure = Failure(FailureKind.CRASHED, "the worker was killed\nand more", {})
    events: list[Event] = [
        GeneratorTraining(1, 100.0, "search", 96, 0, {"share": 0.0}),
        GeneratorTraining(2, 110.0, "search", 96, 4, {"share": 0.2, "loss": 2.0}),
        GeneratorTraining(3, 130.0, "search", 96, 8, {"share": 0.4, "loss": 1.25}),
        GeneratorTrainingFailed(4, 131.0, "search", 96, 1, "worker-0", failure, "retry"),
        GeneratorTrained(5, 160.0, "search", 96, "a.safetensors", "b", None, {"share": 1.0}, "worker-0", 29.0),
    ]
    state, shown = campaign.state, []
    with PlainView(console, interval_s=0.0) as view:
        for event in events:
            state.apply(event)
            view.note(event, state)
            console.print(dashboard(summarize(state), (), "run", 0.0))
            shown.append(console.file.getvalue())
            console.file.truncate(console.file.seek(0))
    assert "training search on 96 labels: 0%" in shown[0]
    assert shown[2].splitlines()[0].endswith("training search on 96 labels: 40%, loss 1.25, 1 min 00 s left")
    assert "search on 96 labels: 40%" in shown[2].partition("\n")[2]
    assert "training search on 96 labels: crashed, retry: the worker was killed" in shown[3]
    assert "search, 96 labels" in shown[4]
    assert summarize(state).as_json(tmp_path)["generator_models"] == {"search": 96}
    clock = event_line(events[-1], state)
    assert clock is not None
    assert clock.plain.endswith("search trained on 96 labels in 29 s")


class UntilLearned:
    """Evaluates one structure after the other until models of two trainings were of use."""

    def decide(self, view: CampaignView, budget: Budget) -> Sequence[Action]:
        if max(map(len, _called(view.history.evaluations)), default=0) >= 2:
            return (Stop("it has learned"),)
        return (Evaluate(tuple(view.pool)),) if view.pool else (Generate("search", 1),)


@pytest.mark.slow
def test_asynchronously_evaluations_go_on_with_the_model_there_is(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(budget__n_evaluations=3000, execution__mode="asynchronous", oracle__delay_s=0.02, **IN_WORKER)
    stopped, state, events = _drive(config, tmp_path / "run", _learner(config, wall_s=0.4), UntilLearned())
    assert stopped.reason == "agent"
    under_way, n_beside, trained = False, 0, set()
    for event in events:
        if isinstance(event, GeneratorTraining | GeneratorTrained):
            under_way = isinstance(event, GeneratorTraining)
        if isinstance(event, GeneratorTrained):
            trained.add(event.n_train)
        if isinstance(event, Evaluated):
            n_beside += under_way
            assert set(_called([state.by_id[event.request_id]])[0]) <= trained
    assert n_beside >= 20
    assert all(called in _called(state.evaluations) for called in ([], [4]))
    assert replay(tmp_path / "run").models == state.models


def test_an_interrupted_training_is_asked_to_end(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(budget={"n_evaluations": 16, "wall_s": 0.5})
    started = time.monotonic()
    stopped, state, _ = _drive(config, tmp_path / "run", _learner(config, wall_s=8.0))
    assert time.monotonic() - started < 5.0
    assert (stopped.reason, state.n_ended, state.models) == ("wall_time", 4, {})


def test_without_any_model_a_failed_training_ends_the_campaign(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config()
    stopped, state, _ = _drive(config, tmp_path / "run", _learner(config, endings={4: "fail"}))
    assert stopped.reason == "failures"
    assert "the training of generator 'search' on 4 labels failed at attempt 1, and there is no" in stopped.message
    assert stopped.message.endswith("not_converged: nothing can be learned from this")
    stopped, state, _ = _drive(config, tmp_path / "run", _learner(config))  # mended, it goes on
    assert (stopped.reason, state.n_ended) == ("budget", 12)


def test_a_generator_goes_on_with_the_model_it_has(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(budget__n_evaluations=16)
    stopped, state, events = _drive(config, tmp_path / "run", _learner(config, endings={6: "fail"}))
    assert stopped.reason == "budget"
    assert _called(state.evaluations) == [[]] * 4 + [[4]] * 8 + [[4, 9]] * 4
    (failed,) = (event for event in events if isinstance(event, GeneratorTrainingFailed))
    assert (failed.n_train, failed.action, failed.failure.kind) == (6, "quarantine", "not_converged")
    assert list(state.models["search"]) == [4, 6, 9]
    assert state.models["search"][6] is None
    section = generator_models(read_record(tmp_path / "run"))
    assert section is not None
    assert "not_converged, quarantine: nothing can be learned from this" in section.body


@pytest.mark.slow
def test_workers_that_die_or_hang_are_replaced(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(budget__n_evaluations=16, execution__training={"executor": "process_pool", "deadline_s": 1.0})
    learner = _learner(config, endings={4: "die once", 9: "hang"})
    stopped, state, events = _drive(config, tmp_path / "run", learner)
    assert stopped.reason == "budget"
    failed = [event for event in events if isinstance(event, GeneratorTrainingFailed)]
    assert [(e.n_train, e.attempt, str(e.failure.kind), e.action) for e in failed] == [
        (4, 1, "crashed", "retry"),
        (9, 1, "timed_out", "quarantine"),
    ]
    assert "exited with status 3" in failed[0].failure.message
    assert _called(state.evaluations) == [[]] * 4 + [[4]] * 4 + [[4, 6]] * 8


def _pcdvae(make_config: MakeConfig, **changes: Any) -> CampaignConfig:
    return make_config(generators={"search": PCDVAE}, budget__n_evaluations=12, **changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign of a crystal generator, trained in the driver."""
    from alloysmith.tests.loop.conftest import _small_config

    run_dir = tmp_path_factory.mktemp("whole") / "run"
    Campaign.create(_pcdvae(_small_config), run_dir).run()
    return run_dir


def test_models_of_a_crystal_generator_can_be_opened(whole: Path) -> None:
    state = replay(whole)
    files = state.models["search"]
    assert sorted(files) == [4, 6]
    learnt = {e.candidate.lineage.facts.get("n_learnt") for e in state.evaluations}
    assert learnt == {None, 4, 6}
    (section,) = [s for s in [generator_models(read_record(whole))] if s is not None]
    assert [f"search-00000{n}-" in section.body for n in (4, 6)] == [True, True]
    fitted = [FittedPcdvae.from_state(load_state(whole / "models" / str(files[n]))) for n in (4, 6)]
    assert [len(model.latents) for model in fitted] == [4, 6]


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["process_pool", pytest.param("ray", marks=pytest.mark.ray)])
def test_a_crystal_generator_is_trained_to_the_same_bits_elsewhere(
    make_config: MakeConfig, same_result: Same, whole: Path, tmp_path: Path, executor: str
) -> None:
    config = _pcdvae(make_config, execution={"executor": executor, "n_workers": 1})  # and one more to train
    Campaign.create(config, tmp_path / "run").run()
    expected, found = replay(whole), replay(tmp_path / "run")
    assert found.models == expected.models  # their names end with hashes
    assert all(same_result(a, b) for a, b in zip(expected.evaluations, found.evaluations, strict=True))


def test_members_of_a_portfolio_are_trained(make_config: MakeConfig, same_result: Same, tmp_path: Path) -> None:
    sizes = {"n_channels": 4, "n_layers": 1, "n_steps": 4, "n_samples": 8, "n_rounds": 1, "n_calls": 2}
    members = {name: {"kind": "ordering_model", "n_initial": n, **sizes} for name, n in (("early", 8), ("late", 11))}
    mix = {"kind": "portfolio", "members": {**members, "random": {"kind": "random"}}, "scheme": "even"}
    config = make_config(generators={"mix": mix}, agent__generator="mix", agent__batch_size=6)
    config = config.model_copy(update={"budget": config.budget.model_copy(update={"n_evaluations": 24})})
    campaign = Campaign.create(config, tmp_path / "run")
    campaign.run()
    assert {name: list(models) for name, models in campaign.state.models.items()} == {
        "mix/early": [11, 15],
        "mix/late": [11, 15],
    }
    learnt = {(e.candidate.lineage.generator, e.candidate.lineage.facts.get("n_learnt")) for e in campaign.best(24)}
    assert {("mix/early", 11), ("mix/late", 11), ("mix/early", 15), ("mix/late", 15)} <= learnt
    assert len(list((tmp_path / "run" / "models").glob("mix-early-0000*.safetensors"))) == 2


@pytest.mark.ray
def test_a_cluster_without_such_gpus_is_noticed_before_anything_is_evaluated(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    place = {"executor": "ray", "ray": {"gpus_per_worker": 999}}
    campaign = Campaign.create(_pcdvae(make_config, execution__training=place), tmp_path / "run")
    with pytest.raises(ExecutorError, match=r"999 GPU \(it has \d+\) .*execution\.training"):
        campaign.run()
    assert campaign.state.n_requested == 0


def test_places_that_cannot_be_are_refused(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match="the in_process executor has one worker"):
        check_config(make_config(execution__training={"executor": "in_process", "n_workers": 2}))
    here, there = {"address": "local"}, {"executor": "ray", "ray": {"address": "auto"}}
    with pytest.raises(ConfigError, match=r"execution\.training\.ray\.address: a driver has one connection to Ray"):
        check_config(make_config(execution={"executor": "ray", "ray": here, "training": there}))


@pytest.mark.slow
def test_killed_in_the_middle_of_a_training_it_ends_the_same(
    make_config: MakeConfig, same_result: Same, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = {**PCDVAE, "n_initial": 8, "training": {**PCDVAE["training"], "max_epochs": 30}}
    config = make_config(generators={"search": slow}, budget__n_evaluations=12, **IN_WORKER)
    run_dir = tmp_path / "broken"
    Campaign.create(config, run_dir)
    driver = subprocess.Popen([sys.executable, "-m", "alloysmith", "resume", str(run_dir), "--quiet"])
    checkpoint = run_dir / "models" / "search-000008.training"
    try:
        give_up_at = time.monotonic() + 60.0
        while not checkpoint.exists() or load_state(checkpoint).settings["facts"]["epoch"] < 3:
            assert time.monotonic() < give_up_at
            assert driver.poll() is None
            time.sleep(0.005)
    finally:
        driver.kill()
        driver.wait()
    assert not any(isinstance(event, GeneratorTrained) for event in read_events(run_dir)), "the kill came too late"
    monkeypatch.setattr(generator_training, "_NEWS_EVERY_S", 0.0)
    told: list[int] = []

    def listen(event: Event, state: CampaignState) -> None:
        if isinstance(event, GeneratorTraining):
            told.append(event.step)

    Campaign.open(run_dir, ["execution.training.executor=in_process"]).run(listen)
    assert told[0] == 0
    assert told[1] > 3, "it began anew"
    Campaign.create(config, tmp_path / "whole")
    Campaign.open(tmp_path / "whole", ["execution.training.executor=in_process"]).run()
    expected, found = replay(tmp_path / "whole"), replay(run_dir)
    assert found.models == expected.models
    assert list((run_dir / "models").glob("*.training")) == []
    assert all(same_result(a, b) for a, b in zip(expected.evaluations, found.evaluations, strict=True))
