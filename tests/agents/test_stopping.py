"""Every reason to stop, caused."""

from __future__ import annotations

import pytest
from alloysmith.agents.base import Budget
from alloysmith.agents.stopping import PlateauSettings, StoppingSettings, stop_reason
from alloysmith.tests.agents.conftest import PLENTY, draw, ended, view_of


def _values(space, *values):
    iterator = iter(values)
    return ended(draw(space, len(values), 0), lambda _: next(iterator))


def test_nothing_stops_a_campaign_without_policies(space):
    assert stop_reason(StoppingSettings(), view_of(_values(space, 1.0, 2.0)), PLENTY) is None


@pytest.mark.parametrize(
    ("direction", "target", "stops"),
    [
        ("maximize", 3.0, True),
        ("maximize", 3.1, False),
        ("minimize", 1.0, True),
        ("minimize", 0.9, False),
    ],
)
def test_target(space, direction, target, stops):
    view = view_of(_values(space, 1.0, None, 3.0, 2.0), direction=direction)
    reason = stop_reason(StoppingSettings(target=target), view, PLENTY)
    assert (reason is not None and reason.startswith("target")) == stops


@pytest.mark.parametrize(
    ("least_gain", "n", "stops"), [(0.0, 2, True), (0.0, 3, False), (0.5, 4, True), (0.5, 5, False)]
)
def test_plateau_counts_labels_since_the_last_gain(space, least_gain, n, stops):
    view = view_of(_values(space, 1.0, 2.0, 1.5, None, 2.1, 0.5, None, 2.1))
    settings = StoppingSettings(plateau=PlateauSettings(n_evaluations=n, least_gain=least_gain))
    reason = stop_reason(settings, view, PLENTY)
    assert (reason is not None and reason.startswith("plateau")) == stops


def test_wall_time(space):
    settings = StoppingSettings(wall_s=60.0)
    assert stop_reason(settings, view_of([], elapsed_s=59.0), PLENTY) is None
    assert "wall time" in (stop_reason(settings, view_of([], elapsed_s=60.0), PLENTY) or "")


def test_a_spent_budget_waits_for_what_was_paid_for(space):
    spent = Budget(n_evaluations=0, n_wanted=0)
    pending = tuple(draw(space, 1, 5))
    assert stop_reason(StoppingSettings(), view_of(_values(space, 1.0), pending=pending), spent) is None
    assert "budget" in (stop_reason(StoppingSettings(), view_of(_values(space, 1.0)), spent) or "")
    late = Budget(n_evaluations=5, wall_s=0.0, n_wanted=5)
    assert "budget" in (stop_reason(StoppingSettings(), view_of(_values(space, 1.0)), late) or "")
