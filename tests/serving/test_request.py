"""What a request means: entities that are taken as they are, and those that are refused by the field that is wrong."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from feature_definitions import Entity, FeatureService, Join, ObservationGroup, Source
from feature_definitions.layout import KeySpace
from serving.answer import read_keys
from serving.request import RequestError, check_entities, compile_service, parse_entity

every_kind = Entity("every_kind", {"id": "int64", "name": "string", "day": "date", "active": "boolean"})
kinds = Source("kinds", columns={**every_kind.keys, "x": "double", "at": "timestamp"}, event_timestamp="at")
by_kinds = FeatureService("by_kinds", joins=(Join(ObservationGroup("kinds", every_kind, kinds, columns=("x",), ttl="1d")),))
GOOD = {"id": 1, "name": "a|b", "day": "2026-01-05", "active": True}


def checked(entities: object) -> list[Any]:
    return list(check_entities(compile_service(by_kinds), entities))


def test_entities_of_every_type_are_taken_as_they_are() -> None:
    asked = [GOOD, GOOD | {"id": -(2**63), "day": date(2026, 1, 5)}, dict.fromkeys(GOOD)]
    assert checked(asked) == asked


def test_a_date_is_the_same_key_as_text_and_as_value() -> None:
    plan = compile_service(by_kinds)
    keys = read_keys(plan, checked([GOOD, GOOD | {"day": date(2026, 1, 5)}]), space=KeySpace("shop", "lakelake"), generations={"kinds": 1})
    assert keys[1] == keys[2] == "hw:shop:lakelake:kinds@1:{1|a%7Cb|2026-01-05|true}"


@pytest.mark.parametrize("entities", [None, [], {}, "x", 5])
def test_entities_that_are_no_list_of_some_are_refused(entities: object) -> None:
    with pytest.raises(RequestError, match=r'like \{"id": 42') as raised:
        checked(entities)
    assert raised.value.field == "entities"


def test_a_thousand_entities_are_the_most() -> None:
    assert len(checked([GOOD] * 1000)) == 1000
    with pytest.raises(RequestError, match="at most 1,000"):
        checked([GOOD] * 1001)


@pytest.mark.parametrize(
    ("entity", "field"),
    [
        (7, "entities[1]"),
        (None, "entities[1]"),
        ({k: v for k, v in GOOD.items() if k != "day"}, "entities[1].day"),
        (GOOD | {"more": 1}, "entities[1].more"),
        (GOOD | {"id": "1"}, "entities[1].id"),
        (GOOD | {"id": 1.0}, "entities[1].id"),
        (GOOD | {"id": True}, "entities[1].id"),
        (GOOD | {"id": 2**63}, "entities[1].id"),
        (GOOD | {"name": 5}, "entities[1].name"),
        (GOOD | {"name": "\ud800"}, "entities[1].name"),
        (GOOD | {"day": "2026-02-30"}, "entities[1].day"),
        (GOOD | {"day": "20260105"}, "entities[1].day"),
        (GOOD | {"day": datetime(2026, 1, 5, tzinfo=UTC)}, "entities[1].day"),
        (GOOD | {"active": 1}, "entities[1].active"),
        (GOOD | {"active": [{}]}, "entities[1].active"),
    ],
)
def test_a_wrong_entity_names_its_field(entity: object, field: str) -> None:
    with pytest.raises(RequestError) as raised:
        checked([GOOD, entity])
    assert raised.value.field == field
    assert field in str(raised.value)


def test_a_wrong_type_is_said_in_words() -> None:
    with pytest.raises(RequestError, match=r"entities\[0\]\.id: 'abc' is not an int64"):
        checked([GOOD | {"id": "abc"}])


def test_texts_of_a_command_line_become_an_entity() -> None:
    texts = {"id": "-42", "name": "", "day": "2026-01-05", "active": "false"}
    assert parse_entity(by_kinds, texts) == {"id": -42, "name": "", "day": "2026-01-05", "active": False}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": "abc"}, "id"), ({"id": "1_0"}, "id"), ({"id": "1.0"}, "id"), ({"id": ""}, "id"), ({"id": "9223372036854775808"}, "id"),
        ({"id": "٤"}, "id"), ({"day": "5 January"}, "day"), ({"active": "1"}, "active"), ({"customer": "5"}, "customer"),
    ],
)  # fmt: skip
def test_a_wrong_text_of_a_command_line_names_its_key(change: dict[str, str], field: str) -> None:
    texts = {"id": "1", "name": "a", "day": "2026-01-05", "active": "true"}
    with pytest.raises(RequestError) as raised:
        parse_entity(by_kinds, texts | change)
    assert raised.value.field == field


def test_a_missing_key_of_a_command_line_is_named() -> None:
    with pytest.raises(RequestError, match="id is missing"):
        parse_entity(by_kinds, {})
