"""Telling Airflow of published partitions: of no others, and of no asset as a whole."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from airflow.sdk import Asset, BaseOperator

from dags.schedule import Schedule

Intervals = Sequence[Mapping[str, Any]]

log = logging.getLogger(__name__)


def tell(task: BaseOperator, context: Mapping[str, Any], published: Mapping[str, tuple[Schedule, Asset, Intervals]]) -> None:
    """Add an event for each partition of some groups' intervals.

    Airflow would add one without a partition for each outlet of the task that has none, so only those remain its outlets.
    """
    task.outlets = []
    for group, (schedule, asset, intervals) in published.items():
        keys = sorted({schedule.key_of(each["interval_start"]) for each in intervals})
        if keys:
            event = context["outlet_events"][asset]
            event.extra = {"rows": sum(each["rows"] or 0 for each in intervals), "partitions": len(keys)}
            event.add_partitions(keys)
            task.outlets = [*task.outlets, asset]
        log.info("%s: %d partitions", group, len(keys))
