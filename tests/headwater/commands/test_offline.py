"""`plan`, `materialize`, `status`, `promote`, `release` and `optimize`: their documents, exit codes and tables."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from deltalake import DeltaTable

from headwater import TableLost
from tests import ledgers, projects
from tests.projects import NOW, Shop, opened, within

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import SparkSession


ISO = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{6})?Z")


def test_a_project_without_any_table_has_no_intervals_and_nothing_to_do(fresh: Path) -> None:
    path = str(fresh / "lake" / "features" / "customer_spend" / "g1")
    shown = {"intervals": [], "tables": {"customer_spend": path}, "quarantined": {}, "refused": {}}
    assert within("status", "--json", project=fresh).json == shown
    assert within("plan", "--json", project=fresh).json == {"steps": [], "bill": [], "refused": {}}
    assert "nothing is due" in within("plan", project=fresh).out
    assert "nothing ingested yet" in within("status", project=fresh).out
    assert "no interval lies in this range" in within("status", "--to", "2026-01-05", project=fresh).out


WAITING = (
    "spend: 2 intervals from 2026-01-05T00:00:00Z to 2026-01-07T00:00:00Z wait for 2026-01-04T00:00:00Z..2026-01-05T00:00:00Z, which the "
    "gate rejected; correct its data, or let them pass: headwater release spend --from 2026-01-04T00:00:00Z --to 2026-01-05T00:00:00Z"
)


@pytest.mark.parametrize("words", [("status",), ("status", "--json"), ("plan", "spend"), ("plan", "--json"), ("materialize",)])
def test_what_waits_for_a_rejected_interval_is_said_in_one_line_with_the_command_that_lets_it_pass(
    rejected: Path, words: Sequence[str]
) -> None:
    done = within(*words, project=rejected, now=ledgers.day(7, 12))
    assert done.code == 0
    assert done.err.strip().splitlines() == [WAITING]


def test_status_spells_what_waits_and_why(rejected: Path) -> None:
    found = within("status", "--json", project=rejected, now=ledgers.day(7, 12)).json["intervals"]
    assert [i["status"] for i in found] == ["OK", "REJECTED", "WAITING", "WAITING"]
    assert found[2]["reasons"] == ["waits for 2026-01-04T00:00:00Z..2026-01-05T00:00:00Z, which the gate rejected"]
    day = {"interval_start": "2026-01-04T00:00:00Z", "interval_end": "2026-01-05T00:00:00Z"}
    assert found[2]["waits_for"] == [{"group": "spend", **day, "status": "REJECTED", "count": 1}]
    assert [i["waits_for"] for i in found[:2]] == [[], []]
    assert "WAITING" in within("status", project=rejected, now=ledgers.day(7, 12)).out


def test_status_shows_the_intervals_of_a_range(rejected: Path) -> None:
    words = ("status", "spend", "--from", "2026-01-04", "--to", "2026-01-06", "--json")
    found = within(*words, project=rejected, now=ledgers.day(7, 12)).json["intervals"]
    assert [(i["interval_start"][:10], i["status"]) for i in found] == [("2026-01-04", "REJECTED"), ("2026-01-05", "WAITING")]


def test_status_says_what_to_do_about_what_was_rejected_and_what_waits(rejected: Path) -> None:
    found = within("status", "--advice", "--json", project=rejected, now=ledgers.day(7, 12)).json["intervals"]
    release = "headwater release spend --from 2026-01-04T00:00:00Z --to 2026-01-05T00:00:00Z"
    nothing = {"example": None, "report": None, "held": 0, "approve": None}
    said = {"correct": ["payments"], "release": release, "sentence": f"correct payments, or let later ones pass: {release}"}
    assert "advice" not in found[0]
    assert found[1]["advice"] == {**nothing, **said}
    assert found[2]["advice"]["sentence"] == f"correct spend of 2026-01-04T00:00:00Z, or let later ones pass: {release}"


def test_a_catalog_with_a_mistake_is_used_as_far_as_it_is_sound_if_that_is_asked_for(rejected: Path) -> None:
    projects.write(rejected, "catalog/broken.py", "x = = 1\n")
    refused, sound = (within(*words, "status", "spend", project=rejected, now=ledgers.day(7, 12)) for words in ((), ("--sound-only",)))
    assert (refused.code, sound.code, "REJECTED" in sound.out) == (2, 0, True)
    unknown = within("--sound-only", "status", "visits", project=rejected, now=ledgers.day(7, 12))
    assert unknown.code == 2
    assert "there is no group 'visits' that can be used, as long as the catalog has a mistake: " in unknown.err.replace("\n", " ")
    assert "broken.py:1: this is not Python" in unknown.err.replace("\n", "")


MOMENTS = """
from feature_definitions import TransformGroup

moments = WindowedGroup("moments", customer, payments, every="5m", ttl="2d", features=(Feature("paid", "sum", "amount", windows=("1h",)),))
beyond = TransformGroup("beyond", customer, (moments,), sql="SELECT customer_id, max(paid_1h) AS most FROM moments GROUP BY customer_id",
    lookback="1d", ttl="2d", schema={"most": "double"})
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a group of more intervals than can be planned, and one that reads it."""
    folder = tmp_path_factory.mktemp("many")
    with ledgers.project(folder, now=ledgers.day(7, 12), catalog=ledgers.CATALOG + MOMENTS) as p:
        ledgers.changed(p, datetime(2021, 1, 1, tzinfo=UTC), revision=2)
    return folder


@pytest.mark.parametrize(("verb", "shown"), [("status", "intervals"), ("plan", "steps")])
def test_a_group_of_too_many_intervals_costs_itself_and_those_that_read_it(many: Path, verb: str, shown: str) -> None:
    done = within(verb, "--json", project=many, now=ledgers.day(7, 12))
    assert (done.code, {each["group"] for each in done.json[shown]}) == (2, {"spend"})
    sentence = "group moments would have 527,748 intervals from 2021-01-01T00:00:00Z to 2026-01-07T11:00:00Z"
    assert {group: why.partition(":00Z: ")[0] + ":00Z" for group, why in done.json["refused"].items()} == dict.fromkeys(
        ("moments", "beyond"), sentence
    )
    assert [line.partition(" would")[0] for line in done.err.splitlines()] == ["error: group moments"] * 2


def test_a_group_of_too_many_intervals_is_named_where_it_is_asked_for_alone(many: Path) -> None:
    done = within("status", "moments", project=many, now=ledgers.day(7, 12))
    assert (done.code, "group moments would have 527,748 intervals" in done.err) == (2, True)


def test_a_run_of_all_groups_refuses_the_one_of_too_many_intervals_alone(many: Path) -> None:
    done = within("materialize", "--to", "2020-12-01", "--json", project=many, now=ledgers.day(7, 12))
    refused = {each["group"]: each["refused"] is not None for each in done.json["groups"]}
    assert (done.code, refused) == (2, {"spend": False, "moments": True, "beyond": True})


def test_after_a_release_what_waited_is_due(rejected: Path) -> None:
    words = ("release", "spend", "--from", "2026-01-04", "--to", "2026-01-05")
    done = within(*words, "--reason", "an outage", "--json", project=rejected, now=ledgers.day(7, 12))
    assert (done.code, done.err) == (0, "")
    assert done.json == {
        "released": [
            {"group": "spend", "interval_start": "2026-01-04T00:00:00Z", "interval_end": "2026-01-05T00:00:00Z", "reason": "an outage"}
        ]
    }
    planned = within("plan", "--json", project=rejected, now=ledgers.day(7, 12))
    assert (planned.err, len(planned.json["steps"])) == ("", 6)
    again = within(*words, project=rejected, now=ledgers.day(7, 12))
    assert (again.code, "None of the group does" in again.err) == (2, True)


def test_a_range_that_leaves_out_a_rejected_day_which_is_to_be_tried_again_says_so(rejected: Path) -> None:
    with ledgers.project(rejected, now=ledgers.day(7, 12)) as p:
        ledgers.changed(p, ledgers.day(4, 3), revision=2)
    done = within("plan", "spend", "--from", "2026-01-05", "--json", project=rejected, now=ledgers.day(7, 12))
    assert done.json["steps"] == []
    assert done.err.strip() == (
        "spend: 2 intervals from 2026-01-05T00:00:00Z to 2026-01-07T00:00:00Z are left alone: the first waits for "
        "2026-01-04T00:00:00Z..2026-01-05T00:00:00Z, which the gate rejected; it is to be tried again, so take it into the range"
    )
    whole = within("plan", "spend", "--json", project=rejected, now=ledgers.day(7, 12))
    assert (whole.err, len(whole.json["steps"])) == ("", 9)


def test_a_plan_of_all_takes_what_is_ok_and_rejected(rejected: Path) -> None:
    words = ("plan", "--only", "all", "--from", "2026-01-03", "--to", "2026-01-05", "--json")
    steps = within(*words, project=rejected, now=ledgers.day(7, 12)).json["steps"]
    assert [s["interval_start"][:10] for s in steps if s["step"] == "Compute"] == ["2026-01-03", "2026-01-04"]


def test_a_plan_comes_with_a_bill(rejected: Path) -> None:
    words = ("plan", "--only", "all", "--from", "2026-01-03", "--to", "2026-01-05")
    (bill,) = within(*words, "--json", project=rejected, now=ledgers.day(7, 12)).json["bill"]
    stale = {"groups": [], "training_sets": [], "online": False}
    assert bill == {"group": "spend", "intervals": 2, "files": 0, "bytes": 0, "seconds": 1.0, "stale": stale}
    shown = within(*words, project=rejected, now=ledgers.day(7, 12)).out
    assert all(text in shown for text in ("files to read", "about seconds", "out of date then", "nothing"))


def test_promote_tells_which_generation_readers_see_and_which_columns_it_lacks(tmp_path: Path) -> None:
    now = ledgers.day(6, 12)
    with ledgers.project(tmp_path, now=now) as p:
        ledgers.ran(p, {3: "PUBLISHED", 4: "PUBLISHED"})
    other = ledgers.CATALOG.replace('Feature("paid", "sum"', 'Feature("total", "sum"')
    with ledgers.project(tmp_path, now=now, catalog=other) as p:
        ledgers.ran(p, {3: "PUBLISHED"}, generation=2)
    refused = within("promote", "spend", project=tmp_path, now=now)
    assert (refused.code, refused.out) == (2, "")
    assert "generation 2 of spend lacks 1 interval " in refused.err
    assert "headwater promote spend --anyway" in refused.err
    forth = within("promote", "spend", "--anyway", "--json", project=tmp_path, now=now)
    assert [(g["generation"], g["current"]) for g in forth.json["generations"]] == [(1, False), (2, True)]
    back = within("promote", "spend", "--generation", "1", project=tmp_path, now=now)
    assert (back.code, back.out.strip()) == (0, "readers of spend see generation 1 of 1, 2")
    assert back.err.strip() == "it has no total_1d, total_3d: they read as null"


def test_plan_has_one_entry_per_step_and_interval_in_the_order_of_the_run(shop: Shop) -> None:
    steps = shop.plan.json["steps"]
    assert set(map(tuple, steps)) == {("step", "group", "interval_start", "interval_end", "reason")}
    spend = [step for step in steps if step["group"] == "spend"]
    assert [step["step"] for step in spend] == ["Compute"] * 3 + ["Validate"] * 3 + ["Publish"] * 3
    assert spend[0] == {
        "step": "Compute", "group": "spend", "interval_start": "2026-01-03T00:00:00Z", "interval_end": "2026-01-04T00:00:00Z",
        "reason": "never computed",
    }  # fmt: skip
    assert {step["group"] for step in steps} == {"spend", "last_page", "account"}


def test_the_bill_of_a_plan_counts_what_it_reads(shop: Shop) -> None:
    bills = {bill["group"]: bill for bill in shop.plan.json["bill"]}
    assert {name: (bill["intervals"], bill["files"]) for name, bill in bills.items()} == {
        "spend": (3, 3),
        "last_page": (2, 2),
        "account": (1, 1),
    }
    assert all(bill["bytes"] > 500 and bill["seconds"] is None for bill in bills.values())


def test_the_range_of_a_plan_is_of_interval_starts_and_its_end_is_exclusive(shop: Shop, tmp_path: Path) -> None:
    # In a copy whose ledger is gone, so that all is due.
    folder = shop.copied(tmp_path)
    with closing(sqlite3.connect(folder / ".headwater/registry.db")) as registry, registry:
        registry.execute("DELETE FROM ledger")
    found = within("plan", "spend", "--from", "2026-01-03", "--to", "2026-01-05", "--json", project=folder).json["steps"]
    assert [s["interval_start"] for s in found if s["step"] == "Compute"] == ["2026-01-03T00:00:00Z", "2026-01-04T00:00:00Z"]
    late = within("plan", "spend", "--from", "2026-01-05T00:00:00Z", "--json", project=folder).json["steps"]
    assert [s["interval_start"] for s in late if s["step"] == "Compute"] == ["2026-01-05T00:00:00Z"]


def test_what_a_table_lost_is_computed_again(shop: Shop, tmp_path: Path, spark: SparkSession) -> None:
    folder = shop.copied(tmp_path)
    spend = folder / "lake/features/spend/g1"
    before = projects.table(spend)
    with opened(folder) as p:
        story = p.explain("spend", {"customer_id": 1})
    max((spend / "_delta_log").glob("*.json")).unlink()
    with opened(folder) as p:
        spine = pd.DataFrame({"customer_id": [1], "event_timestamp": [pd.Timestamp(NOW)]})
        for read in (p.training_set, p.features):
            with pytest.raises(TableLost, match=r"the table of spend lacks .*: headwater materialize spend"):
                read(spine=spine, service="customer_v1")
        with pytest.raises(TableLost):
            p.sync()
        assert {each.group for each in p.parity()} == {"last_page", "account"}
    seen = within("status", "spend", "--json", project=folder).json["intervals"]
    assert [(each["status"], each["reasons"]) for each in seen][:2] == [("MISSING", ["its table lost what was published"])] * 2
    asked = (("plan", "spend", "--json"), ("plan", "spend", "--json", "--to", "2026-01-04"))  # whatever the range, nothing hides the loss
    assert [bill["intervals"] for words in asked for bill in within(*words, project=folder).json["bill"]] == [2, 2]
    done = within("materialize", "spend", "--json", project=folder, now=NOW + timedelta(hours=1))
    assert [group["published"] for group in done.json["groups"]] == [2]
    assert "spend: its table lacks what was published last; materialize computes it again" in done.err
    values = ["customer_id", "event_timestamp", "paid_1d", "paid_3d", "payments_1d"]
    pd.testing.assert_frame_equal(*(rows[values].sort_values(values[:2], ignore_index=True) for rows in (projects.table(spend), before)))
    assert [group["published"] for group in within("materialize", "spend", "--json", project=folder).json["groups"]] == [0]
    with opened(folder) as p:  # before it was computed again, the same was known
        again = p.explain("spend", {"customer_id": 1})
        assert (again.status, again.values, again.coverage) == (story.status, story.values, story.coverage)
        assert again.version is not None
        assert again.version.visible_from == story.version.visible_from


def test_materialize_ends_with_3_when_the_gate_rejected_an_interval(shop: Shop) -> None:
    assert shop.materialize.code == 3
    spend, last_page, account = shop.materialize.json["groups"]
    assert {name: spend[name] for name in ("group", "generation", "published")} == {"group": "spend", "generation": 1, "published": 2}
    (rejected,) = spend["rejected"]
    assert (rejected["interval_start"], rejected["interval_end"]) == ("2026-01-05T00:00:00Z", "2026-01-06T00:00:00Z")
    assert "paid_1d" in rejected["failed"][0]
    assert (last_page["published"], account["published"], account["rows"]) == (2, 1, 3)
    assert "spend 2026-01-05T00:00:00Z..2026-01-06T00:00:00Z rejected: " in shop.materialize.err


def test_materialize_again_has_nothing_due_and_ends_with_0(shop: Shop) -> None:
    assert shop.again.code == 0
    assert [(g["published"], g["rejected"]) for g in shop.again.json["groups"]] == [(0, [])] * 3


def test_status_has_exactly_the_promised_fields_spellings_and_times(shop: Shop) -> None:
    document = shop.status.json
    assert set(document) == {"intervals", "tables", "quarantined", "refused"}
    fields = {"group", "interval_start", "interval_end", "status", "reasons", "rows", "publish_id", "delta_version", "waits_for", "run"}
    assert all(set(interval) == fields for interval in document["intervals"])
    spend = [i for i in document["intervals"] if i["group"] == "spend"]
    assert [(i["interval_start"], i["status"], i["rows"]) for i in spend] == [
        ("2026-01-03T00:00:00Z", "OK", 1), ("2026-01-04T00:00:00Z", "OK", 2), ("2026-01-05T00:00:00Z", "REJECTED", 2),
    ]  # fmt: skip
    assert all(ISO.fullmatch(i[end]) for i in document["intervals"] for end in ("interval_start", "interval_end"))
    assert [i["delta_version"] for i in spend] == [1, 1, None]
    assert spend[0]["publish_id"] == spend[1]["publish_id"] != spend[2]["publish_id"]
    assert spend[2]["publish_id"] is None
    assert "failed" in spend[2]["reasons"][0]


def test_a_rejected_interval_is_in_no_table_and_its_bad_rows_are_in_quarantine_with_what_they_failed(shop: Shop) -> None:
    published = projects.table(shop.status.json["tables"]["spend"])
    assert set(published["event_timestamp"]) == {pd.Timestamp("2026-01-04", tz="UTC"), pd.Timestamp("2026-01-05", tz="UTC")}
    (row,) = projects.table(shop.folder / "lake/quarantine/spend").to_dict("records")
    assert (row["customer_id"], row["paid_1d"], row["event_timestamp"]) == (2, -5.0, pd.Timestamp("2026-01-06", tz="UTC"))
    assert "paid_1d" in row["failed_expectation"]
    outputs = {"paid_1d", "paid_3d", "payments_1d", "mean_paid_1d"}
    assert set(row) == {"customer_id", "event_timestamp", *outputs, "failed_expectation", "interval_start", "publish_id", "quarantined_at"}


def test_optimize_joins_files_changes_no_row_and_makes_nothing_stale(shop: Shop, tmp_path: Path) -> None:
    folder = shop.copied(tmp_path)
    tables = ("lake/sources/payments", "lake/records/ledger", *(f"lake/features/{group}/g1" for group in ("spend", "last_page", "account")))
    before = {table: sorted(map(str, projects.table(folder / table).to_dict("records"))) for table in tables}
    done = within("optimize", "--json", project=folder)
    assert done.code == 0
    found = {each["table"].removeprefix(f"{folder}/"): each for each in done.json["tables"]}
    assert found["lake/records/ledger"]["files_before"] > found["lake/records/ledger"]["files_after"] == 1
    assert set(tables) < set(found)
    assert {table: sorted(map(str, projects.table(folder / table).to_dict("records"))) for table in tables} == before
    assert within("status", "--json", project=folder).json["intervals"] == shop.status.json["intervals"]
    assert within("plan", "--json", project=folder).json == {"steps": [], "bill": [], "refused": {}}
    assert [r["revision"] for r in within("ingest", "--json", project=folder).json["sources"]] == [None] * 3
    assert [g["published"] for g in within("materialize", "--json", project=folder).json["groups"]] == [0] * 3
    one = within("optimize", "last_page", "--json", project=folder).json["tables"]
    assert [each["table"].removeprefix(f"{folder}/lake/") for each in one] == ["sources/visits", "features/last_page/g1"]


_TOTAL = 'Feature("total", "sum", "amount", windows=("3d",))'


HOLDING = ledgers.CATALOG.replace('windows=("1d", "3d")),)', f'windows=("1d",), expect=(at_least(0),)), {_TOTAL})')


def payments(folder: Path, amounts: Mapping[int, float]) -> None:
    """One payment on each of these days of January."""
    lines = [f"1,{amount},2026-01-{day:02d}T09:00:00Z" for day, amount in amounts.items()]
    projects.write(folder, "data/payments/all.csv", projects.rows(*lines, header="customer_id,amount,paid_at"))


def test_what_covers_a_rejected_day_is_published_when_that_is_corrected_or_released(spark: SparkSession, tmp_path: Path) -> None:
    folder, now, amounts = projects.make(tmp_path / "shop", catalog=HOLDING), ledgers.day(8, 12), dict.fromkeys(range(3, 8), 10.0)

    def ran(project: Path) -> tuple[int, int, str]:
        """The exit code of a run, how many intervals it published, and the statuses after it."""
        done = within("materialize", "--json", project=project, now=now)
        statuses = [i["status"] for i in within("status", "--json", project=project, now=now).json["intervals"]]
        return done.code, done.json["groups"][0]["published"], " ".join(statuses)

    payments(folder, amounts | {4: -100.0})
    within("ingest", project=folder, now=now)
    assert ran(folder) == (3, 2, "OK REJECTED WAITING WAITING OK")
    assert [row["event_timestamp"].day for row in projects.table(folder / "lake/features/spend/g1").to_dict("records")] == [4, 8]
    assert ran(folder) == (0, 0, "OK REJECTED WAITING WAITING OK")
    released = Path(shutil.copytree(folder, tmp_path / "released"))
    within("release", "spend", "--from", "2026-01-04", "--to", "2026-01-05", project=released, now=now)
    assert ran(released) == (0, 2, "OK REJECTED OK OK OK")
    assert projects.table(released / "lake/features/spend/g1").set_index("event_timestamp")["total_3d"].sort_index().to_list() == [
        10.0,
        -80.0,
        -80.0,
        30.0,
    ]
    payments(folder, amounts)
    within("ingest", project=folder, now=now)
    assert ran(folder) == (0, 4, "OK OK OK OK OK")


def test_a_groups_table_has_exactly_the_promised_columns_and_partitions(shop: Shop) -> None:
    table = DeltaTable(shop.status.json["tables"]["spend"])
    assert [field.name for field in table.schema().fields] == [
        "customer_id", "event_timestamp", "created_timestamp", "publish_id", "empties_at", "held", "paid_1d", "paid_3d", "payments_1d",
        "mean_paid_1d", "date",
    ]  # fmt: skip
    assert table.metadata().partition_columns == ["date"]
    rows = projects.table(table.table_uri.removeprefix("file://"))
    assert {str(day) for day in rows["date"]} == {"2026-01-03", "2026-01-04"}


def test_materialize_ingests_first_if_it_is_told_to_and_says_what_it_brought(shop: Shop, tmp_path: Path) -> None:
    folder = shop.copied(tmp_path)
    projects.write(folder, "data/payments/third.csv", projects.rows("p5,2,8.0,no,2026-01-05T11:00:00Z,2026-01-05T11:01:00Z"))
    done = within("materialize", "spend", "--ingest", "--json", project=folder)
    assert (done.code, [(s["source"], s["files"], s["revision"]) for s in done.json["sources"]]) == (0, [("payments", 1, 2)])
    assert (done.json["groups"][0]["published"], done.json["groups"][0]["rejected"]) == (1, [])
    assert "sources" not in within("materialize", "spend", "--json", project=folder).json


def test_a_rejected_interval_is_told_with_an_example_row_and_its_report(shop: Shop) -> None:
    (line,) = [line for line in shop.materialize.err.splitlines() if line.startswith("spend 2026-01-05")]
    assert "rejected: paid_1d:at_least(0); for example customer_id=2 " in line
    report = line.partition("report: ")[2].partition(";")[0]
    assert Path(report).is_file()
    assert line.endswith("or let later ones pass: headwater release spend --from 2026-01-05T00:00:00Z --to 2026-01-06T00:00:00Z")


def test_a_group_whose_source_cannot_be_read_is_refused_and_the_others_are_computed(shop: Shop, tmp_path: Path) -> None:
    folder = shop.copied(tmp_path)
    away = 'TABLES = Source("tables", DeltaTable("gone"), columns={"customer_id": "int64", "at": "timestamp"}, event_timestamp="at")\n'
    more = 'gone = ObservationGroup("gone", customer, TABLES, columns=("at",), ttl="7d")\n'
    catalog = projects.CATALOG.replace("Derived, Entity", "DeltaTable, Derived, Entity")
    projects.write(folder, "catalog/shop.py", catalog + away + more)
    done = within("materialize", "--ingest", "--json", project=folder)
    refused = {group["group"]: group["refused"] for group in done.json["groups"]}
    assert (done.code, {name for name, why in refused.items() if why is not None}) == (2, {"gone"})
    assert refused["gone"] == next(s["failed"] for s in done.json["sources"] if s["source"] == "tables")


@pytest.fixture(scope="module")
def staged(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A copy of the shop in which 4 January was computed again and waits for a person, and what `materialize --stage` printed."""
    folder = shop.copied(tmp_path_factory.mktemp("staged"))
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("HEADWATER_LINEAGE_FILE", str(folder / "events.jsonl"))
    days = ("--from", "2026-01-04", "--to", "2026-01-05", "--only", "all")
    done = within("materialize", "spend", *days, "--stage", "--json", project=folder)
    monkeypatch.undo()
    return folder, done


def test_a_run_is_told_in_openlineages_words_where_a_receiver_is_set(staged: tuple[Path, Any]) -> None:
    folder, _ = staged
    began, ended = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert (began["eventType"], ended["eventType"]) == ("START", "COMPLETE")
    assert ended["outputs"][0]["name"] == f"{folder}/lake/features/spend/g1"
    assert "amount" in {each["field"] for each in ended["outputs"][0]["facets"]["columnLineage"]["fields"]["paid_1d"]["inputFields"]}


def test_a_staged_run_is_named_by_materialize_and_by_status_with_the_commands_that_end_it(staged: tuple[Path, Any]) -> None:
    folder, done = staged
    (group,) = done.json["groups"]
    day = {"interval_start": "2026-01-04T00:00:00Z", "interval_end": "2026-01-05T00:00:00Z"}
    assert (done.code, group["published"], group["waiting"]) == (0, 0, [{**day, "warned": []}])
    run = group["publish_id"]
    line = (
        f"spend: 1 interval from 2026-01-04T00:00:00Z to 2026-01-05T00:00:00Z waits for approval of run {run}; "
        f"publish it: headwater publish spend --run {run}, or add --refuse"
    )
    assert line in done.err.splitlines()
    shown = within("status", "spend", "--advice", "--json", project=folder)
    waiting = shown.json["intervals"][1]
    assert (waiting["status"], waiting["run"], waiting["advice"]["approve"]) == ("WAITING", run, run)
    assert waiting["advice"]["report"].endswith(f"{run}.html")
    assert line in shown.err.splitlines()


def test_a_person_ends_a_run_once_and_may_say_the_same_again(staged: tuple[Path, Any], tmp_path: Path) -> None:
    folder, run = Path(shutil.copytree(staged[0], tmp_path / "shop")), staged[1].json["groups"][0]["publish_id"]
    words = ("publish", "spend", "--run", run)
    first, again = (within(*words, "--json", project=folder) for _ in range(2))
    assert [(done.code, done.json["decision"], len(done.json["intervals"]), done.json["rows"]) for done in (first, again)] == [
        (0, "publish", 1, 2), (0, "publish", 0, 0),
    ]  # fmt: skip
    assert within("status", "spend", "--json", project=folder).json["intervals"][1]["status"] == "OK"
    refused = within(*words, "--refuse", project=folder)
    assert (refused.code, "was published already; that stands until" in refused.err) == (2, True)


def test_what_a_person_refuses_is_rejected_with_the_reason(staged: tuple[Path, Any], tmp_path: Path) -> None:
    folder, run = Path(shutil.copytree(staged[0], tmp_path / "shop")), staged[1].json["groups"][0]["publish_id"]
    done = within("publish", "spend", "--run", run, "--refuse", "--reason", "a double count", project=folder)
    assert (done.code, done.out.strip()) == (0, f"spend: refused 1 interval of run {run}")
    found = within("status", "spend", "--json", project=folder).json["intervals"][1]
    assert (found["status"], found["reasons"]) == ("REJECTED", ["failed approval (refused: a double count)"])


def test_a_run_that_does_not_wait_is_a_mistake_that_names_those_that_do(staged: tuple[Path, Any]) -> None:
    done = within("publish", "spend", "--run", "p1", project=staged[0])
    assert done.code == 2
    assert "spend has no run 'p1' that waits for approval; these wait: p0" in done.err
