"""A new registry for each test, in a file and on a real PostgreSQL, and other processes that use it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from feature_registry import Registry, open_registry
from tests.postgresql import Server

Program = subprocess.Popen[bytes]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """The URL of a registry that does not exist yet, in SQLite and in PostgreSQL."""
    found: str = request.getfixturevalue(f"url_of_{request.param}")
    return found


@pytest.fixture
def url_of_sqlite(tmp_path: Path) -> str:
    """The URL of a file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'state' / 'registry.db'}"


@pytest.fixture
def url_of_postgresql(postgresql: Server) -> str:
    """The URL of an empty database."""
    return postgresql.emptied("registry")


@pytest.fixture
def registry(url: str) -> Iterator[Registry]:
    """An empty registry."""
    with open_registry(url) as opened:
        yield opened


@pytest.fixture
def start(url: str) -> Iterator[Callable[[str], Program]]:
    """Starts another Python with the registry's URL as its argument, and returns when it has said the first line."""
    started: list[Program] = []

    def start(code: str) -> Program:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        child = subprocess.Popen([sys.executable, "-c", code, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        started.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() != b""
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


@pytest.fixture
def let_go() -> Callable[[list[Program]], list[int]]:
    """Ends the input that started programs wait for, all at once, and gives their exit codes."""

    def let_go(programs: list[Program]) -> list[int]:
        for program in programs:
            assert program.stdin is not None
            program.stdin.close()
            program.stdin = None
        return [program.wait(60) for program in programs]

    return let_go
