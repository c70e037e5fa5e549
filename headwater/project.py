"""A project: its definitions, tables and stores, and what can be done with them.

Heavy parts (Spark, Great Expectations, Delta) are imported when something needs them, so that looking costs nothing.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from feature_definitions import layout, settings
from feature_definitions.connections import ConnectionRefused
from feature_definitions.errors import InputRefused, Unknown, UserError
from feature_definitions.intervals import Interval
from feature_definitions.language import (
    NAME,
    Column,
    FeatureGroup,
    FeatureService,
    Jdbc,
    Join,
    Mode,
    Query,
    Source,
    TrainingSet,
    WindowedGroup,
    check_mode,
    check_no_verb,
)
from feature_definitions.loader import Catalog
from feature_definitions.planning import plan
from feature_definitions.planning.approval import Decision
from feature_definitions.planning.cost import CostEstimate
from feature_definitions.planning.plan import Choice, GroupPlan, IntervalStatus, Only, Within
from feature_definitions.planning.upstream import ordered, sources_of
from feature_definitions.records import Epoch, Erasure, Generation, LeaseHolder, LedgerEntry, PromotedBy, RegistryFacts, Release
from headwater import inputs, names

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from pyspark.sql import SparkSession

    from feature_registry.explain import Story
    from feature_registry.leases import Lease
    from feature_registry.move import Moved
    from feature_registry.planner import Planner
    from feature_registry.registry import Registry
    from headwater.advice import Advice
    from headwater.aside import Retried
    from headwater.experiments import Taught, Tracking
    from headwater.openlineage import Job
    from lake.leftovers import Swept
    from lake.optimize import Optimized
    from lake.quarantine import PutAside
    from lake.readable import Published
    from lake.training_sets import BuiltVersion, Listed, Shown
    from online_sync.erasing import Erased
    from online_sync.parity import Parity, Scope
    from online_sync.sync import Depth, Synced, Target
    from serving.answer import Result
    from serving.request import Entity
    from serving.rest import Application
    from spark_jobs.context import Context
    from spark_jobs.ingest.journal import IngestReport
    from spark_jobs.ingest.samples import Sample
    from spark_jobs.ingest.trial import Misfit
    from spark_jobs.publish.group_results import GroupResult
    from spark_jobs.publish.handed_in import Taken
    from spark_jobs.publish.materialize import Stage
    from spark_jobs.publish.validate import Judge
    from spark_jobs.training.build import Built
    from spark_jobs.training.diff import Difference
    from spark_jobs.training.export import Exported, Format
    from spark_jobs.training.spine import Spine, TrainingRequest
    from spark_jobs.training.verify import Rests, Verified

T = TypeVar("T")
Say = Callable[[str], None]
_PUSHES_AT_ONCE = 5
"""How often a push syncs while others do at the same time: the next sync brings what is left."""
_LOOKS = 3
"""How often a sync asks what is published, while others go on between its look and its first row."""
OnMistakes = Literal["refuse", "leave out"]
"""What is done about definitions that do not hold: nothing at all is done, or what does not rest on them is."""


class NotEmpty(UserError):
    """A registry that holds something and would be replaced."""


class RegistryLost(UserError):
    """A registry that knows nothing of a lake with a past: it was lost, or is another one."""


@dataclass(frozen=True, slots=True)
class Serving:
    """How a project is served: in how many processes, with which file of API keys and which certificate and its key.

    `trust`: that a sync has finished is noticed after at most so many seconds. `stale`: while the store is away, what is near is answered
    for so many seconds. `grpc`: the port of gRPC, 0 for a free one, None for no gRPC. `models`: a folder of models (None: the project's).
    `near`: entities of each service that a process keeps near.
    """

    workers: int = 1
    keys: Path | None = None
    tls: tuple[str, str] | None = None
    trust: float = 0.0
    stale: float = 0.0
    grpc: int | None = None
    models: Path | None = None
    near: int = 20_000


@dataclass(frozen=True, slots=True)
class Decided:
    """What a person's decision ended, and the intervals that it left, each with the reason."""

    ended: tuple[LedgerEntry, ...] = ()
    left: tuple[tuple[Interval, str], ...] = ()


@dataclass
class Project:
    """A project's definitions, tables and stores. Times are UTC; ranges are of intervals, their end exclusive.

    Ends with `close()` or a `with` block, which stop Spark if this project started it (where Spark runs already, it is shared); the
    embedded online store runs on until `down()`.
    """

    settings: settings.Settings
    catalog: Catalog
    say: Say = field(repr=False)
    clock: Callable[[], datetime] = field(repr=False)
    _started_spark: bool = field(default=False, init=False, repr=False)

    def __enter__(self) -> Self:
        """The project itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    # ------------------------------------------------------------------------------------------------------------------ offline

    def ingest(self, *named: str) -> "tuple[IngestReport, ...]":
        """Bring new and changed files into the sources' tables, and find what changed where they are read in place; what is named is a
        source or a group, nothing means all. A query comes after the sources that it reads, which are ingested with it.

        What cannot be taken goes to `<lake>/quarantine/<source>` with its reason. A source that cannot be read says why in its report
        (`failed`), and the others go on.
        """
        return tuple(self.ingesting(*named))

    def ingesting(self, *named: str) -> "Iterator[IngestReport]":
        """What `ingest` does, source by source: each report comes when its source is done."""
        from spark_jobs.ingest import bring

        sources = names.sources(self.catalog, named)
        brought = bring.each(sources, self._context)
        for source in sources:
            yield self._telling(source, brought)
        yield from brought  # it raises what nobody foresaw

    def _telling(self, source: Source, brought: "Iterator[IngestReport]") -> "IngestReport":
        """Bring the source that comes next, and tell a receiver of OpenLineage events."""
        with self._told(lambda of: of.of_ingest(source, self.settings.lake, self.settings.root)) as failures:
            report = next(brought)
            failures.extend([f"{source.name} could not be read"] if report.failed is not None else [])
        return report

    def quarantine(self, *named: str) -> "tuple[PutAside, ...]":
        """What is put aside, by source or group and reason, with examples; what is named is a source or a group, nothing means all."""
        from headwater import aside

        sources, groups = names.either(self.catalog, named)
        lake, registry = self.settings.lake, self._registry
        of_sources = [each for source in sources for each in aside.of_source(source, lake=lake, registry=registry)]
        return (*of_sources, *(each for group in groups for each in aside.of_group(group, lake=lake, registry=registry)))

    def quarantined(self, *groups: str) -> dict[str, int]:
        """How many rows are put aside of each group, and of each source that they read; those of which none are have no entry."""
        from lake import storage

        chosen = [each.name for each in (*names.sources(self.catalog, groups), *names.groups(self.catalog, groups))]
        tables = set(storage.folders(layout.quarantines(self.settings.lake)))
        there = [name for name in chosen if layout.quarantine_table(self.settings.lake, name) in tables]
        counted: dict[str, int] = {}
        for each in self.quarantine(*there) if there else ():
            counted[each.name] = counted.get(each.name, 0) + each.rows
        return {name: rows for name, rows in counted.items() if rows}

    def export_quarantine(self, name: str, path: str | os.PathLike[str]) -> int:
        """Write all rows of a source or a group that are put aside to a CSV, Parquet or JSON lines file, by its ending; how many."""
        from headwater import aside

        sources, groups = names.either(self.catalog, [name])
        file = aside.named(path)
        return aside.export(aside.rows_of((*sources, *groups)[0], lake=self.settings.lake, registry=self._registry), file)

    def retry_quarantine(self, *named: str) -> "tuple[Retried, ...]":
        """Judge again what is put aside, after a fix of a definition: the files are read again that brought such rows, and the intervals
        are computed again that were rejected or published without some. Sources come before groups; nothing named means all.

        A source that cannot be read, or a group that cannot be computed, says why (`failed`), and the others go on.
        """
        from headwater.aside import Retried, count

        before, (sources, groups) = self.quarantine(*named), names.either(self.catalog, named)
        waiting = {each.name for each in before}
        chosen = names.sources(self.catalog, [each.name for each in sources]) if sources else ()
        failed: dict[str, str | None] = {**self._bring_again([each for each in chosen if each.name in waiting])}
        for group in (each for each in ordered(groups) if each.name in waiting):
            failed[group.name] = self._materialize_again(group)
        after = self.quarantine(*named)
        return tuple(
            Retried(name, count(before, name), count(after, name), failed.get(name)) for name in dict.fromkeys(each.name for each in before)
        )

    def write(self, source: str, frame: object) -> "IngestReport":
        """Add a frame's rows to a source, as if they had come in a file; the same frame twice counts once.

        A frame is of pandas, Spark or Arrow, or has the Arrow C stream, as those of Polars and DuckDB have.
        """
        from spark_jobs import frames
        from spark_jobs.ingest import bring
        from spark_jobs.publish import handed_in

        found = names.source(self.catalog, source)
        for group in self.catalog.groups.values():
            if group.source is found and handed_in.was_pushed(group, self._registry):
                raise InputRefused(
                    f"rows were pushed to {group.name}, which reads {source}: computed of what is written they would be gone"
                )
        return bring.write(found, frames.arrow(frame, wanted=found.columns), self._context)

    def push(self, group: str, frame: object) -> "Taken":
        """Make a frame's rows, in the columns of the group's source, rows of the group at once: in the lake, and then online.

        A path is that of a file of CSV, JSON lines or Parquet with such rows. For an ObservationGroup whose source has no place and is not
        written to. Training sets see the rows from the time of the push on. The same rows twice count once. What does not fit, or breaks an
        expectation on rows, refuses all of them. Of a push that was cut off the next sync brings online what is in the lake.
        """
        from online_sync.sync import SyncOvertaken
        from spark_jobs import frames
        from spark_jobs.publish import handed_in

        found = names.group(self.catalog, group)
        self._recover([found])
        number, _ = plan.target_generation(found, self._registry.generations(group))
        wanted = found.input_sources[0].columns if found.input_sources else ()
        if isinstance(frame, str | os.PathLike):
            given: pa.Table | str = inputs.path(frame, self.settings.root, what="file of rows", kinds=inputs.ROWS)
        else:
            given = frames.arrow(frame, wanted=wanted)
        taken = handed_in.push(found, given, generation=number, context=self._context)
        self._promote(found, number)
        for _ in range(_PUSHES_AT_ONCE if found.online else 0):
            seen = self._registry.publishes(group, number)
            with suppress(SyncOvertaken):  # another push came meanwhile, and its sync may have looked before this one was in the lake
                self._sync_all([found], "as needed", "refuse")
                if self._registry.publishes(group, number) == seen:
                    break
        return taken

    def sample(self, place: "str | Jdbc") -> "Sample":
        """What the first rows of files, of a Delta table or of a table of another database look like; a path is relative to the project."""
        from spark_jobs.ingest import jdbc, samples

        if isinstance(place, str):
            return samples.look(place, root=self.settings.root)
        with jdbc.told(self._context, place):
            return samples.of_arrow(place, jdbc.sampled(place, self._context, rows=samples.ROWS))

    def plan(
        self,
        *groups: str,
        start: str | datetime | None = None,
        end: str | datetime | None = None,
        only: Only = "due",
        within: Within = "range",
    ) -> tuple[GroupPlan, ...]:
        """What `materialize` would do with the intervals in `[start, end)`, and why.

        `only`: those that are `missing`, `stale` or either (`due`), or `all` whatever their status. `within="restate"` is for scheduled
        runs: it leaves alone what changed data made stale and is older than the group's `restate_within`. Of several groups those are
        left out that are `unplanned`.
        """
        first, last, planner = inputs.moment(start), inputs.moment(end), self._planner
        return planner.plan(self._plannable(planner, groups), start=first, end=last, choice=Choice(only, within))

    def unplanned(self, *groups: str) -> dict[str, str]:
        """Why no interval can be planned of those groups that have too many, or that read such a group; by the group's name."""
        return self._planner.unplanned(names.groups(self.catalog, groups))

    def cost(self, works: Iterable[GroupPlan]) -> tuple[CostEstimate, ...]:
        """What plans cost and move: intervals, files and bytes to read, seconds by past runs, and what becomes out of date by them."""
        return self._planner.costs(works)

    def materialize(
        self,
        *groups: str,
        start: str | datetime | None = None,
        end: str | datetime | None = None,
        only: Only = "due",
        within: Within = "range",
        stage: "Stage" = "as defined",
    ) -> "tuple[GroupResult, ...]":
        """Compute, judge and publish the intervals in `[start, end)` that are missing or stale; `only` and `within` as in `plan`.

        With `stage="everything"` nothing is published: what passed waits for `publish`, as what warned does in a group that asks for it.

        An interval that fails a critical expectation stays invisible; its bad rows are in `<lake>/quarantine/<group>`. Later ones whose
        windows read its events wait until it is repaired or released. A group comes after those of the chosen ones that it reads. Of
        several groups one that cannot be computed is refused alone, and the others go on; a single one raises.
        """
        chosen, first, last = names.groups(self.catalog, groups), inputs.moment(start), inputs.moment(end)
        plan.check_range(chosen, start=first, end=last, now=self.clock())
        self._recover(chosen)
        planner, results = self._planner, []
        refused = planner.unplanned(chosen) if len(chosen) > 1 else {}
        planner.ahead(group for group in chosen if group.name not in refused)
        for group in ordered(chosen):
            if group.name in refused:
                results.append(self._refused(group, planner.generation(group), refused[group.name]))
                continue
            (work,) = planner.plan([group], start=first, end=last, choice=Choice(only, within))
            results.append(self._materialize(work, stage) if len(chosen) == 1 else self._materialize_or_refuse(work, stage))
            planner = self._planner if work.due else planner
        return tuple(results)

    def unread(self, groups: Sequence[str], reports: "Iterable[IngestReport]") -> "dict[str, GroupResult]":
        """The groups that are not to be computed since a source that they read could not be read, by name, each with the reason."""
        planner, failed = self._planner, {report.source: report.failed for report in reports if report.failed is not None}
        behind = [(group, [failed[s.name] for s in sources_of(group) if s.name in failed]) for group in names.groups(self.catalog, groups)]
        return {group.name: self._refused(group, planner.generation(group), why[0]) for group, why in behind if why}

    def status(self, *groups: str, start: str | datetime | None = None, end: str | datetime | None = None) -> tuple[IntervalStatus, ...]:
        """The state of every interval in `[start, end)`, from the first event to the newest sealed one, with reasons.

        Of several groups those are left out that are `unplanned`. A static group's only interval lies in every range.
        """
        first, last, planner = inputs.moment(start), inputs.moment(end), self._planner
        plan.check_order(start=first, end=last)
        chosen = self._plannable(planner, groups)
        planner.ahead(chosen)
        states = ((group, planner.state(group).intervals) for group in chosen)
        return tuple(status for group, found in states for status in plan.in_range(group, found, start=first, end=last))

    def advice(self, found: Iterable[IntervalStatus]) -> "dict[tuple[str, Interval], Advice]":
        """What is to be done about intervals that are rejected, wait or hold rows back, by group and interval; of each group the first."""
        from headwater import advice

        return advice.advise(found, self._planner, lake=self.settings.lake)

    def unusable_connections(self) -> tuple[str, ...]:
        """Why a connection that a source reads cannot be used here: its variable is not set, or is no URL. Nothing is connected to."""
        found = []
        for source in self.catalog.sources.values():
            if isinstance(source.at, Jdbc):
                try:
                    self.settings.connection(source.at.connection)
                except ConnectionRefused as problem:
                    found.append(f"source {source.name}: {problem}")
        return tuple(found)

    def misfits(self) -> "tuple[Misfit, ...]":
        """What of the sources' files cannot be taken as their definitions say: a first part of each is read, and nothing is kept."""
        from spark_jobs.ingest import trial

        return tuple(each for source in self.catalog.sources.values() for each in trial.misfits(source, root=self.settings.root))

    def tables(self, *groups: str) -> dict[str, str]:
        """Where each group's rows lie: the absolute path of the Delta table of the generation that readers see."""
        planner, chosen = self._planner, names.groups(self.catalog, groups)
        return {group.name: layout.feature_table(self.settings.lake, group.name, planner.generation(group)) for group in chosen}

    def promote(
        self, group: str, generation: int | None = None, *, accept: Literal["covering", "gaps"] = "covering"
    ) -> tuple[Generation, ...]:
        """Give readers another generation of a group to see, by default that of its definition; an older one is a rollback.

        Refused (NotCovered) if it lacks an interval that they see now, unless gaps are accepted. What is chosen here stands until a
        generation comes that is newer than all that there are. Returns the group's generations as they are then.
        """
        found = names.group(self.catalog, group)
        self._recover([found])
        number = self._planner.promotable(found, generation, accept=accept)
        self._show(found, number, by="person")
        return self._registry.generations(group)

    def publish(self, group: str, *, run: str, decision: Decision = "publish", reason: str = "") -> Decided:
        """Publish a run of a group that was judged and waits for a person, exactly as it was judged, or refuse it.

        What is refused is REJECTED, and holds later intervals as what the gate rejected does. Refused (RunRefused) if the run does not
        wait any more, or if what all of it rests on changed since. Returns what it ended, nothing if that was decided before, and what
        it left since another run took it over or what it rests on changed.
        """
        found = names.group(self.catalog, group)
        self._recover([found])
        work, seen = self._planner.waiting(found, run, decision)
        if not work.due:
            return Decided()
        from spark_jobs.publish import waiting

        if decision == "refuse":
            return Decided(waiting.refuse(work, self._context, reason=reason), seen.left)
        done = waiting.publish(work, self._context)
        self._promote(found, work.generation)
        return Decided(done, seen.left)

    def release(self, group: str, *, start: str | datetime, end: str | datetime, reason: str = "") -> tuple[Release, ...]:
        """Say that later intervals need not wait for the rejected ones in `[start, end)`: they are due from now on.

        The rejected ones stay invisible. A release counts until the events change that the rejected interval reads.
        """
        from lake import facts

        found, first, last = names.group(self.catalog, group), inputs.moment(start), inputs.moment(end)
        releases = self._planner.release(found, start=first, end=last, reason=reason)
        with self._alone(found):
            facts.keep_releases(self.settings.lake, releases, fence=self._registry.fence)
            self._registry.release(releases)
        return releases

    def optimize(self, *groups: str, keep: str = "7d") -> "tuple[Optimized, ...]":
        """Join small files, delete those replaced longer than `keep` ago (at least 7d), and rows that a group retains no longer.

        Groups mean their tables and their sources'; none means everything. Nothing becomes stale by it. Needs no Spark.
        """
        from feature_registry import subjects
        from feature_registry.registry import PATIENCE
        from lake import delta, optimize, training_sets

        kept, chosen = inputs.keep_span(keep, least=optimize.SHORTEST_KEEP), names.groups(self.catalog, groups)
        needs, done = optimize.needed(self.settings.lake), []
        for source in names.sources(self.catalog, groups):
            with self._registry.lease(subjects.source(source.name, lake=self.settings.lake), now=self.clock(), patience=PATIENCE):
                path = layout.source_table(self.settings.lake, source.name)
                done += [optimize.optimize(path, keep=kept)] if delta.exists(path) else []
        for group in chosen:
            before = optimize.deleted_before(group, needs, self.clock())
            with self._alone(group):
                generations = [g.number for g in self._registry.generations(group.name)]
                mine = optimize.group_tables(self.settings.lake, group.name, generations)
                for path in mine:
                    self._registry.fence()
                    done.append(optimize.optimize(path, keep=kept, before=before))
        if not groups:
            lake = self.settings.lake
            for path in optimize.other_tables(lake):
                name = training_sets.name_of(path, lake)
                lease = (
                    None
                    if name is None
                    else self._registry.lease(subjects.training_set(name, lake=lake), now=self.clock(), patience=PATIENCE)
                )
                with nullcontext() if lease is None else lease:
                    versions = () if name is None else training_sets.kept_versions(lake, name)
                    done.append(optimize.optimize(path, keep=kept, versions=versions))
        return tuple(done)

    def sweep(self, *, keep: str = "7d") -> "Swept":
        """Delete what runs that were cut off left in the lake longer than `keep` ago (at least 7d), beside what `optimize` deletes."""
        from lake import leftovers, optimize

        kept = inputs.keep_span(keep, least=optimize.SHORTEST_KEEP)
        return leftovers.sweep(self.settings.lake, keep=kept, now=self.clock(), runs=self._registry.waiting())

    def training_set(  # noqa: PLR0913  # each is an option of the command
        self,
        name: str | None = None,
        *,
        spine: object = None,
        service: str | None = None,
        mode: Mode | None = None,
        spine_columns: Mapping[str, str | Column] | None = None,
        spine_timezone: str | None = None,
        statuses: bool = False,
    ) -> "Built":
        """Build a training set: one that the catalog defines, by name, or a spine (frame or path) joined with a service.

        A spine is a frame (as in `write`), the path of a Delta table, a Parquet file or folder, or a file of CSV, TSV or JSON, a
        `Query("SELECT ...", sources)`, or `Jdbc(query=..., connection=...)`, with the service's keys and `event_timestamp`. In a file
        keys are of the service's types; all other columns are text as written, or of the types in `spine_columns`; times without a zone
        are of `spine_timezone`.
        It comes out at `<lake>/training_sets/<name>` (the service's name, if none is given): the spine's rows and columns, each row once,
        and `<group or prefix>__<column>`. `mode`: `as_known` (default; what was known then), `event_time` (newest corrections)
        or `as_served` (what the online store answered then).
        With `statuses` it also has `<group or prefix>__hw_status`. If it fails what is expected of it, readers keep what they had.
        """
        from spark_jobs.ingest import jdbc
        from spark_jobs.training import build
        from spark_jobs.training.spine import of_source

        defined = None if spine is not None else names.training_set(self.catalog, name)
        if defined is not None:
            request = self._defined(defined, mode)
        else:
            request = self._asked(name, names.service(self.catalog, service), mode or "as_known")
        request = replace(request, statuses=request.statuses or statuses)
        rows = None if defined is not None else self._spine(spine, request.service, spine_columns, spine_timezone)
        groups = {j.group.name: j.group for j in request.service.joins}
        published = self._published(groups.values())
        if request.mode == "as_served":
            published = self._with_epochs(published)
        self.say(f"joining {len(published)} groups to the spine")
        numbers = {name: each.generation for name, each in published.items()}
        source = None if defined is None else defined.spine
        told = self._told(lambda of: of.of_training_set(request.name, request.service, numbers, self.settings.lake, spine=source))
        with told, jdbc.told(self._context, *(() if defined is None else (defined.spine,))):
            if defined is not None:
                if found := build.standing(defined.spine, request, published=published, context=self._context):
                    return found
                rows = of_source(defined.spine, self._context)
            assert rows is not None
            return build.build(rows, request, published=published, context=self._context, judge=_judge() if request.expect else None)

    def training_sets(self) -> "tuple[Listed, ...]":
        """The training sets that lie in the lake, by name: the newest version, how many there are, what rejected a newer build."""
        from lake import training_sets

        return training_sets.listed(self.settings.lake)

    def training_set_versions(self, name: str, version: int | None = None) -> "tuple[Shown, tuple[Shown, ...]]":
        """A version of a training set, by default the newest, and all versions of it, the newest first. Needs no Spark."""
        from lake import training_sets

        lake = self.settings.lake
        one = training_sets.at(lake, name, version)
        return training_sets.shown(one, lake), tuple(training_sets.shown(each, lake) for each in training_sets.versions(lake, name))

    def export_training_set(
        self, name: str, to: str | os.PathLike[str], *, kind: "Format | None" = None, version: int | None = None
    ) -> "Exported":
        """Write a version of a training set as one file of Parquet, CSV or Arrow, its rows in the spine's order. Needs no Spark.

        The format is that of the file's name, or else Parquet. The file is there whole or not at all.
        """
        from lake import training_sets
        from spark_jobs.training import export

        place = os.fspath(to)
        return export.export(
            training_sets.at(self.settings.lake, name, version), self.settings.lake, place, kind=kind or export.by_name(place)
        )

    def diff_training_sets(self, name: str, other: str | None = None, *, start: int | None = None, end: int | None = None) -> "Difference":
        """How a version of a training set differs from another one, or from one of another training set.

        Without versions these are the last one but one and the newest; of two training sets the newest of each.
        """
        from lake import training_sets
        from spark_jobs.training import diff

        first, second = training_sets.pair(self.settings.lake, name, other, start=start, end=end)
        source = self.catalog.sources.get(training_sets.spine_of(first) or "")
        identity = source.id if source is not None and training_sets.spine_of(second) == source.name else ()
        if not identity:
            identity = (*names.service(self.catalog, str(first.manifest["service"])).keys, training_sets.time_of(first))
        return diff.diff(first, second, identity, self._context)

    def verify_training_set(self, name: str, version: int | None = None) -> "Verified":
        """Look whether a version's rows are those that were written, and join them once more from what they rested on then.

        It does not matter what was published or ingested since. What was deleted meanwhile is named.
        """
        from lake import training_sets
        from spark_jobs.training import verify

        of = training_sets.at(self.settings.lake, name, version)
        self.say(f"verifying version {training_sets.number(of)} of {name}")
        return verify.verify(of, self._rests(of), self._context)

    def append_training_set(self, name: str) -> "Built":
        """Bring a training set of the catalog up to its spine: the partitions from the first date on whose rows are others are joined.

        Refused where a whole build would give the rows of earlier dates other values. Nothing is done where the spine has no other rows.
        """
        from lake import training_sets
        from spark_jobs.training import append
        from spark_jobs.training.spine import of_source

        of = training_sets.at(self.settings.lake, name)
        if training_sets.spine_of(of) is None:
            raise InputRefused(f"the spine of {name} was given, and is no source that grows; build it again with all of its rows")
        defined = names.training_set(self.catalog, name)
        request, rows = self._defined(defined, None), of_source(defined.spine, self._context)
        rests = self._grown(of)
        request = replace(request, service=rests.service)
        self.say(f"appending to version {training_sets.number(of)} of {name}")
        with self._growing(name, rests.service, rests):
            return append.append(of, rests, rows, request, self._context, judge=_judge() if request.expect else None)

    def add_to_training_set(self, name: str, group: str, *features: str, prefix: str | None = None) -> "Built":
        """Join one more group, or more features of one that is joined, to a training set that was built; its other columns stay.

        The rows are those of its newest version. Refused where a whole build would give these other values.
        """
        from lake import training_sets
        from spark_jobs.training import add, past

        of = training_sets.at(self.settings.lake, name)
        more = Join(names.group(self.catalog, group), features, prefix)
        rests = self._grown(of, more.group)
        held = next((join for join in rests.service.joins if join.name == more.name), None)
        if held is not None:
            lacking = tuple(column for column in more.columns if column not in held.columns)
            if held.group.name != group or not lacking:
                raise Unknown(f"{name} has all of {', '.join(more.outputs)} already; name other features, or another prefix")
            more = replace(held, features=lacking)
        defined = self.catalog.training_sets.get(name)
        self.say(f"adding {', '.join(more.outputs)} to version {training_sets.number(of)} of {name}")
        with self._growing(name, past.joined(rests.service, more), rests):
            return add.add(of, rests, more, self._context, judge=_judge() if defined is not None and defined.expected else None)

    def _growing(self, name: str, service: FeatureService, rests: "Rests") -> AbstractContextManager[object, bool | None]:
        """Tell of a run that adds something to a training set, and what a database says of its spine."""
        from spark_jobs.ingest import jdbc

        numbers = {each: published.generation for each, published in rests.published.items()}
        stack = ExitStack()
        stack.enter_context(self._told(lambda of: of.of_training_set(name, service, numbers, self.settings.lake, spine=rests.source)))
        stack.enter_context(jdbc.told(self._context, *(() if rests.source is None else (rests.source,))))
        return stack

    def _grown(self, of: "BuiltVersion", *more: FeatureGroup) -> "Rests":
        """What a training set rests on that something is added to: its groups are read in the generations that readers see."""
        from lake import training_sets
        from spark_jobs.training.unmoved import NotAsBefore, anew

        rests = self._rests(of, *more)
        for name, number in training_sets.generations(of).items():
            current = self._planner.generation(rests.published[name].group)
            if current != number:
                raise NotAsBefore(f"{of.manifest['name']}: readers see generation {current} of {name}, and it has {number}; {anew(of)}")
        return rests

    def _rests(self, of: "BuiltVersion", *more: FeatureGroup) -> "Rests":
        """What a version of a training set rests on, as it is now, and more groups."""
        from lake import facts, training_sets
        from spark_jobs.training import past, verify

        lake = self.settings.lake
        service = past.with_added(names.service(self.catalog, str(of.manifest["service"])), of, self.catalog.tables)
        groups = {each.name: each for each in (*(join.group for join in service.joins), *more)}
        published = self._published(groups.values(), training_sets.generations(of))
        if of.manifest["mode"] == "as_served":
            published = self._with_epochs(published)
        source = self.catalog.sources.get(training_sets.spine_of(of) or "")
        defined = self.catalog.training_sets.get(str(of.manifest["name"]))
        return verify.Rests(service, defined, source, published, lambda: facts.commits(lake))

    def features(
        self,
        spine: object,
        service: str | FeatureService,
        *,
        mode: Mode = "as_known",
        spine_is: Literal["of anything", "of others"] = "of anything",
    ) -> "pa.Table":
        """A spine with a service's features, as `training_set` joins them, as an Arrow table in the spine's order; nothing is kept.

        The service may be one that the catalog does not have. Where the rows of a frame are events of none of our sources (`of others`),
        an observation at the very time of a row counts, which else may be the row itself.
        """
        from spark_jobs.training import build
        from spark_jobs.training.spine import TrainingRequest

        found = service if isinstance(service, FeatureService) else names.service(self.catalog, service)
        check_mode("the join", mode)
        rows = self._spine(spine, found, None, None)
        if spine_is == "of others" and not rows.reads:
            rows = replace(rows, reads=frozenset({""}))
        published = self._published({each.group.name: each.group for each in found.joins}.values())
        if mode == "as_served":
            published = self._with_epochs(published)
        return build.rows(rows, TrainingRequest(found.name, found, mode), published=published, context=self._context)

    def log_model(  # each is something that is logged
        self,
        model: str,
        *,
        training_set: str,
        version: int | None = None,
        files: str | os.PathLike[str] | None = None,
        metrics: Mapping[str, float] = MappingProxyType({}),
        params: Mapping[str, object] = MappingProxyType({}),
    ) -> "Taught":
        """Log a model and the version of the training set that taught it (default: the newest) as one run of MLflow.

        `files` is where the model lies. The run gets the training set as its dataset, with its manifest and page. It is kept in the project
        (`.headwater/mlflow.db`), or where `MLFLOW_TRACKING_URI` says.
        """
        from headwater import experiments
        from lake import training_sets

        of = training_sets.at(self.settings.lake, training_set, version)
        lesson = experiments.Lesson(None if files is None else Path(files), metrics, params)
        return experiments.log(model, of, lesson, lake=self.settings.lake, tracking=self._tracking)

    def models_of(self, training_set: str, version: int | None = None) -> "tuple[Taught, ...]":
        """The models that were logged with a training set, in one version of it or in any, the newest first."""
        from headwater import experiments

        return experiments.models(training_set, version, tracking=self._tracking)

    def training_set_of(self, model: str) -> "Taught":
        """The training set that taught the newest model of a name, or the one of this id, as it was logged."""
        from headwater import experiments

        return experiments.training_set_of(model, tracking=self._tracking)

    @property
    def _tracking(self) -> "Tracking":
        """Where MLflow keeps what is logged."""
        from headwater import experiments

        state = self.settings.state
        uri = self.settings.mlflow or f"sqlite:///{state / 'mlflow.db'}"
        return experiments.Tracking(uri, state / "mlflow", self.settings.name)

    def spine_query(self, sql: str, connection: str | None = None) -> Query | Jdbc:
        """A spine from SQL: a query of the sources whose names it reads, in Spark's words, or of a connection's database in its own."""
        from feature_definitions.sql import queries

        if connection is not None:
            return Jdbc(query=sql, connection=connection)
        return Query(sql, tuple(names.source(self.catalog, each) for each in sorted(queries.query_tables(sql))))

    def read(self, group: str) -> "pd.DataFrame":
        """A group's published rows in their newest correction, as pandas, in the table's columns and ordered by key and time.

        Whole numbers, truth values and texts are of pandas' nullable types, so that none loses digits beside a null.
        """
        import pandas as pd

        from lake import delta

        found = names.group(self.catalog, group)
        path = self.tables(group)[group]
        if not delta.exists(path):
            own = ("event_timestamp", "created_timestamp", "publish_id", "empties_at", "held")
            return pd.DataFrame(columns=[*found.entity.keys, *own, *found.outputs, "date"])
        return delta.pandas(delta.load(path)).sort_values([*found.entity.keys, "event_timestamp"], ignore_index=True)

    def explain(self, group: str, entity: Mapping[str, Any], *, at: str | datetime | None = None) -> "Story":
        """The story of an entity's values as they were known at a time (default: now): its row, publish, run and events. Needs no Spark."""
        from feature_definitions.sql.column_types import column_types_of
        from feature_registry import explain
        from lake import quarantine
        from serving import request

        found = names.group(self.catalog, group)
        asked = request.check_entities(request.compile_service(_alone(found)), [inputs.entity(entity)])[0]
        planner = self._planner
        number = planner.generation(found)
        types = column_types_of(found).outputs
        files = {source.name: quarantine.names_now(self._registry.files(source.name)) for source in found.input_sources}
        publishes, empty = self._registry.publishes(group, number), planner.empty(found, number)
        known = explain.Known(number, publishes, planner.revisions(found), types, empty, files)
        return explain.explain(explain.Asked(found, asked, inputs.moment(at) or self.clock()), known, lake=self.settings.lake)

    def rebuild_registry(self, *, over: Literal["nothing", "anything"] = "nothing") -> RegistryFacts:
        """Restore the registry from the lake alone: ingested files, revisions, ledger, publishes, generations, promotions, releases, syncs.

        Refused (NotEmpty) over a registry that holds something, unless that may be replaced.
        """
        from feature_registry import rebuild

        if over == "nothing" and self._any_registry.facts() != RegistryFacts():
            raise NotEmpty(
                "the registry holds facts already, so there is nothing to restore; if they are wrong, replace all of them by what the lake "
                "says: headwater registry rebuild --replace"
            )
        found = rebuild.facts(self.settings.lake)
        self._any_registry.restore(found)
        return found

    def move_registry(self, to: str, *, over: Literal["nothing", "anything"] = "nothing") -> "Moved":
        """Move the registry to the database at another URL, as a whole or not at all; set HEADWATER_REGISTRY_URL to it afterwards.

        Refused (Occupied) if that one holds something else, unless that may be lost, and (LeaseHeld) while a process works on something.
        From then on the registry that the rows came from refuses to be used; moving back makes it the one that is used again.
        """
        return self._registry.move(to, over=over, now=self.clock())

    def leases(self) -> tuple[LeaseHolder, ...]:
        """Which process works on what now, since when, and whether another may take it over."""
        return self._registry.leases()

    # ------------------------------------------------------------------------------------------------------------------- online

    def sync(
        self,
        *groups: str,
        depth: "Depth" = "as needed",
        other_lake: Literal["refuse", "take over"] = "refuse",
        limit: str | None = None,
    ) -> "tuple[Synced, ...]":
        """Bring the newest row of every entity to the online store; groups that were never published, or stay offline, are left out.

        Where nothing was published since the last sync, a sample of the rows is compared with the store; all of them, if the sample or the
        servers give reason for doubt, or if `depth` is `verify`; `full` also writes them all, and leaves no other rows of these groups.
        Afterwards some rows are compared once more with the lake (`parity`).
        A group that is online for the first time, and would take more memory than the `limit` (like 500MB), is refused (TooMuchMemory).
        Where the store has this project's rows from another lake, that is refused (OtherLake), unless they may be taken over: then the
        other lake's keys are deleted.
        """
        planner, most = self._planner, None if limit is None else inputs.size(limit)
        return self._sync_all(
            [group for group in self._online(groups) if planner.current(group) is not None], depth, other_lake, limit=most
        )

    def _sync_all(
        self,
        chosen: Sequence[FeatureGroup],
        depth: "Depth",
        other_lake: Literal["refuse", "take over"],
        *,
        at: datetime | None = None,
        limit: int | None = None,
    ) -> "tuple[Synced, ...]":
        """Sync groups as they are known now, or were at a time."""
        from lake import facts, identity
        from online_sync import sync

        if not chosen:
            return ()
        space = layout.KeySpace(self.settings.name, identity.made(self.settings.lake))
        target = self._target(space)
        sync.claim(target, other_lake=other_lake)
        self._keep_past_epochs()
        erased = facts.erased(self.settings.lake)
        deep = {group.name: self._depth(group, depth, target, erased=erased.get(group.entity.name)) for group in chosen}
        done = tuple(self._sync(group, target, deep[group.name], at=at, limit=limit) for group in chosen)
        sync.sweep(target, [group.name for group in chosen])
        return done

    def rollback(self, group: str, generation: int | None = None) -> "Synced":
        """Bring back what the sync before the last brought of a group, or another generation of it, which is promoted for that.

        It holds until the next sync, which brings the newest again: stop what syncs first. Refused (Unknown) if there was no sync before.
        """
        found = names.group(self.catalog, group)
        if generation is not None:
            self.promote(group, generation, accept="gaps")
            return self.sync(group, depth="full")[0]
        number = self._planner.generation(found)
        times = [each.synced_at for each in self._registry.epochs(group) if each.finished and each.generation == number]
        before = max((at for at in times if at < times[-1]), default=None)
        if before is None:
            raise Unknown(f"no sync of {group} before the last one is known, so there is nothing to go back to")
        return self._sync_all([found], "full", "refuse", at=before)[0]

    def parity(self, *groups: str, scope: "Scope" = "sample", then: Literal["nothing", "repair"] = "nothing") -> "tuple[Parity, ...]":
        """Compare what lies online with what the last sync of each group had to bring: a sample of the rows, or all (`full`).

        With `then="repair"` a group that differs is synced again, all its rows compared or written, and compared as before. Groups
        never synced are left out.
        """
        from online_sync import parity

        chosen, space = names.groups(self.catalog, groups), self._space()
        if space is None:
            return ()
        target = self._target(space)
        found = [
            parity.measure(self._published([group])[group.name], target=target, scope=scope, erased=self._erased(group)) for group in chosen
        ]
        compared = [each for each in found if each is not None]
        wrong = [each for each in compared if not each.holds]
        if then == "nothing" or not wrong:
            return tuple(compared)
        for each in wrong:
            self.sync(each.group, depth="full" if each.extra else "verify")
        again = {each.group: each for one in wrong for each in self.parity(one.group, scope=scope)}
        return tuple(again.get(each.group, each) for each in compared)

    def erase(self, entity: str, keys: Mapping[str, Any]) -> "tuple[Erased, ...]":
        """Take an entity from the online store at once, out of every group of it, and let no sync bring it back.

        The lake keeps what it has of it (`kept_of`), and training sets what they have: take its events away where they come from, too.
        """
        from online_sync import erasing, sync

        groups, text = self._keep_erasure(entity, keys, state="erased")
        space = self._space()
        if space is None:
            return ()
        target, done = self._target(space), []
        for group in (each for each in groups if each.online):
            last = next((each for each in reversed(self._registry.epochs(group.name)) if each.finished), None)
            ledger = sync.Ledger(self._remember, self.clock)
            work = sync.Work(self._registry.next_epoch(group.name), self.clock(), last, ledger=ledger)
            done.append(erasing.erase(group, text, target=target, work=work, beside=self._registry.online()))
        running = [each.group for each in done if each.state == "a sync runs"]
        if running:
            self.sync(*running)
        return tuple(done)

    def lift_erasure(self, entity: str, keys: Mapping[str, Any]) -> "tuple[Synced, ...]":
        """Let an entity that was erased be online again, as the lake has it."""
        groups, _ = self._keep_erasure(entity, keys, state="lifted")
        synced = [group.name for group in groups if group.online and self._registry.epochs(group.name)]
        return self.sync(*synced, depth="verify") if synced else ()

    def kept_of(self, entity: str) -> tuple[str, ...]:
        """The tables of the lake in which rows of an entity lie, whether or not it was erased online."""
        from lake import delta, optimize

        lake, found = self.settings.lake, list[str]()
        for group in names.groups_of(self.catalog, entity):
            found += [layout.source_table(lake, source.name) for source in sources_of(group)]
            found += optimize.group_tables(lake, group.name, [each.number for each in self._registry.generations(group.name)])
        return tuple(path for path in dict.fromkeys(found) if delta.exists(path))

    def _keep_erasure(
        self, entity: str, keys: Mapping[str, Any], *, state: Literal["erased", "lifted"]
    ) -> tuple[tuple[FeatureGroup, ...], str]:
        """Keep in the lake that an entity is erased, or is not any more; returns the groups that have it, and its `entity_text`."""
        from lake import facts
        from serving import request

        groups = names.groups_of(self.catalog, entity)
        [asked] = request.check_entities(request.compile_service(_alone(groups[0])), [inputs.entity(keys)])
        if None in asked.values():
            raise InputRefused(f"nobody has a null key; name the {entity} by {', '.join(asked)}")
        text = layout.entity_text([asked[key] for key in groups[0].entity.keys])
        erasure = Erasure(entity, text, self.clock(), state == "lifted")
        facts.keep_erasure(self.settings.lake, erasure, fence=self._registry.fence)
        return groups, text

    def _erased(self, group: FeatureGroup) -> frozenset[str]:
        """Whom no sync of a group may bring online."""
        from lake import facts

        return facts.erased(self.settings.lake).get(group.entity.name, frozenset())

    def _depth(self, group: FeatureGroup, depth: "Depth", target: "Target", *, erased: frozenset[str] | None) -> "Depth":
        """How deep a sync goes: it compares all rows where one of the erased is online, as the store was away when that was said."""
        if not erased or depth != "as needed":
            return depth
        from online_sync import erasing

        return "verify" if erasing.lies_online(group, erased, target=target) else depth

    def store_warnings(self) -> list[str]:
        """What is wrong with the online store's settings, though it works: a policy by which it evicts rows."""
        from contextlib import closing

        from online_sync.servers import warnings
        from online_sync.store import Store

        with closing(Store(self.store_url())) as store:
            return warnings(store.says())

    def online(self, service: str, entities: object) -> "dict[str, list[Result]]":
        """What the serving layer answers for these entities, in the order asked: values, status and event timestamp per group.

        Entities are mappings of the service's keys, or the rows of a frame that has these keys as its columns.
        """
        from contextlib import closing

        from online_sync.store import Store
        from serving import answer, request

        compiled = request.compile_service(names.service(self.catalog, service))
        asked = request.check_entities(compiled, inputs.entities(entities))
        with closing(Store(self.store_url())) as store:
            space = self._space()
            if space is None:  # then the answer needs nothing of the store, which may be away all the same
                store.ping()
            return {"results": answer.fetch(compiled, asked, space=space, mget=store.mget, now=self.clock())}

    def parse_entity(
        self, texts: Mapping[str, str], *, service: str | None = None, group: str | None = None, entity: str | None = None
    ) -> "Entity":
        """An entity as a service, a group or its kind knows it, from texts as a command line has them: `{"customer_id": "42"}`."""
        from serving import request

        if entity is not None:
            return request.parse_entity(_alone(names.groups_of(self.catalog, entity)[0]), texts)
        asked = names.service(self.catalog, service) if group is None else _alone(names.group(self.catalog, group))
        return request.parse_entity(asked, texts)

    def serve(
        self,
        *,
        host: str,
        port: int,
        ready: Callable[[int], None],
        serving: "Serving | None" = None,
        grpc_ready: Callable[[int], None] | None = None,
    ) -> None:
        """Answer feature requests until SIGTERM or ctrl-c; port 0 takes a free one, and `ready` is told which, `grpc_ready` that of gRPC.

        A SIGHUP takes up the definitions as they are then; if they do not hold, the old ones stay. Any address but this machine's own
        demands API keys.
        """
        from serving import server
        from serving.keys import KeysDemanded

        chosen = serving or Serving()
        if chosen.keys is None and not server.is_loopback(host):
            raise KeysDemanded(host)
        self.store_url()
        calls = None if chosen.grpc is None else server.Calls(chosen.grpc, grpc_ready or (lambda _: None))
        computes = any(service.online and service.on_demand for service in self.catalog.services.values())
        processes = server.Processes(chosen.workers, chosen.tls, self._renew, calls, "always" if computes else "of many")
        server.run(lambda: self.app(chosen), host=host, port=port, ready=ready, processes=processes)

    def app(self, serving: "Serving | None" = None) -> "Application":
        """The HTTP service as an ASGI application, for a server of your own."""
        from online_sync.store import AsyncStore
        from serving import rest
        from serving.desk import Limits
        from serving.keys import Keys

        chosen = serving or Serving()
        limits = Limits(trust=chosen.trust, stale=chosen.stale, near=chosen.near)
        guard = None if chosen.keys is None else rest.Guard(Keys(chosen.keys), lambda event: self.say(json.dumps(event)))
        store = AsyncStore(self.store_url())
        return rest.app(
            self.catalog.services, space=self._space, store=store, clock=self.clock, limits=limits, guard=guard,
            models=chosen.models or self._models, hot=Path(layout.hot_keys(str(self.settings.state))),
        )  # fmt: skip

    def predict(self, model: str, entities: object) -> list[float]:
        """What a model of the project's folder `models` says of entities, by the features that are served."""
        from serving.models import load

        found = load(self._models, self.catalog.services)
        if model not in found:
            raise UserError(f"there is no model {model!r} in {self._models}; there are {', '.join(found) or 'none'}")
        return found[model].predict(self.online(found[model].service, entities)["results"])

    @property
    def _models(self) -> Path:
        return self.settings.root / "models"

    def store_url(self) -> str:
        """The online store's URL: the one set by HEADWATER_REDIS_URL, else the embedded store's, which is started if need be."""
        if self.settings.redis_url is not None:
            return self.settings.redis_url
        from online_sync import embedded

        return embedded.ensure(Path(layout.embedded_store(str(self.settings.state))))

    def down(self) -> bool:
        """Stop the embedded online store; its data stays. False if none was running."""
        from online_sync import embedded

        return embedded.stop(Path(layout.embedded_store(str(self.settings.state))))

    def close(self) -> None:
        """Stop Spark and close the registry, if this project started them."""
        if self._started_spark:
            self._spark.stop()
        self.__dict__.pop("_spark", None)
        self._started_spark = False
        self.__dict__.pop("_registry", None)
        if "_any_registry" in self.__dict__:
            self._any_registry.close()
            del self.__dict__["_any_registry"]

    # -------------------------------------------------------------------------------------------------------------------- parts

    @cached_property
    def _spark(self) -> "SparkSession":
        from lake import s3
        from spark_jobs import jvm, session

        shared = session.running()
        if not shared:
            self.say("starting Spark")
        found, cache = self.settings, self.settings.cache / "jars"
        remote = s3.reach() if self._is_remote else None
        spark = session.session(
            jars=jvm.delta_jars(cache),
            scratch=found.state / "spark",
            master=found.spark_master,
            driver_memory=found.driver_memory,
            more_jars=found.spark_jars if remote is None else (*found.spark_jars, *jvm.s3_jars(cache)),
            conf={} if remote is None else session.s3_conf(remote),
        )
        if remote is not None:
            session.tell_of_s3(spark, remote)
        self._started_spark = not shared
        return spark

    @property
    def _is_remote(self) -> bool:
        """Whether Spark itself reads or writes on S3, so that it needs jars and settings for it before it starts."""
        return self.settings.lake.startswith(layout.S3) or any(source.needs_s3_in_spark for source in self.catalog.sources.values())

    @cached_property
    def _registry(self) -> "Registry":
        """The registry, which must not have been moved elsewhere, nor have forgotten what the lake remembers."""
        from lake import storage

        self._any_registry.refuse_if_moved()
        if self._any_registry.blank() and storage.exists(layout.records_table(self.settings.lake, "files")):
            from feature_registry import rebuild

            if rebuild.facts(self.settings.lake) != RegistryFacts():
                raise RegistryLost(
                    f"the registry is empty, but the lake {self.settings.lake} holds what was ingested and published before: it was "
                    "lost, or is another one. Restore it from the lake: headwater registry rebuild"
                )
        return self._any_registry

    @cached_property
    def _any_registry(self) -> "Registry":
        from feature_registry.registry import open_registry

        return open_registry(self.settings.registry_url, say=self.say)

    @property
    def _context(self) -> "Context":
        from spark_jobs.context import Context

        where = (self.settings.root, self.settings.lake, self._registry)
        found = self.settings
        return Context(lambda: self._spark, *where, self.clock, self.say, found.connection, found.catalog, found.spark_master)

    def _alone(self, group: FeatureGroup) -> "AbstractContextManager[Lease]":
        """Work on a group alone, after waiting for whoever does now."""
        from feature_registry import subjects
        from feature_registry.registry import PATIENCE

        subject = subjects.group(group.name, lake=self.settings.lake, registry=self._registry)
        return self._registry.lease(subject, now=self.clock(), patience=PATIENCE)

    def _recover(self, groups: Iterable[FeatureGroup]) -> None:
        """Set right what a crash cut off; what a living process is publishing is left to it."""
        publishing = self._registry.publishing()
        for group in (each for each in groups if each.name in publishing):
            from feature_registry import LeaseHeld, subjects
            from spark_jobs.publish import commit

            subject = subjects.group(group.name, lake=self.settings.lake, registry=self._registry)
            with suppress(LeaseHeld), self._registry.lease(subject, now=self.clock()):
                commit.recover(group, lake=self.settings.lake, registry=self._registry)

    def _plannable(self, planner: "Planner", groups: Sequence[str]) -> tuple[FeatureGroup, ...]:
        """Those of some groups whose intervals can be planned; a single one always, so that what is wrong with it is raised."""
        chosen = names.groups(self.catalog, groups)
        refused = planner.unplanned(chosen) if len(chosen) > 1 else {}
        return tuple(group for group in chosen if group.name not in refused)

    @property
    def _planner(self) -> "Planner":
        """What can be decided now: a planner knows nothing of what is published later."""
        from feature_registry.planner import Planner

        return Planner(self.catalog, self._registry, self.settings.lake, self.clock())

    def _told(self, job: Callable[[Any], "Job | None"]) -> AbstractContextManager[list[str]]:
        """Tell a receiver of OpenLineage events of a run, if one is set and there is something to tell."""
        if self.settings.lineage is None:
            return nullcontext([])
        from headwater import openlineage

        run = job(openlineage)
        return nullcontext([]) if run is None else openlineage.telling(run, self.settings, clock=self.clock, say=self.say)

    def _materialize(self, work: GroupPlan, stage: "Stage" = "as defined") -> "GroupResult":
        if not work.due:
            from spark_jobs.publish.group_results import GroupResult

            self._promote(work.group, work.generation)
            return GroupResult(work.group.name, work.generation)
        from expectations import adapter
        from spark_jobs.publish import materialize

        sharing = [g for g in self.catalog.groups.values() if isinstance(g, WindowedGroup)]
        read = {each.group.name: each.generation for each in work.upstream}
        with self._told(lambda of: of.of_group(work.group, work.generation, self.settings.lake, read=read)):
            result = materialize.run(work, self._context, judge=adapter.judge, sharing=sharing, stage=stage)
        self._promote(work.group, work.generation)
        return result

    def _materialize_or_refuse(self, work: GroupPlan, stage: "Stage" = "as defined") -> "GroupResult":
        """A group's run, or why it is refused; a lake that S3 does not give is no matter of one group, and raised."""
        from lake import s3, storage

        try:
            return self._materialize(work, stage)
        except UserError as error:
            if isinstance(error, s3.S3Fault):
                storage.exists(self.settings.lake)
            return self._refused(work.group, work.generation, str(error))

    def _refused(self, group: FeatureGroup, generation: int, why: str) -> "GroupResult":
        from spark_jobs.publish.group_results import GroupResult

        return GroupResult(group.name, generation, refused=why)

    def _bring_again(self, sources: Sequence[Source]) -> dict[str, str]:
        """Read those files of sources again of which rows are put aside; gives why a source cannot be read."""
        from lake import quarantine
        from spark_jobs.ingest import bring

        again = {source.name: quarantine.files_of(source.name, lake=self.settings.lake) for source in sources}
        return {each.source: each.failed for each in bring.each(sources, self._context, again=again) if each.failed is not None}

    def _materialize_again(self, group: FeatureGroup) -> str | None:
        """Compute those intervals of a group again of which rows are put aside; gives why it cannot be computed."""
        from headwater import aside

        try:
            self._recover([group])
            (work,) = self._planner.plan([group], choice=Choice("all", "range"))
        except UserError as error:
            return str(error)
        again = aside.intervals_of(group, lake=self.settings.lake, registry=self._registry)
        return self._materialize_or_refuse(
            replace(work, due=tuple(status for status in work.due if status.interval.start in again))
        ).refused

    def _promote(self, group: FeatureGroup, number: int) -> None:
        """Let readers see a generation, if its run decides that."""
        from feature_registry import LeaseHeld

        if self._planner.promotes(group, number, promote=self.settings.promote):
            with suppress(LeaseHeld):  # whoever publishes the group now promotes it afterwards
                self._show(group, number, by="automatic")

    def _show(self, group: FeatureGroup, number: int, *, by: PromotedBy) -> None:
        """Give readers a generation to see, in the lake's records first."""
        from lake import facts

        with self._alone(group):
            promotion = self._planner.promotion(group, number, by=by)
            facts.keep_promotion(self.settings.lake, promotion, fence=self._registry.fence)
            self._registry.promote(promotion)

    def _with_epochs(self, published: "Mapping[str, Published]") -> "dict[str, Published]":
        """What readers may see of groups, with the syncs that brought it online, and who was erased there."""
        from lake import facts

        erasures = facts.erasures(self.settings.lake)
        return {name: replace(each, epochs=self._registry.epochs(name), erasures=erasures) for name, each in published.items()}

    def _published(self, groups: Iterable[FeatureGroup], generations: Mapping[str, int] = MappingProxyType({})) -> "dict[str, Published]":
        """What readers may see of groups, by name, after what a crash cut off was set right; of other generations where these are said."""
        from feature_definitions.sql.column_types import column_types_of
        from feature_registry import schema
        from lake.readable import Published

        chosen, lake = {group.name: group for group in groups}, self.settings.lake
        self._recover(chosen.values())
        planner = self._planner
        numbers = {name: generations.get(name) or planner.generation(group) for name, group in chosen.items()}
        publishes = self._registry.many(schema.PUBLISHES, list(numbers.items()))
        return {
            name: Published(chosen[name], n, lake, column_types_of(chosen[name]), publishes[name, n], planner.empty(chosen[name], n))
            for name, n in numbers.items()
        }

    def _online(self, groups: Sequence[str]) -> tuple[FeatureGroup, ...]:
        """The groups that go online, of those that are named or of all; one that is named and does not is refused."""
        chosen = names.groups(self.catalog, groups)
        offline = [group.name for group in chosen if not group.online]
        if groups and offline:
            raise InputRefused(f"{', '.join(offline)} has online=False: its rows are for training alone, and are not brought online")
        return tuple(group for group in chosen if group.online)

    def _target(self, space: layout.KeySpace) -> "Target":
        """The store, and whose keys are meant."""
        from online_sync import sync

        return sync.Target(self.store_url(), space, self.settings.lake)

    def _space(self) -> layout.KeySpace | None:
        """Whose keys the lake's rows have in the online store; None as long as none were ever brought there."""
        from lake import identity

        lake = identity.of(self.settings.lake)
        return None if lake is None else layout.KeySpace(self.settings.name, lake)

    def _renew(self, app: "Application") -> None:
        """Have an application answer by the definitions as they are now; what a mistake leaves out is answered by the old ones."""
        from feature_definitions.check import checked_sound

        found = checked_sound(self.settings.catalog)
        for mistake in found.left_out:
            self.say(f"the old definitions stay of what rests on it: {mistake}")
        try:
            app.take_up({**(app.services if found.left_out else {}), **found.services})
        except UserError as error:
            self.say(f"the old definitions stay: {error}")

    def _sync(self, group: FeatureGroup, target: "Target", depth: "Depth", *, at: datetime | None, limit: int | None) -> "Synced":
        """Sync a group; where another sync went on since it was asked what is published, that is asked anew, so that nothing goes back."""
        from online_sync import sync

        self.say(f"syncing {group.name}")
        for _ in range(_LOOKS - 1):
            with suppress(sync.SyncOutdated):
                return self._synced(group, target, depth, at=at, limit=limit)
        return self._synced(group, target, depth, at=at, limit=limit)

    def _synced(self, group: FeatureGroup, target: "Target", depth: "Depth", *, at: datetime | None, limit: int | None) -> "Synced":
        from online_sync import parity, sync

        before = sync.standing(group.name, target)
        published = self._published([group])[group.name]
        epoch, epochs = self._registry.next_epoch(group.name), self._registry.epochs(group.name)
        past = [each for each in epochs if each.finished]
        look = sync.look(published, target=target, now=self.clock(), last=past[-1] if past else None)
        sync.follows(before, group.name)(look.held)
        unheard = sync.ended_unheard(epochs, look)
        for each in unheard:
            self._remember(replace(each, ended_at=self.clock()))
        if past and not unheard and look.state == "as it was" and depth == "as needed":
            return sync.of_before(past[-1], look)
        if look.doubt is not None:
            self.say(f"comparing all rows of {group.name}: {look.doubt}")
        last = past[-1] if past and not unheard and past[-1].generation == published.generation else None
        told = [frozenset[str]()]

        def erased() -> frozenset[str]:
            told.append(self._erased(group))
            return told[-1]

        work = sync.Work(epoch, at or self.clock(), last, depth, sync.Ledger(self._remember, self.clock), limit, erased)
        place = {"store": target.url, "project": self.settings.name}
        with self._told(lambda of: of.of_sync(group, published.generation, self.settings.lake, **place)):
            done = sync.run(published, look, target=target, work=work, spark=lambda: self._spark)
        return replace(done, parity=parity.after(published, target=target, epoch=done.epoch, erased=told[-1]))

    def _remember(self, epoch: Epoch) -> None:
        """Remember that a sync began or ended, in the lake's records first."""
        from lake import facts

        facts.keep_epochs(self.settings.lake, [epoch], fence=self._registry.fence)
        self._registry.record_epoch(epoch)

    def _keep_past_epochs(self) -> None:
        """Keep the syncs of an older Headwater, which remembered them in the registry alone."""
        from lake import facts, storage

        if not storage.exists(layout.records_table(self.settings.lake, facts.EPOCHS.name)):
            past = (epoch for group in sorted(self._registry.online()) for epoch in self._registry.epochs(group))
            facts.keep_epochs(self.settings.lake, past, fence=self._registry.fence)

    def _defined(self, defined: TrainingSet, mode: Mode | None) -> "TrainingRequest":
        from spark_jobs.training import spine

        check_mode(f"training set {defined.name}", mode or defined.mode)
        asked = (defined.service, mode or defined.mode, defined.label, defined.cut, defined.statuses, defined.expected)
        return spine.TrainingRequest(defined.name, *asked)

    def _asked(self, name: str | None, service: FeatureService, mode: Mode) -> "TrainingRequest":
        from spark_jobs.training.spine import TrainingRequest

        check_mode("the training set", mode)
        if name is not None and not NAME.fullmatch(name):
            raise Unknown(f"{name!r} cannot name a training set; write small letters, digits and _, starting with a letter")
        check_no_verb(name or service.name)
        return TrainingRequest(name or service.name, service, mode)

    def _spine(self, given: object, service: FeatureService, columns: Mapping[str, str | Column] | None, timezone: str | None) -> "Spine":
        from spark_jobs.ingest import jdbc
        from spark_jobs.training import provenance, spine, spine_files

        if not isinstance(given, str | os.PathLike) and (columns or timezone):
            raise InputRefused("spine_columns and spine_timezone are for a spine in a file; the columns of others have types already")
        if isinstance(given, Jdbc):
            with jdbc.told(self._context, given):
                return spine.of_rows(jdbc.selected(given, self._context), keys=service.asked)
        if isinstance(given, Query):
            with jdbc.told(self._context, *given.sources):
                return spine.of_query(given, self._context, keys=service.asked)
        if isinstance(given, str | os.PathLike):
            said = spine_files.declared(service.asked, columns, timezone)
            path = inputs.path(given, self.settings.root)
            seen, rows = provenance.of_path(path), spine_files.read(path, said, name=str(given))
            return replace(spine.of_given(rows, self._spark, keys=service.asked), tables=(*seen.items(),))
        return spine.of_given(given, self._spark, keys=service.asked)


def _judge() -> "Judge":
    """Great Expectations, which takes seconds to import."""
    from expectations import adapter

    return adapter.judge


def open(
    path: str | os.PathLike[str] = ".",
    *,
    say: Say = lambda _: None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    mistakes: OnMistakes = "refuse",
) -> "Project":
    """The project in a folder; its definitions are loaded and checked. `say` is told what long work is doing.

    Raises SettingsError for a folder that is no project, and CatalogError for definitions that do not hold, unless these and what rests
    on them shall be left out; then `catalog.left_out` says which mistakes there are.
    """
    from feature_definitions.check import checked, checked_sound

    found = settings.load(Path(path))
    if mistakes == "refuse":
        return Project(found, checked(found.catalog), say, clock)
    catalog = checked_sound(found.catalog)
    for mistake in catalog.left_out:
        say(f"left out, with what rests on it: {mistake}")
    return Project(found, catalog, say, clock)


def undefined(path: str | os.PathLike[str], *, say: Say) -> "Project":
    """The project in a folder, without its definitions: to look at data before they hold."""
    from feature_definitions.loader import Catalog

    return Project(settings.load(Path(path)), Catalog({}, {}, {}, {}, {}, {}), say, lambda: datetime.now(UTC))


def _alone(group: FeatureGroup) -> FeatureService:
    """A service of one group, so that its entities are asked for as those of any service."""
    return FeatureService(group.name, joins=(Join(group),), online=group.online)
