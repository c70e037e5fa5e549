"""Two versions of a training set side by side: rows by what identifies them, columns, and how far features moved."""

from __future__ import annotations

import math
import shutil
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_definitions.errors import Unknown
from lake import training_sets
from spark_jobs.training import diff
from spark_jobs.training.diff import DiffRefused, RowCounts
from tests import projects
from tests.projects import NOW

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyspark.sql import SparkSession

    from headwater import Project

COLUMNS = "hw_row long, id long, x double, y string"


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A training set of two versions: of the second one a row moved to another time, and one came."""
    folder = projects.published(tmp_path_factory.getbasetemp()).copied(tmp_path_factory.mktemp("compared"))
    with projects.opened(folder) as p:
        for hours in ((6, 12), (6, 14, 30)):
            at = [pd.Timestamp("2026-01-05T00:00Z") + pd.Timedelta(hours=each) for each in hours]
            rows = pd.DataFrame({"customer_id": [1, 2, 1][: len(at)], "event_timestamp": at, "label": [n / 2 for n in range(len(at))]})
            p.training_set("given", spine=rows, service="customer_v1")
        p.training_set("refunds")
        yield p


def test_rows_are_the_same_by_keys_and_time_where_the_spine_was_given(shop: Project) -> None:
    found = shop.diff_training_sets("given")
    assert (found.identity, found.rows) == (("customer_id", "event_timestamp"), RowCounts(2, 1, 0, 1))
    assert [training_sets.number(each) for each in (found.second, found.first)] == [
        training_sets.number(each) for each in training_sets.versions(shop.settings.lake, "given")
    ]
    paid = next(each for each in found.columns if each.name == "spend__paid_3d")
    assert (paid.changed, paid.nulls, paid.means) == (0, (0, 0), (pytest.approx(17.5), pytest.approx((15 + 20 + 15) / 3)))
    assert paid.shift == pytest.approx((50 / 3 - 17.5) / math.sqrt((12.5 + 25 / 3) / 2))


def test_the_command_shows_it(shop: Project) -> None:
    done = projects.within("training-set", "diff", "given", project=shop.settings.root)
    assert done.code == 0, done.err
    assert "rows by customer_id, event_timestamp: 2 added, 1 removed, 0 changed, 1 same" in done.out
    assert projects.within("training-set", "diff", "given", "--json", project=shop.settings.root).json["rows"]["added"] == 2


def test_two_training_sets_are_compared_in_the_columns_that_both_have(shop: Project) -> None:
    newest = training_sets.versions(shop.settings.lake, "given")[0]
    with pytest.raises(DiffRefused, match=r"rows cannot be told apart by 'event_timestamp', which version . of refunds does not have"):
        shop.diff_training_sets("given", "refunds")
    same = shop.diff_training_sets("given", start=training_sets.number(newest))
    assert (same.rows, same.columns_added, {each.changed for each in same.columns}) == (RowCounts(0, 0, 0, 3), (), {0})


def test_what_has_no_version_before_is_refused(shop: Project) -> None:
    with pytest.raises(Unknown, match="training set refunds has no version before 1; name another training set"):
        shop.diff_training_sets("refunds")


def test_rows_of_a_source_are_the_same_by_its_id_when_their_values_are_corrected(shop: Project, tmp_path: Path) -> None:
    folder = shutil.copytree(shop.settings.root, tmp_path / "shop")
    correction = projects.rows("p2,1,9.5,no,2026-01-04T09:30:00Z,2026-01-06T13:00:00Z")
    projects.write(folder, "data/payments/third.csv", correction)
    with projects.opened(folder, now=NOW) as p:
        p.ingest("payments")
        p.training_set("refunds")
        found = p.diff_training_sets("refunds")
    assert (found.identity, found.rows) == (("payment_id",), RowCounts(0, 0, 1, 3))
    assert {each.name for each in found.columns if each.changed} >= {"amount", "paid_at", "arrived"}


def test_rows_that_nothing_tells_apart_are_compared_in_their_order(spark: SparkSession) -> None:
    one = spark.createDataFrame([(0, 1, 1.0, "a"), (1, 1, math.nan, None), (2, None, 3.0, "c"), (3, 9, 1.0, "x")], COLUMNS)
    other = spark.createDataFrame([(5, 1, math.nan, None), (4, 1, 1.0, "b"), (7, None, 3.0, "c"), (8, 1, 5.0, "y")], COLUMNS)
    found = diff.counted(one, other, identity=["id"], columns=["x", "y"])
    assert found == (RowCounts(added=1, removed=1, changed=1, same=2), {"x": 0, "y": 1})


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=5), st.floats(-1e6, 1e6), st.floats(0.5, 100))
def test_a_shift_knows_no_unit(values: list[float], by: float, unit: float) -> None:
    def told(moved: float, scale: float) -> dict[str, float]:
        series = pd.Series(values) * scale + moved * scale
        return {"mean": float(series.mean()), "sd": float(series.std())}

    one, other = diff.shift(told(0, 1), told(by, 1)), diff.shift(told(0, unit), told(by, unit))
    assert (one is None) == (other is None) or math.isclose(pd.Series(values).std(), 0, abs_tol=1e-6)
    if one is not None and other is not None and pd.Series(values).std() > 1e-3:
        assert one == pytest.approx(other, rel=1e-3, abs=1e-6)


def test_without_a_spread_there_is_no_shift_but_of_nothing() -> None:
    same = {"mean": 1.0, "sd": 0.0}
    assert diff.shift(same, same) == 0.0
    assert diff.shift(same, {"mean": 2.0, "sd": 0.0}) is None
    assert diff.shift(same, {"mean": None, "sd": 0.0}) is None
    assert diff.shift({}, same) is None
