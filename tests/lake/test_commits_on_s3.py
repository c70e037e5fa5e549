"""Commits on S3, where the answer to a request may be lost: what was acknowledged is there once, what was refused is not there at all."""

from __future__ import annotations

import json
import random
import secrets
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from deltalake.transaction import AddAction

from feature_definitions.errors import UserError
from lake import delta, delta_commits, s3, storage
from tests.s3_proxy import Counting, Fault, Request, counting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.s3 import Server

SCHEMA = json.dumps({"type": "struct", "fields": [{"name": "n", "type": "long", "nullable": True, "metadata": {}}]})


@pytest.fixture(scope="module")
def bucket(moto: Server) -> str:
    return moto.bucket("commits")


@pytest.fixture
def proxy(moto: Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counting]:
    """The proxy, by which everything reaches S3; a request is repeated by its client once, so that no test waits."""
    known = s3.options
    monkeypatch.setattr(s3, "options", lambda reach: known(reach) | {"max_retries": "1"})
    with counting(moto) as made:
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        yield made


@pytest.fixture
def path(bucket: str, proxy: Counting) -> str:
    """A table with no rows."""
    path = f"{bucket}/{secrets.token_hex(8)}"
    delta_commits.create(path, SCHEMA, partition=())
    return path


def files_of_log(times: int, fault: Fault) -> Callable[[Request], Fault | None]:
    """The fault befalls so many requests that put a version into a log."""
    left = [times]

    def befalls(request: Request) -> Fault | None:
        if not (request.creates and "/_delta_log/" in request.path) or not left[0]:
            return None
        left[0] -= 1
        return fault

    return befalls


def numbers(path: str) -> list[int]:
    return sorted(delta.load(path).column("n").to_pylist())


def appended(path: str, n: int) -> None:
    delta_commits.append_records(path, pa.table({"n": [n]}))


def replaced(path: str, n: int) -> None:
    delta_commits.replace_records(path, pa.table({"n": [n]}), commit_id=f"c{n}", fence=lambda: None)


def committed(path: str, n: int, *, fence: delta_commits.Fence | None = None) -> None:
    """A file of its own is written, then named by a commit, as Spark's are."""
    import pyarrow.parquet as pq

    name = f"hw-run=c{n}.parquet"
    pq.write_table(pa.table({"n": [n]}), name, filesystem=storage.arrow(path))
    new = AddAction(name, storage.files(path, suffix=name)[0].size, {}, 0, True, json.dumps({"numRecords": 1}))
    delta_commits.commit(delta.opened(path), days=(), old=(), new=[new], commit_id=f"c{n}", fence=fence)


WRITERS = [appended, replaced, committed]


@pytest.mark.parametrize("writes", WRITERS)
@pytest.mark.parametrize("times", [1, 2])
def test_a_commit_whose_answer_was_lost_is_acknowledged_once(
    proxy: Counting, path: str, writes: Callable[[str, int], None], times: int
) -> None:
    proxy.fault = files_of_log(times, Fault.UNANSWERED)
    writes(path, 1)
    assert numbers(path) == [1]
    assert delta.opened(path).version() == 1


@pytest.mark.parametrize(("writes", "fault"), [(appended, Fault.LOST), (replaced, Fault.BUSY), (committed, Fault.LOST)])
def test_a_commit_that_never_arrived_is_tried_again(proxy: Counting, path: str, writes: Callable[[str, int], None], fault: Fault) -> None:
    proxy.fault = files_of_log(3, fault)
    writes(path, 1)
    assert numbers(path) == [1]
    assert delta.opened(path).version() == 1


@pytest.mark.parametrize("writes", WRITERS)
def test_a_commit_that_is_refused_takes_its_version_and_can_come_no_more(
    proxy: Counting, path: str, writes: Callable[[str, int], None]
) -> None:
    proxy.fault = files_of_log(6, Fault.LOST)  # both requests of all three attempts
    with pytest.raises(UserError):
        writes(path, 1)
    assert (numbers(path), delta.opened(path).version()) == ([], 1)


def test_a_table_is_made_once_though_the_answer_was_lost(proxy: Counting, bucket: str) -> None:
    for times, fault in enumerate((Fault.UNANSWERED, Fault.LOST, Fault.UNANSWERED, Fault.BUSY), start=1):
        path = f"{bucket}/made{times}"
        proxy.fault = files_of_log(times, fault)
        assert delta_commits.create(path, SCHEMA, partition=()).version() == 0


def test_columns_are_added_once_though_the_answer_was_lost(proxy: Counting, path: str) -> None:
    wanted = SCHEMA.replace('"n"', '"m"')
    proxy.fault = files_of_log(3, Fault.UNANSWERED)
    assert [field.name for field in delta_commits.add_columns(delta.opened(path), wanted).schema().fields] == ["n", "m"]
    assert delta.opened(path).version() == 1


def test_a_fence_takes_a_version_whatever_becomes_of_its_requests(proxy: Counting, path: str) -> None:
    for times, fault in ((1, Fault.UNANSWERED), (1, Fault.LOST), (2, Fault.UNANSWERED)):
        before = delta.opened(path).version()
        proxy.fault = files_of_log(times, fault)
        delta_commits.fence(path, f"lease {before}")
        assert delta.opened(path).version() == before + 1


def test_of_many_writers_at_once_on_a_bad_network_each_commit_is_there_once_if_acknowledged_and_else_not_at_all(
    proxy: Counting, path: str
) -> None:
    chance, gate = random.Random(12), threading.Lock()

    def befalls(request: Request) -> Fault | None:
        with gate:
            return chance.choice([None, None, None, *Fault]) if request.creates else None

    def works(first: int) -> list[int]:
        done = []
        for n in range(first, first + 4):
            try:
                (appended, committed)[n % 2](path, n)
            except (delta_commits.CommitConflict, UserError):
                continue
            done.append(n)
        return done

    proxy.fault = befalls
    with ThreadPoolExecutor(4) as threads:
        acknowledged = [n for done in threads.map(works, range(0, 16, 4)) for n in done]
    proxy.fault = lambda _: None
    assert Counter(numbers(path)) == Counter(acknowledged)
    assert len(acknowledged) > 8
