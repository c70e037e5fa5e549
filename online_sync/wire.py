"""Protobuf's wire format, as far as packed rows need it: lengths, texts and arrays.

What cannot be read is a ValueError or an IndexError, what cannot be written a struct.error, a TypeError or an
AttributeError.
"""

import struct
from collections.abc import Iterator
from typing import Any, Literal

Section = Literal["d", "q", "s"]
"""Of what a field holds values: doubles, integers of 64 bits, texts."""

_NULLS, _DOUBLES, _INTEGERS, _TEXT, _ARRAY = 0x32, 0x3A, 0x42, 0x4A, 0x52


def varint(number: int) -> bytes:
    """A length."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def text(value: Any) -> bytes:
    """A text as a field."""
    encoded: bytes = value.encode()
    return b"\x4a" + varint(len(encoded)) + encoded


def array(value: Any, section: Section) -> bytes:
    """An array as a field: a message with its values, and its nulls if any. Null is written like an array of nothing."""
    if value is None:
        return b"\x52\x00"
    if not isinstance(value, tuple | list):
        raise TypeError(f"{value!r} is no array")
    nulls = sum(1 << i for i, each in enumerate(value) if each is None) if None in value else 0
    parts = [_field(_NULLS, nulls.to_bytes((len(value) + 7) // 8, "little"))] if nulls else []
    if section == "s":
        parts += [text("" if each is None else each) for each in value]
    elif value:
        numbers = struct.pack(f"<{len(value)}{section}", *[0 if each is None else each for each in value])
        parts.append(_field(_DOUBLES if section == "d" else _INTEGERS, numbers))
    return _field(_ARRAY, b"".join(parts))


def read_text(data: bytes, at: int) -> tuple[str, int]:
    """The text of a field, and where the next field starts."""
    if data[at] != _TEXT:
        raise ValueError("a text is missing")
    length, start = (data[at + 1], at + 2) if data[at + 1] < 0x80 else _read_varint(data, at + 1)
    if start + length > len(data):
        raise ValueError("a text is cut off")
    return data[start : start + length].decode(), start + length


def read_array(data: bytes, at: int, section: Section) -> tuple[list[Any], int]:
    """The values of an array's field, and where the next field starts."""
    content, end = _content(data, at, _ARRAY)
    marks, start = _content(content, 0, _NULLS) if content[:1] == b"\x32" else (b"", 0)
    values = list(_texts(content, start)) if section == "s" else _numbers(content, start, section)
    if not marks:
        return values, end
    nulls = int.from_bytes(marks, "little")
    if len(marks) != (len(values) + 7) // 8 or not nulls or nulls >> len(values):
        raise ValueError("an array has nulls that do not exist")
    return [None if nulls >> i & 1 else value for i, value in enumerate(values)], end


def _field(tag: int, content: bytes) -> bytes:
    return bytes((tag,)) + varint(len(content)) + content


def _content(data: bytes, at: int, tag: int) -> tuple[bytes, int]:
    if data[at] != tag:
        raise ValueError("an array is missing")
    length, start = _read_varint(data, at + 1)
    if start + length > len(data):
        raise ValueError("an array is cut off")
    return data[start : start + length], start + length


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while data[at] & 0x80:
        number |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
    return number | data[at] << shift, at + 1


def _texts(content: bytes, start: int) -> Iterator[str]:
    while start < len(content):
        value, start = read_text(content, start)
        yield value


def _numbers(content: bytes, start: int, section: Section) -> list[Any]:
    if start == len(content):
        return []
    numbers, end = _content(content, start, _DOUBLES if section == "d" else _INTEGERS)
    if end != len(content) or not numbers or len(numbers) % 8:
        raise ValueError("an array's values do not fill it")
    return list(struct.unpack(f"<{len(numbers) // 8}{section}", numbers))
