"""Finds the versions that a sample asks for with Spark, where a group has very many rows: one job for all joins, and few rows come back."""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lake import readable
from spark_jobs import point_in_time, tables
from spark_jobs.training.sampled import NOTHING, AskedOfSample, FoundVersions, SampledVersion

_ROW, _JOIN, _ASKED = "_hw_sampled", "_hw_join", "_hw_asked"
_VISIBLE, _VERSION, _BEST, _NEWEST = "_hw_seen", "_hw_version", "_hw_best", "_hw_newest"

Slots = Mapping[str, str]


def found(asked: Sequence[AskedOfSample], spark: SparkSession) -> list[list[FoundVersions]]:
    """The versions that each join finds for each row of a sample, in its order."""
    if not asked:
        return []
    slots, kinds = _slots(asked)
    branches = [_pairs(each, spark).select(*_packed(n, slots[n], kinds)) for n, each in enumerate(asked)]
    answers: dict[tuple[int, int], FoundVersions] = {}
    for row in _chosen(reduce(DataFrame.union, branches), asked).toArrow().to_pylist():
        number = row[_JOIN]
        answers[number, row[_ROW]] = FoundVersions(*[_version(row, name, slots[number]) for name in (_BEST, _NEWEST)])
    return [[answers.get((n, row), NOTHING) for row in range(len(each.times))] for n, each in enumerate(asked)]


def _slots(asked: Sequence[AskedOfSample]) -> tuple[list[Slots], dict[str, str]]:
    """Of each join which column holds which of its values, and the types of these: columns that all joins share."""
    kinds: dict[str, str] = {}
    slots: list[Slots] = []
    for each in asked:
        own: dict[str, str] = {}
        types = each.asked.published.types.outputs
        for column in each.asked.join.columns:
            kind = types[column]
            own[column] = f"{kind} {sum(types[other] == kind for other in own)}"
            kinds[own[column]] = kind
        slots.append(own)
    return slots, kinds


def _pairs(each: AskedOfSample, spark: SparkSession) -> DataFrame:
    """Each row of the sample with all versions of its entity, and whether it may see them."""
    published, clock = each.asked.published, each.asked.clock
    rows = point_in_time.versions(published, clock, spark=spark, columns=each.asked.join.columns, dates=each.dates)
    if each.by_event_time:
        known = F.broadcast(point_in_time.known_times(published, spark).drop(point_in_time.MODELLED, point_in_time.ORDER))
        rows = rows.join(known, on=["publish_id", point_in_time.START], how="left")
    wanted = spark.createDataFrame(pa.table({**each.keys, _ROW: range(len(each.times)), _ASKED: each.times}))
    time, known_from = F.col(point_in_time.TIME), F.col(point_in_time.KNOWN)
    there = (time < F.col(_ASKED)) if each.strict else (time <= F.col(_ASKED))
    if not each.by_event_time:
        there = there & (known_from <= F.col(_ASKED))
    pairs = rows.join(F.broadcast(wanted), on=[*each.keys]).withColumn(_VISIBLE, there)
    back = each.back
    if back is None:
        return pairs
    return pairs.where((time > F.col(_ASKED) - F.lit(back)) & (time <= F.col(_ASKED)) | (time > F.lit(each.newest - back)))


def _packed(number: int, slots: Slots, kinds: Mapping[str, str]) -> list[Column]:
    """The columns that the pairs of all joins share; the version as a struct, the greatest of which is the newest."""
    held = {slot: column for column, slot in slots.items()}
    values = [
        F.col(f"`{held[slot]}`").alias(slot) if slot in held else F.lit(None).cast(tables.spark_type(kind)).alias(slot)
        for slot, kind in kinds.items()
    ]
    version = F.struct(
        F.col(point_in_time.TIME).alias("at"),
        F.col(point_in_time.ORDER).alias("order"),
        F.col(point_in_time.RETRACTED).alias("retracted"),
        F.col(point_in_time.KNOWN).alias("known"),
        "held",
        "empties_at",
        *values,
    )
    return [F.lit(number).alias(_JOIN), F.col(_ROW), F.col(_VISIBLE), version.alias(_VERSION)]


def _chosen(pairs: DataFrame, asked: Sequence[AskedOfSample]) -> DataFrame:
    """Of each row and join the newest version that it may see, and the newest of all; a time whose last version is a tombstone has none."""
    best, newest = F.when(F.col(_VISIBLE), F.col(_VERSION)), F.col(_VERSION)
    if any(readable.falls_back(each.asked.published, each.asked.clock) for each in asked):
        times_of = pairs.groupBy(_JOIN, _ROW, F.col(_VERSION)["at"]).agg(F.max(best).alias(_BEST), F.max(newest).alias(_NEWEST))
        best, newest = (F.when(~F.col(name)["retracted"], F.col(name)) for name in (_BEST, _NEWEST))
        pairs = times_of
    both = pairs.groupBy(_JOIN, _ROW).agg(F.max(best).alias(_BEST), F.max(newest).alias(_NEWEST))
    fields = [F.col(name)[field].alias(f"{name} {field}") for name in (_BEST, _NEWEST) for field in both.select(f"{_BEST}.*").columns]
    return both.select(_JOIN, _ROW, *fields)


def _version(row: Mapping[str, Any], name: str, slots: Slots) -> SampledVersion | None:
    """One of the versions in a row; None if there is none."""
    fields = {column.removeprefix(f"{name} "): value for column, value in row.items() if column.startswith(f"{name} ")}
    if fields["at"] is None:
        return None
    fixed = {each: fields[each] for each in ("at", "known", "empties_at", "held", "retracted")}
    return SampledVersion(**fixed, columns={column: fields[slot] for column, slot in slots.items()})
