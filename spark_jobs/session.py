"""Builds Spark: the session of every offline job. `python -m spark_jobs.session` fetches the jars and keeps Spark's classes."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from spark_jobs.jvm import DUMP_SECONDS, JAVA_OPTIONS, OPTIONS, SparkUnavailable, classes, delta_jars, jar_cache, spark_environment

if TYPE_CHECKING:
    from pyspark import SparkConf
    from pyspark.sql import SparkSession

    from lake.s3 import Reach

# Listing 1,500 files costs 0.4 CPU-s one after the other, and 12 as a job with a task for each, which is Spark's way beyond 32 (measured).
LISTED = 2_000


def session(
    *,
    jars: Sequence[Path],
    scratch: Path,
    master: str = "local[*]",
    driver_memory: str = "3g",
    more_jars: Sequence[Path] = (),
    conf: Mapping[str, str] = MappingProxyType({}),
) -> SparkSession:
    """Return this process's Spark session, starting Spark where it does not run yet.

    `jars` are `delta_jars(...)`, `more_jars` what a project adds; `scratch` takes Spark's temporary files and `driver.log`, where all
    that the JVM prints goes. What `conf` names wins over every default here. Sets `JAVA_HOME`, `SPARK_HOME` and, with a local master,
    `PYSPARK_PYTHON` and `SPARK_LOCAL_IP` in this process's environment, because Spark reads them nowhere else.
    """
    from pyspark import SparkConf, SparkContext
    from pyspark.sql import SparkSession

    scratch.mkdir(parents=True, exist_ok=True)
    settings = SparkConf(loadDefaults=False)
    for name, value in (_common(scratch, driver_memory) | _by_master(master, jars, more_jars) | dict(conf)).items():
        settings.set(name, value)
    settings.setMaster(master).setIfMissing("spark.app.name", "headwater")
    for name in ("DataFrameQueryContextLogger", "SQLQueryContextLogger"):
        # They print every error that Spark raises, also those that are caught and told by whoever asked.
        logging.getLogger(name).disabled = True
    if SparkContext._gateway is None:
        _start_driver(settings, scratch / "driver.log", local=master.startswith("local"))
    return SparkSession.builder.config(conf=settings).getOrCreate()


def tell_of_s3(spark: SparkSession, reach: Reach) -> None:
    """Tell a Spark that runs where S3 is; one that has `s3_conf` from its start is told nothing new. Raises SparkUnavailable."""
    java = spark._jvm
    if java is not None and not java.org.apache.spark.util.Utils.classIsLoadable("org.apache.hadoop.fs.s3a.S3AFileSystem"):
        raise SparkUnavailable(
            "this process's Spark was started without the jars of S3, which cannot be added later: close the project that started it, "
            "and open the one that has its lake or a source on S3 in a process of its own"
        )
    for name, value in s3_conf(reach).items():
        spark.conf.set(name.removeprefix("spark.hadoop."), value)


def s3_conf(reach: Reach) -> dict[str, str]:
    """How Spark reaches S3: it finds the keys itself, by the variables, a profile or the machine's role, so that its settings hold none.

    What tasks write appears when the job is committed, by uploads that are completed then.
    """
    endpoint = {} if reach.endpoint is None else {"endpoint": reach.endpoint, "path.style.access": "true"}
    said = {
        **endpoint,
        "endpoint.region": str(reach.region),
        "aws.credentials.provider": "software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider",
        "committer.name": "magic",
    }
    return {
        **{f"spark.hadoop.fs.s3a.{name}": value for name, value in said.items()},
        "spark.sql.sources.commitProtocolClass": "org.apache.spark.internal.io.cloud.PathOutputCommitProtocol",
        "spark.sql.parquet.output.committer.class": "org.apache.spark.internal.io.cloud.BindingParquetOutputCommitter",
    }


def known_listings(spark: SparkSession) -> Any:
    """A new part of Spark's own cache of what lies in folders: what is put there is not listed."""
    java = spark._jvm
    if java is None:
        raise RuntimeError("Spark has been stopped")
    return java.org.apache.spark.sql.execution.datasources.FileStatusCache.getOrCreate(spark._jsparkSession)


def is_local(spark: SparkSession) -> bool:
    """Whether all of Spark runs in one process on this machine."""
    return str(spark.sparkContext.master).startswith("local")


def scratch(spark: SparkSession) -> Path:
    """The folder on this machine where Spark keeps its temporary files."""
    return Path(spark.conf.get("spark.local.dir") or tempfile.gettempdir())


@contextmanager
def scratch_folder(spark: SparkSession) -> Iterator[str]:
    """A folder on this machine, among Spark's temporary files, that is gone after the block."""
    place = scratch(spark)
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="written-", dir=place, ignore_cleanup_errors=True) as folder:
        yield folder


def running() -> bool:
    """Whether this process runs Spark already, so that who asks for it next shares it."""
    pyspark = sys.modules.get("pyspark")
    return pyspark is not None and pyspark.SparkContext._active_spark_context is not None


def _common(scratch: Path, driver_memory: str) -> dict[str, str]:
    return {
        "spark.driver.memory": driver_memory,
        "spark.driver.extraJavaOptions": OPTIONS,
        "spark.executor.extraJavaOptions": OPTIONS,
        "spark.hadoop.fs.s3a.buffer.dir": str(scratch / "uploads"),
        "spark.local.dir": str(scratch / "local"),
        # Else each Column built in Python looks up the line that built it, which costs as much as a small job.
        "spark.python.sql.dataFrameDebugging.enabled": "false",
        "spark.log.level": "ERROR",
        "spark.sql.adaptive.enabled": "true",
        "spark.sql.ansi.enabled": "true",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.catalogImplementation": "in-memory",
        # A batch is bound by its rows; to bound its bytes too all columns are measured after every row, a seventh of a training set's CPU.
        "spark.sql.execution.arrow.maxBytesPerBatch": "2147483647",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        # Beyond this many keys in a task Spark falls back to sorting; 128 by default, which an entity key always exceeds.
        "spark.sql.objectHashAggregate.sortBased.fallbackThreshold": "20000",
        # INT96, the default, carries no statistics, so readers could not skip files by time.
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.sources.parallelPartitionDiscovery.threshold": str(LISTED),
        # As it is by default, but not said Spark asks the environment for it each time that an expression takes a value out of a row.
        "spark.sql.types.framework.enabled": "false",
        "spark.sql.warehouse.dir": (scratch / "warehouse").absolute().as_uri(),
        "spark.databricks.delta.snapshotPartitions": "1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }


def _by_master(master: str, jars: Sequence[Path], more_jars: Sequence[Path]) -> dict[str, str]:
    threads = re.fullmatch(r"local(?:\[(\*|\d+)(?:,.*)?\])?", master)
    if threads is None:
        return {"spark.jars": ",".join(map(str, (*jars, *more_jars)))}
    cores = {None: 1, "*": os.cpu_count() or 1}.get(threads[1]) or int(threads[1])
    kept = classes(jars)
    return {
        "spark.driver.extraJavaOptions": f'{JAVA_OPTIONS} "-XX:SharedArchiveFile={kept}"' if kept.exists() else JAVA_OPTIONS,
        "spark.driver.extraClassPath": os.pathsep.join(map(str, jars)),
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        # Hadoop's own starts a process, chmod, for every file and folder: a write to 400 dates took four times the CPU (measured).
        "spark.hadoop.fs.file.impl": "com.globalmentor.apache.hadoop.fs.BareLocalFileSystem",
        # Not on the class path, with which the kept classes must agree.
        "spark.jars": ",".join(map(str, more_jars)),
        "spark.sql.shuffle.partitions": str(cores),
    }


def _start_driver(settings: SparkConf, log: Path, *, local: bool) -> None:
    from pyspark import SparkContext
    from pyspark.errors import PySparkRuntimeError
    from pyspark.java_gateway import launch_gateway

    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        os.environ |= spark_environment()
    if local:
        os.environ |= {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    with log.open("ab") as output:
        start = output.tell()
        try:
            gateway = launch_gateway(settings, {"stdout": output, "stderr": subprocess.STDOUT})  # type: ignore[no-untyped-call]  # not annotated
        except PySparkRuntimeError as error:
            said = log.read_bytes()[start:].decode(errors="replace").strip().splitlines()
            raise SparkUnavailable(f"Spark's JVM ended at once: {' | '.join(said[-3:])} (all of it: {log})") from error
    SparkContext(conf=settings, gateway=gateway)


def keep_classes(jars: Sequence[Path]) -> None:
    """Have Java keep the classes that a small job of Spark and Delta loads, ready to be mapped into memory by every later start.

    A cold start with its first job then takes a third less CPU (measured). The 200 MB lie in this Python environment; another Java, pyspark
    or jars get others, and Java itself uses none that do not fit.
    """
    kept = classes(jars)
    if kept.exists():
        return
    for old in kept.parent.glob("spark-*.jsa"):
        old.unlink()
    with tempfile.TemporaryDirectory(prefix=".spark-", dir=kept.parent, ignore_cleanup_errors=True) as folder:
        part = Path(folder) / kept.name
        recording = {"spark.driver.extraJavaOptions": f'{JAVA_OPTIONS} "-XX:ArchiveClassesAtExit={part}"'}
        spark = session(jars=jars, scratch=Path(folder), master="local[2]", driver_memory="1g", conf=recording)
        _exercise(spark, f"{folder}/table")
        gateway = spark.sparkContext._gateway
        spark.stop()
        if gateway is not None:
            gateway.shutdown()
            gateway.proc.stdin.close()
            try:
                gateway.proc.wait(timeout=DUMP_SECONDS)
            except subprocess.TimeoutExpired:
                gateway.proc.kill()
                return
        if part.exists():
            part.replace(kept)


def _exercise(spark: SparkSession, path: str) -> None:
    """A little of what every run does: tables written, replaced, read, aggregated, ranked and joined."""
    rows = spark.range(200).selectExpr("id", "id % 7 AS k", "rand() AS x", "timestamp_seconds(id * 9999) AS at")
    dated = rows.selectExpr("*", "to_date(at) AS date", "cast(x AS decimal(38,18)) AS d")
    dated.write.format("delta").partitionBy("date").save(path)
    for _ in range(2):
        first = "date < DATE'1970-01-03'"
        dated.where(first).repartition("date").write.format("delta").mode("overwrite").option("replaceWhere", first).save(path)
        spark.read.format("delta").load(path).createOrReplaceTempView("kept")
        ranked = "SELECT *, row_number() OVER (PARTITION BY k ORDER BY at) AS n, sum(d) OVER (PARTITION BY k ORDER BY id) AS s FROM kept"
        summed = "SELECT k, count(*) AS n, max(at) AS at, sum(d) AS d, collect_list(x) AS xs FROM kept GROUP BY k"
        spark.sql(f"SELECT a.*, b.xs FROM ({ranked}) a LEFT JOIN ({summed}) b USING (k)").toArrow()
        spark.sql(summed).write.mode("overwrite").partitionBy("k").parquet(f"{path}-summed")
        spark.read.schema("n bigint, xs array<double>, k int").parquet(f"{path}-summed").where("k > 3").toArrow()


if __name__ == "__main__":
    try:
        keep_classes(delta_jars(jar_cache()))
    except SparkUnavailable as problem:
        sys.exit(str(problem))
