"""Keys of so many rows that a task of its own is too small for one: they are cut into stretches of time, and no row is dropped.

Each stretch gets a copy of the one version of those before it that still counts when it begins. Keys are told apart by their hash alone:
two of one hash are cut alike, which changes no answer.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import NamedTuple

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from spark_jobs.training import kernel

HASH, PART = "_hw_hash", "_hw_part"
_STRETCH, _BEST, _COUNT, _TIMES = "_hw_stretch", "_hw_best", "_hw_count", "_hw_times"
OF_A_TASK, _SAMPLED, _QUANTILES = 2, 400, 256
"""How many stretches a task of mean size has place for, how many rows of one are sampled, and into how many a key is cut at most."""


class Stretches(NamedTuple):
    """The stretches of a key: the number of the first one, and the times (microseconds) at which the others begin."""

    first: int
    begins: tuple[int, ...]


CutKeys = Mapping[int, Stretches]
"""By the hash of a key; one that is not named is whole."""


class SampledKey(NamedTuple):
    """What a sample shows of a key: how many rows it has there, and their times, so many that one lies between each two quantiles."""

    rows: int
    times: Sequence[int]


def cuts(rows: Sequence[DataFrame], *, count: int, parts: int) -> CutKeys:
    """Where keys are cut so that the largest task is not far above the mean, by a sample of rows with `HASH` and `AT`; one job.

    `count` is how many rows there are. What comes to the driver does not grow with them.
    """
    bound = max(1, count // (parts * OF_A_TASK))
    share = min(1.0, _SAMPLED / bound)
    united = reduce(DataFrame.union, [each.select(HASH, kernel.AT) for each in rows])
    sampled = united if share == 1 else united.sample(share, seed=7)
    steps = F.array(*[F.lit(n / _QUANTILES) for n in range(1, _QUANTILES)])
    counted = sampled.groupBy(HASH).agg(F.count(F.lit(1)).alias(_COUNT), F.percentile_approx(kernel.AT, steps).alias(_TIMES))
    found = counted.where(F.col(_COUNT) > F.lit(bound * share)).collect()
    return cut({row[HASH]: SampledKey(row[_COUNT], row[_TIMES]) for row in found}, bound=bound * share)


def cut(found: Mapping[int, SampledKey], *, bound: float) -> CutKeys:
    """The stretches of keys that have more rows than the bound, each of about as many as that; equal times are in one."""
    cuts, first = {}, 0
    for known, (rows, times) in sorted(found.items()):
        pieces = min(-int(-rows // bound), len(times) + 1)
        begins = sorted({times[n * (len(times) + 1) // pieces - 1] for n in range(1, pieces)})
        if begins:
            cuts[known] = Stretches(first, tuple(begins))
            first += len(begins) + 1
    return cuts


def part(known: Column, at: Column, cuts: CutKeys, *, parts: int) -> Column:
    """The task of a row by the hash of its key and its time: that of the key, or of the stretch of a key that is cut."""
    whole = F.pmod(known, F.lit(parts))
    return F.when(_is_cut(known, cuts), _part_of(known, _stretch(known, at, cuts), cuts, parts)).otherwise(whole) if cuts else whole


def carried(versions: DataFrame, cuts: CutKeys, *, keys: Sequence[str], parts: int, falls_back: bool) -> DataFrame:
    """What stretches get of the versions before them, with `PART`: the greatest (T, publish), or all where rows are taken back.

    `versions` have `HASH` and the columns that `kernel` knows.
    """
    names = [name for name in versions.columns if name != HASH]
    known, last = F.col(HASH), F.size(F.try_element_at(_begins(cuts), F.col(HASH)))
    own = versions.where(_is_cut(known, cuts)).withColumn(_STRETCH, _stretch(known, F.col(kernel.AT), cuts))
    if not falls_back:
        own = _best(own, [HASH, _STRETCH, *keys], F.struct(*names))
    later = own.where(F.col(_STRETCH) < last).withColumn(_STRETCH, F.explode(F.sequence(F.col(_STRETCH) + 1, last)))
    if not falls_back:
        later = _best(later, [HASH, _STRETCH, *keys], F.struct(*names))
    return later.select(*names, _part_of(known, F.col(_STRETCH), cuts, parts).alias(PART))


def _best(rows: DataFrame, by: Sequence[str], whole: Column) -> DataFrame:
    """Of the rows of each key and stretch the one that is the truth."""
    newest = F.max_by(whole, F.struct(kernel.TIME, kernel.ORDER)).alias(_BEST)
    grouped = rows.groupBy(*[F.col(name).alias(f"_{name}") for name in by]).agg(newest)
    kept = [name for name in by if name in (HASH, _STRETCH)]
    return grouped.select(*[F.col(f"_{name}").alias(name) for name in kept], f"{_BEST}.*")


def _is_cut(known: Column, cuts: CutKeys) -> Column:
    return known.isin([*cuts])


def _stretch(known: Column, at: Column, cuts: CutKeys) -> Column:
    """In which of its key's stretches a time lies, from 0 on."""
    return F.size(F.filter(F.try_element_at(_begins(cuts), known), lambda begin: begin <= at))


def _part_of(known: Column, stretch: Column, cuts: CutKeys, parts: int) -> Column:
    first = F.expr(f"map({', '.join(f'{key}, {one.first}' for key, one in cuts.items())})")
    return F.pmod(F.try_element_at(first, known) + stretch, F.lit(parts))


def _begins(cuts: CutKeys) -> Column:
    listed = (f"{key}, array({', '.join(f'{begin}L' for begin in one.begins)})" for key, one in cuts.items())
    return F.expr(f"map({', '.join(listed)})")
