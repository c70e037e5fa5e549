"""Every commit to a Delta table that Spark need not make. Each carries an id, so that it happens once and can be looked up."""

import json
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Schema, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction

from lake import commit_file, delta, delta_files, s3, storage

if TYPE_CHECKING:
    import pyarrow as pa


_ONE_FILE_EVERY, _CLEANED_EVERY = 10, 100
"""After how many commits one file says all that the log says so far; and what of the log is past its time is deleted."""

_ONCE = CommitProperties(max_commit_retries=0)
"""A commit that fails if its version is taken, be it by itself: deltalake would make it again, as the next version."""

_TRIES, _TRIES_OF_RECORDS, _TRIES_UNANSWERED = 5, 50, 3

Fence = Callable[[], None]
"""Called right before an attempt to commit; it raises if the caller may write no longer, because another took its lease."""


class CommitConflict(RuntimeError):
    """What was to be replaced was changed by somebody else meanwhile: nothing of this write is seen."""


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
    table = delta.found(path)
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
        table = delta.found(path)
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
    path = delta.place(table)
    for _ in range(_TRIES):
        failure = _failure(partial(change, table))
        if failure is None:
            return table
        if not isinstance(failure, CommitFailedError | OSError):
            break
        table = delta.opened(path)
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
        table = delta.opened(delta.place(table))  # whoever changed the columns: what is missing now is seen anew
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
        return newest.schema() == schema and {one.path for one in delta_files.in_partitions(newest, days)} == seen

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
            _put(
                on,
                [*_made_anew(on, wanted, partition, commit_id), *map(_removal, delta_files.in_partitions(on, None)), *map(_addition, new)],
            )

    _attempt(table, write, lambda _: True, commit_id, fence)


def _put(table: DeltaTable, actions: Sequence[Mapping[str, Any]]) -> None:
    """Put the next version of a table: what deltalake cannot change, the columns by which it is partitioned, is changed by this alone."""
    version = table.version() + 1
    try:
        storage.create(f"{delta.place(table)}/_delta_log/{version:020}.json", "\n".join(map(json.dumps, actions)).encode())
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
    path, unanswered = delta.place(table), 0
    for _ in range(tries):
        if fence is not None:
            fence()
        wanted = table.version() + 1
        failure = _failure(partial(write, table))
        if failure is None or commit_file.is_of(path, wanted, commit_id):
            return
        unanswered += not isinstance(failure, CommitFailedError)
        if not isinstance(failure, CommitFailedError | OSError) or unanswered == _TRIES_UNANSWERED:
            _give_up(path, wanted, commit_id, failure)
            return
        table = delta.opened(path)
        if table.version() >= wanted and commit_file.is_of(path, wanted, commit_id):  # it came late
            return
        if not as_seen(table):
            break
    raise CommitConflict(f"somebody else wrote to {path} at the same time; nothing was changed: run the same command again")


def _give_up(path: str, wanted: int, commit_id: str, failure: Exception) -> None:
    """Raise what an attempt failed by, once its version is taken and it cannot happen any more; return if it has happened."""
    fence(path, f"instead of {commit_id}")
    if not commit_file.is_of(path, wanted, commit_id):
        with storage.told(path):
            raise failure


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
    table = delta.found(path)
    for _ in range(_TRIES):
        if table is None:
            return
        wanted = table.version() + 1
        failure = _failure(partial(_write, table, [], commit_id))
        if failure is None:
            return
        table = delta.found(path)
        if table is not None and table.version() >= wanted:  # that version is not the stopped writer's any more, whoever took it
            return
        if not isinstance(failure, CommitFailedError):
            raise failure
    raise CommitConflict(f"no version of {path} could be taken; nothing was changed: run the same command again")
