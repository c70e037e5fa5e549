"""How a row and an epoch record look in the online store: bytes, with no store and no clock behind them.

A row is a valid protobuf message, written field by field in one order, so that equal rows are equal bytes:

    sfixed64 event_timestamp = 1   microseconds since 1970
    sfixed64 empties_at = 2        microseconds since 1970, or -2^63 for none
    fixed64  epoch = 3             the sync that wrote the row
    fixed32  schema = 4            which columns follow
    fixed32  flags = 5             1 held, 2 tombstone
    bytes    nulls = 6             bit i set: column i is null
    repeated double   doubles = 7  [packed]
    repeated sfixed64 integers = 8 [packed]  int64, boolean, date (days since 1970), timestamp (microseconds since 1970)
    repeated string   texts = 9    string, decimal
    repeated Array    arrays = 10  array<...>: a message with the fields 6 to 9, of which it has those of its values; no nulls, no field 6

A null is stored as zero, the empty text or the array of nothing. What has a fixed size comes first, so every offset but
those of texts and arrays is constant per schema.
"""

import hashlib
import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from operator import itemgetter
from typing import Any, TypeAlias

from feature_definitions.layout import KeySpace
from feature_definitions.reading import GroupKind
from feature_definitions.sql.data_types import element_of, is_array
from online_sync import wire
from online_sync.wire import Section

Scalar: TypeAlias = bool | int | float | str | None
Value: TypeAlias = Scalar | tuple[Scalar, ...]
Columns: TypeAlias = tuple[tuple[str, str], ...]

EPOCH_START, EPOCH_END = 18, 27
"""Where the epoch field lies in every row, tag included: the store compares it there."""
FLAGS = 33
"""Where the byte of a row's flags lies: the store finds tombstones by it."""

NEVER = -(2**63)
"""The `empties_at` of a row that has none."""
HELD, TOMBSTONE = 1, 2
"""The bits of a row's flags."""
_MOST_EPOCHS = 2**53
_HEADER = struct.Struct("<sqsqsQsIsI")
_TAGS = (b"\x09", b"\x11", b"\x19", b"\x25", b"\x2d")
_UNFIT = (struct.error, OverflowError, AttributeError, UnicodeEncodeError, TypeError)


class CodecError(ValueError):
    """Bytes that are no row of the schema, or values that cannot become one."""


@dataclass(frozen=True, slots=True)
class RowSchema:
    """The columns of a group's packed rows, in order: names and Headwater types.

    `number` is what a row's bytes carry to name its schema: 32 bits of a hash.
    """

    columns: Columns
    number: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse no columns, a column twice, and types that have no form in bytes."""
        object.__setattr__(self, "columns", tuple((name, data_type) for name, data_type in self.columns))
        names = [name for name, _ in self.columns]
        if not names or len(set(names)) < len(names):
            raise CodecError(f"a row's schema has one or more columns, each once; this one has {names}")
        for name, data_type in self.columns:
            try:
                section_of(data_type)
            except CodecError as error:
                raise CodecError(f"column {name!r}: {error}") from None
        digest = hashlib.sha256(json.dumps(self.columns).encode()).digest()
        object.__setattr__(self, "number", int.from_bytes(digest[:4], "little"))

    def __hash__(self) -> int:
        """The number, so that looking a schema up does not cost a walk over its columns."""
        return self.number


@dataclass(frozen=True, slots=True)
class Row:
    """One entity's newest row of a group.

    Times are microseconds since 1970, dates days since 1970, decimals text, arrays tuples of these.

    A held row was refused by the gate; a tombstone says that the entity has no row any more.
    """

    event_timestamp: int
    empties_at: int | None
    held: bool
    tombstone: bool
    epoch: int
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """What is known online of a group: its newest finished sync, and which one has begun since.

    `epoch` 0 says that none has finished yet. `by` is a word of the sync that has begun, which no other has. Rows of
    epochs before `floor` count for nothing. Rows may have the schema of `columns` or one of `also`. `coverage`, `ttl`
    and `synced_at` are microseconds; `empty` are the values of an entity without a live row, one per column, as they
    are answered (a windowed group has them, no other).
    `publishes` counts the publishes of intervals that the sync saw: they are never taken back, so the same number means
    the same rows. `unswept` says that rows may lie there that nobody reads any more.
    """

    project: str
    lake: str
    group: str
    generation: int
    epoch: int
    kind: GroupKind
    columns: Columns
    synced_at: int
    coverage: int | None = None
    ttl: int | None = None
    empty: tuple[Value, ...] = ()
    begun: int = 0
    by: str = ""
    floor: int = 0
    unswept: bool = False
    also: tuple[Columns, ...] = ()
    publishes: int = 0

    def __post_init__(self) -> None:
        """Refuse a windowed group without its empty values, and empty values of another."""
        if len(self.empty) != (len(self.columns) if self.kind == "windowed" else 0):
            raise CodecError(
                f"the epoch record of {self.group}, a {self.kind} group of {len(self.columns)} columns, has {len(self.empty)} empty values"
            )

    @property
    def space(self) -> KeySpace:
        """Whose keys its rows have."""
        return KeySpace(self.project, self.lake)


def encode(schema: RowSchema, row: Row) -> bytes:
    """The row's bytes; a value that its column cannot hold is named."""
    layout, values = shape_of(schema), row.values
    if len(values) != len(schema.columns):
        raise CodecError(f"the row has {len(values)} values, its schema {len(schema.columns)} columns")
    if not 0 <= row.epoch < _MOST_EPOCHS:
        raise CodecError(f"{row.epoch} is no epoch; epochs count up from 1")
    nulls = sum(1 << i for i, value in enumerate(values) if value is None) if None in values else 0
    numbers: list[object] = [nulls.to_bytes(layout.nulls, "little")]
    if layout.doubles:
        numbers += (layout.doubles_head, *[0.0 if values[i] is None else values[i] for i in layout.doubles])
    if layout.integers:
        numbers += (layout.integers_head, *[values[i] or 0 for i in layout.integers])
    flags = HELD * row.held + TOMBSTONE * row.tombstone
    empties_at = NEVER if row.empties_at is None else row.empties_at
    try:
        fixed = layout.fixed.pack(
            b"\x09", row.event_timestamp, b"\x11", empties_at, b"\x19", row.epoch, b"\x25", schema.number, b"\x2d", flags,
            layout.nulls_head, *numbers,
        )  # fmt: skip
        if layout.arrays:
            texts = [wire.text(values[i] or "") for i in layout.texts]
            return b"".join((fixed, *texts, *[wire.array(values[i], section) for i, section, _ in layout.arrays]))
        return b"".join((fixed, *[wire.text(values[i] or "") for i in layout.texts])) if layout.texts else fixed
    except _UNFIT:
        raise CodecError(_misfit(schema, row)) from None


def is_tombstone(row: bytes) -> bool:
    """Whether a row says that its entity has none any more."""
    return row[FLAGS] >= TOMBSTONE


def time_of(row: bytes) -> int:
    """The time of a row, whatever its schema; 0 of what is none."""
    return int.from_bytes(row[1:9], "little", signed=True) if row[:1] == _TAGS[0] and len(row) > FLAGS else 0


def template(schema: RowSchema, *, epoch: int) -> bytes:
    """The fixed part of a row at the time 0 whose values are all zero and none is null."""
    nothing: dict[Section, Value] = {"d": 0.0, "q": 0, "s": ""}
    values = tuple(() if is_array(data_type) else nothing[section_of(data_type)] for _, data_type in schema.columns)
    return encode(schema, Row(0, None, False, False, epoch, values))[: shape_of(schema).fixed.size]


def decode(schema: RowSchema, data: bytes) -> Row:
    """The row that the bytes hold; anything that `encode` would not have written with this schema is a CodecError."""
    if written_by(data)[1] != schema.number:
        raise CodecError("the row was written with another schema")
    layout = shape_of(schema)
    if len(data) < layout.fixed.size:
        raise CodecError(f"the row is cut off: {len(data)} bytes of at least {layout.fixed.size}")
    fields = layout.fixed.unpack_from(data)
    numbers = _numbers(layout, fields)
    varying, end = _varying(layout, data) if layout.texts or layout.arrays else ([], layout.fixed.size)
    if end != len(data):
        raise CodecError(f"{len(data) - end} bytes follow the row's last value")
    flags, nulls = fields[9], int.from_bytes(fields[11], "little")
    if flags > (HELD | TOMBSTONE) or nulls >> len(schema.columns):
        raise CodecError("the row has flags or nulls that do not exist")
    return Row(
        event_timestamp=fields[1],
        empties_at=None if fields[3] == NEVER else fields[3],
        held=bool(flags & HELD),
        tombstone=bool(flags & TOMBSTONE),
        epoch=fields[5],
        values=_in_order(layout, (*numbers, *varying), nulls),
    )


def reader(schema: RowSchema) -> Callable[[bytes], Row]:
    """What `decode` is for one schema, made once for many rows."""
    layout = shape_of(schema)
    places = [0, 2, 4, 6, 7, 8, 10, *([12] if layout.doubles else []), *([_after(layout)] if layout.integers else [])]
    constants = itemgetter(*places)
    heads = (*([layout.doubles_head] if layout.doubles else []), *([layout.integers_head] if layout.integers else []))
    expected, no_nulls, size = (*_TAGS[:4], schema.number, _TAGS[4], layout.nulls_head, *heads), bytes(layout.nulls), layout.fixed.size
    varies, unpack, ordered = bool(layout.texts or layout.arrays or layout.booleans), layout.fixed.unpack, _in_order_of(layout)

    def read(data: bytes) -> Row:
        if varies or len(data) != size:
            return decode(schema, data)
        fields = unpack(data)
        if fields[9] or fields[11] != no_nulls or constants(fields) != expected:
            return decode(schema, data)
        return Row(fields[1], None if fields[3] == NEVER else fields[3], False, False, fields[5], ordered(fields))

    return read


_NO_ROW = "the store holds something else where a row should be; repair it: headwater sync --verify"


def written_by(data: bytes) -> tuple[int, int]:
    """The epoch that wrote a row, and the number of the schema that it was written with."""
    if len(data) < _HEADER.size:
        raise CodecError(_NO_ROW)
    fields = _HEADER.unpack_from(data)
    if fields[::2] != _TAGS:
        raise CodecError(_NO_ROW)
    return fields[5], fields[7]


def same_content(a: bytes, b: bytes) -> bool:
    """Whether two rows say the same, whichever epoch wrote them."""
    return a[EPOCH_END:] == b[EPOCH_END:] and a[:EPOCH_START] == b[:EPOCH_START]


def encode_epoch(record: EpochRecord) -> bytes:
    """The epoch record as JSON; equal records are equal bytes."""
    return json.dumps(asdict(record), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def decode_epoch(data: bytes) -> EpochRecord:
    """The epoch record that the JSON holds."""
    try:
        fields = json.loads(data)
        columns = _columns(fields.pop("columns"))
        also = tuple(_columns(each) for each in fields.pop("also"))
        empty = tuple(tuple(value) if isinstance(value, list) else value for value in fields.pop("empty"))
        return EpochRecord(columns=columns, also=also, empty=empty, **fields)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CodecError(f"the store holds an epoch record that cannot be read ({type(error).__name__}); sync the group again") from None


# ------------------------------------------------------------------------------------------------------------------------ layout


@dataclass(frozen=True, slots=True)
class RowShape:
    """How rows of one schema lie in bytes: the columns of each section, and the struct of everything of fixed size.

    Of arrays also the section that their values would be in, and whether these are booleans.
    """

    fixed: struct.Struct
    nulls: int
    nulls_head: bytes
    doubles: tuple[int, ...]
    doubles_head: bytes
    integers: tuple[int, ...]
    integers_head: bytes
    texts: tuple[int, ...]
    arrays: tuple[tuple[int, Section, bool], ...]
    booleans: tuple[int, ...]
    order: tuple[int, ...]

    @property
    def nulls_at(self) -> int:
        """Where the bits of nulls lie."""
        return _HEADER.size + len(self.nulls_head)

    @property
    def doubles_at(self) -> int:
        """Where the first double lies."""
        return self.nulls_at + self.nulls + len(self.doubles_head)

    @property
    def integers_at(self) -> int:
        """Where the first integer lies."""
        doubles = len(self.doubles_head) + 8 * len(self.doubles) if self.doubles else 0
        return self.nulls_at + self.nulls + doubles + len(self.integers_head)


@lru_cache(maxsize=4096)
def shape_of(schema: RowSchema) -> RowShape:
    """How rows of a schema lie in bytes."""
    sections: dict[Section, list[int]] = {"d": [], "q": [], "s": []}
    arrays: list[tuple[int, Section, bool]] = []
    for i, (_, data_type) in enumerate(schema.columns):
        if is_array(data_type):
            arrays.append((i, section_of(data_type), element_of(data_type) == "boolean"))
        else:
            sections[section_of(data_type)].append(i)
    doubles, integers, texts = tuple(sections["d"]), tuple(sections["q"]), tuple(sections["s"])
    nulls = (len(schema.columns) + 7) // 8
    heads = (_head(6, nulls), _head(7, 8 * len(doubles)), _head(8, 8 * len(integers)))
    packed = [f"{len(head)}s{len(section)}{s}" for head, section, s in ((heads[1], doubles, "d"), (heads[2], integers, "q")) if section]
    stored = (*doubles, *integers, *texts, *(i for i, *_ in arrays))
    return RowShape(
        fixed=struct.Struct(f"{_HEADER.format}{len(heads[0])}s{nulls}s{''.join(packed)}"),
        nulls=nulls,
        nulls_head=heads[0],
        doubles=doubles,
        doubles_head=heads[1],
        integers=integers,
        integers_head=heads[2],
        texts=texts,
        arrays=tuple(arrays),
        booleans=tuple(i for i, (_, data_type) in enumerate(schema.columns) if data_type == "boolean"),
        order=tuple(stored.index(i) for i in range(len(schema.columns))),
    )


def section_of(data_type: str) -> Section:
    """Where values of a type lie, and those of an array of them in its message."""
    if is_array(data_type):
        data_type = element_of(data_type)
    if data_type == "double":
        return "d"
    if data_type in ("int64", "boolean", "date", "timestamp"):
        return "q"
    if data_type == "string" or data_type.startswith("decimal("):
        return "s"
    raise CodecError(f"a {data_type} cannot be stored online")


def _head(field: int, length: int) -> bytes:
    return bytes([field << 3 | 2]) + wire.varint(length)


# -------------------------------------------------------------------------------------------------------------------- the parts


def _numbers(layout: RowShape, fields: tuple[object, ...]) -> list[Any]:
    """The doubles and integers among the fixed fields, after their tags were checked."""
    expected, found, at = [layout.nulls_head], [fields[10]], 12
    numbers: list[Any] = []
    for head, section in ((layout.doubles_head, layout.doubles), (layout.integers_head, layout.integers)):
        if section:
            expected.append(head)
            found.append(fields[at])
            numbers += fields[at + 1 : at + 1 + len(section)]
            at += 1 + len(section)
    if expected != found:
        raise CodecError("the row is damaged: its sections do not fit its schema")
    return numbers


def _after(layout: RowShape) -> int:
    """Where the head of the integers lies among the fixed fields."""
    return 12 + (1 + len(layout.doubles) if layout.doubles else 0)


def _in_order_of(layout: RowShape) -> Callable[[Sequence[Any]], tuple[Value, ...]]:
    """Picks the columns in their order out of the fixed fields, where nothing else is stored."""
    doubles = [13 + i for i in range(len(layout.doubles))]
    stored = doubles + [_after(layout) + 1 + i for i in range(len(layout.integers))]
    places = [stored[i] for i in layout.order if i < len(stored)]
    if len(places) == 1:
        return lambda fields: (fields[places[0]],)
    return itemgetter(*places) if places else lambda _: ()


def _in_order(layout: RowShape, stored: Sequence[Value], nulls: int) -> tuple[Value, ...]:
    values = [stored[i] for i in layout.order]
    for i in layout.booleans:
        values[i] = bool(values[i])
    if nulls:
        return tuple(None if nulls >> i & 1 else value for i, value in enumerate(values))
    return tuple(values)


def _varying(layout: RowShape, data: bytes) -> tuple[list[Value], int]:
    """The texts and arrays that follow what has a fixed size, and where they end."""
    values: list[Value] = []
    at = layout.fixed.size
    try:
        for _ in layout.texts:
            value, at = wire.read_text(data, at)
            values.append(value)
        for _, section, booleans in layout.arrays:
            found, at = wire.read_array(data, at, section)
            values.append(tuple(None if each is None else bool(each) for each in found) if booleans else tuple(found))
    except (IndexError, ValueError) as error:
        raise CodecError(f"the row is damaged: {error}") from None
    return values, at


def _misfit(schema: RowSchema, row: Row) -> str:
    """Which value does not fit its column: found only after packing the row has failed."""
    for (name, data_type), value in zip(schema.columns, row.values, strict=True):
        section = section_of(data_type)
        try:
            if is_array(data_type):
                wire.array(value, section)
            elif section == "s":
                wire.text(value or "")
            else:
                struct.pack(f"<{section}", value or 0)
        except _UNFIT:
            return f"column {name!r} is a {data_type} and cannot hold {value!r}"
    return f"the times {row.event_timestamp!r} and {row.empties_at!r} are not whole microseconds of 64 bits"


def _columns(columns: Sequence[Sequence[str]]) -> Columns:
    return tuple((name, data_type) for name, data_type in columns)
