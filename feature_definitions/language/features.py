# mypy: disable-error-code=redundant-expr
# What users write is checked when it runs: a definition may hold anything, whatever its types say.
"""Features: aggregations of a source's events over windows, and what is derived from them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from types import MappingProxyType

from feature_definitions.aggregations import AGGREGATIONS, ELSEWHERE, Aggregation
from feature_definitions.intervals import duration
from feature_definitions.language.expect import Expectation, expectations
from feature_definitions.language.rules import COLUMN, DefinitionError, check_name, check_span, check_sql, check_unique, closest

SHORTEST_WINDOW, LONGEST_WINDOW = timedelta(minutes=5), timedelta(days=730)
LIFETIME = "lifetime"
"""The window from the first event on."""

_MOST_ROWS, _MOST_VALUES = 10_000, 100


@dataclass(frozen=True, slots=True)
class Rows:
    """A window of an entity's newest `count` events (those for which the feature's `where` holds) in `[T - within, T)`.

    An event counts whether or not the feature's `of` is null. The column is `<name>_<count>rows`.
    """

    count: int
    within: str

    def __post_init__(self) -> None:
        """Check the count and how far back it may reach."""
        if isinstance(self.count, bool) or not isinstance(self.count, int) or not 1 <= self.count <= _MOST_ROWS:
            raise DefinitionError(f"Rows({self.count!r}) is no number of rows; write 1 to {_MOST_ROWS:,}, like Rows(20, within='60d')")
        if not SHORTEST_WINDOW <= check_span(str(self), "within", self.within) <= LONGEST_WINDOW:
            raise DefinitionError(f"{self!r} reaches {self.within!r} back; write within='5m' to '730d'")
        object.__setattr__(self, "within", self.within.strip())

    def __str__(self) -> str:
        """The window as it ends a column's name: `20rows`."""
        return f"{self.count}rows"


Window = str | Rows


def reach(window: Window) -> timedelta | None:
    """How far back from `T` a window may read; None: to the first event there is."""
    match window:
        case Rows():
            return duration(window.within)
        case "lifetime":
            return None
    return duration(window)


@dataclass(frozen=True, slots=True)
class Feature:
    """An aggregation of a source's events over windows; each window is a column `<name>_<window>`.

    `of` is a column or a Spark SQL expression over the source's columns (`count` without it counts rows), `where` a condition on events.
    A window is a duration, "lifetime" or `Rows`. `by={"category": ("food", "travel")}` makes a feature of each value. `q` is the quantile
    asked for, `k` how many values `top_k` and `last_n` keep: the most frequent (of equally frequent ones the smaller first) and the newest.

    `quantile` is within 1 % of the true value, `approx_count_distinct` exact up to 1,000 values and beyond with a standard error of 3 %.
    `time_since_last` is stored as the time of the last event (of the last with `of`, if it is given); readers see the seconds since then.
    """

    name: str
    aggregation: str
    of: str | None = None
    windows: tuple[Window, ...] = ()
    where: str | None = None
    by: Mapping[str, tuple[str | int, ...]] | None = None
    expect: tuple[Expectation, ...] = ()
    q: float | None = None
    k: int | None = None

    def __post_init__(self) -> None:
        """Check the name, the aggregation with what it needs, each window and each value."""
        where = f"feature {self.name}"
        check_name("feature", self.name)
        windows = self.windows if isinstance(self.windows, tuple | list) else (self.windows,)
        object.__setattr__(self, "windows", tuple(w.strip() if isinstance(w, str) else w for w in windows))
        object.__setattr__(self, "expect", expectations(where, self.expect))
        check_sql(where, {"of": self.of, "where": self.where})
        _check_aggregation(where, self)
        _check_windows(where, self.windows)
        if self.by is not None:
            object.__setattr__(self, "by", _closed(where, self.by))
            check_unique(where, [f.name for f in self.expanded], "column for its values", "give each value a name of its own")

    @property
    def meaning(self) -> Aggregation:
        """What its aggregation means."""
        return AGGREGATIONS[self.aggregation]

    @property
    def expanded(self) -> tuple["Feature", ...]:
        """What is computed: the feature itself, or with `by` one of each value, without `by` and named `<name>_<value>`."""
        if self.by is None:
            return (self,)
        ((column, values),) = self.by.items()
        return tuple(replace(self, name=f"{self.name}_{_slug(v)}", where=_narrowed(self.where, column, v), by=None) for v in values)

    @property
    def columns(self) -> tuple[str, ...]:
        """The output columns, one per window; with `by` those of each value in turn."""
        return tuple(f"{feature.name}_{window}" for feature in self.expanded for window in feature.windows)


@dataclass(frozen=True, slots=True)
class Derived:
    """A column computed from a group's own features by a Spark SQL expression; division by zero is null."""

    name: str
    expression: str
    expect: tuple[Expectation, ...] = ()

    def __post_init__(self) -> None:
        """Check the name."""
        check_name("feature", self.name)
        object.__setattr__(self, "expect", expectations(f"feature {self.name}", self.expect))
        if not isinstance(self.expression, str) or not self.expression.strip():
            raise DefinitionError(f"feature {self.name} is derived from nothing; write an expression, like 'spend_30d / payments_30d'")

    @property
    def columns(self) -> tuple[str, ...]:
        """The one output column."""
        return (self.name,)


# ------------------------------------------------------------------------------------------------------------------------ checks


def _check_aggregation(where: str, feature: Feature) -> None:
    name = feature.aggregation
    if name == "lag":
        raise DefinitionError(
            f"{where}: a lag is of events, not of windows; derive it at the source, like derive={{'change': 'close / prev.close - 1'}}"
        )
    if name not in AGGREGATIONS:
        near = closest(ELSEWHERE.get(str(name).lower(), str(name)), AGGREGATIONS)
        raise DefinitionError(f"{where} has the aggregation {name!r}; there are {', '.join(AGGREGATIONS)}{near and f'.{near}'}")
    if feature.of is None and feature.meaning.takes != "events":
        raise DefinitionError(f"{where}: {name} of what? Name a column, like Feature({feature.name!r}, {name!r}, 'amount')")
    _check_quantile(where, feature)
    _check_values_kept(where, feature)


def _check_quantile(where: str, feature: Feature) -> None:
    if feature.meaning.parameter != "q":
        if feature.q is not None:
            raise DefinitionError(f"{where}: q={feature.q!r} is for the aggregation {_with('q')}, not {feature.aggregation}; remove it")
    elif isinstance(feature.q, bool) or not isinstance(feature.q, int | float) or not 0 < feature.q < 1:
        raise DefinitionError(f"{where} asks for the quantile q={feature.q!r}; write 0 < q < 1, like q=0.95")


def _check_values_kept(where: str, feature: Feature) -> None:
    if feature.meaning.parameter != "k":
        if feature.k is not None:
            raise DefinitionError(f"{where}: k={feature.k!r} is for {_with('k')}, not {feature.aggregation}; remove it")
    elif isinstance(feature.k, bool) or not isinstance(feature.k, int) or not 1 <= feature.k <= _MOST_VALUES:
        raise DefinitionError(f"{where} keeps k={feature.k!r} values; write a whole number from 1 to {_MOST_VALUES}, like k=3")


def _with(parameter: str) -> str:
    """The aggregations that ask for a parameter."""
    return " and ".join(name for name, each in AGGREGATIONS.items() if each.parameter == parameter)


def _check_windows(where: str, windows: tuple[Window, ...]) -> None:
    if not windows:
        raise DefinitionError(f"{where} has no windows; write windows=('1d', '7d')")
    for window in windows:
        if not isinstance(window, Rows) and window != LIFETIME:
            _check_length(where, window)
    check_unique(where, [str(window) for window in windows], "window", "remove one")


def _check_length(where: str, window: str) -> None:
    try:
        span = check_span(where, "window", window)
    except DefinitionError as error:
        raise DefinitionError(f"{error}; or write 'lifetime', or Rows(20, within='60d')") from None
    if not SHORTEST_WINDOW <= span <= LONGEST_WINDOW:
        raise DefinitionError(f"{where} has the window {window!r}; windows are 5m to 730d long, or 'lifetime'")


# ---------------------------------------------------------------------------------------------------------------------------- by


def _closed(where: str, by: object) -> Mapping[str, tuple[str | int, ...]]:
    """One column with the list of its values, frozen."""
    example = "by={'category': ('food', 'travel')}"
    if isinstance(by, str):
        raise DefinitionError(
            f"{where} is by {by!r} without a closed list of values, so its columns would follow the data; write {example}"
        )
    if not isinstance(by, Mapping) or len(by) != 1:
        raise DefinitionError(f"{where} has by={by!r}; write one column with the closed list of its values, like {example}")
    ((column, values),) = by.items()
    if not isinstance(column, str) or not COLUMN.fullmatch(column):
        raise DefinitionError(f"{where} is by {column!r}, which is no column; write {example}")
    if not isinstance(values, tuple | list) or not values:
        raise DefinitionError(f"{where} is by {column!r} without a closed list of values, but {values!r}; write {example}")
    types = {type(value) for value in values}
    if types not in ({str}, {int}):
        raise DefinitionError(f"{where} is by {column!r} with the values {values!r}; write texts, or whole numbers")
    for value in values:
        if not _slug(value):
            raise DefinitionError(f"{where}: {value!r} makes no column name; write values with letters a-z or digits")
    return MappingProxyType({column: tuple(values)})


def _slug(value: object) -> str:
    """The part of a column's name that a value becomes: small letters and digits, with one _ for whatever lies between them."""
    return re.sub(r"[^a-z0-9]+", "_", str(value).lower()).strip("_")


def _narrowed(where: str | None, column: str, value: str | int) -> str:
    """A condition on events, and that a column has a value."""
    text = str(value) if isinstance(value, int) else "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    condition = f"`{column}` = {text}"
    return condition if where is None else f"{condition} AND ({where}\n)" if "--" in where else f"{condition} AND ({where})"
