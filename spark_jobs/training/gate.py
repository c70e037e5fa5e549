"""Judges the rows of a training set before anybody sees them: Spark measures them in one pass, the gate of groups judges the measures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from expectations import suite
from expectations.suite import Check, Verdict
from feature_definitions import layout, reading
from spark_jobs import tables
from spark_jobs.publish.validate import Judge
from spark_jobs.training.spine import TrainingRequest

_EXAMPLES = 5
"""How many bad rows are named of each check."""


@dataclass(frozen=True, slots=True)
class JudgedRows:
    """What the gate says of a training set: the verdict, and of each check what was found, as a manifest holds it."""

    verdict: Verdict
    found: Sequence[Mapping[str, object]]


def judged(rows: DataFrame, request: TrainingRequest, *, at: str, judge: Judge | None) -> JudgedRows:
    """Judge rows by what is expected of them; bad ones are named by their places, keys and times."""
    if not request.expect:
        return JudgedRows(Verdict(), ())
    if judge is None:
        raise ValueError(f"training set {request.name} expects something of its rows, and nobody was given that judges them")
    types = {field.name: tables.type_named(field.dataType) for field in rows.schema}
    checks = suite.of_table(request.expect, types)
    measured = _measured(rows, checks)
    verdict = judge(_profile(request.name, measured, checks), checks)[request.name]
    named = [layout.ROW_NUMBER, *request.service.keys, at]
    return JudgedRows(verdict, [_found(check, measured[check.id], verdict, _bad(rows, check, verdict, named)) for check in checks])


def _measured(rows: DataFrame, checks: Sequence[Check]) -> dict[str, float | None]:
    """How many rows there are, and what each check counts or measures, by its id."""
    counted = {check.id: check.count for check in checks if check.count}
    together = [F.count(F.lit(1)).alias("rows"), *[F.expr(sql).alias(f"m{number}") for number, sql in enumerate(counted.values())]]
    (found,) = rows.agg(*together).collect()
    apart = {check.id: _marked(rows, check).count() for check in checks if check.unique}
    return {"rows": found["rows"]} | {name: found[f"m{number}"] for number, name in enumerate(counted)} | apart


def _marked(rows: DataFrame, check: Check) -> DataFrame:
    """The rows that break a check, in a column of their own first: a window stands in no condition."""
    return rows.withColumn("_hw_bad", _is_bad(check)).where("_hw_bad")


def _is_bad(check: Check) -> Column:
    if not check.unique:
        return F.expr(check.violation)
    columns = [F.col(f"`{name}`") for name in check.unique]
    return columns[0].isNotNull() & (F.count(F.lit(1)).over(Window.partitionBy(*columns)) > F.lit(1))


def _profile(name: str, measured: Mapping[str, float | None], checks: Sequence[Check]) -> pd.DataFrame:
    """The measures as the judge takes them: one row for the whole."""
    columns: dict[str, object] = {"interval": [name], "rows": [measured["rows"]]}
    for check in checks:
        value = measured[check.id]
        columns[check.id] = [value] if check.of_rows else pd.Series([_number(value)], dtype="float64")
    return pd.DataFrame(columns)


def _number(value: float | None) -> float | None:
    """A measure as it is judged; what is not a number lies within no bounds."""
    number = None if value is None else float(value)
    return math.inf if number is not None and math.isnan(number) else number


def _bad(rows: DataFrame, check: Check, verdict: Verdict, named: Sequence[str]) -> list[dict[str, object]]:
    """The first rows that break a check which did not hold."""
    if not check.of_rows or check.id not in verdict.broken:
        return []
    shown = dict.fromkeys([*named, *([] if check.column is None else [check.column])])
    first = _marked(rows, check).orderBy(layout.ROW_NUMBER).limit(_EXAMPLES).select(*[f"`{name}`" for name in shown]).toArrow().to_pylist()
    return [{name: reading.to_json(value) for name, value in row.items()} for row in first]


def _found(check: Check, measured: float | None, verdict: Verdict, bad: Sequence[Mapping[str, object]]) -> dict[str, object]:
    said = {"check": check.id, "severity": check.severity, "column": check.column, "passed": check.id not in verdict.broken}
    value = None if measured is None else float(measured)
    finite = value if value is None or math.isfinite(value) else str(value)
    return said | ({"bad_rows": measured, "rows": bad} if check.of_rows else {"value": finite})
