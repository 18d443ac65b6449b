"""Forces from voxels: the paper's boxes and resolutions side by side, the dense network, and the speed of voxelization.

Snapshots of one random 54-atom Ta-Nb-Mo crystal from 100 to 1,500 K (`sampling/tanbmo_solid`, EAM of Zhou, Johnson and
Wadley in the place of DFT) are split by snapshot, and every network learns from the same atoms. Pearson's r and the
mean squared error, in units of the largest training force as in the paper, are of all atoms of the held-out snapshots.
The paper, with 256 filters, 70,000 DFT snapshots and GPUs: r 0.942 (outer box, 8^3); losses outer 16^3 0.0075, outer
8^3 0.01, dense 0.02, inner worse than dense.

    python benchmarks/voxel_forces.py                          # about six CPU-minutes
    python benchmarks/voxel_forces.py --only outer-8 dense --figures figures.html
    python benchmarks/voxel_forces.py --only none              # the speed alone
    python benchmarks/voxel_forces.py --data dft.extxyz        # frames with forces of your own
    python benchmarks/voxel_forces.py --models models          # keeps the models, for `predict` on other crystals
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from alloysmith.generators.melt_sampling import MeltSamplingSettings, sample_melts
from alloysmith.loop.cli.arguments import find_config
from alloysmith.loop.config import load_settings
from alloysmith.loop.potential_choice import find_potential
from alloysmith.loop.report.build import write_page
from alloysmith.loop.report.page import Section, page, plot
from alloysmith.loop.report.style import SERIES
from alloysmith.loop.voxel_fitting import VoxelFitConfig, fit_voxels
from alloysmith.structures.files import read_structures, write_structures
from alloysmith.surrogates.potentials.native import force_field_of
from alloysmith.surrogates.voxels.environments import environments
from alloysmith.surrogates.voxels.voxel_grids import VoxelGrids, VoxelGridSettings, voxel_grids

ELEMENTS = ("Mo", "Nb", "Ta")
SPECIES = ["Z == 73", "Z == 41", "Z == 42"]


def cnn(box: str, n_voxels: int, dropout: float = 0.0, **grid: Any) -> dict[str, Any]:
    """The convolutional network at a size for a CPU."""
    return {"kind": "cnn", "grid": {"box": box, "n_voxels": n_voxels, **grid}, "filters": 32, "dropout": dropout}


RUNS: dict[str, dict[str, Any]] = {
    "outer-8": cnn("outer", 8),
    "dense": {"kind": "dense", "grid": {"n_voxels": 8}},
    "inner-8": cnn("inner", 8),
    "outer-4": cnn("outer", 4),
    "inner-4": cnn("inner", 4),
    "dense-inner": {"kind": "dense", "grid": {"box": "inner", "n_voxels": 8}},
    "outer-8-dropout": cnn("outer", 8, dropout=0.5),
    "outer-8-inside": cnn("outer", 8, sum_over="voxel"),
    "outer-8-wide": cnn("outer", 8, gamma=16.0),
    "outer-8-species": cnn("outer", 8, descriptors=SPECIES),
    "outer-8-paper": {"kind": "cnn", "grid": {"n_voxels": 8}},  # 256 filters, dropout 0.5
    "outer-16": cnn("outer", 16),
    "inner-16": cnn("inner", 16),
}


def main() -> None:
    """Fit, print the tables, draw the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="frames with energies and forces, instead of making them")
    parser.add_argument("--only", nargs="+", choices=[*RUNS, "none"], default=list(RUNS), metavar="NAME")
    parser.add_argument("--atoms", type=int, default=6000, help="atoms to learn from")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--figures", type=Path, help="HTML file for the losses over the epochs")
    parser.add_argument("--models", type=Path, help="folder to keep the models in")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        data = args.data or make_frames(Path(scratch) / "tanbmo.extxyz")
        names = [name for name in args.only if name != "none"]
        curves = fit_all(names, data, args.atoms, args.epochs, args.models)
        if args.figures is not None and curves:
            sections = [loss_curves(curves)]
            write_page(
                page("Forces from voxels", "Losses over the epochs.", sections, "", kicker="Benchmark"), args.figures
            )
        speed(data)


def make_frames(path: Path) -> Path:
    """The snapshots of the shipped configuration."""
    started = time.process_time()
    settings = load_settings(find_config("sampling/tanbmo_solid"), MeltSamplingSettings)
    with force_field_of(find_potential("zjw04", settings.elements()).potential) as force_field:
        frames = [atoms for melt in sample_melts(force_field, settings) for atoms in melt.frames]
    write_structures(path, frames)
    print(f"{len(frames)} frames of molecular dynamics, {time.process_time() - started:.0f} CPU-s\n", flush=True)
    return path


def fit_all(
    names: list[str], data: Path, n_atoms: int, n_epochs: int, folder: Path | None
) -> dict[str, list[tuple[float, float]]]:
    """Fit each network; return training and validation errors by epoch, eV/Å."""
    print("| network | Pearson r | x | y | z | MAE eV/Å | MSE / max² | r at 300 K | r at 1500 K | CPU-s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    curves: dict[str, list[tuple[float, float]]] = {}
    for name in names:
        training = {"max_epochs": n_epochs, "max_atoms": n_atoms}
        config = VoxelFitConfig.model_validate({"voxel_forces": {**RUNS[name], "training": training}})
        curve: list[tuple[float, float]] = []

        def note(epoch: int, row: Any, curve: list[tuple[float, float]] = curve) -> bool:
            curve.append((row["training_mae_ev_ang"], row["validation_mae_ev_ang"]))
            return True

        started = time.process_time()
        fitted = fit_voxels(config, [data], report=note)
        cpu_s = time.process_time() - started
        curves[name] = curve
        test = fitted.errors["test"]
        all_atoms = test["all"]
        loss = (all_atoms.rmse / fitted.model.scale_ev_ang) ** 2
        of_groups = " | ".join(f"{test[key].r:.3f}" if key in test else "-" for key in ("300", "1500"))
        xyz = " | ".join(f"{r:.3f}" for r in all_atoms.r_xyz)
        print(
            f"| {name} | **{all_atoms.r:.3f}** | {xyz} | {all_atoms.mae:.3f} | {loss:.4f} | {of_groups} | {cpu_s:.0f} |"
        )
        print(end="", flush=True)
        if folder is not None:
            from alloysmith.surrogates.model_file import save_state

            folder.mkdir(parents=True, exist_ok=True)
            save_state(fitted.model.state(), folder / f"{name}.safetensors")
    return curves


def loss_curves(curves: dict[str, list[tuple[float, float]]]) -> Section:
    """Errors over the epochs, as in Fig. 4.

    Args:
        curves: name of a network -> (training, validation) error of each epoch, eV/Å.
    """
    figure = go.Figure()
    for k, (name, curve) in enumerate(curves.items()):
        colour = SERIES[k % len(SERIES)]
        for column, (part, dash) in enumerate((("training", "dot"), ("validation", "solid"))):
            values = [row[column] for row in curve]
            line = {"color": colour, "dash": dash}
            epochs = list(range(1, len(values) + 1))
            figure.add_trace(
                go.Scatter(x=epochs, y=values, name=f"{name}, {part}", mode="lines", line=line, legendgroup=name)
            )
    figure.update_xaxes(title_text="epoch")
    figure.update_yaxes(title_text="mean absolute error (eV/Å)", type="log")
    return Section("Losses", plot(figure, name="losses", height=520))


def speed(data: Path) -> None:
    """Grids per second on one thread, against plain NumPy on the same atoms."""
    frames = read_structures(data)[:8]
    print(
        "\n| grid | Numba, grids/CPU-s | NumPy, one atom at a time | NumPy, one grid at a time | faster than the best |"
    )
    print("| --- | --- | --- | --- | --- |", flush=True)
    for sum_over in ("environment", "voxel"):
        for n in (4, 8, 16):
            settings = VoxelGridSettings(n_voxels=n, sum_over=sum_over)
            grids = voxel_grids(environments(frames, ELEMENTS, settings.cutoff_ang), settings)
            rows = np.arange(len(grids))
            expected = plain_grids(grids, rows[:40])
            np.testing.assert_allclose(grids.draw(rows[:40]), expected, rtol=1e-6, atol=1e-6)  # compiles as well
            rates = [
                rate(lambda some, grids=grids: grids.draw(some), rows),
                rate(lambda some, grids=grids: plain_grids(grids, some), rows[:100]),
                rate(lambda some, grids=grids: vectorized_grids(grids, some), rows[:200]),
            ]
            columns = " | ".join(f"{value:,.0f}" for value in rates)
            print(f"| {sum_over}, {n}^3 | {columns} | {rates[0] / max(rates[1:]):.0f} |", flush=True)


def rate(draw: Any, rows: np.ndarray) -> float:
    """Grids per CPU second, the best of three."""
    best = 0.0
    for _ in range(3):
        started = time.process_time()
        n = 0
        while time.process_time() - started < 0.3:
            draw(rows)
            n += len(rows)
        best = max(best, n / (time.process_time() - started))
    return best


def plain_grids(grids: VoxelGrids, rows: np.ndarray) -> np.ndarray:
    """Eqs. 2 and 3 in plain NumPy, an atom at a time."""
    n = grids.settings.n_voxels
    low, edge = grids.boxes(rows)
    drawn = np.zeros((len(rows), grids.weights.shape[1], n, n, n))
    centres = (2.0 * np.arange(n) + 1.0) / n - 1.0
    for k, row in enumerate(rows):
        for pair in range(grids.found.starts[row], grids.found.starts[row + 1]):
            place = 2.0 * (grids.found.vectors[pair] - low[k]) / edge[k] - 1.0  # the box reaches from -1 to 1
            if not ((place > -1.0) & (place <= 1.0)).all():
                continue
            offsets = [(centres - p) ** 2 for p in place]
            squared = offsets[0][:, None, None] + offsets[1][:, None] + offsets[2]
            values = np.exp(-squared / (2.0 * (grids.settings.gamma / n) ** 2))
            if grids.settings.sum_over == "voxel":
                values = values * _is_inside(n, place)
            drawn[k] += grids.weights[pair][:, None, None, None] * values
    return drawn


def vectorized_grids(grids: VoxelGrids, rows: np.ndarray) -> np.ndarray:
    """The same with all atoms of an environment at once."""
    n = grids.settings.n_voxels
    low, edge = grids.boxes(rows)
    drawn = np.zeros((len(rows), grids.weights.shape[1], n, n, n))
    centres = (2.0 * np.arange(n) + 1.0) / n - 1.0
    for k, row in enumerate(rows):
        own = slice(grids.found.starts[row], grids.found.starts[row + 1])
        places = 2.0 * (grids.found.vectors[own] - low[k]) / edge[k] - 1.0
        inside = ((places > -1.0) & (places <= 1.0)).all(axis=1)
        places, weights = places[inside], grids.weights[own][inside]
        profiles = np.exp(-((places[:, :, None] - centres) ** 2) / (2.0 * (grids.settings.gamma / n) ** 2))
        if grids.settings.sum_over == "environment":
            drawn[k] = np.einsum("ac,ai,aj,ak->cijk", weights, *profiles.transpose(1, 0, 2), optimize=True)
        else:
            voxels = np.ceil((places + 1.0) * n / 2.0).astype(int) - 1
            values = np.take_along_axis(profiles, voxels[:, :, None], axis=2)[:, :, 0].prod(axis=1)
            np.add.at(drawn[k], (slice(None), *voxels.T), (weights * values[:, None]).T)
    return drawn


def _is_inside(n: int, place: np.ndarray) -> np.ndarray:
    """Which voxels the point is inside of: the test of Eq. 2, ``[n, n, n]``."""
    corner = 2.0 * np.arange(n) / n - 1.0
    edge = 2.0 / n
    x, y, z = (((p - corner) * edge > 0.0) & ((p - corner) * edge <= edge * edge) for p in place)
    return np.asarray(x[:, None, None] & y[:, None] & z)


if __name__ == "__main__":
    main()
