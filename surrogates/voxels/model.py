"""A network on voxel grids as a model of forces: fitting, predicting, and its plain data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import torch
from ase import Atoms
from torch import Tensor, nn

from ..barriers.network_training import evaluate, train_network
from ..base import Metrics, Report, SurrogateError, SurrogateState
from ..potentials.frame import Frame
from .environments import environments
from .training_settings import VoxelTrainingSettings
from .voxel_grids import VoxelGrids, VoxelGridSettings, voxel_grids

KIND = "voxel_forces"
_CHUNK_ATOMS = 8192  # whose surroundings are in memory at a time when forces are predicted
_STATISTICS_ATOMS = 4096
_JUDGED_SHARE = 5


class VoxelNetworkSettings(Protocol):
    """What a model of forces needs of the settings of its kind of network."""

    @property
    def kind(self) -> str: ...

    @property
    def grid(self) -> VoxelGridSettings: ...

    @property
    def training(self) -> VoxelTrainingSettings: ...

    def network(self) -> nn.Module:
        """A network with random weights."""
        ...

    def model_dump(self, *, mode: str) -> dict[str, Any]: ...


@dataclass(frozen=True)
class VoxelForceSpec:
    """What a model of forces declares about itself.

    Attributes:
        kind: the ``kind:`` of its settings in a configuration file.
        elements: chemical symbols that it knows.
        n_train: atoms whose forces it was fitted to.
        facts: JSON-able facts for people: data, errors.
    """

    kind: str
    elements: tuple[str, ...]
    n_train: int
    facts: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class ForcePairs:
    """Known and predicted forces of atoms that were held out, float32 ``[n, 3]`` each, eV/Å."""

    known: np.ndarray
    predicted: np.ndarray


@dataclass(frozen=True)
class GridScale:
    """How grids become inputs of a network.

    Attributes:
        mean: float32 ``[n_channels, n, n, n]``, of the training grids.
        spread: float32 ``[n_channels, 1, 1, 1]``, standard deviation about it, one for all voxels.
    """

    mean: np.ndarray
    spread: np.ndarray


@dataclass(frozen=True)
class GridInputs:
    """What a network is shown of some atoms, drawn batch by batch when it is asked for.

    Attributes:
        rows: int64 ``[n]``, which environments of the grids.
    """

    grids: VoxelGrids
    rows: np.ndarray
    scale: GridScale
    n_threads: int = 1

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index: np.ndarray, device: torch.device, rng: np.random.Generator | None) -> tuple[Tensor, ...]:
        """Scaled grids ``[n, n_channels, n_voxels, n_voxels, n_voxels]``; nothing about them is random."""
        drawn = self.grids.draw(self.rows[index], n_threads=self.n_threads)
        drawn -= self.scale.mean
        drawn /= self.scale.spread
        return (torch.from_numpy(drawn).to(device),)


@dataclass(frozen=True, eq=False)
class VoxelForceModel:
    """A fitted network; never changes.

    Attributes:
        half_ang: half the edge of the outer box, Å.
        scale_ev_ang: force of an output of 1, the largest component in the training data.
        held_out: forces of test atoms, for figures.
    """

    spec: VoxelForceSpec
    settings: VoxelNetworkSettings
    half_ang: float
    scale: GridScale
    scale_ev_ang: float
    network: nn.Module
    held_out: ForcePairs | None = None

    def predict(self, structures: Sequence[Atoms]) -> list[np.ndarray]:
        """Forces ``[n_atoms, 3]`` of each structure, eV/Å.

        They are no derivatives of an energy, and those of a cell need not add up to zero.

        Raises:
            SurrogateError: an unknown element, coordinates that are not finite, or surroundings without an inner box.
        """
        training = self.settings.training
        # where a network was trained does not bind those who use it
        device = torch.device("cuda" if training.device == "cuda" and torch.cuda.is_available() else "cpu")
        self.network.to(device)
        forces: list[np.ndarray] = []
        for chunk in _chunks(structures):
            found = environments(chunk, self.spec.elements, self.settings.grid.cutoff_ang)
            grids = voxel_grids(found, self.settings.grid, self.half_ang)
            shown = GridInputs(grids, np.arange(len(found)), self.scale, training.n_threads)
            outputs = self.scale_ev_ang * evaluate(self.network, shown, device)
            forces += np.split(outputs.reshape(-1, 3), np.cumsum([len(atoms) for atoms in chunk])[:-1])
        return forces

    def state(self) -> SurrogateState:
        """The model as plain data; reading it back gives identical predictions."""
        arrays = {f"network/{name}": value.detach().cpu().numpy() for name, value in self.network.state_dict().items()}
        arrays |= {"mean": self.scale.mean, "spread": self.scale.spread}
        if self.held_out is not None:
            arrays |= {"held_out/known": self.held_out.known, "held_out/predicted": self.held_out.predicted}
        settings = {
            "spec": {
                "kind": self.spec.kind,
                "elements": list(self.spec.elements),
                "n_train": self.spec.n_train,
                "facts": dict(self.spec.facts),
            },
            "settings": self.settings.model_dump(mode="json"),
            "half_ang": self.half_ang,
            "scale_ev_ang": self.scale_ev_ang,
        }
        return SurrogateState(KIND, settings, arrays)


def fit_voxel_forces(
    settings: VoxelNetworkSettings,
    train: Sequence[Frame],
    validation: Sequence[Frame],
    *,
    elements: tuple[str, ...],
    seed: int,
    report: Report | None = None,
    checkpoint_path: Path | None = None,
) -> VoxelForceModel:
    """Fit a network to the forces of frames; deterministic in (data, settings, seed).

    Args:
        train, validation: frames with forces; those of the latter choose the weights and end the training.
        report: called with (epoch, errors in eV/Å); ``False`` ends the training with what is best so far.
        checkpoint_path: where the training keeps its state, to go on from after a kill.

    Raises:
        SurrogateError: too few atoms, frames without forces, an unknown element, a descriptor or an inner box that
            does not exist for an atom, more convolutions than voxels, or a training that diverges.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        network = settings.network()
    rng = np.random.default_rng(seed)
    limit = settings.training.max_atoms
    grids, forces = _labelled(train, settings, elements)
    rows = _drawn(rng, len(forces), limit)
    judged_grids, judged_forces = _labelled(validation, settings, elements, grids.half_ang)
    judged_rows = _drawn(rng, len(judged_forces), None if limit is None else max(1, limit // _JUDGED_SHARE))
    if len(rows) == 0 or len(judged_rows) == 0:
        raise SurrogateError(
            f"{len(rows)} atoms to learn from and {len(judged_rows)} to judge by; both are needed: raise "
            "validation_fraction, or give more frames"
        )
    largest = float(np.abs(forces[rows]).max())
    if largest == 0.0:
        raise SurrogateError("all forces to learn from are zero; give frames of molecular dynamics")
    scale = _grid_scale(grids, rows)
    train_network(
        network,
        GridInputs(grids, rows, scale, settings.training.n_threads),
        forces[rows] / largest,
        GridInputs(judged_grids, judged_rows, scale, settings.training.n_threads),
        judged_forces[judged_rows] / largest,
        settings.training,
        seed=seed,
        identity=_identity(settings, [(grids, rows), (judged_grids, judged_rows)]),
        report=None if report is None else _in_ev_ang(report, largest),
        checkpoint_path=checkpoint_path,
    )
    spec = VoxelForceSpec(settings.kind, elements, len(rows))
    return VoxelForceModel(spec, settings, grids.half_ang, scale, largest, network)


def voxel_forces_from_state(
    state: SurrogateState, read_settings: Callable[[Mapping[str, Any]], VoxelNetworkSettings]
) -> VoxelForceModel:
    """The model of a state.

    Raises:
        SurrogateError: something is missing.
    """
    try:
        of_spec, arrays = state.settings["spec"], state.arrays
        spec = VoxelForceSpec(of_spec["kind"], tuple(of_spec["elements"]), int(of_spec["n_train"]), of_spec["facts"])
        settings = read_settings(state.settings["settings"])
        network = settings.network()
        prefix = "network/"
        weights = {n[len(prefix) :]: torch.as_tensor(v) for n, v in arrays.items() if n.startswith(prefix)}
        network.load_state_dict(weights)
        scale = GridScale(arrays["mean"], arrays["spread"])
        shown = None
        if "held_out/known" in arrays:
            shown = ForcePairs(arrays["held_out/known"], arrays["held_out/predicted"])
        half, largest = float(state.settings["half_ang"]), float(state.settings["scale_ev_ang"])
        return VoxelForceModel(spec, settings, half, scale, largest, network.eval(), shown)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise SurrogateError(f"the state of the model of forces is incomplete ({error!r}); fit it again") from error


def _labelled(
    frames: Sequence[Frame], settings: VoxelNetworkSettings, elements: tuple[str, ...], half_ang: float | None = None
) -> tuple[VoxelGrids, np.ndarray]:
    """Grids and forces ``[n, 3]`` of all atoms."""
    without = [frame.source for frame in frames if frame.forces is None]
    if without:
        raise SurrogateError(f"{len(without)} frames have no forces, the first {without[0]}; leave them out")
    found = environments([frame.atoms for frame in frames], elements, settings.grid.cutoff_ang)
    forces = [np.zeros((0, 3)), *(frame.forces for frame in frames if frame.forces is not None)]
    return voxel_grids(found, settings.grid, half_ang), np.concatenate(forces)


def _drawn(rng: np.random.Generator, n: int, limit: int | None) -> np.ndarray:
    chosen = rng.permutation(n)[:limit]
    return np.sort(chosen)


def _grid_scale(grids: VoxelGrids, rows: np.ndarray) -> GridScale:
    """Mean and spread over some of the atoms, spread evenly over all."""
    step = max(1, len(rows) // _STATISTICS_ATOMS)
    drawn = grids.draw(rows[::step]).astype(np.float64)
    mean = drawn.mean(axis=0)
    spread = np.sqrt(((drawn - mean) ** 2).mean(axis=(0, 2, 3, 4)))
    spread = np.where(spread > 1e-9, spread, 1.0).reshape(-1, 1, 1, 1)
    return GridScale(mean.astype(np.float32), spread.astype(np.float32))


def _identity(settings: VoxelNetworkSettings, parts: Sequence[tuple[VoxelGrids, np.ndarray]]) -> str:
    """What decides the inputs of a training; its own settings are told apart elsewhere."""
    plain = settings.model_dump(mode="json")
    del plain["training"]
    digest = blake2b(json.dumps(plain, sort_keys=True).encode(), digest_size=16)
    for grids, rows in parts:
        for array in (grids.found.vectors, grids.weights, grids.found.starts, rows, np.array(grids.half_ang)):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _in_ev_ang(report: Report, scale_ev_ang: float) -> Report:
    def tell(epoch: int, metrics: Metrics) -> bool:
        row = {"epoch": metrics["epoch"], "rate": metrics["rate"]}
        errors = {f"{part}_mae_ev_ang": scale_ev_ang * metrics[f"{part}_mae"] for part in ("training", "validation")}
        return report(epoch, row | errors)

    return tell


def _chunks(structures: Sequence[Atoms]) -> Iterator[Sequence[Atoms]]:
    """Structures in order, some atoms at a time."""
    start, n_atoms = 0, 0
    for k, atoms in enumerate(structures):
        if n_atoms > 0 and n_atoms + len(atoms) > _CHUNK_ATOMS:
            yield structures[start:k]
            start, n_atoms = k, 0
        n_atoms += len(atoms)
    if start < len(structures):
        yield structures[start:]
