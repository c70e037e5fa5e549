"""How two versions of training sets differ: rows by what identifies them in the spine, columns, and what the features hold.

How far a feature moved is the standardized difference: that of the means over the root of the mean of both variances. It needs no bins,
and does not grow with the rows. (Austin, Statistics in Medicine 28 (2009), 3083-3107, who takes 0.1 for small.)
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from feature_definitions import layout
from feature_definitions.errors import UserError
from lake import training_sets
from lake.training_sets import BuiltVersion
from spark_jobs.context import Context
from spark_jobs.training import past
from spark_jobs.training.past import Said

_OWN = (layout.ROW_NUMBER, layout.ROW_DATE)
"""Columns that say where a row lies: that it moved is no change of it."""


class DiffRefused(UserError):
    """Two versions that cannot be compared."""


class RowCounts(NamedTuple):
    """How many rows only the second has, only the first has, are in both with other values, and are the same in both."""

    added: int
    removed: int
    changed: int
    same: int


class ColumnDifference(NamedTuple):
    """A column that both have: in how many of the rows of both its value is another one, and what it holds, first and second.

    `shift` is the standardized difference; it, nulls and means are of features alone, and None where there is none.
    """

    name: str
    changed: int
    nulls: tuple[int | None, int | None]
    means: tuple[float | None, float | None]
    shift: float | None


@dataclass(frozen=True, slots=True)
class Difference:
    """How a second version differs from a first one. Rows are the same if the columns of `identity` are, repeated ones in their order."""

    first: BuiltVersion
    second: BuiltVersion
    identity: tuple[str, ...]
    rows: RowCounts
    columns_added: tuple[str, ...]
    columns_removed: tuple[str, ...]
    retyped: Mapping[str, tuple[str, str]]
    columns: tuple[ColumnDifference, ...]


def diff(first: BuiltVersion, second: BuiltVersion, identity: Sequence[str], context: Context) -> Difference:
    """Compare two versions; by Spark, where their checksums are not the same."""
    one, other = _columns(first), _columns(second)
    for name in identity:
        if name not in one or name not in other:
            raise DiffRefused(f"rows cannot be told apart by {name!r}, which {_named(first if name not in one else second)} does not have")
    both = [name for name in one if name in other and name not in _OWN]
    retyped = {name: (one[name], other[name]) for name in both if one[name] != other[name]}
    compared = [name for name in both if name not in retyped]
    rows, changed = _compared(first, second, tuple(identity), compared, context)
    apart = rows.added or rows.removed
    held = {name: first.manifest if not apart and not changed.get(name) else second.manifest for name in compared}
    return Difference(
        first,
        second,
        tuple(identity),
        rows,
        tuple(name for name in other if name not in one),
        tuple(name for name in one if name not in other),
        retyped,
        tuple(_described(name, changed.get(name, 0), first.manifest, held[name]) for name in compared),
    )


def _columns(of: BuiltVersion) -> dict[str, str]:
    said: Said = of.manifest
    return {name: held["type"] for name, held in said["columns"].items()}


def _named(of: BuiltVersion) -> str:
    return f"version {training_sets.number(of)} of {of.manifest['name']}"


# --------------------------------------------------------------------------------------------------------------------------- rows


def _compared(
    first: BuiltVersion, second: BuiltVersion, identity: Sequence[str], columns: Sequence[str], context: Context
) -> tuple[RowCounts, dict[str, int]]:
    if first.manifest["checksum"] == second.manifest["checksum"]:
        return RowCounts(0, 0, 0, int(str(first.manifest["rows"]))), {}
    for each in (first, second):
        if not training_sets.is_readable(each, context.lake):
            raise DiffRefused(f"{_named(each)} cannot be read any more: its files, or its log, were deleted")
    return counted(past.rows_of(first, context), past.rows_of(second, context), identity=identity, columns=columns)


def counted(one: DataFrame, other: DataFrame, *, identity: Sequence[str], columns: Sequence[str]) -> tuple[RowCounts, dict[str, int]]:
    """How rows of two frames compare, and in how many rows of both the values of each column are others; one job."""
    sides = [_sided(rows, identity, columns, side=side) for side, rows in (("one", one), ("other", other))]
    same = F.lit(True)
    for name in [*(f"k{n}" for n in range(len(identity))), "n"]:
        same = same & F.col(f"one_{name}").eqNullSafe(F.col(f"other_{name}"))
    both = sides[0].join(sides[1], on=same, how="full_outer")
    paired = F.col("one").isNotNull() & F.col("other").isNotNull()
    moved = [~F.col("one")[name].eqNullSafe(F.col("other")[name]) for name in columns]
    totals = [
        F.col("one").isNull(),
        F.col("other").isNull(),
        paired & _any(moved),
        paired & ~_any(moved),
        *(paired & each for each in moved),
    ]
    found: Any = both.agg(*[F.sum(each.cast("long")).alias(f"s{n}") for n, each in enumerate(totals)]).collect()[0]
    added, removed, changed, unchanged, *each = [int(total or 0) for total in found]
    return RowCounts(added, removed, changed, unchanged), dict(zip(columns, each, strict=True))


def _sided(rows: DataFrame, identity: Sequence[str], columns: Sequence[str], *, side: str) -> DataFrame:
    """Rows by what identifies them, those that nothing tells apart numbered in their order, with what is compared."""
    keys = [F.col(f"`{name}`") for name in identity]
    number = F.row_number().over(Window.partitionBy(*keys).orderBy(layout.ROW_NUMBER))
    named = [key.alias(f"{side}_k{n}") for n, key in enumerate(keys)]
    return rows.select(
        *named, number.alias(f"{side}_n"), F.struct(F.lit(1).alias("_hw_there"), *[f"`{name}`" for name in columns]).alias(side)
    )


def _any(of: Sequence[Column]) -> Column:
    found = F.lit(False)
    for each in of:
        found = found | each
    return found


# ------------------------------------------------------------------------------------------------------------------ what they hold


def _described(name: str, changed: int, first: Said, second: Said) -> ColumnDifference:
    one, other = (of["statistics"]["features"].get(name, {}) for of in (first, second))
    nulls = (one.get("nulls"), other.get("nulls"))
    return ColumnDifference(name, changed, nulls, (one.get("mean"), other.get("mean")), shift(one, other))


def shift(one: Said, other: Said) -> float | None:
    """The standardized difference of two features by their statistics; None where one of them has no mean or no deviation."""
    told = [of.get(what) for what in ("mean", "sd") for of in (one, other)]
    if None in told:
        return None
    before, after, *deviations = (float(each) for each in told if each is not None)
    spread, moved = math.hypot(*deviations) / math.sqrt(2), after - before
    if spread == 0:
        return 0.0 if moved == 0 else None
    found = moved / spread
    return found if math.isfinite(found) else None
