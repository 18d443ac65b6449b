"""What the trainable part of a potential is: energies of a batch, differentiable in its vectors and parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from .frame import Frame
from .graph import Batch, Graph


@dataclass(frozen=True)
class ModelOutput:
    """What a model computes for a batch.

    Attributes:
        energies: ``[n_frames]``, eV.
        forces: ``[n_atoms, 3]``, eV/Å.
        virials: ``[n_frames, 3, 3]``, eV: the derivative of the energy by homogeneous strain, volume times stress in
            ASE's sign (tension is positive).
    """

    energies: Tensor
    forces: Tensor
    virials: Tensor


@dataclass(frozen=True)
class LinearRows:
    """Energies and their slopes as linear maps of some of the parameters.

    Attributes:
        columns: int64 ``[n]``, which of these parameters the maps take; all others add nothing.
        energies: ``[n_frames, n]``.
        slopes: ``[n_pairs, 3, n]``, derivatives of the energies by the pair vectors.
    """

    columns: Tensor
    energies: Tensor
    slopes: Tensor


class GraphEvaluator(Protocol):
    """A faster way to evaluate a model whose parameters do not change."""

    def evaluate(self, graph: Graph) -> tuple[float, np.ndarray, np.ndarray] | None:
        """Energy (eV), forces ``[n_atoms, 3]`` (eV/Å) and virial ``[3, 3]`` (eV); ``None`` for a graph beyond its
        range, which the model evaluates itself."""
        ...


@dataclass(frozen=True)
class OutputSlopes:
    """Derivatives of what a model computes for one structure by some of its parameters.

    Attributes:
        columns: int64 ``[n]``, the parameters, counted through all of :meth:`~torch.nn.Module.parameters`; the
            structure does not depend on others.
        energy: ``[n]``, eV.
        forces: ``[3 n_atoms, n]``, eV/Å.
        virial: ``[9, n]``, eV, or ``[0, n]`` where it was not wanted.
    """

    columns: Tensor
    energy: Tensor
    forces: Tensor
    virial: Tensor


class PotentialModel(nn.Module, ABC):
    """Base of all potentials that are trained with PyTorch.

    Args:
        elements: chemical symbols of the types, in order.
        cutoff_ang: pairs further apart do not interact, Å.
    """

    def __init__(self, elements: tuple[str, ...], cutoff_ang: float) -> None:
        super().__init__()
        self.elements = elements
        self.cutoff_ang = cutoff_ang
        self.is_composable = False

    @abstractmethod
    def energies(self, batch: Batch) -> Tensor:
        """Energy of each structure, ``[n_frames]``, eV; differentiable to any order in the vectors and parameters."""

    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """JSON-able facts from which an equal model without its parameters can be built."""

    def prepare(self, frames: Sequence[Frame], *, seed: int) -> None:
        """Take what is no parameter from the training data; called before the first step of each training.

        It has an effect once at most: a model that goes on learning stays the function it is. Frames are without
        reference energies.
        """

    def linear_parameters(self) -> tuple[str, ...]:
        """Names of the parameters that energies are linear in, in the order of :attr:`LinearRows.columns`; none for
        most models."""
        return ()

    def linear_rows(self, batch: Batch) -> LinearRows:
        """The linear maps of :meth:`linear_parameters`, at the present values of all others.

        Raises:
            NotImplementedError: there are no such parameters.
        """
        raise NotImplementedError(f"{type(self).__name__} has no parameters that its energies are linear in")

    def evaluator(self) -> GraphEvaluator | None:
        """A faster way to evaluate the model as it is now, if there is one for its device and precision."""
        return None

    @contextmanager
    def composable(self) -> Iterator[None]:
        """Inside, the model keeps to operations that the transforms of ``torch.func`` can differentiate.

        A model with derivatives of its own (an ``autograd.Function``) leaves them out while ``is_composable`` is set.
        """
        before, self.is_composable = self.is_composable, True
        try:
            yield
        finally:
            self.is_composable = before

    def energies_and_pair_forces(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Energies ``[n_frames]`` and the energy's derivative by each pair vector, ``[n_pairs, 3]``, eV/Å.

        A model that knows its derivative in closed form overrides this, which makes training several times cheaper.
        """
        is_training = torch.is_grad_enabled()
        vectors = batch.vectors.detach().requires_grad_(True)
        with torch.enable_grad():
            energies = self.energies(batch.with_vectors(vectors))
            (slopes,) = torch.autograd.grad(energies.sum(), vectors, create_graph=is_training)
        return (energies, slopes) if is_training else (energies.detach(), slopes)

    def output_slopes(self, batch: Batch, *, with_virials: bool) -> Iterator[OutputSlopes] | None:
        """Derivatives for each structure of a batch by the present parameters; ``None`` from a model without them.

        A model that knows them in closed form overrides this, which makes Gauss-Newton steps many times cheaper.
        """
        return None

    def linear_together(self) -> Tensor | None:
        """Parameters that energies are linear in together: far from the labels, Gauss-Newton steps move these alone.

        Bool ``[n_parameters]``, counted like :attr:`OutputSlopes.columns`; ``None`` for all at once.
        """
        return None

    def forward(self, batch: Batch) -> ModelOutput:
        """Energies, forces and virials of a batch."""
        energies, slopes = self.energies_and_pair_forces(batch)
        return _gather(batch, energies, slopes)


def _gather(batch: Batch, energies: Tensor, slopes: Tensor) -> ModelOutput:
    """Sums over pairs, component by component and over atoms first: faster than sums of rows, or over few frames."""
    n_atoms = len(batch.types)
    s, v = slopes.T.contiguous().unbind(0), batch.vectors.T.contiguous().unbind(0)

    def at(atoms: Tensor, values: Tensor) -> Tensor:
        return torch.zeros(n_atoms, dtype=slopes.dtype, device=slopes.device).scatter_add(0, atoms, values)

    forces = torch.stack([at(batch.first, c) - at(batch.second, c) for c in s], 1)
    xx, yy, zz = (at(batch.first, v[i] * s[i]) for i in range(3))
    yz, xz, xy = (at(batch.first, v[i] * s[j] + v[j] * s[i]) / 2 for i, j in ((1, 2), (0, 2), (0, 1)))
    per_atom = torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], 1)
    virials = torch.zeros(batch.n_frames, 9, dtype=slopes.dtype, device=slopes.device)
    virials = virials.index_add(0, batch.frame_of_atom, per_atom).reshape(-1, 3, 3)
    return ModelOutput(energies, forces, virials)
