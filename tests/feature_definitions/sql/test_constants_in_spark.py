"""What is refused of patterns, zones and days, held against Java's and Spark's own answers."""

from __future__ import annotations

import string
import zoneinfo
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import functions as F
from pyspark.sql.classic.column import Column

from feature_definitions.language import DefinitionError
from feature_definitions.sql.expressions import columns_in
from feature_definitions.sql.patterns import Groups, Unsound, groups, refuse_replacement, refuse_time_pattern

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import SparkSession

_PIECES = [
    *"ab()|*+?{}[]^$.,-&<>:=!\\dQEpyix12",
    "(?:",
    "(?<n>",
    "(?=",
    "(?i)",
    "(?P<",
    "{2}",
    "{1,2}",
    "[^a]",
    "[ab]",
    "\\(",
    "\\Q",
    "\\E",
]
_REFUSED = (Py4JJavaError, PySparkException)
_SENT = [*"ab$\\{}n12", "${n}", "${m}", "\\$"]


def _java(spark: SparkSession, pattern: str, replacement: str) -> tuple[int | None, bool | None]:
    """The number of a pattern's groups by Java, None if it is none; and whether Java takes the replacement, None if nobody can ask."""
    jvm: Any = spark._jvm
    regex = jvm.java.util.regex.Pattern
    try:
        number = regex.compile(pattern).matcher("").groupCount()
    except _REFUSED:
        return None, None
    try:
        finding = regex.compile(f"(?:{pattern})|.").matcher("~")
    except _REFUSED:
        return number, None
    try:
        finding.replaceAll(replacement)
    except _REFUSED:
        return number, False
    return number, True


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(_PIECES), max_size=7).map("".join), st.lists(st.sampled_from(_SENT), max_size=4).map("".join))
def test_what_is_refused_of_a_regular_expression_or_a_replacement_java_refuses(spark: SparkSession, pattern: str, replacement: str) -> None:
    number, takes = _java(spark, pattern, replacement)
    try:
        found = groups(pattern)
    except Unsound:
        assert number is None
        return
    assert found is None or number is None or found.number == number
    try:
        refuse_replacement(replacement, found)
    except Unsound:
        assert not takes
    else:
        assert found is None or takes is not False


def test_groups_that_are_kept_apart_are_counted() -> None:
    assert groups("(a)(?:b)(?<n>c)[(]\\(") == Groups(2, frozenset({"n"}))
    assert groups("[[a]](") is None


def _taken(spark: SparkSession, values: Sequence[str], sql: str) -> set[str]:
    """The texts for which an expression of the column `p` does not raise in Spark."""
    jvm: Any = spark._jvm
    raw = F.struct(F.expr(sql).cast("string").alias("value"))
    utils = jvm.org.apache.spark.sql.classic.ExpressionUtils
    tried = Column(utils.column(jvm.org.apache.spark.sql.catalyst.expressions.TryEval(utils.expression(raw._jc))))
    rows = spark.createDataFrame([(value,) for value in values], "p string").coalesce(1)
    return {row["p"] for row in rows.select("p", tried.alias("found")).collect() if row["found"] is not None}


def _sound(pattern: str, *, reads: str) -> bool:
    try:
        refuse_time_pattern(pattern, reads=reads)
    except Unsound:
        return False
    return True


def test_the_patterns_of_times_that_are_taken_are_those_that_spark_takes(spark: SparkSession) -> None:
    tried = [letter * number for letter in string.ascii_letters for number in range(1, 11)]
    tried += ["yyyy#", "{y}", "[yyyy", "yyyy]", "'x", "'x'", "yyyy''", "ppH", "yyyy-MM-ddTHH", "yyyy-MM-dd'T'HH:mm:ssX", "E d", "yyyy~"]
    for reads, sql in (("date_format", "date_format(timestamp'2026-01-31', p)"), ("to_timestamp", "try_to_timestamp('2026', p) IS NULL")):
        assert {pattern for pattern in tried if _sound(pattern, reads=reads)} == _taken(spark, tried, sql)


def _passes(sql: str) -> bool:
    try:
        return bool(columns_in(sql))
    except DefinitionError:
        return False


def test_no_zone_and_no_day_that_spark_takes_is_refused(spark: SparkSession) -> None:
    odd = ["Z", "PST", "+1", "-01:30", "GMT+1", "UTC-0130", "+19", "nowhere", "utc", "Mon", " UTC", "Europe"]
    zones = [*sorted(zoneinfo.available_timezones()), *odd]
    passing = {zone for zone in zones if _passes(f"from_utc_timestamp(at, '{zone}')")}
    assert _taken(spark, zones, "from_utc_timestamp(timestamp'2026-01-31', p)") <= passing
    assert passing.intersection(odd) == {"Z", "PST", "+1", "-01:30", "GMT+1", "UTC-0130"}
    days = ["Mon", "tuesday", "WE", "Mo.", "Montag", ""]
    named = {day for day in days if _passes(f"next_day(day, '{day}')")}
    assert named == _taken(spark, days, "next_day(date'2026-01-31', p)") == {"Mon", "tuesday", "WE"}
