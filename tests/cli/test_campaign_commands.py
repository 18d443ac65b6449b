"""From a configuration to results: run, resume, status, watch, export, report, plan, validate, schema, init."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
import yaml
from alloysmith.loop.cli.arguments import shipped_configs
from alloysmith.loop.config import load_config
from alloysmith.loop.planning import count_occupations
from alloysmith.loop.store.event_log import LOG_NAME
from alloysmith.loop.store.lock import LOCK_NAME
from alloysmith.tests.cli.toy import TOY, CommandLine


def status_of(alloysmith: CommandLine, run_dir: Path) -> dict[str, object]:
    ended = alloysmith("status", run_dir, "--json")
    assert ended.code == 0, ended.err
    loaded: dict[str, object] = json.loads(ended.out)
    return loaded


def test_a_run_ends_with_its_result(alloysmith: CommandLine, toy_config: Path, tmp_path: Path) -> None:
    ended = alloysmith("run", toy_config, "--run-dir", tmp_path / "new", "--set", "budget.n_evaluations=7")
    assert ended.code == 0
    assert "7/7 evaluations" in ended.out
    assert "best" in ended.out
    assert "alloysmith report" in ended.err


def test_status_has_the_documented_keys(alloysmith: CommandLine, toy_run: Path) -> None:
    status = status_of(alloysmith, toy_run)
    documented = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    assert all(f"`{key}`" in documented for key in status), set(status)
    assert status["schema_version"] == 1
    assert status["condition"] == "finished"
    assert (status["n_evaluations"], status["n_budget"], status["n_labels"], status["n_pending"]) == (12, 12, 12, 0)
    assert status["n_failed"] == {}
    best = status["best"]
    assert isinstance(best, dict)
    assert best["value"] > 100.0
    assert best["phase"] in ("fcc", "bcc")


def test_status_for_people(alloysmith: CommandLine, toy_run: Path) -> None:
    ended = alloysmith("status", toy_run)
    assert ended.code == 0
    assert "finished" in ended.out
    assert "12 / 12" in ended.out
    assert "GPa" in ended.out


def test_watch_ends_with_the_driver(alloysmith: CommandLine, toy_run: Path) -> None:
    ended = alloysmith("watch", toy_run, "--plain")
    assert ended.code == 0
    assert "12/12 evaluations" in ended.out


def test_resume_of_a_complete_campaign_changes_nothing(alloysmith: CommandLine, toy_run: Path) -> None:
    before = (toy_run / LOG_NAME).read_bytes()
    ended = alloysmith("resume", toy_run)
    assert ended.code == 0
    assert "was over already" in ended.out
    assert "`resume --set budget.n_evaluations=…` with a larger number goes on" in ended.out
    assert (toy_run / LOG_NAME).read_bytes() == before


def test_resume_with_a_larger_budget_goes_on(alloysmith: CommandLine, toy_run: Path) -> None:
    before = (toy_run / LOG_NAME).read_bytes()
    assert alloysmith("resume", toy_run, "--set", "budget.n_evaluations=18", "--quiet").code == 0
    assert status_of(alloysmith, toy_run)["n_evaluations"] == 18
    assert (toy_run / LOG_NAME).read_bytes().startswith(before)


@pytest.mark.parametrize(
    ("overrides", "meaning"),
    [
        (("agent.stopping.target=1.0",), "by its agent's own rules, so `resume` leaves it as it is"),
        (
            ("system.elements=[Ni, Fe]", "system.cell.repeat=[1, 1, 1]", "budget.n_evaluations=500"),
            "for want of structures to evaluate, so `resume` leaves it as it is",
        ),
    ],
    ids=["target", "exhausted"],
)
def test_no_larger_budget_is_advised_where_it_would_do_nothing(
    overrides: tuple[str, ...], meaning: str, alloysmith: CommandLine, toy_config: Path, tmp_path: Path
) -> None:
    sets = [part for override in overrides for part in ("--set", override)]
    assert alloysmith("run", toy_config, "--run-dir", tmp_path / "run", "--quiet", *sets).code == 0
    before = (tmp_path / "run" / LOG_NAME).read_bytes()
    resumed = alloysmith("resume", tmp_path / "run", "--set", "budget.n_evaluations=900")
    assert (tmp_path / "run" / LOG_NAME).read_bytes() == before
    for ended in (resumed, alloysmith("status", tmp_path / "run"), alloysmith("watch", tmp_path / "run", "--plain")):
        assert ended.code == 0, ended.err
        assert meaning in ended.out.replace("\n", " ")
        assert "larger number" not in ended.out


def test_the_lock_of_another_machine_can_be_deleted(alloysmith: CommandLine, toy_run: Path) -> None:
    lock = toy_run / LOCK_NAME
    lock.write_text(json.dumps({"host": "gone", "pid": 7, "process_started_at": 1.0, "since": 1.0}))
    arguments = ("resume", toy_run, "--set", "budget.n_evaluations=18", "--quiet")
    refused = alloysmith(*arguments)
    assert refused.code == 1
    assert f"delete {lock} and resume" in refused.err
    assert "container" in refused.err
    lock.unlink()
    assert alloysmith(*arguments).code == 0
    assert status_of(alloysmith, toy_run)["n_evaluations"] == 18


def test_overwrite_starts_anew(alloysmith: CommandLine, toy_config: Path, toy_run: Path) -> None:
    arguments = ("run", toy_config, "--run-dir", toy_run, "--set", "budget.n_evaluations=6", "--quiet")
    assert alloysmith(*arguments).code == 1
    assert alloysmith(*arguments, "--overwrite").code == 0
    assert status_of(alloysmith, toy_run)["n_evaluations"] == 6


def test_too_many_failures_abort_with_their_own_exit_code(
    alloysmith: CommandLine, toy_config: Path, tmp_path: Path
) -> None:
    ended = alloysmith(
        "run",
        toy_config,
        "--run-dir",
        tmp_path / "failing",
        "--set",
        "oracle.faults=[{effect: crashed, fraction: 1.0}]",
        "--set",
        "failure_policy.max_consecutive_breakdowns=3",
    )
    assert ended.code == 3
    assert "in a row" in ended.out
    assert status_of(alloysmith, tmp_path / "failing")["condition"] == "aborted"


@pytest.mark.parametrize("suffix", ["extxyz", "xyz.gz", "json", "cif"])
def test_exported_structures_are_read_by_others(
    suffix: str, alloysmith: CommandLine, toy_run: Path, tmp_path: Path
) -> None:
    path = tmp_path / f"results.{suffix}"
    assert alloysmith("export", toy_run, "-o", path).code == 0
    if suffix == "json":
        assert len(json.loads(path.read_text())) == 12
        return
    frames = ase.io.read(path, ":")
    assert len(frames) == 12
    if suffix != "cif":
        assert all(np.isfinite(atoms.info["bulk_modulus_gpa"]) for atoms in frames)
        assert {atoms.info["phase"] for atoms in frames} == {"fcc", "bcc"}


def test_exported_database(alloysmith: CommandLine, toy_run: Path, tmp_path: Path) -> None:
    assert alloysmith("export", toy_run, "-o", tmp_path / "results.db").code == 0
    with ase.db.connect(tmp_path / "results.db") as database:
        assert database.count() == 12
        best = max(row.bulk_modulus_gpa for row in database.select())
    summary = status_of(alloysmith, toy_run)["best"]
    assert isinstance(summary, dict)
    assert best == pytest.approx(summary["value"])


def test_exported_table_with_failures(alloysmith: CommandLine, toy_config: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "failing"
    fault = "oracle.faults=[{effect: left_phase, fraction: 0.4}]"
    assert alloysmith("run", toy_config, "--run-dir", run_dir, "--set", fault, "--quiet").code == 0
    status = status_of(alloysmith, run_dir)
    assert alloysmith("export", run_dir, "-o", tmp_path / "a.csv").code == 0
    assert alloysmith("export", run_dir, "-o", tmp_path / "b.csv", "--with-failed").code == 0
    with (tmp_path / "a.csv").open() as a, (tmp_path / "b.csv").open() as b:
        labelled, everything = list(csv.DictReader(a)), list(csv.DictReader(b))
    assert len(everything) == 12
    assert len(labelled) == status["n_labels"] < 12
    assert {row["failure"] for row in everything} == {"", "left_phase"}
    assert all(sum(float(row[f"fraction_{e}"]) for e in ("Ni", "Fe", "Cr")) == pytest.approx(1.0) for row in labelled)


def test_the_best_as_files(alloysmith: CommandLine, toy_run: Path, tmp_path: Path) -> None:
    assert alloysmith("export", toy_run, "-o", tmp_path / "best", "--best", 3, "--each", "vasp").code == 0
    files = sorted((tmp_path / "best").iterdir())
    assert len(files) == 3
    assert all(len(ase.io.read(file, format="vasp")) == 16 for file in files)
    assert alloysmith("export", toy_run, "-o", tmp_path / "one.vasp").code == 0
    first, alone = ase.io.read(files[0], format="vasp"), ase.io.read(tmp_path / "one.vasp", format="vasp")
    assert first.get_chemical_formula() == alone.get_chemical_formula()


def test_report_with_a_baseline(alloysmith: CommandLine, toy_config: Path, toy_run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert alloysmith("run", toy_config, "-d", other, "--set", "name=rival", "--set", "seed=9", "--quiet").code == 0
    ended = alloysmith("report", toy_run, "--baseline", other)
    assert ended.code == 0
    page = (toy_run / "report.html").read_text()
    assert "rival" in page
    assert "toy" in page


def test_plan_spends_nothing_and_measures(alloysmith: CommandLine, toy_config: Path, tmp_path: Path) -> None:
    two_workers = "execution={executor: process_pool, n_workers: 2}"
    ended = alloysmith("plan", toy_config, "--set", "oracle.delay_s=0.02", "--set", two_workers)
    assert ended.code == 0
    assert "16 sites" in ended.out
    assert "measured" in ended.out
    assert ended.out.count("labelled") == 4
    assert not list(tmp_path.glob("*/events.jsonl"))
    assert "hint" in alloysmith("plan", toy_config, "--no-trial").out
    moves = "generators.search={kind: portfolio, members: {a: {kind: genetic}, b: {kind: random}}}"
    assert "trainings" not in alloysmith("plan", "nifecr_portfolio", "--no-trial", "--set", moves).out
    assert "trainings of search" in " ".join(alloysmith("plan", "nifecr_portfolio", "--no-trial").out.split())
    learning = alloysmith("plan", "nifecr_pcdvae", "--no-trial")
    assert "the trainings of search, which may take longer than all else" in " ".join(learning.out.split())


def test_counting_occupations() -> None:
    assert count_occupations([0, 0], [4, 4], 4) == (5, 2**4)
    assert count_occupations([0, 0, 0], [6, 6, 6], 6) == (28, 3**6)
    assert count_occupations([1, 1], [3, 3], 4) == (3, 14)


def test_validate_prints_what_it_resolves_to(alloysmith: CommandLine, toy_config: Path) -> None:
    assert "is valid" in alloysmith("validate", toy_config).out
    resolved = yaml.safe_load(alloysmith("validate", toy_config, "--resolved", "--set", "seed=11").out)
    assert resolved["seed"] == 11
    assert resolved["execution"]["mode"] == "synchronous"


def test_the_schema_names_every_section(alloysmith: CommandLine, tmp_path: Path) -> None:
    schema = json.loads(alloysmith("schema").out)
    assert set(TOY) <= set(schema["properties"])
    assert alloysmith("schema", "-o", tmp_path / "schema.json").code == 0
    assert json.loads((tmp_path / "schema.json").read_text()) == schema


def test_init_writes_a_configuration_that_is_valid(alloysmith: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    assert alloysmith("init", folder).code == 0
    assert load_config(folder / "campaign.yaml").budget.n_evaluations > 0
    assert json.loads((folder / "campaign.schema.json").read_text())["properties"]
    again = alloysmith("init", folder)
    assert again.code == 2
    assert "exists already" in again.err


@pytest.mark.parametrize(
    "name",
    [n for n in shipped_configs() if "/" not in n and not n.startswith("learn_") and "_pipeline" not in n],
)
def test_shipped_campaigns_are_valid_by_name(name: str, alloysmith: CommandLine) -> None:
    ended = alloysmith("validate", name)
    assert ended.code == 0, ended.err
