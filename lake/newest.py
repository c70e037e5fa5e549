"""The newest row of every entity of a group, as it is known at a time, read by Arrow: what `spark_jobs.point_in_time.newest` gives.

For groups that the memory of one process holds, which need no Spark.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_definitions import layout
from feature_definitions.intervals import Interval, micros
from lake import delta, delta_files, readable
from lake.arrow_types import arrow_type
from lake.known_times import KnownTimes, Marks, Numbers
from lake.readable import Published

_UTC = pa.timestamp("us", tz="UTC")
_MOST_SPANS = 16
"""Spans of time that a query names at most."""


def size(published: Published, intervals: Collection[Interval] | None = None) -> int:
    """How many values `newest` would read, by the tables' logs alone."""
    days = None if intervals is None else {interval.start.date() for interval in intervals}
    return sum(delta_files.rows_on(path, days) for path in _tables(published)) * (len(published.group.outputs) + 6)


def files(published: Published) -> int:
    """How many files `newest` reads."""
    return sum(len(delta_files.files(delta.opened(path))) for path in _tables(published))


def newest(published: Published, *, now: datetime, intervals: Collection[Interval] | None = None) -> pa.Table:
    """One row per entity ever seen: keys, event_timestamp, empties_at, held, retracted, publish_id, the outputs.

    Of some intervals alone it is the newest row in these, and a retracted one wherever a row of them was retracted: what an entity falls
    back to may lie elsewhere.
    """
    rows = pa.concat_tables([_read(path, published, intervals) for path in _tables(published)] or [_schema(published).empty_table()])
    keys = list(published.group.entity.keys)
    known = KnownTimes.of(published)
    at = _micros(rows.column("event_timestamp"))
    start = readable.starts(published.group, at)
    since, order, _, ever = known.when(_whole(rows.column("publish_id")), start)
    code = _codes([_whole(rows.column(key)) for key in keys])
    visible = ever & (np.maximum(at, since) <= micros(now)) & (code >= 0)
    if intervals is not None:
        visible &= np.isin(start, [micros(interval.start) for interval in intervals])
    where = np.flatnonzero(visible)
    retracted = rows.column("retracted").to_numpy().astype(bool)
    best = where[_best(code[where], at[where], order[where], retracted[where], fall_back=intervals is None)]
    chosen = rows.take(pa.array(best))
    if not published.group.by_snapshot:
        return chosen
    empties_at = _next_snapshots(at[best], _standing_snapshots(published, known, micros(now)))
    return chosen.set_column(chosen.column_names.index("empties_at"), "empties_at", empties_at)


def best(rows: pa.Table, keys: Sequence[str], *, at: str, order: str, retracted: str) -> pa.Table:
    """Of visible rows of any entities each entity's newest, by columns that say the time, the publishes' order and what was taken back.

    All rows of an entity must be there. Those whose key is null are left out.
    """
    code = _codes([_whole(rows.column(key)) for key in keys])
    where = np.flatnonzero(code >= 0)
    times, publishes = (_whole(rows.column(name)).to_numpy(zero_copy_only=False).astype(np.int64)[where] for name in (at, order))
    gone = _whole(rows.column(retracted)).to_numpy(zero_copy_only=False).astype(bool)[where]
    found = where[_best(code[where], times, publishes, gone, fall_back=True)]
    return rows if len(found) == len(rows) else rows.take(pa.array(found))


def _tables(published: Published) -> list[str]:
    places = (place(published.lake, published.group.name, published.generation) for place in (layout.feature_table, layout.history_table))
    return [path for path in places if delta.exists(path)]


def _schema(published: Published) -> pa.Schema:
    group = published.group
    keys = {key: arrow_type(kind) for key, kind in group.entity.keys.items()}
    own = {"event_timestamp": _UTC, "empties_at": _UTC, "held": pa.bool_(), "retracted": pa.bool_(), "publish_id": pa.string()}
    return pa.schema([*(keys | own | {name: arrow_type(published.types.outputs[name]) for name in group.outputs}).items()])


def _read(path: str, published: Published, intervals: Collection[Interval] | None) -> pa.Table:
    """The rows of a table, of the dates of some intervals or of all; a column that it lacks is null in it."""
    schema, have = _schema(published), delta.columns(path)
    missing = {"retracted": "false"}
    listed = ", ".join(f'"{name}"' if name in have else f'{missing.get(name, "NULL")} AS "{name}"' for name in schema.names)
    conditions = [] if intervals is None else _within(published, intervals)
    within = f" WHERE {' AND '.join(conditions)}" if conditions and "date" in have else ""
    return delta.arrow(path, f"SELECT {listed} FROM t{within}").cast(schema)


def _within(published: Published, intervals: Collection[Interval]) -> list[str]:
    """What holds of the rows of some intervals, and of few others: by it whole files are left out."""
    if not intervals:
        return ["false"]
    days = {interval.start.date() for interval in intervals}
    conditions = [f"date IN ({', '.join(map(delta.literal, sorted(days)))})"]
    if published.group.row_time != "none":
        spans = _spans(intervals)
        times = [f"event_timestamp BETWEEN {delta.literal(first)} AND {delta.literal(last)}" for first, last in spans]
        conditions.append(f"({' OR '.join(times)})")
    return conditions


def _spans(intervals: Collection[Interval]) -> list[tuple[datetime, datetime]]:
    """From when to when intervals go, those that touch as one; a single one where they would be many."""
    spans: list[tuple[datetime, datetime]] = []
    for interval in sorted(intervals, key=lambda each: each.start):
        if spans and interval.start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], interval.end))
        else:
            spans.append((interval.start, interval.end))
    return spans if len(spans) <= _MOST_SPANS else [(spans[0][0], spans[-1][1])]


def _codes(keys: list[pa.Array]) -> Numbers:
    """Each row's key as a number, -1 where a part of it is null; no two keys have one number."""
    codes, nobody = np.zeros(len(keys[0]), np.int64), np.zeros(len(keys[0]), bool)
    for key in keys:
        found = key.dictionary_encode()
        part = pc.fill_null(found.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
        nobody |= part < 0
        _, codes = np.unique(codes * (len(found.dictionary) + 1) + part, return_inverse=True) if len(keys) > 1 else (None, part)
    codes[nobody] = -1
    return codes


def _best(code: Numbers, at: Numbers, order: Numbers, retracted: Marks, *, fall_back: bool) -> Numbers:
    """The places of each entity's best row: of the last publish of each time, the newest that is not retracted, else the newest.

    Without falling back an entity of which a row is retracted has that one.
    """
    if not len(code) or np.bincount(code).max() == 1:
        return np.arange(len(code))
    by_truth = np.lexsort((retracted, order, at, code))
    code, at, retracted = code[by_truth], at[by_truth], retracted[by_truth]
    last = np.append((code[1:] != code[:-1]) | (at[1:] != at[:-1]), True)
    standing = by_truth[last]
    code, at, live = code[last], at[last], ~retracted[last]
    by_life = np.lexsort((at, live if fall_back else ~live, code))
    ends = np.append(code[by_life][1:] != code[by_life][:-1], True)
    best: Numbers = standing[by_life[ends]]
    return best


def _standing_snapshots(published: Published, known: KnownTimes, now: int) -> Numbers:
    """The times of the snapshots of which some row stands now, in order."""
    found = [np.zeros(0, np.int64)]
    for path in _tables(published):
        have = delta.columns(path)
        replaced = "replaced_by" if "replaced_by" in have else "NULL"
        live = " WHERE NOT retracted" if "retracted" in have else ""
        taken = delta.arrow(path, f"SELECT DISTINCT event_timestamp, publish_id, {replaced} AS replaced_by FROM t{live}")
        at = _micros(taken.column("event_timestamp"))
        start = readable.starts(published.group, at)
        since, _, _, ever = known.when(_whole(taken.column("publish_id").cast(pa.string())), start)
        until, _, _, ended = known.when(_whole(taken.column("replaced_by").cast(pa.string())), start)
        found.append(at[ever & (np.maximum(at, since) <= now) & (~ended | (np.maximum(at, until) > now))])
    return np.unique(np.concatenate(found))


def _next_snapshots(at: Numbers, standing: Numbers) -> pa.Array:
    """The time of the first snapshot after each row: it does not have the entity."""
    place = np.searchsorted(standing, at, side="right")
    there = place < len(standing)
    times = standing[np.minimum(place, len(standing) - 1)] if len(standing) else np.zeros(len(at), np.int64)
    return pa.array(times, pa.int64(), mask=~there).cast(_UTC)


def changed(published: Published, *, since: datetime, now: datetime) -> tuple[Interval, ...]:
    """The intervals of which something became known after one time and up to another."""
    found = {p.interval for p in published.publishes if p.known_from <= now and max(p.known_from, p.interval.end) > since}
    return tuple(sorted(found, key=lambda interval: interval.start))


def _micros(column: pa.ChunkedArray) -> Numbers:
    found: Numbers = _whole(column).cast(_UTC).cast(pa.int64()).to_numpy(zero_copy_only=False)
    return found


def _whole(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    return whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole
