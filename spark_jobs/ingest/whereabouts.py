"""Where files of sources lie: on this machine, or on S3, where they are listed a thousand at a time and read in parts.

A file on S3 is asked for what a local path is: its name, its folder, its content. That content is the one which was listed: of an object
that is written anew nobody reads half of the old and half of the new.
"""

import errno
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Literal

from feature_definitions.layout import S3
from lake import storage
from lake.storage import Object

_PART = 4 * 2**20
"""So many bytes are read at once: whole, where a file is smaller."""
_KEPT = 8
"""So many parts that were read last are kept: a file is looked at from its begin several times."""


@dataclass(frozen=True, slots=True, order=True)
class Remote:
    """A file on S3 as it was listed: its path, its bytes, and the tag of its content."""

    path: str
    size: int
    tag: str | None

    def __str__(self) -> str:
        """Its path."""
        return self.path

    @property
    def pure(self) -> PurePosixPath:
        """Its path, for its parts."""
        return PurePosixPath(self.path)

    @property
    def name(self) -> str:
        """Its name without its folder."""
        return self.pure.name

    @property
    def suffix(self) -> str:
        """The last ending of its name."""
        return self.pure.suffix

    @property
    def suffixes(self) -> list[str]:
        """The endings of its name."""
        return self.pure.suffixes

    @property
    def folder(self) -> str:
        """The path of its folder."""
        return self.path.rpartition("/")[0]

    def open(self, _: Literal["rb"]) -> BufferedReader:
        """Its content, from any place on."""
        return BufferedReader(_Content(self))

    def exists(self) -> bool:
        """Whether there is an object at its path, with whatever content."""
        return storage.object_at(self.path) is not None

    def is_file(self) -> bool:
        """Whether it is a file: that is what is listed."""
        return True

    def is_same(self) -> bool:
        """Whether its content is the one that was listed."""
        return storage.object_at(self.path) == Object(self.path, self.size, self.tag)


Place = Path | Remote
"""Where a file lies."""


def is_remote(path: str) -> bool:
    """Whether a path or a glob, as a definition says it, is one on S3."""
    return path.startswith(S3)


def folder(place: Place) -> str:
    """The path of the folder in which a file lies."""
    return place.folder if isinstance(place, Remote) else str(place.parent)


def whole(path: str, *, root: Path) -> str:
    """A path or a glob as it is found from anywhere: on S3 as it is said, without a slash at its end; else below the project's root."""
    return path.rstrip("/") if is_remote(path) else str(root / path)


def exists(path: str) -> bool:
    """Whether there is a file or a folder."""
    return storage.exists(path) if is_remote(path) else Path(path).exists()


def has_log(path: str) -> bool:
    """Whether a folder holds the log of a Delta table."""
    log = f"{path}/_delta_log"
    return storage.exists(log) if is_remote(path) else Path(log).is_dir()


def named(place: Place, root: Path) -> str:
    """How a file is called in records: as seen from the project's root, if it lies below it."""
    return str(place.relative_to(root)) if isinstance(place, Path) and place.is_relative_to(root) else str(place)


def shown(globs: Sequence[str], *, root: Path) -> str:
    """Where globs look, for messages: those that are not on S3 below the project's root."""
    said = ", ".join(globs)
    return said if all(map(is_remote, globs)) else f"{said} in {root}"


def for_arrow(place: Place) -> Path | BufferedReader:
    """What pyarrow reads a file of: it reads those of this machine itself."""
    return place if isinstance(place, Path) else place.open("rb")


def told(place: Place) -> tuple[str, int | None, str | None]:
    """What is written down of a file to find it again, in another process too."""
    return (place.path, place.size, place.tag) if isinstance(place, Remote) else (str(place), None, None)


def place(path: str, size: int | None, tag: str | None) -> Place:
    """A file of what `told` wrote down of it."""
    return Path(path) if size is None else Remote(path, size, tag)


class _Content(io.RawIOBase):
    """The content of a file on S3, read in parts."""

    def __init__(self, file: Remote) -> None:
        self._file, self._at = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence] + offset)
        return self._at

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]  # any buffer will do
        if self._at >= self._file.size or not len(buffer):
            return 0
        number, begin = divmod(self._at, _PART)
        held = memoryview(_part(self._file, number))[begin : begin + len(buffer)]
        buffer[: len(held)] = held
        self._at += len(held)
        return len(held)


@lru_cache(maxsize=_KEPT)
def _part(file: Remote, number: int) -> bytes:
    first, end = number * _PART, min((number + 1) * _PART, file.size)
    found = storage.part(Object(file.path, file.size, file.tag), first, end)
    if len(found) != end - first:
        raise OSError(errno.EIO, f"it ends after {first + len(found)} of {file.size} bytes", file.path)
    return found
