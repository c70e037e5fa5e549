"""Keeps the rows of a training set until they are judged: in the files that will hold them, which no commit names yet.

Workers write these files where they stay, each those of its own rows, and say what the rows hold. A table that only Delta's own writer
changes gets its rows by that, from a copy.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from operator import attrgetter
from typing import NamedTuple

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame
from pyspark.sql.types import StructType

from feature_definitions import layout
from lake import delta_commits, split, training_sets
from lake.delta_commits import Fence
from lake.staging import guarded, staging
from spark_jobs import tables, workers
from spark_jobs.context import Context
from spark_jobs.training import statistics
from spark_jobs.training.statistics import FILES, ColumnsLookedAt, Statistics

_ROWS_OF_A_FILE = 2_500
"""Of fewer rows a file costs each reader more than bringing the rows of a date together costs once."""
_BYTES_AT_ONCE = 256 * 2**20
"""So many bytes of a task's rows are held at once."""


class RowsAsked(NamedTuple):
    """The table, the build's id, the columns that readers see, in their order, what is looked at, and how many dates and rows there are.

    `since`: the partitions of earlier dates stay as they are.
    """

    table: str
    build_id: str
    columns: Sequence[str]
    look: ColumnsLookedAt
    dates: int
    rows: int
    since: date | None = None

    def is_spread(self, tasks: int | None) -> bool:
        """Whether rows of one date lie in so many tasks that each of these would have too few for a file."""
        return self.dates > 0 and (tasks is None or self.rows < tasks * self.dates * _ROWS_OF_A_FILE)


class Kept(NamedTuple):
    """The rows as readers will see them, what they hold, and what makes them the table."""

    rows: DataFrame
    found: Statistics
    commit: Callable[[Fence], None]


@contextmanager
def kept(rows: workers.Flow, asked: RowsAsked, context: Context) -> Iterator[Kept]:
    """Compute rows once and keep them for the block; what was not committed in it is gone after it."""
    schema = StructType([rows.schema[name] for name in asked.columns])
    here = tables.takes_files(context.spark, asked.table, schema)
    if asked.since is not None and not here:
        raise tables.Unwritable(f"the table {asked.table} gets its rows from Delta's own writer, which replaces all of it; build it anew")
    by = _by_workers if here else _by_spark
    with by(rows, asked, schema, context) as found:
        yield found


@contextmanager
def _by_workers(rows: workers.Flow, asked: RowsAsked, schema: StructType, context: Context) -> Iterator[Kept]:
    spark = context.spark
    with tables.run_folder(spark, asked.table, asked.build_id) as folder:
        found = written_by_workers(rows, asked, folder)
        written = tables.RunFiles(folder, found.counts[FILES], schema)

        def commit(fence: Fence) -> None:
            _made(asked, schema)
            if asked.since is not None:
                tables.replace_since(written, asked.table, since=asked.since, commit_id=asked.build_id, spark=spark, fence=fence)
                return
            tables.overwrite_by(written, asked.table, commit_id=asked.build_id, partition=[layout.ROW_DATE], spark=spark, fence=fence)

        seen = tables.staged(spark, folder, schema=schema) if found.rows else spark.createDataFrame([], schema)
        yield Kept(seen, found, commit)


def _made(asked: RowsAsked, schema: StructType) -> None:
    """Make the table, if there is none; the log of a training set's is kept, so that its versions stay readable."""
    delta_commits.create(asked.table, schema.json(), partition=[layout.ROW_DATE], lasting=training_sets.LASTING)


def written_by_workers(rows: workers.Flow, asked: RowsAsked, folder: str) -> Statistics:
    """Have workers write rows into a folder, by date; what they hold, and the rows of each file, counted as values of `FILES`."""
    spread = workers.Flow.of(rows.frame.repartition(layout.ROW_DATE)) if asked.is_spread(rows.tasks) else rows
    with workers.as_raised():
        return statistics.of_parts(spread.then(_writing(asked, folder), statistics.schema()), asked.look)


def _writing(asked: RowsAsked, folder: str) -> workers.Work:
    """What a task does with its rows: it looks at them and writes them; a file that it does not name is nobody's."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        found, task = statistics.Parts(), TaskContext.get()
        who = "" if task is None else f"{task.partitionId():05}-{task.taskAttemptId()}"
        for number, rows in enumerate(workers.gathered(batches, size=attrgetter("nbytes"), enough=_BYTES_AT_ONCE)):
            found.look(statistics.with_hashes(rows), asked.look)
            name, shown = f"part-{who}-{number}.parquet", rows.select(asked.columns)
            written = split.parted(shown, folder, date=layout.ROW_DATE, order=[layout.ROW_NUMBER], name=name)
            for file, count in written.items():
                found.add_count(FILES, file, count)
        yield from found.batches()

    return run


@contextmanager
def _by_spark(rows: workers.Flow, asked: RowsAsked, schema: StructType, context: Context) -> Iterator[Kept]:
    with staging(context.lake, asked.build_id) as folder:
        with workers.as_raised():
            staged = tables.stage(rows.frame, f"{folder}/rows")
        shown = staged.select(*schema.names)

        def commit(fence: Fence) -> None:
            _made(asked, schema)
            order, guard = [layout.ROW_NUMBER], guarded(folder, fence)
            tables.overwrite(shown, asked.table, commit_id=asked.build_id, partition=[layout.ROW_DATE], order=order, fence=guard)

        yield Kept(shown, statistics.of_rows(staged, asked.look), commit)
