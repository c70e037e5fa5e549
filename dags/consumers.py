"""The tasks of DAGs that begin when groups have published something: the training sets, and the sync.

They follow any publish, not the publishes of one day in all groups: Airflow would keep a run pending for each day of which one group has
published and another has not, for ever after a repair of one group, and looks at no more than 500 pending runs. What is complete the ledger
says, so a repair of one group is followed too. Many publishes queue many runs, of which the last one does the work of all.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any

from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowSkipException, DownstreamTasksSkipped

from dags.operators import CommandOperator
from dags.process import DONE, MISTAKE
from dags.schedule import Schedule, range_of
from feature_definitions import layout
from feature_definitions.intervals import DAY, EPOCH, Interval, floor, parse_instant

LEFT = "another run of this DAG waits, and will do what is left for this one"
_DONE = (("success", "success"), ("skipped", "skipped"))
"""What became of the tasks of a run that left nothing to a later one: it has built, or no day was complete."""
_BY_EVENTS = "asset_triggered"
_SLACK = timedelta(minutes=1)
"""An event is as much older, at most, than the run made before it was seen."""

log = logging.getLogger(__name__)


class FollowOperator(CommandOperator):
    """Run a command that brings all that was published; what a run that waits behind this one will do is left to it."""

    def execute(self, context: Mapping[str, Any]) -> None:
        """Run it, unless another run of the DAG waits."""
        if is_followed(context):
            raise AirflowSkipException(LEFT)
        self.call(*self.arguments)


class CompleteOperator(CommandOperator):
    """Let a training set be built as soon as a day of what was published is published by all of its groups."""

    def __init__(self, *, schedules: Sequence[Schedule], assets: Sequence[Asset], **options: Any) -> None:
        """Keep the groups that it reads, and their assets."""
        super().__init__(inlets=list(assets), **options)
        self.schedules = tuple(schedules)

    def execute(self, context: Mapping[str, Any]) -> None:
        """Skip while each of the days lacks a group; a person asks for no day. Where another run waits, it looks at this one's days too."""
        events = [event for told in context["triggering_asset_events"].values() for event in told]
        left, since = left_by_others(context)
        if not events or any(not run.startswith(_BY_EVENTS) for run in left):
            return
        if is_followed(context):
            log.info("%s", LEFT)
            raise DownstreamTasksSkipped(tasks=[layout.TRAINING_SET_TASKS[1]])
        if left:
            events += [event for asset in self.inlets for event in context["inlet_events"][asset].after(since)]
        if asked := days_told(events, self.schedules):
            self.look(asked)

    def look(self, asked: Sequence[Interval]) -> None:
        """Skip what follows while each of the days that are asked about, the oldest first, lacks a group."""
        found = self.ledger(Interval(asked[0].start, asked[-1].end))
        lacking = {day: missing for day in asked if (missing := lacks(found, self.schedules, day))}
        if lacking:
            newest, groups = list(lacking.items())[-1]
            log.info("%d of %d days are not published by all groups; the newest is %s", len(lacking), len(asked), newest.start.date())
        if len(lacking) == len(asked):
            raise AirflowSkipException(f"{newest.start.date()} is not published yet by {', '.join(groups)}, which will start another run")
        log.info("published by all groups: %s", ", ".join(str(day.start.date()) for day in asked if day not in lacking))

    def ledger(self, span: Interval) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """The intervals in a span of each group that has times, which the ledger knows."""
        dated = [schedule.group for schedule in self.schedules if not schedule.is_static]
        found = dict[str, list[Mapping[str, Any]]]()
        for each in self.call("status", *dated, *range_of(span), accepted=(DONE, MISTAKE)).document["intervals"] if dated else ():
            found.setdefault(each["group"], []).append(each)
        return found


def is_followed(context: Mapping[str, Any]) -> bool:
    """Whether another run of the DAG waits behind this one."""
    return bool(context["ti"].get_dr_count(dag_id=context["dag_run"].dag_id, states=["queued"]))


def left_by_others(context: Mapping[str, Any]) -> tuple[list[str], str | None]:
    """The newest runs, which left their days to this one, or failed; and since when what started them was told.

    They may have been made after this one, where a person has cleared it.
    """
    states = context["ti"].get_task_states(dag_id=context["dag_run"].dag_id, task_ids=list(layout.TRAINING_SET_TASKS))
    others = sorted(states.keys() - {context["dag_run"].run_id}, key=_made, reverse=True)
    left = list(takewhile(lambda run: tuple(map(states[run].get, layout.TRAINING_SET_TASKS)) not in _DONE, others))
    return left, (_made(others[len(left)]) - _SLACK).isoformat() if len(left) < len(others) else None


def _made(run_id: str) -> datetime:
    """When Airflow made a run, which the id says that it gave it; long ago where a person gave the id."""
    try:
        return parse_instant(run_id.partition("__")[2].partition("_")[0])
    except ValueError:
        return EPOCH


def days_told(events: Iterable[Any], schedules: Sequence[Schedule]) -> list[Interval]:
    """The days (UTC) of the partitions that were told of, the oldest first."""
    by_asset = {layout.group_asset(schedule.group): schedule for schedule in schedules}
    told = [(by_asset[event.asset.name], event.partition_key) for event in events if event.asset.name in by_asset and event.partition_key]
    return [Interval(start, start + DAY) for start in sorted({floor(schedule.of_key(key).start, DAY) for schedule, key in told})]


def lacks(found: Mapping[str, Sequence[Mapping[str, Any]]], schedules: Sequence[Schedule], day: Interval) -> list[str]:
    """The groups that have not published all of a day; one that is out of date is published, and will start another run when it is not."""
    lacking = []
    for schedule in (each for each in schedules if not each.is_static):
        mine = [each for each in found.get(schedule.group, ()) if day.start <= parse_instant(each["interval_start"]) < day.end]
        ended = max((parse_instant(each["interval_end"]) for each in mine), default=day.start)
        if ended < day.end or any(each["status"] in ("MISSING", "REJECTED", "WAITING") for each in mine):
            lacking.append(schedule.group)
    return lacking
