"""What people get wrong: each a clear error with what to do, the right exit code, and nothing lost."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ase.io
import pytest
from alloysmith.loop.store.event_log import LOG_NAME
from alloysmith.loop.store.lock import RunLock
from alloysmith.tests.cli.toy import CommandLine
from ase.build import bulk


@dataclass(frozen=True)
class BadConfig:
    """Overrides of the toy campaign, and what the message must say."""

    overrides: tuple[str, ...]
    says: tuple[str, ...]


_MEAM = "oracle={kind: bulk_modulus, potential: {kind: wheel, name: MoCoNiVFeAlCr_2nn.meam}}"

BAD_CONFIGS = {
    "unknown section": BadConfig(("agnet.kind=direct",), ("agnet", "did you mean agent")),
    "unknown key": BadConfig(("budget.n_evaluation=9",), ("n_evaluation", "did you mean n_evaluations")),
    "unknown kind": BadConfig(("agent.kind=baysian",), ("baysian", "did you mean bayesian")),
    "wrong type": BadConfig(("budget.n_evaluations=many",), ("budget.n_evaluations", "integer")),
    "negative budget": BadConfig(("budget.n_evaluations=-1",), ("budget.n_evaluations", "greater than 0")),
    "missing potential": BadConfig(
        ("oracle={kind: bulk_modulus, potential: {kind: wheel, name: unobtainium.eam.alloy}}",),
        ("unobtainium.eam.alloy",),
    ),
    "missing potential file": BadConfig(
        (
            "oracle={kind: bulk_modulus, potential: {kind: files, pair_style: eam/alloy, "
            'pair_coeff: ["* * mine.eam.alloy Ni Fe Cr"]}}',
        ),
        ("mine.eam.alloy",),
    ),
    "element the potential lacks": BadConfig((_MEAM, "system.elements=[Ni, Au]"), ("Au", "it has Mo, Co, Ni")),
    "no element at all": BadConfig(("system.elements=[Ni, Xq]",), ("Xq",)),
    "impossible composition": BadConfig(("system.min_fraction=0.5",), ("min_fraction", "0.5")),
    "bounds of another element": BadConfig(("system.max_fraction={Al: 0.5}",), ("Al", "Ni, Fe, Cr")),
    "unknown phase": BadConfig(("system.phases=[hcp]",), ("hcp", "fcc")),
    "property the oracle lacks": BadConfig(
        ("objective.property=bulk_modulus",), ("bulk_modulus", "did you mean bulk_modulus_gpa")
    ),
    "generator that is not there": BadConfig(("agent.generator=serach",), ("serach", "search")),
    "--set without a value": BadConfig(("seed",), ("key=value",)),
    "--set below a number": BadConfig(("seed.first=1",), ("seed", "no keys")),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_bad_configuration(case: str, alloysmith: CommandLine, toy_config: Path, tmp_path: Path) -> None:
    bad = BAD_CONFIGS[case]
    run_dir = tmp_path / "never"
    overrides = [part for override in bad.overrides for part in ("--set", override)]
    ended = alloysmith("run", toy_config, "--run-dir", run_dir, *overrides)
    assert ended.code == 2, ended.err
    for text in bad.says:
        assert text in ended.err
    assert "Traceback" not in ended.err
    assert not run_dir.exists()


BAD_FILES = {
    "no such file": (None, "no file"),
    "not YAML": ("name: [unclosed", "not YAML"),
    "empty": ("", "empty"),
    "a list": ("- 1\n- 2\n", "mapping"),
    "key given twice": ("seed: 1\nname: x\nseed: 2\n", "given twice"),
    "several problems at once": ("nmae: x\nsead: 1\n", "did you mean name"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_configuration_file(case: str, alloysmith: CommandLine, tmp_path: Path) -> None:
    text, says = BAD_FILES[case]
    path = tmp_path / "campaign.yaml"
    if text is not None:
        path.write_text(text)
    ended = alloysmith("validate", path)
    assert ended.code == 2
    assert says in ended.err


def test_misspelt_names_of_configurations(alloysmith: CommandLine, toy_config: Path) -> None:
    assert "did you mean nifecr_quickstart" in alloysmith("validate", "nifecr_quickstrat").err
    assert "did you mean" in alloysmith("validate", toy_config.with_name("toi.yaml")).err


def test_run_directory_that_cannot_be_made(alloysmith: CommandLine, toy_config: Path) -> None:
    ended = alloysmith("run", toy_config, "--run-dir", toy_config / "below-a-file")
    assert ended.code == 1
    assert "--run-dir" in ended.err


def test_run_directory_with_other_things_in_it(alloysmith: CommandLine, toy_config: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("precious")
    ended = alloysmith("run", toy_config, "--run-dir", tmp_path / "thesis", "--overwrite")
    assert ended.code == 1
    assert "not empty" in ended.err
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "precious"


def test_run_directory_that_holds_a_campaign(alloysmith: CommandLine, toy_config: Path, toy_run: Path) -> None:
    before = (toy_run / LOG_NAME).read_bytes()
    ended = alloysmith("run", toy_config, "--run-dir", toy_run)
    assert ended.code == 1
    assert f"alloysmith resume {toy_run}" in ended.err
    assert (toy_run / LOG_NAME).read_bytes() == before


@pytest.mark.parametrize("command", ["resume", "status", "watch", "report", "export"])
def test_no_campaign_there(command: str, alloysmith: CommandLine, tmp_path: Path) -> None:
    target = ("-o", tmp_path / "out.csv") if command == "export" else ()
    ended = alloysmith(command, tmp_path / "nowhere", *target)
    assert ended.code == 1
    assert "alloysmith run CONFIG --run-dir" in ended.err


@pytest.mark.parametrize("command", ["resume", "status", "watch", "report"])
def test_damaged_log(command: str, alloysmith: CommandLine, toy_run: Path) -> None:
    log = toy_run / LOG_NAME
    lines = log.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b"e", b"E", 1)
    damaged = b"".join(lines)
    log.write_bytes(damaged)
    ended = alloysmith(command, toy_run)
    assert ended.code == 1
    assert "line 4" in ended.err
    assert "head -n 3" in ended.err
    assert log.read_bytes() == damaged


def test_torn_last_line_is_no_damage(alloysmith: CommandLine, toy_run: Path) -> None:
    log = toy_run / LOG_NAME
    log.write_bytes(log.read_bytes()[:-20])
    assert alloysmith("status", toy_run).code == 0
    assert alloysmith("resume", toy_run, "--quiet").code == 0


@pytest.mark.parametrize("command", ["resume", "run"])
def test_second_driver(command: str, alloysmith: CommandLine, toy_config: Path, toy_run: Path) -> None:
    before = (toy_run / LOG_NAME).read_bytes()
    lock = RunLock(toy_run)
    try:
        if command == "resume":
            ended = alloysmith("resume", toy_run, "--set", "budget.n_evaluations=99")
        else:
            ended = alloysmith("run", toy_config, "--run-dir", toy_run, "--overwrite")
    finally:
        lock.release()
    assert ended.code == 1
    assert f"process {os.getpid()}" in ended.err
    assert "alloysmith watch" in ended.err
    assert (toy_run / LOG_NAME).read_bytes() == before


def test_override_that_would_change_results(alloysmith: CommandLine, toy_run: Path) -> None:
    ended = alloysmith("resume", toy_run, "--set", "seed=4", "--set", "budget.n_evaluations=20")
    assert ended.code in (1, 2)
    assert "seed=4" in ended.err


def _limit_file_size() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))


@pytest.mark.slow
def test_full_disk_loses_nothing(alloysmith: CommandLine, toy_config: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    child = subprocess.run(
        [sys.executable, "-m", "alloysmith", "run", str(toy_config), "--run-dir", str(run_dir), "--quiet"],
        preexec_fn=_limit_file_size,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 1, child.stderr
    assert f"alloysmith resume {run_dir}" in child.stderr
    written = (run_dir / LOG_NAME).read_bytes()
    assert alloysmith("resume", run_dir, "--quiet").code == 0
    assert (run_dir / LOG_NAME).read_bytes().startswith(written[: written.rfind(b"\n") + 1])
    assert alloysmith("status", run_dir, "--json").out.count('"n_evaluations": 12') == 1


def _label(oracle: Path, structures: Path, out: Path, *more: str) -> tuple[object, ...]:
    return ("label", oracle, structures, "-o", out, "--executor", "in_process", *more)


def _text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _copper(folder: Path) -> Path:
    ase.io.write(folder / "cu.extxyz", bulk("Cu", cubic=True))
    return folder / "cu.extxyz"


BAD_FILE_COMMANDS: dict[str, tuple[Callable[[Path], tuple[object, ...]], tuple[str, ...]]] = {
    "label: no structures": (
        lambda d: _label(_text(d / "o.yaml", "kind: pair_model"), d / "none.extxyz", d / "out.extxyz"),
        ("none.extxyz", "no such file"),
    ),
    "label: damaged structures": (
        lambda d: _label(_text(d / "o.yaml", "kind: pair_model"), _text(d / "x.extxyz", "3\nno\nH"), d / "out.extxyz"),
        ("x.extxyz", "damaged"),
    ),
    "label: unknown oracle key": (
        lambda d: _label(_text(d / "o.yaml", "kind: pair_model\ndelay: 1"), _copper(d), d / "out.extxyz"),
        ("did you mean delay_s",),
    ),
    "label: element the potential lacks": (
        lambda d: _label(
            _text(d / "o.yaml", "kind: single_point\npotential: {kind: wheel, name: MoCoNiVFeAlCr_2nn.meam}"),
            _copper(d),
            d / "out.extxyz",
        ),
        ("Cu", "it has Mo"),
    ),
    "label: output of another kind": (
        lambda d: _label(_text(d / "o.yaml", "kind: pair_model"), _copper(d), d / "out.cif"),
        ("out.cif", "extxyz"),
    ),
    "label: output below a file": (
        lambda d: _label(_text(d / "o.yaml", "kind: pair_model"), _copper(d), d / "o.yaml" / "out.extxyz"),
        ("cannot be written",),
    ),
    "fit: no such property": (
        lambda d: ("fit", "fit/polynomial", "--data", _copper(d), "-o", d / "m.safetensors"),
        ("bulk_modulus_gpa", "--property"),
    ),
    "predict: not a model": (
        lambda d: ("predict", _text(d / "m.safetensors", "hello"), _copper(d), "-o", d / "p.extxyz"),
        ("m.safetensors",),
    ),
    "predict: no model": (
        lambda d: ("predict", d / "m.safetensors", _copper(d), "-o", d / "p.extxyz"),
        ("no model file",),
    ),
}


@pytest.mark.parametrize("case", BAD_FILE_COMMANDS)
def test_bad_files(case: str, alloysmith: CommandLine, tmp_path: Path) -> None:
    arguments, says = BAD_FILE_COMMANDS[case]
    ended = alloysmith(*arguments(tmp_path))
    assert ended.code in (1, 2), ended.err
    for text in says:
        assert text in ended.err
    assert "internal error" not in ended.err
    assert not (tmp_path / "out.extxyz").exists()


@pytest.mark.parametrize(
    ("target", "says"), [("out.docx", "no structure format"), ("folder.d/", "folder"), ("x.cif --each", "folder")]
)
def test_bad_export_target(target: str, says: str, alloysmith: CommandLine, toy_run: Path, tmp_path: Path) -> None:
    name, *each = target.split()
    if name.endswith("/"):
        (tmp_path / name).mkdir()
        name = name.rstrip("/")
    if each:
        ended = alloysmith("export", toy_run, "-o", tmp_path / name, "--each", "cif")
    else:
        ended = alloysmith("export", toy_run, "-o", tmp_path / name)
    assert ended.code == 2
    assert says in ended.err
