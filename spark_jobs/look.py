"""Looks into Delta tables for commands that answer at once: without Spark, and without pyarrow, which would load pandas."""

from collections.abc import Collection, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from deltalake import DeltaTable, QueryBuilder


def rows(path: str, conditions: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a Delta table for which all SQL conditions hold; none of a table that is not there."""
    if not _exists(path):
        return []
    found = QueryBuilder().register("t", DeltaTable(path)).execute(f"SELECT * FROM t WHERE {' AND '.join(conditions)}").read_all()
    columns = [found.column(name).to_pylist() for name in found.column_names]
    return [dict(zip(found.column_names, values, strict=True)) for values in zip(*columns, strict=True)]


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


def table_id(path: str) -> str | None:
    """The id that a Delta table was given when it was made; None if there is no table."""
    return str(DeltaTable(path).metadata().id) if _exists(path) else None


def _exists(path: str) -> bool:
    return Path(path, "_delta_log").is_dir() and DeltaTable.is_deltatable(path)
