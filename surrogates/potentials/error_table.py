"""How far a model is from labels, in the field's units, over all frames and for each group of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from ase.units import GPa

from .batches import LabelledFrames
from .frame import Frame
from .frame_sums import Sums
from .loss import LabelledBatch, errors
from .model import ModelOutput, PotentialModel
from .objective import Objective, squares

_MAX_PAIRS = 400_000  # bounds the memory of a batch


@dataclass(frozen=True)
class ErrorRow:
    """Errors over some frames; ``NaN`` for what none of them has a label for.

    Attributes:
        n_frames, n_force_frames, n_stress_frames: number of frames with energies, forces, stresses.
        energy_mae_mev, energy_rmse_mev: energy per atom, meV.
        energy_bias_mev: mean of model minus label, energy per atom, meV.
        force_mae, force_rmse: components, eV/Å.
        stress_mae_gpa, stress_rmse_gpa: components, GPa.
        virial_mae_mev, virial_rmse_mev: components of the virial per atom, meV.
    """

    n_frames: int
    n_force_frames: int
    n_stress_frames: int
    energy_mae_mev: float
    energy_rmse_mev: float
    energy_bias_mev: float
    force_mae: float
    force_rmse: float
    stress_mae_gpa: float
    stress_rmse_gpa: float
    virial_mae_mev: float
    virial_rmse_mev: float

    def metrics(self, prefix: str = "") -> dict[str, float]:
        """All errors that exist, by name."""
        values = {field.name: float(getattr(self, field.name)) for field in fields(self)}
        return {prefix + name: value for name, value in values.items() if not name.startswith("n_") and value == value}


@dataclass(frozen=True)
class ErrorTable:
    """Errors over all frames, and by group."""

    overall: ErrorRow
    groups: Mapping[str, ErrorRow]

    def lines(self) -> list[str]:
        """The table in Markdown."""
        names = ("frames", "E MAE", "E RMSE", "F MAE", "F RMSE", "stress MAE", "stress RMSE")
        units = ("", "meV/atom", "meV/atom", "eV/Å", "eV/Å", "GPa", "GPa")
        head = [f"{name} ({unit})" if unit else name for name, unit in zip(names, units, strict=True)]
        lines = ["| group | " + " | ".join(head) + " |", "| --- " * (len(head) + 1) + "|"]
        for name, row in [*self.groups.items(), ("all", self.overall)]:
            figures = [
                f"{row.n_frames}",
                f"{row.energy_mae_mev:.2f}",
                f"{row.energy_rmse_mev:.2f}",
                f"{row.force_mae:.4f}",
                f"{row.force_rmse:.4f}",
                f"{row.stress_mae_gpa:.3f}",
                f"{row.stress_rmse_gpa:.3f}",
            ]
            lines.append(f"| {name or '-'} | " + " | ".join("-" if text == "nan" else text for text in figures) + " |")
        return lines


class ErrorTally:
    """Collects errors batch by batch; memory is a few numbers a frame."""

    def __init__(self) -> None:
        self._energies: list[np.ndarray] = []
        self._forces: list[np.ndarray] = []
        self._stresses: list[np.ndarray] = []
        self._virials: list[np.ndarray] = []

    def add(self, output: ModelOutput, labelled: LabelledBatch) -> None:
        """Take in the errors of a batch."""
        batch, labels = labelled.batch, labelled.labels
        energies, forces, virials = errors(output, labels)
        frame_of_force = batch.frame_of_atom
        if labels.atoms_with_forces is not None:
            frame_of_force = frame_of_force[labels.atoms_with_forces]
        which = torch.arange(batch.n_frames, device=energies.device)
        if labels.frames_with_virial is not None:
            which = labels.frames_with_virial
        self._energies.append((energies / batch.n_atoms).detach().double().cpu().numpy() * 1000.0)
        self._forces.append(_moments(forces, frame_of_force, batch.n_frames))
        stresses = virials / batch.volumes[which][:, None, None] / GPa
        self._stresses.append(_moments(stresses.reshape(-1, 9), which, batch.n_frames))
        per_atom = virials / batch.n_atoms[which][:, None, None] * 1000.0
        self._virials.append(_moments(per_atom.reshape(-1, 9), which, batch.n_frames))

    def rows(self) -> np.ndarray:
        """What is known of each frame, ``[n_frames, 10]``, for :meth:`add_rows` of another tally."""
        parts = (np.concatenate(x) for x in (self._forces, self._stresses, self._virials))
        return np.concatenate([np.concatenate(self._energies)[:, None], *parts], axis=1)

    def add_rows(self, rows: np.ndarray) -> None:
        """Take in what another tally collected."""
        self._energies.append(rows[:, 0])
        for known, part in zip(
            (self._forces, self._stresses, self._virials), np.split(rows[:, 1:], 3, axis=1), strict=True
        ):
            known.append(part)

    def table(self, groups: Sequence[str]) -> ErrorTable:
        """The errors so far.

        Args:
            groups: group of each frame, in the order in which frames were added.
        """
        energies = np.concatenate(self._energies)
        moments = tuple(np.concatenate(parts) for parts in (self._forces, self._stresses, self._virials))
        names = np.array(groups)
        rows = {str(name): _row(energies, moments, names == name) for name in sorted(set(groups))}
        return ErrorTable(_row(energies, moments, np.ones(len(names), dtype=bool)), rows)


def judged_sums(objective: Objective, parts: Iterable[LabelledBatch]) -> Sums:
    """Sums of :func:`~.objective.squares`, and the rows of a tally of the same frames."""
    tally = ErrorTally()
    sums = squares(objective, parts, tally.add)
    return *sums, torch.from_numpy(tally.rows())


def evaluate_errors(model: PotentialModel, frames: Sequence[Frame]) -> ErrorTable:
    """Errors of a model's energies, forces and stresses against the labels of frames.

    Energies are compared as they are: take reference energies from the labels first, as for training.

    Raises:
        SurrogateError: no frames, an unknown element, or labels that are not finite.
    """
    parameter = next(model.parameters())
    data = LabelledFrames(frames, model.elements, model.cutoff_ang, dtype=parameter.dtype, device=str(parameter.device))
    tally = ErrorTally()
    for part in data.partition(range(len(data)), None, _MAX_PAIRS):
        labelled = data.batch(part)
        with torch.no_grad():
            tally.add(model(labelled.batch), labelled)
    return tally.table([frame.group for frame in frames])


def _moments(values: torch.Tensor, frame: torch.Tensor, n_frames: int) -> np.ndarray:
    """Number, sum of magnitudes and sum of squares of the components of each frame, ``[n_frames, 3]``."""
    values = values.detach().double()
    rows = torch.stack([torch.full_like(values, 1.0).sum(1), values.abs().sum(1), (values**2).sum(1)], dim=1)
    sums = torch.zeros(n_frames, 3, dtype=torch.float64, device=values.device).index_add(0, frame, rows)
    return sums.cpu().numpy()


def _row(energies: np.ndarray, moments: tuple[np.ndarray, ...], chosen: np.ndarray) -> ErrorRow:
    figures: list[float] = []
    for parts in moments:
        n, magnitude, square = parts[chosen].sum(axis=0)
        figures += [float(magnitude / n), float(np.sqrt(square / n))] if n else [float("nan")] * 2
    energy = energies[chosen]
    return ErrorRow(
        int(chosen.sum()),
        int((moments[0][chosen, 0] > 0).sum()),
        int((moments[1][chosen, 0] > 0).sum()),
        float(np.abs(energy).mean()),
        float(np.sqrt((energy**2).mean())),
        float(energy.mean()),
        *figures,
    )
