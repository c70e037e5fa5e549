"""Times as they are written: what each spelling means, against an oracle that is written otherwise; what means nothing is refused."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_definitions import times
from feature_definitions.times import ISO_TIME, UNITS, advice, read_count, read_date, read_time, spelling
from tests import spellings

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(("text", "column", "expected"), spellings.TIMES, ids=str)
def test_a_spelling_means_one_instant_or_none(text: str, column: spellings.Column, expected: datetime | None) -> None:
    def found() -> datetime:
        if column.epoch is not None:
            return read_count(text, column.epoch)
        return read_time(text, spelling(column.format, "timestamp"), BERLIN)

    if expected is not None:
        assert found() == expected
    else:
        with pytest.raises(ValueError, match=r"^is not "):
            found()


@pytest.mark.parametrize(("text", "column", "expected"), spellings.DATES, ids=str)
def test_a_spelling_means_one_date_or_none(text: str, column: spellings.Column, expected: date | None) -> None:
    how = spelling(column.format, "date")
    if expected is not None:
        assert read_date(text, how) == expected
    else:
        with pytest.raises(ValueError, match=r"^is not (a date like 2026-01-05|written as )"):
            read_date(text, how)


OFFSETS = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
INSTANTS = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=OFFSETS)  # noqa: DTZ001  # made aware


@given(INSTANTS, st.sampled_from("Tt "), st.sampled_from(".,"), st.sampled_from(["", "0", "999"]), st.sampled_from(["", " "]))
def test_a_time_is_read_as_python_wrote_it_whatever_stands_for_its_parts(
    at: datetime, between: str, point: str, more: str, gap: str
) -> None:
    minutes = int((at.utcoffset() or timedelta()).total_seconds()) // 60
    sign, size = "-" if minutes < 0 else "+", abs(minutes)
    day = f"{at.year:04}-{at.month:02}-{at.day:02}"
    clock = f"{at.hour:02}:{at.minute:02}:{at.second:02}{point}{at.microsecond:06}{more}"
    for zone in (f"{sign}{size // 60:02}:{size % 60:02}", f"{sign}{size // 60:02}{size % 60:02}"):
        assert read_time(f"{day}{between}{clock}{gap}{zone}", ISO_TIME, None) == at
        assert read_time(f"{day.replace('-', '')}T{clock.replace(':', '')}{zone}", ISO_TIME, None) == at


@given(st.from_regex(ISO_TIME.regex.replace("[^\\]]*", "[a-zA-Z/]*"), fullmatch=True))
def test_what_is_taken_for_iso_8601_is_what_python_takes_for_it(text: str) -> None:
    """Python's reader is more lenient, but knows neither blanks nor names of zones nor small letters, and before 3.14 no 24:00."""
    told = text.strip().upper().partition("[")[0].replace("UTC", "Z").replace("GMT", "Z").replace(" ", "T", 1).replace("\t", "T", 1)
    told = told.replace(" ", "").replace("\t", "").replace("TT", "T")
    try:
        found = read_time(text, ISO_TIME, UTC)
    except ValueError:
        return
    if "T24" not in told:
        at = datetime.fromisoformat(told.rstrip("T"))
        assert found == (at if at.tzinfo else at.replace(tzinfo=UTC))


@given(st.text("0123456789 .+-", min_size=1, max_size=24))
def test_digits_alone_are_never_taken_for_a_time(text: str) -> None:
    if sum(text.count(mark) for mark in ".+-") <= 1:
        with pytest.raises(ValueError, match="is not a time like"):
            read_time(text, ISO_TIME, UTC)


@given(
    INSTANTS.filter(lambda at: at.year >= 1000),
    st.sampled_from(["%Y%m%d%H%M%S%f%z", "%d.%m.%Y %H:%M:%S,%f %z", "%a, %d %b %Y %I:%M:%S %p %z .%f", "%j/%Y %H.%M.%S.%f%z"]),
)
def test_a_format_reads_what_pythons_strftime_writes_by_it(at: datetime, text: str) -> None:
    how = spelling(text, "timestamp")
    assert read_time(at.strftime(text), how, None) == at


@given(st.integers(times.FIRST, times.LAST), st.sampled_from(list(UNITS)))
def test_a_count_is_the_instant_so_many_units_after_the_beginning(micros: int, unit: str) -> None:
    count = Decimal(micros) * 1000 / UNITS[unit]
    assert read_count(f"{count:f}", unit) == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)


NAMED = "; {} says no offset from UTC: write Z or +01:00, or leave it out and say the source's timezone"


@pytest.mark.parametrize(
    ("text", "data_type", "expected"),
    [
        ("1712011200000", "timestamp", '; write Column("timestamp", epoch="ms")'),
        ("1712011200", "timestamp", '; write Column("timestamp", epoch="s")'),
        ("1712011200.5", "timestamp", '; write Column("timestamp", epoch="s")'),
        ("1712011200000000", "timestamp", '; write Column("timestamp", epoch="us")'),
        ("1712011200000000000", "timestamp", '; write Column("timestamp", epoch="ns")'),
        ("1.712011200000E12", "timestamp", '; write Column("timestamp", epoch="ms")'),
        ("20260105", "timestamp", '; write Column("timestamp", format="%Y%m%d")'),
        ("20260105", "date", '; write Column("date", format="%Y%m%d")'),
        ("20260105060000", "timestamp", '; write Column("timestamp", format="%Y%m%d%H%M%S")'),
        ("25.01.2026 06:00", "timestamp", '; write Column("timestamp", format="%d.%m.%Y %H:%M")'),
        ("01/25/2026 6:00 PM", "timestamp", '; write Column("timestamp", format="%m/%d/%Y %I:%M %p")'),
        (
            "05.01.2026 06:00",
            "timestamp",
            '; write Column("timestamp", format="%d.%m.%Y %H:%M") or Column("timestamp", format="%m.%d.%Y %H:%M"), whichever is meant',
        ),
        ("5 Jan 2026", "date", '; write Column("date", format="%d %b %Y")'),
        ("Jan 5, 2026, 06:00", "timestamp", '; write Column("timestamp", format="%b %d, %Y, %H:%M")'),
        ("2026/1/5", "date", '; write Column("date", format="%Y/%m/%d")'),
        ("Mon, 05 Jan 2026 06:00:00 GMT", "timestamp", '; write Column("timestamp", format="%a, %d %b %Y %H:%M:%S %z")'),
        ("Mon Jan  5 06:00:00 UTC 2026", "timestamp", '; write Column("timestamp", format="%a %b %d %H:%M:%S %z %Y")'),
        ("05/Jan/2026:06:00:00 +0000", "timestamp", '; write Column("timestamp", format="%d/%b/%Y:%H:%M:%S %z")'),
        ("2026-01-05-06.00.00.000000", "timestamp", '; write Column("timestamp", format="%Y-%m-%d-%H.%M.%S.%f")'),
        ("05-JAN-26 06.00.00.000000 AM", "timestamp", '; write Column("timestamp", format="%d-%b-%y %I.%M.%S.%f %p")'),
        ("202601050600", "timestamp", '; write Column("timestamp", format="%Y%m%d%H%M")'),
        ("2026-01-05T06:00:60Z", "timestamp", ""),
        ("2026-01-05T25:00", "timestamp", ""),
        ("2026-01-05 06:00 CET", "timestamp", NAMED.format("CET")),
        ("2026-01-05T06:00:00.5 America/New_York", "timestamp", NAMED.format("America/New_York")),
        ("5.1. 06:00 CET", "timestamp", ""),
        ("yesterday", "timestamp", ""),
        ("12", "timestamp", ""),
        ("", "date", ""),
        ("2026-02-30", "date", ""),
    ],
)
def test_a_text_that_is_no_time_of_iso_8601_is_told_what_to_write(text: str, data_type: str, expected: str) -> None:
    assert advice(text, data_type) == expected
