"""How fast and how exact are spatial density maps, against the paper's 105 ms a map and plain NumPy?

Maps of 32³ voxels with three channels to the cutoff of the paper (its six shells, 112 atoms in BCC), drawn batch by
batch into the same memory as a training does, by one thread. The plain reference is Eq. 1 as it is written, in double
precision. Compiling is not counted; it is done once, and kept on the disk.

    python benchmarks/sdm_maps.py
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
from alloysmith.surrogates.barriers.density_maps import (
    DensityMapSettings,
    Environments,
    MapGrid,
    density_maps,
    environments,
    map_grid,
)
from alloysmith.surrogates.barriers.hops import all_hops
from ase.build import bulk

PAPER_MS = 105.0
WANTED_FACTOR, WANTED_ERROR = 100.0, 1e-6
ELEMENTS = ("Mo", "Nb", "Ta")


def main() -> None:
    """Time both and print a table; the exit status says whether speed and error are as they should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", type=int, default=640, help="maps to time")
    parser.add_argument("--batch", type=int, default=64)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    atoms = bulk("Nb", "bcc", a=3.25, cubic=True).repeat(5)
    atoms.symbols = rng.choice(ELEMENTS, len(atoms))
    atoms.rattle(0.05, seed=0)
    hops = all_hops([atoms])
    hops = hops.take(rng.permutation(len(hops))[: arguments.maps])
    is_good = True
    print("| voxels | shells | atoms | µs to look up | ms a map | plain NumPy, ms | paper / ours | largest error |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for n_voxels, n_shells in ((32, 8), (16, 8), (16, 5)):
        settings = DensityMapSettings(n_voxels=n_voxels, n_shells=n_shells)
        grid = map_grid(settings, hops)
        start = time.process_time()
        found = environments(hops, "bcc", settings, ELEMENTS)
        lookup_us = 1e6 * (time.process_time() - start) / len(hops)
        angles = rng.uniform(0.0, 2.0 * np.pi, len(hops))
        memory = np.zeros((arguments.batch, 3, n_voxels, n_voxels, n_voxels), dtype=np.float32)
        rounds = [_time(found, grid, angles, memory) for _ in range(3)]
        start = time.process_time()
        plain = _plain(found, grid, angles, 3)
        plain_ms = 1e3 * (time.process_time() - start) / 3
        error = float(np.abs(density_maps(found.take(np.arange(3)), grid, 3, angles[:3]) - plain).max())
        factor = PAPER_MS / min(rounds)
        print(
            f"| {n_voxels}³ | {n_shells} | {found.vectors.shape[1]} | {lookup_us:.0f} | {min(rounds):.3f} | "
            f"{plain_ms:.0f} | {factor:.0f} | {error:.1e} |"
        )
        is_good &= error < WANTED_ERROR and (n_voxels < 32 or factor > WANTED_FACTOR)
    sys.exit(0 if is_good else 1)


def _time(found: Environments, grid: MapGrid, angles: np.ndarray, memory: np.ndarray) -> float:
    """CPU time of a map, ms."""
    parts = [np.arange(k, min(k + len(memory), len(found))) for k in range(0, len(found), len(memory))]
    density_maps(found.take(parts[0]), grid, memory.shape[1], angles[parts[0]], out=memory)
    start = time.process_time()
    for part in parts:
        density_maps(found.take(part), grid, memory.shape[1], angles[part], out=memory)
    return 1e3 * (time.process_time() - start) / len(found)


def _plain(found: Environments, grid: MapGrid, angles: np.ndarray, n_maps: int) -> np.ndarray:
    """Eq. 1, all atoms and voxels at once, float64."""
    centres, n_species = grid.centres_ang, len(ELEMENTS)
    width = centres[1] - centres[0]
    maps = np.zeros((n_maps, n_species, *(grid.n_voxels,) * 3))
    for h in range(n_maps):
        x, y, z = found.vectors[h].T
        cosine, sine = np.cos(angles[h]), np.sin(angles[h])
        y, z = cosine * y - sine * z, cosine * z + sine * y
        for kind in range(n_species):
            of_kind = found.species[h] == kind
            squared = (
                (centres[:, None, None] - z[of_kind, None, None, None]) ** 2
                + (centres[None, :, None] - y[of_kind, None, None, None]) ** 2
                + (centres[None, None, :] - x[of_kind, None, None, None]) ** 2
            )
            maps[h, kind] = np.exp(-squared / (2.0 * width**2)).sum(axis=0)
    return maps


if __name__ == "__main__":
    main()
