"""In a cluster a replica that lacks its primary's newest writes takes its place: no sync shows or believes what is lost."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
import redis
from redis.crc import key_slot

from feature_definitions import layout
from lake import readable
from online_sync import sync
from online_sync.servers import StoreReplaced, StoreUnavailable
from online_sync.store import Store
from tests.online_sync.conftest import clustered
from tests.online_sync.test_changes import SPACE, Online
from tests.online_sync.test_failover import FIRST, HOUR, WALKERS, holds, told, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from subprocess import Popen

EPOCH_AT = min(key_slot(layout.epoch_key(SPACE, "seen").encode()) // 5461, 2)
"""Which of the three primaries has the group's epoch record."""


@dataclass
class Shares:
    """A cluster of three primaries, of which one has a replica."""

    servers: list[tuple[int, Popen[bytes]]]
    primary: int

    @property
    def url(self) -> str:
        """By a server that stays."""
        return f"redis://127.0.0.1:{self.servers[(self.primary + 1) % 3][0]}/0"

    def ask(self, number: int, *words: str) -> Any:
        with closing(redis.Redis(port=self.servers[number][0])) as client:
            return client.execute_command(*words)

    def role(self, number: int) -> Any:
        return self.ask(number, "ROLE")[0]

    def signal(self, number: int, sent: signal.Signals) -> None:
        os.kill(self.servers[number][1].pid, sent)

    def forget(self) -> None:
        """The replica has what was written until now, and nothing of what follows."""
        with closing(redis.Redis(port=self.servers[self.primary][0])) as client:
            until(lambda: client.wait(1, 1000) == 1)
        self.signal(3, signal.SIGSTOP)
        self.ask(self.primary, "CLIENT", "KILL", "TYPE", "replica")

    def die(self) -> None:
        """The primary dies, the others notice, and elect the replica."""
        self.servers[self.primary][1].kill()
        self.servers[self.primary][1].wait()
        self.signal(3, signal.SIGCONT)
        self._settled()

    def demote(self) -> None:
        """The replica takes the primary's place, which hears of it, and lives on as its replica."""
        self.signal(self.primary, signal.SIGSTOP)
        self.signal(3, signal.SIGCONT)
        self.ask(3, "CLUSTER", "FAILOVER", "TAKEOVER")
        self.signal(self.primary, signal.SIGCONT)
        until(lambda: self.role(self.primary) == b"slave")
        self._settled()

    def _settled(self) -> None:
        until(lambda: self.role(3) == b"master")
        new = self.servers[3][0]
        for number in {0, 1, 2} - {self.primary}:
            until(lambda: any(int(home[1]) == new for _, _, home, *_ in self.ask(number, "CLUSTER", "SLOTS")))  # noqa: B023
            until(lambda: b"cluster_state:ok" in self.ask(number, "CLUSTER", "INFO"))  # noqa: B023


def shares(folder: Path, primary: int) -> Iterator[Shares]:
    """A cluster whose primary of this number has a replica."""
    words = ("--repl-diskless-sync-delay", "0", "--cluster-node-timeout", "1500", "--cluster-replica-validity-factor", "0")
    with clustered(folder, 4, *words) as servers:
        found = Shares(servers, primary)
        found.ask(3, "CLUSTER", "REPLICATE", found.ask(primary, "CLUSTER", "MYID").decode())
        until(lambda: found.ask(3, "ROLE")[3] == b"connected")
        yield found


@pytest.fixture
def of_the_record(tmp_path: Path) -> Iterator[Shares]:
    yield from shares(tmp_path / "cluster", EPOCH_AT)


@pytest.fixture
def of_rows(tmp_path: Path) -> Iterator[Shares]:
    yield from shares(tmp_path / "cluster", (EPOCH_AT + 1) % 3)


def lying(url: str) -> int:
    """How many walkers have a row online."""
    with closing(Store(url)) as store:
        return sum(each is not None for each in store.mget([layout.row_key(SPACE, "seen", 1, str(walker)) for walker in WALKERS]))


def test_a_sync_in_a_cluster_of_which_a_primary_dies_shows_nothing_and_the_rerun_brings_every_row(
    of_the_record: Shares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three calls that write, the replica knows the first; the primary took its share of the second; the third meets the replica."""
    story, online, calls = told(tmp_path), Online(of_the_record.url), iter(range(100))

    class Dying(Store):
        def _put_round(self, rows: Any, *how: Any) -> str:
            match next(calls):
                case 1:
                    of_the_record.forget()
                case 2:
                    of_the_record.die()
            return super()._put_round(rows, *how)

    with monkeypatch.context() as patch:
        patch.setattr(sync, "Store", Dying)
        with pytest.raises(StoreUnavailable, match="does not answer"):
            online.sync(story, FIRST + HOUR)
    with closing(Store(online.url)) as store:
        record = store.read_epoch(SPACE, "seen")
    assert record is not None
    assert (record.begun, record.epoch) == (1, 0)
    assert 0 < lying(online.url) < len(WALKERS)
    assert online.sync(story, FIRST + HOUR).written == len(WALKERS)
    assert holds(story, online.url)


def test_a_primary_that_became_a_replica_while_a_sync_ran_is_seen_though_it_was_never_away(
    of_rows: Shares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the same run of the same server, and nothing was asked of it since."""
    story, online = told(tmp_path), Online(of_rows.url)

    class Demoting(Store):
        def _put_round(self, rows: Any, *how: Any) -> str:
            if len(rows) == 500:
                return super()._put_round(rows, *how)
            of_rows.forget()
            said = super()._put_round(rows, *how)
            of_rows.demote()
            return said

    with monkeypatch.context() as patch:
        patch.setattr(sync, "Store", Demoting)
        with pytest.raises(StoreReplaced):
            online.sync(story, FIRST + HOUR)
    assert 0 < lying(online.url) < len(WALKERS)
    assert online.sync(story, FIRST + HOUR).compared == len(WALKERS)
    assert holds(story, online.url)


@pytest.mark.parametrize("what", ["the record and rows", "rows"])
def test_a_sync_that_a_cluster_lost_after_its_end_is_found_and_repaired_by_the_next(
    request: pytest.FixtureRequest, tmp_path: Path, what: str
) -> None:
    shares: Shares = request.getfixturevalue("of_rows" if what == "rows" else "of_the_record")
    story, online = told(tmp_path), Online(shares.url)
    online.sync(story, FIRST + HOUR)
    shares.forget()
    story.publish(FIRST, {(walker, FIRST + HOUR / 2): 2.0 for walker in WALKERS}, known=FIRST + 2 * HOUR)
    online.sync(story, FIRST + 2 * HOUR)
    shares.demote()
    done = online.sync(story, FIRST + 2 * HOUR)
    assert done.compared == len(WALKERS)
    assert done.repaired > 0 if what == "rows" else done.written == len(WALKERS)
    assert holds(story, online.url)
    assert [each.found_lost for each in online.told if each.finished] == [None, None, True]
    published = replace(story.published, epochs=tuple(each for each in online.told if each.finished))
    assert [kind for _, kind in readable.certainty(published) if kind != "during a sync"] == ["not online", "certain", "lost", "certain"]
