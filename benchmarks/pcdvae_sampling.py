"""CPU time of a sampled structure: the default sampler and sizes beside the published ones, in one run.

Usage: ``python benchmarks/pcdvae_sampling.py [N]``. One thread; N (by default 12) 54-atom cells of Ni-Fe-Cr, with
weights as they are at the start, whose cost is that of trained ones. The published configuration takes 5,000 calls of
its decoder (50 levels of 100 steps) for each structure; two of them are timed, on two of the same cells, and scaled up.
It runs on all neighbours within 7 Å here, some 120, not on the 20 nearest; the same with its cutoff at 3.8 Å, which
holds about 20, is printed too.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from alloysmith.generators.pcdvae.crystals import Crystal, collate, crystal_from
from alloysmith.generators.pcdvae.layers import fitting_scales
from alloysmith.generators.pcdvae.losses import losses
from alloysmith.generators.pcdvae.model import Pcdvae
from alloysmith.generators.pcdvae.noise import draw_noise
from alloysmith.generators.pcdvae.sampler_settings import LangevinSettings, PredictorCorrectorSettings
from alloysmith.generators.pcdvae.sampling import Draft, drafts, sample
from alloysmith.generators.pcdvae.settings import PcdvaeSettings
from alloysmith.structures.base import PHASES
from alloysmith.structures.lattice import parent_lattice

ELEMENTS = ("Ni", "Fe", "Cr")
N_TIMED = 2


def main() -> None:
    torch.set_num_threads(1)
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    rng = np.random.default_rng(0)
    crystals = []
    for k in range(n):
        lattice = parent_lattice(PHASES[k % 2])
        atoms = lattice.decorate(rng.choice(ELEMENTS, lattice.n_sites), 11.5)
        crystals.append(crystal_from(atoms, ELEMENTS, phase=k % 2, value=float(rng.normal(180.0, 5.0))))
    default = PredictorCorrectorSettings()
    ours = seconds(PcdvaeSettings(), crystals, default)
    print(f"default sizes, {default.n_calls} calls: {ours:.2f} CPU-s a structure ({n} in one batch)")
    published = PcdvaeSettings.published()
    narrow = published.model_copy(
        update={
            "encoder": published.encoder.model_copy(update={"cutoff_ang": 3.8}),
            "decoder": published.decoder.model_copy(update={"cutoff_ang": 3.8}),
        }
    )
    langevin = LangevinSettings.published()
    timed = langevin.model_copy(update={"n_levels": N_TIMED, "n_steps": 1})
    for name, settings in (("published sizes", published), ("published sizes, 3.8 Å", narrow)):
        theirs = seconds(settings, crystals[:2], timed) / N_TIMED * langevin.n_calls
        print(
            f"{name}, {langevin.n_calls} calls: {theirs:.0f} CPU-s a structure; {theirs / ours:.0f} times the default"
        )


def seconds(
    settings: PcdvaeSettings, crystals: Sequence[Crystal], sampler: LangevinSettings | PredictorCorrectorSettings
) -> float:
    """CPU time of a structure."""
    model = Pcdvae(settings, ELEMENTS, PHASES, max_atoms=54).eval()
    model.standardize(crystals)
    batch = collate(crystals[:2], len(ELEMENTS))
    noise = draw_noise(batch, settings.noise, settings.n_latent, np.random.default_rng(1))
    with fitting_scales(model):
        losses(model, batch, noise)
    zeros = np.zeros((len(crystals), settings.n_latent))
    wanted: list[Draft] = [
        replace(draft, counts=np.bincount(c.types, minlength=3), cell=c.cell)
        for draft, c in zip(drafts(model, zeros), crystals, strict=True)
    ]
    start = time.process_time()
    sample(model, wanted, sampler, seed=0)
    return (time.process_time() - start) / len(crystals)


if __name__ == "__main__":
    main()
