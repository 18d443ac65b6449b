"""Does a crystal generator that learnt from a campaign's labels tell one ordering of the same atoms from another?

Labels random orderings of Ni-Fe-Cr in FCC and BCC, trains the P-CDVAE of campaigns on some of them, with latent vectors
that begin as the encoder gives them and evenly spread (``model.whitening``), and predicts the bulk modulus of the
others by an ensemble of property heads and by a Gaussian process on latent vectors, as campaigns choose. Beside it the
default Gaussian process and a cubic polynomial in composition. Rank correlations, with the values themselves and with
what is left of values and predictions after a polynomial in composition has been fitted to each: the order of atoms.
Mean and range over seeds, which draw other structures too.

    python benchmarks/pcdvae_order.py --train 100 200 --seeds 3
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from alloysmith.generators.pcdvae.crystals import Crystal, crystal_from
from alloysmith.generators.pcdvae.fitted import FittedPcdvae, encodings
from alloysmith.generators.pcdvae.generator import PcdvaeGeneratorSettings
from alloysmith.generators.pcdvae.latent_process import fit_latent_process
from alloysmith.generators.pcdvae.model import Pcdvae
from alloysmith.generators.pcdvae.optimization import expected, fit_ensemble
from alloysmith.generators.pcdvae.training import train
from alloysmith.surrogates.gaussian_process import GaussianProcessSettings
from alloysmith.surrogates.polynomial import PolynomialSettings, monomials
from pair_features import SYSTEMS, Labels, by_surrogate, label
from scipy.stats import spearmanr

PROPERTY = "bulk_modulus_gpa"
SYSTEM = "Ni-Fe-Cr, FCC and BCC"
DEGREE = 3


def main() -> None:
    """Label, train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, nargs="+", default=[100, 200], help="numbers of labels learnt from")
    parser.add_argument("--test", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    args = parser.parse_args()
    space, potential = SYSTEMS[SYSTEM]
    found: dict[tuple[str, int], list[tuple[float, float, float, float]]] = {}
    for seed in range(args.seeds):
        labels = label(space, potential, max(args.train) + args.test, 0, seed)
        crystals = crystals_of(labels)
        test = range(max(args.train), len(crystals))
        for n in args.train:
            for name, predicted, cpu_s in predictions(labels, crystals, n, test, args.precision, seed):
                row = (*figures(predicted, labels, crystals, test), cpu_s)
                found.setdefault((name, n), []).append(row)
                print(f"seed {seed}, {n} labels, {name}: {', '.join(f'{x:.2f}' for x in row)}", flush=True)
    print("\n| | labels | rank correlation | of order alone | root mean square error, GPa | CPU-s |")
    print("| --- | --- | --- | --- | --- | --- |")
    for (name, n), rows in found.items():
        print(f"| {name} | {n} | {' | '.join(spread(column) for column in zip(*rows, strict=True))} |")


def crystals_of(labels: Labels) -> list[Crystal]:
    """On ideal sites at the volume of Vegard's law, as campaigns learn them but for the relaxed volume."""
    values, phases = labels.values[PROPERTY], [lattice.phase for lattice in labels.space.lattices]
    return [
        crystal_from(labels.atoms(i), labels.space.elements, phase=phases.index(labels.phases[i]), value=float(y))
        for i, y in enumerate(values)
    ]


def predictions(
    labels: Labels, crystals: Sequence[Crystal], n: int, test: range, precision: str, seed: int
) -> Iterator[tuple[str, np.ndarray, float]]:
    """What each model, by name, learns from the first ``n`` labels and predicts of others; CPU time."""
    for name, trainer in (("composition", PolynomialSettings()), ("Gaussian process", GaussianProcessSettings())):
        start = time.process_time()
        predicted = by_surrogate(trainer.build(labels.space), labels, PROPERTY, range(n), test)
        yield name, predicted, time.process_time() - start
    for name, whitening in (("P-CDVAE", None), ("P-CDVAE, whitened", 0.01)):
        start = time.process_time()
        for judge, predicted in by_pcdvae(labels, crystals, n, test, whitening, precision, seed).items():
            yield f"{name}, {judge}", predicted, time.process_time() - start


def by_pcdvae(
    labels: Labels,
    crystals: Sequence[Crystal],
    n: int,
    test: range,
    whitening: float | None,
    precision: str,
    seed: int,
) -> dict[str, np.ndarray]:
    """What the mean of an ensemble of heads and a process on latent vectors predict, GPa."""
    settings = PcdvaeGeneratorSettings()
    phases = [lattice.phase for lattice in labels.space.lattices]
    model = Pcdvae(
        settings.model.model_copy(update={"whitening": whitening, "seed": seed}),
        labels.space.elements,
        phases,
        max_atoms=max(lattice.n_sites for lattice in labels.space.lattices),
    )
    train(model, crystals[:n], (), settings.training.model_copy(update={"precision": precision}), seed=seed)
    fitted = FittedPcdvae.of(model.eval(), PROPERTY, crystals[:n])
    heads = fit_ensemble(fitted, settings.optimization.n_heads, seed=n)
    latents = encodings(fitted.model, [crystals[i] for i in test])[0]
    with torch.no_grad():
        mean = expected(fitted, heads, torch.from_numpy(latents)).mean(0).numpy()
    phase_of = np.array([c.phase for c in crystals])
    process = fit_latent_process(fitted.latents, phase_of[:n], fitted.values, seed=n)
    predicted = np.empty(len(test))
    for phase in np.unique(phase_of[test]).tolist():
        rows = phase_of[test] == phase
        predicted[rows] = process.predict(latents[rows], phase)[0]
    return {"heads": float(model.value_mean) + float(model.value_spread) * mean, "process": predicted}


def figures(
    predicted: np.ndarray, labels: Labels, crystals: Sequence[Crystal], test: range
) -> tuple[float, float, float]:
    """Rank correlation, that of what composition does not tell, and the error."""
    true = labels.values[PROPERTY][list(test)]
    terms = composition_terms([crystals[i] for i in test], len(labels.space.elements))
    left = [y - terms @ np.linalg.lstsq(terms, y, rcond=None)[0] for y in (predicted, true)]
    error = float(np.sqrt(np.square(predicted - true).mean()))
    # a prediction from composition alone leaves nothing but rounding
    of_order = 0.0 if left[0].std() < 1e-6 * predicted.std() else float(spearmanr(*left)[0])
    return float(spearmanr(predicted, true)[0]), of_order, error


def composition_terms(crystals: Sequence[Crystal], n_elements: int) -> np.ndarray:
    """Terms of a polynomial in the fractions, for each phase its own: ``[n, n_phases * n_terms]``."""
    shares = np.array([np.bincount(c.types, minlength=n_elements) / len(c.types) for c in crystals])
    phases = np.array([c.phase for c in crystals])
    return np.concatenate([monomials(shares, DEGREE) * (phases == p)[:, None] for p in np.unique(phases)], axis=1)


def spread(values: Sequence[float]) -> str:
    """Mean and range."""
    return f"{statistics.mean(values):.2f} ({min(values):.2f}..{max(values):.2f})"


if __name__ == "__main__":
    main()
