"""Real servers: a cluster of three, and faults that are told in one sentence each."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing, contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import redis

from feature_definitions import layout
from online_sync import clients, push, servers
from online_sync.address import StoreAddressError
from online_sync.codec import Row, RowSchema, encode
from online_sync.servers import StoreUnavailable
from online_sync.store import AsyncStore, Owner, Store
from tests.online_sync import test_races as races
from tests.online_sync.conftest import alone, empty, written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

SCHEMA = RowSchema((("spend", "double"),))
SPACE = layout.KeySpace("shop", "lakelake")


def row(value: float, *, epoch: int = 1) -> bytes:
    return encode(SCHEMA, Row(event_timestamp=0, empties_at=None, held=False, tombstone=False, epoch=epoch, values=(value,)))


def key(entity: int, *, generation: int = 1) -> str:
    return layout.row_key(SPACE, "spend", generation, str(entity))


@pytest.fixture
def spread(cluster: list[int]) -> str:
    """The URL of an empty cluster."""
    for port in cluster:
        empty(f"redis://127.0.0.1:{port}")
    return f"redis://127.0.0.1:{cluster[1]}/0"


def test_a_cluster_takes_rows_wherever_they_belong_and_answers_in_the_order_asked(spread: str, cluster: list[int]) -> None:
    rows = [(key(n), row(n)) for n in range(1200)]
    with closing(Store(spread)) as store:
        assert written(store.put_rows(rows)) == 1200
        assert written(store.put_rows([(key(1), row(9.0, epoch=0))])) == 0
        assert store.mget([key(7), key(5000), key(3)]) == [row(7), None, row(3)]
        held = [said.keys for said in store.says().values()]
    assert (len(held), sum(held)) == (3, 1200)
    assert min(held) > 300


def test_serving_reads_from_all_servers_of_a_cluster(spread: str) -> None:
    with closing(Store(spread)) as store:
        store.put_rows([(key(n), row(n)) for n in range(50)])

    async def read() -> list[bytes | None]:
        serving = AsyncStore(spread)
        try:
            assert await serving.owner("shop") is None
            assert len(await serving.says()) == 3
            return await serving.mget([key(n) for n in range(51)])
        finally:
            await serving.close()

    assert asyncio.run(read()) == [*[row(n) for n in range(50)], None]


def test_scripts_are_loaded_again_where_a_server_forgot_them(spread: str, cluster: list[int]) -> None:
    with closing(Store(spread)) as store:
        store.put_rows([(key(n), row(n)) for n in range(10)])
        for port in cluster:
            with closing(redis.Redis(port=port)) as client:
                client.script_flush()
        assert written(store.put_rows([(key(n), row(n + 1)) for n in range(10)])) == 10


def test_a_slot_that_moved_to_another_server_is_followed(spread: str, cluster: list[int]) -> None:
    clients = [redis.Redis(port=port) for port in cluster]
    slot = int(clients[0].cluster("KEYSLOT", key(1)))
    names = [client.execute_command("CLUSTER", "MYID").decode() for client in clients]
    home, other = min(slot // 5461, 2), (min(slot // 5461, 2) + 1) % 3
    with closing(Store(spread)) as store:
        store.put_rows([(key(1), row(1))])
        empty(f"redis://127.0.0.1:{cluster[home]}")
        try:
            for client in (clients[other], clients[home]):
                client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", names[other])
            assert written(store.put_rows([(key(1), row(2))])) == 1
            assert store.mget([key(1)]) == [row(2)]
        finally:
            hand_back(cluster, clients, [slot])
            for client in clients:
                client.close()


def hand_over(cluster: list[int], clients: list[redis.Redis], slot: int) -> None:
    """Have a server give a slot to the next; every other one is left half way, without its keys."""
    names = [client.execute_command("CLUSTER", "MYID").decode() for client in clients]
    home, other = min(slot // 5461, 2), (min(slot // 5461, 2) + 1) % 3
    clients[other].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", names[home])
    clients[home].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", names[other])
    if slot % 2:
        for found in clients[home].execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
            clients[home].execute_command("MIGRATE", "127.0.0.1", cluster[other], found, 0, 1000)
        for client in (clients[other], clients[home]):
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", names[other])


def hand_back(cluster: list[int], clients: list[redis.Redis], slots: Sequence[int]) -> None:
    """Empty the cluster, and give each slot to the server that had it first.

    What a server said of its slots before may come late, and holds against an older epoch: so the epochs are raised, and all must agree.
    """
    names = [client.execute_command("CLUSTER", "MYID").decode() for client in clients]
    for port in cluster:
        empty(f"redis://127.0.0.1:{port}")
    for _ in range(50):
        for slot in slots:
            for client in clients:
                client.execute_command("CLUSTER", "SETSLOT", slot, "STABLE")
                client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", names[min(slot // 5461, 2)])
        for client in clients:
            client.execute_command("CLUSTER", "BUMPEPOCH")
        time.sleep(0.2)
        if all(at_home(client, cluster) for client in clients):
            return
    raise AssertionError("the servers do not agree whose the slots are")


def at_home(client: redis.Redis, cluster: list[int]) -> bool:
    """Whether a server says that each holds the slots that it had first."""
    said = client.execute_command("CLUSTER", "SLOTS")
    return sorted((first, last, int(home[1])) for first, last, home, *_ in said) == [
        (n * 5461, 16383 if n == 2 else (n + 1) * 5461 - 1, port) for n, port in enumerate(cluster)
    ]


def test_a_slot_that_moves_with_its_rows_while_a_sync_writes_loses_none(spread: str, cluster: list[int]) -> None:
    clients = [redis.Redis(port=port) for port in cluster]
    rows = dict.fromkeys(range(300), 1)
    slots = sorted({int(clients[0].cluster("KEYSLOT", key(entity))) for entity in rows})[:30]
    moving = iter(slots)

    class Moving(Store):
        def put_rows(self, rows: object, **how: object) -> str:
            done = ""
            for start in range(0, 300, 100):
                for slot in [next(moving) for _ in range(10)]:
                    hand_over(cluster, clients, slot)
                done += super().put_rows(rows[start : start + 100], **how)  # type: ignore[index, arg-type]  # as push gives them
            return done

    try:
        with closing(Moving(spread)) as store:
            begun = store.begin_epoch(races.RECORD)
            done = push.push([races.rows(rows)], races.spec(spread, begun), store=store)
            assert (done.counts["written"], store.publish_epoch(begun)) == (300, True)
            keys = [layout.row_key(races.RECORD.space, "spend", 1, str(entity)) for entity in rows]
            assert None not in store.mget(keys)
    finally:
        hand_back(cluster, clients, slots)


@contextmanager
def disagreeing(cluster: list[int], entity: int) -> Iterator[Callable[[object], None]]:
    """Two servers of an empty cluster each say of an entity's slot that the other has it, until what is yielded is called."""
    asked = [redis.Redis(port=port) for port in cluster]
    slot = int(asked[0].cluster("KEYSLOT", key(entity)))
    names = [client.execute_command("CLUSTER", "MYID").decode() for client in asked]
    home, other = min(slot // 5461, 2), (min(slot // 5461, 2) + 1) % 3

    def agree(_: object) -> None:
        for client in asked:
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", names[home])

    try:
        asked[home].execute_command("CLUSTER", "SETSLOT", slot, "NODE", names[other])
        asked[other].execute_command("CLUSTER", "SETSLOT", slot, "NODE", names[home])
        yield agree
    finally:
        hand_back(cluster, asked, [slot])
        for client in asked:
            client.close()


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda store: store.put_rows([(key(n), row(n + 1)) for n in range(200)]), "o" + "g" + "o" * 198),
        (lambda store: store.mget([key(1), key(2)]), [None, row(2)]),
        (lambda store: store.swap(key(1), None, row(1)), True),
        (lambda store: store.unlink([key(n) for n in range(200)]), 199),
        (lambda store: store.put(key(1), row(1)), None),
    ],
    ids=["rows", "read", "record", "sweep", "note"],
)
def test_while_servers_of_a_cluster_do_not_agree_whose_a_key_is_a_job_waits_and_goes_on(
    spread: str, cluster: list[int], monkeypatch: pytest.MonkeyPatch, call: Callable[[Store], object], expected: object
) -> None:
    with closing(Store(spread)) as store:
        store.put_rows([(key(n), row(n)) for n in range(200) if n != 1])
    with disagreeing(cluster, 1) as agree, closing(Store(spread, patience=5)) as store:
        monkeypatch.setattr(clients, "sleep", agree)
        assert call(store) == expected


def test_servers_that_never_agree_are_named_once_the_patience_ends(spread: str, cluster: list[int]) -> None:
    told = pytest.raises(StoreUnavailable, match="a cluster whose servers do not agree which of them has a key")
    with disagreeing(cluster, 1), closing(Store(spread, patience=0.2)) as store, told:
        store.put_rows([(key(n), row(n)) for n in range(3)])


def test_serving_waits_a_moment_for_servers_that_do_not_agree(spread: str, cluster: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Store(spread)) as store:
        store.put_rows([(key(2), row(2))])

    async def read(agree: Callable[[object], None]) -> list[bytes | None]:
        async def slept(seconds: float) -> None:
            agree(seconds)

        monkeypatch.setattr(clients, "asyncio", SimpleNamespace(sleep=slept))
        serving = AsyncStore(spread)
        try:
            return await serving.mget([key(1), key(2)])
        finally:
            await serving.close()

    with disagreeing(cluster, 1) as agree:
        assert asyncio.run(read(agree)) == [None, row(2)]


def test_a_cluster_is_swept_on_all_its_servers(spread: str) -> None:
    with closing(Store(spread)) as store:
        begun = store.begin_epoch(races.RECORD)
        assert store.publish_epoch(begun)
        second = store.begin_epoch(races.RECORD, rewrite="every row")
        store.put_rows([(key(n), row(n, epoch=1 + n % 2)) for n in range(200)] + [(key(n, generation=2), row(n)) for n in range(100)])
        assert store.publish_epoch(second)
        assert store.claim(SPACE, place="/here", instead_of=None)
        assert store.sweep(SPACE, [second]) == 200
        assert store.owner("shop") == Owner("lakelake", "/here")
        assert sum(len(keys) for keys in store.keys(layout.online_keys("shop"))) == 102


def test_syncs_that_race_in_a_cluster_are_fenced_too(spread: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = (dict.fromkeys(range(4), value) for value in (1, 2, 3))
    with closing(Store(spread)) as store:
        begun = [store.begin_epoch(races.RECORD) for _ in range(3)]
        batches = [races.rows(values) for values in (first, second, third)]
        assert list(push.push_batches([batches[0]], races.spec(spread, begun[0])))
        monkeypatch.setattr(push, "is_under_way", lambda *_: True)  # the first looked just before the second began
        for n in (2, 0, 1):
            list(push.push_batches([batches[n]], races.spec(spread, begun[n])))
        assert [store.publish_epoch(record) for record in begun] == [False, False, True]
    assert races.shown(spread) == third


# ------------------------------------------------------------------------------------------------------------------------ faults


def test_a_store_that_is_full_says_so_and_rows_of_a_sync_end_as_that_sentence(tmp_path: Path) -> None:
    with alone(tmp_path, "--maxmemory-policy", "noeviction") as (port, _), closing(redis.Redis(port=port)) as client:
        url = f"redis://127.0.0.1:{port}/0"
        with closing(Store(url)) as store:
            begun = store.begin_epoch(races.RECORD)
            client.config_set("maxmemory", "1")
            with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port} is full: it has used the memory that its maxmemory allows"):
                list(push.push_batches([races.rows({1: 1})], races.spec(url, begun)))
            with pytest.raises(StoreUnavailable, match="is full"):
                store.publish_epoch(begun)


def test_a_password_that_lacks_or_is_wrong_is_told_without_showing_it(tmp_path: Path) -> None:
    with alone(tmp_path, "--requirepass", "right") as (port, _):
        for given, said in (("", "wants a password: write it into HEADWATER_REDIS_URL"), (":wr0ng@", "refuses the user or the password")):
            with closing(Store(f"redis://{given}127.0.0.1:{port}/0")) as store, pytest.raises(StoreUnavailable, match=said) as raised:
                store.mget(["k"])
            assert "wr0ng" not in str(raised.value)


def test_a_user_who_may_touch_only_the_projects_keys_and_run_scripts_can_sync(tmp_path: Path) -> None:
    with alone(tmp_path) as (port, _), closing(redis.Redis(port=port)) as client:
        rights = ("~hw:shop:*", "-@all", "+@read", "+@write", "+eval", "+evalsha", "+script|load", "+ping", "+select", "+client|setinfo")
        client.execute_command("ACL", "SETUSER", "sync", "on", ">word", *rights)
        url = f"redis://sync:word@127.0.0.1:{port}/0"
        with closing(Store(url)) as store:
            begun = store.begin_epoch(races.RECORD)
            assert push.push([races.rows({1: 1})], races.spec(url, begun), store=store).counts["written"] == 1
            assert (store.publish_epoch(begun), store.says()) == (True, {})
            with pytest.raises(StoreUnavailable, match="does not let this user do what is needed"):
                store.put_rows([("hw:other:k", row(1))])


def test_a_user_who_may_run_scripts_but_not_what_is_in_them_is_told_so(tmp_path: Path) -> None:
    rights = ("on", ">word", "~hw:*", "+@read", "+@scripting", "+select", "+client|setinfo", "+info")
    told = pytest.raises(StoreUnavailable, match=r"does not let this user do what is needed: .* 'set' command")
    with alone(tmp_path, "--user", "half", *rights) as (port, _), closing(Store(f"redis://half:word@127.0.0.1:{port}/0")) as store, told:
        store.begin_epoch(races.RECORD)


def test_a_replica_is_told_apart(tmp_path: Path) -> None:
    told = pytest.raises(StoreUnavailable, match="is a replica that takes no writes; name its primary")
    with alone(tmp_path, "--replicaof", "127.0.0.1", "1") as (port, _), closing(Store(f"redis://127.0.0.1:{port}/0")) as store, told:
        store.put_rows([("k", row(1))])


def test_a_cluster_that_is_not_whole_is_named(tmp_path: Path) -> None:
    told = pytest.raises(StoreUnavailable, match=r"at 127.0.0.1:\d+ belongs to a cluster that is not whole")
    with alone(tmp_path, "--cluster-enabled", "yes") as (port, _), closing(Store(f"redis://127.0.0.1:{port}/0")) as store, told:
        store.put_rows([("k", row(1))])


def test_a_store_that_evicts_is_seen_and_its_evictions_too(tmp_path: Path) -> None:
    with alone(tmp_path, "--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru") as (port, _):
        with closing(Store(f"redis://127.0.0.1:{port}/0")) as store, closing(redis.Redis(port=port)) as client:
            before = store.says()
            client.set("cache", b"1", ex=100)
            for n in range(40):
                client.set(f"big{n}", b"x" * 200_000)
            after = store.says()
        (said,), (now,) = before.values(), after.values()
        assert (said.evicted, said.keys, said.run_id) == (0, 0, now.run_id)
        assert now.evicted > 0
        assert "maxmemory-policy allkeys-lru" in servers.warnings(after)[0]


def test_a_store_where_keys_expire_or_nothing_is_evicted_is_not_warned_of(tmp_path: Path) -> None:
    for words in (("--maxmemory-policy", "allkeys-lru"), ("--maxmemory", "3mb", "--maxmemory-policy", "volatile-lru")):
        with alone(tmp_path, *words) as (port, _), closing(Store(f"redis://127.0.0.1:{port}/0")) as store:
            assert servers.warnings(store.says()) == []


@pytest.mark.parametrize("password", ["a/b", "a#b", "12#b", "12/b", "12?b"])
def test_a_password_that_cuts_the_url_short_is_refused_and_percent_encoding_helps(password: str) -> None:
    for kind in (Store, AsyncStore):
        with pytest.raises(StoreAddressError, match="percent-encode") as raised:
            kind(f"redis://:{password}@localhost:6379/0")
        assert password not in str(raised.value)
    with closing(Store("redis://:a%2Fb%23c%40d@localhost:1/0")) as store:
        assert store._single.get_connection_kwargs()["password"] == "a/b#c@d"
        assert store.address == "localhost:1"


def test_rows_go_to_a_server_a_few_at_a_time_and_at_first_two_calls_are_under_way(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two calls the server answers others; while it works on one, the next is made."""
    told: list[str] = []
    answer = clients._answer

    def said(words: Sequence[object]) -> str:
        return f"{words[2]} keys" if words[0] == "EVALSHA" else "greeting"

    monkeypatch.setattr(clients, "_answer", lambda connection: (told.append("answered"), answer(connection))[1])
    pack = clients.hiredis.pack_command
    monkeypatch.setattr(clients.hiredis, "pack_command", lambda words: (told.append(said(words)), pack(words))[1])
    with closing(Store(url)) as store:
        store.put_rows([(key(n), row(n)) for n in range(90)])
    calls = [each for each in told if each != "greeting"]
    assert calls == [
        "20 keys",
        "20 keys",
        *["answered", "20 keys"] * 2,
        "answered",
        "10 keys",
        "answered",
        "answered",
    ]


def test_a_store_that_answers_slower_than_before_is_left_to_others_in_between(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    times, rests = iter([0.0, 0.005, 1.0, 1.005, 2.0, 2.02]), list[float]()
    monkeypatch.setattr(servers, "monotonic", lambda: next(times))
    monkeypatch.setattr(servers, "sleep", rests.append)
    with closing(Store(url)) as store:
        assert written(store.put_rows([(key(n), row(n)) for n in range(1500)])) == 1500
    assert rests == [pytest.approx(0.0075)]


def test_a_connection_that_broke_in_the_middle_of_many_rows_is_made_anew_and_all_are_sent_again(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, asked = clients._answer, iter(range(100))

    def broken(connection: object) -> object:
        if next(asked) == 3:
            raise redis.ConnectionError("gone")
        return answer(connection)

    monkeypatch.setattr(clients, "_answer", broken)
    with closing(Store(url)) as store:
        letters = store.put_rows([(key(n), row(n)) for n in range(100)])
        assert len(letters) == 100
        assert store.mget([key(99)]) == [row(99)]


def test_a_password_with_an_at_sign_is_understood() -> None:
    with closing(Store("redis://:a@b@localhost:1/0")) as store:
        assert store._single.get_connection_kwargs()["password"] == "a@b"
