"""What the tasks make of the command's exit codes and of the ledger, with a program in the command's place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Airflow

PROGRAM = r"""
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from airflow.sdk.exceptions import TaskDeferred
from dags import operators
from dags.operators import IngestOperator, MaterializeOperator, ConfirmPublished, WaitOperator
from dags.schedule import Schedule

folder = Path({folder!r})
operators.COMMAND = folder / "headwater"
operators.COMMAND.write_text('#!/bin/sh\ncd "$(dirname "$0")"\nprintf "%s\n" "$@" > arguments\ncat answer\nexit "$(cat code)"\n')
operators.COMMAND.chmod(0o755)

day = timedelta(days=1)
daily = Schedule("spend", day, day / 24, 3 * day, is_static=False)
static = Schedule("home", day, day / 24, 3 * day, is_static=True)
project = Path("/a project; with $(signs)")
then = datetime(2013, 1, 6, tzinfo=UTC)


def end(operator, at=then, *, kind="manual", code=0, answer=(), failed=None):
    (folder / "code").write_text(str(code))
    (folder / "answer").write_text(json.dumps({{"intervals": list(answer), "sources": [{{"failed": None}}, {{"failed": failed}}]}}))
    (folder / "arguments").unlink(missing_ok=True)
    context = {{"dag_run": SimpleNamespace(logical_date=at, run_after=at, run_type=kind)}}
    said = ""
    try:
        operator.execute(context)
        kind = "done"
    except TaskDeferred as deferred:
        kind, said = "deferred", deferred.trigger.moment.isoformat()
    except Exception as error:
        kind, said = type(error).__name__, str(error)
    called = (folder / "arguments").read_text().splitlines() if (folder / "arguments").exists() else None
    return [kind, said, called]


def interval(day, status="OK", publish_id="p1", reasons=(), rows=8, waits_for=()):
    start, last = f"2013-01-{{day:02}}T00:00:00Z", f"2013-01-{{day + 1:02}}T00:00:00Z"
    more = {{"publish_id": publish_id, "reasons": reasons, "rows": rows, "waits_for": [{{"group": name}} for name in waits_for]}}
    return {{"interval_start": start, "interval_end": last, "status": status, **more}}


materialize = MaterializeOperator(task_id="materialize", project=project, schedule=daily)
materialize_reading = MaterializeOperator(task_id="materialize", project=project, schedule=daily, reads=("best",))
materialize_static = MaterializeOperator(task_id="materialize", project=project, schedule=static)
ingest = IngestOperator(task_id="ingest", project=project, group="spend")
publish = ConfirmPublished(task_id="publish", project=project, schedule=daily)
publish_static = ConfirmPublished(task_id="publish", project=project, schedule=static)
wait = WaitOperator(task_id="wait", schedule=daily)
wait_static = WaitOperator(task_id="wait", schedule=static)
rejected = interval(6, "REJECTED", None, ["failed spend_1d at_least(0)"])
tomorrow = datetime(2101, 1, 6, tzinfo=UTC)
answer = {{
    **{{f"exit {{code}}": end(materialize, code=code) for code in (0, 1, 2, 3, 137)}},
    "scheduled": end(materialize, kind="scheduled"),
    "backfill": end(materialize, kind="backfill"),
    "static": end(materialize_static),
    "reading": end(materialize_reading, answer=[interval(6)]),
    "waiting": end(materialize_reading, answer=[interval(6, "WAITING", None, ["so it is"], None, ["spend", "best"])]),
    "waiting for its own": end(materialize_reading, answer=[interval(6, "WAITING", None, ["so it is"], None, ["spend"])]),
    "quarantine": end(ingest, code=3),
    "refused": end(ingest, code=2),
    "failed": end(ingest, code=2, failed="there is no table"),
    "published": end(publish, answer=[interval(5, "REJECTED", None), interval(6), interval(7, "MISSING", None, rows=None)]),
    "rejected": end(publish, answer=[interval(5), rejected]),
    "missing": end(publish, answer=[interval(6, "MISSING", None, ["never computed"], rows=None)]),
    "before": end(publish, answer=[interval(7)]),
    "static published": end(publish_static, answer=[dict(interval(1), interval_start="1970-01-01T00:00:00Z")]),
    "unknown": end(publish, code=2),
    "sealed": end(wait),
    "not sealed": end(wait, tomorrow),
    "static is sealed": end(wait_static),
}}
"""


@pytest.fixture(scope="module")
def ended(airflow: Airflow, shop: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """How each case ended: what was raised, what it said, and which arguments the command got."""
    answer: dict[str, Any] = airflow.python(PROGRAM.format(folder=str(tmp_path_factory.mktemp("stand_in"))), project=shop)
    return answer


PROJECT = ["--project", "/a project; with $(signs)"]


def test_the_command_gets_its_arguments_as_they_are(ended: dict[str, Any]) -> None:
    assert ended["exit 0"][2] == ["materialize", "spend", "--from", "2013-01-06T00:00:00Z", "--to", "2013-01-07T00:00:00Z", *PROJECT]


@pytest.mark.parametrize(
    ("case", "kind", "sentence"),
    [
        ("exit 0", "done", ""),
        ("exit 1", "AirflowException", "failed with exit code 1; the log says why, and it is tried again"),
        ("exit 2", "AirflowFailException", "found a mistake in a definition or an input"),
        ("exit 3", "AirflowFailException", "the gate rejected something in `headwater materialize spend"),
        ("exit 137", "AirflowException", "failed with exit code 137"),
        ("failed", "AirflowFailException", "`headwater ingest spend --json` found a mistake"),
    ],
)
def test_only_what_may_pass_by_itself_is_tried_again(ended: dict[str, Any], case: str, kind: str, sentence: str) -> None:
    assert ended[case][0] == kind
    assert sentence in ended[case][1]


def test_what_waits_for_a_group_that_it_reads_is_tried_again(ended: dict[str, Any]) -> None:
    assert (ended["reading"][0], ended["waiting for its own"][0]) == ("done", "done")
    kind, said, called = ended["waiting"]
    assert (kind, called[:2]) == ("AirflowException", ["status", "spend"])
    assert "spend is tried again: 2013-01-06T00:00:00Z WAITING (so it is; no rows)" in said


@pytest.mark.parametrize("case", ["quarantine", "refused"])
def test_rows_in_quarantine_and_files_that_cannot_be_read_do_not_stop_a_days_ingest(ended: dict[str, Any], case: str) -> None:
    assert ended[case] == ["done", "", ["ingest", "spend", "--json", *PROJECT]]


def test_a_scheduled_run_makes_good_what_late_events_changed(ended: dict[str, Any]) -> None:
    assert ended["scheduled"][2][2:6] == ["--from", "2013-01-03T00:00:00Z", "--to", "2013-01-07T00:00:00Z"]


def test_a_backfill_of_a_day_is_of_that_day(ended: dict[str, Any]) -> None:
    assert ended["backfill"][2] == ended["exit 0"][2]


def test_a_static_group_is_materialized_without_a_range(ended: dict[str, Any]) -> None:
    assert ended["static"][2] == ["materialize", "home", *PROJECT]


def test_publish_confirms_the_runs_interval_alone(ended: dict[str, Any]) -> None:
    assert ended["published"] == ["done", "", ["status", "spend", "--json", *PROJECT]]


def test_a_rejected_interval_is_not_published_and_says_why(ended: dict[str, Any]) -> None:
    kind, said, _ = ended["rejected"]
    assert kind == "AirflowFailException"
    assert said == "spend is not published: 2013-01-06T00:00:00Z REJECTED (failed spend_1d at_least(0); 8 rows)"


def test_an_interval_that_was_never_computed_is_not_published(ended: dict[str, Any]) -> None:
    assert ended["missing"][:2] == [
        "AirflowFailException",
        "spend is not published: 2013-01-06T00:00:00Z MISSING (never computed; no rows)",
    ]


def test_a_day_before_the_sources_first_is_skipped(ended: dict[str, Any]) -> None:
    assert ended["before"][0] == "AirflowSkipException"


def test_a_static_group_is_published_whatever_the_day(ended: dict[str, Any]) -> None:
    assert ended["static published"][0] == "done"


def test_a_ledger_that_can_not_be_read_confirms_nothing(ended: dict[str, Any]) -> None:
    assert ended["unknown"][0] == "AirflowFailException"


def test_a_sealed_interval_is_not_waited_for(ended: dict[str, Any]) -> None:
    assert ended["sealed"][0] == ended["static is sealed"][0] == "done"


def test_the_triggerer_waits_until_the_source_is_ready(ended: dict[str, Any]) -> None:
    assert ended["not sealed"][:2] == ["deferred", "2101-01-07T01:00:00+00:00"]
