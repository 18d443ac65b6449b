"""Output layers in closed form, and the first networks that make them worth it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from alloysmith.surrogates.base import SurrogateError
from alloysmith.surrogates.deeppot.environment import weighted_inverse
from alloysmith.surrogates.deeppot.model import DeepPotModel
from alloysmith.surrogates.deeppot.radial_start import contrasts
from alloysmith.surrogates.deeppot.settings import DeepPotSettings
from alloysmith.surrogates.potentials.batches import LabelledFrames
from alloysmith.surrogates.potentials.frame import Frame
from alloysmith.surrogates.potentials.graph import build_graph, collate
from alloysmith.surrogates.potentials.loss import RmseLossSettings
from alloysmith.surrogates.potentials.objective import Objective
from alloysmith.surrogates.potentials.training import TrainingResult, train
from alloysmith.surrogates.potentials.training_settings import TrainingSettings
from alloysmith.tests.lennard_jones import lennard_jones
from alloysmith.tests.surrogates.potentials.morse_training import labelled_frames, start_model
from ase import Atoms
from ase.build import bulk
from pydantic import ValidationError

CHILD = Path(__file__).with_name("least_squares_child.py")
ELEMENTS = ("Al", "Ni")
START = {
    "cutoff_ang": 4.5,
    "switch_ang": 3.0,
    "descriptor": {"neuron": (8, 10), "axis_neuron": 6, "start": "radial"},
    "fitting_net": {"neuron": (20,), "start": "principal"},
}


def structure(seed: int, n_nickel: int) -> Atoms:
    atoms = bulk("Al", "fcc", a=3.9, cubic=True).repeat((2, 1, 1))
    atoms.numbers[np.random.default_rng(seed).permutation(8)[:n_nickel]] = 28
    atoms.rattle(0.1, seed=seed)
    return atoms


def frames(n: int = 12) -> list[Frame]:
    teacher = lennard_jones(*ELEMENTS)
    found = []
    for seed in range(n):
        atoms = structure(seed, n_nickel=seed % 5)
        label = teacher.evaluate([atoms])[0]
        found.append(Frame(atoms, label.energy_ev, label.forces, label.stress))
    return found


def model_of(**changes: object) -> DeepPotModel:
    return DeepPotSettings.model_validate({**START, "seed": 1, **changes}).build(ELEMENTS)


def solved(model: DeepPotModel, data: list[Frame], ridge: float = 1e-9, **loss: object) -> TrainingResult:
    settings = {"optimizer": {"kind": "least_squares", "ridge": ridge}, "loss": loss or {"kind": "rmse"}}
    return train(model, data, (), (), TrainingSettings.model_validate(settings), seed=2)


def output_weights(model: DeepPotModel) -> torch.Tensor:
    named = dict(model.named_parameters())
    return torch.cat([named[name].detach().reshape(-1) for name in model.linear_parameters()])


@pytest.mark.parametrize("widths", [(7,), (9, 9), (5, 10, 10)])
def test_rows_are_the_derivatives(widths: tuple[int, ...]) -> None:
    """Energies and slopes are the rows times the parameters, less what a model with zeros there gives."""
    model = model_of(fitting_net={"neuron": widths})
    model.prepare(frames(4), seed=0)
    batch = collate([build_graph(a, ELEMENTS, 4.5) for a in (structure(0, 3), bulk("Ni"), structure(1, 0))])
    rows = model.linear_rows(batch)
    assert rows.columns.tolist() == list(range(2 * (widths[-1] + 1)))
    energies, slopes = model.energies_and_pair_forces(batch)
    weights = output_weights(model)
    with torch.no_grad():
        for name in model.linear_parameters():
            dict(model.named_parameters())[name].zero_()
    still, none = model.energies_and_pair_forces(batch)
    torch.testing.assert_close(rows.energies @ weights + still, energies.detach())
    torch.testing.assert_close(rows.slopes @ weights + none, slopes.detach(), rtol=1e-8, atol=1e-11)
    assert slopes.abs().max() > 1e-3
    alone = model.linear_rows(collate([build_graph(bulk("Ni"), ELEMENTS, 4.5)]))
    assert alone.columns.tolist() == list(range(widths[-1] + 1, 2 * (widths[-1] + 1)))


@pytest.mark.parametrize(
    "loss",
    [
        {"kind": "squared", "limit_virial": 0.1},
        {"kind": "rmse", "energy": 5.0, "group_weights": {"": 2.0}},
    ],
)
def test_the_solution_is_a_minimum(loss: dict) -> None:
    """No gradient is left in the output layer; labels that are not there do not count."""
    data = frames(8)
    data[2], data[5] = replace(data[2], forces=None), replace(data[5], stress=None)
    model = model_of()
    result = solved(model, data, **loss)
    assert result.stop_reason == "converged"
    assert result.n_steps == 1
    assert result.best_metrics["score"] < 0.2 * result.history[0]["score"]
    settings = TrainingSettings.model_validate({"loss": loss}).loss
    objective = Objective(model, (), settings)
    part = LabelledFrames(data, ELEMENTS, 4.5).batch(range(8))
    places = objective.places(model.linear_parameters())
    _, gradient = objective.gradient([part], settings.prefactors(0.0))
    with torch.no_grad():
        model.fitting(0).output_weight += 0.01
    _, beside = objective.gradient([part], settings.prefactors(0.0))
    assert gradient[places].abs().max() < 1e-3 * beside[places].abs().max()


def test_a_ridge_makes_small_weights_and_worse_fits() -> None:
    sizes, scores = [], []
    for ridge in (1e-9, 1e-2):
        model = model_of()
        scores.append(solved(model, frames(), ridge).best_metrics["score"])
        sizes.append(float(output_weights(model).abs().max()))
    assert sizes[1] < 0.4 * sizes[0]
    assert scores[1] > 1.2 * scores[0]


def test_the_start_from_data_beats_the_random_one() -> None:
    """Errors of frames that were not learned from, with equal networks."""
    data = frames(24)
    errors = {}
    for start in ("data", "random"):
        plain = {"descriptor": {"neuron": (8, 10), "axis_neuron": 6}, "fitting_net": {"neuron": (20,)}}
        model = model_of(**({} if start == "data" else plain))
        settings = TrainingSettings.model_validate({"optimizer": {"kind": "least_squares"}, "patience": None})
        result = train(model, data[:18], data[18:], (), settings, seed=0)
        errors[start] = result.best_metrics["validation_force_mae"]
    assert errors["data"] < 0.6 * errors["random"]


def test_a_species_whose_atoms_are_all_alike_keeps_its_random_start() -> None:
    """A perfect crystal has no principal components; dividing by its spread would give NaN, or rounding errors."""
    nickel = bulk("Ni", "fcc", a=3.5, cubic=True)
    label = lennard_jones(*ELEMENTS).evaluate([nickel])[0]
    data = [frame for frame in frames(10) if 28 not in frame.atoms.numbers]
    model = model_of()
    model.prepare([*data, Frame(nickel, label.energy_ev, label.forces, label.stress)], seed=0)
    sizes = [float(model.fitting(a).weights[0].detach().abs().max()) for a in range(2)]
    assert 0.0 < sizes[1] < 10.0
    output = model(collate([build_graph(nickel, ELEMENTS, model.cutoff_ang)], dtype=torch.float64))
    assert bool(torch.isfinite(output.energies).all())


def test_equal_atoms_have_no_contrasts_and_others_are_seen_by_their_size() -> None:
    """Aluminium sees nickel as aluminium that is further away by the mean of their sizes, and as another species."""
    model = model_of()
    model.prepare([Frame(bulk("Al"), -3.0), Frame(bulk("Ni"), -5.0), Frame(bulk("Al", a=3.9), -2.9)], seed=0)
    r = torch.linspace(2.5, 3.6, 12, dtype=torch.float64)[:, None]

    def seen(centre: int, neighbour: int, r: torch.Tensor) -> torch.Tensor:
        s, _ = weighted_inverse(r, 3.0, 4.5)
        x = (s - model.means[0]) / model.deviations[0, 0]
        return s * model.embedding(centre, neighbour)(x)

    assert model.means[0] == model.means[1]
    assert seen(0, 0, r)[:, 6:].abs().max() < 1e-12
    for centre, neighbour in ((0, 1), (1, 0)):
        found = seen(centre, neighbour, r)
        sizes = [(4.05 + 3.9) / 2, 3.52]  # nearest neighbours of fcc, but for a factor
        ratio = 2.0 * sizes[centre] / sum(sizes)
        torch.testing.assert_close(found[:, :6], seen(centre, centre, ratio * r)[:, :6], rtol=0.0, atol=0.015)
        assert (found[:, :6] - seen(centre, centre, r)[:, :6]).abs().max() > 0.03
        assert found[:, 6:].abs().max() > 1e-3


@pytest.mark.parametrize(
    ("elements", "axes"),
    [
        (("Ni",), np.zeros((1, 0))),
        (("Nb", "Mo", "Ta", "W"), [[0, 0], [1, 0], [0, 1], [1, 1]]),
        (("Al", "Ni", "Cu"), [[1, 0], [0, 1], [1 / 3, 1]]),
        (("Ni", "Pd"), [[0], [1]]),
        (("H", "He"), [[0], [1]]),
        (("La", "Ce", "Gd"), [[0], [1 / 7], [1]]),
        (("Hf", "La"), [[1], [0]]),
    ],
)
def test_contrasts_are_those_of_the_periodic_table(elements: tuple[str, ...], axes: object) -> None:
    np.testing.assert_allclose(contrasts(elements), axes)


def test_it_goes_on_after_a_stop(tmp_path) -> None:
    """Killed before or after its one step, it ends with the bits of a training that was not."""
    whole = model_of()
    solved(whole, frames())
    path = tmp_path / "checkpoint"
    settings = TrainingSettings.model_validate(
        {"optimizer": {"kind": "least_squares", "ridge": 1e-9}, "checkpoint_every_s": 0.0}
    )
    for _ in range(2):
        again = model_of()
        result = train(again, frames(), (), (), settings, seed=2, checkpoint_path=path)
        assert result.stop_reason == "converged"
        assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


@pytest.mark.slow
def test_kill_9_and_resume_gives_the_same_bits(tmp_path: Path) -> None:
    """Killed among the batches of the normal equations, and again once their solution is judged."""
    command = [sys.executable, str(CHILD), str(tmp_path / "training.ckpt"), str(tmp_path / "weights.npy")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for moment in ("batch\nbatch\n", "step 1\n"):
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            told = ""
            while not told.endswith(moment):
                line = child.stdout.readline()
                assert line
                told += line
            child.send_signal(signal.SIGKILL)
            child.stdout.read()
        assert child.returncode == -signal.SIGKILL
        assert not (tmp_path / "weights.npy").exists()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    whole = subprocess.run(
        [*command[:2], "none", str(tmp_path / "whole.npy")], env=environment, check=True, capture_output=True, text=True
    )
    assert whole.stdout.count("batch") > 3
    assert np.array_equal(np.load(tmp_path / "weights.npy"), np.load(tmp_path / "whole.npy"))


def test_what_it_cannot_do_is_an_error() -> None:
    settings = TrainingSettings.model_validate({"optimizer": {"kind": "least_squares"}})
    with pytest.raises(SurrogateError, match=r"least_squares needs .*Morse.* are not; choose"):
        train(start_model(), labelled_frames(3), settings=settings, seed=0)
    model = model_of(fitting_net={"neuron": (60,), "start": "principal"})
    with pytest.raises(SurrogateError, match=r"singular with ridge = 0; choose a larger one"):
        solved(model, frames(2), ridge=0.0)
    model = model_of()
    model.fitting(0).output_bias.requires_grad_(False)
    with pytest.raises(SurrogateError, match=r"fittings\.0\.output_bias must be free"):
        solved(model, frames(2))
    assert isinstance(settings.loss, RmseLossSettings)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"descriptor": {"neuron": [8, 16], "axis_neuron": 4, "start": "radial"}}, "two widths without a shortcut"),
        ({"descriptor": {"neuron": [8], "axis_neuron": 4, "start": "radial"}}, "two widths without a shortcut"),
        ({"descriptor": {"neuron": [8, 12], "axis_neuron": 9, "start": "radial"}}, "which must be as wide, got 8"),
        (
            {"descriptor": {"neuron": [8, 12], "start": "radial", "type_one_side": True}},
            "leave type_one_side out",
        ),
        ({"fitting_net": {"start": "principal", "normalize_features": False}}, "set normalize_features: true"),
    ],
)
def test_impossible_starts_are_refused(values: dict, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        DeepPotSettings.model_validate(values)
