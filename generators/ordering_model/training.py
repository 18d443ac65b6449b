"""Fitting the model of orderings to labelled structures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ...structures.base import Phase
from ...structures.lattice import ParentLattice
from ...structures.space import DesignSpace
from ...surrogates.base import Report, SurrogateError, SurrogateState
from ...surrogates.polynomial import PhasePolynomial, fit_piece, monomials
from ...surrogates.threads import threads
from .network import OrderingNetwork
from .sampling import fill_sites

KIND = "ordering_model"
_DEGREE = 3
_REPORT_EVERY = 50  # steps
_UNCONDITIONED = 0.1  # share of structures whose excess the network is not told
_CLIP = 1.0
_MAX_BATCH = 256


@dataclass(frozen=True)
class Labelled:
    """Labelled orderings of one lattice.

    Attributes:
        lattice: the sites.
        occupations: int8 ``[n, n_sites]``.
        scores: ``[n]``, larger is better.
    """

    lattice: ParentLattice
    occupations: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class NetworkSizes:
    """See :class:`~alloysmith.generators.ordering_model.network.OrderingNetwork`, and how long it is trained."""

    n_shells: int
    n_channels: int
    n_layers: int
    n_steps: int
    batch_size: int
    learning_rate: float


@dataclass(frozen=True)
class OrderingModel:
    """A fitted model.

    Attributes:
        network: as trained; not to be trained further.
        trend: polynomial of the score in the composition, for each phase it was fitted on; the network adds the excess.
        excess_std: of the excess, in units of the score.
    """

    network: OrderingNetwork
    trend: Mapping[Phase, PhasePolynomial]
    excess_std: float

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Phases it was fitted on."""
        return tuple(self.trend)

    @threads(1)
    def sample(
        self,
        lattice: ParentLattice,
        occupations: np.ndarray,
        counts: np.ndarray,
        wanted: np.ndarray,
        n_steps: int,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Fill the empty sites of ``occupations``; see :func:`~.sampling.fill_sites`.

        Args:
            wanted: excess of the score over the composition's, in standard deviations, ``[n]``.
        """
        parts = [
            fill_sites(
                self.network,
                lattice,
                occupations[i : i + _MAX_BATCH],
                counts[i : i + _MAX_BATCH],
                wanted[i : i + _MAX_BATCH],
                n_steps,
                rng,
            )
            for i in range(0, len(occupations), _MAX_BATCH)
        ]
        return np.concatenate(parts) if parts else occupations

    @threads(1)
    @torch.no_grad()
    def forecast(self, lattice: ParentLattice, occupations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is foreseen of whole occupations ``[n, n_sites]``: terms of the trend, and the excess over it.

        Returns:
            ``[n, n_terms]``, whose product with the trend's coefficients is the score of the composition, and ``[n]``
            in units of the score.
        """
        fractions = _fractions(occupations, self.network.n_elements)
        parts = [np.zeros(0)]
        for i in range(0, len(occupations), _MAX_BATCH):
            rows = slice(i, i + _MAX_BATCH)
            condition = np.concatenate([np.zeros((len(fractions[rows]), 2)), fractions[rows]], axis=1)
            _, excess = self.network(
                lattice,
                torch.from_numpy(occupations[rows].astype(np.int64)),
                torch.from_numpy(condition.astype(np.float32)),
            )
            parts.append(excess.double().numpy())
        return monomials(fractions, _DEGREE), self.excess_std * np.concatenate(parts)

    def predict(self, lattice: ParentLattice, occupations: np.ndarray) -> np.ndarray:
        """Expected scores ``[n]`` of whole occupations ``[n, n_sites]``."""
        terms, excess = self.forecast(lattice, occupations)
        return terms @ self.trend[lattice.phase].mean + excess

    def state(self) -> SurrogateState:
        """The model as plain data; reading it back gives an identical model."""
        network = self.network
        sizes = [network.n_elements, network.n_shells, network.embedding.embedding_dim, len(network.own)]
        arrays = {f"network/{name}": x.detach().numpy() for name, x in network.state_dict().items()}
        for phase, piece in self.trend.items():
            arrays |= {f"trend/{phase}/mean": piece.mean, f"trend/{phase}/covariance": piece.covariance}
            arrays[f"trend/{phase}/variance"] = np.array([piece.variance])
        settings = {"sizes": sizes, "phases": list(network.phases), "excess_std": self.excess_std}
        return SurrogateState(KIND, settings, arrays)

    @classmethod
    def from_state(cls, state: SurrogateState) -> OrderingModel:
        """Read what :meth:`state` gave.

        Raises:
            SurrogateError: another kind of model, or something is missing.
        """
        if state.kind != KIND:
            raise SurrogateError(f"the file holds a {state.kind}, and an {KIND} is needed")
        try:
            n_elements, n_shells, n_channels, n_layers = state.settings["sizes"]
            phases: tuple[Phase, ...] = tuple(state.settings["phases"])
            with torch.random.fork_rng(devices=[]):
                network = OrderingNetwork(n_elements, phases, n_shells, n_channels, n_layers)
            weights = {n.removeprefix("network/"): x for n, x in state.arrays.items() if n.startswith("network/")}
            network.load_state_dict({name: torch.from_numpy(x.copy()) for name, x in weights.items()})
            trend = {
                phase: PhasePolynomial(
                    state.arrays[f"trend/{phase}/mean"],
                    state.arrays[f"trend/{phase}/covariance"],
                    float(state.arrays[f"trend/{phase}/variance"].item()),
                )
                for phase in phases
            }
            excess_std = float(state.settings["excess_std"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise SurrogateError(f"the model's state is incomplete ({error!r}); fit it again") from error
        return cls(network.eval().requires_grad_(False), trend, excess_std)


def _fractions(occupations: np.ndarray, n_elements: int) -> np.ndarray:
    return np.stack([(occupations == k).mean(axis=1) for k in range(n_elements)], axis=1)


@threads(1)
def fit_ordering_model(
    space: DesignSpace, data: Sequence[Labelled], sizes: NetworkSizes, seed: int, report: Report | None = None
) -> OrderingModel:
    """Train a model; deterministic in its arguments.

    Each structure has a random share of its sites emptied, from one to all, and the network learns what was there, told
    the composition and (mostly) the excess of the score: masked diffusion with a linear schedule, whose likelihood
    bound weights each empty site by the inverse of their share (J. Shi et al., NeurIPS 2024, arXiv:2406.04329). Whole
    structures teach it the excess: what a polynomial in the composition leaves of the score.

    Args:
        data: one entry a lattice, none of them empty.
        report: called with (step, figures) now and then; a training of seconds does not end before its time.
    """
    scores = np.concatenate([part.scores for part in data])
    std = float(max(scores.std(), 1e-9 * max(1.0, abs(scores.mean()))))
    n_elements = len(space.elements)
    trend: dict[Phase, PhasePolynomial] = {}
    excess = []
    for part in data:
        terms = monomials(_fractions(part.occupations, n_elements), _DEGREE)
        trend[part.lattice.phase] = fit_piece(terms, part.scores, 1e-6 * std**2)
        excess.append(part.scores - terms @ trend[part.lattice.phase].mean)
    excess_std = float(max(np.concatenate(excess).std(), 1e-6 * std))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = OrderingNetwork(
            n_elements, tuple(part.lattice.phase for part in data), sizes.n_shells, sizes.n_channels, sizes.n_layers
        )
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=sizes.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, sizes.learning_rate, total_steps=sizes.n_steps + 1)
    shares = np.array([len(part.scores) for part in data]) / len(scores)
    for step in range(1, sizes.n_steps + 1):
        which = int(rng.choice(len(data), p=shares))
        part = data[which]
        rows = rng.choice(len(part.scores), size=min(sizes.batch_size, len(part.scores)), replace=False)
        loss = _loss(network, part.lattice, part.occupations[rows], excess[which][rows] / excess_std, rng)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), _CLIP)
        optimizer.step()
        schedule.step()
        if report is not None and step % _REPORT_EVERY == 0:
            report(step, {"share": step / sizes.n_steps, "loss": float(loss.detach())})
    return OrderingModel(network.eval().requires_grad_(False), trend, excess_std)


def _loss(
    network: OrderingNetwork,
    lattice: ParentLattice,
    occupations: np.ndarray,
    excess: np.ndarray,
    rng: np.random.Generator,
) -> torch.Tensor:
    n, n_sites = occupations.shape
    fractions = _fractions(occupations, network.n_elements)
    is_told = rng.random(n) >= _UNCONDITIONED
    # Evenly spread over the batch, which makes the loss less noisy.
    share = (rng.permutation(n) + rng.random(n)) / n
    is_empty = rng.random((n, n_sites)) < share[:, None]
    is_empty[np.arange(n), rng.integers(n_sites, size=n)] = True
    masked = torch.from_numpy(np.where(is_empty, network.n_elements, occupations).astype(np.int64))
    condition = np.concatenate([np.stack([excess * is_told, is_told], axis=1), fractions], axis=1)
    logits, _ = network(lattice, masked, torch.from_numpy(condition.astype(np.float32)))
    whole = torch.from_numpy(occupations.astype(np.int64))
    surprise = nn.functional.cross_entropy(logits.flatten(0, 1), whole.flatten(), reduction="none").view(n, n_sites)
    weights = torch.from_numpy((is_empty / is_empty.mean(axis=1, keepdims=True) / n_sites).astype(np.float32))
    untold = np.concatenate([np.zeros((n, 2)), fractions], axis=1)
    _, predicted = network(lattice, whole, torch.from_numpy(untold.astype(np.float32)))
    error = predicted - torch.from_numpy(excess.astype(np.float32))
    return (surprise * weights).sum(dim=1).mean() + 0.5 * (error**2).mean()
