"""The log of a table on S3, brought here with few requests, all that is needed of it side by side, and read here.

deltalake itself asks S3 some fifteen times for a log, one after the other. A log says all of a table but its rows.
"""

import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from lake import storage

COMMIT = re.compile(r"\d{20}\.json")
"""The files of a log in which a commit each is."""
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
