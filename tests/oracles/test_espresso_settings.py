"""What the settings of Quantum ESPRESSO refuse, how they find pseudopotentials, and what decides the fingerprint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from alloysmith.errors import ConfigError
from alloysmith.oracles.espresso import EspressoSettings, EspressoSinglePoint
from alloysmith.oracles.pseudopotentials import load_pseudopotentials, pseudopotential_folder
from pydantic import ValidationError

VERSION_2 = '<UPF version="2.0.1">\n<PP_HEADER\npseudo_type="{kind}"\nelement="{element}"\n/>'
VERSION_1 = "<PP_HEADER>\n   0   Version Number\n  {element}      Element\n   {kind}     Ultrasoft pseudopotential\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Al.UPF").write_text(VERSION_2.format(kind="NC", element="Al"))
    (tmp_path / "Al.other.UPF").write_text(VERSION_2.format(kind="NC", element="Al") + "\n<!-- other -->")
    (tmp_path / "Ni.UPF").write_text(VERSION_2.format(kind="PAW", element="Ni"))
    (tmp_path / "Cu.UPF").write_text(VERSION_1.format(kind="US", element="Cu"))
    return tmp_path


def settings(folder: Path, **changes: object) -> EspressoSettings:
    base = {"pseudopotentials": {"Al": "Al.UPF"}, "pseudo_dir": folder, "ecutwfc_ry": 15, "kspacing": 0.3}
    return EspressoSettings.model_validate({**base, **changes})


def oracle(made: EspressoSettings, version: str = "7.3") -> EspressoSinglePoint:
    files = load_pseudopotentials(made.pseudopotentials, pseudopotential_folder(made.pseudo_dir))
    return EspressoSinglePoint(made, files, version)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kspacing": None}, "either kspacing"),
        ({"kpts": (2, 2, 2)}, "either kspacing"),
        ({"pseudopotentials": {}}, "at least 1"),
        ({"starting_magnetization": {"Fe": 0.5}}, "Fe"),
        ({"starting_magnetization": {"Al": 1.5}}, "between -1 and 1"),
        ({"starting_magnetization": {"Al": float("nan")}}, "finite"),
        ({"atomic_energies_ev": {"Ni": 1.0}}, "Ni"),
        ({"extra_input": {"electrons": {"scf_must_converge": False}}}, "scf_must_converge"),
        ({"extra_input": {"SYSTEM": {"ECUTWFC": 40}}}, "ecutwfc"),
        ({"extra_input": {"control": {"max_seconds": 3}}}, "max_seconds"),
        ({"extra_input": {"system": {"hubbard_u(1)": 4.0}}}, "which species"),
        ({"extra_input": {"ions": {"ion_dynamics": "bfgs"}}}, "control"),
        ({"mixing_beta": 0.0}, "greater than 0"),
        ({"command": "  "}, "command is empty"),
    ],
)
def test_impossible_settings(folder: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        settings(folder, **changes)


def test_numbers_written_as_yaml_reads_them(folder: Path) -> None:
    made = settings(folder, extra_input={"Electrons": {"Electron_Maxstep": 50, "diago_thr_init": "1e-4"}})
    assert made.extra_input == {"electrons": {"electron_maxstep": 50, "diago_thr_init": 1e-4}}
    assert type(made.extra_input["electrons"]["electron_maxstep"]) is int
    assert EspressoSettings.model_validate_json(made.model_dump_json()) == made


def test_missing_and_mistaken_pseudopotentials(folder: Path) -> None:
    for files, said in (
        ({"Al": "Al.pbe.UPF"}, "That folder has Al.UPF, Al.other.UPF for Al"),
        ({"W": "W.UPF"}, "has none for W"),
        ({"Al": "Ni.UPF"}, "is a pseudopotential of Ni"),
        ({"Al": "Cu.UPF"}, "is a pseudopotential of Cu"),
    ):
        with pytest.raises(ConfigError, match=said):
            settings(folder, pseudopotentials=files).build()
    with pytest.raises(ConfigError, match=r"apt-get install quantum-espresso-data"):
        settings(folder / "nowhere").build()


@pytest.mark.parametrize("element", ["Ni", "Cu"])
def test_soft_pseudopotentials_need_a_cutoff_of_the_density(folder: Path, element: str) -> None:
    with pytest.raises(ConfigError, match="120 to 180"):
        settings(folder, pseudopotentials={element: f"{element}.UPF"}).build()


def test_the_folder_of_pseudopotentials(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESPRESSO_PSEUDO", str(folder))
    assert pseudopotential_folder(None) == folder.resolve()
    monkeypatch.setenv("ESPRESSO_PSEUDO", str(folder / "gone"))
    with pytest.raises(ConfigError, match="ESPRESSO_PSEUDO"):
        pseudopotential_folder(None)
    assert settings(Path("beside")).resolved(folder).pseudo_dir == folder / "beside"
    absolute = settings(folder / "gone", pseudopotentials={"Al": str(folder / "Al.UPF")})
    assert load_pseudopotentials(absolute.pseudopotentials, folder)["Al"].path == (folder / "Al.UPF").resolve()


def test_a_program_that_is_missing_or_another(folder: Path) -> None:
    with pytest.raises(ConfigError, match="apt-get install quantum-espresso"):
        settings(folder, command="no-such-pw.x").build()
    with pytest.raises(ConfigError, match=r"does not start pw\.x"):
        settings(folder, command="sh -c 'echo wrong >&2; exit 4'").build()


def test_the_fingerprint_is_that_of_what_decides_labels(folder: Path) -> None:
    first = oracle(settings(folder)).spec.fingerprint
    for changes in (
        {"command": "mpirun -np 4 pw.x"},
        {"scratch_dir": folder},
        {"keep_failed": True},
        {"cost_hint_s": 5.0},
    ):
        assert oracle(settings(folder, **changes)).spec.fingerprint == first
    for changes in (
        {"ecutwfc_ry": 16},
        {"kspacing": 0.31},
        {"pseudopotentials": {"Al": "Al.other.UPF"}},
        {"atomic_energies_ev": {"Al": -1.0}},
        {"extra_input": {"system": {"nosym": True}}},
    ):
        assert oracle(settings(folder, **changes)).spec.fingerprint != first
    assert oracle(settings(folder), "7.4").spec.fingerprint != first
    same_content = settings(folder, pseudopotentials={"Al": "copy.UPF"})
    (folder / "copy.UPF").write_bytes((folder / "Al.UPF").read_bytes())
    assert oracle(same_content).spec.fingerprint == first


def test_the_grid_of_k_points(folder: Path) -> None:
    made = oracle(settings(folder, kspacing=0.5))
    assert made.kpoint_grid(np.diag([4.0, 8.0, 40.0])) == (4, 2, 1)  # 2π/4 Å = 1.57/Å
    assert made.kpoint_grid(np.eye(3) * 2.0 * np.pi) == (2, 2, 2)  # exactly two, not three
    assert oracle(settings(folder, kspacing=None, kpts=(5, 4, 3))).kpoint_grid(np.eye(3)) == (5, 4, 3)
