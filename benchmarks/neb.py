"""Both engines of migration barriers side by side: CPU seconds per barrier, and how far they agree.

    python benchmarks/neb.py [--hops 20] [--repeat 4] [--images 3] [--snap FOLDER]

Each hop is one in a random Ta-Nb-Mo alloy. Both engines begin with the same relaxed ends, bring the forces on all
images below 0.001 eV/Å, and are charged for the ends and the band. CPU seconds are those of this process and of LAMMPS'
own processes, which wait for one another by polling: on a machine with fewer free cores than images, part of theirs is
waiting. So force calls are given too, which do not depend on the machine. With `--snap` also the SNAP of Ta, W, Nb and
Mo (Ta-W-Nb-Mo.snapcoeff and .snapparam in that folder).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from alloysmith.generators.solid_solutions import SolidSolutionSettings, solid_solutions
from alloysmith.oracles.base import Label, OracleError, Request
from alloysmith.oracles.potentials import FilesPotentialSettings, PotentialSettings, Zjw04PotentialSettings
from alloysmith.oracles.vacancy_migration import VacancyMigrationSettings
from alloysmith.structures.settings import CellSettings
from alloysmith.structures.vacancy_hop import VacancyHop, nearest_neighbours, with_hop
from ase import Atoms

ELEMENTS = ("Ta", "Nb", "Mo")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hops", type=int, default=20)
    parser.add_argument("--repeat", type=int, default=4, help="cubic cells along each edge")
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--snap", type=Path)
    parser.add_argument("--only", choices=("EAM", "SNAP"), help="one of the potentials")
    options = parser.parse_args()
    potentials: dict[str, PotentialSettings] = {"EAM": Zjw04PotentialSettings(elements=ELEMENTS)}
    if options.snap is not None:
        files = " ".join(
            str((options.snap / f"Ta-W-Nb-Mo.{suffix}").resolve()) for suffix in ("snapcoeff", "snapparam")
        )
        coeff = f"* * {files} {' '.join(ELEMENTS)}"
        potentials["SNAP"] = FilesPotentialSettings(pair_style="snap", pair_coeff=(coeff,))
    for name, potential in potentials.items():
        if options.only not in (None, name):
            continue
        compare(name, potential, hops(options.hops, options.repeat), options.images)


def hops(n: int, repeat: int) -> list[Atoms]:
    """Hops in alloys that hold all three elements, each alloy and each vacancy another."""
    cell = CellSettings(kind="cubic", repeat=(repeat, repeat, repeat))
    settings = SolidSolutionSettings(elements=ELEMENTS, cell=cell, n_train=n, n_test=0, min_fraction=0.1, seed=4)
    rng = np.random.default_rng(1)
    rows = []
    for alloy in solid_solutions(settings):
        site = int(rng.integers(len(alloy)))
        rows.append(with_hop(alloy, VacancyHop(site, int(rng.choice(nearest_neighbours(alloy, site))))))
    return rows


def compare(name: str, potential: PotentialSettings, rows: list[Atoms], n_images: int) -> None:
    """Label each hop with both engines and print the table."""
    common = {"potential": potential, "n_images": n_images, "max_path_force_ev_ang": 1e-3, "max_steps": 150}
    ours = VacancyMigrationSettings(engine="in_process", **common).build()
    theirs = VacancyMigrationSettings(engine="lammps_neb", **common).build()
    ours.evaluate(Request("warm-up", rows[0]))
    print(f"{name}, {len(rows[0]) - 1} atoms, {n_images} images")
    print(
        "   barrier eV   difference meV   CPU-s in process   CPU-s LAMMPS   calls in process   calls LAMMPS", flush=True
    )
    table = []
    for index, atoms in enumerate(rows):
        request = Request(str(index), atoms)
        try:
            a = _without_memory(ours, request)
            b = _without_memory(theirs, request)
        except OracleError as error:
            print(f"   {error.kind}: {error.message[:100]}", flush=True)
            continue
        found = [float(label.values["barrier_forward_ev"]) for label in (a, b)]
        calls = [float(label.details["n_band_calls"]) for label in (a, b)]
        table.append((1000.0 * (found[0] - found[1]), a.cpu_s, b.cpu_s, *calls))
        print(
            f"   {found[0]:10.4f}   {table[-1][0]:14.3f}   {a.cpu_s:16.2f}   {b.cpu_s:12.2f}   {calls[0]:16.0f}   "
            f"{calls[1]:12.0f}",
            flush=True,
        )
    differences, cpu_a, cpu_b, calls_a, calls_b = np.array(table).T
    print(
        f"   {len(table)} hops: largest difference {np.abs(differences).max():.3f} meV; CPU-s per barrier "
        f"{cpu_a.mean():.2f} and {cpu_b.mean():.2f}, 1 : {cpu_b.sum() / cpu_a.sum():.1f}; force calls of the band "
        f"{calls_a.mean():.0f} and {calls_b.mean():.0f}",
        flush=True,
    )


def _without_memory(oracle, request: Request) -> Label:
    """The label, the relaxation of the state before the hop included."""
    oracle.forget()
    return oracle.evaluate(request)


if __name__ == "__main__":
    main()
