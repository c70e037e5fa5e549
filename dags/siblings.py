"""The other runs of a backfill: which days beside a run's own are still to be computed, so that one Spark job can take them all."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from dags.schedule import KeyRefused, Schedule
from feature_definitions import layout
from feature_definitions.intervals import Interval

MOST = 366
"""A run of a backfill computes so many steps at most, itself and those that follow it."""

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


def _start(run_id: str, schedule: Schedule) -> datetime | None:
    """Where the interval of a backfill's run begins, which its id names; None of other runs."""
    parts = run_id.split("__")
    if parts[0] != "backfill" or len(parts) < 3:
        return None
    try:
        return schedule.of_key(parts[2]).start
    except KeyRefused:
        return None
