"""Times in columns of Spark, read as `feature_definitions.times` reads them: text in any spelling, and counts since 1970."""

from collections.abc import Callable
from decimal import Decimal
from functools import reduce
from typing import NamedTuple

from pyspark.sql import Column
from pyspark.sql import functions as F

from feature_definitions import times
from feature_definitions.times import BEYOND, COUNT, FIRST, LAST, NO_YEAR, UNITS, Spelling

_FIELDS = {
    "Y": "year", "y": "short_year", "m": "month", "d": "day", "j": "day_of_year", "H": "hour", "I": "half_hour", "M": "minute",
    "S": "second", "f": "micros", "p": "is_later",
}  # fmt: skip
"""What the parts of a time are called in Spark, which does not tell capital from small letters."""
_DAY = 86_400_000_000
_APART = "\u001f"
_NO_ZONE = "has no zone, and the source names no timezone"


class Read(NamedTuple):
    """What a column's values mean, and what is said of each that means nothing (null for the others, None: all do)."""

    values: Column
    wrong: Column | None


def in_utc(local: Column, timezone: str | None) -> Column:
    """The instant of a local time, by the rule of `intervals.in_utc`: skipped times move forward, of two the first is meant."""
    return F.to_utc_timestamp(local.cast("timestamp"), timezone or "UTC")


def instants(values: Column) -> Read:
    """Times, of which those are put aside that no `datetime` can hold."""
    inside = F.unix_micros(values).between(FIRST, LAST)
    return Read(values, F.when(~inside, F.lit(f" {BEYOND}")))


def dates(values: Column) -> Read:
    """Dates, of which those are put aside that no `date` can hold."""
    inside = F.unix_date(values).between(FIRST // _DAY, LAST // _DAY)
    return Read(F.when(inside, values), F.when(~inside, F.lit(f" {NO_YEAR}")))


def of_text(text: Column, how: Spelling, timezone: str | None) -> Read:
    """The instants that texts mean."""
    parts = _let(_groups(text, how), lambda groups: _parts(groups, how))
    timed = _let(parts, lambda each: F.struct(_local(each, how).alias("local"), each["offset"].alias("offset")))
    micros = _let(timed, lambda each: F.struct(each["local"].isNotNull().alias("is_one"), _micros(each, timezone).alias("micros")))
    said = _let(micros, lambda each: _result(text, each["micros"], _said(each, how)))
    return Read(said["at"], said["wrong"])


def _micros(timed: Column, timezone: str | None) -> Column:
    """When a time of day is, by its offset or else where it was written down."""
    aware = F.unix_micros(timed["local"].cast("timestamp")) - timed["offset"]
    return aware if timezone is None else F.coalesce(aware, F.unix_micros(in_utc(timed["local"], timezone)))


def _said(read: Column, how: Spelling) -> Column:
    return F.when(~read["is_one"], F.lit(how.otherwise)).when(read["micros"].isNull(), F.lit(_NO_ZONE)).otherwise(F.lit(BEYOND))


def of_counts(counts: Column, unit: str, *, given: str) -> Read:
    """The instants that lie so many units after the beginning of 1970; `given` is the type of the counts, by our name."""
    if given == "double":
        nearest = F.rint(counts.cast("double") * (UNITS[unit] / 1000))
        inside = (nearest >= float(FIRST)) & (nearest < float(LAST + 1))
        return _read(counts, F.when(inside, nearest.cast("bigint")), F.lit(BEYOND))
    whole = F.regexp_extract(counts, COUNT, 1).try_cast("decimal(38,9)") if given == "string" else counts.cast("decimal(38,9)")
    known = counts.rlike(f"^(?:{COUNT})\\z") if given == "string" else F.lit(True)
    first, end = (F.lit(Decimal(bound) * 1000 / UNITS[unit]) for bound in (FIRST, LAST + 1))
    micros = F.when(known & (whole >= first) & (whole < end), F.floor(whole.cast("decimal(30,9)") * F.lit(Decimal(UNITS[unit]) / 1000)))
    said = F.when(known, F.lit(BEYOND)).otherwise(F.lit(f'is not a number, as epoch="{unit}" has it'))
    return _read(counts, micros.cast("bigint"), said)


def dates_of_text(text: Column, how: Spelling) -> Read:
    """The dates that texts mean."""
    parts = _let(_groups(text, how), lambda groups: _parts(groups, how))
    day = _let(parts, lambda each: _day(each, how).cast("date"))
    return Read(day, F.when(text.isNotNull() & day.isNull(), _quoting(text, F.lit(how.otherwise))))


def _read(given: Column, micros: Column, said: Column) -> Read:
    result = _let(micros, lambda each: _result(given, each, said))
    return Read(result["at"], result["wrong"])


def _result(given: Column, micros: Column, said: Column) -> Column:
    inside = F.coalesce(micros.between(FIRST, LAST), F.lit(False))
    wrong = F.when(given.isNotNull() & ~inside, _quoting(given, said))
    return F.struct(F.when(inside, F.timestamp_micros(micros)).alias("at"), wrong.alias("wrong"))


def _quoting(given: Column, said: Column) -> Column:
    return F.concat(F.lit(": '"), F.substring(given.cast("string"), 1, 1000), F.lit("' "), said)


def _let(value: Column, body: Callable[[Column], Column]) -> Column:
    """What a function makes of a value that is computed once, however often it is named there."""
    return F.get(F.transform(F.array(value), body), 0)


# -------------------------------------------------------------------------------------------------------------------------- parts


def _groups(text: Column, how: Spelling) -> Column:
    """The text of each group, empty where it is not there; null where the text is none of this spelling."""
    regex = f"^(?:{how.regex})\\z"
    groups = _APART.join(f"${n}" for n in range(1, len(how.parts) + 1))
    return F.when(text.rlike(regex), F.split(F.regexp_replace(text, regex, groups), _APART))


def _parts(groups: Column, how: Spelling) -> Column:
    """The numbers that the groups say, and the offset in microseconds; null where a part is not there."""
    places = {part: [n for n, each in enumerate(how.parts) if each == part] for part in "YymdbBjHIMSfpz"}
    texts = {part: F.coalesce(*[F.nullif(F.get(groups, n), F.lit("")) for n in at]) for part, at in places.items() if at}
    numbers = [text.cast("int").alias(_FIELDS[part]) for part, text in texts.items() if part in _FIELDS and part not in "fp"]
    names = F.array(*[F.lit(name[:3]) for name in times.MONTHS])
    named = [F.lower(F.substring(texts[part], 1, 3)) for part in "bB" if part in texts]
    numbers += [F.array_position(names, name).cast("int").alias("month") for name in named]
    if "f" in texts:
        numbers.append(F.substring(F.rpad(texts["f"], 6, "0"), 1, 6).cast("int").alias("micros"))
    if "p" in texts:
        numbers.append((F.lower(texts["p"]) == "pm").alias("is_later"))
    return F.struct(*numbers, (_offset(texts["z"]) if "z" in texts else F.lit(None).cast("bigint")).alias("offset"))


def _day(parts: Column, how: Spelling) -> Column:
    """The midnight with which a date begins; null if there is no such date."""
    one, zero = F.lit(1), F.lit(0)
    year = (
        parts["year"] if "Y" in how.parts else parts["short_year"] + F.when(parts["short_year"] >= 69, F.lit(1900)).otherwise(F.lit(2000))
    )
    month, day = (one, one) if "j" in how.parts else (parts["month"], parts["day"])
    start = F.when(year > 0, F.try_make_timestamp_ntz(year, month, day, zero, zero, zero.cast("decimal(16,6)")))
    if "j" not in how.parts:
        return start
    return _let(start + F.make_dt_interval(parts["day_of_year"] - 1), lambda found: F.when(F.year(found) == year, found))


def _local(parts: Column, how: Spelling) -> Column:
    """The time of day on its date, whatever its zone; null if there is no such time."""
    minute, second, micros = (F.coalesce(parts[_FIELDS[part]], F.lit(0)) if part in how.parts else F.lit(0) for part in "MSf")
    hour = _hour(parts, how)
    sound = (hour.between(0, 23) & (minute < 60) & (second < 60)) | ((hour == 24) & (minute + second + micros == 0))
    seconds = second.cast("decimal(18,6)") + micros.cast("decimal(18,6)") * F.lit(Decimal("0.000001"))
    span = F.make_dt_interval(F.lit(0), hour, minute, seconds.cast("decimal(18,6)"))
    return F.when(sound, _day(parts, how) + span)


def _hour(parts: Column, how: Spelling) -> Column:
    if "I" not in how.parts:
        return F.coalesce(parts["hour"], F.lit(0)) if "H" in how.parts else F.lit(0)
    later = F.when(parts["is_later"], F.lit(12)).otherwise(F.lit(0))
    return F.when(parts["half_hour"].between(1, 12), parts["half_hour"] % 12 + later).otherwise(F.lit(-1))


def _offset(zone: Column) -> Column:
    """An offset in microseconds; none for `Z` and `UTC`."""
    digits = F.rpad(F.regexp_replace(zone, "[^0-9]", ""), 6, "0")
    parts = [F.substring(digits, start, 2).cast("bigint") * size for start, size in ((1, 3600), (3, 60), (5, 1))]
    sign = F.when(zone.startswith("-"), F.lit(-1)).otherwise(F.lit(1))
    return reduce(lambda total, part: total + part, parts) * sign * 1_000_000
