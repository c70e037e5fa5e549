"""What all verbs of the command share: help, completion, exit codes, sentences that teach, no tracebacks."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import headwater
from feature_definitions.language.services import VERBS as RESERVED
from headwater.commands import app
from tests.headwater.fields import verbs
from tests.projects import command, environment, make, within

VERBS = (
    "demo", "init", "new", "source", "check", "plan", "ingest", "quarantine", "materialize", "status", "publish", "promote", "release",
    "explain", "registry", "optimize", "training-set", "sync", "push", "parity", "rollback", "erase", "serve", "get", "down",
    "feast",
)  # fmt: skip


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
    assert {name for name, _ in verbs(get_command(app))} == {
        *VERBS, "feast apply", "registry leases", "registry move", "registry rebuild",
        *(f"training-set {verb}" for verb in RESERVED),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ((), ("build",)),
        (("churn",), ("build", "churn")),
        (("--spine", "x"), ("build", "--spine", "x")),
        (("show", "churn"), ("show", "churn")),
        (("--json", "churn"), ("--json", "build", "churn")),
        (("--json", "list"), ("--json", "list")),
        (("--project", "list", "churn"), ("--project", "list", "build", "churn")),
        (("--project=x", "list"), ("--project=x", "list")),
        (("churn", "--project", "show"), ("build", "churn", "--project", "show")),
        (("--help",), ("--help",)),
    ],
)
def test_a_training_set_is_built_where_no_verb_is_named(words: tuple[str, ...], meant: tuple[str, ...]) -> None:
    command = get_command(app).commands["training-set"]  # type: ignore[attr-defined]  # it is a group
    assert tuple(command.with_verb(list(words))) == meant


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
atexit.register(lambda: print("loaded:", [name for name in heavy if name in sys.modules], len(sys.modules), file=sys.stderr))
"""
MOST_MODULES = 900
"""Seconds depend on the machine: a tenth of these modules more is about a tenth of a second more."""


@pytest.mark.parametrize("verb", WITHOUT_SPARK)
def test_a_command_that_needs_no_spark_loads_nothing_heavy_and_few_modules(fresh: Path, verb: str) -> None:
    done = command(*WITHOUT_SPARK[verb], "--project", fresh, before=LOADED)
    (modules,) = re.fullmatch(r"loaded: \[\] (\d+)\n", done.err).groups()
    assert done.code == 0
    assert int(modules) < MOST_MODULES


def test_the_project_may_be_named_before_or_after_the_verb_or_be_the_current_folder(fresh: Path) -> None:
    expected = command("status", "--json", cwd=fresh)
    assert expected.code == 0
    assert command("--project", fresh, "status", "--json").json == command("status", "--json", "--project", fresh).json == expected.json
    assert command("status", "--json", HEADWATER_PROJECT=str(fresh)).json == expected.json


def test_a_command_whose_streams_somebody_closed_does_what_it_is_told(fresh: Path) -> None:
    program = "import os, sys; os.closerange(0, 3); os.execvp(sys.argv[1], sys.argv[1:])"
    words = [sys.executable, "-c", "import headwater; headwater.main()", "status", "--project", str(fresh)]
    assert subprocess.run([sys.executable, "-c", program, *words], env=environment(), check=False).returncode == 0


def test_what_a_catalog_prints_is_no_part_of_the_answer(tmp_path: Path) -> None:
    catalog = "from feature_definitions import Entity\nprint('hello')\nnobody = Entity('nobody', keys={'id': 'int64'})\n"
    done = within("status", "--json", project=make(tmp_path, catalog=catalog))
    assert (done.json["intervals"], done.err) == ([], "hello\n")


MISTAKES = {
    "no verb": ((), "Missing command"),
    "unknown verb": (("materialise",), "No such command 'materialise'. Did you mean 'materialize', 'erase'?"),
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
    "a key twice": (("get", "customer_v1", "customer_id=1", "customer_id=2"), "customer_id is said twice, '1' and '2'; say it once"),
    "not a key=value": (("get", "customer_v1", "customer_id"), "'customer_id' is not key=value"),
    "key of another type": (("get", "customer_v1", "customer_id=abc"), "customer_id: 'abc' is not an int64"),
    "reversed range": (("plan", "--from", "2026-01-05", "--to", "2026-01-01"), "is reversed or empty: --to is exclusive"),
    "reversed range, status": (("status", "--from", "2026-01-05", "--to", "2026-01-01"), "is reversed or empty: --to is exclusive"),
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
    "service without spine": (("training-set", "churn", "--service", "customer_v1"), "--service needs a spine, --spine labels.csv"),
    "no such spine": (("training-set", "--spine", "no.csv", "--service", "customer_v1"), "there is no spine at no.csv"),
    "types of no spine": (("training-set", "churn", "--column", "x=double"), "--column and --timezone tell of the columns in a file"),
    "a type that is none": (("training-set", "--spine", "x", "--service", "customer_v1", "--column", "x"), "'x' is not NAME=TYPE"),
    "a column of no spelling": (
        ("training-set", "--spine", "x", "--service", "customer_v1", "--column", "x=timestamp:in=ms"),
        "'timestamp:in=ms' does not say how times are written; write for example timestamp:epoch=ms",
    ),
    "an epoch of no unit": (
        ("training-set", "--spine", "x", "--service", "customer_v1", "--column", "x=timestamp:epoch=weeks"),
        "the spine's columns: Column('timestamp') has epoch='weeks'; write the unit of its counts",
    ),
    "unknown training set": (("training-set", "churn"), "there is no training set 'churn'"),
    "no training set": (("training-set",), "name a training set, or give a spine and a service"),
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


@pytest.mark.parametrize("verb", [name for name, verb in verbs(get_command(app)) if not hasattr(verb, "commands")])
def test_every_verb_has_json(verb: str) -> None:
    assert "--json" in within(*verb.split(), "--help").out
