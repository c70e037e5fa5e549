"""What the whole suite shares: one small Spark, and Hypothesis drawing the same examples on every run."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants
from xdist.scheduler import LoadScopeScheduling

from lake.s3 import reach
from spark_jobs.jvm import delta_jars, jar_cache, s3_jars
from spark_jobs.session import s3_conf, session, tell_of_s3
from tests.s3 import KEY, SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pyspark.sql import SparkSession

    from tests import s3
    from tests.offline import World
    from tests.postgresql import Server

INTERPRETED = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
"""On a few rows Spark computes faster than it compiles: a third of a run's CPU. Rows of windows are tested compiled, as in production."""
SMALL = {"spark.buffer.pageSize": "2m"}
"""A table that is broadcast takes a page at least, else of 32 MB, for as long as a frame of it lives."""

settings.register_profile("headwater", derandomize=True, deadline=None, print_blob=True, database=None)
settings.load_profile("headwater")
# Hypothesis also draws what constants the imported modules hold: other ones after each change of ours, and in each process.
providers._get_local_constants = Constants


WORLDS = ("tests/spark_jobs/test_point_in_time.py", "tests/spark_jobs/publish/test_commit.py", "tests/test_readers.py")
"""The modules that read the worlds, which are made once for all of them."""


class ByModule(LoadScopeScheduling):
    """Each module runs whole in one of the processes."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return WORLDS[0] if module in WORLDS else module


OWN_SPARK = ("tests/test_takeover.py", "tests/test_readme.py::test_every_command")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByModule:
    """Two processes share the suite, each with its own Spark."""
    return ByModule(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones come first: those on the suite's Spark, and those that start one of their own."""
    items.sort(key=lambda item: "spark" not in getattr(item, "fixturenames", ()) and not item.nodeid.startswith(OWN_SPARK))


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The suite's Spark: two threads, two shuffle partitions, plans interpreted, stopped at the end.

    It has the jars of S3 and the keys of the tests' servers; where they are, it is told by `on_s3`.
    """
    jars, scratch = delta_jars(jar_cache()), tmp_path_factory.mktemp("spark")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", KEY)
        environment.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        remote = s3_jars(jar_cache())
        running = session(jars=jars, scratch=scratch, master="local[2]", driver_memory="2g", more_jars=remote, conf=INTERPRETED | SMALL)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A real PostgreSQL, on loopback, for all tests of this process."""
    from tests.postgresql import running

    with running() as server:
        yield server


@pytest.fixture(scope="session")
def moto() -> Iterator[s3.Server]:
    """An S3 server that keeps everything in memory, for all tests of this process: make a bucket of your own."""
    from tests import s3

    with s3.moto() as server:
        yield server


@pytest.fixture(scope="session")
def versitygw() -> Iterator[s3.Server]:
    """An S3 server that keeps everything through any kill; Go builds it, which takes minutes the first time."""
    from tests import s3

    with s3.versitygw() as server:
        yield server


@pytest.fixture(scope="module")
def on_s3(spark: SparkSession, moto: s3.Server) -> Iterator[s3.Server]:
    """moto, which this process and the suite's Spark reach as long as a module's tests run."""
    with reached(spark, moto.environment):
        yield moto


@contextmanager
def reached(spark: SparkSession, variables: Mapping[str, str]) -> Iterator[None]:
    """The server of which the variables speak is the one that this process and the suite's Spark reach."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in variables.items():
            environment.setenv(name, value)
        before = {name: spark.conf.get(name, None) for name in map(_set, s3_conf(reach()))}
        tell_of_s3(spark, reach())
        yield
    for name, value in before.items():
        spark.conf.unset(name) if value is None else spark.conf.set(name, value)


def _set(name: str) -> str:
    return name.removeprefix("spark.hadoop.")


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
