"""Rows computed by Spark are those that the oracle finds in its plain way: random histories, and hard cases by hand."""

from __future__ import annotations

import random
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from hypothesis import strategies as st
from pyspark.sql import functions as F

from feature_definitions import Derived, Entity, Feature, Source, WindowedGroup
from feature_definitions.aggregations import AGGREGATIONS
from feature_definitions.intervals import MICROSECOND, Interval, duration, merge, split
from feature_definitions.language import Rows
from feature_definitions.language.features import LIFETIME
from feature_definitions.layout import DATE, TIME
from feature_definitions.sql.column_types import column_types_of
from spark_jobs.compute import windows
from spark_jobs.compute.rows import FAILED
from tests import histories, oracle
from tests.histories import ANYTHING, CADENCES, MIDNIGHT, NUMBERS, OF, WHERE, ColumnTypes
from tests.offline import drawn, feature_rows, live_frame, many_events, records

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import DataFrame, SparkSession

    from tests.oracle import Event, FeatureRow

pytestmark = pytest.mark.usefixtures("compiled")
HISTORIES = 20
DAY = timedelta(days=1)


@st.composite
def broad_groups(draw: st.DrawFn, number: int) -> ColumnTypes:
    """A group with a feature of every fourth aggregation, of anything, with and without conditions, and one derived from two of them."""
    source = draw(histories.sources())
    every = draw(st.sampled_from(CADENCES))
    features: list[Feature | Derived] = []
    for aggregation in tuple(AGGREGATIONS)[number::4]:
        of = draw(st.sampled_from((*(NUMBERS if AGGREGATIONS[aggregation].takes == "numbers" else ANYTHING), *sorted(OF))))
        spelt = f"{int((draw(st.sampled_from((1, 2, 3, 7))) * duration(every)).total_seconds()) // 60}m"
        rows = Rows(draw(st.integers(1, 4)), within=spelt)
        lifetime = (LIFETIME,) if number % 2 else ()
        windows = draw(st.sampled_from(((spelt, *lifetime), (*lifetime, rows), (every, spelt) if spelt != every else (every,))))
        q = draw(st.sampled_from((0.1, 0.5, 0.9))) if aggregation == "quantile" else None
        k = draw(st.integers(1, 3)) if aggregation in ("top_k", "last_n") else None
        by = draw(st.sampled_from((*[None] * 7, {"kind": ("a", "b")})))
        where = draw(st.none() | st.sampled_from(sorted(WHERE)))
        features.append(Feature(f"f_{aggregation}", aggregation, of, windows, where=where, by=by, q=q, k=k))
    counted = Feature("rows", "count", windows=(every,))
    mean = Feature("amounts", "sum", "amount", windows=(every,))
    ratio = f"amounts_{every} / rows_{every}"
    features += [counted, mean, Derived("ratio", ratio)]
    group = WindowedGroup(
        "spend", histories.entity_of(source), source, every=every, ttl="2d", features=tuple(features),
        where=draw(st.sampled_from((None, None, "amount > 0", "price >= 1.5 or kind = 'b'"))),
    )  # fmt: skip

    def divide(values: Mapping[str, Any]) -> float | None:
        count = values[f"rows_{every}"]
        return values[f"amounts_{every}"] / count if count else None

    return ColumnTypes(group, {**WHERE, **OF, ratio: divide})


def computed(spark: SparkSession, group: WindowedGroup, events: Sequence[Event], *runs: Sequence[Interval]) -> list[list[dict[str, Any]]]:
    """What each run, over its intervals, gives; all in one Spark job."""
    frame, types = live_frame(spark, group.source, events), column_types_of(group)
    tagged = [
        windows.rows(group, frame, spans=merge(intervals), types=types).withColumn("run", F.lit(n)) for n, intervals in enumerate(runs)
    ]
    united: DataFrame = tagged[0]
    for more in tagged[1:]:
        united = united.unionByName(more)
    found = records(united)
    return [[row for row in found if row["run"] == n] for n in range(len(runs))]


def wanted(types: ColumnTypes, events: Sequence[Event], intervals: Sequence[Interval]) -> list[FeatureRow]:
    return [row for interval in intervals for row in oracle.rows(types.group, events, interval, functions=types.functions)]


def bits(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """Rows as texts that tell every bit of a number."""
    return {repr(sorted((name, value) for name, value in row.items() if name != "run")) for row in rows}


@pytest.mark.parametrize("number", range(4))
def test_windowed_rows_are_the_oracles_whatever_the_run_covers(spark: SparkSession, number: int) -> None:
    types = drawn(broad_groups(number), 4)[-1]
    group, events = types.group, many_events(types.group, HISTORIES)
    grid = tuple(split(histories.span(group), group.cadence))
    holes, alone = (grid[1], grid[2], grid[5], grid[8]), (grid[5],)
    whole, with_gaps, single = computed(spark, group, events, grid, holes, alone)
    assert oracle.differences(group, wanted(types, events, grid), feature_rows(group, whole)) == []
    for intervals, found in ((holes, with_gaps), (alone, single)):
        starts = {interval.start for interval in intervals}
        assert bits(found) == bits([row for row in whole if row["interval_start"] in starts])
        assert len(found) == len(bits(found))
    assert len(whole) > HISTORIES


# ----------------------------------------------------------------------------------------------------------------- cases by hand

readings = Source(
    "readings",
    columns={"meter": "string", "at": "timestamp", "x": "double", "n": "int64", "m": "decimal(20,4)", "seen": "timestamp", "nr": "int64"},
    event_timestamp="at",
    timezone="UTC",
    id=("nr",),
    arrived_at="seen",
)
meter = Entity("meter", {"meter": "string"})
by_hand = WindowedGroup(
    "meters", meter, readings, every="1d", ttl="2d",
    features=(
        *(Feature(f"x_{each.name}", each.name, "x", windows=("1d",)) for each in AGGREGATIONS.values() if each.parameter is None),
        *(Feature(f"n_{aggregation}", aggregation, "n", windows=("1d",)) for aggregation in ("sum", "mean", "stddev", "min")),
        *(Feature(f"m_{aggregation}", aggregation, "m", windows=("1d",)) for aggregation in ("sum", "mean", "max")),
        Feature("both", "sum", "x", windows=("2d",)),
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def values(spark: SparkSession) -> Mapping[str, Mapping[str, Any]]:
    """Each case's values at the end of its day, and those that the oracle expects under `<case>?`."""
    events: list[Event] = []
    for case, readings_of in CASES.items():
        for number, reading in enumerate(readings_of):
            events.append({"meter": case, "at": MIDNIGHT, "x": None, "n": None, "m": None, "seen": None, "nr": number} | reading)
    day = Interval(MIDNIGHT, MIDNIGHT + DAY)
    [found] = computed(spark, by_hand, events, [day])
    expected = oracle.rows(by_hand, events, day, functions={})
    return {row["meter"]: row for row in found} | {f"{row.key[0]}?": row.values for row in expected}


def xs(*numbers: float | None) -> list[dict[str, Any]]:
    return [{"x": x} for x in numbers]


BIG = 2**62
CASES: dict[str, list[dict[str, Any]]] = {
    "cancelling": xs(1e16, 1.0, -1e16),
    "tenths": xs(*([0.1] * 10)),
    "tiny": xs(5e-324, 1e-19, 4e-18, 3e-19),
    "beyond the accumulator": xs(1e150, 1.5, -1e150),
    "many large ones": xs(*([9.9e16] * 1200)),
    "greatest": xs(1.7976931348623157e308),
    "two zeros": xs(-0.0, 0.0),
    "short and long": xs(0.1, 4e-18, 0.2, 0.30000000000000004, 1e-4, 1e-5, 5e-5),
    "shortest and just longer": xs(214748.3647, 214748.3648, 214748.3649, -214748.3648, -214748.3649, 0.00005, 999_999_999.9999),
    "money in cents": xs(*([19.99, -0.01, 1234.5] * 50)),
    "negative zero": xs(-0.0),
    "nothing but nulls": xs(None, None),
    "one": xs(4.5),
    "nearly equal": xs(1e9 + 0.1, 1e9 + 0.2, 1e9 + 0.3),
    "wide and narrow": xs(1e9 + 0.3, 0.1, -1e9, 123456789012345.6, 0.7, 1e-17),
    "sum beyond a trillion trillions": xs(1e21, 3e21, 1.0, 7e20),
    "whole numbers": [{"n": BIG}, {"n": BIG - 1}, {"n": -BIG}, {"n": 7}],
    "least whole number": [{"n": -(2**63)}],
    "times in nanoseconds": [{"n": 1_790_000_000_000_000_000 * (-1) ** k + k} for k in range(40)],
    "times in microseconds": [{"n": (-1) ** k * (1_790_000_000_000_000 + 3_600_000_000 * (k % 7))} for k in range(6000)],
    "both signs": [{"n": n} for n in (-1, 1, -(2**32), 2**32 - 1, -(2**32) - 1, 5)],
    "nearly equal whole numbers": [{"n": 2**50}, {"n": 2**50 + 1}, {"n": 2**50 + 2}],
    "money": [{"m": Decimal("9999999999999999.9999")}, {"m": Decimal("0.0001")}, {"m": Decimal("-12.5000")}],
    "ties by arrival": [
        {"x": 1.0, "seen": MIDNIGHT + DAY},
        {"x": 2.0, "seen": MIDNIGHT},
        {"x": 3.0},
        {"x": None, "seen": MIDNIGHT - DAY},
    ],
    "ties by id": [{"x": 1.0}, {"x": 3.0}, {"x": 2.0}],
    "edges": [
        {"x": 1.0, "at": MIDNIGHT - DAY - MICROSECOND},
        {"x": 2.0, "at": MIDNIGHT - DAY},
        {"x": 4.0, "at": MIDNIGHT - MICROSECOND},
        {"x": 8.0, "at": MIDNIGHT},
        {"x": 16.0, "at": MIDNIGHT + DAY - MICROSECOND},
        {"x": 32.0, "at": MIDNIGHT + DAY},
    ],
    "closing": [{"x": 1.0, "at": MIDNIGHT - DAY - MICROSECOND}],
    "closed": [{"x": 1.0, "at": MIDNIGHT - 2 * DAY - MICROSECOND}],
    "future": [{"x": 1.0, "at": MIDNIGHT + DAY}],
}


@pytest.mark.parametrize("case", [case for case in CASES if case not in ("closed", "future")])
def test_a_hard_case_is_as_the_oracle_says(values: Mapping[str, Mapping[str, Any]], case: str) -> None:
    assert oracle.value_differences(by_hand, values[f"{case}?"], values[case]) == []


def test_sums_of_doubles_are_exact(values: Mapping[str, Mapping[str, Any]]) -> None:
    assert values["cancelling"]["x_sum_1d"] == 1.0
    assert values["tenths"]["x_sum_1d"] == 1.0
    assert values["tiny"]["x_sum_1d"] == 4e-18


def test_no_negative_zero_comes_out_of_a_sum(values: Mapping[str, Mapping[str, Any]]) -> None:
    assert repr(values["negative zero"]["x_sum_1d"]) == "0.0"


def test_both_zeros_are_one_value(values: Mapping[str, Mapping[str, Any]]) -> None:
    assert values["two zeros"]["x_count_distinct_1d"] == 1


def test_what_no_double_can_hold_is_null(spark: SparkSession) -> None:
    events: list[Event] = [{"meter": "a", "at": MIDNIGHT, "x": 1.5e308, "n": None, "m": None, "seen": None, "nr": nr} for nr in range(3)]
    [found] = computed(spark, by_hand, events, [Interval(MIDNIGHT, MIDNIGHT + DAY)])
    assert (found[0]["x_sum_1d"], found[0]["x_mean_1d"], found[0]["x_max_1d"]) == (None, None, 1.5e308)


ledger = Source("ledger", columns={"meter": "string", "at": "timestamp", "n": "int64", "m": "decimal(38,2)"}, event_timestamp="at")
heavy = WindowedGroup(
    "heavy", meter, ledger, every="1d", ttl="9d",
    features=(
        *(Feature(f"m_{each}", each, "m", windows=("1d", "3d")) for each in ("sum", "mean")),
        *(Feature(f"n_{each}", each, "n", windows=("1d", "3d")) for each in ("stddev", "variance")),
    ),
)  # fmt: skip


MOST = "900000000000000000000000000000000000.00"


@pytest.mark.parametrize("days", [4, 6], ids=["few times", "sliding"])
def test_a_sum_that_no_decimal_holds_is_told_wherever_it_is_part_of_a_window(spark: SparkSession, days: int) -> None:
    one, number = MIDNIGHT + DAY / 2, 1_100_000
    small = [
        {"meter": who, "at": MIDNIGHT + day * DAY, "n": n, "m": Decimal(m)}
        for who, day, n, m in (("a", 0, 1, "1.25"), ("a", 1, 3, "2.50"), ("b", 0, 1, MOST), ("b", 1, 2, MOST), ("b", 3, 4, f"-{MOST}"))
    ]
    columns = {"meter": F.lit("c"), "at": F.lit(one), "n": F.lit(10**16), "m": F.lit(MOST).cast("decimal(38,2)")}
    many = spark.range(number).select(*[each.alias(name) for name, each in columns.items()])
    many = many.withColumns({TIME: F.col("at"), DATE: F.to_date("at")})
    events = live_frame(spark, ledger, small).unionByName(many)
    spans = [Interval(MIDNIGHT, MIDNIGHT + days * DAY)]
    rows = records(windows.rows(heavy, events, spans=spans, types=column_types_of(heavy)))
    found = {(row["meter"], (row["event_timestamp"] - MIDNIGHT) // DAY): row for row in rows}
    assert {key: sorted(row[FAILED]) for key, row in found.items() if row[FAILED]} == {
        ("b", 2): ["m_mean_3d", "m_sum_3d"],
        ("b", 3): ["m_mean_3d", "m_sum_3d"],
        **{("c", day): sorted(c for c in heavy.outputs if c.endswith("3d") or day == 1) for day in (1, 2, 3)},
    }
    assert found["a", 2]["m_sum_3d"] == Decimal("3.75")
    assert (found["a", 2]["m_mean_3d"], found["a", 2]["n_variance_3d"]) == (1.875, 2.0)
    assert found["b", 4]["m_sum_3d"] == Decimal("0.00")


_OF_ROWS = {
    "x": tuple(each.name for each in AGGREGATIONS.values() if each.name not in ("quantile", "top_k", "last_n", "time_since_last")),
    "n": ("sum", "mean", "stddev", "count"),
    "m": ("sum", "mean", "max"),
    "seen": ("last", "mode", "count_distinct"),
}
of_rows = WindowedGroup(
    "of_rows", meter, readings, every="1d", ttl="2d", where="nr != 7",
    features=(
        *(Feature(f"{of}_{how}", how, of, windows=(Rows(3, within="4d"), Rows(1, within="2d"))) for of in _OF_ROWS for how in _OF_ROWS[of]),
        Feature("middle", "quantile", "x", windows=(Rows(3, within="4d"),), q=0.5),
        Feature("often", "top_k", "x", windows=(Rows(3, within="4d"),), k=2),
        Feature("newest", "last_n", "n", windows=(Rows(3, within="4d"),), k=2),
        Feature("spread", "stddev", "x", windows=("1d", "3d")),
    ),
)  # fmt: skip


def test_windows_of_rows_and_spreads_that_slide_are_folded_as_the_oracle_says(spark: SparkSession) -> None:
    draw, days = random.Random(1), [Interval(MIDNIGHT + n * DAY, MIDNIGHT + (n + 1) * DAY) for n in range(8)]
    events: list[Event] = [
        {
            "meter": draw.choice("ab"), "at": MIDNIGHT + draw.randrange(5 * 24) * DAY / 24, "x": draw.choice([None, 0.25, -0.5, 1024.75]),
            "n": draw.choice([None, -1, 2**40]), "m": draw.choice([None, Decimal("0.1")]), "seen": draw.choice([None, MIDNIGHT]), "nr": nr,
        }
        for nr in range(40)
    ]  # fmt: skip
    with patch.object(windows, "_slid_by_workers", wraps=windows._slid_by_workers) as by_workers:
        [found] = computed(spark, of_rows, events, days)
    assert by_workers.call_count == 1
    assert (
        oracle.differences(
            of_rows, wanted(ColumnTypes(of_rows, {"nr != 7": lambda row: row["nr"] != 7}), events, days), feature_rows(of_rows, found)
        )
        == []
    )
    assert len(found) > 12


def test_a_window_begins_with_its_first_instant_and_ends_before_its_last(values: Mapping[str, Mapping[str, Any]]) -> None:
    assert values["edges"]["x_sum_1d"] == 8.0 + 16.0
    assert values["edges"]["both_2d"] == 2.0 + 4.0 + 8.0 + 16.0


def test_a_closing_row_is_empty_from_its_own_time_on(values: Mapping[str, Mapping[str, Any]]) -> None:
    row = values["closing"]
    assert (row["x_count_1d"], row["both_2d"], row["x_mean_1d"]) == (0, 0.0, None)
    assert row["empties_at"] == row["event_timestamp"] == MIDNIGHT + DAY


def test_what_has_left_a_window_leaves_nothing_behind(spark: SparkSession) -> None:
    quiet = {"at": MIDNIGHT + 3 * DAY, "x": 0.1, "n": 1, "m": Decimal("0.0001"), "seen": None, "nr": 10_000}
    events: list[Event] = []
    for case, readings_of in CASES.items():
        blank = {"meter": case, "at": MIDNIGHT, "x": None, "n": None, "m": None, "seen": None}
        events += [blank | {"nr": number} | reading for number, reading in enumerate(readings_of)] + [{"meter": case} | quiet]
    days = [*split(Interval(MIDNIGHT - DAY, MIDNIGHT + 6 * DAY), DAY)]
    whole, alone = computed(spark, by_hand, events, days, days[4:5])
    expected = wanted(ColumnTypes(by_hand, {}), events, days)
    assert oracle.differences(by_hand, expected, feature_rows(by_hand, whole)) == []
    assert bits(alone) == bits([row for row in whole if row["interval_start"] == days[4].start])
    assert {(row["x_sum_1d"], row["n_sum_1d"], row["m_sum_1d"], row["x_last_1d"]) for row in alone} == {(0.1, 1, Decimal("0.0001"), 0.1)}


def test_there_is_no_row_after_the_closing_one_nor_before_the_first_event(values: Mapping[str, Mapping[str, Any]]) -> None:
    assert not {"closed", "future"} & values.keys()


def test_ties_are_broken_by_arrival_then_id(values: Mapping[str, Mapping[str, Any]]) -> None:
    assert (values["ties by arrival"]["x_first_1d"], values["ties by arrival"]["x_last_1d"]) == (3.0, 1.0)
    assert (values["ties by id"]["x_first_1d"], values["ties by id"]["x_last_1d"]) == (1.0, 2.0)
