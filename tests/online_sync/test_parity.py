"""Parity: each row online is of one class beside the lake's."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import redis

from feature_definitions import layout
from feature_definitions.records import Epoch
from online_sync import parity, sync
from online_sync.classes import Agreement
from online_sync.codec import RowSchema, decode, encode
from online_sync.parity import NotComparable, Parity
from online_sync.store import Store
from tests.online_sync.conftest import empty
from tests.online_sync.stories import FIRST, HOUR, SEEN, WALKED
from tests.online_sync.test_changes import SPACE, Online, told

if TYPE_CHECKING:
    from pathlib import Path

    from tests.online_sync.stories import Story

SCHEMA = RowSchema((("pace", "double"),))


def key(walker: int) -> str:
    return layout.row_key(SPACE, "seen", 1, str(walker))


def measured(story: Story, url: str, scope: parity.Scope = "full") -> Parity:
    found = parity.measure(story.published, target=sync.Target(url, SPACE, ""), scope=scope)
    assert found is not None
    return found


@pytest.fixture
def story(url: str, tmp_path: Path) -> Story:
    """Walkers 1 to 3, synced, and a later publish that is not."""
    made = told(SEEN, tmp_path)
    Online(url).sync(made, FIRST + 2 * HOUR)
    made.publish(FIRST + HOUR, {(1, FIRST + 1.5 * HOUR): 5.0}, known=FIRST + 3 * HOUR)
    return made


def changed(url: str, walker: int, **how: object) -> None:
    """Put another row in the place of a walker's."""
    with closing(Store(url)) as store, closing(redis.Redis.from_url(url)) as client:
        [held] = store.mget([key(walker)])
        assert held is not None
        client.set(key(walker), encode(SCHEMA, replace(decode(SCHEMA, held), **how)))  # type: ignore[arg-type]  # fields of a row


@pytest.mark.parametrize("scope", ["sample", "full"])
def test_what_a_sync_brought_is_equal_though_more_was_published_since(story: Story, url: str, scope: parity.Scope) -> None:
    found = measured(story, url, scope)
    assert (found.holds, found.share, found.rows, found.compared, found.equal, found.epoch) == (True, 1.0, 3, 3, 3, 1)


def test_rows_are_older_newer_others_missing_or_of_nobody(story: Story, url: str) -> None:
    first = int((FIRST + HOUR / 2).timestamp()) * 1_000_000
    changed(url, 1, event_timestamp=first - 1)
    changed(url, 2, event_timestamp=first + 1)
    changed(url, 3, values=(8.0,))
    with closing(Store(url)) as store, closing(redis.Redis.from_url(url)) as client:
        [held] = store.mget([key(1)])
        assert held is not None
        client.set(key(77), held)
    found = measured(story, url)
    assert (found.equal, found.older, found.newer, found.other, found.missing, found.extra) == (0, 1, 1, 1, 0, 1)
    assert (found.holds, found.share) == (False, 0.0)
    with closing(redis.Redis.from_url(url)) as client:
        client.delete(key(2))
    assert measured(story, url).missing == 1


def test_rows_that_readers_take_for_absent_are_missing(story: Story, url: str) -> None:
    with closing(Store(url)) as store:
        record = store.read_epoch(SPACE, "seen")
        assert record is not None
        later = store.begin_epoch(replace(record, epoch=2, by="x"), rewrite="every row")
        assert store.publish_epoch(later)
    assert (measured(story, url).missing, measured(story, url).extra) == (3, 0)


def test_a_tombstone_is_equal_to_nothing(story: Story, url: str) -> None:
    story.publish(FIRST, {(walker, FIRST + HOUR / 2): 1.0 for walker in (1, 2)}, known=FIRST + 4 * HOUR)
    Online(url).sync(story, FIRST + 5 * HOUR)
    assert measured(story, url).holds
    with closing(redis.Redis.from_url(url)) as client:
        client.delete(key(3))
    assert measured(story, url).holds


@pytest.mark.parametrize(("state", "older", "missing"), [("old", 1, 0), ("emptied", 0, 3)])
def test_a_store_that_lost_the_sync_that_the_registry_remembers_is_compared_with_that(
    story: Story, url: str, state: str, older: int, missing: int
) -> None:
    if state == "emptied":
        empty(url)
    target, lost = sync.Target(url, SPACE, ""), Epoch("seen", 1, 2, None, 3, 1, FIRST + 3 * HOUR)
    found = parity.measure(story.published, target=target, scope="full", last=lost)
    assert found is not None
    assert (found.epoch, found.compared, found.older, found.missing, found.extra) == (2, 3, older, missing, 0)


def test_a_windowed_group_that_the_store_lost_is_missing(url: str, tmp_path: Path) -> None:
    lost, published = Epoch("walked", 1, 1, None, 3, 1, FIRST + 3 * HOUR), told(WALKED, tmp_path).published
    found = parity.measure(published, target=sync.Target(url, SPACE, ""), scope="full", last=lost)
    assert found is not None
    assert found.missing == found.compared > 0


def test_of_a_group_that_was_never_synced_there_is_nothing_to_compare(url: str, tmp_path: Path) -> None:
    assert parity.measure(told(SEEN, tmp_path).published, target=sync.Target(url, SPACE, ""), scope="full") is None


def test_a_group_that_no_memory_holds_is_left_to_spark_by_a_sentence(story: Story, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "_IN_MEMORY", 0)
    with pytest.raises(NotComparable, match="headwater sync --verify seen"):
        measured(story, url)


def test_a_sample_has_one_row_of_a_hundred_but_ten_thousand_at_least(story: Story, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "_LEAST", 2)
    found = measured(story, url, "sample")
    assert (found.rows, found.compared, found.equal) == (3, 2, 2)


def after(story: Story, url: str, *, epoch: int = 1) -> Any:
    return parity.after(story.published, target=sync.Target(url, SPACE, ""), epoch=epoch)


@pytest.mark.parametrize("many", [None, "_FEW_VALUES", "_FEW_FILES"], ids=["read again", "of many rows", "of many files"])
def test_some_rows_are_compared_after_a_sync_without_spark_by_four_calls_of_the_store(
    story: Story, url: str, monkeypatch: pytest.MonkeyPatch, many: str | None
) -> None:
    asked: list[int] = []
    real = Store.mget
    if many is not None:
        monkeypatch.setattr(parity, many, -1)
        monkeypatch.setattr(parity.newest, "newest", lambda *_, **__: pytest.fail("it is read again"))
    monkeypatch.setattr(parity, "_SOME", 2)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "mget", lambda store, keys: asked.append(len(keys)) or real(store, keys))
        assert after(story, url) == Agreement(2, 2)
    assert asked == [1, 1, 2, 1]
    with closing(redis.Redis.from_url(url)) as client:
        client.delete(*(key(walker) for walker in (1, 2, 3)))
    assert after(story, url) == Agreement(2, 0, missing=2)


def test_rows_that_another_one_lies_in_place_of_differ_by_what_is_remembered_too(
    story: Story, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "_FEW_VALUES", -1)
    with closing(redis.Redis.from_url(url)) as client:
        held = decode(SCHEMA, client.get(key(1)))
        client.set(key(1), encode(SCHEMA, replace(held, values=(9.0,))))
    assert after(story, url) == Agreement(3, 2, other=1)


def test_nothing_is_compared_once_a_later_sync_has_begun(story: Story, url: str) -> None:
    with closing(Store(url)) as store:
        record = store.read_epoch(SPACE, "seen")
        assert record is not None
        store.begin_epoch(replace(record, epoch=2, by="x"))
    assert after(story, url) is None
    assert after(story, url, epoch=2) is None
