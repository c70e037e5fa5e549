"""What must hold in every interval of a group, as checks, and the Great Expectations suite that judges them.

Nothing here runs: Spark measures every interval in one aggregate, `expectations.adapter` judges the profile with one
row per interval.

Besides what a group's file expects, these follow from its definition. Only what would break readers is critical;
amounts are never, so that nobody's backfill is kept back by a number that nobody chose.

| check                       | severity | holds if                                                                                     |
|-----------------------------|----------|----------------------------------------------------------------------------------------------|
| `<key>:not_null`            | critical | every row has the key                                                                        |
| `rows:unique`               | critical | no two rows share their keys and event timestamp                                             |
| `rows:types`                | critical | every column has the type that its definition gives it                                       |
| `rows:finite`               | critical | no double is NaN or infinite                                                                 |
| `rows:as_many_as_before`    | warning  | daily groups: between a fifth and five times as many rows as the interval before, if there   |
|                             |          | are 100 rows in one of the two (hours of one day differ by nature, so shorter cadences are   |
|                             |          | left alone); not beside a `row_count(change=...)` of the group's own                         |
| `<column>:some_values`      | warning  | of 100 rows or more, one has a value: columns that are shown as they were observed, and      |
|                             |          | mean, min, max, first and last over the group's longest window, unless under a `where`       |
| `<column>:computed`         | critical | the column could be computed for every row; checked where it could not be for one            |
| `rows:recent`               | info     | windowed groups: some row rests on an event of the interval itself (it may be a holiday)     |
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from expectations import conditions
from feature_definitions.intervals import DAY, MICROSECOND
from feature_definitions.language import DefinitionError, Expectation, FeatureGroup, Severity
from feature_definitions.language.features import reach
from feature_definitions.sql import column_types

_EXACT = 2**53
"""Doubles hold every whole number below it."""
ENOUGH_ROWS = 100
"""From how many rows on an amount that nobody chose a bound for says something."""
AS_MANY = (1 / 5 - 1, 5 - 1)
"""By what share the number of rows may change from one day to the next before somebody is told."""

GRAVITY = ("critical", "warning", "info")
"""The severities, the gravest first."""
EACH = "expect_column_values_to_be_between"
"""Great Expectations' name for what is expected of each interval; a value that is null passes."""


Statistic = Literal["values", "nulls", "finite", "extremes"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold in every interval.

    `id` is how a failure is reported, and the profile's column that holds what was measured; `column` is the output
    column or key that it is about (None: the rows). A check of rows counts the bad ones: `violation` is Spark SQL that
    is true for a bad row (a null passes), `screen` an aggregate that tells at less cost whether there is one, `unique`
    the columns that no two rows share, `at_least_share` how many of the rows must be good (None: all), and `holdable`
    says that the rest may be published without the bad rows. Any other check has a `measure`, an aggregate whose value
    lies in `[least, most]` (of a check of rows: a cheaper one that counts the bad ones); with `change` it is the share
    by which the number of rows differs from the interval before. A value that is null, or of fewer than `from_rows`
    rows, is not judged. `statistic` names that of its columns' statistics which answers it, so that Spark need not
    count: the number of values or of nulls, whether all are finite, or whether their least and greatest lie `within`
    the bounds.
    """

    id: str
    column: str | None
    severity: Severity
    violation: str = ""
    screen: str | None = None
    unique: tuple[str, ...] = ()
    at_least_share: float | None = None
    holdable: bool = False
    measure: str = ""
    least: float | None = None
    most: float | None = None
    change: bool = False
    from_rows: int = 0
    statistic: Statistic | None = None
    within: tuple[float | None, float | None] = (None, None)

    @property
    def of_rows(self) -> bool:
        """Whether the check tells bad rows from good ones; else it is about the interval as a whole."""
        return bool(self.violation)

    @property
    def count(self) -> str:
        """The Spark SQL aggregate that counts an interval's bad rows, or gives the value that is judged; empty if none can."""
        if self.unique or self.change:
            return ""
        return self.measure or f"count_if({self.violation})"

    @property
    def judged(self) -> str:
        """The profile's column that is judged: what was measured, or by how many the bad rows exceed what the share allows."""
        return self.id if self.at_least_share is None else f"{self.id} in excess"

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """Between what the judged column must lie, both ends included."""
        return (None, 0) if self.of_rows else (self.least, self.most)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate said of one interval: ids of the checks that did not hold, in the order of the checks.

    `failed` and `held` are critical ones: `failed` keeps the interval from its readers, `held` only the rows that did
    not hold. `warned` are those to be told of, `noted` those that are only recorded.
    """

    failed: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    noted: tuple[str, ...] = ()

    @property
    def broken(self) -> tuple[str, ...]:
        """Every check that did not hold, the gravest first."""
        return (*self.failed, *self.held, *self.warned, *self.noted)


class Judgement(dict[str, Verdict]):
    """The verdict of each interval by its text, with the judge's own account of it, which is JSON."""

    def __init__(self, verdicts: Mapping[str, Verdict], account: Mapping[str, object]) -> None:
        """Verdicts, and how they came about."""
        super().__init__(verdicts)
        self.account = account


# ---------------------------------------------------------------------------------------------------- from a definition to checks


def checks(group: FeatureGroup, *, types: Mapping[str, str] | None = None) -> tuple[Check, ...]:
    """All checks of a group: those that follow from its definition (see above), then those of its features and its own.

    `types` are the types of its output columns, if they are known already.
    """
    types = column_types.output_types(group) if types is None else types
    seen_types = dict(types) | dict.fromkeys(group.ages, "double")
    expected = ((about, column, each, subject(group, column or "")) for about, column, each in _expected(group))
    row = {**group.entity.keys, **types}
    stated = [_with_statistic(_stated(*one, row=row), one[2], seen_types.get(one[1] or "")) for one in expected]
    derived = _derived(group, types)
    made: dict[str, Check] = {check.id: check for check in derived if not _is_stated(check, stated)}
    for check in stated:
        if check.id not in made or GRAVITY.index(check.severity) < GRAVITY.index(made[check.id].severity):
            made[check.id] = check
    return tuple(made.values())


def of_table(expected: Iterable[tuple[str | None, Expectation]], types: Mapping[str, str]) -> tuple[Check, ...]:
    """The checks of a table as a whole, whose columns have these types: each expectation with its column, None if it is about rows."""
    made = [
        _stated(column or "rows", None if each.kind == "expression" else column, each, conditions.name(column or ""), row=types)
        for column, each in expected
    ]
    return tuple({check.id: replace(check, screen=None, statistic=None) for check in made}.values())


def computed(columns: Iterable[str]) -> tuple[Check, ...]:
    """A check for each column that could not be computed for some row, which names it in `not_computed`; the rest may be published."""
    return tuple(
        Check(f"{column}:computed", column, "critical", f"array_contains(not_computed, {conditions.text(column)})", holdable=True)
        for column in columns
    )


def subject(group: FeatureGroup, column: str) -> str:
    """The Spark SQL of the value that readers see in a column: of one that holds the time of the last event, the seconds since then."""
    if column in group.ages:
        return f"((unix_micros(event_timestamp) - unix_micros({conditions.name(column)})) / 1e6D)"
    return conditions.name(column)


def _with_statistic(check: Check, expectation: Expectation, data_type: str | None) -> Check:
    """The check with its statistic, if one of a column of this type answers it: of doubles, and of integers that doubles hold exactly."""
    match expectation.kind, expectation.arguments:
        case "at_least", (float() | int() as least,):
            within: tuple[float | None, float | None] = (least, None)
        case "at_most", (float() | int() as most,):
            within = (None, most)
        case "between", (float() | int() as least, float() | int() as most):
            within = (least, most)
        case _:
            return check
    if data_type == "double" or (data_type == "int64" and all(bound is None or abs(bound) < _EXACT for bound in within)):
        return replace(check, screen=None, statistic="extremes", within=within)
    return check


def _is_stated(derived: Check, stated: Sequence[Check]) -> bool:
    """Whether the group's file says of the same thing what is expected of it."""
    if derived.change:
        return any(check.change for check in stated)
    return derived.id.endswith(":some_values") and any(
        c.column == derived.column and c.id.startswith(f"{c.column}:not_null") for c in stated
    )


def _derived(group: FeatureGroup, types: Mapping[str, str]) -> Iterator[Check]:
    keys = tuple(group.entity.keys)
    for key in keys:
        yield Check(f"{key}:not_null", key, "critical", f"{conditions.name(key)} IS NULL")
    yield _unique("rows:unique", None, (*keys, "event_timestamp"), "critical")
    mistyped = [f"typeof({conditions.name(c)}) <> '{types[c].replace('int64', 'bigint')}'" for c in group.outputs]
    yield Check("rows:types", None, "critical", " OR ".join(mistyped))
    if doubles := [c for c in group.outputs if types[c] == "double"]:
        yield Check("rows:finite", None, "critical", conditions.not_finite(doubles), holdable=True, statistic="finite")
    if group.cadence == DAY:
        least, most = AS_MANY
        yield Check("rows:as_many_as_before", None, "warning", least=least, most=most, change=True, from_rows=ENOUGH_ROWS)
    for column in _always_seen(group):
        measure = f"count({conditions.name(column)})"
        yield Check(f"{column}:some_values", column, "warning", measure=measure, least=1, from_rows=ENOUGH_ROWS, statistic="values")
    if group.aggregated and not group.lifetime:
        yield Check("rows:recent", None, "info", measure=_hours_since_events(group), most=0)


def _always_seen(group: FeatureGroup) -> Iterator[str]:
    """The columns that have a value in some row unless their source has none at all."""
    if not group.aggregated:
        yield from group.outputs
        return
    widest = None if group.lifetime else group.longest
    for feature in group.aggregated:
        if feature.where is None and feature.meaning.is_seen:
            yield from (c for window, c in zip(feature.windows, feature.columns, strict=True) if reach(window) == widest)


def _hours_since_events(group: FeatureGroup) -> str:
    """How many hours before the end of the interval the newest tile with events ended: rows become empty a longest window after that."""
    longest = group.longest // MICROSECOND
    return f"({longest} - max(unix_micros(empties_at) - unix_micros(event_timestamp))) / 3.6e9D"


def _expected(group: FeatureGroup) -> Iterator[tuple[str, str | None, Expectation]]:
    """What each expectation is about, by name and by column; an expression is about the row, whatever it stands beside."""
    for feature in group.features:
        for expectation in feature.expect:
            if expectation.kind == "expression":
                yield feature.name, None, expectation
            else:
                yield from ((column, column, expectation) for column in feature.columns)
    for expectation in group.expect:
        if expectation.kind not in ("expression", "row_count"):
            raise DefinitionError(
                f"group {group.name} expects {expectation}, which needs a column; write it beside a feature, or an expression"
            )
        yield from (("rows", None, each) for each in _parts(expectation))


def _parts(expectation: Expectation) -> Iterator[Expectation]:
    """What an expectation of the number of rows says of one interval, and what of its change, apart: each is a check."""
    if expectation.kind != "row_count":
        yield expectation
        return
    least, most, change = expectation.arguments
    if (least, most) != (None, None):
        yield replace(expectation, arguments=(least, most, None))
    if change is not None:
        yield replace(expectation, arguments=(None, None, change))


def _stated(about: str, column: str | None, expectation: Expectation, of: str, *, row: Mapping[str, str]) -> Check:
    identity, severity = f"{about}:{expectation}", expectation.severity
    match expectation.kind, expectation.arguments:
        case "row_count", (least, most, None):
            return Check(identity, None, severity, measure="count(*)", least=_number(least), most=_number(most))
        case "row_count", (_, _, change):
            share = float(str(change))
            return Check(identity, None, severity, least=-share, most=share, change=True)
        case "mean_between", (least, most):
            return Check(identity, column, severity, measure=f"avg(CAST({of} AS DOUBLE))", least=_number(least), most=_number(most))
        case "quantile_between", (q, least, most):
            measure = f"percentile_approx(CAST({of} AS DOUBLE), {q!r}D)"
            return Check(identity, column, severity, measure=measure, least=_number(least), most=_number(most))
        case "unique", _:
            return _unique(identity, column, (column or "",), severity)
        case "not_null", (share,):
            partial = None if share == 1 else float(str(share))
            missing = Check(identity, column, severity, f"{of} IS NULL", measure=f"count(*) - count({of})")
            return replace(missing, at_least_share=partial, holdable=partial is None, statistic="nulls")
    violation, screen = conditions.violation(expectation, of, columns=row), conditions.screen(expectation, of)
    return Check(identity, column, severity, violation, screen, holdable=True)


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) else None


def _unique(identity: str, column: str | None, columns: tuple[str, ...], severity: Severity) -> Check:
    """Rows of one interval that share the columns' values; of one column alone nulls may be shared."""
    shared = f"count(*) OVER (PARTITION BY interval_start, {conditions.names(columns)}) > 1"
    violation = shared if column is None else f"{conditions.name(column)} IS NOT NULL AND {shared}"
    return Check(identity, column, severity, violation, unique=columns)


# --------------------------------------------------------------------------------------------------------- for Great Expectations


def as_json(group: FeatureGroup) -> str:
    """The group's suite as a person reviews it and Great Expectations reads it: the same definition gives the same text."""
    return json.dumps(suite(group, checks(group)), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def suite(group: FeatureGroup, checks: Sequence[Check]) -> dict[str, object]:
    """The Great Expectations suite of a group: one expectation per check on the profile, which has one row per interval."""
    return {"name": group.name, "expectations": gx_expectations(checks), "meta": {"rows": "one per interval"}}


def gx_expectations(checks: Sequence[Check]) -> list[dict[str, object]]:
    """Great Expectations' configuration of each check, in order; its `meta` holds the check's id and what is measured.

    Of bad rows the greatest count is judged, which costs Great Expectations half of what judging each does.
    """
    return [
        {
            "type": "expect_column_max_to_be_between" if check.of_rows else EACH,
            "kwargs": {"column": check.judged} | _bounds(check),
            "severity": check.severity,
            "meta": {"id": check.id, "column": check.column} | _measured(check),
        }
        for check in checks
    ]


def _bounds(check: Check) -> dict[str, object]:
    return {name: bound for name, bound in zip(("min_value", "max_value"), check.bounds, strict=True) if bound is not None}


def _measured(check: Check) -> dict[str, object]:
    if check.of_rows:
        return {"bad_row": check.violation} | ({} if check.at_least_share is None else {"at_least_share": check.at_least_share})
    details = {"measure": "change of the number of rows" if check.change else check.measure}
    return details | ({"from_rows": check.from_rows} if check.from_rows else {})


# ------------------------------------------------------------------------------------------------------------------- the bad rows


def bad_row_sql(checks: Sequence[Check], *, only: Mapping[str, str] = MappingProxyType({})) -> tuple[str, str]:
    """A Spark SQL condition that every bad row of the checks meets, and the array of the ids of those that a row breaks.

    Only a row whose array is not empty is bad: rows that are not unique are found by comparing rows, which a condition
    cannot do, so with such a check the condition lets every row through. `only` says of a check, by its id, where it
    counts.
    """
    where = {check.id: f"({only[check.id]}) AND ({check.violation})" if check.id in only else f"({check.violation})" for check in checks}
    found = ["true" if check.unique else where[check.id] for check in checks]
    reasons = [f"if({where[check.id]}, {conditions.text(check.id)}, null)" for check in checks]
    return " OR ".join(found) or "false", f"array_compact(array({', '.join(reasons)}))"


def held_row_sql(checks: Sequence[Check]) -> str:
    """A Spark SQL condition that is true for a row which breaks a critical check, where the rest may be published without it."""
    return " OR ".join(f"coalesce({c.violation}, false)" for c in checks if c.holdable and c.severity == "critical") or "false"
