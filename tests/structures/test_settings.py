"""What a few settings in a file make of the defaults."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from alloysmith.structures.settings import CellSettings, Settings
from pydantic import Field, ValidationError


class Fast(Settings):
    kind: Literal["fast"] = "fast"
    n_steps: int = 10
    factor: float = 1.0


class Slow(Settings):
    kind: Literal["slow"] = "slow"
    n_steps: int = 1000


class Inner(Settings):
    a: int = 1
    b: int = 2
    way: Annotated[Fast | Slow, Field(discriminator="kind")] = Fast(n_steps=20)


class Outer(Settings):
    inner: Inner = Inner(b=5, way=Fast(n_steps=30, factor=3.0))
    maybe: Inner | None = Inner(a=7)
    cell: CellSettings = CellSettings(kind="cubic", repeat=(5, 5, 5))
    plain: dict[str, int] = Field(default_factory=lambda: {"x": 1})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"inner": Inner(b=5, way=Fast(n_steps=30, factor=3.0)), "maybe": Inner(a=7)}),
        ({"inner": {"a": 3}}, {"inner": Inner(a=3, b=5, way=Fast(n_steps=30, factor=3.0))}),
        ({"inner": {"way": {"factor": 2.0}}}, {"inner": Inner(b=5, way=Fast(n_steps=30, factor=2.0))}),
        ({"inner": {"way": {"kind": "slow"}}}, {"inner": Inner(b=5, way=Slow())}),
        ({"inner": Inner()}, {"inner": Inner()}),
        ({"maybe": None}, {"maybe": None}),
        ({"maybe": {"b": 0}}, {"maybe": Inner(a=7, b=0)}),
        ({"cell": {"repeat": (2, 2, 2)}}, {"cell": CellSettings(kind="cubic", repeat=(2, 2, 2))}),
        ({"cell": {"kind": "primitive"}}, {"cell": CellSettings(kind="primitive", repeat=(5, 5, 5))}),
        ({"plain": {"y": 2}}, {"plain": {"y": 2}}),
    ],
)
def test_a_few_settings_leave_the_others_as_the_default_has_them(given: dict, expected: dict) -> None:
    found = Outer.model_validate(given)
    assert {name: getattr(found, name) for name in expected} == expected
    assert Outer.model_validate(found.model_dump()) == found


def test_errors_name_their_place_as_ever() -> None:
    with pytest.raises(ValidationError) as error:
        Outer.model_validate({"inner": {"way": {"n_stepps": 3}}, "outer": 1})
    places = {e["loc"] for e in error.value.errors()}
    assert places == {("inner", "way", "fast", "n_stepps"), ("outer",)}
