"""What is expected of a training set: judged before anybody sees it; a rejected one leaves its readers what they had."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from expectations import adapter
from feature_definitions import (
    at_least,
    at_most,
    expression,
    layout,
    mean_between,
    not_null,
    one_of,
    row_count,
    unique,
)
from spark_jobs.training import gate
from spark_jobs.training.spine import TrainingRequest
from tests import projects
from tests.feature_definitions.language.test_services import service

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

EXPECTED: dict[str, tuple[Any, int | float, list[int]]] = {
    "rows:row_count(at_least=5)": ((None, row_count(at_least=5)), 4, []),
    "rows:expression('a < b')": ((None, expression("a < b")), 1, [2]),
    "a:at_least(2)": (("a", at_least(2)), 1, [0]),
    "a:unique()": (("a", unique()), 2, [1, 3]),
    "b:not_null(0.9)": (("b", not_null(0.9)), 1, [3]),
    "b:mean_between(10, 20)": (("b", mean_between(10, 20)), 2.0, []),
    "t:one_of('x', 'y')": (("t", one_of("x", "y")), 1, [1]),
}
"""Expectations that do not hold: what is measured, and which rows are named."""
HELD = ((None, row_count(at_least=4, at_most=4)), ("b", not_null(0.75)), ("a", at_most(3)), ("b", unique()), ("d", at_least(0)))


@pytest.fixture(scope="module")
def rows(spark: SparkSession) -> DataFrame:
    made = [(1, 2.0, "x", 1, 0), (2, 3.0, "z", 2, 1), (3, 1.0, "y", 3, 2), (2, None, None, 4, 3)]
    frame = spark.createDataFrame(made, "a long, b double, t string, customer_id long, hw_row long")
    return frame.selectExpr("*", "timestamp_seconds(hw_row) AS at", "cast(null AS decimal(8,2)) AS d").repartition(2)


def judged(rows: DataFrame, *expected: Any) -> gate.JudgedRows:
    return gate.judged(rows, TrainingRequest("asked", service(), expect=expected), at="at", judge=adapter.judge)


def test_what_does_not_hold_is_named_with_its_first_rows(rows: DataFrame) -> None:
    found = judged(rows, *[stated for stated, _, _ in EXPECTED.values()])
    assert found.verdict.failed == tuple(EXPECTED)
    told = {each["check"]: each for each in found.found}
    assert {name: told[name].get("bad_rows", told[name].get("value")) for name in told} == {n: v for n, (_, v, _) in EXPECTED.items()}
    assert {n: [row["hw_row"] for row in told[n].get("rows", ())] for n in told} == {n: p for n, (_, _, p) in EXPECTED.items()}  # type: ignore[attr-defined]
    assert told["a:at_least(2)"]["rows"] == [{"hw_row": 0, "customer_id": 1, "at": "1970-01-01T00:00:00Z", "a": 1}]


def test_what_holds_is_told_as_passed(rows: DataFrame) -> None:
    found = judged(rows, *HELD)
    assert found.verdict.broken == ()
    assert all(each["passed"] for each in found.found)


def test_a_warning_rejects_nothing(rows: DataFrame) -> None:
    verdict = judged(rows, ("a", at_least(2, severity="warning"))).verdict
    assert (verdict.failed, verdict.warned) == ((), ("a:at_least(2)",))


def test_a_rejected_training_set_leaves_readers_what_they_had(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = projects.published(tmp_path_factory.getbasetemp()).copied(tmp_path_factory.mktemp("gated"))
    catalog, defined = folder / "catalog/shop.py", (folder / "catalog/shop.py").read_text()

    def expecting(expect: str) -> projects.Done:
        text = defined.replace('Label("refunded", "1d"))', f'Label("refunded", "1d"), expect={expect})')
        catalog.write_text(text.replace("at_least,\n)", "at_least, row_count, unique,\n)"))
        return projects.within("training-set", "refunds", "--json", project=folder)

    good = expecting('{"payment_id": unique(), "*": row_count(at_least=4)}')
    assert (good.code, good.json["rejected"]) == (0, [])
    assert [each["passed"] for each in good.json["manifest"]["expectations"]] == [True, True]
    path = good.json["path"]
    before, known, files = projects.table(path), Path(f"{path}.manifest.json").read_text(), {*Path(path).rglob("*")}
    bad = expecting('{"amount": at_least(0)}')
    assert (bad.code, bad.json["rejected"]) == (3, ["amount:at_least(0)"])
    assert "refunds: amount:at_least(0) (critical): 1 row; the first have hw_row 3" in bad.err
    assert projects.table(path).equals(before)
    assert {*Path(path).rglob("*")} == files
    assert Path(f"{path}.manifest.json").read_text() == known
    told = json.loads(Path(layout.rejected_training_set(str(folder / "lake"), "refunds")).read_text())
    assert told == bad.json["manifest"]
    again = expecting('{"amount": at_least(0)}')
    assert (again.code, again.json["unchanged"], again.json["manifest"]) == (3, True, told)
    assert expecting('{"amount": at_least(-5)}').code == 0
    assert not Path(layout.rejected_training_set(str(folder / "lake"), "refunds")).exists()
