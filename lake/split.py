"""Parts few rows by their dates: a file for each, at a fraction of what a file costs Spark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

AT_ONCE = 4_000_000
"""Up to how many values are parted at once, in memory."""
NULL = "__HIVE_DEFAULT_PARTITION__"
"""How the folder of a partition is called whose value is null."""


def by_date(folder: str, into: str, *, date: str, order: Sequence[str] = ()) -> None:
    """Write the rows of a folder's Parquet files as `into/<date>=<its value>/`, a file each, without that column.

    Rows of a date come by `order`, else as they were.
    """
    import pyarrow.parquet as pq

    parted(pq.read_table(folder).replace_schema_metadata(None), into, date=date, order=order, name="part-0.parquet")


def parted(rows: pa.Table, into: str, *, date: str, order: Sequence[str] = (), name: str) -> dict[str, int]:
    """Write rows as `into/<date>=<its value>/<name>`, without that column, each date's by `order`; gives how many each file holds.

    Others may write files of other names there at the same time.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    rows = rows.take(pc.sort_indices(rows, sort_keys=[(column, "ascending") for column in (date, *order)]))
    runs = pc.run_end_encode(rows[date].combine_chunks()) if rows.num_rows else None
    values, first, written = rows.drop_columns([date]).combine_chunks(), 0, {}
    bounded = [each for each in values.column_names if not _has_nan(values[each])]
    for day, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True) if runs is not None else ():
        place = Path(into) / f"{date}={NULL if day is None else day.isoformat()}"
        place.mkdir(parents=True, exist_ok=True)
        pq.write_table(values.slice(first, end - first), place / name, write_statistics=bounded)
        written[f"{place.name}/{name}"] = end - first
        first = end
    return written


def _has_nan(column: pa.ChunkedArray) -> bool:
    """Whether NaN is in a column: Arrow's least and greatest values pass over it, which Spark takes for the greatest, and would skip."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pa.types.is_floating(column.type) and pc.any(pc.is_nan(column)).as_py() is True
