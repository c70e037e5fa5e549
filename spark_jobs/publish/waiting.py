"""Runs that wait for a person: judged rows are kept as they are, and published or refused when somebody says so.

A run is kept in this order: its rows, a note of their files, then the ledger says that its intervals wait. A crash before the last step
leaves rows that nobody waits for, which `optimize` sweeps. A decision is a publish like any other, with a publish_id of its own.
"""

import json
from collections.abc import Sequence
from dataclasses import replace

from pyspark.sql import DataFrame
from pyspark.sql.types import StructType

from feature_definitions.planning.approval import REFUSED
from feature_definitions.planning.plan import GroupPlan
from feature_definitions.records import IntervalState, LedgerEntry
from feature_definitions.sql.column_types import column_types_of
from lake import judged
from lake.staging import staging
from spark_jobs import tables
from spark_jobs.compute.rows import START
from spark_jobs.context import Context, Run
from spark_jobs.publish import commit


def keep(job: Run, staged: DataFrame, entries: Sequence[LedgerEntry]) -> None:
    """Keep the judged rows of those of a run's intervals that wait."""
    spans = [entry.interval for entry in entries if entry.state == "WAITING"]
    lake, group = job.context.lake, job.group.name
    rows = staged.where(tables.within(START, spans, after_start=False))
    tables.stage(rows, judged.rows_folder(lake, group, job.publish_id))
    judged.note(lake, group, job.publish_id, schema=rows.schema.json())


def publish(work: GroupPlan, context: Context) -> tuple[LedgerEntry, ...]:
    """Publish exactly the rows of the intervals of one run that wait, and give their entries as they are then.

    Raises PublishConflict if somebody else decided or published meanwhile, WaitingLost if the rows are not those that were judged.
    """
    job, entries = _begun(work, context)
    group, run_id = work.group.name, entries[0].run_id
    schema = StructType.fromJson(json.loads(judged.noted(context.lake, group, run_id)))
    rows = tables.staged(context.spark, judged.rows_folder(context.lake, group, run_id), schema=schema)
    decided = _decided(entries, job, state="PUBLISHED")
    with staging(context.lake, job.publish_id):
        commit.publish(job, rows, decided)
    clear_decided(job)
    return decided


def refuse(work: GroupPlan, context: Context, *, reason: str) -> tuple[LedgerEntry, ...]:
    """Record that a person refused the intervals of one run that wait, so that they are REJECTED, and give their entries."""
    (job, entries), why = _begun(work, context), reason or "no reason given"
    decided = tuple(replace(entry, failed=(f"{REFUSED} (refused: {why})",)) for entry in _decided(entries, job, state="REJECTED"))
    commit.publish(job, None, decided)
    clear_decided(job)
    return decided


def clear_decided(job: Run) -> None:
    """Remove the rows of runs that waited when a run began and do not wait any more."""
    now = job.context.registry.ledger(job.group.name, job.work.generation)
    waited, waits = ({e.run_id for e in held.values() if e.state == "WAITING"} for held in (job.before, now))
    for run_id in waited - waits:
        judged.clear(job.context.lake, job.group.name, run_id)


def _begun(work: GroupPlan, context: Context) -> tuple[Run, list[LedgerEntry]]:
    """A run that ends what waits, and the entries of that; raises PublishConflict if they do not wait any more."""
    before = context.registry.ledger(work.group.name, work.generation)
    entries = [before[status.interval] for status in work.due]
    if any((entry.state, entry.run_id) != ("WAITING", status.run) for entry, status in zip(entries, work.due, strict=True)):
        raise commit.PublishConflict(f"somebody decided on {work.group.name} meanwhile; run the same command again")
    revision = max(entry.revision for entry in entries)
    publish_id = context.mint("p", after=(entry.publish_id for entry in before.values()))
    return Run(context, work, column_types_of(work.group), publish_id, revision, before), entries


def _decided(entries: Sequence[LedgerEntry], job: Run, *, state: IntervalState) -> tuple[LedgerEntry, ...]:
    now = job.context.clock()
    return tuple(replace(entry, state=state, publish_id=job.publish_id, recorded_at=now) for entry in entries)
