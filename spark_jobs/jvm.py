"""Finds Java, fetches the jars that Spark needs beside its own, and says where Java keeps Spark's classes.

Importing this module loads nothing outside the standard library, so that `python3 -m spark_jobs.jvm` can tell whether Java is there before
anything was installed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

POSTGRESQL = "org.postgresql:postgresql:42.7.14"


class JarSet(NamedTuple):
    """Jars that are fetched together: their coordinates, what of all that these resolve to is left out, and how many jars remain."""

    packages: str
    left_out: str
    number: int


# What else these coordinates resolve to repeats, in older versions, what pyspark brings; of org.* only PostgreSQL's driver is new.
DELTA = JarSet(
    packages=f"io.delta:delta-spark_4.2_2.13:4.4.0,com.globalmentor:hadoop-bare-naked-local-fs:0.1.0,{POSTGRESQL}",
    left_out="com.f*:*,com.github*:*,com.google*:*,commons-*:*,io.airlift:*,jakarta.*:*,javax.*:*,org.[!p]*:*",
    number=9,
)

_SDK = "software.amazon.awssdk"
# Amazon's SDK in pieces: the bundle that Hadoop names has 686 MB. Hadoop's reader of S3 wants the accelerator's classes, used or not.
S3 = JarSet(
    packages=(
        "org.apache.hadoop:hadoop-aws:3.5.0,org.apache.spark:spark-hadoop-cloud_2.13:4.1.2"
        ",software.amazon.s3.analyticsaccelerator:analyticsaccelerator-s3:1.3.1"
        f",{_SDK}:s3:2.57.8,{_SDK}:s3-transfer-manager:2.57.8,{_SDK}:sts:2.57.8,{_SDK}:apache-client:2.57.8"
    ),
    left_out=(
        f"{_SDK}:bundle,{_SDK}:apache5-client,com.*:*,commons-*:*,io.*:*,jakarta.*:*,javax.*:*,joda-time:*,org.[!ar]*:*"
        ",org.apache.hadoop.thirdparty:*,org.apache.hadoop:hadoop-[!a]*,org.apache.hadoop:hadoop-a[!w]*,org.apache.httpcomponents:*"
    ),
    number=37,
)


JAVA_VERSIONS = (17, 21)


LEFTOVER_SECONDS = 3600.0


_NAME = 200


DUMP_SECONDS = 300.0


# Arrow would check each single value against the bounds of its buffer, which Spark grows itself: 7 % of a join's CPU (measured).
OPTIONS = "-Duser.timezone=UTC -Darrow.enable_unsafe_memory_access=true -Darrow.enable_null_check_for_get=false"
"""What every JVM of Spark is told, the driver's and the executors'."""
# The JVM's second compiler costs a short job as much CPU again as the job, and gains a long one nothing (measured). Without it the
# JVM sets only 48 MB aside for compiled code, which Spark's generated classes fill: then it slows down and dies (seen).
JAVA_OPTIONS = f"{OPTIONS} -XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=512m"


class SparkUnavailable(RuntimeError):
    """Spark cannot start on this machine; the message is one sentence that says what to do."""


class JavaMissing(SparkUnavailable):
    """No Java that Spark runs on was found."""


class JarsMissing(SparkUnavailable):
    """The jars of Delta, of local files and of PostgreSQL, or those of S3, are neither in the cache nor could they be fetched."""


def spark_environment() -> dict[str, str]:
    """The variables by which pyspark finds Java and Spark."""
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
    version = re.search(r'version "(?:1\.)?(\d+)', introduced(executable))
    return int(version[1]) if version else None


@cache
def introduced(executable: Path) -> str:
    """What a Java says of itself; nothing if it is none."""
    try:
        return subprocess.run([executable, "-version"], capture_output=True, text=True, timeout=60, check=False).stderr
    except OSError:
        return ""


def classes(jars: Sequence[Path]) -> Path:
    """Where the classes of this Java, this pyspark and these jars are kept."""
    import pyspark

    made_of = (introduced(java_home() / "bin" / "java"), pyspark.__version__, [str(jar) for jar in jars])
    return Path(sys.prefix) / f"spark-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:12]}.jsa"


def jar_cache() -> Path:
    """Return the folder where Delta's jars are kept unless a caller chooses another: `jars` in Headwater's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("HEADWATER_CACHE") or Path(home) / "headwater") / "jars"


def delta_jars(cache: Path) -> tuple[Path, ...]:
    """Return the jars that Spark needs in `cache`: fetched on the first call by Spark's own Ivy (14 MB), whole or absent ever after.

    Honours `http_proxy`, `https_proxy`, `no_proxy`, and Spark's `DEFAULT_ARTIFACT_REPOSITORY` for a mirror.
    """
    return _fetched(DELTA, cache)


def s3_jars(cache: Path) -> tuple[Path, ...]:
    """Return the jars that Spark needs beside those where it reads or writes S3 (14 MB), fetched and kept as those are."""
    return _fetched(S3, cache)


def _fetched(wanted: JarSet, cache: Path) -> tuple[Path, ...]:
    kept = cache / _folder(wanted)
    if len(_jars(kept)) < wanted.number:
        cache.mkdir(parents=True, exist_ok=True)
        _sweep(cache)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache, ignore_cleanup_errors=True) as work:
            _put(_fetch(wanted, Path(work)), kept, wanted.number)
    return _jars(kept)


def _folder(wanted: JarSet) -> str:
    """The folder of a set's own, called after its coordinates; where these are too many for a name, after the first one and a hash."""
    name = wanted.packages.replace(":", "_").replace(",", "+")
    return name if len(name) <= _NAME else f"{name.partition('+')[0]}+{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _jars(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(folder.glob("*.jar")))


def _sweep(cache: Path) -> None:
    for work in cache.glob(".fetch-*"):
        if time.time() - work.stat().st_mtime > LEFTOVER_SECONDS:
            shutil.rmtree(work, ignore_errors=True)


def _fetch(wanted: JarSet, work: Path) -> Path:
    nothing = work / "nothing.py"
    nothing.touch()
    environment = {**os.environ, **spark_environment(), "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    options = map(shlex.quote, (f"-Duser.home={work}", *_network_options()))
    environment["JDK_JAVA_OPTIONS"] = " ".join((environment.get("JDK_JAVA_OPTIONS", ""), *options)).strip()
    command: list[str | Path] = [
        *(Path(environment["SPARK_HOME"]) / "bin" / "spark-submit", "--master", "local"),
        *("--packages", wanted.packages, "--exclude-packages", wanted.left_out, "--conf", f"spark.jars.ivy={work}/ivy", nothing),
    ]
    run = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    fetched = work / "ivy" / "jars"
    if len(_jars(fetched)) != wanted.number:
        log = work.parent / "fetch.log"
        # Java repeats its options there, with the proxy's password among them.
        lines = [line.strip() for line in run.stderr.splitlines() if line.strip() and "JDK_JAVA_OPTIONS" not in line]
        log.write_text("\n".join(lines), encoding="utf-8")
        raise JarsMissing(
            f"{wanted.packages} could not be fetched ({_reason(lines)}; all of it: {log}): connect this machine to the Maven registry,"
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


def _put(fetched: Path, kept: Path, number: int) -> None:
    if kept.exists() and len(_jars(kept)) < number:
        kept.rename(fetched.parent / "incomplete")
    try:
        fetched.rename(kept)
    except OSError:
        if len(_jars(kept)) < number:
            raise


if __name__ == "__main__":
    try:
        java_home()
    except SparkUnavailable as problem:
        sys.exit(str(problem))
