"""Looks into Delta tables for commands that answer at once: without Spark, and without pyarrow, which would load pandas."""

from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from deltalake import DeltaTable, QueryBuilder

from feature_definitions.intervals import DAY, Interval, floor, merge


def rows(path: str, conditions: Sequence[str], *, version: int | None = None) -> list[dict[str, Any]]:
    """The rows of a Delta table (in its newest version) for which all SQL conditions hold; none of a table that is not there."""
    if not _exists(path):
        return []
    table = DeltaTable(path, version=version)
    found = QueryBuilder().register("t", table).execute(f"SELECT * FROM t WHERE {' AND '.join(conditions)}").read_all()
    columns = [found.column(name).to_pylist() for name in found.column_names]
    return [dict(zip(found.column_names, values, strict=True)) for values in zip(*columns, strict=True)]


def distinct(path: str, columns: Sequence[str], conditions: Sequence[str]) -> list[tuple[Any, ...]]:
    """What a Delta table's rows, where all SQL conditions hold, have in these columns, each once; nothing without a table."""
    if not _exists(path):
        return []
    sql = f"SELECT DISTINCT {', '.join(columns)} FROM t WHERE {' AND '.join(conditions)}"
    found = QueryBuilder().register("t", DeltaTable(path)).execute(sql).read_all()
    return list(zip(*[found.column(name).to_pylist() for name in found.column_names], strict=True))


def holds(path: str, condition: str) -> bool:
    """Whether a Delta table has a row for which an SQL condition holds; a table that is not there has none."""
    found = QueryBuilder().register("t", DeltaTable(path)).execute(f"SELECT 1 FROM t WHERE {condition} LIMIT 1") if _exists(path) else None
    return found is not None and found.read_all().num_rows > 0


def literal(value: object) -> str:
    """A text, number, truth value or date in SQL."""
    if isinstance(value, bool | int):
        return str(value)
    text = str(value).replace("'", "''")
    return f"DATE '{text}'" if isinstance(value, date) else f"'{text}'"


def footprint(path: str, *, partition: str, dates: Collection[date]) -> tuple[int, int]:
    """The number and the bytes of the files in these dates' partitions, by the log alone; nothing for a table that is not there."""
    if not _exists(path):
        return 0, 0
    actions = DeltaTable(path).get_add_actions(flatten=True)
    sizes, name = actions.column("size_bytes").to_pylist(), f"partition.{partition}"
    days = actions.column(name).to_pylist() if name in actions.schema.names else [None] * len(sizes)
    read = [size for day, size in zip(days, sizes, strict=True) if day in dates or day is None]
    return len(read), sum(read)


def files_of(path: str, *, version: int | None, time: str | None, dates: Collection[date]) -> tuple[int, int]:
    """The number and the bytes of a version's files, where a time column is named of those that may hold times of these dates."""
    actions = DeltaTable(path, version=version).get_add_actions(flatten=True)
    sizes = actions.column("size_bytes").to_pylist()
    none = [None] * len(sizes)
    lows, highs = (actions.column(n).to_pylist() if n in actions.schema.names else none for n in (f"min.{time}", f"max.{time}"))
    spans = zip(sizes, lows, highs, strict=True)
    read = [size for size, low, high in spans if low is None or high is None or any(low.date() <= day <= high.date() for day in dates)]
    return len(read), sum(read)


def times_changed(path: str, *, since: int | None, version: int | None, time: str) -> tuple[Interval, ...] | None:
    """The whole UTC dates in which the times lie of the files that one of two versions has and the other lacks, by the log alone.

    None if it does not tell: where rows are deleted without writing files anew, or a file says nothing of its times.
    """
    both = [DeltaTable(path, version=each) for each in (since, version)]
    if any("deletionVectors" in (table.protocol().reader_features or ()) for table in both):
        return None
    then, now = (_spans(table, time) for table in both)
    spans = [span for here, there in ((then, now), (now, then)) for name, span in here.items() if name not in there]
    return None if None in spans else merge(span for span in spans if span is not None)


def _spans(table: DeltaTable, time: str) -> dict[str, Interval | None]:
    """The dates that each file's times span."""
    actions = table.get_add_actions(flatten=True)
    names = (f"min.{time}", f"max.{time}")
    if not set(names) <= set(actions.schema.names):
        return dict.fromkeys(actions.column("path").to_pylist())
    found = zip(actions.column("path").to_pylist(), *(actions.column(name).to_pylist() for name in names), strict=True)
    return {path: _days(low, high) for path, low, high in found}


def _days(low: Any, high: Any) -> Interval | None:
    if not isinstance(low, datetime) or not isinstance(high, datetime) or low.tzinfo is None or high.tzinfo is None:
        return None
    return Interval(floor(low.astimezone(UTC), DAY), floor(high.astimezone(UTC), DAY) + DAY)


def table_id(path: str) -> str | None:
    """The id that a Delta table was given when it was made; None if there is no table."""
    return str(DeltaTable(path).metadata().id) if _exists(path) else None


def _exists(path: str) -> bool:
    return Path(path, "_delta_log").is_dir() and DeltaTable.is_deltatable(path)
