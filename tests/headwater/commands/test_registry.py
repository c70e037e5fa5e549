"""`explain` and `registry`: the story of a value, what is remembered, who works on what."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from lake import facts
from tests import projects
from tests.projects import Shop, command, within


def test_a_registry_is_rebuilt_only_where_nothing_is_lost_by_it(rejected: Path) -> None:
    refused = within("registry", "rebuild", project=rejected)
    assert (refused.code, refused.out) == (2, "")
    assert "the registry holds facts already" in refused.err
    assert "headwater registry rebuild --replace" in refused.err
    replaced = within("registry", "rebuild", "--replace", "--json", project=rejected)
    counts = {"files": 0, "revisions": 0, "entries": 0, "publishes": 0, "generations": 0, "promotions": 1, "releases": 0, "epochs": 0}
    assert replaced.json == {
        "restored": counts,
        "not_restored": ["tiles"],
    }  # the ledger was written by hand: the lake has none of it
    assert "restored from the lake: 0 files, 0 revisions" in within("registry", "rebuild", "--replace", project=rejected).out


def test_a_registry_that_was_moved_is_used_where_it_is_now(rejected: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = f"sqlite:///{tmp_path}/there.db"
    before = within("status", "--json", project=rejected).json["intervals"]
    moved = within("registry", "move", "--to", there, "--json", project=rejected).json
    assert (moved["moved_to"], moved["set"]) == (f"the registry {tmp_path}/there.db", "HEADWATER_REGISTRY_URL")
    assert moved["rows"]["promotions"] == 1
    refused = within("status", project=rejected)
    assert (refused.code, refused.out) == (2, "")
    assert f"was moved: it is the registry {tmp_path}/there.db now; set HEADWATER_REGISTRY_URL" in refused.err.replace("\n", " ")
    monkeypatch.setenv("HEADWATER_REGISTRY_URL", there)
    assert within("status", "--json", project=rejected).json["intervals"] == before
    said = within("registry", "move", "--to", f"sqlite:///{rejected}/.headwater/registry.db", project=rejected).out
    assert "now set HEADWATER_REGISTRY_URL" in said


def test_a_url_that_names_no_database_is_the_callers_mistake(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = within("registry", "move", "--to", "nowhere", project=fresh)
    monkeypatch.setenv("HEADWATER_REGISTRY_URL", "nowhere")
    for done in (moved, within("status", project=fresh)):
        assert (done.code, "names no database that can be used" in done.err.replace("\n", " ")) == (2, True)


def test_a_json_document_may_be_asked_for_before_the_verb_of_the_registry_too(fresh: Path) -> None:
    assert within("registry", "--json", "leases", project=fresh).json == {"leases": []}


def test_an_entity_of_a_group_that_was_never_published_has_a_short_story(fresh: Path) -> None:
    story = within("explain", "customer_spend", "customer_id=1", "--json", project=fresh).json
    assert (story["status"], story["row"], story["run"], story["events"]) == ("EXPIRED", None, None, [])
    assert "EXPIRED" in within("explain", "customer_spend", "customer_id=1", project=fresh).out


def test_explain_tells_the_row_the_publish_the_run_and_the_events_of_a_value(shop: Shop) -> None:
    story = within("explain", "spend", "customer_id=1", "--at", "2026-01-05T06:00:00Z", "--json", project=shop.folder).json
    (published,) = {i["publish_id"] for i in shop.status.json["intervals"] if i["group"] == "spend" and i["publish_id"]}
    assert (story["status"], story["entity"], story["coverage"]) == ("PRESENT", {"customer_id": 1}, "2026-01-05T00:00:00Z")
    assert story["values"] == {"paid_1d": 4.5, "paid_3d": 15.0, "payments_1d": 1, "mean_paid_1d": 4.5}
    row = story["row"]
    assert (row["event_timestamp"], row["interval_start"], row["publish_id"]) == ("2026-01-05T00:00:00Z", "2026-01-04T00:00:00Z", published)
    assert (row["basis"], row["known_from"]) == ("MODELLED", "2026-01-05T00:00:00Z")
    assert (story["run"]["run_id"], story["run"]["revision"], story["run"]["state"]) == (published, 1, "PUBLISHED")
    assert [(e["payment_id"], e["amount"], e["revision"], e["came_later"]) for e in story["events"]] == [
        ("p2", 4.5, 1, False), ("p1", 10.5, 1, False),
    ]  # fmt: skip
    shown = within("explain", "spend", "customer_id=1", "--at", "2026-01-05T06:00:00Z", project=shop.folder)
    assert shown.code == 0
    assert all(text in shown.out for text in ("PRESENT", published, "MODELLED", "2 events of payments", "data/payments/first.csv"))


def test_explain_answers_within_three_seconds_without_spark(shop: Shop) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = command("explain", "spend", "customer_id=1", "--at", "2026-01-05T06:00:00Z", "--project", shop.folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.code == 0
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3


def test_leases_tell_who_works_on_what(shop: Shop, tmp_path: Path) -> None:
    folder = shop.copied(tmp_path)
    assert within("registry", "leases", project=folder).out.strip() == "nobody works on anything"
    with projects.opened(folder) as p, p._alone(p.catalog.groups["spend"]):
        said, found = within("registry", "leases", project=folder).out, within("registry", "leases", "--json", project=folder).json
    (lease,) = found["leases"]
    assert (lease["name"], lease["pid"], lease["may_be_taken_over"]) == ("group spend", os.getpid(), False)
    assert "group spend" in said
    assert str(os.getpid()) in said


def test_a_registry_that_was_lost_is_refused_until_it_is_rebuilt_from_the_lake(shop: Shop, tmp_path: Path) -> None:
    folder = shop.copied(tmp_path)
    with projects.opened(folder) as p:
        expected = p._registry.facts()
    for file in (folder / ".headwater").glob("registry.db*"):
        file.unlink()
    for words in (("status",), ("ingest",), ("materialize",), ("sync",)):
        refused = within(*words, project=folder)
        assert (refused.code, refused.out) == (2, "")
        assert refused.err.strip().endswith("Restore it from the lake: headwater registry rebuild")
    assert within("registry", "rebuild", project=folder).code == 0
    with projects.opened(folder) as p:
        assert p._registry.facts() == expected
    assert within("status", "--json", project=folder).json["intervals"] == shop.status.json["intervals"]


def test_a_registry_that_is_older_than_the_last_ingest_is_refused_until_it_is_rebuilt(shop: Shop, tmp_path: Path) -> None:
    folder = shop.copied(tmp_path)
    backup = shutil.copytree(folder / ".headwater", tmp_path / "backup")
    projects.write(folder, "data/payments/later.csv", projects.rows("p900,1,2.5,no,2026-01-02T06:00:00Z,2026-01-06T09:00:00Z"))
    assert within("ingest", "payments", project=folder).code == 0
    expected = within("status", "--json", project=folder).json["intervals"]
    shutil.rmtree(folder / ".headwater")
    shutil.copytree(backup, folder / ".headwater")
    _is_refused_until_rebuilt(folder)
    assert within("status", "--json", project=folder).json["intervals"] == expected


def test_a_registry_that_was_rebuilt_can_be_used_though_a_clock_was_set_back_between_two_ingests(tmp_path: Path) -> None:
    folder = projects.shop(tmp_path)
    for hours, amount in ((0, "10.5"), (-3, "11.5")):
        projects.write(folder, "data/payments/first.csv", projects.rows(projects.PAYMENTS[0].replace("10.5", amount)))
        assert within("ingest", "payments", project=folder, now=projects.NOW + timedelta(hours=hours)).code == 0
    for file in (folder / ".headwater").glob("registry.db*"):
        file.unlink()
    assert within("registry", "rebuild", project=folder).code == 0
    assert within("ingest", "payments", "--json", project=folder).json["sources"][0]["dates_changed"] == 0


def test_a_registry_that_is_older_than_the_last_publish_is_refused_until_it_is_rebuilt(shop: Shop, tmp_path: Path) -> None:
    folder = shop.copied(tmp_path)
    newest = facts.newest_commit(str(folder / "lake"))
    with closing(sqlite3.connect(folder / ".headwater" / "registry.db")) as registry, registry:
        for table in ("ledger", "publishes"):
            registry.execute(f"DELETE FROM {table} WHERE publish_id = ?", (newest,))
    _is_refused_until_rebuilt(folder)
    assert within("status", "--json", project=folder).json["intervals"] == shop.status.json["intervals"]


def _is_refused_until_rebuilt(folder: Path) -> None:
    for words in (("status",), ("ingest",), ("materialize",), ("sync",)):
        refused = within(*words, project=folder)
        assert (refused.code, refused.out) == (2, "")
        assert refused.err.strip().endswith("Restore it from the lake: headwater registry rebuild --replace")
    assert within("registry", "rebuild", "--replace", project=folder).code == 0
