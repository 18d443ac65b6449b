"""Studies from end to end, in this process: configurations that are wrong, results, pruning, resuming."""

from __future__ import annotations

import itertools
import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import ray
import yaml
from alloysmith.agents.optuna_study import OptunaStudy, TrialRecord
from alloysmith.errors import ConfigError
from alloysmith.loop.config import load_settings
from alloysmith.loop.errors import RunDirectoryError
from alloysmith.loop.fit_changes import fit_config
from alloysmith.loop.fitting import FitConfig, fit_surrogate
from alloysmith.loop.potential_fitting import PotentialFit, PotentialFitConfig, fit_potential
from alloysmith.loop.report.study import study_report
from alloysmith.loop.studies.config import StudyConfig, load_study_config
from alloysmith.loop.studies.results import best_trials, compromise
from alloysmith.loop.studies.study import n_trained, run_study, study_trials
from alloysmith.loop.studies.trial import potential_figures
from alloysmith.structures.files import read_structures, write_structures
from alloysmith.structures.settings import SystemSettings
from alloysmith.surrogates.base import SurrogateError
from alloysmith.tests.studies import STUDY, write_study
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

SPACE = STUDY["space"]
FORCE = {"metric": "validation_force_mae"}


def _rows(trials: tuple[TrialRecord, ...] | list[TrialRecord]) -> list[tuple[int, Any, tuple[float, ...]]]:
    done = [trial for trial in trials if trial.condition == "finished"]
    return sorted((trial.index, repr(sorted(trial.parameters.items())), trial.values) for trial in done)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {"potential.n_interval": {"int": [8, 40]}}}, r"space\.potential\.n_interval: .*did you mean n_int"),
        ({"space": {"potentail.n_intervals": {"int": [8, 40]}}}, r"did you mean potential\?"),
        ({"space": {"potential.n_intervals": {"int": [1, 40]}}}, r"greater than or equal to 4"),
        ({"space": {"potential.n_intervals": {"float": [4.5, 6.5]}}}, r"valid integer"),
        ({"space": {"potential.embedding": {"categorical": ["smooth", "splin"]}}}, r"'splin'.*did you mean spline"),
        ({"space": {"constraints.0.weight": {"float": [0, 1]}}}, r"constraints\.0 is not there"),
        ({"space": {"elements.Cu": {"int": [0, 1]}}}, r"elements\.Cu is not there"),
        ({"space": {"seed": {"categorical": []}}}, r"two values or more"),
        ({"space": {"seed": {"interval": [1, 2]}}}, r"space\.seed\.interval: unknown key"),
        ({"space": {}}, r"space: .*at least 1"),
        ({"objectives": [{"metric": "validation_forces_mae"}]}, r"did you mean validation_force_mae\?"),
        ({"objectives": [{"metric": "test_force_mae"}]}, r"part of the search; take validation_force_mae"),
        ({"objectives": [FORCE, FORCE]}, r"given twice"),
        ({"sampler": {"kind": "tpee"}}, r"'tpee' is not one of tpe, gp"),
        ({"sampler": {"kind": "grid"}}, r"a grid needs a `step` for training\.optimizer\.learning_rate"),
        ({"sampler": {"kind": "cmaes"}, "objectives": [FORCE, {"metric": "cpu_s"}]}, r"cmaes takes one objective"),
        ({"pruner": {"kind": "median"}, "objectives": [FORCE, {"metric": "cpu_s"}]}, r"cannot be pruned; use none"),
        ({"pruner": {"kind": "median"}, "objectives": [{"metric": "cpu_s"}]}, r"running trials give no cpu_s"),
        (
            {"space": {"training.loss.force": {"float": [0.1, 9.0]}}, "objectives": [{"metric": "score"}]},
            r"weighed by training\.loss\.force",
        ),
        ({"execution": {"executor": "in_process", "n_workers": 2}}, r"has one worker"),
        ({"fit": {**STUDY["fit"], "data": None}}, r"fit\.data: is missing"),
        ({"fit": {**STUDY["fit"], "data": {"files": ["a.xyz"], "validation_fraction": 0}}}, r"set a share"),
        ({"fit": {**STUDY["fit"], "trianing": {}}}, r"did you mean training\?"),
    ],
)
def test_what_cannot_be_studied_is_named_before_anything_is_fitted(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({**STUDY, **changes}))
    with pytest.raises(ConfigError, match=message):
        load_study_config(path)


def test_the_fit_may_be_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "fits").mkdir()
    (tmp_path / "fits" / "copper.yaml").write_text(yaml.safe_dump(STUDY["fit"]))
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({**STUDY, "fit": "fits/copper.yaml"}))
    config = load_study_config(path, ["fit.training.max_epochs=9", "n_trials=2"])
    assert config.fit.data is not None
    assert config.fit.data.base_dir == tmp_path / "fits"
    assert (config.fit.training.max_epochs, config.n_trials) == (9, 2)
    other = load_study_config(path, data_files=[tmp_path / "mine.xyz"])
    assert other.fit.data is not None
    assert [file.path for file in other.fit.data.files] == [str(tmp_path / "mine.xyz")]
    path.write_text(yaml.safe_dump({**STUDY, "fit": "fits/coper.yaml"}))
    with pytest.raises(ConfigError, match=r"did you mean .*copper\.yaml"):
        load_study_config(path)


def test_a_study_that_was_killed_before_its_configuration_was_written_begins(tmp_path: Path) -> None:
    config, folder = load_study_config(write_study(tmp_path), ["n_trials=1"]), tmp_path / "run"
    folder.mkdir()
    # as a kill leaves it between the lock and the first whole file
    (folder / "lock").write_text("")
    (folder / ".writing-17-resolved.yaml").write_text("name: cop")
    assert run_study(config, folder).reason == "n_trials"
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "writing.txt").write_text("mine")
    with pytest.raises(RunDirectoryError, match="is not empty"):
        run_study(config, tmp_path / "foreign")


def test_places_in_lists_and_missing_sections_can_be_searched() -> None:
    fit = PotentialFitConfig.model_validate(
        {
            **STUDY["fit"],
            "training": {},
            "constraints": [
                {"kind": "cohesive", "energy_ev": -3.5, "crystal": {"lattice": "fcc", "formula": "Cu", "a_ang": 3.6}}
            ],
        }
    )
    values = {"training.loss.energy": 3.0, "training.optimizer": {"kind": "lbfgs"}, "constraints.0.weight": 0.5}
    found = fit_config(fit, values)
    assert found.constraints[0].weight == 0.5
    assert found.training.loss.energy == 3.0
    assert found.training.optimizer is not None
    assert found.training.optimizer.kind == "lbfgs"
    with pytest.raises(ConfigError, match="inner_ang must be below"):
        fit_config(fit, {"potential.inner_ang": 3.9})


def test_a_study_repeats_itself_and_goes_on(tmp_path: Path) -> None:
    config = load_study_config(write_study(tmp_path))
    whole = run_study(config, tmp_path / "whole")
    assert (whole.reason, whole.exit_code, len(whole.trials)) == ("n_trials", 0, 4)

    fewer = config.model_copy(update={"n_trials": 2})
    run_study(fewer, tmp_path / "parts")
    told: list[TrialRecord] = []
    parts = run_study(config, tmp_path / "parts", told.append)
    assert _rows(parts.trials) == _rows(whole.trials)
    assert [(trial.number, trial.condition) for trial in told] == [
        (2, "running"),
        (2, "finished"),
        (3, "running"),
        (3, "finished"),
    ]
    best = load_settings(tmp_path / "whole" / "best.yaml", PotentialFitConfig)
    (winner,) = best_trials(config, whole.trials)
    assert best == fit_config(config.fit, winner.parameters)
    assert winner.values[0] == min(trial.values[0] for trial in whole.trials)
    assert winner.figures["validation_force_mae"] == winner.values[0]
    document = study_report(config, study_trials(config, tmp_path / "whole"), tmp_path / "whole")
    for text in ("History", "All settings", "Running trials", "Best trials", "validation_force_mae"):
        assert text in document

    other = config.model_copy(update={"seed": 6})
    with pytest.raises(RunDirectoryError, match="another study"):
        run_study(other, tmp_path / "whole")
    with pytest.raises(RunDirectoryError, match="holds no study"):
        run_study(config, tmp_path)


def test_several_objectives_end_in_a_front(tmp_path: Path) -> None:
    space = {**SPACE, "potential.functions": {"categorical": ["zjw04", "spline"]}}
    objectives = [FORCE, {"metric": "n_parameters"}]
    path = write_study(tmp_path, space=space, objectives=objectives, n_trials=6)
    config = load_study_config(path)
    end = run_study(config, tmp_path / "study")
    front = best_trials(config, end.trials)
    for a in front:
        assert not any(
            all(x <= y for x, y in zip(b.values, a.values, strict=True)) and b.values != a.values for b in end.trials
        )
    names = {path.name for path in (tmp_path / "study" / "pareto").iterdir()}
    assert names == {f"trial-{trial.number:04d}.yaml" for trial in front}
    assert "Pareto front" in study_report(config, end.trials, tmp_path / "study")


def test_the_front_and_its_compromise() -> None:
    config = StudyConfig.model_validate(
        {**STUDY, "objectives": [FORCE, {"metric": "n_parameters", "direction": "maximize"}]}
    )
    values = [(1.0, 10.0), (2.0, 100.0), (2.1, 99.0), (9.0, 101.0), (1.0, 10.0)]
    trials = [TrialRecord(k, k, "finished", {}, value) for k, value in enumerate(values)]
    trials.append(TrialRecord(9, 9, "pruned", {}, ()))
    front = best_trials(config, trials)
    assert [trial.number for trial in front] == [0, 4, 1, 3]
    assert compromise(config, front).number == 1


def test_pruning_ends_trials_early(tmp_path: Path) -> None:
    space = {"training.optimizer.learning_rate": {"float": [1e-5, 10.0], "log": True}}
    fit = {**STUDY["fit"], "training": {"max_epochs": 10, "optimizer": {"kind": "adam"}, "patience": None}}
    path = write_study(
        tmp_path, fit=fit, space=space, n_trials=8, pruner={"kind": "median", "n_startup_trials": 2}, seed=3
    )
    end = run_study(load_study_config(path), tmp_path / "study")
    pruned = [trial for trial in end.trials if trial.condition == "pruned"]
    finished = [trial for trial in end.trials if trial.condition == "finished"]
    assert pruned
    assert {len(trial.steps) for trial in finished} == {11}
    assert all(len(trial.steps) < 11 for trial in pruned)
    assert len(pruned) + len(finished) == 8
    assert all(trial.figures["n_steps"] < finished[0].figures["n_steps"] for trial in pruned)


def test_a_trial_that_diverges_and_goes_on_has_every_step(tmp_path: Path) -> None:
    space = {"training.optimizer.learning_rate": {"categorical": [0.01, 10.0]}}
    fit = {**STUDY["fit"], "training": {"max_epochs": 10, "optimizer": {"kind": "adam"}, "patience": None}}
    path = write_study(tmp_path, fit=fit, space=space, n_trials=2, sampler={"kind": "grid"})
    end = run_study(load_study_config(path), tmp_path / "study")
    assert [trial.condition for trial in end.trials] == ["finished"] * 2
    assert [sorted(trial.steps) for trial in end.trials] == [list(range(1, 12))] * 2
    _, wild = end.trials
    values = [wild.steps[k] for k in range(1, 12)]
    n_returns = sum(before == after for before, after in itertools.pairwise(values))
    assert n_returns >= 3  # a divergence is judged by the weights that it returned to


def test_an_answer_to_the_last_step_prunes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_study_config(write_study(tmp_path, pruner={"kind": "median"}, n_trials=2))
    told: list[int] = []

    def stop_at_the_last(study: OptunaStudy, number: int, step: int, value: float) -> bool:
        told.append(step)
        return step < (4 if number == 0 else 3)

    monkeypatch.setattr(OptunaStudy, "report", stop_at_the_last)
    end = run_study(config, tmp_path / "study")
    assert [trial.condition for trial in end.trials] == ["finished", "pruned"]
    assert told == [1, 2, 3, 4, 1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["process_pool", pytest.param("ray", marks=pytest.mark.ray)])
def test_trials_in_other_processes_are_pruned_while_they_run(executor: str, tmp_path: Path) -> None:
    # good ones first: whichever ends first, those that diverge are compared with two of them
    space = {"training.optimizer.learning_rate": {"categorical": [1e-3, 1.2e-3, 1.4e-3, 1.6e-3, 10.0, 5.0]}}
    fit = {**STUDY["fit"], "training": {"max_epochs": 10, "optimizer": {"kind": "adam"}, "patience": None}}
    pruner = {"kind": "median", "n_startup_trials": 2}
    # two trials share what Ray is told is a GPU; PyTorch finds none there and takes the CPU
    execution = {"executor": executor, "n_workers": 2, "ray": {"gpus_per_worker": 0.5}}
    grid = {"kind": "grid"}
    path = write_study(tmp_path, fit=fit, space=space, n_trials=6, sampler=grid, pruner=pruner, execution=execution)
    if executor == "ray":
        ray.init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
    try:
        end = run_study(load_study_config(path), tmp_path / "study")
    finally:
        ray.shutdown()
    assert [trial.condition for trial in end.trials[:2]] == ["finished"] * 2
    assert [trial.condition for trial in end.trials[-2:]] == ["pruned"] * 2
    for trial in end.trials:
        assert trial.condition in ("finished", "pruned")
        assert (len(trial.steps) < 11) is (trial.condition == "pruned")
        assert sorted(trial.steps) == list(range(1, len(trial.steps) + 1))


def test_other_tools_of_optuna_read_the_journal(tmp_path: Path) -> None:
    config = load_study_config(write_study(tmp_path))
    end = run_study(config, tmp_path / "study")
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "study" / "journal.log")))
    (name,) = optuna.get_all_study_names(storage)
    study = optuna.load_study(study_name=name, storage=storage)
    assert study.metric_names == ["validation_force_mae"]
    assert study.best_value == min(trial.values[0] for trial in end.trials)
    assert set(study.best_params) == set(config.space)
    assert [trial.user_attrs["figures"]["n_parameters"] for trial in study.trials] == [
        trial.figures["n_parameters"] for trial in end.trials
    ]


def test_a_trial_that_fails_is_not_the_end_and_many_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_study_config(write_study(tmp_path, max_failures_in_a_row=3))

    def fail(*_: object, **__: object) -> object:
        raise SurrogateError("the training diverges")

    with monkeypatch.context() as patch:
        patch.setattr("alloysmith.loop.studies.trial.fit_potential", fail)
        end = run_study(config, tmp_path / "study")
    assert (end.reason, end.exit_code) == ("failures", 3)
    assert "3 trials failed one after the other, the last: not_converged: the training diverges" in end.message
    again = run_study(config, tmp_path / "study")
    assert [trial.condition for trial in again.trials] == ["failed"] * 3 + ["finished"]


def test_settings_that_contradict_each_other_fail_their_trial(tmp_path: Path) -> None:
    space = {"potential.inner_ang": {"categorical": [1.5, 3.9]}}
    path = write_study(tmp_path, space=space, n_trials=2, sampler={"kind": "grid"})
    end = run_study(load_study_config(path), tmp_path / "study")
    assert [trial.condition for trial in end.trials] == ["finished", "failed"]
    assert "inner_ang must be below" in end.trials[1].message


def test_a_signal_ends_it_in_good_order(tmp_path: Path) -> None:
    config = load_study_config(write_study(tmp_path))
    hurried = config.model_copy(update={"execution": config.execution.model_copy(update={"grace_s": 0.0})})

    def interrupt(trial: TrialRecord) -> None:
        if trial.condition == "running" and trial.number == 1:
            signal.raise_signal(signal.SIGTERM)

    end = run_study(hurried, tmp_path / "study", interrupt)
    assert (end.reason, end.exit_code) == ("interrupted", 143)
    assert [trial.condition for trial in end.trials] == ["finished", "requeued", "waiting"]
    again = run_study(config, tmp_path / "study")
    assert _rows(again.trials) == _rows(run_study(config, tmp_path / "whole").trials)


def test_equal_settings_are_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = {"potential.embedding": {"categorical": ["smooth", "piecewise"]}}
    config = load_study_config(write_study(tmp_path, space=space, sampler={"kind": "random"}, n_trials=8))
    fitted: list[str] = []

    def counted(request: PotentialFitConfig, **more: Any) -> PotentialFit:
        fitted.append(request.model_dump_json())
        return fit_potential(request, **more)

    monkeypatch.setattr("alloysmith.loop.studies.trial.fit_potential", counted)
    run_study(config.model_copy(update={"n_trials": 5}), tmp_path / "study")
    end = run_study(config, tmp_path / "study")  # a session knows what earlier ones have trained
    assert len(fitted) == len(set(fitted)) == n_trained(end.trials) == 2
    by_number = {trial.number: trial for trial in end.trials}
    copies = [trial for trial in end.trials if trial.same_as is not None]
    assert len(copies) == 6
    for trial in copies:
        original = by_number[trial.same_as or 0]
        assert (trial.parameters, trial.values) == (original.parameters, original.values)
        assert trial.figures == original.figures


def test_a_fit_that_gives_no_number_is_recorded_and_the_study_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_study_config(write_study(tmp_path))
    calls: list[int] = []

    def sometimes(fit: PotentialFit) -> dict[str, float]:
        calls.append(1)
        return {**potential_figures(fit), **({"validation_force_mae": math.nan} if len(calls) == 2 else {})}

    monkeypatch.setattr("alloysmith.loop.studies.trial.potential_figures", sometimes)
    end = run_study(config, tmp_path / "study")
    assert [trial.condition for trial in end.trials] == ["finished", "failed", "finished", "finished"]
    assert end.trials[1].message == "the fit gave no finite validation_force_mae"
    document = study_report(config, end.trials, tmp_path / "study")
    assert "the fit gave no finite validation_force_mae" in document


def test_speed_size_and_cost_can_be_objectives(tmp_path: Path) -> None:
    metrics = ["validation_force_rmse", "md_us_per_atom_step", "n_parameters", "cpu_s"]
    path = write_study(
        tmp_path,
        space={"potential.functions": {"categorical": ["zjw04", "spline"]}},
        objectives=[{"metric": metric} for metric in metrics],
        md_speed={"cell": {"kind": "cubic", "repeat": [3, 3, 3]}, "cpu_s": 0.05},
        sampler={"kind": "grid"},
        n_trials=2,
    )
    end = run_study(load_study_config(path), tmp_path / "study")
    assert [trial.condition for trial in end.trials] == ["finished"] * 2
    for trial in end.trials:
        assert 0.1 < trial.values[1] < 100.0  # EAM runs natively
        nanoseconds = 86_400.0 / (trial.values[1] * 108e-6) * 2e-6
        assert trial.figures["md_ns_per_day"] == pytest.approx(nanoseconds)


@pytest.fixture(scope="module")
def crystals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled orderings: composition and the share of unlike neighbours along the list of sites."""
    space = SystemSettings.model_validate(
        {"elements": ["Ni", "Fe", "Cr"], "phases": ["fcc"], "cell": {"repeat": [2, 2, 2]}}
    ).space()
    rng = np.random.default_rng(2)
    rows = []
    for _ in range(24):
        occupation = space.random_occupation(rng, space.lattices[0])
        atoms = space.atoms(space.lattices[0], occupation)
        atoms.info["bulk_modulus_gpa"] = float(
            180.0 + 40.0 * np.mean(occupation == 0) - 30.0 * np.mean(occupation) ** 2
        )
        rows.append(atoms)
    path = tmp_path_factory.mktemp("crystals") / "labelled.extxyz"
    write_structures(path, rows)
    return path


def test_any_surrogate_can_be_studied(crystals: Path, tmp_path: Path) -> None:
    surrogates = [
        {"kind": "polynomial", "degree": 1},
        {"kind": "polynomial", "degree": 2},
        {"kind": "gaussian_process", "n_shells": 0, "has_chains": False},
    ]
    study = {
        "fit": {"surrogate": surrogates[0], "validation_folds": 4, "files": [str(crystals)]},
        "space": {"surrogate": {"categorical": surrogates}},
        "objectives": [{"metric": "validation_bulk_modulus_gpa_rmse"}],
        "pruner": {"kind": "median", "n_startup_trials": 1},
        "sampler": {"kind": "grid"},
        "n_trials": 3,
        "execution": {"executor": "in_process"},
    }
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    config = load_study_config(path)
    end = run_study(config, tmp_path / "study")
    assert {trial.condition for trial in end.trials} <= {"finished", "pruned"}
    assert next(sorted(trial.steps) for trial in end.trials if trial.condition == "finished") == [1, 2, 3, 4]
    (winner,) = best_trials(config, end.trials)
    assert winner.parameters["surrogate"] in surrogates[1:]
    best = load_settings(tmp_path / "study" / "best.yaml", FitConfig)
    assert best.surrogate.model_dump(exclude_unset=True) == winner.parameters["surrogate"]
    fit = fit_surrogate(best, read_structures(crystals))
    assert fit.errors["validation"]["bulk_modulus_gpa"].rmse == pytest.approx(winner.values[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation_folds": 0}, r"fit\.validation_folds: is 0, so there are no validation errors"),
        ({"files": []}, r"fit\.files: is missing; name the labelled structures"),
        ({"validation_fold": 3}, r"did you mean validation_folds"),
        ({"properties": ["energy_ev"]}, r"there is no figure validation_bulk_modulus_gpa_mae"),
    ],
)
def test_what_a_study_of_a_surrogate_lacks_is_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    fit = {"surrogate": {"kind": "polynomial"}, "validation_folds": 4, "files": ["a.extxyz"], **changes}
    study = {
        "fit": fit,
        "space": {"surrogate.degree": {"int": [1, 3]}},
        "objectives": [{"metric": "validation_bulk_modulus_gpa_mae"}],
        "n_trials": 3,
    }
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    with pytest.raises(ConfigError, match=message):
        load_study_config(path)
