"""Pushes: rows that a program hands in become rows of a group at once, in the lake first; only expressions that judge them need Spark.

A group takes them whose source is read from no place and was never written to: nothing is computed for it, so what was pushed stays. Which
publish brought a row, and since when it is known, is remembered as of any other.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_definitions import layout, reading
from feature_definitions.errors import InputRefused
from feature_definitions.intervals import MICROSECOND, Interval, instant, iso
from feature_definitions.language import FeatureGroup, ObservationGroup
from feature_definitions.layout import LINE, REASON
from feature_definitions.planning import fingerprint
from feature_definitions.records import Committed, LedgerEntry, PendingPublish, Publish
from feature_definitions.sql.column_types import column_types_of
from feature_registry import subjects
from feature_registry.registry import PATIENCE, Registry
from lake import delta, delta_commits, facts, logs, readable
from lake.arrow_types import arrow_type
from spark_jobs.context import Context
from spark_jobs.ingest import columnar, first_bytes, formats, globs, parsing

_UTC = pa.timestamp("us", tz="UTC")
_AT = "event_timestamp"
_OF_FRAME = "row {} of the frame"


@dataclass(frozen=True, slots=True)
class Taken:
    """What a push brought: its rows, how many of them were there already, and the publish that made the others visible, if any did."""

    group: str
    generation: int
    rows: int
    known: int
    publish_id: str | None


def push(group: FeatureGroup, given: pa.Table | str, *, generation: int, context: Context) -> Taken:
    """Make the rows of a frame, or of the file at a path, in the columns of the group's source, rows of a generation, all or none.

    A row that is there already, with the same values, counts once; with others it is refused, as what does not fit is.
    """
    pushed = _pushable(group, context.registry)
    rows = _rows(pushed, _checked(pushed, given, context))
    subject = subjects.group(group.name, lake=context.lake, registry=context.registry)
    with context.registry.lease(subject, now=context.clock(), patience=PATIENCE):
        fresh = _fresh(pushed, rows, layout.feature_table(context.lake, group.name, generation))
        publish_id = _publish(pushed, fresh, generation, context) if len(fresh) else None
    return Taken(group.name, generation, len(rows), len(rows) - len(fresh), publish_id)


def was_pushed(group: FeatureGroup, registry: Registry) -> bool:
    """Whether rows were pushed to a group: it has some, though nothing was ever written to its source."""
    return isinstance(group, ObservationGroup) and bool(registry.generations(group.name)) and not registry.revisions(group.source.name)


def _pushable(group: FeatureGroup, registry: Registry) -> ObservationGroup:
    """The group, if it takes rows that are pushed."""
    if not isinstance(group, ObservationGroup):
        raise InputRefused(f"{group.name} is computed, so no rows are pushed to it; push to an ObservationGroup")
    source = group.source
    if source.at is not None:
        raise InputRefused(f"{group.name} is read from {source.name}, which has its own place; push to a group of a source without one")
    if registry.revisions(source.name):
        raise InputRefused(f"{group.name} is computed of what is written to {source.name}; push to a group of a source of its own")
    strange = [column for column in group.columns if column not in source.columns]
    if strange or group.where is not None:
        what = f"its column {strange[0]} is derived" if strange else "it has a where"
        raise InputRefused(f"{group.name} takes no rows that are pushed: {what}, and pushed rows are kept as they are")
    return group


# ---------------------------------------------------------------------------------------------------------------------- the rows


def _checked(group: ObservationGroup, given: pa.Table | str, context: Context) -> pa.Table:
    """What is given in the source's types, once nothing of it would be put aside."""
    found, where = (_of_file(group, given), f"line {{}} of {given}") if isinstance(given, str) else (_of_frame(group, given), _OF_FRAME)
    for row, why in _faults(group, found, context):
        raise InputRefused(f"{where.format(row)} cannot be pushed to {group.name}, so none was: {why}")
    return found


def _of_frame(group: ObservationGroup, frame: pa.Table) -> pa.Table:
    wanted = parsing.shape(group.source, parsing.FRAME)
    parsing.refuse_missing(frame.column_names, wanted, name="the frame")
    batches, line = [], 1
    for batch in frame.select(list(group.source.columns)).combine_chunks().to_batches():
        batches.append(columnar.check(batch, wanted, name="the frame", line=line))
        line += batch.num_rows
    return pa.Table.from_batches(batches, parsing.schema(wanted))


def _of_file(group: ObservationGroup, path: str) -> pa.Table:
    """The rows of a file, as an ingest reads them; raises FileRefused for one that lacks a column or cannot be read."""
    file = globs.at(path)
    kind = None if file is None else first_bytes.by_name(file.name)
    if file is None or kind is None:
        raise InputRefused(f"{path} is of no format that is read, by its name; push a file of CSV, JSON lines or Parquet")
    wanted = parsing.shape(group.source, kind)
    return pa.Table.from_batches(formats.read(file, wanted, name=path), parsing.schema(wanted))


def _faults(group: ObservationGroup, found: pa.Table, context: Context) -> Iterator[tuple[int, str]]:
    """The rows that are refused, each with the reason."""
    at, now = str(group.source.event_timestamp), context.clock()
    for row in found.filter(pc.is_valid(found[REASON])).select([LINE, REASON]).to_pylist():
        yield row[LINE], row[REASON]
    for key in group.entity.keys:
        for row in found.filter(pc.is_null(found[key]))[LINE].to_pylist():
            yield row, f"{key} is null"
    for row in found.filter(pc.greater(found[at], pa.scalar(now, _UTC))).select([LINE, at]).to_pylist():
        yield row[LINE], f"{at} is {iso(row[at])}, which is yet to come"
    yield from _broken(group, found, context)


def _broken(group: ObservationGroup, found: pa.Table, context: Context) -> Iterator[tuple[int, str]]:
    """The rows that break a critical expectation on rows of the source or the group."""
    told = [each for each in (*group.source.expect, *group.expect) if each.kind == "expression" and each.severity == "critical"]
    if not told or not len(found):
        return
    from expectations import conditions

    rows = context.spark.createDataFrame(found.select([*group.source.columns, LINE]))
    for each in told:
        broken = rows.where(conditions.violation(each, "", columns=group.source.columns)).select(LINE).head(1)
        yield from ((row[LINE], f"it breaks {each}") for row in broken)


def _rows(group: ObservationGroup, found: pa.Table) -> pa.Table:
    """Rows of the source as rows of the group, without what a publish adds; of one entity and time there is one."""
    keys = list(group.entity.keys)
    columns = {key: found[key] for key in keys} | {_AT: found[str(group.source.event_timestamp)]}
    rows = pa.table(columns | {name: found[name] for name in group.columns})
    twice = rows.group_by([*keys, _AT]).aggregate([([], "count_all")]).filter(pc.field("count_all") > 1)
    for row in twice.slice(0, 1).to_pylist():
        raise InputRefused(f"there are {row['count_all']} rows of {_named(row, keys)} at {iso(row[_AT])}; push one of them")
    return rows


def _fresh(group: ObservationGroup, rows: pa.Table, path: str) -> pa.Table:
    """Those of the rows that are not there yet; one that is there with other values is refused."""
    if not len(rows) or not delta.exists(path):
        return rows
    keys, names = [*group.entity.keys, _AT], [*group.entity.keys, _AT, *group.columns]
    have = delta.columns(path)
    days = ", ".join(delta.literal(day) for day in sorted({at.date() for at in rows[_AT].to_pylist()}))
    listed = ", ".join(f'"{name}"' if name in have else f'NULL AS "{name}"' for name in names)
    there = delta.arrow(path, f"SELECT {listed} FROM t WHERE date IN ({days})").cast(rows.schema)
    mine, theirs = (each.select(keys).append_column(n, pa.array(np.arange(len(each)))) for each, n in ((rows, "mine"), (there, "theirs")))
    both = mine.join(theirs, keys=keys, join_type="inner")
    pairs = zip(rows.take(both["mine"]).to_pylist(), there.take(both["theirs"]).to_pylist(), strict=True)
    for new, old in pairs:
        for column in (column for column in group.columns if new[column] != old[column]):
            raise InputRefused(
                f"{group.name} has {_named(new, list(group.entity.keys))} at {iso(new[_AT])} already, with {column} = {old[column]!r}: "
                "a row that was pushed is not changed; push one of a later time"
            )
    return rows.filter(pc.invert(pc.is_in(pa.array(np.arange(len(rows))), value_set=both["mine"].combine_chunks())))


def _named(row: Mapping[str, Any], keys: list[str]) -> str:
    return ", ".join(f"{key} {row[key]!r}" for key in keys)


# ------------------------------------------------------------------------------------------------------------------- the publish


def _publish(group: ObservationGroup, rows: pa.Table, generation: int, context: Context) -> str:
    """Make the rows visible in one commit; the caller holds the group's lease. A crash is set right as that of any publish."""
    lake, registry = context.lake, context.registry
    publish_id = context.mint("p", after=(entry.publish_id for entry in registry.ledger(group.name, generation).values()))
    pending = _pending(group, rows, generation, context, publish_id)
    registry.begin_publish(pending)
    facts.keep_publish(lake, pending, fence=registry.fence)
    path, now = layout.feature_table(lake, group.name, generation), context.clock()
    delta_commits.append(path, _in_the_table(group, rows, publish_id, now), commit_id=publish_id, partition=("date",), fence=registry.fence)
    version, _ = logs.commit_of(path, publish_id)
    done = Committed(group.name, generation, publish_id, context.clock(), version, pending.empty)
    facts.keep_commit(lake, done, fence=registry.fence)
    registry.finish_publish(publish_id, committed_at=done.committed_at, delta_version=version)
    return publish_id


def _pending(group: ObservationGroup, rows: pa.Table, generation: int, context: Context, publish_id: str) -> PendingPublish:
    """What is remembered of it: an entry and a publish for each interval of which it has rows."""
    before, now = context.registry.ledger(group.name, generation), context.clock()
    starts, counts = np.unique(readable.starts(group, _micros(rows[_AT])), return_counts=True)
    cadence = int(group.cadence // MICROSECOND)
    spans = [Interval(instant(int(start)), instant(int(start) + cadence)) for start in starts]
    features, gate = fingerprint.columns(group), fingerprint.gate(group)
    entries = tuple(
        LedgerEntry(
            group.name, generation, span, "PUBLISHED", publish_id, features, gate, revision=0,
            rows=int(count) + (before[span].rows if span in before else 0), delta_version=None, failed=(), warned=(), run_id=publish_id,
            seconds=0.0, recorded_at=now,
        )
        for span, count in zip(spans, counts, strict=True)
    )  # fmt: skip
    publishes = tuple(Publish(publish_id, group.name, generation, span, now, "OBSERVED") for span in spans)
    empty = reading.empty_text(reading.empty_values(group, column_types_of(group).outputs, kept=None))
    return PendingPublish(publish_id, group.name, generation, features, entries, publishes, commits=True, empty=empty)


def _in_the_table(group: ObservationGroup, rows: pa.Table, publish_id: str, now: datetime) -> pa.Table:
    """The rows in the columns of the group's table."""
    count, types = len(rows), column_types_of(group).outputs
    own = {
        _AT: rows[_AT],
        "created_timestamp": pa.array([now] * count, _UTC),
        "publish_id": pa.array([publish_id] * count, pa.string()),
        "empties_at": pa.nulls(count, _UTC),
        "held": pa.array([False] * count),
    }
    keys = {key: rows[key] for key in group.entity.keys}
    values = {name: rows[name].cast(arrow_type(types[name])) for name in group.columns}
    date = rows[_AT].cast(pa.timestamp("us")).cast(pa.date32())
    return pa.table({**keys, **own, **values, "date": date})


def _micros(column: pa.ChunkedArray) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    found: np.ndarray[tuple[int], np.dtype[np.int64]] = column.cast(pa.int64()).to_numpy()
    return found
