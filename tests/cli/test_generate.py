"""A crystal generator on the command line: fitted, killed, and asked for structures."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from alloysmith.generators.pcdvae.fitted import FittedPcdvae
from alloysmith.loop.cli import crystal_models
from alloysmith.structures.files import read_structures, write_structures
from alloysmith.surrogates.model_file import load_state, save_state
from alloysmith.tests.cli.toy import CommandLine
from alloysmith.tests.generators.pcdvae.small import TINY, alloys, crystals, tiny_model
from ase import Atoms
from ase.build import bulk

FIT = {
    "pcdvae": TINY.model_dump(mode="json"),
    "training": {"max_epochs": 2, "batch_size": 4, "learning_rate": 5e-3},
    "data": {"validation_fraction": 0.3},
}
QUICK = ("--set", "sampler.n_levels=2")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with data, a configuration, and a model whose weights are those of the start."""
    write_structures(tmp_path / "data.extxyz", alloys())
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(FIT))
    model = tiny_model()
    model.standardize(crystals())
    save_state(FittedPcdvae.of(model, "bulk_modulus_gpa", crystals()).state(), tmp_path / "vae.safetensors")
    return tmp_path


def test_fit_then_generate(alloysmith: CommandLine, files: Path) -> None:
    fitted = alloysmith("fit", files / "fit.yaml", "--data", files / "data.extxyz", "-o", files / "new.safetensors")
    assert fitted.code == 0, fitted.err
    assert "held out" in fitted.out
    assert "pcdvae of Cr, Fe, Ni in bcc, fcc, 6 structures" in fitted.out
    assert not list(files.glob("*.checkpoint"))
    drawn = alloysmith("generate", files / "new.safetensors", "-n", 3, "-o", files / "out.extxyz", *QUICK)
    assert drawn.code == 0, drawn.err
    assert "wrote" in drawn.out
    rows = read_structures(files / "out.extxyz")
    assert len(rows) == 3
    assert all(set(atoms.symbols) <= {"Ni", "Fe", "Cr"} and atoms.info["phase"] in ("fcc", "bcc") for atoms in rows)
    assert all(np.isfinite(atoms.info["expected_bulk_modulus_gpa"]) for atoms in rows)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_fit_that_is_interrupted_goes_on_to_the_same_model(
    number: signal.Signals, alloysmith: CommandLine, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("fit", files / "fit.yaml", "--data", files / "data.extxyz", "--set", "training.max_epochs=3")
    assert alloysmith(*command, "-o", files / "whole.safetensors").code == 0
    tell = crystal_models._state

    def tell_and_signal(epoch: int, n_epochs: int, metrics: dict[str, float]) -> str:
        if epoch == 1:
            signal.raise_signal(number)
        return tell(epoch, n_epochs, metrics)

    with monkeypatch.context() as patch:
        patch.setattr(crystal_models, "_state", tell_and_signal)
        ended = alloysmith(*command, "-o", files / "new.safetensors")
    assert ended.code == 128 + number
    assert "interrupted after epoch 1 of 3, which is kept in" in " ".join(ended.err.split())
    assert not (files / "new.safetensors").exists()
    assert alloysmith(*command, "-o", files / "new.safetensors").code == 0
    assert (files / "new.safetensors").read_bytes() == (files / "whole.safetensors").read_bytes()


def test_what_is_learnt_from_is_told_before_the_training(alloysmith: CommandLine, files: Path) -> None:
    rows = alloys()
    rows[5].info["phase"] = "liquid"
    write_structures(files / "odd.extxyz", rows)
    ended = alloysmith("fit", files / "fit.yaml", "--data", files / "odd.extxyz", "-o", files / "odd.safetensors")
    assert ended.code == 0, ended.err
    assert "6 structures; 2 bcc, 3 fcc, 1 liquid; Cr in " in ended.err
    write_structures(files / "two.extxyz", rows[:2])
    ended = alloysmith("fit", files / "fit.yaml", "--data", files / "two.extxyz", "-o", files / "two.safetensors")
    assert ended.code == 2
    assert "of which data.validation_fraction holds out 1" in ended.err


def test_seeds_and_starts_decide_what_is_drawn(alloysmith: CommandLine, files: Path) -> None:
    def draw(name: str, *options: object) -> list:
        ended = alloysmith("generate", files / "vae.safetensors", "-o", files / name, *QUICK, *options)
        assert ended.code == 0, ended.err
        return read_structures(files / name)

    first, again = draw("a.extxyz", "-n", 2), draw("b.extxyz", "-n", 2)
    other = draw("c.extxyz", "-n", 2, "--seed", 1)
    np.testing.assert_array_equal(first[1].positions, again[1].positions)
    assert first[1].positions.shape != other[1].positions.shape or not np.allclose(
        first[1].positions, other[1].positions
    )
    assert len(draw("d.extxyz", "--from", files / "data.extxyz", "--set", "sampler.kind=langevin",
                    "--set", "sampler.n_steps=1")) == 6  # fmt: skip


def test_atoms_start_from_sites_or_anywhere(alloysmith: CommandLine, files: Path) -> None:
    """A decoder that moves nothing leaves atoms where they started."""
    fitted = FittedPcdvae.from_state(load_state(files / "vae.safetensors"))
    with torch.no_grad():
        fitted.model.head_n_atoms[2].bias[8] = 100.0  # eight atoms
        for parameter in fitted.model.decoder.parameters():
            parameter.zero_()
    save_state(fitted.state(), files / "still.safetensors")
    few = ("--set", "sampler.n_levels=1", "--set", "sampler.n_corrections=0", "--set", "start_sigma_ang=1e-6")

    def largest_offset(*options: str) -> float:
        ended = alloysmith("generate", files / "still.safetensors", "-o", files / "s.extxyz", "-n", 4, *few, *options)
        assert ended.code == 0, ended.err
        offsets = []
        for atoms in read_structures(files / "s.extxyz"):
            sites = fitted.sites[fitted.model.phases.index(atoms.info["phase"]), 8]
            offsets.append(atoms.get_scaled_positions() - sites)
        return float(np.abs(np.array(offsets) - np.round(offsets)).max())

    assert largest_offset() < 1e-5
    assert largest_offset("--set", "start=anywhere") > 0.1


def test_optimized_structures_say_their_step(alloysmith: CommandLine, files: Path) -> None:
    ended = alloysmith(
        "generate", files / "vae.safetensors", "--from", files / "data.extxyz", "--optimize", "-o", files / "o.extxyz",
        *QUICK, "--set", "optimization.decode_at=[0, 5]", "--set", "optimization.n_heads=0",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    rows = read_structures(files / "o.extxyz")
    assert [(a.info["latent_step"], a.info["start"]) for a in rows] == [(s, k) for s in (0, 5) for k in range(6)]
    expected = np.array([a.info["expected_bulk_modulus_gpa"] for a in rows])
    assert (expected[6:] > expected[:6]).all()


def test_bad_input_is_told(alloysmith: CommandLine, files: Path) -> None:
    rows = alloys()
    rows[4].positions[0, 0] = np.nan
    write_structures(files / "bad.extxyz", rows)
    ended = alloysmith("fit", files / "fit.yaml", "--data", files / "bad.extxyz", "-o", files / "n.safetensors")
    assert ended.code == 2
    assert "row 4" in ended.err
    assert "NaN" in ended.err
    ended = alloysmith("fit", files / "fit.yaml", "--data", files / "data.extxyz", "-o", files / "data.extxyz")
    assert ended.code == 2
    assert "data.extxyz is there and is no model file; name another file, or remove it" in " ".join(ended.err.split())
    assert len(read_structures(files / "data.extxyz")) == 6
    ended = alloysmith("generate", files / "nothing.safetensors", "-o", files / "out.extxyz")
    assert ended.code == 1
    assert "no model file" in ended.err
    ended = alloysmith("generate", files / "vae.safetensors", "-o", files / "out.extxyz", "--set", "sampler.n_level=3")
    assert ended.code == 2
    assert "n_levels" in ended.err


def cell(symbols: str, energy_ev: float) -> Atoms:
    atoms = bulk("Ni", "fcc", a=3.5, cubic=True)
    atoms.symbols = Atoms(symbols).symbols
    atoms.info = {"energy_ev_per_atom": energy_ev / 4}
    return atoms


def test_screening_writes_what_is_kept(alloysmith: CommandLine, tmp_path: Path) -> None:
    reference = [cell("Ni3Fe", -17.0), cell("Ni2Fe2", -16.0)]
    before = [cell("Ni2Fe2", -15.0), cell("Ni2Fe2", -2.0)]
    after = [cell("Ni2Fe2", -16.2), cell("Ni2Fe2", -16.1)]
    for name, rows in (("before", before), ("after", after), ("reference", reference)):
        write_structures(tmp_path / f"{name}.extxyz", rows)
    files = [tmp_path / f"{name}.extxyz" for name in ("before", "after", "reference", "kept")]
    ended = alloysmith("screen", files[0], files[1], "--reference", files[2], "-o", files[3])
    assert ended.code == 0, ended.err
    assert "left out: relaxation takes 14.1 eV" in ended.out
    assert "1 of 2 structures" in ended.out
    (kept,) = read_structures(files[3])
    assert kept.info["energy_ev_per_atom"] == -16.2 / 4
    swapped = alloysmith("screen", files[1], files[0], "--reference", files[2], "-o", tmp_path / "swapped.extxyz")
    assert swapped.code == 2
    assert "2 of 2 structures have more energy relaxed than as generated; are the two files swapped" in swapped.err
    write_structures(tmp_path / "bare.extxyz", alloys(2))
    bare = alloysmith("screen", tmp_path / "bare.extxyz", files[1], "--reference", files[2], "-o", files[3])
    assert bare.code == 2
    assert "no energy as generated" in bare.err
    assert "alloysmith label oracles/single_point" in bare.err
    none = alloysmith("screen", *files[:2], "--reference", files[2], "-o", files[3], "--max-relaxation", 0.1)
    assert none.code == 1
    assert (
        "none of 2 structures is kept, so nothing was written; the kept.extxyz that is there is of an earlier"
        in none.err
    )
    assert len(read_structures(files[3])) == 1
