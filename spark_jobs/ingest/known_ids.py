"""Which ids are in the files of a source's table: 8 bytes each, kept in order in a file beside, so that no old row is read to look for one.

A file of a table never changes, so what is kept of it is right as long as it is there; what is missing is made when it is asked for.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping

import numpy as np

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
_NONE: Hashes = np.zeros(0, np.uint64)


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
                known[path] = np.sort(row_blocks.ids_of_table(near[path], source))
                if path in at:
                    storage.write(at[path], known[path].tobytes())
            if _share(ids, known[path]):
                yield path


def forget(source: Source, *, lake: str, there: Collection[str]) -> None:
    """Delete what is kept of files that are not among those that are there."""
    folder = layout.known_ids(lake, source.name)
    right = {_kept_at(folder, path, source) for path in there}
    for file in storage.files(folder):
        if file.path not in right:
            storage.delete(file.path)


def _kept(at: Mapping[str, str], sizes: Mapping[str, int]) -> dict[str, Hashes]:
    """What is kept of the ids of files, each at its place: whole on S3, where nothing is cut off, else if it has as many as its file."""
    right = {path: place for path, place in at.items() if place in sizes and not sizes[place] % 8}
    remote = {path: place for path, place in right.items() if s3.is_remote(place)}
    local = {path: place for path, place in right.items() if path not in remote and sizes[place] == 8 * row_blocks.rows_in(path)}
    held = storage.read_all(remote.values())
    found = {path: np.frombuffer(held[place], np.uint64) for path, place in remote.items() if place in held}
    return found | {path: np.memmap(place, np.uint64, mode="r") if sizes[place] else _NONE for path, place in local.items()}


def _share(some: Hashes, others: Hashes) -> bool:
    """Whether two rows of hashes, both in order, have one in common."""
    few, many = sorted((some, others), key=len)
    if not len(few):
        return False
    first, last = np.searchsorted(many, few[0]), np.searchsorted(many, few[-1], side="right")
    near = many[first:last]
    places = np.searchsorted(near, few)
    return bool(len(near)) and bool(np.any(near[np.minimum(places, len(near) - 1)] == few))


def _kept_at(folder: str, path: str, source: Source) -> str:
    """Where the ids of a file are kept, by the definition of the id."""
    said = [path, *((name, source.columns[name]) for name in source.id)]
    return f"{folder}/{hashlib.sha256(repr(said).encode()).hexdigest()[:32]}.ids"
