"""Stored tiles: Delta tables that groups share, in which only what lacks or is older than its source is built anew."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from feature_definitions import layout
from feature_definitions.intervals import Interval, merge, micros
from feature_definitions.language import Source
from feature_definitions.planning import tiling
from feature_definitions.planning.tiling import PartialAggregate, TilesDue
from feature_definitions.records import Revision, TileRecord
from feature_registry import subjects
from feature_registry.leases import Subject
from feature_registry.registry import PATIENCE
from lake import delta
from lake.delta_commits import Fence
from spark_jobs import tables
from spark_jobs.compute import tiles
from spark_jobs.compute.tiles import TILE
from spark_jobs.context import Context
from spark_jobs.ingest import events


@dataclass(frozen=True, slots=True)
class TileSet:
    """The tiles of one source, entity and cadence: where they lie, by which keys, at which grains, and the states that they hold."""

    lake: str
    source: Source
    keys: tuple[str, ...]
    grains: tuple[timedelta, ...]
    states: tuple[PartialAggregate, ...]

    def table(self, grain: timedelta) -> str:
        """The Delta table of one grain."""
        return layout.tile_table(self.lake, self.source.name, self.keys, self.grains[0], grain)

    @property
    def subject(self) -> Subject:
        """What is worked on alone when tiles are built: all grains that there can be of them, since others may read coarser ones."""
        return subjects.tiles([self.table(grain) for grain in tiling.grains(self.grains[0], datetime.max - datetime.min)])  # noqa: DTZ901  # a span


@dataclass(frozen=True, slots=True)
class Build:
    """What tiles are built with: what every job works with, the source's revisions, and the run's id."""

    context: Context
    revisions: Sequence[Revision]
    run_id: str


def up_to_date(
    of: TileSet, needs: Mapping[timedelta, Sequence[Interval]], build: Build, *, states: Sequence[PartialAggregate]
) -> dict[timedelta, DataFrame]:
    """The stored tiles of `needs` by grain, with these states, after those that lack or are older than the source's revisions were built.

    One process at a time builds the tiles of a set; others wait. A crash leaves tiles that are built again.
    """
    revision = max((r.revision for r in build.revisions), default=0)
    with build.context.registry.lease(of.subject, now=build.context.clock(), patience=PATIENCE):
        built = {
            (grain, day): record
            for grain in needs
            for day, record in build.context.registry.tiles(of.table(grain), table_id=delta.table_id(of.table(grain))).items()
        }
        for each in tiling.due(needs, states=frozenset(s.name for s in states), built=built, revisions=build.revisions):
            # Finer tiles surely hold what is needed here, but perhaps not yet what other groups need.
            held = of.states if each.grain == of.grains[0] else states
            table = _build(of, each, build, states=held)
            record = TileRecord(revision, frozenset(state.name for state in held))
            build.context.registry.record_tiles(table, dict.fromkeys(each.dates, record), table_id=delta.table_id(table) or "")
    return {grain: _read(of, grain, spans, build, states=states) for grain, spans in needs.items() if spans}


def _build(of: TileSet, due: TilesDue, build: Build, *, states: Sequence[PartialAggregate]) -> str:
    """Build the tiles of one grain that start on the dates due, in one commit: the finest from events, others from the next finer."""
    level = of.grains.index(due.grain)
    if level == 0:
        made = tiles.of_events(events.read(of.source, build.context, dates=due.dates), keys=of.keys, grain=due.grain, states=states)
    else:
        spans = merge(tiling.reach(day, due.grain) for day in due.dates)
        finer = _read(of, of.grains[level - 1], spans, build, states=states)
        made = tiles.of_tiles(finer, keys=of.keys, grain=due.grain, states=states)
    table = of.table(due.grain)
    dated = made.withColumn("date", F.to_date(F.timestamp_micros(TILE))).where(tables.in_dates("date", due.dates))
    _store(dated, table, due.dates, commit_id=f"{build.run_id}-{level}", fence=build.context.registry.fence)
    return table


def _store(made: DataFrame, path: str, dates: Iterable[date], *, commit_id: str, fence: Fence) -> None:
    if delta.exists(path):
        tables.add_columns(made.sparkSession, path, made.dtypes)
        tables.replace(made, path, dates=dates, commit_id=commit_id, fence=fence)
    else:
        tables.append(made, path, commit_id=commit_id, partition=("date",), fence=fence)


def _read(of: TileSet, grain: timedelta, spans: Sequence[Interval], build: Build, *, states: Sequence[PartialAggregate]) -> DataFrame:
    """The stored tiles of one grain that start in `spans`, with the parts of these states."""
    columns = [*of.keys, TILE, *[part for state in states for part in tiles.parts(state)]]
    first, last = min(s.start for s in spans).date(), max(s.end for s in spans).date()
    path, spark = of.table(grain), build.context.spark
    stored = tables.read(spark, path, wanted=lambda day: first <= day <= last) if delta.exists(path) else None
    if stored is None or not set(columns) <= set(stored.columns):
        # A state that was never built is missing here only where nothing happened.
        none = events.read(of.source, build.context, dates=())
        nothing = tiles.of_events(none, keys=of.keys, grain=grain, states=states).withColumn("date", F.current_date())
        stored = nothing if stored is None else stored.unionByName(nothing, allowMissingColumns=True)
    dated = stored.where(f"date BETWEEN DATE'{first.isoformat()}' AND DATE'{last.isoformat()}'")
    inside = " OR ".join(f"({TILE} >= {micros(s.start)} AND {TILE} < {micros(s.end)})" for s in merge(spans))
    return dated.where(inside).select(*[F.col(f"`{column}`") for column in columns])
