"""In which part of a training set a row is: as the shares say, the same each time, and never before its label is decided."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from feature_definitions import DefinitionError, FeatureService, Join, Label, Split
from spark_jobs.training import order, parts
from spark_jobs.training.parts import SplitRefused
from spark_jobs.training.spine import SpineRefused
from tests import projects
from tests.feature_definitions.planning.test_cuts import part_of, unfinished

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

START = datetime(2026, 1, 1, tzinfo=UTC)
HALVES = {"train": 0.5, "test": 0.5}


@pytest.fixture(scope="module")
def service() -> FeatureService:
    from tests.feature_definitions.language.test_requests import spend

    return FeatureService("s", joins=Join(spend))


@pytest.fixture(scope="module")
def rows(spark: SparkSession) -> DataFrame:
    """Two hundred rows, one an hour, of forty customers, one of eight with the label."""
    made = [(n, n % 40, START + timedelta(hours=n), n % 8 == 0 if n % 50 else None) for n in range(200)]
    return spark.createDataFrame(made, "n long, customer_id long, at timestamp, fraud boolean").repartition(3)


def cut(rows: DataFrame, split: Split, *, label: Label | None) -> parts.Cut:
    days = {row["day"]: row["count"] for row in rows.groupBy(order.day("at").alias("day")).count().collect()}
    return parts.cut(rows, split, at="at", label=label, days=days)


def parted(rows: DataFrame, split: Split, service: FeatureService, *, label: Label | None = None) -> dict[int, Any]:
    """The part of each row, by its number."""
    made = cut(rows, split, label=label)
    found = parts.with_part(rows, made, at="at", service=service, label=label)
    return {row["n"]: row[parts.PART] for row in found.collect()}


def test_earlier_rows_come_in_earlier_parts(rows: DataFrame, service: FeatureService) -> None:
    found = parted(rows, Split(), service)
    assert [found[n] for n in range(200)] == ["train"] * 140 + ["validation"] * 30 + ["test"] * 30


def test_a_row_whose_label_is_decided_after_its_part_is_in_none(rows: DataFrame, service: FeatureService) -> None:
    found = parted(rows, Split("time", HALVES), service, label=Label("fraud", "10h"))
    # The cut is at hour 100: what is labelled at hour 90 is decided just then.
    assert [found[n] for n in range(200)] == ["train"] * 91 + [None] * 9 + ["test"] * 100


def test_spark_finds_the_parts_that_plain_python_finds(rows: DataFrame, service: FeatureService) -> None:
    label, split = Label("fraud", "10h"), Split()
    found, (line,) = parted(rows, split, service, label=label), cut(rows, split, label=label).lines.values()
    seconds = {n: int((START + timedelta(hours=n)).timestamp()) for n in range(200)}
    assert found == {n: None if unfinished(at, 36_000, line) else part_of(at, line) for n, at in seconds.items()}


def test_all_rows_of_an_entity_are_in_one_part_also_when_rows_are_added(rows: DataFrame, service: FeatureService) -> None:
    found, fewer = parted(rows, Split("entity", HALVES), service), parted(rows.where("n < 90"), Split("entity", HALVES), service)
    assert all(found[n] == found[n % 40] for n in range(200))
    assert {n: found[n] for n in range(90)} == fewer
    assert set(Counter(found.values())) == {"train", "test"}


def test_random_parts_have_about_their_shares_and_another_seed_gives_others(rows: DataFrame, service: FeatureService) -> None:
    found = [parted(rows, Split("random", HALVES, seed=seed), service) for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
    assert all(70 <= Counter(each.values())["train"] <= 130 for each in found)


def test_each_value_of_the_label_has_the_shares_null_too(rows: DataFrame, service: FeatureService) -> None:
    found = parted(rows, Split("label", HALVES), service, label=Label("fraud", "1d"))
    labels = {row["n"]: row["fraud"] for row in rows.collect()}
    counts = Counter((labels[n], part) for n, part in found.items())
    for value in (True, False, None):
        assert abs(counts[value, "train"] - counts[value, "test"]) <= 2


def test_a_label_of_many_values_is_refused(rows: DataFrame, service: FeatureService) -> None:
    with pytest.raises(SplitRefused, match="the label 'n' has more than 100 values"):
        parted(rows, Split("label", HALVES), service, label=Label("n", "1d"))


@pytest.mark.parametrize("by", ["time", "entity", "random", "label"])
def test_no_rows_are_in_no_part(rows: DataFrame, service: FeatureService, by: Any) -> None:
    assert parted(rows.where("n < 0"), Split(by), service, label=Label("fraud", "1d")) == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"by": "day"}, "a split by 'day' is not known; write one of 'time', 'entity', 'random', 'label'"),
        ({"shares": {"train": 0.5, "test": 0.4}}, "the shares of a split add up to 0.9, not to 1"),
        ({"shares": {"train": 0}}, "the part 'train' of a split has the share 0"),
        ({"shares": (0.7, 0.3)}, "a split has shares=(0.7, 0.3); write them by name"),
        ({"shares": {"Train": 1}}, "'Train' cannot name a part of a split"),
        ({"seed": 0.5}, "a split has the seed 0.5; write a whole number"),
    ],
)
def test_what_cuts_nothing_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        Split(**given)
    assert message in str(refused.value)


def test_percents_are_shares() -> None:
    assert dict(Split(shares={"train": 80, "test": 20}).shares) == {"train": 0.8, "test": 0.2}


def test_a_training_set_says_the_part_of_each_row_and_its_manifest_counts_them(spark: SparkSession, tmp_path_factory: Any) -> None:
    folder: Path = projects.published(tmp_path_factory.getbasetemp()).copied(tmp_path_factory.mktemp("parted"))
    split = 'label=Label("refunded", "1h"), split=Split("time", {"old": 50, "new": 50})'
    text = f'from shop import *\nfrom feature_definitions import Split\nparted = TrainingSet("parted", payments, customer_v1, {split})\n'
    projects.write(folder, "catalog/more.py", text)
    with projects.opened(folder) as p:
        built = p.training_set("parted")
        frame = built.to_pandas()
        with pytest.raises(SpineRefused, match="the spine has a column 'hw_split', which is one of a training set's own"):
            p.training_set(spine=frame[["customer_id", "hw_split"]].assign(event_timestamp=START), service="customer_v1")
    assert dict(zip(frame["payment_id"], frame["hw_split"], strict=True)) == {"p1": "old", "p2": "old", "p3": "new", "p4": "new"}
    assert built.manifest["split"] == {
        "by": "time",
        "seed": 0,
        "parts": [
            {"name": "old", "share": 0.5, "from": None, "to": "2026-01-04T10:00:00Z", "rows": 2},
            {"name": "new", "share": 0.5, "from": "2026-01-04T10:00:00Z", "to": None, "rows": 2},
        ],
        "in_no_part": 0,
    }
