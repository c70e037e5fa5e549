"""Projects that tests of the verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from examples import starter
from tests import ledgers, projects
from tests.projects import Shop, within

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What `headwater init` makes, before anything was done with it."""
    folder = starter.make(tmp_path_factory.mktemp("fresh") / "shop")
    yield folder
    within("down", project=folder)


@pytest.fixture
def rejected(tmp_path: Path) -> Path:
    """A project whose gate rejected 4 January, so that 5 and 6 January wait."""
    with ledgers.project(tmp_path, now=ledgers.day(7, 12)) as p:
        ledgers.ran(p, {3: "PUBLISHED", 4: "REJECTED"})
    return tmp_path


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop with one payment that cannot be read and one day that the gate rejects."""
    return projects.published(tmp_path_factory.getbasetemp())
