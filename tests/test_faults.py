"""What goes wrong in a user's hands: runs killed, two at once, a locked registry, no store, no Java; set right, or told in one sentence."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import socket
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

from feature_definitions import layout
from feature_definitions.intervals import iso
from feature_registry import leases
from feature_registry.registry import Registry
from headwater import Project
from lake import delta, delta_commits, delta_files, facts, processes, staging, storage, training_sets
from spark_jobs import tables
from spark_jobs.compute import tile_store, windows
from spark_jobs.ingest import here
from spark_jobs.publish import commit
from tests import projects
from tests.projects import PAYMENTS, command, opened, rows, within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from pyspark.sql import SparkSession

EARLIER = projects.NOW.replace(day=5)
CATALOG = projects.CATALOG.replace(", expect=(at_least(0),)", "")
CORRECTED = PAYMENTS[0].replace("10.5", "11.5").replace("09:01:00Z", "09:02:00Z")
"""The payment of 3 January set right: it changes two published days, and 5 January was never computed."""
FAR = "p0,1,1.0,no,1970-01-01T00:00:00Z,2026-01-05T09:00:00Z"
"""A payment that lies far from all others: it is put aside."""


# ------------------------------------------------------------------------------------------------------------ what a project holds


def published(project: Project) -> list[dict[str, Any]]:
    """The group's rows, but for when and by which run they were made."""
    held = project.read("spend").drop(columns=["created_timestamp", "publish_id"])
    return held.astype(object).where(held.notna(), None).to_dict("records")  # type: ignore[no-any-return]  # pandas' records


def statuses(project: Project) -> list[tuple[str, str, int | None]]:
    return [(iso(s.interval.start), s.status, s.rows) for s in project.status("spend")]


def replaced(project: Project) -> list[tuple[Any, ...]]:
    """The history that counts: rows that a publish replaced which the registry knows."""
    path = layout.history_table(project.settings.lake, "spend", 1)
    known = {p.publish_id for p in project._registry.publishes("spend", 1)}
    held = delta.load(path).to_pylist() if delta.exists(path) else []
    return sorted((r["customer_id"], r["event_timestamp"], r["paid_1d"], r["paid_3d"]) for r in held if r["replaced_by"] in known)


def live(project: Project) -> list[tuple[Any, ...]]:
    """The source's rows that hold."""
    held = delta.load(layout.source_table(project.settings.lake, "payments")).to_pylist()
    return sorted((r["payment_id"], r["amount"], r["paid_at"]) for r in held if r["_hw_live"])


def aside(project: Project) -> list[tuple[str, int]]:
    """The source's rows that are put aside, by reason."""
    return [(each.reason, each.rows) for each in project.quarantine("payments")]


def left_over(project: Project) -> list[object]:
    """What a run must not leave behind: staged rows and intentions."""
    folder = Path(layout.staging_folder(project.settings.lake, "x")).parent
    registry = project._registry
    return [*folder.iterdir(), *registry.pending_publishes("spend"), *registry.pending_ingests("payments")]


@dataclass(frozen=True, slots=True)
class State:
    """All of it at once, to be compared with that of a run that nothing disturbed."""

    published: list[dict[str, Any]]
    statuses: list[tuple[str, str, int | None]]
    replaced: list[tuple[Any, ...]]
    live: list[tuple[Any, ...]]
    aside: list[tuple[str, int]]


def state(project: Project) -> State:
    assert left_over(project) == []
    return State(published(project), statuses(project), replaced(project), live(project), aside(project))


# --------------------------------------------------------------------------------------------------------------- dying at a point


class Killed(BaseException):
    """The process is gone: nothing of ours runs any more."""


@contextmanager
def killed_before(owner: object, name: str, *, when: Callable[..., bool] = lambda *_, **__: True) -> Iterator[None]:
    """Die instead of calling `owner.name`: no clean-up happens, and the leases are those of a process that is gone."""
    real = getattr(owner, name)

    def die(*args: Any, **kwargs: Any) -> Any:
        if when(*args, **kwargs):
            raise Killed
        return real(*args, **kwargs)

    with (
        patch.object(owner, name, die),
        patch.object(storage, "delete_tree"),
        patch.object(staging, "clear"),
        patch.object(leases, "give_back"),
        patch.object(processes, "this", lambda: processes.Process(socket.gethostname(), processes.boot(), 1, -1)),
        pytest.raises(Killed),
    ):
        yield


PUBLISHING: dict[str, tuple[object, str, Callable[..., bool]]] = {
    "before the intention is noted": (Registry, "begin_publish", lambda *_, **__: True),
    "before the tiles are stored": (tile_store, "_store", lambda *_, **__: True),
    "after the tiles are stored": (Registry, "record_tiles", lambda *_, **__: True),
    "before the records are copied": (facts, "keep_publish", lambda *_, **__: True),
    "after the records are copied": (commit, "_commit", lambda *_, **__: True),
    "after history is kept": (tables, "replace", lambda _, path, **__: "/features/" in path),
    "before files are written": (tables, "_written", lambda _, __, path, *___: "/features/" in path),
    "after files are written": (delta_files, "added", lambda path, *_, **__: "/features/" in path),
    "before files are committed": (delta_commits, "commit", lambda table, **_: "/features/" in table.table_uri),
    "after the commit": (Registry, "finish_publish", lambda *_, **__: True),
}
INGESTING: dict[str, tuple[object, str, Callable[..., bool]]] = {
    "before the intention is noted": (Registry, "begin_ingest", lambda *_, **__: True),
    "before the records are copied": (delta_commits, "append_records", lambda *_, **__: True),
    "after the records are copied": (here, "commit", lambda *_, **__: True),
    "after the commit": (Registry, "finish_ingest", lambda *_, **__: True),
}


@dataclass(frozen=True, slots=True)
class Base:
    """A project before an ingest and before a materialize, what it was then, and how both end undisturbed."""

    to_ingest: Path
    to_materialize: Path
    old: list[dict[str, Any]]
    ingested: State
    done: State


def copied(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to))


@pytest.fixture(scope="module")
def base(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Base:
    root = tmp_path_factory.mktemp("faults")
    folder = projects.make(root / "one", catalog=CATALOG, files={"data/payments/first.csv": rows(*PAYMENTS)})
    with opened(folder, now=EARLIER) as p:
        p.ingest("payments")
        p.materialize("spend")
        old = published(p)
    projects.write(folder, "data/payments/second.csv", rows(CORRECTED, FAR))
    to_ingest = copied(folder, root / "to_ingest")
    with opened(folder) as p:
        p.ingest("payments")
        ingested = state(p)
    to_materialize = copied(folder, root / "to_materialize")
    with opened(folder) as p:
        p.materialize("spend")
        return Base(to_ingest, to_materialize, old, ingested, state(p))


def test_the_run_that_is_disturbed_below_replaces_two_days_and_adds_one(base: Base) -> None:
    assert [status for _, status, _ in base.ingested.statuses] == ["STALE(data)", "STALE(data)", "MISSING"]
    assert [status for _, status, _ in base.done.statuses] == ["OK", "OK", "OK"]
    assert len(base.done.published) > len(base.old) == 3
    assert [row[0] for row in base.done.replaced] == [1, 1]
    assert [(reason[:25], n) for reason, n in base.done.aside] == [("1 row of 1970-01-01 lies ", 1)]


@pytest.mark.parametrize("point", PUBLISHING)
def test_a_publish_killed_at_any_point_is_set_right_by_the_rerun(base: Base, tmp_path: Path, point: str) -> None:
    owner, name, when = PUBLISHING[point]
    folder = copied(base.to_materialize, tmp_path / "shop")
    with opened(folder) as p, killed_before(owner, name, when=when):
        p.materialize("spend")
    with opened(folder) as p:
        assert published(p) == (base.done.published if point == "after the commit" else base.old)
        assert statuses(p) == base.ingested.statuses
        p.materialize("spend")
        assert state(p) == base.done


@pytest.mark.parametrize("point", INGESTING)
def test_an_ingest_killed_at_any_point_is_set_right_by_the_rerun(base: Base, tmp_path: Path, point: str) -> None:
    owner, name, when = INGESTING[point]
    folder = copied(base.to_ingest, tmp_path / "shop")
    with opened(folder) as p, killed_before(owner, name, when=when):
        p.ingest("payments")
    with opened(folder) as p:
        p.ingest("payments")
        assert state(p) == base.ingested


def test_a_first_publish_killed_after_its_commit_is_not_computed_again(base: Base, tmp_path: Path) -> None:
    folder = projects.make(tmp_path, catalog=CATALOG, files={"data/payments/first.csv": rows(*PAYMENTS)})
    with opened(folder, now=EARLIER) as p:
        p.ingest("payments")
        with killed_before(Registry, "finish_publish"):
            p.materialize("spend")
    with opened(folder, now=EARLIER) as p:
        (result,) = p.materialize("spend")
        assert result.published == 0
        assert published(p) == base.old
        assert {status for _, status, _ in statuses(p)} == {"OK"}
        assert left_over(p) == []


def test_a_training_set_killed_between_table_and_manifest_is_built_again(base: Base, tmp_path: Path) -> None:
    folder = copied(base.to_materialize, tmp_path / "shop")
    spines = [projects.write(folder, f"{day}.csv", f"customer_id,event_timestamp\n1,2026-01-0{day}T12:00:00Z\n") for day in (4, 5)]
    service = {"service": "customer_v1"}
    with opened(folder) as p:
        first = p.training_set(spine=spines[0], **service)
        with killed_before(training_sets, "begin"):
            p.training_set(spine=spines[1], **service)
        assert p.training_set(spine=spines[0], **service).unchanged
        with killed_before(training_sets, "finish"):
            p.training_set(spine=spines[1], **service)
    with opened(folder) as p:
        again = p.training_set(spine=spines[0], **service)
        assert not again.unchanged
        assert delta.load(again.path)["event_timestamp"].to_pylist() == [projects.NOW.replace(day=4)]
        assert again.manifest["fingerprint"] == first.manifest["fingerprint"]


@contextmanager
def looked_at(folder: Path) -> Iterator[list[list[dict[str, Any]]]]:
    """What a reader sees that looks at the group's rows all the time."""
    over, seen = threading.Event(), list[list[dict[str, Any]]]()

    def look() -> None:
        with opened(folder) as reader:
            while not over.is_set():
                seen.append(published(reader))

    with ThreadPoolExecutor() as threads:
        looking = threads.submit(look)
        try:
            yield seen
        finally:
            over.set()
            looking.result()


# ------------------------------------------------------------------------------------------------------------------- two at a time


def test_of_two_runs_of_the_same_days_the_second_to_publish_drops_its_rows_and_says_so(base: Base, tmp_path: Path) -> None:
    folder = copied(base.to_materialize, tmp_path / "shop")
    real = commit.publish
    with opened(folder) as slow, opened(folder) as fast:

        def overtaken(*args: Any) -> None:
            with patch.object(commit, "publish", real):
                fast.materialize("spend")
            real(*args)

        with (
            patch.object(commit, "publish", overtaken),
            pytest.raises(commit.PublishConflict, match="was published by another run meanwhile"),
        ):
            slow.materialize("spend")
        assert state(slow) == base.done
        assert slow.materialize("spend")[0].published == 0


def test_a_run_that_was_cut_off_while_another_computed_is_set_right_before_anything_is_published(base: Base, tmp_path: Path) -> None:
    folder = copied(base.to_materialize, tmp_path / "shop")
    real = commit.publish
    with opened(folder) as slow, opened(folder) as fast:

        def overtaken(*args: Any) -> None:
            with patch.object(commit, "publish", real), killed_before(Registry, "finish_publish"):
                fast.materialize("spend")
            real(*args)

        with patch.object(commit, "publish", overtaken), pytest.raises(commit.PublishConflict, match="was cut off while this one computed"):
            slow.materialize("spend")
        slow.materialize("spend")
        assert state(slow) == base.done


def test_two_runs_of_different_days_at_once_both_publish(base: Base, tmp_path: Path) -> None:
    folder = copied(base.to_materialize, tmp_path / "shop")

    def materialize(start: str, end: str) -> int:
        with opened(folder) as p:
            return p.materialize("spend", start=start, end=end)[0].published

    with ThreadPoolExecutor() as threads:
        both = [threads.submit(materialize, f"2026-01-0{day}", f"2026-01-0{day + 1}") for day in (3, 4)]
        assert [run.result() for run in both] == [1, 1]
    with opened(folder) as p:
        p.materialize("spend")
        assert state(p) == base.done


def test_a_reader_that_never_stops_looking_sees_the_old_rows_or_the_new_ones(base: Base, tmp_path: Path) -> None:
    folder = copied(base.to_materialize, tmp_path / "shop")
    with looked_at(folder) as seen, opened(folder) as p:
        p.materialize("spend")
    assert seen[0] == base.old
    assert [rows for rows in seen if rows not in (base.old, base.done.published)] == []


def test_two_processes_that_materialize_at_once_publish_once(base: Base, tmp_path: Path) -> None:
    folder = projects.make(tmp_path / "shop", catalog=CATALOG, files={"data/payments/first.csv": rows(*recent())})
    with opened(folder, now=now()) as p:
        p.ingest("payments")
    both = [projects.starting("materialize", "spend", "--project", folder) for _ in range(2)]
    ended = [(*process.communicate(timeout=300), process.returncode) for process in both]
    assert sorted(code for _, _, code in ended) in ([0, 0], [0, 1])
    for _, said, code in ended:
        assert "Traceback" not in said
        if code:
            assert "was published by another run meanwhile" in said or "is being worked on by process" in said
    with opened(folder, now=now()) as p:
        assert {status for _, status, _ in statuses(p)} == {"OK"}
        assert len({s.publish_id for s in p.status("spend") if s.rows}) == 1
        assert left_over(p) == []
        assert not p.read("spend").duplicated(["customer_id", "event_timestamp"]).any()


# --------------------------------------------------------------------------------------------------------------------- really killed


def now() -> datetime:
    from datetime import UTC, datetime

    return datetime.now(UTC)


def recent() -> list[str]:
    """The payments above, moved to the days before today, for processes whose clock is the real one."""
    from datetime import datetime, timedelta

    shift = timedelta(days=(now() - projects.NOW).days)
    moved = []
    for line in PAYMENTS:
        *fixed, paid, arrived = line.split(",")
        moved.append(",".join([*fixed, *(iso(datetime.fromisoformat(at) + shift) for at in (paid, arrived))]))
    return moved


DYING = """
import os, signal
from spark_jobs.publish import commit
real = commit._commit
def committed(*args):
    real(*args)
    os.kill(os.getpid(), signal.SIGKILL)
commit._commit = committed
"""


def test_a_process_that_is_killed_again_and_again_is_set_right_by_the_next_run(base: Base, tmp_path: Path) -> None:
    folder = projects.make(tmp_path / "shop", catalog=CATALOG, files={"data/payments/first.csv": rows(*recent())})
    undisturbed = copied(folder, tmp_path / "undisturbed")
    with opened(undisturbed, now=now()) as p:
        p.ingest("payments")
        p.materialize("spend")
        expected = state(p)
    kill_at_random("ingest", "payments", folder=folder, after="ingesting payments")
    with opened(folder, now=now()) as p:
        p.ingest("payments")
    with looked_at(folder) as seen:
        kill_at_random("materialize", "spend", folder=folder, after="spend: computing")
        assert command("materialize", "spend", "--project", folder, before=DYING).code == -signal.SIGKILL
    assert [rows for rows in seen if rows not in ([], expected.published)] == []
    with opened(folder, now=now()) as p:
        assert {status for _, status, _ in statuses(p)} == {"MISSING"}
        p.materialize("spend")
        assert state(p) == expected


def kill_at_random(*arguments: str, folder: Path, after: str) -> None:
    """Kill the command at a random moment of its work, as a person or the system's out-of-memory killer would."""
    with projects.starting(*arguments, "--project", folder) as process:
        assert process.stderr is not None
        while after not in process.stderr.readline():
            assert process.poll() is None
        time.sleep(random.Random(str(arguments)).uniform(0.5, 3))
        os.kill(process.pid, signal.SIGKILL)


# ------------------------------------------------------------------------------------------------------------------ what is missing


WITHOUT_JAVA = "from spark_jobs import jvm\njvm.JAVA_VERSIONS = (99,)"


def test_without_java_what_needs_spark_says_in_one_sentence_what_to_install_and_the_rest_works(base: Base, tmp_path: Path) -> None:
    folder = copied(base.to_materialize, tmp_path / "shop")
    nowhere = {"JAVA_HOME": "/nowhere", "PATH": "/nowhere"}
    failed = command("materialize", "--project", folder, before=WITHOUT_JAVA, **nowhere)
    assert failed.code == 1
    assert "failed: Spark needs Java 17 or 21" in failed.err
    assert "apt-get install default-jre-headless" in failed.err
    assert "Traceback" not in failed.err
    for verb in ("check", "status", "plan"):
        assert command(verb, "--project", folder, before=WITHOUT_JAVA, **nowhere).code == 0


@pytest.fixture
def nobody() -> Iterator[str]:
    """The URL of a store at a port where nobody listens, and nobody will as long as the test runs."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"redis://:secret@127.0.0.1:{taken.getsockname()[1]}/0"


@pytest.mark.parametrize("words", [("get", "customer_v1", "customer_id=1"), ("sync",)], ids=["get", "sync"])
def test_without_the_store_get_and_sync_fail_in_one_sentence(base: Base, tmp_path: Path, nobody: str, words: tuple[str, ...]) -> None:
    folder = copied(base.to_materialize, tmp_path / "shop")
    with patch.dict(os.environ, {"HEADWATER_REDIS_URL": nobody}):
        done = within(*words, "--json", project=folder)
    assert (done.code, done.out) == (1, "")
    said = [line for line in done.err.splitlines() if not line.startswith(("syncing", "details"))]
    assert len(said) == 1
    assert said[0].startswith("failed: ")
    assert "secret" not in done.err


def test_a_locked_registry_fails_a_writer_in_one_sentence_and_lets_readers_read(base: Base, tmp_path: Path) -> None:
    folder = copied(base.to_ingest, tmp_path / "shop")
    with closing(sqlite3.connect(folder / ".headwater/registry.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        done = within("ingest", "payments", project=folder)
        assert within("status", project=folder).code == 0
    assert done.code == 1
    assert "has been locked by another process for 5 s; wait until that one is done, or end it, and try again" in done.err


def test_a_registry_that_goes_in_the_middle_of_a_run_is_rebuilt_with_what_the_run_published(base: Base, tmp_path: Path) -> None:
    folder = copied(base.to_materialize, tmp_path / "shop")
    real = commit._commit

    def without_registry(*args: Any) -> None:
        for file in (folder / ".headwater").glob("registry.db*"):
            file.unlink()
        real(*args)

    with patch.object(commit, "_commit", without_registry):
        within("materialize", "spend", project=folder)
    assert within("registry", "rebuild", project=folder).code == 0
    with opened(folder) as p:
        assert published(p) == base.done.published
        p.materialize("spend")
        assert state(p) == base.done


def test_a_registry_that_is_none_fails_in_one_sentence(base: Base, tmp_path: Path) -> None:
    folder = copied(base.to_ingest, tmp_path / "shop")
    projects.write(folder, ".headwater/registry.db", b"these are no tables" * 100)
    for extra in folder.glob(".headwater/registry.db-*"):
        extra.unlink()
    done = within("status", project=folder)
    assert done.code == 1
    assert "is no SQLite database" in done.err
    assert "Traceback" not in done.err


def test_a_disk_that_is_full_while_rows_are_staged_leaves_what_was_there_and_the_rerun_goes_on(base: Base, tmp_path: Path) -> None:
    folder = copied(base.to_materialize, tmp_path / "shop")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with patch.object(tables, "stage", side_effect=full):
        done = within("materialize", "spend", project=folder)
    assert (done.code, done.err.splitlines()[-2]) == (1, f"failed: {full}")
    with opened(folder) as p:
        assert published(p) == base.old
        p.materialize("spend")
        assert state(p) == base.done


def test_an_unforeseen_failure_ends_with_1_and_keeps_its_traceback_in_a_file(base: Base, tmp_path: Path) -> None:
    folder = copied(base.to_ingest, tmp_path / "shop")
    with patch.object(Project, "status", side_effect=ZeroDivisionError("seven\nlines")):
        done = within("status", "--json", project=folder)
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[0] == "failed: seven"
    assert "ZeroDivisionError" in (folder / ".headwater/last-error.log").read_text()


def test_an_error_of_spark_is_told_once(base: Base, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = copied(base.to_materialize, tmp_path / "shop")
    with patch.object(windows, "of_tiles", lambda _, found, **__: next(iter(found.values())).select("nothing_of_the_kind")):
        done = within("materialize", "spend", project=folder)
    assert done.code == 1
    assert [line[:40] for line in done.err.splitlines()][-2:] == ["failed: [UNRESOLVED_COLUMN.WITH_SUGGESTI", f"details: {folder}"[:40]]
    assert "nothing_of_the_kind" not in capfd.readouterr().err


def test_the_next_command_starts_a_store_again_that_was_killed(base: Base, tmp_path: Path) -> None:
    folder = copied(base.to_ingest, tmp_path / "shop")
    words = ("get", "customer_v1", "customer_id=1", "--json")
    first = within(*words, project=folder)
    pid = int((folder / ".headwater/store/valkey.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    again = within(*words, project=folder)
    assert (again.code, again.out) == (0, first.out)
    assert [within("down", project=folder).code for _ in range(2)] == [0, 0]


# ------------------------------------------------------------------------------------------------------------------ hostile events


def test_an_empty_day_and_events_without_key_make_no_rows_and_no_trouble(spark: SparkSession, tmp_path: Path) -> None:
    lines = [PAYMENTS[0], "p8,,1.0,no,2026-01-04T09:00:00Z,2026-01-04T09:00:00Z", PAYMENTS[0], PAYMENTS[3]]
    catalog = CATALOG.replace('windows=("1d", "3d")', 'windows=("1d",)')
    folder = projects.make(tmp_path, catalog=catalog, files={"data/payments/first.csv": rows(*lines)})
    with opened(folder) as p:
        assert p.ingest("payments")[0].quarantined == 0
        p.materialize("spend")
        assert statuses(p) == [
            ("2026-01-03T00:00:00Z", "OK", 1), ("2026-01-04T00:00:00Z", "OK", 1), ("2026-01-05T00:00:00Z", "OK", 1),
        ]  # fmt: skip
        found = [(row["customer_id"], row["event_timestamp"].day, row["payments_1d"]) for row in published(p)]
        assert found == [(1, 4, 1), (1, 5, 0), (2, 6, 1)]
