"""Several processes that answer at one port: the parent starts them anew where they end, and kills those that hang."""

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


@dataclass(slots=True)
class _Worker:
    """A process, the pipe on which it shows that it lives, and when it last did; None before it answers for the first time."""

    pid: int
    pipe: int
    heard: float | None = None


@dataclass(slots=True)
class _Parent:
    """The workers that run, and whether they are to end."""

    work: Callable[[int], None]
    silent: float
    workers: list[_Worker] = field(default_factory=list)
    ends: bool = False

    def start(self) -> None:
        """Start one more."""
        reading, writing = os.pipe()
        pid = os.fork()
        if pid:
            os.close(writing)
            self.workers.append(_Worker(pid, reading))
            return
        os.close(reading)
        _worker(self.work, writing)

    def pass_on(self, number: int, _: object) -> None:
        """Pass a signal on to all of them."""
        self.ends = self.ends or number != signal.SIGHUP
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
            if self.ends:  # again, since one that was just being started may have missed it
                os.kill(worker.pid, signal.SIGTERM)
            if os.waitpid(worker.pid, os.WNOHANG)[0]:
                self._ended(worker)

    def _ended(self, worker: _Worker) -> None:
        os.close(worker.pipe)
        self.workers.remove(worker)
        if self.ends:
            return
        if worker.heard is None:
            raise WorkersFailed("a worker ended before it could answer; what it said stands above")
        self.start()


def run(work: Callable[[int], None], *, count: int, ready: Callable[[], None], silent: float = SILENT) -> None:
    """Run `work` in so many processes until SIGTERM or Ctrl-C, which they are passed on, as SIGHUP is.

    Each is given a pipe into which it writes at least every second while it lives. `ready` is called once all of them answer.
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


def _worker(work: Callable[[int], None], pipe: int) -> None:
    """What a new process does, and nothing after it: the parent's own way goes on in the parent alone."""
    code = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        work(pipe)
        code = 0
    except BaseException:  # noqa: BLE001  # the parent says that it failed
        traceback.print_exc()
    finally:
        os._exit(code)
