"""The page of a training set tells what its manifest holds, to somebody who has nothing but the file."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from expectations import charts
from expectations.report import dataset

SHARES = {"PRESENT": 0.75, "EMPTY": 0.0, "EXPIRED": 0.25, "NOT_FOUND": 0.0, "HELD": 0.0}
PAID = {
    "type": "double", "of": "values", "count": 3, "nulls": 1, "not_finite": 0, "distinct": 2, "mean": 2.5, "sd": 1.5,
    "min": 1.0, "max": 4.0, "quantiles": {"1": 1.0, "5": 1.0, "25": 1.0, "50": 2.0, "75": 4.0, "95": 4.0, "99": 4.0},
}  # fmt: skip
NAME = PAID | {"type": "string", "of": "lengths", "sd": None, "mean": None}
NEVER = PAID | {"count": 0, "nulls": 4, "mean": None, "sd": None, "min": None, "max": None, "quantiles": dict.fromkeys(PAID["quantiles"])}
MANIFEST: dict[str, Any] = {
    "name": "churn", "service": "churn_v1", "version": 2, "mode": "as_known", "built_at": "2026-01-06T12:00:00.5Z", "checksum": "ab" * 32,
    "delta_version": 7, "rows": 4, "columns": {"label": {}, "spend__paid": {}}, "groups": {"spend": {}},
    "leaks": {
        "shift": {"rows": 4, "moved": 0}, "sentences": ["a <b>join</b> of the newest values would have changed it"],
        "naive": {"spend__paid": {"changed": 0.5, "mean_difference": 1.0}},
    },
    "statistics": {
        "joins": {"spend": {"rows": {}, "shares": SHARES, "on_modelled_times": 1.0}},
        "features": {"spend__paid": PAID, "spend__name": NAME, "spend__never": NEVER},
    },
    "split": {"by": "time", "seed": 3, "in_no_part": 1, "parts": [
        {"name": "train", "share": 0.5, "rows": 2, "from": None, "to": "2026-01-04T00:00:00Z"},
        {"name": "test", "share": 0.5, "rows": 1, "from": "2026-01-04T00:00:00Z", "to": None},
    ]},
    "expectations": [{"check": "label:not_null", "severity": "critical", "column": "label", "passed": True, "bad_rows": 0.0, "rows": []}],
    "inputs": [{"table": "features/spend/g1", "version": 3, "version_after": 4}],
    "spine": {"source": "contracts", "first": "2026-01-03T09:00:00Z", "last": "2026-01-05T09:00:00Z", "left_out": 2},
    "label": {"column": "label", "horizon": "30d"},
    "code": {"commit": "0123456789abcdef", "uncommitted": True},
}  # fmt: skip


class _Read(HTMLParser):
    """The words of a page, each tag that begins and does not end, and what it loads."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words, self.open, self.loads = "", list[str](), list[str]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [str(value) for name, value in attrs if name in ("src", "href") or "url(" in str(value)]
        if tag not in ("meta", "rect", "line"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "rect":
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += f" {data}"


def shown(**changes: object) -> _Read:
    return _Read(dataset.page(copy.deepcopy(MANIFEST) | changes))


def words(of: _Read) -> str:
    return " ".join(of.words.split())


def test_a_page_says_what_the_manifest_holds_and_loads_nothing() -> None:
    page = shown()
    for said in (
        "version 7", "service churn_v1 2 · mode as_known · built 2026-01-06T12:00:00Z", "4 rows were computed again", "0 differ",
        "a <b>join</b> of the newest values would have changed it", "75 % 0 % 25 % 0 % 0 % 100 %", "By time, seed 3.",
        "train 2 50 % to 2026-01-04T00:00:00Z", "test 1 25 % from 2026-01-04T00:00:00Z",
        "in no part 1 25 %", "critical label:not_null held 0 bad rows", "features/spend/g1 3 4",
        "The spine is the source contracts, 2026-01-03T09:00:00Z to 2026-01-05T09:00:00Z; 2 rows were left out",
        "The label is label, known after 30d. The catalog is of commit 0123456789ab , with changes",
    ):  # fmt: skip
        assert said in words(page), said
    assert (page.loads, page.open) == ([], [])


def test_no_name_becomes_a_tag() -> None:
    evil = """'><script>document.title = 1</script></td></table><img src=x onerror="document.title = 2">{{ 7 * 7 }}&lt;"""
    text = json.dumps(MANIFEST)
    for name in ("churn", "contracts", "features/spend/g1", "label:not_null", "spend__paid", "test"):
        text = text.replace(f'"{name}"', json.dumps(evil))
    page = _Read(dataset.page(json.loads(text)))
    assert (page.loads, page.open) == ([], [])
    assert page.words.count(evil[:30]) >= 7  # a long one is cut


def test_each_feature_has_its_numbers_and_its_plot() -> None:
    page = dataset.page(MANIFEST)
    rows = dict(re.findall(r"<tr><th>(spend__\w+)</th>(.*?)</tr>", page, re.DOTALL))
    told = {name: re.sub(r"<title>.*?</title>|<[^>]*>", " ", row).split() for name, row in rows.items()}
    assert told["spend__paid"] == ["double", "25", "%", "1", "2", "4", "2.5", "1.5", "2", "50", "%"]
    assert told["spend__never"][:3] == ["double", "100", "%"]
    assert ["density" in row for row in rows.values()] == [True, True, False]


@pytest.mark.parametrize(
    ("changes", "tone"),
    [
        ({}, "ok"),
        ({"rejected": ["label:not_null"]}, "rejected"),
        ({"expectations": [MANIFEST["expectations"][0] | {"passed": False}]}, "warned"),
        ({"leaks": MANIFEST["leaks"] | {"shift": {"rows": 4, "moved": 1}}}, "rejected"),
    ],
)
def test_the_head_has_the_colour_of_the_worst(changes: dict[str, Any], tone: str) -> None:
    assert f'<header class="{tone}">' in dataset.page(MANIFEST | changes)


def test_a_training_set_without_rows_parts_or_expectations_has_a_page() -> None:
    nothing = {"shares": dict.fromkeys(SHARES), "on_modelled_times": None}
    empty = PAID | {
        "count": 0,
        "nulls": 0,
        "mean": None,
        "sd": None,
        "min": None,
        "max": None,
        "quantiles": dict.fromkeys(PAID["quantiles"]),
    }
    page = shown(
        rows=0, split=None, expectations=[], label=None, code={"commit": None, "uncommitted": None},
        statistics={"joins": {"spend": nothing}, "features": {"spend__paid": empty}},
        spine={"source": None, "first": None, "last": None, "left_out": 0},
        leaks={"shift": {"rows": 0, "moved": 0}, "sentences": [], "naive": {}},
    )  # fmt: skip
    for said in ("There are no rows to look at.", "It is not cut into parts.", "Nothing is expected of it.", "The spine was given"):
        assert said in words(page)


def test_a_value_that_many_share_is_a_tall_line_and_far_ends_are_left_out() -> None:
    drawn = charts.density([(0.0, 0.0), (1.0, 0.01), (1.0, 0.5), (3.0, 0.99), (1e6, 1.0)])
    assert re.findall(r"<title>(.*?)</title>", drawn) == ["49 % from 1 to 1", "49 % from 1 to 3"]
    heights = [float(each) for each in re.findall(r'height="([\d.]+)"', drawn)]
    assert heights[0] > 10 * heights[1]
    assert charts.density([(2.0, 0.0), (2.0, 0.5), (2.0, 1.0)]) == charts.density([]) == ""


def test_shares_lie_side_by_side() -> None:
    drawn = charts.shares([("a<b", 0.25), ("c", 0.75)], width=100)
    assert re.findall(r'class="(\w+)" x="([\d.]+)" y="0" width="([\d.]+)"', drawn) == [("part0", "0.0", "25.0"), ("part1", "25.0", "75.0")]
    assert "a&lt;b: 25 %" in drawn
