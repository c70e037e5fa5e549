"""The logs of many tables at once, to look at: those on S3 are brought here with few requests, and read here.

deltalake itself asks S3 some fifteen times for each log, one after the other. A log says all of a table but its rows.
"""

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from lake import delta, s3, storage

Logs = Mapping[str, DeltaTable | None]
"""Tables by their paths, whose rows may lie elsewhere than they say; None where there is none."""
_AT_ONCE = 64
"""How many logs are looked at side by side."""
_HINT, _SUM = "_last_checkpoint", ".checkpoint.parquet"
"""The file of a log that says which version was summed up, and how the file ends in which one is, whole."""


def found_all(paths: Iterable[str]) -> Logs:
    """What the logs of the tables at some paths say, looked at side by side: for questions about versions, files and columns alone."""
    listed = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return dict(zip(listed, threads.map(_found, listed), strict=True))


def _found(path: str) -> DeltaTable | None:
    if not s3.is_remote(path):
        return delta.found(path)
    named = _needed(f"{path}/_delta_log")
    if not named:
        return None
    table = _read_here(storage.read_all(named)) if _is_whole(named) else None
    return delta.found(path) if table is None else table


def _needed(log: str) -> list[str]:
    """The files of a log that say all of its newest version: its newest sum, and the commits after that; none without a table."""
    found = storage.files(log, after=f"{_summed(log):020}")
    newest = max((file.path for file in found if file.name.endswith(_SUM)), default="")
    later = [file.path for file in found if delta.LOGGED.fullmatch(file.name) and _version(file.path) > _version(newest)]
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


def _read_here(held: Mapping[str, bytes]) -> DeltaTable | None:
    """The table of a log's files; None if deltalake cannot make it of them: one of them went meanwhile, or others sum up in more files."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "_delta_log")
        log.mkdir()
        for path, content in held.items():
            log.joinpath(path.rpartition("/")[2]).write_bytes(content)
        try:
            return DeltaTable(folder)
        except DeltaError:
            return None
