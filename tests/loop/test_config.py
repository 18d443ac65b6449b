"""Configurations: what is accepted, and what is said about what is not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from alloysmith.errors import ConfigError
from alloysmith.loop.config import CampaignConfig, check_config, json_schema, load_config, load_settings
from alloysmith.oracles.settings import OracleSettings
from pydantic import ValidationError

Write = Callable[[str], Path]

GOOD = """\
name: tried
seed: 3
system:
  elements: [Ni, Fe, Cr]
  cell: {repeat: [2, 2, 2]}
oracle:
  kind: pair_model
objective:
  property: bulk_modulus_gpa
generators:
  search: {kind: genetic}
agent:
  kind: direct
  generator: search
budget:
  n_evaluations: 10
"""


def test_a_good_file_is_read(write_yaml: Write) -> None:
    config = load_config(write_yaml(GOOD))
    assert config.name == "tried"
    assert config.system.elements == ("Ni", "Fe", "Cr")
    assert config.execution.mode == "synchronous"
    assert CampaignConfig.model_validate(config.plain()) == config


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed: 3", "sed: 3", "line 2: sed: unknown key; did you mean seed?"),
        ("name: tried", "n_evaluations: 3", "n_evaluations: unknown key; did you mean budget.n_evaluations?"),
        ("n_evaluations: 10", "n_evaluation: 10", "budget.n_evaluation: unknown key; did you mean n_evaluations?"),
        ("n_evaluations: 10", "n_evaluations: 0", "line 16: budget.n_evaluations: got 0, should be greater than 0"),
        ("n_evaluations: 10", "n_evaluations: many", "budget.n_evaluations: got 'many', should be a valid integer"),
        ("kind: pair_model", "kind: pair_modle", "oracle.kind: 'pair_modle' is not one of"),
        ("kind: pair_model", "kind: pair_modle", "did you mean pair_model?"),
        ("kind: pair_model", "delay_s: 1", "line 6: oracle.kind: is missing; one of"),
        ("kind: pair_model", "kind: pair_model\n  delay: 1", "oracle.delay: unknown key; did you mean delay_s?"),
        ("{kind: genetic}", "{kind: genetic, populaton: 3}", "generators.search.populaton: unknown key"),
        ("bulk_modulus_gpa", "bulk_modulus", "gives no bulk_modulus; did you mean bulk_modulus_gpa?"),
        (
            "generator: search",
            "generator: serch",
            "agent.generator: there is no generator 'serch'; did you mean search?",
        ),
        ("[Ni, Fe, Cr]", "[Ni, Fe, Crr]", "line 3: system: unknown element 'Crr'"),
        ("[Ni, Fe, Cr]", "[Ni, Fe, Cr]\n  max_fraction: 0.2", "line 3: system: "),
        ("seed: 3", "seed: 3\nseed: 4", "seed is given twice, in lines 2 and 3"),
        ("seed: 3", "seed: [3", "is not YAML: line"),
        ("kind: direct\n  generator: search", "kind: bayesian\n  generators: [search]", "add `surrogate:`"),
        (
            "budget:",
            "execution: {executor: in_process, n_workers: 4}\nbudget:",
            "execution.n_workers: the in_process executor has one worker",
        ),
        ("budget:", "execution: {mode: sync}\nbudget:", "got 'sync', should be 'synchronous' or 'asynchronous'"),
        ("budget:", "failure_policy: {window: 100000}\nbudget:", "should be less than or equal to 1000"),
    ],
)
def test_what_is_wrong_is_said(write_yaml: Write, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config(write_yaml(GOOD.replace(old, new, 1)))


def test_everything_wrong_is_said_at_once(write_yaml: Write) -> None:
    text = GOOD.replace("seed: 3", "sed: 3").replace("n_evaluations: 10", "n_evaluations: -1").replace("genetic", "gen")
    with pytest.raises(ConfigError) as caught:
        load_config(write_yaml(text), ["execution.deadline_s=soon"])
    message = str(caught.value)
    assert "4 problems" in message
    for part in ("line 2: sed", "line 16: budget.n_evaluations", "generators.search.kind: 'gen'", "--set execution"):
        assert part in message


def test_union_errors_are_those_of_the_chosen_kind(write_yaml: Write) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write_yaml(GOOD.replace("kind: pair_model", "kind: pair_model\n  delay_s: x")))
    assert "\n" not in str(caught.value)
    assert "line 8: oracle.delay_s: got 'x'" in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words"])
def test_a_file_that_is_no_mapping_is_refused(write_yaml: Write, text: str) -> None:
    with pytest.raises(ConfigError, match="a configuration is a mapping"):
        load_config(write_yaml(text))


def test_a_missing_file_suggests_its_neighbour(write_yaml: Write) -> None:
    path = write_yaml(GOOD)
    with pytest.raises(ConfigError, match=r"does not exist; did you mean .*campaign\.yaml\?"):
        load_config(path.with_name("campain.yaml"))


def test_overrides_win(write_yaml: Write) -> None:
    config = load_config(
        write_yaml(GOOD), ["budget.n_evaluations=77", "execution.ray.address=auto", "system.elements=[Ni, Cu]"]
    )
    assert config.budget.n_evaluations == 77
    assert config.execution.ray.address == "auto"
    assert config.system.elements == ("Ni", "Cu")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("budget", "write key=value"),
        ("budget.=3", "write key=value"),
        ("seed.deeper=3", "seed is 3, it has no keys to set"),
        ("budget.n_evaluations=[", "the value is not YAML"),
        ("budget.n_evals=3", "--set budget.n_evals=3: budget.n_evals: unknown key; did you mean n_evaluations?"),
    ],
)
def test_bad_overrides_are_refused(write_yaml: Write, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config(write_yaml(GOOD), [override])


def test_the_machine_file_sets_execution_only(write_yaml: Write, tmp_path: Path) -> None:
    machine = tmp_path / "machine.yaml"
    machine.write_text("execution: {executor: ray, n_workers: 8}\n")
    config = load_config(write_yaml(GOOD + "execution: {mode: asynchronous, n_workers: 2}\n"), machine=machine)
    assert (config.execution.executor, config.execution.n_workers) == ("ray", 8)
    assert config.execution.mode == "asynchronous"
    machine.write_text("execution: {n_worker: 8}\n")
    with pytest.raises(ConfigError, match=r"machine\.yaml line 1: execution\.n_worker: unknown key"):
        load_config(write_yaml(GOOD), machine=machine)
    machine.write_text("seed: 4\n")
    with pytest.raises(ConfigError, match="may set execution only, got seed"):
        load_config(write_yaml(GOOD), machine=machine)


def test_file_names_refer_to_the_folder_of_the_config(write_yaml: Write, tmp_path: Path) -> None:
    fault = "kind: pair_model\n  faults: [{effect: hang, once_folder: seen}]"
    config = load_config(write_yaml(GOOD.replace("kind: pair_model", fault)))
    assert config.oracle.kind == "pair_model"
    assert config.oracle.faults[0].once_folder == tmp_path / "seen"


def test_the_hash_changes_with_what_decides_the_results_only(make_config: Callable[..., CampaignConfig]) -> None:
    base = make_config().results_hash()
    assert base == make_config(name="other", budget__n_evaluations=99, execution__n_workers=1).results_hash()
    for changes in ({"seed": 8}, {"execution__mode": "asynchronous"}, {"oracle__unlike_bond_gpa": 1.0}):
        assert make_config(**changes).results_hash() != base


def test_one_part_can_be_read_alone(tmp_path: Path) -> None:
    path = tmp_path / "oracle.yaml"
    path.write_text("kind: pair_model\ndelay_s: 0.5\n")
    assert load_settings(path, OracleSettings, ["delay_s=0.25"]).delay_s == 0.25
    path.write_text("kind: pair_model\ndelai_s: 0.5\n")
    with pytest.raises(ConfigError, match=r"oracle\.yaml: line 2: delai_s: unknown key; did you mean delay_s\?"):
        load_settings(path, OracleSettings)


def test_contradictions_are_found_in_python_too(make_config: Callable[..., CampaignConfig]) -> None:
    with pytest.raises(ConfigError, match="there is no generator 'nobody'"):
        check_config(make_config(agent__generator="nobody"))


def test_the_schema_teaches() -> None:
    schema = json_schema()
    assert set(schema["required"]) >= {"system", "oracle", "objective", "generators", "agent", "budget"}
    undescribed = [
        f"{name}.{key}"
        for name, part in schema["$defs"].items()
        for key, entry in part.get("properties", {}).items()
        if "description" not in entry and key != "kind" and name.endswith("Settings")
    ]
    assert undescribed == []


def test_attempts_are_merged_over_the_defaults_and_typos_refused(make_config: Callable[..., CampaignConfig]) -> None:
    attempts = make_config(failure_policy__max_attempts={"timed_out": 2, "crashed": 1}).failure_policy.max_attempts
    assert attempts == {"crashed": 1, "corrupt_output": 2, "unavailable": 3, "timed_out": 2}
    with pytest.raises(ValidationError, match="crashd"):
        make_config(failure_policy__max_attempts={"crashd": 2})
