"""What composition, pairs and clusters tell of a property, and what they do not: where a search has something to find.

Labels random orderings with elastic constants and displacements, and predicts some from the others by what searches
learn with: a cubic polynomial in composition, the default Gaussian process on pairs and chains of neighbours, and a
cluster expansion of pairs and triplets (icet). Some structures are labelled twice, the second time from rattled atoms:
what differs then is noise, which nobody can predict.

    python benchmarks/pair_features.py
    python benchmarks/pair_features.py --systems "Ni18Fe18Cr18 FCC" --train 200 --test 100

R² is that of held-out structures, 1 less the mean squared error by the variance about the training mean.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from alloysmith.generators.icet_expansion import fit_expansion
from alloysmith.oracles.base import Oracle, OracleError, Request, WarmStart
from alloysmith.oracles.elastic_tensor import ElasticTensorSettings
from alloysmith.oracles.potentials import PotentialSettings, WheelPotentialSettings, Zjw04PotentialSettings
from alloysmith.oracles.relaxation import displacements
from alloysmith.structures.base import Phase
from alloysmith.structures.lattice import parent_lattice
from alloysmith.structures.space import DesignSpace
from alloysmith.surrogates.base import SurrogateTrainer, TrainingSet
from alloysmith.surrogates.gaussian_process import GaussianProcessSettings
from alloysmith.surrogates.polynomial import PolynomialSettings
from ase import Atoms

N_SHELLS = (4, 2)  # of pairs and triplets, as the generator's defaults
RATTLE_ANG = 0.02
PROPERTIES = {
    "bulk_modulus_gpa": "bulk modulus",
    "shear_modulus_gpa": "shear modulus",
    "min_elastic_eigenvalue_gpa": "least eigenvalue of the elastic tensor",
    "rms_displacement_ang": "displacement, root mean square",
    "max_displacement_ang": "displacement, largest",
}


@dataclass(frozen=True)
class Labels:
    """Random orderings with their properties.

    Attributes:
        space: what they were drawn from.
        phases: ``[n]``.
        occupations: ``[n, n_sites]``.
        values: property -> ``[n]``.
        again: property -> ``[n_again]``, of the first structures from rattled atoms.
    """

    space: DesignSpace
    phases: tuple[Phase, ...]
    occupations: np.ndarray
    values: Mapping[str, np.ndarray]
    again: Mapping[str, np.ndarray]

    def atoms(self, i: int) -> Atoms:
        """On ideal sites."""
        atoms = self.space.atoms(self.space.lattice(self.phases[i]), self.occupations[i])
        atoms.info["phase"] = self.phases[i]
        return atoms


def space_of(elements: Sequence[str], phases: Sequence[Phase], least: float, most: float) -> DesignSpace:
    """54-atom cells."""
    lattices = tuple(parent_lattice(phase, "tetragonal", (3, 3, 3)) for phase in phases)
    n = len(elements)
    return DesignSpace(tuple(elements), lattices, (least,) * n, (most,) * n)


NIFECR = WheelPotentialSettings(name="MoCoNiVFeAlCr_2nn.meam")
SYSTEMS: dict[str, tuple[DesignSpace, PotentialSettings]] = {
    "Ni-Fe-Cr, FCC and BCC": (space_of(("Ni", "Fe", "Cr"), ("fcc", "bcc"), 0.0, 0.9), NIFECR),
    "Ta-Nb-Mo-W, BCC": (
        space_of(("Ta", "Nb", "Mo", "W"), ("bcc",), 0.0, 0.9),
        Zjw04PotentialSettings(elements=("Ta", "Nb", "Mo", "W")),
    ),
    "Ni18Fe18Cr18 FCC": (space_of(("Ni", "Fe", "Cr"), ("fcc",), 1 / 3, 1 / 3), NIFECR),
}


def label(space: DesignSpace, potential: PotentialSettings, n: int, n_again: int, seed: int) -> Labels:
    """Label ``n`` random orderings; those that fail are drawn anew."""
    oracle = ElasticTensorSettings(potential=potential).build()
    rng = np.random.default_rng(seed)
    phases: list[Phase] = []
    occupations: list[np.ndarray] = []
    values: list[dict[str, float]] = []
    again: list[dict[str, float]] = []
    while len(values) < n:
        lattice = space.lattices[len(values) % len(space.lattices)]
        occupation = space.random_occupation(rng, lattice)
        atoms = space.atoms(lattice, occupation)
        try:
            first, relaxed = properties(oracle, Request("0", atoms, lattice.phase))
            if len(again) < n_again:
                relaxed.positions += rng.normal(scale=RATTLE_ANG, size=relaxed.positions.shape)
                warm = WarmStart(relaxed, {})
                again.append(properties(oracle, Request("1", atoms, lattice.phase, warm_start=warm))[0])
        except OracleError:
            continue
        phases.append(lattice.phase)
        occupations.append(occupation)
        values.append(first)
    oracle.close()

    def columns(rows: list[dict[str, float]]) -> dict[str, np.ndarray]:
        return {name: np.array([row[name] for row in rows]) for name in PROPERTIES}

    return Labels(space, tuple(phases), np.array(occupations), columns(values), columns(again))


def properties(oracle: Oracle, request: Request) -> tuple[dict[str, float], Atoms]:
    """Of one structure, and what it relaxed to."""
    found = oracle.evaluate(request)
    moved_ang = displacements(request.atoms, found.atoms)
    values = {name: float(found.values[name]) for name in PROPERTIES if name in found.values}
    values["rms_displacement_ang"] = float(np.sqrt(np.square(moved_ang).mean()))
    values["max_displacement_ang"] = float(moved_ang.max())
    return values, found.atoms.copy()


def by_surrogate(trainer: SurrogateTrainer, labels: Labels, name: str, train: range, test: range) -> np.ndarray:
    """What a surrogate predicts."""
    data = TrainingSet([labels.atoms(i) for i in train], labels.values[name][list(train)][:, None], {name: ""})
    return trainer.fit(data, seed=0).predict([labels.atoms(i) for i in test]).mean[:, 0]


def by_clusters(labels: Labels, name: str, train: range, test: range) -> np.ndarray:
    """What a cluster expansion of each phase predicts."""
    predicted = np.empty(len(test))
    for lattice in labels.space.lattices:
        known = [i for i in train if labels.phases[i] == lattice.phase]
        asked = [i for i in test if labels.phases[i] == lattice.phase]
        expansion = fit_expansion(
            labels.space, lattice, N_SHELLS, labels.occupations[known], labels.values[name][known]
        )
        predicted[[i - test.start for i in asked]] = expansion.predict(labels.occupations[asked])
    return predicted


def r2(predicted: np.ndarray, true: np.ndarray, centre: float) -> float:
    """Share of the variance about ``centre`` that is predicted."""
    return 1.0 - float(np.square(predicted - true).mean() / np.square(true - centre).mean())


def print_system(title: str, labels: Labels, sizes: Sequence[int], n_test: int) -> None:
    """One row a property."""
    predictors: dict[str, Callable[[str, range, range], np.ndarray]] = {
        "polynomial": lambda *x: by_surrogate(PolynomialSettings().build(labels.space), labels, *x),
        "process": lambda *x: by_surrogate(GaussianProcessSettings().build(labels.space), labels, *x),
        "clusters": lambda *x: by_clusters(labels, *x),
    }
    n = max(sizes)
    test = range(n, n + n_test)
    for name, words in PROPERTIES.items():
        y = labels.values[name]
        row = [title, words, f"{y.mean():.4g} ± {y.std():.2g}"]
        row.append(f"{r2(labels.again[name], y[: len(labels.again[name])], float(y.mean())):.3f}")
        for predict in predictors.values():
            found = [r2(predict(name, range(k), test), y[list(test)], float(y[:k].mean())) for k in sizes]
            row.append(", ".join(f"{x:.2f}" for x in found))
        print("| " + " | ".join(row) + " |", flush=True)


def main() -> None:
    """Label and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--train", type=int, nargs="+", default=[200, 600], help="numbers of labels learnt from")
    parser.add_argument("--test", type=int, default=300)
    parser.add_argument("--again", type=int, default=30, help="structures that are labelled twice")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print("| system | property | mean and spread | labelled twice | composition | pairs and chains | clusters |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for title in args.systems:
        space, potential = SYSTEMS[title]
        labels = label(space, potential, max(args.train) + args.test, args.again, args.seed)
        print_system(title, labels, sorted(args.train), args.test)
    print(f"\nR² with {' and '.join(map(str, sorted(args.train)))} labels; {time.process_time():.0f} CPU-s")


if __name__ == "__main__":
    main()
