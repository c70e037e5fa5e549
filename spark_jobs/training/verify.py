"""Verifies a version of a training set: that its rows are those that were written, and that what it was built from gives them again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from feature_definitions import layout
from feature_definitions.language import FeatureService, Source, TrainingSet
from feature_definitions.records import Committed
from lake import delta, storage, training_sets
from lake.readable import Published
from lake.training_sets import BuiltVersion
from spark_jobs import workers
from spark_jobs.context import Context
from spark_jobs.ingest.cells import first_line
from spark_jobs.training import build, checksum, manifest, parts, past, statistics
from spark_jobs.training.manifest import Basis
from spark_jobs.training.spine import TrainingRequest

Verdict = Literal["equal", "differs", "not rebuilt"]
_AT_ONCE = 65_536
"""So many rows of the table are looked at at once."""


class Rests(NamedTuple):
    """What a training set rests on, as it is now: the service, the set's definition and the spine's source, if there are any, its groups.

    The groups are of the generations that were read; `committed` tells when publishes happened, if that is asked for.
    """

    service: FeatureService
    defined: TrainingSet | None
    source: Source | None
    published: Mapping[str, Published]
    committed: Callable[[], Sequence[Committed]]


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found of a version. `damaged` are the columns whose values do not lie there as they were written.

    `differing` are those that other values come out for now, with the number of rows where that could be counted; `spine` says where the
    spine's rows were taken from, None where nothing was built again, for the reasons in `changed`. `gone` is what cannot be read any more.
    """

    name: str
    version: int
    rows: int
    damaged: tuple[str, ...] = ()
    differing: Mapping[str, int | None] = field(default_factory=dict)
    spine: str | None = None
    gone: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Whether all is as it was built."""
        if self.damaged or self.differing:
            return "differs"
        return "equal" if self.spine is not None else "not rebuilt"


def verify(of: BuiltVersion, rests: Rests, context: Context) -> Verified:
    """Look at the rows of a version, then join them once more from what they rested on, and compare the checksums."""
    found = as_it_lies(of, context.lake, changed=tuple(past.changed(of, rests.service, rests.published)))
    if found.changed:
        return found
    published, unknown = as_they_were(of, rests)
    if unknown:
        return replace(found, changed=unknown)
    asked, lost = past.request(of, rests.service, rests.defined), found.gone
    joined = _basis(of, asked, rests, published, context, there=not lost)
    gone = (*lost, *joined.gone)
    if joined.basis is None:
        return replace(found, gone=gone, changed=("no rows of its spine can be read any more",))
    return replace(found, differing=_differing(of, joined.basis, context, there=not lost), spine=joined.origin, gone=gone)


def as_it_lies(of: BuiltVersion, lake: str, *, changed: tuple[str, ...]) -> Verified:
    """Look at the rows of a version alone; `changed` is why they are not joined once more, if they are not. Needs no Spark."""
    damaged, gone = _as_written(of, lake)
    rows = int(str(of.manifest["rows"]))
    return Verified(str(of.manifest["name"]), training_sets.number(of), rows, damaged, gone=gone, changed=changed)


def _as_written(of: BuiltVersion, lake: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The columns of a version that do not lie there as they were written, and why its rows cannot be read, if so."""
    itself = f"version {training_sets.number(of)} of the training set itself"
    if not training_sets.is_readable(of, lake):
        return (), (f"{itself} was deleted, by VACUUM or with its log",)
    try:
        return damaged_columns(of, lake), ()
    except (OSError, pa.ArrowException) as error:
        said: past.Said = of.manifest
        return (*said["columns"],), (f"{itself} cannot be read: {first_line(error)}",)


def damaged_columns(of: BuiltVersion, lake: str) -> tuple[str, ...]:
    """The columns of a version that hold other values than were written, or are not there; read without Spark, some rows at a time."""
    table = delta.opened(layout.training_set_table(lake, str(of.manifest["name"])), version=of.version)
    said: past.Said = of.manifest
    dataset = table.to_pyarrow_dataset(filesystem=storage.arrow(delta.place(table)))
    there = [name for name in said["columns"] if name in dataset.schema.names]
    batches = dataset.to_batches(columns=there, batch_size=_AT_ONCE, batch_readahead=1, fragment_readahead=1)
    found = checksum.added(checksum.of_columns(pa.Table.from_batches([batch]), there, place=layout.ROW_NUMBER) for batch in batches)
    return tuple(
        name for name, held in said["columns"].items() if name not in there or checksum.text(found.get(name, 0)) != held["checksum"]
    )


def as_they_were(of: BuiltVersion, rests: Rests) -> tuple[dict[str, Published], tuple[str, ...]]:
    """The groups with the publishes that they had; and those of which it cannot be told which these were."""
    said: past.Said = of.manifest
    by = past.built_at(of)
    found = {name: past.publishes(rests.published[name], seen, rests.committed, by=by) for name, seen in said["seen"].items()}
    unknown = tuple(f"it cannot be told any more which publishes {name} had" for name, each in found.items() if each is None)
    return {name: past.online(each, by=by) for name, each in found.items() if each is not None}, unknown


class _Joined(NamedTuple):
    """What is joined again: None if no rows of the spine can be read; where these came from; what cannot be read any more."""

    basis: Basis | None
    origin: str | None
    gone: tuple[str, ...]


def _basis(
    of: BuiltVersion, asked: TrainingRequest, rests: Rests, published: Mapping[str, Published], context: Context, *, there: bool
) -> _Joined:
    """The spine's rows as they were joined: those that its source gives are taken if they are the same."""
    said: past.Said = of.manifest
    gone: tuple[str, ...] = ()
    for each in past.spines(of, asked, rests.source, context, there=there):
        gone = (*gone, *each.gone)
        if each.spine is None:
            break
        basis = manifest.basis(each.spine, asked, published, now=past.built_at(of))
        if each.origin == "training set" or manifest.checksum_of(basis) == said["spine"]["checksum"]:
            return _Joined(basis, each.origin, gone)
        gone = (*gone, f"source {said['spine']['source']} gives other rows now than were joined, in the same version")
    return _Joined(None, None, gone)


def _differing(of: BuiltVersion, basis: Basis, context: Context, *, there: bool) -> dict[str, int | None]:
    """The columns that other values come out for, with in how many rows, if the version's own can be read."""
    said: past.Said = of.manifest
    cut = None
    if basis.request.split is not None:
        spine, label = basis.spine, basis.request.label
        cut = parts.cut(spine.rows, basis.request.split, at=spine.at, label=label, days=basis.days)
    flow = build.finished(basis, cut, context)
    with workers.as_raised():
        sums = statistics.checksums(flow, [*said["columns"]])
    other = [name for name, held in said["columns"].items() if checksum.text(sums[name]) != held["checksum"]]
    if not other or not there:
        return dict.fromkeys(other)
    return counted(past.rows_of(of, context), flow.frame, other)


def counted(held: DataFrame, again: DataFrame, columns: Sequence[str]) -> dict[str, int | None]:
    """In how many rows, which have the same places, two frames differ by columns; one that only one of them has counts as well."""
    place = layout.ROW_NUMBER
    one, other = (
        rows.select(place, F.struct(*[f"`{name}`" for name in columns]).alias(side)) for rows, side in ((held, "one"), (again, "other"))
    )
    both = one.join(other, on=place, how="full_outer")
    named = [
        F.sum(F.when(both["one"][name].eqNullSafe(both["other"][name]), 0).otherwise(1)).alias(f"n{n}") for n, name in enumerate(columns)
    ]
    sums: Any = both.agg(*named).collect()[0]
    return {name: int(sums[n] or 0) for n, name in enumerate(columns)}
