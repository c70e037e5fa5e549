"""Training sets on the little shop: the spine's rows each once, what was known at their times, and spines that are refused."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from sklearn.linear_model import LinearRegression

from feature_definitions import layout
from feature_definitions.language import DefinitionError
from feature_definitions.planning import fingerprint
from lake import delta_commits
from spark_jobs.training import build, manifest, provenance
from tests import projects
from tests.projects import NOW

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import DataFrame, SparkSession

    from headwater import Project
    from spark_jobs.workers import Flow
    from tests.postgresql import Server

OUTPUTS = ["spend__paid_1d", "spend__paid_3d", "spend__payments_1d", "spend__mean_paid_1d", "last_page__page", "home__country"]
PUBLISHED = datetime(2026, 1, 5, tzinfo=UTC)
OWN = ("hw_row", "hw_date")
EMPTY, GONE = (0.0, 0.0, 0, None), (None, None, None, None)


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with projects.opened(projects.published(tmp_path_factory.getbasetemp()).copied(tmp_path_factory.mktemp("training"))) as p:
        yield p


CASES: dict[str, tuple[int | None, datetime, tuple[object, ...], str | None, str | None]] = {
    "before the first interval ended": (1, PUBLISHED - timedelta(days=1, microseconds=1), GONE, None, "SE"),
    "when it ended": (1, PUBLISHED - timedelta(days=1), (10.5, 10.5, 1, 10.5), None, "SE"),
    "at an event's own time": (1, datetime(2026, 1, 4, 8, tzinfo=UTC), (10.5, 10.5, 1, 10.5), None, "SE"),
    "a microsecond later, before its day was published": (
        1,
        datetime(2026, 1, 4, 8, 0, 0, 1, tzinfo=UTC),
        (10.5, 10.5, 1, 10.5),
        None,
        "SE",
    ),
    "when its day was published": (1, PUBLISHED, (4.5, 15.0, 1, 4.5), "home", "SE"),
    "one that comes later": (2, PUBLISHED - timedelta(hours=1), EMPTY, None, "NO"),
    "the newest interval": (1, NOW - timedelta(hours=12), (4.5, 15.0, 1, 4.5), "cart", "SE"),
    "as old as the ttl": (1, PUBLISHED + timedelta(days=2), (4.5, 15.0, 1, 4.5), "cart", "SE"),
    "older than the ttl": (1, PUBLISHED + timedelta(days=2, microseconds=1), GONE, "cart", "SE"),
    "an entity that nobody knows": (999, NOW, EMPTY, None, None),
    "no entity": (None, NOW, GONE, None, None),
    "a null value": (3, NOW, EMPTY, None, None),
    "the same row": (3, NOW, EMPTY, None, None),
}


def spine() -> pd.DataFrame:
    return pd.DataFrame({
        "case": list(CASES),
        "customer_id": pd.array([case[0] for case in CASES.values()], dtype="Int64"),
        "event_timestamp": pd.to_datetime([case[1] for case in CASES.values()], utc=True),
        "label": [None, *[True] * (len(CASES) - 1)],
    })  # fmt: skip


STATUSES = {
    "before the first interval ended": ("EXPIRED", "NOT_FOUND"),
    "when it ended": ("PRESENT", "NOT_FOUND"),
    "at an event's own time": ("PRESENT", "NOT_FOUND"),
    "a microsecond later, before its day was published": ("PRESENT", "NOT_FOUND"),
    "when its day was published": ("PRESENT", "PRESENT"),
    "one that comes later": ("NOT_FOUND", "NOT_FOUND"),
    "the newest interval": ("PRESENT", "PRESENT"),
    "as old as the ttl": ("PRESENT", "PRESENT"),
    "older than the ttl": ("EXPIRED", "PRESENT"),
    "an entity that nobody knows": ("NOT_FOUND", "NOT_FOUND"),
    "no entity": ("NOT_FOUND", "NOT_FOUND"),
    "a null value": ("NOT_FOUND", "NOT_FOUND"),
    "the same row": ("NOT_FOUND", "NOT_FOUND"),
}
"""Of `spend` and `last_page`, as DESIGN 5.3 has it."""


@pytest.fixture(scope="module")
def built(shop: Project) -> build.Built:
    return shop.training_set("cases", spine=spine(), service="customer_v1")


def test_each_row_has_exactly_what_was_known_at_its_time(built: build.Built) -> None:
    found = {row["case"]: tuple(row[name] for name in OUTPUTS) for row in built.to_arrow().to_pylist()}
    assert found == {name: (*spend, page, country) for name, (_, _, spend, page, country) in CASES.items()}


def test_every_row_of_the_spine_is_there_once_with_all_its_columns(built: build.Built) -> None:
    rows = built.to_pandas()
    assert list(rows.columns) == ["case", "customer_id", "event_timestamp", "label", *OUTPUTS, *OWN]
    assert (built.rows, list(rows["case"]), list(rows["hw_row"])) == (len(CASES), list(CASES), list(range(len(CASES))))
    assert rows.set_index("case").loc["when it ended", "event_timestamp"] == pd.Timestamp(CASES["when it ended"][1])
    assert rows["label"].isna().sum() == 1


def test_it_lies_below_the_lake_under_its_name_beside_what_it_rests_on(shop: Project, built: build.Built) -> None:
    assert built.path == f"{shop.settings.lake}/training_sets/cases"
    assert [field.name for field in DeltaTable(built.path).schema().fields][-len(OUTPUTS) - len(OWN) :] == [*OUTPUTS, *OWN]
    manifest = json.loads(Path(f"{built.path}.manifest.json").read_text())
    assert manifest == built.manifest
    assert {name: manifest[name] for name in ("service", "mode", "rows")} == {
        "service": "customer_v1",
        "mode": "as_known",
        "rows": len(CASES),
    }
    assert manifest["assumed_always_known"] == ["account"]
    assert manifest["groups"]["spend"] == {"generation": 1, "publishes": 1, "intervals": 2}


def test_the_manifest_tells_what_the_features_hold_and_how_their_rows_were_found(built: build.Built) -> None:
    statistics: Any = built.manifest["statistics"]
    values = [row["spend__paid_3d"] for row in built.to_arrow().to_pylist() if row["spend__paid_3d"] is not None]
    paid = statistics["features"]["spend__paid_3d"]
    assert (paid["count"], paid["nulls"], paid["distinct"]) == (len(values), len(CASES) - len(values), len(set(values)))
    assert (paid["mean"], paid["sd"]) == pytest.approx((mean(values), stdev(values)))
    assert paid["quantiles"]["50"] == sorted(values)[-(-len(values) // 2) - 1]
    assert statistics["joins"]["spend"]["rows"] == {"NOT_FOUND": 5, "EXPIRED": 2, "EMPTY": 0, "HELD": 0, "PRESENT": 6}
    assert sum(statistics["joins"]["home"]["shares"].values()) == pytest.approx(1)


def test_the_manifest_names_the_tables_with_their_versions_the_definitions_and_the_code(shop: Project, built: build.Built) -> None:
    inputs: Any = built.manifest["inputs"]
    tables = {each["table"]: each["version"] for each in inputs}
    paths = {name: layout.feature_table(shop.settings.lake, name, 1) for name in ("spend", "last_page", "account")}
    assert tables == {path.removeprefix(f"{shop.settings.lake}/"): DeltaTable(path).version() for path in paths.values()}
    assert all(each["version"] == each["version_after"] for each in inputs)
    definitions: Any = built.manifest["definitions"]
    assert set(definitions["groups"]["spend"]) == {name.removeprefix("spend__") for name in OUTPUTS if name.startswith("spend__")}
    assert definitions["groups"]["account"] == fingerprint.columns(shop.catalog.groups["account"])
    assert built.manifest["code"] == provenance.code(str(shop.settings.catalog))


def test_the_same_spine_again_is_not_computed_again(shop: Project, built: build.Built) -> None:
    again = shop.training_set("cases", spine=spine(), service="customer_v1")
    assert (again.unchanged, again.manifest) == (True, built.manifest)


def test_the_same_rows_in_another_order_are_another_spine(shop: Project, built: build.Built) -> None:
    turned = shop.training_set("turned", spine=spine().iloc[::-1], service="customer_v1").to_arrow().drop_columns(list(OWN))
    assert turned.to_pylist() == built.to_arrow().drop_columns(list(OWN)).to_pylist()[::-1]


def test_rows_lie_by_month_where_days_hold_few(built: build.Built) -> None:
    table = DeltaTable(built.path)
    assert (table.metadata().partition_columns, built.manifest["hw_date"]) == (["hw_date"], "month")
    assert set(built.to_arrow().column("hw_date").to_pylist()) == {date(2026, 1, 1)}


def test_rows_lie_by_day_where_days_hold_many(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "_ROWS_OF_A_DAY", 2)
    frame = spine().iloc[1:3]
    twice = pd.concat([frame, frame])
    rows = shop.training_set("days", spine=twice, service="customer_v1").to_pandas()
    assert list(rows["hw_date"]) == [at.date() for at in twice["event_timestamp"]]
    assert list(rows["case"]) == list(twice["case"])


def test_by_event_time_a_row_is_seen_just_after_its_event_but_never_at_its_own_time(shop: Project, built: build.Built) -> None:
    other = shop.training_set("newest", spine=spine(), service="customer_v1", mode="event_time")
    assert (other.unchanged, other.manifest["mode"]) == (False, "event_time")
    known, newest = ({row["case"]: row for row in one.to_arrow().to_pylist()} for one in (built, other))
    differing = [case for case in CASES if known[case] != newest[case]]
    assert differing == ["a microsecond later, before its day was published"]
    assert newest[differing[0]]["last_page__page"] == "home"


def test_a_spine_may_be_a_csv_a_parquet_file_or_a_delta_table(shop: Project, tmp_path: Path) -> None:
    frame = pa.table({"customer_id": [1], "event_timestamp": pa.array([NOW], pa.timestamp("us", tz="UTC"))})
    csv = projects.write(shop.settings.root, "spine.csv", f"customer_id,event_timestamp\n1,{NOW:%Y-%m-%dT%H:%M:%SZ}\n")
    frame.to_pandas().to_parquet(tmp_path / "spine.parquet")
    delta_commits.append_records(str(tmp_path / "spine"), frame)
    found = [
        shop.training_set("paths", spine=path, service="customer_v1") for path in (csv.name, tmp_path / "spine.parquet", tmp_path / "spine")
    ]
    assert [one.rows for one in found] == [1, 1, 1]
    assert [one.unchanged for one in found] == [False, True, True]


def test_a_spine_of_the_command_has_its_columns_as_written_or_declared_and_times_of_the_zone_that_is_said(shop: Project) -> None:
    text = "customer_id;zip;amount;seen;on;event_timestamp\n1;00501;1.50;1767700800000;06.01.2026;2026-01-06 13:00\n"
    projects.write(shop.settings.root, "labels.csv", text)
    columns = ("--column", "amount=double", "--column", "seen=timestamp:epoch=ms", "--column", "on=date:format=%d.%m.%Y")
    words = ("--spine", "labels.csv", "--service", "customer_v1", *columns, "--timezone", "Europe/Berlin")
    done = projects.within("training-set", "labels", *words, "--project", str(shop.settings.root), "--json")
    assert done.code == 0, done.err
    (row,) = projects.table(done.json["path"]).to_dict("records")
    assert {name: row[name] for name in ("customer_id", "zip", "amount", "seen", "on", "event_timestamp")} == {
        "customer_id": 1,
        "zip": "00501",
        "amount": 1.5,
        "seen": NOW,
        "on": date(2026, 1, 6),
        "event_timestamp": NOW,
    }


def test_a_query_of_a_database_is_a_spine(shop: Project, postgresql: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_CONNECTION_WAREHOUSE", postgresql.create("spines"))
    query = "SELECT 1::bigint AS customer_id, '2026-01-06 12:00+00'::timestamptz AS event_timestamp, 9007199254740993 AS number"
    words = ("--spine-sql", query, "--connection", "warehouse", "--service", "customer_v1")
    done = projects.within("training-set", "asked", *words, "--json", project=shop.settings.root)
    assert done.code == 0, done.err
    (row,) = projects.table(done.json["path"]).to_dict("records")
    assert (row["customer_id"], row["event_timestamp"], row["number"]) == (1, NOW, 9007199254740993)


def test_a_spine_of_spark_is_joined_as_one_of_pandas(shop: Project, spark: SparkSession, built: build.Built) -> None:
    rows = spark.createDataFrame(pa.Table.from_pandas(spine()).cast(pa.schema([(f.name, f.type) for f in built.to_arrow().schema][:4])))
    again = shop.training_set("cases", spine=rows, service="customer_v1")
    assert (again.unchanged, again.manifest) == (True, built.manifest)


def test_a_key_without_any_value_is_of_the_services_type_and_whole_numbers_keep_their_digits(shop: Project) -> None:
    number = pd.array([2**53 + 1, None], dtype="Int64")
    frame = spine().iloc[:2].assign(customer_id=[None, None], number=number, nothing=None)
    rows = shop.training_set("nobody", spine=frame, service="customer_v1").to_pandas().sort_values("number")
    assert (str(rows["number"].dtype), next(iter(rows["number"]))) == ("Int64", 2**53 + 1)
    assert (rows["customer_id"].isna().all(), str(rows["customer_id"].dtype), str(rows["nothing"].dtype)) == (True, "Int64", "string")
    assert rows["spend__payments_1d"].isna().all()


def test_a_spine_without_rows_makes_a_training_set_without_rows(shop: Project) -> None:
    none = shop.training_set("none", spine=spine().iloc[:0].astype(object), service="customer_v1")
    assert none.manifest["spine"] | {"first": None, "last": None} == none.manifest["spine"]
    assert (none.rows, none.to_arrow().column_names[4:]) == (0, [*OUTPUTS, *OWN])


def test_a_training_set_of_the_catalog_takes_its_spine_from_a_source(shop: Project) -> None:
    refunds = shop.training_set("refunds")
    rows = refunds.to_pandas().set_index("payment_id")
    assert list(rows.columns) == ["customer_id", "amount", "refunded", "paid_at", "arrived", *OUTPUTS, *OWN]
    assert list(rows["hw_row"]) == [0, 1, 2, 3]
    assert list(zip(rows["paid_at"], rows.index, strict=True)) == sorted(zip(rows["paid_at"], rows.index, strict=True))
    assert (refunds.rows, rows.loc["p2", "spend__paid_1d"], rows.loc["p4", "spend__paid_1d"]) == (4, 10.5, 20.0)
    assert refunds.manifest["label"] == {"column": "refunded", "horizon": "1d"}


def test_the_page_names_every_field_of_a_manifest_and_no_other(built: build.Built) -> None:
    page = (Path(__file__).parents[3] / "docs" / "json.md").read_text(encoding="utf-8").partition("The manifest has these fields:")[2]
    table = page.partition("\n## ")[0]
    named = {name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.removeprefix("| ").partition(" | ")[0])}
    assert named == {*built.manifest, "rejected", "appended", "added"}


def test_a_spine_from_a_source_is_named_with_its_table_and_revision(shop: Project) -> None:
    found = shop.training_set("refunds").manifest
    assert found["revisions"] == {"payments": 1}
    inputs: Any = found["inputs"]
    assert {each["table"] for each in inputs} >= {"sources/payments", "features/spend/g1"}


def test_a_column_that_is_added_to_published_rows_makes_another_training_set(spark: SparkSession, tmp_path_factory: Any) -> None:
    folder = projects.published(tmp_path_factory.getbasetemp()).copied(tmp_path_factory.mktemp("added"))
    before = PUBLISHED - timedelta(hours=1)
    frame = pd.DataFrame({"customer_id": [1], "event_timestamp": [before]})
    wider = projects.CATALOG.replace('windows=("1d",))', 'windows=("1d", "2d"))')
    assert wider != projects.CATALOG
    projects.write(folder, "catalog/shop.py", wider)
    with projects.opened(folder) as p:
        p.training_set("added", spine=frame, service="customer_v1")
        p.materialize("spend", only="all", start="2026-01-03", end="2026-01-05")
        again = p.training_set("added", spine=frame, service="customer_v1")
    assert (again.unchanged, again.to_pandas()["spend__payments_2d"].tolist()) == (False, [1])


def test_the_command_says_by_which_status_each_value_is_as_it_is(shop: Project) -> None:
    spine().to_parquet(shop.settings.root / "cases.parquet")
    words = ("--spine", "cases.parquet", "--service", "customer_v1", "--statuses")
    done = projects.within("training-set", "told", *words, "--json", project=shop.settings.root)
    assert done.code == 0, done.err
    rows = projects.table(done.json["path"]).set_index("case")
    assert {case: (row["spend__hw_status"], row["last_page__hw_status"]) for case, row in rows.iterrows()} == STATUSES
    assert rows.loc["a null value", "home__hw_status"] == "PRESENT"


@pytest.mark.parametrize("name", ["build", "list"])
def test_what_the_command_does_is_no_name_of_a_training_set(shop: Project, name: str) -> None:
    with pytest.raises(DefinitionError, match=f"'{name}' cannot name a training set"):
        shop.training_set(name, spine=spine(), service="customer_v1")


def test_a_join_that_doubles_a_row_in_place_of_another_writes_nothing(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    right = build.joining

    def wrong(rows: DataFrame, *of: Any, **how: Any) -> Flow:
        return right(rows.where("_hw_row <> 1").unionByName(rows.where("_hw_row = 0")), *of, **how)

    monkeypatch.setattr(build, "joining", wrong)
    with pytest.raises(AssertionError, match="this is a defect, nothing was written"):
        shop.training_set("doubled", spine=spine(), service="customer_v1")
    assert not Path(shop.settings.lake, "training_sets/doubled").exists()


def test_what_a_killed_build_wrote_is_swept_by_the_next_one(shop: Project) -> None:
    left = projects.write(shop.settings.root, "lake/training_sets/killed/hw-run=gone/hw_date=2026-01-01/part-0.parquet", "half")
    found = shop.training_set("killed", spine=spine(), service="customer_v1")
    assert (found.rows, left.exists(), len({*Path(found.path).glob("hw-run=*")})) == (len(CASES), False, 1)


def test_a_column_that_only_deltas_own_writer_writes_is_kept(shop: Project, spark: SparkSession) -> None:
    made = "SELECT id AS customer_id, TIMESTAMP_NTZ'2026-01-05 10:00:00' AS local, now() - INTERVAL 1000 DAYS AS event_timestamp"
    rows = shop.training_set("local", spine=spark.sql(f"{made} FROM range(3)"), service="customer_v1").to_arrow()
    assert rows.column("local").to_pylist() == [datetime(2026, 1, 5, 10)] * 3  # noqa: DTZ001  # it has no zone
    assert rows.column("hw_row").to_pylist() == [0, 1, 2]


def test_batches_hold_every_row_once_and_no_more_than_asked(built: build.Built) -> None:
    found = [*built.batches(rows=4)]
    assert max(batch.num_rows for batch in found) <= 4
    assert pa.Table.from_batches(found).sort_by("hw_row").select(built.to_arrow().column_names).equals(built.to_arrow())


def test_duckdb_and_scikit_learn_read_what_arrow_and_pandas_do(built: build.Built) -> None:
    rows = built.to_pandas()
    counted = duckdb.from_arrow(built.to_arrow()).filter("spend__payments_1d = 1").df()
    assert len(counted) == (rows["spend__payments_1d"] == 1).sum() > 0
    known = rows.dropna(subset=["spend__paid_1d", "label"])
    model = LinearRegression().fit(known[["spend__paid_1d", "spend__paid_3d"]], known["spend__payments_1d"].astype(int))
    assert len(model.predict(known[["spend__paid_1d", "spend__paid_3d"]])) == len(known)
