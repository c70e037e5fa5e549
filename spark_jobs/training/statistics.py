"""What the rows of a training set hold, from one pass over them in Spark's workers: their values, how they were found, and a sample.

A task makes a summary of each column, and one more stage merges those of all tasks: the driver gets one row per column.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import types as T

from feature_definitions.intervals import instant, iso
from feature_definitions.reading import CASES, PRESENT
from feature_definitions.sql.data_types import is_array
from lake.arrow_types import arrow_type
from spark_jobs import tables, workers
from spark_jobs.training import checksum, order, summaries
from spark_jobs.training.summaries import QUANTILES, Summary

SAMPLE_ROWS, SEED = 256, 0
"""How many rows are looked at again, and by which hash of their places they are chosen: those with the smallest."""
_PLACE, _SUM = "_hw_place", "sum"
_AT_ONCE = 262_144
"""So many rows of a task are held at once."""
_MERGED_AT_ONCE = 32
"""So many summaries: each time that some are merged, ranks lose up to a thousandth."""
_COLUMNS = {
    "name": "string",
    "value": "string",
    **dict.fromkeys(("rows", "nulls", "not_finite"), "int64"),
    **dict.fromkeys(("mean", "norm"), "double"),
    "whole": "boolean",
    **dict.fromkeys(("points", "weights", "hashes"), "array<int64>"),
    "sample": "binary",
}
"""What tasks give of their parts: a column's summary, how many rows have a value, or the sample's rows, as Arrow writes them."""
FILES = "_hw_files"
"""Under this name tasks count the rows of the files that they wrote, as if these were values of a column."""


def schema() -> T.StructType:
    """The columns of what tasks give, as Spark has them."""
    return cast(T.StructType, T.StructType.fromDDL(tables.columns_sql(_COLUMNS)))


CHECKSUMS = "_hw_checksums"
"""Under this name tasks give the checksums of columns, as if these were counts of values that are the columns' names."""


class ColumnsLookedAt(NamedTuple):
    """What is looked at: columns whose values are summed up, those of few values that are counted, and those of which a sample is kept.

    `checked` are those that get a checksum.
    """

    summed: tuple[str, ...]
    counted: tuple[str, ...]
    sampled: tuple[str, ...]
    checked: tuple[str, ...] = ()


class Places(NamedTuple):
    """The places of rows: their sum, the first and the last."""

    sum: int
    first: int | None
    last: int | None


@dataclass(frozen=True, slots=True)
class Statistics:
    """What was found: the rows, their places, summaries, how many rows have each counted value, and the sample (None without rows)."""

    rows: int
    places: Places
    columns: Mapping[str, Summary]
    counts: Mapping[str, Mapping[str, int]]
    sample: pa.Table | None

    def nulls(self, column: str) -> int:
        """How many rows have no value in a column that is summed up."""
        return self.columns[column].nulls if column in self.columns else 0

    def count(self, column: str, value: object) -> int:
        """How many rows have a value in a column that is counted."""
        return self.counts[column].get(str(value), 0)

    @property
    def checksums(self) -> Mapping[str, int]:
        """The checksum of each column that gets one."""
        return self.counts[CHECKSUMS]


def of_rows(rows: DataFrame, look: ColumnsLookedAt) -> Statistics:
    """The statistics of a training set's rows, which have places."""
    names = dict.fromkeys((order.NUMBER, *look.summed, *look.counted, *look.sampled, *look.checked))
    return of_parts(workers.Flow.of(rows.select(*[f"`{name}`" for name in names])).then(_looking_at_batches(look), schema()), look)


def of_parts(parts: workers.Flow, look: ColumnsLookedAt) -> Statistics:
    """The statistics of all rows by what each task found of its own (`Parts`)."""
    spread = max(1, (len(look.summed) + len(look.counted)) // 64)
    whole = parts.frame.repartition(spread, "name").mapInArrow(workers.carrying(_merging), schema())
    return _found(whole.toArrow().to_pylist(), look)


def _found(merged: Iterable[Mapping[str, Any]], look: ColumnsLookedAt) -> Statistics:
    columns: dict[str, Summary] = {}
    counts: dict[str, dict[str, int]] = {name: {} for name in (*look.counted, order.NUMBER, FILES)}
    counts[CHECKSUMS] = dict.fromkeys(look.checked, 0)
    sample, rows = None, 0
    for row in merged:
        if row["sample"] is not None:
            rows, sample = row["rows"], _read(row["sample"])
        elif row["whole"] is None:
            counts[row["name"]][row["value"]] = row["rows"]
        else:
            columns[row["name"]] = _summary(row)
    places = columns.get(order.NUMBER, summaries.NOTHING)
    first, last = (int(places.points[0]), int(places.points[-1])) if places.finite else (None, None)
    return Statistics(rows, Places(counts[order.NUMBER].get(_SUM, 0), first, last), columns, counts, sample)


def of_flow(rows: workers.Flow, look: ColumnsLookedAt) -> Statistics:
    """The statistics of rows that have places, as workers make them."""
    return of_parts(rows.then(_looking_at_batches(look), schema()), look)


def checksums(rows: workers.Flow, columns: Sequence[str]) -> Mapping[str, int]:
    """The checksums of columns of rows that have places."""
    return of_flow(rows, ColumnsLookedAt((), (), (), tuple(columns))).checksums


# ------------------------------------------------------------------------------------------------------------------- in the workers


def _looking_at_batches(look: ColumnsLookedAt) -> workers.Work:
    """What a task does with its rows."""
    looking = _looking(look)
    return lambda batches: looking(pa.RecordBatch.from_arrays([*b.columns, _hashes(b)], [*b.schema.names, _PLACE]) for b in batches)


def _looking(look: ColumnsLookedAt) -> workers.Work:
    """What a task does with its rows, whose places have hashes."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        found = Parts()
        for table in workers.gathered(batches, size=len, enough=_AT_ONCE):
            found.look(table, look)
        yield from found.batches()

    return run


def with_hashes(table: pa.Table) -> pa.Table:
    """Rows with the hashes of their places, by which a sample of them is chosen."""
    return table.append_column(_PLACE, _hashes(table))


def _hashes(rows: pa.Table | pa.RecordBatch) -> pa.Array:
    """Of each row the hash of its place."""
    places: summaries.Numbers = (
        rows.column(order.NUMBER).to_numpy(zero_copy_only=False)
        if isinstance(rows, pa.RecordBatch)
        else (rows.column(order.NUMBER).to_numpy())
    )
    return pa.array(summaries.mixed(places.astype(np.int64) + SEED).view(np.int64))


def _merging(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The parts of all tasks as one each."""
    found = Parts()
    for batch in batches:
        for row in batch.to_pylist():
            if row["sample"] is not None:
                found.add_sample(_read(row["sample"]), row["rows"])
            elif row["name"] == CHECKSUMS:
                found.add_checksum(row["value"], row["rows"])
            elif row["whole"] is None:
                found.add_count(row["name"], row["value"], row["rows"])
            else:
                found.add_summary(row["name"], _summary(row))
    yield from found.batches()


class Parts:
    """What a task found so far."""

    def __init__(self) -> None:
        self._summaries: dict[str, list[Summary]] = {}
        self._counts: dict[tuple[str, str], int] = {}
        self._sample: pa.Table | None = None
        self._rows = 0

    def look(self, rows: pa.Table, look: ColumnsLookedAt) -> None:
        """Look at rows whose places have hashes."""
        self.add_count(order.NUMBER, _SUM, pc.sum(rows.column(order.NUMBER)).as_py() or 0)
        for name in (*look.summed, order.NUMBER):
            self.add_summary(name, summaries.of_column(rows.column(name)))
        for name in look.counted:
            for value in pc.value_counts(rows.column(name)).to_pylist():
                self.add_count(name, str(value["values"]), value["counts"])
        for name, total in checksum.of_columns(rows, look.checked, place=order.NUMBER).items():
            self.add_checksum(name, total)
        self.add_sample(rows.select([_PLACE, order.NUMBER, *look.sampled]), rows.num_rows)

    def add_summary(self, name: str, part: Summary) -> None:
        """Add the summary of a part of a column."""
        held = self._summaries.setdefault(name, [])
        held.append(part)
        if len(held) == _MERGED_AT_ONCE:
            held[:] = [summaries.merged(held)]

    def add_count(self, name: str, value: str, rows: int) -> None:
        """Add how many rows have a value."""
        self._counts[name, value] = self._counts.get((name, value), 0) + rows

    def add_checksum(self, name: str, total: int) -> None:
        """Add the checksum of a part of a column."""
        self._counts[CHECKSUMS, name] = checksum.wrapped(self._counts.get((CHECKSUMS, name), 0) + total)

    def add_sample(self, rows: pa.Table, count: int) -> None:
        """Keep the rows that come first by their hash."""
        self._rows += count
        both = rows if self._sample is None else pa.concat_tables([self._sample, rows])
        self._sample = both.take(pc.select_k_unstable(both, SAMPLE_ROWS, [(_PLACE, "ascending")]))

    def batches(self) -> Iterator[pa.RecordBatch]:
        """What was found, as rows of `schema()`."""
        rows = [_row(name=name, **_fields(summaries.merged(held))) for name, held in self._summaries.items()]
        rows += [_row(name=name, value=value, rows=count) for (name, value), count in self._counts.items()]
        if self._sample is not None:
            rows.append(_row(name="", rows=self._rows, sample=_written(self._sample)))
        yield pa.RecordBatch.from_pylist(rows, _ARROW)


def _row(**fields: object) -> dict[str, object]:
    return dict.fromkeys(_COLUMNS) | fields


_ARROW = pa.schema([(name, pa.binary() if kind == "binary" else arrow_type(kind)) for name, kind in _COLUMNS.items()])


def _fields(summary: Summary) -> dict[str, object]:
    """A summary as fields of a row; doubles among the points as their bits."""
    return (
        summary._asdict()
        | {"whole": summary.points.dtype.kind == "i"}
        | {name: getattr(summary, name).view(np.int64) for name in ("points", "weights", "hashes")}
    )


def _summary(row: Mapping[str, Any]) -> Summary:
    points, weights, hashes = (np.array(row[name], np.int64) for name in ("points", "weights", "hashes"))
    points = points if row["whole"] else points.view(np.float64)
    rows, nulls, not_finite, mean, norm = (row[name] for name in Summary._fields[:5])
    return Summary(rows, nulls, not_finite, mean, norm, points, weights, hashes.view(np.uint64))


def _written(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


def _read(written: bytes) -> pa.Table:
    return pa.ipc.open_stream(written).read_all()


# ----------------------------------------------------------------------------------------------------------------- for a manifest


def described(summary: Summary | None, data_type: str) -> dict[str, object]:
    """A feature's values as a manifest says them; times and dates as text, of text and arrays the lengths.

    `count` is without nulls. The mean, the standard deviation, the ends and the quantiles are of finite values.
    """
    summary = summary or summaries.NOTHING
    shown = _SHOWN.get(data_type)
    values: dict[int, object] = {percent: summary.quantile(percent) for percent in (0, *QUANTILES, 100)}
    if shown is not None:
        values = {percent: None if value is None else shown(value) for percent, value in values.items()}
    return {
        "type": data_type,
        "of": "lengths" if data_type == "string" or is_array(data_type) else "values",
        "count": summary.rows - summary.nulls,
        "nulls": summary.nulls,
        "not_finite": summary.not_finite,
        "distinct": summary.distinct,
        "mean": summary.mean if summary.finite and shown is None else None,
        "sd": summary.sd if shown is None else None,
        "min": values[0],
        "max": values[100],
        "quantiles": {str(percent): values[percent] for percent in QUANTILES},
    }


_SHOWN: Mapping[str, Callable[[Any], str]] = {
    "timestamp": lambda micros: iso(instant(micros)),
    "date": lambda days: (date(1970, 1, 1) + timedelta(days=days)).isoformat(),
}


def statuses(found: Statistics, *, case: str, modelled: str) -> dict[str, object]:
    """How many rows a join found in which status, their shares, and the share of values that rests on modelled times."""
    rows = dict.fromkeys((each.status for each in CASES), 0)
    for number, each in enumerate(CASES):
        rows[each.status] += found.count(case, number)
    return of_statuses(rows, modelled=found.count(modelled, True))


def of_statuses(rows: Mapping[Any, int], *, modelled: int) -> dict[str, object]:
    """The rows of each status as a manifest tells of them, of whose values so many rest on modelled times."""
    total = sum(rows.values())
    share = {status: count / total if total else None for status, count in rows.items()}
    return {"rows": dict(rows), "shares": share, "on_modelled_times": _share(modelled, rows[PRESENT])}


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
