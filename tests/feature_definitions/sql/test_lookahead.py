"""Queries whose rows may hold what came after their own time are told from those that cannot."""

from __future__ import annotations

import pytest

from feature_definitions import Query, Source
from feature_definitions.sql.lookahead import looks_ahead

PAID = Source("paid", columns={"customer": "int64", "id": "int64", "amount": "double", "at": "timestamp"}, event_timestamp="at")
REFUNDS = Source("refunds", columns={"id": "int64", "why": "string", "refunded_at": "timestamp"}, event_timestamp="refunded_at")
PEOPLE = Source("people", columns={"customer": "int64", "name": "string"}, shape="static", id=("customer",))


def told(sql: str) -> tuple[str, ...]:
    return looks_ahead(Query(sql, (PAID, REFUNDS, PEOPLE), assume_always_known=True))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT customer, amount * 2 AS twice, at FROM paid WHERE amount > 0",
        "SELECT customer, sum(amount) OVER (PARTITION BY customer ORDER BY at) AS so_far, at FROM paid",
        "SELECT sum(amount) OVER (PARTITION BY customer ORDER BY at ROWS BETWEEN 3 PRECEDING AND CURRENT ROW) AS last, at FROM paid",
        "SELECT customer, max(amount) OVER (PARTITION BY customer ORDER BY at ROWS BETWEEN 3 PRECEDING AND 1 PRECEDING) AS x, at FROM paid",
        "SELECT paid.customer, name, at FROM paid JOIN people ON paid.customer = people.customer",
        "SELECT id, at FROM paid UNION ALL SELECT id, refunded_at AS at FROM refunds",
        "WITH large AS (SELECT * FROM paid WHERE amount > 9) SELECT customer, at FROM large",
        "SELECT customer, at FROM paid WHERE customer IN (1, 2)",
    ],
)
def test_a_row_of_the_past_alone_is_told_as_such(sql: str) -> None:
    assert told(sql) == ()


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("SELECT sum(amount) OVER (PARTITION BY customer) AS whole, at FROM paid", "has a window of rows that may come after (sum)"),
        (
            "SELECT sum(amount) OVER (ORDER BY at ROWS BETWEEN 1 FOLLOWING AND 1 FOLLOWING) AS next, at FROM paid",
            "has a window of rows that may come after (sum)",
        ),
        ("SELECT rank() OVER (ORDER BY at DESC) AS left_over, at FROM paid", "has a window of rows that may come after (rank)"),
        ("SELECT rank() OVER (ORDER BY amount) AS place, at FROM paid", "has a window of rows that may come after (rank)"),
        ("SELECT cume_dist() OVER (ORDER BY at) AS share, at FROM paid", "has a window of rows that may come after (cume_dist)"),
        ("SELECT paid.customer, why, at FROM paid LEFT JOIN refunds ON paid.id = refunds.id", "joins paid and refunds"),
        ("SELECT a.customer, a.at FROM paid a JOIN paid b ON a.customer = b.customer", "joins paid with itself"),
        (
            "WITH back AS (SELECT id FROM refunds) SELECT customer, at FROM paid JOIN back ON paid.id = back.id",
            "joins paid and refunds",
        ),
        ("SELECT customer, count(*) AS payments, min(at) AS at FROM paid GROUP BY customer", "puts rows together (count)"),
        ("SELECT customer, at FROM paid WHERE id IN (SELECT id FROM refunds)", "asks other rows (refunds)"),
        ("SELECT customer, at FROM paid WHERE EXISTS (SELECT 1 FROM refunds WHERE refunds.id = paid.id)", "asks other rows (refunds)"),
        ("SELECT customer, (SELECT max(amount) FROM paid) AS most, at FROM paid", "asks other rows (paid)"),
    ],
)
def test_a_row_that_may_hold_what_came_after_it_is_told_with_the_reason(sql: str, why: str) -> None:
    assert why in told(sql)


def test_a_query_that_is_none_is_told_elsewhere() -> None:
    assert told("SELECT FROM") == ()
