"""Tiles: which ones make up a window, and which must be built after a change."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from feature_definitions import Entity, Feature, Source, WindowedGroup
from feature_definitions.intervals import DAY, EPOCH, Interval, split
from feature_definitions.planning import tiling
from feature_definitions.records import Revision, TileRecord

HOUR = timedelta(hours=1)
JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = frozenset({"a", "b"})


def group(**changes: object) -> WindowedGroup:
    columns = {"customer": "string", "amount": "double", "paid": "int64", "at": "timestamp"}
    source = Source("payments", columns=columns, event_timestamp="at")
    spend = Feature("spend", "sum", "amount", windows=("7d", "30d"))
    whole = {"name": "spend", "entity": Entity("customer", {"customer": "string"}), "source": source, "ttl": "2d", "features": (spend,)}
    return WindowedGroup(**{**whole, **changes})  # type: ignore[arg-type]


def names(*features: Feature, **changes: object) -> set[str]:
    types = {f.name: "double" if f.of == "amount" else "int64" for f in features}
    return {state.name for state in tiling.states(group(features=features, **changes), types=types)}


def revision(number: int, day: int) -> Revision:
    at = JANUARY + (day - 1) * DAY
    return Revision("payments", number, at.date(), at, at + DAY, "", 1, JANUARY)


def due(
    needs: dict[timedelta, list[Interval]], built: dict[tuple[timedelta, date], TileRecord], *revisions: Revision
) -> dict[timedelta, list[int]]:
    found = tiling.due(needs, states=NAMES, built=built, revisions=revisions)
    return {each.grain: [day.day for day in each.dates] for each in found}


def days(first: int, last: int) -> Interval:
    return Interval(JANUARY + (first - 1) * DAY, JANUARY + last * DAY)


# ---------------------------------------------------------------------------------------------------------------------- windows


@given(st.integers(0, 5000), st.integers(1, 5000), st.integers(1, 3))
def test_the_tiles_of_a_span_cover_it_once_and_nothing_else(start: int, length: int, levels: int) -> None:
    grains = [HOUR * tiling.COARSER**level for level in range(levels)]
    span = Interval(EPOCH + start * HOUR, EPOCH + (start + length) * HOUR)
    found = [tile for grain, spans in tiling.cover(span, grains).items() for part in spans for tile in split(part, grain)]
    ordered = sorted(found)
    assert all((tile.start - EPOCH) % (tile.end - tile.start) == timedelta(0) for tile in ordered)
    assert all(a.end == b.start for a, b in pairwise(ordered))
    assert (ordered[0].start, ordered[-1].end) == (span.start, span.end)


@given(st.integers(0, 3000), st.integers(1, 3000))
def test_a_span_never_needs_more_than_two_edges_of_each_grain(start: int, length: int) -> None:
    grains = [HOUR, HOUR * tiling.COARSER]
    span = Interval(EPOCH + start * HOUR, EPOCH + (start + length) * HOUR)
    fine = sum((part.end - part.start) // HOUR for part in tiling.cover(span, grains).get(HOUR, ()))
    assert fine < 3 * tiling.COARSER


def test_coarse_tiles_come_in_where_two_of_them_fit_the_longest_window() -> None:
    assert tiling.grains(DAY, 63 * DAY) == (DAY,)
    assert tiling.grains(DAY, 64 * DAY) == (DAY, 32 * DAY)
    assert tiling.grains(timedelta(minutes=5), 90 * DAY) == tuple(timedelta(minutes=5 * 32**n) for n in range(3))


# ----------------------------------------------------------------------------------------------------------------------- states


def test_a_state_does_not_know_the_windows_that_it_serves() -> None:
    short, long = Feature("spend", "sum", "amount", windows=("1d",)), Feature("total", "sum", "amount", windows=("7d", "30d"))
    assert names(short) == names(long)


def test_a_mean_and_a_sum_share_their_states() -> None:
    total, mean = Feature("spend", "sum", "amount", windows=("7d",)), Feature("mean", "mean", "amount", windows=("7d",))
    assert names(total, mean) == names(total)


def test_other_events_or_other_values_are_other_states() -> None:
    plain = names(Feature("n", "count", windows=("7d",)))
    assert plain.isdisjoint(names(Feature("n", "count", windows=("7d",)), where="paid > 0"))
    assert names(Feature("n", "count", windows=("7d",), where="paid > 0")) - plain
    assert names(Feature("n", "count", "paid", windows=("7d",))) - plain


def test_a_column_of_another_type_is_another_state() -> None:
    before = group(features=(Feature("n", "max", "paid", windows=("7d",)),))
    columns = {**before.source.columns, "paid": "double"}
    after = group(features=before.features, source=Source("payments", columns=columns, event_timestamp="at"))
    states = [{s.name for s in tiling.states(g, types={"n": "int64"}) if s.kind == "max"} for g in (before, after)]
    assert states[0] != states[1]


# -------------------------------------------------------------------------------------------------------------------------- due


def test_tiles_that_were_never_built_are_due_where_something_happened() -> None:
    assert due({DAY: [days(1, 9)]}, {}, revision(1, 3), revision(1, 8)) == {DAY: [3, 8]}


def test_a_date_that_changed_since_it_was_built_is_due_alone() -> None:
    built = {(DAY, date(2026, 1, day)): TileRecord(1, NAMES) for day in (3, 4, 5)}
    changes = [revision(1, day) for day in (3, 4, 5)]
    assert due({DAY: [days(1, 9)]}, built, *changes) == {}
    assert due({DAY: [days(1, 9)]}, built, *changes, revision(2, 4)) == {DAY: [4]}


def test_a_date_outside_what_is_needed_is_left_alone() -> None:
    assert due({DAY: [days(5, 6)]}, {}, revision(1, 4), revision(1, 7)) == {}


def test_tiles_without_a_state_that_is_needed_are_due() -> None:
    built = {(DAY, date(2026, 1, 3)): TileRecord(1, frozenset({"a"})), (DAY, date(2026, 1, 4)): TileRecord(1, NAMES | {"c"})}
    assert due({DAY: [days(1, 9)]}, built, revision(1, 3), revision(1, 4)) == {DAY: [3]}


def test_a_coarse_tile_is_due_when_any_date_in_it_changed_and_needs_its_fine_tiles() -> None:
    start = EPOCH + 32 * DAY * ((JANUARY - EPOCH) // (32 * DAY) + 1)
    first, last = start.date(), (start + 31 * DAY).date()
    coarse, needs = 32 * DAY, {DAY: [], 32 * DAY: [Interval(start, start + 32 * DAY)]}
    changes = [Revision("payments", 1, day, JANUARY, JANUARY + DAY, "", 1, JANUARY) for day in (first, last)]
    found = tiling.due(needs, states=NAMES, built={}, revisions=changes)
    assert [(each.grain, sorted(each.dates)) for each in found] == [(DAY, [first, last]), (coarse, [first])]
    built = {(DAY, first): TileRecord(1, NAMES), (DAY, last): TileRecord(1, NAMES), (coarse, first): TileRecord(1, NAMES)}
    assert tiling.due(needs, states=NAMES, built=built, revisions=changes) == ()
    later = Revision("payments", 2, last, JANUARY, JANUARY + DAY, "", 1, JANUARY)
    found = tiling.due(needs, states=NAMES, built=built, revisions=[*changes, later])
    assert [(each.grain, sorted(each.dates)) for each in found] == [(DAY, [last]), (coarse, [first])]
