"""Windows that slide along an entity's tiles, whole columns at a time: what Spark's window functions give, to the same values.

To Spark a row costs a sort and an aggregate for each window; here a sum is the difference of two running sums, and an extreme that of two
stretches that overlap. Spark's Python workers run it, so nothing of Spark is imported.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from spark_jobs.compute import folds

_Whole = npt.NDArray[np.int64]
_Marks = npt.NDArray[np.bool_]

AT_ONCE = 100_000
"""So many tiles are laid side by side, or all of an entity that has more, and so many rows are made of them at a time."""
_SHORT = 8
"""Of rows with lists that are longer fewer are made at a time."""
_FAR = 2**62
_LEAST, _GREATEST = -(2**63), 2**63 - 1
_QUARTER = 2**32 - 1
_MOST = 10**38 - 1
"""The greatest whole number of 38 digits."""


OfRows = Literal["number", "values", "total", "spread"]
How = Literal["sum", "sum at most", "min", "max", "moments", OfRows]


@dataclass(frozen=True, slots=True)
class Merged:
    """A column of what is merged: of which part of the tiles, how, over how many cadences before a time; None: over all.

    A sum is null where its window has no value, or, if it is `told_ever`, where no value ever came before. Lists are folded: of moments
    comes their variance; of rows, of which the `most` newest count, what is made of those that have a value.
    """

    name: str
    part: str
    how: How
    cadences: int | None
    told_ever: bool = False
    most: int = 0


@dataclass(frozen=True, slots=True)
class Slide:
    """What slides: the columns of the keys and of a tile's start; the cadence, and how long a tile lets rows exist (None: for ever), in
    microseconds; in which spans rows may begin; what is merged; and the columns that come out, of which the one after the keys is the time.
    """

    keys: tuple[str, ...]
    tile: str
    cadence: int
    reach: int | None
    spans: tuple[tuple[int, int], ...]
    merged: tuple[Merged, ...]
    schema: pa.Schema


def slid(batches: Iterable[pa.RecordBatch], of: Slide) -> Iterator[pa.RecordBatch]:
    """The rows of entities whose tiles come one after the other, in their order."""
    for tiles in _whole_entities(batches, of.keys):
        yield from _rows(tiles, of)


def _whole_entities(batches: Iterable[pa.RecordBatch], keys: tuple[str, ...]) -> Iterator[pa.Table]:
    """Tiles of some entities at a time, all that these have."""
    held: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        held.append(batch)
        size += batch.num_rows
        if size >= AT_ONCE:
            tiles = pa.Table.from_batches(held).combine_chunks()
            last = int(np.flatnonzero(_begins(tiles, keys))[-1])
            if last:
                yield tiles.slice(0, last).combine_chunks()
            held, size = tiles.slice(last).to_batches(), 0
    if any(batch.num_rows for batch in held):
        yield pa.Table.from_batches(held).combine_chunks()


def _begins(tiles: pa.Table, keys: tuple[str, ...]) -> _Marks:
    """Which tiles are the first of an entity."""
    found: _Marks = np.zeros(tiles.num_rows, np.bool_)
    found[:1] = True
    for key in keys:
        column = _one(tiles.column(key))
        found[1:] |= np.asarray(pc.not_equal(column.slice(1), column.slice(0, max(len(column) - 1, 0))))
    return found


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


# ------------------------------------------------------------------------------------------------------------------------- the rows


def _rows(tiles: pa.Table, of: Slide) -> Iterator[pa.RecordBatch]:
    """The rows of all tiles of some entities: each stands for a time, and rests on the newest tile before it."""
    begins, starts = _begins(tiles, of.keys), _numbers(tiles.column(of.tile))
    entity = np.cumsum(begins) - 1
    firsts = np.flatnonzero(begins)[entity]
    first, count = _times(starts, begins, of)
    ends = np.cumsum(count + 1)
    # Each tile has a place on one line, on which an entity's lie together and in their order.
    slots = (starts - starts.min()) // of.cadence
    width = int((max(int(starts.max()), of.spans[-1][1]) - starts.min()) // of.cadence) + 2
    line = entity * width + slots
    columns = [(each, _column(each, _one(tiles.column(each.part)), tiles.schema.field(each.part).type)) for each in of.merged]
    step = max(1, AT_ONCE // max([1, *(each.most // _SHORT for each in of.merged)]))
    for begin in range(0, int(ends[-1]), step):
        number = np.arange(begin, min(begin + step, int(ends[-1])))
        newest = np.searchsorted(ends, number, side="right")
        nth = number - (ends[newest] - count[newest] - 1)
        at = np.where(nth == 0, starts[newest], first[newest] + (nth - 1) * of.cadence)
        asked = _within(at, of.spans)
        at, newest = at[asked], newest[asked]
        if not len(at):
            continue
        slot = (at - starts.min()) // of.cadence
        oldest: dict[int | None, _Whole] = {None: firsts[newest]}
        for cadences in {each.cadences for each in of.merged} - {None}:
            from_slot = np.maximum(slot - (cadences or 0) + 1, 0)
            oldest[cadences] = np.searchsorted(line, entity[newest] * width + from_slot, side="left")
        keys = [_one(tiles.column(key)).take(pa.array(newest)) for key in of.keys]
        values = [
            column.over(oldest[each.cadences], newest, told=oldest[None] if each.told_ever else oldest[each.cadences], type=field.type)
            for (each, column), field in zip(columns, list(of.schema)[len(of.keys) + 1 :], strict=True)
        ]
        yield pa.RecordBatch.from_arrays([*keys, pa.array(at + of.cadence), *values], schema=of.schema)


def _times(starts: _Whole, begins: _Marks, of: Slide) -> tuple[_Whole, _Whole]:
    """Where the times begin that a tile brings after its own, and how many there are: up to the next tile, or as long as it is in reach."""
    end = of.spans[-1][1]
    following = np.where(np.r_[begins[1:], True], end, np.r_[starts[1:], end])
    reached = starts + of.reach if of.reach is not None else np.full(len(starts), _FAR)
    first = np.maximum(starts + of.cadence, of.spans[0][0])
    last = np.minimum(np.minimum(reached, following), end) - of.cadence
    return first, np.maximum((last - first) // of.cadence + 1, 0)


def _within(at: _Whole, spans: tuple[tuple[int, int], ...]) -> _Marks:
    starts, ends = np.array([start for start, _ in spans]), np.array([end for _, end in spans])
    place = np.searchsorted(starts, at, side="right") - 1
    found: _Marks = (place >= 0) & (at < ends[np.maximum(place, 0)])
    return found


def _numbers(column: pa.ChunkedArray) -> _Whole:
    found: _Whole = _one(column).to_numpy(zero_copy_only=False).astype(np.int64)
    return found


# ------------------------------------------------------------------------------------------------------------------------ the columns


class _Column:
    """A part of tiles, side by side, and how many have a value up to each."""

    def __init__(self, values: pa.Array, kind: pa.DataType) -> None:
        self.values, self.kind = values, kind
        self.valid = np.asarray(values.is_valid())
        self.counted = np.concatenate([[0], np.cumsum(self.valid)])

    def over(self, low: _Whole, high: _Whole, *, told: _Whole, type: pa.DataType) -> pa.Array:  # noqa: A002  # Arrow's word
        """What is merged of the tiles from `low` to `high`, null where none from `told` on has a value."""
        missing = self.counted[high + 1] == self.counted[told]
        return pa.nulls(len(low), type) if missing.all() else self._found(low, high, missing).cast(type)

    def _found(self, low: _Whole, high: _Whole, missing: _Marks) -> pa.Array:
        raise NotImplementedError


class _Sum(_Column):
    """A sum: of integers and decimals the difference of two running sums, of doubles added in the order of the tiles.

    Where it is `capped`, a sum of decimals with more than 38 digits is the greatest that has so many.
    """

    def __init__(self, values: pa.Array, kind: pa.DataType, *, capped: bool = False) -> None:
        super().__init__(values, kind)
        self.capped = capped
        if pa.types.is_decimal(kind):
            self.running = [_running(np.where(self.valid, part, 0)) for part in _quarters(values)]
        elif pa.types.is_integer(kind):
            self.running = [_running(_filled(values, 0, np.int64))]

    def _found(self, low: _Whole, high: _Whole, missing: _Marks) -> pa.Array:
        if pa.types.is_floating(self.kind):
            return pa.array(self._in_turn(low, high), mask=missing)
        totals = [running[high + 1] - running[low] for running in self.running]
        return _decimals(totals, missing, self.kind.scale, capped=self.capped) if len(totals) > 1 else pa.array(totals[0], mask=missing)

    def _in_turn(self, low: _Whole, high: _Whole) -> npt.NDArray[np.float64]:
        """Doubles added one after the other: step by step of all windows, or window by window where many begin at one tile."""
        values, found = np.where(self.valid, _filled(self.values, 0.0, np.float64), 0.0), np.zeros(len(low))
        steps, order = int((high - low).max()) + 1, np.argsort(low, kind="stable")
        begun_together = np.split(order, np.flatnonzero(np.diff(low[order])) + 1)
        if len(begun_together) < steps:
            for mine in begun_together:
                first, last = low[mine[0]], high[mine].max()
                found[mine] = np.cumsum(np.r_[0.0, values[first : last + 1]])[high[mine] - first + 1]
            return found
        for step in range(steps):
            at = np.minimum(low + step, high)
            found = np.where(low + step <= high, found + values[at], found)
        return found


class _Extreme(_Column):
    """The least or the greatest value, by the ranks of values that are no numbers."""

    def __init__(self, values: pa.Array, kind: pa.DataType, *, greatest: bool) -> None:
        super().__init__(values, kind)
        self.greatest = greatest
        self.by_rank = not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_timestamp(kind))
        if pa.types.is_floating(kind):
            ranks: Any = np.where(self.valid, _filled(values, 0.0, np.float64), -np.inf if greatest else np.inf)
        else:
            whole = self._ranks() if self.by_rank else _filled(values.cast(pa.int64()), 0, np.int64)
            ranks = np.where(self.valid, whole, _LEAST if greatest else _GREATEST)
        self.levels = [ranks]

    def _ranks(self) -> _Whole:
        there = np.flatnonzero(self.valid)
        values = self.values.take(pa.array(there))
        fields = values.flatten() if pa.types.is_struct(self.kind) else [values]
        columns = pa.table(fields, names=[str(number) for number in range(len(fields))])
        order = pc.sort_indices(columns, sort_keys=[(name, "ascending", "at_start") for name in columns.column_names])
        self.tile_of_rank = there[order.to_numpy()]
        ranks = np.zeros(len(self.valid), np.int64)
        ranks[self.tile_of_rank] = np.arange(len(there))
        return ranks

    def _found(self, low: _Whole, high: _Whole, missing: _Marks) -> pa.Array:
        better, low = np.maximum if self.greatest else np.minimum, np.minimum(low, high)
        level = np.frexp((high - low + 1).astype(np.float64))[1] - 1
        while len(self.levels) <= level.max():
            # Of each tile and as many that follow as the level says: of two stretches of half the length.
            last, half = self.levels[-1], 1 << (len(self.levels) - 1)
            self.levels.append(better(last, np.r_[last[half:], np.repeat(last[-1:], min(half, len(last)))]))
        found = np.empty(len(low), self.levels[0].dtype)
        for each in np.unique(level):
            mine = level == each
            found[mine] = better(self.levels[each][low[mine]], self.levels[each][high[mine] - (1 << int(each)) + 1])
        if self.by_rank:
            return self.values.take(pa.array(self.tile_of_rank[np.where(missing, 0, found)], mask=missing))
        return pa.array(found, mask=missing)


def _filled(values: pa.Array, none: float, kind: type) -> Any:
    filled = pc.fill_null(values, none) if values.null_count else values
    return filled.to_numpy(zero_copy_only=False).astype(kind)


class _Moments(_Column):
    """The variance of all values of a window, by the moments of each tile's, put together from the oldest tile on."""

    def over(self, low: _Whole, high: _Whole, *, told: _Whole, type: pa.DataType) -> pa.Array:  # noqa: ARG002, A002  # as it has it
        ends = _ends(self.values)
        return folds.variance_of_parts(self.values.flatten(), folds.Spans(ends[low], ends[high + 1] - ends[low]))


class _Rows(_Column):
    """What is made of the newest rows of a window, of those that have a value; a tile has its own, the newest first."""

    def __init__(self, values: pa.Array, kind: pa.DataType, of: Merged) -> None:
        super().__init__(values, kind)
        self.made, self.most, self.ends = of.how, of.most, _ends(values)
        tile = np.repeat(np.arange(len(values)), np.diff(self.ends))
        oldest_first = pa.array(self.ends[tile] + self.ends[tile + 1] - 1 - np.arange(len(tile)))
        found = pc.struct_field(values.flatten().take(oldest_first), "value")
        self.there = np.concatenate([[0], np.cumsum(np.asarray(found.is_valid()))])
        self.found = found.drop_null()

    def over(self, low: _Whole, high: _Whole, *, told: _Whole, type: pa.DataType) -> pa.Array:  # noqa: ARG002, A002  # as it has it
        end = self.ends[high + 1]
        first, last = self.there[np.maximum(self.ends[low], end - self.most)], self.there[end]
        number = last - first
        if self.made == "number":
            return pa.array(number, type)
        row = np.repeat(np.arange(len(number)), number)
        begins = np.cumsum(number) - number
        newest_first = self.found.take(pa.array(last[row] - 1 - (np.arange(len(row)) - begins[row])))
        if self.made == "values":
            return pa.ListArray.from_arrays(pa.array(np.append(begins, len(row)), pa.int32()), newest_first).cast(type)
        values = newest_first.to_numpy()
        sorted_ = pa.array(values[np.lexsort((values, row))])
        return (folds.total_in if self.made == "total" else folds.variance_in)(sorted_, folds.Spans(begins, number))


def _ends(lists: pa.Array) -> _Whole:
    """How many elements lists have before each of them and in all; one that is null has none."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(_filled(lists.value_lengths(), 0, np.int64))])


def _column(of: Merged, values: pa.Array, kind: pa.DataType) -> _Column:
    match of.how:
        case "sum" | "sum at most":
            return _Sum(values, kind, capped=of.how == "sum at most")
        case "min" | "max":
            return _Extreme(values, kind, greatest=of.how == "max")
        case "moments":
            return _Moments(values, kind)
    return _Rows(values, kind, of)


# ----------------------------------------------------------------------------------------------------------------------- decimals


def _running(values: _Whole) -> _Whole:
    """What numbers add up to before each of them and after the last; where that is beyond 64 bits, differences are right all the same."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(values)])


def _quarters(values: pa.Array) -> list[_Whole]:
    """The 32 bits of each quarter of decimals, the lowest first, of which the highest has the sign."""
    words = np.frombuffer(values.buffers()[1], np.int64)[2 * values.offset : 2 * (values.offset + len(values))]
    low, high = words[0::2], words[1::2]
    return [low & _QUARTER, (low >> 32) & _QUARTER, high & _QUARTER, high >> 32]


def _decimals(quarters: list[_Whole], missing: _Marks, scale: int, *, capped: bool) -> pa.Array:
    """The decimals of which so many of each quarter were added up."""
    carried = np.zeros(len(missing), np.int64)
    bits = []
    for quarter in quarters:
        whole = quarter + carried
        bits.append(whole & _QUARTER)
        carried = whole >> 32
    words = np.empty(2 * len(missing), np.int64)
    words[0::2], words[1::2] = bits[0] | (bits[1] << 32), bits[2] | (whole << 32)
    if capped:
        most = np.array([_MOST & (2**64 - 1), _MOST >> 64], np.uint64)
        low, high = words[0::2].view(np.uint64), words[1::2].view(np.uint64)
        beyond = (carried > 0) | (high > most[1]) | ((high == most[1]) & (low > most[0]))
        words.reshape(-1, 2)[beyond] = most.view(np.int64)
    there = pa.array(~missing).buffers()[1]
    return pa.Array.from_buffers(pa.decimal128(38, scale), len(missing), [there, pa.py_buffer(words)])
