"""Copies of files on S3 for a Spark that runs on this machine alone: it asks for two at a time, and S3 takes its time to answer.

A file of a table never changes, so one copy serves all that a session reads. Large files are left to Spark, which reads of them only the
columns that it needs.
"""

import shutil
import tempfile
import weakref
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from pyspark.sql import SparkSession

from feature_definitions import layout
from lake import processes, storage
from spark_jobs import session

_LARGE, _MOST = 8 << 20, 1 << 30
"""Files of more bytes than the first, in the mean, are not copied; nor are any once a session has copies of more than the second."""
_NAME = "nearby"


class _Copies:
    """The copies of a session: where they lie, and how many bytes each has, by its path on S3. They go with the process."""

    def __init__(self, place: Path) -> None:
        place.mkdir(parents=True, exist_ok=True)
        me = processes.this()
        self.folder = tempfile.mkdtemp(prefix=f"{_NAME}-{me.pid}-{me.started}-", dir=place)
        self.sizes: dict[str, int] = {}
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)


def copied(spark: SparkSession, files: Mapping[str, int]) -> str | None:
    """Where copies of these files lie, each below it as on S3 below `s3a://`; None where Spark had better read them there itself.

    Of each file the bytes are said.
    """
    if not files or not session.is_local(spark):
        return None
    mine = _copies(spark)
    missing = {path: size for path, size in files.items() if path not in mine.sizes}
    more = sum(missing.values())
    if sum(files.values()) > _LARGE * len(files) or sum(mine.sizes.values()) + more > _MOST or more > _free(mine.folder) // 2:
        return None
    storage.bring({path: place(mine.folder, path) for path in missing})
    mine.sizes.update(missing)
    return mine.folder


def keep(spark: SparkSession, written: Mapping[str, str]) -> None:
    """Keep files that were put on S3 as their copies, as far as there is room: `written` says where each lies here."""
    mine = _copies(spark)
    for path, copy in written.items():
        file, size = Path(place(mine.folder, path)), Path(copy).stat().st_size
        if size <= _LARGE and sum(mine.sizes.values()) + size <= _MOST:
            file.parent.mkdir(parents=True, exist_ok=True)
            mine.sizes[path] = Path(copy).replace(file).stat().st_size


def place(folder: str, path: str) -> str:
    """Where the copy of a file or a folder on S3 lies below a folder."""
    return f"{folder}/{path.removeprefix(layout.S3)}"


def _copies(spark: SparkSession) -> _Copies:
    return _of(str(spark.sparkContext.applicationId), session.scratch(spark))


@lru_cache(maxsize=1)
def _of(application: str, where: Path) -> _Copies:  # noqa: ARG001  # another application has copies of its own
    """The copies of an application, after those were deleted whose process was killed."""
    for old in where.glob(f"{_NAME}-*"):
        pid, started = map(int, old.name.split("-")[1:3])
        if processes.started(pid) != started:
            shutil.rmtree(old, ignore_errors=True)
    return _Copies(where)


def _free(folder: str) -> int:
    return shutil.disk_usage(folder).free
