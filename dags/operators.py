"""The tasks of our DAGs: each runs the `headwater` command and tells Airflow what its exit code means."""

import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from dags.schedule import Schedule
from feature_definitions.intervals import Interval, iso, parse_instant

COMMAND = Path(sys.executable).with_name("headwater")
"""The command of the environment that Airflow runs in."""

DONE, MISTAKE, REJECTED = 0, 2, 3
MOST_NAMED = 5


class CommandOperator(BaseOperator):  # type: ignore[misc]  # mypy does not follow airflow
    """Run `headwater` with these arguments, without a shell. Only exit code 1 is worth a retry."""

    def __init__(self, *, project: Path, arguments: Sequence[str], accepted: Sequence[int] = (DONE,), **options: Any) -> None:
        """Keep what to run; exit codes in `accepted` are a success."""
        super().__init__(**options)
        self.project, self.arguments, self.accepted = str(project), tuple(arguments), tuple(accepted)
        self.process = SubprocessHook()

    def execute(self, context: Mapping[str, Any]) -> None:
        """Run the command; what it says goes to the task's log."""
        self.call(*self.arguments, *self.more_arguments(context))

    def more_arguments(self, context: Mapping[str, Any]) -> tuple[str, ...]:  # noqa: ARG002  # for those that depend on the run
        """Arguments that are known when the run is."""
        return ()

    def call(self, *arguments: str) -> None:
        """Run `headwater` in the project, and raise what Airflow should do about a failure."""
        code = self.process.run_command([str(COMMAND), *arguments, "--project", self.project]).exit_code
        if code not in self.accepted:
            raise failure(f"headwater {' '.join(arguments)}", code)

    def on_kill(self) -> None:
        """End the command with its task."""
        self.process.send_sigterm()


class IngestOperator(CommandOperator):
    """Ingest what a group reads. A row or a file that cannot be taken costs itself alone; a source that cannot be read stops its group."""

    def __init__(self, *, group: str, **options: Any) -> None:
        """Ingest the group's sources."""
        super().__init__(arguments=("ingest", group, "--json"), accepted=(DONE, REJECTED), **options)

    def call(self, *arguments: str) -> None:
        """Run `headwater`, and look into its answer for what it could not read."""
        command = [str(COMMAND), *arguments, "--project", self.project]
        with tempfile.TemporaryFile("w+", encoding="utf-8") as answer:
            running = subprocess.Popen(command, stdout=answer, stderr=subprocess.PIPE, text=True, start_new_session=True)
            self.process.sub_process = running
            for line in running.stderr or ():
                self.log.info("%s", line.rstrip())
            code = running.wait()
            answer.seek(0)
            said = answer.read()
        self.log.info("%s", said)
        if code not in self.accepted and not (code == MISTAKE and _only_files_were_refused(said)):
            raise failure(f"headwater {' '.join(arguments)}", code)


class MaterializeOperator(CommandOperator):
    """Compute, judge and publish what is due of the run's interval; a scheduled run also makes good what late events changed.

    While the interval waits for one of the groups that its group `reads`, whose DAGs run at the same time, the task is tried again.
    """

    def __init__(self, *, schedule: Schedule, reads: Sequence[str] = (), **options: Any) -> None:
        """Materialize the schedule's group."""
        super().__init__(arguments=("materialize", schedule.group), **options)
        self.group_schedule, self.reads = schedule, tuple(reads)

    def execute(self, context: Mapping[str, Any]) -> None:
        """Run the command, and look whether the interval waits for others."""
        super().execute(context)
        span, reads = interval_of(context, self.group_schedule), set(self.reads)
        found = status(self.group_schedule.group, self.project) if reads else []
        hidden = [i for i in found if i["publish_id"] is None and _lies_in(i, span)]
        waiting = [i for i in hidden if not reads.isdisjoint(each["group"] for each in i["waits_for"])]
        if waiting:
            raise AirflowException(f"{self.group_schedule.group} is tried again: {_named(waiting)}")

    def more_arguments(self, context: Mapping[str, Any]) -> tuple[str, ...]:
        """The range, unless the group is static and has no times."""
        if self.group_schedule.is_static:
            return ()
        span = interval_of(context, self.group_schedule)
        if context["dag_run"].run_type == "scheduled":
            span = self.group_schedule.restated(span)
        return "--from", iso(span.start), "--to", iso(span.end)


class WaitOperator(BaseOperator):  # type: ignore[misc]  # mypy does not follow airflow
    """Wait, without a worker, until the source has all of the run's interval."""

    def __init__(self, *, schedule: Schedule, **options: Any) -> None:
        """Wait as the group's schedule says."""
        super().__init__(**options)
        self.group_schedule = schedule

    def execute(self, context: Mapping[str, Any]) -> None:
        """Go on at once when that time has passed, else let the triggerer wait for it."""
        interval = interval_of(context, self.group_schedule)
        sealed = self.group_schedule.sealed_at(interval)
        self.log.info("%s is sealed at %s", interval, iso(sealed))
        if sealed > datetime.now(UTC):
            self.defer(trigger=DateTimeTrigger(moment=sealed, end_from_trigger=True), method_name="execute_complete")

    def execute_complete(self, context: Mapping[str, Any], event: object = None) -> None:
        """Nothing is left to do; where there is no triggerer that ends the task itself, Airflow comes here."""


class ConfirmPublished(BaseOperator):  # type: ignore[misc]  # mypy does not follow airflow
    """Confirm by the ledger that the run's interval is published, so that also a cleared or repeated run says the truth.

    `materialize` has already committed it, in the Spark application that computed it; only after this task may others be told.
    """

    def __init__(self, *, project: Path, schedule: Schedule, **options: Any) -> None:
        """Confirm the schedule's group."""
        super().__init__(**options)
        self.project, self.group_schedule = str(project), schedule

    def execute(self, context: Mapping[str, Any]) -> None:
        """Fail with the ledger's reasons if an interval is not readable; skip if the source had not begun by then."""
        group, span = self.group_schedule.group, interval_of(context, self.group_schedule)
        found = [i for i in status(group, self.project) if self.group_schedule.is_static or _lies_in(i, span)]
        if not found:
            raise AirflowSkipException(f"{group} has nothing to publish in {span}: its source begins later, or holds nothing yet")
        hidden = [i for i in found if i["publish_id"] is None]
        if hidden:
            raise AirflowFailException(f"{group} is not published: {_named(hidden)}")
        self.log.info("%s is published: %s", group, _named(found))


def status(group: str, project: str) -> list[dict[str, Any]]:
    """What the ledger knows of each interval of a group."""
    command = [str(COMMAND), "status", group, "--json", "--project", project]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != DONE:
        logging.getLogger(__name__).error("%s", done.stderr)
        raise failure(f"headwater status {group}", done.returncode)
    intervals: list[dict[str, Any]] = json.loads(done.stdout)["intervals"]
    return intervals


def interval_of(context: Mapping[str, Any], schedule: Schedule) -> Interval:
    """The interval that a run is about; nothing else here asks Airflow for a time."""
    run = context["dag_run"]
    logical_date = None if run.logical_date is None else parse_instant(run.logical_date.isoformat())
    return schedule.interval(logical_date, run_after=parse_instant(run.run_after.isoformat()))


def failure(command: str, code: int) -> AirflowException:
    """What Airflow should do about an exit code: fail at once where trying again cannot help, else retry."""
    if code == MISTAKE:
        return AirflowFailException(f"`{command}` found a mistake in a definition or an input; the log says which, and what to write")
    if code == REJECTED:
        return AirflowFailException(f"the gate rejected something in `{command}`; the log says what. It is in quarantine, not published")
    return AirflowException(f"`{command}` failed with exit code {code}; the log says why, and it is tried again")


def _only_files_were_refused(said: str) -> bool:
    """Whether an ingest could read all sources, though not all of their files."""
    sources = json.loads(said)["sources"] if said else []
    return bool(sources) and all(source["failed"] is None for source in sources)


def _lies_in(interval: Mapping[str, str], span: Interval) -> bool:
    return span.start <= parse_instant(interval["interval_start"]) and parse_instant(interval["interval_end"]) <= span.end


def _named(intervals: Sequence[Mapping[str, Any]]) -> str:
    texts = [f"{i['interval_start']} {i['status']} ({'; '.join((*i['reasons'], _rows(i)))})" for i in intervals[:MOST_NAMED]]
    return ", ".join(texts) + (f" and {len(intervals) - MOST_NAMED} more" if len(intervals) > MOST_NAMED else "")


def _rows(interval: Mapping[str, Any]) -> str:
    return "no rows" if interval["rows"] is None else f"{interval['rows']:,} rows"
