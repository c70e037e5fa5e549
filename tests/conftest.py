"""What the whole suite shares: one small Spark, and Hypothesis drawing the same examples on every run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from spark_jobs.session import delta_jars, jar_cache, session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession

settings.register_profile("headwater", derandomize=True, deadline=None, print_blob=True, database=None)
settings.load_profile("headwater")


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The suite's Spark: two threads, two shuffle partitions, stopped at the end."""
    running = session(jars=delta_jars(jar_cache()), scratch=tmp_path_factory.mktemp("spark"), master="local[2]", driver_memory="2g")
    yield running
    running.stop()
