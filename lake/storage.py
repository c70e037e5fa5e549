"""Where the lake's files and folders lie: the only module that knows. On a local folder so far; no other module touches a lake path.

A path is a whole one, as `layout` spells it. A folder is there as long as something lies in it.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import LocalStore

if TYPE_CHECKING:
    from pyarrow import fs

_STORE = LocalStore()


@dataclass(frozen=True, slots=True)
class File:
    """A file of the lake: its path, its bytes, and when it was last written."""

    path: str
    size: int
    written_at: datetime

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return self.path.rpartition("/")[2]


def exists(path: str) -> bool:
    """Whether there is a file at `path`, or anything in a folder of that name."""
    try:
        obstore.head(_STORE, _key(path))
    except FileNotFoundError:
        return any(obstore.list(_STORE, prefix=_key(path), chunk_size=1))
    return True


def files(folder: str, *, suffix: str = "") -> list[File]:
    """The files of a folder and of those below it, by path; none of a folder that is not there."""
    found = (each for chunk in obstore.list(_STORE, prefix=_key(folder)) for each in chunk)
    mine = (File(f"/{each['path']}", each["size"], each["last_modified"]) for each in found if each["path"].endswith(suffix))
    return sorted(mine, key=attrgetter("path"))


def folders(folder: str) -> list[str]:
    """The folders that lie right in a folder, by name."""
    return sorted(f"/{path}" for path in obstore.list_with_delimiter(_STORE, _key(folder))["common_prefixes"])


def read(path: str) -> bytes:
    """What a file holds; raises FileNotFoundError."""
    return bytes(obstore.get(_STORE, _key(path)).bytes())


def write(path: str, content: bytes | memoryview) -> None:
    """Put a file in its place as a whole: readers find what was there before, or all of it."""
    obstore.put(_STORE, _key(path), content)


def create(path: str, content: bytes | memoryview) -> None:
    """Put a file where there is none; raises FileExistsError, of all who try at once in all but one."""
    try:
        obstore.put(_STORE, _key(path), content, mode="create")
    except AlreadyExistsError:
        raise FileExistsError(f"{path} is there already") from None


def delete(path: str) -> None:
    """Delete a file; one that is not there is fine."""
    with suppress(FileNotFoundError):
        obstore.delete(_STORE, _key(path))


def delete_tree(folder: str) -> None:
    """Delete a folder with all that lies in it; one that is not there is fine."""
    shutil.rmtree(folder, ignore_errors=True)


def joined(lake: str, place: str) -> str:
    """The whole path of a place that is said relative to the lake; a whole one stays."""
    return os.path.normpath(Path(lake, place))


def relative(path: str, *, to: str) -> str:
    """A path as seen from a folder."""
    return os.path.relpath(path, to)


def arrow(folder: str) -> "fs.FileSystem":
    """A folder as pyarrow's own file system: for Parquet, and for deltalake, whose own one aborts Python at its exit now and then."""
    from pyarrow import fs

    return fs.SubTreeFileSystem(folder, fs.LocalFileSystem())


@contextmanager
def held(folder: str) -> Iterator[None]:
    """Hold a folder, made where it is missing, once nobody else holds it. A process that is gone, or killed, holds nothing."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    handle = _open(folder)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def is_held(folder: str) -> bool:
    """Whether somebody holds a folder; one that went meanwhile was somebody's."""
    try:
        handle = _open(folder)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _open(folder: str) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)


def _key(path: str) -> str:
    """A path as the store names it."""
    return Path(path).absolute().as_posix().removeprefix("/")
