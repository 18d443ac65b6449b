"""`alloysmith assess`: tables and report beside references, potentials in all their forms."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from alloysmith.loop.cli.arguments import shipped_configs
from alloysmith.loop.config import load_settings
from alloysmith.loop.report.validation import comparison_rows
from alloysmith.oracles.potential_files import wheel_folder
from alloysmith.oracles.validation.record import read_record
from alloysmith.oracles.validation.settings import CrystalEntry, ValidationSettings
from alloysmith.surrogates.eam.settings import EamSettings
from alloysmith.surrogates.potentials.base import PotentialSpec
from alloysmith.surrogates.potentials.settings import save_potential
from alloysmith.surrogates.potentials.torch_potential import TorchPotential
from alloysmith.tests.cli.toy import CommandLine

COPPER = "Cu_mishin1.eam.alloy"


def config(folder: Path, element: str = "Cu", lattice: str = "fcc", **changes: object) -> Path:
    path = folder / "assess.yaml"
    crystal = {
        "name": f"{lattice} {element}",
        "lattice": lattice,
        "formula": element,
        "reference": {"DFT": {"c11_gpa": 160.0, "c12_gpa": [100.0, 130.0]}, "experiment": {"c44_gpa": 76.2}},
    }
    content = {
        "name": "a validation",
        "crystals": [crystal],
        "properties": [{"kind": "eos", "n_points": 7}, {"kind": "elastic"}],
        **changes,
    }
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_report_beside_references(alloysmith: CommandLine, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = alloysmith("assess", config(tmp_path), "-p", COPPER, "-o", out)
    assert ended.code == 0, ended.err
    (line,) = [line for line in ended.out.splitlines() if "C11" in line]
    assert line.split()[-4:] == ["169.9", "160", "+6.2", "%"]
    (line,) = [line for line in ended.out.splitlines() if "C12" in line]
    assert line.endswith("within ") or line.rstrip().endswith("within")
    page = (out / "report.html").read_text()
    for text in (COPPER, "Alloysmith validation report", "Mechanically stable", "+6.2 %", "Birch-Murnaghan"):
        assert text in page
    assert "http://" not in page.replace("http://www.w3.org", "").split("<body>")[1], "needs nothing from the network"
    again = alloysmith("assess", config(tmp_path), "-p", COPPER, "-o", out)
    assert again.code == 0
    assert "force calls" not in again.err, "nothing is measured twice"


def test_an_unstable_crystal_is_in_the_report(alloysmith: CommandLine, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = alloysmith("assess", config(tmp_path, lattice="bcc"), "-p", COPPER, "-o", out, "--only", "elastic")
    assert ended.code == 0, ended.err
    assert "bcc Cu is mechanically unstable" in (out / "report.html").read_text()


def test_every_form_of_a_potential(alloysmith: CommandLine, tmp_path: Path) -> None:
    shutil.copy(wheel_folder() / COPPER, tmp_path / "own_table.eam.alloy")
    (tmp_path / "own.yaml").write_text(f"kind: wheel\nname: {COPPER}")
    model = EamSettings(embedding="piecewise").build(["Cu"])
    spec = PotentialSpec("eam", ("Cu",), model.cutoff_ang)
    save_potential(TorchPotential(spec, model), tmp_path / "fitted.safetensors")
    found: dict[str, float] = {}
    for form in (COPPER, "own_table.eam.alloy", "own.yaml", "fitted.safetensors", "zjw04"):
        potential = tmp_path / form if form.startswith(("own", "fitted")) else form
        out = tmp_path / f"out-{form}"
        ended = alloysmith("assess", config(tmp_path), "-p", potential, "-o", out, "--only", "elastic")
        assert ended.code == 0, ended.err
        record = read_record(out)
        assert record is not None
        (entry,) = record.entries.values()
        found[form] = entry.values["c44_gpa"]
    assert found[COPPER] == found["own_table.eam.alloy"] == found["own.yaml"]
    assert found["fitted.safetensors"] == found["zjw04"] != found[COPPER]
    ended = alloysmith(
        *("assess", config(tmp_path), "-p", COPPER, "-o", tmp_path / f"out-{COPPER}"),
        "--beside",
        tmp_path / "out-zjw04",
    )
    assert ended.code == 0, ended.err
    page = (tmp_path / f"out-{COPPER}" / "report.html").read_text()
    assert '<th class="number">zjw04</th>' in page


def test_a_failed_property_is_a_status(alloysmith: CommandLine, tmp_path: Path) -> None:
    properties = [{"kind": "elastic"}, {"kind": "migration", "min_length_ang": 7.0, "max_steps": 2}]
    ended = alloysmith("assess", config(tmp_path, properties=properties), "-p", COPPER, "-o", tmp_path / "out")
    assert ended.code == 3
    assert "migration failed, not_converged" in ended.err
    assert "169.9" in ended.out
    assert "not_converged" in (tmp_path / "out" / "report.html").read_text()
    written = json.loads((tmp_path / "out" / "validation.json").read_text())
    assert [entry["failure"] is None for entry in written["entries"]] == [True, False]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("-p", "Cu_mishin.eam.alloy"), "did you mean Cu_mishin1.eam.alloy"),
        (("-p", "zjw4"), "did you mean zjw04"),
        (("-p", "W_zhou.eam.alloy"), "has no Cu; it has W"),
        (("-p", COPPER, "--only", "elastics"), "there are eos, elastic"),
        (("-p", COPPER, "--set", "propertys=1"), "did you mean properties"),
        (("-p", COPPER, "--beside", "nowhere"), "holds no results"),
    ],
)
def test_bad_arguments(arguments: tuple[str, ...], says: str, alloysmith: CommandLine, tmp_path: Path) -> None:
    ended = alloysmith("assess", config(tmp_path), "-o", tmp_path / "out", *arguments)
    assert ended.code == 2, ended.err
    assert says in ended.err


@pytest.mark.parametrize("name", [name for name in shipped_configs() if name.startswith("potentials/validate")])
def test_shipped_configurations(name: str) -> None:
    settings: ValidationSettings = load_settings(shipped_configs()[name], ValidationSettings)
    assert len(settings.properties) == 7
    assert all(set(crystal.reference) == {"DFT", "experiment"} for crystal in settings.crystals)
    assert settings.crystals or settings.reference_potentials() == ("zjw04",)


def test_a_value_that_was_not_measured_keeps_its_reference() -> None:
    crystal = CrystalEntry(name="x", lattice="fcc", formula="Cu", reference={"DFT": {"melting_temperature_k": 1358.0}})
    (row,) = comparison_rows(crystal, ())
    assert (row.label, row.value, row.references, row.difference) == ("melting temperature (K)", "–", ("1358",), "")
