"""A sample of a training set's rows computed a second time, from versions of which each row is shown only what was there at its time.

Beside it is what a join without time would have taken: the newest values that the entity has. The first must equal the training set; where
the second differs, the point-in-time join matters. Nothing here asks the join or its kernel: times are compared anew.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from feature_definitions import reading, times
from feature_definitions.intervals import DAY, MICROSECOND, duration, instant, micros
from feature_definitions.language import FeatureGroup
from feature_definitions.reading import CASES, FOREVER, NEVER
from lake import readable
from spark_jobs import point_in_time, tables
from spark_jobs.point_in_time import Dates
from spark_jobs.training.join import JoinAsked

_ROW, _JOIN, _ASKED = "_hw_sampled", "_hw_join", "_hw_asked"
_VISIBLE, _VERSION, _BEST, _NEWEST = "_hw_seen", "_hw_version", "_hw_best", "_hw_newest"

Values = dict[str, Any]
Slots = Mapping[str, str]


class Recomputed(NamedTuple):
    """One join for one row of a sample: what the row must hold, and what the newest values are.

    `known` is since when the version that gives the row's values is known, in microseconds; None where none does.
    """

    expected: Values
    naive: Values
    known: int | None


def recomputed(sample: pa.Table, asked: Sequence[JoinAsked], *, at: str, spark: SparkSession) -> dict[str, list[Recomputed]]:
    """What the rows of a sample hold by each join, without defaults, in the sample's order; one job. `sample` has the keys and times."""
    asked_at: list[int] = sample.column(at).cast(pa.int64()).to_pylist()
    slots, kinds = _slots(asked)
    branches = [_pairs(each, sample, asked_at, spark).select(*_packed(n, slots[n], kinds)) for n, each in enumerate(asked)]
    found: dict[tuple[int, int], Mapping[str, Any]] = {}
    for row in _chosen(reduce(DataFrame.union, branches), asked).toArrow().to_pylist():
        found[row[_JOIN], row[_ROW]] = {name: _version(row, name) for name in (_BEST, _NEWEST)}
    return {
        each.join.name: _Answers.of(each, slots[n], spark).all(sample, asked_at, [found.get((n, row)) for row in range(len(asked_at))])
        for n, each in enumerate(asked)
    }


# --------------------------------------------------------------------------------------------------------------------- in Spark


def _slots(asked: Sequence[JoinAsked]) -> tuple[list[Slots], dict[str, str]]:
    """Of each join which column holds which of its values, and the types of these: columns that all joins share."""
    kinds: dict[str, str] = {}
    slots: list[Slots] = []
    for each in asked:
        own: dict[str, str] = {}
        for column in each.join.columns:
            kind = each.published.types.outputs[column]
            own[column] = f"{kind} {sum(each.published.types.outputs[other] == kind for other in own)}"
            kinds[own[column]] = kind
        slots.append(own)
    return slots, kinds


def _pairs(each: JoinAsked, sample: pa.Table, asked_at: Sequence[int], spark: SparkSession) -> DataFrame:
    """Each row of the sample with all versions of its entity, and whether it may see them."""
    group, strict = each.join.group, each.clock.strict and each.join.group.row_time == "event" and not each.join.group.by_snapshot
    rows = point_in_time.versions(each.published, each.clock, spark=spark, columns=each.join.columns, dates=_dates(each, asked_at))
    if each.clock.mode == "event_time":
        known = F.broadcast(point_in_time.known_times(each.published, spark).drop(point_in_time.MODELLED, point_in_time.ORDER))
        rows = rows.join(known, on=["publish_id", point_in_time.START], how="left")
    wanted = spark.createDataFrame(_questions(each, sample, asked_at))
    time, known_from = F.col(point_in_time.TIME), F.col(point_in_time.KNOWN)
    there = (time < F.col(_ASKED)) if strict else (time <= F.col(_ASKED))
    if each.clock.mode != "event_time":
        there = there & (known_from <= F.col(_ASKED))
    pairs = rows.join(F.broadcast(wanted), on=[*group.entity.keys]).withColumn(_VISIBLE, there)
    back = _back(group)
    if back is None:
        return pairs
    return pairs.where((time > F.col(_ASKED) - F.lit(back)) & (time <= F.col(_ASKED)) | (time > F.lit(_newest(each) - back)))


def _questions(each: JoinAsked, sample: pa.Table, asked_at: Sequence[int]) -> pa.Table:
    """The rows of the sample under the keys of a group."""
    entity = each.join.group.entity.keys
    keys = {key: sample.column(column) for key, column in zip(entity, each.join.keys, strict=True)}
    return pa.table({**keys, _ROW: range(len(asked_at)), _ASKED: asked_at})


def _dates(each: JoinAsked, asked_at: Sequence[int]) -> Dates:
    """The dates of versions that may hold at one of these times, and of those that may hold now."""
    back = _back(each.join.group)
    if back is None:
        return Dates()
    first, also = (instant(max(at - back, times.FIRST)).date() for at in (min(asked_at), _newest(each)))
    return Dates(first, instant(max(asked_at)).date(), also)


def _newest(each: JoinAsked) -> int:
    """The end of the newest interval that was published, in microseconds."""
    return max((micros(publish.interval.end) for publish in each.published.publishes), default=0)


def _back(group: FeatureGroup) -> int | None:
    """How long before a time the versions lie that may hold at it, in microseconds; None if any may."""
    if group.ttl is None or group.lifetime or group.by_snapshot:
        return None
    return (duration(group.ttl) + group.longest + 2 * group.cadence + DAY) // MICROSECOND


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


def _chosen(pairs: DataFrame, asked: Iterable[JoinAsked]) -> DataFrame:
    """Of each row and join the newest version that it may see, and the newest of all; a time whose last version is a tombstone has none."""
    best, newest = F.when(F.col(_VISIBLE), F.col(_VERSION)), F.col(_VERSION)
    if any(readable.falls_back(each.published, each.clock) for each in asked):
        times_of = pairs.groupBy(_JOIN, _ROW, F.col(_VERSION)["at"]).agg(F.max(best).alias(_BEST), F.max(newest).alias(_NEWEST))
        best, newest = (F.when(~F.col(name)["retracted"], F.col(name)) for name in (_BEST, _NEWEST))
        pairs = times_of
    both = pairs.groupBy(_JOIN, _ROW).agg(F.max(best).alias(_BEST), F.max(newest).alias(_NEWEST))
    fields = [F.col(name)[field].alias(f"{name} {field}") for name in (_BEST, _NEWEST) for field in both.select(f"{_BEST}.*").columns]
    return both.select(_JOIN, _ROW, *fields)


# ----------------------------------------------------------------------------------------------------------------- in plain Python


def _version(row: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """One of the versions in a row; None if there is none."""
    fields = {column.removeprefix(f"{name} "): value for column, value in row.items() if column.startswith(f"{name} ")}
    return None if fields["at"] is None else fields


class _Answers(NamedTuple):
    """How versions of one join become the values that a reader gets."""

    asked: JoinAsked
    slots: Slots
    empty: Mapping[str, object]
    ends: np.ndarray[Any, Any]
    seen: np.ndarray[Any, Any]
    snapshots: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, asked: JoinAsked, slots: Slots, spark: SparkSession) -> "_Answers":
        published = asked.published
        ends = np.array([micros(p.interval.end) for p in published.publishes], np.int64)
        known = np.array([micros(p.known_from) for p in published.publishes], np.int64)
        seen = ends if asked.clock.mode == "event_time" else np.maximum(ends, known)
        taken: tuple[tuple[int, int, int], ...] = ()
        if asked.join.group.by_snapshot:
            rows = point_in_time.snapshots(published, asked.clock, spark).collect()
            taken = tuple((row["at"], row["seen"], FOREVER if row["until"] is None else row["until"]) for row in rows)
        return cls(asked, slots, point_in_time.empty_values(published, spark), ends, seen, taken)

    def all(self, sample: pa.Table, asked_at: Sequence[int], found: Sequence[Mapping[str, Any] | None]) -> list[Recomputed]:
        """What each row of the sample holds."""
        keys = [sample.column(column).to_pylist() for column in self.asked.join.keys]
        nobody = [None in key for key in zip(*keys, strict=True)]
        return [self._sampled(at, row or {}, nobody=gone) for at, row, gone in zip(asked_at, found, nobody, strict=True)]

    def _sampled(self, at: int, row: Mapping[str, Any], *, nobody: bool) -> Recomputed:
        best, newest = row.get(_BEST), row.get(_NEWEST)
        best = None if best is None or best["retracted"] else best
        given = self._given(at, best, nobody=nobody)
        plain = "nothing" if nobody or (newest and newest["held"]) else "empty" if newest is None or newest["retracted"] else "row"
        known = best["known"] if best is not None and given == "row" else None
        return Recomputed(self._values(at, best, given), self._values(at, newest, plain), known)

    def _given(self, at: int, version: Mapping[str, Any] | None, *, nobody: bool) -> str:
        """What a reader gets, by the rule of `reading`."""
        visible = self.ends[self.seen <= at]
        holds = reading.conditions(
            reading.question(self.asked.join.group, at=at, coverage=int(visible.max()) if len(visible) else NEVER),
            nobody=nobody,
            absent=version is None,
            at=NEVER if version is None else version["at"],
            empties_at=FOREVER if version is None else self._empties_at(at, version),
            held=version is not None and version["held"],
        )
        return CASES[holds.index(True)].given

    def _empties_at(self, at: int, version: Mapping[str, Any]) -> int:
        if not self.asked.join.group.by_snapshot:
            return FOREVER if version["empties_at"] is None else int(version["empties_at"])
        later = (taken for taken, seen, until in self.snapshots if version["at"] < taken <= at and seen <= at < until)
        return min(later, default=FOREVER)

    def _values(self, at: int, version: Mapping[str, Any] | None, given: str) -> Values:
        join = self.asked.join
        pairs = zip(join.outputs, join.columns, strict=True)
        match given, version:
            case "row", dict():
                return {output: self._shown(at, column, version[self.slots[column]]) for output, column in pairs}
            case "empty", _:
                return {output: None if column in join.group.ages else _listed(self.empty[column]) for output, column in pairs}
        return dict.fromkeys(join.outputs)

    def _shown(self, at: int, column: str, value: Any) -> Any:
        return reading.age(at, micros(value)) if column in self.asked.join.group.ages and value is not None else value


def _listed(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
