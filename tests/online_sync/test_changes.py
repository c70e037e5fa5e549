"""A sync reads the intervals that changed since the last one; what it leaves online is what a comparison of all rows would."""

from __future__ import annotations

import itertools
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_definitions import Feature, layout
from feature_definitions.intervals import MICROSECOND
from feature_definitions.sql.column_types import column_types_of
from lake import newest
from online_sync import checks, sync
from online_sync.store import Store
from tests.online_sync.conftest import empty
from tests.online_sync.stories import FIRST, HOUR, SEEN, WALKED, Story

if TYPE_CHECKING:
    from pathlib import Path

    from feature_definitions.language import FeatureGroup
    from feature_definitions.records import Epoch
    from online_sync.sync import Synced

SPACE = layout.KeySpace("shop", "lakelake")


def no_spark() -> Any:
    raise AssertionError("this needs no Spark")


@dataclass
class Online:
    """A store that a story is brought to."""

    url: str
    done: Synced | None = None
    told: list[Epoch] = field(default_factory=list)

    def sync(self, story: Story, now: datetime, depth: sync.Depth = "as needed") -> Synced:
        """Sync once, as `Project.sync` does."""
        target = sync.Target(self.url, SPACE, "")
        last = None if self.done is None else self.done.record
        ledger = sync.Ledger(self.told.append, lambda: now)
        work = sync.Work(1 if last is None else last.epoch + 1, now, last, depth, ledger)
        look = sync.look(story.published, target=target, now=now, last=last)
        self.done = sync.run(story.published, look, target=target, work=work, spark=no_spark)
        return self.done


PLACES = itertools.count()
HOURS = st.integers(0, 3)
"""Which of four intervals is published."""
WALKERS = st.integers(1, 4)
ROWS = st.dictionaries(st.tuples(WALKERS, st.integers(0, 59)), st.sampled_from([1.0, 2.0]), max_size=5)
STEPS = st.lists(st.tuples(HOURS, ROWS, st.booleans()), min_size=1, max_size=7)
"""One publish after the other: of which hour, by walker and minute, and whether a sync follows."""


@settings(max_examples=40, deadline=None)
@given(steps=STEPS, windowed=st.booleans())
def test_after_syncs_of_what_changed_a_comparison_of_all_rows_finds_nothing_to_write(
    server: str, tmp_path_factory: pytest.TempPathFactory, steps: Any, windowed: bool
) -> None:
    empty(server)
    story, online = Story(WALKED if windowed else SEEN, str(tmp_path_factory.getbasetemp() / f"lake{next(PLACES)}")), Online(server)
    now = FIRST + 5 * HOUR
    for hour, rows, syncs in [*steps, (0, {}, True)]:
        start, now = FIRST + hour * HOUR, now + timedelta(minutes=1)
        story.publish(start, published_rows(story, start, rows), known=now)
        if syncs:
            online.sync(story, now + MICROSECOND)
    done = online.sync(story, now + 2 * MICROSECOND, depth="verify")
    assert (done.written, done.repaired) == (0, 0)


def published_rows(story: Story, start: datetime, rows: dict[tuple[int, int], float]) -> dict[tuple[int, datetime], float]:
    """The rows of an hour: observations at their minutes; of windows one for each walker at its end, which never vanishes."""
    if not story.group.keeps_rows:
        return {(walker, start + timedelta(minutes=minute)): value for (walker, minute), value in rows.items()}
    kept = {name: row["far_2h"] for name, row in story.rows.items() if row["start"] == start}
    return kept | {(walker, start + HOUR): value for (walker, _), value in rows.items()}


@pytest.fixture
def online(url: str) -> Online:
    return Online(url)


def told(group: FeatureGroup, folder: Path) -> Story:
    """Walkers 1 to 3 in the first hour."""
    story = Story(group, str(folder / "lake"))
    story.publish(FIRST, {(walker, FIRST + (HOUR if group.keeps_rows else HOUR / 2)): 1.0 for walker in (1, 2, 3)}, known=FIRST + 2 * HOUR)
    return story


def test_only_the_rows_of_intervals_that_changed_are_compared(online: Online, tmp_path: Path) -> None:
    story = told(SEEN, tmp_path)
    first = online.sync(story, FIRST + 2 * HOUR)
    story.publish(FIRST + HOUR, {(3, FIRST + 1.5 * HOUR): 2.0, (4, FIRST + 1.5 * HOUR): 1.0}, known=FIRST + 3 * HOUR)
    second = online.sync(story, FIRST + 3 * HOUR)
    assert [(done.rows, done.compared, done.written) for done in (first, second)] == [(3, 3, 3), (4, 2, 2)]


def test_a_column_that_was_added_to_a_generation_is_a_change(online: Online, tmp_path: Path) -> None:
    story = told(WALKED, tmp_path)
    online.sync(story, FIRST + 2 * HOUR)
    wider = replace(WALKED, features=(*WALKED.features, Feature("most", "max", "pace", windows=("2h",))))
    published = replace(story.published, group=wider, types=column_types_of(wider))
    assert sync.look(published, target=sync.Target(online.url, SPACE, ""), now=FIRST + 3 * HOUR).state == "changed"


def test_a_late_correction_of_an_older_row_changes_nothing_online(online: Online, tmp_path: Path) -> None:
    story = told(SEEN, tmp_path)
    story.publish(FIRST + HOUR, {(1, FIRST + 1.5 * HOUR): 2.0}, known=FIRST + 2 * HOUR)
    online.sync(story, FIRST + 2 * HOUR)
    story.publish(FIRST, {(walker, FIRST + HOUR / 2): 9.0 for walker in (1, 2, 3)}, known=FIRST + 3 * HOUR)
    done = online.sync(story, FIRST + 3 * HOUR)
    assert (done.compared, done.written) == (3, 2)


def test_an_entity_whose_newest_row_is_taken_back_falls_back_to_the_one_before(online: Online, tmp_path: Path) -> None:
    story = told(SEEN, tmp_path)
    story.publish(FIRST + HOUR, {(1, FIRST + 1.5 * HOUR): 2.0}, known=FIRST + 2 * HOUR)
    online.sync(story, FIRST + 2 * HOUR)
    before = row_of(online, 1)
    story.publish(FIRST + HOUR, {}, known=FIRST + 3 * HOUR)
    online.sync(story, FIRST + 3 * HOUR)
    assert row_of(online, 1) != before
    assert online.sync(story, FIRST + 3 * HOUR, depth="verify").written == 0


def row_of(online: Online, walker: int) -> bytes | None:
    with closing(Store(online.url)) as store:
        return store.mget([layout.row_key(SPACE, "seen", 1, str(walker))])[0]


def test_the_row_of_an_entity_that_has_none_any_more_is_a_tombstone_that_goes_by_itself(online: Online, tmp_path: Path) -> None:
    import redis

    story = told(SEEN, tmp_path)
    online.sync(story, FIRST + 2 * HOUR)
    story.publish(FIRST, {(walker, FIRST + HOUR / 2): 1.0 for walker in (1, 2)}, known=FIRST + 3 * HOUR)
    online.sync(story, FIRST + 3 * HOUR)
    key = layout.row_key(SPACE, "seen", 1, "3")
    with closing(redis.Redis.from_url(online.url)) as client:
        assert 0 < client.ttl(key) <= 7 * 86_400
        client.delete(key)
    assert looked(story, online, FIRST + 3 * HOUR).doubt is None
    done = online.sync(story, FIRST + 3 * HOUR, depth="verify")
    assert (done.written, done.repaired) == (0, 0)
    assert looked(story, online, FIRST + 3 * HOUR).doubt is None


def looked(story: Story, online: Online, now: datetime) -> sync.Finding:
    """What a sync would find before it begins."""
    return sync.look(story.published, target=sync.Target(online.url, SPACE, ""), now=now)


def test_a_store_that_is_doubted_is_compared_as_a_whole_though_it_is_known_what_changed(online: Online, tmp_path: Path) -> None:
    story = told(SEEN, tmp_path)
    online.sync(story, FIRST + 2 * HOUR)
    with closing(Store(online.url)) as store:
        store.unlink([layout.row_key(SPACE, "seen", 1, "2")])
    story.publish(FIRST + HOUR, {(1, FIRST + 1.5 * HOUR): 2.0}, known=FIRST + 3 * HOUR)
    done = online.sync(story, FIRST + 3 * HOUR)
    assert (done.compared, done.written, done.repaired) == (3, 2, 1)
    assert done.reason is not None


def test_a_publish_of_before_the_last_sync_that_it_could_not_see_makes_all_rows_compared(online: Online, tmp_path: Path) -> None:
    story = told(SEEN, tmp_path)
    online.sync(story, FIRST + 4 * HOUR)
    story.publish(FIRST + HOUR, {(1, FIRST + 1.5 * HOUR): 2.0}, known=FIRST + 3 * HOUR)
    assert online.sync(story, FIRST + 5 * HOUR).compared == 3


def test_a_state_of_before_can_be_brought_back_and_the_next_sync_brings_the_newest_again(online: Online, tmp_path: Path) -> None:
    story = told(SEEN, tmp_path)
    online.sync(story, FIRST + 2 * HOUR)
    before = [content(row_of(online, walker)) for walker in (1, 2, 3, 4)]
    story.publish(FIRST + HOUR, {(1, FIRST + 1.5 * HOUR): 2.0, (4, FIRST + 1.5 * HOUR): 2.0}, known=FIRST + 3 * HOUR)
    online.sync(story, FIRST + 3 * HOUR)
    after = [content(row_of(online, walker)) for walker in (1, 2, 3, 4)]
    online.sync(story, FIRST + 2 * HOUR, depth="full")
    target = sync.Target(online.url, SPACE, "")
    sync.claim(target)
    sync.sweep(target, ["seen"])
    assert [content(row_of(online, walker)) for walker in (1, 2, 3, 4)] == before != after
    done = online.sync(story, FIRST + 4 * HOUR)
    assert ([content(row_of(online, walker)) for walker in (1, 2, 3, 4)], done.compared) == (after, 2)


def content(row: bytes | None) -> str | None:
    return None if row is None else checks.content(row)


def test_what_no_memory_of_one_process_holds_is_left_to_spark(online: Online, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "_IN_MEMORY", newest.size(told(SEEN, tmp_path).published) - 1)
    with pytest.raises(AssertionError, match="this needs no Spark"):
        online.sync(told(SEEN, tmp_path / "again"), FIRST + 2 * HOUR)
