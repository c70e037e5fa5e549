"""The log of a table, read here: which commits it tells of, and on S3 all that it says.

On S3 a log is brought with few requests, all that is needed of it side by side: deltalake itself asks some fifteen times, one after the
other. A log says all of a table but its rows.
"""

import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from feature_definitions.errors import UserError
from feature_definitions.intervals import instant
from lake import storage

COMMIT = re.compile(r"\d{20}\.json")
"""The files of a log in which a commit each is."""
_STATE = re.compile(r"\d{20}\.checkpoint\.([\w-]+\.)*parquet")
"""The files that say all that a log says up to a version."""
_IN_MEMORY = "/dev/shm"  # noqa: S108  # the folder has a name of its own, and is this user's alone
"""Where Linux keeps files without a disk."""
_HINT, _SUM = "_last_checkpoint", ".checkpoint.parquet"
"""The file of a log that says which version was summed up, and how the file ends in which one is, whole."""


class NotWhole(Exception):
    """A log that is not told whole by what is understood here: it is left to deltalake."""


def table(path: str) -> DeltaTable | None:
    """What the log of the table at a path says, as a table that lies nowhere; None where there is none. Raises NotWhole."""
    named = _needed(f"{path}/_delta_log")
    if not named:
        return None
    if not _is_whole(named):
        raise NotWhole(path)
    return _read_here(storage.read_all(named))


def _needed(log: str) -> list[str]:
    """The files of a log that say all of its newest version: its newest sum, and the commits after that; none without a table."""
    found = storage.files(log, after=f"{_summed(log):020}")
    newest = max((file.path for file in found if file.name.endswith(_SUM)), default="")
    later = [file.path for file in found if COMMIT.fullmatch(file.name) and _version(file.path) > _version(newest)]
    return [newest, *later] if newest else later


def _version(path: str) -> int:
    """The version of which a file of a log tells."""
    return int(path.rpartition("/")[2][:20]) if path else -1


def _is_whole(named: Sequence[str]) -> bool:
    """Whether no commit is missing since the sum that comes first, or since the table was made."""
    first = _version(named[0])
    return (first == 0 or named[0].endswith(_SUM)) and [_version(path) for path in named] == list(range(first, first + len(named)))


def _summed(log: str) -> int:
    """The version whose state a file of the log sums up, as far as the log points to one."""
    try:
        return int(json.loads(storage.read(f"{log}/{_HINT}"))["version"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return 0


def _read_here(held: Mapping[str, bytes]) -> DeltaTable:
    with tempfile.TemporaryDirectory(dir=_IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) else None) as folder:
        log = Path(folder, "_delta_log")
        log.mkdir()
        for path, content in held.items():
            log.joinpath(path.rpartition("/")[2]).write_bytes(content)
        try:
            return DeltaTable(folder)
        except DeltaError as error:  # one of the files went meanwhile, or is not what its name says
            raise NotWhole from error


def commit_ids(path: str) -> frozenset[str]:
    """The ids of all commits that happened, of a table's: what `committed` tells of each would be a look at the log for each."""
    files = storage.files(f"{path}/_delta_log")
    states = [file for file in files if _STATE.fullmatch(file.name)]
    newest = max((file.name[:20] for file in states), default="")
    found = {each for file in states if file.name.startswith(newest) for each in _ids_in(file.path)}
    later = [file for file in files if COMMIT.fullmatch(file.name) and file.name[:20] > newest]
    return frozenset(found | {entry["txn"]["appId"] for file in later for entry in entries(file) if "txn" in entry})


def _ids_in(path: str) -> list[str]:
    """The ids of commits in a file that says all that the log says up to a version."""
    import pyarrow.parquet as pq

    folder, _, name = path.rpartition("/")
    known = pq.read_table(name, columns=["txn"], filesystem=storage.arrow(folder)).column("txn")
    return [each["appId"] for each in known.to_pylist() if each is not None and each["appId"] is not None]


def commit_of(path: str, commit_id: str) -> tuple[int, datetime]:
    """The version and time of a commit; raises LookupError if the log does not tell of it (any more)."""
    for version, entry in history(commits(path)[::-1]):
        if entry.get("userMetadata") == commit_id:
            return version, instant(int(entry["timestamp"]) * 1000)
    raise LookupError(f"{path} has no commit {commit_id} in its log")


def versions_of(path: str) -> dict[str, int]:
    """The version that each commit made of which the log still tells, by the commit's id."""
    return {str(entry["userMetadata"]): version for version, entry in history(commits(path)) if entry.get("userMetadata")}


def newest_text(path: str, column: str) -> str | None:
    """The greatest text in a column of the rows that a table's newest commit brought, by its log alone; None if that does not tell."""
    log = commits(path)
    try:
        added = [json.loads(entry["add"]["stats"]) for entry in entries(log[-1]) if "add" in entry] if log else []
    except (KeyError, TypeError, ValueError):
        return None
    found = [each["maxValues"].get(column) for each in added if "maxValues" in each]
    return max((text for text in found if isinstance(text, str)), default=None)


def commits(path: str) -> list[storage.File]:
    """The files of a table's log in which a commit each is, the oldest first."""
    return [file for file in storage.files(f"{path}/_delta_log", suffix=".json") if COMMIT.fullmatch(file.name)]


def history(log: Iterable[storage.File]) -> Iterator[tuple[int, dict[str, Any]]]:
    """What a log's files tell of their commits, each with its version, read one by one; deltalake's own finds none below a `#` or `?`."""
    for file in log:
        yield from ((int(file.name.split(".")[0]), entry["commitInfo"]) for entry in entries(file) if "commitInfo" in entry)


class DamagedLog(UserError, DeltaError):
    """The log of a table cannot be read; the sentence says what to do."""


def entries(file: storage.File) -> list[dict[str, Any]]:
    """What a commit did, as its file in the log says it; raises DamagedLog for one that was cut off."""
    try:
        return [json.loads(line) for line in storage.read(file.path).splitlines() if line.strip()]
    except ValueError:
        raise DamagedLog(f"{file.path} was cut off: delete it; the next ingest or run does again what it told of") from None


def oldest_commit(path: str) -> datetime:
    """The time of the oldest commit that the log still tells of: none that it has forgotten was later."""
    _, entry = next(history(commits(path)))
    return instant(int(entry["timestamp"]) * 1000)
