"""A training of a campaign's P-CDVAE as a job that a worker can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...surrogates.base import Metrics, Report, SurrogateState
from ..learned import TrainingJob
from .crystals import Crystal
from .fitted import FittedPcdvae
from .model import Pcdvae
from .settings import PcdvaeSettings
from .training import train
from .training_settings import PcdvaeTrainingSettings


@dataclass(frozen=True)
class PcdvaeTraining(TrainingJob):
    """The first training of a model, or one that goes on from the weights of the one before.

    Attributes:
        model: its settings.
        training: of the first.
        n_epochs_again: epochs of those after it.
        elements, phases, max_atoms: of the model.
        property: name of the property that it learns.
        crystals: what it learns from.
    """

    model: PcdvaeSettings
    training: PcdvaeTrainingSettings
    n_epochs_again: int
    elements: Sequence[str]
    phases: Sequence[str]
    max_atoms: int
    property: str
    crystals: tuple[Crystal, ...]
    seed: int

    def run(
        self, before: SurrogateState | None, *, checkpoint_path: Path | None, report: Report
    ) -> SurrogateState | None:
        """See :class:`~alloysmith.generators.learned.TrainingJob`.

        Raises:
            StructureError: fewer than two structures.
            SurrogateError: a training that diverges for good, no such device, or a checkpoint of other inputs.
        """
        model = Pcdvae(self.model, self.elements, self.phases, max_atoms=self.max_atoms)
        settings = self.training
        if before is not None:
            model.load_state_dict(FittedPcdvae.from_state(before).model.state_dict())
            settings = settings.model_copy(update={"max_epochs": self.n_epochs_again})

        def tell(epoch: int, metrics: Metrics) -> bool:
            figures = {"share": epoch / settings.max_epochs}
            if "held_out_loss" in metrics:  # else it diverged, and returned to the epoch before
                figures["loss"] = metrics["held_out_loss"]
            return report(epoch, figures)

        result = train(
            model,
            self.crystals,
            (),
            settings,
            seed=self.seed,
            is_warm=before is not None,
            checkpoint_path=checkpoint_path,
            report=tell,
        )
        if result.stop_reason == "asked":
            return None
        return FittedPcdvae.of(model.eval(), self.property, self.crystals).state()
