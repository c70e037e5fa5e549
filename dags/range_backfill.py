"""The tasks of the DAG that computes a range of days that a person asks for in a form, one Spark job per chunk."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from dags.day import judged
from dags.operators import CommandOperator
from dags.partitions import tell
from dags.process import DONE, REJECTED
from dags.schedule import Schedule, range_of
from feature_definitions.intervals import Interval, micros, parse_instant

MODES = ("missing", "stale", "due", "all")
"""What of a range is computed: what was never, what is out of date, both, or everything whatever its state."""

log = logging.getLogger(__name__)


def span_asked(params: Mapping[str, Any]) -> Interval:
    """The days that the form names, both of them included."""
    first, last = (parse_instant(params[name]) for name in ("from", "to"))
    if last < first:
        raise AirflowFailException(f"the last day, {params['to']}, lies before the first, {params['from']}; swap them")
    return Interval(first, last + timedelta(days=1))


def chunks(span: Interval, days: int) -> Iterator[Interval]:
    """A span in parts of so many days, the last of which may be shorter."""
    start = span.start
    while start < span.end:
        yield Interval(start, min(span.end, start + timedelta(days=days)))
        start += timedelta(days=days)


class RangeOperator(CommandOperator):
    """A task of the range backfill: about the groups and the days of its form."""

    def __init__(self, *, schedules: Sequence[Schedule], **options: Any) -> None:
        """Keep all groups that may be asked for, each after those that it reads; a static group has no days."""
        super().__init__(**options)
        self.schedules = tuple(schedules)

    def chosen(self, context: Mapping[str, Any]) -> tuple[Schedule, ...]:
        """The groups that the form names, in the order of the catalog; none means all."""
        names = context["params"]["groups"] or [schedule.group for schedule in self.schedules]
        return tuple(schedule for schedule in self.schedules if schedule.group in names)


class PlanOperator(RangeOperator):
    """Print what would be computed and what it costs; a dry run ends here."""

    def execute(self, context: Mapping[str, Any]) -> None:
        """Print the plan."""
        params, span = context["params"], span_asked(context["params"])
        names = [schedule.group for schedule in self.chosen(context)]
        ended = self.call("plan", *names, *range_of(span), *_only(params["mode"]))
        counted: dict[str, int] = {}
        for step in ended.document["steps"]:
            counted[step["group"]] = counted.get(step["group"], 0) + (step["step"] == "Compute")
        for bill in ended.document["bill"]:
            seconds = "unknown, none was run yet" if bill["seconds"] is None else f"{bill['seconds']:.0f}"
            log.info("%s: %d intervals, %d files, %d bytes, seconds by past runs: %s", *_billed(bill, counted), seconds)
        if not counted:
            raise AirflowSkipException(f"nothing is to be done in {range_text(params)} with the mode {params['mode']}")
        if params["dry_run"]:
            raise AirflowSkipException(f"a dry run computes nothing; it would compute {sum(counted.values())} intervals")


class ComputeOperator(RangeOperator):
    """Ingest, compute, judge and publish the range of each group, one process and one Spark job per chunk; a rejection stops nothing."""

    def execute(self, context: Mapping[str, Any]) -> None:
        """Go through groups and chunks; what is done already is not done again when the task is cleared, unless the mode is `all`."""
        self.refuse_half(context)
        params = context["params"]
        for schedule in self.chosen(context):
            for span in chunks(span_asked(params), params["chunk_days"]):
                log.info("%s: %s", schedule.group, schedule.named(span))
                words = ("materialize", schedule.group, "--ingest", *range_of(schedule.asked(span)), *_only(params["mode"]))
                self.call(*words, accepted=(DONE, REJECTED))


class MarkOperator(RangeOperator):
    """Tell consumers of every partition that this run published."""

    def __init__(self, *, assets: Mapping[str, Asset], **options: Any) -> None:
        """Keep the groups' assets."""
        super().__init__(outlets=list(assets.values()), **options)
        self.assets = dict(assets)

    def execute(self, context: Mapping[str, Any]) -> None:
        """Add the partitions, by the ledger: those whose publish began after this run did."""
        began, span = f"p{micros(context['dag_run'].start_date):017d}", span_asked(context["params"])
        published = {}
        for schedule in self.chosen(context):
            found = self.running.status(schedule.group, schedule.asked(span))
            mine = [each for each in found if (each["publish_id"] or "") >= began]
            published[schedule.group] = (schedule, self.assets[schedule.group], mine)
        tell(self, context, published)


class ReportOperator(RangeOperator):
    """Give the run its colour: red if a day of the range is not published, with what is wrong of each group's first."""

    def execute(self, context: Mapping[str, Any]) -> None:
        """Look at the ledger."""
        span, lines = span_asked(context["params"]), list[str]()
        for schedule in self.chosen(context):
            found = self.running.status(schedule.group, schedule.asked(span))
            wrong = [each for each in found if each["status"] != "OK"]
            if wrong:
                first = Interval(parse_instant(wrong[0]["interval_start"]), parse_instant(wrong[0]["interval_end"]))
                more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
                lines.append(judged(schedule.group, wrong[:1], named=schedule.named(first)).line + more)
        for line in lines[1:]:
            log.error("%s", line)
        if lines:
            raise AirflowFailException(lines[0])


def range_text(params: Mapping[str, Any]) -> str:
    """The days that a form names, as a person says them."""
    return f"{params['from']} to {params['to']}"


def _only(mode: str) -> tuple[str, ...]:
    return () if mode == "due" else ("--only", mode)


def _billed(bill: Mapping[str, Any], counted: Mapping[str, int]) -> tuple[object, ...]:
    return bill["group"], counted[bill["group"]], bill["files"], bill["bytes"]
