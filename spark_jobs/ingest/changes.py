"""What changed of a source's dates by an ingest, of rows in blocks, as it is recorded."""

from collections.abc import Sequence
from datetime import date
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from feature_definitions.intervals import ALWAYS, MICROSECOND, instant
from feature_definitions.layout import CONTENT, TIME
from feature_definitions.records import Revision
from spark_jobs.ingest import row_blocks, row_hashes
from spark_jobs.ingest.journal import Ingest
from spark_jobs.ingest.row_blocks import Block, Mask


def revisions(blocks: Sequence[Block], number: int, job: Ingest) -> tuple[Revision, ...]:
    """One revision per date on which rows that are read were added, removed or altered. It counts all rows that are live."""
    found = []
    for day, parts in sorted(row_blocks.on_dates(blocks).items()):
        change = _change([(block, rows) for block, rows in parts if (block.live[rows] | block.was[rows]).any()])
        if change is not None:
            found.append(_revision(change, day, number, job))
        for block, _ in parts:
            block.released()
    return tuple(found)


class _Change(NamedTuple):
    """What changed of a date: from when to when, a hash of what is read now, how many rows are live, and when the first of them is."""

    first: int
    last: int
    hash: int
    rows: int
    earliest: int | None


def _change(parts: Sequence[tuple[Block, slice]]) -> _Change | None:
    """None if nothing changed. Rows of one hash are one as often as they come."""
    size, found = sum(rows.stop - rows.start for _, rows in parts), list[_Change | None]()
    pieces = -(-size // row_blocks.AT_ONCE)
    for piece in range(pieces):
        columns = [_columns(block, rows, piece if pieces > 1 else None, pieces) for block, rows in parts]
        found.append(_change_of(*(np.concatenate(each) for each in zip(*columns, strict=True))))
    known = [each for each in found if each is not None]
    firsts = [each for each in known if each.first <= each.last]
    if not firsts:
        return None
    earliest = [each.earliest for each in known if each.earliest is not None]
    mixed = int(np.bitwise_xor.reduce(np.array([each.hash for each in known], np.uint64)))
    first, last = min(each.first for each in firsts), max(each.last for each in firsts)
    return _Change(first, last, mixed, sum(each.rows for each in known), min(earliest, default=None))


def _columns(block: Block, rows: slice, piece: int | None, pieces: int) -> tuple[NDArray[Any], ...]:
    """Content, time, whether a row is live, read, and was read, of the rows of a block that are live or were."""
    wanted = block.live[rows] | block.was[rows]
    content = block.numbers(CONTENT)[rows]
    if piece is not None:
        wanted = wanted & (content % np.uint64(pieces) == piece)
    live = block.live[rows][wanted]
    read, was = live & ~block.aside[rows][wanted], (block.was[rows] & ~block.failed[rows])[wanted]
    return content[wanted], block.numbers(TIME)[rows][wanted], live, read, was


def _change_of(content: row_hashes.Hashes, at: NDArray[np.int64], live: Mask, read: Mask, was: Mask) -> _Change | None:
    """What changed among rows; nothing did where `first` is after `last`."""
    if not len(content):
        return None
    content, at, n_live, n_read, n_was = _by_content(content, at, live, read, was)
    changed = at[n_read != n_was]
    hashes = row_hashes.of_counts(content[n_read > 0], n_read[n_read > 0])
    first, last = (int(changed.min()), int(changed.max())) if len(changed) else (1, 0)
    earliest = int(at[n_live > 0].min()) if n_live.any() else None
    return _Change(first, last, int(np.bitwise_xor.reduce(hashes)) if len(hashes) else 0, int(n_live.sum()), earliest)


def _by_content(content: row_hashes.Hashes, at: NDArray[np.int64], *flags: Mask) -> list[NDArray[Any]]:
    """Each content and time that rows have, in any order, and of how many of these rows each flag is set."""
    common = row_hashes.among(content, row_hashes.several([content]))
    alone = np.ones(len(content), np.bool_)
    alone[common] = False
    single = [content[alone], at[alone], *(each[alone].astype(np.int64) for each in flags)]
    if not len(common):
        return single
    order = common[np.lexsort((at[common], content[common]))]
    content, at = content[order], at[order]
    starts = np.flatnonzero(np.concatenate([[True], (content[1:] != content[:-1]) | (at[1:] != at[:-1])]))
    shared = [content[starts], at[starts], *(np.add.reduceat(each[order].astype(np.int64), starts) for each in flags)]
    return [np.concatenate(both) for both in zip(single, shared, strict=True)]


def _revision(change: _Change, day: date, number: int, job: Ingest) -> Revision:
    static = job.source.shape == "static"
    return Revision(
        source=job.source.name,
        revision=number,
        date=day,
        first=ALWAYS.start if static else instant(change.first),
        end=ALWAYS.end if static else instant(change.last) + MICROSECOND,
        content_hash=f"{change.hash:X}",
        rows=change.rows,
        recorded_at=job.now,
        earliest=None if change.earliest is None else instant(change.earliest),
    )
