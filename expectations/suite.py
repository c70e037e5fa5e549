"""What a group's definition expects of its rows, as checks: Spark SQL that counts bad rows, and a Great Expectations suite over the counts.

Nothing here runs: Spark measures every interval in one aggregate (`measures`), `expectations.adapter` judges the resulting profile.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from feature_definitions.model import DefinitionError, Expectation, FeatureGroup, Severity, WindowedGroup

Rewrite = Callable[[str], str]

_MOST_DIGITS = 38
_GRAVITY = ("critical", "warning", "info")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold in every interval.

    `id` is how a failure is reported, `column` the output column or key that it is about (None: the row). `violation` is Spark SQL that is
    true for a bad row (a null passes), `metric` the profile's column that counts an interval's bad rows. `at_least_share` is how large a
    share of the rows must be good (None: all). `unique` names the columns that no two rows share, where that is what is checked.
    """

    id: str
    column: str | None
    severity: Severity
    violation: str
    metric: str
    at_least_share: float | None = None
    unique: tuple[str, ...] = ()

    @property
    def measure(self) -> str:
        """The Spark SQL aggregate that counts an interval's bad rows."""
        return f"count(*) - count(DISTINCT {_struct(self.unique)})" if self.unique else f"count_if({self.violation})"

    @property
    def judged(self) -> str:
        """The profile's column that must not be above zero: the count of bad rows, or by how many it exceeds what the share allows."""
        return self.metric if self.at_least_share is None else f"{self.metric}_excess"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate said of one interval: the ids of the critical checks that failed, and of the others, in the order of the checks."""

    failed: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether no critical check failed, so that the interval may be published."""
        return not self.failed


def checks(group: FeatureGroup, *, rewrite: Rewrite) -> tuple[Check, ...]:
    """All checks of a group: the default ones (each key has a value, rows are unique), then those of its features and its own.

    `rewrite` turns the SQL of an `expression` into what Spark is to compute (`feature_definitions.expressions.spark_sql`).
    """
    made = {check.id: check for check in _defaults(group)}
    for subject, column, expectation in _expected(group):
        check = _check(f"{subject}:{expectation}", column=column, expectation=expectation, rewrite=rewrite)
        if check.id not in made or _GRAVITY.index(check.severity) < _GRAVITY.index(made[check.id].severity):
            made[check.id] = check
    return tuple(replace(check, metric=f"check_{number}") for number, check in enumerate(made.values()))


def measures(checks: Sequence[Check]) -> list[tuple[str, str]]:
    """Name and Spark SQL of each check's aggregate, for one `groupBy(interval)`: how many bad rows an interval has."""
    return [(check.metric, check.measure) for check in checks]


def suite(group: FeatureGroup, checks: Sequence[Check]) -> dict[str, object]:
    """The Great Expectations suite of a group as JSON: one expectation per check on the profile, which has one row per interval."""
    return {"name": group.name, "expectations": gx_expectations(checks), "meta": {"rows": "one per interval"}}


def gx_expectations(checks: Sequence[Check]) -> list[dict[str, object]]:
    """Great Expectations' configuration of each check, in order; its `meta` holds the check's id and what a bad row is."""
    return [
        {
            "type": "expect_column_values_to_be_between",
            "kwargs": {"column": check.judged, "max_value": 0},
            "severity": check.severity,
            "meta": {"id": check.id, "column": check.column, "bad_row": check.violation, "at_least_share": check.at_least_share},
        }
        for check in checks
    ]


def bad_row_sql(checks: Sequence[Check], failed: Collection[str]) -> tuple[str, str]:
    """A Spark SQL condition that every bad row of the failed checks meets, and the array of the ids that a row failed.

    Only a row whose array is not empty is bad: rows that are not unique are found by comparing rows, which a condition can not do, so
    with that check among `failed` the condition lets every row through.
    """
    judged = [check for check in checks if check.id in failed]
    conditions = ["true" if check.unique else f"({check.violation})" for check in judged]
    reasons = [f"if({check.violation}, {_text(check.id)}, null)" for check in judged]
    return " OR ".join(conditions) or "false", f"array_compact(array({', '.join(reasons)}))"


def _defaults(group: FeatureGroup) -> list[Check]:
    keys = tuple(group.entity.keys)
    rows = (*keys, "event_timestamp")
    return [
        *(Check(f"{key}:not_null", key, "critical", f"{_name(key)} IS NULL", "") for key in keys),
        Check("rows:unique", None, "critical", f"count(*) OVER (PARTITION BY {_names(rows)}) > 1", "", unique=rows),
    ]


def _expected(group: FeatureGroup) -> Iterator[tuple[str, str | None, Expectation]]:
    """What each expectation is about, by name and by column; an expression is about the row, whatever it stands beside."""
    for feature in group.features if isinstance(group, WindowedGroup) else ():
        for expectation in feature.expect:
            if expectation.kind == "expression":
                yield feature.name, None, expectation
            else:
                yield from ((column, column, expectation) for column in feature.columns)
    for expectation in group.expect:
        if expectation.kind != "expression":
            raise DefinitionError(
                f"group {group.name} expects {expectation}, which needs a column; write it beside a feature, or an expression"
            )
        yield "rows", None, expectation


def _check(name: str, *, column: str | None, expectation: Expectation, rewrite: Rewrite) -> Check:
    share = expectation.arguments[0] if expectation.kind == "not_null" else 1
    violation = _violation(expectation, _name(column or ""), rewrite)
    return Check(name, column, expectation.severity, violation, "", at_least_share=None if share == 1 else float(str(share)))


def _violation(expectation: Expectation, column: str, rewrite: Rewrite) -> str:
    match expectation.kind, expectation.arguments:
        case "at_least", (least,):
            # Spark takes NaN for greater than every number; it is none.
            return f"{column} < {_literal(least)} OR isnan({column})"
        case "at_most", (most,):
            return f"{column} > {_literal(most)}"
        case "between", (least, most):
            return f"{column} < {_literal(least)} OR {column} > {_literal(most)}"
        case "one_of", values:
            return f"{column} NOT IN ({_literals(expectation, values)})"
        case "not_null", _:
            return f"{column} IS NULL"
        case "expression", (sql,):
            return f"NOT ({rewrite(str(sql))})"
    raise DefinitionError(f"{expectation} is no expectation that can be measured")


def _literals(expectation: Expectation, values: tuple[object, ...]) -> str:
    """Values of one kind: Spark would turn a text into a number, or fail to, to compare it with one."""
    if len({isinstance(value, str) for value in values}) > 1 or len({isinstance(value, bool) for value in values}) > 1:
        raise DefinitionError(f"{expectation} mixes texts, numbers or truth values; a column holds one kind")
    return ", ".join(_literal(value) for value in values)


def _literal(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return _text(value)
        case int():
            return _number(Decimal(value))
        case float() if math.isfinite(value):
            return _number(Decimal(str(float(value))))
    return f"double({_text(str(value))})"


def _number(value: Decimal) -> str:
    """An exact decimal where Spark has one, so that whole numbers and decimals are compared as they are; else a double."""
    digits = format(value, "f")
    return digits if len(digits) <= _MOST_DIGITS else f"{float(value)!r}D"


def _text(value: str) -> str:
    """A Spark SQL string: quotes and backslashes escaped, and the dollar sign, which Spark replaces variables by."""
    for sign, escaped in (("\\", "\\\\"), ("'", "\\'"), ("$", "\\u0024")):
        value = value.replace(sign, escaped)
    return f"'{value}'"


def _name(column: str) -> str:
    return f"`{column}`"


def _names(columns: Iterable[str]) -> str:
    return ", ".join(_name(column) for column in columns)


def _struct(columns: Iterable[str]) -> str:
    return f"struct({_names(columns)})"
