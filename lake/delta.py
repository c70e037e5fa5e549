"""Delta tables without Spark: their log, small reads, and every commit that Spark need not make.

What only looks is quick: pyarrow, which loads pandas, is imported by the functions that need it. Every commit carries an id, so that it
happens once and can be looked up.
"""

import json
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, QueryBuilder, Schema, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from feature_definitions.errors import UserError
from feature_definitions.intervals import BEGINNING, DAY, Interval, floor, instant, merge
from lake import logs, s3, split, storage

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq


_STATE = re.compile(r"\d{20}\.checkpoint\.([\w-]+\.)*parquet")
_OF_A_TABLE = re.compile(r"\d{20}\.(json|checkpoint\..*)")
_AT_ONCE = 32
"""How many files are looked at side by side."""
_LOGS_AT_ONCE = 64
"""How many logs are."""
_FOOTER = 1 << 16
"""So many bytes of a file's end are read at first: almost every footer is shorter."""
_ONE_FILE_EVERY, _CLEANED_EVERY = 10, 100
"""After how many commits one file says all that the log says so far; and what of the log is past its time is deleted."""


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


def footprint(path: str, *, partition: str, dates: Collection[date]) -> tuple[int, int]:
    """The number and the bytes of the files in these dates' partitions, by the log alone; nothing for a table that is not there."""
    return footprint_of(told(path), partition=partition, dates=dates)


def footprint_of(table: DeltaTable | None, *, partition: str, dates: Collection[date]) -> tuple[int, int]:
    """What `footprint` tells, of a table that is open already."""
    if table is None:
        return 0, 0
    actions = table.get_add_actions(flatten=True)
    sizes, name = actions.column("size_bytes").to_pylist(), f"partition.{partition}"
    days = actions.column(name).to_pylist() if name in actions.schema.names else [None] * len(sizes)
    read = [size for day, size in zip(days, sizes, strict=True) if day in dates or day is None]
    return len(read), sum(read)


Wanted = Callable[[date], bool]
"""Which dates are asked for."""


def rows_in(path: str, *, first: date | None, last: date | None) -> int:
    """The number of rows in a table's partitions of `date` from one to another (None: without a bound), by the log alone.

    A table without these partitions is read whole, and one that is not there not at all.
    """
    table = told(path)
    return 0 if table is None else rows_of(table, first=first, last=last)


def bytes_in(path: str, *, wanted: Wanted) -> int:
    """The bytes of the files of the dates that are wanted, by the log alone; none of a table that is not there."""
    table = told(path)
    return 0 if table is None else sum(sizes(table, at=path, wanted=wanted).values())


def rows_of(table: DeltaTable, *, first: date | None, last: date | None) -> int:
    """What `rows_in` tells, of a table that is open already."""
    low, high = first or date.min, last or date.max
    return _rows_where(table, lambda day: low <= day <= high)


def rows_on(path: str, days: Collection[date] | None) -> int:
    """The number of rows in a table's partitions of some days, or of all, by the log alone; none of a table that is not there."""
    table = told(path)
    return 0 if table is None else _rows_where(table, lambda day: days is None or day in days)


def _rows_where(table: DeltaTable, wanted: Callable[[date], bool]) -> int:
    """The number of rows of the dates that are wanted; all rows of a table that has no dates."""
    actions = table.get_add_actions(flatten=True)
    rows, name = actions.column("num_records").to_pylist(), "partition.date"
    days = actions.column(name).to_pylist() if name in actions.schema.names else [None] * len(rows)
    return sum(number or 0 for day, number in zip(days, rows, strict=True) if day is None or wanted(day))


def files_of(path: str, *, version: int | None, time: str | None, dates: Collection[date]) -> tuple[int, int]:
    """The number and the bytes of a version's files, where a time column is named of those that may hold times of these dates."""
    actions = opened(path, version=version).get_add_actions(flatten=True)
    sizes = actions.column("size_bytes").to_pylist()
    none = [None] * len(sizes)
    lows, highs = (actions.column(n).to_pylist() if n in actions.schema.names else none for n in (f"min.{time}", f"max.{time}"))
    spans = zip(sizes, lows, highs, strict=True)
    read = [size for size, low, high in spans if not _are_times(low, high) or any(low.date() <= day <= high.date() for day in dates)]
    return len(read), sum(read)


def _are_times(low: object, high: object) -> bool:
    """Whether a file says of its times from when to when they are."""
    return isinstance(low, datetime) and isinstance(high, datetime)


def times_changed(path: str, *, since: int | None, version: int | None, time: str) -> tuple[Interval, ...] | None:
    """The whole UTC dates in which the times lie of the files that one of two versions has and the other lacks, by the log alone.

    None if it does not tell: where rows are deleted without writing files anew, or a file says nothing of its times.
    """
    both = [opened(path, version=each) for each in (since, version)]
    if any("deletionVectors" in (table.protocol().reader_features or ()) for table in both):
        return None
    then, now = (_spans(table, time) for table in both)
    spans = [span for here, there in ((then, now), (now, then)) for name, span in here.items() if name not in there]
    return None if None in spans else merge(span for span in spans if span is not None)


def _spans(table: DeltaTable, time: str) -> dict[str, Interval | None]:
    """The dates that each file's times span."""
    actions = table.get_add_actions(flatten=True)
    names = (f"min.{time}", f"max.{time}")
    if not set(names) <= set(actions.schema.names):
        return dict.fromkeys(actions.column("path").to_pylist())
    found = zip(actions.column("path").to_pylist(), *(actions.column(name).to_pylist() for name in names), strict=True)
    return {path: _days(low, high) for path, low, high in found}


def _days(low: Any, high: Any) -> Interval | None:
    if not isinstance(low, datetime) or not isinstance(high, datetime) or low.tzinfo is None or high.tzinfo is None:
        return None
    return Interval(floor(low.astimezone(UTC), DAY), floor(high.astimezone(UTC), DAY) + DAY)


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
        raise (error if version is not None or s3.is_remote(path) else DamagedLog(_damage(path, error))) from error


class DamagedLog(UserError, DeltaError):
    """The log of a table cannot be read; the sentence says what to do."""


def _damage(path: str, error: DeltaError) -> str:
    """What is wrong with a log, and what to do."""
    said, files = str(error).strip().splitlines()[0], _log(path)
    try:
        _entries(files[-1])
    except (ValueError, IndexError):
        remedy = f"Its last file was cut off: delete {files[-1].path if files else path}; the next ingest or run does again what it told of"
    else:
        remedy = f"If a checkpoint was deleted, delete {path}/_delta_log/_last_checkpoint too; else restore the folder from a backup"
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


_ONCE = CommitProperties(max_commit_retries=0)
"""A commit that fails if its version is taken, be it by itself: deltalake would make it again, as the next version."""
_TRIES, _TRIES_OF_RECORDS, _TRIES_UNANSWERED = 5, 50, 3

Fence = Callable[[], None]
"""Called right before an attempt to commit; it raises if the caller may write no longer, because another took its lease."""


_WHOLE = 32
"""Strings up to this length are whole in statistics."""


class CommitConflict(RuntimeError):
    """What was to be replaced was changed by somebody else meanwhile: nothing of this write is seen."""


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


def commit_ids(path: str) -> frozenset[str]:
    """The ids of all commits that happened, of a table's: what `committed` tells of each would be a look at the log for each."""
    files = storage.files(f"{path}/_delta_log")
    states = [file for file in files if _STATE.fullmatch(file.name)]
    newest = max((file.name[:20] for file in states), default="")
    found = {each for file in states if file.name.startswith(newest) for each in _ids_in(file.path)}
    later = [file for file in files if logs.COMMIT.fullmatch(file.name) and file.name[:20] > newest]
    return frozenset(found | {entry["txn"]["appId"] for file in later for entry in _entries(file) if "txn" in entry})


def _ids_in(path: str) -> list[str]:
    """The ids of commits in a file that says all that the log says up to a version."""
    import pyarrow.parquet as pq

    folder, _, name = path.rpartition("/")
    known = pq.read_table(name, columns=["txn"], filesystem=storage.arrow(folder)).column("txn")
    return [each["appId"] for each in known.to_pylist() if each is not None and each["appId"] is not None]


def commit_of(path: str, commit_id: str) -> tuple[int, datetime]:
    """The version and time of a commit; raises LookupError if the log does not tell of it (any more)."""
    for version, entry in _history(_log(path)[::-1]):
        if entry.get("userMetadata") == commit_id:
            return version, instant(int(entry["timestamp"]) * 1000)
    raise LookupError(f"{path} has no commit {commit_id} in its log")


def versions_of(path: str) -> dict[str, int]:
    """The version that each commit made of which the log still tells, by the commit's id."""
    return {str(entry["userMetadata"]): version for version, entry in _history(_log(path)) if entry.get("userMetadata")}


def newest_text(path: str, column: str) -> str | None:
    """The greatest text in a column of the rows that a table's newest commit brought, by its log alone; None if that does not tell."""
    log = _log(path)
    try:
        added = [json.loads(entry["add"]["stats"]) for entry in _entries(log[-1]) if "add" in entry] if log else []
    except (KeyError, TypeError, ValueError):
        return None
    found = [each["maxValues"].get(column) for each in added if "maxValues" in each]
    return max((text for text in found if isinstance(text, str)), default=None)


def _log(path: str) -> list[storage.File]:
    """The files of a table's log in which a commit each is, the oldest first."""
    return [file for file in storage.files(f"{path}/_delta_log", suffix=".json") if logs.COMMIT.fullmatch(file.name)]


def _history(log: Iterable[storage.File]) -> Iterator[tuple[int, dict[str, Any]]]:
    """What a log's files tell of their commits, each with its version, read one by one; deltalake's own finds none below a `#` or `?`."""
    for file in log:
        yield from ((int(file.name.split(".")[0]), entry["commitInfo"]) for entry in _entries(file) if "commitInfo" in entry)


def _entries(file: storage.File) -> list[dict[str, Any]]:
    """What a commit did, as its file in the log says it."""
    return [json.loads(line) for line in storage.read(file.path).splitlines() if line.strip()]


def oldest_commit(path: str) -> datetime:
    """The time of the oldest commit that the log still tells of: none that it has forgotten was later."""
    _, entry = next(_history(_log(path)))
    return instant(int(entry["timestamp"]) * 1000)


def state(path: str) -> tuple[str, int]:
    """The id and the newest version of a Delta table."""
    table = opened(path)
    return str(table.metadata().id), table.version()


def readable(path: str, version: int) -> bool:
    """Whether a version of a Delta table can still be read: its log and the files that the newest version lacks are there."""
    try:
        newest, then = opened(path), opened(path, version=version)
    except DeltaError:
        return False
    gone = [] if newest.version() == version else [storage.joined(path, file) for file in _paths(then) - _paths(newest)]
    if len(gone) <= _FEW:
        return all(map(storage.exists, gone))
    return {file.path for file in storage.files(path)}.issuperset(gone)


_FEW = 20
"""So many files are asked for one by one; to list a table's folder takes a request for each 1,000."""


def _paths(table: DeltaTable) -> set[str]:
    """The paths of a table's data files below its own, as they are called there: the log encodes them once more."""
    return {unquote(path) for path in table.get_add_actions(flatten=True).column("path").to_pylist()}


def append_records(path: str, rows: "pa.Table", *, fence: Fence | None = None) -> None:
    """Append rows to a small table without Spark; columns that it lacks are added, null in the rows before. `fence` as in `commit`."""
    commit_id = secrets.token_hex(16)
    done = CommitProperties({"userMetadata": commit_id}, max_commit_retries=0)  # known by the log alone: records have very many commits
    _write_records(path, rows, commit_id, fence, done, mode="append", schema_mode="merge")


def replace_records(path: str, rows: "pa.Table", *, commit_id: str, fence: Fence) -> None:
    """Replace the rows of a small table without Spark, and its columns, in one commit; `fence` as in `commit`."""
    _write_records(path, rows, commit_id, fence, _properties(commit_id), mode="overwrite", schema_mode="overwrite")


def _write_records(path: str, rows: "pa.Table", commit_id: str, fence: Fence | None, done: CommitProperties, **how: Any) -> None:
    def write(on: DeltaTable) -> None:
        write_deltalake(on, rows, commit_properties=done, post_commithook_properties=_after(on), **how)

    table = create(path, Schema.from_arrow(rows.schema).to_json(), partition=())
    _attempt(table, write, lambda _: True, commit_id, fence, tries=_TRIES_OF_RECORDS)


def append(path: str, rows: "pa.Table", *, commit_id: str, partition: Sequence[str], fence: Fence | None = None) -> None:
    """Append rows to a table without Spark, in one commit; the table, or columns that it lacks, are made. An id happens once."""

    def write(on: DeltaTable) -> None:
        done = _properties(commit_id)
        write_deltalake(on, rows, mode="append", schema_mode="merge", commit_properties=done, post_commithook_properties=_after(on))

    schema = Schema.from_arrow(rows.schema).to_json()
    table = create(path, schema, partition=partition)
    if table.transaction_version(commit_id) is None:
        _attempt(add_columns(table, schema), write, lambda _: True, commit_id, fence)


def create(path: str, schema: str, *, partition: Sequence[str], lasting: Mapping[str, str] = MappingProxyType({})) -> DeltaTable:
    """The table at `path`, made without rows where there is none; its columns are given as JSON and may all be null.

    Making it is a commit of its own: what comes next is fenced by a version, as in any other table. `lasting` is set of a table made here.
    """
    table = found(path)
    if table is not None:
        return table
    columns = Schema.from_json(json.dumps(_nullable(json.loads(schema))))
    how: dict[str, Any] = {
        "configuration": {"delta.checkpointInterval": str(_ONE_FILE_EVERY), **lasting},
        "storage_options": storage.options(path),
    }
    failure: DeltaError | OSError | None = None
    for _ in range(_TRIES):
        try:
            return DeltaTable.create(path, columns, mode="ignore", partition_by=list(partition), commit_properties=_ONCE, **how)
        except (DeltaError, OSError) as error:
            failure = error
        table = found(path)
        if table is not None:  # whoever made it
            return table
        if not isinstance(failure, CommitFailedError | OSError):
            break
    with storage.told(path):
        raise failure or CommitConflict(f"{path} could not be made; run the same command again")


def _failure(doing: Callable[[], object]) -> DeltaError | OSError | None:
    """What deltalake raises of a commit, or None. It says little of whether the commit happened: the log does."""
    try:
        doing()
    except (DeltaError, OSError) as error:
        return error
    return None


def changed(table: DeltaTable, change: Callable[[DeltaTable], object]) -> DeltaTable:
    """The table after a change of deltalake's own, which finds nothing left to do where it was made already.

    So it is made again if its answer was lost, or if somebody else changed the same files.
    """
    path = place(table)
    for _ in range(_TRIES):
        failure = _failure(partial(change, table))
        if failure is None:
            return table
        if not isinstance(failure, CommitFailedError | OSError):
            break
        table = opened(path)
    with storage.told(path):
        raise failure or CommitConflict(f"{path} could not be changed; run the same command again")


def _nullable(kind: Any) -> Any:
    """A type in Delta's JSON in which everything may be null."""
    if not isinstance(kind, dict):
        return kind
    nullable = dict.fromkeys({"nullable", "containsNull", "valueContainsNull"} & kind.keys(), True)
    return {name: [_nullable(each) for each in part] if name == "fields" else _nullable(part) for name, part in kind.items()} | nullable


def add_columns(table: DeltaTable, schema: str) -> DeltaTable:
    """The table with the columns of a schema, given as JSON, that it lacks, null in the rows before; in a commit of their own."""
    wanted = Schema.from_json(json.dumps(_nullable(json.loads(schema)))).fields
    for _ in range(_TRIES):
        have = {field.name for field in table.schema().fields}
        missing = [field for field in wanted if field.name not in have]
        if not missing:
            return table
        failure = _failure(partial(table.alter.add_columns, missing, commit_properties=_ONCE))
        table = opened(place(table))  # whoever changed the columns: what is missing now is seen anew
        if failure is not None and not isinstance(failure, CommitFailedError | OSError):
            raise failure
    raise CommitConflict(f"the columns of {table.table_uri} were changed again and again; nothing was changed: run the same command again")


def commit(
    table: DeltaTable,
    *,
    days: Collection[str] | None,
    old: Sequence[RemoveAction],
    new: Sequence[AddAction],
    commit_id: str,
    fence: Fence | None = None,
) -> None:
    """Put new files in the place of old ones, in a version that follows one in which the dates have just these old ones.

    `fence` is called between reading that version and each attempt to commit the next one: what it raises ends the attempts.
    """
    seen, schema = {one.path for one in old}, table.schema()

    def as_seen(newest: DeltaTable) -> bool:
        return newest.schema() == schema and {one.path for one in in_partitions(newest, days)} == seen

    _attempt(table, lambda on: _write(on, [*old, *new], commit_id), as_seen, commit_id, fence)


def overwrite(
    table: DeltaTable, *, schema: str, partition: Sequence[str], new: Sequence[AddAction], commit_id: str, fence: Fence | None = None
) -> None:
    """Put new files in the place of all that a table has, and their columns, given as JSON, and partitions in the place of its own."""
    wanted = Schema.from_json(json.dumps(_nullable(json.loads(schema))))

    def write(on: DeltaTable) -> None:
        if on.metadata().partition_columns == list(partition):
            _write(on, new, commit_id, over=wanted)
        else:
            _put(on, [*_made_anew(on, wanted, partition, commit_id), *map(_removal, in_partitions(on, None)), *map(_addition, new)])

    _attempt(table, write, lambda _: True, commit_id, fence)


def _put(table: DeltaTable, actions: Sequence[Mapping[str, Any]]) -> None:
    """Put the next version of a table: what deltalake cannot change, the columns by which it is partitioned, is changed by this alone."""
    version = table.version() + 1
    try:
        storage.create(f"{place(table)}/_delta_log/{version:020}.json", "\n".join(map(json.dumps, actions)).encode())
    except FileExistsError as error:
        raise CommitFailedError(f"version {version} is taken") from error
    except s3.S3Fault as error:
        raise OSError(str(error)) from error


def _made_anew(table: DeltaTable, schema: Schema, partition: Sequence[str], commit_id: str) -> list[dict[str, Any]]:
    """What a log says of a commit that gives a table other columns and partitions."""
    now, known = int(time.time() * 1000), table.metadata()
    whole = {
        "id": str(known.id),
        "name": known.name,
        "description": known.description,
        "format": {"provider": "parquet", "options": {}},
        "schemaString": schema.to_json(),
        "partitionColumns": list(partition),
        "configuration": known.configuration,
        "createdTime": known.created_time,
    }
    done = {"timestamp": now, "operation": "WRITE", "operationParameters": {"mode": "Overwrite"}, "userMetadata": commit_id}
    return [{"commitInfo": done}, {"metaData": whole}, {"txn": {"appId": commit_id, "version": 1, "lastUpdated": now}}]


def _removal(old: RemoveAction) -> dict[str, Any]:
    """What a log says of a file that is no part of the table any more."""
    said = {"path": old.path, "deletionTimestamp": old.deletion_timestamp, "dataChange": True, "extendedFileMetadata": True}
    return {"remove": said | {"partitionValues": old.partition_values, "size": old.size}}


def _addition(new: AddAction) -> dict[str, Any]:
    """What a log says of a file that becomes part of the table."""
    said = {"path": quote(new.path, safe="/="), "partitionValues": new.partition_values, "size": new.size, "dataChange": True}
    return {"add": said | {"modificationTime": new.modification_time, "stats": new.stats}}


def _attempt(
    table: DeltaTable,
    write: Callable[[DeltaTable], None],
    as_seen: Callable[[DeltaTable], bool],
    commit_id: str,
    fence: Fence | None,
    *,
    tries: int = _TRIES,
) -> None:
    """Commit the version that follows the table's; if another commit took it, the next one, as long as the table is as it was seen.

    However an attempt fails, the log is asked: the answer to a commit may be lost, and who sends it again is told that its version is
    taken, by itself. Where no answer came the same version is asked for again, so that an attempt that comes late finds it taken.
    """
    path, unanswered = place(table), 0
    for _ in range(tries):
        if fence is not None:
            fence()
        wanted = table.version() + 1
        failure = _failure(partial(write, table))
        if failure is None or _is_logged(path, wanted, commit_id):
            return
        unanswered += not isinstance(failure, CommitFailedError)
        if not isinstance(failure, CommitFailedError | OSError) or unanswered == _TRIES_UNANSWERED:
            _give_up(path, wanted, commit_id, failure)
            return
        table = opened(path)
        if table.version() >= wanted and _is_logged(path, wanted, commit_id):  # it came late
            return
        if not as_seen(table):
            break
    raise CommitConflict(f"somebody else wrote to {path} at the same time; nothing was changed: run the same command again")


def _give_up(path: str, wanted: int, commit_id: str, failure: Exception) -> None:
    """Raise what an attempt failed by, once its version is taken and it cannot happen any more; return if it has happened."""
    fence(path, f"instead of {commit_id}")
    if not _is_logged(path, wanted, commit_id):
        with storage.told(path):
            raise failure


def _is_logged(path: str, version: int, commit_id: str) -> bool:
    """Whether a version was made by the commit with this id."""
    try:
        told = next(_history([storage.File(f"{path}/_delta_log/{version:020}.json", 0, BEGINNING)]), None)
    except FileNotFoundError:
        return False
    return told is not None and told[1].get("userMetadata") == commit_id


def place(table: DeltaTable) -> str:
    """Where a table lies, as its path was said."""
    uri = table.table_uri.rstrip("/")
    return unquote(urlsplit(uri).path) if uri.startswith("file:") else uri


def _write(table: DeltaTable, actions: Sequence[AddAction | RemoveAction], commit_id: str, *, over: Schema | None = None) -> None:
    mode, schema = ("append", table.schema()) if over is None else ("overwrite", over)
    done, after = _properties(commit_id), _after(table)
    partition = table.metadata().partition_columns
    table.create_write_transaction(list(actions), mode, schema, partition, commit_properties=done, post_commithook_properties=after)


def _properties(commit_id: str) -> CommitProperties:
    """What makes a commit happen once, be found by its id, and fail if another took its version."""
    return CommitProperties({"userMetadata": commit_id}, max_commit_retries=0, app_transactions=[Transaction(commit_id, 1)])


def _after(table: DeltaTable) -> PostCommitHookProperties:
    """What follows a commit: to look for what of the log is past its time lists all of it, and is not done each time."""
    return PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=(table.version() + 1) % _CLEANED_EVERY == 0)


def fence(path: str, commit_id: str) -> None:
    """Take the next version of a table by a commit of nothing; without a table there is nothing to take.

    A writer that was stopped between its last look at its lease and its commit finds its version taken, looks again, and is refused.
    """
    table = found(path)
    for _ in range(_TRIES):
        if table is None:
            return
        wanted = table.version() + 1
        failure = _failure(partial(_write, table, [], commit_id))
        if failure is None:
            return
        table = found(path)
        if table is not None and table.version() >= wanted:  # that version is not the stopped writer's any more, whoever took it
            return
        if not isinstance(failure, CommitFailedError):
            raise failure
    raise CommitConflict(f"no version of {path} could be taken; nothing was changed: run the same command again")


def in_partitions(table: DeltaTable, values: Collection[str] | None) -> list[RemoveAction]:
    """The removal of each file of these partitions, of a table that has at most one partition column; None: of all files."""
    import pyarrow as pa

    partition, now = table.metadata().partition_columns, int(time.time() * 1000)
    names = ["path", "size_bytes", *(f"partition.{column}" for column in partition)]
    files = pa.table(table.get_add_actions(flatten=True)).select(names).to_pylist() if table.file_uris() else []
    found = [(file, {column: _text(file[f"partition.{column}"]) for column in partition}) for file in files]
    mine = [(file, at) for file, at in found if values is None or (at and set(at.values()) <= set(values))]
    return [RemoveAction(file["path"], True, now, file["size_bytes"], {**at}) for file, at in mine]


def _text(value: object) -> str | None:
    """A partition's value as a log spells it."""
    return None if value is None else str(value)


def added(
    path: str, run: str, *, copy: str | None = None, known: Mapping[str, split.FileSummary] = MappingProxyType({})
) -> tuple[list[AddAction], int]:
    """The files that a run wrote in its folder below a table's, as the table's log will name them, and how many rows they hold.

    `copy` is a local folder that holds the same files: they are looked at there. What those hold that are `known`, by their place in the
    folder, is not read again.
    """
    actions, rows, written = [], 0, storage.files(copy or run, suffix=".parquet")
    places = [storage.relative(file.path, to=copy or run) for file in written]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        looked = threads.map(_statistics, (file for file, place in zip(written, places, strict=True) if place not in known))
    for file, place in zip(written, places, strict=True):
        statistics = _summed_up(known[place]) if place in known else next(looked)
        rows += statistics["numRecords"]
        named_by = (part.split("=", 1) for part in place.split("/")[:-1])
        at = {column: None if value == split.NULL else value for column, value in named_by}
        moment = int(file.written_at.timestamp() * 1000)
        if statistics["numRecords"]:
            named = f"{storage.relative(run, to=path)}/{place}"
            actions.append(AddAction(named, file.size, at, moment, True, json.dumps(statistics)))
    return actions, rows


def _summed_up(file: split.FileSummary) -> dict[str, Any]:
    """What `_statistics` finds in a file of which it is known what it holds."""
    spelt = {name: (_bound(least), _bound(greatest)) for name, (least, greatest) in file.bounds.items()}
    whole = {name: bounds for name, bounds in spelt.items() if None not in bounds}
    least, greatest = ({name: bounds[at] for name, bounds in whole.items()} for at in (0, 1))
    return {"numRecords": file.rows, "minValues": least, "maxValues": greatest, "nullCount": dict(file.nulls)}


def _statistics(file: storage.File) -> dict[str, Any]:
    """How many rows and nulls a Parquet file has, and its least and greatest values, where their types let readers skip files by them."""
    found = _footer(file)
    groups = [found.row_group(number) for number in range(found.num_row_groups)]
    least, greatest, nulls = {}, {}, {}
    for number, name in enumerate(found.schema.names):
        chunks = [group.column(number).statistics for group in groups]
        if found.schema.column(number).path != name or any(chunk is None or not chunk.has_null_count for chunk in chunks):
            continue
        nulls[name] = sum(chunk.null_count for chunk in chunks)
        known = [chunk for chunk in chunks if chunk.num_values]
        bounds = [_bound(chunk.min) for chunk in known if chunk.has_min_max], [_bound(chunk.max) for chunk in known if chunk.has_min_max]
        if known and len(bounds[0]) == len(known) and None not in (*bounds[0], *bounds[1]):
            least[name], greatest[name] = min(bounds[0]), max(bounds[1])
    return {"numRecords": found.num_rows, "minValues": least, "maxValues": greatest, "nullCount": nulls}


def _footer(file: storage.File) -> "pq.FileMetaData":
    """What a Parquet file says of itself, which stands at its end: one request, two where that is very long."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    end = storage.end(file.path, of=file.size, length=_FOOTER)
    length = int.from_bytes(end[-8:-4], "little") + 8
    if length > len(end):
        end = storage.end(file.path, of=file.size, length=length)
    return pq.read_metadata(pa.BufferReader(end))


def _bound(value: object) -> Any:
    """A value as statistics spell it, in the same order; None where it would have to be cut, or may hide NaN."""
    match value:
        case bool() | float():
            return None
        case datetime(tzinfo=None):
            return None
        case datetime():
            return f"{value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
        case date():
            return value.isoformat()
        case int():
            return value
        case str() if len(value) <= _WHOLE:
            return value
    return None


def files(table: DeltaTable) -> list[str]:
    """The paths of a table's data files."""
    return [unquote(uri) for uri in table.file_uris()]


def sizes(table: DeltaTable, *, at: str, wanted: Wanted | None = None) -> dict[str, int]:
    """The bytes of each data file of a table that lies `at` a path, by their paths, as its log tells.

    Where dates are wanted, files of others are left out, if the table is partitioned by a date.
    """
    import pyarrow as pa

    actions, partition = pa.table(table.get_add_actions(flatten=True)), table.metadata().partition_columns
    names, sizes = actions.column("path").to_pylist(), actions.column("size_bytes").to_pylist()
    days = actions.column(f"partition.{partition[0]}").to_pylist() if len(partition) == 1 and names else [None] * len(names)
    found = zip(names, sizes, days, strict=True)
    return {f"{at}/{unquote(path)}": size for path, size, day in found if not (wanted and isinstance(day, date)) or wanted(day)}
