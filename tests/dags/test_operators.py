"""What the tasks make of the command's exit codes and of the ledger, with a program in the command's place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Airflow

PROGRAM = r"""
import json
import os
from copy import copy
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID, uuid4
from airflow.sdk import DAG, Asset
from airflow.providers.standard.operators import hitl
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk.exceptions import AirflowRescheduleException, DownstreamTasksSkipped, TaskAwaitingInput, TaskDeferred
from dags import process
from dags.buttons import ApproveOperator
from dags.consumers import CompleteOperator, FollowOperator
from dags.operators import *
from dags.range_backfill import ComputeOperator, MarkOperator, PlanOperator, ReportOperator
from dags.reconcile import MarkPublishedOperator, ReportDueOperator, StartOperator
from dags.schedule import Schedule

folder = Path({folder!r})
process.COMMAND = folder / "headwater"
process.COMMAND.write_text('''#!/bin/sh
cd "$(dirname "$0")"
echo "$@" >> calls
cat said >&2
cat "$2"
case "$2" in status) exit 0;; *) exit "$(cat code)";; esac
''')
process.COMMAND.chmod(0o755)

day = timedelta(days=1)
daily = Schedule("spend", day, day / 24, 3 * day, is_static=False)
static = Schedule("home", day, day / 24, 3 * day, is_static=True)
project = Path("/a project; with $(signs)")
then = datetime(2013, 1, 6, tzinfo=UTC)
asset = Asset(name="features.spend", uri="headwater://shop/features.spend")


shown = []
hitl.upsert_hitl_detail = lambda subject, body, options, **_: shown.extend([subject, body, options])


class Event:
    extra = None
    keys = None

    def add_partitions(self, keys):
        self.keys = keys


def events(keys):
    return [SimpleNamespace(partition_key=each, asset=asset) for each in keys]


class Heard:
    def __init__(self, keys):
        self.keys = keys

    def after(self, since):
        return events(key for told, key in self.keys if since is None or told >= since)


class Instance:
    def __init__(self, tries, waited, siblings, waiting, id):
        self.id = id
        self.try_number, self.waited, self.siblings, self.waiting = tries, waited, siblings, waiting

    def get_first_reschedule_date(self, context):
        return self.waited

    def get_task_states(self, dag_id, task_ids, run_ids=None):
        return {{name: state if isinstance(state, dict) else {{"ingest": state}} for name, state in self.siblings.items()}}

    def get_dr_count(self, dag_id, run_ids=None, states=()):
        if run_ids is None:
            return self.waiting
        return sum("dead" not in name for name in run_ids)


def end(
    operator, at=then, *, kind="manual", key=None, code=0, said="", answer=(), did=1, tries=1, waited=None, siblings=None, waiting=0,
    params=None, told=(), heard=(), run_id="mine", id=uuid4()
):
    (folder / "code").write_text(str(code))
    (folder / "said").write_text(said)
    (folder / "status").write_text(json.dumps({{"intervals": list(answer)}}))
    (folder / "materialize").write_text(json.dumps({{"groups": [{{"published": did, "rejected": [], "waiting": []}}]}}))
    step = {{"step": "Compute", "group": "spend"}}
    bill = {{"group": "spend", "files": 2, "bytes": 10, "seconds": None}}
    (folder / "plan").write_text(json.dumps({{"steps": [step] * did, "bill": [bill] * min(did, 1)}}))
    (folder / "calls").unlink(missing_ok=True)
    run = SimpleNamespace(
        logical_date=at, run_after=at or then, run_type=kind, partition_key=key, dag_id="fg__spend", run_id=run_id, start_date=then
    )
    event = Event()
    context = {{
        "dag_run": run, "ti": Instance(tries, waited, siblings or {{}}, waiting, id), "outlet_events": {{asset: event}}, "params": params,
        "task_instance": SimpleNamespace(id="a task"),
        "task_reschedule_count": 0 if waited is None else 1,
        "triggering_asset_events": {{asset: events(told)}} if told else {{}},
        "inlet_events": {{asset: Heard(heard)}},
    }}
    said_last = ""
    try:
        operator.execute(context)
        outcome = "done"
    except TaskDeferred as deferred:
        outcome, said_last = "deferred", deferred.trigger.moment.isoformat()
    except TaskAwaitingInput as awaiting:
        outcome, said_last = "awaiting input", [*shown, awaiting.method_name, awaiting.kwargs]
    except DownstreamTasksSkipped as skipped:
        outcome, said_last = "done", " ".join(skipped.tasks)
    except AirflowRescheduleException as again:
        outcome, said_last = "looks again", round((again.reschedule_date - datetime.now(UTC)).total_seconds(), -1)
    except Exception as error:
        outcome, said_last = type(error).__name__, str(error)
    calls = (folder / "calls").read_text().splitlines() if (folder / "calls").exists() else []
    called = [call.removesuffix(" --json --project " + str(project)) for call in calls]
    return [outcome, said_last, called, [event.extra, event.keys], [each.name for each in operator.outlets]]


def interval(day, status="OK", publish_id="p1", reasons=(), rows=8, waits_for=(), held=0, correct="payments"):
    start, last = f"2013-01-{{day:02}}T00:00:00Z", f"2013-01-{{day + 1:02}}T00:00:00Z"
    waits = [{{"group": name, "status": waited}} for name, waited in waits_for]
    run = "p7" if reasons == ["waits for approval of run p7"] else None
    more = {{"publish_id": publish_id, "reasons": reasons, "rows": rows, "waits_for": waits, "delta_version": 4, "run": run}}
    advice = {{"held": held, "sentence": f"for example id=7; report: /r.html; correct {{correct}}"}}
    given = {{"advice": advice}} if status in ("REJECTED", "WAITING") or held else {{}}
    return {{"interval_start": start, "interval_end": last, "status": status, **more, **given}}


mine = {{"project": project, "schedule": daily, "asset": asset}}
ingest = IngestOperator(task_id="ingest", **mine)
materialize = MaterializeOperator(task_id="materialize", **mine)
restate = RestateOperator(task_id="restate", **mine)
warnings = WarningsOperator(task_id="warnings", **mine)
publish = PublishOperator(task_id="publish", **mine)
wait = WaitOperator(task_id="wait", **mine)
still = {{**mine, "schedule": static}}
rejected = interval(6, "REJECTED", None, ["failed spend_1d at_least(0)"])
waiting = interval(6, "WAITING", None, ["waits for best"], None, [("best", "MISSING")])
stuck = interval(6, "WAITING", None, ["waits for 5 January"], None, [("spend", "REJECTED")])
asked = interval(6, "WAITING", None, ["waits for approval of run p7"], None)
approve = ApproveOperator(task_id="approve", **mine)
stale = interval(6, "STALE(data)", "p1", ["payments changed"])
missing = interval(6, "MISSING", None, ["never computed"], None)
held = interval(6, held=2)
reading = Schedule("level", day, day / 24, 3 * day, is_static=False, reads=("spend",))


def hour_of(day):
    return {{"interval_start": f"2013-01-{{day:02}}T23:00:00Z", "interval_end": f"2013-01-{{day + 1:02}}T00:00:00Z"}}


last_hour = dict(interval(6), **hour_of(6))
third, fourth = ([("spend", interval(n)), ("pace", dict(last_hour, **hour_of(n)))] for n in (3, 4))
built, left, none = (("asset_triggered", *states) for states in (("success", "success"), ("success", "skipped"), ("skipped", "skipped")))


def enumerated(states):
    for n, (kind, complete, built) in reversed(list(enumerate(states))):
        yield f"{{kind}}__2013-01-0{{n + 1}}T00:00:00+00:00_xyz", {{"complete": complete, "training_set": built}}


def alerts():
    got = []

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(500 if self.path == "/refuses" else 200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answers)
    Thread(target=server.serve_forever, daemon=True).start()
    told = {{}}
    with DAG("fg__spend"):
        last = EmptyOperator(task_id="publish")
        first = EmptyOperator(task_id="materialize")
        first >> last
    for name, path, task, kind in (
        ("last", "key", last, "scheduled"), ("refused", "refuses", last, "asset_triggered"), ("inner", "key", first, "scheduled"),
        ("by hand", "key", last, "manual"), ("of a backfill", "key", last, "backfill"), ("nowhere", "", last, "scheduled"),
    ):
        os.environ["HEADWATER_ALERT_URL"] = f"http://127.0.0.1:{{server.server_port}}/{{path}}" if path else ""
        got.clear()
        tell_of_red({{
            "ti": SimpleNamespace(log_url="http://airflow/log"), "task": task, "exception": "it is late",
            "dag_run": SimpleNamespace(dag_id="fg__spend", run_type=kind),
        }})
        told[name] = list(got)
    server.shutdown()
    os.environ["HEADWATER_ALERT_URL"] = f"http://127.0.0.1:{{server.server_port}}/"
    server.server_close()
    tell_of_red({{
        "ti": SimpleNamespace(log_url=""), "task": last, "exception": "", "dag_run": SimpleNamespace(dag_id="", run_type="scheduled")}})
    return told


days = {{"from": "2013-01-05", "to": "2013-01-07", "groups": [], "mode": "missing", "chunk_days": 2, "dry_run": False}}
wide = {{"project": project, "schedules": [daily]}}
tomorrow = datetime(2101, 1, 6, tzinfo=UTC)
siblings = {{
    "mine": "running",
    "backfill__2013-01-07T00:00:00+00:00__2013-01-07__x": None,
    "backfill__2013-01-08T00:00:00+00:00__2013-01-08__x": "scheduled",
    "backfill__2013-01-10T00:00:00+00:00__2013-01-10__x": None,
    "backfill__2013-01-05T00:00:00+00:00__2013-01-05__x": "success",
    "scheduled__2013-01-09T00:00:00+00:00__2013-01-09__x": None,
}}
made = UUID(int=(int(then.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62))
with DAG("fg__spend"):
    first, second = WaitOperator(task_id="wait", **mine), IngestOperator(task_id="ingest", **mine)
    first >> second >> PublishOperator(task_id="publish", **mine)
of_sibling = {{"kind": "backfill", "key": "2013-01-06", "at": None, "siblings": siblings}}
pressed = {{"params_input": {{"reason": "it is fine"}}, "responded_at": then, "responded_by_user": None}}
answer = {{
    **{{f"exit {{code}}": end(ingest, code=code, said="ingesting\nerror: columns lack 'x'\n") for code in (0, 1, 2, 3, 137)}},
    "died": end(ingest, code=137),
    "away": end(ingest, code=2, said="error: S3 does not answer at Amazon; this may pass by itself\n"),
    "scheduled": end(ingest, kind="scheduled", key="2013-01-06", at=None),
    "key": end(ingest, key="2013-01-09", at=None),
    "bad key": end(ingest, key="9 January", at=None),
    "backfill": end(ingest, kind="backfill", key="2013-01-06", at=None, siblings=siblings),
    "backfill with a dead one": end(ingest, kind="backfill", key="2013-01-06", at=None, siblings={{
        "backfill__2013-01-07T00:00:00+00:00__2013-01-07__dead": None}}),
    "computed while it waited for its turn": end(
        copy(second), answer=[interval(6, publish_id="p01357430400000000-a")], id=made, **of_sibling),
    **{{name: end(IngestOperator(task_id="ingest", late="until now", **mine), kind="scheduled", key="2013-01-06", at=None, tries=tries)
        for name, tries in (("late", 1), ("late and cleared", 2))}},
    **{{f"computed {{name}}": end(copy(first), answer=[interval(6, publish_id=f"p{{micros:017d}}-a")], **{{**of_sibling, **more}})
        for name, micros, more in (
            ("beside it", 1357430400000000, {{"id": made}}),
            ("before", 1357430399999999, {{"id": made}}),
            ("at a time that nobody says", 1357430400000000, {{"id": uuid4()}}),
            ("by nobody", 1357430400000000, {{"id": made, "siblings": {{"backfill__2013-01-05T00:00:00+00:00__2013-01-05__x": None}}}}),
        )}},
    **{{f"{{each.task_id}} cancelled {{name}}": end(
            each, answer=[rejected], tries=tries, params=days, siblings={{"mine": {{"publish": state}}}})
        for each in (ingest, materialize, ComputeOperator(task_id="compute", **wide))
        for name, tries, state in (("and cleared", 2, "skipped"), ("and cleared whole", 2, None), ("never", 1, "skipped"))}},
    "static": end(IngestOperator(task_id="ingest", **still)),
    "published": end(materialize, answer=[interval(6)]),
    "held": end(materialize, answer=[held]),
    "earlier": end(materialize, kind="scheduled", answer=[interval(4, "REJECTED", None), interval(6)]),
    "earlier is due": end(materialize, kind="scheduled", answer=[interval(4, "MISSING", None), interval(6)], waited=then),
    "earlier is fine": end(materialize, kind="scheduled", answer=[interval(4), interval(6)]),
    "rejected": end(materialize, answer=[rejected]),
    "rejected and cleared": end(materialize, answer=[rejected], tries=2),
    "published and cleared": end(materialize, answer=[interval(6)], tries=2),
    "waiting": end(materialize, answer=[waiting]),
    "waiting an hour": end(materialize, answer=[waiting], waited=datetime.now(UTC) - day / 24),
    "waiting long": end(materialize, answer=[waiting], waited=then),
    "stuck": end(materialize, answer=[stuck]),
    "asked": end(materialize, answer=[asked]),
    "publish asked": end(publish, answer=[asked]),
    "approve nothing": end(approve, answer=[interval(6)]),
    "approve": end(approve, answer=[asked]),
    **{{f"approve {{button}}": end(SimpleNamespace(outlets=(), execute=lambda context, button=button: approve.execute_complete(
        context, {{**pressed, "chosen_options": [button]}}, run="p7"))) for button in ("Publish", "Refuse")}},
    "stale": end(materialize, answer=[stale]),
    "missing": end(materialize, answer=[missing]),
    "before": end(materialize),
    "publish published": end(publish, answer=[interval(6)], key="2013-01-06", at=None),
    "publish by hand": end(publish, answer=[held]),
    "publish before": end(publish),
    "publish cleared": end(publish, answer=[stuck], tries=2),
    **{{f"publish {{name}}": end(publish, answer=[each]) for name, each in
        {{"rejected": rejected, "waiting": waiting, "stale": stale, "missing": missing}}.items()}},
    "publish static": end(PublishOperator(task_id="publish", **still),
                          answer=[dict(interval(1), interval_start="1970-01-01T00:00:00Z")]),
    "restate fine": end(restate, answer=[interval(4), interval(5)]),
    "restate rejected": end(restate, answer=[interval(4), interval(5, "REJECTED", None, ["failed n"]), interval(5, "MISSING", None)]),
    "restate cleared": end(restate, answer=[interval(5)], tries=2),
    "warned": end(warnings, answer=[held]),
    "sealed": end(wait),
    "not sealed": end(wait, tomorrow),
    "static is sealed": end(WaitOperator(task_id="wait", **still)),
    "plan": end(PlanOperator(task_id="plan", **wide), params=days),
    "dry run": end(PlanOperator(task_id="plan", **wide), params={{**days, "dry_run": True}}),
    "nothing planned": end(PlanOperator(task_id="plan", **wide), params=days, did=0),
    "reversed": end(PlanOperator(task_id="plan", **wide), params={{**days, "to": "2013-01-04"}}),
    "range": end(ComputeOperator(task_id="materialize", **wide), params=days, code=3),
    "mark": end(MarkOperator(task_id="publish", assets={{"spend": asset}}, **wide), params=days,
                answer=[interval(5, publish_id="p00000000000000001-a"), interval(6, publish_id="p01400000000000000-b"), rejected]),
    "report": end(ReportOperator(task_id="report", **wide), params=days, answer=[interval(5), rejected]),
    "reconcile": end(StartOperator(task_id="start", assets={{"spend": asset}}, **wide), answer=[
        dict(each, group="spend") for each in (interval(3, publish_id="p0"), interval(4), interval(5, "MISSING", None), rejected)]),
    "reconcile nothing": end(StartOperator(task_id="start", assets={{"spend": asset}}, **wide), answer=[dict(interval(4), group="spend")]),
    "marked": end(MarkPublishedOperator(task_id="spend", assets={{"spend": asset}}, **wide), answer=[
        dict(each, group="spend") for each in (interval(4), interval(5), rejected)]),
    "lacking": end(ReportDueOperator(task_id="report", **wide), answer=[dict(each, group="spend") for each in (missing, interval(7))]),
    "follow": end(FollowOperator(task_id="sync", project=project, arguments=["sync"])),
    "follow one that waits": end(FollowOperator(task_id="sync", project=project, arguments=["sync"]), waiting=1),
    "wait for groups": end(WaitOperator(task_id="wait", **{{**mine, "schedule": reading}}), answer=[waiting]),
    "wait for groups that are stuck": end(WaitOperator(task_id="wait", **{{**mine, "schedule": reading}}), answer=[stuck]),
    **{{f"wait for groups that {{name}}": end(WaitOperator(task_id="wait", **{{**mine, "schedule": reading}}), waiting=n)
        for name, n in (("are at work first", 1), ("have no run", 0))}},
    "wait for groups later": end(WaitOperator(task_id="wait", **{{**mine, "schedule": reading}}), tomorrow),
    "marked many": end(MarkPublishedOperator(task_id="spend", assets={{"spend": asset}}, **wide), answer=[
        dict(interval(1), group="spend", interval_start=f"{{2000 + n}}-01-01T00:00:00Z") for n in range(500)]),
    "marked none": end(MarkPublishedOperator(task_id="spend", assets={{"spend": asset}}, **wide)),
    **{{f"training set {{name}}": end(CompleteOperator(task_id="complete", project=project,
            schedules=[daily, static, Schedule("pace", day / 24, day / 24, day, is_static=False)], assets=[asset]),
        told=told, answer=[dict(each, group=group) for group, each in found], siblings=dict(enumerated(states)),
        waiting="waits" in name, heard=[("2013-01-01T23", "2013-01-03"), ("2013-01-02T23", "2013-01-04")],
        run_id="asset_triggered__2013-01-03T12:00:00+00:00_xyz")
        for name, told, found, *states in (
            ("by hand", [], []),
            ("complete", ["2013-01-06"], [("spend", interval(6)), ("pace", last_hour)]),
            ("repaired", ["2013-01-03", "2013-01-06"], third),
            ("lacks hours", ["2013-01-06"], [("spend", interval(6)), ("pace", dict(last_hour, interval_end="2013-01-06T05:00:00Z"))]),
            ("lacks a group", ["2013-01-06"], [("spend", interval(6))]),
            ("by hand, one waits", [], []),
            ("one waits", ["2013-01-06"], [("spend", interval(6)), ("pace", last_hour)]),
            ("left to it", ["2013-01-06"], fourth, none, built, left, left),
            ("left and failed", ["2013-01-06"], fourth, built, built, left, ("asset_triggered", "success", "failed")),
            ("left and none complete", ["2013-01-06"], third, built, built, left, left),
            ("left by hand", ["2013-01-06"], [], built, ("manual", "success", "skipped")),
            ("left and done", ["2013-01-06"], fourth, left, left, built),
            ("left and looked at", ["2013-01-06"], fourth, left, left, none),
            ("left since ever", ["2013-01-06"], third, left, left),
            ("is stale", ["2013-01-06"], [("spend", stale), ("pace", last_hour)]),
            ("is rejected", ["2013-01-06"], [("spend", dict(rejected, publish_id="p1")), ("pace", last_hour)]),
        )}},
    "alerts": alerts(),
    "report fine": end(ReportOperator(task_id="report", **wide), params=days, answer=[interval(5)]),
}}
"""


@pytest.fixture(scope="module")
def ended(airflow: Airflow, shop: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """How each case ended: what was raised, what it said or which tasks it skips, how the command was called, and the asset's event."""
    answer: dict[str, Any] = airflow.python(PROGRAM.format(folder=str(tmp_path_factory.mktemp("stand_in"))), project=shop)
    return answer


DAY = "--from 2013-01-06T00:00:00Z --to 2013-01-07T00:00:00Z"
MAKE = "--sound-only materialize spend --ingest --within range"
STATUS = "--sound-only status spend --advice"
FIX = "for example id=7; report: /r.html; correct payments; then clear the red tasks of this run, which ingests again"


def test_one_process_ingests_computes_and_publishes(ended: dict[str, Any]) -> None:
    assert ended["exit 0"][:3] == ["done", "restate", [f"{MAKE} {DAY}"]]


@pytest.mark.parametrize(
    ("case", "kind", "sentence"),
    [
        ("exit 0", "done", "restate"),
        ("exit 3", "done", "restate"),
        ("exit 1", "AirflowException", "columns lack 'x'; it is tried again"),
        ("exit 2", "AirflowFailException", "columns lack 'x'; correct it, then clear this task"),
        ("exit 137", "AirflowException", "columns lack 'x'; it is tried again"),
        ("away", "AirflowException", "S3 does not answer at Amazon; this may pass by itself; it is tried again"),
        ("died", "AirflowException", "it ended with exit code 137; it is tried again"),
        ("bad key", "AirflowFailException", "'9 January' names no interval of spend; write the time at which one begins, like 2026-01-05"),
    ],
)
def test_only_what_may_pass_by_itself_is_tried_again(ended: dict[str, Any], case: str, kind: str, sentence: str) -> None:
    assert ended[case][0] == kind
    assert ended[case][1].endswith(sentence)


def test_a_scheduled_run_makes_good_what_late_events_changed(ended: dict[str, Any]) -> None:
    restated = "--sound-only materialize spend --ingest --within restate --from 2013-01-03T00:00:00Z --to 2013-01-07T00:00:00Z"
    assert ended["scheduled"][:3] == ["done", "", [restated]]


def test_a_run_is_of_the_day_that_its_partition_key_names(ended: dict[str, Any]) -> None:
    assert ended["key"][2] == [f"{MAKE} --from 2013-01-09T00:00:00Z --to 2013-01-10T00:00:00Z"]


def test_the_first_run_of_a_backfill_computes_the_days_that_follow_without_a_gap_in_one_process(ended: dict[str, Any]) -> None:
    assert ended["backfill"][2] == [f"{STATUS} {DAY}", f"{MAKE} --from 2013-01-06T00:00:00Z --to 2013-01-09T00:00:00Z"]


def test_days_of_a_backfill_that_was_cancelled_are_not_computed(ended: dict[str, Any]) -> None:
    assert ended["backfill with a dead one"][2] == [f"{MAKE} {DAY}"]


def test_a_run_of_a_backfill_whose_day_was_published_since_it_was_made_ends_before_it_ingests(ended: dict[str, Any]) -> None:
    assert ended["computed beside it"][:3] == ["done", "ingest publish", [f"{STATUS} {DAY}"]]
    assert ended["computed while it waited for its turn"][:3] == ["done", "publish", [f"{STATUS} {DAY}"]]
    for case in ("computed before", "computed at a time that nobody says"):
        assert ended[case][:3] == ["done", "", [f"{STATUS} {DAY}"]]
    assert ended["computed by nobody"][:3] == ["done", "", []]


def test_a_run_that_ends_since_another_one_published_its_day_tells_of_its_partition_and_no_other_one_does(ended: dict[str, Any]) -> None:
    told = [{"rows": 8, "delta_version": 4, "verdict": "passed"}, None]
    assert ended["computed beside it"][3:] == [told, ["features.spend"]]
    assert ended["computed while it waited for its turn"][3:] == [told, ["features.spend"]]
    for case in ("computed before", "computed at a time that nobody says", "computed by nobody", "backfill", "exit 0"):
        assert ended[case][3:] == [[None, None], []]


def test_a_late_run_computes_all_days_of_which_each_has_a_run_to_come_unless_it_was_cleared(ended: dict[str, Any]) -> None:
    restated = "--sound-only materialize spend --ingest --within restate --from 2013-01-03T00:00:00Z --to"
    assert ended["late"][2] == [f"{restated} 2014-01-08T00:00:00Z"]
    assert ended["late and cleared"][2] == [f"{restated} 2013-01-07T00:00:00Z"]


def test_a_static_group_is_materialized_without_a_range(ended: dict[str, Any]) -> None:
    assert ended["static"][2] == ["--sound-only materialize home --ingest --within range"]


def test_each_state_of_the_day_looks_different(ended: dict[str, Any]) -> None:
    states = {
        "published": ("done", "done"),
        "rejected": ("AirflowFailException", "AirflowFailException"),
        "stuck": ("AirflowSkipException", "AirflowFailException"),
        "stale": ("done", "AirflowFailException"),
        "before": ("AirflowSkipException", "AirflowSkipException"),
    }
    of_publish = {"stuck": "publish waiting"}
    found = {state: (ended[state][0], ended[of_publish.get(state, f"publish {state}")][0]) for state in states}
    assert found == states
    assert len(set(states.values())) == len(states)


def test_a_person_is_asked_about_the_run_that_waits_and_about_nothing_else(ended: dict[str, Any]) -> None:
    line = "spend 2013-01-06: a person is to decide: waits for approval of run p7; for example id=7; report: /r.html; correct payments"
    assert ended["asked"][:2] == ["done", "warnings restate"]
    assert ended["publish asked"][:2] == ["AirflowFailException", line]
    assert ended["approve nothing"][0] == "AirflowSkipException"
    question = ["Publish spend 2013-01-06?", line, ["Publish", "Refuse"]]
    assert ended["approve"][:2] == ["awaiting input", [*question, "execute_complete", {"run": "p7"}]]


def test_each_button_ends_the_run_that_was_shown(ended: dict[str, Any]) -> None:
    assert ended["approve Publish"][2] == ["--sound-only publish spend --run p7"]
    assert ended["approve Refuse"][2] == ["--sound-only publish spend --run p7 --refuse --reason it is fine"]


def test_a_published_day_has_no_task_for_what_is_not_wrong(ended: dict[str, Any]) -> None:
    assert ended["published"][:3] == ["done", "warnings restate", [f"{STATUS} {DAY}"]]


def test_held_rows_have_a_task_of_their_own(ended: dict[str, Any]) -> None:
    assert ended["held"][:2] == ["done", "restate"]
    assert ended["warned"][0] == "AirflowFailException"
    assert "spend 2013-01-06 is published: 8 rows; look at it: 2 rows are held: published without values" in ended["warned"][1]


def test_an_earlier_day_has_a_task_of_its_own(ended: dict[str, Any]) -> None:
    assert ended["earlier"][:2] == ["done", "warnings"]
    assert ended["earlier is fine"][:2] == ["done", "warnings restate"]
    assert ended["restate fine"][0] == "done"
    kind, said, called, *_ = ended["restate rejected"]
    assert (kind, called) == ("AirflowFailException", [f"{STATUS} --from 2013-01-03T00:00:00Z --to 2013-01-06T00:00:00Z"])
    assert said == f"spend 2013-01-05: the gate rejected it: failed n; {FIX} (and 1 more since then)"


@pytest.mark.parametrize("task", ["rejected", "publish rejected"])
def test_a_rejected_day_says_what_failed_an_example_the_report_and_the_fix_on_one_line(ended: dict[str, Any], task: str) -> None:
    assert ended[task][1] == f"spend 2013-01-06: the gate rejected it: failed spend_1d at_least(0); {FIX}"


def test_a_red_task_that_is_cleared_ingests_again_and_a_green_one_does_not(ended: dict[str, Any]) -> None:
    look, make = f"{STATUS} {DAY}", f"{MAKE} {DAY}"
    assert ended["rejected"][2] == [look]
    assert ended["rejected and cleared"][2] == [look, make, look]
    assert ended["publish cleared"][2] == [look, make, look]
    assert ended["published and cleared"][2] == [look]
    assert "--within restate --from 2013-01-03T00:00:00Z --to 2013-01-06T00:00:00Z" in ended["restate cleared"][2][0]


def test_a_run_that_waited_makes_good_earlier_days_too_though_another_one_computed_its_own(ended: dict[str, Any]) -> None:
    restated = "--from 2013-01-03T00:00:00Z --to 2013-01-07T00:00:00Z"
    make = f"--sound-only materialize spend --ingest --within restate {restated}"
    assert ended["earlier is due"][2] == [f"{STATUS} {restated}", make, f"{STATUS} {restated}"]


def test_a_day_that_waits_for_groups_whose_runs_are_at_it_is_looked_at_again_but_not_for_ever(ended: dict[str, Any]) -> None:
    assert ended["waiting"][:2] == ["looks again", 10]
    assert ended["waiting long"][0] == "AirflowSkipException"


def test_a_day_that_has_waited_for_an_hour_is_looked_at_after_six_minutes_and_costs_no_java(ended: dict[str, Any]) -> None:
    assert ended["waiting an hour"][:3] == ["looks again", 360, [f"--sound-only status spend --advice {DAY}"]]


def test_a_day_that_was_never_computed_is_tried_again_and_not_published(ended: dict[str, Any]) -> None:
    again = f"clear the red tasks of this run, or run: headwater materialize spend {DAY}"
    assert ended["missing"][0] == "AirflowException"
    assert ended["publish missing"][:2] == [
        "AirflowFailException",
        f"spend 2013-01-06: it is not published: never computed; {again}",
    ]


def test_only_a_published_day_has_an_asset_event_with_rows_version_and_verdict(ended: dict[str, Any]) -> None:
    assert ended["publish published"][3] == [{"rows": 8, "delta_version": 4, "verdict": "passed"}, None]
    assert ended["publish by hand"][3] == [{"rows": 8, "delta_version": 4, "verdict": "warned"}, ["2013-01-06"]]
    for state in ("rejected", "waiting", "stale", "missing", "before"):
        assert ended[f"publish {state}"][3] == [None, None]


def test_a_static_group_is_published_whatever_the_day(ended: dict[str, Any]) -> None:
    assert ended["publish static"][0] == "done"


def test_a_sealed_interval_is_not_waited_for(ended: dict[str, Any]) -> None:
    assert ended["sealed"] == ended["static is sealed"] == ["done", "", [], [None, None], []]


def test_the_triggerer_waits_until_the_source_is_ready(ended: dict[str, Any]) -> None:
    assert ended["not sealed"][:2] == ["deferred", "2101-01-07T01:00:00+00:00"]


def test_a_range_is_planned_and_a_dry_run_ends_there(ended: dict[str, Any]) -> None:
    planned = "--sound-only plan spend --from 2013-01-05T00:00:00Z --to 2013-01-08T00:00:00Z --only missing"
    assert ended["plan"][:3] == ["done", "", [planned]]
    assert ended["dry run"][:2] == ["AirflowSkipException", "a dry run computes nothing; it would compute 1 intervals"]
    assert ended["nothing planned"][0] == "AirflowSkipException"
    assert ended["reversed"][:2] == ["AirflowFailException", "the last day, 2013-01-04, lies before the first, 2013-01-05; swap them"]


def test_a_range_is_computed_by_one_process_per_chunk_and_a_rejection_stops_nothing(ended: dict[str, Any]) -> None:
    spans = ["--from 2013-01-05T00:00:00Z --to 2013-01-07T00:00:00Z", "--from 2013-01-07T00:00:00Z --to 2013-01-08T00:00:00Z"]
    assert ended["range"][:3] == ["done", "", [f"--sound-only materialize spend --ingest {span} --only missing" for span in spans]]


def test_a_range_marks_the_partitions_that_it_published_and_no_others(ended: dict[str, Any]) -> None:
    assert ended["mark"][3] == [{"rows": 8, "partitions": 1}, ["2013-01-06"]]


def test_a_range_is_red_while_one_of_its_days_is_not_published(ended: dict[str, Any]) -> None:
    assert ended["report fine"][0] == "done"
    kind, said, *_ = ended["report"]
    assert (kind, said) == ("AirflowFailException", f"spend 2013-01-06: the gate rejected it: failed spend_1d at_least(0); {FIX}")


def test_what_no_run_has_started_is_computed_and_marked(ended: dict[str, Any]) -> None:
    made = "--sound-only materialize spend --ingest --within restate --from 2013-01-05T00:00:00Z --to 2013-01-06T00:00:00Z"
    assert ended["reconcile"][:3] == ["done", "", ["--sound-only status", made, "--sound-only status"]]
    assert ended["reconcile"][3] == [{"rows": 8, "partitions": 1}, ["2013-01-04"]]
    assert ended["reconcile nothing"][0] == "AirflowSkipException"


def test_what_is_lacking_makes_the_reconciliation_red(ended: dict[str, Any]) -> None:
    kind, said, *_ = ended["lacking"]
    assert (kind, said.partition(", in ")[0]) == ("AirflowFailException", "spend: 1 of 2 intervals are MISSING")


def test_airflow_is_told_once_of_all_that_the_command_published(ended: dict[str, Any]) -> None:
    assert ended["marked"][2:4] == [["--sound-only status spend"], [{"rows": 16, "partitions": 2}, ["2013-01-04", "2013-01-05"]]]


def test_of_very_many_partitions_airflow_is_told_of_the_newest(ended: dict[str, Any]) -> None:
    keys = ended["marked many"][3][1]
    assert (len(keys), keys[0], keys[-1]) == (400, "2100-01-01", "2499-01-01")


def test_airflow_hears_of_an_asset_only_with_a_partition(ended: dict[str, Any]) -> None:
    assert ended["marked"][4] == ended["mark"][4] == ended["reconcile"][4] == ["features.spend"]
    assert ended["marked none"][4] == []


def test_a_run_of_a_group_that_reads_groups_waits_for_their_runs_before_it_begins(ended: dict[str, Any]) -> None:
    assert ended["wait for groups"][0] == "looks again"
    assert ended["wait for groups that are stuck"][0] == "done"
    assert ended["wait for groups later"][0] == "deferred"


def test_before_any_day_is_known_a_run_waits_for_the_runs_of_groups_that_it_reads_if_there_are_some(ended: dict[str, Any]) -> None:
    assert ended["wait for groups that are at work first"][:2] == ["looks again", 10]
    assert ended["wait for groups that have no run"][:2] == ["done", ""]


def test_of_syncs_that_wait_one_behind_the_other_the_last_one_does_the_work(ended: dict[str, Any]) -> None:
    assert ended["follow"][2] == ["--sound-only sync"]
    assert ended["follow one that waits"][:3] == ["AirflowSkipException", LEFT, []]


@pytest.mark.parametrize("case", ["by hand", "complete", "repaired", "is stale"])
def test_a_training_set_is_built_when_all_of_its_groups_have_published_a_day(ended: dict[str, Any], case: str) -> None:
    assert ended[f"training set {case}"][0] == "done"


@pytest.mark.parametrize(("case", "lacking"), [("lacks hours", "pace"), ("lacks a group", "pace"), ("is rejected", "spend")])
def test_a_training_set_waits_for_a_group_that_lacks_some_of_the_day(ended: dict[str, Any], case: str, lacking: str) -> None:
    kind, said, called, *_ = ended[f"training set {case}"]
    assert (kind, said) == ("AirflowSkipException", f"2013-01-06 is not published yet by {lacking}, which will start another run")
    assert called == [f"--sound-only status spend pace {DAY}"]


@pytest.mark.parametrize("task", ["ingest", "materialize", "compute"])
def test_of_a_run_that_was_cancelled_all_tasks_are_to_be_cleared_or_nobody_would_hear_of_its_day(ended: dict[str, Any], task: str) -> None:
    kind, said, called, *_ = ended[f"{task} cancelled and cleared"]
    assert (kind, called) == ("AirflowFailException", [])
    assert said == "this run was cancelled, so that its later tasks stay skipped; clear the whole run, not its failed tasks alone"
    assert ended[f"{task} cancelled and cleared whole"][2] != []
    assert ended[f"{task} cancelled never"][2] != []


LEFT = "another run of this DAG waits, and will do what is left for this one"
SPAN = "--sound-only status spend pace --from 2013-01-0{}T00:00:00Z --to 2013-01-07T00:00:00Z"


def test_of_runs_that_wait_one_behind_the_other_the_last_one_looks_at_the_days_of_all(ended: dict[str, Any]) -> None:
    assert ended["training set one waits"][:3] == ["done", "training_set", []]
    for case, since in (("left to it", 4), ("left and failed", 4), ("left since ever", 3)):
        assert ended[f"training set {case}"][:3] == ["done", "", [SPAN.format(since)]]
    kind, said, called, *_ = ended["training set left and none complete"]
    assert (kind, said) == ("AirflowSkipException", "2013-01-06 is not published yet by spend, pace, which will start another run")
    assert called == [SPAN.format(4)]


@pytest.mark.parametrize("case", ["left and done", "left and looked at"])
def test_what_was_looked_at_since_it_was_left_is_not_looked_at_again(ended: dict[str, Any], case: str) -> None:
    assert ended[f"training set {case}"][0::2][:2] == ["AirflowSkipException", [SPAN.format(6)]]


def test_what_a_person_asked_for_is_built_by_the_run_that_it_was_left_to(ended: dict[str, Any]) -> None:
    assert ended["training set by hand, one waits"][:3] == ["done", "", []]  # the next task leaves it to the run that waits
    assert ended["training set left by hand"][:3] == ["done", "", []]


def test_the_last_task_tells_of_a_red_run_that_no_person_started_and_an_address_that_is_away_fails_nothing(
    ended: dict[str, Any],
) -> None:
    told = [{"text": "fg__spend: it is late\nhttp://airflow/log"}]
    assert ended["alerts"] == {"last": told, "refused": told, "inner": [], "by hand": [], "of a backfill": [], "nowhere": []}
