"""Says in which part of a training set each of its rows is: counts the rows along a line, and makes an expression of the cuts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from feature_definitions import layout
from feature_definitions.errors import UserError
from feature_definitions.intervals import DAY, MICROSECOND, duration, instant, iso
from feature_definitions.language import FeatureService, Label, Split
from feature_definitions.planning import cuts
from feature_definitions.planning.cuts import Stretch
from spark_jobs import tables
from spark_jobs.training import order
from spark_jobs.training.order import NUMBER

PART = layout.ROW_PART
"""The column that says in which part a row is; null of one that is in none."""

_SECOND = 1_000_000
_DAY_SECONDS = int(DAY.total_seconds())
_LABELS, _PLACES = 100, 4096
"""How many values a label may have by which a training set is cut, and how many places each of them has on its line."""


class SplitRefused(UserError):
    """A training set that cannot be cut as its split says."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Where the rows of a training set are cut: along one line, or for each value of the label along one of its own."""

    split: Split
    lines: Mapping[Any, tuple[Stretch, ...]]

    @property
    def described(self) -> list[dict[str, object]]:
        """The parts as a manifest names them; of a split by time with the times of their first row and of the next part's."""
        by_time = self.split.by == "time"
        ends = {part.name: part for part in self.lines[None]} if by_time else {}
        bounds = {n: {"from": _said(part.first), "to": _said(part.end)} for n, part in ends.items()}
        return [{"name": name, "share": share, **bounds.get(name, {})} for name, share in self.split.shares.items()]


def cut(rows: DataFrame, split: Split, *, at: str, label: Label | None, days: Mapping[int, int]) -> Cut:
    """Where rows are cut; `days` counts them by date (days since 1970). One pass over some of them, or two over all by label."""
    match split.by:
        case "time":
            return Cut(split, {None: cuts.parts(_times(rows, split, at, days), split.shares)})
        case "label":
            return Cut(split, _by_label(rows, split, _column_of(label)))
    return Cut(split, {None: cuts.parts(dict.fromkeys(range(cuts.HASHES), 1), split.shares)})


def with_part(rows: DataFrame, made: Cut, *, at: str, service: FeatureService, label: Label | None) -> DataFrame:
    """The rows with the column `hw_split`; lazy."""
    split = made.split
    match split.by:
        case "time":
            return rows.withColumn(PART, _of_time(made.lines[None], F.unix_micros(f"`{at}`"), label))
        case "entity":
            place = _hash(split, service.keys, places=cuts.HASHES)
        case "random":
            place = _hash(split, _content(rows), places=cuts.HASHES)
        case "label":
            place = _hash(split, _content(rows), places=_PLACES)
            value = F.col(f"`{_column_of(label)}`").cast("string")
            chosen = F.coalesce(*[F.when(value.eqNullSafe(F.lit(one)), _part(place, line)) for one, line in made.lines.items()])
            return rows.withColumn(PART, chosen if made.lines else F.lit(None).cast("string"))
    return rows.withColumn(PART, _part(place, made.lines[None]))


def _times(rows: DataFrame, split: Split, at: str, counted: Mapping[int, int]) -> dict[int, int]:
    """How many rows are at each time, in seconds: whole days are at their first, but those in which a cut may fall."""
    second = F.floor(F.unix_micros(f"`{at}`") / F.lit(_SECOND)).cast("bigint")
    days = {day * _DAY_SECONDS: number for day, number in counted.items()}
    before = dict(zip(sorted(days), accumulate((days[each] for each in sorted(days)), initial=0), strict=False))
    total = sum(days.values())
    wanted = [share * total for share in [*accumulate(split.shares.values())][:-1]]
    finer = [one for one in days if any(before[one] <= rows_before <= before[one] + days[one] for rows_before in wanted)]
    if not finer:
        return days
    seconds = _counted(rows.where(order.day(at).isin([one // _DAY_SECONDS for one in finer])).groupBy(second.alias("place")))
    return {place: count for place, count in days.items() if place not in finer} | seconds


def _by_label(rows: DataFrame, split: Split, column: str) -> dict[Any, tuple[Stretch, ...]]:
    value, place = F.col(f"`{column}`").cast("string").alias("value"), _hash(split, _content(rows), places=_PLACES).alias("place")
    if rows.select(value).distinct().limit(_LABELS + 1).count() > _LABELS:
        raise SplitRefused(
            f"the label {column!r} has more than {_LABELS} values, so its rows cannot be cut by label; "
            "derive a column of few classes from it, or cut by time, entity or random"
        )
    counts: dict[Any, dict[int, int]] = {}
    for row in rows.groupBy(value, place).count().collect():
        counts.setdefault(row["value"], {})[row["place"]] = row["count"]
    ordered = sorted(counts, key=lambda one: (one is not None, one))
    return {one: cuts.parts(counts[one], split.shares) for one in ordered}


def _counted(grouped: Any) -> dict[int, int]:
    return {row["place"]: row["count"] for row in grouped.count().collect()}


def _content(rows: DataFrame) -> list[str]:
    """The columns that are the spine's own: equal rows are in one part, wherever they stand."""
    return [name for name in rows.columns if name != NUMBER]


def _hash(split: Split, columns: Iterable[str], *, places: int) -> Column:
    """The place of a row by the values of some columns."""
    return F.pmod(F.xxhash64(F.lit(split.seed), tables.fingerprint_of([*columns])), F.lit(places))


def _part(place: Column, line: tuple[Stretch, ...]) -> Column:
    """The part that a place is in."""
    chosen = F.lit(line[0].name)
    for part in line[1:]:
        chosen = F.when(place >= F.lit(part.first), F.lit(part.name)).otherwise(chosen)
    return chosen


def _of_time(line: tuple[Stretch, ...], at: Column, label: Label | None) -> Column:
    """The part of a time in microseconds, null where what is labelled then is decided only after the part."""
    micros = tuple(Stretch(part.name, *(None if end is None else end * _SECOND for end in part[1:])) for part in line)
    horizon = 0 if label is None else duration(label.horizon) // MICROSECOND
    chosen = _part(at, micros)
    late = [(chosen == F.lit(part.name)) & (at + F.lit(horizon) > F.lit(part.end)) for part in micros if part.end is not None]
    for crossing in late:
        chosen = F.when(~crossing, chosen)
    return chosen


def _column_of(label: Label | None) -> str:
    if label is None:
        raise SplitRefused("a split by label needs a label; write label=Label('column', '30d'), or cut by time, entity or random")
    return label.column


def _said(second: int | None) -> str | None:
    return None if second is None else iso(instant(second * _SECOND))
