"""A service in front of a filled store, for a whole module, and a filled store that a test has for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from online_sync import embedded
from tests.serving.processes import Service, fill, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("store")
    url = embedded.ensure(folder)
    fill(url)
    with serving(url) as running:
        yield running
    embedded.stop(folder)


@pytest.fixture
def own_store(tmp_path: Path) -> Iterator[Path]:
    """The folder of a filled store that the test may kill."""
    fill(embedded.ensure(tmp_path))
    yield tmp_path
    embedded.stop(tmp_path)
