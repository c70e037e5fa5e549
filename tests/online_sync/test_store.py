"""The store against a real Valkey: compare-and-set by epoch, epoch records that never go back, and failures that are named."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from feature_definitions import layout
from online_sync.codec import EpochRecord, Row, RowSchema, decode, encode
from online_sync.store import AsyncStore, Store, StoreAddressError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = RowSchema((("spend", "double"),))
WIDER = RowSchema((("spend", "double"), ("payments", "int64")))
RECORD = EpochRecord(project="shop", group="spend", generation=1, epoch=5, kind="observation", columns=SCHEMA.columns, synced_at=0)


def row(value: float, *, epoch: int) -> bytes:
    return encode(SCHEMA, Row(event_timestamp=0, empties_at=None, held=False, tombstone=False, epoch=epoch, values=(value,)))


def put(store: Store, value: float, *, epoch: int) -> int:
    return store.put_rows([("k", row(value, epoch=epoch))], project="shop", group="spend")


def kept(store: Store) -> float:
    data = store.mget(["k"])[0]
    assert data is not None
    value = decode(SCHEMA, data).values[0]
    assert isinstance(value, float)
    return value


def test_values_come_back_in_the_order_of_their_keys(store: Store) -> None:
    store.put_rows([("a", row(1, epoch=1)), ("b", row(2, epoch=1))], project="shop", group="spend")
    assert store.mget(["b", "none", "a"]) == [row(2, epoch=1), None, row(1, epoch=1)]


def test_no_keys_have_no_values(store: Store) -> None:
    assert store.mget([]) == []


def test_a_row_of_the_same_or_a_later_epoch_replaces_the_stored_one(store: Store) -> None:
    assert [put(store, value, epoch=epoch) for value, epoch in ((1.0, 2), (2.0, 2), (3.0, 3))] == [1, 1, 1]
    assert kept(store) == 3.0


def test_a_row_of_an_earlier_epoch_changes_nothing(store: Store) -> None:
    put(store, 1.0, epoch=3)
    assert put(store, 2.0, epoch=2) == 0
    assert kept(store) == 1.0


def test_epochs_are_compared_as_whole_numbers_beyond_32_bits(store: Store) -> None:
    put(store, 1.0, epoch=2**40)
    assert put(store, 2.0, epoch=2**40 - 1) == 0
    assert put(store, 3.0, epoch=2**40 + 256) == 1


def test_bytes_that_are_no_row_are_replaced(store: Store, url: str) -> None:
    set_raw(url, "k", b"damaged beyond any recognition, but long enough")
    assert put(store, 1.0, epoch=1) == 1


def test_more_rows_than_one_call_writes_are_all_written(store: Store) -> None:
    rows = [(f"k{i}", row(i, epoch=1)) for i in range(1201)]
    assert store.put_rows(rows, project="shop", group="spend") == 1201
    assert store.mget([key for key, _ in rows]) == [value for _, value in rows]


def test_there_is_no_epoch_record_before_the_first_sync(store: Store) -> None:
    assert store.read_epoch("spend", project="shop") is None


def test_a_published_record_is_read_back(store: Store) -> None:
    assert store.publish_epoch(RECORD)
    assert store.read_epoch("spend", project="shop") == replace(RECORD, begun=5)


def test_a_record_never_goes_back_to_an_earlier_epoch_whatever_its_generation(store: Store) -> None:
    store.publish_epoch(RECORD)
    assert not store.publish_epoch(replace(RECORD, epoch=4, generation=2))
    assert store.publish_epoch(replace(RECORD, epoch=6, generation=1))


def test_a_record_is_published_again_by_a_retry_of_the_same_epoch(store: Store) -> None:
    assert store.publish_epoch(RECORD)
    assert store.publish_epoch(replace(RECORD, coverage=3))


def test_the_first_sync_is_announced_without_a_finished_epoch(store: Store) -> None:
    assert store.begin_epoch(RECORD)
    found = store.read_epoch("spend", project="shop")
    assert found is not None
    assert (found.epoch, found.begun) == (0, 5)


def test_a_sync_that_begins_leaves_the_finished_one_to_readers(store: Store) -> None:
    store.publish_epoch(replace(RECORD, coverage=7))
    store.begin_epoch(replace(RECORD, epoch=6, coverage=8))
    found = store.read_epoch("spend", project="shop")
    assert found is not None
    assert (found.epoch, found.begun, found.coverage) == (5, 6, 7)


def test_rows_of_a_sync_that_was_overtaken_are_refused_where_nothing_lay(store: Store) -> None:
    store.begin_epoch(replace(RECORD, epoch=6))
    assert put(store, 1.0, epoch=5) == 0
    assert store.mget(["k"]) == [None]
    assert put(store, 2.0, epoch=6) == 1


def test_a_sync_that_was_overtaken_can_neither_begin_nor_publish(store: Store) -> None:
    store.begin_epoch(replace(RECORD, epoch=6))
    assert not store.begin_epoch(RECORD)
    assert not store.publish_epoch(RECORD)


def test_readers_know_both_schemas_while_rows_with_a_new_column_are_written(store: Store) -> None:
    store.publish_epoch(RECORD)
    coming = replace(RECORD, epoch=6, columns=WIDER.columns)
    store.begin_epoch(coming)
    during = store.read_epoch("spend", project="shop")
    store.publish_epoch(coming)
    after = store.read_epoch("spend", project="shop")
    assert during is not None
    assert after is not None
    assert (during.columns, during.also) == (SCHEMA.columns, (WIDER.columns,))
    assert (after.columns, after.also) == (WIDER.columns, (SCHEMA.columns,))


def test_a_new_generation_forgets_the_schemas_of_the_old(store: Store) -> None:
    store.publish_epoch(RECORD)
    store.publish_epoch(replace(RECORD, epoch=6, generation=2, columns=WIDER.columns))
    found = store.read_epoch("spend", project="shop")
    assert found is not None
    assert (found.columns, found.also) == (WIDER.columns, ())


def test_a_damaged_epoch_record_is_repaired_by_the_next_sync(store: Store, url: str) -> None:
    set_raw(url, layout.epoch_key("shop", "spend"), b"no record")
    assert store.begin_epoch(RECORD)
    set_raw(url, layout.epoch_key("shop", "spend"), b"no record")
    assert put(store, 1.0, epoch=5) == 1
    assert store.publish_epoch(RECORD)


def test_a_store_that_is_not_there_is_named_within_a_second_without_its_password(closed_port: int) -> None:
    with closing(Store(f"redis://:s3cret@127.0.0.1:{closed_port}/0")) as store:
        start = time.monotonic()
        with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{closed_port} does not answer") as raised:
            store.ping()
    assert time.monotonic() - start < 1
    assert "s3cret" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_store_that_is_silent_is_given_up_within_a_second(silent_port: int) -> None:
    with closing(Store(f"redis://127.0.0.1:{silent_port}/0")) as store:
        start = time.monotonic()
        with pytest.raises(StoreUnavailable):
            store.mget(["k"])
    assert time.monotonic() - start < 1


def test_a_wrong_password_is_a_store_that_does_not_answer(url: str) -> None:
    with closing(Store(f"redis://:n0tit@{url.partition('@')[2]}")) as store, pytest.raises(StoreUnavailable) as raised:
        store.ping()
    assert "n0tit" not in str(raised.value)


@pytest.mark.parametrize("bad", ["localhost:6379", "http://localhost", "redis://:s3cret@host:port", ""])
def test_a_url_that_is_none_is_refused_without_showing_it(bad: str) -> None:
    for kind in (Store, AsyncStore):
        with pytest.raises(StoreAddressError, match="redis://user:password@host") as raised:
            kind(bad)
        assert "s3cret" not in str(raised.value)


def test_serving_reads_what_jobs_wrote(store: Store, url: str) -> None:
    put(store, 1.0, epoch=1)

    async def read() -> list[bytes | None]:
        serving = AsyncStore(url)
        try:
            await serving.ping()
            assert await serving.mget([]) == []
            return await serving.mget(["none", "k"])
        finally:
            await serving.close()

    assert asyncio.run(read()) == [None, row(1.0, epoch=1)]


@pytest.mark.parametrize("kind", ["closed_port", "silent_port"])
def test_serving_gives_up_within_a_second(kind: str, request: pytest.FixtureRequest) -> None:
    port = request.getfixturevalue(kind)

    async def read() -> None:
        serving = AsyncStore(f"redis://127.0.0.1:{port}/0")
        try:
            await serving.mget(["k"])
        finally:
            await serving.close()

    start = time.monotonic()
    with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port}"):
        asyncio.run(read())
    assert time.monotonic() - start < 1


def set_raw(url: str, key: str, value: bytes) -> None:
    import redis

    with closing(redis.Redis.from_url(url)) as client:
        client.set(key, value)


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield int(listening.getsockname()[1])
