"""What the ledger says of intervals, in a word and a line; what of them is due and what is lacking."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from dags.day import due, inside, judged, lacking
from dags.schedule import Schedule
from feature_definitions.intervals import Interval, parse_instant

DAY = timedelta(days=1)
SPEND = Schedule("spend", DAY, timedelta(hours=1), 3 * DAY, is_static=False)


def interval(day: int, status: str = "OK", *, rows: int = 8, **changes: Any) -> dict[str, Any]:
    start, last = f"2013-01-{day:02}T00:00:00Z", f"2013-01-{day + 1:02}T00:00:00Z"
    shown = {
        "publish_id": "p1" if status in ("OK", "STALE(data)") else None,
        "reasons": [f"so it is {status}"],
        "waits_for": [],
        "run": None,
    }
    reasons = {"reasons": []} if status == "OK" else {}
    return {
        "interval_start": start, "interval_end": last, "status": status, "rows": rows, "delta_version": day, **shown, **reasons, **changes,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("OK", "published"), ("MISSING", "missing"), ("STALE(data)", "stale"), ("STALE(code)", "stale"), ("REJECTED", "rejected"),
        ("WAITING", "waiting"),
    ],
)  # fmt: skip
def test_every_status_of_the_ledger_has_a_state(status: str, state: str) -> None:
    assert judged("spend", [interval(5, status)], named="2013-01-05").state == state


def test_a_run_of_several_intervals_is_called_by_the_worst() -> None:
    found = [interval(5), interval(6, "MISSING"), interval(7, "REJECTED"), interval(8, "STALE(data)")]
    day = judged("spend", found, named="2013-01-05 to 2013-01-08")
    assert day.state == "rejected"
    assert day.line.startswith("spend 2013-01-05 to 2013-01-08: the gate rejected it: so it is REJECTED")


def test_nothing_is_to_be_published_where_the_ledger_knows_no_interval() -> None:
    assert judged("spend", [], named="2013-01-05").state == "nothing"


def test_what_waits_for_other_groups_passes_unless_one_of_them_was_rejected_or_it_is_its_own() -> None:
    def passes(*waits: tuple[str, str]) -> bool:
        waits_for = [{"group": group, "status": status} for group, status in waits]
        return judged("spend", [interval(5, "WAITING", waits_for=waits_for)], named="2013-01-05").passes

    assert passes(("best", "MISSING"), ("pace", "STALE(data)"))
    assert not passes(("best", "MISSING"), ("pace", "REJECTED"))
    assert not passes(("spend", "REJECTED"))


def test_a_day_that_a_person_is_to_decide_on_names_the_run_and_outranks_what_merely_waits() -> None:
    advice = {"held": 0, "sentence": "publish it: headwater publish spend --run p7, or add --refuse"}
    asked = interval(6, "WAITING", run="p7", reasons=["waits for approval of run p7"], advice=advice)
    day = judged("spend", [interval(5, "WAITING"), asked], named="2013-01-05 to 2013-01-06")
    assert (day.state, day.run, day.passes) == ("approval", "p7", False)
    assert "a person is to decide: waits for approval of run p7; publish it: headwater publish spend --run p7" in day.line
    assert "clear the red tasks" not in day.line


def test_published_intervals_add_up_and_tell_of_warnings_and_held_rows() -> None:
    advice = {"held": 2, "sentence": "for example id=7"}
    day = judged("spend", [interval(5), interval(6, reasons=["warning: few rows"], advice=advice)], named="2013-01-05 to 2013-01-06")
    assert (day.state, day.rows, day.version) == ("published", 16, 6)
    assert day.warnings == ("warning: few rows", "2 rows are held: published without values")
    assert day.line.endswith("; for example id=7")


def test_only_intervals_that_lie_in_a_span_are_inside_it() -> None:
    span = Interval(parse_instant("2013-01-06"), parse_instant("2013-01-08"))
    assert inside([interval(day) for day in (5, 6, 7, 8)], span) == [interval(6), interval(7)]


def test_due_is_what_is_missing_after_the_first_published_day_and_before_the_newest() -> None:
    found = [interval(4, "MISSING"), interval(5), interval(6, "MISSING"), interval(7), interval(8, "MISSING"), interval(9, "MISSING")]
    assert due(found, SPEND) == Interval(parse_instant("2013-01-06"), parse_instant("2013-01-09"))


def test_late_events_are_due_as_far_back_as_the_group_restates_them() -> None:
    found = [interval(day, "STALE(data)") for day in (4, 5, 6, 7, 8)]
    assert due(found, SPEND) == Interval(parse_instant("2013-01-05"), parse_instant("2013-01-08"))


@pytest.mark.parametrize(
    "statuses", [(), ("MISSING",), ("MISSING", "MISSING"), ("OK", "OK"), ("OK", "REJECTED", "WAITING", "STALE(code)", "MISSING")]
)
def test_nothing_is_due_of_history_of_what_was_judged_and_of_the_newest_day(statuses: tuple[str, ...]) -> None:
    assert due([interval(day, status) for day, status in enumerate(statuses, 4)], SPEND) is None


def test_what_is_lacking_is_said_by_status_with_how_many_and_what_to_do() -> None:
    found = [interval(4, "MISSING"), interval(5, "MISSING"), interval(6), interval(7, "REJECTED"), interval(8, "MISSING")]
    fix = "start backfill__range for them, or run: headwater materialize spend --from 2013-01-04T00:00:00Z --to 2013-01-06T00:00:00Z"
    assert lacking(found, SPEND) == [
        f"spend: 2 of 5 intervals are MISSING, in 2013-01-04 to 2013-01-05; {fix}",
        "spend: 1 of 5 intervals are REJECTED, in 2013-01-07; the first: so it is REJECTED",
    ]
    assert lacking([interval(4), interval(5, "MISSING")], SPEND) == []
