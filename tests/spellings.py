"""How times and dates are written, and what they mean where times without zone are Berlin's: one table for all who read them."""

from __future__ import annotations

from datetime import UTC, date, datetime

from feature_definitions import Column

ISO, DAY = Column("timestamp"), Column("date")
SIX = datetime(2026, 1, 5, 6, tzinfo=UTC)
FIVE = datetime(2026, 1, 5, 5, tzinfo=UTC)


def by(text: str) -> Column:
    return Column("timestamp", format=text)


def counted(unit: str) -> Column:
    return Column("timestamp", epoch=unit)  # type: ignore[arg-type]  # one of them


TIMES: list[tuple[str, Column, datetime | None]] = [
    ("2026-01-05T06:00:00Z", ISO, SIX),
    ("2026-01-05t06:00:00z", ISO, SIX),
    ("2026-01-05 06:00:00 UTC", ISO, SIX),
    ("2026-01-05 06:00 gmt", ISO, SIX),
    (" 2026-01-05  06:00:00 ", ISO, FIVE),
    ("2026-01-05T06:00:00+0100", ISO, FIVE),
    ("2026-01-05 06:00:00+01", ISO, FIVE),
    ("2026-01-05T06:00:00.000+01:00[Europe/Berlin]", ISO, FIVE),
    ("2026-01-05T06Z", ISO, SIX),
    ("2026-01-05", ISO, datetime(2026, 1, 4, 23, tzinfo=UTC)),
    ("20260105T060000Z", ISO, SIX),
    ("2026-01-05T06:00:00,5Z", ISO, SIX.replace(microsecond=500_000)),
    ("2026-01-05T06:00:00.1234567891Z", ISO, SIX.replace(microsecond=123_456)),
    ("1969-12-31T23:59:59.9999999Z", ISO, datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    ("2026-01-04T24:00Z", ISO, datetime(2026, 1, 5, tzinfo=UTC)),
    ("2026-03-29T02:30:00", ISO, datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),
    ("2026-10-25T02:30:00", ISO, datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
    ("9999-12-31T23:59:59.999999Z", ISO, datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    ("9999-12-31T23:59:59-01:00", ISO, None),
    ("9999-12-31T24:00Z", ISO, None),
    ("0001-01-01T00:00:00+01:00", ISO, None),
    ("0000-01-01T00:00:00Z", ISO, None),
    ("2026-01-05T24:00:01Z", ISO, None),
    ("2026-01-05T25:00Z", ISO, None),
    ("2026-01-05T06:60Z", ISO, None),
    ("2026-01-05T06:00:60Z", ISO, None),
    ("2026-02-29", ISO, None),
    ("2026-01-05T06:00:00 CET", ISO, None),
    ("2026-01-05T06:00:00+24:00", ISO, None),
    ("2026-W02-1", ISO, None),
    ("2026-1-5", ISO, None),
    ("1712011200000", ISO, None),
    ("20260105", ISO, None),
    ("٢٠٢٦-01-05T06:00:00Z", ISO, None),
    ("05.01.2026 06:00", by("%d.%m.%Y %H:%M"), FIVE),
    ("5.1.2026  6:00", by("%d.%m.%Y %H:%M"), FIVE),
    ("05.01.2026 06:00 Uhr", by("%d.%m.%Y %H:%M Uhr"), FIVE),
    ("05.01.26", by("%d.%m.%y"), datetime(2026, 1, 4, 23, tzinfo=UTC)),
    ("05.01.69", by("%d.%m.%y"), datetime(1969, 1, 4, 23, tzinfo=UTC)),
    ("20260105060000.25", by("%Y%m%d%H%M%S.%f"), FIVE.replace(microsecond=250_000)),
    ("Mon, 05 JAN 2026 12:00 am +0000", by("%a, %d %b %Y %I:%M %p %z"), datetime(2026, 1, 5, tzinfo=UTC)),
    ("January 5 2026 12:30 PM UTC", by("%B %d %Y %I:%M %p %z"), datetime(2026, 1, 5, 12, 30, tzinfo=UTC)),
    ("2026-005 06", by("%Y-%j %H"), FIVE),
    ("(5/1/2026) 100%", by("(%d/%m/%Y) 100%%"), datetime(2026, 1, 4, 23, tzinfo=UTC)),
    ("29.03.2026 02:30", by("%d.%m.%Y %H:%M"), datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),
    ("31.02.2026 06:00", by("%d.%m.%Y %H:%M"), None),
    ("05.01.2026 06:00:00", by("%d.%m.%Y %H:%M"), None),
    ("05-01-2026 06:00", by("%d.%m.%Y %H:%M"), None),
    ("2026015", by("%Y%m%d"), None),
    ("05.01.2026 13:00 PM", by("%d.%m.%Y %I:%M %p"), None),
    ("2026-366", by("%Y-%j"), None),
    ("2026-000", by("%Y-%j"), None),
    ("2026-01-05T06:00:00Z", by("%d.%m.%Y"), None),
    ("1767592800", counted("s"), SIX),
    ("1767592800.25", counted("s"), SIX.replace(microsecond=250_000)),
    ("1767592800.1234569", counted("s"), SIX.replace(microsecond=123_456)),
    (" 1767592800000 ", counted("ms"), SIX),
    ("1767592800000001", counted("us"), SIX.replace(microsecond=1)),
    ("1767592800000001999", counted("ns"), SIX.replace(microsecond=1)),
    ("-1", counted("ns"), datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    ("-0.0000001", counted("s"), datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    ("0", counted("ms"), datetime(1970, 1, 1, tzinfo=UTC)),
    ("1767592800000", counted("s"), None),
    ("999999999999999999999", counted("ns"), None),
    ("1.7675928E9", counted("s"), SIX),
    ("1.7675928001234567e+9", counted("s"), SIX.replace(microsecond=123_456)),
    ("-1.7675928E12", counted("ms"), datetime(1913, 12, 27, 18, tzinfo=UTC)),
    ("9.9999999999999999E0", counted("s"), datetime(1970, 1, 1, 0, 0, 10, tzinfo=UTC)),
    ("1.7E99", counted("s"), None),
    ("1.7E-9", counted("s"), None),
    ("17.675928E8", counted("s"), None),
    ("1,5", counted("s"), None),
    ("nan", counted("s"), None),
    ("2026-01-05T06:00:00Z", counted("ms"), None),
]

DATES: list[tuple[str, Column, date | None]] = [
    ("2026-01-05", DAY, date(2026, 1, 5)),
    (" 2026-01-05\n", DAY, date(2026, 1, 5)),
    ("5.1.2026", Column("date", format="%d.%m.%Y"), date(2026, 1, 5)),
    ("5-Jan-26", Column("date", format="%d-%b-%y"), date(2026, 1, 5)),
    ("20260105", Column("date", format="%Y%m%d"), date(2026, 1, 5)),
    ("20260105", DAY, None),
    ("2026-01-05T06:00:00Z", DAY, None),
    ("2026-02-30", DAY, None),
    ("31.04.2026", Column("date", format="%d.%m.%Y"), None),
    ("0000-01-05", DAY, None),
]
