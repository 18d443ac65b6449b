"""Labelled frames as batches: laid end to end once, and kept while they fit in memory."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import torch

from ..base import SurrogateError
from .frame import Frame
from .graph import Batch, Graph, build_graph, collate
from .loss import LabelledBatch, Labels


class LabelledFrames:
    """Frames with their graphs, from which batches are made.

    Args:
        frames: at least one.
        elements, cutoff_ang: of the model.
        group_weights: weight of the squared errors of each group, 1 for groups that are not named.
        dtype, device: of the batches.

    Raises:
        SurrogateError: no frames, an unknown element, labels that are not finite or have a wrong shape, or a weight
            for a group that no frame belongs to.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        elements: tuple[str, ...],
        cutoff_ang: float,
        *,
        group_weights: Mapping[str, float] | None = None,
        dtype: torch.dtype = torch.float64,
        device: str = "cpu",
    ) -> None:
        if not frames:
            raise SurrogateError("there are no frames to learn from; give at least one")
        for k, frame in enumerate(frames):
            _check(frame, k)
        self.frames = tuple(frames)
        self.dtype = dtype
        self.device = device
        self.graphs: list[Graph] = [build_graph(frame.atoms, elements, cutoff_ang) for frame in frames]
        self.n_pairs = np.array([len(graph.first) for graph in self.graphs])
        self.weights = _weights(self.frames, group_weights or {})

    def __len__(self) -> int:
        return len(self.frames)

    def partition(self, order: Sequence[int] | np.ndarray, max_frames: int | None, max_pairs: int) -> list[np.ndarray]:
        """Cut a sequence of frames into batches of at most so many frames and pairs (at least one frame each)."""
        parts: list[list[int]] = []
        n_pairs = 0
        for k in order:
            is_full = not parts or (max_frames is not None and len(parts[-1]) >= max_frames)
            if is_full or n_pairs + self.n_pairs[k] > max_pairs:
                parts.append([])
                n_pairs = 0
            parts[-1].append(int(k))
            n_pairs += int(self.n_pairs[k])
        return [np.array(part) for part in parts]

    def batch(self, indices: Sequence[int] | np.ndarray) -> LabelledBatch:
        """Lay the frames with these indices end to end."""
        frames = [self.frames[k] for k in indices]
        batch = collate([self.graphs[k] for k in indices], dtype=self.dtype, device=self.device)
        return LabelledBatch(batch, self._labels(frames, self.weights[np.asarray(indices)], batch))

    def parts(
        self, order: Sequence[int] | np.ndarray, max_frames: int | None, max_pairs: int, *, max_bytes: int = 0
    ) -> Batches:
        """The batches of :meth:`partition`, of which so many bytes are kept."""
        return Batches(self, self.partition(order, max_frames, max_pairs), max_bytes=max_bytes)

    def counts(self, indices: Sequence[int] | np.ndarray) -> tuple[int, int, int]:
        """Number of known energies, force components and virial components of some frames."""
        frames = [self.frames[k] for k in indices]
        n_forces = sum(3 * len(frame.atoms) for frame in frames if frame.forces is not None)
        return len(frames), n_forces, 9 * sum(frame.stress is not None for frame in frames)

    def taken(self, indices: np.ndarray) -> LabelledFrames:
        """Some of the frames, perhaps none, with the weights that they have here."""
        part = copy.copy(self)
        part.frames = tuple(self.frames[k] for k in indices)
        part.graphs = [self.graphs[k] for k in indices]
        part.n_pairs, part.weights = self.n_pairs[indices], self.weights[indices]
        return part

    def on(self, device: str) -> LabelledFrames:
        """The same frames for another device."""
        moved = copy.copy(self)
        moved.device = device
        return moved

    def _labels(self, frames: Sequence[Frame], weights: np.ndarray, batch: Batch) -> Labels:
        def tensor(values: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(self.device, self.dtype)

        has_forces = np.array([frame.forces is not None for frame in frames])
        has_stress = np.array([frame.stress is not None for frame in frames])
        forces = [frame.forces for frame in frames if frame.forces is not None]
        virials = [frame.stress * abs(frame.atoms.cell.volume) for frame in frames if frame.stress is not None]
        atoms = frames_with_virial = None
        if not has_forces.all():
            atoms = torch.from_numpy(np.flatnonzero(has_forces[batch.frame_of_atom.cpu().numpy()])).to(self.device)
        if not has_stress.all():
            frames_with_virial = torch.from_numpy(np.flatnonzero(has_stress)).to(self.device)
        return Labels(
            energies=tensor(np.array([frame.energy_ev for frame in frames])),
            weights=tensor(weights),
            forces=tensor(np.concatenate(forces) if forces else np.zeros((0, 3))),
            virials=tensor(np.stack(virials) if virials else np.zeros((0, 3, 3))),
            atoms_with_forces=atoms,
            frames_with_virial=frames_with_virial,
        )


class Batches(Collection[LabelledBatch]):
    """A sequence of batches that are made when they are needed, and kept while the budget lasts.

    Args:
        data: where the frames are.
        parts: indices of the frames of each batch.
        max_bytes: memory for batches that are kept; later ones are made anew each time.
    """

    def __init__(self, data: LabelledFrames, parts: Sequence[np.ndarray], *, max_bytes: int) -> None:
        self.data = data
        self.parts = tuple(parts)
        self._left = self._budget = max_bytes
        self._kept: dict[int, LabelledBatch] = {}

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, k: int) -> LabelledBatch:
        if not 0 <= k < len(self.parts):
            raise IndexError(k)
        found = self._kept.get(k)
        if found is None:
            found = self.data.batch(self.parts[k])
            size = _n_bytes(found)
            if size <= self._left:
                self._left -= size
                self._kept[k] = found
        return found

    def __contains__(self, batch: object) -> bool:
        return any(batch is kept for kept in self._kept.values())

    def __iter__(self) -> Iterator[LabelledBatch]:
        return (self[k] for k in range(len(self.parts)))

    @property
    def order(self) -> np.ndarray:
        """Indices of the frames, in the order of the batches."""
        return np.concatenate(self.parts)

    @property
    def n_kept(self) -> int:
        """Number of batches in memory."""
        return len(self._kept)

    @property
    def n_bytes(self) -> int:
        """Memory that these take."""
        return self._budget - self._left


def _n_bytes(labelled: LabelledBatch) -> int:
    tensors = [*vars(labelled.batch).values(), *vars(labelled.labels).values()]
    return sum(tensor.nbytes for tensor in tensors if isinstance(tensor, torch.Tensor))


def _check(frame: Frame, k: int) -> None:
    where = frame.source or f"frame {k}"
    n_atoms = len(frame.atoms)
    if n_atoms == 0:
        raise SurrogateError(f"{where} has no atoms; drop it")
    if not np.isfinite(frame.energy_ev):
        raise SurrogateError(f"the energy of {where} is {frame.energy_ev}; drop or relabel it")
    for name, values, shape in (("forces", frame.forces, (n_atoms, 3)), ("stress", frame.stress, (3, 3))):
        if values is None:
            continue
        if np.shape(values) != shape:
            raise SurrogateError(f"the {name} of {where} have shape {np.shape(values)}, expected {shape}")
        if not np.isfinite(values).all():
            raise SurrogateError(f"the {name} of {where} are not finite; leave them out (None) where they are unknown")


def _weights(frames: Sequence[Frame], group_weights: Mapping[str, float]) -> np.ndarray:
    groups = {frame.group for frame in frames}
    unknown = sorted(set(group_weights) - groups)
    if unknown:
        raise SurrogateError(
            f"group_weights names {', '.join(unknown)}, but the frames' groups are {', '.join(sorted(groups))}"
        )
    weights = np.array([group_weights.get(frame.group, 1.0) for frame in frames], dtype=float)
    if not (np.isfinite(weights).all() and weights.min() >= 0.0 and weights.mean() > 0.0):
        raise SurrogateError(f"group_weights must be finite, not negative, and not all zero; got {dict(group_weights)}")
    return weights / weights.mean()
