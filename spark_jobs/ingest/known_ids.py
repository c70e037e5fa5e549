"""Which ids are in the files of a source's table, kept beside it, so that no old row is read to look for one: 12 bytes each.

What is kept is a few indexes, each of some files of the table: how many ids each has, the hashes of all in order, and of each hash in
which file it is. A file of a table never changes, so what is kept of it is right as long as it is there; what is missing is made when it
is asked for. Indexes are joined as soon as they are about equally large. So there are few, however many files the table has, and to look
for some ids costs about the same beside any number of others.
"""

import hashlib
import json
import mmap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from feature_definitions import layout
from feature_definitions.language import Source
from lake import storage
from spark_jobs.ingest import row_blocks
from spark_jobs.ingest.row_blocks import Room
from spark_jobs.ingest.row_hashes import Hashes

_SMALL = 2**18
"""Files of fewer bytes together are read themselves."""
_AT_ONCE = 16
"""So many files are looked at together: S3 takes its time to answer."""
_MADE_AT_ONCE, _JOINED_AT_ONCE = 2**20, 2**22
"""About so many ids are put in order together."""
_ALIKE = 4
"""Indexes are joined with one that has at most so many times their ids."""

Numbers = NDArray[np.uint32]


class _Index(NamedTuple):
    """The ids of some files of a table: how many each file has, the hashes in order, and the number of the file of each.

    `path` says where it is kept, and `mapped` holds it then; None: it is not kept.
    """

    files: Mapping[str, int]
    ids: Hashes
    numbers: Numbers
    path: str | None = None
    mapped: mmap.mmap | None = None

    def numbers_with(self, ids: Hashes) -> Numbers:
        """The numbers of the files that hold one of some ids, which are in order."""
        if not (len(ids) and len(self.ids)):
            return self.numbers[:0]
        if len(self.ids) <= len(ids):
            return np.unique(self.numbers[ids[np.minimum(np.searchsorted(ids, self.ids), len(ids) - 1)] == self.ids])
        first = np.searchsorted(self.ids, ids)
        known = self.ids[np.minimum(first, len(self.ids) - 1)] == ids
        last = np.searchsorted(self.ids, ids[known], side="right") - 1
        found, at = list[Numbers](), first[known]
        while len(at):  # an id is at most once of each file
            found.append(self.numbers[at])
            at, last = at[at < last] + 1, last[at < last]
        return np.unique(np.concatenate([self.numbers[:0], *found]))


def files_with(ids: Hashes, files: Mapping[str, int], source: Source, *, there: Collection[str], lake: str, room: Room) -> set[str]:
    """Those of some files of the source's table, each with its bytes, that hold a row with one of some ids (by hashes, in order).

    `there` are all files of the table: what is kept of others is forgotten. Raises Unlike.
    """
    shelf = _Shelf(source, lake, room)
    indexes = shelf.kept()
    known = {path for each in indexes for path in each.files}
    missing = {path: size for path, size in files.items() if path not in known}
    for each in _made(list(missing), source, room):
        indexes.append(each if sum(missing.values()) < _SMALL else shelf.joined([each], there))
    found = {path for each in indexes for path in _paths(each, each.numbers_with(ids))}
    shelf.join(_alike([each for each in indexes if each.path], there), there)
    return found & files.keys()


def _paths(index: _Index, numbers: Numbers) -> Iterable[str]:
    paths = list(index.files) if len(numbers) else []
    return (paths[number] for number in numbers.tolist())


def _made(paths: Sequence[str], source: Source, room: Room) -> Iterator[_Index]:
    """The ids of files, in indexes of some millions."""
    held = dict[str, Hashes]()
    for first in range(0, len(paths), _AT_ONCE):
        for path, near in room.near(paths[first : first + _AT_ONCE]).items():
            held[path] = np.unique(row_blocks.ids_of_table(near, source))
            if sum(map(len, held.values())) >= _MADE_AT_ONCE:
                yield _of(held)
                held = {}
    if held:
        yield _of(held)


def _of(held: Mapping[str, Hashes]) -> _Index:
    counts = {path: len(ids) for path, ids in held.items()}
    numbers = np.repeat(np.arange(len(counts), dtype=np.uint32), list(counts.values()))
    return _Index(counts, *_in_order([(np.concatenate(list(held.values())), numbers)]))


def _in_order(held: Sequence[tuple[Hashes, Numbers]]) -> tuple[Hashes, Numbers]:
    ids, numbers = (np.concatenate(each) for each in zip(*held, strict=True))
    order = np.argsort(ids)
    return ids[order], numbers[order]


def _alike(indexes: Sequence[_Index], there: Collection[str]) -> list[_Index]:
    """Those that become one: some that are about equally large, and any that is mostly of files that are gone."""
    joined, count = list[_Index](), 0
    for each in sorted(indexes, key=lambda index: len(index.ids)):
        still = sum(n for path, n in each.files.items() if path in there)
        fits = len(each.ids) <= _ALIKE * count or 2 * still < len(each.ids)
        if not fits and len(joined) == 1 and 2 * count >= len(joined[0].ids):  # a smaller one that is alone stays as it is
            joined, count = [], 0
        if fits or not joined:
            joined.append(each)
            count += still
    return joined if len(joined) > 1 or 2 * count < sum(len(each.ids) for each in joined) else []


class _Shelf:
    """Where the indexes of a source's table are kept, by the definition of its id."""

    def __init__(self, source: Source, lake: str, room: Room) -> None:
        """Look at nothing yet."""
        said = repr([(name, source.columns[name]) for name in source.id])
        self._folder, self._definition = layout.known_ids(lake, source.name), _in_short(said.encode())
        self._room = room

    def kept(self) -> list[_Index]:
        """What is kept; what is of another definition, or cut off, is deleted."""
        files = [file.path for file in storage.files(self._folder)]
        mine = [path for path in files if path.startswith(f"{self._folder}/{self._definition}-")]
        found = {path: _read(path, near) for path, near in self._room.near(mine).items()}
        for path in files:
            if found.get(path) is None:
                storage.delete(path)
        return [index for index in found.values() if index is not None]

    def join(self, indexes: Sequence[_Index], there: Collection[str]) -> None:
        """Keep one index in the place of some, if any of their files is still there."""
        holds = any(path in there for each in indexes for path in each.files)
        now = self.joined(indexes, there).path if holds else None
        for each in indexes:
            if each.path is not None and each.path != now:
                storage.delete(each.path)

    def joined(self, indexes: Sequence[_Index], there: Collection[str]) -> _Index:
        """An index, which is kept, of those files of several that are still there."""
        counts = {path: n for each in indexes for path, n in each.files.items() if path in there}
        head = json.dumps(counts).encode()
        head += b" " * (-len(head) % 8)
        path = f"{self._folder}/{self._definition}-{_in_short(head)}.ids"
        copy = Path(self._room.folder, path.rpartition("/")[2])
        with copy.open("wb") as file:
            file.write(np.array([sum(counts.values()), len(head)], np.uint64).tobytes() + head)
            at, done = file.tell(), 0
            for ids, numbers in _merged(indexes, list(counts)):
                for place, values in ((at + 8 * done, ids), (at + 8 * sum(counts.values()) + 4 * done, numbers)):
                    file.seek(place)
                    file.write(values.tobytes())
                done += len(ids)
        storage.put_files({path: str(copy)})
        found = _read(path, str(copy))
        copy.unlink()
        if found is None:
            raise RuntimeError(f"{path}: {done} ids were to be kept, but not all are there")
        return found


def _merged(indexes: Sequence[_Index], paths: Sequence[str]) -> Iterator[tuple[Hashes, Numbers]]:
    """The ids of those indexes' files that are among some paths, in order, a part at a time, each with the number of its path."""
    places, taken, moved = {path: n for n, path in enumerate(paths)}, set[str](), list[NDArray[np.int64]]()
    for each in indexes:
        moved.append(np.array([-1 if path in taken else places.get(path, -1) for path in each.files], np.int64))
        taken |= each.files.keys()
    parts = min(256, 1 << (sum(len(each.ids) for each in indexes) // _JOINED_AT_ONCE).bit_length())
    for part in range(parts):
        held = list[tuple[Hashes, Numbers]]()
        for each, to in zip(indexes, moved, strict=True):
            ends = (part * 256 // parts, (part + 1) * 256 // parts)
            first, last = (np.searchsorted(each.ids, np.uint64(end << 56)) if end < 256 else len(each.ids) for end in ends)
            numbers = to[each.numbers[first:last]]
            held.append((each.ids[first:last][numbers >= 0], numbers[numbers >= 0].astype(np.uint32)))
            if each.mapped is not None:
                each.mapped.madvise(mmap.MADV_DONTNEED)
        yield _in_order(held)


def _read(path: str, near: str) -> _Index | None:
    """An index that is kept, by its file on this machine; None if that is cut off."""
    with open(near, "rb") as file:  # noqa: PTH123  # a path of the lake is text
        begin = file.read(16)
        count, length = np.frombuffer(begin, np.uint64).tolist() if len(begin) == 16 else (0, 0)
        head = file.read(length)
        at = 16 + length
        if len(begin) < 16 or Path(near).stat().st_size != at + 12 * count:
            return None
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    ids, numbers = np.frombuffer(mapped, np.uint64, count, at), np.frombuffer(mapped, np.uint32, count, at + 8 * count)
    return _Index(json.loads(head), ids, numbers, path, mapped)


def _in_short(said: bytes) -> str:
    return hashlib.sha256(said).hexdigest()[:24]
