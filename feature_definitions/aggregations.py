"""The one table of aggregations: what each takes and gives, from which accumulators of tiles it is computed, what is expected of it.

Definitions, checks, tiles, values, the gate and readers ask here. What Spark computes lies in two tables keyed by the names of these:
`spark_jobs.compute.tiles.EXPRESSIONS` by accumulators, `spark_jobs.compute.aggregates.VALUES` by aggregations.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from feature_definitions.sql.data_types import decimal, digits_of, is_decimal

Takes = Literal["events", "values", "scalars", "numbers"]
"""What is aggregated: events as such, or those with a value if a column is named; values of any type; all but arrays; numbers."""
Merge = Literal["sum", "sum or null", "sum at most", "min", "max", "concat"]
"""How a part is merged over tiles; a sum of decimals may be null, or the greatest there is, where it is beyond their 38 digits."""
WIDE = "wide decimal"
"""What a decimal is called of which sums may have more than 38 digits, as they need ten more than its values have."""


@dataclass(frozen=True, slots=True)
class Accumulator:
    """What a tile keeps of its events, in one or several parts, which are merged over tiles.

    `parts` are those for most types of values, `parts_of` those for some, and `merges` says which are merged in a way of their own.
    `is_ordered` says that it matters which of two events of one time is newer, `is_sized` that only so many of a list are kept. A sliding
    window takes the difference of two running sums if it is exact: sums that are decimals with 38 digits leave no digit free for it, save
    of the types in `leaves_digit`.
    """

    name: str
    merge: Merge = "concat"
    parts: tuple[str, ...] = ("list",)
    parts_of: tuple[tuple[str, tuple[str, ...]], ...] = ()
    merges: tuple[tuple[str, Merge], ...] = ()
    is_ordered: bool = False
    is_sized: bool = False
    leaves_digit: tuple[str, ...] = ()

    def parts_for(self, data_type: str) -> tuple[str, ...]:
        """The parts that are kept of values of a type."""
        return dict(self.parts_of).get(WIDE if is_wide(data_type) else data_type, self.parts)

    def merge_of(self, part: str) -> Merge:
        """How a part is merged over tiles."""
        return dict(self.merges).get(part, self.merge)


def is_wide(data_type: str) -> bool:
    """Whether it is a decimal of which sums may have more than 38 digits."""
    return is_decimal(data_type) and digits_of(data_type)[0] > 28


_OF_TILES = (
    Accumulator("count", "sum", ("n",)),
    Accumulator(
        "sum",
        "sum",
        ("exact",),
        (("double", ("short", "exact", "wide", "large")), ("int64", ("high", "low")), (WIDE, ("bounded", "rough"))),
        merges=(("bounded", "sum or null"),),
        leaves_digit=("double",),
    ),
    Accumulator("squares", "sum", ("exact", "large"), merges=(("exact", "sum at most"),)),
    Accumulator("min", "min", ("value",)),
    Accumulator("max", "max", ("value",)),
    Accumulator("first", "min", ("event",), is_ordered=True),
    Accumulator("last", "max", ("event",), is_ordered=True),
    Accumulator("latest", "max", ("at",)),
    Accumulator("newest", "max", ("at",)),
    Accumulator("failures", "sum", ("n",)),
    Accumulator("moments"),
    Accumulator("distinct"),
    Accumulator("sketch"),
    Accumulator("buckets"),
    Accumulator("counts"),
    Accumulator("newest_values", is_ordered=True, is_sized=True),
    Accumulator("rows", is_ordered=True, is_sized=True),
)
ACCUMULATORS: Mapping[str, Accumulator] = {each.name: each for each in _OF_TILES}
"""Every accumulator by its name. `newest` tells which tiles have events at all, `failures` how many events
have no value of what is aggregated, where an expression may fail, and `rows` is what windows of rows are computed from."""


@dataclass(frozen=True, slots=True)
class Aggregation:
    """What an aggregation means, apart from the Spark that computes it.

    `gives` is the type of its values, or what makes it of the type that it takes; `accumulators` are those that a window of time needs,
    `accumulators_of` where they are others for a type. `empty` is its value where nothing happened. It may ask for a parameter of the
    feature, the share `q` or the number `k`. `is_seen` says that some row has a value wherever a source has any, of which the gate warns;
    `is_age` that the time of an event is kept and readers see the seconds since then.
    """

    name: str
    takes: Takes
    gives: str | Callable[[str], str]
    accumulators: tuple[str, ...]
    accumulators_of: tuple[tuple[str, tuple[str, ...]], ...] = ()
    empty: int | None = None
    parameter: Literal["q", "k"] | None = None
    is_seen: bool = False
    is_age: bool = False

    @property
    def takes_arrays(self) -> bool:
        """Whether it can be of an array."""
        return self.takes in ("events", "values")

    def result(self, data_type: str) -> str:
        """The type of its values over values of a type."""
        return self.gives if isinstance(self.gives, str) else self.gives(data_type)

    def needs(self, data_type: str) -> tuple[str, ...]:
        """The accumulators that a window of time over values of a type is computed from."""
        return dict(self.accumulators_of).get(data_type, self.accumulators)


def _same(data_type: str) -> str:
    return data_type


def _array(data_type: str) -> str:
    return f"array<{data_type}>"


def _total(data_type: str) -> str:
    """Sums of decimals have ten digits more, as in Spark."""
    digits, scale = digits_of(data_type)
    return decimal(min(38, digits + 10), scale) if is_decimal(data_type) else data_type


_SPREAD = (("int64", ("sum", "squares", "count")),)
"""How far integers are spread follows from their exact sums."""
_KNOWN = (
    Aggregation("count", "events", "int64", ("count",), empty=0),
    Aggregation("sum", "numbers", _total, ("sum", "count"), empty=0),
    Aggregation("mean", "numbers", "double", ("sum", "count"), is_seen=True),
    Aggregation("min", "scalars", _same, ("min",), is_seen=True),
    Aggregation("max", "scalars", _same, ("max",), is_seen=True),
    Aggregation("stddev", "numbers", "double", ("moments",), _SPREAD),
    Aggregation("first", "values", _same, ("first",), is_seen=True),
    Aggregation("last", "values", _same, ("last",), is_seen=True),
    Aggregation("count_distinct", "scalars", "int64", ("distinct",), empty=0),
    Aggregation("variance", "numbers", "double", ("moments",), _SPREAD),
    Aggregation("approx_count_distinct", "scalars", "int64", ("sketch",), empty=0),
    Aggregation("quantile", "numbers", "double", ("buckets",), parameter="q"),
    Aggregation("time_since_last", "events", "timestamp", ("latest",), is_age=True),
    Aggregation("mode", "scalars", _same, ("counts",)),
    Aggregation("top_k", "scalars", _array, ("counts",), parameter="k"),
    Aggregation("last_n", "scalars", _array, ("newest_values",), parameter="k"),
)
AGGREGATIONS: Mapping[str, Aggregation] = {each.name: each for each in _KNOWN}
"""Every aggregation by its name."""

ELSEWHERE = {"avg": "mean", "average": "mean", "std": "stddev", "median": "quantile", "percentile": "quantile", "nunique": "count_distinct"}
"""What aggregations are called elsewhere."""
