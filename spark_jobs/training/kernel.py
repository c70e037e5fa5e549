"""The point-in-time join of one task, without Spark: rows of a spine and versions of published rows in, the spine's rows with values out.

Both kinds of rows come in one Arrow table, told apart by `TAG`. Of a row of the spine (0) `AT` is the time that it asks at; of a version
`AT` is when it became visible and `TIME` its own T, all in microseconds; without a column `EMPTIES` no row empties. The number of sorts
does not grow with the features.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_definitions import reading
from feature_definitions.reading import CASES, FOREVER, NEVER, GroupKind, Question

TAG, AT, TIME, ORDER, EMPTIES = "_hw_tag", "_hw_at", "_hw_time", "_hw_order", "_hw_empties"
RETRACTED, HELD, MODELLED = 1, 2, 4
"""The bits of `ORDER` below its eighths, which grow with the publishes."""
BATCH_ROWS = 65_536
_FEW_CODES, _IN_TURN = 2**16 - 1, 1_000
"""How many codes numpy sorts by their digits, and how many versions lie in the order of time for each that does not, as where files do."""

Numbers = np.ndarray[Any, Any]


class OutputColumn(NamedTuple):
    """A column that a join gives: from which column of the versions, what it is without events, whether it is an age in seconds."""

    name: str
    slot: str
    empty: object
    is_age: bool


@dataclass(frozen=True, slots=True)
class Lookup:
    """What one join asks of the versions with its tag; `steps` are its group's coverage, if values are as old as that.

    `keys` are the columns in which a row of the spine and its versions are equal. `falls_back` says that a retracted row gives way to the
    one before. Rows with the tag `snapshots` are the times of snapshots: `TIME`, visible from `AT` until `EMPTIES`. `modelled` and `case`
    name the columns that say whether the values are of a row that rests on a modelled time, and which of `reading.CASES` decided.
    """

    tag: int
    keys: tuple[str, ...]
    kind: GroupKind
    ttl: int
    steps: tuple[tuple[int, int], ...]
    falls_back: bool
    snapshots: int | None
    outputs: tuple[OutputColumn, ...]
    modelled: str
    case: str


@dataclass(frozen=True, slots=True)
class TaskWork:
    """What a task does: what of the spine is kept (name to column; its time may be `AT`), and the joins."""

    kept: Mapping[str, str]
    lookups: tuple[Lookup, ...]


@dataclass(frozen=True, slots=True)
class _Asked:
    """The spine's rows: where each lies, its key as a number (-1: nobody), its time."""

    where: Numbers
    code: Numbers
    at: Numbers


@dataclass(frozen=True, slots=True)
class _Found:
    """The version that holds for each row of the spine: where it lies (any row where there is none), and what it says."""

    where: Numbers
    absent: Numbers
    at: Numbers
    empties_at: Numbers
    flags: Numbers


def work_of(work: TaskWork) -> Any:
    """What `mapInArrow` runs for each task."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        held = list(batches)
        if any(pc.any(pc.equal(batch.column(TAG), 0)).as_py() for batch in held):
            yield from batched(joined(pa.Table.from_batches(held), work))

    return run


def batched(table: pa.Table) -> Iterator[pa.RecordBatch]:
    """A table in batches, with text and bytes in the types that Spark reads."""
    schema = pa.schema([field.with_type(_NARROW.get(field.type, field.type)) for field in table.schema])
    for start in range(0, len(table), BATCH_ROWS):
        yield from table.slice(start, BATCH_ROWS).cast(schema).combine_chunks().to_batches()


def joined(rows: pa.Table, work: TaskWork) -> pa.Table:
    """The spine's rows, each once: what is kept of it, then of each join the outputs, `modelled` and `case`."""
    tag, at = rows.column(TAG).to_numpy(), _numbers(rows, AT)
    asked_by = dict.fromkeys(lookup.keys for lookup in work.lookups)
    keys = {names: _codes([rows.column(name) for name in names], len(rows)) for names in asked_by}
    where = np.flatnonzero(tag == 0)
    for codes, _ in [*keys.values()][:1]:
        where = where[np.lexsort((at[where], codes[where]))]  # what is near one another is looked up faster
    gathered = _Columns(rows)
    columns = {name: _as_kept(gathered.taken(slot, pa.array(where)), slot) for name, slot in work.kept.items()}
    for lookup in work.lookups:
        codes, count = keys[lookup.keys]
        asked = _Asked(where, codes[where], at[where])
        found = _found(rows, lookup, asked, _Versions.of(rows, np.flatnonzero(tag == lookup.tag), codes), count)
        if lookup.snapshots is not None:
            found = _until_the_next(found, asked, _snapshots(rows, np.flatnonzero(tag == lookup.snapshots)))
        columns |= _answered(lookup, asked, found, gathered)
    return pa.table(columns)


# ------------------------------------------------------------------------------------------------------------------------- input


def _as_kept(values: pa.Array, slot: str) -> pa.Array:
    """What is kept of the spine as it was there: the time that it asks at was not a number."""
    return values.cast(pa.timestamp("us", tz="UTC")) if slot == AT else values


def _numbers(rows: pa.Table, name: str, null: int = 0) -> Numbers:
    if name not in rows.column_names:
        return np.full(len(rows), null)
    found: Numbers = pc.fill_null(rows.column(name), null).to_numpy()
    return found


def _codes(keys: Sequence[pa.ChunkedArray], rows: int) -> tuple[Numbers, int]:
    """Each row's key as a number below the one that is returned too, -1 where a part of it is null; no two keys have one number."""
    codes, count, nobody = np.zeros(rows, np.int64), 1, np.zeros(rows, bool)
    for key in keys:
        part, size = _encoded(key)
        nobody |= part < 0
        codes, count = codes * size + part, count * size
        if count > rows:
            codes, count = _encoded(pa.chunked_array([codes]))
    codes[nobody] = -1
    return codes, count


def _encoded(values: pa.ChunkedArray) -> tuple[Numbers, int]:
    encoded = _whole(values).dictionary_encode()
    codes: Numbers = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, max(len(encoded.dictionary), 1)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece; text and bytes with offsets that more than 2 GB have place in."""
    wide = column.cast(_WIDE[column.type]) if column.type in _WIDE else column
    whole = wide.combine_chunks()
    return whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole


_WIDE = {pa.string(): pa.large_string(), pa.binary(): pa.large_binary()}
_NARROW = {wide: narrow for narrow, wide in _WIDE.items()}


class _Columns:
    """The columns that values are taken from, each put in one piece once."""

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows
        self._whole: dict[str, pa.Array] = {}

    def taken(self, slot: str, where: pa.Array) -> pa.Array:
        """The values at these places; null at a null place."""
        if slot not in self._whole:
            self._whole[slot] = _whole(self._rows.column(slot))
        return self._whole[slot].take(where)


@dataclass(frozen=True, slots=True)
class _Versions:
    """The versions that one join looks at; `order` is that of publishes, with flags."""

    where: Numbers
    code: Numbers
    seen: Numbers
    at: Numbers
    order: Numbers

    @classmethod
    def of(cls, rows: pa.Table, where: Numbers, codes: Numbers) -> "_Versions":
        return cls(where, codes[where], *(_numbers(rows, name)[where] for name in (AT, TIME, ORDER)))


# ------------------------------------------------------------------------------------------------------------------- as of a time


def _found(rows: pa.Table, lookup: Lookup, asked: _Asked, versions: _Versions, count: int) -> _Found:
    """The newest version that each row of the spine sees."""
    if not len(versions.where) or not len(asked.where):
        none = np.zeros(len(asked.where), np.int64)
        return _Found(none, np.ones(len(none), bool), none, none, none)
    seen, time, width = _ranks(versions.seen, asked.at, count)
    places = versions.code * width + seen
    by_seen = _by_code(versions.code, seen, places)
    places = places[by_seen]
    at = np.searchsorted(places, asked.code * width + time, side="right") - 1
    met = (at >= 0) & (asked.code >= 0)
    at[~met] = 0
    met &= versions.code[by_seen[at]] == asked.code
    best = _best_so_far(versions, by_seen)
    if lookup.falls_back:
        best = _with_fallbacks(versions, by_seen, best)
    best = best[at]
    flags = versions.order[best] & 7
    empties_at = _numbers(rows, EMPTIES, FOREVER)[versions.where[best]]
    return _Found(versions.where[best], ~met | (flags & RETRACTED > 0), versions.at[best], empties_at, np.where(met, flags, 0))


def _ranks(seen: Numbers, asked: Numbers, count: int) -> tuple[Numbers, Numbers, int]:
    """Times as small numbers of the same order: of a version from 1 on, of who asks that of the newest version time, 0 before all."""
    low, high = int(seen.min()), int(seen.max())
    if (high - low + 2) * (count + 1) < 2**62:
        return seen - low + 1, np.clip(asked, low - 1, high) - low + 1, high - low + 2
    times = np.unique(seen)
    return np.searchsorted(times, seen) + 1, np.searchsorted(times, asked, side="right"), len(times) + 1


def _by_code(code: Numbers, seen: Numbers, places: Numbers) -> Numbers:
    """The order of places, each of which is a code and a time; by digits where many in turn are in that of time, and codes are few."""
    turns = int(np.count_nonzero(seen[1:] < seen[:-1]))
    if turns * _IN_TURN > len(seen) or code.max(initial=0) >= _FEW_CODES:
        return np.argsort(places)
    by_time = np.argsort(seen, kind="stable")
    return by_time[np.argsort((code[by_time] + 1).astype(np.uint16), kind="stable")]


def _best_so_far(versions: _Versions, by_seen: Numbers) -> Numbers:
    """At each place in the order of visibility the version of that key with the greatest (T, publish) of those up to there."""
    code, at = versions.code[by_seen], versions.at[by_seen]
    if not ((code[1:] == code[:-1]) & (at[1:] <= at[:-1])).any():
        return by_seen
    by_truth = np.lexsort((versions.order, versions.at, versions.code))
    rank = np.empty_like(by_truth)
    rank[by_truth] = np.arange(len(by_truth))
    best: Numbers = by_truth[np.maximum.accumulate(rank[by_seen])]
    return best


def _with_fallbacks(versions: _Versions, by_seen: Numbers, best: Numbers) -> Numbers:
    """The best so far, where rows were retracted: of those that stand the newest, or of all where none does."""
    code = versions.code[by_seen]
    retracted = np.unique(versions.code[versions.order & RETRACTED > 0])
    if not len(retracted):
        return best
    best = best.copy()
    for first, last in zip(np.searchsorted(code, retracted), np.searchsorted(code, retracted, side="right"), strict=True):
        own = by_seen[first:last]
        own = own[np.lexsort((versions.order[own], versions.seen[own]))]
        _, ends = np.unique(versions.seen[own][::-1], return_index=True)
        states = _standing(versions, own)
        until = np.sort(len(own) - 1 - ends)
        best[first:last] = states[until[np.searchsorted(until, np.arange(len(own)))]]
    return best


def _standing(versions: _Versions, own: Numbers) -> Numbers:
    """After each of an entity's versions, as they became visible: the one that stands with the newest T, else the newest of all."""
    newest: dict[int, int] = {}
    standing: list[int] = []
    states, top = np.empty_like(own), int(own[0])
    for place, version in enumerate(own.tolist()):
        at, order = int(versions.at[version]), int(versions.order[version])
        if at not in newest or order >= versions.order[newest[at]]:
            newest[at] = version
            heapq.heappush(standing, -at)
        top = max(top, version, key=lambda each: (versions.at[each], versions.order[each]))
        while standing and versions.order[newest[-standing[0]]] & RETRACTED:
            heapq.heappop(standing)
        states[place] = newest[-standing[0]] if standing else top
    return states


# --------------------------------------------------------------------------------------------------------------------- snapshots


def _snapshots(rows: pa.Table, where: Numbers) -> Numbers:
    """The times of snapshots, each with since when and until when rows of it stand, oldest first; three columns."""
    columns = [_numbers(rows, name, FOREVER)[where] for name in (TIME, AT, EMPTIES)]
    found: Numbers = np.unique(np.stack(columns, axis=1), axis=0)
    return found


def _until_the_next(found: _Found, asked: _Asked, snapshots: Numbers) -> _Found:
    """Versions of snapshots empty at the first later one of which some row stands when it is asked: that does not have the entity."""
    times, seen, until = snapshots[:, 0], snapshots[:, 1], snapshots[:, 2]
    gone_at = np.full(len(asked.at), FOREVER)
    place = np.searchsorted(times, found.at, side="right")
    open_ = np.flatnonzero(~found.absent)
    while len(open_ := open_[place[open_] < len(times)]):
        here, now = place[open_], asked.at[open_]
        stands = (seen[here] <= now) & (until[here] > now)
        gone_at[open_[stands]] = times[here[stands]]
        place[open_] += 1
        open_ = open_[~stands & (times[here] <= now)]  # nothing is visible before its own time
    return _Found(found.where, found.absent, found.at, gone_at, found.flags)


# ----------------------------------------------------------------------------------------------------------------------- answers


def _answered(lookup: Lookup, asked: _Asked, found: _Found, columns: _Columns) -> dict[str, pa.Array]:
    """What a join gives for each row of the spine, by the one rule of `reading`."""
    case = _case(lookup, asked, found)
    gives = {given: np.isin(case, [n for n, each in enumerate(CASES) if each.given == given]) for given in ("row", "empty")}
    where, empty = pa.array(found.where, mask=~gives["row"]), pa.array(gives["empty"])
    answers = {output.name: _values(output, columns.taken(output.slot, where), empty, asked.at) for output in lookup.outputs}
    return answers | {lookup.modelled: pa.array(gives["row"] & (found.flags & MODELLED > 0)), lookup.case: pa.array(case)}


def _case(lookup: Lookup, asked: _Asked, found: _Found) -> Numbers:
    """The number of the first of `reading.CASES` that holds."""
    holds = reading.conditions(
        Question(lookup.kind, asked.at, _coverage(lookup.steps, asked.at), lookup.ttl),
        nobody=asked.code < 0,
        absent=found.absent,
        at=found.at,
        empties_at=found.empties_at,
        held=found.flags & HELD > 0,
    )
    case = np.full(len(asked.at), len(holds) - 1, np.int8)
    for number, condition in reversed([*enumerate(holds[:-1])]):
        case[condition] = number
    return case


def _coverage(steps: Sequence[tuple[int, int]], at: Numbers) -> Numbers:
    """The newest interval end that was visible at each time, NEVER before any was."""
    seen = np.array([seen for seen, _ in steps], np.int64)
    ends = np.array([NEVER, *(end for _, end in steps)], np.int64)
    found: Numbers = ends[np.searchsorted(seen, at, side="right")]
    return found


def _values(output: OutputColumn, taken: pa.Array, empty: pa.Array, asked: Numbers) -> pa.Array:
    if output.is_age:
        stored = taken.cast(pa.int64())
        return pa.array(reading.age(asked, stored.fill_null(0).to_numpy()), mask=stored.is_null().to_numpy(zero_copy_only=False))
    if output.empty is None:
        return taken
    value = list(output.empty) if isinstance(output.empty, tuple) else output.empty
    return pc.if_else(empty, pa.array([value], taken.type)[0], taken)
