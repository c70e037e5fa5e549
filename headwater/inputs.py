"""What callers hand in: times, spans, frames and paths, as the values that jobs take."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, overload

from feature_definitions.errors import InputRefused
from feature_definitions.intervals import duration, parse_instant, spell
from feature_definitions.planning import plan

if TYPE_CHECKING:
    import pyarrow as pa


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


def arrow(frame: object) -> "pa.Table":
    """A pandas or Arrow frame as an Arrow table; pandas' NaN is null, its index is left out."""
    import pandas as pd
    import pyarrow as pa

    if isinstance(frame, pd.DataFrame):
        try:
            return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
        except pa.ArrowException as error:
            raise InputRefused(f"a column of the frame holds values of several types: {': '.join(map(str, error.args))}") from None
    if isinstance(frame, pa.RecordBatch):
        return pa.Table.from_batches([frame])
    if isinstance(frame, pa.Table):
        return frame
    raise InputRefused(f"a frame is a pandas DataFrame or an Arrow table, not a {type(frame).__name__}")


def loaded(path: "str | os.PathLike[str]", root: Path) -> "pa.Table":
    """The rows of a CSV, Parquet or Delta path, as given or relative to the project."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    found = Path(path) if Path(path).exists() else root / path
    if not found.exists():
        raise InputRefused(f"there is no spine at {path}; give a CSV, Parquet or Delta path")
    try:
        if (found / "_delta_log").is_dir():
            from lake import delta

            return delta.load(str(found))
        return pa.csv.read_csv(found) if found.suffix == ".csv" else pa.parquet.read_table(found)
    except (pa.ArrowException, OSError) as error:
        raise InputRefused(f"the spine {path} cannot be read: {error}") from None
