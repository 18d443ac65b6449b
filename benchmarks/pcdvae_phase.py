"""What the phase head is worth: reconstructions by crystal generators without it, with it, and told another phase.

Trains a plain CDVAE and a P-CDVAE on the same labelled structures from several seeds, whole compositions held out;
encodes held-out structures and draws them again from anywhere in the cell, as in Table 2 of the P-CDVAE paper (NeurIPS
2024). The P-CDVAE draws four times: with the phase that it predicts, with the true one, with phases shuffled among the
structures, and with the wrong one each time. Figures are means over structures, then mean and standard deviation over
seeds; distances leave out what was drawn with a fault (atoms on top of one another).

    alloysmith label oracles/bulk_modulus structures.extxyz -o labelled.extxyz
    python benchmarks/pcdvae_phase.py labelled.extxyz --seeds 3 --epochs 25 --out runs/pcdvae-phase

Trainings keep checkpoints and models below ``--out``, so the command can be interrupted and repeated.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from alloysmith.generators.pcdvae.crystals import Crystal
from alloysmith.generators.pcdvae.fitted import FittedPcdvae, encodings
from alloysmith.generators.pcdvae.labelled import CrystalDataSettings, LabelledCrystals, labelled_crystals
from alloysmith.generators.pcdvae.model import Pcdvae
from alloysmith.generators.pcdvae.sampler_settings import PredictorCorrectorSettings
from alloysmith.generators.pcdvae.sampling import Draft, drafts, sample
from alloysmith.generators.pcdvae.settings import PcdvaeSettings
from alloysmith.generators.pcdvae.training import train
from alloysmith.generators.pcdvae.training_settings import PcdvaeTrainingSettings
from alloysmith.structures.files import read_structures
from alloysmith.structures.phase import classify_phase
from alloysmith.structures.similarity.comparison import compare_pairs
from alloysmith.surrogates.model_file import load_state, save_state
from ase import Atoms

PROPERTY = "bulk_modulus_gpa"
N_JUDGED = 50
"""Training structures by which an epoch is judged, under other noise."""
COLUMNS = (
    "blind G-distance",
    "G-distance",
    "match rate",
    "in the true phase",
    "with its coordination",
    "without a fault",
)
COORDINATION = {"fcc": 12, "hcp": 12, "bcc": 8}
"""Neighbours of an atom; a close-packed structure may have another stacking than the true one."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labelled", type=Path, help="structures with bulk_modulus_gpa and phase")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--test", type=int, default=40, help="held-out structures that are drawn again")
    parser.add_argument("--levels", type=int, default=100, help="noise levels of the sampler")
    parser.add_argument("--corrections", type=int, default=3, help="Langevin steps at each of them")
    parser.add_argument("--start", choices=("anywhere", "sites"), default="anywhere")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--out", type=Path, default=Path("runs/pcdvae-phase"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    data = labelled_crystals(read_structures(args.labelled), CrystalDataSettings(property=PROPERTY))
    training = PcdvaeTrainingSettings(max_epochs=args.epochs, precision=args.precision)
    sampler = PredictorCorrectorSettings(n_levels=args.levels, n_corrections=args.corrections)
    found: dict[str, list[tuple[float, ...]]] = {}
    for seed in range(args.seeds):
        learnt, held_out = data.split(0.25, seed)
        chosen = [held_out[k] for k in np.random.default_rng(seed).permutation(len(held_out))[: args.test]]
        for has_phases in (False, True):
            fitted = trained(data, learnt, training, args.out, seed, has_phases=has_phases)
            drawn: dict[tuple[int, ...], tuple[float, ...]] = {}  # those that ask for the same phases are the same
            for name, wanted in reconstructions(fitted, chosen, seed, starts_on_sites=args.start == "sites").items():
                start, phases = time.process_time(), tuple(draft.phase for draft in wanted)
                if phases not in drawn:
                    drawn[phases] = figures(sample(fitted.model, wanted, sampler, seed=seed), chosen, data)
                row = drawn[phases]
                found.setdefault(name, []).append(row)
                text = ", ".join(f"{column} {value:.4f}" for column, value in zip(COLUMNS, row, strict=True))
                print(f"seed {seed}, {name}: {text}; {time.process_time() - start:.0f} CPU-s", flush=True)
    print(f"\n| {' | '.join(['', *COLUMNS])} |\n|{' --- |' * (len(COLUMNS) + 1)}")
    for name, rows in found.items():
        mean, spread = np.mean(rows, 0), np.std(rows, 0, ddof=min(1, len(rows) - 1))
        cells = [f"{m:.4f} ± {s:.4f}" for m, s in zip(mean, spread, strict=True)]
        print(f"| {' | '.join([name, *cells])} |")
    without, with_head = (np.array(found[name])[:, 0] for name in ("no phase head", "predicted phase"))
    gains = 100.0 * (1.0 - with_head / without)
    print(
        f"\ngain of the phase head in blind G-distance: {gains.mean():.0f} % ({', '.join(f'{g:.0f}' for g in gains)})"
    )


def trained(
    data: LabelledCrystals,
    learnt: tuple[Crystal, ...],
    settings: PcdvaeTrainingSettings,
    folder: Path,
    seed: int,
    *,
    has_phases: bool,
) -> FittedPcdvae:
    """A model from a seed; read where it was trained before."""
    path = folder / f"{'pcdvae' if has_phases else 'cdvae'}-{settings.max_epochs}-{seed}.safetensors"
    if path.exists():
        return FittedPcdvae.from_state(load_state(path))
    crystals = learnt if has_phases else tuple(c.of_phase(0) for c in learnt)
    model = Pcdvae(
        PcdvaeSettings(seed=seed),
        data.elements,
        data.phases if has_phases else (),
        max_atoms=max(len(c.types) for c in data.crystals),
    )
    start = time.process_time()
    judged = crystals[:: max(1, len(crystals) // N_JUDGED)]
    result = train(model, crystals, judged, settings, seed=seed, checkpoint_path=path.with_suffix(".checkpoint"))
    print(
        f"{path.name}: {result.history[-1]['training_coordinates']:.4f} loss of coordinates after "
        f"{time.process_time() - start:.0f} CPU-s",
        flush=True,
    )
    fitted = FittedPcdvae.of(model.eval(), PROPERTY, crystals)
    save_state(fitted.state(), path)
    return fitted


def reconstructions(
    fitted: FittedPcdvae, chosen: list[Crystal], seed: int, *, starts_on_sites: bool
) -> dict[str, list[Draft]]:
    """What is to be drawn, by name of the form."""
    made = drafts(fitted.model, encodings(fitted.model, chosen)[0])
    forms = {"no phase head": made}
    if fitted.model.phases:
        true = np.array([c.phase for c in chosen])
        shuffled = np.random.default_rng([seed, 1]).permutation(true)
        forms = {"predicted phase": made}
        for name, phases in (("true phase", true), ("shuffled phases", shuffled), ("wrong phase", 1 - true)):
            forms[name] = [replace(draft, phase=int(phase)) for draft, phase in zip(made, phases, strict=True)]
    if not starts_on_sites:
        return forms
    return {
        name: [replace(d, scaled_sites=fitted.sites[d.phase, int(d.counts.sum())], start_sigma_ang=0.3) for d in wanted]
        for name, wanted in forms.items()
    }


def figures(structures: list[Atoms], chosen: list[Crystal], data: LabelledCrystals) -> tuple[float, ...]:
    """One value for each of the columns."""
    reference = [
        Atoms([data.elements[t] for t in c.types], positions=c.positions, cell=c.cell, pbc=True) for c in chosen
    ]
    pairs = compare_pairs(structures, reference)[0]
    found = [str(classify_phase(atoms).majority) for atoms in structures]
    true = [str(data.phases[c.phase]) for c in chosen]
    nan = float("nan")
    return (
        pairs.blind_g_distance or nan,
        pairs.g_distance or nan,
        pairs.match_rate,
        float(np.mean([a == b for a, b in zip(found, true, strict=True)])),
        float(np.mean([COORDINATION.get(a) == COORDINATION[b] for a, b in zip(found, true, strict=True)])),
        pairs.valid,
    )


if __name__ == "__main__":
    main()
