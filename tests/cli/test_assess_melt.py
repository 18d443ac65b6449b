"""`alloysmith assess` of a melt: report and table beside the reference potential's own dynamics."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from alloysmith.loop.report.liquid import liquid_label, write_liquid_curves
from alloysmith.loop.report.validation import comparison_rows, write_validation_report
from alloysmith.oracles.validation.block_statistics import Agreement
from alloysmith.oracles.validation.liquid_dynamics import ComparedCurve, ComparedValue, EnergyTrace, LiquidDynamics
from alloysmith.oracles.validation.record import Entry, PotentialIdentity, ValidationRecord
from alloysmith.oracles.validation.settings import ValidationSettings
from alloysmith.tests.cli.toy import CommandLine

X = (0.1, 0.2, 0.3)
AGREED = Agreement(1.2, 3.4, 1.0, 0.01, 0.012)
APART = Agreement(9.0, 3.4, 0.3, 0.2, 0.012)


def curve(quantity: str, name: str, found: Agreement = AGREED) -> ComparedCurve:
    ones = (1.0, 1.1, 1.0)
    return ComparedCurve(quantity, name, X, ones, (0.1, 0.1, 0.1), ones, (0.1, 0.1, 0.1), found)  # type: ignore[arg-type]


RESULT = LiquidDynamics(
    n_atoms=108,
    reference_label="teacher",
    volume_ang3_per_atom=15.4,
    numbers=(
        ComparedValue("melt_density_g_cm3", 5.95, 0.02, 6.0, 0.02),
        ComparedValue("self_diffusion_ang2_ps", 0.6, 0.02, 0.5, 0.02),
        ComparedValue("nve_drift_ev_per_atom_ps", 2.0e-7, 3.0e-7, 1.0e-8, 1.0e-8),
    ),
    curves=tuple(
        curve(quantity, name, APART if (quantity, name) == ("rdf", "Al-Ni") else AGREED)
        for quantity, names in (("rdf", ("Al-Al", "Al-Ni")), ("vacf", ("Al",)), ("vdos", ("Al",)), ("msd", ("Al",)))
        for name in names
    ),
    energies=(EnergyTrace("student", 1, X, (0.0, 1e-6, 0.0), 2e-7, 3e-7), EnergyTrace("teacher", 1, X, X, 0.0, 1e-8)),
)


def settings(**dynamics: object) -> ValidationSettings:
    melt = {"composition": {"Al": 54, "Ni": 54}, "dynamics": {"temperature_k": 1673, **dynamics}}
    return ValidationSettings.model_validate({"name": "a melt", "melts": [melt]})


def record() -> ValidationRecord:
    entry = Entry("k", "Al54Ni54 at 1673 K", "dynamics", {}, asdict(RESULT), RESULT.values(), None, 1.0, 5)
    return ValidationRecord(PotentialIdentity("student", "f", ("Al", "Ni")), {"k": entry})


def test_the_report_of_a_melt(tmp_path: Path) -> None:
    write_validation_report(settings(), record(), ["k"], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for text in (
        "density of the melt (g/cm³)",
        "5.950 ± 0.020",
        "-0.83 %",
        "2.0e-07 ± 3e-07",
        "g(r), Al-Ni",
        "<b>no</b>",
        "Velocity autocorrelation",
        "teacher",
        "Total energy at constant energy",
    ):
        assert text in page, text
    rows = {row.label: row.value for row in comparison_rows(settings().melts[0], tuple(record().entries.values()))}
    assert rows["g(r), largest deviation in standard errors"] == "9.000"
    assert rows["density against the reference potential's (%)"].startswith("-0.83")
    assert rows["drift of the energy (eV/atom/ps)"] == "2.0e-07"
    assert liquid_label("self_diffusion_Al_ang2_ps") == "self diffusion Al (Å²/ps)"


def test_the_table_of_curves(tmp_path: Path) -> None:
    assert write_liquid_curves(tuple(record().entries.values()), tmp_path / "melts.csv")
    with (tmp_path / "melts.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 15
    assert rows[4] == {
        **{"melt": "Al54Ni54 at 1673 K", "quantity": "rdf", "species": "Al-Ni", "x": "0.2", "mean": "1.1"},
        **{"error": "0.1", "reference": "1.1", "reference_error": "0.1"},
    }
    assert not write_liquid_curves((), tmp_path / "none.csv")
    assert not (tmp_path / "none.csv").exists()


def test_bad_melts(alloysmith: CommandLine, tmp_path: Path) -> None:
    for content, says in (
        ({}, "there is nothing to measure; name crystals or melts"),
        ({"melts": [{"composition": {"Al": 64}}]}, "dynamics"),
        (
            {
                "melts": [
                    {"composition": {"Cu": 64}, "dynamics": {"temperature_k": 1500, "reference_potential": "zjw4"}}
                ]
            },
            "did you mean zjw04",
        ),
        (
            {"melts": [{"composition": {"Cu": 64}, "dynamics": {"temperature_k": 1500}, "reference": {"x": {"d": 1}}}]},
            "which no property gives",
        ),
    ):
        (tmp_path / "melt.yaml").write_text(yaml.safe_dump({"name": "m", **content}))
        ended = alloysmith("assess", tmp_path / "melt.yaml", "-p", "Cu_mishin1.eam.alloy", "-o", tmp_path / "out")
        assert ended.code == 2, ended.err
        assert says in ended.err


@pytest.mark.slow
def test_a_melt_beside_another_potential(alloysmith: CommandLine, tmp_path: Path) -> None:
    short = {
        **{"temperature_k": 1700, "reference_potential": "zjw04", "n_runs": 1, "block_ps": 0.4, "start_ps": 0.4},
        **{"equilibration_ps": 0.4, "npt_ps": 0.8, "nvt_ps": 0.8, "nve_ps": 0.4, "correlation_ps": 0.2},
        **{"resolution_thz": 5.0},
    }
    content = {"name": "Cu", "melts": [{"name": "molten Cu", "composition": {"Cu": 48}, "dynamics": short}]}
    (tmp_path / "melt.yaml").write_text(yaml.safe_dump(content))
    out = tmp_path / "out"
    ended = alloysmith("assess", tmp_path / "melt.yaml", "-p", "Cu_mishin1.eam.alloy", "-o", out)
    assert ended.code == 0, ended.err
    assert "density of the melt (g/cm³)" in ended.out
    assert f"{out / 'report.html'}, {out / 'melts.csv'}" in ended.out
    again = alloysmith("assess", tmp_path / "melt.yaml", "-p", "Cu_mishin1.eam.alloy", "-o", out)
    assert again.code == 0
    assert "molten Cu: dynamics in" not in again.err, "nothing is measured twice"
