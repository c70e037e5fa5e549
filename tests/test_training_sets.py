"""What the manifest of a training set says of it, sentence by sentence on three rows, and the one-liners by which it is read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder
from sklearn.ensemble import HistGradientBoostingClassifier

from tests import projects

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession

    from spark_jobs.training.build import Built

CATALOG = """
from feature_definitions import FeatureService, Join, Label, OnDemandFeature, Ref, Request, Split, TrainingSet
from shop import account, last_page, payments, spend


def letters(country):
    return len(country)


tried_v1 = FeatureService("tried_v1", joins=(Join(spend), Join(last_page), Join(account, prefix="home")), on_demand=(
    OnDemandFeature("letters", Ref("home__country"), "int64", letters, rows=True),
    OnDemandFeature("share", (Request("amount", "double"), Ref("spend__paid_3d")), "double", lambda amount, paid: amount / paid),
))
tried = TrainingSet("tried", payments, tried_v1, label=Label("refunded", "2d", immature="leave out"),
                    split=Split("random", {"train": 50, "test": 50}, seed=SEED))
"""
ROWS = ("p1", "p2", "p3")
"""The payments whose label is known: of customer 1 at nine on 3 and 4 January, of customer 2 an hour after the second."""


@pytest.fixture(scope="module")
def built(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    folder = projects.published(tmp_path_factory.getbasetemp()).copied(tmp_path_factory.mktemp("tried"))
    projects.write(folder, "catalog/tried.py", CATALOG.replace("SEED", "1"))
    with projects.opened(folder) as p:
        yield p.training_set("tried")


@pytest.fixture(scope="module")
def rows(built: Built) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = built.to_arrow().to_pylist()
    assert tuple(row["payment_id"] for row in found) == ROWS
    return found


def said(built: Built, *path: str) -> Any:
    """What the manifest says at a place."""
    found: Any = built.manifest
    for name in path:
        found = found[name]
    return found


# ---------------------------------------------------------------------------------------------------------------------- honesty


def test_the_share_that_a_join_of_the_newest_values_would_change_is_there_by_feature_with_the_mean_difference(built: Built) -> None:
    naive = said(built, "leaks", "naive")
    assert naive["spend__paid_3d"] == {"changed": 1.0, "mean_difference": pytest.approx(((15 - 10.5) + (20 - 0)) / 2)}
    assert naive["share"] == {"changed": 1.0, "mean_difference": pytest.approx(4.5 / 15 - 4.5 / 10.5)}
    assert naive["letters"] == {"changed": 0.0, "mean_difference": 0.0}
    assert set(naive) == {name for name in built.to_arrow().column_names if "__" in name or name in ("letters", "share")}


def test_every_row_is_computed_again_without_its_future_where_they_are_few(built: Built) -> None:
    assert said(built, "leaks", "shift") == {"rows": 3, "moved": 0, "features": {}}


def test_the_share_with_a_label_that_overlaps_another_part_is_there(built: Built, rows: list[dict[str, Any]]) -> None:
    one, two = (row["hw_split"] for row in rows[:2])
    assert one != two
    assert said(built, "leaks", "label_overlap") == pytest.approx(2 / 3)
    assert any(sentence.startswith("for 67 % of the rows another part has") for sentence in said(built, "leaks", "sentences"))


def test_features_that_are_visible_later_than_the_label_are_counted(built: Built) -> None:
    assert said(built, "leaks", "known_later", "spend") == {"values": 1, "after": 0.0, "after_label": 0.0}
    assert said(built, "leaks", "known_later", "letters") == {"values": 3, "after": 0.0, "after_label": 0.0}


def test_static_sources_are_named_with_what_rests_on_them(built: Built) -> None:
    assert said(built, "leaks", "static_sources") == {"accounts": ["home", "letters"]}
    assert said(built, "assumed_always_known") == ["account"]


def test_the_fields_that_a_request_brings_are_named(built: Built) -> None:
    assert said(built, "leaks", "from_the_spine") == ["amount"]


def test_every_feature_has_statistics(built: Built, rows: list[dict[str, Any]]) -> None:
    features = said(built, "statistics", "features")
    for name, each in features.items():
        values = [row[name] for row in rows if row[name] is not None]
        assert (each["count"], each["nulls"], each["distinct"]) == (len(values), 3 - len(values), len(set(values))), name
    assert {"mean", "sd", "quantiles"} <= set(features["share"])


def test_match_rates_and_the_share_on_modelled_times_are_there_by_join(built: Built) -> None:
    spend = said(built, "statistics", "joins", "spend")
    assert spend["shares"] == pytest.approx({"PRESENT": 1 / 3, "EMPTY": 0, "NOT_FOUND": 1 / 3, "EXPIRED": 1 / 3, "HELD": 0})
    assert spend["on_modelled_times"] == 1.0


def test_what_it_was_made_of_is_there(built: Built) -> None:
    tables = {each["table"] for each in said(built, "inputs")}
    assert tables >= {"sources/payments", "features/spend/g1", "features/last_page/g1", "features/account/g1"}
    assert set(said(built, "definitions", "on_demand")) == {"letters", "share"}
    assert said(built, "spine", "left_out") == 1
    assert said(built, "split", "seed") == 1


# ---------------------------------------------------------------------------------------------------------------------- readers

PAGE = (Path(__file__).parents[1] / "docs" / "definitions.md").read_text(encoding="utf-8").partition("### Reading it")[2]
LINES = dict(re.findall(r"^\| (\w.+?) \| `(.+?)` \|$", PAGE.partition("### ")[0], re.MULTILINE))
SHOWN = ("hw_row", "payment_id", "spend__paid_3d", "home__country")


def test_the_page_has_a_line_for_every_reader() -> None:
    assert list(LINES) == [
        "pandas",
        "Arrow",
        "Arrow, by `deltalake` alone",
        "Arrow, in bounded memory",
        "Spark",
        "Polars",
        "DuckDB",
        "scikit-learn",
        "LightGBM",
    ]


@pytest.mark.parametrize("reader", ["pandas", "Arrow", "Arrow, by `deltalake` alone", "Spark", "Polars", "DuckDB"])
def test_a_reader_gets_the_rows_by_the_line_of_the_page(reader: str, built: Built, spark: SparkSession, rows: list[dict[str, Any]]) -> None:
    names: dict[str, Any] = {"built": built, "path": built.path, "spark": spark, "duckdb": duckdb, "pa": pa}
    names |= {"DeltaTable": DeltaTable, "QueryBuilder": QueryBuilder}
    if reader == "Polars":
        import polars as pl

        names["polars"] = pl
    exec(LINES[reader], names)
    expected = [row for row in rows if row["hw_split"] == "train"] if reader == "DuckDB" else rows
    assert plain(names["rows"]) == [tuple(row[name] for name in SHOWN) for row in expected]


def plain(found: Any) -> list[tuple[Any, ...]]:
    """Some columns of the rows that a reader has, in its order, as Python's values."""
    frame = found.to_pandas() if hasattr(found, "to_pandas") else found.toPandas() if hasattr(found, "toPandas") else found
    return [tuple(None if pd.isna(value) else value for value in row) for row in frame[list(SHOWN)].itertuples(index=False)]


def test_batches_come_by_the_line_of_the_page(built: Built, rows: list[dict[str, Any]]) -> None:
    names: dict[str, Any] = {"built": built, "found": []}
    exec(LINES["Arrow, in bounded memory"].replace("...", "found.extend(batch.to_pylist())"), names)
    assert sorted(names["found"], key=lambda row: row["hw_row"]) == rows


@pytest.mark.parametrize("reader", ["scikit-learn", "LightGBM"])
def test_a_model_learns_by_the_line_of_the_page(reader: str, built: Built) -> None:
    train = pd.concat([built.to_pandas()] * 20, ignore_index=True)
    train["left"] = train["spend__payments_1d"].fillna(0) > 0
    names: dict[str, Any] = {"train": train, "features": ["spend__paid_3d", "spend__payments_1d", "letters"]}
    names |= {"model": HistGradientBoostingClassifier(min_samples_leaf=1)}
    if reader == "LightGBM":
        names["lightgbm"] = pytest.importorskip("lightgbm", reason="it needs the system's libgomp1, and is tried by hand")
    exec(LINES[reader], names)
    assert len(names["model"].predict(train[names["features"]].astype(float))) == len(train)
