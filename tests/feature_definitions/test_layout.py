"""Paths and keys: no two things share one."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_definitions import layout

SPACE = layout.KeySpace("shop", "lakelake")
KEY_KINDS = {
    "string": st.text(max_size=6) | st.text(alphabet="a|%7C \\:1", max_size=6),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "boolean": st.booleans(),
    "date": st.dates(),
}
TWO_OF_ONE_ENTITY = st.lists(st.sampled_from(sorted(KEY_KINDS)), min_size=1, max_size=3).flatmap(
    lambda kinds: st.tuples(st.tuples(*(KEY_KINDS[kind] for kind in kinds)), st.tuples(*(KEY_KINDS[kind] for kind in kinds)))
)


@given(TWO_OF_ONE_ENTITY)
def test_two_entities_have_one_text_only_if_they_are_the_same(two: tuple[tuple[object, ...], tuple[object, ...]]) -> None:
    one, other = two
    assert (layout.entity_text(one) == layout.entity_text(other)) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, 11), (11, 1)),
        (("a|b", "c"), ("a", "b|c")),
        (("a", ""), ("", "a")),
        (("a%7Cb",), ("a|b",)),
        (("é",), ("e\u0301",)),
        (("A",), ("a",)),
        ((" a",), ("a",)),
    ],
)
def test_entities_that_look_alike_have_different_texts(one: tuple[object, ...], other: tuple[object, ...]) -> None:
    assert layout.entity_text(one) != layout.entity_text(other)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((1, 11), "1|11"),
        (("a|b",), "a%7Cb"),
        (("50%",), "50%25"),
        (("New York", "JFK"), "New York|JFK"),
        (("", ""), "|"),
        ((True, False), "true|false"),
        ((date(2026, 1, 5), -3), "2026-01-05|-3"),
        (("ü\n",), "%C3%BC%0A"),
    ],
)
def test_an_entitys_text_is_escaped_joined_and_stays_as_it_is_today(values: tuple[object, ...], text: str) -> None:
    assert layout.entity_text(values) == text


@given(st.text(alphabet=st.characters(), max_size=6))
def test_an_entitys_text_is_plain_ascii_without_the_separator_whatever_a_caller_sends(value: str) -> None:
    text = layout.entity_text((value,))
    assert text.isascii()
    assert "|" not in text


def test_half_a_surrogate_pair_is_a_key_that_nobody_has_and_not_an_error() -> None:
    assert layout.entity_text(("\ud800",)) == "%ED%A0%80"


def test_row_keys_differ_by_project_group_generation_and_entity() -> None:
    keys = {
        layout.row_key(layout.KeySpace(project, lake), group, n, entity)
        for project in ("a", "b")
        for lake in ("lakelake", "abcdefgh")
        for group in ("g", "h")
        for n in (1, 11)
        for entity in ("1", "1|1")
    }
    assert len(keys) == 32
    assert layout.row_key(SPACE, "spend", 2, "42") == "hw:shop:lakelake:spend@2:{42}"


def test_no_entity_can_take_the_key_of_a_groups_epoch_record() -> None:
    assert layout.epoch_key(SPACE, "spend") == "hw:shop:lakelake:spend:epoch"
    assert layout.epoch_key(SPACE, "spend") != layout.row_key(SPACE, "spend", 1, "epoch")


@given(st.text(max_size=8))
def test_a_cluster_chooses_a_rows_place_by_its_entity_alone_whatever_braces_that_has(entity: str) -> None:
    text = layout.entity_text((entity,))
    key = layout.row_key(SPACE, "spend", 1, text)
    assert key[key.index("{") + 1 : key.index("}")] == text
    assert (key.count("{"), key.count("}")) == (1, 1)


@given(st.text(max_size=8), st.integers(1, 99), st.sampled_from(["spend", "epoch", "lake", "abcdefgh"]))
def test_a_key_says_what_it_stands_for(entity: str, generation: int, group: str) -> None:
    key = layout.row_key(SPACE, group, generation, layout.entity_text((entity,)))
    assert layout.online_key(key, "shop") == layout.OnlineKey("lakelake", group, generation)
    assert layout.online_key(layout.epoch_key(SPACE, group), "shop") == layout.OnlineKey("lakelake", group, None)
    assert layout.online_key(f"hw:shop:{group}@{generation}:{entity}", "shop") == layout.OnlineKey(None, group, generation)
    assert layout.online_key(f"hw:shop:{group}:epoch", "shop") == layout.OnlineKey(None, group, None)


@pytest.mark.parametrize("key", [layout.owner_key("shop"), "hw:shop:", "hw:other:spend:epoch", "hw:shop:spend@x:1", "session:1"])
def test_a_key_that_is_no_row_and_no_record_stands_for_nothing(key: str) -> None:
    assert layout.online_key(key, "shop") is None


def test_every_table_and_folder_of_a_lake_lies_in_a_place_of_its_own() -> None:
    places = [
        layout.source_table("lake", "x"),
        layout.landing_folder("lake", "x"),
        layout.feature_table("lake", "x", 1),
        layout.feature_table("lake", "x", 2),
        layout.history_table("lake", "x", 1),
        layout.quarantine_table("lake", "x"),
        layout.training_set_table("lake", "x"),
        layout.training_set_manifest("lake", "x"),
        layout.rejected_training_set("lake", "x"),
        layout.records_table("lake", "x"),
        layout.report_file("lake", "x", "newest.html"),
        layout.staging_folder("lake", "x"),
    ]
    inside = [(one, other) for one in places for other in places if one != other and other.startswith(f"{one}/")]
    assert len(set(places)) == len(places)
    assert inside == []
    assert all(place.startswith("lake/") for place in places)


def test_the_places_that_readers_know_stay_where_they_are() -> None:
    assert layout.feature_table("lake", "spend", 1) == "lake/features/spend/g1"
    assert layout.quarantine_table("lake", "spend") == "lake/quarantine/spend"
    assert layout.training_set_table("lake", "scores") == "lake/training_sets/scores"
