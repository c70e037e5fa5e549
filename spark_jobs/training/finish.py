"""What workers make of rows that are joined: defaults stand for null, and each row gets the columns that every training set has."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql.types import DateType, LongType, StringType, StructField, StructType

from feature_definitions import layout
from feature_definitions.language import FeatureService
from feature_definitions.reading import CASES, FAILED, PRESENT, default
from spark_jobs import workers
from spark_jobs.training import computed, order
from spark_jobs.training.join import CASE

DatedBy = Literal["day", "month"]
_MICROS_OF_A_DAY = 86_400_000_000

_Columns = Mapping[str, pa.Array]


def with_defaults(rows: workers.Flow, service: FeatureService) -> workers.Flow:
    """The rows with the service's defaults in place of null."""
    if not service.defaults:
        return rows
    types = computed.shown(service)
    stands = {name: default(value, types[name]) for name, value in service.defaults.items()}

    def added(columns: _Columns) -> _Columns:
        return {name: _filled(columns[name], value) for name, value in stands.items()}

    return rows.then(_with(added), rows.schema)


def with_own_columns(rows: workers.Flow, service: FeatureService, *, at: str, dated_by: DatedBy, statuses: bool) -> workers.Flow:
    """The rows with their statuses, if asked, their places and their dates; `at` is the column of their times."""
    told = _told(service) if statuses else {}

    def added(columns: _Columns) -> _Columns:
        said = {name: pa.array(words).take(columns[by].cast(pa.int8())) for name, (by, words) in told.items()}
        return {**said, layout.ROW_NUMBER: columns[order.NUMBER], layout.ROW_DATE: dates(columns[at], by=dated_by)}

    fields = [StructField(name, StringType()) for name in told]
    own = [StructField(layout.ROW_NUMBER, LongType()), StructField(layout.ROW_DATE, DateType())]
    return rows.then(_with(added), StructType([*rows.schema.fields, *fields, *own]))


def _told(service: FeatureService) -> dict[str, tuple[str, tuple[str, ...]]]:
    """By which column each status is decided, and what its numbers say: of each join, and of each feature computed on demand."""
    cases, failed = tuple(str(case.status) for case in CASES), (str(PRESENT), str(FAILED))
    found = {layout.status_column(each.name): (f"{CASE}{each.name}", cases) for each in service.joins}
    return found | {layout.status_column(each.name): (f"{computed.FAILED}{each.name}", failed) for each in service.on_demand}


def dates(times: pa.Array, *, by: DatedBy) -> pa.Array:
    """The UTC dates of times, or the first days of their months."""
    days = pc.cast(times, pa.int64()).to_numpy(zero_copy_only=False) // _MICROS_OF_A_DAY
    if by == "month":
        days = days.astype("datetime64[D]").astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    return pa.array(days.astype(np.int32)).cast(pa.date32())


def unmarked_before(first: date, rows: workers.Flow, marks: Sequence[str], *, at: str) -> workers.Flow:
    """The rows with null in some columns where their time lies before a UTC date; `at` is the column of their times."""
    begins = (first - date(1970, 1, 1)).days * _MICROS_OF_A_DAY

    def added(columns: _Columns) -> _Columns:
        later = pc.greater_equal(pc.cast(columns[at], pa.int64()), begins)
        return {name: pc.if_else(later, columns[name], None) for name in marks}

    return rows.then(_with(added), rows.schema)


def _filled(column: pa.Array, value: object) -> pa.Array:
    held = list(value) if isinstance(value, tuple) else value
    return pc.if_else(column.is_null(), pa.array([held], column.type)[0], column)


def _with(added: Callable[[_Columns], _Columns]) -> workers.Work:
    """Work that adds columns to each batch, or replaces them."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            yield pa.RecordBatch.from_pydict({**columns, **added(columns)})

    return run
