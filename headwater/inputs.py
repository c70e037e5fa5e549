"""What callers hand in: times, spans, frames and paths, as the values that jobs take."""

import os
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import overload
from uuid import UUID

from feature_definitions.errors import InputRefused
from feature_definitions.intervals import duration, parse_instant, spell
from feature_definitions.language import Column, DefinitionError
from feature_definitions.language.on_s3 import check_place
from feature_definitions.layout import S3
from feature_definitions.planning import plan


@overload
def moment(at: str | datetime) -> datetime: ...


@overload
def moment(at: None) -> None: ...


@overload
def moment(at: str | datetime | None) -> datetime | None: ...


def moment(at: str | datetime | None) -> datetime | None:
    """An instant in UTC, of text or a datetime with a zone; raises RangeError for what is neither."""
    if at is None:
        return None
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise plan.RangeError(f"{at} has no time zone; write datetime(..., tzinfo=UTC)")
        return at.astimezone(UTC)
    try:
        return parse_instant(at)
    except ValueError as error:
        raise plan.RangeError(str(error)) from None


def column(text: str) -> Column:
    """A column as the command says it: a type, and how its times are written, like `timestamp:epoch=ms` or `date:format=%d.%m.%Y`."""
    data_type, sign, said = text.partition(":")
    how, _, value = said.partition("=")
    try:
        match how:
            case "epoch":
                return Column(data_type, epoch=value)  # type: ignore[arg-type]  # it refuses what is no unit
            case "format":
                return Column(data_type, format=value)
            case "" if not sign:
                return Column(data_type)
    except DefinitionError as error:
        raise InputRefused(f"the spine's columns: {error}") from None
    raise InputRefused(f"{text!r} does not say how times are written; write for example timestamp:epoch=ms or date:format=%d.%m.%Y")


_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}


def size(text: str) -> int:
    """A number of bytes, of text like 500MB."""
    found = re.fullmatch(r"(\d+)(B|kB|MB|GB)", text)
    if found is None:
        raise InputRefused(f"{text!r} is no size; write a whole number and a unit, like 500MB (B, kB, MB or GB)")
    return int(found[1]) * _UNITS[found[2]]


def keep_span(text: str, *, least: timedelta) -> timedelta:
    """How long replaced files are kept; raises InputRefused for less than `least`."""
    try:
        span = duration(text)
    except ValueError as error:
        raise InputRefused(str(error)) from None
    if span < least:
        raise InputRefused(
            f"{text} is too short: jobs that run may still read files that were replaced; keep them for {spell(least)} or more"
        )
    return span


def entities(given: object) -> object:
    """Entities as a request lists them: the rows of a frame, or mappings, in whose values nothing is left of numpy and pandas."""
    if hasattr(given, "__arrow_c_stream__") or hasattr(given, "toArrow"):
        from spark_jobs import frames

        return [entity(row) for row in frames.arrow(given).to_pylist()]
    if isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping):
        return [entity(each) for each in given]
    return given


def entity(given: object) -> object:
    """One entity, in whose values nothing is left of numpy and pandas; whatever is no mapping stays, to be refused by name."""
    return {key: _plain(value) for key, value in given.items()} if isinstance(given, Mapping) else given


def _plain(value: object) -> object:
    """A value of an entity as Python has it: a number of numpy, a UUID as text, null for pandas' NA and NaT."""
    if type(value).__module__ == "numpy" and hasattr(value, "item"):
        value = value.item()
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    return str(value) if isinstance(value, UUID) else value


SPINE = "a file of CSV, TSV, JSON lines or Parquet, or a Delta table"
ROWS = "a file of CSV, TSV, JSON lines or Parquet"


def path(given: "str | os.PathLike[str]", root: Path, *, what: str = "spine", kinds: str = SPINE) -> str:
    """A path as given, on S3, or relative to the project; raises InputRefused where nothing is, by what should be there."""
    from lake import storage

    said = os.fspath(given)
    try:
        check_place(f"the {what} {said}", said)
    except DefinitionError as error:
        raise InputRefused(str(error)) from None
    found = said.rstrip("/") if said.startswith(S3) or Path(said).exists() else str(root / said)
    if not (storage.exists(found) if found.startswith(S3) else Path(found).exists()):
        raise InputRefused(f"there is no {what} at {given}; give {kinds}")
    return found
