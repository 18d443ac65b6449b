"""What do workers that share the frames cost, and how much faster is a training with them?

A small deep potential of copper learns from rattled cells of 108 atoms, labelled by the ZJW04 potential, by Adam on
mini-batches: in one process, and on worker processes of this machine. Figures are per step, without the first epoch, in
which caches are filled; CPU time is that of the driver and that of the workers.

    python benchmarks/training_workers.py --workers 0 1 2 --batch 4
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing

from alloysmith.loop.execution.settings import WorkerSettings
from alloysmith.loop.training_workers import ShardWorkers
from alloysmith.surrogates.deeppot.settings import DeepPotSettings
from alloysmith.surrogates.eam.settings import EamSettings
from alloysmith.surrogates.potentials.base import PotentialSpec
from alloysmith.surrogates.potentials.frame import Frame
from alloysmith.surrogates.potentials.torch_potential import TorchPotential
from alloysmith.surrogates.potentials.training import train
from alloysmith.surrogates.potentials.training_settings import TrainingSettings
from ase.build import bulk

MODEL = {
    "cutoff_ang": 6.0,
    "switch_ang": 5.0,
    "seed": 1,
    "descriptor": {"neuron": [10, 20]},
    "fitting_net": {"neuron": [50, 50]},
}


def frames(n: int) -> list[Frame]:
    """Rattled cells with labels."""
    labeller = TorchPotential(PotentialSpec("eam", ("Cu",), 6.5), EamSettings().build(("Cu",)))
    found = []
    for k in range(n):
        atoms = bulk("Cu", cubic=True) * (3, 3, 3)
        atoms.rattle(0.15, seed=k)
        label = labeller.evaluate([atoms])[0]
        found.append(Frame(atoms, label.energy_ev, label.forces, label.stress))
    return found


def measure(n_workers: int, data: list[Frame], settings: TrainingSettings, executor: str) -> tuple[float, float, float]:
    """Wall time, CPU time of the driver and CPU time of the workers, ms for each step after the first epoch."""
    rows: list[tuple[int, float, float, float]] = []
    with ExitStack() as stack:
        workers = None
        if n_workers:
            where = WorkerSettings.model_validate({"executor": executor, "n_workers": n_workers})
            workers = stack.enter_context(closing(ShardWorkers(where)))

        def report(step: int, metrics: Mapping[str, float]) -> bool:
            elsewhere = 0.0 if workers is None else workers.cpu_s
            rows.append((step, time.monotonic(), time.process_time(), elsewhere))
            return True

        model = DeepPotSettings.model_validate(MODEL).build(("Cu",))
        train(model, data, data[:2], settings=settings, seed=0, report=report, workers=workers)
    first, last = rows[1], rows[-1]
    wall, driver, others = (1e3 * (b - a) / (last[0] - first[0]) for a, b in zip(first[1:], last[1:], strict=True))
    return wall, driver, others


def main() -> None:
    """Print a row for each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="0 is one process")
    parser.add_argument("--executor", choices=["process_pool", "ray"], default="process_pool")
    parser.add_argument("--batch", type=int, default=4, help="frames of a mini-batch")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=4)
    arguments = parser.parse_args()
    data = frames(arguments.frames)
    adam = {"kind": "adam", "batch_frames": arguments.batch, "learning_rate": 1e-3}
    settings = TrainingSettings.model_validate({"optimizer": adam, "max_epochs": arguments.epochs, "patience": None})
    print("| workers | wall, ms/step | CPU of the driver | CPU of the workers |\n| --- | --- | --- | --- |")
    for n_workers in arguments.workers:
        row = measure(n_workers, data, settings, arguments.executor)
        print(f"| {n_workers or 'none'} | " + " | ".join(f"{figure:.1f}" for figure in row) + " |", flush=True)


if __name__ == "__main__":
    main()
