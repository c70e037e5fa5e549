"""Two processes publish days of one group to S3 at once, fifty times each: no publish is lost, and neither is what it replaced."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from feature_definitions import layout
from feature_registry import rebuild
from lake import delta
from tests.durability import shops
from tests.durability.shops import Worker
from tests.projects import opened

if TYPE_CHECKING:
    from pathlib import Path

DAYS, ROUNDS = 20, 5
"""Each round every day's rows change; one process publishes the odd days, the other one the even."""
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
NOW = FIRST + timedelta(days=DAYS, hours=12)


def publish(worker: Worker, number: int, first: int) -> list[str]:
    """Publish every other day of a round, each by a run of its own; what was answered."""
    days = [FIRST + timedelta(days=day) for day in range(first, DAYS, 2)]
    words = [{"start": day.isoformat(), "end": (day + timedelta(days=1)).isoformat()} for day in days]
    return [worker.ask("materialize", now=NOW + number * timedelta(hours=1), **each) for each in words]


def test_of_two_processes_that_publish_one_group_fifty_times_each_no_publish_is_lost(here: dict[str, str], tmp_path: Path) -> None:
    shop = shops.make(tmp_path / "shop")
    both = [Worker(shop, here, tmp_path / f"{who}.log") for who in ("odd", "even")]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(Worker.start, both))
        for number in range(1, ROUNDS + 1):
            shops.bring(shop, days=DAYS, round_=number)
            assert both[0].ask("ingest", now=NOW + number * timedelta(hours=1)) == "done"
            answers = list(pool.map(publish, both, [number] * 2, (0, 1)))
            assert answers == [["done"] * (DAYS // 2)] * 2
    for worker in both:
        worker.close()

    lake, rows = here["HEADWATER_LAKE"], DAYS * shops.CUSTOMERS
    published = shops.published(lake)
    assert len(published) == rows
    assert shops.rounds_of(published) == {ROUNDS}
    history = delta.load(layout.history_table(lake, "spend", 1)).to_pylist()
    assert Counter(row["paid_1d"] for row in history) == dict.fromkeys(range(1, ROUNDS), rows)
    with opened(shop, now=NOW + timedelta(hours=ROUNDS + 1)) as p:
        publishes = {one.publish_id for one in p._registry.publishes("spend", 1)}
        assert len(publishes) == ROUNDS * DAYS
        assert {row["publish_id"] for row in (*history, *published)} == publishes
        assert {row["replaced_by"] for row in history} <= publishes
        assert {status.status for status in p.status("spend")} == {"OK"}
        assert rebuild.facts(lake) == p._registry.facts()
