"""Which ids are in the files of a source's table: 8 bytes each, kept in order in a file beside, so that no old row is read to look for one.

A file of a table never changes, so what is kept of it is right as long as it is there; what is missing is made when it is asked for.
"""

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np

from feature_definitions import layout
from feature_definitions.language import Source
from spark_jobs.ingest import row_blocks
from spark_jobs.ingest.row_hashes import Hashes

_SMALL = 2**18
"""A file of fewer bytes is read itself."""
_ENDING = ".ids"


def files_with(ids: Hashes, files: Mapping[str, int], source: Source, *, lake: str) -> Iterator[str]:
    """The files of the source's table, each with its bytes, that hold a row with one of some ids (by hashes, in order). Raises Unlike."""
    folder = Path(layout.known_ids(lake, source.name)) / _of_id(source)
    for path, size in files.items():
        known = np.sort(row_blocks.ids_of_table(path, source)) if size < _SMALL else _known(path, source, folder)
        if _share(ids, known):
            yield path


def forget(source: Source, *, lake: str, there: Collection[str]) -> None:
    """Delete what is kept of files that are not among those that are there."""
    folder = Path(layout.known_ids(lake, source.name))
    kept = {_name(path) for path in there}
    for file in folder.glob(f"*/*{_ENDING}"):
        if file.parent.name != _of_id(source) or file.name not in kept:
            file.unlink(missing_ok=True)


def _known(path: str, source: Source, folder: Path) -> Hashes:
    """The hashes of a file's ids, in order."""
    kept = folder / _name(path)
    rows = row_blocks.rows_in(path)
    if not kept.exists() or kept.stat().st_size != 8 * rows:
        folder.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}")
        with part.open("wb") as file:
            np.sort(row_blocks.ids_of_table(path, source)).tofile(file)
            os.fsync(file.fileno())
        part.replace(kept)
    return np.memmap(kept, np.uint64, "r") if rows else np.zeros(0, np.uint64)


def _share(some: Hashes, others: Hashes) -> bool:
    """Whether two rows of hashes, both in order, have one in common."""
    few, many = sorted((some, others), key=len)
    if not len(few):
        return False
    first, last = np.searchsorted(many, few[0]), np.searchsorted(many, few[-1], side="right")
    near = many[first:last]
    places = np.searchsorted(near, few)
    return bool(len(near)) and bool(np.any(near[np.minimum(places, len(near) - 1)] == few))


def _of_id(source: Source) -> str:
    """What the files of one definition of the id have in common."""
    said = [(name, source.columns[name]) for name in source.id]
    return hashlib.sha256(repr(said).encode()).hexdigest()[:16]


def _name(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()[:32] + _ENDING
