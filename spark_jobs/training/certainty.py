"""How sure it is what readers were answered at the times of a spine: for training sets that are read as they were served."""

from collections.abc import Callable, Iterator, Mapping
from typing import get_args

import numpy as np
import pyarrow as pa
from pyspark.sql import functions as F

from lake import readable
from lake.readable import Certainty, Published
from spark_jobs.training.spine import Spine

KINDS: tuple[Certainty, ...] = get_args(Certainty)

Steps = tuple[tuple[int, Certainty], ...]


def certainties(spine: Spine, published: Mapping[str, Published]) -> dict[str, dict[str, int]]:
    """Of each group how many rows of a spine ask at times of which kind; one pass over the spine."""
    steps = [readable.certainty(each) for each in published.values()]
    asked = spine.rows.select(F.unix_micros(f"`{spine.at}`").alias("at"))
    columns = ", ".join(f"c{group}_{kind} bigint" for group in range(len(steps)) for kind in range(len(KINDS)))
    found = asked.mapInArrow(_counting(steps), columns).groupBy().sum().collect()[0] if steps else ()
    counts = [number or 0 for number in found]
    return {name: dict(zip(KINDS, counts[n * len(KINDS) :], strict=False)) for n, name in enumerate(published)}


def _counting(steps: list[Steps]) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        total = np.zeros((len(steps), len(KINDS)), np.int64)
        for batch in batches:
            at = batch.column(0).to_numpy(zero_copy_only=False)
            total += np.stack([counted(each, at) for each in steps])
        names = [f"c{group}_{kind}" for group in range(len(steps)) for kind in range(len(KINDS))]
        yield pa.RecordBatch.from_pydict({name: pa.array([int(n)], pa.int64()) for name, n in zip(names, total.ravel(), strict=True)})

    return count


def counted(steps: Steps, at: np.ndarray[tuple[int], np.dtype[np.int64]]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """How many of some times are of each kind."""
    kinds = np.array([KINDS.index("not online"), *(KINDS.index(kind) for _, kind in steps)])
    place = np.searchsorted(np.array([since for since, _ in steps], np.int64), at, side="right")
    return np.bincount(kinds[place], minlength=len(KINDS))
