# mypy: disable-error-code=redundant-expr
# What users write is checked when it runs: a definition may hold anything, whatever its types say.
"""Features: aggregations of a source's events over windows, and what is derived from them."""

from dataclasses import dataclass
from datetime import timedelta

from feature_definitions.expect import Expectation, expectations
from feature_definitions.rules import DefinitionError, NotYet, check_name, check_span, check_sql, check_unique

AGGREGATIONS = ("count", "sum", "mean", "min", "max", "stddev", "first", "last", "count_distinct")
SHORTEST_WINDOW, LONGEST_WINDOW = timedelta(minutes=5), timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Rows:
    """A window of the newest rows (not supported yet)."""

    count: int
    within: str


@dataclass(frozen=True, slots=True)
class Feature:
    """An aggregation of a source's events over windows; each window is a column `<name>_<window>`.

    `of` is a column or a Spark SQL expression over the source's columns (`count` without it counts rows), `where` a condition on events.
    """

    name: str
    aggregation: str
    of: str | None = None
    windows: tuple[str, ...] = ()
    where: str | None = None
    by: str | None = None
    expect: tuple[Expectation, ...] = ()

    def __post_init__(self) -> None:
        """Check the name, the aggregation and each window."""
        where = f"feature {self.name}"
        check_name("feature", self.name)
        if self.by is not None:
            raise NotYet(where, "by")
        windows = self.windows if isinstance(self.windows, tuple | list) else (self.windows,)
        if any(isinstance(w, Rows) for w in windows):
            raise NotYet(where, "Rows windows")
        object.__setattr__(self, "windows", tuple(w.strip() if isinstance(w, str) else w for w in windows))
        object.__setattr__(self, "expect", expectations(where, self.expect))
        check_sql(where, {"of": self.of, "where": self.where})
        if self.aggregation == "lag":
            raise NotYet(where, "lag")
        if self.aggregation not in AGGREGATIONS:
            raise DefinitionError(f"{where} has the aggregation {self.aggregation!r}; there are {', '.join(AGGREGATIONS)}")
        if self.of is None and self.aggregation != "count":
            raise DefinitionError(
                f"{where}: {self.aggregation} of what? Name a column, like Feature({self.name!r}, {self.aggregation!r}, 'amount')"
            )
        _check_windows(where, self.windows)

    @property
    def columns(self) -> tuple[str, ...]:
        """The output columns, one per window."""
        return tuple(f"{self.name}_{window}" for window in self.windows)


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


def _check_windows(where: str, windows: tuple[str, ...]) -> None:
    if not windows:
        raise DefinitionError(f"{where} has no windows; write windows=('1d', '7d')")
    for window in windows:
        span = check_span(where, "window", window)
        if not SHORTEST_WINDOW <= span <= LONGEST_WINDOW:
            raise DefinitionError(f"{where} has the window {window!r}; windows are 5m to 90d long")
    check_unique(where, list(windows), "window", "remove one")
