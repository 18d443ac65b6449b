"""Drawing structures: what the heads say, then noise that the decoder undoes level by level.

The samplers know nothing of networks: a ``Denoiser`` is asked for scores and elements of whole batches, so that they
can be tried on distributions whose score is known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import torch
from ase import Atoms
from ase.geometry import cellpar_to_cell

from ...surrogates.threads import threads
from ..screening import FAULT
from .element_noise import assigned, shuffled, whole_counts
from .model import Pcdvae
from .noise import largest_sigma_ang, type_sigmas
from .sampler_settings import LangevinSettings, PredictorCorrectorSettings
from .settings import NoiseSettings
from .torus import Torus

Progress = Callable[[int], None]
"""Called with the number of structures that are done."""

_BATCH_ATOMS = 2000  # of a call of the decoder: memory, and no faster with more
_ANGLES = (30.0, 150.0)  # degrees; what the lattice head may say of a cell
_LEAST_LENGTH_ANG = 0.1  # of a cell of one atom
_LEAST_VOLUME = 0.1  # of a cell, in that of one with the same lengths and right angles
_MOST_LENGTH = 4.0  # of a cell vector over the mean of the training cells, or under it
_MOST_STRETCH = 2.0  # of the cube root of a cell's volume over that of the mean training cell, or under it
_PARTS = {"latents": 0, "drawing": 1}


@dataclass(frozen=True)
class Draft:
    """What the heads say of a structure that is to be drawn.

    Attributes:
        latent: ``[n_latent]``.
        phase: index into the model's phases.
        counts: atoms of each element, int64 ``[n_elements]``.
        cell: ``[3, 3]``, Å.
        value: predicted property; NaN where the model has none.
        scaled_sites: where atoms start from, in the cell's vectors ``[n_atoms, 3]``; none to start from anywhere.
        start_sigma_ang: noise that the start has, and the largest level that is undone; at most the model's largest.
        types: elements that the sites start from, int64 ``[n_atoms]``, ``counts`` of each; none: any order.
        start_type_sigma: noise of the elements that belongs to them; none: the model's largest.
    """

    latent: np.ndarray
    phase: int
    counts: np.ndarray
    cell: np.ndarray
    value: float = float("nan")
    scaled_sites: np.ndarray | None = None
    start_sigma_ang: float | None = None
    types: np.ndarray | None = None
    start_type_sigma: float | None = None


@dataclass
class Cloud:
    """Structures on the way, laid end to end.

    Attributes:
        positions: ``[n_atoms, 3]``, Å.
        types: int64 ``[n_atoms]``.
        owner: structure of each atom, int64 ``[n_atoms]``, ascending.
        is_lost: whether nothing finite could be said of an atom, bool ``[n_atoms]``.
    """

    positions: np.ndarray
    types: np.ndarray
    owner: np.ndarray
    is_lost: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.is_lost = np.zeros(len(self.owner), dtype=bool)

    @property
    def ends(self) -> np.ndarray:
        """Where one structure ends and the next begins, for ``np.split``."""
        return np.flatnonzero(np.diff(self.owner)) + 1


class Denoiser(Protocol):
    """Looks at noisy structures."""

    def __call__(self, cloud: Cloud, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores times σ ``[n_atoms, 3]`` and log probabilities of elements ``[n_atoms, n_elements]``.

        Args:
            levels: σ of positions, Å, and of elements, ``[n_structures, 2]``.
        """
        ...


def generator_of(seed: int, part: Literal["latents", "drawing"], *numbers: int) -> np.random.Generator:
    """Random numbers of one thing that is drawn; those of others, and of the seed itself, are independent of them."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_PARTS[part], *numbers)))


def drafts(model: Pcdvae, latents: np.ndarray) -> list[Draft]:
    """What the heads say of latent vectors ``[n, n_latent]``.

    Far from the training structures heads say anything. So angles that no cell has become those of the mean training
    cell, lengths are cut to within a factor of four of its own, and after that the cube root of the volume of an atom
    to within a factor of two.
    """
    with torch.no_grad():
        heads = model.heads(torch.as_tensor(latents, dtype=model.lattice_mean.dtype))
        numbers = heads.n_atoms[:, 1:].argmax(-1).numpy() + 1
        phases = heads.phases.tolist()
        fractions = heads.composition.softmax(-1).double().numpy()
        lattices = (heads.lattice * model.lattice_spread + model.lattice_mean).double().numpy()
        nothing = torch.full((len(latents),), torch.nan)
        values = nothing if heads.value is None else heads.value * model.value_spread + model.value_mean
        cells = _cells(lattices, model.lattice_mean.double().numpy())
    found = []
    for k, n_atoms in enumerate(numbers.tolist()):
        cell = cells[k] * n_atoms ** (1.0 / 3.0)
        counts = whole_counts(fractions[k], n_atoms)
        found.append(Draft(latents[k], phases[k], counts, cell, float(values[k])))
    return found


def _cells(lattices: np.ndarray, mean: np.ndarray) -> list[np.ndarray]:
    """Vectors ``[3, 3]``, Å, of cells of one atom, from lengths and angles ``[n, 6]``, and the mean of these in the
    training data, ``[6]``."""
    usual_lengths, usual_angles = np.maximum(mean[:3], _LEAST_LENGTH_ANG), np.clip(mean[3:], *_ANGLES)
    usual_volume = np.linalg.det(cellpar_to_cell([*usual_lengths, *usual_angles]))
    lengths = np.clip(lattices[:, :3], usual_lengths / _MOST_LENGTH, usual_lengths * _MOST_LENGTH)
    angles = np.clip(lattices[:, 3:], *_ANGLES)
    cells = []
    for own_lengths, own_angles in zip(lengths, angles, strict=True):
        has_room = _share_of_volume(own_angles) >= _LEAST_VOLUME
        cell = cellpar_to_cell([*own_lengths, *(own_angles if has_room else usual_angles)])
        stretch = np.cbrt(np.linalg.det(cell) / usual_volume)
        cells.append(cell * (np.clip(stretch, 1.0 / _MOST_STRETCH, _MOST_STRETCH) / stretch))
    return cells


def _share_of_volume(angles: np.ndarray) -> float:
    """Volume over the product of the lengths; 0 for impossible angles."""
    a, b, c = np.cos(np.deg2rad(angles))
    if angles.sum() >= 360.0 or 2.0 * angles.max() >= angles.sum():
        return 0.0
    return float(np.sqrt(max(1.0 - a * a - b * b - c * c + 2.0 * a * b * c, 0.0)))


@threads(1)
def sample(
    model: Pcdvae,
    wanted: Sequence[Draft],
    settings: LangevinSettings | PredictorCorrectorSettings,
    *,
    seed: int,
    progress: Progress | None = None,
) -> list[Atoms]:
    """Draw one structure for each draft; the same whatever else is drawn in the same call.

    Returns:
        Structures with the phase in ``info``, and a :data:`FAULT` where the decoder gave no finite numbers; there the
        atoms lie at random.
    """
    found: list[Atoms] = []
    with torch.no_grad():
        for batch in _batches(wanted):
            denoise = _Decoder(model, batch)
            rngs = [generator_of(seed, "drawing", len(found) + k) for k in range(len(batch))]
            cloud = draw(denoise, batch, model.settings.noise, settings, rngs)
            lost = np.unique(cloud.owner[cloud.is_lost]).tolist()
            for k, draft in enumerate(batch):
                mine = cloud.owner == k
                symbols = [model.elements[t] for t in cloud.types[mine]]
                atoms = Atoms(symbols, positions=cloud.positions[mine], cell=draft.cell, pbc=True)
                atoms.wrap()
                if model.phases:
                    atoms.info["phase"] = model.phases[draft.phase]
                if k in lost:
                    atoms.info[FAULT] = "the decoder gave no finite numbers"
                found.append(atoms)
            if progress is not None:
                progress(len(found))
    return found


def _batches(wanted: Sequence[Draft]) -> list[list[Draft]]:
    batches: list[list[Draft]] = []
    room = 0
    for draft in wanted:
        size = int(draft.counts.sum())
        if not batches or size > room:
            batches.append([])
            room = _BATCH_ATOMS
        batches[-1].append(draft)
        room -= size
    return batches


class _Decoder:
    """The model's decoder of some drafts."""

    def __init__(self, model: Pcdvae, wanted: Sequence[Draft]) -> None:
        self.model = model
        self.dtype = model.lattice_mean.dtype
        self.latent = torch.as_tensor(np.stack([d.latent for d in wanted]), dtype=self.dtype)
        self.phases = torch.tensor([d.phase for d in wanted])
        self.cells = [d.cell for d in wanted]

    def __call__(self, cloud: Cloud, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scores, logits = self.model.decode(
            self.latent,
            self.phases,
            torch.from_numpy(cloud.types),
            torch.from_numpy(cloud.owner),
            np.split(cloud.positions, cloud.ends),
            self.cells,
            torch.as_tensor(levels, dtype=self.dtype),
        )
        return scores.double().numpy(), logits.log_softmax(-1).double().numpy()


def draw(
    denoise: Denoiser,
    wanted: Sequence[Draft],
    noise: NoiseSettings,
    settings: LangevinSettings | PredictorCorrectorSettings,
    rngs: Sequence[np.random.Generator],
) -> Cloud:
    """Draw structures of one batch.

    Args:
        denoise: looks at them.
        wanted: what to draw.
        noise: the levels' ends.
        settings: the sampler.
        rngs: random numbers of each structure.
    """
    walk = _Walk(denoise, wanted, noise, settings.n_levels, rngs)
    if isinstance(settings, LangevinSettings):
        for level in range(settings.n_levels):
            for _ in range(settings.n_steps):
                walk.look(level)
                walk.step_at(level, np.full(len(wanted), settings.step))
                if settings.conserves_composition:
                    walk.renew_elements(level)
                else:
                    walk.take_likeliest_elements()
        if settings.conserves_composition:
            walk.settle_elements()
        return walk.cloud
    steps = np.array([settings.search_step if d.scaled_sites is None else settings.step for d in wanted])
    for level in range(settings.n_levels):
        for _ in range(settings.n_corrections):
            walk.look(level)
            walk.step_at(level, steps)
            walk.renew_elements(level)
        walk.look(level)
        walk.go_down(level, settings.stochasticity)
        if level + 1 < settings.n_levels:
            walk.renew_elements(level + 1)
    walk.settle_elements()
    return walk.cloud


class _Walk:
    """Structures on their way down the noise levels."""

    def __init__(
        self,
        denoise: Denoiser,
        wanted: Sequence[Draft],
        noise: NoiseSettings,
        n_levels: int,
        rngs: Sequence[np.random.Generator],
    ) -> None:
        self.denoise, self.wanted, self.rngs = denoise, wanted, rngs
        starts, type_starts, positions, types = [], [], [], []
        most, least = (float(x) for x in type_sigmas(noise)[[0, -1]])
        for draft, rng in zip(wanted, rngs, strict=True):
            n_atoms = int(draft.counts.sum())
            largest = largest_sigma_ang(Torus(draft.cell), noise)
            start = min(draft.start_sigma_ang or largest, largest)
            starts.append(max(start, noise.sigma_min_ang))
            if draft.scaled_sites is None:
                positions.append(rng.random((n_atoms, 3)) @ draft.cell)
            else:
                positions.append(draft.scaled_sites @ draft.cell + start * rng.standard_normal((n_atoms, 3)))
            type_starts.append(max(draft.start_type_sigma or most, least))
            if draft.types is None:
                types.append(rng.permutation(np.repeat(np.arange(len(draft.counts)), draft.counts)))
            else:
                types.append(shuffled(draft.types, type_starts[-1], rng))
        sizes = [len(t) for t in types]
        self.cloud = Cloud(np.concatenate(positions), np.concatenate(types), np.repeat(np.arange(len(sizes)), sizes))
        self.sigmas = np.geomspace(starts, np.full(len(starts), noise.sigma_min_ang), n_levels)  # [n_levels, n]
        self.type_sigmas = np.geomspace(type_starts, np.full(len(starts), least), n_levels)
        self.scores, self.log_p = np.zeros((0, 3)), np.zeros((0, 0))

    def look(self, level: int) -> None:
        """Ask for scores and elements."""
        levels = np.stack([self.sigmas[level], self.type_sigmas[level]], 1)
        scores, log_p = self.denoise(self.cloud, levels)
        is_lost = ~(np.isfinite(scores).all(-1) & np.isfinite(log_p).all(-1))
        self.cloud.is_lost |= is_lost
        self.scores = np.where(is_lost[:, None], 0.0, scores)  # so that the others of the batch can go on
        self.log_p = np.where(is_lost[:, None], 0.0, log_p)

    def step_at(self, level: int, steps: np.ndarray) -> None:
        """A Langevin step at a level: x + a s + sqrt(2 a) z with a = step × σ², steps ``[n_structures]``."""
        sigma, step = self._of_atoms(self.sigmas[level]), self._of_atoms(steps)
        self.cloud.positions = (
            self.cloud.positions + step * sigma * self.scores + np.sqrt(2.0 * step) * sigma * self._noise()
        )

    def go_down(self, level: int, stochasticity: float) -> None:
        """To the next level, or to none at the last: the denoised positions, with as much noise as belongs there.

        Of that a part is the noise that was found and the rest is fresh (Song, Meng, Ermon, DDIM, ICLR 2021, Eq. 12,
        with the variance exploding).
        """
        sigma = self._of_atoms(self.sigmas[level])
        clean = self.cloud.positions + sigma * self.scores
        if level + 1 == len(self.sigmas):
            self.cloud.positions = clean
            return
        following = self._of_atoms(self.sigmas[level + 1])
        fresh = stochasticity * following * np.sqrt(1.0 - (following / sigma) ** 2)
        kept = np.sqrt(following**2 - fresh**2)
        self.cloud.positions = clean - kept * self.scores + fresh * self._noise()

    def renew_elements(self, level: int) -> None:
        """Elements as the decoder sees them, with as much noise as belongs to a level."""
        self._each(lambda k, log_p, rng: shuffled(self._drawn(k, log_p, rng), float(self.type_sigmas[level, k]), rng))

    def settle_elements(self) -> None:
        """The likeliest elements with the given counts."""
        self._each(lambda k, log_p, rng: self._drawn(k, log_p, None))

    def _drawn(self, k: int, log_p: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        return assigned(log_p, self.wanted[k].counts, rng)

    def take_likeliest_elements(self) -> None:
        """Each atom's likeliest element, whatever that makes of the composition."""
        self.cloud.types = self.log_p.argmax(-1)

    def _each(self, change: Callable[[int, np.ndarray, np.random.Generator], np.ndarray]) -> None:
        parts = zip(np.split(self.log_p, self.cloud.ends), self.rngs, strict=True)
        self.cloud.types = np.concatenate([change(k, log_p, rng) for k, (log_p, rng) in enumerate(parts)])

    def _of_atoms(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(values[self.cloud.owner][:, None])

    def _noise(self) -> np.ndarray:
        sizes = np.diff([0, *self.cloud.ends, len(self.cloud.owner)])
        return np.concatenate([rng.standard_normal((n, 3)) for rng, n in zip(self.rngs, sizes.tolist(), strict=True)])
