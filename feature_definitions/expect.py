# mypy: disable-error-code=redundant-expr
# What users write is checked when it runs: a definition may hold anything, whatever its types say.
"""What a column, a row or an interval must be like: the expectations that a definition states."""

from dataclasses import dataclass
from typing import Literal

from feature_definitions.rules import DefinitionError, listed

Severity = Literal["critical", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a column (or, for `expression`, a row) must be like; a failed critical one keeps the interval from its readers."""

    kind: str
    arguments: tuple[object, ...] = ()
    severity: Severity = "critical"

    def __post_init__(self) -> None:
        """Refuse unknown severities."""
        if self.severity not in ("critical", "warning", "info"):
            raise DefinitionError(f"{self} has the severity {self.severity!r}; write critical, warning or info")

    def __str__(self) -> str:
        """The call that made it, as `at_least(0)`; the name under which a failure is reported."""
        return f"{self.kind}({', '.join(repr(a) for a in self.arguments)})"


def at_least(x: float, severity: Severity = "critical") -> Expectation:
    """No value is below `x`; nulls pass."""
    return Expectation("at_least", (_number("at_least", x),), severity)


def at_most(x: float, severity: Severity = "critical") -> Expectation:
    """No value is above `x`; nulls pass."""
    return Expectation("at_most", (_number("at_most", x),), severity)


def between(a: float, b: float, severity: Severity = "critical") -> Expectation:
    """Every value lies in `[a, b]`, both ends included; nulls pass."""
    if _number("between", a) > _number("between", b):
        raise DefinitionError(f"between({a!r}, {b!r}) accepts nothing; write the smaller bound first")
    return Expectation("between", (a, b), severity)


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


def _number(kind: str, x: object) -> float:
    if isinstance(x, bool) or not isinstance(x, int | float) or x != x:
        raise DefinitionError(f"{kind} takes a number, not {x!r}")
    return x


def expectations(where: str, values: object) -> tuple[Expectation, ...]:
    """One expectation, or several, as a tuple; refuses what is none."""
    expectations = listed(values)
    for each in expectations:
        if not isinstance(each, Expectation):
            raise DefinitionError(f"{where} expects {each!r}; write at_least(0), not_null(), expression('a <= b') or the like")
    return expectations
