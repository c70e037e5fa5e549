# mypy: disable-error-code=redundant-expr
# What users write is checked when it runs: a definition may hold anything, whatever its types say.
"""What a column, a row or an interval must be like: the expectations that a definition states."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from feature_definitions.language.rules import DefinitionError, listed

Severity = Literal["critical", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Expectation:
    """What must hold in each interval, made by the functions below; a failed critical one keeps the interval from its readers.

    `at_least`, `at_most`, `between`, `one_of`, `not_null`, `unique`, `mean_between` and `quantile_between` are about a column,
    `expression` about a row, `row_count` about the interval's rows.
    """

    kind: str
    arguments: tuple[object, ...] = ()
    severity: Severity = "critical"

    def __post_init__(self) -> None:
        """Refuse unknown severities."""
        if self.severity not in ("critical", "warning", "info"):
            raise DefinitionError(f"{self} has the severity {self.severity!r}; write critical, warning or info")

    def __str__(self) -> str:
        """The call that made it, as `at_least(0)`; the name under which a failure is reported."""
        if self.kind == "row_count":
            named = zip(("at_least", "at_most", "change"), self.arguments, strict=True)
            return f"row_count({', '.join(f'{name}={value!r}' for name, value in named if value is not None)})"
        return f"{self.kind}({', '.join(repr(a) for a in self.arguments)})"


def at_least(x: float, severity: Severity = "critical") -> Expectation:
    """No value is below `x`; nulls pass."""
    return Expectation("at_least", (_number("at_least", x),), severity)


def at_most(x: float, severity: Severity = "critical") -> Expectation:
    """No value is above `x`; nulls pass."""
    return Expectation("at_most", (_number("at_most", x),), severity)


def between(a: float, b: float, severity: Severity = "critical") -> Expectation:
    """Every value lies in `[a, b]`, both ends included; nulls pass."""
    return Expectation("between", _bounds("between", a, b), severity)


def one_of(*values: object, severity: Severity = "critical") -> Expectation:
    """Every value is one of `values` (numbers or strings, at least one); nulls pass."""
    flat = tuple(values[0]) if len(values) == 1 and isinstance(values[0], tuple | list) else values
    if not flat or not all(isinstance(v, str | int | float) for v in flat):
        raise DefinitionError("one_of takes one or more numbers or strings, like one_of('EWR', 'JFK')")
    return Expectation("one_of", flat, severity)


def not_null(share: float = 1.0, severity: Severity = "critical") -> Expectation:
    """At least `share` (0 to 1) of an interval's rows have a value."""
    if not 0 <= _number("not_null", share) <= 1:
        raise DefinitionError(f"not_null({share!r}) is not a share; write a number from 0 to 1")
    return Expectation("not_null", (share,), severity)


def expression(sql: str, severity: Severity = "critical") -> Expectation:
    """The Spark SQL condition holds in every row; a row for which it is null passes."""
    if not isinstance(sql, str) or not sql.strip():
        raise DefinitionError("expression takes a Spark SQL condition, like expression('a_1d <= a_7d')")
    return Expectation("expression", (sql,), severity)


def unique(severity: Severity = "critical") -> Expectation:
    """No two of an interval's rows have the same value; nulls pass."""
    return Expectation("unique", (), severity)


def mean_between(a: float, b: float, severity: Severity = "critical") -> Expectation:
    """The mean of an interval's values lies in `[a, b]`; an interval without values passes."""
    return Expectation("mean_between", _bounds("mean_between", a, b), severity)


def quantile_between(q: float, a: float, b: float, severity: Severity = "critical") -> Expectation:
    """The `q`-quantile (0 < q < 1) of an interval's values lies in `[a, b]`; an interval without values passes."""
    if not 0 < _number("quantile_between", q) < 1:
        raise DefinitionError(f"quantile_between({q!r}, {a!r}, {b!r}) asks for no quantile; write 0 < q < 1, like 0.95")
    return Expectation("quantile_between", (q, *_bounds("quantile_between", a, b)), severity)


def row_count(
    at_least: int | None = None, *, at_most: int | None = None, change: float | None = None, severity: Severity = "critical"
) -> Expectation:
    """How many rows an interval has: bounds, both ends included, and by what share it may differ from the interval before.

    `change=0.5` lets 100 rows become 50 to 150; an interval that has none before it passes.
    """
    made = Expectation("row_count", (at_least, at_most, change), severity)
    if made.arguments == (None, None, None):
        raise DefinitionError("row_count says nothing; write row_count(at_least=1), or row_count(change=0.5)")
    for bound in (at_least, at_most):
        if bound is not None and (isinstance(bound, bool) or not isinstance(bound, int) or bound < 0):
            raise DefinitionError(f"{made} counts rows, not {bound!r}; write a whole number from 0")
    if at_least is not None and at_most is not None and at_least > at_most:
        raise DefinitionError(f"{made} accepts nothing; at_least is the smaller bound")
    if change is not None and _number("row_count", change) <= 0:
        raise DefinitionError(f"{made} lets nothing change; write a share above 0, like change=0.5 for half as many to half as many more")
    return made


def _bounds(kind: str, a: float, b: float) -> tuple[float, float]:
    if _number(kind, a) > _number(kind, b):
        raise DefinitionError(f"{kind}({a!r}, {b!r}) accepts nothing; write the smaller bound first")
    return a, b


def _number(kind: str, x: object) -> float:
    if isinstance(x, bool) or not isinstance(x, int | float) or x != x:
        raise DefinitionError(f"{kind} takes a number, not {x!r}")
    return x


ROWS = "*"
"""Stands for the rows as such, where expectations are stated by column."""


def by_column(where: str, values: object) -> Mapping[str, tuple[Expectation, ...]]:
    """Expectations by the column that they are about, or by `*` if they are about rows; those stated alone are about rows."""
    stated = values if isinstance(values, Mapping) else {ROWS: values} if listed(values) else {}
    found = {column: expectations(f"{where}, {column}," if column != ROWS else where, each) for column, each in stated.items()}
    for each in found.get(ROWS, ()):
        if each.kind not in ("expression", "row_count"):
            raise DefinitionError(f"{where} expects {each} of no column; write it by column, like expect={{'label': {each}}}")
        if each.kind == "row_count" and each.arguments[2] is not None:
            raise DefinitionError(f"{where} expects {each}, and has no interval before; write at_least and at_most")
    for column, each in ((column, each) for column, stated in found.items() if column != ROWS for each in stated):
        if each.kind == "row_count":
            raise DefinitionError(f"{where} expects {each} of the column {column!r}; it is about rows: write expect={{'*': {each}}}")
    return MappingProxyType(found)


def expectations(where: str, values: object) -> tuple[Expectation, ...]:
    """One expectation, or several, as a tuple; refuses what is none."""
    stated = listed(values)
    for each in stated:
        if not isinstance(each, Expectation):
            raise DefinitionError(f"{where} expects {each!r}; write at_least(0), not_null(), expression('a <= b') or the like")
    return stated
