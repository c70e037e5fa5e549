"""Published rows as they were at a time, whatever the clock: for training sets, the online sync and people.

`versions` is what readers see of a group: each row with the instant from which it is visible. The row of an entity at `t` is, of those
visible by then, the one with the greatest `(T, publish order)`; coverage, emptiness and TTL are decided after that (DESIGN 5).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from feature_definitions import layout, reading
from feature_definitions.intervals import micros
from feature_definitions.language import FeatureGroup
from lake import delta, readable
from lake.readable import AsOf, Published
from spark_jobs import tables
from spark_jobs.compute import windows
from spark_jobs.compute.rows import start_of

VISIBLE, ORDER, MODELLED, RETRACTED = "_hw_visible", "_hw_order", "_hw_modelled", "_hw_retracted"
TIME, START, KNOWN = "_hw_at", "_hw_start", "_hw_known"
_AS_KNOWN = AsOf()
_BEST, _SNAPSHOTS, _PUBLISH, _INTERVAL = "_hw_best", "_hw_snapshots", "_hw_publish", "_hw_interval"
_FEW_PUBLISHES = 4


@dataclass(frozen=True, slots=True)
class Dates:
    """The dates of which rows are read, of partitions as of rows, and those `also` read: from there on. None has no bound."""

    first: date | None = None
    last: date | None = None
    also: date | None = None

    def hold(self, day: date) -> bool:
        """Whether a date is one of them."""
        within = (self.first is None or day >= self.first) and (self.last is None or day <= self.last)
        return within or (self.also is not None and day >= self.also)

    @property
    def condition(self) -> str | None:
        """Which dates they are, in SQL; None where it is all."""
        bounds = ((self.first, "date >= DATE '{}'"), (self.last, "date <= DATE '{}'"))
        within = " AND ".join(condition.format(bound) for bound, condition in bounds if bound is not None)
        beyond = "" if self.also is None else f" OR date >= DATE '{self.also}'"
        return f"(({within}){beyond})" if within else None

    def of(self, rows: DataFrame) -> DataFrame:
        """The rows of these dates, found by literal values, so that other partitions are not read; all where there are no dates."""
        return rows.where(self.condition) if "date" in rows.columns and self.condition else rows


Leaving = Callable[[DataFrame], DataFrame]
"""Leaves out rows of a group's table."""


def whole(rows: DataFrame) -> DataFrame:
    """Leaves out none."""
    return rows


def versions(
    published: Published, clock: AsOf, *, spark: SparkSession, columns: Sequence[str], dates: Dates = Dates(), only: Leaving = whole
) -> DataFrame:
    """The versions of a group's rows: the entity's keys, `VISIBLE` (since when), `TIME` (T), `ORDER` (of publishes), and the columns.

    Beside them are `publish_id`, `RETRACTED`, `held`, `empties_at` and `MODELLED`, which says that the row's visibility rests on a MODELLED
    time. Times are in microseconds.
    """
    current = layout.feature_table(published.lake, published.group.name, published.generation)
    if not delta.exists(current):
        return spark.createDataFrame([], _version_schema(published, clock, columns))
    rows = _fields(only(dates.of(tables.read(spark, current, wanted=dates.hold))), published, columns)
    at = F.col(TIME) + (1 if clock.strict and published.group.row_time == "event" and not published.group.by_snapshot else 0)
    if clock.mode == "event_time":
        stood = _as_it_stood(rows, published, spark=spark, columns=columns, dates=dates, only=only) if published.past else rows
        return stood.withColumns({VISIBLE: at, MODELLED: F.lit(False), ORDER: F.lit(0).cast("bigint")})
    history = layout.history_table(published.lake, published.group.name, published.generation)
    if delta.exists(history):
        rows = rows.unionByName(_fields(only(dates.of(tables.read(spark, history, wanted=dates.hold))), published, columns))
    return _with_known(rows, published, clock, spark).withColumn(VISIBLE, F.greatest(at, F.col(KNOWN)))


def _as_it_stood(
    rows: DataFrame, published: Published, *, spark: SparkSession, columns: Sequence[str], dates: Dates, only: Leaving
) -> DataFrame:
    """Of the newest corrections those that were it in the past: without rows of later publishes, with those that these replaced."""
    known = F.broadcast(known_times(published, spark).select("publish_id", START))
    history = layout.history_table(published.lake, published.group.name, published.generation)
    if delta.exists(history):
        old = only(dates.of(tables.read(spark, history, wanted=dates.hold))).where("NOT retracted")
        replaced = _fields(old, published, columns, "replaced_by")
        standing = replaced.join(known.withColumnRenamed("publish_id", "replaced_by"), on=["replaced_by", START], how="left_anti")
        rows = rows.unionByName(standing.drop("replaced_by"))
    return rows.join(known, on=["publish_id", START], how="left_semi")


def known_times(published: Published, spark: SparkSession, *, clock: AsOf = _AS_KNOWN) -> DataFrame:
    """When each publish of each interval became known, in microseconds; what is not in it never was published."""
    known = readable.known(published, clock)
    names = {"publish_id": "publish_id", START: "start", KNOWN: "known", MODELLED: "modelled", ORDER: "order"}
    return spark.createDataFrame(pa.table({mine: known.column(name) for mine, name in names.items()}))


def newest(published: Published, *, spark: SparkSession, now: datetime) -> DataFrame:
    """One row per entity ever seen, as it is known `now`: keys, event_timestamp, empties_at, held, retracted, publish_id, the outputs.

    Of dated snapshots `empties_at` is the time of the next one, which does not have the entity.
    """
    group = published.group
    keys = [f"`{key}`" for key in group.entity.keys]
    seen = _comparable(published, spark).where(F.col(VISIBLE) <= micros(now))
    best = seen.groupBy(*keys).agg(F.max(_BEST).alias(_BEST))
    empties_at = F.col(_BEST)["empties_at"]
    if group.by_snapshot:
        best = best.crossJoin(F.broadcast(_taken_by(published, spark)))
        empties_at = _gone_at(F.lit(micros(now)))
    return best.select(
        *keys,
        F.timestamp_micros(F.col(_BEST)["at"]).alias("event_timestamp"),
        F.timestamp_micros(empties_at).alias("empties_at"),
        F.col(_BEST)["held"].alias("held"),
        F.col(_BEST)["retracted"].alias("retracted"),
        F.col(_BEST)["publish_id"].alias("publish_id"),
        *[F.col(_BEST)[column].alias(column) for column in group.outputs],
    )


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


def _with_known(rows: DataFrame, published: Published, clock: AsOf, spark: SparkSession) -> DataFrame:
    """Rows with what is known of their publish; those of one that never was are left out.

    Where intervals have few publishes these are found by the interval's start alone: a look-up by a number costs half of one by text, too.
    """
    known = known_times(published, spark, clock=clock)
    most = Counter(publish.interval.start for publish in published.publishes).most_common(1)
    if most and most[0][1] > _FEW_PUBLISHES:
        return rows.join(F.broadcast(known), on=["publish_id", START])
    known = known.withColumnsRenamed({"publish_id": _PUBLISH, START: _INTERVAL})
    is_its = f"{START} = {_INTERVAL} AND publish_id >= {_PUBLISH} AND publish_id <= {_PUBLISH}"  # by "=" Spark would look it up by both
    return rows.join(F.broadcast(known), on=F.expr(is_its)).drop(_PUBLISH, _INTERVAL)


def _fields(rows: DataFrame, published: Published, columns: Sequence[str], *more: str) -> DataFrame:
    """Rows of the current or the history table in the columns that versions need, and `more`; a column a table lacks is null in it."""
    group, have = published.group, set(rows.columns)
    kinds = {column: tables.spark_type(published.types.outputs[column]) for column in columns}
    values = [f"CAST({f'`{c}`' if c in have else 'NULL'} AS {kind}) AS `{c}`" for c, kind in kinds.items()]
    return rows.withColumn(START, start_of(group)).selectExpr(
        *[f"`{key}`" for key in group.entity.keys],
        f"unix_micros(event_timestamp) AS {TIME}",
        START,
        "publish_id",
        f"{'retracted' if 'retracted' in have else 'false'} AS {RETRACTED}",
        "held",
        "unix_micros(empties_at) AS empties_at",
        *more,
        *values,
    )


def _comparable(published: Published, spark: SparkSession) -> DataFrame:
    """The versions that are known: the keys, `_hw_visible` and `_hw_best`, whose maximum is the truth.

    `_hw_best` is a struct (rank, T in microseconds, publish_id, retracted, held, empties_at in microseconds, the columns).
    """
    group, clock = published.group, AsOf()
    rank, at, retracted = F.lit(0).cast("bigint").alias("rank"), F.col(TIME).alias("at"), F.col(RETRACTED).alias("retracted")
    values = [f"`{column}`" for column in group.outputs]
    fields: list[Column | str] = [rank, at, "publish_id", retracted, "held", "empties_at", *values]
    rows = versions(published, clock, spark=spark, columns=group.outputs)
    best = rows.select(*[f"`{key}`" for key in group.entity.keys], VISIBLE, F.struct(*fields).alias(_BEST))
    return _with_fallbacks(best, group) if readable.falls_back(published, clock) else best


def _version_schema(published: Published, clock: AsOf, columns: Sequence[str]) -> str:
    keys = ", ".join(f"`{k}` {tables.spark_type(kind)}" for k, kind in published.group.entity.keys.items())
    values = "".join(f", `{c}` {tables.spark_type(published.types.outputs[c])}" for c in columns)
    decides = f"publish_id string, {RETRACTED} boolean, held boolean, empties_at bigint, {MODELLED} boolean"
    known = "" if clock.mode == "event_time" else f", {KNOWN} bigint"
    return f"{keys}, {VISIBLE} bigint, {TIME} bigint, {START} bigint{known}, {ORDER} bigint, {decides}{values}"


def _with_fallbacks(versions: DataFrame, group: FeatureGroup) -> DataFrame:
    """Where rows were retracted, what readers fall back to: entities with a tombstone get one version per change of their state."""
    keys = [f"`{key}`" for key in group.entity.keys]
    names = list(group.entity.keys)
    retracted = versions.where(F.col(_BEST)["retracted"]).select(*keys).distinct()
    plain = versions.join(retracted, on=names, how="left_anti")
    listed = (
        versions.join(retracted, on=names, how="left_semi")
        .groupBy(*keys)
        .agg(F.collect_list(F.struct(F.col(VISIBLE).alias("seen"), F.col(_BEST).alias("best"))).alias("all"))
    )
    changes = listed.select(*keys, "all", F.explode(F.array_distinct(F.col("all")["seen"])).alias(VISIBLE))
    visible = F.filter("all", lambda v: v["seen"] <= F.col(VISIBLE))
    state = changes.withColumn("seen", visible).withColumn(_BEST, F.array_max(F.transform(_standing(F.col("seen")), lambda v: v["best"])))
    gone = F.array_max(F.transform(F.col("seen"), lambda v: v["best"]))
    ranked = state.withColumn(_BEST, F.coalesce(_BEST, gone)).withColumn(_BEST, F.col(_BEST).withField("rank", F.col(VISIBLE)))
    return plain.unionByName(ranked.select(*keys, VISIBLE, _BEST))


def snapshots(published: Published, clock: AsOf, spark: SparkSession) -> DataFrame:
    """The times at which states were extracted (`at`), each with since when (`seen`) and until when (`until`) rows of it stand.

    A time comes once for each publish that brought rows of it; `until` is null where nothing replaced these. All in microseconds.
    """
    group, generation = published.group, published.generation
    current, history = (place(published.lake, group.name, generation) for place in (layout.feature_table, layout.history_table))
    if not delta.exists(current):
        return spark.createDataFrame([], "at: bigint, seen: bigint, until: bigint")
    if clock.mode == "event_time" and not published.past:
        at = F.unix_micros("event_timestamp")
        rows = tables.read(spark, current, wanted=tables.every_date)
        return rows.select(at.alias("at"), at.alias("seen"), F.lit(None).cast("bigint").alias("until")).distinct()
    now = tables.read(spark, current, wanted=tables.every_date).withColumn("replaced_by", F.lit(None).cast("string"))
    taken = _taken(now, group)
    if delta.exists(history):
        taken = taken.union(_taken(tables.read(spark, history, wanted=tables.every_date).where(~F.col("retracted")), group))
    known = F.broadcast(known_times(published, spark, clock=clock).drop(MODELLED, ORDER))
    ended = known.withColumnsRenamed({"publish_id": "replaced_by", KNOWN: "_hw_ended"})
    lasting = taken.join(known, on=["publish_id", START]).join(ended, on=["replaced_by", START], how="left")
    if clock.mode == "event_time":
        return (
            lasting.where("_hw_ended IS NULL").select("at", F.col("at").alias("seen"), F.lit(None).cast("bigint").alias("until")).distinct()
        )
    seen, until = F.greatest("at", KNOWN), F.when(F.col("_hw_ended").isNotNull(), F.greatest("at", "_hw_ended"))
    return lasting.select("at", seen.alias("seen"), until.alias("until")).distinct()


def _taken_by(published: Published, spark: SparkSession) -> DataFrame:
    """One row, `_hw_snapshots`: all snapshots that are known."""
    return snapshots(published, AsOf(), spark).agg(F.collect_set(F.struct("at", "seen", "until")).alias(_SNAPSHOTS))


def _taken(rows: DataFrame, group: FeatureGroup) -> DataFrame:
    """The times of snapshots, with the publishes that brought their rows and replaced them."""
    at = F.unix_micros("event_timestamp")
    return rows.select(at.alias("at"), start_of(group).alias(START), "publish_id", "replaced_by").distinct()


def _standing_at(time: Column) -> Column:
    """The times of the snapshots of which some row stands at a time; microseconds."""
    standing = F.filter(_SNAPSHOTS, lambda s: (s["seen"] <= time) & (s["until"].isNull() | (s["until"] > time)))
    return F.transform(standing, lambda s: s["at"])


def _gone_at(time: Column) -> Column:
    """The time of the first snapshot after the best version of which some row stands at a time: it does not have the entity."""
    return F.array_min(F.filter(_standing_at(time), lambda at: at > F.col(_BEST)["at"]))


def _standing(seen: Column) -> Column:
    """Of the versions seen, those that no later publish of the same time replaced or retracted."""

    def stands(v: Column) -> Column:
        newer = F.exists(seen, lambda w: (w["best"]["at"] == v["best"]["at"]) & (w["best"]["publish_id"] > v["best"]["publish_id"]))
        return ~v["best"]["retracted"] & ~newer

    return F.filter(seen, stands)
