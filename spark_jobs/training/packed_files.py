"""What workers do with the files of groups, or with rows that Spark has, before an exchange: parcels of them, a sample, their hashes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import DataType, IntegerType, LongType, StructField, StructType

from spark_jobs import workers
from spark_jobs.training import hot, kernel, parcels, version_files
from spark_jobs.training.hot import HASH, Sampling
from spark_jobs.training.parcels import Spread
from spark_jobs.training.version_files import VersionFiles

HASHES = StructType([StructField(HASH, LongType())])
_BYTES_OF_A_TASK = 64 << 20
"""Of how many bytes the files of a task are about, if they are of more than there are tasks for."""


class FilesRead(NamedTuple):
    """Files of versions, and what is done with their rows."""

    of: VersionFiles
    kind: parcels.Kind


Tasks = Sequence[Sequence[tuple[int, str]]]
"""Which files each task reads: of which of several `FilesRead`, and the path."""


def tasks(files: Sequence[FilesRead], *, least: int) -> Tasks:
    """The files of about as many bytes for each task, of which there are no fewer than `least` if there are as many files."""
    every = sorted(((size, number, path) for number, one in enumerate(files) for path, size in one.of.files), reverse=True)
    count = min(len(every), max(least, -(-sum(size for size, _, _ in every) // _BYTES_OF_A_TASK)))
    found: list[list[tuple[int, str]]] = [[] for _ in range(count)]
    held = np.zeros(count, np.int64)
    for size, number, path in every:
        place = int(np.argmin(held))
        found[place].append((number, path))
        held[place] += size
    return [sorted(each) for each in found]


def of_workers(files: Sequence[FilesRead], spark: SparkSession, work: Callable[[Tasks], workers.Work], schema: StructType) -> DataFrame:
    """What workers make of the files that each of their tasks is told; lazy."""
    listed = tasks(files, least=spark.sparkContext.defaultParallelism)
    numbers = workers.Flow.of(spark.range(0, len(listed), 1, max(1, len(listed))))
    return numbers.then(work(listed), schema).frame


def packing(tasks: Tasks, files: Sequence[FilesRead], spread: Spread) -> workers.Work:
    """The work that makes parcels of the rows in the files of a task."""

    def run(number: int) -> Iterator[pa.RecordBatch]:
        for one, rows in _tables(tasks[number], files):
            yield from parcels.packed(rows, spread, one.kind)

    return _of_tasks(run)


def _tables(listed: Sequence[tuple[int, str]], files: Sequence[FilesRead]) -> Iterator[tuple[FilesRead, pa.Table]]:
    """The versions in files, those of a group together as far as they are not too many."""
    for number, one in enumerate(files):
        read = (rows for of, path in listed if of == number for rows in version_files.read(one.of, path))
        for held in _gathered(read):
            yield one, version_files.versions(held, one.of)


def _gathered(read: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Rows of files that come alike in turn, together as far as they are not too many."""
    held: list[pa.Table] = []
    size = 0
    for rows in read:
        if held and (size >= parcels.BYTES or held[0].schema != rows.schema):
            yield pa.concat_tables(held)
            held, size = [], 0
        held.append(rows)
        size += rows.nbytes
    if held:
        yield pa.concat_tables(held)


def _of_tasks(run: Callable[[int], Iterator[pa.RecordBatch]]) -> workers.Work:
    """Work that is told the numbers of tasks."""

    def work(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column(0).to_pylist():
                yield from run(number)

    return work


# ----------------------------------------------------------------------------------------------------------------------- samples


def sampled_schema(keys: Mapping[str, DataType]) -> StructType:
    """The columns of a sample: hash, tag, the keys, and the times by which keys are cut."""
    fields = [StructField(name, kind) for name, kind in keys.items()]
    times = [StructField(name, LongType()) for name in (kernel.AT, kernel.TIME)]
    return StructType([StructField(HASH, LongType()), StructField(kernel.TAG, IntegerType()), *fields, *times])


def sampling_rows(keys: Sequence[str]) -> workers.Work:
    """The work that says of rows, which Spark has drawn already, what keys are cut by."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for rows in workers.gathered(batches, size=attrgetter("nbytes"), enough=parcels.BYTES):
            yield from _sampled(rows, keys)

    return run


def sampling_files(tasks: Tasks, files: Sequence[FilesRead], keys: Sequence[str], sampling: Sampling) -> workers.Work:
    """The work that draws a sample of the rows in the files of a task, the same one each time."""

    def run(number: int) -> Iterator[pa.RecordBatch]:
        draw = np.random.default_rng(number)
        for _, rows in _tables(tasks[number], files):
            drawn = draw.random(rows.num_rows) < sampling.share
            yield from _sampled(rows if drawn.all() else rows.filter(pa.array(drawn)), keys)

    return _of_tasks(run)


def _sampled(rows: pa.Table, keys: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Rows without those of nobody."""
    for key in keys:
        rows = rows.filter(rows.column(key).is_valid())
    if not rows.num_rows:
        return
    names = (kernel.TAG, *keys, kernel.AT, kernel.TIME)
    columns = {name: rows.column(name) if name in rows.column_names else pa.nulls(rows.num_rows, pa.int64()) for name in names}
    yield from pa.table({HASH: hot.hashes(rows, keys), **columns}).combine_chunks().to_batches()


def hashing(keys: Sequence[str]) -> workers.Work:
    """The work that gives the hashes of keys, each once for some rows."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for rows in workers.gathered(batches, size=attrgetter("nbytes"), enough=parcels.BYTES):
            yield pa.RecordBatch.from_arrays([pa.array(np.unique(hot.hashes(rows, keys)))], names=[HASH])

    return run
