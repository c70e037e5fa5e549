"""Which dates of a table may hold rows that are looked for, by the statistics of its log: no file is opened to find that it has none."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from deltalake import DeltaTable

if TYPE_CHECKING:
    import pyarrow as pa

Range = Mapping[str, tuple[object, object]]
"""The least and the greatest value of some columns: a row lies in it if each of its values does."""

_COARSE = timedelta(milliseconds=1)
"""Delta's own writer cuts off what is less of the greatest time of a file."""


def dates(table: DeltaTable, partition: str, ranges: Sequence[Range]) -> frozenset[date]:
    """The dates, by which the table is partitioned, whose files may hold a row in one of some ranges.

    A file that does not say of a column between which values it lies may hold any, and nulls lie in no range.
    """
    import pyarrow as pa

    actions = pa.table(table.get_add_actions(flatten=True))
    if not ranges or not actions.num_rows:
        return frozenset()
    days = actions.column(f"partition.{partition}").to_pylist()
    told = {name: list(_told(actions, name)) for name in {name for each in ranges for name in each}}
    return frozenset(
        day for number, day in enumerate(days) if any(_may_hold(each, {name: told[name][number] for name in each}) for each in ranges)
    )


def _told(actions: "pa.Table", name: str) -> Iterable[tuple[object, object]]:
    """Between which values a column lies in each file; None where nothing is told."""
    none, known = [None] * actions.num_rows, actions.schema.names
    lows, highs = (actions.column(end).to_pylist() if end in known else none for end in (f"min.{name}", f"max.{name}"))
    return zip(lows, highs, strict=True)


def _may_hold(wanted: Range, told: Range) -> bool:
    return all(_overlap(wanted[name], told[name]) for name in wanted)


def _overlap(wanted: tuple[object, object], told: tuple[object, object]) -> bool:
    """Whether two spans of values have one in common, as far as it is known."""
    (first, last), (low, high) = wanted, told
    if low is None or high is None or type(low) is not type(first) or type(high) is not type(last):
        return True
    if isinstance(high, datetime):
        high += _COARSE
    return bool(low <= last and high >= first)  # type: ignore[operator]  # both are of one type, which has an order
