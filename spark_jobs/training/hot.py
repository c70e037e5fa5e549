"""Keys of so many rows that a task of its own is too small for one: they are cut into stretches of time, and no row is dropped.

A version may count in later stretches of its key too, unless one with a greater T came before these. A sample tells of some that did, so
that few versions are copied, with the ones that count among them. Where rows are taken back all are: any may be fallen back to.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from feature_definitions.reading import NEVER
from spark_jobs.ingest import row_hashes
from spark_jobs.training.kernel import AT, TAG, TIME, Numbers

HASH = "_hw_hash"
OF_A_TASK, _SAMPLED, _AT_MOST = 2, 400, 300_000
"""How many stretches a task of mean size has place for, and how many rows of one, and of all, are sampled."""


class Sampling(NamedTuple):
    """Which share of all rows a sample has, and of how many rows in it a stretch is."""

    share: float
    bound: float

    def of(self, rows: DataFrame) -> DataFrame:
        """The sample of some rows, the same one each time."""
        return rows if self.share == 1 else rows.sample(self.share, seed=7)


class CutKey(NamedTuple):
    """How the rows of one hash are cut: the number of the first stretch, and the times (microseconds) at which the others begin.

    `key` is the one that most of them have. `newest` is, by the tag of a group, the greatest T of a version of that key that is known to
    come before each of these times, NEVER where none is.
    """

    first: int
    begins: tuple[int, ...]
    key: tuple[object, ...]
    newest: Mapping[int, tuple[int, ...]]


CutKeys = Mapping[int, CutKey]
"""By the hash of a key; one that is not named is whole."""


class Copied(NamedTuple):
    """Which versions are copied into later stretches: those with a tag, by their key, or all where readers fall back to earlier ones."""

    tag: int
    keys: Sequence[str]
    falls_back: bool


def sampling(*, count: int, parts: int) -> Sampling:
    """How rows are sampled so that the largest task is not far above the mean; what comes to the driver does not grow with them."""
    bound = max(1, count // (parts * OF_A_TASK))
    share = min(1.0, _SAMPLED / bound, _AT_MOST / max(1, count))
    return Sampling(share, bound * share)


def cut(sample: pa.Table, keys: Sequence[str], *, bound: float) -> CutKeys:
    """How keys are cut that have more rows than the bound in a sample, into stretches of about as many; equal times are in one.

    The sample has `HASH`, `TAG`, `AT`, `TIME` (null in rows of the spine) and the keys, none of which is null.
    """
    counted = sample.group_by(HASH).aggregate([([], "count_all")])
    many = counted.filter(pc.greater(counted["count_all"], bound))[HASH]
    found, first = dict[int, CutKey](), 0
    for known in sorted(many.to_pylist()):
        rows = sample.filter(pc.equal(sample[HASH], known)).sort_by(AT)
        if begins := _begins(rows[AT].to_numpy(), bound):
            found[known] = _cut(rows, keys, first, begins)
            first += len(begins) + 1
    return found


def _begins(times: Numbers, bound: float) -> tuple[int, ...]:
    pieces = -int(-len(times) // bound)
    begins = np.unique(times[np.arange(1, pieces) * len(times) // pieces])
    return tuple(begins[begins > times[0]].tolist())


def _cut(rows: pa.Table, keys: Sequence[str], first: int, begins: tuple[int, ...]) -> CutKey:
    counted = rows.group_by([*keys]).aggregate([([], "count_all")]).sort_by([("count_all", "descending")])
    key = tuple(counted[name][0].as_py() for name in keys)
    for name in keys:
        rows = rows.filter(pc.equal(rows[name], counted[name][0]))
    versions = rows.filter(pc.is_valid(rows[TIME]))
    tags, at, newest = versions[TAG].to_numpy(), versions[AT].to_numpy(), versions[TIME].to_numpy()
    return CutKey(first, begins, key, {int(tag): _newest(at[tags == tag], newest[tags == tag], begins) for tag in np.unique(tags)})


def _newest(at: Numbers, times: Numbers, begins: tuple[int, ...]) -> tuple[int, ...]:
    so_far = np.concatenate([[NEVER], np.maximum.accumulate(times)])
    return tuple(so_far[np.searchsorted(at, begins)].tolist())


# ------------------------------------------------------------------------------------------------------------------------ placed


class Placed(NamedTuple):
    """Which rows, by their places, go to which tasks; a row that goes to several comes more than once."""

    where: Numbers
    part: Numbers


def hashes(rows: pa.Table, keys: Sequence[str]) -> Numbers:
    """That by which the rows of a key come together; those of nobody need not."""
    columns = [rows.column(key).combine_chunks() for key in keys]
    nobody = np.zeros(rows.num_rows, bool)
    for column in columns:
        nobody |= np.asarray(pc.is_null(column))
    if nobody.any():
        columns.append(pa.array(rows.column(AT).to_numpy(), mask=~nobody))
    found: Numbers = row_hashes.of_columns(columns).view(np.int64)
    return found


def placed(rows: pa.Table, found: Numbers, cuts: CutKeys, *, parts: int, copied: Copied | None = None) -> Placed:
    """The tasks that rows go to by their hashes: that of their key, or of the stretch of a key that is cut.

    Versions that may count in later stretches go to each of these, too.
    """
    part = (found.view(np.uint64) % np.uint64(parts)).astype(np.int64)
    where = [np.arange(rows.num_rows)]
    into = [part]
    for own, one in _of_cut_keys(found, cuts):
        begins, at = np.array(one.begins, np.int64), rows.column(AT).to_numpy()[own]
        part[own] = (one.first + np.searchsorted(begins, at, side="right")) % parts
        if copied is not None:
            for number, counts in enumerate(_counting_later(rows, own, at, one, copied), 1):
                where.append(own[counts])
                into.append(np.full(int(counts.sum()), (one.first + number) % parts))
    return Placed(np.concatenate(where), np.concatenate(into))


def _of_cut_keys(found: Numbers, cuts: CutKeys) -> Iterator[tuple[Numbers, CutKey]]:
    """The places of the rows of each key that is cut."""
    if not cuts:
        return
    known = np.array(sorted(cuts), np.int64)
    place = np.minimum(np.searchsorted(known, found), len(known) - 1)
    cut = np.flatnonzero(known[place] == found)
    cut = cut[np.argsort(place[cut], kind="stable")]
    ends = np.searchsorted(place[cut], np.arange(len(known) + 1))
    for number, key in enumerate(known.tolist()):
        if ends[number] < ends[number + 1]:
            yield cut[ends[number] : ends[number + 1]], cuts[key]


def _counting_later(rows: pa.Table, own: Numbers, at: Numbers, one: CutKey, copied: Copied) -> Iterator[Numbers]:
    """For each stretch but the first, which of a key's versions came before it and may count in it: no newer one of its key is known."""
    times = rows.column(TIME).to_numpy()[own]
    others = np.zeros(len(own), bool)
    for name, value in zip(copied.keys, one.key, strict=True):
        column = rows.column(name).combine_chunks().take(pa.array(own))
        others |= ~np.asarray(pc.fill_null(pc.equal(column, pa.scalar(value, column.type)), False))
    nothing = [NEVER] * len(one.begins)
    known = nothing if copied.falls_back else one.newest.get(copied.tag, nothing)
    for begin, newest in zip(one.begins, known, strict=True):
        yield (at < begin) & ((times >= newest) | others)
