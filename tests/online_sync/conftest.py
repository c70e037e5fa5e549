"""A real store for the tests of this folder: one Valkey server, emptied for each test."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from online_sync import embedded
from online_sync.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("store")
    yield embedded.ensure(folder)
    embedded.stop(folder)


@pytest.fixture
def url(server: str) -> str:
    """The URL of an empty store."""
    empty(server)
    return server


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with closing(Store(url)) as opened:
        yield opened


def empty(url: str) -> None:
    import redis

    with closing(redis.Redis.from_url(url)) as client:
        client.flushall()
