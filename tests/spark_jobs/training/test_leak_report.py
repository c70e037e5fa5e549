"""The leak report: a sample of each training set is computed again without its future, and a join that looks ahead is caught."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from pyspark.sql import functions as F

from feature_definitions.language import (
    Entity,
    Feature,
    FeatureService,
    Join,
    Label,
    ObservationGroup,
    SnapshotGroup,
    Source,
    WindowedGroup,
)
from spark_jobs.training import build, leak_report
from spark_jobs.training.spine import TrainingRequest
from tests import projects
from tests.projects import NOW

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyspark.sql import DataFrame, SparkSession

    from headwater import Project
    from spark_jobs.training.join import JoinAsked

START = datetime(2026, 1, 3, tzinfo=UTC)


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with projects.opened(projects.published(tmp_path_factory.getbasetemp()).copied(tmp_path_factory.mktemp("leaks"))) as p:
        yield p


def spine() -> pd.DataFrame:
    """Every customer, a stranger and nobody, every three hours and just before, while it was published and until nothing holds."""
    times = [START + timedelta(hours=3 * n) - early for n in range(60) for early in (timedelta(0), timedelta(microseconds=1))]
    asked = [(customer, at) for at in times for customer in (1, 2, 3, 999, None)]
    return pd.DataFrame({
        "customer_id": pd.array([customer for customer, _ in asked], dtype="Int64"),
        "event_timestamp": pd.to_datetime([at for _, at in asked], utc=True),
    })  # fmt: skip


def reported(shop: Project, name: str, **changes: Any) -> Any:
    return shop.training_set(name, spine=spine(), service="customer_v1", **changes).manifest["leaks"]


@pytest.fixture(scope="module")
def honest(shop: Project) -> Any:
    return reported(shop, "honest")


def test_no_row_moves_when_what_came_after_its_time_is_hidden(shop: Project, honest: Any) -> None:
    for found in (honest, reported(shop, "honest_events", mode="event_time")):
        assert found["sample"] == {"rows": 256, "seed": 0}
        assert found["shift"] == {"rows": 256, "moved": 0, "features": {}}
        assert not any(sentence.startswith("LEAK") for sentence in found["sentences"])


@pytest.mark.usefixtures("spark")
@pytest.mark.parametrize("mode", ["as_known", "event_time"])
def test_groups_of_which_nothing_was_ever_published_have_a_report_too(tmp_path: Path, mode: Any) -> None:
    with projects.opened(projects.shop(tmp_path)) as p:
        found = reported(p, "nothing", mode=mode)
    assert (found["shift"]["rows"], found["shift"]["moved"]) == (256, 0)


def test_a_join_that_ignores_time_is_caught_and_named(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    honest_join = build.joined
    monkeypatch.setattr(build, "joined", lambda *args, **kwargs: mutant(honest_join, *args, **kwargs))
    found = reported(shop, "leaking")
    assert found["shift"]["moved"] > 50
    assert {"spend__paid_1d", "spend__payments_1d", "last_page__page"} <= set(found["shift"]["features"])
    assert found["sentences"][0].startswith(f"LEAK: {found['shift']['moved']} of 256 sampled rows")


def mutant(honest_join: Any, spine: DataFrame, asked: Sequence[JoinAsked], *, at: str, **given: Any) -> DataFrame:
    """A join that ignores when the rows of the spine are."""
    moved = spine.withColumn("asked_at", F.col(at)).withColumn(at, F.lit(NOW - timedelta(hours=12)))
    joined: DataFrame = honest_join(moved, asked, at=at, **given | {"extent": None})
    return joined.withColumn(at, F.col("asked_at")).drop("asked_at")


def test_what_a_join_of_the_newest_values_would_change_is_counted_for_each_feature(honest: Any) -> None:
    assert honest["naive"]["home__country"] == {"changed": 0.0, "mean_difference": None}
    assert 0.3 < honest["naive"]["spend__paid_3d"]["changed"] < 1
    assert honest["naive"]["spend__paid_1d"]["mean_difference"] > 0
    assert any(sentence.startswith("a join of the newest values would have changed ") for sentence in honest["sentences"])


def test_static_sources_are_named(honest: Any) -> None:
    assert honest["static_sources"] == {"accounts": ["home"]}
    assert any("home rests on accounts, which is static" in sentence for sentence in honest["sentences"])


# ------------------------------------------------------------------------------------------------------------- decided without Spark

CUSTOMER = Entity("customer", keys={"customer_id": "int64"})
LOANS = Source(
    "loans",
    columns={"customer_id": "int64", "late": "boolean", "amount": "double", "at": "timestamp"},
    event_timestamp="at",
    derive={"paid_late": "late and amount > 0"},
)
PAST = WindowedGroup("past", CUSTOMER, LOANS, ttl="40d", publish_delay="30d", features=(
    Feature("late_loans", "count", where="paid_late", windows=("7d",)), Feature("borrowed", "sum", "amount", windows=("7d",)),
))  # fmt: skip
SHOWN = ObservationGroup("shown", CUSTOMER, LOANS, columns=("paid_late", "amount"), ttl="7d")
LOAN_V1 = FeatureService("loan_v1", joins=(Join(PAST), Join(SHOWN)))


def test_what_reads_the_labels_own_column_is_named_however_late_it_does() -> None:
    found = leak_report.report(None, {}, request=TrainingRequest("loans", LOAN_V1, label=Label("late", "30d")), source="loans", at="at")
    assert found["label_readers"] == ["past.late_loans", "shown.paid_late"]
    other = leak_report.report(None, {}, request=TrainingRequest("loans", LOAN_V1, label=Label("late", "30d")), source="payments", at="at")
    assert other["label_readers"] == []


def test_a_static_source_is_named_once_with_all_joins_that_rest_on_it() -> None:
    country = Source("country", columns={"customer_id": "int64", "name": "string"}, id=("customer_id",), shape="static")
    lives = SnapshotGroup("lives", CUSTOMER, country, columns=("name",), assume_always_known=True)
    assert leak_report.static_sources(FeatureService("v1", joins=(Join(lives), Join(lives, prefix="other"), Join(SHOWN)))) == {
        "country": ["lives", "other"]
    }


def test_values_are_compared_as_what_they_are() -> None:
    held = [1, None, nan, Decimal("1.0"), [1.0, nan], True]
    naive = [2, 4, nan, Decimal("2.5"), [1.0, nan], False]
    found = leak_report.compared(held, held, naive)
    assert (found.moved, found.changed) == (0, 4)
    assert found.difference == pytest.approx((1 + 1.5 - 1) / 3)
    assert leak_report.compared([1, 2], [1, None], [1, 2]).where == {1}


def test_values_known_only_later_are_told_with_the_mode_that_does_not_see_them() -> None:
    late = {"values": 4, "after": 0.5, "after_label": 0.25}
    found = {
        "shift": {"moved": 0, "rows": 4, "features": {}},
        "naive": {},
        "label_readers": [],
        "static_sources": {},
        "from_the_spine": ["amount"],
        "known_later": {"spend": late, "page": {"values": 0, "after": None, "after_label": None}},
    }
    said = leak_report.sentences(found, TrainingRequest("loans", LOAN_V1, mode="event_time"))
    assert said == [
        "50 % of the values of spend were known only after their row's time, 25 % only after the label; mode as_known sees none of them",
        "amount come from the spine; whether they were known at its times cannot be told",
    ]
