"""The point-in-time join of a spine with all groups of a service, one exchange for all groups that the same columns of the spine find.

A pass unites the spine and what readers see of its groups, told apart by a tag. Their columns share slots by type, so a row is as wide as
the widest of them. An exchange brings the rows of a key together, and `kernel` decides what each row of the spine sees. Groups of other
keys with few rows come along: each task gets all of these, which costs less than to bring the spine together once more.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType as Truth
from pyspark.sql.types import ByteType, DataType, DoubleType, LongType, StructField, StructType, TimestampType

from feature_definitions import layout, reading, times
from feature_definitions.intervals import MICROSECOND, duration, instant
from feature_definitions.language import Join, WindowedGroup
from feature_definitions.reading import NEVER
from feature_definitions.sql.data_types import is_array
from lake import delta_files, readable
from lake.readable import AsOf, Published
from spark_jobs import point_in_time, tables, workers
from spark_jobs.point_in_time import Dates
from spark_jobs.training import hot, kernel, packed_files, parcels, version_files
from spark_jobs.training.hot import HASH, Copied, CutKeys
from spark_jobs.training.kernel import Lookup, OutputColumn, TaskWork
from spark_jobs.training.packed_files import FilesRead
from spark_jobs.training.parcels import Spread
from spark_jobs.training.version_files import VersionFiles

MODELLED, CASE = "_hw_modelled_", "_hw_case_"
"""What stands before a join's name in the columns that say if its values rest on a modelled time, and by which case they were decided."""
_KEY = "_hw_key"
_TASK_BYTES = 256 * 2**20
"""What a task may hold; of text and lists the bytes of files tell."""
_ROWS_OF_A_TASK = 100_000
"""Of fewer rows a task costs as much as what it does with them."""
_FEW_TASKS, _FEW_ASKED, _MANY_MORE = 4, 100_000, 4
"""Among how few tasks no key is looked for that one has too many rows of; of how few rows of a spine all keys go to each task that reads a
group, where its rows are so many times more."""


@dataclass(frozen=True, slots=True)
class JoinAsked:
    """One join of a service: the group as it can be read, and how time is."""

    join: Join
    published: Published
    clock: AsOf


class Extent(NamedTuple):
    """From when to when a spine asks, in microseconds, and how many rows it has."""

    first: int
    last: int
    rows: int


Key = tuple[str, str, int]
"""A column of the spine, the Headwater type in which it is a key, and which of a group's keys that are equal to it, from 0 on."""


class Held(NamedTuple):
    """How many rows the groups of a family have, and of how many bytes the files are whose rows hold text or lists."""

    rows: int
    long: int = 0


@dataclass(frozen=True, slots=True)
class Family:
    """Joins whose keys are the same columns of the spine, in the same types."""

    keys: tuple[Key, ...]
    joins: tuple[JoinAsked, ...]


@dataclass(frozen=True, slots=True)
class Pass:
    """What one exchange is for: the family by whose keys rows are spread over tasks, and those of which each task gets all rows.

    `rows` is how many are spread, if known; `only_asked` says that of these groups only rows of the spine's keys are.
    """

    spread: Family
    copied: tuple[Family, ...]
    parts: int
    rows: int | None = None
    only_asked: bool = False

    @property
    def keys(self) -> Mapping[Key, str]:
        """The columns that hold the keys of all families."""
        found = dict.fromkeys(key for family in (self.spread, *self.copied) for key in family.keys)
        return {key: f"{_KEY}{number}" for number, key in enumerate(found)}


@dataclass(frozen=True, slots=True)
class _Asking:
    """What all passes of a spine share."""

    spine: DataFrame
    at: str
    spark: SparkSession
    extent: Extent | None


class _Slots:
    """Columns that others share: one after the other of each type. Says of a column which slot holds it."""

    def __init__(self) -> None:
        self.types: dict[str, DataType] = {}
        self._of_type: dict[str, list[str]] = {}

    def allot(self, fields: Iterable[StructField], *, unused: Sequence[str] = ()) -> dict[str, str]:
        """The slots of a frame's columns, which another frame's may share; whole numbers get those first that it leaves unused."""
        taken: dict[str, int] = {}
        slots, free = {}, [*reversed(unused)]
        for field in fields:
            if free and isinstance(field.dataType, LongType):
                slots[field.name] = free.pop()
                continue
            kind = field.dataType.json()
            number, known = taken.get(kind, 0), self._of_type.setdefault(kind, [])
            if number == len(known):
                known.append(f"_hw_{len(self.types)}")
                self.types[known[number]] = field.dataType
            taken[kind] = number + 1
            slots[field.name] = known[number]
        return slots


def joined(spine: DataFrame, asked: Sequence[JoinAsked], *, at: str, spark: SparkSession, extent: Extent | None = None) -> DataFrame:
    """The spine's rows, each once, and of each join its outputs, whether they rest on a modelled time, and by which case.

    `at` is the spine's timestamp column; null keys give null values, ages are seconds up to the spine's times. With an extent only rows
    are read that can give a value, so that a case may say NOT_FOUND of a row that would be there, but emptied or too old.
    """
    added = [name for each in asked for name in (*each.join.outputs, f"{MODELLED}{each.join.name}", f"{CASE}{each.join.name}")]
    rows = joining(spine, asked, at=at, spark=spark, extent=extent).frame
    return rows.selectExpr(*[f"`{name}`" for name in (*spine.columns, *added)])


def joining(spine: DataFrame, asked: Sequence[JoinAsked], *, at: str, spark: SparkSession, extent: Extent | None = None) -> workers.Flow:
    """What `joined` gives, its columns in some order, as workers make it: what is made of it next costs no way through Spark."""
    flow, by, least = workers.Flow.of(spine), _Asking(spine, at, spark, extent), int(spark.conf.get("spark.sql.shuffle.partitions") or 1)
    width = len(spine.columns) + max((len(each.join.columns) for each in asked), default=0)
    families = _families(asked)
    held = None if extent is None else [_held(family, extent) for family in families]
    for each in passes(families, held, spine=0 if extent is None else extent.rows, width=width, least=least):
        flow = _widened(flow.frame, each, by)
    return flow


def _families(asked: Sequence[JoinAsked]) -> list[Family]:
    found: dict[tuple[Key, ...], list[JoinAsked]] = {}
    for each in asked:
        found.setdefault(tuple(key for key, _ in _pairs(each.join)), []).append(each)
    return [Family(keys, tuple(joins)) for keys, joins in found.items()]


def _pairs(join: Join) -> list[tuple[Key, str]]:
    """The keys that find a group's rows, in the one order of their family, each with the group's own column."""
    own = join.group.entity.keys
    ordered = sorted((asked, own[key], key) for asked, key in zip(join.keys, own, strict=True))
    named = [(asked, kind) for asked, kind, _ in ordered]
    return [((asked, kind, named[:n].count((asked, kind))), key) for n, (asked, kind, key) in enumerate(ordered)]


def passes(families: Sequence[Family], held: Sequence[Held] | None, *, spine: int, width: int, least: int) -> list[Pass]:
    """Which families share an exchange: one of so few rows that a copy of them for each task is no more than the spine comes along.

    `held` is what each family has, and each has an exchange where that is not known; `spine` is how many rows the spine has, `width` how
    many columns a row, `least` how many tasks there are at least, if rows are not few.
    """
    if held is None or not families:
        return [Pass(family, (), least) for family in families]
    rows = [each.rows for each in held]
    parts = [_tasks(spine + each.rows, each.long, width=width, least=least) for each in held]
    most = max(range(len(families)), key=lambda n: rows[n])
    few = [n for n in range(len(families)) if n != most and rows[n] * parts[most] <= spine]
    spread = [n for n in range(len(families)) if n not in (most, *few)] + [most]
    only = [spine <= _FEW_ASKED and number > spine * _MANY_MORE for number in rows]
    copied = tuple(families[n] for n in few)
    return [Pass(families[n], copied if n == most else (), parts[n], spine + rows[n], only[n]) for n in spread]


def _tasks(rows: int, long: int, *, width: int, least: int) -> int:
    """Among how many tasks rows are spread: as many as their bytes need, and `least`, but none for few rows."""
    size = max(rows * parcels.row_bytes(width), long)
    return max(1, min(least, -(-rows // _ROWS_OF_A_TASK)), -(-size // _TASK_BYTES))


def _held(family: Family, extent: Extent) -> Held:
    rows, long = 0, 0
    for each in family.joins:
        dates, group = _dates(each, extent), each.published
        kinds = {group.types.outputs[column] for column in each.join.columns}
        for place in (layout.feature_table, layout.history_table):
            path = place(group.lake, group.group.name, group.generation)
            rows += delta_files.rows_in(path, first=dates.first, last=dates.last)
            long += delta_files.bytes_in(path, wanted=dates.hold) if any(kind == "string" or is_array(kind) for kind in kinds) else 0
    return Held(rows, long)


# -------------------------------------------------------------------------------------------------------------------------- a pass


@dataclass(frozen=True, slots=True)
class _Branch:
    """The versions of one join: as Spark has them, or the files of which workers read them."""

    rows: DataFrame | VersionFiles
    lookup: Lookup
    join: JoinAsked
    kind: parcels.Kind


def _widened(rows: DataFrame, asked: Pass, by: _Asking) -> workers.Flow:
    slots = _Slots()
    kept = _kept(rows.schema, asked, by.at, slots)
    listed = [(family, each) for family in (asked.spread, *asked.copied) for each in family.joins]
    branches = [_branch(each, number, family=family, asked=asked, slots=slots, by=by) for number, (family, each) in enumerate(listed, 1)]
    spread = Spread(_spread_keys(asked), asked.parts, _cuts(branches, asked, by), _asked_hashes(branches, asked, by))
    sent = [_packed(_spine(rows, asked, by.at, kept), spread, _ASKS)]
    sent += [_packed(each.rows, spread, each.kind) for each in branches if isinstance(each.rows, DataFrame)]
    sent += [_packed(_snapshots(each.join, each.lookup, by.spark), spread, _EVERYWHERE) for each in branches if each.lookup.snapshots]
    if files := [FilesRead(each.rows, each.kind) for each in branches if isinstance(each.rows, VersionFiles)]:
        sent.append(packed_files.of_workers(files, by.spark, lambda tasks: packed_files.packing(tasks, files, spread), parcels.SCHEMA))
    lookups = tuple(branch.lookup for branch in branches)
    works = (parcels.opening(_types(branches)), kernel.work_of(TaskWork(kept, lookups)))
    return workers.Flow(_united(sent).repartitionById(asked.parts, parcels.PART), _schema(rows, slots, lookups), works, asked.parts)


def _kept(spine: StructType, asked: Pass, at: str, slots: _Slots) -> dict[str, str]:
    """Where each column of the spine lies: in what its rows have for the join in any case, or in a slot."""
    named = {field.name: field.dataType.simpleString() for field in spine}
    kept = {name: column for (name, kind, _), column in asked.keys.items() if named[name] == tables.spark_type(kind)}
    if isinstance(spine[at].dataType, TimestampType):
        kept[at] = kernel.AT
    kept |= slots.allot((field for field in spine if field.name not in kept), unused=(kernel.TIME, kernel.ORDER))
    return {name: kept[name] for name in spine.names}


def _branch(each: JoinAsked, number: int, *, family: Family, asked: Pass, slots: _Slots, by: _Asking) -> _Branch:
    types = each.published.types.outputs
    own = slots.allot(StructField(column, tables.data_type(types[column])) for column in each.join.columns)
    lookup = _lookup(each, number, tuple(asked.keys[key] for key in family.keys), own, by.spark)
    is_spread = family is asked.spread
    kind = parcels.Kind(copied=Copied(number, lookup.keys, lookup.falls_back)) if is_spread else _EVERYWHERE
    keys = tuple((name, asked.keys[key]) for key, name in _pairs(each.join))
    wanted = version_files.WantedVersions(number, keys, tuple(own.items()))
    files = version_files.of(each.published, each.clock, wanted, dates=_dates_of(each, by), spark=by.spark)
    if files is not None:
        return _Branch(files, lookup, each, kind)
    only = _of_the_spine(each, asked, by) if is_spread and asked.only_asked else point_in_time.whole
    return _Branch(_tagged(_versions(each, asked, by, columns=each.join.columns, only=only), number, each, own), lookup, each, kind)


def _types(branches: Sequence[_Branch]) -> dict[str, pa.DataType]:
    """The types of the slots of values, which a task may get no row of."""
    found = {}
    for each in branches:
        types = each.join.published.types.outputs
        for column, output in zip(each.join.join.columns, each.lookup.outputs, strict=True):
            found[output.slot] = version_files.as_spark(types[column])
    return found


def _packed(rows: DataFrame, spread: Spread, kind: parcels.Kind) -> DataFrame:
    return workers.Flow.of(rows).then(parcels.packing(spread, kind), parcels.SCHEMA).frame


_ASKS, _EVERYWHERE = parcels.Kind(asks=True), parcels.Kind(everywhere=True)


def _spread_keys(asked: Pass) -> tuple[str, ...]:
    return tuple(asked.keys[key] for key in asked.spread.keys)


def _asked_hashes(branches: Sequence[_Branch], asked: Pass, by: _Asking) -> pa.Array | None:
    """The hashes of all keys of a spine of few rows, where workers read more rows of groups than that; one job."""
    if not asked.only_asked or not any(isinstance(each.rows, VersionFiles) and not each.kind.everywhere for each in branches):
        return None
    keys = _spread_keys(asked)
    found = workers.Flow.of(_spine(by.spine, asked, by.at, {})).then(packed_files.hashing(keys), packed_files.HASHES)
    return pc.unique(found.frame.toArrow().column(HASH))


def _cuts(branches: Sequence[_Branch], asked: Pass, by: _Asking) -> CutKeys:
    """Where keys are cut; one job, if there are so many tasks that one of them could have too many rows."""
    if asked.rows is None or asked.parts <= _FEW_TASKS:
        return {}
    keys, sampling = _spread_keys(asked), hot.sampling(count=asked.rows, parts=asked.parts)
    kinds = {column: tables.data_type(kind) for (_, kind, _), column in asked.keys.items() if column in keys}
    schema = packed_files.sampled_schema(kinds)
    spread = [each for each in branches if not each.kind.everywhere]
    rows = [_spine(sampling.of(by.spine), asked, by.at, {})]
    for each in spread:
        if isinstance(each.rows, DataFrame):
            versions = _versions(each.join, asked, by, columns=(), only=sampling.of)
            rows.append(_tagged(versions, each.lookup.tag, each.join, {}))
    sampled = [workers.Flow.of(each).then(packed_files.sampling_rows(keys), schema).frame for each in rows]
    if files := [FilesRead(each.rows.without_values, each.kind) for each in spread if isinstance(each.rows, VersionFiles)]:
        sampled.append(
            packed_files.of_workers(files, by.spark, lambda tasks: packed_files.sampling_files(tasks, files, keys, sampling), schema)
        )
    return hot.cut(_united(sampled).toArrow(), keys, bound=sampling.bound)


def _of_the_spine(each: JoinAsked, asked: Pass, by: _Asking) -> point_in_time.Leaving:
    """Leaves out rows of a group whose keys no row of the spine has."""
    own = {asked.keys[key]: name for key, name in _pairs(each.join)}
    keys = _spine(by.spine, asked, by.at, {}).selectExpr(*[f"{column} AS `{name}`" for column, name in own.items()]).distinct()
    return lambda rows: rows.join(F.broadcast(keys), on=[*own.values()], how="left_semi")


def _spine(spine: DataFrame, asked: Pass, at: str, kept: dict[str, str]) -> DataFrame:
    keys = [f"CAST(`{name}` AS {tables.spark_type(kind)}) AS {column}" for (name, kind, _), column in asked.keys.items()]
    columns = [f"`{name}` AS {slot}" for name, slot in kept.items() if slot not in (kernel.AT, *asked.keys.values())]
    return spine.selectExpr(f"0 AS {kernel.TAG}", *keys, f"unix_micros(`{at}`) AS {kernel.AT}", *columns)


def _versions(
    each: JoinAsked, asked: Pass, by: _Asking, *, columns: Sequence[str], only: point_in_time.Leaving = point_in_time.whole
) -> DataFrame:
    """What readers see of a group, with its keys in the columns of the pass."""
    rows = point_in_time.versions(each.published, each.clock, spark=by.spark, columns=columns, dates=_dates_of(each, by), only=only)
    keys = [f"`{own}` AS {asked.keys[key]}" for key, own in _pairs(each.join)]
    own = ", ".join(f"`{name}`" for name in each.join.group.entity.keys)
    return rows.selectExpr(*keys, f"* EXCEPT ({own})")  # to name a column is a call of Java


def _tagged(versions: DataFrame, number: int, each: JoinAsked, own: dict[str, str]) -> DataFrame:
    emptied = [f"empties_at AS {kernel.EMPTIES}"] if each.join.group.row_time == "end" else []  # others never empty by themselves
    flags = [(point_in_time.RETRACTED, kernel.RETRACTED), ("held", kernel.HELD), (point_in_time.MODELLED, kernel.MODELLED)]
    order = " + ".join([f"{point_in_time.ORDER} * 8", *[f"if({name}, {bit}, 0)" for name, bit in flags]])
    return versions.selectExpr(  # each Column made in Python is some six calls of Java, and there may be thousands
        f"{number} AS {kernel.TAG}",
        *[name for name in versions.columns if name.startswith(_KEY)],
        f"{point_in_time.VISIBLE} AS {kernel.AT}",
        f"{point_in_time.TIME} AS {kernel.TIME}",
        f"{order} AS {kernel.ORDER}",
        *emptied,
        *[f"`{name}` AS {slot}" for name, slot in own.items()],
    )


def _snapshots(each: JoinAsked, lookup: Lookup, spark: SparkSession) -> DataFrame:
    """The times of a group's snapshots."""
    return point_in_time.snapshots(each.published, each.clock, spark).select(
        F.lit(lookup.snapshots).alias(kernel.TAG),
        F.col("seen").alias(kernel.AT),
        F.col("at").alias(kernel.TIME),
        F.col("until").alias(kernel.EMPTIES),
    )


def _united(branches: Sequence[DataFrame]) -> DataFrame:
    """All rows in all columns, by a tree of unions, whose depth planning depends on."""
    while len(branches) > 1:
        pairs = [branches[n : n + 2] for n in range(0, len(branches), 2)]
        branches = [pair[0].unionByName(pair[1], allowMissingColumns=True) if len(pair) > 1 else pair[0] for pair in pairs]
    return branches[0]


def _schema(spine: DataFrame, slots: _Slots, lookups: Sequence[Lookup]) -> StructType:
    fields = list(spine.schema)
    for lookup in lookups:
        fields += [StructField(o.name, DoubleType() if o.is_age else slots.types[o.slot]) for o in lookup.outputs]
        fields += [StructField(lookup.modelled, Truth()), StructField(lookup.case, ByteType())]
    return StructType([StructField(field.name, field.dataType) for field in fields])


# ------------------------------------------------------------------------------------------------------------------ what is asked


def _lookup(each: JoinAsked, number: int, keys: tuple[str, ...], own: dict[str, str], spark: SparkSession) -> Lookup:
    group, published = each.join.group, each.published
    question = reading.question(group, at=0, coverage=NEVER)
    empty = point_in_time.empty_values(published, spark)
    return Lookup(
        tag=number,
        keys=keys,
        kind=question.kind,
        ttl=question.ttl,
        steps=readable.coverage(published, each.clock) if group.by_coverage else (),
        falls_back=readable.falls_back(published, each.clock),
        snapshots=-number if group.by_snapshot else None,
        outputs=tuple(
            OutputColumn(name, own[column], empty[column], column in group.ages)
            for name, column in zip(each.join.outputs, each.join.columns, strict=True)
        ),
        modelled=f"{MODELLED}{each.join.name}",
        case=f"{CASE}{each.join.name}",
    )


def _dates_of(each: JoinAsked, by: _Asking) -> Dates:
    return Dates() if by.extent is None else _dates(each, by.extent)


def _dates(each: JoinAsked, extent: Extent) -> Dates:
    """The dates of rows that can give a value in the extent: none of later, and none that emptied or became too old before."""
    group, first = each.join.group, None
    if group.row_time == "end":
        steps = readable.coverage(each.published, each.clock)
        covered = max((end for seen, end in steps if seen <= extent.first), default=steps[0][1] if steps else extent.first)
        lasting = group.longest if isinstance(group, WindowedGroup) else group.cadence
        first = covered - (lasting + 2 * group.cadence) // MICROSECOND
    elif not group.by_coverage and group.ttl is not None:
        first = extent.first - (duration(group.ttl) + 2 * group.cadence) // MICROSECOND
    return Dates(None if first is None else instant(max(first, times.FIRST)).date(), instant(extent.last).date())
