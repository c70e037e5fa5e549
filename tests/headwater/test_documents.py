"""What `--json` prints, made of the records that it is about."""

from __future__ import annotations

from datetime import UTC, datetime

from feature_definitions import Entity, Feature, Source, WindowedGroup
from feature_definitions.intervals import Interval
from feature_definitions.planning.plan import MISSING, STALE_CODE, GroupPlan, IntervalStatus
from headwater import documents

COLUMNS = {"customer_id": "int64", "at": "timestamp"}
SPEND = WindowedGroup(
    "spend", Entity("customer", {"customer_id": "int64"}), Source("payments", columns=COLUMNS, event_timestamp="at"), ttl="2d",
    features=(Feature("n", "count", windows=("1d",)),),
)  # fmt: skip


def day(n: int) -> Interval:
    """Day `n` of January 2026."""
    return Interval(datetime(2026, 1, n, tzinfo=UTC), datetime(2026, 1, n + 1, tzinfo=UTC))


def test_the_steps_of_a_plan_compute_all_then_judge_all_then_publish_all() -> None:
    due = (IntervalStatus("spend", 1, day(5), STALE_CODE, ("lacks n_1d", "lacks mean")), IntervalStatus("spend", 1, day(7), MISSING, ()))
    steps = documents.plan([GroupPlan(SPEND, 1, due)], []).steps
    assert [(s.step, s.group, s.interval_start.day, s.interval_end.day, s.reason) for s in steps] == [
        ("Compute", "spend", 5, 6, "lacks n_1d; lacks mean"),
        ("Compute", "spend", 7, 8, "MISSING"),
        ("Validate", "spend", 5, 6, "lacks n_1d; lacks mean"),
        ("Validate", "spend", 7, 8, "MISSING"),
        ("Publish", "spend", 5, 6, "lacks n_1d; lacks mean"),
        ("Publish", "spend", 7, 8, "MISSING"),
    ]


def test_a_plan_of_nothing_has_no_steps() -> None:
    assert documents.plan([GroupPlan(SPEND, 1, ())], []).steps == []
