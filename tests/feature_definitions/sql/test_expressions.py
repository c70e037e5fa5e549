"""Expressions: what is refused and why, what they read, their types, and the SQL that Spark gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_definitions.language import DefinitionError
from feature_definitions.sql.expressions import columns_in, derive_columns_in, derive_sql, spark_sql, type_of

if TYPE_CHECKING:
    from collections.abc import Callable

COLUMNS = {
    "i": "int64",
    "j": "int64",
    "d": "double",
    "s": "string",
    "b": "boolean",
    "m": "decimal(12,2)",
    "n": "decimal(10,4)",
    "dt": "date",
    "ts": "timestamp",
}


def test_the_columns_of_an_expression_are_those_it_reads() -> None:
    assert columns_in("case when amount > 3 then price / nullif(Quantity, 0) else coalesce(`the fee`, 0) end") == {
        "amount",
        "price",
        "Quantity",
        "the fee",
    }


def test_a_column_may_be_named_like_a_word_of_sql() -> None:
    assert columns_in("date > '2020-01-01' and comment is null and user = 'x'") == {"date", "comment", "user"}


def test_a_quoted_column_may_be_named_like_the_clock() -> None:
    assert columns_in("`current_date` > '2020-01-01'") == {"current_date"}


def test_words_in_texts_and_comments_are_not_columns() -> None:
    assert columns_in("a = 'now' -- and b /* c */") == {"a"}


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("-- nothing", "is empty"),
        ("amount +", "is not a Spark SQL expression: Required keyword: 'expression' missing for Add"),
        ("(amount", "is not a Spark SQL expression: Expecting )"),
        ("'open", "is not a Spark SQL expression"),
        ("a as b", "is not a Spark SQL expression"),
        ("a, b", "is not a Spark SQL expression"),
        ("select a", "is not a Spark SQL expression"),
        ("drop table a", "is not a Spark SQL expression"),
        ("a; b", "several statements"),
        ("a;", "several statements"),
        ("(select 1)", "subquery"),
        ("exists(select 1)", "subquery"),
        ("a in (select b)", "subquery"),
        ("*", "star"),
        ("sum(a)", "sum() is of many rows and an expression of one; write it as the feature's aggregation"),
        ("count(*)", "count() is of many rows"),
        ("count(distinct a)", "count() is of many rows"),
        ("lag(a)", "lag() is of many rows"),
        ("abs(a) over (order by b)", "looks at other rows"),
        ("abs(a) filter (where b)", "looks at other rows"),
        ("sum(a) over ()", "looks at other rows"),
        ("t.a", "write the column's name alone"),
        ("a -> b", "which expressions do not know"),
        ("a[0:1]", "which expressions do not know"),
        ("a ^ b", "which expressions do not know"),
        ("a & b", "which expressions do not know"),
        (":p", "which expressions do not know"),
        ("${p}", "which expressions do not know"),
        ("a at time zone 'UTC'", "which expressions do not know"),
        ("a like any ('x')", "which expressions do not know"),
        ("(a, b) in ((1, 2))", "which expressions do not know"),
        ("a in b", "which expressions do not know"),
        ("interval a day", "which expressions do not know"),
        ("cast(a as date format 'yyyy')", "which expressions do not know"),
        ("'it''s'", "two texts side by side"),
        ("'a' 'b'", "two texts side by side"),
        ("cast(a as array<int>)", "casts to ARRAY<INT>; write string, bigint"),
        ("cast(a as timestamp_ntz)", "casts to TIMESTAMP_NTZ"),
        ("nullif(a)", "nullif() with 1 arguments; it takes 2"),
        ("round(a, 1, 2)", "round() with 3 arguments; it takes 1 to 2"),
        ("concat()", "concat() with 0 arguments; it takes 1 or more"),
    ],
)
def test_what_is_not_one_scalar_expression_is_refused_with_its_reason(sql: str, message: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        columns_in(sql)
    assert message in str(refused.value)
    assert repr(sql) in str(refused.value)


@pytest.mark.parametrize(
    "sql",
    [
        "now()",
        "current_date",
        "CURRENT_DATE()",
        "current_timestamp",
        "localtimestamp",
        "curdate()",
        "cast('now' as timestamp)",
        "cast(' Today ' as date)",
        "date 'tomorrow'",
        "timestamp 'yesterday'",
        "to_date('now')",
        "to_timestamp('now UTC')",
        "timestamp('now')",
        "datediff('today', dt)",
        "cast('n\\u006fw' as timestamp)",
        "cast(if(b, 'now', 'x') as timestamp)",
        "'now'::timestamp",
        "try_cast('today' as date)",
    ],
)
def test_what_reads_the_clock_is_refused(sql: str) -> None:
    with pytest.raises(DefinitionError, match="reads the clock"):
        columns_in(sql)


@pytest.mark.parametrize("sql", ["cast('no' || 'w' as date)", "cast(lower('NOW') as timestamp)", "to_date(concat('to', 'day'))"])
def test_a_text_that_is_computed_for_a_time_is_refused(sql: str) -> None:
    with pytest.raises(DefinitionError, match=r"computes the constant .*write its value"):
        columns_in(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "s rlike s",
        "regexp_like(s, concat('^', s))",
        "regexp_extract(s, s, 1)",
        "regexp_replace(s, s, 'x')",
        "date_format(ts, s)",
        "to_date(s, s)",
        "to_timestamp(s, coalesce(s, 'yyyy'))",
    ],
)
def test_a_pattern_that_comes_from_a_column_is_refused(sql: str) -> None:
    with pytest.raises(DefinitionError, match=r"takes a pattern from .*write it as a text"):
        columns_in(sql)


@pytest.mark.parametrize("sql", ["s rlike '^a'", "regexp_like(s, ('^a'))", "to_date(s)", "date_format(ts, 'yyyy')", "s like s"])
def test_a_pattern_that_is_written_out_is_taken(sql: str) -> None:
    assert columns_in(sql) <= set(COLUMNS)


@pytest.mark.parametrize("sql", ["ts > 'now'", "ts between '2020-01-01' and 'tomorrow'", "dt in ('today')", "coalesce(dt > ' NOW', b)"])
def test_a_clock_word_beside_a_time_column_is_refused(sql: str) -> None:
    assert columns_in(sql) <= set(COLUMNS)
    with pytest.raises(DefinitionError, match="reads the clock"):
        type_of(sql, COLUMNS)


def test_a_clock_word_may_be_an_ordinary_text() -> None:
    assert type_of("s = 'now'", COLUMNS) == "boolean"
    assert type_of("ts > '2020-01-01' and s = 'nowhere'", COLUMNS) == "boolean"


@pytest.mark.parametrize(
    "call",
    [
        "rand()",
        "`rand`()",
        "RANDN(1)",
        "uuid()",
        "shuffle(a)",
        "java_method('a', 'b')",
        "reflect('a', 'b')",
        "input_file_name()",
        "monotonically_increasing_id()",
        "spark_partition_id()",
        "unix_timestamp()",
        "current_user()",
        "explode(a)",
        "version()",
        "no_such_function(a)",
    ],
)
def test_a_function_that_is_not_on_the_list_is_refused_by_name(call: str) -> None:
    name = call.partition("(")[0].strip("`").lower()
    with pytest.raises(DefinitionError) as refused:
        columns_in(call)
    assert f"{name}() is not among the functions that are known to give the same result" in str(refused.value)
    assert len(str(refused.value)) < 250


def test_a_misspelt_function_is_told_its_neighbours() -> None:
    with pytest.raises(DefinitionError, match="Did you mean 'coalesce'"):
        columns_in("coalese(a, 0)")


@pytest.mark.parametrize("sql", ["i" + " + i" * 5000, "(" * 5000 + "i" + ")" * 5000])
def test_an_endless_expression_is_one_clear_error(sql: str) -> None:
    with pytest.raises(DefinitionError, match="nested too deep") as refused:
        type_of(sql, COLUMNS)
    assert len(str(refused.value)) < 200


# ------------------------------------------------------------------------------------------------------------------- for Spark


@pytest.mark.parametrize(
    ("sql", "rewritten"),
    [
        ("a / b", "`a` / nullif(`b`, 0)"),
        ("a % b", "`a` % nullif(`b`, 0)"),
        ("a div b", "`a` DIV nullif(`b`, 0)"),
        ("mod(a, b)", "mod(`a`, nullif(`b`, 0))"),
        ("pmod(a, b)", "pmod(`a`, nullif(`b`, 0))"),
        ("(a / b) / (c / d)", "(`a` / nullif(`b`, 0)) / nullif((`c` / nullif(`d`, 0)), 0)"),
        ("a / (b - c)", "`a` / nullif((`b` - `c`), 0)"),
        ("a / 2", "`a` / 2"),
        ("a / 0", "`a` / nullif(0, 0)"),
        ("a / 0.0", "`a` / nullif(0.0, 0)"),
        ("a / -0", "`a` / nullif(-0, 0)"),
    ],
)
def test_division_by_zero_becomes_null(sql: str, rewritten: str) -> None:
    assert spark_sql(sql) == rewritten


@pytest.mark.parametrize(
    ("sql", "rewritten"),
    [
        ("amount", "`amount`"),
        ("`the fee`", "`the fee`"),
        ("`a``b`", "`a``b`"),
        ("date > '2020-01-01'", "`date` > '2020-01-01'"),
        ("s = 'it\\'s'", "`s` = 'it\\'s'"),
        ('s = "x"', "`s` = 'x'"),
        ("s rlike '^\\\\d+$'", "`s` RLIKE '^\\\\d+$'"),
        ("position('x', s)", "position('x', `s`)"),
        ("datediff(a, b)", "datediff(`a`, `b`)"),
        ("a is not null", "NOT `a` IS NULL"),
        ("a - -b", "`a` - -`b`"),
        ("a::bigint", "CAST(`a` AS BIGINT)"),
        ("try_cast(a as double)", "TRY_CAST(`a` AS DOUBLE)"),
        ("a -- b", "`a`"),
        ("s = '${a} $b'", "`s` = '\\u0024{a} $b'"),
    ],
)
def test_the_rest_reaches_spark_as_it_was_written_with_quoted_columns(sql: str, rewritten: str) -> None:
    assert spark_sql(sql) == rewritten


def test_spark_gets_nothing_that_was_refused() -> None:
    with pytest.raises(DefinitionError, match="subquery"):
        spark_sql("a in (select 1)")


names = st.sampled_from(["i", "j", "(i + 1)", "abs(j)", "3", "0", "coalesce(i, j)", "(i / j)"])
operators = st.sampled_from(["+", "-", "*", "/", "%", "div"])


@given(st.lists(st.tuples(operators, names), min_size=1, max_size=6), names)
def test_every_divisor_is_guarded_and_columns_and_type_stay(rest: list[tuple[str, str]], first: str) -> None:
    sql = " ".join([first, *(f"{operator} {name}" for operator, name in rest)])
    once = spark_sql(sql)
    assert columns_in(once) == columns_in(sql)
    assert type_of(once, COLUMNS) == type_of(sql, COLUMNS)
    divided = [name for operator, name in rest if operator in ("/", "%", "div") and name != "3"]
    assert once.count("nullif") == len(divided) + sql.count("(i / j)")


# ----------------------------------------------------------------------------------------------------------------------- types


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        *((name, kind) for name, kind in COLUMNS.items()),
        ("(i)", "int64"),
        ("3", "int64"),
        ("1.5", "double"),
        ("1e3", "double"),
        ("'x'", "string"),
        ("true", "boolean"),
        ("i + j * 3 - -i", "int64"),
        ("i + d", "double"),
        ("i * 0.5", "double"),
        ("i / j", "double"),
        ("m / n", "double"),
        ("i div j", "int64"),
        ("i % j", "int64"),
        ("-m", "decimal(12,2)"),
        ("m + m", "decimal(13,2)"),
        ("m + n", "decimal(15,4)"),
        ("m * n", "decimal(23,6)"),
        ("m * i", "decimal(33,2)"),
        ("m * n * n * n", "double"),
        ("m * 1.5", "double"),
        ("coalesce(m, 0)", "decimal(22,2)"),
        ("i > 3 and not b or s like 'x%'", "boolean"),
        ("i in (1, 2, null)", "boolean"),
        ("i between 1 and d", "boolean"),
        ("s is null", "boolean"),
        ("b is true", "boolean"),
        ("i <=> j", "boolean"),
        ("s rlike 'x'", "boolean"),
        ("isnull(s)", "boolean"),
        ("ts > '2020-01-01'", "boolean"),
        ("dt < ts", "boolean"),
        ("upper(s) || i", "string"),
        ("length(s)", "int64"),
        ("hour(ts) * 60 + minute(ts)", "int64"),
        ("datediff(ts, dt)", "int64"),
        ("unix_micros(ts)", "int64"),
        ("date_trunc('hour', ts)", "timestamp"),
        ("from_utc_timestamp(ts, 'America/New_York')", "timestamp"),
        ("to_date(s, 'yyyy')", "date"),
        ("ts + interval 2 hours", "timestamp"),
        ("dt + interval 1 month", "date"),
        ("dt + interval 1 hour", "timestamp"),
        ("interval 1 day + dt", "date"),
        ("dt + 1", "date"),
        ("abs(m)", "decimal(12,2)"),
        ("floor(d)", "int64"),
        ("round(d, 2)", "double"),
        ("sqrt(i)", "double"),
        ("nullif(i, 0)", "int64"),
        ("greatest(i, d, 0)", "double"),
        ("greatest(dt, ts)", "timestamp"),
        ("if(b, i, null)", "int64"),
        ("nvl2(s, 1, 2)", "int64"),
        ("case when b then i else 1.5 end", "double"),
        ("case s when 'x' then 'y' end", "string"),
        ("cast(s as decimal(10,3))", "decimal(10,3)"),
        ("cast(s as decimal)", "decimal(10,0)"),
        ("cast(b as int)", "int64"),
        ("try_cast(s as double)", "double"),
        ("cast(ts as date)", "date"),
    ],
)
def test_the_type_of_an_expression_is_known_without_spark(sql: str, kind: str) -> None:
    assert type_of(sql, COLUMNS) == kind


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("amnt", "reads 'amnt', which is not there"),
        ("I + 1", "Did you mean 'i'?"),
        ("s + 1", "+ needs numbers, not a string; cast it"),
        ("-s", "- needs numbers, not a string"),
        ("b * 2", "* needs numbers, not a boolean"),
        ("i / s", "division needs numbers, not a string"),
        ("abs(s)", "abs needs numbers, not a string"),
        ("sqrt(s)", "sqrt needs numbers, not a string"),
        ("s = 1", "a string and an int64 are compared; cast one of them"),
        ("b > 1", "a boolean and an int64 are compared"),
        ("ts = 5", "a timestamp and an int64 are compared"),
        ("s in (1, 2)", "mixed in in"),
        ("i between 'a' and 'b'", "mixed in between"),
        ("case i when 'x' then 1 end", "mixed in case"),
        ("i and b", "and needs conditions, not an int64"),
        ("not i", "not needs conditions, not an int64"),
        ("i is true", "is needs conditions, not an int64"),
        ("if(i, 1, 2)", "if needs conditions, not an int64"),
        ("case when i then 1 end", "when needs conditions, not an int64"),
        ("i like '1%'", "like and rlike need strings, not an int64"),
        ("coalesce(s, 0)", "coalesce mixes a string and an int64"),
        ("if(b, 1, 'x')", "if mixes an int64 and a string"),
        ("ts + 1", "move a time by an interval"),
        ("ts - ts", "gives a span of time; write datediff"),
        ("null", "is always null"),
        ("coalesce(null, null)", "is always null"),
    ],
)
def test_operands_that_do_not_go_together_are_refused(sql: str, message: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        type_of(sql, COLUMNS)
    assert message in str(refused.value)


# --------------------------------------------------------------------------------------------------------------------- arrays


ARRAYS = {**COLUMNS, "a": "array<double>", "t": "array<string>"}


@pytest.mark.parametrize(
    ("sql", "kind", "rewritten"),
    [
        ("a[0]", "double", "get(`a`, 0)"),
        ("a[size(a) - 1] / a[0]", "double", "get(`a`, TRY_CAST(size(`a`) - 1 AS INT)) / nullif(get(`a`, 0), 0)"),
        ("get(t, i)", "string", "get(`t`, TRY_CAST(`i` AS INT))"),
        ("t[3000000000]", "string", "get(`t`, TRY_CAST(3000000000 AS INT))"),
        ("cardinality(t)", "int64", "cardinality(`t`)"),
        ("array_contains(t, 'x')", "boolean", "array_contains(`t`, 'x')"),
        ("array_max(a) - array_min(a)", "double", "array_max(`a`) - array_min(`a`)"),
        ("coalesce(t, t)", "array<string>", "coalesce(`t`, `t`)"),
        ("t is null or t = t", "boolean", "`t` IS NULL OR `t` = `t`"),
    ],
)
def test_an_element_that_is_not_there_is_null(sql: str, kind: str, rewritten: str) -> None:
    assert (type_of(sql, ARRAYS), spark_sql(sql)) == (kind, rewritten)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("upper(t)", "upper takes no array; read an element, like x[0], or call one of array_contains"),
        ("t || 'x'", "|| takes no array"),
        ("cast(t as string)", "cast takes no array"),
        ("reverse(a)", "reverse takes no array"),
        ("concat('x', t)", "concat takes no array"),
        ("a['x']", "the place in an array is a string; write a whole number"),
        ("a[i / 2]", "the place in an array is a double; write a whole number"),
        ("s[0]", "[] needs an array, not a string"),
        ("size(s)", "size needs an array, not a string"),
        ("array_contains(a, 'x')", "a double and a string are mixed in array_contains; cast one of them"),
        ("a + 1", "+ needs numbers, not an array<double>"),
        ("a = t", "an array<double> and an array<string> are compared"),
        ("element_at(a, 1)", "element_at() is not among the functions"),
        ("explode(a)", "explode() is not among the functions"),
    ],
)
def test_an_array_is_no_single_value(sql: str, message: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        type_of(sql, ARRAYS)
    assert message in str(refused.value)


# -------------------------------------------------------------------------------------------------------------- derived columns


def test_the_row_before_is_read_from_a_struct() -> None:
    assert derive_sql("d / prev.d - prev.i % j") == "`d` / nullif(`prev`.`d`, 0) - `prev`.`i` % nullif(`j`, 0)"
    assert derive_columns_in("d / prev.d") == {"d", "prev.d"}


@pytest.mark.parametrize("read", [columns_in, spark_sql, lambda sql: type_of(sql, COLUMNS)])
def test_only_a_source_reads_the_row_before(read: Callable[[str], object]) -> None:
    with pytest.raises(DefinitionError, match=r"reads the row before, 'prev\.d'; only a source's derive can"):
        read("d - prev.d")


def test_other_tables_are_not_read_by_a_derived_column() -> None:
    for sql in ("next.d", "a.prev.d", "lag(d)", "d - (select 1)"):
        with pytest.raises(DefinitionError):
            derive_sql(sql)
