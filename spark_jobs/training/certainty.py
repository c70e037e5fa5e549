"""How sure it is what readers were answered at the times of a spine: for training sets that are read as they were served."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, get_args

import numpy as np
import pyarrow as pa
from pyspark.sql import functions as F

from feature_definitions import layout
from feature_definitions.language import Join
from lake import readable
from lake.readable import Certainty, Published
from spark_jobs.training.spine import Spine

KINDS: tuple[Certainty, ...] = get_args(Certainty)

Steps = tuple[tuple[int, Certainty], ...]
Times = np.ndarray[tuple[int], np.dtype[np.int64]]
Mask = np.ndarray[tuple[int], np.dtype[np.bool_]]


class _Asked(NamedTuple):
    """A group that is asked: how sure its answers are by time, the columns of its keys by each join, and who was erased when."""

    steps: Steps
    keys: tuple[tuple[str, ...], ...]
    erased: Mapping[str, Sequence[tuple[int, int]]]


def certainties(spine: Spine, published: Mapping[str, Published], joins: Sequence[Join]) -> dict[str, dict[str, int]]:
    """Of each group how many rows of a spine ask at times of which kind; one pass over the spine."""
    asked = []
    for name, each in published.items():
        keys = tuple(join.keys for join in joins if join.group.name == name)
        asked.append(_Asked(readable.certainty(each), keys, readable.erased(each)))
    needed = dict.fromkeys(key for each in asked if each.erased for keys in each.keys for key in keys)
    rows = spine.rows.select(F.unix_micros(f"`{spine.at}`").alias(_AT), *[F.col(f"`{key}`") for key in needed])
    columns = ", ".join(f"c{group}_{kind} bigint" for group in range(len(asked)) for kind in range(len(KINDS)))
    found = rows.mapInArrow(_counting(asked), columns).groupBy().sum().collect()[0] if asked else ()
    counts = [number or 0 for number in found]
    return {name: dict(zip(KINDS, counts[n * len(KINDS) :], strict=False)) for n, name in enumerate(published)}


_AT = "__hw_asked_at"


def _counting(asked: Sequence[_Asked]) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        total = np.zeros((len(asked), len(KINDS)), np.int64)
        for batch in batches:
            at = batch.column(_AT).to_numpy(zero_copy_only=False)
            total += np.stack([_counted(each, batch, at) for each in asked])
        names = [f"c{group}_{kind}" for group in range(len(asked)) for kind in range(len(KINDS))]
        yield pa.RecordBatch.from_pydict({name: pa.array([int(n)], pa.int64()) for name, n in zip(names, total.ravel(), strict=True)})

    return count


def _counted(asked: _Asked, batch: pa.RecordBatch, at: Times) -> Times:
    """How many rows are of each kind; who was erased then is of that kind alone, if anything was online."""
    counts = counted(asked.steps, at)
    gone = _erased(asked, batch, at)
    if not gone.any():
        return counts
    moved = counted(asked.steps, at[gone])
    moved[KINDS.index("not online")] = 0
    counts -= moved
    counts[KINDS.index("erased")] += moved.sum()
    return counts


def _erased(asked: _Asked, batch: pa.RecordBatch, at: Times) -> Mask:
    """Which rows ask of somebody who was erased at their time."""
    gone = np.zeros(len(at), np.bool_)
    first = min((since for spans in asked.erased.values() for since, _ in spans), default=None)
    if first is None:
        return gone
    late = np.nonzero(at >= first)[0]
    some = batch.take(pa.array(late))
    for keys in asked.keys:
        for place, values in zip(late, zip(*(some.column(key).to_pylist() for key in keys), strict=True), strict=True):
            spans = () if None in values else asked.erased.get(layout.entity_text(values), ())
            gone[place] |= any(since <= at[place] < until for since, until in spans)
    return gone


def counted(steps: Steps, at: Times) -> Times:
    """How many of some times are of each kind."""
    kinds = np.array([KINDS.index("not online"), *(KINDS.index(kind) for _, kind in steps)])
    place = np.searchsorted(np.array([since for since, _ in steps], np.int64), at, side="right")
    return np.bincount(kinds[place], minlength=len(KINDS))
