"""Charts are SVG that stands for itself: one mark per value, in the colour of its verdict, and bounds where they can be seen."""

from xml.etree.ElementTree import Element, fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expectations.charts import Number, Series, number, plot, spark


def series(*values: Number, bad: tuple[int, ...] = (), least: Number = None, most: Number = None) -> Series:
    return Series([f"d{at}" for at in range(len(values))], values, [at in bad for at in range(len(values))], least, most)


def drawn(text: str, kind: str) -> list[Element]:
    """The chart's elements of a kind; the text is well-formed or this fails."""
    return list(fromstring(text).iter(kind))


def test_a_bar_stands_for_each_count_that_is_not_zero() -> None:
    bars = drawn(plot(series(0, 3, 12, bad=(1, 2)), bars=True), "rect")
    assert [(bar.get("class"), bar[0].text) for bar in bars] == [("bad", "d1: 3"), ("bad", "d2: 12")]
    assert float(bars[1].get("height", "")) > 3 * float(bars[0].get("height", ""))


def test_a_line_has_a_dot_per_value_and_a_gap_where_nothing_was_judged() -> None:
    text = plot(series(1.0, 2.0, None, 4.0, 3.0, bad=(3,), most=3.5), bars=False)
    assert [dot.get("class") for dot in drawn(text, "circle")] == ["good", "good", "bad", "good"]
    assert len(drawn(text, "polyline")) == 2


def test_bounds_that_are_far_away_do_not_flatten_the_line() -> None:
    bounds = [line for line in drawn(plot(series(1.0, 2.0, least=0.5, most=1e9), bars=False), "line") if line.get("class") == "bound"]
    assert len(bounds) == 1
    assert "at least 0.5" in plot(series(1.0, 2.0, least=0.5), bars=False)


def test_lines_across_stand_at_round_values() -> None:
    texts = [text.text for text in drawn(plot(series(0.137, 0.941), bars=False), "text")]
    assert texts == ["0.2", "0.4", "0.6", "0.8", "d0", "d1"]


def test_labels_are_escaped() -> None:
    text = plot(Series(["<b>&", "z"], [1.0, 2.0], [False, True]), bars=False)
    assert "<b>" not in text
    assert [dot[0].text for dot in drawn(text, "circle")] == ["<b>&: 1", "z: 2"]


@given(st.lists(st.none() | st.floats(allow_nan=False) | st.integers(0, 5), max_size=5), st.none() | st.floats(-1e9, 1e9), st.booleans())
def test_every_chart_is_well_formed_and_within_its_frame(values: list[Number], most: Number, bars: bool) -> None:
    counts = [None if value is None else abs(value) for value in values] if bars else values
    for dot in drawn(plot(series(*counts, most=most), bars=bars), "circle"):
        assert 0 <= float(dot.get("cx", "")) <= 980
        assert 0 <= float(dot.get("cy", "")) <= 170


def test_a_sparkline_needs_two_values() -> None:
    assert spark([]) == spark([None, 1.0]) == ""
    (line,) = drawn(spark([1.0, None, 2.0, 3.0]), "polyline")
    assert len((line.get("points") or "").split()) == 2


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "–"), (0, "0"), (12345678, "12 345 678"), (0.123456789, "0.12346"), (-2.5, "-2.5"), (123456.7, "123 457"), (1e15, "1.000e+15"),
     (float("inf"), "inf")],
)  # fmt: skip
def test_numbers_are_written_as_a_person_reads_them(value: Number, expected: str) -> None:
    assert number(value) == expected
