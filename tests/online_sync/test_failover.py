"""A primary dies and a replica that lacks its newest writes takes its place: no sync goes on beside it, and none believes what is lost."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import redis

from feature_definitions import layout
from online_sync import checks, parity, sync
from online_sync.servers import Saying, StoreReplaced, StoreUnavailable, is_replaced
from online_sync.store import AsyncStore, Store
from tests.online_sync import test_races as races
from tests.online_sync.conftest import alone, sentinel
from tests.online_sync.stories import FIRST, HOUR, SEEN, Story
from tests.online_sync.test_changes import SPACE, Online
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from subprocess import Popen

WALKERS = range(1200)


@dataclass
class Pair:
    """A primary, its replica, and what tells clients which of them is the primary."""

    primary: int
    process: Popen[bytes]
    replica: int
    replica_process: Popen[bytes]
    watching: int

    @property
    def url(self) -> str:
        """The store, by its Sentinel."""
        return f"redis+sentinel://127.0.0.1:{self.watching}/shop/0"

    def forget(self) -> None:
        """From now on the primary's writes do not reach the replica."""
        os.kill(self.replica_process.pid, signal.SIGSTOP)
        with closing(redis.Redis(port=self.primary)) as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "replica")

    def fail_over(self) -> None:
        """The primary dies, and the replica takes its place once its Sentinel says so."""
        self.process.kill()
        self.process.wait()
        os.kill(self.replica_process.pid, signal.SIGCONT)
        with closing(redis.Redis(port=self.watching)) as client:
            until(lambda: client.sentinel_master("shop")["port"] == self.replica)

    def follow(self) -> None:
        """Wait until the replica has what the primary has."""
        with closing(redis.Redis(port=self.primary)) as client:
            until(lambda: client.wait(1, 1000) == 1)


@contextmanager
def watched(folder: Path) -> Iterator[Pair]:
    """A primary with a replica, and a Sentinel that watches both."""
    at_once = ("--repl-diskless-sync-delay", "0")
    with (
        alone(folder / "one", *at_once) as (primary, process),
        alone(folder / "two", "--replicaof", f"127.0.0.1 {primary}") as (second, other),
    ):
        with closing(redis.Redis(port=second)) as client:
            until(lambda: client.info("replication")["master_link_status"] == "up")
        with sentinel(folder / "watching", "shop", primary) as port, closing(redis.Redis(port=port)) as client:
            until(lambda: client.sentinel_master("shop")["num-slaves"] == 1)
            yield Pair(primary, process, second, other, port)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with watched(tmp_path) as found:
        yield found


def told(folder: Path) -> Story:
    """Every walker in the first hour."""
    story = Story(SEEN, str(folder / "lake"))
    story.publish(FIRST, {(walker, FIRST + HOUR / 2): 1.0 for walker in WALKERS}, known=FIRST + HOUR)
    return story


def holds(story: Story, url: str) -> bool:
    """Whether every row online is the lake's."""
    found = parity.measure(story.published, target=sync.Target(url, SPACE, ""), scope="full")
    assert found is not None
    return found.holds and found.compared == len(WALKERS)


def test_a_sync_whose_primary_dies_in_the_middle_shows_nothing_and_the_rerun_brings_every_row(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three calls that write, the replica knows the first; the primary took the second; the third meets the replica."""
    story, online, calls = told(tmp_path), Online(pair.url), iter(range(100))

    class Dying(Store):
        def _put_round(self, rows: Any, *how: Any) -> str:
            match next(calls):
                case 1:
                    pair.follow()
                    pair.forget()
                case 2:
                    pair.fail_over()
            return super()._put_round(rows, *how)

    with monkeypatch.context() as patch:
        patch.setattr(sync, "Store", Dying)
        with pytest.raises(StoreReplaced, match="a replica took its primary's place, while rows were written"):
            online.sync(story, FIRST + HOUR)
    with closing(Store(pair.url)) as store:
        record = store.read_epoch(SPACE, "seen")
        lying = store.mget([layout.row_key(SPACE, "seen", 1, str(walker)) for walker in WALKERS])
    assert record is not None
    assert (record.begun, record.epoch) == (1, 0)
    assert 0 < len([each for each in lying if each is not None]) < len(WALKERS)
    assert online.sync(story, FIRST + HOUR).written == len(WALKERS)
    assert holds(story, pair.url)


def test_a_sync_that_was_finished_and_lost_is_found_by_the_next_and_serving_follows_the_new_primary(pair: Pair, tmp_path: Path) -> None:
    story, online = told(tmp_path), Online(pair.url)
    online.sync(story, FIRST + HOUR)
    pair.follow()

    async def read() -> tuple[bytes | None, bytes | None]:
        serving, key = AsyncStore(pair.url), layout.row_key(SPACE, "seen", 1, "1")
        try:
            [before] = await serving.mget([key])
            pair.forget()
            story.publish(FIRST, {(walker, FIRST + HOUR / 2): 2.0 for walker in WALKERS}, known=FIRST + 2 * HOUR)
            online.sync(story, FIRST + 2 * HOUR)
            pair.fail_over()
            while True:
                try:
                    return before, (await serving.mget([key]))[0]
                except StoreUnavailable:
                    await asyncio.sleep(0.05)
        finally:
            await serving.close()

    before, after = asyncio.run(read())
    assert before == after
    done = online.sync(story, FIRST + 2 * HOUR)
    assert (done.compared, done.written) == (len(WALKERS), len(WALKERS))
    assert holds(story, pair.url)
    assert [each.found_lost for each in online.told if each.finished] == [None, None, True]


def test_a_store_that_lost_a_sync_which_the_registry_remembers_is_not_believed_though_nobody_may_ask_who_it_is(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sync repairs a row; then an old state of the store comes back, which lacks the row, and looks finished."""
    monkeypatch.setattr(Store, "says", lambda _: {})
    story, online = told(tmp_path), Online(url)
    first = online.sync(story, FIRST + HOUR)
    with closing(redis.Redis.from_url(url)) as client:
        looked = checks.decode(client.get(layout.looked_key(SPACE, "seen")))  # type: ignore[arg-type]  # bytes
        assert looked is not None
        rows = {layout.row_key(SPACE, "seen", 1, str(walker)) for walker in WALKERS}
        client.delete(min(rows - {each.key for each in looked.sample}))
        state = {name: client.dump(name) for name in client.scan_iter()}
        repair = online.sync(story, FIRST + HOUR, depth="verify")
        client.flushall()
        for name, data in state.items():
            client.restore(name, 0, data)
    target = sync.Target(url, SPACE, "")
    assert sync.look(story.published, target=target, now=FIRST + HOUR, last=first.record).state == "as it was"
    found = sync.look(story.published, target=target, now=FIRST + HOUR, last=repair.record)
    assert (found.state, found.fell_back) == ("doubted", True)
    assert "the store has its sync 1 and the registry remembers sync 2" in str(found.doubt)
    done = online.sync(story, FIRST + HOUR)
    assert (done.compared, done.written) == (len(WALKERS), len(WALKERS))
    assert holds(story, url)


def test_where_nobody_may_ask_who_the_server_is_a_sync_ends_with_its_connection(url: str) -> None:
    with closing(Store(url, runs=frozenset())) as store:
        begun = store.begin_epoch(races.RECORD)
        store._single.connection_pool.disconnect()
        with pytest.raises(StoreReplaced):
            store.publish_epoch(begun)
        with pytest.raises(StoreReplaced):
            store.read_epoch(races.RECORD.space, "spend")


def test_a_connection_that_breaks_is_made_again_with_the_same_server_and_with_no_other(tmp_path: Path) -> None:
    with alone(tmp_path / "one") as (port, _), closing(Store(f"redis://127.0.0.1:{port}")) as store, store.staying():
        runs = store.runs
        store._single.connection_pool.disconnect()
        store.ping()
    other = pytest.raises(StoreReplaced, match=r"127.0.0.1:\d+ was restarted, or a replica took")
    with alone(tmp_path / "two") as (port, _), closing(Store(f"redis://127.0.0.1:{port}", runs=runs)) as store, other:
        store.ping()


def test_a_store_that_hangs_in_the_middle_is_told_and_the_rerun_brings_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it was told before it hung it still does afterwards, beside the rerun: that spoils nothing."""
    story, calls = told(tmp_path), iter(range(100))
    with alone(tmp_path / "store") as (port, process):
        online = Online(f"redis://127.0.0.1:{port}/0")

        class Hanging(Store):
            def __init__(self, url: str) -> None:
                super().__init__(url, patience=0.3)

            def _put_round(self, rows: Any, *how: Any) -> str:
                if next(calls) == 1:
                    os.kill(process.pid, signal.SIGSTOP)
                return super()._put_round(rows, *how)

        with monkeypatch.context() as patch:
            patch.setattr(sync, "Store", Hanging)
            with pytest.raises(StoreUnavailable, match="does not answer in time; what was written stays, and the next sync goes on"):
                online.sync(story, FIRST + HOUR)
        os.kill(process.pid, signal.SIGCONT)
        assert online.sync(story, FIRST + HOUR).compared == len(WALKERS)
        assert holds(story, online.url)


@pytest.mark.parametrize(
    ("now", "replaced"),
    [({"a": "1", "b": "2"}, False), ({"a": "1", "b": "2", "c": "3"}, False), ({"a": "1", "b": "9"}, True), ({"a": "1", "c": "2"}, True)],
    ids=["the same", "one more", "another run", "another address"],
)
def test_a_cluster_may_get_more_servers_but_one_that_is_another_or_gone_was_replaced(now: dict[str, str], replaced: bool) -> None:
    before, after = ({at: Saying(run, 0, 0, None) for at, run in each.items()} for each in ({"a": "1", "b": "2"}, now))
    assert is_replaced(before, after) == replaced


def test_a_sync_of_which_a_server_was_replaced_before_its_end_is_not_published(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a cluster, where each server has rows of its own."""
    story, online, said = told(tmp_path), Online(url), Store.says
    answers = iter(["first"])

    def other(store: Store) -> dict[str, Saying]:
        run = next(answers, "second")
        return {at: each._replace(run_id=run) for at, each in said(store).items()}

    with monkeypatch.context() as patch:
        patch.setattr(Store, "runs", property(lambda _: None, lambda *_: None), raising=False)
        patch.setattr(Store, "says", other)
        with pytest.raises(StoreReplaced, match="nothing of it is shown"):
            online.sync(story, FIRST + HOUR)
    with closing(Store(url)) as store:
        record = store.read_epoch(SPACE, "seen")
    assert record is not None
    assert (record.begun, record.epoch) == (1, 0)
    assert online.sync(story, FIRST + HOUR).compared == len(WALKERS)
