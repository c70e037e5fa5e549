"""What is to be done about intervals that are not as they should be: an example row, where the report lies, what lets others go on."""

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from feature_definitions import layout
from feature_definitions.intervals import Interval, iso
from feature_definitions.planning import plan
from feature_definitions.planning.plan import IntervalStatus
from feature_definitions.planning.upstream import sources_of
from lake import quarantine, storage

if TYPE_CHECKING:
    from feature_registry.planner import Planner

MOST = 5
"""Of so many intervals of a group that are not as they should be something is said, so that a long outage costs a few queries."""


class Advice(NamedTuple):
    """About one interval: a row that is at fault, the report of the run, what to correct, and the command that lets later ones pass.

    `held` is how many rows of a published interval were published without values, `approve` the run that a person is to decide on.
    """

    group: str
    interval: Interval
    example: Mapping[str, Any] | None
    report: str | None
    correct: tuple[str, ...]
    release: str | None
    held: int
    approve: str | None = None


def advise(found: Iterable[IntervalStatus], planner: "Planner", *, lake: str) -> dict[tuple[str, Interval], Advice]:
    """Advice about the first of each group's intervals that are rejected, wait or hold rows, by group and interval. Needs no Spark."""
    given: dict[tuple[str, Interval], Advice] = {}
    for name, some in groupby(found, key=lambda status: status.group):
        group = planner.catalog.tables[name]
        entries, held = planner.state(group).entries, quarantine.rows_of_publishes(name, lake=lake)
        for status in some:
            if sum(each == name for each, _ in given) == MOST:
                break
            entry = entries.get(status.interval)
            rows = held.get((status.interval.start, entry.run_id), 0) if entry is not None else 0
            if status.run is not None:
                shown = _of_run(status, status.run, lake=lake, rows=rows)
                given[name, status.interval] = Advice(name, status.interval, *shown, (), None, rows, status.run)
            elif status.status == plan.WAITING:
                given[name, status.interval] = _of_waiting(status)
            elif status.status == plan.REJECTED and entry is not None:
                sources = tuple(source.name for source in sources_of(group))
                release = _release(name, status.interval) if status.holds else None
                shown = _of_run(status, entry.run_id, lake=lake, rows=rows)
                given[name, status.interval] = Advice(name, status.interval, *shown, sources, release, 0)
            elif entry is not None and rows and status.publish_id is not None:
                shown = _of_run(status, entry.run_id, lake=lake, rows=rows)
                given[name, status.interval] = Advice(name, status.interval, *shown, (), None, rows)
    return given


def _of_run(status: IntervalStatus, run_id: str, *, lake: str, rows: int) -> tuple[Mapping[str, Any] | None, str | None]:
    """A row that a run put aside, if it put any of the interval aside, and the run's report, if it is kept."""
    start, report = status.interval.start, layout.report_file(lake, status.group, f"{run_id}.html")
    example = quarantine.one_of(status.group, lake=lake, publish_id=run_id, start=start) if rows else None
    return example, report if storage.exists(report) else None


def _of_waiting(status: IntervalStatus) -> Advice:
    """Rejected intervals of the group itself may be released; those of others are theirs to correct."""
    mine = [awaited for awaited in status.waits_for if awaited.group == status.group and awaited.status == plan.REJECTED]
    release = _release(status.group, Interval(mine[0].first.start, mine[0].last.end)) if mine else None
    correct = tuple(f"{awaited.group} of {iso(awaited.first.start)}" for awaited in status.waits_for)
    return Advice(status.group, status.interval, None, None, correct, release, 0)


def _release(group: str, span: Interval) -> str:
    return f"headwater release {group} --from {iso(span.start)} --to {iso(span.end)}"
