"""Training on workers that share the frames: the weights of one process, and no worker's death changes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from alloysmith.loop.execution.base import ExecutorError
from alloysmith.loop.execution.settings import WorkerSettings
from alloysmith.loop.potential_fitting import PotentialFitConfig, fit_potential
from alloysmith.loop.training_workers import ShardWorkers
from alloysmith.structures.files import write_structures
from alloysmith.surrogates.base import SurrogateError
from alloysmith.surrogates.deeppot.settings import DeepPotSettings
from alloysmith.surrogates.potentials.frame import Frame
from alloysmith.surrogates.potentials.frame_sums import dealt
from alloysmith.surrogates.potentials.model import PotentialModel
from alloysmith.surrogates.potentials.training import TrainingResult, train
from alloysmith.surrogates.potentials.training_settings import TrainingSettings
from alloysmith.tests.surrogates.potentials.morse_training import FragileModel, labelled_frames, start_model

SQUARED = {"kind": "squared", "start_virial": 0.02, "limit_virial": 1.0}
CASES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "adam": ("deep", {"optimizer": {"kind": "adam", "batch_frames": 4}}),
    "adam of parts": ("deep", {"optimizer": {"kind": "adam", "batch_frames": 8}, "max_pairs": 300, "loss": SQUARED}),
    "adam reshuffled": ("morse", {"optimizer": {"kind": "adam", "batch_frames": 5, "reshuffle": "frames"}}),
    "lbfgs": ("morse", {"optimizer": {"kind": "lbfgs"}}),
    "gauss_newton": ("morse", {"optimizer": {"kind": "gauss_newton", "curvature_frames": 6}, "max_pairs": 300}),
    # small ridges make equations that multiply what rounding does by a thousand
    "least_squares": ("deep", {"optimizer": {"kind": "least_squares", "ridge": 1e-3}}),
}


def model_of(name: str) -> PotentialModel:
    if name == "morse":
        return start_model()
    net = {"neuron": [4, 8], "axis_neuron": 2}
    settings = {"cutoff_ang": 5.0, "switch_ang": 3.0, "descriptor": net, "fitting_net": {"neuron": [6]}, "seed": 1}
    return DeepPotSettings.model_validate(settings).build(("Cu",))


def frames() -> list[Frame]:
    """Some without forces, some without stress."""
    return [
        replace(frame, forces=None if k % 5 == 1 else frame.forces, stress=None if k % 3 == 2 else frame.stress)
        for k, frame in enumerate(labelled_frames(13))
    ]


def weights(model: torch.nn.Module) -> np.ndarray:
    return torch.cat([tensor.detach().reshape(-1) for tensor in model.parameters()]).numpy()


@contextmanager
def workers_on(executor: str, n_workers: int) -> Iterator[ShardWorkers]:
    settings = WorkerSettings.model_validate({"executor": executor, "n_workers": n_workers})
    with closing(ShardWorkers(settings)) as workers:
        yield workers


def trained(case: str, executor: str | None = None, n_workers: int = 2, **more: Any) -> TrainingResult:
    name, changes = CASES[case]
    settings = TrainingSettings.model_validate({"max_epochs": 2, **changes})
    known = frames()
    arguments = {"train": known[:10], "validation": known[10:], "settings": settings, "seed": 3, **more}
    if executor is None:
        return train(model_of(name), **arguments)
    with workers_on(executor, n_workers) as workers:
        return train(model_of(name), workers=workers, **arguments)


def assert_same(found: TrainingResult, expected: TrainingResult, rel: float) -> None:
    assert weights(found.model) == pytest.approx(weights(expected.model), rel=rel, abs=rel)
    assert len(found.history) == len(expected.history)
    for row, wanted in zip(found.history, expected.history, strict=True):
        assert row.keys() == wanted.keys()
        for name in row.keys() - {"wall_s", "cpu_s"}:
            assert row[name] == pytest.approx(wanted[name], rel=1e3 * rel), name


@pytest.mark.parametrize(("case", "n_workers"), [*((case, 3) for case in CASES), ("adam", 1)])
def test_shards_give_the_weights_of_one_process(case: str, n_workers: int) -> None:
    assert_same(trained(case, "in_process", n_workers), trained(case), 1e-12)


@pytest.mark.slow
def test_a_killed_worker_changes_no_bit(tmp_path: Path) -> None:
    """It is killed in the middle of a step, and its shard lives on in another process."""
    known, flag = frames(), tmp_path / "flag"
    settings = TrainingSettings.model_validate({**CASES["adam"][1], "max_epochs": 2})
    told: list[int] = []

    def report(step: int, metrics: Mapping[str, float]) -> bool:
        if not told:  # before the first step
            flag.touch()
        told.append(step)
        return True

    model = FragileModel(flag, "dies")
    with workers_on("process_pool", 2) as workers:
        found = train(model, known, settings=settings, seed=3, report=report, workers=workers)
        assert 0.0 < workers.cpu_s <= found.cpu_s
    assert told == [0, 4, 8]
    assert not flag.exists()  # a worker did take it away
    with workers_on("in_process", 2) as workers:
        expected = train(start_model(), known, settings=settings, seed=3, workers=workers)
    assert np.array_equal(weights(found.model), weights(expected.model))


@pytest.mark.slow
@pytest.mark.parametrize("case", ["adam", "gauss_newton", "least_squares"])
def test_processes_give_the_weights_of_one(case: str) -> None:
    assert_same(trained(case, "process_pool"), trained(case), 1e-12)


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_ray_actors_give_the_weights_of_one_process() -> None:
    assert_same(trained("adam", "ray"), trained("adam"), 1e-12)


@pytest.mark.parametrize(
    ("does", "error", "message"),
    [
        ("refuses", SurrogateError, "training worker 0: no sums today"),
        ("fails", ExecutorError, r"training worker 0 failed 4 times at the same sums: .* RuntimeError: a defect"),
    ],
)
def test_what_goes_wrong_in_workers_is_told(does: str, error: type[Exception], message: str, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    with workers_on("in_process", 2) as workers, pytest.raises(error, match=message):
        train(FragileModel(flag, does), frames(), seed=0, workers=workers)


def test_more_workers_than_frames() -> None:
    settings = TrainingSettings(max_epochs=3)
    with workers_on("in_process", 4) as workers:
        found = train(start_model(), frames()[:2], settings=settings, seed=0, workers=workers)
    expected = train(start_model(), frames()[:2], settings=settings, seed=0)
    assert weights(found.model) == pytest.approx(weights(expected.model), rel=1e-9)


def test_a_killed_training_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    """The state in the checkpoint is all there is: workers have none."""
    path = tmp_path / "training.checkpoint"
    whole = trained("adam", "in_process")
    cut = trained("adam", "in_process", checkpoint_path=path, report=lambda step, _: step < 3)
    assert cut.stop_reason == "stopped"
    content = path.read_bytes()
    resumed = trained("adam", "in_process", checkpoint_path=path)
    assert resumed.n_steps == whole.n_steps > cut.n_steps
    assert np.array_equal(weights(resumed.model), weights(whole.model))
    path.write_bytes(content)
    assert_same(trained("adam", "in_process", 3, checkpoint_path=path), whole, 1e-12)


def test_pairs_are_dealt_evenly_in_each_step() -> None:
    rng = np.random.default_rng(0)
    n_pairs = rng.integers(0, 1000, size=120)
    steps = np.array_split(rng.permutation(120), 10)
    owners = dealt(n_pairs, steps, 3)
    assert np.array_equal(owners, dealt(n_pairs, steps, 3))
    for step in steps:
        loads = np.bincount(owners[step], weights=n_pairs[step], minlength=3)
        assert loads.max() - loads.min() <= n_pairs[step].max() + 1


def test_a_fit_takes_its_workers_from_the_configuration(tmp_path: Path) -> None:
    rows = []
    for frame in labelled_frames(12):
        atoms = frame.atoms.copy()
        atoms.info["energy"] = frame.energy_ev
        atoms.arrays["forces"] = frame.forces
        rows.append(atoms)
    data = tmp_path / "data.xyz"
    write_structures(data, rows)
    config = {
        "potential": {"kind": "deeppot", "cutoff_ang": 5.0, "switch_ang": 3.0, "fitting_net": {"neuron": [4]}},
        "elements": ["Cu"],
        "data": {"files": [{"path": str(data)}]},
        "training": {"optimizer": {"kind": "adam"}, "max_epochs": 2, "loss": {"kind": "rmse", "virial": 0.0}},
    }
    alone = fit_potential(PotentialFitConfig.model_validate(config))
    shared = fit_potential(
        PotentialFitConfig.model_validate({**config, "workers": {"executor": "in_process", "n_workers": 2}})
    )
    assert weights(shared.potential.model) == pytest.approx(weights(alone.potential.model), rel=1e-10)
