"""The tasks of our DAGs: each runs the `headwater` command, or asks it for the ledger, and tells Airflow what that means.

A group's run is of one day (or hour, or five minutes): its *data day*. `ingest` brings what is new in the sources and computes, judges and
publishes what is due, in one process that starts Java once. All tasks after it read the ledger: `materialize` is green if the day
was computed as it should be and red if the gate rejected it; `restate` tells of earlier days, `warnings` of what a person should look at;
`publish` says the truth about the data day, whatever went on before, and so gives the run its colour. A red task that is cleared does
what is to be done, beginning with ingest; so "clear only failed" is all that a corrected file needs. A run whose day another run of its
backfill has published ends at its first task that sees it: a process of Airflow's and one of ours, in place of as many as there are tasks.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.sdk import Asset, BaseOperator
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
    DownstreamTasksSkipped,
)

from dags.alerts import tell_of_red
from dags.day import DUE, Day, inside, judged
from dags.process import DONE, REJECTED, Ended, Running
from dags.schedule import KeyRefused, Schedule, range_of
from dags.siblings import MOST, adjacent, has_ended, is_done
from feature_definitions import layout
from feature_definitions.intervals import Interval, iso, parse_instant

Late = Literal["its own day", "until now"]
"""What a scheduled run computes that begins when later days are due already."""

LOOK_AGAIN, GIVE_UP = timedelta(seconds=10), timedelta(hours=6)
"""A day that waits for days of other groups, which other runs are at, is looked at again so often, and for so long.

One that has waited for long, maybe for a person, is looked at more seldom: after a tenth of the time that it has waited.
"""

CANCELLED = "this run was cancelled, so that its later tasks stay skipped; clear the whole run, not its failed tasks alone"

log = logging.getLogger(__name__)


def say_last(context: Mapping[str, Any]) -> None:
    """End a red task's log with the one line that says what is wrong, below Python's account of it and outside of folded groups."""
    log.info("::endgroup::")
    log.error("%s", context.get("exception"))


class CommandOperator(BaseOperator):  # type: ignore[misc]  # mypy does not follow airflow
    """Run `headwater` with these arguments, without a shell. Only exit code 1 is worth a retry."""

    def __init__(self, *, project: Path, arguments: Sequence[str] = (), **options: Any) -> None:
        """Keep what to run."""
        super().__init__(on_failure_callback=[tell_of_red, say_last], on_retry_callback=say_last, **options)
        self.project, self.arguments = str(project), tuple(arguments)
        self.running = Running(self.project)

    def execute(self, context: Mapping[str, Any]) -> None:  # noqa: ARG002  # it depends on no run
        """Run the command; what it says goes to the task's log."""
        self.call(*self.arguments)

    def call(self, *arguments: str, accepted: Sequence[int] = (DONE,)) -> Ended:
        """Run `headwater` in the project, and raise what Airflow should do about a failure."""
        ended = self.running.run(*arguments)
        if ended.code not in accepted:
            raise ended.failure
        return ended

    def refuse_half(self, context: Mapping[str, Any]) -> None:
        """Fail where a run was cancelled and its failed tasks alone are cleared: `publish` stays skipped, so nobody would hear of a day."""
        run = context["dag_run"]
        if not is_repeated(context):
            return
        states = context["ti"].get_task_states(dag_id=run.dag_id, task_ids=[layout.PUBLISH_TASK], run_ids=[run.run_id])
        if states.get(run.run_id, {}).get(layout.PUBLISH_TASK) == "skipped":
            raise AirflowFailException(CANCELLED)

    def on_kill(self) -> None:
        """End the command with its task."""
        self.running.end()


class OfDay(CommandOperator):
    """A task of a group's run, about its data day."""

    def __init__(self, *, schedule: Schedule, asset: Asset, **options: Any) -> None:
        """Keep whose day it is, and what is told of where it is published."""
        super().__init__(**options)
        self.group_schedule, self.asset = schedule, asset

    def ledger(self, span: Interval) -> Sequence[Mapping[str, Any]]:
        """The intervals of the group in a span, as the ledger knows them."""
        return self.running.status(self.group_schedule.group, self.group_schedule.asked(span))

    def day(self, span: Interval, found: Sequence[Mapping[str, Any]] | None = None) -> Day:
        """What the ledger says of a span of the group; it is said in the log too."""
        schedule = self.group_schedule
        day = judged(schedule.group, self.ledger(span) if found is None else found, named=schedule.named(span))
        log.info("%s", day.line)
        return day

    def make(self, span: Interval, *, within: str = "range") -> Ended:
        """Ingest what is new, and compute, judge and publish what is due of a span, in one process; what the gate says is in the ledger."""
        schedule = self.group_schedule
        words = ("materialize", schedule.group, "--ingest", "--within", within, *range_of(schedule.asked(span)))
        return self.call(*words, accepted=(DONE, REJECTED))

    def tell(self, day: Day, span: Interval, context: Mapping[str, Any]) -> None:
        """Tell Airflow of a day that is published, as the partition of the run."""
        self.outlets = [self.asset]
        event = context["outlet_events"][self.asset]
        event.extra = {"rows": day.rows, "delta_version": day.version, "verdict": "warned" if day.warnings else "passed"}
        if context["dag_run"].partition_key is None:
            event.add_partitions([self.group_schedule.key(span)])

    def end_beside(self, context: Mapping[str, Any]) -> None:
        """End the run here, green, if another run of its backfill has published its day since it was made."""
        if context["dag_run"].run_type != "backfill" or not has_ended(context):
            return
        span = span_of(context, self.group_schedule)
        found = self.ledger(span)
        if is_done(found, context["ti"].id):
            self.tell(self.day(span, found), span, context)
            log.info("another run of this backfill has computed it, so that nothing is left to do")
            raise DownstreamTasksSkipped(tasks=sorted(self.get_flat_relative_ids()))


class WaitOperator(OfDay):
    """Wait, without a worker, until the source has all of the run's interval, and the groups that are read have published theirs."""

    def execute(self, context: Mapping[str, Any]) -> None:
        """Go on at once when that time has passed, else let the triggerer wait for it."""
        schedule, interval = self.group_schedule, span_of(context, self.group_schedule)
        sealed = schedule.sealed_at(interval)
        log.info("%s is sealed at %s", schedule.named(interval), iso(sealed))
        if sealed > datetime.now(UTC):
            trigger = DateTimeTrigger(moment=sealed, end_from_trigger=not schedule.reads)
            self.defer(trigger=trigger, method_name="execute_complete")
        self.execute_complete(context)

    def execute_complete(self, context: Mapping[str, Any], event: object = None) -> None:  # noqa: ARG002  # as Airflow calls it
        """Look at the groups that are read, which other runs publish. What another run of a backfill has done is not done again."""
        self.end_beside(context)
        if self.group_schedule.reads:
            day = self.day(span_of(context, self.group_schedule))
            look_again(replace(day, passes=True) if day.state == "nothing" and self.is_read_at_work(context) else day, context)

    def is_read_at_work(self, context: Mapping[str, Any]) -> bool:
        """Whether runs of a group that is read are at work: before its source was ever ingested the ledger knows of no interval."""
        count = context["ti"].get_dr_count
        return any(count(dag_id=layout.group_dag(name), states=["queued", "running"]) for name in self.group_schedule.reads)


class IngestOperator(OfDay):
    """Ingest what a group reads, and go on to compute, judge and publish: one process a run.

    A row or a file that cannot be taken costs itself alone; a source that cannot be read stops its group. Days of a backfill that lie
    side by side are computed by the first of their runs, in one Spark job; the others find nothing left to do. So are the days of an
    outage, where Airflow makes up for each with a run.
    """

    def __init__(self, *, late: Late = "its own day", **options: Any) -> None:
        """Keep what a scheduled run computes that begins when later days are due already."""
        super().__init__(**options)
        self.late = late

    def execute(self, context: Mapping[str, Any]) -> None:
        """Do what is due. A run that has nothing to restate says so by a task that is skipped."""
        self.refuse_half(context)
        schedule, run = self.group_schedule, context["dag_run"]
        span = span_of(context, schedule)
        if run.run_type == "scheduled":
            self.make(self.until_now(schedule.restated(span), context), within="restate")
            return
        self.end_beside(context)
        wide = adjacent(context, schedule, span) if run.run_type == "backfill" else span
        if wide != span:
            log.info("this run computes %s, the days of the backfill that lie side by side", schedule.named(wide))
        self.make(wide)
        raise DownstreamTasksSkipped(tasks=[layout.RESTATE_TASK])

    def until_now(self, span: Interval, context: Mapping[str, Any]) -> Interval:
        """What a scheduled run computes: where each later day has a run of its own that tells of it, those that are due by now, too.

        A run that is cleared computes its own days alone: the runs of later days may have ended, and would not tell of them again.
        """
        last = self.group_schedule.sealed_by(datetime.now(UTC))
        if self.late == "its own day" or last <= span.end or is_repeated(context):
            return span
        wide = Interval(span.start, min(last, span.end + MOST * self.group_schedule.step))
        log.info("this run is late: it computes %s, of which each later one has a run of its own", self.group_schedule.named(wide))
        return wide


class MaterializeOperator(OfDay):
    """Say by the ledger what became of the data day: red if the gate rejected it, skipped if there is nothing or it waits.

    Where a person is to decide it is green: it was computed and judged, and `approve` comes next.
    """

    def execute(self, context: Mapping[str, Any]) -> None:
        """Look at the ledger; a task that was cleared, or that waited for what is there now, first does what is to be done."""
        self.refuse_half(context)
        schedule, span = self.group_schedule, span_of(context, self.group_schedule)
        wide = schedule.restated(span) if context["dag_run"].run_type == "scheduled" else span
        found = self.ledger(wide)
        own = found if schedule.is_static else inside(found, span)
        day = self.day(span, own)
        is_due = day.state not in ("published", "nothing") or any(each["status"] in DUE for each in found)
        if is_due and is_repeated(context) and not day.passes:
            self.make(wide, within="range" if wide == span else "restate")
            found = self.ledger(wide)
            own = found if schedule.is_static else inside(found, span)
            day = self.day(span, own)
        _end(day, context)
        earlier = any(each["status"] != "OK" for each in found if each not in own)
        idle = [*([] if day.warnings else [layout.WARNINGS_TASK]), *([] if earlier else [layout.RESTATE_TASK])]
        idle += [layout.APPROVE_TASK] if day.run is None and layout.APPROVE_TASK in self.downstream_task_ids else []
        if idle:
            raise DownstreamTasksSkipped(tasks=idle)


class RestateOperator(OfDay):
    """Tell of the days before the data day that late events changed: red if one of them is rejected, waits or is out of date."""

    def execute(self, context: Mapping[str, Any]) -> None:
        """Look at the ledger; a task that was cleared first does what is to be done."""
        schedule, span = self.group_schedule, span_of(context, self.group_schedule)
        before = Interval(schedule.restated(span).start, span.start)
        if before.start >= before.end:
            raise AirflowSkipException(f"{schedule.group} restates nothing")
        if is_repeated(context):
            self.make(before, within="restate")
        wrong = [each for each in self.ledger(before) if each["status"] != "OK"]
        if not wrong:
            log.info("the days in %s are as they should be", schedule.named(before))
            return
        first = Interval(parse_instant(wrong[0]["interval_start"]), parse_instant(wrong[0]["interval_end"]))
        more = f" (and {len(wrong) - 1} more since then)" if len(wrong) > 1 else ""
        raise AirflowFailException(judged(schedule.group, wrong[:1], named=schedule.named(first)).line + more)


class WarningsOperator(OfDay):
    """Red where the data day is published and a person should look at it all the same: rows are held, or an expectation warned."""

    def execute(self, context: Mapping[str, Any]) -> None:
        """Say what is to be looked at."""
        day = self.day(span_of(context, self.group_schedule))
        if day.warnings:
            raise AirflowFailException(day.line)


class PublishOperator(OfDay):
    """Give the run the colour of its data day, by the ledger, whatever its tasks did; only a day that is published has an asset event."""

    def __init__(self, *, asset: Asset, **options: Any) -> None:
        """Be what Airflow shows as the asset's task."""
        super().__init__(asset=asset, outlets=[asset], **options)

    def execute(self, context: Mapping[str, Any]) -> None:
        """Fail with the ledger's reasons unless the day is published; skip if the source had not begun by then."""
        span = span_of(context, self.group_schedule)
        day = self.day(span)
        if day.state not in ("published", "nothing") and is_repeated(context):
            self.make(span)
            day = self.day(span)
        if day.state == "nothing":
            raise AirflowSkipException(day.line)
        if day.state != "published":
            raise AirflowFailException(day.line)
        self.tell(day, span, context)


def span_of(context: Mapping[str, Any], schedule: Schedule) -> Interval:
    """The interval that a run is about; nothing else here asks Airflow for a time."""
    run = context["dag_run"]
    logical_date = None if run.logical_date is None else parse_instant(run.logical_date.isoformat())
    try:
        span = schedule.interval(logical_date, run_after=parse_instant(run.run_after.isoformat()), key=run.partition_key)
    except KeyRefused as error:
        raise AirflowFailException(str(error)) from None
    log.info("the data day of this run: %s of %s", schedule.named(span), schedule.group)
    return span


def is_repeated(context: Mapping[str, Any]) -> bool:
    """Whether a task ran before in its run: it was cleared, is tried again, or waited."""
    return bool(context["ti"].try_number > 1 or context.get("task_reschedule_count", 0))


def _end(day: Day, context: Mapping[str, Any]) -> None:
    """Raise what ends `materialize` with a day that is not published, or postpones its end; one that is out of date is `publish`'s."""
    if day.state == "rejected":
        raise AirflowFailException(day.line)
    if day.state == "missing":
        raise AirflowException(day.line)
    look_again(day, context)
    if day.state in ("waiting", "nothing"):
        raise AirflowSkipException(day.line)


def look_again(day: Day, context: Mapping[str, Any]) -> None:
    """Postpone the end of a task while what its day waits for is on its way, but not for ever."""
    now = datetime.now(UTC)
    waited = now - (context["ti"].get_first_reschedule_date(context) or now)
    if day.passes and waited <= GIVE_UP:
        pause = max(LOOK_AGAIN, waited / 10)
        log.info("it is looked at again in %d s", pause.total_seconds())
        raise AirflowRescheduleException(now + pause)
