"""A potential learns in rounds; killed at any instant, it goes on as if nothing had happened."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from alloysmith.errors import ConfigError
from alloysmith.generators.base import Failure
from alloysmith.loop.cli.arguments import shipped_configs
from alloysmith.loop.errors import RunDirectoryError
from alloysmith.loop.labelling import LabellingRun
from alloysmith.loop.learning.config import LearningConfig, load_learning_config
from alloysmith.loop.learning.figures import has_settled
from alloysmith.loop.learning.labelled import IS_TEST
from alloysmith.loop.learning.learning import PotentialEnd, learn
from alloysmith.loop.learning.rounds import POTENTIAL_NAME, RoundFolder, RoundRecord, read_records
from alloysmith.loop.learning.training import share_of
from alloysmith.loop.report.learning import is_learning, learning_report
from alloysmith.loop.rounds.crew import Crew
from alloysmith.loop.rounds.endings import LearningError
from alloysmith.loop.rounds.files import CONFIG_NAME
from alloysmith.loop.rounds.site import Stage
from alloysmith.oracles.base import FailureKind
from alloysmith.structures.files import read_structures
from alloysmith.surrogates.base import SurrogateError
from alloysmith.surrogates.potentials.committee import Committee
from alloysmith.surrogates.potentials.frame import Frame
from alloysmith.surrogates.potentials.settings import load_potential, save_potential
from alloysmith.tests.learnings import HangingRunner, run_learning
from ase import Atoms

SMALL = {
    "system": {"elements": ["Al"], "phases": ["fcc"], "cell": {"kind": "cubic", "repeat": [2, 2, 2]}},
    "oracle": {"kind": "single_point", "potential": {"kind": "wheel", "name": "AlCu.adp"}},
    "potential": {"kind": "eam"},
    "training": {"max_epochs": 4},
    "committee": {"n_members": 2},
    "initial": {"n_structures": 8, "n_test": 6},
    "exploration": {"temperatures_k": [300.0, 1200.0], "n_trajectories": 2, "n_steps": 200, "stride": 20},
    "selection": {"batch_size": 4, "target_force_error_ev_ang": 0.02},
    "stopping": {"max_rounds": 2},
    "budget": {"n_labels": 40},
    "execution": {"executor": "in_process"},
}


def _config(**changes: object) -> LearningConfig:
    return LearningConfig.model_validate({**SMALL, **changes})


def _record(index: int, *, candidate: float, error: float) -> RoundRecord:
    shares = {"accurate": 1.0 - candidate, "candidate": candidate, "failed": 0.0}
    record = RoundRecord(index=index, n_labels=10, n_test=5, n_chosen=5, n_failed=0, n_visited=100, shares=shares)
    return replace(record, test_errors={"force_mae_ev_ang": error})


def test_it_has_settled_when_little_is_new_and_errors_no_longer_fall() -> None:
    quiet = [_record(i, candidate=0.01, error=0.1) for i in range(1, 4)]
    assert has_settled(quiet, 0.02, 0.1, patience=2)
    assert not has_settled(quiet[:2], 0.02, 0.1, patience=2)
    assert not has_settled([*quiet[:2], _record(3, candidate=0.3, error=0.1)], 0.02, 0.1, patience=2)
    assert not has_settled([*quiet[:2], _record(3, candidate=0.01, error=0.08)], 0.02, 0.1, patience=2)


def test_records_read_back(tmp_path: Path) -> None:
    record = replace(_record(0, candidate=0.25, error=0.1), calibration=((0.1, 0.5),))
    folder = RoundFolder(tmp_path, 0)
    folder.make()
    folder.record.write_bytes(record.as_json())
    assert read_records(tmp_path) == [record]
    folder.record.write_bytes(record.as_json()[:40])
    with pytest.raises(RunDirectoryError, match=r"record\.json is damaged"):
        read_records(tmp_path)


def test_an_oracle_without_forces_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "learn.yaml"
    path.write_text(
        "system: {elements: [Al]}\npotential: {kind: eam}\n"
        "oracle: {kind: bulk_modulus, potential: {kind: wheel, name: Al_zhou.eam.alloy}}\n"
    )
    with pytest.raises(ConfigError, match=r"gives no energy_ev, forces_ev_ang.*single_point"):
        load_learning_config(path)


@pytest.mark.parametrize(
    "name", [name for name in shipped_configs() if name.startswith("learn_") and "barriers" not in name]
)
def test_shipped_configurations(name: str) -> None:
    assert load_learning_config(shipped_configs()[name]).potential.kind == {"nicr": "eam"}.get(name[6:], "deeppot")


def test_a_budget_that_the_first_structures_exceed_is_refused() -> None:
    with pytest.raises(ValueError, match="first structures take 14"):
        _config(budget={"n_labels": 10})


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunDirectoryError, match="is not empty"):
        learn(_config(), tmp_path)


def test_a_learning_that_was_killed_before_its_configuration_was_written_begins(tmp_path: Path) -> None:
    # as a kill leaves it between the lock and the first whole file
    (tmp_path / "lock").write_text("")
    (tmp_path / ".writing-17-config.json").write_text("{")
    assert learn(_tiny(stopping={"max_rounds": 1}), tmp_path).reason == "rounds"


def test_the_report_shows_what_the_rounds_found(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="no round"):
        learning_report(tmp_path)
    (tmp_path / CONFIG_NAME).write_text(_config(name="tin & co").model_dump_json())
    for index in range(3):
        found = _record(index, candidate=0.4, error=0.2 / (index + 1)) if index else None
        record = found or RoundRecord(index=0, n_labels=8, n_test=6, n_chosen=14, n_failed=0)
        folder = RoundFolder(tmp_path, index)
        folder.make()
        failures = ("run 1: timed_out: <8 s>",) if index == 2 else ()
        folder.record.write_bytes(replace(record, calibration=((0.1, 0.5),), failures=failures).as_json())
    assert is_learning(tmp_path)
    document = learning_report(tmp_path)
    for text in (
        "tin &amp; co",
        "Calibration of the committee",
        "0.0667",
        "200 structures visited",
        "timed_out: &lt;8 s&gt;",
    ):
        assert text in document


TINY = {
    **SMALL,
    "training": {"max_epochs": 1},
    "initial": {"n_structures": 4, "n_test": 2},
    "exploration": {"temperatures_k": [300.0], "n_trajectories": 1, "n_steps": 20, "stride": 10},
    "selection": {"batch_size": 2, "target_force_error_ev_ang": 1e-4, "failed_force_error_ev_ang": 100.0},
    "stopping": {"max_rounds": 1},
}


def _tiny(**changes: object) -> LearningConfig:
    return LearningConfig.model_validate({**TINY, **changes})


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PotentialEnd]:
    """A learning of one round; copy its folder before going on with it."""
    folder = tmp_path_factory.mktemp("ended") / "run"
    return folder, learn(_tiny(), folder)


def test_what_has_ended_does_not_go_on_by_itself(ended: tuple[Path, PotentialEnd]) -> None:
    folder, first = ended
    assert (first.reason, len(first.records)) == ("rounds", 2)
    again = learn(_tiny(), folder)
    assert (again.reason, again.records) == (first.reason, first.records)


def test_the_wall_time_counts_all_sessions_and_ends_stages(ended: tuple[Path, PotentialEnd], tmp_path: Path) -> None:
    with pytest.raises(LearningError, match=r"was spent before the first structures.*raise budget\.wall_s"):
        learn(_tiny(budget={"n_labels": 40, "wall_s": 1e-6}), tmp_path / "new")
    folder, whole = ended
    shutil.copytree(folder, tmp_path / "copy")
    spent = sum(whole.records[0].seconds.values())
    config = _tiny(budget={"n_labels": 40, "wall_s": spent}, stopping={"max_rounds": 2})
    later = learn(config, tmp_path / "copy")
    assert (later.reason, later.exit_code) == ("wall_time", 0)
    assert later.records == whole.records


def test_a_round_that_finds_nothing_is_not_the_end(tmp_path: Path) -> None:
    nothing = {"batch_size": 2, "target_force_error_ev_ang": 1e6, "failed_force_error_ev_ang": 1e7}
    end = learn(_tiny(selection=nothing, stopping={"max_rounds": 9, "patience": 2}), tmp_path)
    assert end.reason == "nothing_new"
    assert [record.n_chosen for record in end.records] == [6, 0, 0]


def test_an_oracle_that_labels_nothing_is_told_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(oracle: object, chosen: list[Atoms], *_: object, **__: object) -> LabellingRun:
        return LabellingRun([Failure(FailureKind.NOT_CONVERGED, "no end in 60 steps")] * len(chosen), len(chosen))

    monkeypatch.setattr("alloysmith.loop.rounds.labels.label_structures", fail)
    with pytest.raises(LearningError, match=r"none of the 6 first.*6 of them: not_converged: no end in 60 steps"):
        learn(_tiny(), tmp_path)


def test_reference_energies_leave_no_trace_in_the_result(tmp_path: Path) -> None:
    config = _tiny(energy_reference={"Al": 1.0}, initial={"n_structures": 4}, training={"max_epochs": 6})
    learn(config, tmp_path)
    potential = load_potential(tmp_path / POTENTIAL_NAME)
    assert potential.spec.reference_energies_ev == {"Al": 1.0}
    rows = read_structures(RoundFolder(tmp_path, 0).labelled)
    for row, found in zip(rows, potential.evaluate(rows), strict=True):
        assert found.energy_ev / len(row) == pytest.approx(row.info["energy_ev"] / len(row), abs=0.3)


def test_data_of_the_user_is_learnt_from_and_its_tests_are_not(
    ended: tuple[Path, PotentialEnd], tmp_path: Path
) -> None:
    data = {"files": [str(RoundFolder(ended[0], 0).labelled)], "test_fraction": 0.5}
    data |= {"checks": {"max_energy_deviation_ev_per_atom": 100.0}}
    end = learn(_tiny(data=data, seed=1), tmp_path)
    assert (end.records[0].n_labels, end.records[0].n_test) == (4 + 3, 2 + 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"files": ["a.extxyz"], "energy_reference": {"Al": -3.0}}}, "write energy_reference beside data"),
        ({"committee": {"share": 1.0}}, "less than 1"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _config(**changes)


def test_a_constraint_of_other_elements_is_told_before_anything_is_spent(tmp_path: Path) -> None:
    path = tmp_path / "learn.yaml"
    path.write_text(
        "system: {elements: [Al]}\npotential: {kind: eam}\n"
        "oracle: {kind: single_point, potential: {kind: wheel, name: Al_zhou.eam.alloy}}\n"
        "constraints: [{kind: equilibrium, crystal: {lattice: fcc, formula: Ni, a_ang: 3.52}}]\n"
    )
    with pytest.raises(SurrogateError, match="Ni"):
        load_learning_config(path)


def test_random_selection_labels_any_of_those_visited(tmp_path: Path) -> None:
    # bounds that no structure of this student reaches, so that a selection by deviation would label nothing
    selection = {"kind": "random", "batch_size": 2, "n_test": 1, "target_force_error_ev_ang": 1e6}
    selection["failed_force_error_ev_ang"] = 1e7
    exploration = {**TINY["exploration"], "n_steps": 60, "force_field": "teacher"}
    end = learn(_tiny(selection=selection, exploration=exploration), tmp_path)
    first, second = end.records
    assert (second.n_visited, second.n_chosen, second.shares["accurate"]) == (6, 3, 1.0)
    assert (second.n_labels, second.n_test) == (first.n_labels + 2, first.n_test + 1)
    visited = read_structures(RoundFolder(tmp_path, 1).explored.structures)
    rows = read_structures(RoundFolder(tmp_path, 1).labelled)
    assert [bool(row.info.get(IS_TEST, False)) for row in rows] == [False, False, True]
    assert {row.info["step"] for row in rows} <= {atoms.info["step"] for atoms in visited}
    assert len(second.calibration) == 2


def test_a_teacher_that_runs_no_dynamics_cannot_explore() -> None:
    oracle = {**SMALL["oracle"], "kind": "relaxation"}
    with pytest.raises(ValueError, match="only with an oracle of kind single_point, not relaxation"):
        _config(oracle=oracle, exploration={"force_field": "teacher"})


def test_a_d_optimal_batch_is_chosen_of_the_candidates(tmp_path: Path) -> None:
    selection = {**TINY["selection"], "diversity": "d_optimal"}
    end = learn(_tiny(selection=selection), tmp_path)
    assert end.records[1].n_chosen == 2


def test_a_member_leaves_out_the_same_labels_in_every_round() -> None:
    frames = [Frame(Atoms("Al"), float(k)) for k in range(40)]
    config = _config(committee={"n_members": 3, "share": 0.7})
    for member in (1, 2):
        early = {frame.energy_ev for frame in share_of(frames[:20], config, member)}
        late = {frame.energy_ev for frame in share_of(frames, config, member)}
        assert 8 < len(early) < 20
        assert 20 < len(late) < 40
        assert len(early ^ {energy for energy in late if energy < 20.0}) <= 2  # ends that keep it from all and none
    assert share_of(frames, config, 1) != share_of(frames, config, 2)
    assert len(share_of(frames[:1], config, 1)) == 1
    assert len(share_of(frames[:2], config, 1)) == 1


def test_a_training_that_fails_ends_the_learning_with_its_reason(tmp_path: Path) -> None:
    training = {"max_epochs": 1, "optimizer": {"kind": "adam", "learning_rate": 1e6}, "max_rollbacks": 0}
    with pytest.raises(LearningError, match=r"round 1: member 0 of the committee cannot be trained: .*diverges"):
        learn(_tiny(training={**training, "max_epochs": 9, "explosion_factor": 1.5}), tmp_path)


def test_trainings_that_all_miss_their_deadline_end_the_learning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def miss(crew: Crew, jobs: dict[str, object], *, on_end: Callable[[str, object], None], **__: object) -> bool:
        for name in jobs:
            on_end(name, Failure(FailureKind.TIMED_OUT, "no end in 9 s"))
        return True

    monkeypatch.setattr("alloysmith.loop.rounds.crew.Crew.do", miss)
    with pytest.raises(LearningError, match=r"member 0 .*no end in 9 s; raise execution\.job_deadline_s"):
        learn(_tiny(), tmp_path)


@pytest.mark.slow
def test_a_learning_goes_on_without_the_jobs_that_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exploration = {**TINY["exploration"], "n_trajectories": 2}
    learn(_tiny(exploration=exploration), tmp_path)
    before = load_potential(RoundFolder(tmp_path, 2).committee)
    monkeypatch.setattr("alloysmith.loop.learning.learning.LearningRunner", HangingRunner)
    execution = {"executor": "process_pool", "n_workers": 2, "job_deadline_s": 6.0}
    end = learn(_tiny(exploration=exploration, stopping={"max_rounds": 2}, execution=execution), tmp_path)
    first, second = end.records[1:]
    assert (end.reason, second.n_visited, second.n_explosions) == ("rounds", first.n_visited // 2, 0)
    assert len(second.failures) == len(end.failures) == 1
    assert second.failures[0].startswith("run 0: timed_out: ")
    assert end.failures[0].startswith("member 1: timed_out: ")
    after = load_potential(RoundFolder(tmp_path, 3).committee)
    assert isinstance(before, Committee)
    assert isinstance(after, Committee)
    assert after.members[0].spec.n_train == second.n_labels
    for name, array in before.members[1].state().arrays.items():
        np.testing.assert_array_equal(after.members[1].state().arrays[name], array)


def test_members_and_runs_that_had_ended_before_a_kill_are_not_done_again(
    ended: tuple[Path, PotentialEnd], tmp_path: Path
) -> None:
    whole, end = ended
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    folder = RoundFolder(copy, 1)
    committee = load_potential(folder.committee)
    assert isinstance(committee, Committee)
    for path in (RoundFolder(copy, 2).committee, folder.committee, folder.record, folder.labelled, folder.chosen):
        path.unlink()
    (copy / POTENTIAL_NAME).unlink()
    # as a kill leaves it while the second member is trained, and the only run has ended
    save_potential(committee.members[0], folder.member(0))
    folder.explored.structures.rename(folder.run(0).structures)
    folder.explored.facts.rename(folder.run(0).facts)
    stages: list[tuple[int, Stage, str]] = []
    again = learn(_tiny(), copy, on_progress=lambda *told: stages.append(told))
    assert _figures(again) == _figures(end)
    assert (copy / POTENTIAL_NAME).read_bytes() == (whole / POTENTIAL_NAME).read_bytes()
    told = {detail for index, stage, detail in stages if index == 1 and stage in ("training", "exploring")}
    assert "0 of 1 members trained from 4 labels, 0% done" in told
    assert not any(detail.startswith("1 of 1 runs") for detail in told)
    assert sorted(path.name for path in folder.path.glob("[mr]*-*")) == []


def test_runs_that_failed_before_a_kill_count_where_none_can_be_done(
    ended: tuple[Path, PotentialEnd], tmp_path: Path
) -> None:
    whole, _ = ended
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    folder = RoundFolder(copy, 1)
    for path in (folder.record, folder.labelled, folder.chosen, folder.explored.structures, folder.explored.facts):
        path.unlink()
    shutil.rmtree(RoundFolder(copy, 2).path)
    run = folder.run(0)
    run.facts.write_bytes(b'{"n_steps": 0, "explosions": [], "failures": ["run 0: timed_out: it hung"]}')
    run.structures.write_bytes(b"")
    with pytest.raises(LearningError, match="round 1: no run of exploration can be done; run 0: timed_out: it hung"):
        learn(_tiny(), copy)
    assert not run.is_whole()  # the same command tries again


def _figures(end: PotentialEnd) -> list[RoundRecord]:
    return [replace(record, seconds={}) for record in end.records]


def _files(run_dir: Path) -> dict[str, bytes]:
    """All files that tell what was learnt."""
    names = ("*.safetensors", "rounds/*/*.safetensors", "rounds/*/*.extxyz")
    return {str(path.relative_to(run_dir)): path.read_bytes() for name in names for path in run_dir.glob(name)}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PotentialEnd]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    return folder, learn(_config(), folder)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("executor", ["in_process", "process_pool"])
def test_a_killed_learning_ends_as_the_uninterrupted_one(
    executor: str, uninterrupted: tuple[Path, PotentialEnd], tmp_path: Path
) -> None:
    """Whatever does its jobs: the uninterrupted one did them in this process."""
    folder, whole = uninterrupted
    assert whole.reason == "rounds"
    assert len(whole.records) == 3
    assert whole.records[-1].n_labels > 8
    assert whole.records[-1].test_errors["force_mae_ev_ang"] < 0.2
    config = _config(execution={"executor": executor, "n_workers": 2})
    broken, chance = tmp_path / "broken", random.Random(4)
    context = get_context("forkserver")
    context.set_forkserver_preload(["alloysmith.loop.learning.learning"])
    for _ in range(4):
        driver = context.Process(target=run_learning, args=(config, broken))
        driver.start()
        time.sleep(chance.uniform(1.0, 6.0))
        driver.kill()
        driver.join()
        assert driver.exitcode in (-signal.SIGKILL, 0)
    again = learn(config, broken)
    assert _figures(again) == _figures(whole)
    assert _files(broken) == _files(folder)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(400)
def test_on_ray_it_learns_the_same(
    uninterrupted: tuple[Path, PotentialEnd], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections, connect = [], ray.init

    def count(*args: Any, **kwargs: Any) -> Any:
        connections.append(kwargs["address"])
        return connect(*args, **kwargs)

    monkeypatch.setattr(ray, "init", count)
    config = _config(execution={"executor": "ray", "n_workers": 2}, stopping={"max_rounds": 1})
    end = learn(config, tmp_path)
    assert connections == ["local"]
    assert not ray.is_initialized()
    assert _figures(end) == _figures(uninterrupted[1])[:2]
    name = "rounds/0001/committee.safetensors"
    assert _files(tmp_path)[name] == _files(uninterrupted[0])[name]


@pytest.mark.slow
def test_a_larger_budget_goes_on_and_another_configuration_does_not(tmp_path: Path) -> None:
    first = learn(_config(stopping={"max_rounds": 1}), tmp_path / "run")
    assert len(first.records) == 2
    more = learn(_config(stopping={"max_rounds": 2}), tmp_path / "run")
    assert more.records[:2] == first.records
    assert len(more.records) == 3
    with pytest.raises(RunDirectoryError, match="another configuration"):
        learn(_config(seed=1), tmp_path / "run")
