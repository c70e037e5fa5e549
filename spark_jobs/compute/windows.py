"""Computes a group's rows: one pass over tiles for all windows of a group, exact to the microsecond.

Every window is a multiple of the cadence and every `T` lies on its grid, so a window is a whole number of tiles. All functions here are
lazy.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial, reduce
from itertools import pairwise
from operator import or_
from typing import NamedTuple, cast

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import ArrayType, DataType, DecimalType, DoubleType, LongType, StructField, StructType

from feature_definitions.aggregations import ACCUMULATORS, Merge
from feature_definitions.intervals import BEGINNING, MICROSECOND, Interval, floor, merge, micros, split
from feature_definitions.language import Derived, FeatureGroup, WindowedGroup
from feature_definitions.language.features import reach as spanned
from feature_definitions.planning import tiling
from feature_definitions.planning.tiling import PartialAggregate
from feature_definitions.sql import failing
from feature_definitions.sql.column_types import ColumnTypes
from feature_definitions.sql.data_types import decimal, digits_of
from spark_jobs import workers
from spark_jobs.compute import aggregates, slides, tiles
from spark_jobs.compute.rows import FAILED, NEWEST, START, dated, failed_columns, in_spans
from spark_jobs.compute.tiles import TILE
from spark_jobs.tables import spark_type

_AT, _ORDER, _NEXT, _GRAIN, _COARSER = "_hw_at", "_hw_order", "_hw_next", "_hw_grain", "_hw_coarser"
_FEW = 4
"""Up to so many times of a run, tiles are copied to each of them; more of them slide over the tiles."""
_REACH = "reach"
"""The window in which an event lets a row exist: the longest one and a cadence more, for the closing row; or lifetime."""
_Merging = tuple[PartialAggregate, str, Merge, str, timedelta | None]
"""What is merged over which window: the state, its part, how, the window's name and length; None: lifetime."""


def rows(group: WindowedGroup, events: DataFrame, *, spans: Sequence[Interval], types: ColumnTypes) -> DataFrame:
    """The group's rows of all intervals in `spans`, with the columns of `rows.observed`, by way of tiles that are not stored.

    `empties_at` says when all windows of a row are empty if nothing more happens. With a lifetime window everybody who ever had an event
    has a row at every time, so that a row stands only until the next one: who has none there had all events taken back. `newest_tile` is
    the start of the newest tile in reach that has an event, in microseconds.
    """
    keys, states = list(group.entity.keys), tiling.states(group, types=types.inputs, failing=types.failing)
    # Nobody said when the first event was, and coarse tiles from the beginning of time on would be many.
    ever = {group.cadence: (Interval(BEGINNING, spans[-1].end),)}
    needs = ever if group.lifetime else needed(group, spans, first=spans[0].start)
    span = merge(span for each in needs.values() for span in each)
    read = dated(events, micros(span[0].start), micros(span[-1].end))
    found = {group.cadence: tiles.of_events(read, keys=keys, grain=group.cadence, states=states)}
    for finer, grain in pairwise(needs):
        found[grain] = tiles.of_tiles(found[finer], keys=keys, grain=grain, states=states)
    starting = {grain: frame.where(in_spans(TILE, needs[grain], after_start=False)) for grain, frame in found.items() if needs[grain]}
    return of_tiles(group, starting, spans=spans, types=types)


def empty_row(group: FeatureGroup, one: DataFrame, *, types: ColumnTypes) -> DataFrame:
    """The values of an entity without events, as the one row of `one` widened by the group's outputs; without windows nothing but null."""
    if not group.aggregated:
        return one.select("*", *[F.lit(None).cast(spark_type(types.outputs[column])).alias(column) for column in group.outputs])
    empty = [F.lit(f.meaning.empty).cast(spark_type(types.outputs[column])).alias(column) for f in group.aggregated for column in f.columns]
    return _with_derived(group, one.select("*", *empty), types).drop(FAILED)


# --------------------------------------------------------------------------------------------------------------------- windowed


def needed(group: WindowedGroup, spans: Sequence[Interval], *, first: datetime) -> dict[timedelta, tuple[Interval, ...]]:
    """The tiles of each grain, finest first, from which the rows of all intervals in `spans` are computed.

    A few times are put together from coarse and fine tiles; many of them slide over the finest. Before `first` the source has no event:
    a lifetime window begins there, or a little earlier, where a coarse tile does.
    """
    first, last, reach = min(first, spans[0].start), spans[-1].end, group.longest + group.cadence
    if not _are_few(group, spans):
        if group.lifetime:
            return {group.cadence: (Interval(floor(first, group.cadence), last),)}
        return {group.cadence: merge(Interval(s.start + group.cadence - reach, s.end) for s in spans)}
    bounded = {span for f in group.aggregated for window in f.windows if (span := spanned(window))} | {reach}
    levels = tiling.grains(group.cadence, max(group.longest, last - first) if group.lifetime else group.longest)
    ends = [interval.end for span in spans for interval in split(span, group.cadence)]
    windows = [Interval(end - w, end) for end in ends for w in bounded]
    if group.lifetime:
        windows += [Interval(floor(first, levels[-1]), end) for end in ends]
    return tiling.needed(windows, levels)


def of_tiles(group: WindowedGroup, found: Mapping[timedelta, DataFrame], *, spans: Sequence[Interval], types: ColumnTypes) -> DataFrame:
    """The group's rows of all intervals in `spans`, as `rows` gives them, from the tiles that `needed` names, by grain."""
    if _are_few(group, spans):
        merged = _MergedWindows(_at_times(group, found, spans, types), "in SQL")
    else:
        merged = _sliding(group, found[group.cadence], spans, types)
    result = _with_derived(group, _finished(group, merged, types), types)
    empties = F.col(_AT) + _us(group.cadence) if group.lifetime else _newest(group) + _us(group.longest + group.cadence)
    return result.select(
        *[f"`{key}`" for key in group.entity.keys],
        F.timestamp_micros(_AT).alias("event_timestamp"),
        F.timestamp_micros(empties).alias("empties_at"),
        *[F.col(f"`{column}`").cast(spark_type(types.outputs[column])).alias(column) for column in group.outputs],
        F.timestamp_micros(F.col(_AT) - _us(group.cadence)).alias(START),
        _newest(group).alias(NEWEST),
        *([FAILED] if FAILED in result.columns else []),
    )


class _MergedWindows(NamedTuple):
    """The parts of states merged over windows, and who folds the lists among them."""

    rows: DataFrame
    folding: aggregates.Folding


def _are_few(group: WindowedGroup, spans: Sequence[Interval]) -> bool:
    return sum((span.end - span.start) // group.cadence for span in spans) <= _FEW


def _at_times(group: WindowedGroup, found: Mapping[timedelta, DataFrame], spans: Sequence[Interval], types: ColumnTypes) -> DataFrame:
    """Each tile is handed to each of a few times, and counts in a window if it lies in it and no coarser tile that does holds it."""
    coarser = dict(pairwise(sorted(found)))
    frames = [
        frame.withColumns({_GRAIN: F.lit(_us(grain)), _COARSER: F.lit(_us(coarser.get(grain, timedelta(0))))})
        for grain, frame in found.items()
    ]
    ends = F.array(*[F.lit(micros(interval.end)) for span in spans for interval in split(span, group.cadence)])
    spread = reduce(DataFrame.unionByName, frames).withColumn(_AT, F.explode(ends))
    counted, columns = {}, []
    for _, part, operation, window, span in _merges(group, types):
        name = aggregates.merged_name(part, window)
        counted[name] = F.when(_inside(span), F.col(part))
        columns.append(tiles.merged(operation, name).alias(name))
    merged = spread.withColumns(counted).groupBy(*[f"`{key}`" for key in group.entity.keys], _AT).agg(*columns)
    return merged.where(_newest(group).isNotNull())


def _inside(span: timedelta | None) -> Column:
    """Whether a tile counts in the window of this length before a time; None: all before it."""
    at, tile, coarser = F.col(_AT), F.col(TILE), F.col(_COARSER)
    outer = tile - F.pmod(tile, F.greatest(coarser, F.lit(1)))
    ended, held = tile + F.col(_GRAIN) <= at, (coarser > 0) & (outer + coarser <= at)
    if span is None:
        return ended & ~held
    start = at - _us(span)
    return (tile >= start) & ended & ~(held & (outer >= start))


def _sliding(group: WindowedGroup, found: DataFrame, spans: Sequence[Interval], types: ColumnTypes) -> _MergedWindows:
    """An entity's tiles and times are put in one order, and every window slides along it: one sort for all windows of a group.

    A row stands for the time at the end of the tile that starts at `_ORDER`, and holds this tile's parts if there is one.
    """
    keys, merges = [f"`{key}`" for key in group.entity.keys], list(_merges(group, types))
    happened = found.where(_newest_part(group).isNotNull())
    merged = _merged_by_workers(group, happened, merges, types)
    if merged is not None:
        return _MergedWindows(_slid_by_workers(group, happened, spans, merged), "while sliding")
    following = F.lead(TILE).over(Window.partitionBy(*keys).orderBy(TILE))
    entries = happened.withColumn(_NEXT, following).withColumn(_ORDER, F.explode(_orders(group, spans)))
    own, asked = F.col(_ORDER) == F.col(TILE), in_spans(_ORDER, spans, after_start=False)
    parts = [F.when(own, F.col(part)).alias(part) for part in dict.fromkeys(part for _, part, *_ in merges)]
    rows = entries.where(own | asked).select(*keys, _ORDER, *parts)
    types_of_parts, order = dict(rows.dtypes), Window.partitionBy(*keys).orderBy(_ORDER)
    slid = {
        aggregates.merged_name(part, window): _slid(state, _Frame(part, operation, _before(group, span), 0), types_of_parts[part])
        for state, part, operation, window, span in merges
    }
    frames = [
        tiles.merged(frame.operation, frame.part, over=order.rangeBetween(frame.first, frame.last)).alias(frame.name)
        for frame in dict.fromkeys(frame for frames, _ in slid.values() for frame in frames)
    ]
    framed = rows.select(*keys, _ORDER, *frames).where(asked)
    at = (F.col(_ORDER) + _us(group.cadence)).alias(_AT)
    return _MergedWindows(framed.select(*keys, at, *[value.alias(name) for name, (_, value) in slid.items()]), "by workers")


_MergedField = tuple[slides.Merged, DataType]
"""What is merged, and the type of the column that comes out."""


def _merged_by_workers(
    group: WindowedGroup, happened: DataFrame, merges: Sequence[_Merging], types: ColumnTypes
) -> list[_MergedField] | None:
    """What Spark's Python workers merge, of whole columns; None where lists are needed that they do not fold, or sums may fail."""
    kinds, folded, merged = {field.name: field.dataType for field in happened.schema}, _folded(group, types), list[_MergedField]()
    for state, part, operation, window, span in merges:
        name, kind, cadences = aggregates.merged_name(part, window), kinds[part], None if span is None else span // group.cadence
        if operation == "concat" and cadences is not None and (parts := folded.get((state.name, window))):
            for each in parts:
                how = cast("slides.How", "moments" if state.kind == "moments" else each)
                found = slides.Merged(aggregates.merged_name(f"{state.name}_{each}", window), part, how, cadences, most=state.size)
                merged.append((found, _folded_type(each, kind)))
        elif operation in ("concat", "sum or null") or "array" in kind.simpleString():
            return None
        else:
            exact = "" if operation != "sum" or span is None else _subtractable(state, kind.simpleString())
            found = slides.Merged(name, part, cast("slides.How", operation), cadences, bool(exact))
            merged.append((found, _summed(kind.simpleString(), exact) if operation == "sum" else kind))
    return merged


def _folded(group: WindowedGroup, types: ColumnTypes) -> dict[tuple[str, str], tuple[str, ...]]:
    """What lists are folded to, by the names of states and windows; nothing of those of which some feature needs the lists themselves."""
    wanted: dict[tuple[str, str], list[tuple[str, ...] | None]] = {}
    for feature in group.aggregated:
        of = types.inputs[feature.name]
        for window in feature.windows:
            to = aggregates.folded_to(feature, window, of=of)
            for state in tiling.states_of(feature, window, group, type=of, failing=types.failing).values():
                wanted.setdefault((state.name, str(window)), []).append(to)
    return {name: () if None in each else tuple(dict.fromkeys(part for to in each for part in to or ())) for name, each in wanted.items()}


def _folded_type(part: str, lists: DataType) -> DataType:
    """The type of what lists of moments or rows are folded to."""
    match part, lists:
        case "number", _:
            return LongType()
        case aggregates.VALUES_OF_ROWS, ArrayType(elementType=StructType() as event):
            return ArrayType(event["value"].dataType)
    return DoubleType()


def _slid_by_workers(group: WindowedGroup, happened: DataFrame, spans: Sequence[Interval], merged: Sequence[_MergedField]) -> DataFrame:
    """What `_sliding` gives, made by Spark's Python workers of whole columns."""
    keys, kinds = [f"`{key}`" for key in group.entity.keys], {field.name: field for field in happened.schema}
    made = [StructField(each.name, kind) for each, kind in merged]
    schema = StructType([*[kinds[key] for key in group.entity.keys], StructField(_AT, LongType()), *made])
    slide = slides.Slide(
        keys=tuple(group.entity.keys),
        tile=TILE,
        cadence=_us(group.cadence),
        reach=None if group.lifetime else _us(group.longest + group.cadence),
        spans=tuple((micros(span.start), micros(span.end)) for span in spans),
        merged=tuple(each for each, _ in merged),
        schema=to_arrow_schema(schema, timezone="UTC"),
    )
    ordered = happened.select(*keys, TILE, *dict.fromkeys(each.part for each, _ in merged)).repartition(*keys)
    return ordered.sortWithinPartitions(*keys, TILE).mapInArrow(workers.carrying(partial(slides.slid, of=slide)), schema)


def _summed(kind: str, exact: str) -> DataType:
    """The type of a sum over a window, and of the difference of two that are exact in a type."""
    if not kind.startswith("decimal"):
        return LongType() if kind == "bigint" else DoubleType()
    digits, scale = digits_of(exact or kind)
    return DecimalType(min(38, digits + (1 if exact else 10)), scale)


def _orders(group: WindowedGroup, spans: Sequence[Interval]) -> Column:
    """A tile's own place in the order, and those of the times that it brings: up to the next tile, or as long as it is in reach."""
    cadence, end = _us(group.cadence), F.lit(micros(spans[-1].end))
    reached = end if group.lifetime else F.col(TILE) + _us(group.longest + group.cadence)
    first = F.greatest(F.col(TILE) + cadence, F.lit(micros(spans[0].start)))
    last = F.least(reached, F.coalesce(F.col(_NEXT), end), end) - cadence
    places = F.sequence(first, F.greatest(first, last), F.lit(cadence))
    return F.concat(F.array(TILE), F.when(first <= last, places).otherwise(F.slice(places, 1, 0)))


@dataclass(frozen=True, slots=True)
class _Frame:
    """A part of a state, to be merged over the tiles whose place lies so far from a row's own."""

    part: str
    operation: Merge
    first: int
    last: int

    @property
    def name(self) -> str:
        return f"{self.part}@{self.first}:{self.last}"

    @property
    def column(self) -> Column:
        return F.col(f"`{self.name}`")


def _slid(state: PartialAggregate, window: _Frame, data_type: str) -> tuple[tuple[_Frame, ...], Column]:
    """The frames from which a part, whose type is `data_type`, is merged over a sliding window, and how.

    Spark merges a sliding frame anew for each row, one that begins with the first tile it only continues. So a sum that can be subtracted
    exactly is the difference of two of these (0 where nothing was added), and what is the newest of all counts if it lies in the window.
    """
    ever = replace(window, first=Window.unboundedPreceding)
    moment = tiles.EXPRESSIONS[state.kind].moment
    if moment is not None and window != ever:
        return (ever,), F.when(moment(ever.column) >= F.col(_ORDER) + window.first, ever.column)
    exact = _subtractable(state, data_type) if window.operation == "sum" and window != ever else ""
    if exact:
        earlier = replace(ever, last=window.first - 1)
        return (ever, earlier), ever.column.cast(exact) - F.coalesce(earlier.column.cast(exact), F.lit(0).cast(exact))
    return (window,), window.column


def _subtractable(state: PartialAggregate, data_type: str) -> str:
    """The type in which running sums of a part are subtracted without loss; nothing where they are sums of doubles, or might not fit it.

    A difference of decimals has a digit more than these, of which there are 38 at most; what is summed of doubles leaves one free.
    """
    if not data_type.startswith("decimal"):
        return data_type if data_type == "bigint" else ""
    digits, scale = digits_of(data_type)
    if digits == 38 and state.type not in ACCUMULATORS[state.kind].leaves_digit:
        return ""
    return decimal(min(digits + 10, 37), scale)


def _before(group: WindowedGroup, span: timedelta | None) -> int:
    """Where a window of this length begins, from the start of the finest tile before its end; None: with the first tile."""
    return Window.unboundedPreceding if span is None else -_us(span - group.cadence)


def _merges(group: WindowedGroup, types: ColumnTypes) -> Iterator[_Merging]:
    """What is merged over which window, each once."""
    newest, reach = tiling.newest_event(group), None if group.lifetime else group.longest + group.cadence
    wanted = {(newest.name, _REACH): (newest, _REACH, reach)}
    for feature in group.aggregated:
        for window in feature.windows:
            for state in tiling.states_of(feature, window, group, type=types.inputs[feature.name], failing=types.failing).values():
                wanted[state.name, str(window)] = (state, str(window), spanned(window))
    for state, window_name, span in wanted.values():
        yield from ((state, part, operation, window_name, span) for part, operation in tiles.parts(state).items())


def _newest_part(group: WindowedGroup) -> Column:
    return F.col(next(iter(tiles.parts(tiling.newest_event(group)))))


def _newest(group: WindowedGroup) -> Column:
    """The start of the newest finest tile in reach that has an event, in microseconds."""
    part = next(iter(tiles.parts(tiling.newest_event(group))))
    return F.col(f"`{aggregates.merged_name(part, _REACH)}`")


def _finished(group: WindowedGroup, merged: _MergedWindows, types: ColumnTypes) -> DataFrame:
    """Each window's states as the feature's value, in the type of its column; lists are tidied once for all that is made of them."""
    lists = {
        (state, window): aggregates.merged_name(part, window)
        for state, part, operation, window, _ in _merges(group, types)
        if operation == "concat" and merged.folding != "while sliding"
    }
    columns: dict[str, Column] = {}
    fails: dict[str, Column] = {}
    for feature in group.aggregated:
        of = types.inputs[feature.name]
        for window, column in zip(feature.windows, feature.columns, strict=True):
            states = tiling.states_of(feature, window, group, type=of, failing=types.failing)
            part = aggregates.part_of(states, window=str(window))
            columns[column] = aggregates.value(feature, window, of=of, part=part, folding=merged.folding)
            beyond = aggregates.beyond_its_type(feature, window, of=of, part=part, folding=merged.folding)
            if found := [*([part("failures", "n") > 0] if "failures" in states else []), *([] if beyond is None else [beyond])]:
                fails[column] = reduce(or_, found)
    # In steps, so that what is used twice is computed once.
    tidied = merged.rows.withColumns({name: tiles.tidied(state, F.col(f"`{name}`")) for (state, _), name in lists.items()})
    values = {
        aggregates.merged_name(f"{state.name}_{aggregates.VALUES_OF_ROWS}", window): aggregates.values_of(F.col(f"`{name}`"))
        for (state, window), name in lists.items()
        if state.kind == "rows"
    }
    tidied = tidied.withColumns(values)
    valued = tidied.withColumns(columns | ({FAILED: failed_columns(fails)} if fails else {}))
    return valued.withColumns({column: _finite(F.col(f"`{column}`"), types.outputs[column]) for column in columns})


def _with_derived(group: FeatureGroup, frame: DataFrame, types: ColumnTypes) -> DataFrame:
    """The rows with the columns that the group derives from its features, those that fail named in `FAILED`."""
    known: dict[str, str] = {}
    for feature in group.features:
        if isinstance(feature, Derived):
            safe = failing.safely(feature.expression, known)
            frame = frame.withColumn(feature.name, _finite(F.expr(safe.value), types.outputs[feature.name]))
            if safe.fails is not None:
                failed = failed_columns({feature.name: F.expr(safe.fails)})
                frame = frame.withColumn(FAILED, F.concat(FAILED, failed) if FAILED in frame.columns else failed)
        known |= {column: types.outputs[column] for column in feature.columns}
    return frame


def _finite(value: Column, data_type: str) -> Column:
    typed = value.cast(spark_type(data_type))
    return F.when(F.abs(typed) < float("inf"), typed) if data_type == "double" else typed


def _us(span: timedelta) -> int:
    return span // MICROSECOND
