"""A small lake under test: a real registry, real Delta tables, a clock that stands where it is put, and a gate that is told what to say."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import pyarrow as pa
from deltalake import write_deltalake
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from expectations.suite import Check, Verdict
from feature_definitions import layout
from feature_definitions.intervals import ALWAYS, DAY, Interval, duration, iso
from feature_definitions.language import FeatureGroup, FeatureService, Source, WindowedGroup
from feature_definitions.layout import DATE, FILE, INGEST, LINE, LIVE, TIME
from feature_definitions.loader import Catalog
from feature_definitions.planning import plan
from feature_definitions.planning.plan import GroupPlan, IntervalStatus
from feature_definitions.planning.upstream import Upstream
from feature_definitions.records import PendingIngest, Revision
from feature_definitions.sql.column_types import column_types_of
from feature_registry import Registry
from feature_registry.planner import Planner
from lake import delta
from lake.arrow_types import arrow_type
from lake.readable import Published
from spark_jobs.context import Context
from spark_jobs.ingest import bring
from spark_jobs.ingest.journal import IngestReport
from spark_jobs.publish import materialize
from spark_jobs.publish.group_results import GroupResult
from spark_jobs.publish.materialize import Judge, Stage
from tests.histories import ColumnTypes, Run, arrivals, batches, observation_groups, runs, windowed_groups
from tests.histories import sources as sources_of_histories
from tests.oracle import Event, FeatureRow, Publish, live_rows, publish, value_differences
from tests.oracle import rows as oracle_rows

T = TypeVar("T")


def drawn(strategy: st.SearchStrategy[T], count: int) -> list[T]:
    """The first `count` values that Hypothesis draws, the same on every run: so that one Spark job can serve them all."""
    found: list[T] = []

    @settings(max_examples=count, phases=[Phase.generate], suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(strategy)
    def collect(value: T) -> None:
        found.append(value)

    collect()
    return found


def many_events(group: FeatureGroup, count: int) -> list[Event]:
    """The events of many random histories of a group, each with its own entities."""
    found: list[Event] = []
    for number, ingested in enumerate(drawn(batches(group), count)):
        live = live_rows(group.source, arrivals(ingested))
        found += told_apart(number, live, group.entity.keys)
    return found


def told_apart(number: int, events: Iterable[Event], entity: Collection[str]) -> tuple[Event, ...]:
    """The events with the entity's keys (nulls stay) and their id moved out of the way of other histories."""
    return tuple({name: _moved(number, value) if name in (*entity, "payment_id") else value for name, value in e.items()} for e in events)


def _moved(number: int, value: Any) -> Any:
    if value is None:
        return None
    return f"{number}/{value}" if isinstance(value, str) else number * 1000 + value


# -------------------------------------------------------------------------------------------------------------------- to and from


def arrow(source: Source, events: Sequence[Event]) -> pa.Table:
    """Events as an Arrow table in the source's types."""
    schema = pa.schema([(name, arrow_type(kind)) for name, kind in source.columns.items()])
    return pa.Table.from_pylist([dict(e) for e in events], schema=schema)


def live_table(source: Source, events: Sequence[Event]) -> pa.Table:
    """Events with the time and the date under which the engine finds them."""
    table = arrow(source, events)
    always = pa.array([ALWAYS.start] * len(table), pa.timestamp("us", tz="UTC"))
    at = table.column(source.event_timestamp) if source.event_timestamp else always
    return table.append_column(TIME, at).append_column(DATE, at.cast(pa.date32()))


def live_frame(spark: SparkSession, source: Source, events: Sequence[Event]) -> DataFrame:
    """Events as `sources.events` gives them."""
    return spark.createDataFrame(live_table(source, events))


def feature_rows(group: FeatureGroup, rows: Iterable[Mapping[str, Any]]) -> list[FeatureRow]:
    """Rows of an Arrow table as the oracle writes them."""
    return [
        FeatureRow(
            key=tuple(row[key] for key in group.entity.keys),
            at=row["event_timestamp"],
            values={column: row[column] for column in group.outputs},
            empties_at=row["empties_at"],
            held=row.get("held", False),
        )
        for row in rows
    ]


def records(frame: DataFrame) -> list[dict[str, Any]]:
    """A frame's rows by way of Arrow: exact types, times aware and in UTC."""
    return frame.toArrow().to_pylist()  # type: ignore[no-any-return]


# ---------------------------------------------------------------------------------------------------------------------- the gate


def passing(profile: pd.DataFrame, checks: Sequence[Check]) -> dict[str, Verdict]:
    """A gate that lets everything through."""
    return {str(interval): Verdict() for interval in profile["interval"]}


def rejecting(intervals: Collection[Interval], *, failed: str = "rows:unique") -> Judge:
    """A gate that rejects these intervals, and says that they failed one of the group's checks."""
    bad = {iso(i.start) for i in intervals}
    return lambda profile, _: {str(i): Verdict((failed,)) if i in bad else Verdict() for i in profile["interval"]}


# ---------------------------------------------------------------------------------------------------------------------- the lake


@dataclass
class Lake:
    """Everything offline, in one folder."""

    spark: SparkSession
    root: Path
    registry: Registry
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    ingests: int = field(default=0)

    @property
    def path(self) -> str:
        return str(self.root / "lake")

    @property
    def context(self) -> Context:
        return Context(lambda: self.spark, self.root, self.path, self.registry, lambda: self.now, lambda _: None)

    def ingest(self, source: Source, events: Sequence[Event]) -> IngestReport:
        """Bring events in as one frame (at the lake's `now`)."""
        return bring.write(source, arrow(source, events), self.context)

    def plant(self, source: Source, events: Sequence[Event]) -> None:
        """Put these live events in the place of all that the source's table holds, and record that everything changed."""
        table = live_table(source, events).append_column(LIVE, pa.array([True] * len(events)))
        for name, kind in ((FILE, pa.string()), (LINE, pa.int64()), (INGEST, pa.int64())):
            table = table.append_column(name, pa.nulls(len(events), kind))
        path = layout.source_table(self.path, source.name)
        Path(path).mkdir(parents=True, exist_ok=True)
        write_deltalake(path, table, mode="overwrite", partition_by=[DATE])
        self.ingests += 1
        number, days = self.registry.next_revision(source.name), sorted(set(table.column(DATE).to_pylist()))
        midnights = [datetime(day.year, day.month, day.day, tzinfo=UTC) for day in days]
        revisions = tuple(Revision(source.name, number, at.date(), at, at + DAY, f"{number}", 1, self.now) for at in midnights)
        self.registry.begin_ingest(PendingIngest(f"i{self.ingests:04d}", source.name, (), revisions, commits=True))
        self.registry.finish_ingest(f"i{self.ingests:04d}")

    @property
    def planner(self) -> Planner:
        """What can be decided now."""
        return Planner(Catalog({}, {}, {}, {}, {}, {}), self.registry, self.path, self.now)

    def statuses(self, group: FeatureGroup) -> dict[Interval, IntervalStatus]:
        """What `headwater status` says of each interval."""
        return {s.interval: s for s in self.planner.state(group).intervals}

    def upstream(self, group: FeatureGroup) -> tuple[Upstream, ...]:
        """What a transform sees of the groups that it reads."""
        return self.planner.state(group).upstream

    def materialize(
        self,
        group: FeatureGroup,
        *,
        intervals: Iterable[Interval] | None = None,
        judge: Judge = passing,
        sharing: Sequence[WindowedGroup] = (),
        stage: Stage = "as defined",
    ) -> GroupResult:
        """Materialize what is due, or exactly these intervals whatever their state."""
        planner = self.planner
        (work,), state = planner.plan([group]), planner.state(group)
        if intervals is not None:
            known = {s.interval: s for s in state.intervals}
            missing = {i: IntervalStatus(group.name, state.generation, i, plan.MISSING, ("asked for",)) for i in intervals}
            asked = (known.get(i, status)._replace(released=True) for i, status in sorted(missing.items()))
            work = GroupPlan(group, state.generation, tuple(asked), upstream=state.upstream)
        return materialize.run(work, self.context, judge=judge, sharing=sharing, stage=stage)

    def published(self, group: FeatureGroup) -> Published:
        """The group as it can be read now, in the generation that its definition belongs to."""
        generation, _ = plan.target_generation(group, self.registry.generations(group.name))
        publishes, known = self.registry.publishes(group.name, generation), self.registry.generations(group.name)
        empty = next((g.empty for g in known if g.number == generation), None)
        return Published(group, generation, self.path, column_types_of(group), publishes, empty)

    def rows(self, group: FeatureGroup) -> list[dict[str, Any]]:
        """The current table of the group's newest generation."""
        return self.load(layout.feature_table(self.path, group.name, self.published(group).generation))

    def history(self, group: FeatureGroup) -> list[dict[str, Any]]:
        """The group's history table."""
        return self.load(layout.history_table(self.path, group.name, self.published(group).generation))

    def records(self, kind: str) -> list[dict[str, Any]]:
        """The lake's copy of one kind of record."""
        return self.load(layout.records_table(self.path, kind))

    def load(self, path: str) -> list[dict[str, Any]]:
        """The rows of a Delta table; none if there is no table."""
        return delta.load(path).to_pylist() if delta.exists(path) else []


# --------------------------------------------------------------------------------------------------------------------- comparing


def answer_differences(service: FeatureService, expected: Mapping[str, Any], actual: Mapping[str, Any]) -> list[str]:
    """What differs between two rows of a service's outputs."""
    return [
        f"{join.name}: {text}"
        for join in service.joins
        for text in value_differences(
            join.group,
            {column: expected[output] for column, output in zip(join.columns, join.outputs, strict=True)},
            {column: actual[output] for column, output in zip(join.columns, join.outputs, strict=True)},
        )
    ]


# ---------------------------------------------------------------------------------------------------------------- whole histories


@dataclass(frozen=True)
class World:
    """Many random histories side by side in one lake: a windowed and an observation group of one source, and the runs that published both.

    `batches` are what arrived, `parts` the histories one by one. `ids` names the publish of each run and group.
    """

    lake: Lake
    windowed: ColumnTypes
    observed: ColumnTypes
    parts: tuple[tuple[tuple[Event, ...], ...], ...]
    runs: tuple[Run, ...]
    ids: Mapping[tuple[str, int], str]

    @property
    def meanings(self) -> tuple[ColumnTypes, ColumnTypes]:
        return (self.windowed, self.observed)

    def events(self, ingested: int) -> list[Event]:
        """The events that counted after so many ingests."""
        return _live(self.windowed.group.source, self.parts, ingested)

    def published(self, types: ColumnTypes) -> tuple[Publish, ...]:
        """What the runs published of a group, as DESIGN 5 says it: the order of a publish is the number of its run, from 1."""
        group, published = types.group, ()
        first = next((r.now for r in self.runs if set(r.intervals) - set(r.rejected)), None)
        for order, run in enumerate(self.runs, start=1):
            events = self.events(run.ingested)
            for interval in (i for i in run.intervals if i not in run.rejected):
                again = any(p.interval == interval for p in published)
                history = first is not None and not again and interval.end + duration(group.source.ready_after) <= first
                known_from = min(interval.end + duration(group.publish_delay), run.now) if history else run.now
                found = oracle_rows(group, events, interval, functions=types.functions)
                grown = publish(group, published, interval, known_from=known_from, rows=found, functions=types.functions)
                published = (*published, replace(grown[-1], order=order))
        return published


def world(lake: Lake, number: int, *, every: str, arrived_at: str | None, count: int = 12) -> World:
    """The world of a number: its groups, histories and runs are drawn, then everything is ingested and published."""
    source = next(s for s in drawn(sources_of_histories(), 60) if s.id and s.arrived_at == arrived_at)
    windowed = drawn(windowed_groups(source=source, every=every).filter(lambda m: len(m.group.outputs) > 5), number + 2)[-1]
    observed = drawn(observation_groups(source=source, every=every).filter(lambda m: m.group.where is None), number + 2)[-1]
    drawn_batches = drawn(batches(windowed.group).filter(lambda some: len(some) > 1), count)
    parts = tuple(
        tuple(told_apart(n, batch, windowed.group.entity.keys) for batch in (*some, ())[:3]) for n, some in enumerate(drawn_batches)
    )
    done = drawn(runs(windowed.group, ingests=3).filter(eventful), number + 1)[-1]
    ids = {}
    for order, run in enumerate(done, start=1):
        lake.now = run.now
        lake.plant(source, _live(source, parts, run.ingested))
        for types in (windowed, observed):
            result = lake.materialize(types.group, intervals=run.intervals, judge=rejecting(run.rejected))
            ids[types.group.name, order] = result.publish_id or ""
    return World(lake, windowed, observed, parts, done, ids)


def eventful(some: Sequence[Run]) -> bool:
    """Three runs, each with events that the one before did not have, in which intervals are published again and rejected."""
    if [run.ingested for run in some] != [1, 2, 3]:
        return False
    shown = [set(run.intervals) - set(run.rejected) for run in some]
    return len(shown[0]) > 2 and len(shown[0] & shown[1]) > 1 and len(shown[1] & shown[2]) > 2 and any(run.rejected for run in some[1:])


def _live(source: Source, parts: Iterable[Sequence[Sequence[Event]]], ingested: int) -> list[Event]:
    return [event for some in parts for event in live_rows(source, arrivals(some[:ingested]))]
