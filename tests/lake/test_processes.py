"""Processes of this machine are told apart, and those that are gone from those that run."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lake import processes


def test_a_process_that_does_not_exist_has_no_start() -> None:
    assert processes.started(2**30) is None


def test_this_process_started_once() -> None:
    assert processes.started(os.getpid()) == processes.started(os.getpid()) != 0


def test_without_proc_a_living_process_still_counts_as_living() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert processes._started_without_proc(child.pid) == 0
        child.kill()
    assert processes._started_without_proc(child.pid) is None


def test_a_process_is_gone_once_it_has_ended_and_of_another_machine_nobody_knows() -> None:
    this = processes.this()
    assert not this.is_gone
    assert this._replace(started=this.started + 1).is_gone
    assert not this._replace(host="elsewhere", started=this.started + 1).is_gone


def test_all_processes_are_gone_that_ran_before_the_machine_started_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    this = processes.this()
    monkeypatch.setattr(processes, "boot", lambda: "another start")
    assert this.is_gone
