"""What a receiver of OpenLineage events is told of runs, and that one which fails costs no run."""

from __future__ import annotations

import json
import threading
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from feature_definitions import (
    DeltaTable,
    Derived,
    Entity,
    Feature,
    FeatureService,
    Files,
    Jdbc,
    Join,
    ObservationGroup,
    Query,
    Source,
    Table,
    TransformGroup,
    WindowedGroup,
)
from feature_definitions.errors import Unknown
from feature_definitions.settings import Settings
from headwater import openlineage

NOW = datetime(2026, 1, 6, tzinfo=UTC)
CUSTOMER = Entity("customer", {"customer_id": "int64"})
PAYMENTS = Source(
    "payments", columns={"customer_id": "int64", "amount": "double", "kind": "string", "at": "timestamp"}, event_timestamp="at",
    derive={"net": "amount * 0.8"},
)  # fmt: skip
SPEND = WindowedGroup("spend", CUSTOMER, PAYMENTS, ttl="2d", where="kind = 'card'", features=(
    Feature("paid", "sum", "net", windows=("1d",)), Feature("n", "count", windows=("1d",)), Derived("mean", "paid_1d / n_1d"),
))  # fmt: skip
SEEN = ObservationGroup("seen", CUSTOMER, PAYMENTS, columns=("amount",), ttl="2d")
LEVEL = TransformGroup("level", CUSTOMER, (SPEND,), lookback="1d", ttl="2d", schema={"level": "double"},
                       sql="SELECT customer_id, max(paid_1d) AS level FROM spend GROUP BY customer_id")  # fmt: skip
SETTINGS = Settings(Path("/p"), "shop", Path("/p/catalog"), "/p/lake", Path("/p/cache"))
JOB = openlineage.of_group(SPEND, 2, "/p/lake", read={})


def reads(job: openlineage.Job) -> dict[str, set[tuple[str, str, str]]]:
    """The columns that each column rests on: of which table, and how."""
    return {column: {(read.table.name, read.column, read.kind) for read in found} for column, found in job.reads.items()}


def test_a_groups_columns_rest_on_those_of_its_source_that_they_name_and_on_its_condition() -> None:
    source, by = "/p/lake/sources/payments", ("/p/lake/sources/payments", "kind", "INDIRECT")
    paid = {(source, "net", "DIRECT"), (source, "amount", "DIRECT"), by}
    assert reads(JOB) == {"paid_1d": paid, "n_1d": {by}, "mean": paid}
    assert (JOB.output.name, JOB.output.columns["paid_1d"]) == ("/p/lake/features/spend/g2", "double")
    assert JOB.inputs[0].columns == {"customer_id": "int64", "amount": "double", "kind": "string", "at": "timestamp", "net": "double"}
    assert reads(openlineage.of_group(SEEN, 1, "/p/lake", read={})) == {"amount": {(source, "amount", "DIRECT")}}


def test_a_transform_rests_on_the_columns_that_its_sql_names_of_the_groups_that_it_reads() -> None:
    job = openlineage.of_group(LEVEL, 1, "/p/lake", read={"spend": 2})
    assert ("/p/lake/features/spend/g2", "paid_1d", "DIRECT") in reads(job)["level"]
    assert [table.name for table in job.inputs] == ["/p/lake/features/spend/g2"]


def test_the_way_leads_from_the_source_to_the_group_the_training_set_and_the_online_store() -> None:
    service = FeatureService("customer_v1", joins=(Join(SPEND, features=("paid",)), Join(SEEN, prefix="last")))
    training = openlineage.of_training_set("churn", service, {"spend": 2, "seen": 1}, "/p/lake")
    assert reads(training) == {
        "spend__paid_1d": {("/p/lake/features/spend/g2", "paid_1d", "DIRECT")},
        "last__amount": {("/p/lake/features/seen/g1", "amount", "DIRECT")},
    }
    online = openlineage.of_sync(SPEND, 2, "/p/lake", store="rediss://:s3cret@cache.example:6380/0", project="shop")
    assert online.inputs == (JOB.output,)
    assert (online.output.namespace, online.output.name) == ("redis://cache.example:6380", "shop.spend")


def test_a_training_set_has_the_columns_of_its_spine_too() -> None:
    service = FeatureService("customer_v1", joins=(Join(SPEND, features=("paid",)),))
    training = openlineage.of_training_set("churn", service, {"spend": 2}, "/p/lake", spine=PAYMENTS)
    assert [table.name for table in training.inputs] == ["/p/lake/sources/payments", "/p/lake/features/spend/g2"]
    assert reads(training)["kind"] == {("/p/lake/sources/payments", "kind", "DIRECT")}
    assert training.output.columns == JOB.inputs[0].columns | {"spend__paid_1d": "double"}


def ingested(at: Any) -> openlineage.Job | None:
    return openlineage.of_ingest(replace(PAYMENTS, name="brought", at=at, timezone="UTC"), "/p/lake", Path("/p"))


def test_an_ingest_leads_from_where_the_rows_lie_to_what_groups_read() -> None:
    job = ingested(Files("data/2026/*/payments-*.csv"))
    assert job is not None
    assert (job.output.name, job.output.columns) == ("/p/lake/sources/brought", JOB.inputs[0].columns)
    assert [(table.namespace, table.name) for table in job.inputs] == [("file", "/p/data/2026")]
    assert reads(job)["amount"] == {("/p/data/2026", "amount", "DIRECT")}
    assert "net" not in reads(job)


@pytest.mark.parametrize(
    ("at", "place"),
    [
        (Files("data/payments.csv"), ("file", "/p/data/payments.csv")),
        (Files("s3a://bucket/in/*.csv"), ("s3://bucket", "in")),
        (Files("/data/*.csv"), ("file", "/data")),
        (Table("sales.payments"), ("spark", "sales.payments")),
        (Jdbc("sales.payments", connection="warehouse"), ("jdbc:warehouse", "sales.payments")),
    ],
)
def test_places_are_called_as_others_call_them_and_databases_by_their_connections_name(at: Any, place: tuple[str, str]) -> None:
    job = ingested(at)
    assert job is not None
    assert [(table.namespace, table.name) for table in job.inputs] == [place]


def test_a_query_rests_on_the_columns_of_its_sources_that_it_names_and_a_delta_table_is_its_own_source() -> None:
    job = ingested(Query("SELECT customer_id, amount, kind, at FROM payments", (PAYMENTS,)))
    assert job is not None
    assert {column for _, column, _ in reads(job)["kind"]} == {"customer_id", "amount", "kind", "at"}
    assert (ingested(DeltaTable("data/payments")), ingested(None)) == (None, None)


def test_tables_on_s3_are_called_as_others_call_them() -> None:
    (table,) = openlineage.of_group(SEEN, 1, "s3a://bucket/deep/lake", read={}).inputs
    assert (table.namespace, table.name) == ("s3://bucket", "deep/lake/sources/payments")


def test_an_event_has_what_openlineage_demands_and_facets_that_say_their_schema() -> None:
    run = uuid.uuid4()
    said = openlineage.event("FAIL", JOB, namespace="shop", run=run, at=NOW, failed="no such column")
    assert (said["eventType"], said["eventTime"], said["run"]["runId"]) == ("FAIL", "2026-01-06T00:00:00Z", str(run))
    assert said["job"] == {"namespace": "shop", "name": "materialize.spend", "facets": {}}
    assert {"producer", "schemaURL"} <= said.keys()
    (written,) = said["outputs"]
    facets = [said["run"]["facets"]["errorMessage"], *written["facets"].values(), *said["inputs"][0]["facets"].values()]
    assert all(
        each["_producer"] == said["producer"] and each["_schemaURL"].startswith("https://openlineage.io/spec/facets/") for each in facets
    )
    fields = written["facets"]["columnLineage"]["fields"]["n_1d"]["inputFields"]
    assert fields == [{"namespace": "file", "name": "/p/lake/sources/payments", "field": "kind", "transformations": [{"type": "INDIRECT"}]}]
    assert {"name": "paid_1d", "type": "double"} in written["facets"]["schema"]["fields"]


def test_a_run_may_fail_without_an_error(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    with openlineage.telling(JOB, replace(SETTINGS, lineage=str(file)), clock=lambda: NOW, say=lambda _: None) as failures:
        failures.append("payments could not be read")
    last = json.loads(file.read_text().splitlines()[-1])
    assert (last["eventType"], last["run"]["facets"]["errorMessage"]["message"]) == ("FAIL", "payments could not be read")


def told(to: str, *, error: Exception | None = None, key: str | None = None) -> list[str]:
    """What is said of a receiver while a run is told to it that ends well, or by an error."""
    said: list[str] = []
    try:
        with openlineage.telling(JOB, replace(SETTINGS, lineage=to, lineage_key=key), clock=lambda: NOW, say=said.append):
            if error is not None:
                raise error
    except type(error or Unknown()) as raised:
        assert raised is error
    return said


def test_a_file_gets_a_line_for_the_beginning_and_the_end_of_each_run_and_no_secret_of_an_error(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    errors = (None, Unknown("no group 'x'"), RuntimeError("password=s3cret"))
    assert [told(str(file), error=error) for error in errors] == [[], [], []]
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["eventType"] for line in lines] == ["START", "COMPLETE", "START", "FAIL", "START", "FAIL"]
    assert len({line["run"]["runId"] for line in lines}) == 3
    assert [line["run"]["facets"]["errorMessage"]["message"] for line in lines[3::2]] == ["no group 'x'", "RuntimeError"]


def test_a_receiver_gets_events_with_the_key_and_one_that_fails_costs_no_run(tmp_path: Path) -> None:
    got: list[tuple[str, str | None, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # as http.server calls it
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            got.append((self.path, self.headers["Authorization"], body["eventType"]))
            self.send_response(201 if len(got) < 3 else 500)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert told(url, key="k3y") == []
        assert told(url) == ["OpenLineage was not told of materialize.spend: it answered 500"] * 2
        server.shutdown()
    assert got[:2] == [("/api/v1/lineage", "Bearer k3y", "START"), ("/api/v1/lineage", "Bearer k3y", "COMPLETE")]
    assert told(url) == ["OpenLineage was not told of materialize.spend: URLError"] * 2
    assert (
        told(str(tmp_path / "nowhere" / "file"))
        == [f"OpenLineage was not told of materialize.spend: {tmp_path}/nowhere/file: No such file or directory"] * 2
    )


@pytest.mark.parametrize(
    ("variables", "lineage"),
    [
        ({}, None),
        ({"HEADWATER_LINEAGE_FILE": "/f"}, "/f"),
        ({"HEADWATER_LINEAGE_FILE": "/f", "OPENLINEAGE_URL": "http://marquez"}, "http://marquez"),
    ],
)
def test_nobody_is_told_unless_a_receiver_is_set(tmp_path: Path, variables: dict[str, str], lineage: str | None) -> None:
    from feature_definitions import settings

    (tmp_path / "headwater.toml").write_text('[project]\nname = "shop"\n')
    assert settings.load(tmp_path, environment=variables).lineage == lineage
