"""What a source derives, from a row and from the row before it, is the oracle's, and changes exactly what rests on it."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st

from feature_definitions import Entity, Feature, ObservationGroup, Source, WindowedGroup, layout
from feature_definitions.intervals import DAY, MICROSECOND, Interval
from feature_definitions.language import services
from feature_registry import open_registry
from lake import delta
from spark_jobs.ingest import events as ingested
from tests import oracle
from tests.histories import MIDNIGHT
from tests.offline import Lake, drawn, feature_rows, records

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pyspark.sql import SparkSession

    from tests.oracle import Event

bars = Source(
    "bars",
    columns={"symbol": "string", "at": "timestamp", "close": "double", "volume": "int64", "nr": "int64"},
    event_timestamp="at",
    timezone="UTC",
    until="2027-01-01",
    id=("nr",),
    derive={"worth": "close * volume", "change": "close / prev.close - 1", "jump": "abs(change) > 0.1"},
    lag_over=("symbol",),
    lag_within="3d",
)
symbol = Entity("symbol", {"symbol": "string"})
trend = WindowedGroup(
    "trend", symbol, bars, ttl="4d",
    features=(
        Feature("worth", "sum", "worth", windows=("2d",)),
        Feature("change", "last", "change", windows=("1d", "2d")),
        Feature("jumps", "count", where="jump", windows=("2d",)),
    ),
)  # fmt: skip
seen = ObservationGroup("seen", symbol, bars, columns=("close", "change"), ttl="4d")


def _change(row: Mapping[str, Any]) -> float | None:
    close, before = row["close"], row["prev"]["close"]
    return None if close is None or not before else close / before - 1


MOST = 2**63 - 1
FUNCTIONS: oracle.Functions = {
    "close * volume": lambda row: None if None in (row["close"], row["volume"]) else row["close"] * row["volume"],
    "close / prev.close - 1": _change,
    "abs(change) > 0.1": lambda row: None if row["change"] is None else abs(row["change"]) > 0.1,
    "jump": lambda row: row["jump"],
}


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Iterator[Lake]:
    registry = open_registry(f"sqlite:///{tmp_path / 'registry.db'}")
    yield Lake(spark, tmp_path, registry, now=MIDNIGHT + 8 * DAY)
    registry.close()


def bar(nr: int, day: float, close: float | None, *, of: str | None = "A", volume: int | None = 10) -> Event:
    return {"symbol": of, "at": MIDNIGHT + day * DAY, "close": close, "volume": volume, "nr": nr}


@st.composite
def some_bars(draw: st.DrawFn) -> list[Event]:
    """Bars of two symbols, and of none, close together: ties, gaps of exactly three days and a microsecond more."""
    steps = (timedelta(0), timedelta(0), DAY, 3 * DAY, 3 * DAY + MICROSECOND, timedelta(hours=7))
    at, found = MIDNIGHT, []
    for nr in draw(st.permutations(range(40))):
        at += draw(st.sampled_from(steps)) / 4
        close = draw(st.sampled_from((None, 0.0, 1.5, 2.0, 3.25)))
        row = bar(nr, 0, close, of=draw(st.sampled_from(("A", "A", "B", None))), volume=draw(st.sampled_from((None, 1, 7))))
        found.append({**row, "at": at})
    return found


def test_rows_derive_what_the_oracle_finds_whatever_dates_are_asked(lake: Lake) -> None:
    events, lake.now = drawn(some_bars(), 2)[-1], MIDNIGHT + 30 * DAY
    lake.ingest(bars, events)
    expected = {row["nr"]: row for row in oracle.derived(bars, events, FUNCTIONS)}
    whole = {row["nr"]: row for row in records(ingested.read(bars, lake.context))}
    assert {nr: {name: row[name] for name in bars.names} for nr, row in whole.items()} == expected
    assert len({row["change"] for row in whole.values()}) > 3
    day = sorted({row["at"].date() for row in events})[2]
    some = records(ingested.read(bars, lake.context, dates=[day]))
    assert {row["nr"]: row["change"] for row in some} == {nr: r["change"] for nr, r in expected.items() if r["at"].date() == day}


def test_a_late_row_changes_its_own_date_and_what_derives_from_it(lake: Lake) -> None:
    first = [bar(1, 0.5, 2.0), bar(2, 2.5, 3.0), bar(3, 6.5, 4.0), bar(4, 2.5, 1.0, of="B")]
    lake.ingest(bars, first)
    lake.materialize(trend)
    lake.materialize(seen)
    assert_rows_are_the_oracles(lake, first)
    late = [*first, bar(5, 1.5, 2.5)]
    assert lake.ingest(bars, late[-1:]).dates_changed == 2
    assert stale(lake, seen) == [1, 2]
    # of 2.5 only the change from 2.0 to 3.0 is another one now: the windows of two days, and the closing row, that hold 1.5 or 2.5
    assert stale(lake, trend) == [1, 2, 3, 4]
    lake.materialize(trend)
    lake.materialize(seen)
    assert_rows_are_the_oracles(lake, late)


def test_a_row_further_back_than_lag_within_changes_nothing(lake: Lake) -> None:
    lake.ingest(bars, [bar(1, 4.5, 2.0)])
    lake.materialize(seen)
    assert lake.ingest(bars, [bar(2, 1.0, 2.5)]).dates_changed == 1
    assert stale(lake, seen) == []


steps = Source(
    "steps",
    columns={"symbol": "string", "at": "timestamp", "n": "int64", "note": "string", "nr": "int64"},
    event_timestamp="at",
    timezone="UTC",
    id=("nr",),
    derive={"code": "CAST(note AS BIGINT)", "rise": "n - prev.n"},
    lag_over=("symbol",),
    lag_within="3d",
)
BEYOND = "rise cannot be derived from n and prev.n, given the row before"


def step(nr: int, day: float, n: int, *, note: str = "1") -> Event:
    return {"symbol": "A", "at": MIDNIGHT + day * DAY, "n": n, "note": note, "nr": nr}


def aside(lake: Lake) -> list[tuple[str, str, str]]:
    """What quarantine says of each row in it: the id, the reason, the value at fault."""
    path = layout.quarantine_table(lake.path, "steps")
    table = delta.load(path).to_pylist() if delta.exists(path) else []
    return sorted((row["nr"], row["reason"], row["value"]) for row in table)


def rises(lake: Lake) -> dict[int, int | None]:
    return {row["nr"]: row["rise"] for row in records(ingested.read(steps, lake.context))}


def test_a_row_that_fails_because_of_the_row_before_lies_aside_as_long_as_it_does(lake: Lake) -> None:
    report = lake.ingest(steps, [step(1, 0.5, -5), step(2, 1.5, MOST), step(3, 2.5, 3)])
    assert (report.rows, report.quarantined, report.reasons) == (2, 1, {BEYOND: 1})
    assert aside(lake) == [("2", BEYOND, f"n={MOST}, prev.n=-5")]
    assert rises(lake) == {1: None, 3: 3 - MOST}, "the row after it reads it"

    report = lake.ingest(steps, [step(1, 0.5, 5)])
    assert (report.quarantined, report.dates_changed) == (0, 2), "it is taken on its own date, of which no row came"
    assert (aside(lake), rises(lake)) == ([], {1: None, 2: MOST - 5, 3: 3 - MOST})

    report = lake.ingest(steps, [step(4, 0.75, -9)])
    assert (report.rows, report.quarantined, report.dates_changed, report.reasons) == (1, 1, 2, {BEYOND: 1})
    assert (aside(lake), rises(lake)) == ([("2", BEYOND, f"n={MOST}, prev.n=-9")], {1: None, 3: 3 - MOST, 4: -14})

    assert lake.ingest(steps, [step(2, 1.5, 4)]).quarantined == 0
    assert (aside(lake), rises(lake)) == ([], {1: None, 2: 13, 3: -1, 4: -14}), "the corrected row is as if it had never been there"

    lake.ingest(steps, [step(2, 1.5, MOST)])
    assert rises(lake) == {1: None, 3: 3 - MOST, 4: -14}, "of an id the newest row holds, though it is not read"


@st.composite
def some_steps(draw: st.DrawFn) -> list[list[Event]]:
    """What some ingests bring: rows of two symbols, corrections of them, with numbers whose difference is beyond 64 bits."""
    found = []
    for _ in range(4):
        numbers = draw(st.lists(st.integers(1, 9), min_size=3, max_size=7, unique=True))
        found.append([
            step(nr, draw(st.integers(0, 28)) / 4, draw(st.sampled_from((-MOST, -5, 3, MOST)))) | {"symbol": draw(st.sampled_from("AAB"))}
            for nr in numbers
        ])  # fmt: skip
    return found


def found_by_hand(live: Mapping[int, Event]) -> tuple[dict[int, int | None], list[int]]:
    """What each row that is read derives, and which rows fail."""
    ordered = sorted(live.values(), key=lambda row: (row["symbol"], row["at"], row["nr"]))
    derives: dict[int, int | None] = {}
    for before, row in itertools.pairwise([None, *ordered]):
        near = before is not None and before["symbol"] == row["symbol"] and row["at"] - before["at"] <= 3 * DAY
        derives[row["nr"]] = row["n"] - before["n"] if near else None
    fails = sorted(nr for nr, value in derives.items() if value is not None and not -MOST - 1 <= value <= MOST)
    return {nr: value for nr, value in derives.items() if nr not in fails}, fails


def by_date(live: Mapping[int, Event], derives: Mapping[int, int | None]) -> dict[Any, set[tuple[object, ...]]]:
    found: dict[Any, set[tuple[object, ...]]] = {}
    for nr, value in derives.items():
        found.setdefault(live[nr]["at"].date(), set()).add((*live[nr].values(), value))
    return found


def test_after_any_ingest_those_rows_lie_aside_that_fail_now_and_dates_are_revised_whose_rows_differ(lake: Lake) -> None:
    live: dict[int, Event] = {}
    was: dict[Any, set[tuple[object, ...]]] = {}
    for rows in drawn(some_steps(), 5)[-1]:
        live |= {row["nr"]: row for row in rows}
        report = lake.ingest(steps, rows)
        derives, fails = found_by_hand(live)
        now = by_date(live, derives)
        assert (rises(lake), [int(nr) for nr, *_ in aside(lake)]) == (derives, fails)
        assert report.dates_changed == sum(now.get(day) != was.get(day) for day in now.keys() | was.keys())
        was = now


def test_a_row_that_cannot_be_derived_leaves_the_older_one_of_its_id(lake: Lake) -> None:
    lake.ingest(steps, [step(1, 0.5, 1), step(2, 1.5, 2)])
    report = lake.ingest(steps, [step(1, 0.5, 7, note="abc")])
    assert (report.quarantined, report.dates_changed, rises(lake)) == (1, 0, {1: None, 2: 1})


def assert_rows_are_the_oracles(lake: Lake, events: Sequence[Event]) -> None:
    """Both groups' tables hold what the oracle computes of these events."""
    days = [Interval(MIDNIGHT + n * DAY, MIDNIGHT + (n + 1) * DAY) for n in range(7)]
    found = oracle.derived(bars, events, FUNCTIONS)
    for group in (trend, seen):
        wanted = [row for day in days for row in oracle.rows(group, found, day, functions=FUNCTIONS)]
        assert oracle.differences(group, wanted, feature_rows(group, lake.rows(group))) == []


def stale(lake: Lake, group: services.FeatureGroup) -> list[int]:
    """The days of the intervals that are stale, counted from the first."""
    return [(i.start - MIDNIGHT) // DAY for i, s in lake.statuses(group).items() if s.status.startswith("STALE")]
