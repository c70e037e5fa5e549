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


class TrainingSetOperator(CommandOperator):
    """Build a training set as soon as a day of what was published is published by all of its groups."""

    def __init__(self, *, schedules: Sequence[Schedule], **options: Any) -> None:
        """Keep the groups that it reads."""
        super().__init__(**options)
        self.schedules = tuple(schedules)

    def execute(self, context: Mapping[str, Any]) -> None:
        """Build it, or skip while each of the days lacks a group; a run that a person starts asks for no day."""
        asked = days_told(context["triggering_asset_events"], self.schedules)
        if asked:
            found = self.ledger(Interval(asked[0].start, asked[-1].end))
            lacking = {day: missing for day in asked if (missing := lacks(found, self.schedules, day))}
            for day, missing in lacking.items():
                log.info("%s: not published by %s", day.start.date(), ", ".join(missing))
            if len(lacking) == len(asked):
                newest = asked[-1]
                raise AirflowSkipException(
                    f"{newest.start.date()} is not published yet by {', '.join(lacking[newest])}; it will start this"
                )
            complete = [str(day.start.date()) for day in asked if day not in lacking]
            log.info("published by all groups: %s", ", ".join(complete))
        self.call(*self.arguments)

    def ledger(self, span: Interval) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """The intervals in a span of each group that has times, which the ledger knows."""
        dated = [schedule.group for schedule in self.schedules if not schedule.is_static]
        found = dict[str, list[Mapping[str, Any]]]()
        for each in self.call("status", *dated, *range_of(span), accepted=(DONE, MISTAKE)).document["intervals"] if dated else ():
            found.setdefault(each["group"], []).append(each)
        return found


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
    """The groups that have not published all of a day, or not as it should be now."""
    lacking = []
    for schedule in (each for each in schedules if not each.is_static):
        mine = [each for each in found.get(schedule.group, ()) if day.start <= parse_instant(each["interval_start"]) < day.end]
        ended = max((parse_instant(each["interval_end"]) for each in mine), default=day.start)
        if ended < day.end or any(each["status"] != "OK" for each in mine):
            lacking.append(schedule.group)
    return lacking
