"""What Spark's workers bring online is, row by row, what one process brings: corrections, late rows and rows taken back included."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from online_sync import spread, sync
from tests.online_sync.conftest import empty
from tests.online_sync.stories import FIRST, HOUR, SEEN, WALKED, Story
from tests.online_sync.test_changes import SPACE, published_rows
from tests.online_sync.test_sync import BASKET, BASKET_TYPES, HABIT, HABIT_TYPES, NOW, groups, published

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from pyspark.sql import SparkSession

    from lake.readable import Published
    from online_sync.sync import Synced


def brought(published: Published, url: str, spark: SparkSession, now: datetime, *, depth: sync.Depth) -> Synced:
    target = sync.Target(url, SPACE, "")
    look = sync.look(published, target=target, now=now)
    return sync.run(published, look, target=target, work=sync.Work(1, now, None, depth), spark=lambda: spark)


def by_both(published: Published, url: str, spark: SparkSession, now: datetime, patch: pytest.MonkeyPatch) -> tuple[Synced, Synced]:
    """A sync by Spark's workers, and what one process then finds to do, which compares every row."""
    empty(url)
    with patch.context() as small:
        small.setattr(sync, "_IN_MEMORY", -1)
        first = brought(published, url, spark, now, depth="as needed")
    return first, brought(published, url, spark, now, depth="verify")


def history(seed: int, lake: Path) -> Story:
    """Hours that are published in any order, some of them again with other rows, and rows that are taken back."""
    chance = random.Random(seed)
    story = Story(WALKED if seed % 2 else SEEN, str(lake))
    for turn in range(8):
        start = FIRST + chance.randrange(4) * HOUR
        rows = {(chance.randrange(5), chance.randrange(60)): chance.choice([1.0, 2.0]) for _ in range(chance.randrange(6))}
        story.publish(start, published_rows(story, start, rows), known=FIRST + 5 * HOUR + turn * timedelta(minutes=1))
    return story


@pytest.mark.parametrize("seed", range(4))
def test_spark_brings_the_rows_that_one_process_brings(
    seed: int, server: str, spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if seed > 1:
        monkeypatch.setattr(spread, "_files", lambda *_: None)  # as where workers do not reach the lake's files
    first, again = by_both(history(seed, tmp_path / "lake").published, server, spark, FIRST + 6 * HOUR, monkeypatch)
    assert (again.written, again.compared) == (0, first.compared)
    assert first.compared > 2


def test_spark_brings_arrays_decimals_and_rows_that_were_held(
    server: str, spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    habit, basket = groups()
    for group, rows, types in ((habit, HABIT, HABIT_TYPES), (basket, BASKET, BASKET_TYPES)):
        whole = published(group, rows, types, lake=str(tmp_path / "lake"))
        first, again = by_both(whole, server, spark, NOW, monkeypatch)
        assert (first.written, again.written, again.compared) == (len(rows), 0, len(rows))
