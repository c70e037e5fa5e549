"""The tab Report, as Airflow's API server answers it; who may read a DAG is Airflow's to say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.dags.conftest import SHOP, project

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Airflow

    from tests.s3 import Server

KEPT = "p01764237600000000-4f1a2b.html"
ASK = """
from datetime import UTC, datetime
from types import SimpleNamespace
from fastapi.testclient import TestClient
from dags import reports

known = ("fg__spend", "fg__pace", "ts__churn", "ts__loyal", "reconcile")
reports.DagModel = SimpleNamespace(get_current=lambda dag: dag if dag in known else None)
at = lambda hour, minute: datetime(2025, 11, 27, hour, minute, tzinfo=UTC)
times = {
    "scheduled__2025-11-27T00:00:00+00:00__x": (at(9, 59), None), "manual__short": (at(9, 58), at(9, 59)),
    "manual__later": (at(11, 0), None),
}
reports.DagRun = SimpleNamespace(find=lambda dag_id, run_id: [
    SimpleNamespace(start_date=times[each][0], end_date=times[each][1]) for each in run_id if each in times])
client = TestClient(reports.app)
locked = [client.get(path).status_code for path in ("/reports/fg__spend", "/runs/fg__spend/manual__short")]
reports.app.dependency_overrides[reports.READERS[0].dependency] = lambda: None

def ask(path):
    answered = client.get(path)
    return {"status": answered.status_code, "text": answered.text, "policy": answered.headers.get("content-security-policy")}
"""


@pytest.fixture(scope="module")
def answers(airflow: Airflow, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is answered about a project of whose groups one was judged."""
    made = project(tmp_path_factory.mktemp("judged") / "shop", SHOP)
    folder = made / "lake" / "reports" / "spend"
    folder.mkdir(parents=True)
    for name in ("newest.html", KEPT, "p01764237500000000-aaaaaa.html"):
        (folder / name).write_text(f"<p>this is {name}</p>", encoding="utf-8")
    (folder / "suite.json").write_text("{}", encoding="utf-8")
    builds = made / "lake" / "training_sets" / "churn.builds"
    builds.mkdir(parents=True)
    (builds / KEPT).write_text("<p>a build</p>", encoding="utf-8")
    (made / "lake" / "secret.html").write_text("marked", encoding="utf-8")
    spend = "/reports/fg__spend"
    paths = {
        "tab": spend,
        "newest": f"{spend}/newest.html",
        "kept": f"{spend}/{KEPT}",
        "suite": f"{spend}/suite.json",
        "up": f"{spend}/..%2F..%2Fsecret.html",
        "down": "/reports/..%2F..%2Fsecret/newest.html",
        "unjudged": "/reports/fg__pace",
        "gone": f"/reports/fg__pace/{KEPT}",
        "training": "/reports/ts__churn",
        "build": f"/reports/ts__churn/{KEPT}",
        "unbuilt": "/reports/ts__loyal",
        "of_all": "/reports/reconcile",
        "unknown": "/reports/fg__other",
        "run": "/runs/fg__spend/scheduled__2025-11-27T00%3A00%3A00%2B00%3A00__x",
        "short_run": "/runs/fg__spend/manual__short",
        "good_run": "/runs/fg__spend/manual__later",
        "run_of_build": "/runs/ts__churn/scheduled__2025-11-27T00%3A00%3A00%2B00%3A00__x",
        "run_of_all": "/runs/reconcile/manual__short",
        "unknown_run": "/runs/fg__spend/manual__other",
    }
    program = f"{ASK}answer = {{name: ask(path) for name, path in {paths}.items()}} | {{'locked': locked}}"
    found: dict[str, Any] = airflow.python(program, project=made)
    return found


def test_nothing_is_answered_to_who_is_not_logged_in(answers: dict[str, Any]) -> None:
    assert answers["locked"] == [401, 401]


def test_the_tab_shows_the_newest_report_and_links_those_in_which_something_did_not_hold(answers: dict[str, Any]) -> None:
    text = answers["tab"]["text"]
    assert 'src="fg__spend/newest.html"' in text
    assert text.index("2025-11-27T10:00:00Z") < text.index("2025-11-27T09:58:20Z")
    assert f'href="fg__spend/{KEPT}"' in text
    assert answers["newest"]["text"] == "<p>this is newest.html</p>"
    assert answers["kept"]["text"] == f"<p>this is {KEPT}</p>"


def test_the_tab_of_a_run_shows_what_began_while_it_was_at_work(answers: dict[str, Any]) -> None:
    text = answers["run"]["text"]
    assert f'src="../../reports/fg__spend/{KEPT}"' in text
    assert "<nav> Computed while this run was at work: <a " in text
    assert "p01764237500000000-aaaaaa.html" not in answers["run"]["text"]
    assert 'src="../../reports/fg__spend/p01764237500000000-aaaaaa.html"' in answers["short_run"]["text"]
    assert f'src="../../reports/ts__churn/{KEPT}"' in answers["run_of_build"]["text"]
    assert "Nothing that was computed while this run was at work has a page of its own." in answers["good_run"]["text"]
    assert "reconcile is the DAG of no group and no training set" in answers["run_of_all"]["text"]
    assert answers["unknown_run"]["status"] == 404


def test_the_tab_of_a_training_set_shows_its_builds(answers: dict[str, Any]) -> None:
    text = answers["training"]["text"]
    assert f'src="ts__churn/{KEPT}"' in text
    assert "Builds: <a " in text
    assert answers["build"]["text"] == "<p>a build</p>"


def test_a_page_may_run_nothing_and_ask_nobody_in_the_readers_browser(answers: dict[str, Any]) -> None:
    for name in ("tab", "newest", "kept", "unjudged"):
        assert answers[name]["policy"].startswith("default-src 'none';")
        assert "script" not in answers[name]["policy"]


def test_what_has_no_report_says_so(answers: dict[str, Any]) -> None:
    assert "The gate has judged nothing of pace yet" in answers["unjudged"]["text"]
    assert "loyal was not built yet" in answers["unbuilt"]["text"]
    assert "reconcile is the DAG of no group and no training set" in answers["of_all"]["text"]
    assert (answers["gone"]["status"], answers["unknown"]["status"]) == (404, 404)


def test_nothing_but_reports_of_known_groups_can_be_asked_for(answers: dict[str, Any]) -> None:
    for name in ("suite", "up", "down"):
        assert answers[name]["status"] == 404
        assert "marked" not in answers[name]["text"]


def test_reports_are_read_where_they_lie_on_s3_and_what_s3_refuses_is_said(airflow: Airflow, shop: Path, moto: Server) -> None:
    bucket = moto.bucket("reports")
    program = f"""{ASK}
import os
from lake import storage
storage.write("s3a://reports/lake/reports/spend/newest.html", b"<p>on S3</p>")
answer = {{"tab": ask("/reports/fg__spend"), "newest": ask("/reports/fg__spend/newest.html")}}
os.environ["HEADWATER_LAKE"] = "s3a://nowhere/lake"
answer["refused"] = ask("/reports/fg__spend")
os.environ["HEADWATER_PROJECT"] = "/nowhere"
answer["no_project"] = ask("/reports/fg__spend/newest.html")
"""
    found = airflow.python(program, project=shop, HEADWATER_LAKE=f"{bucket}/lake", **moto.environment)
    assert 'src="fg__spend/newest.html"' in found["tab"]["text"]
    assert found["newest"]["text"] == "<p>on S3</p>"
    assert (found["refused"]["status"], "The reports cannot be read" in found["refused"]["text"]) == (502, True)
    assert (found["no_project"]["status"], "/nowhere is no Headwater project" in found["no_project"]["text"]) == (502, True)
    assert not [secret for name, secret in moto.environment.items() if "SECRET" in name and secret in found["refused"]["text"]]
