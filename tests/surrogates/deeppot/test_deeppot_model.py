from __future__ import annotations

import numpy as np
import pytest
import torch
from alloysmith.surrogates.base import SurrogateError, SurrogateState
from alloysmith.surrogates.deeppot.adjoints import tanh_
from alloysmith.surrogates.deeppot.environment import weighted_inverse
from alloysmith.surrogates.deeppot.model import DeepPotModel
from alloysmith.surrogates.deeppot.neighbours import neighbours
from alloysmith.surrogates.deeppot.settings import DeepPotSettings, deeppot_from_state
from alloysmith.surrogates.potentials.base import PotentialSpec
from alloysmith.surrogates.potentials.frame import Frame
from alloysmith.surrogates.potentials.graph import Batch, build_graph, collate, deformed
from alloysmith.surrogates.potentials.model import PotentialModel
from alloysmith.surrogates.potentials.settings import potential_from_state
from alloysmith.surrogates.potentials.torch_potential import TorchPotential
from alloysmith.surrogates.potentials.training import train
from alloysmith.surrogates.potentials.training_settings import TrainingSettings
from alloysmith.tests.lennard_jones import lennard_jones
from ase import Atoms
from ase.build import bulk
from pydantic import ValidationError

ELEMENTS = ("Al", "Ni")


def settings(**changes) -> DeepPotSettings:
    parts = {"descriptor": {"neuron": (6, 12), "axis_neuron": 3}, "fitting_net": {"neuron": (10, 10)}}
    return DeepPotSettings.model_validate({"cutoff_ang": 4.5, "switch_ang": 3.0, "seed": 3, **parts, **changes})


def structure(seed: int, n_nickel: int = 3) -> Atoms:
    atoms = bulk("Al", "fcc", a=3.9, cubic=True).repeat((2, 1, 1))
    atoms.numbers[np.random.default_rng(seed).permutation(8)[:n_nickel]] = 28
    atoms.rattle(0.1, seed=seed)
    return atoms


def frames(n: int = 6) -> list[Frame]:
    teacher = lennard_jones(*ELEMENTS)
    found = []
    for seed in range(n):
        atoms = structure(seed, n_nickel=seed % 5)
        label = teacher.evaluate([atoms])[0]
        found.append(Frame(atoms, label.energy_ev, label.forces, label.stress))
    return found


def prepared(**changes) -> DeepPotModel:
    model = settings(**changes).build(ELEMENTS)
    model.prepare(frames(), seed=0)
    return model


def batch_of(model: PotentialModel, *structures: Atoms) -> Batch:
    return collate([build_graph(atoms, model.elements, model.cutoff_ang) for atoms in structures])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"descriptor": {"neuron": (2, 4, 4, 7), "axis_neuron": 7, "resnet_dt": True, "type_one_side": True}},
        {"fitting_net": {"neuron": (36, 5), "resnet_dt": False}},  # a shortcut at once
        {"fitting_net": {"neuron": (9, 18), "resnet_dt": True}},
    ],
)
def test_closed_forms_are_the_derivatives(changes: dict) -> None:
    """Slopes by vectors, and gradients of losses in them by the parameters, against automatic derivatives."""
    model = prepared(**changes)
    batch = batch_of(model, structure(0), structure(1, 0), bulk("Ni"))
    weights = torch.linspace(-1.0, 2.0, 3 * len(batch.first), dtype=torch.float64).reshape(-1, 3)
    found = []
    for evaluate in (DeepPotModel.energies_and_pair_forces, PotentialModel.energies_and_pair_forces):
        energies, slopes = evaluate(model, batch)
        gradient = torch.autograd.grad(energies.square().sum() + (weights * slopes).sum(), list(model.parameters()))
        found.append((energies, slopes, *gradient))
    with model.composable():  # the closed forms without the backward passes that are written out
        energies, slopes = model.energies_and_pair_forces(batch)
        gradient = torch.autograd.grad(energies.square().sum() + (weights * slopes).sum(), list(model.parameters()))
    for closed, automatic, composed in zip(*found, (energies, slopes, *gradient), strict=True):
        torch.testing.assert_close(closed, automatic, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(closed, composed, rtol=1e-9, atol=1e-11)
        assert closed.abs().max() > 0.0


def test_a_pair_of_one_species_is_embedded_once() -> None:
    model = prepared()
    batch = batch_of(model, structure(0), structure(1))
    near = neighbours(batch, 2)
    n_pairs, first, second = len(batch.first), batch.types[batch.first], batch.types[batch.second]
    of_two = int((first != second).sum())
    for a, blocks in enumerate(near.blocks):
        for b, block in enumerate(blocks):
            of_one = int(((first == a) & (second == a)).sum())
            assert len(block.embedded) - 1 == (of_one if a == b else of_two) > 0
            assert torch.equal(block.embedded[block.rows] % n_pairs, block.edges.reshape(-1) % n_pairs)
            every = torch.cat([*block.places, block.empty])
            assert torch.equal(every.sort().values, torch.arange(block.edges.numel()))


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 5e-16), (torch.float32, 3e-7)])
def test_the_fast_hyperbolic_tangent(dtype: torch.dtype, error: float) -> None:
    x = torch.cat([torch.linspace(-1e3, 1e3, 2001), torch.linspace(-9.0, 9.0, 2001)]).to(dtype)
    assert (tanh_(x.clone()) - torch.tanh(x)).abs().max() < error


def test_second_derivatives_by_strain_agree() -> None:
    """Elastic constants differentiate the closed form once, or the energy twice."""
    model = prepared()
    batch = batch_of(model, structure(2))

    def energy(strain: torch.Tensor) -> torch.Tensor:
        return model.energies(deformed(batch, strain[None])).sum()

    def virial(strain: torch.Tensor) -> torch.Tensor:
        strained = deformed(batch, strain[None])
        _, slopes = model.energies_and_pair_forces(strained)
        return batch.vectors.T @ slopes

    zero = torch.zeros(3, 3, dtype=torch.float64)
    twice = torch.autograd.functional.hessian(energy, zero)
    with model.composable():
        composed = torch.func.jacfwd(virial)(zero)
    torch.testing.assert_close(torch.autograd.functional.jacobian(virial, zero), twice, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(composed, twice, rtol=1e-9, atol=1e-10)


def test_weights_go_to_zero_with_two_derivatives() -> None:
    r = torch.tensor([2.9, 3.0, 3.6, 4.5, 4.6], dtype=torch.float64, requires_grad=True)
    s, slope = weighted_inverse(r, 3.0, 4.5)
    u = 0.4
    assert s.tolist() == pytest.approx([1 / 2.9, 1 / 3.0, (1 - u**3 * (6 * u**2 - 15 * u + 10)) / 3.6, 0.0, 0.0])
    (automatic,) = torch.autograd.grad(s.sum(), r, create_graph=True)
    (second,) = torch.autograd.grad(automatic.sum(), r)
    torch.testing.assert_close(slope, automatic)
    assert second[1].item() == pytest.approx(2 / 27.0)  # that of 1 / r
    assert slope[3].item() == second[3].item() == 0.0


def test_a_neighbour_leaves_smoothly() -> None:
    """Energies and forces where a third atom crosses the cutoff of a pair; its place in the rows is then empty."""
    model = prepared()

    def evaluate(x: float) -> tuple[float, float]:
        trio = Atoms("NiAlNi", positions=[[0, 0, 0], [0, 2.4, 0], [x, 0, 0]], cell=[40.0] * 3, pbc=True)
        output = model(batch_of(model, trio))
        return output.energies.item(), output.forces[2, 0].item()

    (inside, force), (outside, no_force) = evaluate(4.5 - 1e-4), evaluate(4.5 + 1e-4)
    assert inside == pytest.approx(outside, abs=1e-10)
    assert abs(force) < 1e-7
    assert evaluate(4.0)[1] != pytest.approx(0.0, abs=1e-6)
    assert no_force == pytest.approx(evaluate(4.6)[1], abs=1e-5)


def test_statistics_are_those_of_the_environment() -> None:
    """Counted one atom at a time: rows filled up with zeros to the room there is."""
    data = frames()
    model = prepared()
    rows: dict[int, list[np.ndarray]] = {0: [], 1: []}
    most = np.zeros(2, dtype=int)
    n_rows = int(model.n_neighbours.sum())
    for frame in data:
        graph = build_graph(frame.atoms, ELEMENTS, 4.5)
        for i, kind in enumerate(graph.types):
            away = graph.vectors[graph.first == i]
            near = np.concatenate([away, -graph.vectors[graph.second == i]])
            others = np.concatenate([graph.second[graph.first == i], graph.first[graph.second == i]])
            most = np.maximum(most, np.bincount(graph.types[others], minlength=2))
            r = np.linalg.norm(near, axis=1)
            s = weighted_inverse(torch.from_numpy(r), 3.0, 4.5)[0].numpy()
            matrix = np.zeros((n_rows, 4))
            matrix[: len(r)] = np.column_stack([s, near * (s / r)[:, None]])
            rows[int(kind)].append(matrix)
    assert model.n_neighbours.tolist() == [4 * np.ceil(1.1 * n / 4) for n in most]
    for kind, matrices in rows.items():
        stacked = np.concatenate(matrices)
        assert model.means[kind].item() == pytest.approx(stacked[:, 0].mean(), rel=1e-10)
        expected = [stacked[:, 0].std(), np.sqrt((stacked[:, 1:] ** 2).mean())]
        assert model.deviations[kind].tolist() == pytest.approx(expected, rel=1e-8)


def test_energies_of_the_species_are_fitted_and_the_smallest_where_undetermined() -> None:
    atoms = [structure(0, n) for n in (1, 4, 6)]
    labelled = [Frame(a, -2.0 * (a.numbers == 13).sum() - 5.0 * (a.numbers == 28).sum()) for a in atoms]
    model = settings().build(ELEMENTS)
    model.prepare(labelled, seed=0)
    assert model.energies_ev.tolist() == pytest.approx([-2.0, -5.0])
    model = settings().build(ELEMENTS)
    model.prepare([Frame(bulk("Ni"), -5.0)], seed=0)
    assert model.energies_ev.tolist() == pytest.approx([0.0, -5.0])
    assert model.deviations[0].tolist() == [1.0, 1.0]  # no aluminium was seen


def test_normalized_descriptors_are_another_first_layer() -> None:
    """The same function without normalization, once its first fitting layer is rescaled."""
    model, plain = prepared(), prepared(fitting_net={"neuron": (10, 10), "normalize_features": False})
    assert not torch.equal(model.feature_means, plain.feature_means)
    for a in range(2):
        deviations = model.feature_deviations[a]
        assert 0 < deviations.min() < deviations.max() <= 100.001 * deviations.min()
        with torch.no_grad():
            first = plain.fitting(a)
            first.weights[0] /= deviations[:, None]
            first.biases[0] -= model.feature_means[a] @ first.weights[0]
    batch = batch_of(model, structure(7))
    found, expected = model(batch), plain(batch)
    assert expected.forces.abs().max() > 1e-3
    torch.testing.assert_close(found.energies, expected.energies)
    torch.testing.assert_close(found.forces, expected.forces)


def test_preparing_has_an_effect_once_and_seeds_decide_the_weights() -> None:
    model = prepared()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.prepare([Frame(bulk("Ni", a=3.3), -1.0)], seed=1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())

    def weights(seed: int | None, training_seed: int) -> torch.Tensor:
        found = settings(seed=seed).build(ELEMENTS)
        found.prepare(frames(1), seed=training_seed)
        return torch.cat([tensor.detach().reshape(-1) for tensor in found.parameters()])

    assert torch.equal(weights(3, 0), weights(3, 1))
    assert torch.equal(weights(None, 5), weights(None, 5))
    assert not torch.equal(weights(None, 5), weights(None, 6))


def test_it_learns_and_goes_on_after_a_stop(tmp_path) -> None:
    """Prepared by the training itself; a training in two parts ends with the bits of one."""
    choice = {
        "loss": {"kind": "squared", "start_virial": 0.02, "limit_virial": 0.1},
        "optimizer": {"kind": "adam", "learning_rate": 0.01, "batch_frames": 2},
        "schedule": {"kind": "exponential", "final_factor": 0.05},
        "max_epochs": 12,
        "checkpoint_every_s": 1e6,
    }
    schedule = TrainingSettings.model_validate(choice)
    model = settings(seed=None).build(ELEMENTS)
    result = train(model, frames(), (), (), schedule, seed=4)
    first, best = result.history[0], result.best_metrics
    assert best["validation_energy_rmse_mev"] < 0.8 * first["validation_energy_rmse_mev"]
    assert best["validation_force_rmse"] < 0.6 * first["validation_force_rmse"]
    path = tmp_path / "checkpoint"
    for stop in (5, None):
        again = settings(seed=None).build(ELEMENTS)
        train(
            again,
            frames(),
            (),
            (),
            schedule,
            seed=4,
            checkpoint_path=path,
            report=lambda step, row, stop=stop: stop is None or row["epoch"] < stop,
        )
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_float32_is_close(tmp_path) -> None:
    model = prepared()
    atoms = structure(1)
    exact = model(batch_of(model, atoms))
    model.to(dtype=torch.float32)
    rough = model(collate([build_graph(atoms, ELEMENTS, 4.5)], dtype=torch.float32))
    assert rough.forces.dtype == torch.float32
    torch.testing.assert_close(rough.energies.double(), exact.energies, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(rough.forces.double(), exact.forces, rtol=1e-4, atol=1e-5)


def test_a_damaged_state_is_refused() -> None:
    state = TorchPotential(PotentialSpec("deeppot", ELEMENTS, 4.5), prepared()).state()
    assert isinstance(potential_from_state(state), TorchPotential)
    arrays = {name: array for name, array in state.arrays.items() if name != "means"}
    with pytest.raises(SurrogateError, match=r"damaged.*means.*fit it again"):
        deeppot_from_state(SurrogateState(state.kind, state.settings, arrays))
    with pytest.raises(SurrogateError, match="'deeppot', got 'eam'"):
        deeppot_from_state(SurrogateState("eam", state.settings, state.arrays))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"switch_ang": 6.0}, "switch_ang must be below"),
        ({"descriptor": {"neuron": [5, 10], "axis_neuron": 11}}, "axis_neuron must be at most"),
        ({"descriptor": {"neuron": [0, 10]}}, "positive"),
        ({"fitting_net": {"neuron": []}}, "at least 1"),
    ],
)
def test_impossible_settings_are_refused(values: dict, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        DeepPotSettings.model_validate(values)


def test_elements_must_be_different_symbols() -> None:
    with pytest.raises(SurrogateError, match="different chemical symbols"):
        settings().build(["Ni", "Ni"])
