"""The point-in-time join of a spine with all groups of a service, one exchange for all groups that the same columns of the spine find.

A pass unites the spine and what readers see of its groups, told apart by a tag. Their columns share slots by type, so a row is as wide as
the widest of them. An exchange brings the rows of a key together, and `kernel` decides what each row of the spine sees.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType as Truth
from pyspark.sql.types import ByteType, DataType, DoubleType, StructField, StructType

from feature_definitions import layout, reading, times
from feature_definitions.intervals import MICROSECOND, duration, instant
from feature_definitions.language import Join, WindowedGroup
from feature_definitions.reading import NEVER
from lake import delta
from spark_jobs import point_in_time, tables, workers
from spark_jobs.point_in_time import AsOf, Dates, Published
from spark_jobs.training import kernel
from spark_jobs.training.kernel import Lookup, OutputColumn, TaskWork

MODELLED, CASE = "_hw_modelled_", "_hw_case_"
"""What stands before a join's name in the columns that say if its values rest on a modelled time, and by which case they were decided."""
_PART = "_hw_part"
_TASK_BYTES, _ROW_BYTES, _SLOT_BYTES = 256 * 2**20, 64, 9
"""What a task may hold, and what a row of it needs; longer text comes on top."""


@dataclass(frozen=True, slots=True)
class JoinAsked:
    """One join of a service: the group as it can be read, and how time is."""

    join: Join
    published: Published
    clock: AsOf


class Extent(NamedTuple):
    """From when to when a spine asks, in microseconds, and how many rows it has."""

    first: int
    last: int
    rows: int


@dataclass(frozen=True, slots=True)
class _Family:
    """Joins whose keys are the same columns of the spine, in the same types."""

    keys: tuple[str, ...]
    kinds: tuple[str, ...]
    joins: tuple[JoinAsked, ...]


class _Slots:
    """Columns that others share: one after the other of each type. Says of a column which slot holds it."""

    def __init__(self) -> None:
        self.types: dict[str, DataType] = {}
        self._of_type: dict[str, list[str]] = {}

    def allot(self, fields: Iterable[StructField]) -> dict[str, str]:
        """The slots of a frame's columns; those of another frame may be the same."""
        taken: dict[str, int] = {}
        slots = {}
        for field in fields:
            kind = field.dataType.json()
            number, known = taken.get(kind, 0), self._of_type.setdefault(kind, [])
            if number == len(known):
                known.append(f"_hw_{len(self.types)}")
                self.types[known[number]] = field.dataType
            taken[kind] = number + 1
            slots[field.name] = known[number]
        return slots


def joined(spine: DataFrame, asked: Sequence[JoinAsked], *, at: str, spark: SparkSession, extent: Extent | None = None) -> DataFrame:
    """The spine's rows, each once, and of each join its outputs, whether they rest on a modelled time, and by which case.

    `at` is the spine's timestamp column; null keys give null values, ages are seconds up to the spine's times. With an extent only rows
    are read that can give a value, so that a case may say NOT_FOUND of a row that would be there, but emptied or too old.
    """
    rows = spine
    for family in _families(asked):
        rows = _widened(rows, family, at, spark, extent)
    added = [name for each in asked for name in (*each.join.outputs, f"{MODELLED}{each.join.name}", f"{CASE}{each.join.name}")]
    return rows.select(*[f"`{name}`" for name in (*spine.columns, *added)])


def _families(asked: Sequence[JoinAsked]) -> list[_Family]:
    found: dict[tuple[tuple[str, ...], tuple[str, ...]], list[JoinAsked]] = {}
    for each in asked:
        pairs = sorted(zip(each.join.keys, each.join.group.entity.keys.values(), strict=True))
        keys, kinds = tuple(key for key, _ in pairs), tuple(kind for _, kind in pairs)
        found.setdefault((keys, kinds), []).append(each)
    return [_Family(keys, kinds, tuple(joins)) for (keys, kinds), joins in found.items()]


# -------------------------------------------------------------------------------------------------------------------------- a pass


def _widened(spine: DataFrame, family: _Family, at: str, spark: SparkSession, extent: Extent | None) -> DataFrame:
    slots = _Slots()
    kept = slots.allot(spine.schema)
    branches, lookups = [_spine(spine, family, at, kept)], []
    for number, each in enumerate(family.joins, start=1):
        versions = _versions(each, spark, extent)
        own = slots.allot(field for field in versions.schema if field.name in each.join.columns)
        branches.append(_tagged(versions, number, own))
        lookups.append(_lookup(each, number, own, spark))
    parts = _parts(family, len(slots.types), spark, extent)
    branches = [branch.withColumn(_PART, _part(family, parts)) for branch in branches]
    branches += [
        _replicated(point_in_time.snapshots(each.published, each.clock, spark), -number, family, parts)
        for number, each in enumerate(family.joins, start=1)
        if each.join.group.by_snapshot
    ]
    united = _united(branches).repartitionById(parts, F.col(_PART)).drop(_PART)
    work = TaskWork(tuple(_key(n) for n in range(len(family.keys))), kept, tuple(lookups))
    return united.mapInArrow(workers.carrying(kernel.work_of(work)), _schema(spine, united, lookups))


def _key(number: int) -> str:
    return f"_hw_key{number}"


def _spine(spine: DataFrame, family: _Family, at: str, kept: dict[str, str]) -> DataFrame:
    keys = [
        F.col(f"`{c}`").cast(tables.spark_type(kind)).alias(_key(n))
        for n, (c, kind) in enumerate(zip(family.keys, family.kinds, strict=True))
    ]
    columns = [F.col(f"`{name}`").alias(slot) for name, slot in kept.items()]
    return spine.select(F.lit(0).alias(kernel.TAG), *keys, F.unix_micros(f"`{at}`").alias(kernel.AT), *columns)


def _versions(each: JoinAsked, spark: SparkSession, extent: Extent | None) -> DataFrame:
    """What readers see of a group, with its keys in the family's order."""
    dates = Dates() if extent is None else _dates(each, extent)
    rows = point_in_time.versions(each.published, each.clock, spark=spark, columns=each.join.columns, dates=dates)
    pairs = sorted(zip(each.join.keys, each.join.group.entity.keys.items(), strict=True), key=lambda pair: (pair[0], pair[1][1]))
    keys = [F.col(f"`{key}`").alias(_key(n)) for n, (_, (key, _)) in enumerate(pairs)]
    return rows.select(*keys, *[F.col(f"`{name}`") for name in rows.columns if name not in each.join.group.entity.keys])


def _tagged(versions: DataFrame, number: int, own: dict[str, str]) -> DataFrame:
    flags = [(point_in_time.RETRACTED, kernel.RETRACTED), ("held", kernel.HELD), (point_in_time.MODELLED, kernel.MODELLED)]
    order = F.col(point_in_time.ORDER) * 8
    for name, bit in flags:
        order = order + F.when(F.col(name), bit).otherwise(0)
    keys = [name for name in versions.columns if name.startswith(_key(0)[:-1])]
    return versions.select(
        F.lit(number).alias(kernel.TAG),
        *keys,
        F.col(point_in_time.VISIBLE).alias(kernel.AT),
        F.col(point_in_time.TIME).alias(kernel.TIME),
        order.alias(kernel.ORDER),
        F.col("empties_at").alias(kernel.EMPTIES),
        *[F.col(f"`{name}`").alias(slot) for name, slot in own.items()],
    )


def _replicated(snapshots: DataFrame, tag: int, family: _Family, parts: int) -> DataFrame:
    """The times of snapshots, once for each task."""
    keys = [F.lit(None).cast(tables.spark_type(kind)).alias(_key(n)) for n, kind in enumerate(family.kinds)]
    return snapshots.select(
        F.lit(tag).alias(kernel.TAG),
        *keys,
        F.col("seen").alias(kernel.AT),
        F.col("at").alias(kernel.TIME),
        F.col("until").alias(kernel.EMPTIES),
        F.explode(F.sequence(F.lit(0), F.lit(parts - 1))).alias(_PART),
    )


def _parts(family: _Family, slots: int, spark: SparkSession, extent: Extent | None) -> int:
    """How many tasks the rows are for, by the logs: each holds its own in memory."""
    least = int(spark.conf.get("spark.sql.shuffle.partitions") or 1)
    if extent is None:
        return least
    rows = extent.rows
    for each in family.joins:
        dates, group = _dates(each, extent), each.published
        for place in (layout.feature_table, layout.history_table):
            rows += delta.rows_in(place(group.lake, group.group.name, group.generation), first=dates.first, last=dates.last)
    return max(least, -(-rows * (_ROW_BYTES + _SLOT_BYTES * slots) // _TASK_BYTES))


def _part(family: _Family, parts: int) -> Column:
    """The task that a row goes to: that of its key; who has none may go to any."""
    keys = [F.col(_key(n)) for n in range(len(family.keys))]
    nobody = F.when(F.concat_ws("", *[F.when(key.isNull(), "-") for key in keys]) != "", F.col(kernel.AT))
    return F.pmod(F.hash(*keys, nobody), F.lit(parts))


def _united(branches: Sequence[DataFrame]) -> DataFrame:
    """All rows in all columns, by a tree of unions, whose depth planning depends on."""
    while len(branches) > 1:
        pairs = [branches[n : n + 2] for n in range(0, len(branches), 2)]
        branches = [pair[0].unionByName(pair[1], allowMissingColumns=True) if len(pair) > 1 else pair[0] for pair in pairs]
    return branches[0]


def _schema(spine: DataFrame, united: DataFrame, lookups: Sequence[Lookup]) -> StructType:
    kinds = {field.name: field.dataType for field in united.schema}
    fields = list(spine.schema)
    for lookup in lookups:
        fields += [StructField(o.name, DoubleType() if o.is_age else kinds[o.slot]) for o in lookup.outputs]
        fields += [StructField(lookup.modelled, Truth()), StructField(lookup.case, ByteType())]
    return StructType([StructField(field.name, field.dataType) for field in fields])


# ------------------------------------------------------------------------------------------------------------------ what is asked


def _lookup(each: JoinAsked, number: int, own: dict[str, str], spark: SparkSession) -> Lookup:
    group, published = each.join.group, each.published
    question = reading.question(group, at=0, coverage=NEVER)
    empty = point_in_time.empty_values(published, spark)
    return Lookup(
        tag=number,
        kind=question.kind,
        ttl=question.ttl,
        steps=point_in_time.coverage(published, each.clock) if group.by_coverage else (),
        falls_back=point_in_time.falls_back(published, each.clock),
        snapshots=-number if group.by_snapshot else None,
        outputs=tuple(
            OutputColumn(name, own[column], empty[column], column in group.ages)
            for name, column in zip(each.join.outputs, each.join.columns, strict=True)
        ),
        modelled=f"{MODELLED}{each.join.name}",
        case=f"{CASE}{each.join.name}",
    )


def _dates(each: JoinAsked, extent: Extent) -> Dates:
    """The dates of rows that can give a value in the extent: none of later, and none that emptied or became too old before."""
    group, first = each.join.group, None
    if group.row_time == "end":
        steps = point_in_time.coverage(each.published, each.clock)
        covered = max((end for seen, end in steps if seen <= extent.first), default=steps[0][1] if steps else extent.first)
        lasting = group.longest if isinstance(group, WindowedGroup) else group.cadence
        first = covered - (lasting + 2 * group.cadence) // MICROSECOND
    elif not group.by_coverage and group.ttl is not None:
        first = extent.first - (duration(group.ttl) + 2 * group.cadence) // MICROSECOND
    return Dates(None if first is None else instant(max(first, times.FIRST)).date(), instant(extent.last).date())
