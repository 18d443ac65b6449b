"""The memo of fits."""

from __future__ import annotations

from alloysmith.generators.learned import remembered_fit
from alloysmith.generators.random_orderings import RandomOrderingsSettings
from alloysmith.generators.seen import Known, read_history
from alloysmith.structures.settings import SystemSettings
from alloysmith.tests.toy_campaign import ToyCampaign

SPACE = SystemSettings(elements=("Ni", "Fe")).space()


def _labelled(n: int) -> list[Known]:
    campaign = ToyCampaign()
    campaign.run(RandomOrderingsSettings().build("random", SPACE), n)
    return list(read_history(campaign.history, SPACE).by_id.values())


def test_fits_are_made_once() -> None:
    labelled = _labelled(6)
    made: list[str] = []
    for name in ("first", "second", "first", "second"):
        assert remembered_fit(("once", name), labelled, lambda name=name: made.append(name) or name) == name  # type: ignore[misc]
    assert made == ["first", "second"]


def test_a_generator_that_fits_often_leaves_others_their_fits() -> None:
    labelled = _labelled(12)
    made: list[int] = []
    remembered_fit("slow", labelled[:4], lambda: made.append(0))
    for n in range(1, 13):
        remembered_fit("often", labelled[:n], lambda n=n: made.append(n))  # type: ignore[misc]
    remembered_fit("slow", labelled[:4], lambda: made.append(-1))
    assert -1 not in made
    remembered_fit("often", labelled[:11], lambda: made.append(-2))
    assert -2 not in made
    remembered_fit("often", labelled[:5], lambda: made.append(-3))
    assert -3 in made
