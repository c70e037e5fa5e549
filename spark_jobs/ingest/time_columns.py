"""Columns of Arrow that hold times: instants, local times and counts since 1970, as instants in UTC, and why a value means none."""

import math
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_definitions.intervals import EPOCH, MICROSECOND, in_utc, micros
from feature_definitions.times import BEYOND, FIRST, LAST, UNITS

INSTANT = pa.timestamp("us", tz="UTC")
OUT_OF_RANGE = f" {BEYOND}"

Found = tuple[pa.Array, pa.Array]
"""Instants, and what is said of each value that means none (null for the others)."""


def of_times(array: pa.Array, zone: ZoneInfo | None) -> Found:
    """Times of any unit; those without zone were written down in `zone`. What is finer than a microsecond is cut off."""
    found, wrong = of_numbers(array.cast(pa.int64()), array.type.unit)
    return (found, wrong) if array.type.tz is not None or zone is None else _of_local(found, wrong, zone)


def _of_local(local: pa.Array, wrong: pa.Array, zone: ZoneInfo) -> Found:
    values = _by_hours(local.cast(pa.int64()), zone)
    beyond = pc.and_(pc.is_null(values), pc.is_valid(local))
    return values.cast(INSTANT), pc.if_else(beyond, OUT_OF_RANGE, wrong)


def _by_hours(local: pa.Array, zone: ZoneInfo) -> pa.Array:
    """Local times in UTC: an hour in which the clocks stay as they are is asked for once, the rows of others one by one."""
    at = np.asarray(pc.fill_null(local, 0))
    hours, places = np.unique(at // _HOUR, return_inverse=True)
    moved = [_moved(int(hour) * _HOUR, zone) for hour in hours]
    found = pa.array(moved, pa.int64()).take(pa.array(places))
    values = pc.if_else(pc.is_valid(local), pc.add(at, found), pa.scalar(None, pa.int64()))
    rest = pc.and_(pc.is_null(values), pc.is_valid(local))
    if not pc.any(rest).as_py():
        return values
    asked = [_in_utc(each, zone) for each in local.filter(rest).to_pylist()]
    return pc.replace_with_mask(values, rest, pa.array(asked, pa.int64()))


_HOUR = 3_600_000_000
_DAY = 24 * _HOUR


def _moved(hour: int, zone: ZoneInfo) -> int | None:
    """By how much all of a local hour lies beside UTC; None if not all of it lies by the same."""
    first, last = _in_utc(hour, zone), _in_utc(hour + _HOUR - 1, zone)
    return first - hour if first is not None and last is not None and last - first == _HOUR - 1 else None


def _in_utc(local: int, zone: ZoneInfo) -> int | None:
    try:
        return micros(in_utc((EPOCH + local * MICROSECOND).replace(tzinfo=None), zone))
    except OverflowError:
        return None


def are_beyond(values: pa.Array) -> pa.Array:
    """Which times in microseconds, or dates, are not of the years 1 to 9999."""
    unit = _DAY if pa.types.is_date32(values.type) else 1
    counts = values.cast(pa.int32() if unit == _DAY else pa.int64())
    low, high = pa.scalar(FIRST // unit, counts.type), pa.scalar(LAST // unit, counts.type)
    return pc.or_(pc.less(counts, low), pc.greater(counts, high))


def of_numbers(numbers: pa.Array, unit: str) -> Found:
    """Counts since 1970: of whole ones what is finer than a microsecond is cut off, of doubles the nearest microsecond is taken."""
    if pa.types.is_floating(numbers.type):
        counted = pc.round(pc.multiply(numbers.cast(pa.float64()), UNITS[unit] / 1000), round_mode="half_to_even")
        values, inside = _within(counted, float(FIRST), math.nextafter(float(LAST + 1), 0))
    else:
        counted, inside = _within(numbers.cast(pa.int64()), -(-FIRST * 1000 // UNITS[unit]), LAST * 1000 // UNITS[unit])
        values = _in_micros(counted, unit)
    beyond = pc.and_(pc.is_valid(numbers), pc.invert(inside))
    return values.cast(pa.int64()).cast(INSTANT), pc.if_else(beyond, OUT_OF_RANGE, pa.scalar(None, pa.string()))


def _within(numbers: pa.Array, first: float, last: float) -> tuple[pa.Array, pa.Array]:
    """The numbers from the first to the last, and which those are."""
    held = pa.scalar(None, numbers.type)
    low, high = (pa.scalar(max(min(bound, 2**63 - 1), -(2**63)), numbers.type) for bound in (first, last))
    inside = pc.fill_null(pc.and_(pc.greater_equal(numbers, low), pc.less_equal(numbers, high)), fill_value=False)
    return pc.if_else(inside, numbers, held), inside


def _in_micros(numbers: pa.Array, unit: str) -> pa.Array:
    if unit != "ns":
        return pc.multiply(numbers, UNITS[unit] // 1000)
    cut = pc.divide(numbers, 1000)
    return pc.if_else(pc.greater(pc.multiply(cut, 1000), numbers), pc.subtract(cut, 1), cut)
