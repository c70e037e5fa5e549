"""Of some intervals only the files are read that may have their rows."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from feature_definitions.intervals import Interval
from lake import delta, newest, readable
from tests.online_sync.stories import FIRST, HOUR, SEEN, WALKED, Story

if TYPE_CHECKING:
    from pathlib import Path

    from feature_definitions.language import FeatureGroup


def hours(*numbers: int) -> list[Interval]:
    return [Interval(FIRST + n * HOUR, FIRST + (n + 1) * HOUR) for n in numbers]


def test_intervals_that_touch_are_one_span() -> None:
    assert newest._spans(hours(5, 1, 0, 2)) == [(FIRST, FIRST + 3 * HOUR), (FIRST + 5 * HOUR, FIRST + 6 * HOUR)]


def test_many_spans_are_one_from_the_first_to_the_last() -> None:
    assert newest._spans(hours(*range(0, 60, 2))) == [(FIRST, FIRST + 59 * HOUR)]


@pytest.mark.parametrize("group", [SEEN, WALKED], ids=lambda group: group.name)
def test_rows_at_both_ends_of_an_interval_are_read_and_those_of_other_hours_are_not(
    group: FeatureGroup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story, read = Story(group, str(tmp_path / "lake")), list[int]()
    for number in range(4):
        start = FIRST + number * HOUR
        at = [start + HOUR] * 2 if group.keeps_rows else [start, start + HOUR - timedelta(microseconds=1)]
        story.publish(start, dict.fromkeys(zip((number, 10 + number), at, strict=True), 1.0), known=FIRST + 5 * HOUR)
    arrow = delta.arrow

    def counted(path: str, sql: str) -> object:
        found = arrow(path, sql)
        read.append(found.num_rows)
        return found

    monkeypatch.setattr(delta, "arrow", counted)
    found = newest.newest(story.published, now=FIRST + 6 * HOUR, intervals=hours(1))
    assert sorted(found.column("walker").to_pylist()) == [1, 11]
    assert read == ([4] if group.keeps_rows else [2])  # a row of windows at the end of an hour might be of the one that starts there


def test_no_interval_has_no_rows(tmp_path: Path) -> None:
    story = Story(SEEN, str(tmp_path / "lake"))
    story.publish(FIRST, {(1, FIRST): 1.0}, known=FIRST + HOUR)
    assert len(newest.newest(story.published, now=FIRST + 2 * HOUR, intervals=())) == 0


@pytest.mark.parametrize("every", ["30m", "2h"])
def test_rows_of_a_generation_that_was_published_by_another_cadence_are_seen_until_the_next_one_is_shown(
    every: str, tmp_path: Path
) -> None:
    story, now = Story(WALKED, str(tmp_path)), FIRST + 3 * HOUR
    for hour in (0, 1):
        story.publish(FIRST + hour * HOUR, {(1, FIRST + (hour + 1) * HOUR): 1.0 + hour}, known=FIRST + 2 * HOUR)
    group = replace(WALKED, every=every)
    seen = replace(story.published, group=group, publishes=readable.on_grid(group, story.published.publishes))
    assert newest.newest(seen, now=now).equals(newest.newest(story.published, now=now))
    assert len(newest.newest(replace(seen, publishes=story.published.publishes), now=now)) == 0
