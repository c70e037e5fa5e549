"""Publishes judged rows: one Delta commit, which carries the publish_id, makes them visible, after what it replaces went to history.

The order makes every crash repairable: the registry notes the intent, the lake's records follow, replaced rows go to history, then comes
the commit; last the registry confirms. Whether the commit happened can be asked of the table's log (`delta.committed`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from feature_definitions import layout, reading
from feature_definitions.intervals import DAY, Interval, merge
from feature_definitions.language import FeatureGroup
from feature_definitions.planning import fingerprint, plan
from feature_definitions.records import Committed, Generation, LedgerEntry, PendingPublish, Publish
from feature_registry import subjects
from feature_registry.registry import PATIENCE, Registry
from lake import delta, delta_files, facts, logs, staging
from lake.readable import Published
from spark_jobs import point_in_time, tables
from spark_jobs.compute.rows import NEWEST, START
from spark_jobs.context import Run
from spark_jobs.publish import history


class PublishConflict(RuntimeError):
    """Another run published the same intervals since this one began; its rows stay, and these are dropped."""


def publish(job: Run, staged: DataFrame | None, entries: Sequence[LedgerEntry]) -> None:
    """Make the intervals that passed visible, all at once, and remember the verdicts of all; where none passed, no rows are needed.

    Holds the group's lease, and refuses (PublishConflict) if one of the intervals is no longer as it was when the run began.
    """
    registry, lake = job.context.registry, job.context.lake
    subject = subjects.group(job.group.name, lake=lake, registry=registry)
    with registry.lease(subject, now=job.context.clock(), patience=PATIENCE) as lease:
        if lease.overtook:
            recover(job.group, lake=lake, registry=registry)
        _refuse_if_moved(job, registry)
        passed = [e for e in entries if e.state == "PUBLISHED"]
        commits = any(e.rows or e.interval in job.before for e in passed)
        pending = _pending(job, entries, commits=commits)
        registry.begin_publish(pending)
        facts.keep_publish(lake, pending, fence=registry.fence)
        version = None
        if commits and staged is not None:
            _commit(job, staged, [e.interval for e in passed])
            version, _ = logs.commit_of(layout.feature_table(lake, job.group.name, job.work.generation), job.publish_id)
        done = Committed(job.group.name, job.work.generation, job.publish_id, job.context.clock(), version, pending.empty)
        _confirm(done, lake, registry)


def recover(group: FeatureGroup, *, lake: str, registry: Registry) -> None:
    """Finish the publishes whose commit happened before a crash, and forget those whose commit did not."""
    for pending in registry.pending_publishes(group.name):
        done = facts.kept_commit(lake, pending.publish_id) or _logged(pending, lake)
        if done is None:
            registry.abandon(pending.publish_id)
        else:
            _confirm(done, lake, registry)
        staging.clear(layout.staging_folder(lake, pending.publish_id))


def _confirm(done: Committed, lake: str, registry: Registry) -> None:
    facts.keep_commit(lake, done, fence=registry.fence)
    registry.finish_publish(done.publish_id, committed_at=done.committed_at, delta_version=done.delta_version)


def _logged(pending: PendingPublish, lake: str) -> Committed | None:
    """The commit as its table's log tells it; of one that the log has forgotten the earliest time by which it was surely there."""
    table = layout.feature_table(lake, pending.group, pending.generation)
    if not pending.commits or not delta.committed(table, pending.publish_id):
        return None
    version: int | None
    try:
        version, at = logs.commit_of(table, pending.publish_id)
    except LookupError:
        version, at = None, logs.oldest_commit(table)
    return Committed(pending.group, pending.generation, pending.publish_id, at, version, pending.empty)


def _refuse_if_moved(job: Run, registry: Registry) -> None:
    if registry.pending_publishes(job.group.name):
        raise PublishConflict(
            f"another run of {job.group.name} was cut off while this one computed; run the same command again, it sets that right"
        )
    now = registry.ledger(job.group.name, job.work.generation)
    for status in job.work.due:
        seen, found = job.before.get(status.interval), now.get(status.interval)
        if (seen and seen.publish_id) != (found and found.publish_id):
            raise PublishConflict(f"{job.group.name} {status.interval} was published by another run meanwhile; run the same command again")


def _pending(job: Run, entries: Sequence[LedgerEntry], *, commits: bool) -> PendingPublish:
    name, number = job.group.name, job.work.generation
    generation = next((g for g in job.context.registry.generations(name) if g.number == number), None)
    known = {p.interval: p for p in job.context.registry.publishes(name, number)}
    publishes, now, lost = [], job.context.clock(), _lost(job)
    for entry in entries:
        if entry.state == "PUBLISHED" and entry.interval in lost:
            publishes.append(replace(known[entry.interval], publish_id=job.publish_id, basis="MODELLED"))
        elif entry.state == "PUBLISHED":
            basis = plan.basis(job.group, generation, entry.interval, published_before=entry.interval in known)
            # What can be read now is known now, however long its publish would have taken.
            since = min(plan.known_from(job.work, entry.interval), now) if basis == "MODELLED" else now
            publishes.append(Publish(job.publish_id, name, number, entry.interval, since, basis))
    features = fingerprint.columns(job.group)
    empty = _empty(job, generation, features)
    return PendingPublish(job.publish_id, name, number, features, tuple(entries), tuple(publishes), commits=commits, empty=empty)


def _lost(job: Run) -> frozenset[Interval]:
    """Published intervals that the table lost and of which nothing changed since: computed again, they say what was known all along."""
    sound = {s.interval: job.before[s.interval] for s in job.work.due if s.status == "OK" and s.interval in job.before}
    table = layout.feature_table(job.context.lake, job.group.name, job.work.generation)
    there = logs.commit_ids(table) if sound else frozenset()
    return frozenset(interval for interval, entry in sound.items() if entry.delta_version is not None and entry.publish_id not in there)


def _empty(job: Run, generation: Generation | None, features: Mapping[str, str]) -> str:
    """The generation's empty values: computed when it is new or a column was added, else those that it has."""
    kept = generation.empty if generation is not None and generation.features == features else None
    published = Published(job.group, job.work.generation, job.context.lake, job.types, (), kept)
    return kept or reading.empty_text(point_in_time.empty_values(published, job.context.spark))


# --------------------------------------------------------------------------------------------------------------------- the rows


def _commit(job: Run, staged: DataFrame, passed: Sequence[Interval]) -> None:
    """Replace the passed intervals' rows in one commit, after keeping what they replace.

    Also an interval that was never published is replaced, not appended: whatever lies there, a rerun sets it right.
    """
    table = layout.feature_table(job.context.lake, job.group.name, job.work.generation)
    rows, fence = _new_rows(job, staged, passed, job.context.clock()), job.fence
    if not delta.exists(table):
        tables.append(_arranged(job, rows), table, commit_id=job.publish_id, partition=("date",), fence=fence)
        return
    tables.add_columns(job.context.spark, table, [(c, tables.spark_type(job.types.outputs[c])) for c in job.group.outputs])
    again = [interval for interval in passed if interval in job.before]
    if again:
        current = tables.read(job.context.spark, table, wanted=_dates(job.group, merge(again))).where(_where(job.group, merge(again)))
        rows = history.merged(job, rows, current)
    tables.replace(
        _arranged(job, rows),
        table,
        dates={interval.start.date() for interval in passed},
        where=_where(job.group, merge(passed)) if job.group.cadence < DAY else "",
        commit_id=job.publish_id,
        fence=fence,
    )


def _new_rows(job: Run, staged: DataFrame, passed: Sequence[Interval], now: datetime) -> DataFrame:
    return staged.where(tables.within(START, merge(passed), after_start=False)).select(
        *history.keys_of(job.group),
        "event_timestamp",
        F.lit(now).alias("created_timestamp"),
        F.lit(job.publish_id).alias("publish_id"),
        "empties_at",
        "held",
        *[f"`{column}`" for column in job.group.outputs],
        F.to_date(START).alias("date"),
        NEWEST,
    )


def _arranged(job: Run, rows: DataFrame) -> DataFrame:
    """The rows in the table's column order."""
    columns = [F.col(f"`{c}`").cast(tables.spark_type(job.types.outputs[c])).alias(c) for c in job.group.outputs]
    fixed = ["event_timestamp", "created_timestamp", "publish_id", "empties_at", "held"]
    return rows.select(*history.keys_of(job.group), *fixed, *columns, "date")


def _dates(group: FeatureGroup, spans: Sequence[Interval]) -> delta_files.Wanted:
    """The dates in which rows of these intervals lie, among others: `_where` holds for none of another date."""
    first, last = spans[0].start.date(), spans[-1].end.date()
    return tables.every_date if group.is_static else lambda day: first <= day <= last


def _where(group: FeatureGroup, spans: Sequence[Interval]) -> str:
    """The condition that holds for exactly the rows of these intervals, on the partition column too, so that only their files are read."""
    if group.is_static:
        return "date = DATE'1970-01-01'"
    first, last = spans[0].start.date(), spans[-1].end.date()
    dates = f"date >= DATE'{first.isoformat()}' AND date <= DATE'{last.isoformat()}'"
    return f"{dates} AND {tables.within('event_timestamp', spans, after_start=group.row_time == 'end')}"
