"""A crystal generator from labelled structures: data, split, training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from pydantic import Field

from ..errors import StructureError
from ..generators.pcdvae.crystals import Crystal
from ..generators.pcdvae.fitted import FittedPcdvae, encodings
from ..generators.pcdvae.labelled import CrystalDataSettings, LabelledCrystals, labelled_crystals
from ..generators.pcdvae.model import Pcdvae
from ..generators.pcdvae.sampling import drafts
from ..generators.pcdvae.settings import PcdvaeSettings
from ..generators.pcdvae.training import TrainingResult, train
from ..generators.pcdvae.training_settings import PcdvaeTrainingSettings
from ..structures.settings import Settings
from ..surrogates.base import Report
from .seeding import derive_seed


class PcdvaeFitConfig(Settings):
    """A crystal generator (P-CDVAE) to train on labelled structures of a file."""

    pcdvae: PcdvaeSettings = PcdvaeSettings()
    """Sizes, noise and weights of the losses."""
    training: PcdvaeTrainingSettings = PcdvaeTrainingSettings()
    """How it is trained."""
    data: CrystalDataSettings = CrystalDataSettings()
    """What of the structures is learnt."""
    files: tuple[Path, ...] = ()
    """Files of labelled structures; `--data` names them on the command line instead."""
    seed: int = Field(default=0, ge=0)
    """The split and all noise derive from it."""


@dataclass(frozen=True)
class HeadErrors:
    """How far the heads are from the truth, over structures.

    Attributes:
        length_percent: mean absolute error of the cells' lengths, %.
        composition_percent: mean absolute error of an element's share of the atoms, %.
        phase: share of phases that are right.
        value: mean absolute error of the property, in its unit; NaN without one.
        value_of_mean: the same of always answering with the mean; what to beat.
    """

    n: int
    length_percent: float
    composition_percent: float
    phase: float
    value: float
    value_of_mean: float


@dataclass(frozen=True)
class PcdvaeFit:
    """A trained generator and what is known about it.

    Attributes:
        errors: part of the data (``training``, ``held out``) -> figures.
    """

    fitted: FittedPcdvae
    training: TrainingResult
    errors: Mapping[str, HeadErrors]
    data: LabelledCrystals


def fit_pcdvae(
    config: PcdvaeFitConfig,
    rows: Sequence[Atoms],
    *,
    held_out: Sequence[Atoms] = (),
    checkpoint_path: Path | None = None,
    report: Report | None = None,
    on_data: Callable[[LabelledCrystals], None] | None = None,
) -> PcdvaeFit:
    """Train the generator of ``config``.

    Args:
        held_out: to judge by; a share of the compositions in ``rows`` where there are none.
        checkpoint_path: where a long training keeps its state, to go on from after a kill.
        report: called with (epoch, losses); ``False`` ends the training with what is best so far.
        on_data: called with the data before the training begins.

    Raises:
        StructureError: rows that cannot be learnt from.
        SurrogateError: a training that diverges for good, or a checkpoint of other inputs.
    """
    data = labelled_crystals([*rows, *held_out], config.data)
    if on_data is not None:
        on_data(data)
    if held_out:
        pairs = list(zip(data.crystals, data.rows, strict=True))
        training = tuple(c for c, row in pairs if row < len(rows))
        judges = tuple(c for c, row in pairs if row >= len(rows))
    else:
        training, judges = data.split(config.data.validation_fraction, derive_seed(config.seed, 0, "split"))
        if len(training) < 2:
            raise StructureError(
                f"{len(data.crystals)} structures, of which data.validation_fraction holds out {len(judges)}, leave "
                "too few to learn from; set it to 0, or add structures"
            )
    model = Pcdvae(
        config.pcdvae,
        data.elements,
        data.phases,
        max_atoms=max(len(c.types) for c in data.crystals),
        has_property=config.data.property is not None,
    )
    result = train(
        model,
        training,
        judges,
        config.training,
        seed=derive_seed(config.seed, 0, "pcdvae"),
        checkpoint_path=checkpoint_path,
        report=report,
    )
    parts = {"training": training, "held out": judges}
    errors = {name: head_errors(model, part) for name, part in parts.items() if part}
    return PcdvaeFit(FittedPcdvae.of(model.eval(), config.data.property, training), result, errors, data)


def head_errors(model: Pcdvae, crystals: Sequence[Crystal]) -> HeadErrors:
    """What the heads say of the structures' own latent vectors, beside what is true."""
    found = drafts(model, encodings(model, crystals)[0])
    counts = [np.bincount(c.types, minlength=len(model.elements)) / len(c.types) for c in crystals]
    pairs = list(zip(found, crystals, strict=True))
    lengths = [np.linalg.norm(d.cell, axis=1) / np.linalg.norm(c.cell, axis=1) - 1.0 for d, c in pairs]
    shares = [d.counts / d.counts.sum() - known for (d, _), known in zip(pairs, counts, strict=True)]
    values = np.array([c.value for c in crystals])
    return HeadErrors(
        len(crystals),
        100.0 * float(np.abs(lengths).mean()),
        100.0 * float(np.abs(shares).mean()),
        float(np.mean([d.phase == c.phase for d, c in pairs])),
        float(np.abs(np.array([d.value for d in found]) - values).mean()),
        float(np.abs(values - values.mean()).mean()),
    )
