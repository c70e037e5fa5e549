"""The one place that decides: the states of intervals, what a run does, what it costs, which generation readers see.

The rules are those of `feature_definitions.planning`; here they meet what the registry remembers and what the lake's logs say.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import cache
from typing import TYPE_CHECKING, Literal

from feature_definitions import layout
from feature_definitions.counted import counted
from feature_definitions.errors import NotCovered, Unknown
from feature_definitions.intervals import Interval, outside
from feature_definitions.language import FeatureGroup, TransformGroup
from feature_definitions.loader import Catalog
from feature_definitions.planning import approval, cost, plan
from feature_definitions.planning.approval import Decision, Open, StandingRun
from feature_definitions.planning.cost import CostEstimate, Reads
from feature_definitions.planning.plan import EVERYTHING_DUE, REJECTED, Choice, GroupPlan, IntervalStatus
from feature_definitions.planning.revisions import History
from feature_definitions.planning.upstream import Upstream, sources_of
from feature_definitions.records import Generation, LedgerEntry, PastRuns, PromotedBy, Promotion, Publish, Release, Revision
from feature_definitions.settings import Promote
from feature_registry.known import Facts

if TYPE_CHECKING:
    from feature_registry.registry import Registry
    from lake.delta import Logs

_OfSource = Callable[[str, frozenset[date]], tuple[int, int]]
"""The number and the bytes of the files that are read for some dates of a source."""


@dataclass(frozen=True, slots=True)
class GroupState:
    """A group in the generation that its definition belongs to: what was done to its intervals, their states, and what it reads."""

    generation: int
    entries: Mapping[Interval, LedgerEntry]
    upstream: tuple[Upstream, ...]
    intervals: tuple[IntervalStatus, ...]


@dataclass(frozen=True, slots=True)
class Planner:
    """What can be decided of a catalog's groups at one moment. It changes nothing, and reads each fact of the registry once.

    So a group that several others read is looked at once. After something was published, another planner knows of it.
    """

    catalog: Catalog
    registry: "Registry"
    lake: str
    now: datetime
    _read: "_Read" = field(init=False, repr=False, compare=False)
    _states: dict[str, GroupState] = field(default_factory=dict, init=False, repr=False, compare=False)
    _upstream: dict[str, Upstream] = field(default_factory=dict, init=False, repr=False, compare=False)
    _histories: dict[tuple[str, ...], History] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Remember what will be read."""
        object.__setattr__(self, "_read", _read(self.catalog, self.registry, self.lake))

    # ---------------------------------------------------------------------------------------------------------------- intervals

    def ahead(self, groups: Iterable[FeatureGroup]) -> None:
        """Read what is remembered of groups, and of those that they read: a few statements, however many groups there are."""
        chosen = _with_those_read(groups)
        numbered = {name: plan.target_generation(group, self._read.generations(name))[0] for name, group in chosen.items()}
        read = {each.name for group in chosen.values() for each in group.input_groups}
        self._read.publishes.ahead((name, number) for name, number in numbered.items() if name in read)
        self._read.entries.ahead(numbered.items())
        self._read.releases.ahead(numbered.items())
        self._read.revisions.ahead((source.name,) for group in chosen.values() for source in sources_of(group))

    def state(self, group: FeatureGroup) -> GroupState:
        """A group as it is now."""
        if group.name not in self._states:
            upstream = tuple(self.upstream(read) for read in group.input_groups)
            number, _ = plan.target_generation(group, self._read.generations(group.name))
            entries, releases = self._read.ledger(group.name, number), self._read.releases(group.name, number)
            found = plan.statuses(
                group,
                generation=number,
                entries=entries,
                revisions=self.revisions(group),
                now=self.now,
                releases=releases,
                upstream=upstream,
            )
            self._states[group.name] = GroupState(number, entries, upstream, found)
        return self._states[group.name]

    def unplanned(self, groups: Iterable[FeatureGroup]) -> dict[str, str]:
        """Why no interval can be planned of those of some groups that have too many, or that read such a group; by the group's name."""
        chosen, found = tuple(groups), dict[str, str]()
        self._read.revisions.ahead((source.name,) for group in _with_those_read(chosen).values() for source in sources_of(group))
        for group in chosen:
            try:
                self._refuse_too_many(group)
            except plan.TooManyIntervals as error:
                found[group.name] = str(error)
        return found

    def _refuse_too_many(self, group: FeatureGroup) -> None:
        for read in group.input_groups:
            self._refuse_too_many(read)
        plan.refuse_too_many(group, self.revisions(group), self.now)

    def upstream(self, group: FeatureGroup) -> Upstream:
        """A group as transforms that read it see it. The publishes come first: one that comes later will be seen as later."""
        if group.name not in self._upstream:
            number, _ = plan.target_generation(group, self._read.generations(group.name))
            publishes = self._read.publishes(group.name, number)
            state = self.state(group)
            seen = plan.upstream_of(group, generation=number, found=state.intervals, entries=state.entries, publishes=publishes)
            self._upstream[group.name] = seen
        return self._upstream[group.name]

    def revisions(self, group: FeatureGroup) -> History:
        """Every change of the sources behind a group."""
        names = tuple(source.name for source in sources_of(group))
        if names not in self._histories:
            self._histories[names] = History(revision for name in names for revision in self._read.revisions(name))
        return self._histories[names]

    def plan(
        self,
        groups: Iterable[FeatureGroup],
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        choice: Choice = EVERYTHING_DUE,
    ) -> tuple[GroupPlan, ...]:
        """What a run would do with the intervals of each group in `[start, end)`; None means no bound."""
        chosen = tuple(groups)
        plan.check_range(chosen, start=start, end=end, now=self.now)
        self.ahead(chosen)
        return tuple(self._plan(group, start, end, choice) for group in chosen)

    def _plan(self, group: FeatureGroup, start: datetime | None, end: datetime | None, choice: Choice) -> GroupPlan:
        state = self.state(group)
        work = plan.materialize(group, generation=state.generation, found=state.intervals, start=start, end=end, choice=choice)
        return replace(work, upstream=state.upstream)

    def release(self, group: FeatureGroup, *, start: datetime, end: datetime, reason: str) -> tuple[Release, ...]:
        """The releases of the rejected intervals of a group in `[start, end)`; refused if there are none that hold others."""
        plan.check_range([group], start=start, end=end, now=self.now)
        state = self.state(group)
        holders = [s.interval for s in state.intervals if s.holds and s.status == REJECTED]
        chosen = [interval for interval in holders if start <= interval.start and interval.end <= end]
        if not chosen:
            more = f" and {len(holders) - 3} more" if len(holders) > 3 else ""
            raise plan.RangeError(
                f"no interval of {group.name} in this range is rejected and holds later ones; name the rejected interval itself. "
                + (f"Those that hold: {', '.join(map(str, holders[:3]))}{more}" if holders else "None of the group does")
            )
        revision = 0 if isinstance(group, TransformGroup) else max((r.revision for r in self.revisions(group)), default=0)
        return tuple(Release(group.name, state.generation, interval, revision, reason, self.now) for interval in chosen)

    def waiting(self, group: FeatureGroup, run: str, decision: Decision) -> tuple[GroupPlan, Open]:
        """What of a run waits for a person; nothing where the same was decided before (see `approval.open_intervals`)."""
        from lake import facts

        state = self.state(group)
        others = [each.number for each in self._read.generations(group.name) if each.number != state.generation]
        older = [number for number in others if any(e.run_id == run for e in self._read.ledger(group.name, number).values())]
        left = facts.left_waiting(self.lake, group.name, state.generation, run)
        found = approval.open_intervals(StandingRun(group.name, run, state.entries, left, older), state.intervals, decision)
        return GroupPlan(group, state.generation, found.due, upstream=state.upstream), found

    # -------------------------------------------------------------------------------------------------------------- generations

    def current(self, group: FeatureGroup) -> Generation | None:
        """The generation that readers see, if any was published."""
        return plan.current_generation(self._read.generations(group.name))

    def generation(self, group: FeatureGroup) -> int:
        """The number of the generation that readers see, or will see first."""
        current = self.current(group)
        return current.number if current is not None else plan.target_generation(group, self._read.generations(group.name))[0]

    def empty(self, group: FeatureGroup, number: int) -> str | None:
        """The empty values that the last publish of a generation kept."""
        return next((each.empty for each in self._read.generations(group.name) if each.number == number), None)

    def promotable(self, group: FeatureGroup, number: int | None, *, accept: Literal["covering", "gaps"]) -> int:
        """The generation that a person may give readers: the one that was asked for, or that of the definition.

        Refused (Unknown) if it was never computed, and (NotCovered) if it lacks what readers see, unless gaps are accepted.
        """
        known, current = self._read.generations(group.name), self.current(group)
        chosen = plan.target_generation(group, known)[0] if number is None else number
        if chosen not in {each.number for each in known}:
            listed = ", ".join(str(each.number) for each in known) or "none"
            raise Unknown(
                f"group {group.name} has no generation {chosen} that was computed; it has {listed}. "
                f"Run `headwater materialize {group.name}`"
            )
        lacking = [] if current is None or accept == "gaps" else self._lacking(group, chosen, current.number)
        if current is not None and lacking:
            raise NotCovered(
                f"generation {chosen} of {group.name} lacks {counted(len(lacking), 'interval')} "
                f"that readers see in generation {current.number}, the "
                f"first {lacking[0]}: run `headwater materialize {group.name}` first, or accept the gaps by "
                f"`headwater promote {group.name} --anyway`"
            )
        return chosen

    def promotes(self, group: FeatureGroup, number: int, *, promote: Promote) -> bool:
        """Whether a run lets readers see a generation: the first one at once, a later one when it covers what they see now."""
        current = self.current(group)
        if number not in {each.number for each in self._read.generations(group.name)} or (current and current.number == number):
            return False
        if current is None:
            return True
        if promote == "manual" or not plan.may_promote(self._read.promotions(group.name), number):
            return False
        return plan.covers(self.state(group).intervals, self._published(group, current.number))

    def promotion(self, group: FeatureGroup, number: int, *, by: PromotedBy) -> Promotion:
        """The record of giving readers a generation to see."""
        past, newest = self._read.promotions(group.name), max(each.number for each in self._read.generations(group.name))
        return Promotion(group.name, len(past) + 1, number, newest, by, self.now)

    def _lacking(self, group: FeatureGroup, number: int, current: int) -> list[Interval]:
        """The intervals that readers see in the current generation and would not see in another."""
        return outside(self._published(group, current), self._published(group, number))

    def _published(self, group: FeatureGroup, number: int) -> list[Interval]:
        """The intervals that readers see of a generation, without those whose rows may be deleted, or whose events were taken back."""
        oldest = plan.begins(group, self.revisions(group), self.now)
        entries = self._read.ledger(group.name, number).values()
        return [e.interval for e in entries if e.state == "PUBLISHED" and (oldest is None or e.interval.start >= oldest)]

    # --------------------------------------------------------------------------------------------------------------------- cost

    def costs(self, works: Iterable[GroupPlan]) -> tuple[CostEstimate, ...]:
        """What plans cost and move: intervals, files and bytes to read, seconds by past runs, and what becomes out of date by each.

        The logs of all tables that they read are looked at side by side, each once.
        """
        due = [work for work in works if work.due]
        if not due:
            return ()
        from lake import delta, versions

        sources = {source.name: source for work in due for source in work.group.input_sources}
        tables = (path for work in due for path in (*self._tiles(work.group), *self._upstream_tables(work)))
        logs = delta.told_all([*tables, *(path for source in sources.values() for path in versions.logs(source, self.lake))])

        @cache
        def of_source(name: str, dates: frozenset[date]) -> tuple[int, int]:
            return versions.footprint(sources[name], self.lake, dates=dates, opened=logs)

        past = self.registry.runs([(work.group.name, work.generation) for work in due])
        read = self._reads(due, logs)
        return tuple(
            self._cost(work, list(self._footprints(work, read[work.group.name], logs, of_source)), past[work.group.name, work.generation])
            for work in due
        )

    def _cost(self, work: GroupPlan, read: Sequence[tuple[int, int]], past: Sequence[PastRuns]) -> CostEstimate:
        files, size = sum(n for n, _ in read), sum(n for _, n in read)
        online = {name: name in self._read.online() for name in self.catalog.tables}
        moved = cost.stale(self.catalog, work.group.name, built=self._read.training_sets(), online=online)
        return CostEstimate(work.group.name, len(work.due), files, size, cost.seconds(past, len(work.due)), moved)

    def _reads(self, works: Sequence[GroupPlan], logs: "Logs") -> dict[str, Reads]:
        """What plans read, by the group's name; what the tiles of all of them were built from is asked for at once."""
        from lake import delta

        tiled = [work for work in works if work.group.aggregated]
        spans = [span for work in tiled for span in cost.spans(work, self.revisions(work.group))]
        ids = {path: found for work in tiled for path in self._tiles(work.group) if (found := delta.id_of(logs[path]))}
        first, last = (min(span.start for span in spans), max(span.end for span in spans)) if spans else (self.now, self.now)
        stored = self.registry.tiles_of(ids, first=first.date(), last=last.date())

        def of(work: GroupPlan) -> Reads:
            mine = {day: tile for path in self._tiles(work.group) for day, tile in stored.get(path, {}).items()}
            return cost.reads(work, tiles=mine, revisions=self.revisions(work.group))

        return {work.group.name: of(work) for work in works}

    def _footprints(self, work: GroupPlan, read: Reads, logs: "Logs", of_source: "_OfSource") -> Iterable[tuple[int, int]]:
        """How many files and bytes a plan reads of events, of tiles, and of the groups that a transform reads."""
        from lake import delta_files

        yield from (of_source(source.name, read.events) for source in work.group.input_sources)
        yield from (delta_files.footprint_of(logs[path], partition="date", dates=read.tiles) for path in self._tiles(work.group))
        yield from (delta_files.footprint_of(logs[path], partition="date", dates=read.events) for path in self._upstream_tables(work))

    def _tiles(self, group: FeatureGroup) -> tuple[str, ...]:
        """The table of a group's tiles, if it has any."""
        if not group.aggregated:
            return ()
        (source,) = group.input_sources
        return (layout.tile_table(self.lake, source.name, group.entity.keys, group.cadence, group.cadence),)

    def _upstream_tables(self, work: GroupPlan) -> tuple[str, ...]:
        """The tables of the groups that a transform reads."""
        return tuple(layout.feature_table(self.lake, each.group.name, each.generation) for each in work.upstream)


def _training_sets(lake: str) -> list[str]:
    """The training sets that were built, by name."""
    from lake import storage

    return [path.rpartition("/")[2] for path in storage.folders(layout.training_set_table(lake, "_").rpartition("/")[0])]


def _with_those_read(groups: Iterable[FeatureGroup]) -> dict[str, FeatureGroup]:
    """Groups, and those that they read, by name."""
    found: dict[str, FeatureGroup] = {}
    waiting = list(groups)
    while waiting:
        group = waiting.pop()
        if group.name not in found:
            found[group.name] = group
            waiting.extend(group.input_groups)
    return found


@dataclass(frozen=True, slots=True)
class _Read:
    """What registry and lake remember, each fact read when it is first asked for, and once."""

    generations: Facts[Generation]
    promotions: Facts[Promotion]
    entries: Facts[LedgerEntry]
    ledger: Callable[[str, int], Mapping[Interval, LedgerEntry]]
    publishes: Facts[Publish]
    releases: Facts[Release]
    revisions: Facts[Revision]
    online: Callable[[], frozenset[str]]
    training_sets: Callable[[], list[str]]


def _read(catalog: Catalog, registry: "Registry", lake: str) -> _Read:
    from feature_registry import schema

    entries = Facts(registry, schema.LEDGER)

    def ledger(group: str, number: int) -> Mapping[Interval, LedgerEntry]:
        return {entry.interval: entry for entry in entries(group, number)}

    return _Read(
        generations=Facts(registry, schema.GENERATIONS, together=[(name,) for name in (*catalog.groups, *catalog.transforms)]),
        promotions=Facts(registry, schema.PROMOTIONS),
        entries=entries,
        ledger=cache(ledger),
        publishes=Facts(registry, schema.PUBLISHES),
        releases=Facts(registry, schema.RELEASES),
        revisions=Facts(registry, schema.REVISIONS),
        online=cache(registry.online),
        training_sets=cache(lambda: _training_sets(lake)),
    )
