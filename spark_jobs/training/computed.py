"""Computes features on demand for a training set, by the very function that serving calls, in Spark's workers.

A worker imports the catalog's files itself and takes the function by the feature's name, so that no function travels.
"""

import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import cast

import pyarrow as pa
from pyspark.sql import types as T

from feature_definitions import on_demand
from feature_definitions.errors import UserError
from feature_definitions.language import FeatureService, OnDemandFeature
from feature_definitions.loader import load
from feature_definitions.on_demand import Values
from feature_definitions.planning import fingerprint
from feature_definitions.sql.column_types import types_of_outputs
from lake.arrow_types import arrow_type
from spark_jobs import tables, workers

FAILED = "_hw_failed_"
"""What stands before a feature's name in the column that says whether its function failed."""

_TRIED_ALONE = 16
"""How many rows of each batch are computed a second time, alone."""


class FunctionRefused(UserError):
    """A function of an on-demand feature that cannot be called in a worker, or that looks at other rows than its own."""


def with_features(rows: workers.Flow, service: FeatureService, catalog: Path) -> workers.Flow:
    """The rows with a column for each of the service's on-demand features, and one that says whether its function failed.

    `rows` have the outputs of the service's joins, with defaults, and the fields of requests. Raises FunctionRefused in a worker.
    """
    if not service.on_demand:
        return rows
    types = shown(service)
    asked = [(feature.name, fingerprint.on_demand(feature), feature.typed_inputs(types)) for feature in service.on_demand]
    added = {feature.name: feature.type for feature in service.on_demand}
    added |= {f"{FAILED}{feature.name}": "boolean" for feature in service.on_demand}
    more = cast(T.StructType, T.StructType.fromDDL(tables.columns_sql(added)))
    columns = T.StructType([*rows.schema.fields, *more.fields])
    path, folder = [*sys.path], str(catalog)

    def computed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sys.path[:] = path
        features = [(_named(folder, name, wanted), inputs) for name, wanted, inputs in asked]
        for batch in batches:
            yield _extended(batch, features)

    return rows.then(computed, columns)


def shown(service: FeatureService) -> dict[str, str]:
    """The types of the columns that a service's joins give, as readers see them."""
    return {output: kind for join in service.joins for output, kind in types_of_outputs(join).items()}


@lru_cache(maxsize=64)
def _named(folder: str, name: str, wanted: str) -> OnDemandFeature:
    """The feature of a name in the catalog; raises FunctionRefused if it is another one than was asked for."""
    found = load(Path(folder)).on_demand.get(name)
    if found is None or fingerprint.on_demand(found) != wanted:
        raise FunctionRefused(
            f"feature {name} is not in the catalog at {folder} as this training set asks for it: its file was changed meanwhile, or "
            "the worker has other files; run it again, with the catalog in this folder on every machine of the cluster"
        )
    return found


def _extended(batch: pa.RecordBatch, features: Sequence[tuple[OnDemandFeature, Sequence[tuple[str, str]]]]) -> pa.RecordBatch:
    columns, flags = dict(zip(batch.schema.names, batch.columns, strict=True)), {}
    for feature, inputs in features:
        given = [values_of(columns[name], kind) for name, kind in inputs]
        found = on_demand.compute(feature, given, count=batch.num_rows)
        step = max(1, batch.num_rows // _TRIED_ALONE)
        if on_demand.differs_alone(feature, given, found, rows=range(0, batch.num_rows, step)) is not None:
            raise FunctionRefused(
                f"feature {feature.name}: its function gives a row another value when the row comes alone, as it does online; "
                "let each value depend on its own row only, without mean(), sum(), rank() or the like over the rows"
            )
        columns[feature.name] = array_of(found, feature.type)
        flags[f"{FAILED}{feature.name}"] = pa.array(found.failures)
    return pa.RecordBatch.from_pydict({**columns, **flags})


def values_of(column: pa.Array, data_type: str) -> Values:
    """A column of Arrow as functions get it."""
    plain = _PLAIN.get(data_type)
    if plain is None:
        return on_demand.of_python(column.cast(arrow_type(data_type)).to_pylist(), data_type)
    null = column.is_null().to_numpy(zero_copy_only=False)
    filled = column.cast(plain).fill_null(pa.scalar(0, pa.int64()).cast(_WHOLE.get(data_type, pa.int64())).cast(plain))
    return Values(filled.to_numpy(zero_copy_only=False), null)


def array_of(column: Values, data_type: str) -> pa.Array:
    """A column that was computed as Arrow has it."""
    plain = _PLAIN.get(data_type)
    if plain is None:
        return pa.array(on_demand.to_python(column, data_type), arrow_type(data_type))
    whole = _WHOLE.get(data_type)
    values = column.values if whole is None else column.values.astype("int64").astype(whole.to_pandas_dtype())
    return pa.array(values, mask=column.null).cast(plain)


_PLAIN = {kind: arrow_type(kind) for kind in ("int64", "double", "boolean", "date", "timestamp")}
"""Types that numpy and Arrow hold alike."""
_WHOLE = {"date": pa.int32(), "timestamp": pa.int64()}
"""The numbers that dates (days) and instants (microseconds) are in both."""
