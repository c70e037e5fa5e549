"""Queries: what is refused and why, what they read and give, and the SQL that Spark gets."""

import pytest

from feature_definitions.language import DefinitionError
from feature_definitions.sql.queries import query_outputs, query_reads, query_sql

TABLES = {"pay": {"id": "int64", "amount": "double", "At": "timestamp"}, "people": {"id": "int64", "tags": "array<string>"}}


@pytest.mark.parametrize(
    ("sql", "outputs"),
    [
        ("select pay.id, amount / 0 as x from pay join people on pay.id = people.id", ("id", "x")),
        ("select p.id, count(distinct amount) n from pay p left join people using (id) group by p.id", ("id", "n")),
        ("select count(*) filter (where amount > 3) m from pay, people", ("m",)),
        (
            "with large as (select id, at from pay where amount > 3) select id, at from large union select id, null from people",
            ("id", "at"),
        ),
        ("select id, rank() over (partition by id order by amount) r from pay where id in (select id from people)", ("id", "r")),
        ("select t.id, t.tags[0] tag from (select id, tags from people) t where exists (select 1 from pay where id = t.id)", ("id", "tag")),
    ],
)
def test_a_query_is_one_select_over_its_sources(sql: str, outputs: tuple[str, ...]) -> None:
    assert query_outputs(sql, TABLES) == outputs
    assert query_outputs(query_sql(sql), TABLES) == outputs


def test_a_query_divides_by_zero_and_reads_elements_like_an_expression() -> None:
    assert query_sql("select amount / id as x, tags[0] y, count(distinct id) filter (where id % 2 = 1) z from pay, people -- all") == (
        "SELECT `amount` / nullif(`id`, 0) AS `x`, get(`tags`, 0) AS `y`, count(DISTINCT `id`) FILTER(WHERE `id` % 2 = 1) AS `z` "
        "FROM `pay` CROSS JOIN `people`"
    )


def test_a_query_reads_columns_of_any_table() -> None:
    assert query_reads("select p.id from pay p where amount > 3 and exists (select tags from people)") == {"id", "amount", "tags"}


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("", "is not one SELECT; write a single query, like SELECT id, amount FROM payments"),
        ("select 1; select 2", "is not one SELECT"),
        ("insert into pay select 1", "is not one SELECT"),
        ("drop table pay", "is not one SELECT"),
        ("values (1)", "is not one SELECT"),
        ("amount + 1", "is not one SELECT"),
        ("select from from", "is not Spark SQL"),
        ("select * from pay, people", "has a star, so its columns would follow its sources'; name the columns"),
        ("select pay.* from pay, people", "has a star"),
        ("select pay.id from pay, people limit 3", "has a LIMIT, so which rows it gives is left to chance"),
        ("select pay.id from pay tablesample (3 rows), people", "has a TABLESAMPLE, so which rows it gives is left to chance"),
        ("select pay.id, first(amount) x from pay, people group by 1", "first() depends on the order of rows that are equal"),
        ("select pay.id, row_number() over (order by amount) x from pay, people", "row_number() depends on the order of rows that are"),
        ("select pay.id, collect_list(amount) x from pay, people group by 1", "collect_list() depends on the order"),
        ("select pay.id, rand() x from pay, people", "rand() is not among the functions"),
        ("select pay.id, now() x from pay, people", "now() reads the clock"),
        ("select pay.id, current_date x from pay, people", "current_date reads the clock"),
        ("select pay.id from pay, people where at > 'yesterday'", "as a time, 'yesterday' reads the clock"),
        ("select cast(amount as array<int>) x from pay, people", "casts to ARRAY<INT>"),
        ("select /*+ broadcast(pay) */ pay.id from pay, people", "(Hint), which queries do not know; leave it out"),
        ("select id from pay lateral view explode(tags) as x, people", "(Lateral), which queries do not know"),
        ("select id, amount from pay version as of 3, people", "(Version), which queries do not know"),
        ("select amount from pay", "does not read 'people', which is among its sources; remove it there"),
        ("select amount from pay, poeple", "reads 'poeple', which is not among its sources. Did you mean 'people'? They are: pay, people"),
        ("select amount from lake.pay, people", "reads 'lake.pay', which is not among its sources"),
        ("select x from csv.`/etc/passwd`, pay, people", "which is not among its sources"),
        ("select amnt from pay, people", "Column 'amnt' could not be resolved"),
        ("select amnt from pay, people", "pay has: At, amount, id; people has: id, tags"),
        ("select id from pay, people", "Column 'id' could not be resolved"),
        ("select x.amount from pay, people", "Column 'amount' could not be resolved for table: 'x'"),
        ("select count(*) from pay, people", "has an output column without a name; name each, like count(*) AS payments"),
        ("select pay.id, people.id from pay, people", "has the output column 'id' twice; rename one"),
    ],
)
def test_what_is_not_one_deterministic_query_over_its_sources_is_refused(sql: str, message: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        query_outputs(sql, TABLES)
    assert message in str(refused.value)
