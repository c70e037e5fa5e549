"""What Airflow shows beside a group's DAG."""

from __future__ import annotations

from typing import Any

from dags.page import page, page_of_training_set
from dags.schedule import schedule_of
from feature_definitions import (
    Derived,
    Entity,
    Feature,
    FeatureService,
    Files,
    Join,
    Label,
    ObservationGroup,
    SnapshotGroup,
    Source,
    Split,
    TrainingSet,
    TransformGroup,
    WindowedGroup,
    at_least,
    not_null,
    row_count,
)
from feature_definitions.language import FeatureGroup

customer = Entity("customer", keys={"shop": "string", "customer_id": "int64"})
payments = Source(
    "payments",
    Files("data/*.csv"),
    columns={"shop": "string", "customer_id": "int64", "amount": "double", "paid_at": "timestamp"},
    event_timestamp="paid_at",
    timezone="UTC",
    ready_after="2h",
)
people = Source("people", columns={"shop": "string", "customer_id": "int64", "city": "string"}, id=("shop", "customer_id"), shape="static")


def shown(group: FeatureGroup) -> str:
    return page(group, schedule_of(group), report="/lake/reports/spend/newest.html")


def spend(**changes: str) -> WindowedGroup:
    features = (
        Feature("spend", "sum", "amount", windows=("1d", "7d"), where="amount > 0 || amount < -1"),
        Feature("payments", "count", windows=("1d",)),
        Derived("share", "spend_1d / spend_7d"),
    )
    return WindowedGroup("spend", customer, payments, every="1d", ttl="2d", features=features, **changes)


def test_a_page_names_owner_entity_source_and_schedule() -> None:
    text = shown(spend(owner="payments_team"))
    assert "**Owner**: payments_team" in text
    assert "customer (`shop` string, `customer_id` int64)" in text
    assert "**Source**: payments" in text
    assert "`0 0 * * *` UTC, when the source is ready, 2h after an interval's end" in text


def test_a_page_says_when_nobody_owns_the_group() -> None:
    assert "**Owner**: nobody is named" in shown(spend())


def test_every_column_has_a_row_of_two_cells() -> None:
    rows = [line for line in shown(spend()).splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(spend().outputs)
    assert [row.replace("\\|", "").count("|") for row in rows] == [3] * len(rows)


def test_columns_say_what_they_aggregate() -> None:
    text = shown(spend())
    assert "| `spend_7d` | sum of `amount` over 7d where `amount > 0 \\|\\| amount < -1` |" in text
    assert "| `payments_1d` | count of events over 1d |" in text
    assert "| `share` | `spend_1d / spend_7d` |" in text


def test_an_observed_column_that_is_derived_says_from_what() -> None:
    doubled = Source("doubled", columns=payments.columns, event_timestamp="paid_at", timezone="UTC", derive={"twice": "amount * 2"})
    text = shown(ObservationGroup("last_payment", customer, doubled, columns=("twice",), ttl="2d"))
    assert "| `twice` | `amount * 2`, as observed |" in text


def test_observed_columns_have_their_types() -> None:
    group = ObservationGroup("paid", customer, payments, columns=("amount",), ttl="2d")
    assert "| `amount` | double, as observed |" in shown(group)


def test_a_static_group_waits_for_nothing() -> None:
    group = SnapshotGroup("home", customer, people, columns=("city",), assume_always_known=True)
    assert "the source is static, so each run looks whether it changed" in shown(group)


def test_a_transform_says_what_it_reads_and_how_far_back() -> None:
    sql = "SELECT 1"
    text = shown(TransformGroup("risk", customer, (payments, spend()), sql=sql, lookback="7d", ttl="2d", schema={"score": "double"}))
    assert "- **Reads**: payments, spend" in text
    assert "| `score` | double, from the last 7d |" in text
    assert "when the source is ready, 2h after an interval's end" in text


def test_a_page_says_what_the_colours_of_a_run_mean_and_which_day_it_is_of() -> None:
    text = shown(spend())
    assert "A run is of one data day, which its partition key names. Its colour is what the ledger says of it:" in text
    assert "- `materialize` red, `publish` red: the gate rejected it" in text


def test_a_page_names_the_newest_report_and_what_is_expected() -> None:
    text = shown(spend())
    assert "- **Newest report of the gate**: the tab Report shows it; it lies in `/lake/reports/spend/newest.html`" in text
    assert "Nothing is expected beside keys that are unique and values that are finite." in text
    feature = Feature("spend", "sum", "amount", windows=("1d",), expect=(at_least(0, severity="warning"),))
    expecting = WindowedGroup("spend", customer, payments, every="1d", ttl="2d", features=(feature,), expect=(row_count(at_least=1),))
    assert "- spend: `at_least(0)`, warning\n- the group: `row_count(at_least=1)`, critical" in shown(expecting)


def training(**changes: Any) -> str:
    service = FeatureService("shop_v1", version=3, joins=(Join(spend(), features=("spend",), prefix="paid"),))
    columns = {**payments.columns, "left": "boolean"}
    seen = Source("seen", Files("seen/*.csv"), columns=columns, event_timestamp="paid_at", timezone="UTC")
    return page_of_training_set(TrainingSet("churn", seen, service, **changes), table="/lake/training_sets/churn")


def test_a_training_sets_page_says_of_which_rows_and_features_it_is() -> None:
    text = training()
    assert "- **Spine**: seen, each row once\n- **Service**: shop_v1 (3)\n- **Joined**: `as_known`\n- **Label**: none" in text
    assert "| `paid` | spend | `paid__spend_1d`, `paid__spend_7d` |" in text
    assert "Nothing is expected beside each row of the spine once." in text


def test_a_training_sets_page_says_its_label_its_parts_and_what_is_expected_of_it() -> None:
    text = training(
        label=Label("left", "30d", immature="leave out"), split=Split("time", shares={"train": 0.8, "test": 0.2}),
        expect={"*": row_count(at_least=10), "paid__spend_7d": not_null(0.9, severity="warning")},
    )  # fmt: skip
    assert "- **Label**: `left`, known after 30d; rows whose horizon is not over are left out until it is over" in text
    assert "- **Split**: by time into train 80%, test 20%" in text
    assert "- the rows: `row_count(at_least=10)`, critical\n- `paid__spend_7d`: `not_null(0.9)`, warning" in text
    assert "rows whose horizon is not over are refused" in training(label=Label("left", "30d"))
