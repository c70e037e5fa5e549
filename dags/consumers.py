"""The tasks of DAGs that begin when groups have published something: the training sets, and the sync.

They follow any publish, not the publishes of one day in all groups: Airflow would keep a run pending for each day of which one group has
published and another has not, for ever after a repair of one group, and looks at no more than 500 pending runs. What is complete the ledger
says, so a repair of one group is followed too.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from airflow.sdk.exceptions import AirflowSkipException

from dags.operators import CommandOperator
from dags.process import DONE, MISTAKE
from dags.schedule import Schedule, range_of
from feature_definitions import layout
from feature_definitions.intervals import DAY, Interval, floor, parse_instant

log = logging.getLogger(__name__)


class FollowOperator(CommandOperator):
    """Run a command that brings all that was published; what a run that waits behind this one will do is left to it."""

    def execute(self, context: Mapping[str, Any]) -> None:
        """Run it, unless another run of the DAG waits."""
        if context["ti"].get_dr_count(dag_id=context["dag_run"].dag_id, states=["queued"]):
            raise AirflowSkipException("another run of this DAG waits, and will do what is left for this one")
        self.call(*self.arguments)


class CompleteOperator(CommandOperator):
    """Let a training set be built as soon as a day of what was published is published by all of its groups."""

    def __init__(self, *, schedules: Sequence[Schedule], **options: Any) -> None:
        """Keep the groups that it reads."""
        super().__init__(**options)
        self.schedules = tuple(schedules)

    def execute(self, context: Mapping[str, Any]) -> None:
        """Skip while each of the days lacks a group, unless a run before has left a complete one to this; a person asks for no day."""
        asked = days_told(context["triggering_asset_events"], self.schedules)
        if not asked:
            return
        found = self.ledger(Interval(asked[0].start, asked[-1].end))
        lacking = {day: missing for day in asked if (missing := lacks(found, self.schedules, day))}
        if lacking:
            newest, groups = list(lacking.items())[-1]
            log.info("%d of %d days are not published by all groups; the newest is %s", len(lacking), len(asked), newest.start.date())
        if len(lacking) < len(asked):
            log.info("published by all groups: %s", ", ".join(str(day.start.date()) for day in asked if day not in lacking))
        elif is_left(context):
            log.info("a run before this one has left a complete day to it")
        else:
            raise AirflowSkipException(f"{newest.start.date()} is not published yet by {', '.join(groups)}, which will start another run")

    def ledger(self, span: Interval) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """The intervals in a span of each group that has times, which the ledger knows."""
        dated = [schedule.group for schedule in self.schedules if not schedule.is_static]
        found = dict[str, list[Mapping[str, Any]]]()
        for each in self.call("status", *dated, *range_of(span), accepted=(DONE, MISTAKE)).document["intervals"] if dated else ():
            found.setdefault(each["group"], []).append(each)
        return found


def is_left(context: Mapping[str, Any]) -> bool:
    """Whether, since the training set was built last, a run that might have built it has left that to a later one."""
    check, build = layout.TRAINING_SET_TASKS
    dag_id, mine = context["dag_run"].dag_id, context["dag_run"].run_id
    states = context["ti"].get_task_states(dag_id=dag_id, task_ids=[check, build])
    left = False
    for run in sorted(states, key=lambda run: run.partition("__")[2]):
        built = states[run].get(build)
        if run != mine and (built == "success" or (built == "skipped" and states[run].get(check) == "success")):
            left = built == "skipped"
    return left


def days_told(events: Mapping[Any, Sequence[Any]], schedules: Sequence[Schedule]) -> list[Interval]:
    """The days (UTC) of the partitions that started a run, the oldest first."""
    by_asset = {layout.group_asset(schedule.group): schedule for schedule in schedules}
    days = set()
    for asset, told in events.items():
        for event in told if asset.name in by_asset else ():
            start = floor(by_asset[asset.name].of_key(event.partition_key).start, DAY)
            days.add(Interval(start, start + DAY))
    return sorted(days, key=lambda day: day.start)


def lacks(found: Mapping[str, Sequence[Mapping[str, Any]]], schedules: Sequence[Schedule], day: Interval) -> list[str]:
    """The groups that have not published all of a day; one that is out of date is published, and will start another run when it is not."""
    lacking = []
    for schedule in (each for each in schedules if not each.is_static):
        mine = [each for each in found.get(schedule.group, ()) if day.start <= parse_instant(each["interval_start"]) < day.end]
        ended = max((parse_instant(each["interval_end"]) for each in mine), default=day.start)
        if ended < day.end or any(each["status"] in ("MISSING", "REJECTED", "WAITING") for each in mine):
            lacking.append(schedule.group)
    return lacking
