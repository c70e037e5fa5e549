"""What a feature's value is, from the merged states of its window: the last step of every aggregation."""

from collections.abc import Callable, Mapping
from decimal import Decimal

from pyspark.sql import Column
from pyspark.sql import functions as F

from feature_definitions.language import Feature, Rows
from feature_definitions.language.features import Window
from feature_definitions.layout import TIME
from feature_definitions.planning.tiling import PartialAggregate
from spark_jobs.compute import array_sql, tiles

Part = Callable[[str, str], Column]
"""A part of one of a feature's states, by its kind and the part's name, merged over the window; null without tiles."""


def value(feature: Feature, window: Window, *, of: str, part: Part) -> Column:
    """The value of a feature over a window; `of` is the type of what it aggregates. Without values counts and sums are 0, others null."""
    if isinstance(window, Rows):
        return _of_rows(feature, part("rows", "list"), of)
    match feature.aggregation:
        case "count":
            return F.coalesce(part("count", "n"), F.lit(0))
        case "sum":
            return F.coalesce(_total(part, of, "bigint"), F.lit(0))
        case "mean":
            number = part("count", "n")
            return F.when(number > 0, _total(part, of, "double") / number)
        case "stddev" | "variance":
            variance = _variance_of_integers(part) if of == "int64" else array_sql.variance(part("moments", "list"))
            return F.sqrt(variance) if feature.aggregation == "stddev" else variance
        case "first" | "last":
            return part(feature.aggregation, "event")["value"]
        case "time_since_last":
            return part("latest", "at")
        case "min" | "max":
            return part(feature.aggregation, "value")
    return _of_list(feature, part(_LISTS[feature.aggregation], "list"))


_LISTS = {
    "count_distinct": "distinct",
    "approx_count_distinct": "sketch",
    "quantile": "buckets",
    "mode": "counts",
    "top_k": "counts",
    "last_n": "newest_values",
}


def _of_list(feature: Feature, values: Column) -> Column:
    """The value of an aggregation whose state is a list, tidied."""
    match feature.aggregation:
        case "count_distinct":
            return F.size(values)
        case "approx_count_distinct":
            return _estimate(values)
        case "quantile":
            return tiles.middle_of(array_sql.of_rank(values, float(feature.q or 0)))
        case "last_n":
            return _unless_empty(F.transform(values, lambda event: event["value"]))
    return _most_frequent(feature, values)


def _unless_empty(values: Column) -> Column:
    return F.when(F.size(values) > 0, values)


def _most_frequent(feature: Feature, entries: Column) -> Column:
    best = array_sql.most_frequent(entries)
    return F.get(best, F.lit(0)) if feature.aggregation == "mode" else _unless_empty(F.slice(best, 1, feature.k or 1))


def _estimate(hashes: Column) -> Column:
    """How many distinct hashes there are, from the smallest of them: (k - 1) / (the k-th, as a share of all) (Bar-Yossef et al. 2002)."""
    share = (F.get(hashes, F.lit(tiles.SKETCH - 1)).cast("double") + 2.0**63) / 2.0**64
    return F.when(F.size(hashes) < tiles.SKETCH, F.size(hashes)).otherwise(F.round((tiles.SKETCH - 1) / share)).cast("bigint")


# ---------------------------------------------------------------------------------------------------------------- windows of rows


def _of_rows(feature: Feature, rows: Column, of: str) -> Column:
    """The value of a feature over rows, the newest first."""
    present = F.filter(rows, lambda event: event["value"].isNotNull())
    values = F.transform(present, lambda event: event["value"])
    ordered, number = F.array_sort(values), F.size(values)
    match feature.aggregation:
        case "count":
            return number
        case "sum" | "mean":
            total = _sum_of(ordered, of)
            return F.coalesce(total, F.lit(0)) if feature.aggregation == "sum" else F.when(number > 0, total.cast("double") / number)
        case "min" | "max":
            return (F.array_min if feature.aggregation == "min" else F.array_max)(values)
        case "first" | "last":
            return F.get(values, number - 1 if feature.aggregation == "first" else F.lit(0))
        case "stddev" | "variance":
            variance = array_sql.variance(F.array(array_sql.moments(F.transform(ordered, lambda value: value.cast("double")))))
            return F.sqrt(variance) if feature.aggregation == "stddev" else variance
        case "count_distinct" | "approx_count_distinct":
            return F.size(F.array_distinct(values))
        case "quantile":
            return F.get(ordered, F.floor(F.lit(float(feature.q or 0)) * (number - 1)).cast("int")).cast("double")
        case "time_since_last":
            return F.get(F.transform(present, lambda event: event[TIME]), F.lit(0))
        case "last_n":
            return _unless_empty(F.slice(values, 1, feature.k or 1))
    return _most_frequent(feature, array_sql.added_up(array_sql.once_each(ordered)))


def _sum_of(values: Column, of: str) -> Column:
    """The sum of sorted values, so that it is the same in every run; integers and decimals exactly, null without any."""
    kind = "double" if of == "double" else f"decimal(38,{of.rpartition(',')[2].rstrip(')') if ',' in of else 0})"
    total = F.aggregate(values, F.lit(0).cast(kind), lambda so_far, x: (so_far + x.cast(kind)).cast(kind))
    return F.when(F.size(values) > 0, total)


# ------------------------------------------------------------------------------------------------------------------- parts, sums


def part_of(states: Mapping[str, PartialAggregate], *, window: str) -> Part:
    """The parts of these states over a window, in the columns that `merged_name` spells."""
    return lambda kind, name: F.col(f"`{merged_name(f'{states[kind].name}_{name}', window)}`")


def merged_name(part: str, window: str) -> str:
    """The column of a state's part, merged over a window."""
    return f"{part}@{window}"


def _total(part: Part, of: str, kind: str) -> Column:
    """The sum of a window: a double for doubles, else a decimal, or for integers of the type `kind`.

    Where longs hold it, as they mostly do, no decimal is made: the nearest double of their quotient is that of the decimal, which costs ten
    times as much.
    """
    match of:
        case "double":
            return F.when(part("count", "n") > 0, _total_of_doubles(part))
        case "int64":
            high, low = part("sum", "high"), part("sum", "low")
            small = high.between(-_HIGH, _HIGH) & low.between(0, _LOW)
            return F.when(small, (high * 2**32 + low).cast(kind)).otherwise(_total_of_integers(part).cast(kind))
    total = part("sum", "exact")
    return total.cast("double") if kind == "double" else total


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

    Where that does not fit a decimal it is computed in doubles.
    """
    n, total, squares, large = part("count", "n"), _total_of_integers(part), part("squares", "exact"), part("squares", "large")
    rough = F.coalesce(squares.cast("double"), F.lit(0.0)) + F.coalesce(large, F.lit(0.0))
    exact = (n.cast("decimal(38,0)") * squares.cast("decimal(38,0)") - total * total).cast("double")
    spread = F.when(large.isNull() & (n * rough < 9e37), exact).otherwise(
        n * F.greatest(F.lit(0.0), rough - total.cast("double") * total.cast("double") / n)
    )
    return F.when(n >= 2, spread / (n * (n - 1)).cast("double"))
