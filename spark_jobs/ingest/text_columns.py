"""Columns of text as typed values, a whole column at a time: of the texts that Arrow takes for the same as `cells` does.

Any other text is left to `cells`: which these are is said beside the values, never why.
"""

from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from feature_definitions.language import Column
from lake.arrow_types import arrow_type
from spark_jobs.ingest import time_columns
from spark_jobs.ingest.time_columns import INSTANT

Read = tuple[pa.Array, pa.Array]
"""Values, and which texts were not taken; where a text is null, so is its value, which is taken."""

_LOCAL = pa.timestamp("us")
_FEWEST = 16
"""Of so many texts of which one is not taken none is."""
_DATE, _TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}", r"[ T][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?"
_ZONED = r"(Z|[+-][0-9]{2}(:?[0-9]{2})?)$"
_LIKELY = {
    pa.int64(): r"^-?[0-9]{1,18}$",
    pa.float64(): r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$",
    pa.bool_(): r"^(?i:true|false|0|1)$",
    pa.date32(): f"^{_DATE}$",
    INSTANT: f"^{_DATE}{_TIME}{_ZONED}",
    _LOCAL: f"^{_DATE}({_TIME})?$",
}
"""How texts look that Arrow most likely takes, where one is among others that it does not."""
_DECIMAL = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)$"


def reads(how: Column) -> bool:
    """Whether a column's texts may be read so: times as ISO 8601 writes them."""
    return how.epoch is None and how.format is None and not how.data_type.startswith("array<")


def of_texts(texts: pa.Array, kind: str, timezone: str | None) -> Read:
    """The values of texts."""
    if kind == "string":
        return texts, _none(texts)
    if kind == "timestamp":
        return _times(texts, timezone)
    found, left = _cast(texts, arrow_type(kind))
    if kind == "int64":
        return _without(found, left, pc.or_(pc.match_substring(texts, "x"), pc.match_substring(texts, "X")))  # Arrow reads 0x1F
    if kind == "double":
        return _without(found, left, pc.invert(pc.is_finite(found)))
    if kind == "date":
        return _without(found, left, time_columns.are_beyond(found))
    return found, left


def _times(texts: pa.Array, timezone: str | None) -> Read:
    """Times of which each says its zone, or none does."""
    held = texts.drop_null()
    if timezone is None or (len(held) and pc.match_substring_regex(held[:1], _ZONED)[0].as_py()):
        found, left = _cast(texts, INSTANT)
        return _without(found, left, time_columns.are_beyond(found))
    local, left = _cast(texts, _LOCAL)
    local, left = _without(local, left, time_columns.are_beyond(local))
    found, wrong = time_columns.of_times(local, ZoneInfo(timezone))
    return _without(found, left, pc.is_valid(wrong))


def _without(found: pa.Array, left: pa.Array, more: pa.Array) -> Read:
    """The values without those of some rows, which are left too."""
    more = pc.fill_null(more, fill_value=False)
    if not pc.any(more).as_py():
        return found, left
    return pc.if_else(more, pa.scalar(None, found.type), found), pc.or_(left, more)


def _cast(texts: pa.Array, kind: pa.DataType) -> Read:
    try:
        return pc.cast(texts, kind), _none(texts)
    except pa.ArrowInvalid:
        held = pc.fill_null(pc.match_substring_regex(texts, _LIKELY.get(kind, _DECIMAL)), fill_value=False)
    found, left = _cast_in_parts(pc.if_else(held, texts, pa.scalar(None, texts.type)), kind)
    return found, pc.or_(left, pc.and_not(pc.is_valid(texts), held))


def _cast_in_parts(texts: pa.Array, kind: pa.DataType) -> Read:
    """The values of texts, in ever smaller parts where some are none."""
    try:
        return pc.cast(texts, kind), _none(texts)
    except pa.ArrowInvalid:
        if len(texts) <= _FEWEST:
            return pa.nulls(len(texts), kind), pc.is_valid(texts)
    half = len(texts) // 2
    parts = [_cast_in_parts(texts[:half], kind), _cast_in_parts(texts[half:], kind)]
    found, left = zip(*parts, strict=True)
    return pa.concat_arrays(found), pa.concat_arrays(left)


def _none(texts: pa.Array) -> pa.Array:
    return pa.repeat(pa.scalar(False), len(texts))
