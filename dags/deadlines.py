"""How long a group's run may take before somebody is told: Airflow shows runs that missed it on its first page, and their DAG's."""

import logging
import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from dags.schedule import Schedule
from feature_definitions.intervals import duration
from feature_definitions.language import FeatureGroup

log = logging.getLogger(__name__)


def allowed(group: FeatureGroup, schedule: Schedule) -> timedelta | None:
    """How long after an interval's end it should be published: half of the time from when its source is ready to when readers lose values.

    What was published last is used up to its TTL, so until then readers get values. A static group's never end.
    """
    if group.ttl is None or schedule.is_static:
        return None
    left = duration(group.ttl) - group.cadence - schedule.ready_after
    return schedule.ready_after + max(left, schedule.step / 4) / 2


def alert(group: FeatureGroup, schedule: Schedule) -> DeadlineAlert | None:
    """What tells of a run that takes longer; it begins when the run does, at the end of its interval."""
    within = allowed(group, schedule)
    if within is None or _is_tried():
        return None
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=within,
        callback=AsyncCallback(missed, kwargs={"group": group.name, "within": str(within), "ttl": str(group.ttl)}),
        name=f"{group.name} is published within {within}",
    )


def _is_tried() -> bool:
    """Whether `airflow dags test` made this process, which in Airflow 3.3 ends with an error of its own if a DAG has a deadline."""
    return sys.argv[1:3] == ["dags", "test"]


async def missed(*, group: str, within: str, ttl: str, context: Mapping[str, Any] | None = None) -> None:
    """Say of which run readers wait; it is called in the triggerer."""
    run = dict((context or {}).get("dag_run") or {})
    which = run.get("partition_key") or run.get("dag_run_id") or run.get("run_id") or "its newest run"
    log.error("%s %s is not published within %s; readers lose its values %s after the newest one that is", group, which, within, ttl)
