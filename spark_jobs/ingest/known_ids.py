"""Which ids are in the files of a source's table: 8 bytes each, kept in order in a file beside, so that no old row is read to look for one.

A file of a table never changes, so what is kept of it is right as long as it is there; what is missing is made when it is asked for.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping

import numpy as np

from feature_definitions import layout
from feature_definitions.language import Source
from lake import storage
from spark_jobs.ingest import row_blocks
from spark_jobs.ingest.row_hashes import Hashes

_SMALL = 2**18
"""A file of fewer bytes is read itself."""


def files_with(ids: Hashes, files: Mapping[str, int], source: Source, *, lake: str) -> Iterator[str]:
    """The files of the source's table, each with its bytes, that hold a row with one of some ids (by hashes, in order). Raises Unlike."""
    folder = layout.known_ids(lake, source.name)
    kept = {file.path: file.size for file in storage.files(folder)} if any(size >= _SMALL for size in files.values()) else {}
    for path, size in files.items():
        known = np.sort(row_blocks.ids_of_table(path, source)) if size < _SMALL else _known(path, source, folder, kept)
        if _share(ids, known):
            yield path


def forget(source: Source, *, lake: str, there: Collection[str]) -> None:
    """Delete what is kept of files that are not among those that are there."""
    folder = layout.known_ids(lake, source.name)
    right = {_kept_at(folder, path, source) for path in there}
    for file in storage.files(folder):
        if file.path not in right:
            storage.delete(file.path)


def _known(path: str, source: Source, folder: str, kept: Mapping[str, int]) -> Hashes:
    """The hashes of a file's ids, in order."""
    at, rows = _kept_at(folder, path, source), row_blocks.rows_in(path)
    if kept.get(at, 0) == 8 * rows:
        return np.memmap(at, np.uint64, mode="r") if rows else np.zeros(0, np.uint64)
    found = np.sort(row_blocks.ids_of_table(path, source))
    storage.write(at, found.tobytes())
    return found


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
