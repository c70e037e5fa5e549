"""What tests of the bridge share: Feast, whose import warns, and a project whose rows lie offline and online, told to Feast."""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

import headwater as hw
from tests.feast_bridge import shops

with warnings.catch_warnings(action="ignore"):
    from feast import FeatureStore

    from feast_bridge import projects, repository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyspark.sql import SparkSession


@dataclass(frozen=True, slots=True)
class Told:
    """A project that Feast was told of, and Feast's store on it."""

    project: hw.Project
    repo: Path
    store: FeatureStore


@pytest.fixture(scope="session")
def told(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """The little project, published, synced and told to Feast, at noon of 6 January."""
    folder = shops.made(tmp_path_factory.mktemp("told") / "shop")
    p = hw.open(folder, clock=functools.partial(lambda now: now, shops.NOW))
    projects.OPENED[folder.resolve()] = p
    p.write("payments", shops.payments())
    p.write("shops", shops.shops())
    p.materialize()
    p.sync()
    with warnings.catch_warnings(action="ignore"):
        repository.apply(p, folder / "feast")
        yield Told(p, folder / "feast", FeatureStore(repo_path=str(folder / "feast")))
    p.down()
    p.close()
    del projects.OPENED[folder.resolve()]
