"""Which process of which machine it is, so that another one can tell whether it is gone; and how it says again and again that it lives."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

_ENDED = ("Z", "X")
"""States of a process that has ended and only waits to be noticed."""


class Process(NamedTuple):
    """A process: its machine, which start of that, its number, and when it started, in clock ticks since then (0: not told)."""

    host: str
    boot: str
    pid: int
    started: int

    @property
    def is_here(self) -> bool:
        """Whether it is one of this machine."""
        return self.host == socket.gethostname()

    @property
    def is_gone(self) -> bool:
        """Whether it has surely ended: of another machine's process nobody can tell."""
        return self.is_here and (self.boot != boot() or started(self.pid) != self.started)


def this() -> Process:
    """The process that asks."""
    pid = os.getpid()
    return Process(socket.gethostname(), boot(), pid, started(pid) or 0)


def boot() -> str:
    """What tells one start of this machine from the next; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def started(pid: int) -> int | None:
    """When a process of this machine started, in clock ticks since boot (0 where the system does not say); None if it is gone."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None if Path("/proc/self/stat").exists() else _started_without_proc(pid)
    return None if state in _ENDED else int(fields[18])


@contextmanager
def beating(beat: Callable[[], None], *, every: timedelta, name: str, forgiven: type[Exception]) -> Iterator[None]:
    """Call `beat` again and again from a thread of its own while the block runs; when one is forgiven the next comes all the same."""
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(every.total_seconds()):
            with suppress(forgiven):
                beat()

    thread = threading.Thread(target=go_on, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _started_without_proc(pid: int) -> int | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return 0
    return 0
