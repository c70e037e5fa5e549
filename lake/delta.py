"""Delta tables without Spark: opened, and read in small.

What only looks is quick: pyarrow, which loads pandas, is imported by the functions that need it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import DeltaError, TableNotFoundError

from lake import logs, s3, storage

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


_OF_A_TABLE = re.compile(r"\d{20}\.(json|checkpoint\..*)")

_LOGS_AT_ONCE = 64
"""How many logs are."""


def rows(path: str, conditions: Sequence[str], *, version: int | None = None) -> list[dict[str, Any]]:
    """The rows of a Delta table (in its newest version) for which all SQL conditions hold; none of a table that is not there."""
    return _queried(path, f"SELECT * FROM t WHERE {' AND '.join(conditions)}", version=version)


def query(path: str, sql: str) -> list[dict[str, Any]]:
    """The rows that a query gives of a Delta table, which is called `t` there; none of a table that is not there."""
    return _queried(path, sql)


def _queried(path: str, sql: str, *, version: int | None = None) -> list[dict[str, Any]]:
    result = _answer(found(path, version=version), sql)
    columns = [result.column(name).to_pylist() for name in result.column_names] if result is not None else []
    return [dict(zip(result.column_names, values, strict=True)) for values in zip(*columns, strict=True)]


def _answer(table: DeltaTable | None, sql: str) -> Any:
    """What a query gives of a table, as Arrow; None without a table."""
    return None if table is None else QueryBuilder().register("t", table).execute(sql).read_all()


def arrow(path: str, sql: str) -> "pa.Table":
    """The rows that a query gives of a Delta table, which is called `t` there and must be there, as Arrow."""
    import pyarrow as pa

    return pa.table(_answer(opened(path), sql))


def columns(path: str) -> tuple[str, ...]:
    """The columns of a Delta table; none of one that is not there."""
    table = told(path)
    return () if table is None else tuple(each.name for each in table.schema().fields)


def selected(table: DeltaTable, columns: Sequence[str], conditions: Sequence[str]) -> "pa.Table":
    """Columns of the rows of an open table for which all SQL conditions hold."""
    import pyarrow as pa

    names = ", ".join(f'"{name}"' for name in columns)
    return pa.table(_answer(table, f"SELECT {names} FROM t WHERE {' AND '.join(conditions)}"))


def distinct(path: str, columns: Sequence[str], conditions: Sequence[str]) -> list[tuple[Any, ...]]:
    """What a Delta table's rows, where all SQL conditions hold, have in these columns, each once; nothing without a table."""
    result = _answer(found(path), f"SELECT DISTINCT {', '.join(columns)} FROM t WHERE {' AND '.join(conditions)}")
    return [] if result is None else list(zip(*[result.column(name).to_pylist() for name in result.column_names], strict=True))


def instants(path: str, column: str, conditions: Sequence[str]) -> list[int]:
    """The times in a column of a Delta table's rows for which all SQL conditions hold, in microseconds; none without a table."""
    import pyarrow as pa

    result = _answer(found(path), f"SELECT {column} FROM t WHERE {' AND '.join(conditions)}")
    times = [] if result is None else pa.table(result).column(column).cast(pa.int64()).to_pylist()
    return [at for at in times if at is not None]


def holds(path: str, condition: str) -> bool:
    """Whether a Delta table has a row for which an SQL condition holds; a table that is not there has none."""
    result = _answer(found(path), f"SELECT 1 FROM t WHERE {condition} LIMIT 1")
    return result is not None and result.num_rows > 0


def literal(value: object) -> str:
    """A text, number, truth value, date or instant in SQL."""
    if isinstance(value, bool | int):
        return str(value)
    text = str(value).replace("'", "''")
    if isinstance(value, datetime):
        return f"TIMESTAMP '{value.isoformat()}'"
    return f"DATE '{text}'" if isinstance(value, date) else f"'{text}'"


def table_id(path: str) -> str | None:
    """The id that a Delta table was given when it was made; None if there is no table."""
    return id_of(told(path))


def id_of(table: DeltaTable | None) -> str | None:
    """What `table_id` tells, of a table that is open already."""
    return None if table is None else str(table.metadata().id)


def opened(path: str, *, version: int | None = None) -> DeltaTable:
    """The Delta table at `path`, in a version, or with all that was committed before; raises TableNotFoundError.

    A table is opened for each question: a kept one that is asked what is new does not see that it was made anew.
    """
    try:
        with storage.told(path):
            return DeltaTable(path, version=version, storage_options=storage.options(path))
    except TableNotFoundError:
        raise
    except DeltaError as error:
        raise (error if version is not None or s3.is_remote(path) else logs.DamagedLog(_damage(path, error))) from error


def _damage(path: str, error: DeltaError) -> str:
    """What is wrong with a log, and what to do."""
    said, files = str(error).strip().splitlines()[0], logs.commits(path)
    remedy = f"If a checkpoint was deleted, delete {path}/_delta_log/_last_checkpoint too; else restore the folder from a backup"
    try:
        logs.entries(files[-1])
    except logs.DamagedLog as damaged:
        remedy = str(damaged)
    except IndexError:
        pass
    return f"the log of the table {path} cannot be read: {said}. {remedy}"


def found(path: str, *, version: int | None = None) -> DeltaTable | None:
    """The Delta table at `path`, opened; None if there is none. To ask `exists` first would be a second look."""
    try:
        return opened(path, version=version)
    except TableNotFoundError:
        return None


Logs = Mapping[str, DeltaTable | None]
"""What the logs of tables say, by their paths; None where there is none."""


def told(path: str) -> DeltaTable | None:
    """What the log of the table at `path` says; None if there is none. On S3 it is asked of version, files and columns, of nothing else."""
    if not s3.is_remote(path):
        return found(path)
    try:
        return logs.table(path)
    except logs.NotWhole:
        return found(path)


def told_all(paths: Iterable[str]) -> Logs:
    """What the logs of the tables at some paths say, looked at side by side."""
    listed = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(_LOGS_AT_ONCE) as threads:
        return dict(zip(listed, threads.map(told, listed), strict=True))


def exists(path: str) -> bool:
    """Whether there is a Delta table at `path`: who then reads it asks `found`."""
    return storage.has(f"{path}/_delta_log", _OF_A_TABLE)


def load(path: str) -> "pa.Table":
    """The newest state of a small Delta table, without Spark."""
    return contents(opened(path), path)


def contents(table: DeltaTable, path: str) -> "pa.Table":
    """All rows of a small Delta table that is open already."""
    return table.to_pyarrow_table(filesystem=storage.arrow(path))


def batches(path: str, *, rows: int) -> "Iterator[pa.RecordBatch]":
    """The rows of a table in batches of at most so many, file by file, one held at a time."""
    dataset = opened(path).to_pyarrow_dataset(filesystem=storage.arrow(path))
    yield from dataset.to_batches(batch_size=rows, batch_readahead=1, fragment_readahead=1)


def pandas(table: "pa.Table") -> "pd.DataFrame":
    """A table as pandas in its nullable types: a whole number beside a null keeps its digits; arrays are lists."""
    import pandas as pd
    import pyarrow as pa

    nullable = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype(), pa.int16(): pd.Int16Dtype(), pa.int8(): pd.Int8Dtype()}
    nullable |= {pa.bool_(): pd.BooleanDtype(), pa.string(): pd.StringDtype()}
    frame: pd.DataFrame = table.to_pandas(types_mapper=nullable.get)
    for field in table.schema:
        if pa.types.is_nested(field.type):
            frame[field.name] = pd.Series(table.column(field.name).to_pylist(), dtype=object)
    return frame


def committed(path: str, commit_id: str) -> bool:
    """Whether the commit with this id happened: the table's log keeps the ids, through checkpoints too."""
    table = found(path)
    return table is not None and table.transaction_version(commit_id) is not None


def lacks(path: str, commit_id: str) -> bool:
    """Whether a folder's table lacks a commit that happened: its log lost it, or the lake was set back to an older state.

    S3 is not asked: there no crash loses a file of a log, and each command would wait for the answer.
    """
    return not s3.is_remote(path) and not committed(path, commit_id)


def state(path: str) -> tuple[str, int]:
    """The id and the newest version of a Delta table."""
    table = opened(path)
    return str(table.metadata().id), table.version()


def place(table: DeltaTable) -> str:
    """Where a table lies, as its path was said."""
    uri = table.table_uri.rstrip("/")
    return unquote(urlsplit(uri).path) if uri.startswith("file:") else uri
