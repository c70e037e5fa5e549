"""The documents that `--json` prints, one per verb: `docs/json.md` describes them field by field.

A document is named after its verb. Fields are taken from the record of the same name, or given; times are ISO 8601 in UTC.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from msgspec import UNSET, DecodeError, Struct, UnsetType, to_builtins
from msgspec.json import encode
from msgspec.json import format as format_json

from feature_definitions.intervals import Interval, iso, parse_instant
from feature_definitions.loader import Catalog, Mistake
from feature_definitions.planning.approval import Decision
from feature_definitions.planning.cost import CostEstimate
from feature_definitions.planning.plan import GroupPlan, IntervalStatus
from feature_definitions.records import Generation

AS_TEXT = (bytes, date, datetime, Decimal, timedelta)


class Document(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one command prints on stdout; `schema` counts up when a field goes or changes its meaning, not when one comes."""

    schema: Literal[1] = 1


class Part(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a document."""


AnyPart = TypeVar("AnyPart", bound=Part)


class DemoDocument(Document, frozen=True, kw_only=True):
    """Where `demo` made its project."""

    project: str


class InitDocument(Document, frozen=True, kw_only=True):
    """What `init` made, and the commands to go on with."""

    project: str
    next: str


class NewDocument(Document, frozen=True, kw_only=True):
    """The two files that `new` wrote."""

    group: str
    test: str


class SourceDocument(Document, frozen=True, kw_only=True):
    """The file that `source` wrote, and what is not sure in it."""

    source: str
    file: str
    rows: int
    decide: list[str]
    check: list[str]


class MistakeAt(Part, frozen=True, kw_only=True):
    """A mistake in a definition."""

    file: str
    line: int
    message: str


class DataMisfit(Part, frozen=True, kw_only=True):
    """What of a source's data does not fit its definition."""

    source: str
    file: str
    message: str


class CheckDocument(Document, frozen=True, kw_only=True):
    """What `check` found: mistakes, or, where there are none, how many definitions there are."""

    mistakes: list[MistakeAt]
    entities: int | UnsetType = UNSET
    sources: int | UnsetType = UNSET
    groups: int | UnsetType = UNSET
    services: int | UnsetType = UNSET
    training_sets: int | UnsetType = UNSET
    connections: list[str] | UnsetType = UNSET
    data: list[DataMisfit] | UnsetType = UNSET


class PlannedStep(Part, frozen=True, kw_only=True):
    """One step of a plan, in the order of the run."""

    step: str
    group: str
    interval_start: datetime
    interval_end: datetime
    reason: str


class OutOfDate(Part, frozen=True, kw_only=True):
    """What a run makes out of date."""

    groups: list[str]
    training_sets: list[str]
    online: bool


class GroupCost(Part, frozen=True, kw_only=True):
    """The cost estimate of one group's part of a plan."""

    group: str
    intervals: int
    files: int
    bytes: int
    seconds: float | None
    stale: OutOfDate


class PlanDocument(Document, frozen=True, kw_only=True):
    """What `materialize` would do, and what that takes."""

    steps: list[PlannedStep]
    bill: list[GroupCost]
    refused: dict[str, str]


class IngestedSource(Part, frozen=True, kw_only=True):
    """What `ingest` did to one source."""

    source: str
    files: int
    rows: int
    quarantined: int
    reasons: dict[str, int]
    dates_changed: int
    revision: int | None
    refused: list[str]
    renamed: dict[str, str]
    copies: dict[str, str]
    waiting: dict[str, str]
    failed: str | None
    hints: list[str]


class IngestDocument(Document, frozen=True, kw_only=True):
    """What `ingest` did."""

    sources: list[IngestedSource]


class ExampleAside(Part, frozen=True, kw_only=True):
    """A row that is put aside: where it lay, or of which interval it is, and what it holds."""

    file: str | None
    line: int | None
    column: str | None
    value: str | None
    interval_start: datetime | None
    row: dict[str, Any]


class RowsAside(Part, frozen=True, kw_only=True):
    """What of a source or a group is put aside for one reason."""

    name: str
    of: str
    reason: str
    rows: int
    intervals: int | None
    examples: list[ExampleAside]


class RetriedAside(Part, frozen=True, kw_only=True):
    """How much of a source or a group was put aside before and after it was judged again."""

    name: str
    rows_before: int
    rows_after: int
    intervals_before: int
    intervals_after: int
    failed: str | None


class QuarantineDocument(Document, frozen=True, kw_only=True):
    """What is put aside, and what became of what was judged again or written to a file."""

    aside: list[RowsAside]
    retried: list[RetriedAside]
    exported: str | UnsetType = UNSET
    exported_rows: int | UnsetType = UNSET


class RejectedInterval(Part, frozen=True, kw_only=True):
    """An interval that failed critical expectations."""

    interval_start: datetime
    interval_end: datetime
    failed: list[str]


class AwaitingInterval(Part, frozen=True, kw_only=True):
    """An interval that was judged and waits for a person."""

    interval_start: datetime
    interval_end: datetime
    warned: list[str]


class MaterializedGroup(Part, frozen=True, kw_only=True):
    """What `materialize` did to one group."""

    group: str
    generation: int
    published: int
    rejected: list[RejectedInterval]
    waiting: list[AwaitingInterval]
    rows: int
    publish_id: str | None
    seconds: float
    refused: str | None


class MaterializeDocument(Document, frozen=True, kw_only=True):
    """What `materialize` did, and with `--ingest` what it brought before."""

    groups: list[MaterializedGroup]
    sources: list[IngestedSource] | UnsetType = UNSET


class AwaitedIntervals(Part, frozen=True, kw_only=True):
    """The intervals of one group that an interval waits for: the first of them and its status, and how many they are."""

    group: str
    interval_start: datetime
    interval_end: datetime
    status: str
    count: int


class GivenAdvice(Part, frozen=True, kw_only=True):
    """What is to be done about an interval: a row at fault, the run's report, what to correct, what lets later intervals pass."""

    example: dict[str, Any] | None
    report: str | None
    correct: list[str]
    release: str | None
    approve: str | None
    held: int
    sentence: str


class KnownInterval(Part, frozen=True, kw_only=True):
    """The state of one interval, and why it is so."""

    group: str
    interval_start: datetime
    interval_end: datetime
    status: str
    reasons: list[str]
    rows: int | None
    publish_id: str | None
    delta_version: int | None
    waits_for: list[AwaitedIntervals]
    run: str | None
    advice: GivenAdvice | UnsetType = UNSET


class StatusDocument(Document, frozen=True, kw_only=True):
    """The state of every interval, and where each group's table lies."""

    intervals: list[KnownInterval]
    tables: dict[str, str]
    quarantined: dict[str, int]
    refused: dict[str, str]


class DecidedInterval(Part, frozen=True, kw_only=True):
    """An interval of a run that a person decided on."""

    interval_start: datetime
    interval_end: datetime


class LeftInterval(Part, frozen=True, kw_only=True):
    """An interval of a run that a decision left, since it is not as it was judged."""

    interval_start: datetime
    interval_end: datetime
    reason: str


class PublishDocument(Document, frozen=True, kw_only=True):
    """What became of a run that waited for approval; no intervals where that was decided before."""

    group: str
    run: str
    decision: Literal["publish", "refuse"]
    intervals: list[DecidedInterval]
    left: list[LeftInterval]
    rows: int
    publish_id: str | None


class KnownGeneration(Part, frozen=True, kw_only=True):
    """One generation of a group."""

    generation: int
    current: bool
    first_published_at: datetime | None
    columns: list[str]


class PromoteDocument(Document, frozen=True, kw_only=True):
    """A group's generations after `promote`."""

    group: str
    generations: list[KnownGeneration]


class ReleasedInterval(Part, frozen=True, kw_only=True):
    """A rejected interval that later ones wait for no longer."""

    group: str
    interval_start: datetime
    interval_end: datetime
    reason: str


class ReleaseDocument(Document, frozen=True, kw_only=True):
    """What `release` released."""

    released: list[ReleasedInterval]


class OptimizedTable(Part, frozen=True, kw_only=True):
    """What `optimize` did to one table."""

    table: str
    files_before: int
    files_after: int
    deleted_files: int
    deleted_before: date | None


class SweptLake(Part, frozen=True, kw_only=True):
    """What `optimize` deleted that runs had left which were cut off."""

    staging: int
    uploads: int
    files: int


class OptimizeDocument(Document, frozen=True, kw_only=True):
    """What `optimize` did."""

    tables: list[OptimizedTable]
    swept: SweptLake | None


class TrainingSetBuildDocument(Document, frozen=True, kw_only=True):
    """The training set that was built."""

    name: str
    path: str
    rows: int
    unchanged: bool
    rejected: list[str]
    manifest: dict[str, Any]


class ComparedRows(Part, frozen=True, kw_only=True):
    """Some rows of a group that were compared with the lake just after a sync."""

    compared: int
    equal: int
    older: int
    newer: int
    other: int
    missing: int


class ListedTrainingSet(Part, frozen=True, kw_only=True):
    """One training set of the lake: its newest version."""

    name: str
    version: int | None
    rows: int
    service: str
    service_version: int
    mode: str
    built_at: datetime
    versions: int
    rejected: list[str]


class TrainingSetListDocument(Document, frozen=True, kw_only=True):
    """The training sets that lie in the lake."""

    training_sets: list[ListedTrainingSet]


class TrainingSetVersion(Part, frozen=True, kw_only=True):
    """One build of a training set."""

    version: int
    built_at: datetime
    rows: int
    checksum: str
    readable: bool


class TrainingSetShowDocument(Document, frozen=True, kw_only=True):
    """One version of a training set, and which others there are."""

    name: str
    path: str
    page: str | None
    version: int
    rows: int
    manifest: dict[str, Any]
    versions: list[TrainingSetVersion]


class DifferingColumn(Part, frozen=True, kw_only=True):
    """A column for which other values come out now."""

    column: str
    rows: int | None


class TrainingSetVerifyDocument(Document, frozen=True, kw_only=True):
    """Whether a version of a training set is as it was built."""

    name: str
    version: int
    rows: int
    verdict: Literal["equal", "differs", "not rebuilt"]
    damaged: list[str]
    differing: list[DifferingColumn]
    spine: str | None
    gone: list[str]
    changed: list[str]


class TrainingSetAppendDocument(Document, frozen=True, kw_only=True):
    """The training set after what came to its spine was joined."""

    name: str
    path: str
    version: int
    rows: int
    unchanged: bool
    since: date | None
    joined: int
    rejected: list[str]


class TrainingSetAddDocument(Document, frozen=True, kw_only=True):
    """The training set after features were added."""

    name: str
    path: str
    version: int
    rows: int
    columns: list[str]
    rejected: list[str]


class VersionOfTrainingSet(Part, frozen=True, kw_only=True):
    """A version of a training set that is compared."""

    name: str
    version: int
    rows: int


class RowsOfVersions(Part, frozen=True, kw_only=True):
    """How the rows of two versions compare."""

    added: int
    removed: int
    changed: int
    same: int


class RetypedColumn(Part, frozen=True, kw_only=True):
    """A column that has another type."""

    column: str
    type_from: str
    type_to: str


class ComparedColumn(Part, frozen=True, kw_only=True):
    """A column that both versions have."""

    column: str
    changed: int
    nulls_from: int | None
    nulls_to: int | None
    mean_from: float | None
    mean_to: float | None
    shift: float | None


class TrainingSetDiffDocument(Document, frozen=True, kw_only=True):
    """How a second version of a training set differs from a first one."""

    first: VersionOfTrainingSet
    second: VersionOfTrainingSet
    identity: list[str]
    rows: RowsOfVersions
    columns_added: list[str]
    columns_removed: list[str]
    retyped: list[RetypedColumn]
    columns: list[ComparedColumn]


class TrainingSetExportDocument(Document, frozen=True, kw_only=True):
    """The file that was written."""

    name: str
    version: int
    path: str
    format: str
    rows: int
    bytes: int


class FeastApplyDocument(Document, frozen=True, kw_only=True):
    """What Feast's registry was told."""

    repo: str
    registry: str
    entities: int
    feature_views: int
    on_demand_feature_views: int
    feature_services: int
    removed: list[str]
    not_said: list[str]


class SyncedGroup(Part, frozen=True, kw_only=True):
    """The newest finished sync of one group."""

    group: str
    generation: int
    epoch: int
    coverage: datetime | None
    rows: int
    written: int
    synced_at: datetime
    compared: int
    repaired: int
    reason: str | None
    bytes: int | None
    parity: ComparedRows | None


class ComparedGroup(Part, frozen=True, kw_only=True):
    """How the rows of one group that lie online compare with the lake's."""

    group: str
    generation: int
    epoch: int
    rows: int
    compared: int
    equal: int
    older: int
    newer: int
    other: int
    missing: int
    extra: int
    share: float


class ParityDocument(Document, frozen=True, kw_only=True):
    """What `parity` found."""

    groups: list[ComparedGroup]


class RollbackDocument(Document, frozen=True, kw_only=True):
    """What `rollback` brought back."""

    epoch: SyncedGroup


class PushDocument(Document, frozen=True, kw_only=True):
    """What `push` brought."""

    group: str
    generation: int
    rows: int
    known: int
    publish_id: str | None


class ErasedGroup(Part, frozen=True, kw_only=True):
    """What was done in one group of an entity that was erased."""

    group: str
    state: str
    epoch: int | None


class EraseDocument(Document, frozen=True, kw_only=True):
    """What `erase` took from the online store, or let come back, and what the lake keeps."""

    entity: str
    keys: dict[str, Any]
    lifted: bool
    groups: list[ErasedGroup]
    kept: list[str]


class SyncDocument(Document, frozen=True, kw_only=True):
    """What `sync` brought to the online store."""

    epochs: list[SyncedGroup]
    warnings: list[str]


class AnsweredEntity(Part, frozen=True, kw_only=True):
    """What a reader gets for one entity."""

    entity: dict[str, Any]
    values: dict[str, Any]
    status: dict[str, str]
    event_timestamp: dict[str, str | None]


class GetDocument(Document, frozen=True, kw_only=True):
    """What the serving layer answers."""

    results: list[AnsweredEntity]


class DownDocument(Document, frozen=True, kw_only=True):
    """Whether an embedded online store was running."""

    stopped: bool


class ServeDocument(Document, frozen=True, kw_only=True):
    """Where `serve` answers, and for which services; it is printed when requests are taken."""

    url: str
    grpc: str | None
    services: list[str]


class ExplainedRow(Part, frozen=True, kw_only=True):
    """One row as it was published once."""

    event_timestamp: datetime
    interval_start: datetime
    interval_end: datetime
    publish_id: str
    known_from: datetime
    basis: str
    visible_from: datetime
    values: dict[str, Any]
    empties_at: datetime | None
    held: bool
    retracted: bool
    replaced_by: str | None


class ExplainedRun(Part, frozen=True, kw_only=True):
    """The run that gave a row its values."""

    run_id: str
    revision: int
    state: str
    failed: list[str]
    warned: list[str]
    seconds: float
    recorded_at: datetime


class ExplainedWindow(Part, frozen=True, kw_only=True):
    """The span of events that a row's longest window holds."""

    start: datetime
    end: datetime


class ExplainDocument(Document, frozen=True, kw_only=True):
    """The story of one value."""

    group: str
    entity: dict[str, Any]
    at: datetime
    generation: int
    status: str
    values: dict[str, Any]
    coverage: datetime | None
    row: ExplainedRow | None
    run: ExplainedRun | None
    window: ExplainedWindow | None
    events: list[dict[str, Any]]
    event_count: int | None
    rows_aside: int
    later: list[ExplainedRow]


class RestoredFacts(Part, frozen=True, kw_only=True):
    """How many facts of each kind were found in the lake."""

    files: int
    revisions: int
    entries: int
    publishes: int
    generations: int
    promotions: int
    releases: int
    epochs: int


class RegistryRebuildDocument(Document, frozen=True, kw_only=True):
    """What `registry rebuild` restored."""

    restored: RestoredFacts
    not_restored: list[str]


class MovedRows(Part, frozen=True, kw_only=True):
    """How many rows were moved, by kind."""

    files: int
    revisions: int
    ledger: int
    publishes: int
    generations: int
    promotions: int
    releases: int
    epochs: int
    tiles: int
    pending: int


class RegistryMoveDocument(Document, frozen=True, kw_only=True):
    """What `registry move` moved, and what is to be set now."""

    moved_from: str
    moved_to: str
    rows: MovedRows
    set: Literal["HEADWATER_REGISTRY_URL"] = "HEADWATER_REGISTRY_URL"


class HeldLease(Part, frozen=True, kw_only=True):
    """A process that works on something alone."""

    name: str
    host: str
    pid: int
    since: datetime
    renewed_at: datetime
    token: int
    may_be_taken_over: bool


class RegistryLeasesDocument(Document, frozen=True, kw_only=True):
    """Who works on what."""

    leases: list[HeldLease]


# ------------------------------------------------------------------------------------------------------------ from the records


def check(catalog: Catalog, *, connections: Sequence[str], data: Iterable[Any] | None = None) -> CheckDocument:
    """How many definitions a catalog without mistakes has, and what is wrong with the connections and, if it was looked at, the data."""
    return CheckDocument(
        mistakes=[],
        entities=len(catalog.entities),
        sources=len(catalog.sources),
        groups=len(catalog.groups),
        services=len(catalog.services),
        training_sets=len(catalog.training_sets),
        connections=list(connections),
        data=UNSET if data is None else [_part(DataMisfit, each) for each in data],
    )


def mistaken(mistakes: Iterable[Mistake]) -> CheckDocument:
    """The mistakes that keep a catalog from being used."""
    return CheckDocument(mistakes=[_part(MistakeAt, each, file=str(each.file)) for each in mistakes])


def plan(works: Iterable[GroupPlan], costs: Iterable[CostEstimate], *, refused: Mapping[str, str]) -> PlanDocument:
    """The steps of plans, and their cost estimates: a run computes all intervals of a group, judges all, then publishes all at once.

    Beside them the groups that cannot be planned, each with the reason.
    """
    steps = [_step(step, each) for work in works for step in ("Compute", "Validate", "Publish") for each in work.due]
    bill = [_part(GroupCost, cost, stale=_part(OutOfDate, cost.stale)) for cost in costs]
    return PlanDocument(steps=steps, bill=bill, refused=dict(refused))


def ingest(reports: Iterable[Any]) -> IngestDocument:
    """What was ingested."""
    return IngestDocument(sources=[_part(IngestedSource, report) for report in reports])


def quarantine(found: Iterable[Any], *, retried: Iterable[Any] = (), exported: tuple[str, int] | None = None) -> QuarantineDocument:
    """What is put aside, and what was done about it."""
    aside = [_part(RowsAside, each, examples=[_part(ExampleAside, one, row=dict(one.row)) for one in each.examples]) for each in found]
    return QuarantineDocument(
        aside=aside,
        retried=[_retried(each) for each in retried],
        exported=UNSET if exported is None else exported[0],
        exported_rows=UNSET if exported is None else exported[1],
    )


def _retried(each: Any) -> RetriedAside:
    before, after = each.before, each.after
    return RetriedAside(
        name=each.name,
        rows_before=before.rows,
        rows_after=after.rows,
        intervals_before=before.intervals,
        intervals_after=after.intervals,
        failed=each.failed,
    )


def materialize(results: Iterable[Any], *, brought: Iterable[Any] | None = None) -> MaterializeDocument:
    """What was materialized, and what was ingested before, if anything was to be."""
    sources = UNSET if brought is None else ingest(brought).sources
    return MaterializeDocument(groups=[_materialized(result) for result in results], sources=sources)


def status(
    found: Iterable[IntervalStatus],
    tables: Mapping[str, str],
    *,
    quarantined: Mapping[str, int],
    refused: Mapping[str, str],
    advice: Mapping[tuple[str, Interval], GivenAdvice] = MappingProxyType({}),
) -> StatusDocument:
    """The states of intervals with advice, the tables of their groups, what is put aside, and which groups cannot be planned."""
    intervals = [_interval(each, advice.get((each.group, each.interval)) if advice else None) for each in found]
    return StatusDocument(intervals=intervals, tables=dict(tables), quarantined=dict(quarantined), refused=dict(refused))


def advice(given: Any, sentence: str) -> GivenAdvice:
    """Advice about an interval, and the sentence that says it."""
    example = None if given.example is None else dict(given.example)
    return _part(GivenAdvice, given, example=example, correct=list(given.correct), sentence=sentence)


def promote(group: str, generations: Iterable[Generation]) -> PromoteDocument:
    """The generations of a group."""
    known = [_part(KnownGeneration, each, generation=each.number, columns=list(each.features)) for each in generations]
    return PromoteDocument(group=group, generations=known)


def publish(group: str, run: str, decided: Any, *, decision: Decision) -> PublishDocument:
    """What a person decided of a run, the intervals that it ended and those that it left."""
    ended = decided.ended
    return PublishDocument(
        group=group,
        run=run,
        decision=decision,
        intervals=[DecidedInterval(**_span(entry.interval)) for entry in ended],
        left=[LeftInterval(reason=why, **_span(interval)) for interval, why in decided.left],
        rows=sum(entry.rows for entry in ended),
        publish_id=ended[0].publish_id if ended else None,
    )


def release(releases: Iterable[Any]) -> ReleaseDocument:
    """What was released."""
    return ReleaseDocument(released=[_part(ReleasedInterval, each, **_span(each.interval)) for each in releases])


def optimize(done: Iterable[Any], swept: Any | None) -> OptimizeDocument:
    """What was done to tables, and what was swept beside them; None if only some groups were named."""
    tables = [_part(OptimizedTable, each) for each in done]
    return OptimizeDocument(tables=tables, swept=None if swept is None else _part(SweptLake, swept))


def training_set_build(built: Any) -> TrainingSetBuildDocument:
    """The training set that lies there now."""
    told = {name: getattr(built, name) for name in ("name", "path", "rows", "unchanged", "manifest")}
    return TrainingSetBuildDocument(**told, rejected=[*built.rejected])


def training_set_list(found: Iterable[Any]) -> TrainingSetListDocument:
    """The training sets that lie in the lake, each with its newest manifest, how many versions it has, and what rejected a newer build."""
    return TrainingSetListDocument(training_sets=[_listed(each) for each in found if each.newest.manifest])


def _listed(each: Any) -> ListedTrainingSet:
    said = each.newest.manifest
    return ListedTrainingSet(
        **{name: said[name] for name in ("name", "rows", "service", "mode")},
        version=each.newest.version,
        service_version=said["version"],
        built_at=parse_instant(said["built_at"]),
        versions=each.versions,
        rejected=[*each.rejected],
    )


def training_set_show(shown: Any, others: Iterable[Any]) -> TrainingSetShowDocument:
    """One version of a training set, and all that there are."""
    versions = [
        TrainingSetVersion(
            version=each.number,
            built_at=parse_instant(each.manifest["built_at"]),
            rows=each.manifest["rows"],
            checksum=each.manifest["checksum"],
            readable=each.readable,
        )
        for each in others
    ]
    manifest = dict(shown.manifest)
    return TrainingSetShowDocument(
        name=manifest["name"],
        path=shown.path,
        page=shown.page,
        version=shown.number,
        rows=manifest["rows"],
        manifest=manifest,
        versions=versions,
    )


def training_set_verify(found: Any) -> TrainingSetVerifyDocument:
    """What was found of a version."""
    differing = [DifferingColumn(column=name, rows=rows) for name, rows in found.differing.items()]
    told = {name: getattr(found, name) for name in ("name", "version", "rows", "verdict", "spine")}
    lists: dict[str, Any] = {name: [*getattr(found, name)] for name in ("damaged", "gone", "changed")}
    return TrainingSetVerifyDocument(**told, **lists, differing=differing)


def training_set_append(built: Any) -> TrainingSetAppendDocument:
    """The training set after what came to its spine was joined; of an unchanged one nothing was."""
    told = {name: getattr(built, name) for name in ("name", "path", "rows", "unchanged")}
    said = {} if built.unchanged else built.manifest["appended"]
    since = date.fromisoformat(said["since"]) if said else None
    version = built.manifest.get("delta_version", said.get("to"))
    return TrainingSetAppendDocument(**told, version=version, since=since, joined=said.get("rows", 0), rejected=[*built.rejected])


def training_set_add(built: Any) -> TrainingSetAddDocument:
    """The training set after features were added."""
    told = {name: getattr(built, name) for name in ("name", "path", "rows")}
    added = built.manifest["added"][-1]
    columns = [f"{added['prefix'] or added['group']}__{column}" for column in added["features"]]
    version = built.manifest.get("delta_version", added["to"])
    return TrainingSetAddDocument(**told, version=version, columns=columns, rejected=[*built.rejected])


def training_set_diff(found: Any) -> TrainingSetDiffDocument:
    """How two versions differ."""
    columns = [
        ComparedColumn(
            column=each.name,
            changed=each.changed,
            nulls_from=each.nulls[0],
            nulls_to=each.nulls[1],
            mean_from=each.means[0],
            mean_to=each.means[1],
            shift=each.shift,
        )
        for each in found.columns
    ]
    return TrainingSetDiffDocument(
        first=_version(found.first),
        second=_version(found.second),
        identity=[*found.identity],
        rows=RowsOfVersions(**found.rows._asdict()),
        columns_added=[*found.columns_added],
        columns_removed=[*found.columns_removed],
        retyped=[RetypedColumn(column=name, type_from=a, type_to=b) for name, (a, b) in found.retyped.items()],
        columns=columns,
    )


def _version(of: Any) -> VersionOfTrainingSet:
    said = of.manifest
    number = said["delta_version"] if of.version is None else of.version
    return VersionOfTrainingSet(name=said["name"], version=number, rows=said["rows"])


def training_set_export(done: Any) -> TrainingSetExportDocument:
    """The file that was written."""
    return TrainingSetExportDocument(**done._asdict())


def parity(compared: Iterable[Any]) -> ParityDocument:
    """How groups compare with the lake."""
    return ParityDocument(groups=[_part(ComparedGroup, each) for each in compared])


def push(taken: Any) -> PushDocument:
    """The rows that were pushed."""
    return PushDocument(**{name: getattr(taken, name) for name in PushDocument.__struct_fields__ if name != "schema"})


def erase(entity: str, keys: Mapping[str, Any], erased: Iterable[Any], kept: Iterable[str]) -> EraseDocument:
    """An entity that was erased."""
    return EraseDocument(entity=entity, keys=dict(keys), lifted=False, groups=[_part(ErasedGroup, each) for each in erased], kept=[*kept])


def lift(entity: str, keys: Mapping[str, Any], synced: Iterable[Any], kept: Iterable[str]) -> EraseDocument:
    """An entity that is online again."""
    groups = [ErasedGroup(group=each.group, state="online", epoch=each.epoch) for each in synced]
    return EraseDocument(entity=entity, keys=dict(keys), lifted=True, groups=groups, kept=[*kept])


def rollback(epoch: object) -> RollbackDocument:
    """The sync that brought an earlier state back."""
    return RollbackDocument(epoch=_synced(epoch))


def sync(epochs: Iterable[Any], warnings: list[str]) -> SyncDocument:
    """The syncs of groups, and what is wrong with the store's settings."""
    return SyncDocument(epochs=[_synced(epoch) for epoch in epochs], warnings=warnings)


def get(results: Iterable[Mapping[str, Any]]) -> GetDocument:
    """Answers as serving gives them."""
    return GetDocument(results=[AnsweredEntity(**result) for result in results])


def explain(story: Any) -> ExplainDocument:
    """A story as `explain` found it."""
    run = None if story.run is None else ExplainedRun(**{name: story.run[name] for name in ExplainedRun.__struct_fields__})
    return ExplainDocument(
        group=story.asked.group.name,
        entity=dict(story.asked.entity),
        at=story.asked.at,
        generation=story.generation,
        status=story.status,
        values=dict(story.values),
        coverage=story.coverage,
        row=None if story.version is None else _row(story.version),
        run=run,
        window=None if story.window is None else _part(ExplainedWindow, story.window),
        events=list(story.events),
        event_count=story.event_count,
        rows_aside=story.aside,
        later=[_row(version) for version in story.later],
    )


def registry_rebuild(facts: Any) -> RegistryRebuildDocument:
    """What was restored, and what is not in the lake."""
    counts = {name: len(getattr(facts, name)) for name in RestoredFacts.__struct_fields__}
    return RegistryRebuildDocument(restored=RestoredFacts(**counts), not_restored=["tiles"])


def registry_move(moved: Any) -> RegistryMoveDocument:
    """What was moved, without what only serves the database."""
    rows = MovedRows(**{name: moved.rows[name] for name in MovedRows.__struct_fields__})
    return RegistryMoveDocument(moved_from=moved.moved_from, moved_to=moved.moved_to, rows=rows)


def registry_leases(leases: Iterable[Any]) -> RegistryLeasesDocument:
    """The leases that are held."""
    return RegistryLeasesDocument(leases=[_part(HeldLease, lease) for lease in leases])


def counts(found: Struct) -> dict[str, int]:
    """What a document counts, by name."""
    return {name: value for name in found.__struct_fields__ if isinstance(value := getattr(found, name), int) and name != "schema"}


def text(document: Document) -> str:
    """A document as it is printed."""
    if isinstance(document, StatusDocument) and (plain := _plain(document)) is not None:
        return plain
    found = to_builtins(document, builtin_types=AS_TEXT, enc_hook=str)
    try:
        return format_json(json.dumps(found, default=as_text), indent=2)  # a fourth of the time that json takes to indent
    except DecodeError:  # NaN, which only Python's JSON has
        return json.dumps(found, indent=2, default=as_text)


def _plain(document: StatusDocument) -> str | None:
    """A status as it is printed, in a fourth of the time: it may have very many intervals. None if Python spells something otherwise."""
    if any(each.advice is not UNSET for each in document.intervals):
        return None
    found = encode(document)
    return format_json(found, indent=2).decode() if found.isascii() else None


def as_text(value: object) -> str:
    """A value that JSON has no type for."""
    return iso(value) if isinstance(value, datetime) else str(value)


def _part(kind: type[AnyPart], record: object, **given: Any) -> AnyPart:
    """A part whose fields are the record's attributes of the same names, except those that are given."""
    return kind(**{name: getattr(record, name) for name in kind.__struct_fields__ if name not in given}, **given)


def _synced(epoch: Any) -> SyncedGroup:
    return _part(SyncedGroup, epoch, parity=None if epoch.parity is None else _part(ComparedRows, epoch.parity))


def _span(interval: Interval) -> dict[str, datetime]:
    return {"interval_start": interval.start, "interval_end": interval.end}


def _step(step: str, planned: IntervalStatus) -> PlannedStep:
    reason = "; ".join(planned.reasons) or planned.status
    return PlannedStep(step=step, group=planned.group, reason=reason, **_span(planned.interval))


def _interval(known: IntervalStatus, advice: GivenAdvice | None) -> KnownInterval:
    return KnownInterval(
        group=known.group,
        interval_start=known.interval.start,
        interval_end=known.interval.end,
        status=known.status,
        reasons=list(known.reasons),
        rows=known.rows,
        publish_id=known.publish_id,
        delta_version=known.delta_version,
        waits_for=[_part(AwaitedIntervals, each, **_span(each.first)) for each in known.waits_for] if known.waits_for else [],
        run=known.run,
        advice=UNSET if advice is None else advice,
    )


def _materialized(result: Any) -> MaterializedGroup:
    rejected = [RejectedInterval(failed=list(failed), **_span(interval)) for interval, failed in result.rejected]
    waiting = [AwaitingInterval(warned=list(warned), **_span(interval)) for interval, warned in result.waiting]
    return _part(MaterializedGroup, result, rejected=rejected, waiting=waiting, seconds=round(result.seconds, 3))


def _row(version: Any) -> ExplainedRow:
    publish = version.publish
    known = {"publish_id": publish.publish_id, "known_from": publish.known_from, "basis": publish.basis}
    return _part(ExplainedRow, version, **known, **_span(publish.interval))
