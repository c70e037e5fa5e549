"""Packed rows and epoch records: round trips, constant offsets, protobuf, and what is refused."""

from __future__ import annotations

import math
import struct
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, unknown_fields
from hypothesis import given
from hypothesis import strategies as st

from online_sync.codec import (
    EPOCH_END,
    EPOCH_START,
    CodecError,
    EpochRecord,
    Row,
    RowSchema,
    decode,
    decode_epoch,
    encode,
    encode_epoch,
    reader,
    same_content,
    written_by,
)

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "string": TEXT,
    "int64": INT64,
    "double": st.floats(allow_nan=False),
    "boolean": st.booleans(),
    "date": st.integers(-719_162, 2_932_896),
    "timestamp": INT64,
    "decimal(38,9)": st.decimals(allow_nan=False, allow_infinity=False, places=9).map(lambda d: format(d, "f")),
}
VALUES |= {f"array<{kind}>": st.lists(st.none() | each, max_size=20).map(tuple) for kind, each in VALUES.items()}
ALL = RowSchema(tuple((f"c{i}", kind) for i, kind in enumerate([*VALUES, *VALUES, "string"])))
NUMBERS = RowSchema((("spend", "double"), ("payments", "int64"), ("newest", "timestamp"), ("active", "boolean")))
ROW = Row(event_timestamp=1_767_571_200_000_000, empties_at=None, held=False, tombstone=False, epoch=7, values=(-0.0, 2**63 - 1, -1, True))


@st.composite
def stored(draw: st.DrawFn) -> tuple[RowSchema, Row]:
    kinds = draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=20))
    row = Row(
        event_timestamp=draw(INT64),
        empties_at=draw(st.none() | st.integers(-(2**63) + 1, 2**63 - 1)),
        held=draw(st.booleans()),
        tombstone=draw(st.booleans()),
        epoch=draw(st.integers(0, 2**53 - 1)),
        values=tuple(draw(st.none() | VALUES[kind]) for kind in kinds),
    )
    return RowSchema(tuple((f"c{i}", kind) for i, kind in enumerate(kinds))), row


@given(stored())
def test_a_row_comes_back_as_it_went(case: tuple[RowSchema, Row]) -> None:
    schema, row = case
    back = decode(schema, encode(schema, row))
    assert back == row
    assert [type(value) for value in back.values] == [type(value) for value in row.values]
    flat, wanted = scalars(back), scalars(row)
    assert [type(value) for value in flat] == [type(value) for value in wanted]
    assert [math.copysign(1, v) for v in flat if type(v) is float] == [math.copysign(1, v) for v in wanted if type(v) is float]


def scalars(row: Row) -> list[Any]:
    """The values of a row, with those in its arrays."""
    return [each for value in row.values for each in (value if isinstance(value, tuple) else (value,))]


def test_an_array_of_nothing_is_not_a_null_array_and_a_null_in_an_array_not_zero() -> None:
    schema = RowSchema((("a", "array<string>"), ("b", "array<int64>"), ("c", "array<double>"), ("d", "array<boolean>")))
    for values in ((None, None, None, None), ((), (), (), ()), ((None,), (None, 0), (0.0, None), (False, None))):
        assert decode(schema, encode(schema, replace(ROW, values=values))).values == values


def test_arrays_follow_everything_of_fixed_size() -> None:
    schema = RowSchema((("pages", "array<string>"), *NUMBERS.columns))
    rows = [encode(schema, replace(ROW, values=(pages, *ROW.values))) for pages in (None, (), ("home", None, "cart"))]
    assert [row[:76] for row in rows[1:]] == [rows[1][:76]] * 2
    assert struct.unpack_from("<d", rows[2], 42) == (-0.0,)
    assert [len(row) - 76 for row in rows] == [2, 2, 2 + 3 + 6 + 2 + 6]


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("array<string>", b"\x32\x01\x00\x4a\x00"), ("array<string>", b"\x32\x01\x02\x4a\x00"), ("array<string>", b"\x4a\x05a"),
        ("array<int64>", b"\x42\x00"), ("array<int64>", b"\x42\x07" + bytes(7)), ("array<int64>", b"\x3a\x08" + bytes(8)),
        ("array<double>", b"\x3a\x08" + bytes(9)), ("array<double>", b"\x32\x02\x01\x00\x3a\x08" + bytes(8)),
        ("array<double>", b"\x32\x01\x01"),
    ],
)  # fmt: skip
def test_an_array_that_was_damaged_is_refused(kind: str, content: bytes) -> None:
    schema = RowSchema((("a", kind),))
    packed = encode(schema, replace(ROW, values=((),)))
    with pytest.raises(CodecError, match="damaged"):
        decode(schema, packed[:-1] + bytes([len(content)]) + content)


def test_an_instant_before_1970_keeps_its_microsecond() -> None:
    row = replace(ROW, event_timestamp=-1, empties_at=-62_135_596_800_000_001)
    assert decode(NUMBERS, encode(NUMBERS, row)) == row


def test_a_row_of_nulls_comes_back_as_nulls() -> None:
    row = replace(ROW, values=(None,) * len(ALL.columns))
    assert decode(ALL, encode(ALL, row)) == row


def test_a_null_text_is_not_an_empty_text() -> None:
    schema = RowSchema((("a", "string"), ("b", "string")))
    assert decode(schema, encode(schema, replace(ROW, values=(None, "")))).values == (None, "")


def test_whole_numbers_fit_a_double_column() -> None:
    schema = RowSchema((("a", "double"),))
    assert decode(schema, encode(schema, replace(ROW, values=(3,)))).values == (3.0,)


def test_numbers_lie_at_the_same_offset_in_every_row_of_a_schema() -> None:
    rows = [encode(NUMBERS, replace(ROW, values=values)) for values in (ROW.values, (None,) * 4, (1e300, -5, 0, False))]
    assert {len(row) for row in rows} == {76}
    assert struct.unpack_from("<q", rows[0], 1) == (ROW.event_timestamp,)
    assert [struct.unpack_from("<d", row, 42)[0] for row in rows] == [0.0, 0.0, 1e300]


def test_the_epoch_lies_where_the_store_compares_it() -> None:
    field = encode(ALL, replace(ROW, epoch=2**40 + 3, values=(None,) * len(ALL.columns)))[EPOCH_START:EPOCH_END]
    assert field == b"\x19" + struct.pack("<Q", 2**40 + 3)


@given(stored())
def test_the_bytes_are_those_that_protobuf_itself_would_write(case: tuple[RowSchema, Row]) -> None:
    schema, row = case
    data = encode(schema, row)
    message = protobuf_row().FromString(data)
    assert message.SerializeToString(deterministic=True) == data
    assert len(unknown_fields.UnknownFieldSet(message)) == 0
    assert (message.event_timestamp, message.epoch, message.schema) == (row.event_timestamp, row.epoch, schema.number)
    assert message.flags == row.held + 2 * row.tombstone
    kinds = [kind for _, kind in schema.columns]
    doubles = [0.0 if v is None else v for v, kind in zip(row.values, kinds, strict=True) if kind == "double"]
    texts = [v or "" for v, kind in zip(row.values, kinds, strict=True) if kind in ("string", "decimal(38,9)")]
    integers = [int(v or 0) for v, kind in zip(row.values, kinds, strict=True) if kind in ("int64", "boolean", "date", "timestamp")]
    assert (list(message.doubles), list(message.integers), list(message.texts)) == (doubles, integers, texts)
    assert [len(a.doubles) + len(a.integers) + len(a.texts) for a in message.arrays] == [
        len(v or ()) for v, kind in zip(row.values, kinds, strict=True) if kind.startswith("array")
    ]
    assert [bool(message.nulls[i // 8] >> i % 8 & 1) for i in range(len(kinds))] == [v is None for v in row.values]


@given(stored(), st.data())
def test_a_row_that_is_cut_off_or_too_long_is_refused(case: tuple[RowSchema, Row], data: st.DataObject) -> None:
    schema, row = case
    packed = encode(schema, row)
    with pytest.raises(CodecError):
        decode(schema, packed[: data.draw(st.integers(0, len(packed) - 1))])
    with pytest.raises(CodecError):
        decode(schema, packed + b"\x00")


@given(stored(), st.binary(max_size=300))
def test_other_bytes_are_refused_or_are_a_row_and_never_break_the_decoder(case: tuple[RowSchema, Row], tail: bytes) -> None:
    schema, row = case
    for data in (tail, encode(schema, row)[:37] + tail):
        try:
            back = decode(schema, data)
        except CodecError:
            continue
        assert len(back.values) == len(schema.columns)


def test_a_row_whose_sections_were_damaged_is_refused() -> None:
    packed = bytearray(encode(NUMBERS, ROW))
    packed[37] ^= 1
    with pytest.raises(CodecError, match="damaged"):
        decode(NUMBERS, bytes(packed))


def test_flags_that_do_not_exist_are_refused() -> None:
    packed = bytearray(encode(NUMBERS, ROW))
    packed[33] = 4
    with pytest.raises(CodecError, match="flags"):
        decode(NUMBERS, bytes(packed))


def test_a_row_of_another_schema_is_refused() -> None:
    other = RowSchema((*NUMBERS.columns[:-1], ("active", "int64")))
    packed = encode(NUMBERS, ROW)
    assert written_by(packed) == (ROW.epoch, NUMBERS.number) != (ROW.epoch, other.number)
    with pytest.raises(CodecError, match="another schema"):
        decode(other, packed)


@pytest.mark.parametrize(
    ("kind", "value"),
    [("int64", 2**63), ("int64", 1.5), ("int64", "1"), ("double", "1"), ("double", 10**400), ("string", 5), ("string", "\ud800"),
     ("array<int64>", 5), ("array<int64>", (1.5,)), ("array<string>", "ab"), ("array<string>", (b"a",)), ("array<double>", ("1",))],
)  # fmt: skip
def test_a_value_that_its_column_can_not_hold_is_named(kind: str, value: object) -> None:
    schema = RowSchema((("fine", "string"), ("amount", kind)))
    with pytest.raises(CodecError, match=f"column 'amount' is a {kind}"):
        encode(schema, replace(ROW, values=("", value)))  # type: ignore[arg-type]  # wrong on purpose


def test_times_and_epochs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(CodecError, match="microseconds"):
        encode(NUMBERS, replace(ROW, event_timestamp=2**63))
    for epoch in (-1, 2**53):
        with pytest.raises(CodecError, match="no epoch"):
            encode(NUMBERS, replace(ROW, epoch=epoch))


def test_a_row_with_too_few_values_is_refused() -> None:
    with pytest.raises(CodecError, match="1 values"):
        encode(NUMBERS, replace(ROW, values=(1.0,)))


@pytest.mark.parametrize("columns", [(), (("a", "int64"), ("a", "double")), (("a", "map<string,int>"),), (("a", "array<array<int64>>"),)])
def test_a_schema_that_means_nothing_is_refused(columns: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(CodecError):
        RowSchema(columns)


@given(stored(), st.integers(0, 2**53 - 1))
def test_the_epoch_alone_does_not_make_other_content(case: tuple[RowSchema, Row], epoch: int) -> None:
    schema, row = case
    assert same_content(encode(schema, row), encode(schema, replace(row, epoch=epoch)))


@pytest.mark.parametrize(
    "change",
    [{"event_timestamp": 0}, {"empties_at": 5}, {"held": True}, {"tombstone": True}, {"values": (0.0, 2**63 - 1, -1, True)}],
)
def test_anything_else_makes_other_content(change: dict[str, Any]) -> None:
    assert not same_content(encode(NUMBERS, ROW), encode(NUMBERS, replace(ROW, **change)))


def test_another_schema_makes_other_content() -> None:
    renamed = RowSchema((*NUMBERS.columns[:-1], ("alive", "boolean")))
    assert not same_content(encode(NUMBERS, ROW), encode(renamed, ROW))


RECORD = EpochRecord(
    project="shop", lake="lakelake", group="customer_spend", generation=2, epoch=9, kind="windowed", columns=NUMBERS.columns,
    synced_at=1_767_571_200_000_001, coverage=1_767_571_200_000_000, ttl=172_800_000_000, empty=(0.0, 0, None, None),
    begun=9, by="b", floor=4, unswept=True, also=((("spend", "double"),),),
)  # fmt: skip


def test_an_epoch_record_comes_back_as_it_went() -> None:
    back = decode_epoch(encode_epoch(RECORD))
    assert back == RECORD
    assert [type(value) for value in back.empty] == [float, int, type(None), type(None)]
    assert decode_epoch(encode_epoch(replace(RECORD, empty=(0.0, 0, None, ("a", None))))).empty[3] == ("a", None)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"7", b"\xff", encode_epoch(RECORD)[:-2], encode_epoch(RECORD)[:-1] + b',"more":1}'])
def test_a_damaged_epoch_record_is_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        decode_epoch(data)


def test_a_windowed_group_has_one_empty_value_per_column() -> None:
    with pytest.raises(CodecError, match="empty values"):
        replace(RECORD, empty=(0,))
    with pytest.raises(CodecError, match="empty values"):
        replace(RECORD, kind="observation")


def protobuf_row() -> Any:
    """The message that codec.py describes, made with protobuf's own library."""
    return _PROTOBUF_ROW


def _protobuf_class() -> Any:
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="headwater_row.proto", package="headwater", syntax="proto2")
    message = file.message_type.add(name="Row")
    numbers = (("doubles", field.TYPE_DOUBLE), ("integers", field.TYPE_SFIXED64), ("texts", field.TYPE_STRING))
    array = file.message_type.add(name="Array")
    array.field.add(name="nulls", number=6, type=field.TYPE_BYTES, label=field.LABEL_OPTIONAL)
    for number, (name, kind) in enumerate(numbers, start=7):
        array.field.add(name=name, number=number, type=kind, label=field.LABEL_REPEATED).options.packed = kind != field.TYPE_STRING
    message.field.add(name="arrays", number=10, type=field.TYPE_MESSAGE, type_name="Array", label=field.LABEL_REPEATED)
    kinds = (
        ("event_timestamp", field.TYPE_SFIXED64, False), ("empties_at", field.TYPE_SFIXED64, False), ("epoch", field.TYPE_FIXED64, False),
        ("schema", field.TYPE_FIXED32, False), ("flags", field.TYPE_FIXED32, False), ("nulls", field.TYPE_BYTES, False),
        *((name, kind, True) for name, kind in numbers),
    )  # fmt: skip
    for number, (name, kind, repeated) in enumerate(kinds, start=1):
        label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
        added = message.field.add(name=name, number=number, type=kind, label=label)
        added.options.packed = repeated and kind != field.TYPE_STRING
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("headwater.Row"))


_PROTOBUF_ROW = _protobuf_class()


@given(stored(), st.integers(0, 400), st.integers(0, 255))
def test_a_reader_reads_what_decode_reads_and_refuses_what_it_refuses(made: tuple[RowSchema, Row], at: int, byte: int) -> None:
    schema, row = made
    data = encode(schema, row)
    assert reader(schema)(data) == decode(schema, data)
    damaged = data[:at] + bytes([byte]) + data[at + 1 :]
    try:
        expected = decode(schema, damaged)
    except CodecError:
        with pytest.raises(CodecError):
            reader(schema)(damaged)
    else:
        assert repr(reader(schema)(damaged)) == repr(expected)
