"""How many files and bytes a table's dates take, by its log alone: no Spark, and no file is opened."""

from collections.abc import Collection
from datetime import date
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable


def footprint(path: str, *, partition: str, dates: Collection[date]) -> tuple[int, int]:
    """The number and the bytes of the files in these dates' partitions; nothing for a table that is not there."""
    if not Path(path, "_delta_log").is_dir() or not DeltaTable.is_deltatable(path):
        return 0, 0
    actions = pa.table(DeltaTable(path).get_add_actions(flatten=True))
    name = f"partition.{partition}"
    days = actions.column(name).to_pylist() if name in actions.column_names else [None] * len(actions)
    sizes = [size for day, size in zip(days, actions.column("size_bytes").to_pylist(), strict=True) if day in dates or day is None]
    return len(sizes), sum(sizes)
