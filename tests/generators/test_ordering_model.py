"""The model of orderings: symmetric, exact in its counts, and it does learn what the condition asks for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from alloysmith.generators.ordering_model.generator import OrderingModelSettings
from alloysmith.generators.ordering_model.network import OrderingNetwork
from alloysmith.generators.ordering_model.sampling import fill_sites
from alloysmith.generators.ordering_model.training import Labelled, NetworkSizes, OrderingModel, fit_ordering_model
from alloysmith.structures.lattice import ParentLattice
from alloysmith.structures.settings import SystemSettings
from alloysmith.surrogates.base import SurrogateError
from alloysmith.surrogates.model_file import load_state, save_state
from alloysmith.tests.toy_campaign import ToyCampaign
from ase import Atoms

SPACE = SystemSettings(elements=("Ni", "Fe", "Cr"), cell={"repeat": (2, 2, 2)}, max_fraction=0.9).space()
EMPTY = 3
SIZES = NetworkSizes(n_shells=2, n_channels=16, n_layers=1, n_steps=250, batch_size=32, learning_rate=1e-2)


def _network(seed: int = 0) -> OrderingNetwork:
    torch.manual_seed(seed)
    return OrderingNetwork(3, ("fcc", "bcc"), n_shells=3, n_channels=8, n_layers=2).double()


def _mixed_bonds(lattice: ParentLattice, occupations: np.ndarray) -> np.ndarray:
    """Nickel wants chromium beside it, and iron is bad."""
    near = lattice.neighbour_table(1)[0]
    bonds = ((occupations[:, :, None] == 0) & (occupations[:, near] == 2)).mean(axis=(1, 2))
    return 180.0 + 20.0 * bonds - 2.0 * (occupations == 1).mean(axis=1)


def _conditions(n: int, n_sites: int, rng: np.random.Generator) -> torch.Tensor:
    fractions = rng.multinomial(n_sites, np.ones(3) / 3, size=n) / n_sites
    return torch.from_numpy(np.concatenate([rng.normal(size=(n, 1)), np.ones((n, 1)), fractions], axis=1))


@pytest.mark.parametrize("phase", ["fcc", "bcc"])
def test_images_of_an_ordering_get_images_of_the_answer(phase):
    lattice, rng = SPACE.lattice(phase), np.random.default_rng(0)
    occupation = rng.integers(4, size=lattice.n_sites)
    operations = lattice.permutations[:: max(1, len(lattice.permutations) // 12)]
    condition = _conditions(1, lattice.n_sites, rng).expand(len(operations), -1)
    with torch.no_grad():
        network = _network()
        logits, excess = network(lattice, torch.from_numpy(occupation[operations]), condition)
        plain, value = network(lattice, torch.from_numpy(occupation[None]), condition[:1])
    for image, operation in zip(logits, operations, strict=True):
        assert (image - plain[0, torch.from_numpy(operation.astype(int))]).abs().max() < 1e-9
    assert (excess - value).abs().max() < 1e-9
    assert plain.std() > 1e-3


@pytest.mark.parametrize("n_steps", [1, 3, 100])
def test_counts_come_out_exactly_and_kept_sites_stay(n_steps):
    lattice, rng = SPACE.lattice("bcc"), np.random.default_rng(1)
    whole = np.array([SPACE.random_occupation(rng, lattice) for _ in range(40)])
    counts = SPACE.counts(whole)
    emptied = np.where(rng.random(whole.shape) < rng.random((40, 1)), np.int8(EMPTY), whole)
    filled = fill_sites(_network().float(), lattice, emptied, counts, np.zeros(40), n_steps, rng)
    assert (SPACE.counts(filled) == counts).all()
    assert (filled[emptied != EMPTY] == emptied[emptied != EMPTY]).all()
    assert (filled != whole).any()


def test_sampling_follows_the_network_when_counts_leave_it_free():
    """One empty site left, two elements possible: drawn as the softmax says."""

    class Fixed(OrderingNetwork):
        def forward(self, lattice, occupations, wanted):
            logits = torch.log(torch.tensor([0.7, 0.2, 0.1])).expand(*occupations.shape, 3)
            return logits, torch.zeros(len(occupations))

    lattice, rng = SPACE.lattice("bcc"), np.random.default_rng(2)
    n = 4000
    empty = np.full((n, 16), EMPTY, dtype=np.int8)
    filled = fill_sites(Fixed(3, ("bcc",), 1, 4, 1), lattice, empty, np.tile([16, 16, 0], (n, 1)), np.zeros(n), 16, rng)
    # With room for either element at every site, nickel has 0.7 / 0.9 everywhere; chromium is not allowed at all.
    assert (filled == 2).sum() == 0
    assert (filled == 0).mean(axis=0) == pytest.approx(np.full(16, 7 / 9), abs=0.03)


@pytest.fixture(scope="module")
def fitted() -> OrderingModel:
    rng = np.random.default_rng(0)
    lattice = SPACE.lattice("bcc")
    occupations = np.array([SPACE.random_occupation(rng, lattice) for _ in range(150)])
    data = [Labelled(lattice, occupations, _mixed_bonds(lattice, occupations))]
    return fit_ordering_model(SPACE, data, SIZES, seed=0)


def test_it_foresees_more_than_the_composition_tells(fitted):
    lattice, rng = SPACE.lattice("bcc"), np.random.default_rng(7)
    test = np.array([SPACE.random_occupation(rng, lattice) for _ in range(200)])
    truth = _mixed_bonds(lattice, test)
    terms, excess = fitted.forecast(lattice, test)
    trend = terms @ fitted.trend["bcc"].mean
    assert fitted.predict(lattice, test) == pytest.approx(trend + excess)
    assert np.std(truth - trend - excess) < 0.6 * np.std(truth - trend)


def test_samples_have_the_excess_that_was_wanted(fitted):
    lattice, rng = SPACE.lattice("bcc"), np.random.default_rng(8)
    empty, counts = np.full((200, 16), EMPTY, dtype=np.int8), np.tile([6, 4, 6], (200, 1))
    means = []
    for wanted in (-4.0, 0.0, 4.0):
        filled = fitted.sample(lattice, empty, counts, np.full(200, wanted), 8, rng)
        assert (SPACE.counts(filled) == counts).all()
        means.append(_mixed_bonds(lattice, filled).mean())
    random = np.mean([_mixed_bonds(lattice, rng.permuted(np.repeat([0, 1, 2], [6, 4, 6]))[None]) for _ in range(400)])
    assert means[0] < random < means[2]
    assert means[0] + 0.1 < means[1] < means[2] - 0.1


def test_a_fit_depends_on_its_arguments_only(fitted):
    rng = np.random.default_rng(0)
    lattice = SPACE.lattice("bcc")
    occupations = np.array([SPACE.random_occupation(rng, lattice) for _ in range(150)])
    data = [Labelled(lattice, occupations, _mixed_bonds(lattice, occupations))]
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    again = fit_ordering_model(SPACE, data, SIZES, seed=0)
    assert (torch.random.get_rng_state() == before).all()
    assert (again.predict(lattice, occupations) == fitted.predict(lattice, occupations)).all()


def test_labels_that_do_not_vary_are_no_obstacle():
    rng = np.random.default_rng(0)
    lattice = SPACE.lattice("fcc")
    occupations = np.array([SPACE.random_occupation(rng, lattice) for _ in range(12)])
    sizes = NetworkSizes(1, 4, 1, 5, 8, 1e-2)
    model = fit_ordering_model(SPACE, [Labelled(lattice, occupations, np.full(12, 5.0))], sizes, seed=0)
    assert model.predict(lattice, occupations) == pytest.approx(np.full(12, 5.0), abs=1e-3)


def test_a_campaign_beats_its_random_start():
    def judge(atoms: Atoms) -> float:
        lattice, occupation = SPACE.locate(atoms)
        return float(_mixed_bonds(lattice, occupation[None])[0])

    settings = OrderingModelSettings(
        n_initial=40, n_shells=2, n_channels=16, n_layers=1, n_steps=120, n_samples=40, n_rounds=8, learning_rate=1e-2
    )
    campaign = ToyCampaign(judge)
    campaign.run(settings.build("this one", SPACE), 80)
    assert max(campaign.scores[40:]) > max(campaign.scores[:40]) + 0.5
    assert np.mean(campaign.scores[60:]) > np.mean(campaign.scores[:40]) + 1.0


def test_a_model_reads_back_to_the_last_bit(fitted: OrderingModel, tmp_path: Path) -> None:
    save_state(fitted.state(), tmp_path / "model.safetensors")
    before = torch.random.get_rng_state()
    again = OrderingModel.from_state(load_state(tmp_path / "model.safetensors"))
    assert (torch.random.get_rng_state() == before).all()
    lattice, rng = SPACE.lattice("bcc"), np.random.default_rng(3)
    occupations = np.array([SPACE.random_occupation(rng, lattice) for _ in range(20)])
    assert (again.predict(lattice, occupations) == fitted.predict(lattice, occupations)).all()
    drawn = [model.trend["bcc"].drawn(3, np.random.default_rng(0)) for model in (fitted, again)]
    assert (drawn[0] == drawn[1]).all()
    with pytest.raises(SurrogateError, match="incomplete"):
        OrderingModel.from_state(replace(fitted.state(), arrays={}))
    with pytest.raises(SurrogateError, match="holds a pcdvae"):
        OrderingModel.from_state(replace(fitted.state(), kind="pcdvae"))
