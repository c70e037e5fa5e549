"""The report says of one run what was judged, what came of it, what did not hold, and how the columns were; and needs nothing else."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest

from expectations.profile import Measured, Origin, framed
from expectations.report import SHOWN, JudgedRun, page
from expectations.suite import Check, Verdict
from feature_definitions import Entity, Feature, Source, WindowedGroup
from feature_definitions.intervals import DAY, Interval, iso

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
BAD = Check("x_1d:at_least(0)", "x_1d", "critical", "x_1d < 0 AND '<script>' <> ''", holdable=True)
SHARE = Check("x_1d:not_null(0.9)", "x_1d", "warning", "x_1d IS NULL", at_least_share=0.9)
MEAN = Check("x_1d:mean_between(0, 5)", "x_1d", "info", measure="avg(x_1d)", least=0, most=5)
CHANGE = Check("rows:row_count(change=0.5)", None, "critical", least=-0.5, most=0.5, change=True)
CHECKS = [CHANGE, MEAN, SHARE, BAD]
customer = Entity("customer", keys={"customer_id": "int64"})
payments = Source("payments", columns={"customer_id": "int64", "at": "timestamp", "x": "double"}, event_timestamp="at")
group = WindowedGroup("spend", customer, payments, ttl="2d", owner="<them>", features=(Feature("x", "last", "x", windows=("1d",)),))
VOID = {"meta", "br"}


class Read(HTMLParser):
    """A page's elements and texts; every element that is opened is closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.texts.append(data)

    def strip(self) -> list[tuple[str | None, str | None]]:
        """The cells of the strip: state and title."""
        return [(attrs.get("class"), attrs["title"]) for tag, attrs in self.elements if tag == "i" and "title" in attrs]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


Examples = dict[str, list[dict[str, object]]]


def facts_of(*days: tuple[Measured, Verdict], checks: list[Check], examples: Examples | None = None) -> JudgedRun:
    """The facts of a run over as many days."""
    intervals = tuple(Interval(FIRST + n * DAY, FIRST + (n + 1) * DAY) for n in range(len(days)))
    frame = framed(intervals, dict(zip(intervals, (found for found, _ in days), strict=True)), checks, {"x_1d": "double"})
    verdicts = {iso(interval.start): verdict for interval, (_, verdict) in zip(intervals, days, strict=True)}
    return JudgedRun(group, Origin("spend", 1, "p1", intervals, FIRST), checks, frame, verdicts, examples or {})


def page_of(*days: tuple[Measured, Verdict], examples: Examples | None = None) -> str:
    """The page of a run over as many days."""
    return page(facts_of(*days, checks=CHECKS, examples=examples))


GOOD: Measured = {"rows": 200, "x_1d.values": 150, "x_1d.distinct": 9, "x_1d.mean": 2.5, "x_1d.quantiles": [1.0, 2.0, 3.0, 4.0, 5.0]}


@pytest.fixture(scope="module")
def several() -> str:
    """Four days: good, rejected, held, warned."""
    return page_of(
        (GOOD, Verdict()),
        ({**GOOD, BAD.id: 120, MEAN.id: 7.0}, Verdict(failed=(BAD.id,), noted=(MEAN.id,))),
        ({**GOOD, BAD.id: 1, "x_1d.mean": 3.5}, Verdict(held=(BAD.id,))),
        ({**GOOD, SHARE.id: 50}, Verdict(warned=(SHARE.id,))),
        examples={
            BAD.id: [{"customer_id": 7, "event_timestamp": FIRST, "x_1d": -1.5}, {"customer_id": 8, "event_timestamp": FIRST, "x_1d": None}]
        },
    )


def test_each_interval_is_a_cell_in_the_colour_of_its_verdict(several: str) -> None:
    assert Read(several).strip() == [
        ("ok", "2026-01-01, 200 rows, published"),
        ("rejected", "2026-01-02, 200 rows, kept from readers: x_1d:at_least(0), x_1d:mean_between(0, 5)"),
        ("held", "2026-01-03, 200 rows, published without its bad rows: x_1d:at_least(0)"),
        ("warned", "2026-01-04, 200 rows, published, with a warning: x_1d:not_null(0.9)"),
    ]


def test_one_row_of_one_interval_is_one_row_and_times_have_no_parts_of_a_second() -> None:
    facts = facts_of(({"rows": 1, BAD.id: 1}, Verdict(failed=(BAD.id,))), checks=CHECKS)
    judged = replace(facts, origin=replace(facts.origin, recorded_at=FIRST + timedelta(hours=9, microseconds=250_001)))
    read = Read(page(judged))
    assert "1 bad row in 1 of 1 interval: 2026-01-01" in read.text
    assert "judged 2026-01-01T09:00:00Z" in read.text
    assert read.strip()[0][1] == "2026-01-01, 1 row, kept from readers: x_1d:at_least(0)"


def test_what_did_not_hold_is_told_gravest_first_with_rows_and_intervals(several: str) -> None:
    read = Read(several)
    assert [text for text in read.texts if text in ("critical", "warning", "info")][:3] == ["critical", "warning", "info"]
    assert "121 bad rows in 2 of 4 intervals: 2026-01-02, 2026-01-03" in read.text
    assert "50 bad rows in 1 of 4 intervals: 2026-01-04" in read.text
    assert "A row is bad if x_1d IS NULL (in at most 0.1 of the rows)" in read.text
    assert "avg(x_1d) must be at least 0 and at most 5" in read.text


def test_each_check_that_did_not_hold_has_a_plot(several: str) -> None:
    plots = several.count('<svg class="plot"')
    assert plots == 3
    assert "at least 0.9" in several


def test_bad_rows_are_shown(several: str) -> None:
    assert "x_1d customer_id event_timestamp -1.5 7 2026-01-01 00:00:00+00:00 null 8 2026-01-01 00:00:00+00:00" in Read(several).text


def test_the_columns_are_described_as_they_were_last(several: str) -> None:
    read = Read(several)
    assert "Columns in 2026-01-04" in read.text
    assert "x_1d 25 % 0.25 to 0.25 9 – 1 2 3 4 5 – 2.5 – 2.5 to 3.5" in read.text
    assert several.count('<svg class="spark"') == 2


def test_the_page_needs_nothing_from_elsewhere(several: str) -> None:
    assert not re.search(r"https?:|url\(|@import|<script|<link|<img|\ssrc=|\shref=", several)


def test_what_people_and_data_wrote_is_escaped(several: str) -> None:
    assert "&lt;them&gt;" in several
    assert "&lt;script&gt;" in several
    evil = page_of((GOOD, Verdict(failed=(BAD.id,))), examples={BAD.id: [{"customer_id": "</table><script>", "x_1d": "y" * 99}]})
    assert "&lt;/table&gt;&lt;script&gt;" in evil
    assert "y" * 61 not in evil


def test_hostile_names_and_values_are_texts_and_nothing_else() -> None:
    evil = """</td><script>'" onload="x" & {{ 7 * 7 }}</script>"""

    def read(text: str) -> Read:
        check = replace(BAD, id=f"x_1d:{text}", violation=text)
        facts = facts_of((GOOD, Verdict(failed=(check.id,))), checks=[check], examples={check.id: [{text: text, "x_1d": 1.0}]})
        return Read(page(replace(facts, group=replace(group, owner=text), origin=replace(facts.origin, publish_id=text))))

    hostile, harmless = read(evil), read("zzz")
    assert [(tag, tuple(attrs)) for tag, attrs in hostile.elements] == [(tag, tuple(attrs)) for tag, attrs in harmless.elements]
    assert hostile.strip() == [("rejected", f"2026-01-01, 200 rows, kept from readers: x_1d:{evil}")]
    assert hostile.text == harmless.text.replace("zzz", evil)
    assert hostile.text.count(evil) == 7


def test_a_run_in_which_everything_held_says_so() -> None:
    text = Read(page_of((GOOD, Verdict()), (GOOD, Verdict(noted=())))).text
    assert "2 published generation 1" in text
    assert "Everything held." in text


def test_a_run_without_rows_or_intervals_has_a_page() -> None:
    assert "No interval has rows." in Read(page_of(({}, Verdict()))).text
    assert "nothing was due" in Read(page_of()).text


def test_a_change_of_the_number_of_rows_is_told_in_words() -> None:
    assert (
        "The share by which the number of rows changes must be at least -0.5 and at most 0.5"
        in Read(page_of((GOOD, Verdict()), (GOOD, Verdict(failed=(CHANGE.id,))))).text
    )


def test_of_many_intervals_the_newest_are_plotted() -> None:
    count = SHOWN + 3
    text = page_of(*[({**GOOD, BAD.id: 1}, Verdict(failed=(BAD.id,)))] * count)
    assert text.count('<rect class="bad"') == SHOWN
    assert f"The newest {SHOWN} of {count} intervals." in text
    assert "and 495 more" in text


def test_the_same_facts_give_the_same_page() -> None:
    assert page_of((GOOD, Verdict())) == page_of((GOOD, Verdict()))
