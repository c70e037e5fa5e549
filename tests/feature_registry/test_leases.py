"""A lease is held by one process and thread at a time, and never by a process that is gone."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from feature_registry import LeaseHeld, Registry, leases, open_registry

T = datetime(2026, 1, 5, 6, 30, tzinfo=UTC)
Program = subprocess.Popen[bytes]
HOLDING = """
import sys
from datetime import datetime, UTC
from feature_registry import open_registry
with open_registry(sys.argv[1]).lease("publish spend", now=datetime(2026, 1, 5, 6, 30, tzinfo=UTC)):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(start: Callable[[str], Program]) -> Program:
    """Another process that holds the lease until its input ends."""
    return start(HOLDING)


def test_a_lease_held_by_a_living_process_names_it_and_since_when(holder: Program, registry: Registry) -> None:
    with pytest.raises(LeaseHeld) as caught, registry.lease("publish spend", now=T + timedelta(days=1)):
        pass
    assert str(caught.value) == (
        f"publish spend is being worked on by process {holder.pid} since 2026-01-05T06:30:00Z; "
        "wait until it is done, or end it, and try again"
    )


def test_a_lease_is_free_again_when_its_holder_is_done(
    holder: Program, let_go: Callable[[list[Program]], list[int]], registry: Registry
) -> None:
    assert let_go([holder]) == [0]
    with registry.lease("publish spend", now=T):
        pass


def test_a_lease_is_waited_for_as_long_as_there_is_patience(
    holder: Program, let_go: Callable[[list[Program]], list[int]], registry: Registry
) -> None:
    with pytest.raises(LeaseHeld), registry.lease("publish spend", now=T, patience=timedelta(seconds=0.3)):
        pass
    leaving = threading.Timer(0.5, let_go, [[holder]])
    leaving.start()
    with registry.lease("publish spend", now=T, patience=timedelta(minutes=1)):
        leaving.join()
    assert holder.poll() == 0


def test_a_lease_of_a_killed_process_is_taken_over_at_once(holder: Program, registry: Registry) -> None:
    holder.kill()
    holder.wait()
    with registry.lease("publish spend", now=T):
        pass


def test_a_lease_of_a_killed_process_that_nobody_waited_for_is_taken_over(holder: Program, registry: Registry) -> None:
    holder.kill()
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    with registry.lease("publish spend", now=T):
        pass


def test_a_process_that_was_given_the_same_number_does_not_hold_the_lease(
    registry: Registry, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with registry.lease("a", now=T):
        monkeypatch.setattr(leases, "_started", lambda _: 1)
        with open_registry(url) as other, other.lease("a", now=T):
            pass


def test_a_lease_from_before_the_machine_was_started_is_taken_over(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    with registry.lease("a", now=T):
        monkeypatch.setattr(leases, "_boot", lambda: "another start")
        with registry.lease("a", now=T):
            pass


def test_a_lease_held_on_another_machine_is_never_taken_over(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    with registry.lease("a", now=T):
        here = leases.socket.gethostname()
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(leases.socket, "gethostname", lambda: "elsewhere")
            with pytest.raises(LeaseHeld, match=rf"process \d+ on {re.escape(here)} since"), registry.lease("a", now=T):
                pass


def test_a_lease_that_was_taken_over_is_not_given_back_by_its_first_holder(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    first = registry.lease("a", now=T)
    first.__enter__()
    with monkeypatch.context() as rebooted:
        rebooted.setattr(leases, "_boot", lambda: "another start")
        with registry.lease("a", now=T + timedelta(hours=1)):
            first.__exit__(None, None, None)
            with pytest.raises(LeaseHeld, match="since 2026-01-05T07:30:00Z"), registry.lease("a", now=T):
                pass


def test_a_lease_is_given_back_when_the_work_fails(registry: Registry) -> None:
    with pytest.raises(ZeroDivisionError), registry.lease("a", now=T):
        raise ZeroDivisionError
    with registry.lease("a", now=T):
        pass


def test_leases_of_other_names_do_not_hinder_each_other(registry: Registry) -> None:
    with registry.lease("a", now=T), registry.lease("b", now=T):
        pass


def test_of_threads_that_race_for_a_lease_one_gets_it(registry: Registry) -> None:
    gate, done, outcomes = threading.Barrier(6), threading.Event(), list[str]()

    def race() -> None:
        gate.wait()
        try:
            with registry.lease("a", now=T):
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
    start: Callable[[str], Program], let_go: Callable[[list[Program]], list[int]]
) -> None:
    racing = """
import os, sys
from datetime import datetime, UTC
from feature_registry import LeaseHeld, open_registry
registry, mark, held = open_registry(sys.argv[1]), sys.argv[1].removeprefix("sqlite:///") + ".mark", 0
print("ready", flush=True)
sys.stdin.read()
while held < 15:
    try:
        with registry.lease("a", now=datetime(2026, 1, 5, tzinfo=UTC)):
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
            os.unlink(mark)
            held += 1
    except LeaseHeld:
        pass
"""
    assert let_go([start(racing) for _ in range(3)]) == [0, 0, 0]


def test_a_process_that_does_not_exist_has_no_start() -> None:
    assert leases._started(2**30) is None


def test_this_process_started_once() -> None:
    assert leases._started(os.getpid()) == leases._started(os.getpid()) != 0


def test_without_proc_a_living_process_still_counts_as_living() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert leases._started_without_proc(child.pid) == 0
        child.kill()
    assert leases._started_without_proc(child.pid) is None
