"""The report of one run of a group's gate: values in, one HTML page out, which opens without anything else."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import pandas as pd

from expectations import charts
from expectations.charts import Number, Series, number
from expectations.profile import QUANTILES, Origin
from expectations.suite import Check, Verdict
from feature_definitions.intervals import DAY, Interval, iso
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
_GRAVEST = ("critical", "warning", "info")


@dataclass(frozen=True, slots=True)
class Facts:
    """What a report tells: the group, what the run was, its checks, the profile, the verdicts by interval, a few bad rows by check."""

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


def page(facts: Facts) -> str:
    """The page: what was judged, each interval's verdict, what did not hold and why, how the columns were, and every check."""
    group = escape(facts.group.name)
    parts = [_head(facts), _strip(facts), *_broken(facts), _columns(facts), _all_checks(facts)]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{group}: gate</title><style>{_STYLE}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _state(verdict: Verdict) -> str:
    return "rejected" if verdict.failed else "held" if verdict.held else "warned" if verdict.warned else "ok"


# ------------------------------------------------------------------------------------------------------------------------- the head


def _head(facts: Facts) -> str:
    states = [_state(verdict) for _, verdict in facts.ordered]
    rows = int(facts.profile["rows"].sum())
    worst = next((state for state in _STATES if state in states), "ok")
    counts = [(state, states.count(state)) for state in _STATES if states.count(state)]
    said = ", ".join(f"{count} {_STATES[state]}" for state, count in counts) or "nothing was due"
    owner = f" · {escape(facts.group.owner)}" if facts.group.owner else ""
    run = f"judged {iso(facts.origin.recorded_at)} · <code>{escape(facts.origin.publish_id)}</code>"
    tiles = [("intervals", len(states)), ("rows", rows), ("checks", len(facts.checks)), ("columns", len(facts.group.outputs))]
    return (
        f'<header class="{worst}"><h1>{escape(facts.group.name)}</h1><p class="verdict">{said}</p>'
        f"<p>generation {facts.origin.generation}{owner} · {run}</p>"
        f"<dl>{''.join(f'<div><dt>{name}</dt><dd>{number(value)}</dd></div>' for name, value in tiles)}</dl></header>"
    )


def _strip(facts: Facts) -> str:
    cells = []
    for (interval, verdict), rows in zip(facts.ordered, facts.profile["rows"], strict=True):
        state = _state(verdict)
        broken = f": {', '.join(verdict.broken)}" if verdict.broken else ""
        cells.append(f'<i class="{state}" title="{escape(f"{_label(interval)}, {rows} rows, {_STATES[state]}{broken}")}"></i>')
    first, last = (_label(facts.origin.intervals[end]) if facts.origin.intervals else "" for end in (0, -1))
    legend = "".join(f'<span><i class="{state}"></i> {said}</span>' for state, said in _STATES.items())
    return (
        f'<section><h2>Intervals</h2><div class="strip" style="--wide: {min(max(len(cells), 30), 100)}">{"".join(cells)}</div>'
        f'<p class="ends"><span>{first}</span><span>{last}</span></p><p class="legend">{legend}</p></section>'
    )


def _label(interval: Interval) -> str:
    """The interval's date, or its start where there are several a day."""
    return interval.start.date().isoformat() if interval.end - interval.start >= DAY else iso(interval.start)


# ---------------------------------------------------------------------------------------------------------------- what did not hold


def _broken(facts: Facts) -> Iterator[str]:
    """A card for each check that did not hold somewhere, the gravest first."""
    broken = {check_id for _, verdict in facts.ordered for check_id in verdict.broken}
    found = sorted((check for check in facts.checks if check.id in broken), key=lambda check: _GRAVEST.index(check.severity))
    if not found:
        yield "<section><h2>What did not hold</h2><p>Everything held.</p></section>"
        return
    yield "<section><h2>What did not hold</h2>"
    yield from (_card(facts, check) for check in found)
    yield "</section>"


def _card(facts: Facts, check: Check) -> str:
    bad = [check.id in verdict.broken for _, verdict in facts.ordered]
    where = [interval for interval, is_bad in zip(facts.origin.intervals, bad, strict=True) if is_bad]
    named = ", ".join(_label(interval) for interval in where[:8]) + (f" and {len(where) - 8} more" if len(where) > 8 else "")
    said = f"in {len(where)} of {len(bad)} intervals: {named}"
    if check.of_rows:
        rows = sum(int(count) for count, is_bad in zip(facts.profile[check.id], bad, strict=True) if is_bad)
        said = f"{number(rows)} bad rows {said}"
    return (
        f'<article><h3><b class="{check.severity}">{check.severity}</b> <code>{escape(check.id)}</code></h3><p>{said}</p>'
        f'<p class="caption">{_measured(check)}</p>{_plot(facts, check, bad)}'
        f'<p class="rule">{_rule(check)}</p>{_examples(facts.examples.get(check.id, ()), first=check.column)}</article>'
    )


def _measured(check: Check) -> str:
    if check.of_rows:
        return "bad rows per interval" if check.at_least_share is None else "share of the rows that are good, per interval"
    return "change of the number of rows against the interval before" if check.change else "measured per interval"


def _rule(check: Check) -> str:
    if check.of_rows:
        share = "" if check.at_least_share is None else f" (in at most {1 - check.at_least_share:.6g} of the rows)"
        return f"A row is bad if <code>{escape(check.violation)}</code>{share}"
    bounds = " and ".join(f"{said} {number(b)}" for said, b in (("at least", check.least), ("at most", check.most)) if b is not None)
    what = "The share by which the number of rows changes" if check.change else f"<code>{escape(check.measure)}</code>"
    return f"{what} must be {bounds}"


def _plot(facts: Facts, check: Check, bad: Sequence[bool]) -> str:
    values = _numbers(facts.profile[check.id])
    least, most = check.bounds
    if check.at_least_share is not None:
        rows = _numbers(facts.profile["rows"])
        values = [None if not of or count is None else 1 - count / of for count, of in zip(values, rows, strict=True)]
        least, most = check.at_least_share, None
    newest = slice(-SHOWN, None)
    labels = [_label(interval) for interval in facts.origin.intervals]
    bars = check.of_rows and check.at_least_share is None
    series = Series(labels[newest], values[newest], bad[newest], least, None if bars else most)
    cut = f"<p>The newest {SHOWN} of {len(labels)} intervals.</p>" if len(labels) > SHOWN else ""
    return charts.plot(series, bars=bars) + cut


def _numbers(values: Iterable[object]) -> list[Number]:
    read = (None if value is None else float(str(value)) for value in values)
    return [None if value is None or math.isnan(value) else value for value in read]


def _examples(rows: Sequence[Mapping[str, object]], *, first: str | None) -> str:
    """The rows with the column that the check is about before the others."""
    if not rows:
        return ""
    names = sorted(rows[0], key=lambda name: name != first)[:SHOWN]
    shown = _table(names, [[row[name] for name in names] for row in rows])
    return f"<details open><summary>Bad rows ({len(rows)} shown)</summary>{shown}</details>"


def _table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(value: object) -> str:
    if value is None:
        return '<span class="null">null</span>'
    said = str(value)
    return escape(said if len(said) <= _LONGEST else f"{said[:_LONGEST]}…")


# ---------------------------------------------------------------------------------------------------------------------- the columns


def _columns(facts: Facts) -> str:
    """What the columns were like in the newest interval that has rows, and how that went over time."""
    filled = [at for at, rows in enumerate(facts.profile["rows"]) if rows]
    if not filled:
        return "<section><h2>Columns</h2><p>No interval has rows.</p></section>"
    at = filled[-1]
    statistics = ("min", *QUANTILES, "max", "mean", "stddev")
    head = ("column", "nulls", "over time", "distinct", *statistics, "mean over time")
    rows = "".join(_column(facts, column, at, statistics) for column in facts.group.outputs)
    return (
        f"<section><h2>Columns in {_label(facts.origin.intervals[at])}</h2>"
        f'<div class="wide"><table class="profile"><thead><tr>{"".join(f"<th>{name}</th>" for name in head)}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _column(facts: Facts, column: str, at: int, statistics: Sequence[str]) -> str:
    rows, filled = _numbers(facts.profile["rows"]), _numbers(facts.profile[f"{column}.values"])
    nulls = [None if not of else 1 - (count or 0.0) / of for count, of in zip(filled, rows, strict=True)]
    found = [_numbers(facts.profile[f"{column}.{statistic}"]) for statistic in ("distinct", *statistics)]
    cells = [_share(nulls[at]), charts.spark(nulls[-SHOWN:]), *(number(values[at]) for values in found)]
    trend = charts.spark(_numbers(facts.profile[f"{column}.mean"])[-SHOWN:])
    return f"<tr><th>{escape(column)}</th>{''.join(f'<td>{cell}</td>' for cell in (*cells, trend))}</tr>"


def _share(share: Number) -> str:
    return "–" if share is None else f"{100 * share:.3g} %"


def _all_checks(facts: Facts) -> str:
    total = len(facts.verdicts)
    broken = [check_id for _, verdict in facts.ordered for check_id in verdict.broken]
    rows = [(check.severity, check.id, f"{total - broken.count(check.id)} of {total}") for check in facts.checks]
    return (
        f"<section><details><summary>All {len(rows)} checks</summary>{_table(('severity', 'check', 'held in'), rows)}</details></section>"
    )


_STYLE = """
:root { color-scheme: light dark; --ground: #fff; --card: #f6f7f9; --text: #1c2128; --soft: #667080; --edge: #dfe3e8;
  --ok: #2f9e61; --warned: #d99a00; --held: #7a5cd6; --rejected: #d1383d; --line: #3b74c4; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171c; --card: #1d2128; --text: #e4e8ee; --soft: #97a1b0; --edge: #313742;
  --ok: #3fb777; --warned: #e3ad2e; --held: #9c82f0; --rejected: #ef5f62; --line: #6da1ea; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1160px; padding: 24px; background: var(--ground); color: var(--text);
  font: 14px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { margin: 0; font-size: 24px; } h2 { margin: 32px 0 10px; font-size: 16px; } h3 { margin: 0; font-size: 14px; font-weight: 500; }
p { margin: 4px 0; } code { font: 12.5px/1.4 ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
header { border-left: 6px solid var(--ok); padding: 4px 0 4px 18px; }
header.warned { border-color: var(--warned); } header.held { border-color: var(--held); } header.rejected { border-color: var(--rejected); }
.verdict { font-size: 17px; } header p:not(.verdict), .ends, .legend, .caption, .rule { color: var(--soft); }
dl { display: flex; gap: 36px; margin: 12px 0 0; } dt { color: var(--soft); font-size: 12px; }
dd { margin: 0; font-size: 20px; font-variant-numeric: tabular-nums; }
.strip { display: grid; grid-template-columns: repeat(var(--wide), 1fr); gap: 2px; }
.strip i { height: 22px; border-radius: 2px; } i.ok { background: var(--ok); } i.warned { background: var(--warned); }
i.held { background: var(--held); } i.rejected { background: var(--rejected); }
.ends { display: flex; justify-content: space-between; font-size: 12px; }
.legend span { margin-right: 18px; } .legend i { display: inline-block; width: 10px; height: 10px; border-radius: 2px; }
article { background: var(--card); border: 1px solid var(--edge); border-radius: 8px; padding: 14px 16px; margin: 12px 0; }
article b { display: inline-block; border-radius: 4px; padding: 0 7px; margin-right: 6px; font-size: 12px; color: #fff;
  background: var(--soft); }
article b.critical { background: var(--rejected); } article b.warning { background: var(--warned); color: #1c1400; }
.caption { margin-top: 10px; font-size: 12px; }
svg.plot { display: block; width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
.grid { stroke: var(--edge); }
.bound { stroke: var(--rejected); stroke-dasharray: 5 4; } text.bound { stroke: none; fill: var(--rejected); }
.line { fill: none; stroke: var(--line); stroke-width: 1.5; } .good { fill: var(--line); } .bad { fill: var(--rejected); }
svg.spark { width: 96px; height: 20px; vertical-align: middle; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 12.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 10px 4px 0; text-align: left; border-bottom: 1px solid var(--edge); white-space: nowrap; }
thead th { color: var(--soft); font-weight: 500; } tbody th { font-weight: 500; }
table.profile td, table.profile thead th:not(:first-child) { text-align: right; padding: 4px 0 4px 12px; }
.null { color: var(--soft); font-style: italic; } summary { cursor: pointer; margin: 8px 0; }
"""
