"""`alloysmith spectra`: tables that agree with `predict`, and a page with what the samples allow."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from alloysmith.structures.files import write_structures
from alloysmith.surrogates.barriers.ridge import RidgeSettings
from alloysmith.surrogates.model_file import save_state
from alloysmith.tests.cli.toy import CommandLine
from alloysmith.tests.surrogates.barriers.hop_tables import ELEMENTS, random_crystal, toy_hops
from ase import Atoms

TRIANGLE = [(0.8, 0.1, 0.1), (0.1, 0.8, 0.1), (0.1, 0.1, 0.8), (0.34, 0.33, 0.33), (0.5, 0.25, 0.25)]


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def alloy(shares: Sequence[float], seed: int = 0) -> Atoms:
    """An alloy of exactly these shares."""
    atoms = random_crystal(seed)
    counts = np.diff(np.rint(len(atoms) * np.cumsum([0.0, *shares])).astype(int))
    atoms.symbols = np.random.default_rng(seed).permutation(np.repeat(ELEMENTS, counts))
    return atoms


@pytest.fixture
def model(tmp_path: Path) -> Path:
    hops = toy_hops(3, 200)
    is_judged = np.arange(len(hops)) % 4 == 0
    fitted = RidgeSettings(n_shells=2).fit(hops.take(~is_judged), hops.take(is_judged), elements=ELEMENTS, seed=0)
    save_state(fitted.state(), tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def test_tables_agree_with_predict(model: Path, alloysmith: CommandLine, tmp_path: Path) -> None:
    write_structures(tmp_path / "alloys.extxyz", [alloy(shares) for shares in TRIANGLE])
    folder = tmp_path / "out"
    done = alloysmith("spectra", model, tmp_path / "alloys.extxyz", "-o", folder, "--hops", "--bin", 0.05)
    assert done.code == 0, done.err
    assert "4,320 barriers" in done.err  # 5 alloys of 54 atoms, 8 neighbours, both ways
    assert alloysmith("predict", model, folder / "hops.csv", "-o", tmp_path / "p.csv").code == 0
    hops, predicted = rows_of(folder / "hops.csv"), rows_of(tmp_path / "p.csv")
    assert len(hops) == len(predicted) == 2160
    for name in ("predicted_barrier_ev", "predicted_barrier_ev_std"):
        np.testing.assert_allclose(
            [float(row[name]) for row in predicted], [float(row[name]) for row in hops], atol=1.1e-6
        )
    figures = {(r["structure"], r["moving_species"], r["direction"]): r for r in rows_of(folder / "spectra.csv")}
    assert len(figures) == 5 * 4 * 2
    bins = rows_of(folder / "histograms.csv")
    of_fourth = [row for row in hops if row["structure"].endswith("@3")]
    assert of_fourth
    for species in ELEMENTS:
        rows = [row for row in of_fourth if row["moving_species"] == species]
        for direction, name in (("forward", "predicted_barrier_ev"), ("backward", "predicted_barrier_backward_ev")):
            values = np.array([float(row[name]) for row in rows])
            found = figures[of_fourth[0]["structure"], species, direction]
            assert int(found["n_hops"]) == len(values)
            assert float(found["mean_ev"]) == pytest.approx(values.mean(), abs=2e-6)
            assert float(found["std_ev"]) == pytest.approx(values.std(), abs=2e-6)
            assert float(found["max_ev"]) == pytest.approx(values.max(), abs=2e-6)
            named = found["structure"], species, direction
            of_it = [b for b in bins if (b["structure"], b["moving_species"], b["direction"]) == named]
            assert sum(int(b["n_hops"]) for b in of_it) == len(values)
            largest = max(of_it, key=lambda b: float(b["to_ev"]))
            assert float(largest["from_ev"]) <= values.max() + 1e-6 <= float(largest["to_ev"]) + 2e-6
    assert float(figures[of_fourth[0]["structure"], "all", "forward"]["x_Mo"]) == pytest.approx(1 / 3, abs=0.02)
    page = (folder / "report.html").read_text()
    assert "Over the composition triangle" in page
    assert "Along the" not in page
    assert all(f"{symbol} moves: mean (eV)" in page for symbol in ELEMENTS)


def test_a_line_of_compositions_and_a_sample_of_sites(model: Path, alloysmith: CommandLine, tmp_path: Path) -> None:
    write_structures(tmp_path / "line.extxyz", [alloy((x, (1 - x) / 2, (1 - x) / 2)) for x in (0.2, 0.5, 1.0)])
    folder = tmp_path / "out"
    done = alloysmith(
        "spectra", model, tmp_path / "line.extxyz", "-o", folder, "--sites", 10, "--seed", 1, "--forward-only"
    )
    assert done.code == 0, done.err
    rows = rows_of(folder / "spectra.csv")
    assert {row["direction"] for row in rows} == {"forward"}
    assert [row["n_hops"] for row in rows if row["moving_species"] == "all"] == ["80", "80", "80"]
    page = (folder / "report.html").read_text()
    assert "Along the line of compositions" in page
    assert "Mo (at.%)" in page


def test_snapshots_of_a_run_have_their_order_beside(model: Path, alloysmith: CommandLine, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "snapshots").mkdir(parents=True)
    ordered = random_crystal(0)
    ordered.symbols = ["Mo", "Ta"] * (len(ordered) // 2)  # B2: all first neighbours are of the other kind
    mixed = ordered.copy()
    mixed.numbers = np.random.default_rng(0).permutation(mixed.numbers)
    for step, atoms in ((0, mixed), (100, ordered)):
        atoms.info["md_step"] = step
        write_structures(run / "snapshots" / f"step_{step:010d}.extxyz", [atoms])
    (run / "order.csv").write_text(
        "step,temperature_k,energy_ev_per_atom,inherent_energy_ev_per_atom\n100,300,-7,-7.5\n"
    )
    done = alloysmith("spectra", model, run, "-o", tmp_path / "out")
    assert done.code == 0, done.err
    rows = [row for row in rows_of(tmp_path / "out" / "spectra.csv") if row["moving_species"] == "all"]
    first, last = rows[0], rows[-1]
    assert (first["md_step"], last["md_step"]) == ("0", "100")
    assert float(last["delta Mo-Ta 1"]) == pytest.approx(2.0)  # four bonds an atom, half of them expected
    assert abs(float(first["delta Mo-Ta 1"])) < 0.5
    assert (first["inherent_energy_ev_per_atom"], last["inherent_energy_ev_per_atom"]) == ("", "-7.500000")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Along the run" in page
    assert "pairs beyond random" in page


def test_what_cannot_be_predicted_is_named(model: Path, alloysmith: CommandLine, tmp_path: Path) -> None:
    strange = random_crystal(0)
    strange.symbols[3] = "W"
    write_structures(tmp_path / "w.extxyz", [strange])
    holed = random_crystal(0)[1:]
    write_structures(tmp_path / "holed.extxyz", [holed])
    (tmp_path / "empty").mkdir()
    for name, text in (("w.extxyz", "w.extxyz: "), ("holed.extxyz", "holed.extxyz: "), ("empty", "snapshots")):
        done = alloysmith("spectra", model, tmp_path / name, "-o", tmp_path / "out")
        assert done.code != 0
        assert text in done.err
    assert not (tmp_path / "out" / "spectra.csv").exists()
