"""Which of the rows with one id holds, of rows in blocks: only those are compared whose ids share a hash."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feature_definitions.language import Source
from feature_definitions.layout import CONTENT, FILE, INGEST, LINE
from spark_jobs.ingest import row_blocks, row_hashes
from spark_jobs.ingest.row_blocks import ID, Block

_GOES, _COMES, _BLOCK, _AT, _ARRIVED = "_hw_goes", "_hw_comes", "_hw_block", "_hw_at", "_hw_arrived"
_ODD = np.uint64(0x9E3779B97F4A7C15)


def age(blocks: Sequence[Block], number: int) -> None:
    """A row that the file held before keeps the number of the ingest that brought it."""
    names = _numbered(blocks)
    leaving = [(_of_file(block, names)[block.goes], ingests(block, number)[block.goes]) for block in blocks if block.goes.any()]
    if not leaving:
        return
    keys, ages = (np.concatenate(each) for each in zip(*leaving, strict=True))
    keys, ages = keys[ages >= 0], ages[ages >= 0]  # of others it is not known
    if not len(keys):
        return
    order = np.lexsort((ages, keys))
    keys, ages = keys[order], ages[order]
    first = np.flatnonzero(np.diff(keys, prepend=keys[:1] - np.uint64(1)))
    keys, ages = keys[first], ages[first]
    for block in blocks:
        if block.comes:
            mine = _of_file(block, names)
            at = np.minimum(np.searchsorted(keys, mine), len(keys) - 1)
            known = keys[at] == mine
            if known.any():
                block.ingest = np.where(known, ages[at], number)


def _numbered(blocks: Iterable[Block]) -> dict[str, int]:
    """A number for each file."""
    names = {name for block in blocks for name in _names(block) if name is not None}
    return {name: number for number, name in enumerate(sorted(names))}


def _names(block: Block) -> list[str | None]:
    column = block.rows.column(FILE)
    return list(column.chunk(0).dictionary.to_pylist()) if column.num_chunks else []


def _of_file(block: Block, names: Mapping[str, int]) -> row_hashes.Hashes:
    """A hash of each row's content and file."""
    if not block.rows.num_rows:
        return np.zeros(0, np.uint64)
    numbers = np.array([0 if name is None else names[name] + 1 for name in _names(block)] + [0], np.uint64)
    places = np.asarray(pc.fill_null(block.rows.column(FILE).chunk(0).indices, len(numbers) - 1))
    return np.asarray(block.numbers(CONTENT) + numbers[places] * _ODD, np.uint64)


def ingests(block: Block, number: int) -> NDArray[np.int64]:
    """Which ingest brought each row."""
    if block.ingest is not None:
        return block.ingest
    if block.comes or not block.rows.num_rows:
        return np.broadcast_to(np.int64(number), block.rows.num_rows)
    return np.asarray(pc.fill_null(block.rows.column(INGEST).chunk(0), -1))


def judge(blocks: Sequence[Block], source: Source, number: int) -> None:
    """Say which rows hold: per id that an ingest touches the newest `arrived_at`, then the newest ingest, then the latest line."""
    for block in blocks:
        block.live = row_blocks.even(~block.goes if block.comes or not source.id else block.held & ~block.goes)
    if not source.id:
        return
    bits = max(0, (row_blocks.total(blocks) - 1).bit_length() - (row_blocks.AT_ONCE.bit_length() - 1))
    for part in range(2**bits):
        doubtful = _with_rivals(blocks, [_of_part(block, part, bits) for block in blocks])
        if any(map(len, doubtful)):
            _decide(blocks, doubtful, source, number)
        for block in blocks:
            block.released()


class _Ids(NamedTuple):
    """The hashes of the ids of some rows of a block, and where these rows are; None: all of them."""

    hashes: row_hashes.Hashes
    places: NDArray[np.int64] | None

    def at(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where some of these rows are in the block."""
        return rows if self.places is None else self.places[rows]


def _of_part(block: Block, part: int, bits: int) -> _Ids:
    """The ids whose hashes begin with so many bits of a number."""
    hashes = block.numbers(ID)
    if not bits:
        return _Ids(hashes, None)
    places = np.flatnonzero((hashes >> np.uint64(64 - bits)) == np.uint64(part))
    found = _Ids(hashes[places], places)
    block.released()
    return found


def _with_rivals(blocks: Sequence[Block], ids: Sequence[_Ids]) -> list[NDArray[np.int64]]:
    """The rows of each block, of those with some ids, with whose id others come, where one of them comes or goes."""
    several = row_hashes.several([each.hashes for each in ids])
    found = [row_hashes.among(each.hashes, several) for each in ids]
    rows = [each.at(at) for each, at in zip(ids, found, strict=True)]
    hashes = [each.hashes[at] for each, at in zip(ids, found, strict=True)]
    touched = [hashed[block.comes | block.goes[at]] for block, at, hashed in zip(blocks, rows, hashes, strict=True)]
    wanted = np.unique(np.concatenate(touched))
    return [at[np.isin(hashed, wanted)] for at, hashed in zip(rows, hashes, strict=True)]


def _decide(blocks: Sequence[Block], rows: Sequence[NDArray[np.int64]], source: Source, number: int) -> None:
    """Say which of the rows with one id holds."""
    told = [_told(block, n, at, source, number) for n, (block, at) in enumerate(zip(blocks, rows, strict=True)) if len(at)]
    known = pa.concat_tables(told).combine_chunks()
    for name in source.id:
        known = known.filter(pc.is_valid(known.column(name)))
    if not known.num_rows:
        return
    arrived: list[tuple[str, str]] = [(_ARRIVED, "descending")] if source.arrived_at else []
    last = [(name, "descending") for name in (INGEST, FILE, LINE)]
    known = known.take(pc.sort_indices(known, [*((name, "ascending") for name in source.id), (_GOES, "ascending"), *arrived, *last]))
    known = known.combine_chunks()
    first = np.zeros(known.num_rows, np.bool_)
    first[0] = True
    for name in source.id:
        column = known.column(name).chunk(0)
        first[1:] |= np.asarray(pc.not_equal(column[1:], column[:-1]))
    starts = np.flatnonzero(first)
    goes, comes = (np.asarray(known.column(name).chunk(0)) for name in (_GOES, _COMES))
    touched = np.repeat(np.logical_or.reduceat(goes | comes, starts), np.diff(starts, append=len(first)))
    block, at = (np.asarray(known.column(name).chunk(0)) for name in (_BLOCK, _AT))
    for n in np.unique(block[touched]).tolist():
        mine = touched & (block == n)
        blocks[n].live = blocks[n].live.copy() if not blocks[n].live.flags.writeable else blocks[n].live
        blocks[n].live[at[mine]] = first[mine] & ~goes[mine]


def _told(block: Block, n: int, at: NDArray[np.int64], source: Source, number: int) -> pa.Table:
    """What is asked of rows to say which of those with one id holds."""
    names = dict.fromkeys((*source.id, FILE, LINE))
    rows = block.rows.select(list(names)).take(pa.array(at))
    found = {name: rows.column(name) for name in names} | {FILE: pc.fill_null(rows.column(FILE).cast(pa.string()), "")}
    found |= {INGEST: pa.array(ingests(block, number)[at]), _GOES: pa.array(block.goes[at]), _COMES: pa.repeat(block.comes, len(at))}
    found |= {_BLOCK: pa.repeat(n, len(at)), _AT: pa.array(at)}
    if source.arrived_at:
        found[_ARRIVED] = block.rows.column(source.arrived_at).take(pa.array(at))
    block.released()
    return pa.table(found)
