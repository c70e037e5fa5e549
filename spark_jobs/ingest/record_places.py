"""Where the records of a block of CSV lie, told of all its bytes at once, where Python's `csv` and Arrow agree about that."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from feature_definitions.language import Csv

Bytes = NDArray[np.uint8]
Places = NDArray[np.int64]
_LF, _CR = 10, 13
_BOM = b"\xef\xbb\xbf"


class Records(NamedTuple):
    """The records of a block: where each begins and ends (without its line's end), on which line of the block (from 0) it begins, and how
    many fields it has. Blank lines are none. `within` says that a field holds a line's end, `lines` how many lines the block has."""

    starts: Places
    ends: Places
    line: Places
    fields: Places
    within: bool
    lines: int


def is_plain(dialect: Csv) -> bool:
    """Whether a dialect is one in which records are told apart by single bytes."""
    signs = [dialect.delimiter, *([] if dialect.quote is None else [dialect.quote])]
    return dialect.escape is None and all(sign.isascii() for sign in signs)


def of_block(block: bytes, dialect: Csv) -> Records | None:
    """The records of a block that ends with its last line's end; None if some may be read otherwise by one of the two."""
    if b"\0" in block or block.startswith(_BOM):
        return None
    data = np.frombuffer(block, np.uint8)
    newlines = np.flatnonzero(data == _LF)
    if b"\r" in block and np.any(data[np.flatnonzero(data == _CR) + 1] != _LF):
        return None
    delimiters = np.flatnonzero(data == ord(dialect.delimiter))
    ends = newlines
    if dialect.quote is not None and dialect.quote.encode() in block:
        quotes = np.flatnonzero(data == ord(dialect.quote))
        if not _are_whole(quotes, data, dialect):
            return None
        ends = newlines[_outside(newlines, quotes)]
        delimiters = delimiters[_outside(delimiters, quotes)]
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])
    line = np.searchsorted(newlines, starts)
    fields = np.diff(np.searchsorted(delimiters, ends), prepend=0) + 1
    ends = ends - (data[np.maximum(ends - 1, 0)] == _CR)
    held = ends > starts
    return Records(starts[held], ends[held], line[held], fields[held], within=len(ends) < len(newlines), lines=len(newlines))


def _are_whole(quotes: Places, data: Bytes, dialect: Csv) -> bool:
    """Whether quotes open where fields begin, close where they end, and are doubled in between."""
    if len(quotes) % 2:
        return False
    opening, closing = quotes[::2], quotes[1::2]
    before = data[np.maximum(opening - 1, 0)]
    after = data[closing + 1]
    quote, delimiter = ord(str(dialect.quote)), ord(dialect.delimiter)
    begins = (opening == 0) | np.isin(before, np.array([_LF, delimiter, quote], np.uint8))
    return bool(np.all(begins) and np.all(np.isin(after, np.array([_LF, _CR, delimiter, quote], np.uint8))))


def _outside(places: Places, quotes: Places) -> NDArray[np.bool_]:
    """Which places are not within quotes."""
    return np.searchsorted(quotes, places) % 2 == 0
