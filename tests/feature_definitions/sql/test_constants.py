"""What must be written out in an expression, and be what Spark takes: patterns, replacements, groups, zones and days."""

from __future__ import annotations

import pytest

from feature_definitions.language import DefinitionError
from feature_definitions.sql.expressions import columns_in
from feature_definitions.sql.queries import query_sql

REFUSED = [
    ("note RLIKE other", "takes a pattern from 'other'"),
    ("note RLIKE '('", "the pattern has a ( that is never closed; write \\\\( for the sign itself"),
    ("note RLIKE '[a'", "the pattern has a [ that is never closed"),
    ("note RLIKE 'a)'", "the pattern has a ) too many"),
    ("note RLIKE '*.csv'", "the pattern has a * that repeats nothing; write \\\\* for the sign itself"),
    ("note RLIKE 'a{x}'", "the pattern has a { that repeats nothing"),
    ("note RLIKE 'a{2,1}'", "the pattern has {2,1}, of which the first number is the larger"),
    ("note RLIKE '(?P<year>a)'", "a group with a name is (?<name>...)"),
    (r"note RLIKE 'a\\'", "the pattern ends with a backslash"),
    (r"regexp_like(note, '\\y')", r"the pattern has \y, which means nothing"),
    ("regexp_extract(note, '(a)', 2)", "the pattern has one group, not a group 2; 0 is all that it finds"),
    ("regexp_extract(note, 'a')", "the pattern has no group, not a group 1"),
    ("regexp_extract(note, '(a)', -1)", "not a group -1"),
    ("regexp_extract(note, '(a)', n)", "takes the number of a group from 'n'; write the number"),
    ("regexp_replace(note, '(a)(b)', '$3')", "the replacement has $3, and the pattern has 2 groups"),
    ("regexp_replace(note, '(?<x>a)', '${y}')", "the replacement has ${y}, and the pattern has no group of that name"),
    ("regexp_replace(note, 'EUR', '$')", "the replacement has a $ of its own; write \\\\$ for the sign itself"),
    ("regexp_replace(note, 'a', other)", "takes a replacement from 'other'"),
    (r"note LIKE 'a\\b'", "the pattern has a backslash before a sign that needs none"),
    (r"note ILIKE 'a\\'", "the pattern has a backslash before a sign that needs none"),
    ("date_format(at, 'YYYY-MM-dd')", "the pattern has YYYY, which Spark does not know there; years are yyyy"),
    ("to_timestamp(note, 'yyyy-MM-ddTHH:mm')", "the pattern has T, which Spark does not know there; text that stands for itself is put"),
    ("to_date(note, 'EEE d MMM')", "the pattern has EEE, which"),
    ("date_format(at, 'MMMMM')", "the pattern has MMMMM, which"),
    ("date_format(at, '\\'x')", "the pattern has a quote that is never closed"),
    ("date_format(at, '{yyyy}')", "the pattern has a {, which means nothing there"),
    ("from_utc_timestamp(at, 'Berlin')", "'Berlin' is no time zone; write a name like 'Europe/Berlin', or 'UTC'"),
    ("next_day(at, 'Mo.')", "'Mo.' is no day of the week; write 'Mon' or 'Monday'"),
]
TAKEN = [
    r"note RLIKE '^[a-z]+(\\d{2,}|x{3}+)?\\Q(\\E$'",
    "note RLIKE '[[a-b]&&[^c]]('",
    "regexp_extract(note, '(?:a)(?<y>b)(?i)(c)', 2)",
    "regexp_extract(note, 'a', 0)",
    r"regexp_replace(note, '(?<y>a)', '$1${y}\\$')",
    "regexp_replace(note, '(a)', '$10')",
    r"note LIKE 'a\\_\\%\\\\%'",
    "note LIKE other",
    "date_format(at, 'EEE, d MMM yyyy \\'T\\' HH:mm:ss.SSSSSS VV xxx [G]')",
    "to_timestamp(note, 'yyyy-MM-dd\\'T\\'HH:mm:ssXXX')",
    "from_utc_timestamp(at, '+01:00')",
    "from_utc_timestamp(at, zone)",
    "next_day(at, 'mon')",
]


@pytest.mark.parametrize(("sql", "message"), REFUSED)
def test_a_text_at_which_spark_would_stop_is_refused_and_what_to_write_is_said(sql: str, message: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        columns_in(sql)
    assert message in str(refused.value)


@pytest.mark.parametrize("sql", TAKEN)
def test_what_spark_takes_and_what_cannot_be_judged_is_taken(sql: str) -> None:
    assert columns_in(sql)


@pytest.mark.parametrize(("sql", "message"), REFUSED[:2] + REFUSED[-4:])
def test_a_query_is_held_to_the_same(sql: str, message: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        query_sql(f"SELECT sum(n) AS n FROM notes WHERE CAST({sql} AS STRING) = 'x'")
    assert message in str(refused.value)
