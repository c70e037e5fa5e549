"""What `--json` prints, made of the records that it is about; `docs/json.md` and the classes say the same."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.main import get_command

from feature_definitions import Entity, Feature, Source, WindowedGroup
from feature_definitions.intervals import Interval
from feature_definitions.planning.plan import MISSING, STALE_CODE, GroupPlan, IntervalStatus
from feature_definitions.planning.upstream import Awaited
from headwater import documents
from headwater.commands import app
from tests.headwater.fields import document, fields, verbs

PAGE = (Path(__file__).parents[2] / "docs" / "json.md").read_text(encoding="utf-8")
SECTIONS = dict(section.split("\n", 1) for section in PAGE.split("\n## ")[1:])
VERBS = [name for name, verb in verbs(get_command(app)) if not hasattr(verb, "commands")]
COLUMNS = {"customer_id": "int64", "at": "timestamp"}
SPEND = WindowedGroup(
    "spend", Entity("customer", {"customer_id": "int64"}), Source("payments", columns=COLUMNS, event_timestamp="at"), ttl="2d",
    features=(Feature("n", "count", windows=("1d",)),),
)  # fmt: skip


def day(n: int) -> Interval:
    """Day `n` of January 2026."""
    return Interval(datetime(2026, 1, n, tzinfo=UTC), datetime(2026, 1, n + 1, tzinfo=UTC))


@pytest.mark.parametrize("value", [None, 1.5, 1e16, float("nan"), 'ü \u2028"', [], {"a": [{}]}])
def test_a_document_is_printed_as_pythons_json_prints_it(value: object) -> None:
    found = documents.get([{"entity": {}, "values": {"x": value}, "status": {}, "event_timestamp": {}}])
    assert documents.text(found) == json.dumps(msgspec.to_builtins(found), indent=2)


@given(
    reasons=st.lists(st.text(), max_size=3),
    start=st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)),  # noqa: DTZ001  # hypothesis adds the zone
    rows=st.none() | st.integers(0, 2**62),
)
def test_a_status_is_printed_as_pythons_json_prints_it(reasons: list[str], start: datetime, rows: int | None) -> None:
    interval = Interval(start, start + timedelta(hours=1))
    waits = (Awaited("spend", interval, "REJECTED", interval, 1),)
    found = [
        IntervalStatus("spend", 1, interval, "OK", tuple(reasons), rows, "p1", 3),
        IntervalStatus("spend", 1, interval, "WAITING", tuple(reasons), waits_for=waits),
    ]
    printed = documents.status(found, {"spend": f"/lake/{''.join(reasons)}"}, quarantined={"spend": 3}, refused={})
    spelled = msgspec.to_builtins(printed, builtin_types=documents.AS_TEXT)
    assert documents.text(printed) == json.dumps(spelled, indent=2, default=documents.as_text)


def test_the_page_has_a_section_for_every_verb() -> None:
    assert sorted(SECTIONS) == sorted(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_the_page_has_every_field_of_a_document_with_its_type_and_no_other(verb: str) -> None:
    rows = re.findall(r"^\| `(.+?)` \| (.+?) \| .+ \|$", SECTIONS[verb], re.MULTILINE)
    assert dict(rows) == fields(verb)
    assert len(rows) == len(fields(verb))


@pytest.mark.parametrize("verb", VERBS)
def test_the_example_of_a_document_is_one(verb: str) -> None:
    (example,) = re.findall(r"```json\n(.*?)```", SECTIONS[verb], re.DOTALL)
    msgspec.convert(json.loads(example), document(verb))


def test_every_document_begins_with_its_schema() -> None:
    assert documents.text(documents.DownDocument(stopped=True)) == '{\n  "schema": 1,\n  "stopped": true\n}'


def test_a_field_that_is_absent_is_not_printed() -> None:
    assert json.loads(documents.text(documents.mistaken([]))) == {"schema": 1, "mistakes": []}


def test_times_are_in_utc_with_microseconds_only_where_there_are_some_and_what_json_has_no_type_for_is_a_text() -> None:
    oslo = timezone(timedelta(hours=1))
    values = {
        "whole": datetime(2026, 1, 5, 1, tzinfo=oslo),
        "micros": datetime(2026, 1, 5, 0, 0, 0, 120, tzinfo=UTC),
        "day": date(2026, 1, 5),
        "exact": Decimal("1.50"),
        "bytes": b"a",
        "list": (1, None),
    }
    (found,) = json.loads(documents.text(documents.get([{"entity": {}, "values": values, "status": {}, "event_timestamp": {}}])))["results"]
    assert found["values"] == {
        "whole": "2026-01-05T00:00:00Z", "micros": "2026-01-05T00:00:00.000120Z", "day": "2026-01-05", "exact": "1.50", "bytes": "b'a'",
        "list": [1, None],
    }  # fmt: skip


def test_the_steps_of_a_plan_compute_all_then_judge_all_then_publish_all() -> None:
    due = (IntervalStatus("spend", 1, day(5), STALE_CODE, ("lacks n_1d", "lacks mean")), IntervalStatus("spend", 1, day(7), MISSING, ()))
    steps = documents.plan([GroupPlan(SPEND, 1, due)], [], refused={}).steps
    assert [(s.step, s.group, s.interval_start.day, s.interval_end.day, s.reason) for s in steps] == [
        ("Compute", "spend", 5, 6, "lacks n_1d; lacks mean"),
        ("Compute", "spend", 7, 8, "MISSING"),
        ("Validate", "spend", 5, 6, "lacks n_1d; lacks mean"),
        ("Validate", "spend", 7, 8, "MISSING"),
        ("Publish", "spend", 5, 6, "lacks n_1d; lacks mean"),
        ("Publish", "spend", 7, 8, "MISSING"),
    ]


def test_a_plan_of_nothing_has_no_steps() -> None:
    assert documents.plan([GroupPlan(SPEND, 1, ())], [], refused={}).steps == []
