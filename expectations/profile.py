"""What is measured of each interval: statistics of its columns, values that checks judge; and the tables of both.

A profile is a pandas frame with one row per interval, oldest first: `interval` (a text), `rows`, `bad_rows` (those that
may be held), a column per check by its id, and one per statistic, `<column>.<statistic>`.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fractions import Fraction

import pandas as pd
import pyarrow as pa

from expectations import sketches
from expectations.suite import Check, Verdict, subject
from feature_definitions.intervals import Interval, iso
from feature_definitions.language import FeatureGroup
from feature_definitions.sql.data_types import is_number

QUANTILES = tuple(f"q{round(100 * q):02}" for q in sketches.QUANTILES)
MOMENTS = ("min", "max", "mean", "stddev")
LOOK_BACK = 7
"""How many intervals back the number of rows is looked up that an interval's is compared with."""

Measured = Mapping[str, object]
"""What one Spark aggregate found in an interval, by name."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a profile is of: the group, its generation and publish, the intervals in order, and when it was made."""

    group: str
    generation: int
    publish_id: str
    intervals: tuple[Interval, ...]
    recorded_at: datetime


# -------------------------------------------------------------------------------------------------------------- what Spark measures


def described(group: FeatureGroup, types: Mapping[str, str]) -> dict[str, str]:
    """The columns of a group that statistics are made of, with the types of what readers see in them."""
    return {column: "double" if column in group.ages else types[column] for column in group.outputs}


def values(group: FeatureGroup, types: Mapping[str, str]) -> Iterator[str]:
    """Spark SQL of what `sketches` sees of each column: numbers and truth values as doubles, a hash of all else."""
    for column, data_type in described(group, types).items():
        value = subject(group, column)
        numeric = is_number(data_type) or data_type == "boolean"
        yield f"CAST({value} AS DOUBLE)" if numeric else f"if({value} IS NULL, NULL, xxhash64({value}))"


def counted(checks: Sequence[Check]) -> Iterator[tuple[str, str]]:
    """Name and Spark SQL of the aggregate of each check that no statistic answers.

    Where a screen tells at less cost that no row is bad, 1 stands for that some is.
    """
    for check in checks:
        if check.screen is not None:
            yield check.id, f"if({check.screen}, 1L, 0L)"
        elif check.count and check.statistic is None:
            yield check.id, check.count


def from_statistics(checks: Sequence[Check], found: Measured, types: Mapping[str, str]) -> dict[str, int]:
    """What an interval's statistics answer, by the checks' ids; where bounds say that rows are bad, 1 stands for all."""
    return {check.id: _from_statistic(check, found, types) for check in checks if check.statistic is not None}


def _from_statistic(check: Check, found: Measured, types: Mapping[str, str]) -> int:
    filled = _whole(found.get(f"{check.column}.values"))
    match check.statistic:
        case "values":
            return filled
        case "nulls":
            return _whole(found.get("rows")) - filled
        case "finite":
            return int(any(_whole(found.get(f"{column}.infinite")) for column, data_type in types.items() if data_type == "double"))
    low, high = (_finite(found.get(f"{check.column}.{name}")) for name in ("min", "max"))
    least, most = check.within
    beyond = (least is not None and low is not None and low < least) or (most is not None and high is not None and high > most)
    return int(beyond or _whole(found.get(f"{check.column}.infinite")) > 0)


# ------------------------------------------------------------------------------------------------------------- what becomes of it


def statistics(group: FeatureGroup, found: Mapping[str, object]) -> dict[str, object]:
    """What was found of one column, by the names that a profile has for it."""
    column = group.outputs[_whole(found["column"])]
    return {f"{column}.{name}": value for name, value in found.items() if name not in ("interval", "column")}


def framed(
    intervals: Sequence[Interval], found: Mapping[Interval, Measured], checks: Sequence[Check], types: Mapping[str, str]
) -> pd.DataFrame:
    """The profile of these intervals, without changes against others; where nothing was found there are no rows."""
    rows = [found.get(interval, {}) for interval in intervals]
    columns: dict[str, object] = {"interval": [iso(interval.start) for interval in intervals]}
    for count in ("rows", "bad_rows", *(c.id for c in checks if c.of_rows), *(f"{c}.{n}" for c in types for n in ("values", "distinct"))):
        columns[count] = [_whole(row.get(count)) for row in rows]
    for check in checks:
        if not check.of_rows:
            columns[check.id] = pd.Series([_judged(row, check) for row in rows], dtype="float64")
    for column in types:
        columns |= _described(column, rows)
    return pd.DataFrame(columns)


def _described(column: str, rows: Sequence[Measured]) -> dict[str, object]:
    moments = {f"{column}.{moment}": [_finite(row.get(f"{column}.{moment}")) for row in rows] for moment in MOMENTS}
    ranked = [row.get(f"{column}.quantiles") for row in rows]
    quantiles = {
        f"{column}.{quantile}": [_finite(values[number]) if isinstance(values, list) else None for values in ranked]
        for number, quantile in enumerate(QUANTILES)
    }
    return {key: pd.Series(values, dtype="float64") for key, values in (moments | quantiles).items()}


def _judged(row: Measured, check: Check) -> float | None:
    """The value to be judged; what is not a number lies within no bounds."""
    value = row.get(check.id)
    if value is None or _whole(row.get("rows")) < check.from_rows:
        return None
    number = float(str(value))
    return math.inf if math.isnan(number) else number


def _whole(value: object) -> int:
    return 0 if value is None else int(str(value))


def _finite(value: object) -> float | None:
    number = math.nan if value is None else float(str(value))
    return number if math.isfinite(number) else None


def with_changes(
    profile: pd.DataFrame,
    checks: Sequence[Check],
    intervals: Sequence[Interval],
    *,
    every: timedelta,
    before: Mapping[str, Mapping[datetime, int]],
) -> pd.DataFrame:
    """The profile with, for each check of a change, by what share the number of rows differs from the interval before.

    That is the newest of the seven before it in which the check held: a day that lost its rows is not what the next is
    compared with. `before` has the rows of earlier intervals in which a check held, by the check's id and the
    interval's start.
    """
    rows = dict(zip((interval.start for interval in intervals), profile["rows"], strict=True))
    changes = {check.id: _changes(rows, check, every, before.get(check.id, {})) for check in checks if check.change}
    return pd.DataFrame({**profile, **{name: pd.Series(values, dtype="float64") for name, values in changes.items()}})


def _changes(rows: Mapping[datetime, int], check: Check, every: timedelta, before: Mapping[datetime, int]) -> list[float | None]:
    held, changes = dict(before), []
    for start, count in rows.items():
        reference = next((held[start - n * every] for n in range(1, LOOK_BACK + 1) if start - n * every in held), 0)
        change = None
        if reference and max(count, reference) >= check.from_rows:
            change = float(round(Fraction(int(count), int(reference)) - 1, 12))
        if change is None or (check.least or 0.0) <= change <= (check.most or 0.0):
            held[start] = count
        changes.append(change)
    return changes


def with_held(verdicts: Mapping[str, Verdict], profile: pd.DataFrame, checks: Sequence[Check], *, hold_below: float) -> dict[str, Verdict]:
    """The verdicts, where intervals that failed for few enough rows are published without these rows."""
    holdable = {check.id for check in checks if check.holdable}
    bad = {str(i): (int(bad), int(rows)) for i, bad, rows in zip(profile["interval"], profile["bad_rows"], profile["rows"], strict=True)}
    share = Fraction(str(hold_below))

    def few(interval: str, failed: Collection[str]) -> bool:
        count, rows = bad[interval]
        return bool(share) and bool(failed) and set(failed) <= holdable and count <= share * rows

    return {i: replace(verdict, failed=(), held=verdict.failed) if few(i, verdict.failed) else verdict for i, verdict in verdicts.items()}


# ---------------------------------------------------------------------------------------------------------------------- records


_TIME = pa.timestamp("us", tz="UTC")
_FIXED = [
    ("group", pa.string()),
    ("generation", pa.int64()),
    ("interval_start", _TIME),
    ("interval_end", _TIME),
    ("publish_id", pa.string()),
]
_PROFILES = pa.schema(
    [
        *_FIXED,
        ("column", pa.string()),
        *((count, pa.int64()) for count in ("rows", "nulls")),
        *((statistic, pa.float64()) for statistic in (*MOMENTS, *QUANTILES)),
        ("distinct", pa.int64()),
        ("recorded_at", _TIME),
    ]
)
_CHECKS = pa.schema(
    [
        *_FIXED,
        ("check", pa.string()),
        ("severity", pa.string()),
        ("column", pa.string()),
        ("passed", pa.bool_()),
        ("bad_rows", pa.int64()),
        ("value", pa.float64()),
        ("rows", pa.int64()),
        ("recorded_at", _TIME),
    ]
)


def profiles_table(profile: pd.DataFrame, columns: Sequence[str], origin: Origin) -> pa.Table:
    """The statistics as records: one row per column and interval."""
    parts = []
    for column in columns:
        found = {"rows": profile["rows"], "nulls": profile["rows"] - profile[f"{column}.values"], "distinct": profile[f"{column}.distinct"]}
        found |= {statistic: profile[f"{column}.{statistic}"] for statistic in (*MOMENTS, *QUANTILES)}
        parts.append(_records(found, {"column": column}, origin, _PROFILES))
    return pa.concat_tables(parts) if parts else _PROFILES.empty_table()


def checks_table(profile: pd.DataFrame, checks: Sequence[Check], verdicts: Mapping[str, Verdict], origin: Origin) -> pa.Table:
    """What came of each check as records, one row per check and interval; `value` is measured where no rows are counted."""
    parts = []
    for check in checks:
        measured = {"bad_rows" if check.of_rows else "value": profile[check.id], "rows": profile["rows"]}
        passed = [check.id not in verdicts[str(interval)].broken for interval in profile["interval"]]
        about = {"check": check.id, "severity": check.severity, "column": check.column}
        parts.append(_records(measured | {"passed": pd.Series(passed, dtype="bool")}, about, origin, _CHECKS))
    return pa.concat_tables(parts) if parts else _CHECKS.empty_table()


def _records(found: Mapping[str, pd.Series], same: Mapping[str, object], origin: Origin, schema: pa.Schema) -> pa.Table:
    """Columns that differ by interval, those that are the same for all, and their origin; what is missing is null."""
    number = len(origin.intervals)
    of = {"group": origin.group, "generation": origin.generation, "publish_id": origin.publish_id, "recorded_at": origin.recorded_at}
    columns = {key: [value] * number for key, value in (of | dict(same)).items()}
    columns["interval_start"] = [interval.start for interval in origin.intervals]
    columns["interval_end"] = [interval.end for interval in origin.intervals]
    arrays = [
        pa.array(found[f.name], f.type, from_pandas=True) if f.name in found else pa.array(columns.get(f.name, [None] * number), f.type)
        for f in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
