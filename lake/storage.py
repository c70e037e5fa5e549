"""Where the lake's files and folders lie: the only module that knows, on a local folder or on S3. No other module touches a lake path.

A path is a whole one, as `layout` spells it: `/data/lake/...` or `s3a://bucket/prefix/...`. A folder is there as long as something lies
in it. On S3 an empty file is none: other programs mark folders by them.
"""

import errno
import os
import posixpath
import re
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, PreconditionError
from obstore.store import LocalStore, S3Store

from feature_definitions import layout
from lake import s3

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import S3Config
    from pyarrow import fs

_LOCAL = LocalStore()
_AT_ONCE = 16
"""How many files are brought to a lake at the same time."""
_READ_AT_ONCE = 64
"""How many are asked for at the same time: S3 takes its time to answer, whatever it is asked."""
_NOT_THE_FILE = re.compile("<Code>(?!NoSuchKey)")
"""S3's reason for a 404 that is none of a missing file: the bucket is not there, or, to some servers, the key that was shown."""
_RUST = "Error performing"
"""How obstore and delta-rs, which are made of the same piece, begin to say which request failed."""


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


@dataclass(frozen=True, slots=True)
class Object:
    """An object on S3, anybody's: its path, its bytes, and the tag that S3 gives to this content of it (None: none is told)."""

    path: str
    size: int
    tag: str | None


class Overwritten(OSError):
    """An object that has another content than when it was listed."""


def exists(path: str) -> bool:
    """Whether there is a file at `path`, or anything in a folder of that name."""
    with told(path):
        if any(True for _ in _listed(path)):
            return True
        try:
            obstore.head(*_at(path))
        except FileNotFoundError:
            return False
    return True


def has(folder: str, named: "re.Pattern[str]") -> bool:
    """Whether a file with such a name lies in a folder or below it: one look, that ends at the first."""
    with told(folder):
        return any(named.fullmatch(each["path"].rpartition("/")[2]) for each in _listed(folder))


def files(folder: str, *, suffix: str = "", after: str = "") -> list[File]:
    """The files of a folder and of those below it, by path, of whose places there only those that come `after` one in the order of texts.

    There are none of a folder that is not there.
    """
    with told(folder):
        root = _root(folder)
        found = (each for each in _listed(folder, after=after) if each["path"].endswith(suffix))
        mine = (File(f"{root}/{each['path']}", each["size"], each["last_modified"]) for each in found)
        return sorted(mine, key=attrgetter("path"))


def folders(folder: str) -> list[str]:
    """The folders that lie right in a folder, by name."""
    with told(folder):
        return sorted(f"{_root(folder)}/{path}" for path in obstore.list_with_delimiter(*_at(folder))["common_prefixes"])


def read(path: str) -> bytes:
    """What a file holds; raises FileNotFoundError."""
    with told(path):
        return bytes(obstore.get(*_at(path)).bytes())


def read_all(paths: Collection[str]) -> dict[str, bytes]:
    """What files hold, many asked for at the same time; one that is not there is left out."""
    with ThreadPoolExecutor(_READ_AT_ONCE) as threads:
        return {path: held for path, held in zip(paths, threads.map(_held, paths), strict=True) if held is not None}


def _held(path: str) -> bytes | None:
    try:
        return read(path)
    except FileNotFoundError:
        return None


def end(path: str, *, of: int, length: int) -> bytes:
    """The last bytes of a file of so many; all of it where it has fewer."""
    with told(path):
        return bytes(obstore.get_range(*_at(path), start=max(0, of - length), end=of))


def write(path: str, content: bytes | memoryview) -> None:
    """Put a file in its place as a whole: readers find what was there before, or all of it."""
    with told(path):
        obstore.put(*_at(path), content)


def put_files(copies: Mapping[str, str]) -> None:
    """Put local files in their places in a lake, each as a whole, some at a time."""
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for done in [threads.submit(_put_file, copy, path) for path, copy in copies.items()]:
            done.result()


def _put_file(copy: str, path: str) -> None:
    with told(path):
        obstore.put(*_at(path), Path(copy))


def bring(copies: Mapping[str, str]) -> None:
    """Bring files of a lake here, many at the same time, each whole or not at all: `copies` says where each shall lie."""
    for folder in {Path(copy).parent for copy in copies.values()}:
        folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(_READ_AT_ONCE) as threads:
        for done in [threads.submit(_bring_file, path, copy) for path, copy in copies.items()]:
            done.result()


def _bring_file(path: str, copy: str) -> None:
    part = Path(f"{copy}.{secrets.token_hex(4)}")
    with told(path), part.open("wb") as file:
        for piece in obstore.get(*_at(path)).stream():
            file.write(piece)
    part.replace(copy)


def create(path: str, content: bytes | memoryview) -> None:
    """Put a file where there is none; raises FileExistsError, of all who try at once in all but one.

    On S3 it may be raised for one's own file, if the answer was lost and the request repeated: read what is there.
    """
    with told(path):
        try:
            obstore.put(*_at(path), content, mode="create")
        except AlreadyExistsError:
            raise FileExistsError(f"{path} is there already") from None


def delete(path: str) -> None:
    """Delete a file; one that is not there is fine."""
    with told(path), suppress(FileNotFoundError):
        obstore.delete(*_at(path))


def delete_tree(folder: str) -> None:
    """Delete a folder with all that lies in it; one that is not there is fine."""
    if not s3.is_remote(folder):
        shutil.rmtree(folder, ignore_errors=True)
        return
    with told(folder):
        store, key = _at(folder)
        found = [each for chunk in obstore.list(store, prefix=key) for each in chunk]
        if found:
            obstore.delete(store, [each["path"] for each in found])
        if marks := [f"{each['path']}/" for each in found if not each["size"]]:
            _delete_marks(s3.split(folder)[0], marks)


def joined(lake: str, place: str) -> str:
    """The whole path of a place that is said relative to the lake; a whole one stays."""
    if s3.is_remote(place) or (s3.is_remote(lake) and place.startswith("/")):
        return place
    if s3.is_remote(lake):
        return f"{layout.S3}{posixpath.normpath(posixpath.join(lake.removeprefix(layout.S3), place))}"
    return os.path.normpath(Path(lake, place))


def relative(path: str, *, to: str) -> str:
    """A path as seen from a folder; a whole one, if one of the two lies on S3 and not below the other."""
    if path.startswith(f"{to}/"):
        return path.removeprefix(f"{to}/")
    return path if s3.is_remote(path) or s3.is_remote(to) else os.path.relpath(path, to)


def arrow(folder: str) -> "fs.FileSystem":
    """A folder as pyarrow's own file system: for Parquet, and for deltalake, whose own one aborts Python at its exit now and then."""
    from pyarrow import fs

    if not s3.is_remote(folder):
        return fs.SubTreeFileSystem(folder, fs.LocalFileSystem())
    return fs.SubTreeFileSystem(folder.removeprefix(layout.S3).rstrip("/"), _arrow(s3.reach()))


def options(path: str) -> dict[str, str] | None:
    """What `deltalake` must be told to reach a path; None for a local one. It holds no keys."""
    return s3.options(s3.reach()) if s3.is_remote(path) else None


def beginning(text: str) -> list[Object]:
    """The objects on S3 whose paths begin with a text, which may end within a name: 1,000 a request, none before the first of them."""
    with told(text):
        folder, _, begin = text.rpartition("/")
        (store, key), root = _at(folder), _root(folder)
        found, keys = list[Object](), f"{key}/{begin}" if key else begin
        offset = _before(keys) if begin else None
        for chunk in obstore.list(store, prefix=key or None, offset=offset or None, chunk_size=1000):
            found += [_object(each, root) for each in chunk if each["path"].startswith(keys)]
            if begin and chunk and chunk[-1]["path"] > keys and not chunk[-1]["path"].startswith(keys):
                break
        return found


def objects_in(folder: str) -> list[Object]:
    """The objects that lie right in a folder on S3, however much lies in the folders below it."""
    with told(folder):
        root = _root(folder)
        return [_object(each, root) for each in obstore.list_with_delimiter(*_at(folder))["objects"]]


def object_at(path: str) -> Object | None:
    """The object at a path on S3; None if there is none."""
    with told(path), suppress(FileNotFoundError):
        return _object(obstore.head(*_at(path)), _root(path))
    return None


def part(held: Object, first: int, end: int) -> bytes:
    """Some bytes of an object as it was listed; raises FileNotFoundError, PermissionError, or Overwritten if it is another one now."""
    with told(held.path):
        store, key = _at(held.path)
        try:
            return bytes(obstore.get(store, key, options={"range": (first, end), "if_match": held.tag}).bytes())
        except FileNotFoundError as error:
            if _is_of_s3(error):
                raise
            raise FileNotFoundError(errno.ENOENT, "it is there no more", held.path) from None
        except PreconditionError:
            raise Overwritten(errno.ESTALE, "it was written anew meanwhile", held.path) from None
        except PermissionDeniedError:
            raise PermissionError(errno.EACCES, "S3 denies the access to it", held.path) from None


@contextmanager
def told(path: str) -> Iterator[None]:
    """What S3 refuses in the block, by whichever client, as one sentence (S3Fault); a bucket that is not there is no missing file."""
    try:
        yield
    except Exception as error:
        if s3.is_remote(path) and _is_of_s3(error):
            raise s3.fault(error, path) from error
        raise


def _is_of_s3(error: Exception) -> bool:
    if isinstance(error, FileNotFoundError):
        return _NOT_THE_FILE.search(str(error)) is not None
    return isinstance(error, BaseError) or type(error) is OSError or _RUST in str(error)


def _at(path: str) -> tuple[LocalStore | S3Store, str]:
    """The store in which a path lies, and how it is named there."""
    if not s3.is_remote(path):
        return _LOCAL, Path(path).absolute().as_posix().removeprefix("/")
    bucket, key = s3.split(path)
    return _bucket(bucket, s3.reach()), key


@lru_cache(maxsize=32)
def _bucket(name: str, reach: s3.Reach) -> S3Store:
    at: S3Config = {} if reach.endpoint is None else {"endpoint": reach.endpoint}
    return S3Store(
        name,
        config={"region": str(reach.region), "conditional_put": "etag", **at},
        client_options={"allow_http": reach.is_plain},
        credential_provider=reach.provider,
    )


@lru_cache(maxsize=8)
def _arrow(reach: s3.Reach) -> "fs.S3FileSystem":
    from pyarrow import fs

    return fs.S3FileSystem(region=reach.region, endpoint_override=reach.endpoint)


def _root(path: str) -> str:
    """What comes before the slash and the name that a path has in its store."""
    return f"{layout.S3}{s3.split(path)[0]}" if s3.is_remote(path) else ""


_LESS = {"0": ".", "A": "9", "a": "Z"}
"""Of the first digit and the first letters the sign before them, others apart that names seldom have."""


def _object(found: "ObjectMeta", root: str) -> Object:
    return Object(f"{root}/{found['path']}", found["size"], found["e_tag"])


def _before(text: str) -> str:
    """A text after which all lie that begin with `text`, and hardly any that lie before them."""
    last = text[-1]
    if not (last.isascii() and last.isalnum()):
        return text[:-1]
    return f"{text[:-1]}{_LESS.get(last) or chr(ord(last) - 1)}~"


def _listed(folder: str, *, after: str = "") -> "Iterator[ObjectMeta]":
    """What lies in a folder and in those below it, marks of folders apart."""
    store, key = _at(folder)
    offset = f"{key}/{after}" if after else None
    found = (each for chunk in obstore.list(store, prefix=key, offset=offset) for each in chunk)
    return (each for each in found if each["size"] or store is _LOCAL)


def _delete_marks(bucket: str, keys: list[str]) -> None:
    """Delete keys that end with a slash, by which other programs mark folders; obstore cannot say them."""
    client = s3.client(s3.reach())
    for first in range(0, len(keys), 1000):
        named = [{"Key": key} for key in keys[first : first + 1000]]
        client.delete_objects(Bucket=bucket, Delete={"Objects": named, "Quiet": True})
