"""Tables, files, overrides and settings: what is read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from alloysmith.surrogates.base import SurrogateError
from alloysmith.surrogates.eam.parameters import (
    EamParameters,
    published,
    published_names,
    read_parameters,
    write_parameters,
    zjw04,
    zjw04_variants,
)
from alloysmith.surrogates.eam.settings import EamSettings
from alloysmith.surrogates.eam.start import fitted_cross
from pydantic import ValidationError


def test_table_has_a_default_for_every_element() -> None:
    table = zjw04()
    assert set(table.elements) == set(zjw04_variants())
    assert len(table.elements) == 20
    assert table.elements["Cr"]["beta"] == 7.170494
    assert zjw04({"Cr": "anand2016"}).elements["Cr"]["beta"] == 4.589611
    assert table.elements["Pt"]["rhol"] == 0.25
    assert table.elements["Ni"]["rhos"] == 27.562031
    assert zjw04({"Ni": "tensoralloy"}).elements["Ni"]["rhos"] == 27.930410
    with pytest.raises(SurrogateError, match=r"no variant 'old' of Ni.*Ni: v2/tensoralloy"):
        zjw04({"Ni": "old"})


def test_published_sets_are_complete() -> None:
    assert published_names() == ("ml-eam-ni", "ml-eam-mo", "ml-adp-mo", "ml-eam-nimo", "ml-adp-nimo")
    binary = published("ml-adp-nimo")
    assert set(binary.elements) == {"Ni", "Mo"}
    assert set(binary.cross) == {("Mo", "Ni")}
    assert set(binary.angular) == {("Mo", "Mo"), ("Mo", "Ni"), ("Ni", "Ni")}
    with pytest.raises(SurrogateError, match="there are ml-eam-ni"):
        published("ml-eam-fe")


@pytest.mark.parametrize("name", published_names())
def test_files_read_back_identical(name: str, tmp_path: Path) -> None:
    write_parameters(published(name), tmp_path / "a.csv")
    assert read_parameters(tmp_path / "a.csv") == published(name)


def test_own_file_and_overrides(tmp_path: Path) -> None:
    element = dict(zjw04().elements["Ni"])
    write_parameters(EamParameters({"Re": element}), tmp_path / "own.csv")
    settings = EamSettings(start="own.csv", overrides={"Re": {"beta": 4.5}}).resolved(tmp_path)
    found = settings.parameters(["Re"]).elements["Re"]
    assert found == {**element, "beta": 4.5}
    with pytest.raises(SurrogateError, match="no parameters for Os"):
        settings.build(["Re", "Os"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,re\nNi,2\n", "no column 'species'"),
        ("species,re\nNi,2\n", "Ni lacks fe"),
        ("species,re\nNi,two\n", "which is no number"),
        ("species,re\nNi-Mo-W,2\n", "neither an element"),
        ("species,re,d1\nNi,nan,1\n", "re = nan"),
        ("species,alpha\nNi-Mo,-2\n", "alpha = -2"),
        ("species,re\n", "has no rows"),
    ],
)
def test_bad_files_are_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(SurrogateError, match=message):
        read_parameters(tmp_path / "bad.csv")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"taper_ang": 7.0}, "taper_ang must be below"),
        ({"start": "zjw05"}, "start must be one of zjw04"),
        ({"start": "ml-eam-ni", "variants": {"Ni": "v2"}}, "variants choose rows"),
        ({"fixed": ["gamma"]}, "unknown parameters gamma"),
        ({"functions": "spline", "cross": "mixing"}, "set cross: free"),
        ({"inner_ang": 6.0}, "inner_ang must be below"),
    ],
)
def test_impossible_settings_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EamSettings.model_validate(values)


def test_terms_are_never_left_out_silently() -> None:
    with pytest.raises(SurrogateError, match="set angular: true"):
        EamSettings(start="ml-adp-mo").build(["Mo"])
    with pytest.raises(SurrogateError, match="set cross: free"):
        EamSettings(start="ml-eam-nimo", cross="mixing").build(["Ni", "Mo"])
    with pytest.raises(SurrogateError, match="different chemical symbols"):
        EamSettings().build(["Ni", "Ni"])
    with pytest.raises(SurrogateError, match="unknown parameters gamma"):
        EamSettings(overrides={"Ni": {"gamma": 1.0}}).build(["Ni"])


def test_fixed_parameters_are_not_learnt() -> None:
    names = {name for name, _ in EamSettings(fixed=("re", "fe", "rhoe")).build(["Ni"]).named_parameters()}
    assert "radial.elements.beta" in names
    assert not any(name.endswith((".re", ".fe", ".rhoe", ".rhol")) for name in names)


def test_fitted_cross_terms_repeat_an_element() -> None:
    nickel = zjw04().elements["Ni"]
    found = fitted_cross(nickel, nickel)
    assert found == pytest.approx({name: nickel[name] for name in found}, rel=1e-9)
