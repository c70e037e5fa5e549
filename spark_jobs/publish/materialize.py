"""Carries out a group's plan: compute into staging, judge, publish. Readers see an interval as it was or as it should be, never half."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Literal

from pyspark.sql import DataFrame

from expectations.suite import Verdict
from feature_definitions.counted import counted
from feature_definitions.intervals import Interval, dates, merge
from feature_definitions.language import TransformGroup, WindowedGroup
from feature_definitions.planning import fingerprint, plan, tiling
from feature_definitions.planning.plan import GroupPlan
from feature_definitions.planning.revisions import first_events
from feature_definitions.records import LedgerEntry, Revision
from feature_definitions.sql.column_types import column_types_of
from lake.staging import staging
from spark_jobs import tables
from spark_jobs.compute import leaks, tile_store, transform, windows
from spark_jobs.compute.failures import failing_alone
from spark_jobs.compute.rows import observed
from spark_jobs.compute.tile_store import TileSet
from spark_jobs.context import Context, Run
from spark_jobs.ingest import events, jdbc
from spark_jobs.publish import commit, validate, waiting
from spark_jobs.publish.group_results import GroupResult
from spark_jobs.publish.validate import Judge

Stage = Literal["as defined", "everything"]
"""What waits for a person: what a group's definition says, or all that passed."""


def run(
    work: GroupPlan, context: Context, *, judge: Judge, sharing: Sequence[WindowedGroup] = (), stage: Stage = "as defined"
) -> GroupResult:
    """Compute, judge and publish the intervals that are due; an empty plan does nothing.

    What warned in a group that asks for approval waits for a person, as do the intervals whose windows read its events; with
    `stage="everything"` all that passed waits.
    Tiles that must be built are built for the groups of `sharing` too, as far as they are made of the same ones.
    Raises PublishConflict if another run published the same intervals meanwhile. A crash at any point leaves readers with what they had.
    """
    if not work.due:
        return GroupResult(work.group.name, work.generation)
    started = time.monotonic()
    name, job = work.group.name, _begun(work, context)
    with staging(context.lake, job.publish_id):
        context.say(f"{name}: computing {counted(len(work.due), 'interval')}")
        read = work.group.input_sources
        with failing_alone(f"group {name}"), jdbc.told(context, *read), jdbc.one_state(context, *read) as seen:
            staged, failed = _compute(replace(job, context=seen), sharing)
        context.say(f"{name}: judging")
        judged = validate.validate(job, staged, judge=judge, keep="if broken" if stage == "as defined" else "always")
        found = {**judged.verdicts, **{each: Verdict(failed=(f"rows:computed ({said})",)) for each, said in failed.items()}}
        withheld = work.withheld({interval for interval, verdict in found.items() if verdict.failed})
        verdicts = {interval: verdict for interval, verdict in found.items() if interval not in withheld}
        entries = _entries(job, verdicts, judged.rows, time.monotonic() - started)
        entries = _held_back(work, entries, stage)
        if any(entry.state == "WAITING" for entry in entries):
            waiting.keep(job, judged.staged, entries)
        context.say(f"{name}: publishing")
        commit.publish(job, judged.staged, entries)
    if any(entry.state == "WAITING" for entry in job.before.values()):
        waiting.clear_decided(job)
    return _result(job, entries, time.monotonic() - started)


def _begun(work: GroupPlan, context: Context) -> Run:
    group, registry = work.group, context.registry
    before, types = registry.ledger(group.name, work.generation), column_types_of(group)
    publish_id = context.mint("p", after=(entry.publish_id for entry in before.values()))
    if isinstance(group, TransformGroup):
        read = [source.name for source in group.input_sources]
        return Run(context, work, types, publish_id, 0, before, {name: _newest(registry.revisions(name)) for name in read})
    return Run(context, work, types, publish_id, _newest(registry.revisions(group.source.name)), before)


def _newest(revisions: Iterable[Revision]) -> int:
    return max((r.revision for r in revisions), default=0)


# ---------------------------------------------------------------------------------------------------------------------- compute


def _compute(job: Run, sharing: Sequence[WindowedGroup]) -> tuple[DataFrame, Mapping[Interval, str]]:
    """The rows of all intervals that are due, and those intervals that cannot be computed, each with the reason."""
    group, context = job.group, job.context
    into = f"{job.staging}/rows"
    if isinstance(group, TransformGroup):
        with transform.failing_as(group):
            return _transformed(job, group, into)
    spans = merge(s.interval for s in job.work.due)
    if isinstance(group, WindowedGroup):
        revisions = [r for r in context.registry.revisions(group.source.name) if r.revision <= job.revision]
        needs = windows.needed(group, spans, first=min(first_events(revisions).values(), default=spans[0].start))
        found = tile_store.up_to_date(
            _tile_set(group, sharing, context.lake, grains=tuple(needs)),
            needs,
            tile_store.Build(context, revisions, job.publish_id),
            states=tiling.states(group, types=job.types.inputs, failing=job.types.failing),
        )
        rows = windows.of_tiles(group, found, spans=spans, types=job.types)
    else:
        read = None if group.source.shape == "static" else {day for span in spans for day in dates(span)}
        rows = observed(group, events.read(group.source, context, dates=read), spans=spans)
    return tables.stage(rows, into), {}


def _transformed(job: Run, group: TransformGroup, into: str) -> tuple[DataFrame, Mapping[Interval, str]]:
    rows, failed = transform.compute(job.work, group, job.context, into=into)
    among = [status.interval for status in job.work.due if status.interval not in failed]
    if among and not job.before:
        leaks.check(job, group, among=among)
    return rows, failed


def _tile_set(group: WindowedGroup, sharing: Sequence[WindowedGroup], lake: str, *, grains: tuple[timedelta, ...]) -> TileSet:
    """The tiles that the group shares with others of its source, entity and cadence, with the states of all of them."""
    same = [g for g in sharing if (g.source, tuple(g.entity.keys), g.cadence) == (group.source, tuple(group.entity.keys), group.cadence)]
    typed = [(each, column_types_of(each)) for each in (group, *same)]
    states = {state.name: state for each, types in typed for state in tiling.states(each, types=types.inputs, failing=types.failing)}
    return TileSet(lake, group.source, tuple(group.entity.keys), grains, tuple(states.values()))


# ---------------------------------------------------------------------------------------------------------------------- records


def _entries(job: Run, verdicts: Mapping[Interval, Verdict], rows: Mapping[Interval, int], seconds: float) -> tuple[LedgerEntry, ...]:
    features, gate, now = fingerprint.columns(job.group), fingerprint.gate(job.group), job.context.clock()
    return tuple(
        LedgerEntry(
            group=job.group.name,
            generation=job.work.generation,
            interval=interval,
            state="REJECTED" if verdict.failed else "PUBLISHED",
            publish_id=job.publish_id,
            features=features,
            gate=gate,
            revision=job.revision,
            rows=rows[interval],
            delta_version=None,
            failed=verdict.failed,
            warned=verdict.warned,
            run_id=job.publish_id,
            seconds=seconds / len(verdicts),
            recorded_at=now,
            inputs=_inputs(job, interval),
        )
        for interval, verdict in verdicts.items()
    )


def _inputs(job: Run, interval: Interval) -> dict[str, str]:
    """What a transform's interval was computed from: nothing may have been published of it before the plan was made and be missed."""
    span = plan.inputs(job.group, interval)
    groups = {each.group.name: each.content(span) for each in job.work.upstream}
    return {name: str(revision) for name, revision in job.revisions.items()} | groups


def _held_back(work: GroupPlan, entries: tuple[LedgerEntry, ...], stage: Stage) -> tuple[LedgerEntry, ...]:
    """The entries, of which those wait for a person that warned where that is asked for, and those that read their events."""
    passed = {entry.interval: entry for entry in entries if entry.state == "PUBLISHED"}
    asked = {interval for interval, entry in passed.items() if stage == "everything" or (entry.warned and work.group.warnings == "approve")}
    waits = asked | (passed.keys() & work.withheld(asked).keys()) if asked else asked
    return tuple(replace(entry, state="WAITING") if entry.interval in waits else entry for entry in entries)


def _result(job: Run, entries: Sequence[LedgerEntry], seconds: float) -> GroupResult:
    rejected = tuple((e.interval, e.failed) for e in entries if e.state == "REJECTED")
    rows = sum(e.rows for e in entries if e.state == "PUBLISHED")
    waits = tuple((e.interval, e.warned) for e in entries if e.state == "WAITING")
    done = len(entries) - len(rejected) - len(waits)
    return GroupResult(job.group.name, job.work.generation, done, rejected, rows, job.publish_id, seconds, waiting=waits)
