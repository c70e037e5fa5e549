"""A lease is held by one process and thread at a time, and never by a process that is gone."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from sqlalchemy import Connection

from feature_definitions.record_rows import Row
from feature_definitions.records import PendingIngest, RegistryFacts
from feature_registry import LeaseHeld, LeaseLost, Registry, RegistryError, Subject, leases, open_registry, schema
from lake import processes

T = datetime(2026, 1, 5, 6, 30, tzinfo=UTC)
Program = subprocess.Popen[bytes]
HOLDING = """
import sys
from datetime import datetime, UTC
from feature_registry import Subject, open_registry
with open_registry(sys.argv[1]).lease(Subject("publish spend"), now=datetime(2026, 1, 5, 6, 30, tzinfo=UTC)):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(start: Callable[[str], Program]) -> Program:
    """Another process that holds the lease until its input ends."""
    return start(HOLDING)


def test_a_lease_held_by_a_living_process_names_it_and_since_when(holder: Program, registry: Registry) -> None:
    with pytest.raises(LeaseHeld) as caught, registry.lease(Subject("publish spend"), now=T + timedelta(days=1)):
        pass
    assert str(caught.value) == (
        f"publish spend is being worked on by process {holder.pid} since 2026-01-05T06:30:00Z; "
        "wait until it is done, or end it, and try again"
    )


def test_a_lease_is_free_again_when_its_holder_is_done(
    holder: Program, let_go: Callable[[list[Program]], list[int]], registry: Registry
) -> None:
    assert let_go([holder]) == [0]
    with registry.lease(Subject("publish spend"), now=T):
        pass


def test_a_lease_is_waited_for_as_long_as_there_is_patience(
    holder: Program, let_go: Callable[[list[Program]], list[int]], registry: Registry
) -> None:
    with pytest.raises(LeaseHeld), registry.lease(Subject("publish spend"), now=T, patience=timedelta(seconds=0.3)):
        pass
    leaving = threading.Timer(0.5, let_go, [[holder]])
    leaving.start()
    with registry.lease(Subject("publish spend"), now=T, patience=timedelta(minutes=1)):
        leaving.join()
    assert holder.poll() == 0


def test_a_lease_of_a_killed_process_is_taken_over_at_once(holder: Program, registry: Registry) -> None:
    holder.kill()
    holder.wait()
    with registry.lease(Subject("publish spend"), now=T):
        pass


def test_a_lease_of_a_killed_process_that_nobody_waited_for_is_taken_over(holder: Program, registry: Registry) -> None:
    holder.kill()
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    with registry.lease(Subject("publish spend"), now=T):
        pass


def test_a_process_that_was_given_the_same_number_does_not_hold_the_lease(
    registry: Registry, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with registry.lease(Subject("a"), now=T):
        monkeypatch.setattr(processes, "started", lambda _: 1)
        with open_registry(url) as other, other.lease(Subject("a"), now=T):
            pass


def test_a_lease_from_before_the_machine_was_started_is_taken_over(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    with registry.lease(Subject("a"), now=T):
        monkeypatch.setattr(processes, "boot", lambda: "another start")
        with registry.lease(Subject("a"), now=T):
            pass


# ------------------------------------------------------------------------------------------------------------------------ silence


SILENCE = timedelta(seconds=1)
ELSEWHERE = """
import socket, sys
from datetime import datetime, timedelta, UTC
socket.gethostname = lambda: "elsewhere"
from feature_definitions.records import PendingIngest
from feature_registry import LeaseLost, Subject, open_registry
T = datetime(2026, 1, 5, 6, 30, tzinfo=UTC)
registry = open_registry(sys.argv[1], silence=timedelta(seconds=1))
with registry.lease(Subject("a"), now=T) as lease:
    print("held", flush=True)
    sys.stdin.readline()
    outcomes = []
    for change in (
        lambda: lease.check(),
        lambda: registry.fence(),
        lambda: registry.begin_ingest(PendingIngest("i9", "payments", (), (), commits=True)),
        lambda: registry.finish_ingest("i1"),
        lambda: registry.abandon("i1"),
    ):
        try:
            change()
            outcomes.append("done")
        except LeaseLost as error:
            outcomes.append(str(error))
    print("|".join(outcomes), flush=True)
"""


@pytest.fixture
def impatient(url: str) -> Iterator[Registry]:
    """The registry as a process sees it that takes a silence of a second for the end."""
    with open_registry(url, silence=SILENCE) as opened:
        yield opened


def goes_on(program: Program) -> list[str]:
    """Let a holder do what it has to do; what came of it."""
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdin.write(b"\n")
    program.stdin.flush()
    return program.stdout.readline().decode().strip().split("|")


def test_a_lease_that_is_renewed_is_kept_however_long_the_work_takes(start: Callable[[str], Program], impatient: Registry) -> None:
    holder = start(ELSEWHERE)
    with pytest.raises(LeaseHeld, match=r"process \d+ on elsewhere since"), impatient.lease(Subject("a"), now=T, patience=3 * SILENCE):
        pass
    assert goes_on(holder) == ["done"] * 5


def test_a_lease_of_a_process_that_is_gone_on_another_host_ends_with_the_silence(
    start: Callable[[str], Program], impatient: Registry
) -> None:
    holder = start(ELSEWHERE)
    holder.kill()
    holder.wait()
    with pytest.raises(LeaseHeld), impatient.lease(Subject("a"), now=T):
        pass
    with impatient.lease(Subject("a"), now=T, patience=10 * SILENCE) as lease:
        assert (lease.token, lease.overtook) == (2, True)


@pytest.mark.parametrize("where", [ELSEWHERE, ELSEWHERE.replace('lambda: "elsewhere"', "socket.gethostname")], ids=["elsewhere", "here"])
def test_a_process_that_is_stopped_loses_its_lease_and_is_refused_when_it_goes_on(
    start: Callable[[str], Program], impatient: Registry, where: str
) -> None:
    impatient.begin_ingest(PendingIngest("i1", "payments", (), (), commits=True))
    holder = start(where)
    os.kill(holder.pid, signal.SIGSTOP)
    with impatient.lease(Subject("a"), now=T, patience=10 * SILENCE) as lease:
        assert lease.overtook
        os.kill(holder.pid, signal.SIGCONT)
        said = goes_on(holder)
        assert [line[:32] for line in said] == ["a was taken over by another proce"[:32]] * 5
        assert f"process {os.getpid()}" in said[0]
        lease.check()
    assert [pending.ingest_id for pending in impatient.pending_ingests("payments")] == ["i1"]
    assert holder.wait(60) == 0


def test_a_lease_that_was_lost_is_refused_also_when_it_was_given_back_meanwhile(
    start: Callable[[str], Program], impatient: Registry
) -> None:
    holder = start(ELSEWHERE)
    os.kill(holder.pid, signal.SIGSTOP)
    with impatient.lease(Subject("a"), now=T, patience=10 * SILENCE):
        pass
    os.kill(holder.pid, signal.SIGCONT)
    assert all(line.startswith("a was taken over by another process") for line in goes_on(holder))


def test_who_takes_a_lease_over_from_a_silent_process_fences_its_tables_first(
    start: Callable[[str], Program], impatient: Registry, tmp_path: Path
) -> None:
    table, missing = str(tmp_path / "table"), str(tmp_path / "missing")
    write_deltalake(table, pa.table({"a": [1]}))
    subject = Subject("a", lambda: (table, missing))
    os.kill(start(ELSEWHERE).pid, signal.SIGSTOP)
    with impatient.lease(subject, now=T, patience=10 * SILENCE):
        assert DeltaTable(table).version() == 1
    with impatient.lease(subject, now=T) as lease:
        assert not lease.overtook
        assert DeltaTable(table).version() == 1
    assert not Path(missing).exists()


def test_a_fence_that_was_not_set_is_set_by_the_next_holder(start: Callable[[str], Program], impatient: Registry, tmp_path: Path) -> None:
    table = str(tmp_path / "table")
    write_deltalake(table, pa.table({"a": [1]}))
    os.kill(start(ELSEWHERE).pid, signal.SIGSTOP)

    def fails() -> tuple[str]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), impatient.lease(Subject("a", fails), now=T, patience=10 * SILENCE):
        pass
    with impatient.lease(Subject("a", lambda: (table,)), now=T) as lease:
        assert (lease.token, lease.overtook, DeltaTable(table).version()) == (3, True, 1)


def test_who_waits_for_a_lease_says_so_once_and_names_the_holder(holder: Program, url: str) -> None:
    said: list[str] = []
    with (
        open_registry(url, say=said.append) as registry,
        pytest.raises(LeaseHeld),
        registry.lease(Subject("publish spend"), now=T, patience=timedelta(seconds=0.7)),
    ):
        pass
    assert len(said) == 1
    assert said[0].startswith(f"waiting: publish spend is being worked on by process {holder.pid} since ")


def test_a_renewal_that_fails_is_tried_again_and_does_not_disturb_the_work(impatient: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    real, tried = leases.renew, list[int]()

    def failing(connection: Connection, row: Row) -> None:
        tried.append(len(tried))
        if len(tried) < 3:
            raise RegistryError("the registry does not answer")
        real(connection, row)

    monkeypatch.setattr(leases, "renew", failing)
    with impatient.lease(Subject("a"), now=T) as lease:
        before = impatient.leases()[0].renewed_at
        deadline = time.monotonic() + 60
        while impatient.leases()[0].renewed_at == before and time.monotonic() < deadline:
            time.sleep(0.02)
        lease.check()
    assert len(tried) >= 3


def test_no_thread_is_left_when_a_lease_was_given_back(registry: Registry) -> None:
    before = threading.active_count()
    with registry.lease(Subject("a"), now=T):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_leases_tell_who_works_on_what_and_which_may_be_taken_over(start: Callable[[str], Program], impatient: Registry) -> None:
    holder = start(ELSEWHERE)
    with impatient.lease(Subject("b"), now=T + timedelta(hours=1)):
        pass
    with impatient.lease(Subject("b"), now=T + timedelta(hours=2)):
        elsewhere, here = impatient.leases()
        assert (here.name, here.pid, here.since, here.token, here.may_be_taken_over) == ("b", os.getpid(), T + timedelta(hours=2), 2, False)
        assert (elsewhere.name, elsewhere.host, elsewhere.pid, elsewhere.since) == ("a", "elsewhere", holder.pid, T)
        assert timedelta(0) <= datetime.now(UTC) - elsewhere.renewed_at < timedelta(seconds=10)
    os.kill(holder.pid, signal.SIGSTOP)
    deadline = time.monotonic() + 60
    while not impatient.leases()[0].may_be_taken_over and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [lease.may_be_taken_over for lease in impatient.leases()] == [True]


def test_who_could_renew_nothing_for_a_while_keeps_the_lease_by_renewing_before_the_next_beats(impatient: Registry, url: str) -> None:
    """The machine slept, or the database was locked: holder and waiter go on at the same time."""
    with impatient.lease(Subject("a"), now=T), open_registry(url, silence=SILENCE) as waiting:
        with impatient._database.writing() as connection:
            past = leases.clock(connection) - 10 * SILENCE // timedelta(microseconds=1)
            connection.execute(schema.leases.update().values(renewed_at=past))
        with pytest.raises(LeaseHeld), waiting.lease(Subject("a"), now=T):
            pass
        impatient.fence()


def test_a_restore_takes_the_leases_of_silent_processes(start: Callable[[str], Program], impatient: Registry) -> None:
    holder = start(ELSEWHERE)
    with pytest.raises(LeaseHeld, match="on elsewhere"):
        impatient.restore(RegistryFacts())
    os.kill(holder.pid, signal.SIGSTOP)
    time.sleep(1.5 * SILENCE.total_seconds())
    impatient.restore(RegistryFacts())
    os.kill(holder.pid, signal.SIGCONT)
    assert all(line.startswith("a was taken over by another process") for line in goes_on(holder))
    with impatient.lease(Subject("a"), now=T) as lease:
        assert lease.overtook


def test_another_thread_of_a_holder_does_not_write_under_its_lease(impatient: Registry, url: str) -> None:
    other = open_registry(url, silence=timedelta(0))
    with impatient.lease(Subject("a"), now=T), ThreadPoolExecutor() as threads, other, other.lease(Subject("a"), now=T):
        with pytest.raises(LeaseLost):
            impatient.abandon("i1")
        threads.submit(impatient.abandon, "i1").result()


# ------------------------------------------------------------------------------------------------------------------- giving it back


def test_a_lease_that_was_taken_over_is_not_given_back_by_its_first_holder(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    first = registry.lease(Subject("a"), now=T)
    first.__enter__()
    with monkeypatch.context() as rebooted:
        rebooted.setattr(processes, "boot", lambda: "another start")
        with registry.lease(Subject("a"), now=T + timedelta(hours=1)):
            first.__exit__(None, None, None)
            with pytest.raises(LeaseHeld, match="since 2026-01-05T07:30:00Z"), registry.lease(Subject("a"), now=T):
                pass


def test_a_lease_is_given_back_when_the_work_fails(registry: Registry) -> None:
    with pytest.raises(ZeroDivisionError), registry.lease(Subject("a"), now=T):
        raise ZeroDivisionError
    with registry.lease(Subject("a"), now=T):
        pass


def test_leases_of_other_names_do_not_hinder_each_other(registry: Registry) -> None:
    with registry.lease(Subject("a"), now=T), registry.lease(Subject("b"), now=T):
        pass


def test_of_threads_that_race_for_a_lease_one_gets_it(registry: Registry) -> None:
    gate, done, outcomes = threading.Barrier(6), threading.Event(), list[str]()

    def race() -> None:
        gate.wait()
        try:
            with registry.lease(Subject("a"), now=T):
                outcomes.append("held")
                done.wait(30)
        except LeaseHeld:
            outcomes.append("refused")
        if len(outcomes) == 6:
            done.set()

    working = [threading.Thread(target=race) for _ in range(6)]
    for thread in working:
        thread.start()
    for thread in working:
        thread.join()
    assert sorted(outcomes) == ["held", *["refused"] * 5]


def test_processes_that_race_for_a_lease_never_hold_it_together(
    start: Callable[[str], Program], let_go: Callable[[list[Program]], list[int]], tmp_path: Path
) -> None:
    racing = f"""
import os, sys
from datetime import datetime, UTC
from feature_registry import LeaseHeld, Subject, open_registry
registry, mark, held = open_registry(sys.argv[1]), {str(tmp_path / "mark")!r}, 0
print("ready", flush=True)
sys.stdin.read()
while held < 15:
    try:
        with registry.lease(Subject("a"), now=datetime(2026, 1, 5, tzinfo=UTC)):
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
            os.unlink(mark)
            held += 1
    except LeaseHeld:
        pass
"""
    assert let_go([start(racing) for _ in range(3)]) == [0, 0, 0]
