"""What the log of a Delta table says of its files, and of files that come to it: rows, bytes, dates and bounds; no row is read."""

import json
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, RemoveAction

from feature_definitions.intervals import DAY, Interval, floor, merge
from lake import delta, split, storage

if TYPE_CHECKING:
    import pyarrow.parquet as pq


_AT_ONCE = 32
"""How many files are looked at side by side."""

_FOOTER = 1 << 16
"""So many bytes of a file's end are read at first: almost every footer is shorter."""


def footprint(path: str, *, partition: str, dates: Collection[date]) -> tuple[int, int]:
    """The number and the bytes of the files in these dates' partitions, by the log alone; nothing for a table that is not there."""
    return footprint_of(delta.told(path), partition=partition, dates=dates)


def footprint_of(table: DeltaTable | None, *, partition: str, dates: Collection[date]) -> tuple[int, int]:
    """What `footprint` tells, of a table that is open already."""
    if table is None:
        return 0, 0
    actions = table.get_add_actions(flatten=True)
    sizes, name = actions.column("size_bytes").to_pylist(), f"partition.{partition}"
    days = actions.column(name).to_pylist() if name in actions.schema.names else [None] * len(sizes)
    read = [size for day, size in zip(days, sizes, strict=True) if day in dates or day is None]
    return len(read), sum(read)


Wanted = Callable[[date], bool]
"""Which dates are asked for."""


def rows_in(path: str, *, first: date | None, last: date | None) -> int:
    """The number of rows in a table's partitions of `date` from one to another (None: without a bound), by the log alone.

    A table without these partitions is read whole, and one that is not there not at all.
    """
    table = delta.told(path)
    return 0 if table is None else rows_of(table, first=first, last=last)


def bytes_in(path: str, *, wanted: Wanted) -> int:
    """The bytes of the files of the dates that are wanted, by the log alone; none of a table that is not there."""
    table = delta.told(path)
    return 0 if table is None else sum(sizes(table, at=path, wanted=wanted).values())


def rows_of(table: DeltaTable, *, first: date | None, last: date | None) -> int:
    """What `rows_in` tells, of a table that is open already."""
    low, high = first or date.min, last or date.max
    return _rows_where(table, lambda day: low <= day <= high)


def rows_on(path: str, days: Collection[date] | None) -> int:
    """The number of rows in a table's partitions of some days, or of all, by the log alone; none of a table that is not there."""
    table = delta.told(path)
    return 0 if table is None else _rows_where(table, lambda day: days is None or day in days)


def _rows_where(table: DeltaTable, wanted: Callable[[date], bool]) -> int:
    """The number of rows of the dates that are wanted; all rows of a table that has no dates."""
    actions = table.get_add_actions(flatten=True)
    rows, name = actions.column("num_records").to_pylist(), "partition.date"
    days = actions.column(name).to_pylist() if name in actions.schema.names else [None] * len(rows)
    return sum(number or 0 for day, number in zip(days, rows, strict=True) if day is None or wanted(day))


def files_of(path: str, *, version: int | None, time: str | None, dates: Collection[date]) -> tuple[int, int]:
    """The number and the bytes of a version's files, where a time column is named of those that may hold times of these dates."""
    actions = delta.opened(path, version=version).get_add_actions(flatten=True)
    sizes = actions.column("size_bytes").to_pylist()
    none = [None] * len(sizes)
    lows, highs = (actions.column(n).to_pylist() if n in actions.schema.names else none for n in (f"min.{time}", f"max.{time}"))
    spans = zip(sizes, lows, highs, strict=True)
    read = [size for size, low, high in spans if not _are_times(low, high) or any(low.date() <= day <= high.date() for day in dates)]
    return len(read), sum(read)


def _are_times(low: object, high: object) -> bool:
    """Whether a file says of its times from when to when they are."""
    return isinstance(low, datetime) and isinstance(high, datetime)


def times_changed(path: str, *, since: int | None, version: int | None, time: str) -> tuple[Interval, ...] | None:
    """The whole UTC dates in which the times lie of the files that one of two versions has and the other lacks, by the log alone.

    None if it does not tell: where rows are deleted without writing files anew, or a file says nothing of its times.
    """
    both = [delta.opened(path, version=each) for each in (since, version)]
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


_WHOLE = 32
"""Strings up to this length are whole in statistics."""


def readable(path: str, version: int) -> bool:
    """Whether a version of a Delta table can still be read: its log and the files that the newest version lacks are there."""
    try:
        newest, then = delta.opened(path), delta.opened(path, version=version)
    except DeltaError:
        return False
    gone = [] if newest.version() == version else [storage.joined(path, file) for file in _paths(then) - _paths(newest)]
    if len(gone) <= _FEW:
        return all(map(storage.exists, gone))
    return {file.path for file in storage.files(path)}.issuperset(gone)


_FEW = 20
"""So many files are asked for one by one; to list a table's folder takes a request for each 1,000."""


def _paths(table: DeltaTable) -> set[str]:
    """The paths of a table's data files below its own, as they are called there: the log encodes them once more."""
    return {unquote(path) for path in table.get_add_actions(flatten=True).column("path").to_pylist()}


def in_partitions(table: DeltaTable, values: Collection[str] | None) -> list[RemoveAction]:
    """The removal of each file of these partitions, of a table that has at most one partition column; None: of all files."""
    import pyarrow as pa

    partition, now = table.metadata().partition_columns, int(time.time() * 1000)
    names = ["path", "size_bytes", *(f"partition.{column}" for column in partition)]
    files = pa.table(table.get_add_actions(flatten=True)).select(names).to_pylist() if table.file_uris() else []
    found = [(file, {column: _text(file[f"partition.{column}"]) for column in partition}) for file in files]
    mine = [(file, at) for file, at in found if values is None or (at and set(at.values()) <= set(values))]
    return [RemoveAction(file["path"], True, now, file["size_bytes"], {**at}) for file, at in mine]


def _text(value: object) -> str | None:
    """A partition's value as a log spells it."""
    return None if value is None else str(value)


def added(
    path: str, run: str, *, copy: str | None = None, known: Mapping[str, split.FileSummary] = MappingProxyType({})
) -> tuple[list[AddAction], int]:
    """The files that a run wrote in its folder below a table's, as the table's log will name them, and how many rows they hold.

    `copy` is a local folder that holds the same files: they are looked at there. What those hold that are `known`, by their place in the
    folder, is not read again.
    """
    actions, rows, written = [], 0, storage.files(copy or run, suffix=".parquet")
    places = [storage.relative(file.path, to=copy or run) for file in written]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        looked = threads.map(_statistics, (file for file, place in zip(written, places, strict=True) if place not in known))
    for file, place in zip(written, places, strict=True):
        statistics = _summed_up(known[place]) if place in known else next(looked)
        rows += statistics["numRecords"]
        named_by = (part.split("=", 1) for part in place.split("/")[:-1])
        at = {column: None if value == split.NULL else value for column, value in named_by}
        moment = int(file.written_at.timestamp() * 1000)
        if statistics["numRecords"]:
            named = f"{storage.relative(run, to=path)}/{place}"
            actions.append(AddAction(named, file.size, at, moment, True, json.dumps(statistics)))
    return actions, rows


def _summed_up(file: split.FileSummary) -> dict[str, Any]:
    """What `_statistics` finds in a file of which it is known what it holds."""
    spelt = {name: (_bound(least), _bound(greatest)) for name, (least, greatest) in file.bounds.items()}
    whole = {name: bounds for name, bounds in spelt.items() if None not in bounds}
    least, greatest = ({name: bounds[at] for name, bounds in whole.items()} for at in (0, 1))
    return {"numRecords": file.rows, "minValues": least, "maxValues": greatest, "nullCount": dict(file.nulls)}


def _statistics(file: storage.File) -> dict[str, Any]:
    """How many rows and nulls a Parquet file has, and its least and greatest values, where their types let readers skip files by them."""
    found = _footer(file)
    groups = [found.row_group(number) for number in range(found.num_row_groups)]
    least, greatest, nulls = {}, {}, {}
    for number, name in enumerate(found.schema.names):
        chunks = [group.column(number).statistics for group in groups]
        if found.schema.column(number).path != name or any(chunk is None or not chunk.has_null_count for chunk in chunks):
            continue
        nulls[name] = sum(chunk.null_count for chunk in chunks)
        known = [chunk for chunk in chunks if chunk.num_values]
        bounds = [_bound(chunk.min) for chunk in known if chunk.has_min_max], [_bound(chunk.max) for chunk in known if chunk.has_min_max]
        if known and len(bounds[0]) == len(known) and None not in (*bounds[0], *bounds[1]):
            least[name], greatest[name] = min(bounds[0]), max(bounds[1])
    return {"numRecords": found.num_rows, "minValues": least, "maxValues": greatest, "nullCount": nulls}


def _footer(file: storage.File) -> "pq.FileMetaData":
    """What a Parquet file says of itself, which stands at its end: one request, two where that is very long."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    end = storage.end(file.path, of=file.size, length=_FOOTER)
    length = int.from_bytes(end[-8:-4], "little") + 8
    if length > len(end):
        end = storage.end(file.path, of=file.size, length=length)
    return pq.read_metadata(pa.BufferReader(end))


def _bound(value: object) -> Any:
    """A value as statistics spell it, in the same order; None where it would have to be cut, or may hide NaN."""
    match value:
        case bool() | float():
            return None
        case datetime(tzinfo=None):
            return None
        case datetime():
            return f"{value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
        case date():
            return value.isoformat()
        case int():
            return value
        case str() if len(value) <= _WHOLE:
            return value
    return None


def files(table: DeltaTable) -> list[str]:
    """The paths of a table's data files."""
    return [unquote(uri) for uri in table.file_uris()]


def sizes(table: DeltaTable, *, at: str, wanted: Wanted | None = None) -> dict[str, int]:
    """The bytes of each data file of a table that lies `at` a path, by their paths, as its log tells.

    Where dates are wanted, files of others are left out, if the table is partitioned by a date.
    """
    import pyarrow as pa

    actions, partition = pa.table(table.get_add_actions(flatten=True)), table.metadata().partition_columns
    names, sizes = actions.column("path").to_pylist(), actions.column("size_bytes").to_pylist()
    days = actions.column(f"partition.{partition[0]}").to_pylist() if len(partition) == 1 and names else [None] * len(names)
    found = zip(names, sizes, days, strict=True)
    return {f"{at}/{unquote(path)}": size for path, size, day in found if not (wanted and isinstance(day, date)) or wanted(day)}
