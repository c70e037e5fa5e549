"""What the ledger says of the intervals of a run, as one word that decides its colour and one line that a person reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dags.schedule import Schedule, range_of
from feature_definitions import layout
from feature_definitions.intervals import Interval, parse_instant

State = Literal["rejected", "approval", "waiting", "missing", "stale", "published", "nothing"]

_STATES: Mapping[str, State] = {
    "REJECTED": "rejected",
    "WAITING": "waiting",
    "MISSING": "missing",
    "STALE(data)": "stale",
    "STALE(code)": "stale",
    "OK": "published",
}
DUE = tuple(status for status, state in _STATES.items() if state in ("missing", "stale"))
"""What a run computes."""
_WORST = ("rejected", "approval", "waiting", "missing", "stale", "published")
"""A run covers several intervals where cron cannot say their cadence: then the worst one is what it is called."""
_SAID: Mapping[State, str] = {
    "rejected": "the gate rejected it",
    "approval": "a person is to decide",
    "waiting": "it waits",
    "missing": "it is not published",
    "stale": "it is out of date",
}


@dataclass(frozen=True, slots=True)
class Day:
    """What the ledger says of a run's intervals: `line` says of the worst what is wrong, an example, the report, the fix.

    `passes`: what it waits for is on its way, in other runs, so that it is worth to look again. `rows`, `version` and `warnings` are
    of what is published, `run` is the one that a person is to decide on.
    """

    state: State
    line: str
    passes: bool = False
    rows: int = 0
    version: int | None = None
    warnings: tuple[str, ...] = ()
    run: str | None = None


def judged(group: str, intervals: Sequence[Mapping[str, Any]], *, named: str) -> Day:
    """What the ledger's `intervals` of a group are together; `named` is how the run's interval is called."""
    if not intervals:
        return Day("nothing", f"{group} has nothing to publish of {named}: its source begins later, or holds nothing yet")
    worst = min(intervals, key=lambda each: _WORST.index(_state(each)))
    state = _state(worst)
    if state == "published":
        return _published(group, intervals, named=named)
    waits = worst["waits_for"]
    passes = state == "waiting" and all(each["group"] != group and each["status"] != "REJECTED" for each in waits)
    why = "; ".join(worst["reasons"])
    others = f" (and {len(intervals) - 1} others are looked at)" if len(intervals) > 1 else ""
    line = f"{group} {named}: {_SAID[state]}: {why}{_advice(group, worst)}{others}"
    return Day(state, line, passes=passes, run=worst["run"] if state == "approval" else None)


def _state(interval: Mapping[str, Any]) -> State:
    """What an interval of the ledger is called here."""
    return "approval" if interval["run"] is not None else _STATES[interval["status"]]


def inside(intervals: Sequence[Mapping[str, Any]], span: Interval) -> list[Mapping[str, Any]]:
    """Those of the ledger's intervals that lie in a span."""
    return [
        each
        for each in intervals
        if span.start <= parse_instant(each["interval_start"]) and parse_instant(each["interval_end"]) <= span.end
    ]


def _published(group: str, intervals: Sequence[Mapping[str, Any]], *, named: str) -> Day:
    rows, version = sum(each["rows"] or 0 for each in intervals), max((each["delta_version"] or 0 for each in intervals), default=None)
    held = sum(each["advice"]["held"] for each in intervals if "advice" in each)
    warnings = tuple(reason for each in intervals for reason in each["reasons"])
    warnings += (f"{held:,} {'row is' if held == 1 else 'rows are'} held: published without values",) if held else ()
    flagged = f"; look at it: {'; '.join(warnings)}" if warnings else ""
    advice = "; ".join(each["advice"]["sentence"] for each in intervals if each.get("advice", {}).get("sentence"))
    line = f"{group} {named} is published: {rows:,} rows{flagged}{f'; {advice}' if advice else ''}"
    return Day("published", line, rows=rows, version=version, warnings=warnings)


def _advice(group: str, worst: Mapping[str, Any]) -> str:
    """What to do, after what is wrong: every fix ends with clearing the red tasks, which ingests again."""
    given = worst.get("advice")
    if worst["run"] is not None:
        return "" if given is None else f"; {given['sentence']}"
    if worst["status"] in ("REJECTED", "WAITING") and given is not None:
        return f"; {given['sentence']}; then clear the red tasks of this run, which ingests again"
    span = f"--from {worst['interval_start']} --to {worst['interval_end']}"
    return f"; clear the red tasks of this run, or run: headwater materialize {group} {span}"


def due(intervals: Sequence[Mapping[str, Any]], schedule: Schedule) -> Interval | None:
    """From the first to the last interval that runs should have computed; None if there is none.

    These are what is missing after the group's first published one, and what late events changed as far back as the group restates them;
    the newest is its own run's. What a changed definition made out of date is a person's to start: it may be all of history.
    """
    settled = intervals if schedule.is_static else intervals[:-1]
    published = [each["interval_start"] for each in settled if each["publish_id"] is not None]
    if not published:
        return None
    oldest = parse_instant(intervals[-1]["interval_end"]) - schedule.restate_within
    late = [
        each
        for each in settled
        if (each["status"] == "MISSING" and each["interval_start"] > published[0])
        or (each["status"] == "STALE(data)" and (schedule.is_static or parse_instant(each["interval_end"]) >= oldest))
    ]
    return _span(late) if late else None


def lacking(intervals: Sequence[Mapping[str, Any]], schedule: Schedule) -> list[str]:
    """A line for each status in which intervals of a group are that should be published, the newest one left out."""
    lines = []
    for status in sorted({each["status"] for each in intervals[:-1]} - {"OK"}):
        mine = [each for each in intervals[:-1] if each["status"] == status]
        span = _span(mine)
        what = f"{schedule.group}: {len(mine)} of {len(intervals)} intervals are {status}, in {schedule.named(span)}"
        words = " ".join(range_of(schedule.asked(span)))
        fix = f"start {layout.RANGE_DAG} for them, or run: headwater materialize {schedule.group} {words}"
        lines.append(f"{what}; {fix}" if status in DUE else f"{what}; the first: {'; '.join(mine[0]['reasons'])}")
    return lines


def _span(intervals: Sequence[Mapping[str, Any]]) -> Interval:
    return Interval(parse_instant(intervals[0]["interval_start"]), parse_instant(intervals[-1]["interval_end"]))
