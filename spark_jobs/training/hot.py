"""Keys of so many rows that a task of its own is too small for one: they are cut into stretches of time, and no row is dropped.

A version may count in later stretches of its key too, unless one with a greater T came before these. A sample tells of some that did, so
that few versions are copied, with the ones that count among them. Where rows are taken back all are: any may be fallen back to.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from feature_definitions.reading import FOREVER, NEVER
from spark_jobs.training.kernel import AT, TAG, TIME, Numbers

HASH, PART = "_hw_hash", "_hw_part"
OF_A_TASK, _SAMPLED, _AT_MOST = 2, 400, 300_000
"""How many stretches a task of mean size has place for, and how many rows of one, and of all, are sampled."""
_CUT, _FROM, _UNTIL, _NEWEST, _KEY, _INTO = "_hw_cut", "_hw_from", "_hw_until", "_hw_newest", "_hw_cut_key", "_hw_into"


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


def placed(rows: DataFrame, cuts: CutKeys, *, parts: int, copied: Copied | None = None) -> DataFrame:
    """Rows with, in place of `HASH`, the task that each goes to, `PART`: that of its key, or of the stretch of a key that is cut.

    Versions that may count in later stretches come once for each of these, too.
    """
    whole = f"pmod({HASH}, {parts})"
    if not cuts:
        return rows.selectExpr(f"* EXCEPT ({HASH})", f"{whole} AS {PART}")
    stretches = _stretches(cuts, parts=parts, copied=copied)
    meets = f"{HASH} = {_CUT} AND {AT} < {_UNTIL} AND ({' OR '.join([f'{AT} >= {_FROM}', *_counts_later(copied)])})"
    met = rows.join(F.broadcast(rows.sparkSession.createDataFrame(stretches)), on=F.expr(meets), how="left")
    return met.selectExpr(f"* EXCEPT ({HASH}, {', '.join(stretches.column_names)})", f"coalesce({_INTO}, {whole}) AS {PART}")


def _counts_later(copied: Copied | None) -> list[str]:
    """When a version may count in a stretch that begins after it came, as SQL: no newer one of its key is known."""
    if copied is None:
        return []
    is_key = " AND ".join(f"{name} = {_KEY}{number}" for number, name in enumerate(copied.keys))
    return [f"{TIME} >= {_NEWEST}", f"NOT ({is_key})"]


def _stretches(cuts: CutKeys, *, parts: int, copied: Copied | None) -> pa.Table:
    """The stretches of all keys that are cut: from when until when each is, its task, and what is known to have come before it."""
    rows = []
    for known, one in cuts.items():
        newest = [NEVER] * len(one.begins) if copied is None or copied.falls_back else one.newest.get(copied.tag, [NEVER] * len(one.begins))
        key = {f"{_KEY}{number}": value for number, value in enumerate(one.key)}
        for number, begin in enumerate((NEVER, *one.begins)):
            until = (*one.begins, FOREVER)[number]
            into, before = (one.first + number) % parts, (NEVER, *newest)[number]
            rows.append({_CUT: known, _FROM: begin, _UNTIL: until, _INTO: into, _NEWEST: before, **key})
    table = pa.Table.from_pylist(rows)
    return table.set_column(0, _CUT, table[_CUT].cast(pa.int32())).set_column(3, _INTO, table[_INTO].cast(pa.int32()))
