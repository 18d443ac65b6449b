"""The pipeline from random orderings to its tables; killed at any instant, it ends with the same files."""

from __future__ import annotations

import csv
import os
import random
import shutil
import signal
from collections import Counter
from multiprocessing import get_context
from pathlib import Path
from typing import get_args

import numpy as np
import orjson
import pytest
from alloysmith.errors import ConfigError, StructureError
from alloysmith.generators.screening import ENERGY, FAULT, limits_of
from alloysmith.generators.seen import structure_key
from alloysmith.loop.cli.app import run_command_line
from alloysmith.loop.cli.arguments import shipped_configs
from alloysmith.loop.errors import RunDirectoryError
from alloysmith.loop.pipeline.config import PipelineDataSettings, load_pipeline_config
from alloysmith.loop.pipeline.data import CALLS, START, VALUES, random_orderings, splits
from alloysmith.loop.pipeline.generation import MODEL, OPTIMIZATION, STEP
from alloysmith.loop.pipeline.pipeline import PipelineEnd, run_pipeline
from alloysmith.loop.pipeline.results import Best, best_line
from alloysmith.loop.pipeline.screening import DRAWN_ENERGY, IS_LABELLED
from alloysmith.loop.pipeline.site import SPLIT, PipelineFiles, Stage
from alloysmith.loop.rounds.endings import LearningError
from alloysmith.oracles.base import Request
from alloysmith.structures.files import read_structures, write_structures
from alloysmith.tests.pipelines import SMALL, run_and_exit, small_config
from ase import Atoms

NAME = "bulk_modulus_gpa"


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[PipelineFiles, PipelineEnd]:
    """A pipeline that was brought to its end."""
    folder = tmp_path_factory.mktemp("pipeline") / "run"
    end = run_pipeline(small_config(), folder)
    assert end.exit_code == 0
    return PipelineFiles(folder), end


def formula(atoms: Atoms) -> str:
    return str(atoms.symbols.formula.format("hill"))


def read_table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.with_suffix(".csv").read_text().splitlines()))


def test_random_orderings_are_of_all_compositions_in_all_phases_and_differ() -> None:
    config = small_config()
    rows = random_orderings(config)
    counts = Counter((formula(row), row.info["phase"]) for row in rows)
    assert len(counts) == 10
    assert set(counts.values()) == {2}
    space = config.system.space()
    keys = {structure_key(*space.locate(row)) for row in rows}
    assert len(keys) == len(rows)


def test_a_split_by_composition_keeps_compositions_together() -> None:
    rows = [Atoms(f"Ni{k}Fe{10 - k}") for k in range(1, 10) for _ in range(4)]
    settings = PipelineDataSettings(compositions=("NiFe",), validation_fraction=0.2, test_fraction=0.2)
    found = splits(rows, settings, seed=3)
    of_formula: dict[str, set[str]] = {}
    for row, split in zip(rows, found, strict=True):
        of_formula.setdefault(formula(row), set()).add(split)
    assert all(len(parts) == 1 for parts in of_formula.values())
    assert Counter(found) == {"train": 20, "validation": 8, "test": 8}
    assert splits(rows, settings, seed=4) != found


def test_a_random_split_does_not() -> None:
    rows = [Atoms("NiFe") for _ in range(50)]
    settings = PipelineDataSettings(compositions=("NiFe",), split_by="random", validation_fraction=0.0)
    assert Counter(splits(rows, settings, seed=0)) == {"train": 41, "test": 9}
    with pytest.raises(StructureError, match="cannot be divided"):
        splits(rows, settings.model_copy(update={"split_by": "composition"}), seed=0)


def test_compositions_in_cells_of_two_sizes_are_one() -> None:
    rows = [Atoms("Ni2Fe2"), Atoms("NiFe"), Atoms("Ni3Fe"), Atoms("Fe3Ni")]
    settings = PipelineDataSettings(compositions=("NiFe",), validation_fraction=0.3, test_fraction=0.3)
    for seed in range(5):
        assert len(set(splits(rows, settings, seed)[:2])) == 1


def test_searches_improve_their_starts_and_keep_composition_phase_and_part(
    ended: tuple[PipelineFiles, PipelineEnd],
) -> None:
    files, _ = ended
    known = read_structures(files.random)
    found = read_structures(files.local_search)
    n_of = Counter(row.info[SPLIT] for row in known if SPLIT in row.info)
    assert Counter(row.info[SPLIT] for row in found) == {part: max(1, round(0.3 * n)) for part, n in n_of.items()}
    improved = 0
    for row in found:
        start = known[row.info[START]]
        assert (formula(row), row.info["phase"], row.info[SPLIT]) == (
            formula(start),
            start.info["phase"],
            start.info[SPLIT],
        )
        values = np.asarray(row.info[VALUES])
        assert len(values) == 3
        assert (np.diff(values) >= 0.0).all()
        assert (values[0], values[-1]) == (start.info[NAME], row.info[NAME])
        assert row.info[CALLS] == 6
        improved += values[-1] > values[0]
    assert improved > 0


def test_labels_in_files_are_those_of_the_oracle(ended: tuple[PipelineFiles, PipelineEnd]) -> None:
    files, _ = ended
    oracle = small_config().oracle.build()
    for given, row in list(zip(random_orderings(small_config()), read_structures(files.random), strict=True))[:3]:
        label = oracle.evaluate(Request("again", given, given.info["phase"]))
        assert {name: row.info[name] for name in label.values} == pytest.approx(label.values, rel=1e-9)
        np.testing.assert_allclose(row.positions, label.atoms.positions, atol=1e-9)
    rows = read_structures(files.local_search)[:3]
    rows += [row for row in read_structures(files.labelled_drafts) if FAULT not in row.info][:3]
    for row in rows:  # relaxed already
        assert oracle.evaluate(Request("again", row)).values[ENERGY] == pytest.approx(row.info[ENERGY], abs=1e-4)
    oracle.close()


def test_models_learn_from_their_parts_only(ended: tuple[PipelineFiles, PipelineEnd]) -> None:
    files, _ = ended
    for name in ("random", "local_search"):
        facts = orjson.loads(files.model_facts(name).read_bytes())
        for part, split in (("training", "train"), ("held out", "validation")):
            assert facts["errors"][part]["n"] == len(files.data(name, split))
    assert len(files.data("local_search", "train")) > len(files.data("random", "train"))
    assert not list(files.models.glob("*.training*"))


def test_drafts_start_from_each_test_structure_and_are_screened(ended: tuple[PipelineFiles, PipelineEnd]) -> None:
    files, _ = ended
    known, drafts = read_structures(files.random), read_structures(files.labelled_drafts)
    tests = [k for k, row in enumerate(known) if row.info.get(SPLIT) == "test"]
    wanted = [(m, "published", s, k) for m in ("random", "local_search") for s in (5, 40) for k in tests]
    assert [tuple(d.info[key] for key in (MODEL, OPTIMIZATION, STEP, START)) for d in drafts] == wanted
    assert any(FAULT not in d.info for d in drafts)
    for draft in drafts:
        limits = limits_of(files.data(draft.info[MODEL], "train"))
        if FAULT not in draft.info:
            assert draft.info[IS_LABELLED]
            assert draft.info[ENERGY] <= limits.energy_ev_per_atom + 1e-6
            assert (draft.info[DRAWN_ENERGY] - draft.info[ENERGY]) * len(draft) <= 10.0
        elif not draft.info[IS_LABELLED]:
            assert NAME not in draft.info


def test_the_tables_are_of_the_files(ended: tuple[PipelineFiles, PipelineEnd]) -> None:
    files, end = ended
    known, drafts = read_structures(files.random), read_structures(files.labelled_drafts)
    rows = read_table(files.table_3)
    initial = [row.info[NAME] for row in known if row.info.get(SPLIT) == "test"]
    assert (rows[0]["model"], int(rows[0]["correct"])) == ("initial", len(initial))
    assert float(rows[0][f"mean_{NAME}"]) == pytest.approx(np.mean(initial), abs=0.006)
    for row in rows[1:]:
        mine = [d for d in drafts if (d.info[MODEL], str(d.info[STEP])) == (row["model"], row["step"])]
        values = [d.info[NAME] for d in mine if FAULT not in d.info]
        assert (int(row["drawn"]), int(row["correct"])) == (len(mine), len(values))
        if values:
            assert float(row[f"best_{NAME}"]) == pytest.approx(max(values), abs=0.006)
            shuffled = [d.info[f"shuffled_{NAME}"] for d in mine if FAULT not in d.info]
            assert float(row[f"mean_shuffled_{NAME}"]) == pytest.approx(np.mean(shuffled), abs=0.006)
            assert shuffled != values
            top = np.sort(values)[-10:]
            assert float(row[f"mean_top_10_{NAME}"]) == pytest.approx(top.mean(), abs=0.006)
    for row in read_table(files.table_a1):
        reference = files.random if row["of"] == "random" else files.local_search
        train = [r.info[NAME] for r in read_structures(reference) if r.info.get(SPLIT) == "train"]
        threshold = np.percentile(train, int(row["percentile"]))
        assert float(row[NAME]) == pytest.approx(threshold, abs=0.006)
        mine = [d for d in drafts if d.info[MODEL] == row["model"] and FAULT not in d.info]
        above = {d.info[START] for d in mine if d.info[NAME] > threshold}
        assert float(row["starts_above_percent"]) == pytest.approx(100.0 * len(above) / len(initial), abs=0.06)
    findings = end.findings
    assert findings is not None
    assert findings.calls == {
        "random": 20,
        "local_search": 6 * len(findings.searched),
        "drafts": sum(d.info[IS_LABELLED] for d in drafts),
        "shuffled": sum(FAULT not in d.info for d in drafts),
    }


def test_the_best_is_told_against_the_data(ended: tuple[PipelineFiles, PipelineEnd]) -> None:
    findings = ended[1].findings
    assert findings is not None
    low, high = sorted(findings.best[name].value for name in ("local_search", "random"))
    is_search_best = findings.best["local_search"].value == high
    for value, of_low, of_high in (
        (high + 1.0, "above", "above"),
        (low - 1.0, "below", "below"),
        (high, "above", "as good as"),
        (0.5 * (low + high), "above", "below"),
    ):
        findings.best["drafts"] = Best(value, "model x, published, step 5", Atoms("Ni"))
        line = best_line(findings, "GPa")
        of_search, of_random = (of_high, of_low) if is_search_best else (of_low, of_high)
        assert f"GPa (model x, published, step 5); {of_search} the best of the local searches" in line
        assert f"and {of_random} that of the random orderings" in line
    del findings.best["drafts"]
    assert "no structure" in best_line(findings, "GPa")


def test_the_command_goes_on_where_files_end(
    ended: tuple[PipelineFiles, PipelineEnd], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    whole, _ = ended
    shutil.copytree(whole.run_dir, tmp_path / "run")
    files = PipelineFiles(tmp_path / "run")
    for path in (files.labelled_drafts, files.report, files.table_3.with_suffix(".csv"), files.local_search):
        path.unlink()
    config = tmp_path / "pipeline.yaml"
    config.write_bytes(orjson.dumps(SMALL))  # JSON is YAML
    command = ["pipeline", str(config), "--run-dir", str(files.run_dir)]
    assert run_command_line(command) == 0
    out = capsys.readouterr().out
    for path in (files.labelled_drafts, files.table_3.with_suffix(".csv"), files.local_search):
        assert path.read_bytes() == (whole.run_dir / path.name).read_bytes()
    assert f"labels: 20 of random orderings, {6 * len(read_structures(files.local_search))} in local searches" in out
    assert "best drawn:" in out
    assert not list(files.run_dir.glob("*.journal"))
    document = files.report.read_text()
    files.report.unlink()
    assert run_command_line(["report", str(files.run_dir)]) == 0
    assert files.report.read_text() == document
    for text in ("Steps of the optimization", "Starts above percentiles", "Best by composition", "Local search"):
        assert text in document
    assert run_command_line([*command, "--set", "seed=2"]) == 1
    assert "holds a pipeline of another configuration; only name and execution may change" in capsys.readouterr().err


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunDirectoryError, match="is not empty and holds no pipeline"):
        run_pipeline(small_config(), tmp_path)


def test_an_unfinished_pipeline_has_no_report(
    ended: tuple[PipelineFiles, PipelineEnd], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.copy(ended[0].random, tmp_path)
    assert run_command_line(["report", str(tmp_path)]) == 1
    assert "is not finished" in capsys.readouterr().err


def test_a_signal_ends_it_in_good_order(tmp_path: Path) -> None:
    def interrupt(stage: str, detail: str) -> None:
        if stage == "local search" and " 2 of " in detail:
            os.kill(os.getpid(), signal.SIGINT)

    end = run_pipeline(small_config(), tmp_path / "run", on_progress=interrupt)
    assert (end.reason, end.exit_code, end.findings) == ("interrupted", 130, None)
    files = PipelineFiles(tmp_path / "run")
    assert files.random.is_file()
    assert not files.local_search.exists()


def test_a_training_that_fails_is_told(ended: tuple[PipelineFiles, PipelineEnd], tmp_path: Path) -> None:
    config = small_config(training={"max_epochs": 30, "learning_rate": 1e9, "max_rollbacks": 0})
    files = PipelineFiles(tmp_path)
    (tmp_path / "config.json").write_text(config.model_dump_json())
    for path in (ended[0].random, ended[0].local_search):
        shutil.copy(path, tmp_path)
    with pytest.raises(LearningError, match=r"training: .*diverge"):
        run_pipeline(config, tmp_path)
    assert not files.drafts.exists()


def test_drafts_that_all_fail_leave_empty_rows(ended: tuple[PipelineFiles, PipelineEnd], tmp_path: Path) -> None:
    shutil.copytree(ended[0].run_dir, tmp_path / "run")
    files = PipelineFiles(tmp_path / "run")
    files.labelled_drafts.unlink()
    drafts = read_structures(files.drafts)
    for draft in drafts:
        draft.positions[:] = 0.1
    write_structures(files.drafts, drafts)
    findings = run_pipeline(small_config(), files.run_dir).findings
    assert findings is not None
    assert findings.calls["drafts"] == 0
    assert all(row.n_correct == 0 for row in findings.table_3[1:])
    assert "atoms on top of each other" in files.report.read_text()


@pytest.mark.parametrize("name", [name for name in shipped_configs() if "pipeline" in name])
def test_shipped_configurations(name: str) -> None:
    config = load_pipeline_config(shipped_configs()[name])
    assert set(config.optimizations) == {"published", "trust_region"}
    assert config.optimizations["published"].optimization.n_heads == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("oracle={kind: pair_model}", "screened by energies"),
        ("objective.property=shear_modulus_gpa", "gives no shear_modulus_gpa"),
        ("data={}", "name compositions, or a grid_step"),
        ("training.max_cpu_s=5", "depend on the machine"),
        ("models=[random, random]", "name each model once"),
        ("data.test_fraction=0.9", "leave nothing to learn from"),
        ("data.compositions=[Cu]", "Cu"),
    ],
)
def test_what_contradicts_is_refused(change: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_bytes(orjson.dumps(SMALL))
    with pytest.raises((ConfigError, StructureError), match=message):
        load_pipeline_config(path, [change])


@pytest.mark.slow
@pytest.mark.timeout(400)  # several processes, of which each has to import and to start LAMMPS
def test_killed_at_any_instant_it_ends_with_the_same_files(
    ended: tuple[PipelineFiles, PipelineEnd], tmp_path: Path
) -> None:
    whole, _ = ended
    rng = random.Random(0)
    config, files = small_config(), PipelineFiles(tmp_path / "run")
    context = get_context("forkserver")
    context.set_forkserver_preload(["alloysmith.tests.pipelines"])  # imported once, not by each child
    ends = []
    for stage in (*get_args(Stage), None):
        # soon enough for a fast machine not to be through with the stage, or with the next one
        child = context.Process(target=run_and_exit, args=(config, files.run_dir, stage, rng.uniform(0.0, 0.05)))
        child.start()
        child.join()
        ends.append(child.exitcode)
    assert ends.count(-signal.SIGKILL) >= len(ends) - 3
    assert ends[-1] == 0
    assert_same_files(files, whole)


@pytest.mark.slow
@pytest.mark.timeout(400)  # several processes, of which each has to import and to start LAMMPS
def test_two_workers_make_the_same_files(ended: tuple[PipelineFiles, PipelineEnd], tmp_path: Path) -> None:
    config = small_config(execution={"executor": "process_pool", "n_workers": 2})
    assert run_pipeline(config, tmp_path / "run").exit_code == 0
    assert_same_files(PipelineFiles(tmp_path / "run"), ended[0])


def assert_same_files(files: PipelineFiles, whole: PipelineFiles) -> None:
    names = {path.relative_to(files.run_dir) for path in files.run_dir.rglob("*")}
    assert names == {path.relative_to(whole.run_dir) for path in whole.run_dir.rglob("*")}
    for name in names:
        of_times = {"config.json", "lock", "report.html", "random.json", "local_search.json", "models"}
        if name.name not in of_times:
            assert (files.run_dir / name).read_bytes() == (whole.run_dir / name).read_bytes(), name
