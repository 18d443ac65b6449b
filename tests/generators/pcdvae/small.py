"""Small alloys and a tiny model of them."""

from __future__ import annotations

import numpy as np
from alloysmith.generators.pcdvae.crystals import Crystal
from alloysmith.generators.pcdvae.labelled import CrystalDataSettings, labelled_crystals
from alloysmith.generators.pcdvae.model import Pcdvae
from alloysmith.generators.pcdvae.settings import DecoderSettings, EncoderSettings, PcdvaeSettings
from ase import Atoms
from ase.build import bulk

ELEMENTS = ("Ni", "Fe", "Cr")
TINY = PcdvaeSettings(
    n_latent=8,
    n_head_channels=16,
    encoder=EncoderSettings(n_channels=8, n_blocks=1, n_interaction_channels=4, n_output_channels=8, n_output_layers=1),
    decoder=DecoderSettings(n_channels=8, n_blocks=1, n_radial=8, n_triplet_channels=4, n_bilinear_channels=4),
)


def alloys(n: int = 6) -> list[Atoms]:
    """FCC and BCC alloys of 8 atoms in turn, with a property that goes with the share of nickel."""
    found = []
    for k in range(n):
        rng = np.random.default_rng(k)
        phase = ("fcc", "bcc")[k % 2]
        atoms = bulk("Ni", phase, a=3.55 if phase == "fcc" else 2.85, cubic=True)
        atoms = atoms * ((1, 1, 2) if phase == "fcc" else (1, 2, 2))
        atoms.symbols = [ELEMENTS[t] for t in rng.choice(3, 8, p=rng.dirichlet((1, 1, 1)))]
        share = float(np.mean(atoms.numbers == 28))
        atoms.info = {"phase": phase, "bulk_modulus_gpa": 150.0 + 40.0 * share}
        found.append(atoms)
    return found


def crystals(n: int = 6) -> tuple[Crystal, ...]:
    """The same as the model learns them."""
    return labelled_crystals(alloys(n), CrystalDataSettings(elements=ELEMENTS, phases=("fcc", "bcc"))).crystals


def tiny_model(settings: PcdvaeSettings = TINY) -> Pcdvae:
    """Not trained, and with no units yet."""
    return Pcdvae(settings, ELEMENTS, ("fcc", "bcc"), max_atoms=8)
