"""The tasks of the DAG that holds the ledger against what should be there: it starts what no run has started, and shows what is missing."""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from dags.day import due, lacking
from dags.operators import CommandOperator
from dags.partitions import tell
from dags.process import DONE, MISTAKE, REJECTED
from dags.schedule import Schedule, range_of
from feature_definitions.intervals import micros

Found = Mapping[str, list[Mapping[str, Any]]]

NEWEST = 400
"""So many partitions of each group are told of as published before: a year of days. Airflow takes some 10 ms for each, in one request."""

log = logging.getLogger(__name__)


class ReconcileOperator(CommandOperator):
    """A task about all groups of the project."""

    def __init__(self, *, schedules: Sequence[Schedule], **options: Any) -> None:
        """Keep the groups, each after those that it reads."""
        super().__init__(**options)
        self.schedules = tuple(schedules)

    def ledger(self, *groups: str) -> Found:
        """The intervals of every group, or of some, that can be planned, by its name; it starts no Spark."""
        ended, found = self.call("status", *groups, accepted=(DONE, MISTAKE)), dict[str, list[Mapping[str, Any]]]()
        for each in ended.document["intervals"]:
            found.setdefault(each["group"], []).append(each)
        return found


class TellingOperator(ReconcileOperator):
    """A task that tells of partitions of any group."""

    def __init__(self, *, assets: Mapping[str, Asset], **options: Any) -> None:
        """Keep the groups' assets."""
        super().__init__(outlets=list(assets.values()), **options)
        self.assets = dict(assets)

    def tell(self, context: Mapping[str, Any], found: Found, *, since: str = "", most: int = 0) -> None:
        """Tell of the partitions that the ledger has as published: begun at `since` or later, the newest ones if `most` says so."""
        published = {}
        for schedule in (each for each in self.schedules if not each.is_static):
            mine = [each for each in found.get(schedule.group, ()) if each["publish_id"] is not None and each["publish_id"] >= since]
            published[schedule.group] = (schedule, self.assets[schedule.group], mine[-most:])
        tell(self, context, published)


class MarkPublishedOperator(TellingOperator):
    """Tell Airflow of what was published of a group before it knew of the project, by the command."""

    def execute(self, context: Mapping[str, Any]) -> None:
        """Tell of the newest published partitions."""
        self.tell(context, self.ledger(*(schedule.group for schedule in self.schedules)), most=NEWEST)


class StartOperator(TellingOperator):
    """Compute what runs should have computed since a group's first published interval: what an outage left out, what a repair made stale.

    The days before are history, which a person starts; the newest interval is its own run's.
    """

    def execute(self, context: Mapping[str, Any]) -> None:
        """Go through the groups; one that is rejected stops no other."""
        began, found, started = f"p{micros(datetime.now(UTC)):017d}", self.ledger(), list[str]()
        for schedule in self.schedules:
            span = due(found.get(schedule.group, ()), schedule)
            if span is not None:
                log.info("%s: %s is due, and no run has started it", schedule.group, schedule.named(span))
                words = ("materialize", schedule.group, "--ingest", "--within", "restate", *range_of(schedule.asked(span)))
                self.call(*words, accepted=(DONE, REJECTED))
                started.append(schedule.group)
                found = self.ledger()  # what it changed may have made others stale, which come after it
        if not started:
            raise AirflowSkipException("nothing is due that no run has started")
        self.tell(context, found, since=began)


class ReportDueOperator(ReconcileOperator):
    """Red while a group has intervals that are missing or out of date, which the newest runs of its DAG do not show."""

    def execute(self, context: Mapping[str, Any]) -> None:  # noqa: ARG002  # it depends on no run
        """Say them group by group."""
        found = self.ledger()
        lines = [line for schedule in self.schedules for line in lacking(found.get(schedule.group, ()), schedule)]
        for line in lines:
            log.warning("%s", line)
        if lines:
            more = f" (and {len(lines) - 1} more lines above)" if len(lines) > 1 else ""
            raise AirflowFailException(lines[0] + more)
