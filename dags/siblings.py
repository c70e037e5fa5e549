"""The other runs of a backfill: which days beside a run's own are still to be computed, so that one Spark job can take them all."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from dags.schedule import KeyRefused, Schedule
from feature_definitions import layout
from feature_definitions.intervals import Interval

MOST = 366
"""A run of a backfill computes so many steps at most, itself and those that follow it."""

TIMED = 7
"""The version of the UUIDs that say when they were made."""

_BACKFILL = "backfill__"
_LIVE = ["queued", "running"]


def adjacent(context: Mapping[str, Any], schedule: Schedule, span: Interval) -> Interval:
    """The run's span and those beside it, without a gap, that runs of a backfill wait to compute."""
    ti, dag_id, mine = context["ti"], context["dag_run"].dag_id, context["dag_run"].run_id
    states = ti.get_task_states(dag_id=dag_id, task_ids=[layout.INGEST_TASK])
    waiting = {
        start: run_id
        for run_id, tasks in states.items()
        if run_id != mine and tasks.get(layout.INGEST_TASK) in (None, "scheduled", "queued") and (start := _start(run_id, schedule))
    }

    def is_live(start: datetime) -> bool:
        return start in waiting and ti.get_dr_count(dag_id=dag_id, run_ids=[waiting[start]], states=_LIVE) > 0

    first, last = span.start, span.end
    while (last - first) // schedule.step < MOST and is_live(first - schedule.step):
        first -= schedule.step
    while (last - first) // schedule.step < MOST and is_live(last):
        last += schedule.step
    return Interval(first, last)


def has_ended(context: Mapping[str, Any]) -> bool:
    """Whether another run of a backfill of the DAG has computed: else it is not worth to ask the ledger whether that was for this one."""
    states = context["ti"].get_task_states(dag_id=context["dag_run"].dag_id, task_ids=[layout.INGEST_TASK])
    others = [tasks for run_id, tasks in states.items() if run_id != context["dag_run"].run_id and run_id.startswith(_BACKFILL)]
    return any(tasks.get(layout.INGEST_TASK) == "success" for tasks in others)


def is_done(intervals: Sequence[Mapping[str, Any]], task: UUID) -> bool:
    """Whether all of a run's intervals are up to date by publishes that began after the run was made, so after what was there to ingest.

    Airflow says in no other way when it made a run, or when it was cleared, than by the id of its task: a UUID of version 7 begins with
    the milliseconds since 1970.
    """
    if task.version != TIMED or not intervals:
        return False
    made = f"p{1000 * (task.int >> 80):017d}"
    return all(each["status"] == "OK" and (each["publish_id"] or "") >= made for each in intervals)


def _start(run_id: str, schedule: Schedule) -> datetime | None:
    """Where the interval of a backfill's run begins, which its id names; None of other runs."""
    parts = run_id.split("__")
    if parts[0] != "backfill" or len(parts) < 3:
        return None
    try:
        return schedule.of_key(parts[2]).start
    except KeyRefused:
        return None
