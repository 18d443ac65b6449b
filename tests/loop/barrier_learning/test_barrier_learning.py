"""Barriers are learnt in rounds; killed at any instant, a learning goes on as if nothing had happened."""

from __future__ import annotations

import csv
import random
import shutil
import signal
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alloysmith.errors import ConfigError
from alloysmith.loop.barrier_fitting import BarrierFitConfig, fit_barriers, hop_errors
from alloysmith.loop.barrier_learning.config import BarrierStop, load_barrier_learning_config
from alloysmith.loop.barrier_learning.judging import reason_to_settle, spectrum_distances
from alloysmith.loop.barrier_learning.learning import BarrierEnd, learn_barriers
from alloysmith.loop.barrier_learning.pool import ALLOYS_NAME, POOL_NAME, read_labelled, read_pool
from alloysmith.loop.barrier_learning.rounds import (
    MODEL_NAME,
    TABLE_NAME,
    BarrierFolder,
    BarrierRound,
    read_barrier_rounds,
)
from alloysmith.loop.cli.arguments import shipped_configs
from alloysmith.loop.errors import RunDirectoryError
from alloysmith.loop.report.barrier_learning import barrier_learning_report
from alloysmith.loop.rounds.endings import LearningError
from alloysmith.loop.rounds.files import JOURNAL_NAME
from alloysmith.loop.rounds.site import Stage
from alloysmith.structures.files import read_structures, write_structures
from alloysmith.surrogates.barriers.hop_file import read_hops
from alloysmith.surrogates.barriers.settings import barrier_model_from_state
from alloysmith.surrogates.model_file import load_state, save_state
from alloysmith.tests.barrier_learnings import formula_config, run_barrier_learning

SELECTIONS: dict[str, dict[str, Any]] = {
    "both": {"kind": "both"},
    "uncertainty": {"kind": "uncertainty"},
    "farthest_points": {"kind": "diversity", "diversity": "farthest_points"},
    "random": {"kind": "random"},
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BarrierEnd]:
    folder = tmp_path_factory.mktemp("barriers")
    return folder, learn_barriers(formula_config(), folder)


def _figures(end: BarrierEnd) -> list[BarrierRound]:
    return [replace(record, seconds={}) for record in end.records]


def _files(run_dir: Path) -> dict[str, bytes]:
    """All files that tell what was chosen and learnt."""
    names = ("*.safetensors", "*.csv", "*.extxyz", "rounds/*/*.safetensors", "rounds/*/*.npy", "rounds/*/*ed.json")
    return {str(path.relative_to(run_dir)): path.read_bytes() for name in names for path in run_dir.glob(name)}


def _journal_keys(run_dir: Path) -> list[str]:
    path = run_dir / JOURNAL_NAME
    lines = path.read_text().split("\n")[1:-1] if path.exists() else []  # the last one may be torn
    return [line.partition('"key":"')[2].partition('"')[0] for line in lines]


def test_rounds_label_learn_and_leave_what_other_commands_read(ended: tuple[Path, BarrierEnd]) -> None:
    folder, end = ended
    assert (end.reason, end.exit_code) == ("rounds", 0)
    assert [record.n_chosen for record in end.records] == [28, 8, 8, 8]
    assert read_barrier_rounds(folder) == list(end.records)
    errors = [record.errors["mae_ev"] for record in end.records]
    assert errors[-1] < 0.75 * errors[0]
    assert errors[-1] < 0.02
    assert all(record.distances_ev.keys() == {"Mo", "Nb", "Ta"} for record in end.records[1:])
    pool = read_pool(folder)
    labelled = [hop for record in end.records for hop in read_labelled(BarrierFolder(folder, record.index).labelled)]
    numbers = [hop.number for hop in labelled]
    assert len(set(numbers)) == len(numbers) == 52
    # test compositions validate, and nothing else does
    assert [hop.is_validation for hop in labelled] == pool.is_held_out[numbers].tolist()
    n_failed = sum(record.n_failed for record in end.records)
    assert 0 < n_failed < 10
    assert end.records[-1].n_labels + end.records[-1].n_validation == 52 - n_failed
    rows = list(csv.DictReader((folder / TABLE_NAME).read_text().splitlines()))
    assert [row["split"] for row in rows] == ["validation" if hop.is_validation else "train" for hop in labelled]
    assert sum(row["failure"] == "not_converged" for row in rows) == n_failed
    config = BarrierFitConfig.model_validate(
        {"barrier": {"kind": "ridge", "n_shells": 1}, "data": {"split_by": "column"}, "baselines": ()}
    )
    fitted = fit_barriers(config, [folder / TABLE_NAME])
    assert fitted.errors["validation"].n == end.records[-1].n_validation
    model = barrier_model_from_state(load_state(folder / MODEL_NAME))
    known = read_hops(folder / TABLE_NAME).hops
    assert hop_errors(model.predict(known), known).n == 52 - n_failed
    assert sum(hop.is_validation for hop in labelled) == 12
    assert model.predict(pool.hops).mean_ev.shape == (360,)


@pytest.mark.parametrize("name", SELECTIONS)
def test_every_selection_learns(name: str, tmp_path: Path) -> None:
    selection = {**SELECTIONS[name], "batch_size": 10}
    end = learn_barriers(formula_config(selection=selection, stopping={"max_rounds": 1}), tmp_path)
    assert [record.n_chosen for record in end.records] == [28, 10]
    assert end.records[1].errors["mae_ev"] < 0.04
    assert end.records[1].new_errors["mae_ev"] < 0.2


def test_what_has_ended_goes_on_with_a_larger_budget_only(ended: tuple[Path, BarrierEnd], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(ended[0], copy)
    before = _files(copy)
    assert _figures(learn_barriers(formula_config(), copy)) == _figures(ended[1])
    assert _files(copy) == before
    with pytest.raises(RunDirectoryError, match="another configuration"):
        learn_barriers(formula_config(seed=1), copy)
    more = learn_barriers(formula_config(stopping={"max_rounds": 9}, budget={"n_labels": 57}), copy)
    assert more.reason == "labels"
    assert _figures(more)[:4] == _figures(ended[1])
    assert more.records[-1].n_chosen == 5


@pytest.mark.parametrize(
    "lost",
    [
        ("record.json",),
        ("record.json", "spectrum.npy"),
        ("record.json", "spectrum.npy", "model.safetensors"),
        ("record.json", "spectrum.npy", "model.safetensors", "labelled.json"),
        ("record.json", "spectrum.npy", "model.safetensors", "labelled.json", "chosen.json", "seconds.json"),
    ],
    ids=len,
)
def test_a_round_goes_on_where_its_files_end(
    lost: tuple[str, ...], ended: tuple[Path, BarrierEnd], tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(ended[0], copy)
    for name in lost:
        (copy / "rounds" / "0003" / name).unlink()
    for name in (TABLE_NAME, MODEL_NAME):
        (copy / name).write_bytes(b"of a round before")
    if "model.safetensors" not in lost:
        shutil.copy(ended[0] / MODEL_NAME, copy / MODEL_NAME)  # it is written before the round's own
    stages: list[tuple[int, Stage, str]] = []
    again = learn_barriers(formula_config(), copy, on_progress=lambda *told: stages.append(told))
    assert _figures(again) == _figures(ended[1])
    assert _files(copy) == _files(ended[0])
    assert _journal_keys(copy) == _journal_keys(ended[0])  # nothing was labelled again
    assert {index for index, _, _ in stages} == {3}


def test_members_that_were_fitted_before_a_kill_are_kept(ended: tuple[Path, BarrierEnd], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(ended[0], copy)
    folder = BarrierFolder(copy, 3)
    state = load_state(folder.model)
    for path in (folder.record, folder.spectrum, folder.model):
        path.unlink()
    first = barrier_model_from_state(state).members[1]  # type: ignore[attr-defined]
    save_state(first.state(), folder.member(1))
    told: list[str] = []
    again = learn_barriers(formula_config(), copy, on_progress=lambda i, stage, detail: told.append(detail))
    assert _figures(again) == _figures(ended[1])
    assert any(detail.startswith("0 of 2 members") for detail in told)
    assert list(folder.path.glob("member*")) == []


def test_pools_of_structures_and_of_tables(ended: tuple[Path, BarrierEnd], tmp_path: Path) -> None:
    quick: dict[str, Any] = {"stopping": {"max_rounds": 1}, "selection": {"kind": "random", "batch_size": 4}}
    structures = tmp_path / "some.extxyz"
    write_structures(structures, read_structures(ended[0] / ALLOYS_NAME)[:4])
    end = learn_barriers(formula_config(pool={"structures": structures, "n_hops": None}, **quick), tmp_path / "a")
    pool = read_pool(tmp_path / "a")
    assert len(pool.hops) == 4 * 54 * 8
    assert not pool.is_held_out.any()  # no structure is for tests, so validation hops are of all
    assert end.records[0].n_validation > 6
    table = tmp_path / "hops.csv"
    lines = (ended[0] / POOL_NAME).read_text().splitlines()[:61]
    table.write_text("\n".join(lines).replace(ALLOYS_NAME, str(ended[0] / ALLOYS_NAME)))
    whole = formula_config(pool={"hops": table}, first={"n_hops": 30, "n_validation": 20}, **quick)
    everything = learn_barriers(whole.model_copy(update={"stopping": BarrierStop(error_change=None)}), tmp_path / "b")
    assert everything.reason in ("nothing_new", "settled")
    assert len(read_pool(tmp_path / "b").hops) == 60
    np.testing.assert_allclose(
        read_structures(tmp_path / "b" / ALLOYS_NAME)[0].positions, read_structures(ended[0] / ALLOYS_NAME)[0].positions
    )


def test_a_learning_that_cannot_learn_says_why(tmp_path: Path) -> None:
    with pytest.raises(LearningError, match=r"1 have a barrier to learn from"):
        learn_barriers(formula_config(oracle={"max_force_calls": 10_000, "max_steps": 1}, first=ONE_OF_EACH), tmp_path)


ONE_OF_EACH = {"n_hops": 1, "n_validation": 1}


def test_settings_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one of alloys, structures and hops, got none"):
        formula_config(pool={})
    with pytest.raises(ValueError, match="got structures and hops"):
        formula_config(pool={"structures": "a", "hops": "b"})
    with pytest.raises(ValueError, match=r"raise committee.n_members above 1|whose members can differ"):
        formula_config(committee={"n_members": 1})
    with pytest.raises(ValueError, match="all members of kind ridge are the same"):
        formula_config(committee={"n_members": 3, "share": 1.0})
    with pytest.raises(ValueError, match="takes 28 labels"):
        formula_config(budget={"n_labels": 20})
    formula_config(committee={"n_members": 1}, selection={"kind": "diversity"})
    path = tmp_path / "learn.yaml"
    path.write_text("pool: {structures: a.extxyz}\nbarrier: {kind: ridge}\noracle: {kind: single_point}\n")
    with pytest.raises(ConfigError, match="oracle"):
        load_barrier_learning_config(path)


def test_the_shipped_configuration() -> None:
    config = load_barrier_learning_config(shipped_configs()["learn_barriers_tanbmo"])
    assert config.selection.kind == "uncertainty"
    assert config.pool.alloys is not None


def _record(index: int, mae_ev: float, moved_ev: float) -> BarrierRound:
    moved = {"Mo": moved_ev, "Ta": 0.5 * moved_ev} if index else {}
    return BarrierRound(index, 10, 10, 10, 0, {}, {"mae_ev": mae_ev}, {}, distances_ev=moved)


def test_it_settles_when_errors_no_longer_fall_or_spectra_no_longer_move() -> None:
    def reason(errors: list[float], moved: list[float], **rules: float | None) -> str:
        records = [_record(k, *pair) for k, pair in enumerate(zip(errors, moved, strict=True))]
        found = reason_to_settle(records, BarrierStop(patience=2, **rules))  # type: ignore[arg-type]
        return "" if found is None else found

    falling, still = [0.1, 0.08, 0.06, 0.05], [0.1, 0.08, 0.0799, 0.0795]
    far, near = [0.0, 0.1, 0.1, 0.1], [0.0, 0.1, 0.001, 0.001]
    assert reason(falling, far) == ""
    assert "validation error" in reason(still, far)
    assert reason(still[:3], far[:3]) == ""  # 0.08 is new within the last two rounds
    assert reason(still, far, error_change=None) == ""
    assert reason(still, far, error_change=0.001) == ""
    assert "spectra" in reason(falling, near)
    assert reason(falling[:3], near[:3]) == ""
    assert reason(falling, near, spectrum_change_ev=None) == ""
    assert reason(falling, near, spectrum_change_ev=0.0005) == ""
    assert reason([0.1], [0.0]) == ""


def test_the_distance_of_spectra_is_of_each_species() -> None:
    species = np.array(["Mo", "Mo", "Ta", "Ta"])
    before, after = np.array([1.0, 2.0, 5.0, 6.0]), np.array([2.3, 1.3, 6.0, 5.0])
    found = spectrum_distances(species, before, after)
    assert found == pytest.approx({"Mo": 0.3, "Ta": 0.0})  # the same barriers of other hops are the same spectrum


def test_the_report_shows_what_was_learnt(ended: tuple[Path, BarrierEnd], tmp_path: Path) -> None:
    document = barrier_learning_report(ended[0])
    for text in ("Parity", "Spectra by moving species", "How far spectra moved", "not_converged", "Mo-Nb-Ta"):
        assert text in document
    with pytest.raises(RunDirectoryError, match="no round"):
        barrier_learning_report(tmp_path)


def test_members_that_a_kill_left_beside_a_model_are_removed(ended: tuple[Path, BarrierEnd], tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(ended[0], folder)
    last = sorted((folder / "rounds").iterdir())[-1]
    (last / "record.json").unlink()
    for name in ("member-00.safetensors", "member-01.training.1"):
        (last / name).write_bytes(b"left")
    again = learn_barriers(formula_config(), folder)
    assert _figures(again) == _figures(ended[1])
    assert _files(folder) == _files(ended[0])
    assert not list(last.glob("member-*"))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_killed_learning_ends_as_the_uninterrupted_one(ended: tuple[Path, BarrierEnd], tmp_path: Path) -> None:
    folder, chance = tmp_path / "broken", random.Random(1)
    slowly = formula_config(oracle={"max_steps": 40})
    whole = learn_barriers(slowly, tmp_path / "whole")
    assert whole.records[-1].n_labels == ended[1].records[-1].n_labels
    context = get_context("forkserver")
    context.set_forkserver_preload(["alloysmith.tests.barrier_learnings"])
    keys: list[str] = []
    n_kills = 0
    while n_kills < 5:
        driver = context.Process(target=run_barrier_learning, args=(slowly, folder))
        driver.start()
        n_before, patience_s = len(keys), time.monotonic() + 60.0
        while len(keys) < n_before + 4 and driver.is_alive() and time.monotonic() < patience_s:
            time.sleep(0.05)
            keys = _journal_keys(folder)
        time.sleep(chance.uniform(0.0, 0.6))
        driver.kill()
        driver.join()
        assert driver.exitcode in (-signal.SIGKILL, 0)
        n_kills += 1
        known = _journal_keys(folder)
        assert set(keys) <= set(known)  # no label is lost …
        assert len(set(known)) == len(known)  # … and none is made again
        keys = known
    again = learn_barriers(slowly, folder)
    assert sorted(_journal_keys(folder)) == sorted(_journal_keys(tmp_path / "whole"))
    assert _figures(again) == _figures(whole)
    assert _files(folder) == _files(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("executor", ["process_pool", pytest.param("ray", marks=pytest.mark.ray)])
def test_workers_of_any_kind_learn_the_same(executor: str, ended: tuple[Path, BarrierEnd], tmp_path: Path) -> None:
    config = formula_config(execution={"executor": executor, "n_workers": 2}, stopping={"max_rounds": 1})
    assert _figures(learn_barriers(config, tmp_path)) == _figures(ended[1])[:2]
