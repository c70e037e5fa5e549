"""What a Spark that runs on this machine alone reads instead of a table's own files: copies of those on S3, many small ones as one.

It asks S3 for two files at a time, and S3 takes its time to answer; and to open a file costs Spark more than the rows of a small one. A
file of a table never changes, so one copy serves all that a session reads. Large files are left to Spark, which reads of them only the
columns that it needs.
"""

import secrets
import shutil
import tempfile
import weakref
from collections.abc import Collection, Mapping
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from deltalake import DeltaTable, Schema
from deltalake.schema import PrimitiveType
from pyspark.sql import SparkSession

from feature_definitions import layout
from lake import delta_files, joined, processes, s3, split, storage
from spark_jobs import session

_LARGE, _MOST = 8 << 20, 1 << 30
"""Files of more bytes than the first, in the mean, are not copied; nor are any once a session has copies of more than the second."""
_MANY, _SMALL, _FEW_BYTES = 12, 256 << 10, 64 << 20
"""So many files or more are joined, if they have no more bytes than the second, in the mean, and no more than the third together."""
_NAME = "nearby"


class _Copies:
    """The copies of a session: where they lie, and how many bytes each has, by its path on S3. They go with the process.

    Of files that were joined it is kept as what, by a hash of all that it was made of; None if that could not be. Of those that one run
    parted by date it is kept which they are and where their rows still lie together, by the run's folder.
    """

    def __init__(self, place: Path) -> None:
        place.mkdir(parents=True, exist_ok=True)
        me = processes.this()
        self.folder = tempfile.mkdtemp(prefix=f"{_NAME}-{me.pid}-{me.started}-", dir=place)
        self.sizes: dict[str, int] = {}
        self.joined: dict[bytes, str | None] = {}
        self.wholes: dict[str, tuple[frozenset[str], str]] = {}
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


def keep_whole(spark: SparkSession, folder: str, files: Collection[str], *, run: str) -> None:
    """Keep the rows of files of a run, which lie in a folder as they were before they were parted, to be read instead of the files.

    Whoever reads a table right after it was written, as training sets and the next groups do, need not open a file for each date again.
    """
    mine = _copies(spark)
    if (gone := mine.wholes.pop(run, None)) is not None:
        shutil.rmtree(gone[1], ignore_errors=True)
    if len(files) >= _MANY and _used(mine) + _size(folder) <= _MOST:
        into = f"{mine.folder}/whole-{secrets.token_hex(4)}"
        Path(folder).rename(into)
        mine.wholes[run] = frozenset(files), into


def whole(spark: SparkSession, table: DeltaTable, files: Mapping[str, int], *, at: str) -> str | None:
    """A folder with the rows of all these files of a table that lies at a path, and of no file that is not the table's; None without one.

    There may be rows of other dates than were asked for.
    """
    if len(files) < _MANY or s3.is_remote(at) or not session.is_local(spark):
        return None
    held = next((each for each in _copies(spark).wholes.values() if files.keys() <= each[0]), None)
    if held is None or not (held[0] == files.keys() or held[0] <= delta_files.sizes(table, at=at).keys()):
        return None
    return held[1]


def one_of_many(spark: SparkSession, table: DeltaTable, files: Mapping[str, int], *, root: str) -> str | None:
    """A file that holds the rows of many small files of a table, its partition's column too; None where Spark had better read these.

    They lie on this machine, below a folder; of each the bytes are said.
    """
    partition, size = table.metadata().partition_columns, sum(files.values())
    if len(files) < _MANY or size > min(_FEW_BYTES, _SMALL * len(files)) or s3.is_remote(root) or not session.is_local(spark):
        return None
    columns = table.schema()
    if len(partition) > 1 or any(field.name in partition and field.type != PrimitiveType("date") for field in columns.fields):
        return None
    mine, key = _copies(spark), sha256(f"{root}\n{sorted(files.items())}\n{columns.to_json()}".encode()).digest()
    if key not in mine.joined:
        if _used(mine) + size > _MOST or size > _free(mine.folder) // 2:
            return None
        days = {path: _value(path, partition[0]) if partition else None for path in sorted(files)}
        mine.joined[key] = _joined(days, f"{mine.folder}/joined-{len(mine.joined)}.parquet", columns, *partition)
    return mine.joined[key]


def _joined(days: Mapping[str, str | None], into: str, columns: Schema, date: str | None = None) -> str | None:
    import pyarrow as pa

    try:
        joined.join(days, into, schema=pa.schema(columns.to_arrow()), date=date)
    except (joined.Unlike, OSError, pa.ArrowException):  # Spark reads it, or says why it cannot
        return None
    return into


def _value(path: str, partition: str) -> str | None:
    """The value of a partition that a file's path says."""
    said = path.rpartition(f"/{partition}=")[2].partition("/")[0]
    return None if said == split.NULL else said


def _used(mine: _Copies) -> int:
    """How many bytes a session's copies have."""
    made = [*filter(None, mine.joined.values()), *(folder for _, folder in mine.wholes.values())]
    return sum(mine.sizes.values()) + sum(map(_size, made))


def _size(place: str) -> int:
    """The bytes of a file, or of the files in a folder."""
    found = Path(place)
    return sum(file.stat().st_size for file in found.iterdir()) if found.is_dir() else found.stat().st_size


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
