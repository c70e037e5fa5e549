"""What the whole suite shares: one small Spark, and Hypothesis drawing the same examples on every run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from spark_jobs.session import delta_jars, jar_cache, session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession

    from tests.offline import World

INTERPRETED = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
"""On a few rows Spark computes faster than it compiles: a third of a run's CPU. Rows of windows are tested compiled, as in production."""

settings.register_profile("headwater", derandomize=True, deadline=None, print_blob=True, database=None)
settings.load_profile("headwater")


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Two processes share the suite, each with its own Spark: modules whole, the worlds in one of them, and the long ones first."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("worlds" if "worlds" in fixtures else item.nodeid.partition("::")[0]))
    items.sort(key=lambda item: "spark" not in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The suite's Spark: two threads, two shuffle partitions, plans interpreted, stopped at the end."""
    jars, scratch = delta_jars(jar_cache()), tmp_path_factory.mktemp("spark")
    running = session(jars=jars, scratch=scratch, master="local[2]", driver_memory="2g", conf=INTERPRETED)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def compiled(spark: SparkSession) -> Iterator[None]:
    """Plans are compiled, as in production."""
    spark.conf.set("spark.sql.codegen.wholeStage", "true")
    spark.conf.set("spark.sql.codegen.factoryMode", "FALLBACK")
    yield
    for name, value in INTERPRETED.items():
        spark.conf.set(name, value)


@pytest.fixture(scope="session")
def worlds(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[World]]:
    """Random histories, published in runs that came late, again and partly rejected: by the hour around a midnight, and by the day."""
    from feature_registry import open_registry
    from tests.offline import Lake, world

    made = []
    for number, (every, arrived_at) in enumerate((("1h", "arrived_at"), ("1d", None))):
        root = tmp_path_factory.mktemp("world")
        made.append(
            world(Lake(spark, root, open_registry(f"sqlite:///{root / 'registry.db'}")), number, every=every, arrived_at=arrived_at)
        )
    yield made
    for one in made:
        one.lake.registry.close()
