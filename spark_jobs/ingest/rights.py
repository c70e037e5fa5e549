"""Which of the rows with one id holds, of rows in blocks: only those are compared whose ids share a hash."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feature_definitions.language import Source
from feature_definitions.layout import CONTENT, FILE, INGEST, LINE
from spark_jobs.ingest import row_blocks, row_hashes
from spark_jobs.ingest.row_blocks import Block

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
    """A number for each file, in the order of their names, from 1."""
    names = {name for block in blocks for name in _names(block) if name is not None}
    return {name: number for number, name in enumerate(sorted(names), start=1)}


def _names(block: Block) -> list[str | None]:
    column = block.rows.column(FILE)
    return list(column.chunk(0).dictionary.to_pylist()) if column.num_chunks else []


def _of_file(block: Block, names: Mapping[str, int]) -> row_hashes.Hashes:
    """A hash of each row's content and file."""
    if not block.rows.num_rows:
        return np.zeros(0, np.uint64)
    return np.asarray(block.numbers(CONTENT) + _files(block, names).astype(np.uint64) * _ODD, np.uint64)


def _files(block: Block, names: Mapping[str, int]) -> NDArray[np.int64]:
    """The number of each row's file; 0: it has none."""
    numbers = np.array([0 if name is None else names[name] for name in _names(block)] + [0])
    return np.asarray(numbers[np.asarray(pc.fill_null(block.rows.column(FILE).chunk(0).indices, len(numbers) - 1))])


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
        block.live = ~block.goes if block.comes or not source.id else block.held & ~block.goes
    if not source.id or not blocks:
        return
    parts, names = row_blocks.parts(blocks), _numbered(blocks)
    for part in range(parts):
        doubtful = _with_rivals(blocks, part, parts)
        told = [_told(block, n, at, source, number, names) for n, (block, at) in enumerate(zip(blocks, doubtful, strict=True)) if len(at)]
        if told:
            _decide(blocks, pa.concat_tables(told), source)


def _with_rivals(blocks: Sequence[Block], part: int, parts: int) -> list[NDArray[np.int32]]:
    """The rows of each block, of those with some ids, with whose id others come, where one of them comes or goes."""
    ids = [block.ids(part, parts) for block in blocks]
    hashes = np.concatenate([each.hashes for each in ids])
    ends = np.cumsum([len(each.hashes) for each in ids])
    several = row_hashes.among(hashes, row_hashes.several([hashes]))
    at = np.split(several, np.searchsorted(several, ends[:-1]))
    rows = [each.places[mine - end + len(each.hashes)] for each, mine, end in zip(ids, at, ends, strict=True)]
    touched = [hashes[mine][block.comes | block.goes[which]] for block, mine, which in zip(blocks, at, rows, strict=True)]
    wanted = np.unique(np.concatenate(touched))
    for block in blocks:
        block.released()
    return [which[np.isin(hashes[mine], wanted)] for mine, which in zip(at, rows, strict=True)]


def _decide(blocks: Sequence[Block], known: pa.Table, source: Source) -> None:
    """Say which of the rows with one id holds."""
    known = known.combine_chunks()
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
        live = np.array(blocks[n].live)
        live[at[mine]] = first[mine] & ~goes[mine]
        blocks[n].live = live


def _told(block: Block, n: int, at: NDArray[np.int32], source: Source, number: int, names: Mapping[str, int]) -> pa.Table:
    """What is asked of rows to say which of those with one id holds."""
    rows = block.rows.select(list(dict.fromkeys((*source.id, LINE)))).take(pa.array(at))
    own = {FILE: pa.array(_files(block, names)[at]), INGEST: pa.array(ingests(block, number)[at]), _GOES: pa.array(block.goes[at])}
    own |= {_COMES: pa.repeat(block.comes, len(at)), _BLOCK: pa.repeat(n, len(at)), _AT: pa.array(at)}
    if source.arrived_at:
        own[_ARRIVED] = block.rows.column(source.arrived_at).take(pa.array(at))
    block.released()
    return pa.table({name: rows.column(name) for name in rows.column_names} | own)
