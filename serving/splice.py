"""What answers are in JSON: rows read as their readers get them, and finished pieces put together.

A `Splicer` keeps the pieces of a service's entities near. A piece holds as long as the epoch records of the service's groups are, byte by
byte, those by which it was made, and at most until its status or its values change by time alone. So what is kept near is never another
answer than the store's own, as of the records' last reading.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from itertools import chain, islice
from operator import itemgetter
from typing import Any, TypeAlias

from feature_definitions import layout
from feature_definitions.intervals import EPOCH, instant, iso
from feature_definitions.layout import KeySpace
from feature_definitions.reading import CASES, EMPTY, FOREVER, NEVER, PRESENT, Question, age, conditions, unchanged_until
from feature_definitions.sql.data_types import element_of, is_array
from online_sync.codec import CodecError, Columns, EpochRecord, Row, RowSchema, Value, decode_epoch, reader, written_by
from serving.forms import Form, JsonValue, Keys, RowsForm, Said
from serving.request import JoinPlan, ServicePlan

Stored: TypeAlias = Sequence[bytes | None]

_Kept: TypeAlias = tuple[int, int, Any, bool]
"""From when until when a piece holds (a clock may go back), the piece, and whether every join found something."""

MOST_NEAR = 20_000
"""Entities that one service keeps near, at most."""
_KEYS_AT_A_TIME = 100
"""Rows that are brought together when epoch records became others, so that requests do not wait for long."""

_FOUND = (PRESENT, EMPTY)


# ------------------------------------------------------------------------------------------------------------------------ splice


class Splicer:
    """The answers of one service, from one lake's rows; what it keeps near is the only thing that changes.

    Where epoch records became others, what was near answers on, as long as its own records are trusted, and meanwhile the same entities
    are brought as they are now (`renewing`). Who was told how an entity is now is never told again how it was.
    """

    def __init__(
        self, plan: ServicePlan, *, space: KeySpace | None, form: Form | None = None, most: int = MOST_NEAR, within: int | None = None
    ) -> None:
        """Know nothing yet of what is online; without a key space nothing ever is. `within` is a TTL for all groups, in microseconds."""
        self.form: Form = RowsForm(plan) if form is None else form
        self._plan, self._space, self._most, self._within = plan, space, most, within
        self._records = [] if space is None else [layout.epoch_key(space, group) for group in plan.groups]
        self._at_a_time = max(1, _KEYS_AT_A_TIME // max(1, len(plan.joins)))
        self._known = self._learned([None] * len(plan.groups))
        self._coming: _Known | None = None
        self._told: set[Keys] = set()
        self._left: list[Keys] = []
        self.near = self.found = 0

    def asking(self, entities: Sequence[Keys], *, now: int, at: float, trust: float = 0.0) -> Generator[list[str], Stored, list[Any]]:
        """Yields the keys to read and is sent their values; returns the pieces of the entities in the order asked.

        The epoch records are read together with the rows. They are read again where they were last read more than `trust` seconds before
        `at`; `now` is microseconds since 1970.
        """
        kept, near = yield from self._found(entities, now=now, at=at, trust=trust)
        self.near += near
        self.found += sum(piece[3] for piece in kept)
        return [piece[2] for piece in kept]

    def warming(self, entities: Sequence[Keys], *, now: int, at: float) -> Generator[list[str], Stored, None]:
        """The same, so that the entities are near; nobody asked for them, so they do not count."""
        yield from self._found(entities, now=now, at=at, trust=0.0)

    def renewing(self, *, now: int, at: float, trust: float) -> Generator[list[str], Stored, bool]:
        """Read the epoch records again, and with them some of the entities asked for under others; says whether more are to be brought."""
        some, self._left = self._left[: self._at_a_time], self._left[self._at_a_time :]
        known = self._newest
        lacking = [entity for entity in some if known.near(entity, now) is None]
        stored = yield [*self._records, *chain.from_iterable(known.keys(entity) for entity in lacking)]
        records = list(stored[: len(self._records)])
        if records == known.stored or not self._records:
            known.seen = max(known.seen, at)
            known.bring(lacking, stored[len(self._records) :], now)
        elif self._newest is known:
            self._learn(records, at, trust)
        if self._coming is not None and (not self._left or at - self._known.seen >= trust):
            self._known, self._coming = self._coming, None
            self._told.clear()
        return bool(self._left)

    def is_behind(self, at: float, within: float) -> bool:
        """Whether to go on `renewing`: epoch records were last read so long before `at`, or something is to be brought."""
        return at - self._known.seen > within or self._coming is not None or bool(self._left)

    def hot(self, most: int) -> list[Keys]:
        """The entities that are near or will be again, those first that were made or asked for lately; at most so many."""
        near = self._known.hot(most)
        return near if not self._left else list(islice(dict.fromkeys(chain(near, self._left)), most))

    def _found(
        self, entities: Sequence[Keys], *, now: int, at: float, trust: float
    ) -> Generator[list[str], Stored, tuple[list[_Kept], int]]:
        """What is kept of the entities in the end, and how many of them were near."""
        while True:
            known = self._newest
            pieces = [known.near(entity, now) for entity in entities]
            lacking = [entity for entity, piece in zip(entities, pieces, strict=True) if piece is None]
            if not lacking and at - known.seen < trust:
                break
            stored = yield [*self._records, *chain.from_iterable(known.keys(entity) for entity in lacking)]
            records = list(stored[: len(self._records)])
            if records != known.stored and self._records:
                if self._newest is known:
                    self._learn(records, at, trust)
                continue
            known.seen = max(known.seen, at)
            made = iter(known.take(lacking, stored[len(self._records) :], now))
            pieces = [next(made) if piece is None else piece for piece in pieces]
            break
        if self._coming is not None and known is not self._known:
            self._told.update(entities)
        return [piece for piece in pieces if piece is not None], len(entities) - len(lacking)

    def at_hand(self, entities: Sequence[Keys], *, now: int, at: float, within: float) -> list[Any] | None:
        """The pieces, if all are near and the epoch records were read less than so many seconds ago; the store is not asked."""
        known = self._known
        if self._coming is not None and (at - known.seen >= within or not self._told.isdisjoint(entities)):
            known = self._coming
        if at - known.seen >= within:
            return None
        near = known.near
        kept = [piece for entity in entities if (piece := near(entity, now)) is not None]
        if len(kept) < len(entities):
            return None
        self.near += len(kept)
        self.found += sum([piece[3] for piece in kept])
        return [piece[2] for piece in kept]

    @property
    def _newest(self) -> "_Known":
        return self._coming or self._known

    def _learn(self, records: list[bytes | None], at: float, trust: float) -> None:
        """Know these epoch records from now on; what is near answers on meanwhile, as long as its own records are trusted."""
        learned = self._learned(records)
        learned.seen = at
        self._left = list(dict.fromkeys(chain(self._told, self._known.asked()))) if trust else []
        if at - self._known.seen < trust:
            self._coming = learned
        else:
            self._known, self._coming = learned, None
            self._told.clear()

    def _learned(self, stored: list[bytes | None]) -> "_Known":
        records = finished(self._plan.groups, stored, within=self._within)
        return _Known(self._plan, self._space, stored, records, (self._most, self.form))


class _Known:
    """What is known online of a service's groups while their epoch records stay the same, and the pieces of entities lately asked for.

    Of two halves the older goes when the newer is full, so what is asked for often stays. `seen` is when the records were last read.
    """

    def __init__(
        self,
        plan: ServicePlan,
        space: KeySpace | None,
        stored: list[bytes | None],
        records: Mapping[str, EpochRecord],
        keeping: tuple[int, Form],
    ) -> None:
        self.stored, self._half, self._form = stored, max(1, keeping[0] // 2), keeping[1]
        names = list(plan.asked)
        self._joins = [_join_reader(join, records.get(join.group), space, names) for join in plan.joins]
        self.seen, self._is_turned = float("-inf"), False
        self._young: dict[Keys, _Kept] = {}
        self._old: dict[Keys, _Kept] = {}

    def near(self, entity: Keys, now: int) -> _Kept | None:
        """What is kept of an entity, if it is near and holds at that time."""
        kept = self._young.get(entity)
        if kept is None:
            kept = self._old.get(entity)
            if kept is None:
                return None
            self._keep(entity, kept)
        return kept if kept[0] <= now <= kept[1] else None

    def hot(self, most: int) -> list[Keys]:
        """The entities that are kept, those of the newer half first."""
        return list(islice(chain(self._young, (entity for entity in self._old if entity not in self._young)), most))

    def asked(self) -> list[Keys]:
        """The entities that were asked for since these records are known, as many as half of what is kept."""
        return list(islice(chain(self._young, self._old if self._is_turned else ()), self._half))

    def keys(self, entity: Keys) -> list[str]:
        """The keys of the rows that an entity can have."""
        return [key for join in self._joins if (key := join.key(entity)) is not None]

    def take(self, entities: Iterable[Keys], rows: Iterable[bytes | None], now: int) -> list[_Kept]:
        """Make the pieces of entities from their rows, of which each takes as many as it has keys, and keep them near."""
        left, made = iter(rows), []
        for entity in entities:
            kept = self._made(entity, left, now)
            self._keep(entity, kept)
            made.append(kept)
        return made

    def bring(self, entities: Iterable[Keys], rows: Iterable[bytes | None], now: int) -> None:
        """The same of entities that nobody asks for at the moment: they lie in the older half, until they are asked for."""
        left = iter(rows)
        made = [(entity, self._made(entity, left, now)) for entity in entities]
        self._old.update(made[: max(0, self._half - len(self._old))])

    def _made(self, entity: Keys, rows: Iterator[bytes | None], now: int) -> _Kept:
        found = []
        for join in self._joins:
            said = join.found(next(rows), now) if join.has_row(entity) else join.unread(entity, now)
            found.append(join.named(said))
        piece = self._form.piece(entity, found)
        return (now, min((said.until for said in found), default=FOREVER), piece, all(said.status in _FOUND for said in found))

    def _keep(self, entity: Keys, kept: _Kept) -> None:
        if len(self._young) >= self._half:
            self._young, self._old, self._is_turned = {}, self._young, True
        self._young[entity] = kept


# -------------------------------------------------------------------------------------------------------------------- epoch records


def finished(groups: Sequence[str], stored: Stored, *, within: int | None = None) -> dict[str, EpochRecord]:
    """The epoch records that were read of groups; one whose first sync has not finished has none.

    Their values are believed for no longer than `within` microseconds.
    """
    found = {group: _epoch_record(data) for group, data in zip(groups, stored, strict=False) if data is not None}
    if within is not None:
        found = {group: _within(record, within) for group, record in found.items()}
    return {group: record for group, record in found.items() if record.epoch > 0}


def _within(record: EpochRecord, ttl: int) -> EpochRecord:
    """An epoch record whose values are believed for no longer than so many microseconds."""
    return replace(record, ttl=ttl if record.ttl is None else min(ttl, record.ttl))


@lru_cache(maxsize=1024)
def _epoch_record(data: bytes) -> EpochRecord:
    return decode_epoch(data)


# ---------------------------------------------------------------------------------------------------------------------- one join


@dataclass(frozen=True, slots=True)
class _JoinReader:
    """How one join is answered under an epoch record, or without one."""

    join: JoinPlan
    record: EpochRecord | None
    shapes: "Mapping[int, Picking]"
    prefix: str
    picked: Callable[[Keys], Any]

    def has_row(self, entity: Keys) -> bool:
        """Whether there is something to read."""
        return self.record is not None and None not in self._values(entity)

    def key(self, entity: Keys) -> str | None:
        """The key of an entity's row; None if it can have none."""
        return f"{self.prefix}{layout.entity_text(self._values(entity))}}}" if self.has_row(entity) else None

    def found(self, data: bytes | None, now: int) -> Said:
        """What a row says."""
        assert self.record is not None
        return judged(self.record, self.shapes, data, question(self.record, now))

    def unread(self, entity: Keys, now: int) -> Said:
        """What is said where there is nothing to read."""
        return unread(self.join, nobody=None in self._values(entity), now=now)

    def named(self, said: Said) -> Said:
        """What is said, with a value for each column: its default where none is known."""
        values: Sequence[Any] = [None] * len(self.join.outputs) if said.values is None else said.values
        if self.join.defaults and None in values:
            defaults = self.join.defaults
            values = [defaults.get(name) if value is None else value for name, value in zip(self.join.outputs, values, strict=True)]
        return said if values is said.values else said._replace(values=values)

    def _values(self, entity: Keys) -> Keys:
        values: Keys = self.picked(entity)
        return values


def _join_reader(join: JoinPlan, record: EpochRecord | None, space: KeySpace | None, names: list[str]) -> _JoinReader:
    places = tuple(names.index(key) for key in join.keys)
    picked = (lambda entity: (entity[places[0]],)) if len(places) == 1 else itemgetter(*places)
    if record is None or space is None:
        return _JoinReader(join, None, {}, "", picked)
    prefix = layout.row_key(space, join.group, record.generation, "").removesuffix("}")
    return _JoinReader(join, record, shapes_of(record, join), prefix, picked)


def unread(join: JoinPlan, *, nobody: bool, now: int) -> Said:
    """There was nothing to read: no entity, or no finished sync of its group."""
    case = CASES[
        conditions(Question(join.kind, now, NEVER, FOREVER), nobody=nobody, absent=True, at=now, empties_at=FOREVER, held=False).index(True)
    ]
    return Said(case.status, None)


def question(record: EpochRecord, now: int) -> Question:
    """What is asked of a group at a time, by its epoch record."""
    coverage, ttl = NEVER if record.coverage is None else record.coverage, FOREVER if record.ttl is None else record.ttl
    return Question(record.kind, now, coverage, ttl)


def judged(record: EpochRecord, shapes: "Mapping[int, Picking]", data: bytes | None, asked: Question) -> Said:
    """What a stored row, or none, means to who asks."""
    shape, row = _row(record, shapes, data)
    if row is None:
        at, empties_at = asked.at, FOREVER
        found = conditions(asked, nobody=False, absent=True, at=at, empties_at=FOREVER, held=False)
    else:
        at, empties_at = row.event_timestamp, FOREVER if row.empties_at is None else row.empties_at
        found = conditions(asked, nobody=False, absent=False, at=at, empties_at=empties_at, held=row.held)
    status, given = CASES[found.index(True)]
    until = unchanged_until(asked, at=at, empties_at=empties_at)
    values: Sequence[JsonValue] | None = None
    if row is not None and given == "row":
        values = shape.as_read(row.values, asked.at)
        until = asked.at if shape.ages else until
    elif given == "empty" and record.empty:
        values = shapes[_OWN].empty(record.empty)
    return Said(status, values, None if row is None else _time(row.event_timestamp), until)


def _row(record: EpochRecord, shapes: "Mapping[int, Picking]", data: bytes | None) -> "tuple[Picking, Row | None]":
    """The live row and its shape; a tombstone is no row, nor is what a sync wrote that was overtaken."""
    if data is None:
        return shapes[_OWN], None
    epoch, schema = written_by(data)
    if epoch < record.floor:
        return shapes[_OWN], None
    shape = shapes.get(schema)
    if shape is None:
        raise CodecError(f"the store holds a row of {record.group} with columns that its epoch record does not name; sync the group again")
    row = shape.read(data)
    return shape, None if row.tombstone else row


# ------------------------------------------------------------------------------------------------------------------------ shapes

_OWN = -1
"""Under which the shape of the epoch's own schema is found, beside its number."""


@dataclass(frozen=True, slots=True)
class Picking:
    """Where the columns that a join asks for lie in rows of a schema (None: not there yet), and which are not read as they are stored."""

    schema: RowSchema
    read: Callable[[bytes], Row]
    places: tuple[int | None, ...]
    plain: bool
    ages: tuple[int, ...]
    others: tuple[tuple[int, str], ...]

    def empty(self, values: Sequence[Value]) -> list[JsonValue]:
        """The values of an epoch record's `empty`, which are as answers have them already."""
        return [None if place is None else listed(values[place]) for place in self.places]

    def as_read(self, values: Sequence[Value], now: int) -> Sequence[Any]:
        """The values of a row as a reader gets them at `now`."""
        if self.plain:
            return values
        picked: list[Any] = [None if place is None else values[place] for place in self.places]
        for at in self.ages:
            picked[at] = None if picked[at] is None else age(now, picked[at])
        for at, kind in self.others:
            picked[at] = _as_json(picked[at], kind)
        return picked


def shapes_of(record: EpochRecord, join: JoinPlan) -> Mapping[int, Picking]:
    """The shapes of all rows that a group may have, by the numbers of their schemas."""
    return _shapes_of(record.columns, record.also, join.columns, join.ages)


@lru_cache(maxsize=1024)
def _shapes_of(columns: Columns, also: tuple[Columns, ...], asked: tuple[str, ...], ages: frozenset[str]) -> Mapping[int, Picking]:
    own, *others = (_shape(RowSchema(each), asked, ages) for each in (columns, *also))
    return {_OWN: own, **{shape.schema.number: shape for shape in (*others, own)}}


def _shape(schema: RowSchema, asked: tuple[str, ...], ages: frozenset[str]) -> Picking:
    kinds = dict(schema.columns)
    found = {name: i for i, name in enumerate(kinds)}
    aging = tuple(i for i, name in enumerate(asked) if kinds.get(name) == "timestamp" and name in ages)
    dated = tuple((i, kinds.get(name, "")) for i, name in enumerate(asked) if i not in aging)
    others = tuple((i, kind) for i, kind in dated if kind in ("date", "timestamp") or is_array(kind))
    places = tuple(found.get(column) for column in asked)
    plain = not aging and not others and places == tuple(range(len(found)))
    return Picking(schema, reader(schema), places, plain, aging, others)


def _as_json(value: Any, data_type: str) -> Any:
    if value is None:
        return None
    if data_type == "timestamp":
        return _time(value)
    if data_type == "date":
        return (EPOCH.date() + timedelta(days=value)).isoformat()
    return [_as_json(each, element_of(data_type)) for each in value] if is_array(data_type) else value


def listed(value: Value) -> JsonValue:
    """A value as answers have it: arrays are lists."""
    return list(value) if isinstance(value, tuple) else value


@lru_cache(maxsize=4096)
def _time(microseconds: int) -> str:
    return iso(instant(microseconds))
