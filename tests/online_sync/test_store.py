"""The store against a real Valkey: compare-and-set by epoch, epoch records that never go back, and failures that are named."""

from __future__ import annotations

import asyncio
import random
import socket
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from feature_definitions import layout
from online_sync.address import StoreAddressError
from online_sync.codec import FLAGS, TOMBSTONE, EpochRecord, Row, RowSchema, decode, encode
from online_sync.servers import READERS_PATIENCE, StoreUnavailable
from online_sync.store import GONE, LATER, SAME, AsyncStore, Owner, Store
from tests.online_sync.conftest import empty, written
from tests.waiting import quickest

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = RowSchema((("spend", "double"),))
OTHER = layout.KeySpace("shop", "otherlak")
WIDER = RowSchema((("spend", "double"), ("payments", "int64")))
SPACE = layout.KeySpace("shop", "lakelake")
RECORD = EpochRecord(
    project="shop", lake="lakelake", group="spend", generation=1, epoch=5, kind="observation", columns=SCHEMA.columns, synced_at=0
)


def row(value: float, *, epoch: int) -> bytes:
    return encode(SCHEMA, Row(event_timestamp=0, empties_at=None, held=False, tombstone=False, epoch=epoch, values=(value,)))


def put(store: Store, value: float, *, epoch: int) -> int:
    return written(store.put_rows([("k", row(value, epoch=epoch))]))


def kept(store: Store) -> float:
    data = store.mget(["k"])[0]
    assert data is not None
    value = decode(SCHEMA, data).values[0]
    assert isinstance(value, float)
    return value


def test_values_come_back_in_the_order_of_their_keys(store: Store) -> None:
    store.put_rows([("a", row(1, epoch=1)), ("b", row(2, epoch=1))])
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


def test_keys_that_somebody_made_lists_are_written_over(store: Store, url: str) -> None:
    import redis

    with closing(redis.Redis.from_url(url)) as client:
        for key in ("k", layout.epoch_key(SPACE, "spend"), layout.owner_key("shop")):
            client.rpush(key, "a")
    assert (put(store, 2.0, epoch=1), kept(store)) == (1, 2.0)
    assert store.read_epoch(SPACE, "spend") is None
    assert store.begin_epoch(RECORD).epoch == 5
    assert store.owner("shop") is None
    assert store.claim(SPACE, place="/lake", instead_of=None)


def test_more_rows_than_one_call_writes_are_all_written(store: Store) -> None:
    rows = [(f"k{i}", row(i, epoch=1)) for i in range(1201)]
    assert written(store.put_rows(rows)) == 1201
    assert store.mget([key for key, _ in rows]) == [value for _, value in rows]


def test_while_a_store_is_filled_each_row_is_treated_as_if_it_were_written_alone(store: Store, url: str) -> None:
    chance = random.Random(4)

    def some(epoch: int) -> bytes:
        data = row(chance.choice([1.0, 2.0]), epoch=epoch)
        return bytes([*data[:FLAGS], TOMBSTONE, *data[FLAGS + 1 :]]) if chance.random() < 0.001 else data

    there = [(f"k{n}", some(chance.choice([4, 5, 6]))) for n in range(1500) if chance.random() < 0.01]
    rows = [(f"k{n}", some(5)) for n in range(1500)]
    told = []
    for size in (len(rows), 1):
        empty(url)
        for each in there:
            with closing(Store(url)) as other:
                other.put_rows([each])
        letters = [store.put_rows(rows[start : start + size]) for start in range(0, len(rows), size)]
        told.append(("".join(letters), store.mget([key for key, _ in rows])))
    assert told[0] == told[1]
    assert set(told[0][0]) >= {GONE, SAME, LATER}


def test_there_is_no_epoch_record_before_the_first_sync(store: Store) -> None:
    assert store.read_epoch(SPACE, "spend") is None


def test_a_sync_that_has_begun_publishes_its_record(store: Store) -> None:
    begun = store.begin_epoch(RECORD)
    assert store.publish_epoch(begun)
    assert store.read_epoch(SPACE, "spend") == begun == replace(RECORD, begun=5, floor=5, unswept=True)
    assert store.publish_epoch(begun)


def test_each_sync_has_a_later_epoch_than_all_before_even_those_that_never_finished(store: Store) -> None:
    assert [store.begin_epoch(replace(RECORD, epoch=1)).epoch for _ in range(3)] == [1, 2, 3]
    assert store.begin_epoch(RECORD).epoch == 5


def test_the_first_sync_is_announced_without_a_finished_epoch(store: Store) -> None:
    store.begin_epoch(RECORD)
    found = store.read_epoch(SPACE, "spend")
    assert found is not None
    assert (found.epoch, found.begun) == (0, 5)


def test_a_sync_that_begins_leaves_the_finished_one_to_readers(store: Store) -> None:
    synced(store, replace(RECORD, coverage=7))
    store.begin_epoch(replace(RECORD, epoch=6, coverage=8))
    found = store.read_epoch(SPACE, "spend")
    assert found is not None
    assert (found.epoch, found.begun, found.coverage, found.floor) == (5, 6, 7, 5)


def test_a_sync_that_was_overtaken_cannot_publish(store: Store) -> None:
    first = store.begin_epoch(RECORD)
    second = store.begin_epoch(RECORD)
    assert not store.publish_epoch(first)
    assert store.publish_epoch(second)
    assert not store.publish_epoch(first)
    assert store.read_epoch(SPACE, "spend") == second


def test_a_sync_whose_record_went_meanwhile_cannot_publish(store: Store, url: str) -> None:
    begun = store.begin_epoch(RECORD)
    empty(url)
    assert not store.publish_epoch(begun)
    assert store.read_epoch(SPACE, "spend") is None


def test_two_syncs_of_one_number_because_the_record_was_lost_are_told_apart(store: Store, url: str) -> None:
    first = store.begin_epoch(replace(RECORD, by="a"))
    empty(url)
    second = store.begin_epoch(replace(RECORD, by="b"))
    assert first.epoch == second.epoch
    assert not store.publish_epoch(first)


def test_rows_of_earlier_epochs_stay_where_all_have_finished_and_count_for_nothing_where_one_has_not(store: Store) -> None:
    first = synced(store, RECORD)
    second = synced(store, RECORD)
    store.begin_epoch(RECORD)
    fourth = synced(store, RECORD)
    assert [each.floor for each in (first, second, fourth)] == [5, 5, 8]


@pytest.mark.parametrize("generation", [1, 3])
def test_a_sync_of_another_generation_writes_every_row(store: Store, generation: int) -> None:
    synced(store, replace(RECORD, generation=2))
    assert store.begin_epoch(replace(RECORD, generation=generation)).floor == 6


def test_a_sync_that_rewrites_everything_leaves_nothing_of_before(store: Store) -> None:
    synced(store, RECORD)
    assert store.begin_epoch(RECORD, rewrite="every row").floor == 6


def test_readers_know_both_schemas_while_rows_with_a_new_column_are_written(store: Store) -> None:
    synced(store, RECORD)
    coming = store.begin_epoch(replace(RECORD, epoch=6, columns=WIDER.columns))
    during = store.read_epoch(SPACE, "spend")
    store.publish_epoch(coming)
    after = store.read_epoch(SPACE, "spend")
    assert during is not None
    assert after is not None
    assert (during.columns, during.also) == (SCHEMA.columns, (WIDER.columns,))
    assert (after.columns, after.also) == (WIDER.columns, (SCHEMA.columns,))


def test_a_new_generation_forgets_the_schemas_of_the_old(store: Store) -> None:
    synced(store, RECORD)
    synced(store, replace(RECORD, generation=2, columns=WIDER.columns))
    found = store.read_epoch(SPACE, "spend")
    assert found is not None
    assert (found.columns, found.also) == (WIDER.columns, ())


def test_a_damaged_epoch_record_is_repaired_by_the_next_sync(store: Store, url: str) -> None:
    set_raw(url, layout.epoch_key(SPACE, "spend"), b"no record")
    assert store.read_epoch(SPACE, "spend") is None
    assert synced(store, RECORD).floor == 5


def test_a_project_is_claimed_for_one_lake_until_somebody_takes_it_over(store: Store) -> None:
    assert store.owner("shop") is None
    assert store.claim(SPACE, place="/here", instead_of=None)
    mine = store.owner("shop")
    assert mine == Owner("lakelake", "/here", "older")
    assert not store.claim(OTHER, place="/there", instead_of=None)
    assert store.claim(OTHER, place="/there", instead_of=mine)
    assert store.owner("shop") == Owner("otherlak", "/there", "others")


def test_what_nobody_reads_is_swept_and_all_else_stays(store: Store, url: str) -> None:
    second = synced(store, replace(RECORD, generation=2))
    rows = [
        (layout.row_key(SPACE, "spend", 1, "1"), 3, "old generation"),
        (layout.row_key(SPACE, "spend", 1, "2"), 99, "a later sync's"),
        (layout.row_key(SPACE, "spend", 2, "1"), 4, "below the floor"),
        (layout.row_key(SPACE, "spend", 2, "2"), 5, "mine"),
        (layout.row_key(SPACE, "visits", 1, "1"), 1, "another group's"),
        (layout.row_key(OTHER, "spend", 1, "1"), 1, "another lake's"),
        (layout.row_key(layout.KeySpace("shop2", "lakelake"), "spend", 1, "1"), 1, "another project's"),
        ("hw:shop:spend@1:a:b", 1, "of the layout before"),
        ("session:1", 1, "a stranger's"),
    ]
    store.put_rows([(key, row(1.0, epoch=epoch)) for key, epoch, _ in rows])
    set_raw(url, "hw:shop:spend:epoch", b"of the layout before")

    def left() -> set[str]:
        return {name for (_, _, name), value in zip(rows, store.mget([key for key, _, _ in rows]), strict=True) if value is not None}

    store.claim(SPACE, place="", instead_of=None)
    assert store.sweep(SPACE, [second]) == 4
    gone = {"old generation", "below the floor", "of the layout before"}
    assert left() == {name for *_, name in rows} - gone
    assert store.owner("shop") == Owner("lakelake", "")
    assert store.read_epoch(SPACE, "spend") == replace(second, unswept=False)

    store.claim(OTHER, place="", instead_of=Owner("lakelake", ""))
    assert store.sweep(SPACE, [second]) == 0
    store.sweep(OTHER, [])
    assert left() == {"another lake's", "another project's", "a stranger's"}
    assert store.read_epoch(SPACE, "spend") is None


def synced(store: Store, record: EpochRecord) -> EpochRecord:
    """The record of a sync that began and finished."""
    begun = store.begin_epoch(record)
    assert store.publish_epoch(begun)
    return begun


def test_a_store_that_is_not_there_is_named_within_a_second_without_its_password(closed_port: int) -> None:
    said: list[StoreUnavailable] = []
    with closing(Store(f"redis://:s3cret@127.0.0.1:{closed_port}/0")) as store:

        def ping() -> None:
            with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{closed_port} does not answer") as raised:
                store.ping()
            said.append(raised.value)

        assert quickest(ping, below=1) < 1
    assert "s3cret" not in str(said[-1])
    assert said[-1].__cause__ is None


def test_a_store_that_is_silent_is_given_up_within_a_second(silent_port: int) -> None:
    with closing(Store(f"redis://127.0.0.1:{silent_port}/0", patience=READERS_PATIENCE)) as store:

        def read() -> None:
            with pytest.raises(StoreUnavailable):
                store.mget(["k"])

        assert quickest(read, below=1) < 1


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

    def attempt() -> None:
        with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port}"):
            asyncio.run(read())

    assert quickest(attempt, below=1) < 1


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
