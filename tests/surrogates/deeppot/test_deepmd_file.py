from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from alloysmith.surrogates.base import SurrogateError
from alloysmith.surrogates.deeppot.deepmd_file import write_deepmd
from alloysmith.surrogates.deeppot.model import DeepPotModel
from alloysmith.surrogates.deeppot.settings import DeepPotSettings
from alloysmith.surrogates.potentials.frame import Frame
from alloysmith.surrogates.potentials.graph import build_graph, collate
from ase import Atoms
from ase.build import bulk

ELEMENTS = ("Al", "Cu", "Ni")
PEER = Path(__file__).parents[3] / "benchmarks" / "deepmd_peer.py"


def melt(seed: int) -> Atoms:
    """108 atoms far from their sites; the same species in the same order."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Al", cubic=True, a=3.8).repeat(3)
    atoms.symbols[:] = np.repeat(ELEMENTS, 36)
    atoms.positions = rng.permutation(atoms.positions) + rng.normal(scale=0.3, size=(108, 3))
    return atoms


def model_of(**settings) -> DeepPotModel:
    model = DeepPotSettings.model_validate({"seed": 0, **settings}).build(ELEMENTS)
    model.prepare([Frame(melt(seed), -400.0 + 3.0 * seed) for seed in range(2)], seed=0)
    with torch.no_grad():
        for a in range(3):
            model.fitting(a).weights[0] *= 10.0
            model.fitting(a).output_weight *= 10.0
            model.fitting(a).output_bias += 0.1 * (a + 1)
    return model


def test_networks_are_in_the_order_of_deepmd(tmp_path: Path) -> None:
    """The species of the centre runs first, that of the neighbour second."""
    model = model_of(descriptor={"neuron": (3, 6), "axis_neuron": 2}, fitting_net={"neuron": (5, 5)})
    write_deepmd(model, tmp_path / "model.yaml")
    found = yaml.safe_load((tmp_path / "model.yaml").read_text())["model"]
    descriptor = found["descriptor"]
    assert found["type_map"] == list(ELEMENTS)
    assert descriptor["sel"] == [round(n) for n in model.n_neighbours.tolist()]
    first = descriptor["embeddings"]["networks"][2 * 3 + 1]["layers"][1]["@variables"]
    assert first["w"]["value"] == model.embedding(1, 2).weights[1].tolist()
    assert np.shape(descriptor["@variables"]["davg"]["value"]) == (3, sum(descriptor["sel"]), 4)
    steps = [layer["@variables"]["idt"] for layer in found["fitting"]["nets"]["networks"][1]["layers"]]
    assert steps[0] is steps[2] is None  # no shortcut, no time step
    assert steps[1]["value"] == model.fitting(1).time_steps["1"].tolist()
    with pytest.raises(SurrogateError, match=r"\*\.yaml, got model\.pb"):
        write_deepmd(model, tmp_path / "model.pb")
    with_shortcut = model_of(descriptor={"neuron": (3, 6), "axis_neuron": 2}, fitting_net={"neuron": (12, 5)})
    with pytest.raises(SurrogateError, match="normalize_features: false"):
        write_deepmd(with_shortcut, tmp_path / "model.yaml")
    with pytest.raises(SurrogateError, match="cannot write"):
        write_deepmd(model, tmp_path / "nowhere" / "model.yaml")


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"descriptor": {"neuron": (15, 30, 60), "axis_neuron": 4}, "fitting_net": {"neuron": (60, 60, 60)}},
        {"descriptor": {"neuron": (7, 7, 12), "axis_neuron": 5, "type_one_side": True, "resnet_dt": True}},
        {"switch_ang": 2.0, "fitting_net": {"neuron": (80, 40), "resnet_dt": False, "normalize_features": False}},
    ],
)
def test_deepmd_kit_gives_the_same_energies_forces_and_virials(settings: dict, tmp_path: Path) -> None:
    python = os.environ.get("DEEPMD_PYTHON")
    if python is None:
        pytest.skip("needs deepmd-kit 3 in an environment of its own; set DEEPMD_PYTHON to its interpreter")
    model = model_of(**settings)
    structures = [melt(seed) for seed in range(2, 4)]
    output = model(collate([build_graph(atoms, ELEMENTS, model.cutoff_ang) for atoms in structures]))
    write_deepmd(model, tmp_path / "model.yaml")
    np.savez(
        tmp_path / "frames.npz",
        positions=[atoms.positions for atoms in structures],
        cells=[atoms.cell.array for atoms in structures],
        types=[ELEMENTS.index(symbol) for symbol in structures[0].symbols],
    )
    command = [python, PEER, *(tmp_path / name for name in ("model.yaml", "frames.npz", "found.npz"))]
    subprocess.run(command, check=True, capture_output=True)
    found = np.load(tmp_path / "found.npz")
    assert output.forces.abs().max() > 0.1
    assert found["energy"][:, 0] == pytest.approx(output.energies.detach().numpy(), abs=1e-8)
    assert found["force"].reshape(-1, 3) == pytest.approx(output.forces.detach().numpy(), abs=1e-9)
    assert found["virial"].reshape(-1, 3, 3) == pytest.approx(-output.virials.detach().numpy(), abs=1e-8)
