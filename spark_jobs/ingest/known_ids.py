"""Which ids are in the files of a source's table, kept in a file beside, so that no old row is read to look for one: 10 to 12 bytes each.

What is kept is how many there are, their hashes in order, and a sieve: a bit for each beginning of a hash that one of them has, of which
there are at least 16 times as many. A file of a table never changes, so what is kept of it is right as long as it is there; what is missing
is made when it is asked for.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from feature_definitions import layout
from feature_definitions.language import Source
from lake import s3, storage
from spark_jobs.ingest import row_blocks
from spark_jobs.ingest.row_blocks import Room
from spark_jobs.ingest.row_hashes import Hashes

_SMALL = 2**18
"""A file of fewer bytes is read itself."""
_AT_ONCE = 16
"""So many files are looked at together: S3 takes its time to answer."""


class _Known(NamedTuple):
    """The ids of a file, in order, and their sieve; None: there is none."""

    ids: Hashes
    sieve: NDArray[np.uint8] | None = None


def files_with(ids: Hashes, files: Mapping[str, int], source: Source, *, lake: str, room: Room) -> Iterator[str]:
    """The files of the source's table, each with its bytes, that hold a row with one of some ids (by hashes, in order). Raises Unlike."""
    folder, names = layout.known_ids(lake, source.name), list(files)
    sizes = {file.path: file.size for file in storage.files(folder)} if any(size >= _SMALL for size in files.values()) else {}
    for first in range(0, len(names), _AT_ONCE):
        some = names[first : first + _AT_ONCE]
        at = {path: _kept_at(folder, path, source) for path in some if files[path] >= _SMALL}
        known = _kept(at, sizes)
        near = room.near([path for path in some if path not in known])
        for path in some:
            if path not in known:
                known[path] = _Known(np.sort(row_blocks.ids_of_table(near[path], source)))
                if path in at:
                    storage.write(at[path], _written(known[path].ids))
            if _has_any(known[path], ids):
                yield path


def forget(source: Source, *, lake: str, there: Collection[str]) -> None:
    """Delete what is kept of files that are not among those that are there."""
    folder = layout.known_ids(lake, source.name)
    right = {_kept_at(folder, path, source) for path in there}
    for file in storage.files(folder):
        if file.path not in right:
            storage.delete(file.path)


def _kept(at: Mapping[str, str], sizes: Mapping[str, int]) -> dict[str, _Known]:
    """What is kept of the ids of files, each at its place, where nothing is cut off."""
    right = {path: place for path, place in at.items() if sizes.get(place, 0) and not sizes[place] % 8}
    held = storage.read_all([place for place in right.values() if s3.is_remote(place)])
    words = {path: np.frombuffer(held[place], np.uint64) for path, place in right.items() if place in held}
    words |= {path: np.memmap(place, np.uint64, mode="r") for path, place in right.items() if not s3.is_remote(place)}
    found = {path: _read(each) for path, each in words.items()}
    return {path: known for path, known in found.items() if known is not None}


def _read(words: NDArray[np.uint64]) -> _Known | None:
    count = int(words[0])
    whole = len(words) == 1 + count + 2 ** _bits(count) // 64
    return _Known(words[1 : 1 + count], words[1 + count :].view(np.uint8)) if whole else None


def _written(ids: Hashes) -> bytes:
    sieve = np.zeros(2 ** _bits(len(ids)), np.bool_)
    sieve[_begin(ids, _bits(len(ids)))] = True
    return np.uint64(len(ids)).tobytes() + ids.tobytes() + np.packbits(sieve, bitorder="little").tobytes()


def _bits(count: int) -> int:
    """How many bits of a hash the sieve of so many looks at."""
    return max(6, (16 * count).bit_length())


def _begin(ids: Hashes, bits: int) -> NDArray[np.int64]:
    return (ids >> np.uint64(64 - bits)).astype(np.int64)


def _has_any(known: _Known, ids: Hashes) -> bool:
    """Whether one of some ids, in order, is known."""
    if known.sieve is not None and len(ids) < len(known.ids):
        begin = _begin(ids, _bits(len(known.ids)))
        ids = ids[np.flatnonzero((known.sieve[begin >> 3] >> (begin & 7).astype(np.uint8)) & 1)]
    few, many = sorted((ids, known.ids), key=len)
    if not len(few):
        return False
    near = many[np.searchsorted(many, few[0]) : np.searchsorted(many, few[-1], side="right")]
    places = np.searchsorted(near, few)
    return bool(len(near)) and bool(np.any(near[np.minimum(places, len(near) - 1)] == few))


def _kept_at(folder: str, path: str, source: Source) -> str:
    """Where the ids of a file are kept, by the definition of the id."""
    said = [path, *((name, source.columns[name]) for name in source.id)]
    return f"{folder}/{hashlib.sha256(repr(said).encode()).hexdigest()[:32]}.ids"
