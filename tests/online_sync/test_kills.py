"""Syncs and stores are killed in the middle while a reader asks: no answer is wrong, and after the rerun all rows are the lake's."""

from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
import threading
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis

from feature_definitions import FeatureService, Join
from online_sync import embedded, parity, sync
from online_sync.servers import StoreUnavailable
from online_sync.store import Store
from serving import answer
from serving.request import compile_service
from tests.online_sync.stories import FIRST, HOUR, SEEN, Story
from tests.online_sync.test_changes import SPACE, Online

WALKERS = range(1500)
PLAN = compile_service(FeatureService("seen_v1", joins=(Join(SEEN),)))
ROOT = Path(__file__).parents[2]


class Telling(Store):
    """A store that says before each round of calls that write."""

    def _put_round(self, *rows: Any) -> str:
        print("writes", flush=True)
        sys.stdin.readline()
        return super()._put_round(*rows)


def work(file: str, url: str) -> None:
    """What the killed process does: one sync."""
    lake, publishes, done, now = pickle.loads(Path(file).read_bytes())
    sync.Store = Telling  # type: ignore[misc]  # what a sync opens
    Online(url, done).sync(Story(SEEN, lake, publishes=publishes), now)


@dataclass
class Reader:
    """Asks for a few walkers again and again, and notes what cannot have been."""

    url: str
    least: int = 0
    most: int = 0
    asked: int = 0
    wrong: list[object] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Until it is over; a store that is away is asked again."""
        chance = random.Random(1)
        while not self.over.is_set():
            with suppress(StoreUnavailable), closing(Store(self.url)) as store:
                self._ask(store, chance)

    def _ask(self, store: Store, chance: random.Random) -> None:
        while not self.over.is_set():
            least, asked = self.least, [{"walker": walker} for walker in chance.sample(WALKERS, 20)]
            found = answer.fetch(PLAN, asked, space=SPACE, mget=store.mget, now=FIRST + 3 * HOUR)
            allowed = [float(turn) for turn in range(least, self.most + 1)]
            self.wrong += [each for each in found if each["values"]["seen__pace"] not in allowed]
            self.asked += 1


def killed(online: Online, story: Story, now: object, folder: Path, *, calls: int, whom: str) -> None:
    """Sync in another process, of which, or of whose store, is killed before it writes for the so-manieth time."""
    (folder / "work").write_bytes(pickle.dumps((story.lake, story.publishes, online.done, now)))
    code = f"from tests.online_sync import test_kills as t; t.work({str(folder / 'work')!r}, {online.url!r})"
    said = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=said, stdout=said, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(calls):
            assert process.stdout.readline() == "writes\n"
            print(file=process.stdin, flush=True)
        assert process.stdout.readline() == "writes\n"
        if whom == "store":
            with closing(redis.Redis.from_url(online.url)) as client:
                pid = int(client.info("server")["process_id"])  # type: ignore[index]  # a dictionary
            os.kill(pid, signal.SIGKILL)
            print(file=process.stdin, flush=True)
            assert process.wait(60) != 0
        else:
            process.kill()


@pytest.mark.parametrize("whom", ["sync", "store"])
def test_a_reader_gets_no_wrong_answer_and_the_rerun_brings_every_row(tmp_path: Path, whom: str) -> None:
    online, story = Online(embedded.ensure(tmp_path / "store")), Story(SEEN, str(tmp_path / "lake"))
    reader = Reader(online.url)
    reading = threading.Thread(target=reader.run)
    try:
        for turn in range(3):
            story.publish(FIRST + turn * HOUR, {(w, FIRST + (turn + 0.5) * HOUR): float(turn) for w in WALKERS}, known=FIRST + turn * HOUR)
            reader.most = turn
            now = FIRST + (turn + 1) * HOUR
            if turn:
                with closing(redis.Redis.from_url(online.url)) as client:
                    client.execute_command("WAITAOF", 1, 0, 5000)
                killed(online, story, now, tmp_path, calls=turn, whom=whom)
                online.url = embedded.ensure(tmp_path / "store")
            online.sync(story, now)
            reader.least = turn
            found = parity.measure(story.published, target=sync.Target(online.url, SPACE, ""), scope="full")
            assert found is not None
            assert (found.holds, found.compared) == (True, len(WALKERS))
            if not turn:
                reading.start()
    finally:
        reader.over.set()
        reading.join()
        embedded.stop(tmp_path / "store")
    assert reader.wrong == []
    assert reader.asked > 10
