"""CPU time of a training step of the crystal generator: the compact default, and the published sizes.

One thread; random 54-atom Ni-Fe-Cr alloys, half FCC and half BCC. The first two steps are left out; what they took,
compiling included, is printed.

    python benchmarks/pcdvae_training.py --bfloat16
    python benchmarks/pcdvae_training.py --published --batch 1
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from alloysmith.generators.pcdvae.crystals import collate, crystal_from
from alloysmith.generators.pcdvae.layers import fitting_scales
from alloysmith.generators.pcdvae.losses import losses
from alloysmith.generators.pcdvae.model import Pcdvae
from alloysmith.generators.pcdvae.noise import draw_noise
from alloysmith.generators.pcdvae.settings import PcdvaeSettings
from alloysmith.structures.base import PHASES
from alloysmith.structures.lattice import parent_lattice

ELEMENTS = ("Ni", "Fe", "Cr")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", action="store_true", help="the published sizes")
    parser.add_argument("--batch", type=int, default=4, help="structures in a step")
    parser.add_argument("--structures", type=int, default=128, help="structures in all")
    parser.add_argument("--bfloat16", action="store_true", help="matrix products in bfloat16")
    parser.add_argument("--compile", action="store_true", help="torch.compile both networks")
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = PcdvaeSettings.published() if args.published else PcdvaeSettings()
    n_batch, n_steps = args.batch, max(2, args.structures // args.batch)
    rng = np.random.default_rng(0)
    crystals = []
    for k in range(2 * n_batch):
        lattice = parent_lattice(PHASES[k % 2])
        atoms = lattice.decorate(rng.choice(ELEMENTS, lattice.n_sites), 11.5)
        crystals.append(crystal_from(atoms, ELEMENTS, phase=k % 2, value=float(rng.normal(180.0, 5.0))))
    model = Pcdvae(settings, ELEMENTS, PHASES, max_atoms=54)
    model.standardize(crystals)
    optimizer = torch.optim.Adam(model.parameters())
    with fitting_scales(model):
        batch = collate(crystals, len(ELEMENTS))
        losses(model, batch, draw_noise(batch, settings.noise, settings.n_latent, rng))
    if args.compile:
        model.encoder, model.decoder = (torch.compile(x, dynamic=True) for x in (model.encoder, model.decoder))
    times = []
    for _ in range(n_steps + 2):
        start = time.process_time()
        chosen = [crystals[i] for i in rng.permutation(len(crystals))[:n_batch]]
        batch = collate(chosen, len(ELEMENTS))
        noise = draw_noise(batch, settings.noise, settings.n_latent, rng)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bfloat16):
            loss = losses(model, batch, noise).total(settings.weights)
        loss.backward()
        optimizer.step()
        times.append((time.process_time() - start) / n_batch)
    n_parameters = sum(p.numel() for p in model.parameters())
    print(
        f"{n_parameters:,} parameters, {1e3 * float(np.median(times[2:])):.0f} CPU-ms per structure and step; "
        f"the first two steps took {n_batch * sum(times[:2]):.0f} CPU-s"
    )


if __name__ == "__main__":
    main()
