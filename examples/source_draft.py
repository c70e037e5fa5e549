"""The first draft of a source's definition, from what was seen of its data: to be read and corrected."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from examples.draft import DraftRefused, write_new
from feature_definitions.counted import counted
from feature_definitions.language import Column, Csv, DeltaTable, Files, Jdbc
from feature_definitions.language.rules import COLUMN, check_name
from feature_definitions.loader import Catalog
from spark_jobs.ingest.guesses import Guess
from spark_jobs.ingest.samples import Sample

_TIME = re.compile(r"(^|_)(event_timestamp|event_time|timestamp|time|ts|at|occurred|happened|created|date|datum|day)($|_)")
_ID = re.compile(r"(^|_)(id|uuid|guid|key|nr|no|number|nummer)$")


@dataclass(frozen=True, slots=True)
class SourceDraft:
    """A source's file: where it goes, what stands in it, what a person must decide before it can be used, and what they should check."""

    file: Path
    text: str
    decide: tuple[str, ...]
    check: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of the definition, and what is said beside it."""

    code: str
    said: tuple[str, ...] = ()


def draft(name: str, seen: Sample, catalog: Catalog, *, folder: Path, timezone: str | None = None) -> SourceDraft:
    """The definition of a source as its data look, for a file of its own in the catalog's folder."""
    check_name("source", name)
    if name in catalog.sources:
        raise DraftRefused(f"there is a source {name!r} already, in {catalog.origins['source', name].file}; name the new one differently")
    if not seen.columns:
        raise DraftRefused(f"source {name}: the data have no column that a source could have")
    ours = _named(seen.columns)
    time = _time(ours)
    columns = {mine: _as_time(guess) if mine == time else guess for mine, (_, guess) in ours.items()}
    zone, decide = _zone(columns, seen, timezone)
    ids, others = _ids(columns, time)
    lines = [*_columns(ours, columns), *_when(columns, time), *zone, *_id(ids, others, seen.rows)]
    check = [f"{line.code.strip().rstrip(',')}: {said}" for line in lines for said in line.said if not said.startswith("DECIDE")]
    decide = [*decide, *([] if time or ids else ["say which column is the time (event_timestamp), or what makes a row unique (id)"])]
    return SourceDraft(folder / f"{name}.py", _text(name, seen, lines), tuple(decide), (*seen.remarks, *check))


def write(made: SourceDraft) -> None:
    """Write the file; refused if it is there."""
    write_new(made.file, made.text, _there(made.file))


def refuse_over(file: Path) -> None:
    """Refuse to write a file that is there."""
    if file.exists():
        raise DraftRefused(_there(file))


def _there(file: Path) -> str:
    return f"{file} is there already; nothing was written. Name the source differently, or move the file away"


# ------------------------------------------------------------------------------------------------------------------------ names


def _named(columns: Mapping[str, Guess]) -> dict[str, tuple[str, Guess]]:
    """Each column by a name of ours, with its name in the data."""
    ours: dict[str, tuple[str, Guess]] = {}
    taken: set[str] = set()
    for place, (name, guess) in enumerate(columns.items(), 1):
        plain = unicodedata.normalize("NFKD", name.replace("ß", "ss")).encode("ascii", "ignore").decode()
        mine = name if COLUMN.fullmatch(name) else re.sub(r"[^a-z0-9]+", "_", plain.lower()).strip("_")[:100] or f"column_{place}"
        mine = mine if re.match(r"[A-Za-z_]", mine) and not mine.startswith("_hw_") else f"column_{mine.strip('_')}"
        while mine.lower() in taken:
            mine = f"{mine}_{place}"
        taken.add(mine.lower())
        ours[mine] = (name, guess)
    return ours


# ------------------------------------------------------------------------------------------------------------------- what is what


def _time(ours: Mapping[str, tuple[str, Guess]]) -> str | None:
    """The column that most looks like the time of a row: a timestamp before a date, always filled, and called so."""
    found = [(name, guess) for name, (_, guess) in ours.items() if guess.column.data_type in ("timestamp", "date")]

    def rank(each: tuple[str, Guess]) -> tuple[bool, bool, bool]:
        name, guess = each
        return guess.filled, guess.column.data_type == "timestamp", _TIME.search(name.lower()) is not None

    return max(found, key=rank)[0] if found else None


def _as_time(guess: Guess) -> Guess:
    """A column as an event timestamp: a date is the midnight with which it begins."""
    if guess.column.data_type == "timestamp":
        return guess
    return guess._replace(
        column=replace(guess.column, data_type="timestamp"), zoneless=True, doubts=(*guess.doubts, "a date: its midnight")
    )


def _ids(columns: Mapping[str, Guess], time: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The column that looks like a row's id, and others that are unique too."""
    plain = [n for n, g in columns.items() if g.unique and n != time and g.column.data_type in ("string", "int64")]
    named = [name for name in plain if _ID.search(name.lower())]
    return tuple(named[:1]), tuple(name for name in plain if name not in named[:1])


# ------------------------------------------------------------------------------------------------------------------------- text


def _columns(ours: Mapping[str, tuple[str, Guess]], columns: Mapping[str, Guess]) -> list[_Line]:
    lines = [_Line("columns={")]
    lines += [_Line(f"    {_quoted(mine)}: {_column(columns[mine].column, mine, ours[mine][0])},", columns[mine].doubts) for mine in ours]
    return [*lines, _Line("},")]


def _column(column: Column, mine: str, name: str) -> str:
    said = [f"{word}={_quoted(value)}" for word, value in (("format", column.format), ("epoch", column.epoch)) if value is not None]
    named = [] if name == mine else [_quoted(name)]
    parts = [_quoted(column.data_type), *named, *said]
    return parts[0] if len(parts) == 1 else f"Column({', '.join(parts)})"


def _when(columns: Mapping[str, Guess], time: str | None) -> list[_Line]:
    if time is None:
        return [
            _Line('shape="static",', ("no column looks like a time; if there is one, name it as event_timestamp and remove this line",))
        ]
    others = [name for name, guess in columns.items() if guess.column.data_type == "timestamp" and name != time]
    said = (f"or is it {' or '.join(others)}? It says when a row happened",) if others else ()
    missing = () if columns[time].filled else ("rows without it are put aside",)
    return [_Line(f"event_timestamp={_quoted(time)},", (*said, *missing))]


def _zone(columns: Mapping[str, Guess], seen: Sample, timezone: str | None) -> tuple[list[_Line], list[str]]:
    """The line that says where times were written down, or asks for it."""
    times = [name for name, guess in columns.items() if guess.column.data_type == "timestamp" and guess.column.epoch is None]
    zoneless = [name for name in times if columns[name].zoneless]
    as_text = isinstance(seen.at, Files) and seen.at.format != "parquet"
    if timezone is not None:
        return ([_Line(f"timezone={_quoted(timezone)},")] if times else []), []
    if zoneless:
        question = f"where were the times of {', '.join(zoneless)} written down? They carry no zone"
        line = _Line("timezone=None,", (f'DECIDE: {question}. Write "UTC" or a name like "Europe/Berlin"',))
        return [line], [f"timezone: {question}"]
    return (
        [_Line('timezone="UTC",', ("all times that were seen carry a zone; one that does not would be read as UTC",))]
        if times and as_text
        else []
    ), []


def _id(ids: tuple[str, ...], others: tuple[str, ...], rows: int) -> list[_Line]:
    if ids:
        also = f"; so {'is' if len(others) == 1 else 'are'} {', '.join(others)}" if others else ""
        return [_Line(f"id=({_quoted(ids[0])},),", (f"unique in the {_seen(rows)}{also}. The same id again is a correction",))]
    said = f"{', '.join(others)} {'is' if len(others) == 1 else 'are'} unique" if others else "no column is unique"
    return [_Line("id=(),", (f"{said} in the {_seen(rows)}. Without an id every row counts",))]


def _seen(rows: int) -> str:
    return f"{counted(rows, 'row')} that {'was' if rows == 1 else 'were'} seen"


def _text(name: str, seen: Sample, lines: Iterable[_Line]) -> str:
    body = "\n".join(_written(line) for line in (_Line(f"{_place(seen.at)},"), *lines))
    words = sorted({"Source", type(seen.at).__name__, *(word for word in ("Column", "Csv") if f"{word}(" in body)})
    remarks = "".join(f"# {remark[0].upper()}{remark[1:]}.\n" for remark in seen.remarks)
    return f'''"""{name}, as its data looked: read each line and correct it, then `headwater check` and `headwater ingest {name}`."""

from feature_definitions import {", ".join(words)}

{remarks}{name} = Source(
    "{name}",
{body}
)  # fmt: skip
'''


def _written(line: _Line) -> str:
    return f"    {line.code}" + (f"  # {'; '.join(line.said)}" if line.said else "")


def _place(at: Files | DeltaTable | Jdbc) -> str:
    match at:
        case DeltaTable():
            return f"DeltaTable({_quoted(at.path)})"
        case Jdbc():
            return f"Jdbc({_quoted(str(at.table))}, connection={_quoted(at.connection)})"
    dialect = "" if at.csv is None else f", csv={_dialect(at.csv)}"
    return f"Files({_quoted(at.place)}, format={_quoted(at.format)}{dialect})"


def _dialect(csv: Csv) -> str:
    usual = Csv()
    words = ("delimiter", "encoding", "decimal", "thousands", "nulls", "escape", "quote", "header")
    said = [f"{word}={_value(getattr(csv, word))}" for word in words if getattr(csv, word) != getattr(usual, word)]
    return f"Csv({', '.join(said)})"


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(_quoted(each) for each in value)},)"
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(text: str) -> str:
    """A text as Python writes it, in double quotes."""
    inner = repr(text)[1:-1].replace("\\'", "'").replace('"', '\\"') if "'" in text or '"' in text else repr(text)[1:-1]
    return f'"{inner}"'
