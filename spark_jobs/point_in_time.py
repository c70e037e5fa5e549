"""Reads published rows as they were at a time: one kernel, whatever the clock, for training sets, the online sync and people.

`versions` is what readers see of a group: each row with the instant from which it is visible. The row of an entity at `t` is, of those
visible by then, the one with the greatest `(T, publish order)`; coverage, emptiness and TTL are decided after that (DESIGN 5).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from feature_definitions import layout, reading
from feature_definitions.intervals import DAY, floor, instant, micros
from feature_definitions.language import FeatureGroup, Join, Mode
from feature_definitions.reading import CASES, age
from feature_definitions.records import Publish
from feature_definitions.sql.column_types import ColumnTypes
from lake import delta
from spark_jobs import tables
from spark_jobs.compute import windows
from spark_jobs.compute.rows import start_of

VISIBLE, BEST, MODELLED = "_hw_visible", "_hw_best", "_hw_modelled_"
CASE = "_hw_case"
_KEY, _AT, _TAG, _SPINE, _COVERED, _SNAPSHOTS = "_hw_key", "_hw_at", "_hw_tag", "_hw_spine", "_hw_covered", "_hw_snapshots"


@dataclass(frozen=True, slots=True)
class Published:
    """A group's generation as it can be read: where it lies, what it means, and since when each publish is known.

    `empty` is the generation's: what its columns hold for an entity without events, as its last publish kept it.
    """

    group: FeatureGroup
    generation: int
    lake: str
    types: ColumnTypes
    publishes: tuple[Publish, ...]
    empty: str | None = None


@dataclass(frozen=True, slots=True)
class AsOf:
    """How time is read: `as_known` sees a row from `max(T, known_from)`, `event_time` from `T` on, in its newest correction.

    `strict` sees observations only after their own time (T < t): the spine's own events must not explain themselves.
    """

    mode: Mode = "as_known"
    strict: bool = False


def as_of(published: Published, clock: AsOf, *, spark: SparkSession, columns: Sequence[str]) -> DataFrame:
    """The versions of a group's rows: the entity's keys, `_hw_visible` (microseconds) and `_hw_best`, whose maximum is the truth.

    `_hw_best` is a struct (rank, T in microseconds, publish_id, retracted, held, empties_at in microseconds, modelled, the columns);
    `modelled` says that the row's visibility rests on a MODELLED time.
    """
    current = layout.feature_table(published.lake, published.group.name, published.generation)
    if not delta.exists(current):
        return spark.createDataFrame([], _version_schema(published, columns))
    rows = _fields(tables.read(spark, current), published, columns)
    at = F.col(_AT) + (1 if clock.strict and published.group.row_time == "event" and not published.group.by_snapshot else 0)
    if clock.mode == "event_time":
        return _versions(rows.withColumn(VISIBLE, at).withColumn("modelled", F.lit(False)), published, columns)
    history = layout.history_table(published.lake, published.group.name, published.generation)
    replaced = delta.exists(history)
    if replaced:
        rows = rows.unionByName(_fields(tables.read(spark, history), published, columns))
    known = _known(spark, published)
    visible = rows.join(F.broadcast(known), on=["publish_id", "_hw_start"]).withColumn(VISIBLE, F.greatest(at, F.col("_hw_known")))
    versions = _versions(visible, published, columns)
    if replaced and not published.group.keeps_rows:
        return _with_fallbacks(versions, published.group)
    return versions


def newest(published: Published, *, spark: SparkSession, now: datetime) -> DataFrame:
    """One row per entity ever seen, as it is known `now`: keys, event_timestamp, empties_at, held, retracted, publish_id, the outputs.

    Of dated snapshots `empties_at` is the time of the next one, which does not have the entity.
    """
    group = published.group
    keys = [f"`{key}`" for key in group.entity.keys]
    versions = as_of(published, AsOf(), spark=spark, columns=group.outputs).where(F.col(VISIBLE) <= micros(now))
    best = versions.groupBy(*keys).agg(F.max(BEST).alias(BEST))
    empties_at = F.col(BEST)["empties_at"]
    if group.by_snapshot:
        best = best.crossJoin(F.broadcast(_snapshots(published, AsOf(), spark)))
        empties_at = _gone_at(F.lit(micros(now)))
    return best.select(
        *keys,
        F.timestamp_micros(F.col(BEST)["at"]).alias("event_timestamp"),
        F.timestamp_micros(empties_at).alias("empties_at"),
        F.col(BEST)["held"].alias("held"),
        F.col(BEST)["retracted"].alias("retracted"),
        F.col(BEST)["publish_id"].alias("publish_id"),
        *[F.col(BEST)[column].alias(column) for column in group.outputs],
    )


def coverage(published: Published, clock: AsOf) -> tuple[tuple[int, int], ...]:
    """When which coverage began, as (visible from, newest visible interval end) in microseconds, both strictly rising."""
    visible: dict[int, int] = {}
    for publish in published.publishes:
        end = micros(publish.interval.end)
        seen = end if clock.mode == "event_time" else max(end, micros(publish.known_from))
        visible[end] = min(seen, visible.get(end, seen))
    steps: list[tuple[int, int]] = []
    for seen, end in sorted((seen, end) for end, seen in visible.items()):
        if steps and end <= steps[-1][1]:
            continue
        if steps and steps[-1][0] == seen:
            steps.pop()
        steps.append((seen, end))
    return tuple(steps)


def covered(published: Published, now: datetime) -> datetime | None:
    """The group's coverage as it is known `now`: the newest visible interval end."""
    ends = [end for seen, end in coverage(published, AsOf()) if seen <= micros(now)]
    return instant(ends[-1]) if ends else None


def join(spine: DataFrame, wanted: Join, published: Published, clock: AsOf, *, at: str, spark: SparkSession) -> DataFrame:
    """The spine widened by the join's outputs and `_hw_modelled_<join>`; exactly the spine's rows, whatever their keys and times are.

    `at` is the spine's timestamp column; null keys give null values, ages are seconds up to the spine's times.
    """
    rows = decided(spine, wanted, published, clock, at=at, spark=spark)
    values = _values(wanted, published, at, spark)
    modelled = F.coalesce(F.col(BEST)["modelled"], F.lit(False)).alias(f"{MODELLED}{wanted.name}")
    return rows.select(*[f"`{name}`" for name in spine.columns], *values, modelled)


def decided(spine: DataFrame, wanted: Join, published: Published, clock: AsOf, *, at: str, spark: SparkSession) -> DataFrame:
    """The spine with `_hw_best`, the version that holds for each row, and `_hw_case`: which of `reading.CASES` decides, by its number."""
    rows = _matched(spine, as_of(published, clock, spark=spark, columns=wanted.columns), wanted, at)
    if published.group.by_coverage:
        rows = _with_coverage(rows, coverage(published, clock), at, spark)
    if published.group.by_snapshot:
        rows = rows.crossJoin(F.broadcast(_snapshots(published, clock, spark)))
    return rows.withColumn(CASE, _case(wanted, at))


def empty_values(published: Published, spark: SparkSession) -> Mapping[str, object]:
    """What an entity without events has in each output column.

    A Spark job computes them only where something is derived and no publish kept the values (those before 2026-11 did not).
    """
    group, types = published.group, published.types
    known = reading.empty_values(group, types.outputs, kept=published.empty)
    if known.keys() >= set(group.outputs):
        return known
    one = windows.empty_row(group, spark.range(1).select(), types=types).toArrow()
    computed: dict[str, object] = one.to_pylist()[0]
    return computed


# --------------------------------------------------------------------------------------------------------------------- versions


def _fields(rows: DataFrame, published: Published, columns: Sequence[str]) -> DataFrame:
    """Rows of the current or the history table in the columns that versions need; a column a table lacks is null in it."""
    group, have = published.group, set(rows.columns)
    at = F.unix_micros("event_timestamp")
    kinds = {column: tables.spark_type(published.types.outputs[column]) for column in columns}
    values = [(F.col(f"`{c}`") if c in have else F.lit(None)).cast(kind).alias(c) for c, kind in kinds.items()]
    retracted = F.col("retracted") if "retracted" in have else F.lit(False)
    return rows.select(
        *[f"`{key}`" for key in group.entity.keys],
        at.alias(_AT),
        start_of(group).alias("_hw_start"),
        "publish_id",
        retracted.alias("retracted"),
        "held",
        F.unix_micros("empties_at").alias("empties_at"),
        *values,
    )


def _versions(rows: DataFrame, published: Published, columns: Sequence[str]) -> DataFrame:
    fields: list[Column | str] = [
        F.lit(0).cast("bigint").alias("rank"),
        F.col(_AT).alias("at"),
        "publish_id",
        "retracted",
        "held",
        "empties_at",
        "modelled",
    ]
    best = F.struct(*fields, *[f"`{column}`" for column in columns])
    return rows.select(*[f"`{key}`" for key in published.group.entity.keys], F.col(VISIBLE), best.alias(BEST))


def _version_schema(published: Published, columns: Sequence[str]) -> str:
    keys = ", ".join(f"`{k}` {tables.spark_type(kind)}" for k, kind in published.group.entity.keys.items())
    values = "".join(f", `{c}`: {tables.spark_type(published.types.outputs[c])}" for c in columns)
    fields = "rank: bigint, at: bigint, publish_id: string, retracted: boolean, held: boolean, empties_at: bigint, modelled: boolean"
    return f"{keys}, {VISIBLE} bigint, {BEST} struct<{fields}{values}>"


def _known(spark: SparkSession, published: Published) -> DataFrame:
    """When each publish of each interval became known, in microseconds; what is not in it never was published."""
    rows = {
        "publish_id": [p.publish_id for p in published.publishes],
        "_hw_start": [micros(p.interval.start) for p in published.publishes],
        "_hw_known": [micros(p.known_from) for p in published.publishes],
        "modelled": [p.basis == "MODELLED" for p in published.publishes],
    }
    schema = pa.schema([("publish_id", pa.string()), ("_hw_start", pa.int64()), ("_hw_known", pa.int64()), ("modelled", pa.bool_())])
    return spark.createDataFrame(pa.table(rows, schema=schema))


def _with_fallbacks(versions: DataFrame, group: FeatureGroup) -> DataFrame:
    """Where rows were retracted, what readers fall back to: entities with a tombstone get one version per change of their state."""
    keys = [f"`{key}`" for key in group.entity.keys]
    names = list(group.entity.keys)
    retracted = versions.where(F.col(BEST)["retracted"]).select(*keys).distinct()
    plain = versions.join(retracted, on=names, how="left_anti")
    listed = (
        versions.join(retracted, on=names, how="left_semi")
        .groupBy(*keys)
        .agg(F.collect_list(F.struct(F.col(VISIBLE).alias("seen"), F.col(BEST).alias("best"))).alias("all"))
    )
    changes = listed.select(*keys, "all", F.explode(F.array_distinct(F.col("all")["seen"])).alias(VISIBLE))
    visible = F.filter("all", lambda v: v["seen"] <= F.col(VISIBLE))
    state = changes.withColumn("seen", visible).withColumn(BEST, F.array_max(F.transform(_standing(F.col("seen")), lambda v: v["best"])))
    gone = F.array_max(F.transform(F.col("seen"), lambda v: v["best"]))
    ranked = state.withColumn(BEST, F.coalesce(BEST, gone)).withColumn(BEST, F.col(BEST).withField("rank", F.col(VISIBLE)))
    return plain.unionByName(ranked.select(*keys, VISIBLE, BEST))


def _snapshots(published: Published, clock: AsOf, spark: SparkSession) -> DataFrame:
    """One row, `_hw_snapshots`: the times at which states were extracted, each with since when and until when rows of it stand.

    A time comes once for each publish that brought rows of it; `until` is null where nothing replaced these. All in microseconds.
    """
    group, generation = published.group, published.generation
    current, history = (place(published.lake, group.name, generation) for place in (layout.feature_table, layout.history_table))
    if not delta.exists(current):
        taken = spark.createDataFrame([], "at: bigint, seen: bigint, until: bigint")
    elif clock.mode == "event_time":
        at = F.unix_micros("event_timestamp")
        taken = tables.read(spark, current).select(at.alias("at"), at.alias("seen"), F.lit(None).cast("bigint").alias("until")).distinct()
    else:
        taken = _taken(tables.read(spark, current).withColumn("replaced_by", F.lit(None).cast("string")), group)
        if delta.exists(history):
            taken = taken.union(_taken(tables.read(spark, history).where(~F.col("retracted")), group))
        known = F.broadcast(_known(spark, published).drop("modelled"))
        ended = known.withColumnsRenamed({"publish_id": "replaced_by", "_hw_known": "_hw_ended"})
        lasting = taken.join(known, on=["publish_id", "_hw_start"]).join(ended, on=["replaced_by", "_hw_start"], how="left")
        seen, until = F.greatest("at", "_hw_known"), F.when(F.col("_hw_ended").isNotNull(), F.greatest("at", "_hw_ended"))
        taken = lasting.select("at", seen.alias("seen"), until.alias("until"))
    return taken.agg(F.collect_set(F.struct("at", "seen", "until")).alias(_SNAPSHOTS))


def _taken(rows: DataFrame, group: FeatureGroup) -> DataFrame:
    """The times of snapshots, with the publishes that brought their rows and replaced them."""
    at = F.unix_micros("event_timestamp")
    return rows.select(at.alias("at"), start_of(group).alias("_hw_start"), "publish_id", "replaced_by").distinct()


def _standing_at(time: Column) -> Column:
    """The times of the snapshots of which some row stands at a time; microseconds."""
    standing = F.filter(_SNAPSHOTS, lambda s: (s["seen"] <= time) & (s["until"].isNull() | (s["until"] > time)))
    return F.transform(standing, lambda s: s["at"])


def _gone_at(time: Column) -> Column:
    """The time of the first snapshot after the best version of which some row stands at a time: it does not have the entity."""
    return F.array_min(F.filter(_standing_at(time), lambda at: at > F.col(BEST)["at"]))


def _standing(seen: Column) -> Column:
    """Of the versions seen, those that no later publish of the same time replaced or retracted."""

    def stands(v: Column) -> Column:
        newer = F.exists(seen, lambda w: (w["best"]["at"] == v["best"]["at"]) & (w["best"]["publish_id"] > v["best"]["publish_id"]))
        return ~v["best"]["retracted"] & ~newer

    return F.filter(seen, stands)


# ----------------------------------------------------------------------------------------------------------------------- joining


def _matched(spine: DataFrame, versions: DataFrame, wanted: Join, at: str) -> DataFrame:
    """The spine's rows with `_hw_best`, the version of their entity that holds at their time: one shuffle by key, one running maximum."""
    kinds = wanted.group.entity.keys
    best_type = versions.schema[BEST].dataType
    spine_type = StructType(spine.schema.fields)
    left = spine.select(
        *[
            F.col(f"`{c}`").cast(tables.spark_type(k)).alias(f"{_KEY}{i}")
            for i, (c, k) in enumerate(zip(wanted.keys, kinds.values(), strict=True))
        ],
        F.unix_micros(f"`{at}`").alias(_AT),
        F.lit(1).alias(_TAG),
        F.struct(*[f"`{name}`" for name in spine.columns]).alias(_SPINE),
        F.lit(None).cast(best_type).alias(BEST),
    )
    right = versions.select(
        *[F.col(f"`{key}`").alias(f"{_KEY}{i}") for i, key in enumerate(kinds)],
        F.col(VISIBLE).alias(_AT),
        F.lit(0).alias(_TAG),
        F.lit(None).cast(spine_type).alias(_SPINE),
        BEST,
    )
    keys = [f"{_KEY}{i}" for i in range(len(kinds))]
    so_far = Window.partitionBy(*keys).orderBy(_AT, _TAG).rowsBetween(Window.unboundedPreceding, Window.currentRow)
    united = left.unionByName(right).withColumn(BEST, F.max(BEST).over(so_far)).where(F.col(_TAG) == 1)
    return united.select(f"{_SPINE}.*", BEST)


def _with_coverage(spine: DataFrame, steps: Sequence[tuple[int, int]], at: str, spark: SparkSession) -> DataFrame:
    """The spine with `_hw_covered`: the newest interval end that was visible at its time, null before any was."""
    if not steps:
        return spine.withColumn(_COVERED, F.lit(None).cast("bigint"))
    first, last = floor(instant(steps[0][0]), DAY), floor(instant(steps[-1][0]), DAY)
    by_day: dict[datetime, list[tuple[int, int]]] = {}
    for step in steps:
        by_day.setdefault(floor(instant(step[0]), DAY), []).append(step)
    days, held, carried = [], [], None
    for n in range((last - first) // DAY + 1):
        day = first + n * DAY
        today = ([carried] if carried else []) + by_day.get(day, [])
        carried = today[-1]
        days.append(micros(day))
        held.append([{"seen": seen, "until": until} for seen, until in today])
    step_type = pa.list_(pa.struct([("seen", pa.int64()), ("until", pa.int64())]))
    table = pa.table({"_hw_day": pa.array(days, pa.int64()), "_hw_steps": pa.array(held, step_type)})
    time = F.unix_micros(f"`{at}`")
    day_of = F.least(time - F.pmod(time, F.lit(micros_of(DAY))), F.lit(micros(last)))
    joined = spine.withColumn("_hw_day", day_of).join(F.broadcast(spark.createDataFrame(table)), on="_hw_day", how="left")
    seen = F.filter("_hw_steps", lambda s: s["seen"] <= F.unix_micros(f"`{at}`"))
    return joined.withColumn(_COVERED, F.array_max(F.transform(seen, lambda s: s["until"])))


def _case(wanted: Join, at: str) -> Column:
    """The number of the first of `reading.CASES` that holds; who asks at no time is nobody, too."""
    group, best, time = wanted.group, F.col(BEST), F.unix_micros(f"`{at}`")
    covered = F.coalesce(F.col(_COVERED), F.lit(reading.NEVER)) if group.by_coverage else F.lit(reading.NEVER)
    holds = reading.conditions(
        reading.question(group, at=time, coverage=covered),
        nobody=reduce(Column.__or__, [F.col(f"`{name}`").isNull() for name in (*wanted.keys, at)]),
        absent=F.coalesce(best["retracted"], F.lit(True)),
        at=best["at"],
        empties_at=_gone_at(time) if group.by_snapshot else best["empties_at"],
        held=best["held"],
    )
    number = F.lit(len(holds) - 1)
    for n, condition in reversed([*enumerate(holds[:-1])]):
        number = number if condition is False else F.when(condition, n).otherwise(number)
    return number


def _values(wanted: Join, published: Published, at: str, spark: SparkSession) -> list[Column]:
    """The join's outputs: what the case of each row gives."""
    gives = {given: F.col(CASE).isin([n for n, case in enumerate(CASES) if case.given == given]) for given in ("row", "empty")}
    empty, types = empty_values(published, spark), published.types.outputs
    values = {c: F.when(gives["row"], F.col(BEST)[c]) for c in wanted.columns}
    values |= {c: v.when(gives["empty"], tables.literal(empty[c], types[c])) for c, v in values.items() if empty[c] is not None}
    values |= {c: age(F.unix_micros(f"`{at}`"), F.unix_micros(values[c])) for c in wanted.columns if c in wanted.group.ages}
    return [values[c].alias(o) for c, o in zip(wanted.columns, wanted.outputs, strict=True)]


def micros_of(span: timedelta) -> int:
    """A span in microseconds."""
    return span // timedelta(microseconds=1)
