"""Builds Spark: the session of every offline job, and the jars of Delta that it needs.

Importing this module loads neither Spark nor anything else outside the standard library, so that `python3 -m spark_jobs.session java`
can tell whether Java is there before anything was installed. `python -m spark_jobs.session` fetches the jars and keeps Spark's classes.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from pyspark import SparkConf
    from pyspark.sql import SparkSession

DELTA = "io.delta:delta-spark_4.2_2.13:4.4.0"
LOCAL_FILES = "com.globalmentor:hadoop-bare-naked-local-fs:0.1.0"
PACKAGES = f"{DELTA},{LOCAL_FILES}"
# What else Delta's coordinates resolve to repeats, in older versions, what pyspark brings.
ALREADY_IN_SPARK = "com.f*:*,com.github*:*,com.google*:*,commons-*:*,io.airlift:*,jakarta.*:*,javax.*:*,org.*:*"
JARS = 8
JAVA_VERSIONS = (17, 21)
LEFTOVER_SECONDS = 3600.0
DUMP_SECONDS = 300.0
# Listing 1,500 files costs 0.4 CPU-s one after the other, and 12 as a job with a task for each, which is Spark's way beyond 32 (measured).
LISTED = 2_000
# The JVM's second compiler costs a short job as much CPU again as the job, and gains a long one nothing (measured). Without it the
# JVM sets only 48 MB aside for compiled code, which Spark's generated classes fill: then it slows down and dies (seen).
JAVA_OPTIONS = "-Duser.timezone=UTC -XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=512m"


class SparkUnavailable(RuntimeError):
    """Spark cannot start on this machine; the message is one sentence that says what to do."""


class JavaMissing(SparkUnavailable):
    """No Java that Spark runs on was found."""


class JarsMissing(SparkUnavailable):
    """The jars of Delta and of local files are neither in the cache nor could they be fetched."""


def session(
    *,
    jars: Sequence[Path],
    scratch: Path,
    master: str = "local[*]",
    driver_memory: str = "3g",
    conf: Mapping[str, str] = MappingProxyType({}),
) -> SparkSession:
    """Return this process's Spark session, starting Spark where it does not run yet.

    `jars` are `delta_jars(...)`; `scratch` takes Spark's temporary files and `driver.log`, where all that the JVM prints goes. What
    `conf` names wins over every default here. Sets `JAVA_HOME`, `SPARK_HOME` and, with a local master, `PYSPARK_PYTHON` and
    `SPARK_LOCAL_IP` in this process's environment, because Spark reads them nowhere else.
    """
    from pyspark import SparkConf, SparkContext
    from pyspark.sql import SparkSession

    scratch.mkdir(parents=True, exist_ok=True)
    settings = SparkConf(loadDefaults=False)
    for name, value in (_common(scratch, driver_memory) | _by_master(master, jars) | dict(conf)).items():
        settings.set(name, value)
    settings.setMaster(master).setIfMissing("spark.app.name", "headwater")
    for name in ("DataFrameQueryContextLogger", "SQLQueryContextLogger"):
        # They print every error that Spark raises, also those that are caught and told by whoever asked.
        logging.getLogger(name).disabled = True
    if SparkContext._gateway is None:
        _start_driver(settings, scratch / "driver.log", local=master.startswith("local"))
    return SparkSession.builder.config(conf=settings).getOrCreate()


def running() -> bool:
    """Whether this process runs Spark already, so that who asks for it next shares it."""
    pyspark = sys.modules.get("pyspark")
    return pyspark is not None and pyspark.SparkContext._active_spark_context is not None


def _common(scratch: Path, driver_memory: str) -> dict[str, str]:
    return {
        "spark.driver.memory": driver_memory,
        "spark.driver.extraJavaOptions": "-Duser.timezone=UTC",
        "spark.executor.extraJavaOptions": "-Duser.timezone=UTC",
        "spark.local.dir": str(scratch / "local"),
        # Else each Column built in Python looks up the line that built it, which costs as much as a small job.
        "spark.python.sql.dataFrameDebugging.enabled": "false",
        "spark.log.level": "ERROR",
        "spark.sql.adaptive.enabled": "true",
        "spark.sql.ansi.enabled": "true",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        # Beyond this many keys in a task Spark falls back to sorting; 128 by default, which an entity key always exceeds.
        "spark.sql.objectHashAggregate.sortBased.fallbackThreshold": "20000",
        # INT96, the default, carries no statistics, so readers could not skip files by time.
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.sources.parallelPartitionDiscovery.threshold": str(LISTED),
        "spark.sql.warehouse.dir": (scratch / "warehouse").absolute().as_uri(),
        "spark.databricks.delta.snapshotPartitions": "1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }


def _by_master(master: str, jars: Sequence[Path]) -> dict[str, str]:
    threads = re.fullmatch(r"local(?:\[(\*|\d+)(?:,.*)?\])?", master)
    if threads is None:
        return {"spark.jars": ",".join(map(str, jars))}
    cores = {None: 1, "*": os.cpu_count() or 1}.get(threads[1]) or int(threads[1])
    kept = _classes(jars)
    return {
        "spark.driver.extraJavaOptions": f'{JAVA_OPTIONS} "-XX:SharedArchiveFile={kept}"' if kept.exists() else JAVA_OPTIONS,
        "spark.driver.extraClassPath": os.pathsep.join(map(str, jars)),
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        # Hadoop's own starts a process, chmod, for every file and folder: a write to 400 dates took four times the CPU (measured).
        "spark.hadoop.fs.file.impl": "com.globalmentor.apache.hadoop.fs.BareLocalFileSystem",
        "spark.sql.shuffle.partitions": str(cores),
    }


def _start_driver(settings: SparkConf, log: Path, *, local: bool) -> None:
    from pyspark import SparkContext
    from pyspark.errors import PySparkRuntimeError
    from pyspark.java_gateway import launch_gateway

    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        os.environ |= _spark_environment()
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


def _spark_environment() -> dict[str, str]:
    import pyspark

    return {"JAVA_HOME": str(java_home()), "SPARK_HOME": str(Path(pyspark.__file__).parent)}


def java_home() -> Path:
    """Return the home of the Java to use: `JAVA_HOME`'s, the one on `PATH`, or one below /usr/lib/jvm, the first that is 17 or 21."""
    on_path = shutil.which("java")
    candidates = [
        *([Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []),
        *([Path(on_path).resolve().parent.parent] if on_path else []),
        *sorted(Path("/usr/lib/jvm").glob("*")),
    ]
    found = {}
    for home in candidates:
        found[home] = _java_version(home / "bin" / "java")
        if found[home] in JAVA_VERSIONS:
            return home
    others = (
        "; found only " + ", ".join(f"Java {version} in {home}" for home, version in found.items() if version)
        if any(found.values())
        else ""
    )
    raise JavaMissing(
        f"Spark needs Java 17 or 21{others}: install one (Debian, Ubuntu: apt-get install default-jre-headless) or point JAVA_HOME at one."
    )


def _java_version(executable: Path) -> int | None:
    version = re.search(r'version "(?:1\.)?(\d+)', _introduced(executable))
    return int(version[1]) if version else None


@cache
def _introduced(executable: Path) -> str:
    """What a Java says of itself; nothing if it is none."""
    try:
        return subprocess.run([executable, "-version"], capture_output=True, text=True, timeout=60, check=False).stderr
    except OSError:
        return ""


def keep_classes(jars: Sequence[Path]) -> None:
    """Have Java keep the classes that a small job of Spark and Delta loads, ready to be mapped into memory by every later start.

    A cold start with its first job then takes a third less CPU (measured). The 200 MB lie in this Python environment; another Java, pyspark
    or jars get others, and Java itself uses none that do not fit.
    """
    kept = _classes(jars)
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


def _classes(jars: Sequence[Path]) -> Path:
    """Where the classes of this Java, this pyspark and these jars are kept."""
    import pyspark

    made_of = (_introduced(java_home() / "bin" / "java"), pyspark.__version__, [str(jar) for jar in jars])
    return Path(sys.prefix) / f"spark-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:12]}.jsa"


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


def jar_cache() -> Path:
    """Return the folder where Delta's jars are kept unless a caller chooses another: `jars` in Headwater's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("HEADWATER_CACHE") or Path(home) / "headwater") / "jars"


def delta_jars(cache: Path) -> tuple[Path, ...]:
    """Return Delta's jars in `cache`, fetched on the first call by Spark's own Ivy (13 MB) and whole or absent ever after.

    Honours `http_proxy`, `https_proxy`, `no_proxy`, and Spark's `DEFAULT_ARTIFACT_REPOSITORY` for a mirror.
    """
    kept = cache / PACKAGES.replace(":", "_").replace(",", "+")
    if len(_jars(kept)) < JARS:
        cache.mkdir(parents=True, exist_ok=True)
        _sweep(cache)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache, ignore_cleanup_errors=True) as work:
            _put(_fetch(Path(work)), kept)
    return _jars(kept)


def _jars(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(folder.glob("*.jar")))


def _sweep(cache: Path) -> None:
    for work in cache.glob(".fetch-*"):
        if time.time() - work.stat().st_mtime > LEFTOVER_SECONDS:
            shutil.rmtree(work, ignore_errors=True)


def _fetch(work: Path) -> Path:
    nothing = work / "nothing.py"
    nothing.touch()
    environment = {**os.environ, **_spark_environment(), "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    options = map(shlex.quote, (f"-Duser.home={work}", *_network_options()))
    environment["JDK_JAVA_OPTIONS"] = " ".join((environment.get("JDK_JAVA_OPTIONS", ""), *options)).strip()
    command: list[str | Path] = [
        *(Path(environment["SPARK_HOME"]) / "bin" / "spark-submit", "--master", "local"),
        *("--packages", PACKAGES, "--exclude-packages", ALREADY_IN_SPARK, "--conf", f"spark.jars.ivy={work}/ivy", nothing),
    ]
    run = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    fetched = work / "ivy" / "jars"
    if len(_jars(fetched)) != JARS:
        log = work.parent / "fetch.log"
        # Java repeats its options there, with the proxy's password among them.
        lines = [line.strip() for line in run.stderr.splitlines() if line.strip() and "JDK_JAVA_OPTIONS" not in line]
        log.write_text("\n".join(lines), encoding="utf-8")
        raise JarsMissing(
            f"{PACKAGES} could not be fetched ({_reason(lines)}; all of it: {log}): connect this machine to the Maven registry,"
            " set https_proxy, or point DEFAULT_ARTIFACT_REPOSITORY at a mirror."
        )
    return fetched


def _reason(lines: Sequence[str]) -> str:
    for tell_tale in (r"Server access|java\.net\.|javax\.net\.|Host .* not found", r"module not found", r"Exception|[Ee]rror"):
        for line in lines:
            if re.search(tell_tale, line):
                return line
    return lines[-1] if lines else "no reason given"


def _network_options() -> list[str]:
    options = ["-Djdk.http.auth.tunneling.disabledSchemes="]
    trusted = Path("/etc/ssl/certs/java/cacerts")
    if trusted.exists():
        options.append(f"-Djavax.net.ssl.trustStore={trusted}")
    for scheme in ("http", "https"):
        proxy = _variable(f"{scheme}_proxy")
        if proxy:
            parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
            options += [f"-D{scheme}.proxyHost={parts.hostname}", f"-D{scheme}.proxyPort={parts.port or 80}"]
            if parts.username:
                options += [f"-Dhttp.proxyUser={unquote(parts.username)}", f"-Dhttp.proxyPassword={unquote(parts.password or '')}"]
    direct = [host.strip() for host in _variable("no_proxy").split(",") if host.strip()]
    if direct:
        options.append("-Dhttp.nonProxyHosts=" + "|".join(f"*{host}" if host.startswith(".") else f"{host}|*.{host}" for host in direct))
    return options


def _variable(name: str) -> str:
    return os.environ.get(name) or os.environ.get(name.upper(), "")


def _put(fetched: Path, kept: Path) -> None:
    if kept.exists() and len(_jars(kept)) < JARS:
        kept.rename(fetched.parent / "incomplete")
    try:
        fetched.rename(kept)
    except OSError:
        if len(_jars(kept)) < JARS:
            raise


if __name__ == "__main__":
    try:
        if sys.argv[1:] == ["java"]:
            java_home()
        else:
            keep_classes(delta_jars(jar_cache()))
    except SparkUnavailable as problem:
        sys.exit(str(problem))
