"""A group that asks for approval: what warned waits unseen, is published as it was judged, or is refused; and what crashes leave."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from expectations.suite import Verdict
from feature_definitions import layout
from feature_definitions.intervals import DAY, iso
from feature_definitions.planning.approval import Open
from feature_registry import open_registry, rebuild
from lake import judged, leftovers, storage
from lake.judged import WaitingLost
from spark_jobs.publish import commit
from spark_jobs.publish import waiting as runs
from spark_jobs.publish.group_results import GroupResult
from tests.offline import Lake
from tests.spark_jobs.publish.test_materialize import FIRST, day, payment, payments, spend

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyspark.sql import SparkSession

    from feature_definitions.records import LedgerEntry

asked = replace(spend, name="asked", warnings="approve")
PAID = [payment(1, 1, 1, 10.0), payment(2, 2, 1, 5.0), payment(3, 1, 2, 25.0), payment(4, 1, 4, 7.0)]


def warning(profile: Any, _: Any) -> dict[str, Verdict]:
    """A gate that warns of the second day."""
    return {str(i): Verdict(warned=("rows:few",)) if str(i) == iso(day(2).start) else Verdict() for i in profile["interval"]}


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Iterator[Lake]:
    with open_registry(f"sqlite:///{tmp_path / 'registry.db'}") as registry:
        lake = Lake(spark, tmp_path, registry)
        lake.now = FIRST + 5 * DAY + timedelta(hours=6)
        lake.ingest(payments, PAID)
        yield lake


def states(lake: Lake) -> list[str]:
    return [status.status for status in lake.statuses(asked).values()]


def ended(lake: Lake, run: str, **more: Any) -> tuple[LedgerEntry, ...]:
    """What `headwater publish` does."""
    lake.now += timedelta(hours=1)
    work, _ = lake.planner.waiting(asked, run, "refuse" if more else "publish")
    return runs.refuse(work, lake.context, **more) if more else runs.publish(work, lake.context)


def values(lake: Lake, group: Any) -> list[tuple[Any, ...]]:
    """What readers see of a group, without what says when and by whom it was published."""
    return sorted((r["customer"], r["event_timestamp"], r["paid_1d"], r["paid_2d"], r["empties_at"]) for r in lake.rows(group))


def folder(lake: Lake, result: GroupResult) -> str:
    return layout.waiting_folder(lake.path, "asked", result.publish_id or "")


def test_what_warned_waits_with_the_days_that_read_its_events_until_it_is_published_as_it_was_judged(lake: Lake) -> None:
    lake.materialize(spend)
    result = lake.materialize(asked, judge=warning)
    assert (result.published, result.waiting) == (3, ((day(2), ("rows:few",)), (day(3), ())))
    assert states(lake) == ["OK", "WAITING", "WAITING", "OK", "OK"]
    assert {(r["event_timestamp"] - DAY).day for r in lake.rows(asked)} == {1, 4, 5}
    assert rebuild.facts(lake.path) == lake.registry.facts()
    lake.now += 30 * DAY
    leftovers.sweep(lake.path, keep=7 * DAY, now=lake.now, runs=lake.registry.waiting())
    lake.now -= 30 * DAY
    entries = ended(lake, result.publish_id or "")
    assert [(e.interval, e.state, e.run_id, e.rows) for e in entries] == [
        (day(n), "PUBLISHED", result.publish_id, rows) for n, rows in ((2, 2), (3, 2))
    ]
    assert states(lake) == ["OK"] * 5
    assert values(lake, asked) == values(lake, spend)
    assert rebuild.facts(lake.path) == lake.registry.facts()
    assert lake.planner.waiting(asked, result.publish_id or "", "publish")[1] == Open()
    assert not storage.exists(folder(lake, result))


def test_what_is_refused_is_rejected_and_keeps_its_report_and_nothing_else(lake: Lake) -> None:
    result = lake.materialize(asked, judge=warning)
    ended(lake, result.publish_id or "", reason="a known outage")
    found = lake.statuses(asked)
    assert states(lake) == ["OK", "REJECTED", "REJECTED", "OK", "OK"]
    assert found[day(2)].reasons == ("failed approval (refused: a known outage)",)
    assert storage.exists(layout.report_file(lake.path, "asked", f"{result.publish_id}.html"))
    assert not storage.exists(folder(lake, result))
    assert rebuild.facts(lake.path) == lake.registry.facts()


def test_a_staged_run_publishes_nothing_though_nothing_warned_and_days_that_a_correction_touches_meanwhile_are_left(lake: Lake) -> None:
    staged = lake.materialize(asked, stage="everything")
    run = staged.publish_id or ""
    assert (staged.published, len(staged.waiting), states(lake), lake.rows(asked)) == (0, 5, ["WAITING"] * 5, [])
    assert storage.exists(layout.report_file(lake.path, "asked", f"{run}.html"))
    lake.now += timedelta(hours=1)
    lake.ingest(payments, [payment(5, 2, 4, 1.0)])
    assert states(lake) == ["WAITING"] * 4 + ["STALE(data)"], "day 4 changed, and reads day 3, on which a person is to decide"
    assert lake.materialize(asked) == GroupResult("asked", 1)
    assert [interval for interval, _ in lake.planner.waiting(asked, run, "publish")[1].left] == [day(4), day(5)]
    assert [entry.interval for entry in ended(lake, run)] == [day(1), day(2), day(3)]
    assert lake.materialize(asked).published == 2
    assert states(lake) == ["OK"] * 5
    assert storage.folders(layout.waiting(lake.path) + "/asked") == []


@pytest.mark.parametrize("at", ["before the ledger", "before the commit", "after the commit"])
def test_a_run_that_was_cut_off_is_repaired_by_the_same_command(lake: Lake, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    if at == "before the ledger":
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(commit, "publish", killed)
            lake.materialize(asked, judge=warning)
        assert states(lake) == ["MISSING"] * 5
    result = lake.materialize(asked, judge=warning)
    if at != "before the ledger":
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(commit, "_commit" if at == "before the commit" else "_confirm", killed)
            ended(lake, result.publish_id or "")
        commit.recover(asked, lake=lake.path, registry=lake.registry)
    if at != "after the commit":
        ended(lake, result.publish_id or "")
    assert states(lake) == ["OK"] * 5
    assert len(values(lake, asked)) == 8


def test_rows_that_were_touched_since_are_not_published(lake: Lake) -> None:
    result = lake.materialize(asked, judge=warning)
    rows = judged.rows_folder(lake.path, "asked", result.publish_id or "")
    storage.delete(storage.files(rows, suffix=".parquet")[0].path)
    with pytest.raises(WaitingLost):
        ended(lake, result.publish_id or "")
    assert states(lake)[1] == "WAITING"
