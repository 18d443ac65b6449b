"""Does the bulk-modulus oracle reproduce the labels that came with the NiFeCr structures of the P-CDVAE study?

Relaxes the published ternary structures with the potential they were made with (the 2NN-MEAM of Wu, Lee and Su,
2017) and compares bulk moduli. The published files are not part of the package; give their folder.

    python benchmarks/oracle_parity.py --data /path/to/data
"""

from __future__ import annotations

import argparse
import gzip
import io
import time
from pathlib import Path

import numpy as np
from alloysmith.oracles.base import OracleError, Request
from alloysmith.oracles.bulk_modulus import BulkModulusSettings, LammpsBulkModulus
from alloysmith.oracles.potentials import FilesPotentialSettings
from ase import Atoms
from ase.io import read

SETS = ("localsearch_aug_train", "localsearch_aug_val", "elastic_final_train", "elastic_final_val")
ALLOWED_MEDIAN_GPA = 0.25
OUTLIER_GPA = 1.0


def main() -> None:
    """Compare, print a table and the outliers; the exit status says whether the median is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--per-set", type=int, default=150, help="ternary structures of each set at most")
    parser.add_argument("--accuracy", choices=("fast", "tight"), default="fast")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        parser.error(f"{arguments.data} is no folder; give the folder of the published data with --data")

    potential = FilesPotentialSettings(
        pair_style="meam",
        pair_coeff=("* * library.meam Ni Cr Fe NiCrFe.meam Ni Cr Fe",),
        base_dir=arguments.data / "potentials" / "NiCrFe_meam",
    )
    oracle = BulkModulusSettings(potential=potential, accuracy=arguments.accuracy).build()
    everything: list[float] = []
    outliers: list[str] = []
    print(f"{'':43s}|dB| in GPa")
    print(f"{'set':24s} {'ternaries':>9s} {'labelled':>8s} {'median':>8s} {'90 %':>7s} {'max':>7s} {'mean dB':>8s}")
    started = time.process_time()
    for name in SETS:
        structures = ternaries(arguments.data / "nifecr" / f"{name}.extxyz.gz")[: arguments.per_set]
        differences = [
            difference for atoms in structures if (difference := compare(oracle, atoms, name, outliers)) is not None
        ]
        everything += differences
        size = np.abs(differences)
        print(
            f"{name:24s} {len(structures):9d} {len(differences):8d} {np.median(size):8.3f} "
            f"{np.quantile(size, 0.9):7.3f} {size.max():7.3f} {np.mean(differences):8.3f}"
        )
    cpu_s = time.process_time() - started
    median = float(np.median(np.abs(everything)))
    print(f"{'all':24s} {'':9s} {len(everything):8d} {median:8.3f}")
    print(f"CPU time per structure: {cpu_s / max(len(everything), 1) * 1e3:.1f} ms")
    print(f"\noutliers (|dB| > {OUTLIER_GPA} GPa) and failures: {len(outliers)}")
    print("\n".join(outliers))
    if len(everything) < 100 or median > ALLOWED_MEDIAN_GPA:
        raise SystemExit(
            f"median |dB| {median:.3f} GPa over {len(everything)} structures; allowed: {ALLOWED_MEDIAN_GPA} over 100"
        )


def ternaries(path: Path) -> list[Atoms]:
    """Structures of three elements of a gzipped extended-XYZ file."""
    with gzip.open(path, "rt") as stream:
        frames = read(io.StringIO(stream.read()), ":", format="extxyz")
    return [atoms for atoms in frames if len(set(atoms.numbers)) == 3]


def compare(oracle: LammpsBulkModulus, atoms: Atoms, set_name: str, outliers: list[str]) -> float | None:
    """Our bulk modulus minus the stored one, GPa; ``None`` when the oracle gives none."""
    identity = f"{set_name}/{atoms.info['material_id']} {atoms.info['phase']}"
    try:
        label = oracle.evaluate(Request(identity, atoms, atoms.info["phase"]))
    except OracleError as error:
        outliers.append(f"  {identity:60s} {error.kind}: {error.message[:110]}")
        return None
    difference = float(label.values["bulk_modulus_gpa"]) - float(atoms.info["bulk_modulus_GPa"])
    if abs(difference) > OUTLIER_GPA:
        outliers.append(f"  {identity:60s} stored {atoms.info['bulk_modulus_GPa']:8.3f}  dB {difference:+.3f} GPa")
    return difference


if __name__ == "__main__":
    main()
