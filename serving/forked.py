"""Several processes that answer at one port: the parent starts them anew where they end, and kills those that hang."""

import mmap
import os
import select
import signal
import socket
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

SILENT = 10.0
"""After so many seconds without a sign of life a worker hangs."""


class WorkersFailed(RuntimeError):
    """A worker ended before it could answer."""


_MOST_NAME = 255
"""Bytes of the name of what a worker is at, at most."""


@dataclass(frozen=True, slots=True)
class Life:
    """How a worker shows its parent that it lives and at what it is; `hung` is at what others hung."""

    pipe: int
    _at: mmap.mmap
    hung: frozenset[str]

    def beat(self) -> None:
        """Show that it lives: at least every second."""
        os.write(self.pipe, b".")

    def begins(self, what: str) -> None:
        """Say at what it is."""
        self._at[: _MOST_NAME + 1] = what.encode()[:_MOST_NAME].ljust(_MOST_NAME + 1, b"\0")

    def ends(self) -> None:
        """Say that it is at nothing of note."""
        self._at[0] = 0


@dataclass(slots=True)
class _Worker:
    """A process, the pipe on which it shows that it lives, and when it last did; None before it answers for the first time.

    `at` is shared with it, and holds the name of what it is at.
    """

    pid: int
    pipe: int
    at: mmap.mmap
    heard: float | None = None


@dataclass(slots=True)
class _Parent:
    """The workers that run, and whether they are to end."""

    work: Callable[[Life], None]
    silent: float
    hung: set[str] = field(default_factory=set)
    workers: list[_Worker] = field(default_factory=list)
    ends: bool = False

    def start(self) -> None:
        """Start one more."""
        (reading, writing), at = os.pipe(), mmap.mmap(-1, _MOST_NAME + 1)
        pid = os.fork()
        if pid:
            os.close(writing)
            self.workers.append(_Worker(pid, reading, at))
            return
        os.close(reading)
        _worker(self.work, Life(writing, at, frozenset(self.hung)))

    def pass_on(self, number: int, _: object) -> None:
        """Pass a signal on to all of them."""
        self.ends = self.ends or number != signal.SIGHUP
        self.hung.clear()  # what is taken up anew may be right now
        for worker in self.workers:
            with suppress(ProcessLookupError):
                os.kill(worker.pid, number)

    def look(self) -> None:
        """Hear who lives, kill who hangs, and start anew who ended."""
        heard, _, _ = select.select([worker.pipe for worker in self.workers], [], [], min(0.5, self.silent / 4))
        for worker in list(self.workers):
            now = time.monotonic()
            if worker.pipe in heard and os.read(worker.pipe, 4096):
                worker.heard = now
            if worker.heard is not None and now - worker.heard > self.silent:
                os.kill(worker.pid, signal.SIGKILL)
                self.hung |= {name for name in (bytes(worker.at).partition(b"\0")[0].decode(errors="replace"),) if name}
            if self.ends:  # again, since one that was just being started may have missed it
                os.kill(worker.pid, signal.SIGTERM)
            if os.waitpid(worker.pid, os.WNOHANG)[0]:
                self._ended(worker)

    def _ended(self, worker: _Worker) -> None:
        os.close(worker.pipe)
        worker.at.close()
        self.workers.remove(worker)
        if self.ends:
            return
        if worker.heard is None:
            raise WorkersFailed("a worker ended before it could answer; what it said stands above")
        self.start()


def run(work: Callable[[Life], None], *, count: int, ready: Callable[[], None], silent: float = SILENT) -> None:
    """Run `work` in so many processes until SIGTERM or Ctrl-C, which they are passed on, as SIGHUP is.

    Each is given a way to show that it lives. `ready` is called once all of them answer.
    """
    parent = _Parent(work, silent)
    with ExitStack() as before:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            before.callback(signal.signal, number, signal.signal(number, parent.pass_on))
        for _ in range(count):
            parent.start()
        try:
            told = False
            while parent.workers:
                parent.look()
                if not told and len(parent.workers) == count and all(worker.heard is not None for worker in parent.workers):
                    told = True
                    ready()
        finally:
            parent.pass_on(signal.SIGTERM, None)


def shared(host: str, port: int, *, family: int) -> socket.socket:
    """A socket that is bound to a port that others share; it takes no connections before it listens."""
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind((host, port))
    return made


def _worker(work: Callable[[Life], None], life: Life) -> None:
    """What a new process does, and nothing after it: the parent's own way goes on in the parent alone."""
    code = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        work(life)
        code = 0
    except BaseException:  # noqa: BLE001  # the parent says that it failed
        traceback.print_exc()
    finally:
        os._exit(code)
