"""Several barrier models as one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from alloysmith.surrogates.barriers.base import BarrierModel
from alloysmith.surrogates.barriers.committee import BarrierCommittee, barrier_committee, share_of_hops
from alloysmith.surrogates.barriers.hops import Hops
from alloysmith.surrogates.barriers.ridge import RidgeSettings
from alloysmith.surrogates.barriers.settings import barrier_model_from_state, is_barrier_model
from alloysmith.surrogates.base import SurrogateError, SurrogateState
from alloysmith.surrogates.model_file import load_state, save_state
from alloysmith.tests.surrogates.barriers.hop_tables import ELEMENTS, toy_hops


@pytest.fixture(scope="module")
def parts() -> tuple[Hops, Hops]:
    hops = toy_hops(5, 200)
    return hops.take(hops.crystal != 4), hops.take(hops.crystal == 4)


@pytest.fixture(scope="module")
def committee(parts: tuple[Hops, Hops]) -> BarrierCommittee:
    train, validation = parts
    members = [
        RidgeSettings(n_shells=1).fit(
            train.take(share_of_hops(len(train), 0.5, seed)), validation, elements=ELEMENTS, seed=seed
        )
        for seed in range(3)
    ]
    return barrier_committee(members, validation, len(train))


def test_it_is_the_mean_of_its_members_and_its_spread_is_calibrated(
    committee: BarrierCommittee, parts: tuple[Hops, Hops]
) -> None:
    train, validation = parts
    assert isinstance(committee, BarrierModel)
    assert (committee.spec.n_train, committee.spec.elements) == (len(train), ELEMENTS)
    found = committee.predict(validation)
    each = [member.predict(validation).mean_ev for member in committee.members]
    np.testing.assert_allclose(found.mean_ev, np.mean(each, axis=0))
    np.testing.assert_allclose(committee.mean_and_spread(validation)[1], np.std(each, axis=0))
    assert np.std(each, axis=0).min() > 0.0
    scaled = (found.mean_ev - validation.barriers_ev) / found.std_ev
    assert np.sqrt((scaled**2).mean()) == pytest.approx(1.0, abs=0.02)


def test_a_file_gives_the_same_predictions(
    committee: BarrierCommittee, parts: tuple[Hops, Hops], tmp_path: Path
) -> None:
    save_state(committee.state(), tmp_path / "m.safetensors")
    state = load_state(tmp_path / "m.safetensors")
    assert is_barrier_model(state)
    again = barrier_model_from_state(state)
    assert again.spec == committee.spec
    for name in ("mean_ev", "std_ev"):
        np.testing.assert_array_equal(
            getattr(again.predict(parts[1]), name), getattr(committee.predict(parts[1]), name)
        )
    broken = {key: value for key, value in state.settings.items() if key != "members"}
    with pytest.raises(SurrogateError, match="members"):
        barrier_model_from_state(SurrogateState(state.kind, broken, state.arrays))


def test_a_member_leaves_out_the_same_hops_for_good() -> None:
    early, late = share_of_hops(50, 0.7, seed=3), share_of_hops(80, 0.7, seed=3)
    assert 25 < early.sum() < 45
    assert (early != late[:50]).sum() <= 2  # ends that keep it from all and none
    assert share_of_hops(40, 1.0, seed=0).all()
    for seed in range(20):
        assert share_of_hops(1, 0.2, seed).all()
        assert 0 < share_of_hops(2, 0.2, seed).sum() <= 2
    assert (share_of_hops(50, 0.7, seed=4) != early).any()
