"""The DAGs under a real scheduler, from the first run to recoveries; each test goes on where the one before it ended."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.scheduler.conftest import ASKING, BAD, CAUGHT_UP, DAYS, FILLED, day

if TYPE_CHECKING:
    from tests.scheduler.conftest import Shop

GROUPS = ("spend", "pace", "level")
GREEN = {
    "wait": "success",
    "ingest": "success",
    "materialize": "success",
    "restate": "skipped",
    "warnings": "skipped",
    "publish": "success",
}
RED = {"wait": "success", "ingest": "success", "materialize": "failed", "warnings": "upstream_failed", "publish": "failed"}
BUILT = {"complete": "success", "training_set": "success"}
WAITING = {"wait": "success", "ingest": "success", "materialize": "skipped", "publish": "failed"}


CAUGHT = [str(day(back)) for back in range(CAUGHT_UP, 0, -1)]
"""The data days that have scheduled runs, the oldest first."""
WRONG = str(day(BAD))


def computed(system: Shop, run: dict[str, object], task: str = "ingest") -> list[str]:
    """What a task of a run says that it computes."""
    return [line for line in system.log(run, task) if re.fullmatch(r"\w+: computing \d+ intervals?", line)]


def followed(system: Shop) -> set[str]:
    """The days that all groups of the training set had published when one of its runs looked."""
    said = [line for run in system.quiet("ts__refunds") for line in system.log(run, "complete")]
    return {date for line in said if line.startswith("published by all groups: ") for date in line.partition(": ")[2].split(", ")}


@pytest.mark.parametrize("group", GROUPS)
def test_each_of_five_days_has_a_scheduled_run_whose_colour_is_what_the_ledger_says_of_it(system: Shop, group: str) -> None:
    runs = {key: system.ended(f"fg__{group}", key) for key in CAUGHT}
    assert {(run["run_type"], run["dag_run_id"].split("__")[2]) for run in runs.values()} == {("scheduled", key) for key in CAUGHT}
    wrong = () if group == "pace" else (WRONG,)
    assert {key: run["state"] for key, run in runs.items()} == {key: "failed" if key in wrong else "success" for key in CAUGHT}
    ledger = system.ledger()[group]
    assert {key for key in CAUGHT if ledger[key]["status"] != "OK"} == set(wrong)
    later = {"restate": "failed"} if wrong else {}  # a day that late events may still change is not as it should be
    for key in CAUGHT:
        if key not in wrong:
            assert system.states(runs[key]) == {**GREEN, **(later if key > WRONG else {})}
    assert f"the data day of this run: {CAUGHT[-1]} of {group}" in system.log(runs[CAUGHT[-1]], "ingest")


def test_the_first_run_that_makes_up_for_days_computes_them_all_and_only_one_of_its_processes_starts_java(system: Shop) -> None:
    runs = [system.ended("fg__spend", key) for key in CAUGHT]
    assert [computed(system, run) for run in runs] == [["spend: computing 8 intervals"], [], [], [], []]
    started = {task: system.log(runs[0], task).count("starting Spark") for task in ("ingest", "materialize", "publish")}
    assert started == {"ingest": 1, "materialize": 0, "publish": 0}


def test_what_was_published_triggers_the_sync_and_the_training_set(system: Shop) -> None:
    system.until(lambda: {*CAUGHT} - {WRONG} <= followed(system))
    assert WRONG not in followed(system)
    assert [run["state"] for run in system.quiet("sync__published")][-1] == "success"
    assert system.states(system.quiet("ts__refunds")[-1]) == BUILT
    told = {(event["name"], event["partition_key"]): event["extra"] for event in system.events()}
    wrong = {("features.spend", WRONG), ("features.level", WRONG)}
    assert set(told) == {(f"features.{group}", key) for group in GROUPS for key in CAUGHT} - wrong
    assert (told["features.spend", CAUGHT[-1]]["rows"], told["features.spend", CAUGHT[-1]]["verdict"]) == (2, "passed")


def test_a_rejected_day_stops_its_consumers_says_why_and_recovers_by_only_failed(system: Shop) -> None:
    run, level = system.ended("fg__spend", WRONG), system.ended("fg__level", WRONG)
    assert {task: state for task, state in system.states(run).items() if task in RED} == RED
    last = [line for line in system.log(run, "materialize") if not line.startswith("::")][-1]
    assert last.startswith(f"spend {WRONG}: the gate rejected it: failed spent_1d:at_least(0); for example customer_id=2 ")
    assert "report: " in last
    assert "correct payments, or let later ones pass: headwater release spend " in last
    assert {task: state for task, state in system.states(level).items() if task in WAITING} == WAITING
    for red in (run, level):
        (told,) = (text for text in system.alerts if text.startswith(f"{red['dag_id']}: "))
        line, address = told.removeprefix(f"{red['dag_id']}: ").splitlines()
        assert line in system.log(red, "publish")
        assert f"/dags/{red['dag_id']}/runs/" in address

    system.pay(day(BAD), 10, 21)
    for red in (run, level):
        system.clear_failed(red)
        assert system.finished(red["dag_id"], red["dag_run_id"])["state"] == "success"
    ledger = system.ledger()
    assert (ledger["spend"][WRONG]["status"], ledger["level"][WRONG]["status"]) == ("OK", "OK")
    system.until(lambda: WRONG in followed(system))
    assert system.states(system.quiet("ts__refunds")[-1]) == BUILT


def test_the_report_of_a_group_is_shown_to_who_is_logged_in_and_to_nobody_else(system: Shop) -> None:
    status, text = system.page("/headwater/reports/fg__spend", token=system.token)
    assert (status, 'src="fg__spend/newest.html"' in text) == (200, True)
    status, text = system.page("/headwater/reports/fg__spend/newest.html", token=system.token)
    assert (status, "spent_1d" in text) == (200, True)
    for path in ("/headwater/reports/fg__spend", "/headwater/reports/fg__spend/newest.html"):
        assert system.page(path, token="")[0] == 401
        assert system.page(path, token=system.token[:-2])[0] in (401, 403)
    assert system.page("/headwater/reports/fg__unheard", token=system.token)[0] == 404


def test_airflow_draws_which_dags_an_asset_starts(system: Shop) -> None:
    """It could not with another driver of PostgreSQL."""
    asset = next(each["id"] for each in system.ask("GET", "/assets")["assets"] if each["name"] == "features.spend")
    status, text = system.page(f"/ui/dependencies?node_id=asset:{asset}", token=system.token)
    assert (status, "dag:ts__refunds" in text) == (200, True)


def test_the_sync_runs_each_hour_too(system: Shop) -> None:
    assert system.quiet("sync__online")[-1]["state"] == "success"


def test_a_backfill_computes_five_days_of_a_group_in_one_job_and_consumers_follow(system: Shop) -> None:
    groups = ("spend", "pace")  # those of the training set
    days = [str(day(back)) for back in range(FILLED, FILLED - 5, -1)]
    for group in groups:
        system.backfill(f"fg__{group}", day(FILLED), day(FILLED - 4))
    for group in groups:
        runs = [system.ended(f"fg__{group}", key) for key in days]
        assert [run["state"] for run in runs] == ["success"] * 5
        assert [line for run in runs for line in computed(system, run)] == [f"{group}: computing 5 intervals"]
    ledger, told = system.ledger(), system.told()
    for group in groups:
        assert {ledger[group][key]["status"] for key in days} == {"OK"}
        assert ledger[group][str(day(FILLED + 1))]["publish_id"] is None
        assert told[group] == {*days, *CAUGHT}
    system.until(lambda: {*days, *CAUGHT} == followed(system))


def test_a_late_event_runs_what_it_made_stale_again_and_nothing_else(system: Shop) -> None:
    before = system.ledger()
    system.pay(day(2), 10, 22)
    system.command("ingest")
    system.switch("reconcile", paused=False)
    system.finished("reconcile", system.trigger("reconcile"))
    runs = system.quiet("reconcile")
    assert [line for run in runs for line in computed(system, run, "start")] == [
        "spend: computing 1 interval", "pace: computing 2 intervals", "level: computing 1 interval",
    ]  # fmt: skip
    system.switch("reconcile", paused=True)
    after = system.ledger()
    for group in GROUPS:
        again = {str(day(2)), WRONG} if group == "pace" else {str(day(2))}  # no run of it has begun since that payment was corrected
        assert {at for at, each in after[group].items() if each["publish_id"] != before[group][at]["publish_id"]} == again
        assert after[group][str(day(2))]["status"] == "OK"
    built = system.quiet("ts__refunds")[-1]
    assert any(line.startswith("published by all groups: ") and str(day(2)) in line for line in system.log(built, "complete"))
    assert system.states(built) == BUILT


def test_a_range_is_computed_in_one_job_and_all_its_partitions_are_marked(system: Shop) -> None:
    for dag in ("ts__refunds", "sync__published", "sync__online"):
        system.switch(dag, paused=True)  # all that is tested of them came before this; they would go on to follow each publish
    asked = {"groups": ["pace"], "from": str(day(DAYS)), "to": str(day(FILLED + 1)), "mode": "missing", "chunk_days": 90, "dry_run": False}
    run = system.finished("backfill__range", system.trigger("backfill__range", **asked))
    assert run["state"] == "success"
    assert computed(system, run, "materialize") == ["pace: computing 30 intervals"]
    told = system.told()
    assert {str(day(back)) for back in range(FILLED + 1, DAYS + 1)} <= told["pace"]
    assert not any(None in keys for keys in told.values())


@pytest.fixture(scope="module")
def asking(system: Shop) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Of the last two days, the run of a new group that asks a person, and that of the group which reads it; both wait."""
    for back in (1, 2):
        system.pay(day(back), 50, 500, into="charges")
    (system.folder / "catalog" / "fees.py").write_text(ASKING, encoding="utf-8")
    system.kill("dag-processor")
    system.up(HEADWATER_CATCH_UP_FROM="")  # so the new groups have a scheduled run of yesterday alone
    dags, yesterday, before = ("fg__fees", "fg__burden"), str(day(1)), str(day(2))
    runs = {
        yesterday: tuple(system.begun(dag, yesterday) for dag in dags),
        before: tuple(system.start(dag, before) for dag in dags),
    }
    for key, (fees, burden) in runs.items():
        question = system.asked(fees)
        assert question["subject"] == f"Publish fees {key}?"
        assert "warning: charged_1d:at_most(100); report: " in question["body"]
        system.until(lambda burden=burden: "up_for_reschedule" in system.states(burden).values())
    system.listened()  # to answer before it has heard that the task is paused is a failure to it, and the task is tried again later
    return runs


def test_what_a_person_publishes_is_published_and_its_readers_follow(system: Shop, asking: dict[str, Any]) -> None:
    key, (fees, burden) = str(day(1)), asking[str(day(1))]
    before = system.ledger()
    assert (before["fees"][key]["publish_id"], before["burden"][key]["status"]) == (None, "WAITING")
    assert system.states(fees)["publish"] is None
    system.answer(fees, "Publish")
    for run in (fees, burden):
        assert system.finished(run["dag_id"], run["dag_run_id"])["state"] == "success"
    assert system.states(fees)["approve"] == "success"
    after = system.ledger()
    assert (after["fees"][key]["status"], after["burden"][key]["status"]) == ("OK", "OK")
    assert {"fees", "burden"} <= system.told().keys()


def test_what_a_person_refuses_is_rejected_and_its_readers_say_so(system: Shop, asking: dict[str, Any]) -> None:
    key, (fees, burden) = str(day(2)), asking[str(day(2))]
    system.answer(fees, "Refuse", reason="500 is a typing error")
    for run in (fees, burden):
        assert system.finished(run["dag_id"], run["dag_run_id"])["state"] == "failed"
    assert system.log(fees, "publish")[-2].startswith(f"fees {key}: the gate rejected it: failed approval (refused: 500 is a typing error)")
    assert f"waits for fees {key}T00:00:00Z" in system.log(burden, "publish")[-2]
    after = system.ledger()
    assert (after["fees"][key]["status"], after["burden"][key]["status"]) == ("REJECTED", "WAITING")


@pytest.fixture(scope="module")
def killed(system: Shop) -> str:
    """A run that computes a range, whose worker was killed with all that it had started."""
    asked = {"groups": ["spend"], "from": str(day(DAYS)), "to": str(day(FILLED + 1)), "mode": "missing", "chunk_days": 90, "dry_run": False}
    run_id = system.trigger("backfill__range", **asked)
    system.until(lambda: "starting Spark" in system.log(system.run("backfill__range", run_id), "materialize"))
    pid = system.working("materialize")
    assert pid is not None
    system.kill_worker(pid)
    return run_id


def test_a_broken_file_is_an_import_error_and_the_other_dags_run_on(system: Shop, killed: str) -> None:
    (system.folder / "catalog" / "broken.py").write_text("x = = 1\n", encoding="utf-8")
    errors = system.until(lambda: system.ask("GET", "/importErrors")["import_errors"])
    assert [error["filename"] for error in errors] == ["catalog_mistakes.py"]
    assert "broken.py:1: this is not Python" in errors[0]["stack_trace"]
    system.backfill("fg__pace", day(2), day(2), reprocess="completed")
    assert system.ended("fg__pace", str(day(2)))["state"] == "success"
    (system.folder / "catalog" / "broken.py").unlink()
    system.until(lambda: not system.ask("GET", "/importErrors")["import_errors"])


def test_what_a_killed_worker_was_at_is_done_by_another_one(system: Shop, killed: str) -> None:
    run = system.finished("backfill__range", killed)
    assert run["state"] == "success"
    ledger = system.ledger()["spend"]
    assert {ledger[str(day(back))]["status"] for back in range(FILLED + 1, DAYS + 1)} == {"OK"}
    assert {str(day(back)) for back in range(FILLED + 1, DAYS + 1)} <= system.told()["spend"]


def test_what_a_killed_scheduler_was_at_is_done_when_the_system_is_started_again_although_the_catalog_has_a_mistake(system: Shop) -> None:
    broken = system.folder / "catalog" / "broken.py"
    asked = {"groups": ["level"], "from": str(day(DAYS)), "to": str(day(FILLED + 1)), "mode": "missing", "chunk_days": 90, "dry_run": False}
    run_id = system.trigger("backfill__range", **asked)
    system.until(lambda: system.working("materialize"))
    system.kill("scheduler")
    system.kill("serving")
    broken.write_text("x = = 1\n", encoding="utf-8")
    system.up()  # it waits until the server answers, which leaves out what rests on the file
    broken.unlink()
    assert system.finished("backfill__range", run_id)["state"] == "success"
    ledger = system.ledger()["level"]
    assert {ledger[str(day(back))]["status"] for back in range(FILLED + 1, DAYS + 1)} == {"OK"}
