"""What a feature's value is, from the merged states of its window: the last step of every aggregation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from pyspark.sql import Column
from pyspark.sql import functions as F

from feature_definitions.aggregations import AGGREGATIONS, is_wide
from feature_definitions.language import Feature, Rows
from feature_definitions.language.features import Window
from feature_definitions.layout import TIME
from feature_definitions.planning.tiling import PartialAggregate
from feature_definitions.sql.data_types import digits_of
from spark_jobs import tables
from spark_jobs.compute import array_sql, folds, tiles

VALUES_OF_ROWS = "values"
"""The name of the part in which the values of a window's newest rows are."""
Folding = Literal["in SQL", "by workers", "while sliding"]
"""Who folds lists of doubles: a few in SQL, many by Spark's Python workers, whose start costs more than a few; or those workers already
have where windows slid, so that in the place of lists there are the parts that `folded_to` names."""
Part = Callable[[str, str], Column]
"""A part of one of a feature's states, by its accumulator and the part's name, merged over the window; null without tiles."""


def value(feature: Feature, window: Window, *, of: str, part: Part, folding: Folding = "in SQL") -> Column:
    """The value of a feature over a window; `of` is the type of what it aggregates."""
    found, empty = _found(feature, window, of, part, folding), feature.meaning.empty
    return found if empty is None else F.coalesce(found, F.lit(empty))


def beyond_its_type(feature: Feature, window: Window, *, of: str, part: Part, folding: Folding = "in SQL") -> Column | None:
    """Whether there are values over a window, but their sum is beyond the type that it has; None where that cannot be."""
    how = VALUES[feature.aggregation]
    if not (how.rows_may_overflow if isinstance(window, Rows) else how.tiles_may_overflow)(of):
        return None
    number = _newest(feature, of, part, folding).number if isinstance(window, Rows) else part("count", "n")
    return (number >= how.fewest) & _found(feature, window, of, part, folding).isNull()


def _found(feature: Feature, window: Window, of: str, part: Part, folding: Folding = "in SQL") -> Column:
    """The value of a feature over a window, null where nothing happened or where it is beyond its type."""
    how = VALUES[feature.aggregation]
    if isinstance(window, Rows):
        return how.of_rows(_newest(feature, of, part, folding))
    return how.of_tiles(_Merged(feature, of, part, folding))


def folded_to(feature: Feature, window: Window, *, of: str) -> tuple[str, ...] | None:
    """What lists are folded to where windows slide, so that the value of a feature can be made of it; None where lists are needed."""
    how = VALUES[feature.aggregation]
    return how.rows_folded(of) if isinstance(window, Rows) else how.tiles_folded(of)


def part_of(states: Mapping[str, PartialAggregate], *, window: str) -> Part:
    """The parts of these states over a window, in the columns that `merged_name` spells."""
    return lambda kind, name: F.col(f"`{merged_name(f'{states[kind].name}_{name}', window)}`")


def merged_name(part: str, window: str) -> str:
    """The column of a state's part, merged over a window."""
    return f"{part}@{window}"


@dataclass(frozen=True, slots=True)
class _Merged:
    """What a window of time holds: the parts of the feature's states, merged; `of` is the type of what it aggregates."""

    feature: Feature
    of: str
    part: Part
    folding: Folding

    def list(self, kind: str) -> Column:
        """The one part of a state that is a list."""
        return self.part(kind, "list")


@dataclass(frozen=True, slots=True)
class _Newest:
    """What a window of rows holds: its events that have a value, the newest first, their values so and sorted, and their number."""

    feature: Feature
    of: str
    events: Column
    values: Column
    ordered: Column
    number: Column
    part: Part
    folding: Folding


def _newest(feature: Feature, of: str, part: Part, folding: Folding) -> _Newest:
    present, values = F.filter(part("rows", "list"), lambda event: event["value"].isNotNull()), part("rows", VALUES_OF_ROWS)
    number = part("rows", "number") if folding == "while sliding" else F.size(values)
    return _Newest(feature, of, present, values, F.sort_array(values), number, part, folding)


def values_of(rows: Column) -> Column:
    """The values of a window's newest rows, of those that have one: what is made of them reads them as a column of their own."""
    return F.filter(F.transform(rows, lambda event: event["value"]), lambda value: value.isNotNull())


def _unless_empty(values: Column) -> Column:
    return F.when(F.size(values) > 0, values)


def _variance(window: _Merged) -> Column:
    if window.of == "int64":
        return _variance_of_integers(window.part)
    match window.folding:
        case "while sliding":
            return window.part("moments", "spread")
        case "by workers":
            return _folded(folds.variance, window.list("moments"))
    return array_sql.variance(window.list("moments"))


def _variance_of_rows(rows: _Newest) -> Column:
    if rows.of == "double" and rows.folding == "while sliding":
        return rows.part("rows", "spread")
    if rows.of == "double" and rows.folding == "by workers":
        return _folded(folds.variance_of_values, rows.ordered)
    return array_sql.variance(F.array(array_sql.moments(F.transform(rows.ordered, lambda value: value.cast("double")))))


def _folded(fold: Callable[[Any], Any], lists: Column) -> Column:
    """Lists of doubles, folded by Spark's Python workers."""
    found: Column = F.arrow_udf(fold, "double")(lists)  # type: ignore[attr-defined]  # it is there, but in no stub
    return found


def _mean(window: _Merged) -> Column:
    number = window.part("count", "n")
    return F.when(number > 0, _total(window.part, window.of, "double") / number)


def _mean_of_rows(rows: _Newest) -> Column:
    return F.when(rows.number > 0, _sum_of(rows).cast("double") / rows.number)


def _typed_sum_of_rows(rows: _Newest) -> Column:
    return _sum_of(rows).try_cast(tables.spark_type(rows.feature.meaning.result(rows.of)))


def _frequencies(rows: _Newest) -> Column:
    return array_sql.added_up(array_sql.once_each(rows.ordered))


def _most_frequent(entries: Column) -> Column:
    return F.get(array_sql.most_frequent(entries), F.lit(0))


def _top(feature: Feature, entries: Column) -> Column:
    return _unless_empty(F.slice(array_sql.most_frequent(entries), 1, feature.k or 1))


def _quantile_of_rows(rows: _Newest) -> Column:
    return F.get(rows.ordered, F.floor(F.lit(float(rows.feature.q or 0)) * (rows.number - 1)).cast("int")).cast("double")


def _estimate(hashes: Column) -> Column:
    """How many distinct hashes there are, from the smallest of them: (k - 1) / (the k-th, as a share of all) (Bar-Yossef et al. 2002)."""
    share = (F.get(hashes, F.lit(tiles.SKETCH - 1)).cast("double") + 2.0**63) / 2.0**64
    return F.when(F.size(hashes) < tiles.SKETCH, F.size(hashes)).otherwise(F.round((tiles.SKETCH - 1) / share)).cast("bigint")


@dataclass(frozen=True, slots=True)
class Value:
    """How Spark makes an aggregation's value of the tiles in a window of time, and of the events of a window of rows.

    Of some types either may need a sum that is beyond its type, and be null then, though there are the `fewest` values that it takes.
    `tiles_folded` and `rows_folded` say of a type what `folded_to` does.
    """

    of_tiles: Callable[[_Merged], Column]
    of_rows: Callable[[_Newest], Column]
    tiles_may_overflow: Callable[[str], bool] = lambda _: False
    rows_may_overflow: Callable[[str], bool] = lambda _: False
    fewest: int = 1
    tiles_folded: Callable[[str], tuple[str, ...] | None] = lambda _: None
    rows_folded: Callable[[str], tuple[str, ...] | None] = lambda _: ("number", VALUES_OF_ROWS)


def _is_exact(of: str) -> bool:
    return of != "double"


def _is_whole(of: str) -> bool:
    return of == "int64"


def _spread_of_tiles(of: str) -> tuple[str, ...] | None:
    return None if _is_whole(of) else ("spread",)


def _spread_of_rows(of: str) -> tuple[str, ...]:
    return ("spread",) if of == "double" else ("number", VALUES_OF_ROWS)


def _total_of(of: str) -> tuple[str, ...]:
    return ("number", "total") if of == "double" else ("number", VALUES_OF_ROWS)


VALUES: Mapping[str, Value] = {
    "count": Value(lambda window: window.part("count", "n"), lambda rows: rows.number, rows_folded=lambda _: ("number",)),
    "sum": Value(
        lambda window: _total(window.part, window.of, "bigint"),
        _typed_sum_of_rows,
        tiles_may_overflow=_is_exact,
        rows_may_overflow=_is_exact,
        rows_folded=_total_of,
    ),
    "mean": Value(_mean, _mean_of_rows, tiles_may_overflow=is_wide, rows_may_overflow=_is_exact, rows_folded=_total_of),
    "min": Value(lambda window: window.part("min", "value"), lambda rows: F.array_min(rows.values)),
    "max": Value(lambda window: window.part("max", "value"), lambda rows: F.array_max(rows.values)),
    "stddev": Value(
        lambda window: F.sqrt(_variance(window)),
        lambda rows: F.sqrt(_variance_of_rows(rows)),
        tiles_may_overflow=_is_whole,
        fewest=2,
        tiles_folded=_spread_of_tiles,
        rows_folded=_spread_of_rows,
    ),
    "first": Value(lambda window: window.part("first", "event")["value"], lambda rows: F.get(rows.values, rows.number - 1)),
    "last": Value(lambda window: window.part("last", "event")["value"], lambda rows: F.get(rows.values, F.lit(0))),
    "count_distinct": Value(lambda window: F.size(window.list("distinct")), lambda rows: F.size(F.array_distinct(rows.values))),
    "variance": Value(
        _variance,
        _variance_of_rows,
        tiles_may_overflow=_is_whole,
        fewest=2,
        tiles_folded=_spread_of_tiles,
        rows_folded=_spread_of_rows,
    ),
    "approx_count_distinct": Value(lambda window: _estimate(window.list("sketch")), lambda rows: F.size(F.array_distinct(rows.values))),
    "quantile": Value(
        lambda window: tiles.middle_of(array_sql.of_rank(window.list("buckets"), float(window.feature.q or 0))), _quantile_of_rows
    ),
    "time_since_last": Value(
        lambda window: window.part("latest", "at"),
        lambda rows: F.get(F.transform(rows.events, lambda event: event[TIME]), F.lit(0)),
        rows_folded=lambda _: None,
    ),
    "mode": Value(lambda window: _most_frequent(window.list("counts")), lambda rows: _most_frequent(_frequencies(rows))),
    "top_k": Value(lambda window: _top(window.feature, window.list("counts")), lambda rows: _top(rows.feature, _frequencies(rows))),
    "last_n": Value(
        lambda window: _unless_empty(F.transform(window.list("newest_values"), lambda event: event["value"])),
        lambda rows: _unless_empty(F.slice(rows.values, 1, rows.feature.k or 1)),
    ),
}
"""The Spark of every aggregation, by its name in `feature_definitions.aggregations`."""


# --------------------------------------------------------------------------------------------------------------------------- sums


def _sum_of(rows: _Newest) -> Column:
    """The sum of sorted values, so that it is the same in every run; integers and decimals exactly, null without any."""
    if rows.of == "double":
        return F.when(rows.number > 0, _total_of_rows(rows))
    exact, wider = (_added(rows.ordered, f"decimal({digits},{digits_of(rows.of)[1]})") for digits in (37, 38))
    return F.when(rows.number > 0, F.coalesce(exact, wider) if is_wide(rows.of) else exact)


def _total_of_rows(rows: _Newest) -> Column:
    match rows.folding:
        case "while sliding":
            return rows.part("rows", "total")
        case "by workers":
            return _folded(folds.total, rows.ordered)
    return _added(rows.ordered, "double")


def _added(values: Column, data_type: str) -> Column:
    """Values added in a type, null beyond it; of two decimals of 38 digits Spark keeps fewer after the point, of 37 it keeps all."""
    return F.aggregate(values, F.lit(0).cast(data_type), lambda so_far, x: F.try_add(so_far, x.try_cast(data_type)).try_cast(data_type))


def _total(part: Part, of: str, spark_type: str) -> Column:
    """The sum of a window: a double for doubles, else a decimal, or for integers of the type `spark_type`.

    Where longs hold it, as they mostly do, no decimal is made: the nearest double of their quotient is that of the decimal, which costs ten
    times as much.
    """
    match of:
        case "double":
            return F.when(part("count", "n") > 0, _total_of_doubles(part))
        case "int64":
            high, low = part("sum", "high"), part("sum", "low")
            small = high.between(-_HIGH, _HIGH) & low.between(0, _LOW)
            return F.when(small, (high * 2**32 + low).cast(spark_type)).otherwise(_total_of_integers(part).try_cast(spark_type))
    total = _bounded(part, of) if is_wide(of) else part("sum", "exact")
    return total.cast("double") if spark_type == "double" else total.try_cast(tables.spark_type(AGGREGATIONS["sum"].result(of)))


def _bounded(part: Part, of: str) -> Column:
    """A sum of decimals that has at most 38 digits, else null.

    Of the sums that it is merged of, one that has more is left out of it: then it is far from what all values add up to roughly. So where
    values of both signs cancel, a sum on the way may be refused that another way would have.
    """
    total, rough = part("sum", "bounded"), part("sum", "rough")
    return F.when(F.abs(total.cast("double") - rough) < 10.0 ** (38 - digits_of(of)[1]) / 2, total)


_HIGH, _LOW = 2**29, 2**61
"""Halves of sums of integers up to these give a sum that a long holds."""
_EXACT = 2**53
"""Doubles hold all integers up to this."""


def _total_of_integers(part: Part) -> Column:
    halves = [part("sum", half).cast("decimal(19,0)") for half in ("high", "low")]
    return (halves[0] * F.lit(2**32).cast("decimal(10,0)") + halves[1]).cast("decimal(38,0)")


def _total_of_doubles(part: Part) -> Column:
    short, exact, wide, large = (part("sum", name) for name in ("short", "exact", "wide", "large"))
    alone = F.coalesce(exact == 0, F.lit(True)) & F.coalesce(wide == 0, F.lit(True)) & large.isNull()
    units = F.coalesce(short, F.lit(0))
    total = _total_of_decimals(_small(units, exact), wide)
    quotient = F.when(alone & units.between(-_EXACT, _EXACT), units.cast("double") / tiles.UNITS)
    return quotient.when(large.isNull(), total).otherwise(total + large)


def _small(short: Column, exact: Column) -> Column:
    """What short doubles and others that are not wide add up to, as a decimal with 18 digits after the point."""
    units = (short.cast("decimal(19,0)") * F.lit(1 / Decimal(tiles.UNITS))).cast("decimal(19,4)")
    return units + F.coalesce(exact, F.lit(0)).cast("decimal(37,18)")


def _total_of_decimals(exact: Column, wide: Column) -> Column:
    """Added as decimals where both fit one; beyond that the nearest doubles differ by more than the digits that are lost."""
    fits = F.abs(wide) < F.lit(10**18)
    return (
        F.when(F.coalesce(wide, F.lit(0)) == 0, exact.cast("double"))
        .when(fits, (exact + wide.cast("decimal(38,18)")).cast("double"))
        .otherwise((exact + wide).cast("double"))
    )


def _variance_of_integers(part: Part) -> Column:
    """The sample variance of integers from their exact sums, (n * sum(x^2) - sum(x)^2) / (n * (n - 1)); null below two.

    Where that does not fit a decimal it is computed in doubles; it is null where the squares of small ones have more than 38 digits.
    """
    n, total, squares, large = part("count", "n"), _total_of_integers(part), part("squares", "exact"), part("squares", "large")
    rough = F.coalesce(squares.cast("double"), F.lit(0.0)) + F.coalesce(large, F.lit(0.0))
    exact = (n.cast("decimal(38,0)") * squares.cast("decimal(38,0)") - total * total).cast("double")
    spread = F.when(large.isNull() & (n * rough < 9e37), exact).otherwise(
        n * F.greatest(F.lit(0.0), rough - total.cast("double") * total.cast("double") / n)
    )
    known = F.coalesce(squares < F.lit(tiles.MOST), F.lit(True))
    return F.when((n >= 2) & known, spread / (n * (n - 1)).cast("double"))
