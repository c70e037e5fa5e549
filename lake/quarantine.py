"""Rows that were put aside, read without Spark: how many there are for which reason, with examples, and all of them."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from feature_definitions import layout
from feature_definitions.records import IngestedFile, LedgerEntry
from lake import delta

OF_SOURCES = ("file", "line", "reason", "column", "value", "quarantined_at", "rows")
"""Columns of a source's quarantine beside the source's own; `rows` says of a table read in place how many rows one example stands for."""
EXAMPLES = 3
_REASONS = 100
"""So many reasons have examples, and each so many."""
_QUOTED = re.compile(r""": (the field )?(['"]).*\2(?= )""", re.DOTALL)

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Example:
    """One row that was put aside: where it lay, or of which interval it is; the column and the value at fault; and the row as it was."""

    file: str | None
    line: int | None
    column: str | None
    value: str | None
    interval_start: datetime | None
    row: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PutAside:
    """What of a source or a group is put aside for one reason; `intervals` are those of a group."""

    name: str
    of: Literal["source", "group"]
    reason: str
    rows: int
    intervals: int | None = None
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True, slots=True)
class _Told:
    """How many rows have a reason, of which intervals, and the reasons as they are written."""

    rows: int = 0
    intervals: frozenset[datetime] = frozenset()
    written: tuple[str, ...] = field(default=())


def kind(reason: str) -> str:
    """A reason without the value that it quotes, so that the same mistakes are one."""
    return _QUOTED.sub(":", reason, count=1)


def beside(name: str) -> str:
    """A source's column in its quarantine, out of the way of the quarantine's own columns."""
    return f"{name}_" if name in OF_SOURCES else name


# ----------------------------------------------------------------------------------------------------------------------- sources


def of_source(source: str, *, lake: str, files: Mapping[str, IngestedFile]) -> tuple[PutAside, ...]:
    """What is put aside of a source, by reason, most rows first; a file is called as it is named now."""
    path = layout.quarantine_table(lake, source)
    found = delta.query(path, f"SELECT reason, {_counted(path)} AS n FROM t GROUP BY reason")
    kinds: dict[str, _Told] = {}
    for row in sorted(found, key=lambda row: row["reason"]):
        told = kinds.setdefault(kind(row["reason"]), _Told())
        kinds[kind(row["reason"])] = replace(told, rows=told.rows + row["n"], written=(*told.written, row["reason"])[:EXAMPLES])
    shown = _shown(path, "reason", [text for told in kinds.values() for text in told.written], order='"file", "line"')
    now = names_now(files)
    found_at = {name: [_of_source(row, now) for row in shown if kind(row["reason"]) == name][:EXAMPLES] for name in kinds}
    aside = [PutAside(source, "source", name, told.rows, examples=tuple(found_at[name])) for name, told in kinds.items()]
    return tuple(sorted(aside, key=lambda each: (-each.rows, each.reason)))


def rows_of_source(source: str, *, lake: str) -> int:
    """How many rows of a source are put aside."""
    path = layout.quarantine_table(lake, source)
    return sum(row["n"] for row in delta.query(path, f"SELECT reason, {_counted(path)} AS n FROM t GROUP BY reason"))


def files_of(source: str, *, lake: str) -> frozenset[str]:
    """The files of which rows are put aside, by the names that their rows go by."""
    return frozenset(row["file"] for row in delta.query(layout.quarantine_table(lake, source), 'SELECT DISTINCT "file" FROM t'))


def names_now(files: Mapping[str, IngestedFile]) -> dict[str, str]:
    """What the files of a source are called now, by the names that their rows go by."""
    return {record.came_as or name: name for name, record in files.items()}


def _counted(path: str) -> str:
    return 'max("rows")' if "rows" in delta.columns(path) else "count(*)"


def _of_source(row: Row, now: Mapping[str, str]) -> Example:
    text = {name: value for name, value in row.items() if name not in (*OF_SOURCES, "_n")}
    return Example(now.get(row["file"], row["file"]), row["line"], row.get("column"), row.get("value"), None, text)


# ------------------------------------------------------------------------------------------------------------------------ groups


def of_group(group: str, *, lake: str, ledger: Collection[LedgerEntry]) -> tuple[PutAside, ...]:
    """What is put aside of a group, by the expectations that failed: rows of intervals that are rejected, or published without them."""
    path = layout.quarantine_table(lake, group)
    by = "failed_expectation, interval_start, publish_id"
    counted = f"SELECT {by}, count(*) AS n FROM t GROUP BY {by}"
    entries = {(entry.interval.start, entry.run_id): entry for entry in ledger}
    mine = [row for row in delta.query(path, counted) if (row["interval_start"], row["publish_id"]) in entries]
    reasons: dict[str, _Told] = {}
    for row in mine:
        _add(reasons, row["failed_expectation"], row["interval_start"], rows=row["n"])
    blamed = {(row["interval_start"], row["publish_id"]) for row in mine}
    for key, entry in entries.items():
        if entry.state == "REJECTED" and key not in blamed:
            _add(reasons, ", ".join(entry.failed), key[0], rows=0)
    current = " OR ".join(
        f"publish_id = {delta.literal(publish)} AND interval_start = {delta.literal(start)}" for start, publish in sorted(blamed)[:_REASONS]
    )
    shown = _shown(path, "failed_expectation", list(reasons), order="interval_start, event_timestamp", where=current) if blamed else []
    examples = {reason: tuple(_of_group(row) for row in shown if row["failed_expectation"] == reason) for reason in reasons}
    aside = [PutAside(group, "group", name, told.rows, len(told.intervals), examples[name]) for name, told in reasons.items()]
    return tuple(sorted(aside, key=lambda each: (-each.rows, each.reason)))


def _add(reasons: dict[str, _Told], reason: str, start: datetime, *, rows: int) -> None:
    told = reasons.get(reason, _Told())
    reasons[reason] = _Told(told.rows + rows, told.intervals | {start}, (reason,))


def _of_group(row: Row) -> Example:
    beside = ("failed_expectation", "interval_start", "publish_id", "quarantined_at", "_n")
    return Example(None, None, None, None, row["interval_start"], {name: value for name, value in row.items() if name not in beside})


def intervals_of(group: str, *, lake: str, ledger: Collection[LedgerEntry]) -> set[datetime]:
    """The starts of the intervals of which rows are put aside, or that are rejected without any that is to blame."""
    found = delta.query(layout.quarantine_table(lake, group), "SELECT DISTINCT interval_start, publish_id FROM t")
    kept = {(row["interval_start"], row["publish_id"]) for row in found}
    mine = (e for e in ledger if e.state == "REJECTED" or (e.interval.start, e.run_id) in kept)
    return {entry.interval.start for entry in mine}


def current_rows(group: str, *, lake: str, ledger: Iterable[LedgerEntry]) -> list[Row]:
    """All rows of a group that are put aside."""
    entries = {(entry.interval.start, entry.run_id) for entry in ledger}
    found = delta.query(layout.quarantine_table(lake, group), "SELECT * FROM t")
    return [row for row in found if (row["interval_start"], row["publish_id"]) in entries]


def all_rows(source: str, *, lake: str, files: Mapping[str, IngestedFile]) -> list[Row]:
    """All rows of a source that are put aside, by file and line."""
    now = names_now(files)
    found = delta.query(layout.quarantine_table(lake, source), 'SELECT * FROM t ORDER BY "file", "line"')
    return [row | {"file": now.get(row["file"], row["file"])} for row in found]


def _shown(path: str, column: str, reasons: Collection[str], *, order: str, where: str = "") -> list[Row]:
    """A few rows of each of these reasons."""
    listed = ", ".join(delta.literal(reason) for reason in list(reasons)[: _REASONS * EXAMPLES])
    if not listed:
        return []
    condition = f"{column} IN ({listed})" + (f" AND ({where})" if where else "")
    ranked = f"SELECT *, row_number() OVER (PARTITION BY {column} ORDER BY {order}) AS _n FROM t WHERE {condition}"
    return delta.query(path, f"SELECT * FROM ({ranked}) WHERE _n <= {EXAMPLES} ORDER BY {column}, _n")


def rows_of_publishes(group: str, *, lake: str) -> dict[tuple[datetime, str], int]:
    """How many rows of a group's intervals are put aside, by the interval's start and the run that put them there."""
    path = layout.quarantine_table(lake, group)
    found = delta.query(path, "SELECT interval_start, publish_id, count(*) AS n FROM t GROUP BY interval_start, publish_id")
    return {(row["interval_start"], row["publish_id"]): row["n"] for row in found}


def one_of(group: str, *, lake: str, publish_id: str, start: datetime) -> Mapping[str, Any] | None:
    """A row of an interval that a run put aside, as it was, if there is any: the first by its time."""
    mine = f"publish_id = {delta.literal(publish_id)} AND interval_start = {delta.literal(start)}"
    path = layout.quarantine_table(lake, group)
    found = delta.query(path, f"SELECT * FROM t WHERE {mine} ORDER BY event_timestamp LIMIT 1")
    return _of_group(found[0]).row if found else None
