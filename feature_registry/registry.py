"""The registry: what was ingested, computed, published and synced, remembered exactly and changed only as a whole."""

import json
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import date, datetime, timedelta
from functools import cache
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, CursorResult, Table, delete, exists, func, literal, or_, select, tuple_, update

from feature_definitions.intervals import Interval, instant, micros
from feature_definitions.record_rows import Record, Row
from feature_definitions.records import (
    Epoch,
    Generation,
    IngestedFile,
    LeaseHolder,
    LedgerEntry,
    PastRuns,
    PendingIngest,
    PendingPublish,
    Promotion,
    Publish,
    RegistryFacts,
    Release,
    Revision,
    TileRecord,
)
from feature_registry import leases, move, schema
from feature_registry.database import Database, RegistryError
from feature_registry.leases import Lease, LeaseHeld, LeaseLost, Subject
from feature_registry.move import Moved
from feature_registry.schema import Remembered

_INGEST, _PUBLISH = "ingest", "publish"
_PAUSE_SECONDS = 0.2
_KEYS_AT_ONCE = 1000
"""How many keys one statement asks for."""
PATIENCE = timedelta(minutes=15)
"""How long a process waits for another one that ingests, builds or publishes the same."""


def open_registry(url: str, *, say: Callable[[str], None] = lambda _: None, silence: timedelta = leases.SILENCE) -> "Registry":
    """Open the registry at a SQLite or PostgreSQL URL; its tables, and a SQLite file with its folders, are created when missing.

    `say` is told whom a lease is waited for; who does not renew a lease for the time of `silence` loses it.
    """
    return Registry(Database(url), say=say, silence=silence)


class Registry:
    """A pool of connections to the registry; threads may share it."""

    def __init__(self, database: Database, *, say: Callable[[str], None], silence: timedelta) -> None:
        """Remember in `database`."""
        self._database, self._say, self._silence = database, say, silence
        self._here = threading.local()

    def __enter__(self) -> Self:
        """Open already."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close every connection."""
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._database.close()

    # ---------------------------------------------------------------------------------------------------------------- sources

    def files(self, source: str) -> dict[str, IngestedFile]:
        """The files whose rows are in a source, by path."""
        return {file.path: file for file in self._records(schema.FILES, source=source) if file.sha256}

    def revisions(self, source: str) -> tuple[Revision, ...]:
        """Every change of a source, ordered by revision and date."""
        return self._records(schema.REVISIONS, source=source)

    def next_revision(self, source: str) -> int:
        """The number of the source's next revision."""
        return self._greatest(schema.REVISIONS.table, "revision", source=source) + 1

    def begin_ingest(self, pending: PendingIngest) -> None:
        """Note what an ingest is about to change; nothing of it counts before `finish_ingest`."""
        change = {
            "files": [schema.FILES.row(file, maps={}) for file in pending.files],
            "revisions": [schema.REVISIONS.row(revision, maps={}) for revision in pending.revisions],
            "commits": pending.commits,
        }
        self._begin(_INGEST, pending.ingest_id, subject=pending.source, change=change)

    def pending_ingests(self, source: str) -> tuple[PendingIngest, ...]:
        """The ingests of a source that began and were neither finished nor abandoned."""
        return tuple(
            PendingIngest(
                ingest_id=pending_id,
                source=source,
                files=tuple(schema.FILES.record(row, maps={}) for row in change["files"]),
                revisions=tuple(schema.REVISIONS.record(row, maps={}) for row in change["revisions"]),
                commits=change["commits"],
            )
            for pending_id, change in self._pending(_INGEST, source)
        )

    def finish_ingest(self, ingest_id: str) -> None:
        """Make a pending ingest count, all at once; finishing it again changes nothing."""
        with self._writing() as connection:
            change = _take_pending(connection, _INGEST, ingest_id)
            if change is not None:
                self._database.upsert(connection, schema.FILES.table, change["files"])
                self._database.upsert(connection, schema.REVISIONS.table, change["revisions"])

    # ------------------------------------------------------------------------------------------------------------------ groups

    def ledger(self, group: str, generation: int) -> dict[Interval, LedgerEntry]:
        """The newest entry of each interval of a group's generation, oldest interval first."""
        return {entry.interval: entry for entry in self._records(schema.LEDGER, feature_group=group, generation=generation)}

    def newest_commit(self, group: str, generation: int) -> tuple[str, int] | None:
        """The publish whose commit to the table of a group's generation is the newest, and the version it made; None before the first."""
        of = schema.LEDGER.table.c
        mine = (of.feature_group == group, of.generation == generation, of.delta_version.is_not(None))
        with self._database.reading() as connection:
            newest = select(of.publish_id, of.delta_version).where(*mine).order_by(of.delta_version.desc(), of.publish_id.desc()).limit(1)
            found = connection.execute(newest).one_or_none()
        return None if found is None else (found.publish_id, found.delta_version)

    def computed_as(self, group: str, generation: int) -> tuple[tuple[datetime, Mapping[str, str]], ...]:
        """By which features a generation's intervals were computed: each start from which on these are others, and the features."""
        table = schema.LEDGER.table
        mine = (table.c.feature_group == group, table.c.generation == generation)
        query = select(table.c.start_at, table.c.features_id).where(*mine).order_by(table.c.start_at)
        found: list[tuple[int, str]] = []
        with self._database.reading() as connection:
            for at, features in connection.execute(query):
                if not found or found[-1][1] != features:
                    found.append((at, features))
            maps = _feature_maps(connection, {features for _, features in found})
        return tuple((instant(at), maps[features]) for at, features in found)

    def runs(self, keys: Collection[tuple[str, int]]) -> dict[tuple[str, int], tuple[PastRuns, ...]]:
        """The past runs of generations of groups, those of one size together, the smallest first."""
        found: dict[tuple[str, int], list[PastRuns]] = {key: [] for key in keys}
        of = (schema.LEDGER.table.c.feature_group, schema.LEDGER.table.c.generation)
        spent = func.sum(schema.LEDGER.table.c.seconds).label("seconds")
        runs = select(*of, func.count().label("intervals"), spent).group_by(*of, schema.LEDGER.table.c.run_id)
        with self._database.reading() as connection:
            for some in _in_parts(keys):
                each = runs.where(tuple_(*of).in_(some)).subquery().c
                sizes = (each.feature_group, each.generation, each.intervals)
                for group, generation, *past in connection.execute(
                    select(*sizes, func.count(), func.sum(each.seconds)).group_by(*sizes).order_by(*sizes)
                ):
                    found[group, generation].append(PastRuns(*past))
        return {key: tuple(runs) for key, runs in found.items()}

    def publishes(self, group: str, generation: int) -> tuple[Publish, ...]:
        """Every publish of a group's generation, ordered by publish id and interval."""
        return self._records(schema.PUBLISHES, feature_group=group, generation=generation)

    def generations(self, group: str) -> tuple[Generation, ...]:
        """The generations of a group, oldest first."""
        return self._records(schema.GENERATIONS, feature_group=group)

    def begin_publish(self, pending: PendingPublish) -> None:
        """Note what a publish is about to change; nothing of it counts before `finish_publish`."""
        maps: dict[str, Mapping[str, str]] = {}
        change = {
            "group": pending.group,
            "generation": pending.generation,
            "features_id": schema.named(pending.features, maps),
            "entries": [schema.LEDGER.row(entry, maps=maps) for entry in pending.entries],
            "publishes": [schema.PUBLISHES.row(publish, maps=maps) for publish in pending.publishes],
            "maps": {name: dict(features) for name, features in maps.items()},
            "commits": pending.commits,
            "empty": pending.empty,
        }
        self._begin(_PUBLISH, pending.publish_id, subject=pending.group, change=change)

    def publishing(self) -> frozenset[str]:
        """The groups of which a publish began and was neither finished nor abandoned."""
        query = select(schema.pending.c.subject).where(schema.pending.c.kind == _PUBLISH).distinct()
        with self._database.reading() as connection:
            return frozenset(connection.execute(query).scalars())

    def pending_publishes(self, group: str) -> tuple[PendingPublish, ...]:
        """The publishes of a group that began and were neither finished nor abandoned."""
        return tuple(
            PendingPublish(
                publish_id=pending_id,
                group=group,
                generation=change["generation"],
                features=change["maps"][change["features_id"]],
                entries=tuple(schema.LEDGER.record(row, maps=change["maps"]) for row in change["entries"]),
                publishes=tuple(schema.PUBLISHES.record(row, maps={}) for row in change["publishes"]),
                commits=change["commits"],
                empty=change.get("empty"),
            )
            for pending_id, change in self._pending(_PUBLISH, group)
        )

    def finish_publish(self, publish_id: str, *, committed_at: datetime, delta_version: int | None) -> None:
        """Make a pending publish count, all at once; finishing it again changes nothing.

        Entries that were published get `delta_version`, publishes that were observed are known from `committed_at`.
        """
        with self._writing() as connection:
            change = _take_pending(connection, _PUBLISH, publish_id)
            if change is None:
                return
            _fill_in(change, committed_at=committed_at, delta_version=delta_version)
            maps = [{"features_id": name, "features": schema.features_text(features)} for name, features in change["maps"].items()]
            self._database.upsert(connection, schema.feature_maps, maps)
            self._database.upsert(connection, schema.LEDGER.table, change["entries"])
            self._database.upsert(connection, schema.PUBLISHES.table, change["publishes"])
            self._database.upsert(connection, schema.GENERATIONS.table, [_generation_row(connection, change, committed_at=committed_at)])

    def waiting(self) -> frozenset[tuple[str, str]]:
        """The runs that wait for a person, each as the group and the run's id."""
        table = schema.LEDGER.table
        query = select(table.c.feature_group, table.c.run_id).where(table.c.state == "WAITING").distinct()
        with self._database.reading() as connection:
            return frozenset((group, run_id) for group, run_id in connection.execute(query))

    def promote(self, promotion: Promotion) -> None:
        """Make one generation of a group the one that readers see, and no other."""
        group, number, table = promotion.group, promotion.generation, schema.GENERATIONS.table
        with self._writing() as connection:
            there = (
                connection.execute(select(table.c.number).where(table.c.feature_group == group).order_by(table.c.number)).scalars().all()
            )
            if number not in there:
                raise RegistryError(f"group {group} has no generation {number}; it has {', '.join(map(str, there)) or 'none yet'}")
            self._database.upsert(connection, schema.PROMOTIONS.table, [schema.PROMOTIONS.row(promotion, maps={})])
            connection.execute(update(table).where(table.c.feature_group == group).values(is_current=table.c.number == number))

    def promotions(self, group: str) -> tuple[Promotion, ...]:
        """The promotions of a group's generations, oldest first."""
        return self._records(schema.PROMOTIONS, feature_group=group)

    def release(self, releases: Iterable[Release]) -> None:
        """Remember that rejected intervals need not hold later ones; a later release of the same interval takes the place of an earlier."""
        with self._writing() as connection:
            self._database.upsert(connection, schema.RELEASES.table, [schema.RELEASES.row(release, maps={}) for release in releases])

    def releases(self, group: str, generation: int) -> tuple[Release, ...]:
        """The newest release of each interval of a group's generation, oldest interval first."""
        return self._records(schema.RELEASES, feature_group=group, generation=generation)

    def abandon(self, pending_id: str) -> None:
        """Forget a pending ingest or publish that did not happen."""
        with self._writing() as connection:
            connection.execute(delete(schema.pending).where(schema.pending.c.pending_id == pending_id))

    # ------------------------------------------------------------------------------------------------------------------- wholes

    def blank(self) -> bool:
        """Whether nothing was ever remembered here, nor is about to be."""
        held = (*(kind.table for kind in schema.FACTS.values()), schema.pending)
        query = select(or_(*(exists(select(literal(1)).select_from(table)) for table in held)))
        with self._database.reading() as connection:
            return not connection.execute(query).scalar_one()

    def knows(self, change_id: str) -> bool:
        """Whether an ingest or a publish of this id counts here, or is about to."""
        of_publishes = (schema.LEDGER.table.c.publish_id, schema.PUBLISHES.table.c.publish_id)
        held = (schema.pending.c.pending_id, *of_publishes, schema.FILES.table.c.ingest_id)
        query = select(or_(*(exists(select(literal(1)).where(column == change_id)) for column in held)))
        with self._database.reading() as connection:
            return bool(connection.execute(query).scalar_one())

    def facts(self) -> RegistryFacts:
        """Everything that is remembered but what goes on now: what a lake can restore."""
        with self._database.reading() as connection:
            return RegistryFacts(**{name: _records(connection, kind) for name, kind in schema.FACTS.items()})

    def restore(self, facts: RegistryFacts) -> None:
        """Put these facts in the place of all that the registry holds; refused (LeaseHeld) while a process works on something.

        Syncs that it knows stay: an older Headwater kept none in the lake. A registry that was moved elsewhere is used again from then on.
        """
        maps: dict[str, Mapping[str, str]] = {}
        rows = {kind.table: [kind.row(each, maps=maps) for each in getattr(facts, name)] for name, kind in schema.FACTS.items()}
        rows[schema.feature_maps] = [{"features_id": name, "features": schema.features_text(held)} for name, held in maps.items()]
        with self._database.replacing() as connection:
            leases.end_all(connection, silence=self._silence)
            for table in (*rows.keys() - {schema.EPOCHS.table}, schema.pending, schema.moves):
                connection.execute(delete(table))
            for table, listed in rows.items():
                self._database.upsert(connection, table, listed)

    def move(self, url: str, *, over: move.Over, now: datetime) -> Moved:
        """Move everything to the database at another URL; from then on, this one says so, and refuses to be written to (RegistryMoved).

        Refused (Occupied) if that one holds something else, unless anything may be lost there, and (LeaseHeld) while a process works on
        something. A move that was cut off is made whole by the next one.
        """
        with closing(Database(url)) as target:
            return move.move(self._database, target, move.Terms(over, self._silence, now, self._say))

    def refuse_if_moved(self) -> None:
        """Refuse (RegistryMoved) if the registry had been moved elsewhere when it was opened."""
        self._database.refuse_if_moved(self._database.moved_to)

    # ------------------------------------------------------------------------------------------------------------------- tiles

    def tiles(self, path: str, *, table_id: str | None) -> dict[date, TileRecord]:
        """What the tiles of a table were built from, by the date on which they start; nothing that is said of another table there."""
        return self.tiles_of({path: table_id} if table_id else {}).get(path, {})

    def tiles_of(self, tables: Mapping[str, str], *, first: date = date.min, last: date = date.max) -> dict[str, dict[date, TileRecord]]:
        """What `tiles` says of those of many tables, given with their ids, that start on one of the dates from `first` to `last`."""
        found: dict[str, dict[date, TileRecord]] = {path: {} for path in tables}
        tiles, states_of = schema.tiles.c, cache(lambda text: frozenset[str](json.loads(text)))
        days = tiles.date >= first.isoformat(), tiles.date <= last.isoformat()
        query = select(tiles.path, tiles.date, tiles.revision, tiles.states).where(*days)
        with self._database.reading() as connection:
            for some in _in_parts(tables.items()):
                rows = connection.execute(query.where(tuple_(tiles.path, tiles.table_id).in_(some)).order_by(tiles.path, tiles.date))
                for path, day, revision, states in rows:
                    found[path][date.fromisoformat(day)] = TileRecord(revision, states_of(states))
        return found

    def record_tiles(self, path: str, built: Mapping[date, TileRecord], *, table_id: str) -> None:
        """Remember what the tiles of these dates were built from, once they are committed."""
        rows = [
            {
                "path": path,
                "date": day.isoformat(),
                "table_id": table_id,
                "revision": tile.revision,
                "states": json.dumps(sorted(tile.states)),
            }
            for day, tile in built.items()
        ]
        with self._writing() as connection:
            self._database.upsert(connection, schema.tiles, rows)

    # ------------------------------------------------------------------------------------------------------------------- syncs

    def record_epoch(self, epoch: Epoch) -> None:
        """Remember a sync of a group: when it begins, and again when it has finished."""
        with self._writing() as connection:
            self._database.upsert(connection, schema.EPOCHS.table, [schema.EPOCHS.row(epoch, maps={})])

    def epochs(self, group: str) -> tuple[Epoch, ...]:
        """The syncs of a group, oldest first, those too that did not finish."""
        return self._records(schema.EPOCHS, feature_group=group)

    def online(self) -> frozenset[str]:
        """The groups that were ever synced."""
        with self._database.reading() as connection:
            return frozenset(connection.execute(select(schema.EPOCHS.table.c.feature_group).distinct()).scalars())

    def next_epoch(self, group: str) -> int:
        """The number of the group's next sync."""
        return self._greatest(schema.EPOCHS.table, "epoch", feature_group=group) + 1

    # ------------------------------------------------------------------------------------------------------------------ leases

    @contextmanager
    def lease(self, subject: Subject, *, now: datetime, patience: timedelta = timedelta(0)) -> Iterator[Lease]:
        """Work on a subject alone, in this process and among all others; a lease whose process is gone or silent is taken over.

        Who holds it is waited for as long as there is patience; then LeaseHeld names the process and since when it holds the lease. The
        lease is renewed all the time. What is written to this registry meanwhile, by this thread, is refused (LeaseLost) once somebody
        else has taken it; whatever then fails is told as that. If a process that may still live had it before, the subject's tables get a
        fence first: what that process read of a table before cannot be committed any more.
        """
        row = self._taken(subject.name, now, until=time.monotonic() + patience.total_seconds())
        try:
            with leases.beating(lambda: self._of_lease(leases.renew, row), every=self._silence / leases.BEATS), self._holding(row):
                if row["unfenced"]:
                    self._fence(subject, row)
                yield Lease(row["name"], row["token"], row["unfenced"], lambda: self._check(row))
        except Exception:
            self._refuse_if_lost(row)
            raise
        finally:
            with suppress(RegistryError):  # what was done stays done; a lease that could not be given back ends with this process
                self._of_lease(leases.give_back, row)

    def fence(self) -> None:
        """Refuse with LeaseLost if somebody else has taken a lease under which this thread works: to be called before each commit."""
        for row in self._held():
            self._check(row)

    def leases(self) -> tuple[LeaseHolder, ...]:
        """Who works on what now, by the name of the lease."""
        with self._database.reading() as connection:
            return leases.holders(connection, silence=self._silence)

    def _taken(self, name: str, now: datetime, *, until: float) -> Row:
        told, silent, since, beats = False, None, 0.0, 2 * self._silence.total_seconds() / leases.BEATS
        while True:
            moment = time.monotonic()
            watched = silent if moment - since > beats else None
            try:
                with self._database.writing() as connection:
                    return leases.take(connection, name, now=now, silence=self._silence, watched=watched)
            except LeaseHeld as error:
                if error.silent != silent:
                    silent, since = error.silent, moment
                if moment >= until and silent is None:
                    raise
                if not told:
                    self._say(f"waiting: {error}")
                    told = True
                time.sleep(min(_PAUSE_SECONDS, beats))

    def _fence(self, subject: Subject, row: Row) -> None:
        from lake import delta_commits

        for path in subject.tables():
            delta_commits.fence(path, f"lease {row['token']} {subject.name}")
        self._of_lease(leases.fenced, row)

    @contextmanager
    def _holding(self, row: Row) -> Iterator[None]:
        """Every write of this thread is made under this lease, too."""
        before = self._held()
        self._here.held = (*before, row)
        try:
            yield
        finally:
            self._here.held = before

    def _held(self) -> tuple[Row, ...]:
        return getattr(self._here, "held", ())

    def _check(self, row: Row) -> None:
        with self._database.reading() as connection:
            leases.check(connection, row["name"], row["token"])

    def _refuse_if_lost(self, row: Row) -> None:
        try:
            self._check(row)
        except LeaseLost:
            raise
        except RegistryError:  # what failed first is what is told
            return

    def _of_lease(self, change: Callable[[Connection, Row], None], row: Row) -> None:
        with self._database.writing() as connection:
            change(connection, row)

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """A transaction that writes, refused if a lease was lost under which this thread works."""
        with self._database.writing() as connection:
            for row in self._held():
                leases.check(connection, row["name"], row["token"])
            yield connection

    # ----------------------------------------------------------------------------------------------------------------- reading

    def _records(self, kind: Remembered[Record], **key: object) -> tuple[Record, ...]:
        """The records of one key prefix, in the order of the primary key."""
        with self._database.reading() as connection:
            return _records(connection, kind, **key)

    def many(self, kind: Remembered[Record], keys: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], tuple[Record, ...]]:
        """The records of many key prefixes of one length, each in the order of the primary key."""
        found: dict[tuple[Any, ...], list[Record]] = {key: [] for key in keys}
        prefix = list(kind.table.primary_key)[: len(keys[0]) if keys else 1]
        with self._database.reading() as connection:
            for some in _in_parts(keys):
                query = select(kind.table).where(tuple_(*prefix).in_(some)).order_by(*kind.table.primary_key)
                columns = _by_column(connection.execute(query))
                for key, record in zip(
                    zip(*(columns[column.name] for column in prefix), strict=True), _made(connection, kind, columns), strict=True
                ):
                    found[key].append(record)
        return {key: tuple(records) for key, records in found.items()}

    def _greatest(self, table: Table, column: str, **key: object) -> int:
        query = select(func.max(table.c[column])).where(*(table.c[name] == value for name, value in key.items()))
        with self._database.reading() as connection:
            return connection.execute(query).scalar() or 0

    def _begin(self, kind: str, pending_id: str, *, subject: str, change: Mapping[str, Any]) -> None:
        row = {"pending_id": pending_id, "kind": kind, "subject": subject, "change": json.dumps(change, ensure_ascii=False)}
        with self._writing() as connection:
            self._database.upsert(connection, schema.pending, [row])

    def _pending(self, kind: str, subject: str) -> list[tuple[str, dict[str, Any]]]:
        table = schema.pending
        query = select(table.c.pending_id, table.c.change).where(table.c.kind == kind, table.c.subject == subject)
        with self._database.reading() as connection:
            return [(name, json.loads(change)) for name, change in connection.execute(query.order_by(table.c.pending_id))]


def _in_parts(keys: Iterable[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    """Keys, as many at once as one statement may ask for."""
    listed = list(keys)
    return (listed[start : start + _KEYS_AT_ONCE] for start in range(0, len(listed), _KEYS_AT_ONCE))


def _records(connection: Connection, kind: Remembered[Record], **key: object) -> tuple[Record, ...]:
    table = kind.table
    query = select(table).where(*(table.c[column] == value for column, value in key.items())).order_by(*table.primary_key)
    return tuple(_made(connection, kind, _by_column(connection.execute(query))))


def _made(connection: Connection, kind: Remembered[Record], columns: Mapping[str, Sequence[Any]]) -> Iterator[Record]:
    """The records of rows that are given by column."""
    return kind.records(columns, maps=_feature_maps(connection, set(columns["features_id"])) if kind.with_features else {})


def _by_column(found: CursorResult[Any]) -> dict[str, Sequence[Any]]:
    """The values of each column, by its name."""
    names, rows = tuple(found.keys()), found.all()
    return dict(zip(names, zip(*rows, strict=True) if rows else ((),) * len(names), strict=True))


def _feature_maps(connection: Connection, names: Collection[str]) -> dict[str, Mapping[str, str]]:
    """The feature maps of some names, each built once; a stored map never changes."""
    if not names:
        return {}
    query = select(schema.feature_maps).where(schema.feature_maps.c.features_id.in_(names))
    return {name: json.loads(features) for name, features in connection.execute(query)}


def _take_pending(connection: Connection, kind: str, pending_id: str) -> dict[str, Any] | None:
    """Remove a pending change and return it; None if it was finished or abandoned before."""
    table = schema.pending
    mine = (table.c.kind == kind, table.c.pending_id == pending_id)
    change = connection.execute(select(table.c.change).where(*mine)).scalar()
    connection.execute(delete(table).where(*mine))
    return None if change is None else json.loads(change)


def _fill_in(change: dict[str, Any], *, committed_at: datetime, delta_version: int | None) -> None:
    """Add what is only known after the commit."""
    for entry in change["entries"]:
        entry["delta_version"] = delta_version if entry["state"] == "PUBLISHED" else None
    for publish in change["publishes"]:
        if publish["basis"] == "OBSERVED":
            publish["known_from"] = micros(committed_at)


def _generation_row(connection: Connection, change: Mapping[str, Any], *, committed_at: datetime) -> Row:
    """The generation's row after a publish: its first one that shows anything is when it went live."""
    table = schema.GENERATIONS.table
    mine = (table.c.feature_group == change["group"], table.c.number == change["generation"])
    before = connection.execute(select(table).where(*mine)).mappings().first()
    first = before["first_published_at"] if before else None
    if first is None and any(entry["state"] == "PUBLISHED" for entry in change["entries"]):
        first = micros(committed_at)
    return {
        "feature_group": change["group"],
        "number": change["generation"],
        "features_id": change["features_id"],
        "is_current": bool(before and before["is_current"]),
        "first_published_at": first,
        "empty": change.get("empty"),
    }
