"""The leak report: a sample of each training set is computed again without its future, and a join that looks ahead is caught."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pytest
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from feature_definitions.intervals import micros
from feature_definitions.language import (
    Entity,
    Feature,
    FeatureService,
    Join,
    Label,
    ObservationGroup,
    OnDemandFeature,
    Query,
    Ref,
    Request,
    SnapshotGroup,
    Source,
    WindowedGroup,
)
from spark_jobs.training import build, leak_report
from spark_jobs.training.leak_report import Reported
from spark_jobs.training.recomputed import Recomputed
from spark_jobs.training.spine import TrainingRequest
from tests import projects
from tests.projects import NOW

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyspark.sql import DataFrame, SparkSession

    from headwater import Project
    from spark_jobs.training.join import JoinAsked
    from spark_jobs.workers import Flow

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
        assert found["sample"] | {"rows": 256, "seed": 0} == found["sample"]
        assert found["shift"] == {"rows": 256, "moved": 0, "features": {}}
        assert not any(sentence.startswith("LEAK") for sentence in found["sentences"])


@pytest.mark.usefixtures("spark")
@pytest.mark.parametrize("mode", ["as_known", "event_time"])
def test_groups_of_which_nothing_was_ever_published_have_a_report_too(tmp_path: Path, mode: Any) -> None:
    with projects.opened(projects.shop(tmp_path)) as p:
        found = reported(p, "nothing", mode=mode)
    assert (found["shift"]["rows"], found["shift"]["moved"]) == (256, 0)


def test_a_join_that_ignores_time_is_caught_and_named(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    honest_join = build.joining
    monkeypatch.setattr(build, "joining", lambda *args, **kwargs: mutant(honest_join, *args, **kwargs))
    found = reported(shop, "leaking")
    assert found["shift"]["moved"] > 50
    assert {"spend__paid_1d", "spend__payments_1d", "last_page__page"} <= set(found["shift"]["features"])
    assert found["sentences"][0].startswith(f"LEAK: {found['shift']['moved']} of 256 sampled rows")


def mutant(honest_join: Any, spine: DataFrame, asked: Sequence[JoinAsked], *, at: str, **given: Any) -> Flow:
    """A join that ignores when the rows of the spine are."""
    moved = spine.withColumn("asked_at", F.col(at)).withColumn(at, F.lit(NOW - timedelta(hours=12)))
    joined: Flow = honest_join(moved, asked, at=at, **given | {"extent": None})
    schema = StructType([field for field in joined.schema if field.name != "asked_at"])
    names = schema.names

    def restored(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield pa.RecordBatch.from_arrays([batch.column("asked_at" if name == at else name) for name in names], names)

    return joined.then(restored, schema)


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


COUNTRY = Source("country", columns={"customer_id": "int64", "name": "string"}, id=("customer_id",), shape="static")
LIVES = SnapshotGroup("lives", CUSTOMER, COUNTRY, columns=("name",), assume_always_known=True)


def reported_on(service: FeatureService, *, source: Source | None = LOANS, label: Label | None = None) -> Any:
    """What is decided of a service's definitions alone."""
    return leak_report.report(None, {}, Reported(TrainingRequest("loans", service, label=label), source, "at", 0))


def double(amount: float) -> float:
    return amount * 2


def test_what_reads_the_labels_own_column_is_named_however_late_it_does() -> None:
    label = Label("late", "30d")
    assert reported_on(LOAN_V1, label=label)["label_readers"] == ["past.late_loans", "shown.paid_late"]
    assert reported_on(LOAN_V1, label=label, source=replace(LOANS, name="payments"))["label_readers"] == []


def test_a_feature_on_demand_that_reads_the_label_is_named_with_the_input_that_does() -> None:
    features = (
        OnDemandFeature("risk", (Ref("past__late_loans_7d"), Request("amount", "double")), "double", lambda loans, amount: loans * amount),
        OnDemandFeature("copied", Request("paid_late", "boolean"), "boolean", lambda late: late, rows=True),
        OnDemandFeature("twice", Ref("past__borrowed_7d"), "double", double),
    )
    found = reported_on(replace(LOAN_V1, on_demand=features), label=Label("late", "30d"))
    named = ["copied (of paid_late)", "past.late_loans", "risk (of past__late_loans_7d)", "shown.paid_late"]
    assert found["label_readers"] == named
    assert [sentence for sentence in found["sentences"] if "the label's own column" in sentence] == [
        f"{name} reads the label's own column, which is known only when the label is" for name in named
    ]


def test_a_static_source_is_named_once_with_all_that_rests_on_it() -> None:
    features = (
        OnDemandFeature("letters", Ref("other__name"), "int64", len, rows=True),
        OnDemandFeature("twice", Request("amount", "double"), "double", double),
    )
    service = FeatureService("v1", joins=(Join(LIVES), Join(LIVES, prefix="other"), Join(SHOWN)), on_demand=features)
    assert leak_report.static_sources(service) == {"country": ["lives", "other", "letters"]}


def test_a_query_that_shows_a_row_what_came_after_it_is_named_with_all_that_rests_on_it() -> None:
    ahead = Query("SELECT customer_id, max(amount) OVER (PARTITION BY customer_id) AS most, at FROM loans", LOANS)
    most = Source("most", ahead, columns={"customer_id": "int64", "most": "double", "at": "timestamp"}, event_timestamp="at")
    group = ObservationGroup("largest", CUSTOMER, most, columns=("most",), ttl="7d")
    service = FeatureService(
        "v1", joins=(Join(group), Join(SHOWN)), on_demand=OnDemandFeature("twice", Ref("largest__most"), "double", double)
    )
    found = reported_on(service)
    assert found["looks_ahead"] == {
        "most": {"because": ["has a window of rows that may come after (max)"], "features": ["largest", "twice"]}
    }
    assert found["sentences"][0] == (
        "largest, twice rest on the query most, which has a window of rows that may come after (max): "
        "rows may hold what came after their time"
    )
    assert reported_on(LOAN_V1)["looks_ahead"] == {}


def test_features_on_demand_are_computed_a_second_time_and_without_time() -> None:
    scored = OnDemandFeature(
        "scored", (Ref("past__borrowed_7d"), Request("amount", "double")), "double", lambda borrowed, amount: borrowed + amount
    )
    service = FeatureService("v1", joins=Join(PAST, ("borrowed",)), on_demand=scored, defaults={"past__borrowed_7d": 0.0})
    at = datetime(2026, 1, 4, tzinfo=UTC)
    sample = pa.table({
        "at": pa.array([at] * 3, pa.timestamp("us", tz="UTC")),
        "amount": [1.0, 2.0, None],
        "past__borrowed_7d": [10.0, 0.0, 5.0],
        "scored": [11.0, 3.5, None],
    })  # fmt: skip
    second = 1_000_000
    values = ((10.0, 20.0, micros(at) - second), (None, 4.0, None), (5.0, 5.0, micros(at) + second))
    again = [Recomputed({"past__borrowed_7d": must}, {"past__borrowed_7d": naive}, known) for must, naive, known in values]
    found = leak_report.report(sample, {"past": again}, Reported(TrainingRequest("v1", service), None, "at", 300))
    assert found["shift"] == {"rows": 3, "moved": 1, "features": {"scored": 1}}
    assert found["naive"]["past__borrowed_7d"] == {"changed": 2 / 3, "mean_difference": (10 + 4 + 0) / 3}
    assert found["naive"]["scored"] == {"changed": 2 / 3, "mean_difference": (10 + 4) / 2}
    assert found["known_later"] == {name: {"values": 2, "after": 0.5, "after_label": None} for name in ("past", "scored")}


def test_a_sample_says_with_which_chance_it_holds_a_wrong_row() -> None:
    assert leak_report.chance(256, 300_000, one_in=100) == pytest.approx(1 - 0.99**256, abs=1e-3)
    assert leak_report.chance(3, 10, one_in=5) == pytest.approx(1 - 8 / 10 * 7 / 9 * 6 / 8)
    assert leak_report.chance(300, 300, one_in=100) == 1
    assert leak_report.chance(99, 99, one_in=100) is leak_report.chance(0, 1000, one_in=100) is None


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
        "label_overlap": 0.25,
        "static_sources": {},
        "looks_ahead": {},
        "from_the_spine": ["amount"],
        "known_later": {"spend": late, "page": {"values": 0, "after": None, "after_label": None}},
    }
    asked = TrainingRequest("loans", LOAN_V1, mode="event_time", label=Label("late", "30d"))
    said = leak_report.sentences(found, Reported(asked, LOANS, "at", 4, ahead="2030-01-01T00:00:00Z"))
    assert said == [
        "50 % of the values of spend were known only after their row's time, 25 % only after the label; mode as_known sees none of them",
        (
            "for 25 % of the rows another part has a row of the same keys within the label's 30d: what is tested was partly taught; "
            "split by time or by entity"
        ),
        "rows ask at times that had not come yet, up to 2030-01-01T00:00:00Z: a later build may give them other values",
        "amount come from the spine; whether they were known at its times cannot be told",
    ]
