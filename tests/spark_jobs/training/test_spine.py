"""Spines that cannot be joined are refused and told why: before Spark sees them, by what the service needs, or by their times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pandas as pd
import pyarrow as pa
import pytest

from feature_definitions import FeatureService, Join, Label
from spark_jobs.training.spine import SpineRefused, TrainingRequest, is_young, mature, of_frame
from tests import projects
from tests.feature_definitions.language.test_requests import spend
from tests.projects import NOW

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession

    from headwater import Project

AT = pa.array([NOW], pa.timestamp("us", tz="UTC"))
WITHOUT_SPARK: dict[str, tuple[dict[str, Any], str]] = {
    "no time": ({"customer_id": [1]}, "has no column 'event_timestamp'. It has: customer_id"),
    "text for a time": ({"event_timestamp": ["2026-01-05"]}, "event_timestamp is a string; it must be a timestamp with a time zone"),
    "naive times": ({"event_timestamp": [datetime(2026, 1, 5)]}, "event_timestamp has no time zone"),  # noqa: DTZ001  # on purpose
    "a space in a name": ({"event_timestamp": AT, "my label": [1]}, "column 'my label' cannot be kept under that name"),
    "a point in a name": ({"event_timestamp": AT, "a.b": [1]}, "column 'a.b' cannot be kept under that name"),
    "a name of ours": ({"event_timestamp": AT, "_hw_at": [1]}, "column '_hw_at' cannot be kept under that name"),
    "names that differ in case": ({"event_timestamp": AT, "label": [1], "Label": [1]}, "has the columns 'label' and 'Label'"),
    "a type without a name in Spark": ({"event_timestamp": AT, "n": pa.array([1], pa.uint64())}, "column 'n' is a uint64"),
    "no name at all": ({"event_timestamp": AT, "": [1]}, "column '' cannot be kept under that name"),
    "a period of pandas": (
        {"event_timestamp": AT, "p": pa.array(pd.period_range("2026-01", periods=1, freq="M"))},
        "column 'p' is a exten",
    ),
    "an interval of pandas": ({"event_timestamp": AT, "i": pa.array(pd.interval_range(0, 1))}, "column 'i' is a extension"),
    "an empty struct": ({"event_timestamp": AT, "s": pa.array([{}], pa.struct([]))}, "column 's' is a struct<>"),
    "a span of time": ({"event_timestamp": AT, "d": pa.array([1], pa.duration("s"))}, "column 'd' is a duration[s]"),
}


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with projects.opened(projects.published(tmp_path_factory.getbasetemp()).copied(tmp_path_factory.mktemp("spines"))) as p:
        yield p


@pytest.mark.parametrize("kind", WITHOUT_SPARK)
def test_a_spine_that_can_not_be_kept_is_refused_before_spark_sees_it(kind: str) -> None:
    columns, sentence = WITHOUT_SPARK[kind]
    with pytest.raises(SpineRefused) as refused:
        of_frame(pa.table(columns), cast("SparkSession", None))
    assert sentence in str(refused.value)


def test_a_column_that_comes_twice_is_refused() -> None:
    with pytest.raises(SpineRefused, match="has the columns 'x' and 'x'"):
        of_frame(pa.table([AT, AT, AT], names=["event_timestamp", "x", "x"]), cast("SparkSession", None))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"SPEND__Paid_1d": [1, 2]}, "which is an output of service customer_v1, like 'spend__paid_1d' but for its case; rename it"),
        ({"event_timestamp": pa.array([0, 2**61], pa.timestamp("us", tz="UTC"))}, "event_timestamp outside of the years 1 to 9999"),
        ({"customer_id": [1.0, 2.0]}, "the spine's 'customer_id' is a double; as a key of service customer_v1 it must be int64"),
        ({"customer_id": ["1", "2"]}, "the spine's 'customer_id' is a string; as a key of service customer_v1 it must be int64"),
        ({"spend__paid_1d": [1, 2]}, "has a column 'spend__paid_1d', which is an output of service customer_v1; rename it"),
        ({"event_timestamp": pd.to_datetime([NOW, None], utc=True)}, "1 row of the spine has no event_timestamp"),
    ],
    ids=[
        "an output in capitals",
        "a time beyond all years",
        "key as double",
        "key as text",
        "a column of the outputs",
        "a row without time",
    ],
)
def test_a_spine_that_does_not_fit_the_service_is_refused_and_told_why(shop: Project, changes: dict[str, Any], sentence: str) -> None:
    columns = {"customer_id": [1, 2], "event_timestamp": pd.to_datetime([NOW, NOW], utc=True)} | changes
    frame = pa.table(columns) if isinstance(columns["event_timestamp"], pa.Array) else pd.DataFrame(columns)
    with pytest.raises(SpineRefused) as refused:
        shop.training_set("refused", spine=frame, service="customer_v1")
    assert sentence in str(refused.value)
    assert not Path(shop.settings.lake, "training_sets/refused").exists()


def test_a_spine_without_a_key_of_the_service_is_told_which(shop: Project) -> None:
    with pytest.raises(SpineRefused, match=r"has no column 'customer_id', a key of service customer_v1. It has: event_timestamp"):
        shop.training_set(spine=pa.table({"event_timestamp": AT}), service="customer_v1")


def test_rows_younger_than_the_labels_horizon_are_refused(shop: Project) -> None:
    with projects.opened(shop.settings.root, now=datetime(2026, 1, 6, 9, tzinfo=UTC)) as early, pytest.raises(SpineRefused) as refused:
        early.training_set("refunds")
    assert "1 row of the spine is younger than the label's horizon 1d: 'refunded' may still change" in str(refused.value)
    assert "Leave out rows after 2026-01-05T09:00:00Z, or write Label('refunded', '1d', immature='leave out')" in str(refused.value)


def test_rows_younger_than_the_labels_horizon_are_left_out_if_that_is_said(shop: Project) -> None:
    catalog = shop.settings.root / "catalog/shop.py"
    catalog.write_text(catalog.read_text().replace('Label("refunded", "1d")', 'Label("refunded", "1d", immature="leave out")'))
    with projects.opened(shop.settings.root, now=datetime(2026, 1, 6, 9, tzinfo=UTC)) as early:
        built = early.training_set("refunds")
    with projects.opened(shop.settings.root, now=datetime(2026, 1, 6, 10, tzinfo=UTC)) as later:
        again = later.training_set("refunds")
    assert [(one.rows, one.manifest["spine"]["left_out"]) for one in (built, again)] == [(3, 1), (4, 0)]  # type: ignore[index]


def test_places_stay_without_gaps_where_rows_are_left_out(spark: SparkSession) -> None:
    times = [NOW, NOW - timedelta(days=2), None, NOW - timedelta(days=3)]
    given = of_frame(pa.table({"n": [0, 1, 2, 3], "event_timestamp": pa.array(times, pa.timestamp("us", tz="UTC"))}), spark)
    request = TrainingRequest("t", FeatureService("s", joins=Join(spend)), label=Label("n", "1d", immature="leave out"))
    assert [row["n"] for row in given.rows.where(is_young(given, request, NOW)).collect()] == [0]
    found = mature(given, request, NOW, young=1)
    assert [(row["n"], row["_hw_row"]) for row in found.rows.orderBy("_hw_row").collect()] == [(1, 0), (2, 1), (3, 2)]
