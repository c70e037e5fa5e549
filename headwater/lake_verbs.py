"""What a project does in the lake, up to what is published."""

import gc
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from feature_definitions import layout
from feature_definitions.connections import ConnectionRefused
from feature_definitions.errors import InputRefused, UserError
from feature_definitions.intervals import Interval
from feature_definitions.language import FeatureGroup, Jdbc, Source, WindowedGroup
from feature_definitions.planning import plan
from feature_definitions.planning.approval import Decision
from feature_definitions.planning.cost import CostEstimate
from feature_definitions.planning.plan import Choice, GroupPlan, IntervalStatus, Only, Within
from feature_definitions.planning.upstream import ordered, sources_of
from feature_definitions.records import Generation, LedgerEntry, Release
from headwater import inputs, names
from headwater.open_project import OpenProject

if TYPE_CHECKING:
    import pandas as pd

    from feature_registry.explain import Story
    from feature_registry.planner import Planner
    from headwater.advice import Advice
    from headwater.aside import Retried
    from lake.leftovers import Swept
    from lake.optimize import Optimized
    from lake.quarantine import PutAside
    from spark_jobs.ingest.journal import IngestReport
    from spark_jobs.ingest.samples import Sample
    from spark_jobs.ingest.trial import Misfit
    from spark_jobs.publish.group_results import GroupResult
    from spark_jobs.publish.materialize import Stage

_MANY_OBJECTS = 10_000
"""So many new objects are only there where Python was told to look for cycles rarely, as the command tells it: then each group leaves dead
frames, for which Java keeps hundreds of MB (measured: 365 for 8 intervals)."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What a person's decision ended, and the intervals that it left, each with the reason."""

    ended: tuple[LedgerEntry, ...] = ()
    left: tuple[tuple[Interval, str], ...] = ()


class LakeVerbs(OpenProject):
    """What is done in the lake: sources are ingested, groups planned, computed, published and looked at. Ranges are of intervals."""

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
        works = planner.plan(self._plannable(planner, groups), start=first, end=last, choice=Choice(only, within))
        return tuple(self._with_lost(work, planner) for work in works)

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
            work = self._with_lost(work, planner)
            results.append(self._materialize(work, stage) if len(chosen) == 1 else self._materialize_or_refuse(work, stage))
            planner = self._planner if work.due else planner
            if work.due and gc.get_count()[0] > _MANY_OBJECTS:
                gc.collect()
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
        states = ((group, self._without_lost(planner.state(group).intervals)) for group in chosen)
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
        from lake import quarantine, readable
        from serving import request

        found = names.group(self.catalog, group)
        asked = request.check_entities(request.compile_service(names.service_of(found)), [inputs.entity(entity)])[0]
        planner = self._planner
        number = planner.generation(found)
        types = column_types_of(found).outputs
        files = {source.name: quarantine.names_now(self._registry.files(source.name)) for source in found.input_sources}
        publishes, empty = readable.on_grid(found, self._registry.publishes(group, number)), planner.empty(found, number)
        known = explain.Known(number, publishes, planner.revisions(found), types, empty, files)
        return explain.explain(explain.Asked(found, asked, inputs.moment(at) or self.clock()), known, lake=self.settings.lake)

    def _plannable(self, planner: "Planner", groups: Sequence[str]) -> tuple[FeatureGroup, ...]:
        """Those of some groups whose intervals can be planned; a single one always, so that what is wrong with it is raised."""
        chosen = names.groups(self.catalog, groups)
        refused = planner.unplanned(chosen) if len(chosen) > 1 else {}
        return tuple(group for group in chosen if group.name not in refused)

    def _with_lost(self, work: GroupPlan, planner: "Planner") -> GroupPlan:
        """A plan with all intervals, too, whose publishes the group's table lacks: its next commit would hide that they were lost."""
        lost = self._lost(planner.state(work.group).intervals)
        if not lost:
            return work
        (whole,) = planner.plan([work.group], choice=Choice("all", "range"))
        wanted = {status.interval for status in work.due} | lost
        return replace(whole, due=tuple(status for status in whole.due if status.interval in wanted))

    def _without_lost(self, found: Sequence[IntervalStatus]) -> Sequence[IntervalStatus]:
        """The state of intervals, MISSING where the group's table lacks what was published."""
        lost = self._lost(found)
        missing = (plan.MISSING, ("its table lost what was published",))
        return [IntervalStatus(s.group, s.generation, s.interval, *missing) if s.interval in lost else s for s in found] if lost else found

    def _lost(self, found: Sequence[IntervalStatus]) -> frozenset[Interval]:
        """The intervals whose publishes their group's table lacks, though the registry knows of them: they are computed again."""
        if not found or not self._has_lost(found[0].group, found[0].generation):
            return frozenset()
        from lake import logs

        self.say(f"{found[0].group}: its table lacks what was published last; materialize computes it again")
        there = logs.commit_ids(layout.feature_table(self.settings.lake, found[0].group, found[0].generation))
        return frozenset(status.interval for status in found if status.delta_version is not None and status.publish_id not in there)

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
        """Read those files of sources again of which rows are put aside; gives why a source, or one of these files, is not read."""
        from lake import quarantine
        from spark_jobs.ingest import bring

        again = {source.name: quarantine.files_of(source.name, lake=self.settings.lake) for source in sources}
        left = dict[str, str]()
        for each in bring.each(sources, self._context, again=again):
            waiting = [f"{name} is left for the next time: {why}" for name, why in each.waiting.items() if name in again[each.source]]
            why = next((said for said in (each.failed, *each.refused, *waiting) if said is not None), None)
            left |= {} if why is None else {each.source: why}
        return left

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
