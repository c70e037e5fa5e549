"""The report of one run of a group's gate: values in, one HTML page out, which opens without anything else.

What the page tells is decided here; how it looks is in `templates`, where everything is escaped but the charts.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from expectations import charts
from expectations.charts import Number, Series, number
from expectations.profile import QUANTILES, Origin
from expectations.suite import GRAVITY, Check, Verdict
from feature_definitions.intervals import DAY, Interval, iso, parse_instant
from feature_definitions.language import FeatureGroup

SHOWN = 500
"""How many of the newest intervals a plot shows, and at most how many columns of examples a table has."""

_LONGEST = 60
_STATES = {
    "rejected": "kept from readers",
    "held": "published without its bad rows",
    "warned": "published, with a warning",
    "ok": "published",
}


@dataclass(frozen=True, slots=True)
class JudgedRun:
    """What a report is about: the group, the run, its checks, the profile, the verdicts, a few bad rows by check."""

    group: FeatureGroup
    origin: Origin
    checks: Sequence[Check]
    profile: pd.DataFrame
    verdicts: Mapping[str, Verdict]
    examples: Mapping[str, Sequence[Mapping[str, object]]]

    @property
    def ordered(self) -> list[tuple[Interval, Verdict]]:
        """Each interval with its verdict, oldest first."""
        return [(interval, self.verdicts[iso(interval.start)]) for interval in self.origin.intervals]


def page(facts: JudgedRun) -> str:
    """The page: what was judged, each verdict, what did not hold and why, how the columns were, and every check."""
    cells = [_Cell(_label(i), int(n), _state(v), v.broken) for (i, v), n in zip(facts.ordered, facts.profile["rows"], strict=True)]
    states = [cell.state for cell in cells]
    tiles = {"intervals": len(cells), "rows": sum(c.rows for c in cells), "checks": len(facts.checks), "columns": len(facts.group.outputs)}
    return template("page.html").render(
        group=facts.group,
        origin=facts.origin,
        states=_STATES,
        worst=next((state for state in _STATES if state in states), "ok"),
        counts=[(state, states.count(state)) for state in _STATES if state in states],
        tiles=tiles.items(),
        cells=cells,
        cards=list(_cards(facts)),
        columns=_columns(facts),
        checks=_held_in(facts),
        shown=SHOWN,
    )


@cache
def template(name: str) -> Template:
    """A template of a page, which escapes what it is given."""
    places = PackageLoader("expectations.report")
    pages = Environment(loader=places, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pages.filters |= {"exact": "{:.6g}".format, "second": _second, "number": number, "counted": counted, "shortened": _shortened}
    return pages.get_template(name)


def counted(count: int, noun: str) -> str:
    """So many of something whose plural ends in s, as a page shows numbers: `1 row`, `2 000 rows`."""
    return f"{number(count)} {noun}" if count == 1 else f"{number(count)} {noun}s"


def _second(at: datetime | str) -> str:
    """A time, or one that is written out, without parts of a second."""
    return iso((parse_instant(at) if isinstance(at, str) else at).replace(microsecond=0))


def _shortened(value: object) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


# -------------------------------------------------------------------------------------------------------------------- the intervals


@dataclass(frozen=True, slots=True)
class _Cell:
    """An interval as the strip shows it."""

    label: str
    rows: int
    state: str
    broken: Sequence[str]


def _state(verdict: Verdict) -> str:
    return "rejected" if verdict.failed else "held" if verdict.held else "warned" if verdict.warned else "ok"


def _label(interval: Interval) -> str:
    """The interval's date, or its start where there are several a day."""
    return interval.start.date().isoformat() if interval.end - interval.start >= DAY else iso(interval.start)


# ---------------------------------------------------------------------------------------------------------------- what did not hold


@dataclass(frozen=True, slots=True)
class _Card:
    """A check that did not hold: in which intervals, its number of bad rows, its plot, and some of these rows."""

    check: Check
    where: Sequence[str]
    bad_rows: int | None
    plot: str
    names: Sequence[str]
    examples: Sequence[Sequence[object]]


def _cards(facts: JudgedRun) -> Iterator[_Card]:
    """A card for each check that did not hold somewhere, the gravest first."""
    for check in sorted(facts.checks, key=lambda check: GRAVITY.index(check.severity)):
        bad = [check.id in verdict.broken for _, verdict in facts.ordered]
        if any(bad):
            where = [_label(interval) for interval, is_bad in zip(facts.origin.intervals, bad, strict=True) if is_bad]
            rows = int(facts.profile[check.id][bad].sum()) if check.of_rows else None
            examples = facts.examples.get(check.id, ())
            # The column that the check is about comes before the others.
            names = sorted(examples[0], key=lambda name: name != check.column)[:SHOWN] if examples else []
            yield _Card(check, where, rows, _plot(facts, check, bad), names, [[row[name] for name in names] for row in examples])


def _plot(facts: JudgedRun, check: Check, bad: Sequence[bool]) -> str:
    values = _numbers(facts.profile[check.id])
    least, most = check.bounds
    if check.at_least_share is not None:
        rows = _numbers(facts.profile["rows"])
        values = [None if not of or count is None else 1 - count / of for count, of in zip(values, rows, strict=True)]
        least, most = check.at_least_share, None
    newest = slice(-SHOWN, None)
    labels = [_label(interval) for interval in facts.origin.intervals]
    bars = check.of_rows and check.at_least_share is None
    return charts.plot(Series(labels[newest], values[newest], bad[newest], least, None if bars else most), bars=bars)


def _numbers(values: Iterable[object]) -> list[Number]:
    read = (None if value is None else float(str(value)) for value in values)
    return [None if value is None or math.isnan(value) else value for value in read]


# ---------------------------------------------------------------------------------------------------------------------- the columns


@dataclass(frozen=True, slots=True)
class _Columns:
    """A table of what the columns were like in one interval, and how that went over time."""

    label: str
    statistics: Sequence[str]
    rows: Sequence["_Column"]


@dataclass(frozen=True, slots=True)
class _Column:
    """A row of that table: texts, and two charts."""

    name: str
    nulls: str
    nulls_over_time: str
    values: Sequence[str]
    mean_over_time: str


def _columns(facts: JudgedRun) -> _Columns | None:
    """The columns in the newest interval that has rows, if there is one."""
    filled = [at for at, rows in enumerate(facts.profile["rows"]) if rows]
    if not filled:
        return None
    statistics = ("distinct", "min", *QUANTILES, "max", "mean", "stddev")
    rows = [_column(facts, column, filled[-1], statistics) for column in facts.group.outputs]
    return _Columns(_label(facts.origin.intervals[filled[-1]]), statistics, rows)


def _column(facts: JudgedRun, name: str, at: int, statistics: Sequence[str]) -> _Column:
    rows, filled = _numbers(facts.profile["rows"]), _numbers(facts.profile[f"{name}.values"])
    nulls = [None if not of else 1 - (count or 0.0) / of for count, of in zip(filled, rows, strict=True)]
    found = {statistic: _numbers(facts.profile[f"{name}.{statistic}"]) for statistic in statistics}
    values = [number(found[statistic][at]) for statistic in statistics]
    return _Column(name, _share(nulls[at]), charts.spark(nulls[-SHOWN:]), values, charts.spark(found["mean"][-SHOWN:]))


def _share(share: Number) -> str:
    return "–" if share is None else f"{100 * share:.3g} %"


def _held_in(facts: JudgedRun) -> list[tuple[str, str, str]]:
    """Every check with how many of the intervals it held in."""
    total = len(facts.verdicts)
    broken = [check_id for _, verdict in facts.ordered for check_id in verdict.broken]
    return [(check.severity, check.id, f"{total - broken.count(check.id)} of {total}") for check in facts.checks]
