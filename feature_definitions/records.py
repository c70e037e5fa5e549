"""Facts that are remembered: what changed in a source, what was done to an interval, what was published and since when it was known."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal, NamedTuple

from feature_definitions.intervals import Interval

IntervalState = Literal["PUBLISHED", "REJECTED", "WAITING"]
Basis = Literal["OBSERVED", "MODELLED"]
PromotedBy = Literal["automatic", "person"]


@dataclass(frozen=True, slots=True)
class Revision:
    """A change of one UTC date of a source: rows added, removed or altered, all within `[first, end)`.

    `revision` counts up per source, one number per ingest that changed anything; `rows`, `content_hash` and the time of the `earliest` row
    are of the date afterwards (None: it has no row, or an older Headwater recorded it).
    """

    source: str
    revision: int
    date: date
    first: datetime
    end: datetime
    content_hash: str
    rows: int
    recorded_at: datetime
    earliest: datetime | None = None


@dataclass(frozen=True, slots=True)
class TileRecord:
    """What the tiles that start on one UTC date were built from: the source's revision, and which states they hold."""

    revision: int
    states: frozenset[str]


@dataclass(frozen=True, slots=True)
class IngestedFile:
    """A file whose rows are in a source: its path (relative to the project), its SHA-256, and how many rows it brought and lost.

    `came_as` is the path that its rows go by, if it was another one when they came. Where a file was renamed, an empty record without
    SHA-256 stays under its old path. `tag` is what a file is known by, so that it need not be read to find that it did not change.
    """

    source: str
    path: str
    sha256: str
    rows: int
    quarantined: int
    ingest_id: str
    came_as: str | None = None
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """The newest that was done to one interval of a group's generation.

    `features` holds each column's fingerprint, `gate` that of the expectations, `revision` the source's newest revision that the run saw,
    `failed` the critical expectations that failed, `warned` the others, `delta_version` the commit that published it (None without one).
    WAITING: it was computed and judged, and waits for a person. `run_id` is the run that computed it; what a person let pass has a
    `publish_id` of its own.
    A transform has `inputs` instead, by name: of each source its newest revision, of each group what `Upstream.content` said.
    """

    group: str
    generation: int
    interval: Interval
    state: IntervalState
    publish_id: str
    features: Mapping[str, str]
    gate: str
    revision: int
    rows: int
    delta_version: int | None
    failed: tuple[str, ...]
    warned: tuple[str, ...]
    run_id: str
    seconds: float
    recorded_at: datetime
    inputs: Mapping[str, str] = field(default_factory=dict, metadata={"kind": "json"})


class PastRuns(NamedTuple):
    """How many runs of a generation did so many intervals each, as far as their entries are still the newest, and in how long together."""

    intervals: int
    runs: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Publish:
    """Since when one publish of one interval is known; publishes of a group are ordered by their ids.

    OBSERVED: `known_from` is the commit's time. MODELLED: interval end + publish delay, for history the platform did not live through.
    """

    publish_id: str
    group: str
    generation: int
    interval: Interval
    known_from: datetime
    basis: Basis


@dataclass(frozen=True, slots=True)
class Committed:
    """That a publish happened, when, and by which commit of the group's table (None without one); `empty` as the generation has it then."""

    group: str
    generation: int
    publish_id: str
    committed_at: datetime
    delta_version: int | None
    empty: str | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """One meaning of a group and the table that holds it; `features` are the fingerprints of its columns.

    `first_published_at` is the time of its first commit: intervals that ended before it are history. `empty` is the JSON text of what its
    columns hold for an entity without events, None where its last publish did not say.
    """

    group: str
    number: int
    features: Mapping[str, str]
    current: bool
    first_published_at: datetime | None
    empty: str | None = None


@dataclass(frozen=True, slots=True)
class Promotion:
    """That readers were given a generation of a group to see; `number` counts the group's promotions from 1.

    `newest` was the group's newest generation then. What a person chose (`by`) stands until a generation comes that is newer than that.
    """

    group: str
    number: int
    generation: int
    newest: int
    by: PromotedBy
    promoted_at: datetime


@dataclass(frozen=True, slots=True)
class Release:
    """A person's word that later intervals need not wait for a rejected one, whose events were the source's as of `revision`."""

    group: str
    generation: int
    interval: Interval
    revision: int
    reason: str
    released_at: datetime


@dataclass(frozen=True, slots=True)
class Epoch:
    """One sync of a group to the online store: it brought what was known at `synced_at`.

    From `begun_at` on readers may have met rows of it, and from `ended_at` on they met no others. One without `ended_at` was cut off, or
    goes on; of those of an older Headwater, which have neither, nothing but `synced_at` is known. It `found_lost` rows where the store
    lacked some that the sync before had brought: since when it did nobody knows.
    """

    group: str
    generation: int
    epoch: int
    coverage: datetime | None
    rows: int
    written: int
    synced_at: datetime
    begun_at: datetime | None = None
    ended_at: datetime | None = None
    found_lost: bool | None = None

    @property
    def finished(self) -> bool:
        """Whether its record was published."""
        return self.begun_at is None or self.ended_at is not None


@dataclass(frozen=True, slots=True)
class Erasure:
    """That online nothing is answered of an entity from a time on, or (`lifted`) something is again; `key` is its `entity_text`."""

    entity: str
    key: str
    at: datetime
    lifted: bool


@dataclass(frozen=True, slots=True)
class LeaseHolder:
    """Which process works on what (`name`), since when by its own clock, and when it last said so by the registry's.

    `token` counts the takings of the lease. It may be taken over if the process is gone or was silent for too long.
    """

    name: str
    host: str
    pid: int
    since: datetime
    renewed_at: datetime
    token: int
    may_be_taken_over: bool


@dataclass(frozen=True, slots=True)
class PendingIngest:
    """What one ingest is about to change; `commits` says whether it makes a Delta commit, by which a rerun sees if it happened."""

    ingest_id: str
    source: str
    files: tuple[IngestedFile, ...]
    revisions: tuple[Revision, ...]
    commits: bool


@dataclass(frozen=True, slots=True)
class PendingPublish:
    """What one publish is about to change: `entries` of all its intervals, `publishes` of those that passed.

    `features` are the generation's fingerprints after it, `empty` its empty values; `commits` says whether it makes a Delta commit.
    """

    publish_id: str
    group: str
    generation: int
    features: Mapping[str, str]
    entries: tuple[LedgerEntry, ...]
    publishes: tuple[Publish, ...]
    commits: bool
    empty: str | None = None


@dataclass(frozen=True, slots=True)
class RegistryFacts:
    """All that is remembered of a lake: what one registry holds, and what can be restored into another. Each kind is in its key's order."""

    files: tuple[IngestedFile, ...] = ()
    revisions: tuple[Revision, ...] = ()
    entries: tuple[LedgerEntry, ...] = ()
    publishes: tuple[Publish, ...] = ()
    generations: tuple[Generation, ...] = ()
    promotions: tuple[Promotion, ...] = ()
    releases: tuple[Release, ...] = ()
    epochs: tuple[Epoch, ...] = ()
