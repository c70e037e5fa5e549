"""Several processes at one port: all answer, one that dies or hangs is replaced, and all end when asked."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.serving.processes import ROOT
from tests.serving.test_timed import BODY
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER = """
import sys
from serving import forked, server
forked.run.__kwdefaults__["silent"] = 4.0

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    import os
    body = str(os.getpid()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})

server.run(lambda: app, ready=lambda port: print(port, flush=True), port=0, processes=server.Processes(count=2))
"""


HANGING = """
from serving import forked, server
from tests.serving.test_timed import hanging
forked.run.__kwdefaults__["silent"] = 4.0
server.run(hanging, ready=lambda port: print(port, flush=True), port=0, processes=server.Processes(parent="always"))
"""


@contextmanager
def running(program: str = SERVER) -> Iterator[tuple[subprocess.Popen[str], int]]:
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.terminate()
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def who_answers(port: int) -> int:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET", "/")
        return int(connection.getresponse().read())


def asks_for_what_hangs(port: int) -> bytes:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("POST", "/v1/features", BODY)
        return connection.getresponse().read()


def children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def test_all_workers_answer_and_end_with_their_parent() -> None:
    with running() as (process, port):
        workers = children(process.pid)
        assert len(workers) == 2
        until(lambda: {who_answers(port) for _ in range(20)} == workers)
        process.terminate()
        assert process.wait(timeout=60) == 0
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


def test_a_worker_that_dies_or_hangs_is_replaced() -> None:
    with running() as (process, port):
        dies, hangs = sorted(children(process.pid))
        os.kill(dies, signal.SIGKILL)
        os.kill(hangs, signal.SIGSTOP)
        until(lambda: len(children(process.pid) - {dies, hangs}) == 2)
        assert children(process.pid).isdisjoint({dies, hangs})
        until(lambda: who_answers(port) not in {dies, hangs})


def test_a_worker_that_hangs_in_a_function_is_replaced_by_one_that_never_calls_it() -> None:
    with running(HANGING) as (process, port):
        [hangs] = children(process.pid)
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            asks_for_what_hangs(port)
        until(lambda: bool(children(process.pid) - {hangs}))
        answers: list[bytes] = []

        def is_answered() -> bool:
            with suppress(ConnectionRefusedError):  # the new one does not listen yet
                answers.append(asks_for_what_hangs(port))
            return bool(answers)

        until(is_answered)
        assert b'"slow":"FAILED"' in answers[0]
        assert hangs not in children(process.pid)
