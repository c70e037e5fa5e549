"""The `headwater` command as its users and their scripts know it: exit codes, one JSON document, sentences that teach, no tracebacks."""

from __future__ import annotations

import http.client
import json
import os
import re
import resource
import runpy
import shlex
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from deltalake import DeltaTable
from typer.main import get_command

import headwater
from examples import starter
from headwater.commands import app
from tests import ledgers, projects
from tests.headwater.fields import verbs
from tests.projects import Done, Shop, command, within

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyspark.sql import SparkSession

VERBS = (
    "demo", "init", "new", "check", "plan", "ingest", "materialize", "status", "promote", "release", "explain", "registry", "optimize",
    "training-set", "sync", "serve", "get", "down",
)  # fmt: skip
ISO = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{6})?Z")


def delta(path: str | Path) -> pd.DataFrame:
    """A Delta table's rows, without Spark."""
    from lake import delta

    frame: pd.DataFrame = delta.load(str(path)).to_pandas()
    return frame


# ----------------------------------------------------------------------------------------------------------------- without Spark


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What `headwater init` makes, before anything was done with it."""
    folder = starter.make(tmp_path_factory.mktemp("fresh") / "shop")
    yield folder
    within("down", project=folder)


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_shows_an_example_and_the_exit_codes(verb: str) -> None:
    shown = within(verb, "--help")
    assert shown.code == 0
    assert re.search(rf"example:\s+headwater {verb}", shown.out)
    assert "2  your mistake" in shown.out


@pytest.mark.parametrize(("name", "verb"), [pytest.param(*each, id=each[0]) for each in verbs(get_command(app))])
def test_the_example_in_the_help_of_every_verb_parses(name: str, verb: Any) -> None:
    (example,) = re.findall(r"example:\n  (headwater .*)", verb.epilog)
    words = shlex.split(example, comments=True)[1:]
    command = get_command(app)
    while hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
    with command.make_context(name, words) as context:
        assert context.params["project"] is None
    assert example.startswith(f"headwater {name}")


def test_the_verbs_are_those_that_scripts_know() -> None:
    assert {name for name, _ in verbs(get_command(app))} == {*VERBS, "registry leases", "registry rebuild"}


def test_the_version_is_that_of_the_package() -> None:
    assert within("--version").out == f"headwater {headwater.__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_a_completion_script(shell: str) -> None:
    script = command("--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert (script.code, "_HEADWATER_COMPLETE" in script.out) == (0, True)


def test_completion_knows_verbs_and_choices() -> None:
    def completed(words: str) -> list[str]:
        return command(_HEADWATER_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(words.count(" "))).out.split()

    assert completed("headwater mat") == ["materialize"]
    assert completed("headwater plan --only ") == ["missing", "stale", "all"]


def test_help_lists_every_verb() -> None:
    shown = within("--help")
    assert shown.code == 0
    assert all(re.search(rf"^. {verb}\b", shown.out, re.MULTILINE) for verb in VERBS)


@pytest.mark.parametrize("verb", [("plan",), ("materialize",)])
def test_help_says_that_the_end_of_a_range_is_exclusive(verb: tuple[str]) -> None:
    assert "exclusive" in within(*verb, "--help").out


WITHOUT_SPARK = {
    "check": ("check",),
    "status": ("status", "--json"),
    "plan": ("plan", "--json"),
    "get": ("get", "customer_v1", "customer_id=1", "--json"),
    "down": ("down",),
}
LOADED = """
import atexit, sys
heavy = ("pyspark", "pandas", "great_expectations", "deltalake", "feast", "airflow")
atexit.register(lambda: print("loaded:", *(name for name in heavy if name in sys.modules), file=sys.stderr))
"""


@pytest.mark.parametrize("verb", WITHOUT_SPARK)
def test_a_command_that_needs_no_spark_answers_within_two_seconds_and_loads_nothing_heavy(fresh: Path, verb: str) -> None:
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = command(*WITHOUT_SPARK[verb], "--project", fresh, before=LOADED)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert (done.code, done.err.strip()) == (0, "loaded:")
    # Of the processor's time: what passes on the wall says more about what else the machine does.
    assert min(seconds) < 2


def test_a_project_without_any_table_has_no_intervals_and_nothing_to_do(fresh: Path) -> None:
    path = str(fresh / "lake" / "features" / "customer_spend" / "g1")
    assert within("status", "--json", project=fresh).json == {"intervals": [], "tables": {"customer_spend": path}}
    assert within("plan", "--json", project=fresh).json == {"steps": [], "bill": []}
    assert "nothing is due" in within("plan", project=fresh).out
    assert "nothing ingested yet" in within("status", project=fresh).out


def test_an_entity_of_which_nothing_was_published_is_expired(fresh: Path) -> None:
    (result,) = within("get", "customer_v1", "customer_id=1", "--json", project=fresh).json["results"]
    assert result["entity"] == {"customer_id": 1}
    assert set(result["values"].values()) == {None}
    assert (result["status"], result["event_timestamp"]) == ({"customer_spend": "EXPIRED"}, {"customer_spend": None})


def test_the_project_may_be_named_before_or_after_the_verb_or_be_the_current_folder(fresh: Path) -> None:
    expected = command("status", "--json", cwd=fresh)
    assert expected.code == 0
    assert command("--project", fresh, "status", "--json").json == command("status", "--json", "--project", fresh).json == expected.json
    assert command("status", "--json", HEADWATER_PROJECT=str(fresh)).json == expected.json


def test_check_counts_what_is_defined(fresh: Path) -> None:
    expected = {"mistakes": [], "entities": 1, "sources": 1, "groups": 1, "services": 1, "training_sets": 0}
    assert within("check", "--json", project=fresh).json == expected


MISTAKES = {
    "no verb": ((), "Missing command"),
    "unknown verb": (("materialise",), "No such command 'materialise'. Did you mean 'materialize'?"),
    "unknown option": (("status", "--jsn"), "No such option: --jsn"),
    "port is no number": (("serve", "--port", "http"), "Invalid value for '--port': Input should be a valid integer"),
    "unknown group, plan": (("plan", "customer_spent"), "no group 'customer_spent'. Did you mean 'customer_spend'?"),
    "unknown group, status": (("status", "customer_spent"), "no group 'customer_spent'. Did you mean 'customer_spend'?"),
    "unknown group, materialize": (("materialize", "customer_spent"), "no group 'customer_spent'. Did you mean 'customer_spend'?"),
    "unknown group, sync": (("sync", "customer_spent"), "no group 'customer_spent'. Did you mean 'customer_spend'?"),
    "unknown source": (("ingest", "paymnts"), "no source or group 'paymnts'. Did you mean 'payments'?"),
    "unknown service": (("get", "customer_v2", "customer_id=1"), "no service 'customer_v2'. Did you mean 'customer_v1'?"),
    "unknown key": (("get", "customer_v1", "custmer_id=1"), 'custmer_id is no key of customer_v1; an entity is like {"customer_id": 42}'),
    "no key": (("get", "customer_v1"), 'customer_id is missing; an entity of customer_v1 is like {"customer_id": 42}'),
    "not a key=value": (("get", "customer_v1", "customer_id"), "'customer_id' is not key=value"),
    "key of another type": (("get", "customer_v1", "customer_id=abc"), "customer_id: 'abc' is not an int64"),
    "reversed range": (("plan", "--from", "2026-01-05", "--to", "2026-01-01"), "is reversed or empty: --to is exclusive"),
    "empty range": (("plan", "--from", "2026-01-05", "--to", "2026-01-05"), "is reversed or empty: --to is exclusive"),
    "future end": (("plan", "--to", "2026-01-07"), "--to 2026-01-07T00:00:00Z lies in the future (it is 2026-01-06T12:00:00Z)"),
    "future start": (("materialize", "--from", "2027-01-01"), "--from 2027-01-01T00:00:00Z lies in the future"),
    "unaligned range": (
        ("materialize", "--from", "2026-01-05T06:00:00Z"),
        "is not on the grid of customer_spend, which runs every 1d: write 2026-01-05T00:00:00Z or 2026-01-06T00:00:00Z",
    ),
    "unknown choice": (("plan", "--only", "old"), "'old' is not one of 'missing', 'stale', 'all'"),
    "nothing to promote": (("promote", "customer_spend"), "has no generation 1 that was computed; it has none. Run `headwater materialize"),
    "unknown group, promote": (("promote", "customer_spent"), "no group 'customer_spent'. Did you mean 'customer_spend'?"),
    "nothing to release": (
        ("release", "customer_spend", "--from", "2026-01-03", "--to", "2026-01-04"),
        "no interval of customer_spend in this range is rejected and holds later ones",
    ),
    "release of no range": (("release", "customer_spend"), "Missing option '--from'"),
    "unknown group, explain": (("explain", "customer_spent", "customer_id=1"), "no group 'customer_spent'. Did you mean 'customer_spend'?"),
    "unknown key, explain": (("explain", "customer_spend", "custmer_id=1"), "custmer_id is no key of customer_spend"),
    "key of another type, explain": (("explain", "customer_spend", "customer_id=a"), "customer_id: 'a' is not an int64"),
    "no time": (("explain", "customer_spend", "customer_id=1", "--at", "noon"), "'noon' is not a date; write it like 2026-01-05"),
    "registry verb": (("registry", "repair"), "No such command 'repair'"),
    "unknown group, optimize": (("optimize", "customer_spent"), "no group 'customer_spent'. Did you mean 'customer_spend'?"),
    "too short to keep": (
        ("optimize", "--keep", "6d"),
        "6d is too short: jobs that run may still read files that were replaced; keep them for 7d",
    ),
    "no span": (("optimize", "--keep", "long"), "'long' is not a duration; write a whole number and a unit"),
    "new group's name taken": (("new", "customer_spend"), "there is a group 'customer_spend' already"),
    "new group's source unknown": (("new", "visits", "--source", "visit"), "there is no source 'visit' with events"),
    "no date": (("plan", "--from", "05.01.2026"), "'05.01.2026' is not a date; write it like 2026-01-05"),
    "spine without service": (("training-set", "--spine", "spine.csv"), "--spine needs --service"),
    "no such spine": (("training-set", "--spine", "no.csv", "--service", "customer_v1"), "there is no spine at no.csv"),
    "unknown training set": (("training-set", "churn"), "there is no training set 'churn'"),
    "no training set": (("training-set",), "name a training set, or give a spine and a service"),
    "mode of later": (("training-set", "--spine", "x", "--service", "customer_v1", "--mode", "as_served"), "as_served"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_the_caller_ends_with_2_and_one_sentence_on_stderr(fresh: Path, mistake: str) -> None:
    words, sentence = MISTAKES[mistake]
    done = within(*words, project=fresh if words else None)
    assert (done.code, done.out) == (2, "")
    assert sentence in done.err
    assert "Traceback" not in done.err


def test_a_mistake_ends_a_real_process_with_2_and_no_traceback(fresh: Path) -> None:
    done = command("plan", "customer_spent", "--json", "--project", fresh)
    assert (done.code, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert "Did you mean 'customer_spend'?" in done.err


def test_a_folder_that_is_no_project_is_a_mistake_that_says_how_to_make_one(tmp_path: Path) -> None:
    done = within("status", project=tmp_path)
    assert done.code == 2
    assert f"{tmp_path} is no Headwater project" in done.err
    assert "headwater init" in done.err


def test_an_unknown_variable_is_a_mistake(fresh: Path) -> None:
    done = command("status", "--project", fresh, HEADWATER_LAKES="x")
    assert done.code == 2
    assert "HEADWATER_LAKES is not known" in done.err


def test_init_refuses_a_folder_that_holds_something_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    done = within("init", tmp_path)
    assert done.code == 2
    assert "is not empty; name a new folder" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_makes_or_stops_something_says_so_as_json_too(tmp_path: Path) -> None:
    made = within("init", tmp_path / "shop", "--json")
    assert made.json == {"project": str(tmp_path / "shop"), "next": starter.NEXT}
    assert within("down", "--json", project=tmp_path / "shop").json == {"stopped": False}
    files = within("new", "visits", "--json", project=tmp_path / "shop").json
    assert files == {"group": f"{tmp_path}/shop/catalog/visits.py", "test": f"{tmp_path}/shop/tests/test_visits.py"}


@pytest.mark.parametrize("verb", [name for name, verb in verbs(get_command(app)) if not hasattr(verb, "commands")])
def test_every_verb_has_json(verb: str) -> None:
    assert "--json" in within(*verb.split(), "--help").out


def test_down_says_whether_a_store_was_running_and_may_be_said_twice(fresh: Path) -> None:
    within("get", "customer_v1", "customer_id=1", project=fresh)
    said = [within("down", project=fresh) for _ in range(2)]
    assert [done.code for done in said] == [0, 0]
    assert "stopped" in said[0].out
    assert "was not running" in said[1].out


# ------------------------------------------------------------------------------------- what people decide, on a ledger by hand


@pytest.fixture
def rejected(tmp_path: Path) -> Path:
    """A project whose gate rejected 4 January, so that 5 and 6 January wait."""
    with ledgers.project(tmp_path, now=ledgers.day(7, 12)) as p:
        ledgers.ran(p, {3: "PUBLISHED", 4: "REJECTED"})
    return tmp_path


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
    assert "generation 2 of spend lacks 1 intervals" in refused.err
    assert "headwater promote spend --anyway" in refused.err
    forth = within("promote", "spend", "--anyway", "--json", project=tmp_path, now=now)
    assert [(g["generation"], g["current"]) for g in forth.json["generations"]] == [(1, False), (2, True)]
    back = within("promote", "spend", "--generation", "1", project=tmp_path, now=now)
    assert (back.code, back.out.strip()) == (0, "readers of spend see generation 1 of 1, 2")
    assert back.err.strip() == "it has no total_1d, total_3d: they read as null"


def test_a_registry_is_rebuilt_only_where_nothing_is_lost_by_it(rejected: Path) -> None:
    refused = within("registry", "rebuild", project=rejected)
    assert (refused.code, refused.out) == (2, "")
    assert "the registry holds facts already" in refused.err
    assert "headwater registry rebuild --replace" in refused.err
    replaced = within("registry", "rebuild", "--replace", "--json", project=rejected)
    counts = {"files": 0, "revisions": 0, "entries": 0, "publishes": 0, "generations": 0, "promotions": 1, "releases": 0}
    assert replaced.json == {
        "restored": counts,
        "not_restored": ["syncs", "tiles"],
    }  # the ledger was written by hand: the lake has none of it
    assert "restored from the lake: 0 files, 0 revisions" in within("registry", "rebuild", "--replace", project=rejected).out


def test_an_entity_of_a_group_that_was_never_published_has_a_short_story(fresh: Path) -> None:
    story = within("explain", "customer_spend", "customer_id=1", "--json", project=fresh).json
    assert (story["status"], story["row"], story["run"], story["events"]) == ("EXPIRED", None, None, [])
    assert "EXPIRED" in within("explain", "customer_spend", "customer_id=1", project=fresh).out


BROKEN = {
    "no python": ("def x(:\n", "this is not Python: invalid syntax"),
    "raises": ('raise RuntimeError("boom")\n', "RuntimeError: boom"),
    "exits": ("import sys\nsys.exit(0)\n", "SystemExit: 0"),
    "misses a package": ("import nothing_of_the_kind\n", "No module named 'nothing_of_the_kind'"),
    "naive times": (
        "from feature_definitions import *\nx = Source('x', Files('x.csv', 'csv'), columns={'at': 'timestamp'}, event_timestamp='at')\n",
        "timezone",
    ),
    "of later": ("from feature_definitions import TransformGroup\nt = TransformGroup('t')\n", "TransformGroup"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_malformed_catalog_file_is_named_with_file_and_line_by_every_command(tmp_path: Path, kind: str) -> None:
    text, sentence = BROKEN[kind]
    projects.make(tmp_path, files={"catalog/broken.py": text})
    for verb in (("check",), ("status", "--json"), ("materialize",), ("down",)):
        done = within(*verb, project=tmp_path)
        assert (done.code, done.out) == (2, ""), verb
        assert re.search(rf"catalog/broken\.py:[12]: .*{re.escape(sentence)}", done.err), verb


def test_check_as_json_lists_every_mistake_with_file_line_and_message(tmp_path: Path) -> None:
    catalog = projects.CATALOG.replace('"sum", "amount"', '"sum", "amnt"')
    projects.make(tmp_path, catalog=catalog, files={"catalog/broken.py": "def x(:\n"})
    done = within("check", "--json", project=tmp_path)
    assert done.code == 2
    first, second = done.json["mistakes"]
    assert (Path(first["file"]).name, first["line"], first["message"]) == ("broken.py", 1, "this is not Python: invalid syntax")
    line = next(i for i, text in enumerate(catalog.splitlines(), 1) if '"amnt"' in text)
    assert (Path(second["file"]).name, second["line"]) == ("shop.py", line)
    assert "spend.paid: there is no column 'amnt'. payments has: amount, arrived" in second["message"]


# ------------------------------------------------------------------------------------- the little shop: rows and intervals refused


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop with one payment that can not be read and one day that the gate rejects."""
    return projects.published(tmp_path_factory.getbasetemp())


def test_ingest_ends_with_3_when_rows_went_to_quarantine(shop: Shop) -> None:
    assert shop.ingest.code == 3
    payments, visits, accounts = shop.ingest.json["sources"]
    assert payments == {
        "source": "payments", "files": 2, "rows": 4, "quarantined": 1, "reasons": {"amount: is not a double": 1}, "dates_changed": 3,
        "revision": 1, "refused": [],
    }  # fmt: skip
    assert (visits["files"], visits["revision"]) == (0, None)
    assert (accounts["rows"], accounts["dates_changed"]) == (3, 1)
    assert "payments: 1 rows in quarantine: amount: is not a double" in shop.ingest.err


def test_a_refused_row_lies_in_quarantine_with_file_line_reason_and_its_columns(shop: Shop) -> None:
    (row,) = delta(shop.folder / "lake/quarantine/payments").to_dict("records")
    assert row.pop("quarantined_at") == projects.NOW
    assert row == {
        "file": "data/payments/second.csv", "line": 2, "reason": "amount: 'much' is not a double", "payment_id": "p9",
        "customer_id": "1", "amount": "much", "refunded": "no", "paid_at": "2026-01-05T09:00:00Z", "arrived": "2026-01-05T09:00:00Z",
    }  # fmt: skip


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
    assert set(document) == {"intervals", "tables"}
    fields = {"group", "interval_start", "interval_end", "status", "reasons", "rows", "publish_id", "delta_version", "waits_for"}
    assert all(set(interval) == fields for interval in document["intervals"])
    spend = [i for i in document["intervals"] if i["group"] == "spend"]
    assert [(i["interval_start"], i["status"], i["rows"]) for i in spend] == [
        ("2026-01-03T00:00:00Z", "OK", 1), ("2026-01-04T00:00:00Z", "OK", 2), ("2026-01-05T00:00:00Z", "REJECTED", 2),
    ]  # fmt: skip
    assert all(ISO.fullmatch(i[end]) for i in document["intervals"] for end in ("interval_start", "interval_end"))
    assert [i["delta_version"] for i in spend] == [0, 0, None]
    assert spend[0]["publish_id"] == spend[1]["publish_id"] != spend[2]["publish_id"]
    assert spend[2]["publish_id"] is None
    assert "failed" in spend[2]["reasons"][0]


def test_a_rejected_interval_is_in_no_table_and_its_bad_rows_are_in_quarantine_with_what_they_failed(shop: Shop) -> None:
    published = delta(shop.status.json["tables"]["spend"])
    assert set(published["event_timestamp"]) == {pd.Timestamp("2026-01-04", tz="UTC"), pd.Timestamp("2026-01-05", tz="UTC")}
    (row,) = delta(shop.folder / "lake/quarantine/spend").to_dict("records")
    assert (row["customer_id"], row["paid_1d"], row["event_timestamp"]) == (2, -5.0, pd.Timestamp("2026-01-06", tz="UTC"))
    assert "paid_1d" in row["failed_expectation"]
    outputs = {"paid_1d", "paid_3d", "payments_1d", "mean_paid_1d"}
    assert set(row) == {"customer_id", "event_timestamp", *outputs, "failed_expectation", "interval_start", "publish_id", "quarantined_at"}


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


def test_optimize_joins_files_changes_no_row_and_makes_nothing_stale(shop: Shop, tmp_path: Path) -> None:
    folder = shop.copied(tmp_path)
    tables = ("lake/sources/payments", "lake/records/ledger", *(f"lake/features/{group}/g1" for group in ("spend", "last_page", "account")))
    before = {table: sorted(map(str, delta(folder / table).to_dict("records"))) for table in tables}
    done = within("optimize", "--json", project=folder)
    assert done.code == 0
    found = {each["table"].removeprefix(f"{folder}/"): each for each in done.json["tables"]}
    assert found["lake/records/ledger"]["files_before"] > found["lake/records/ledger"]["files_after"] == 1
    assert set(tables) < set(found)
    assert {table: sorted(map(str, delta(folder / table).to_dict("records"))) for table in tables} == before
    assert within("status", "--json", project=folder).json["intervals"] == shop.status.json["intervals"]
    assert within("plan", "--json", project=folder).json == {"steps": [], "bill": []}
    assert [r["revision"] for r in within("ingest", "--json", project=folder).json["sources"]] == [None] * 3
    assert [g["published"] for g in within("materialize", "--json", project=folder).json["groups"]] == [0] * 3
    one = within("optimize", "last_page", "--json", project=folder).json["tables"]
    assert [each["table"].removeprefix(f"{folder}/lake/") for each in one] == ["sources/visits", "features/last_page/g1"]


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
    assert [row["event_timestamp"].day for row in delta(folder / "lake/features/spend/g1").to_dict("records")] == [4, 8]
    assert ran(folder) == (0, 0, "OK REJECTED WAITING WAITING OK")
    released = Path(shutil.copytree(folder, tmp_path / "released"))
    within("release", "spend", "--from", "2026-01-04", "--to", "2026-01-05", project=released, now=now)
    assert ran(released) == (0, 2, "OK REJECTED OK OK OK")
    assert delta(released / "lake/features/spend/g1").set_index("event_timestamp")["total_3d"].sort_index().to_list() == [
        10.0,
        -80.0,
        -80.0,
        30.0,
    ]
    payments(folder, amounts)
    within("ingest", project=folder, now=now)
    assert ran(folder) == (0, 4, "OK OK OK OK OK")


def test_what_new_writes_passes_its_own_test(spark: SparkSession, tmp_path: Path) -> None:
    folder = starter.make(tmp_path / "shop")
    done = within("new", "visits", project=folder)
    assert done.code == 0
    assert f"wrote {folder}/catalog/visits.py" in done.out
    assert within("check", "--json", project=folder).json["groups"] == 2
    written = runpy.run_path(str(folder / "tests" / "test_visits.py"))
    written["test_visits_holds_the_events_of_its_windows"](tmp_path)
    again = within("new", "visits", project=folder)
    assert (again.code, "already" in again.err) == (2, True)


def test_a_groups_table_has_exactly_the_promised_columns_and_partitions(shop: Shop) -> None:
    table = DeltaTable(shop.status.json["tables"]["spend"])
    assert [field.name for field in table.schema().fields] == [
        "customer_id", "event_timestamp", "created_timestamp", "publish_id", "empties_at", "held", "paid_1d", "paid_3d", "payments_1d",
        "mean_paid_1d", "date",
    ]  # fmt: skip
    assert table.metadata().partition_columns == ["date"]
    rows = delta(table.table_uri.removeprefix("file://"))
    assert {str(day) for day in rows["date"]} == {"2026-01-03", "2026-01-04"}


def test_a_file_that_can_not_be_taken_ends_ingest_with_2_and_leaves_what_was_there(shop: Shop, tmp_path: Path) -> None:
    folder = shop.copied(tmp_path)
    projects.write(folder, "data/payments/third.csv", "payment_id,customer_id\nx,1\n")
    done = within("ingest", "payments", "--json", project=folder)
    assert done.code == 2
    (report,) = done.json["sources"]
    assert (report["files"], report["revision"]) == (0, None)
    assert "data/payments/third.csv has no column 'amount'" in report["refused"][0]
    assert "refused data/payments/third.csv" in done.err


# ------------------------------------------------------------------------------------------- the whole chain, as a new user goes it


@dataclass(frozen=True, slots=True)
class Chain:
    """How every command of the README's tour ended, in processes of their own."""

    folder: Path
    done: dict[str, Done]
    ready: int
    served: Any


def served(folder: Path, body: object) -> tuple[int, Any]:
    """What `headwater serve` says at /readyz, and its answer to a request for features."""
    with projects.starting("serve", "--port", "0", "--project", folder) as process:
        try:
            assert process.stderr is not None
            port = int(re.search(r"http://127\.0\.0\.1:(\d+)", process.stderr.readline())[1])  # type: ignore[index]  # else it fails here
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
                connection.request("GET", "/readyz")
                ready = connection.getresponse()
                ready.read()
                connection.request("POST", "/v1/features", json.dumps(body))
                return ready.status, json.loads(connection.getresponse().read())
        finally:
            process.terminate()
            process.wait(timeout=20)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """`headwater init`, and then all that it says to do next."""
    folder = tmp_path_factory.mktemp("chain") / "shop"
    now = datetime.now(UTC)
    spine = pd.DataFrame({
        "customer_id": [1, 2, 999], "event_timestamp": [now, now - timedelta(days=5), now], "label": [True, False, None],
    })  # fmt: skip
    done = {"init": command("init", folder)}
    spine.to_parquet(folder / "spine.parquet")
    verbs: dict[str, tuple[str | Path, ...]] = {
        "ingest": ("ingest", "--json"),
        "plan": ("plan", "--json"),
        "materialize": ("materialize", "--json"),
        "status": ("status", "--json"),
        "training-set": ("training-set", "--spine", folder / "spine.parquet", "--service", "customer_v1", "--json"),
        "sync": ("sync", "--json"),
        "get": ("get", "customer_v1", "customer_id=1", "--json"),
    }
    for name, words in verbs.items():
        done[name] = command(*words, "--project", folder)
    ready, answer = served(folder, {"service": "customer_v1", "entities": [{"customer_id": 1}, {"customer_id": 999}]})
    done["down"] = command("down", "--project", folder)
    return Chain(folder, done, ready, answer)


def test_every_command_of_the_tour_ends_with_0(chain: Chain) -> None:
    assert {name: (done.code, done.err if done.code else "") for name, done in chain.done.items()} == dict.fromkeys(chain.done, (0, ""))


def test_init_says_what_to_do_next(chain: Chain) -> None:
    assert starter.NEXT in chain.done["init"].out


def test_long_work_says_on_stderr_what_it_does(chain: Chain) -> None:
    assert "ingesting payments: 1 files" in chain.done["ingest"].err
    assert "customer_spend: computing" in chain.done["materialize"].err


def test_what_was_planned_was_published(chain: Chain) -> None:
    planned = [s["interval_start"] for s in chain.done["plan"].json["steps"] if s["step"] == "Publish"]
    (group,) = chain.done["materialize"].json["groups"]
    assert group["published"] == len(planned) >= 39
    assert [(i["interval_start"], i["status"]) for i in chain.done["status"].json["intervals"]] == [(start, "OK") for start in planned]


def test_the_training_set_has_the_spines_rows_and_columns_and_the_services_outputs(chain: Chain) -> None:
    built = chain.done["training-set"].json
    rows = delta(built["path"])
    outputs = ["spend_1d", "spend_7d", "spend_30d", "payments_1d", "payments_30d", "mean_payment_30d"]
    assert built["path"] == str(chain.folder / "lake/training_sets/customer_v1")
    assert list(rows.columns) == ["customer_id", "event_timestamp", "label", *(f"customer_spend__{name}" for name in outputs)]
    assert (built["rows"], sorted(rows["customer_id"])) == (3, [1, 2, 999])


def test_sync_says_what_it_wrote(chain: Chain) -> None:
    (epoch,) = chain.done["sync"].json["epochs"]
    assert (epoch["group"], epoch["epoch"], epoch["rows"]) == ("customer_spend", 1, epoch["written"])
    assert ISO.fullmatch(epoch["coverage"])


def test_http_answers_what_get_prints_in_the_order_asked(chain: Chain) -> None:
    assert chain.ready == 200
    known, unknown = chain.served["results"]
    assert chain.done["get"].json == {"results": [known]}
    assert set(known) == {"entity", "values", "status", "event_timestamp"}
    assert known["status"] == {"customer_spend": "PRESENT"}
    assert known["values"]["customer_spend__payments_30d"] > 0
    assert ISO.fullmatch(known["event_timestamp"]["customer_spend"])
    assert (unknown["entity"], unknown["status"]) == ({"customer_id": 999}, {"customer_spend": "NOT_FOUND"})
    assert unknown["values"]["customer_spend__payments_30d"] == 0


def test_online_equals_the_training_set_at_the_same_time(chain: Chain) -> None:
    rows = delta(chain.done["training-set"].json["path"]).set_index("customer_id")
    values = chain.served["results"][0]["values"]
    assert {name: rows.loc[1, name] for name in values} == values
