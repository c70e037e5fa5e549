"""Ids of what is ingested and published."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spark_jobs.context import Context

NOW = datetime(2026, 1, 6, 12, tzinfo=UTC)


def context(now: datetime = NOW) -> Context:
    nothing: Any = None
    return Context(lambda: nothing, Path(), "", nothing, lambda: now, print)


def test_ids_sort_by_the_time_at_which_they_were_minted() -> None:
    assert context().mint("p") < context(NOW.replace(microsecond=1)).mint("p")


def test_an_id_sorts_after_those_before_it_though_the_clock_was_set_back_or_stands_still() -> None:
    earlier = context(NOW.replace(hour=9))
    ids = [context().mint("p")]
    for _ in range(9):
        ids.append(earlier.mint("p", after=reversed(ids)))
    assert ids == sorted(ids)
