"""What to write where a file does not fit its source: the option by which it would, found by looking at the file."""

import codecs
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path

from feature_definitions.errors import UserError
from feature_definitions.language import Csv
from spark_jobs.ingest import dialect_seen, dialects, first_bytes, globs, json_lines, json_objects, opened, samples
from spark_jobs.ingest.opened import UNREADABLE
from spark_jobs.ingest.parsing import Shape, named_otherwise
from spark_jobs.ingest.samples import Sample
from spark_jobs.ingest.whereabouts import Place, is_remote, named

_WHY = {
    "delimiter": "`{0}` separates the columns",
    "encoding": "its text is {0}",
    "decimal": "`{0}` stands before the fraction of its numbers",
    "thousands": "`{0}` parts groups of digits",
    "nulls": "it has words that mean null",
    "escape": "`{0}` is the sign of its escapes",
    "quote": "{0} stands around its fields",
    "header": "its first line does not name the columns",
}
_PACKED = (".gz", ".zst", ".bz2", ".xz")


def of_file(path: Place, wanted: Shape) -> str | None:
    """What its source would say of a file to read it, and why; None if nothing can be told. Never raises for a bad file."""
    try:
        with path.open("rb") as file, suppress(*UNREADABLE):
            begin = opened.content(file).read(4096)
            return _of_content(begin, path, wanted)
    except OSError:
        pass
    return None


def _of_content(begin: bytes, path: Place, wanted: Shape) -> str | None:
    other = first_bytes.unreadable(begin)
    if other is not None:
        return f"It {other}"
    found = first_bytes.kind(begin)
    if found != wanted.format:
        return None if found is None else f'It {_FORMATS[found]}: write format="{found}"'
    match found:
        case "csv" if opened.marked(begin) is None and (wide := first_bytes.sixteen_bits(begin)) is not None:
            return f'Every other byte is zero, as in UTF-16: write csv=Csv(encoding="{wide}")'
        case "csv":
            return _of_first_lines(path, wanted) or _of_dialect(path, wanted)
        case "jsonl":
            return _of_fields(path, wanted)
    with path.open("rb") as file:
        packed = opened.compression(file.peek(8)) is not None
    return "It was compressed as a whole, as no Parquet file need be: unpack it" if packed else None


_FORMATS = {"csv": "is text in columns", "jsonl": "holds JSON", "parquet": "is a Parquet file"}
_FIRST = 20
"""Among so many records the names of the columns are looked for."""


def _of_first_lines(path: Place, wanted: Shape) -> str | None:
    """Where the columns are named, if it is not in the first line."""
    csv = wanted.csv or Csv()
    if not csv.header:
        return None
    names = {name for name, ours in wanted.ours.items() if ours not in dict(wanted.folders)}
    with opened.text(path, csv.encoding, newline="") as text, suppress(dialects.NeverClosed, opened.LineTooLong):
        first = list(islice(dialects.records(text, csv), _FIRST))
        lines = [line for line, record in first if isinstance(record, list) and names <= {field.strip() for field in record}]
        if lines and first[0][0] < lines[0]:
            return f"Line {lines[0]} names the columns: delete the lines before it"
    return None


def _of_fields(path: Place, wanted: Shape) -> str | None:
    """How fields of JSON are called that the source calls otherwise; or the list of one object that holds the rows."""
    with opened.text(path, "utf-8", newline="") as text, suppress(json_objects.NotJson):
        rows = [held for _, held in islice(json_lines.objects(text), _FIRST) if isinstance(held, dict)]
        held = list(dict.fromkeys(field for row in rows for field in row))
        lists = [field for field in held if isinstance(rows[0].get(field), list) and field not in wanted.ours]
        if lists and not set(held) & set(wanted.ours):
            return f"Its rows lie in the list {lists[0]!r} of an object: write that list alone, or one object a line"
        missing = {ours: column for ours, column in wanted.lying.items() if column.name not in held and ours not in dict(wanted.folders)}
        advice = [named_otherwise(ours, column, held) for ours, column in missing.items()]
        return "".join(advice).strip().rstrip(".") or None
    return None


def _of_dialect(path: Place, wanted: Shape) -> str | None:
    seen = _seen(path)
    if seen is None:
        return None
    given, found = wanted.csv or Csv(), getattr(seen.at, "csv", None) or Csv()
    other = {name: getattr(found, name) for name in _WHY if _differs(name, given, found, seen, wanted)}
    if "header" in other and _names_any(path, found, wanted):
        del other["header"]
    if not other:
        return None
    why = ", ".join(_WHY[name].format(_shown(value)) for name, value in other.items())
    return f"{why[0].upper()}{why[1:]}: write csv={written(_with(given, other))}"


def _seen(path: Place) -> Sample | None:
    with suppress(UserError, *UNREADABLE):
        return samples.of_csv(path)
    return None


def _differs(name: str, given: Csv, found: Csv, seen: Sample, wanted: Shape) -> bool:
    """Whether a file seems to be written otherwise than its source says, in something that keeps rows out."""
    match name:
        case "nulls":
            return not set(found.nulls) <= {*given.nulls, ""}
        case "header":
            return given.header and not found.header and len(seen.columns) >= len(wanted.columns)
        case "thousands" | "escape":
            return getattr(found, name) is not None and getattr(found, name) != getattr(given, name)
        case "quote":
            return found.quote not in (given.quote, '"')
        case "decimal":
            return found.decimal != given.decimal and found.decimal == ","
        case "encoding":
            return found.encoding != "utf-8" and codecs.lookup(given.encoding).name == "utf-8"
    return found.delimiter != given.delimiter and len(seen.columns) > 1


def _names_any(path: Place, found: Csv, wanted: Shape) -> bool:
    """Whether a file's first record holds a name of the source's columns."""
    return not wanted.ours.keys().isdisjoint(text.strip() for text in next(dialect_seen.records(path, found), []))


def _with(given: Csv, other: dict[str, object]) -> Csv:
    nulls = other.get("nulls")
    words = {"nulls": tuple(dict.fromkeys((*given.nulls, *nulls)))} if isinstance(nulls, tuple) else {}
    return replace(given, **{**other, **words})  # type: ignore[arg-type]  # each is of its field's type


def written(csv: Csv) -> str:
    """A dialect as a definition writes it, without what is as usual."""
    said = [(each.name, getattr(csv, each.name)) for each in fields(Csv)]
    usual = Csv()
    return f"Csv({', '.join(f'{name}={_word(value)}' for name, value in said if value != getattr(usual, name))})"


def _word(value: object) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_word, value))}{',' if len(value) == 1 else ''})"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _shown(value: object) -> str:
    return "nothing" if value is None else json.dumps(value)[1:-1] if isinstance(value, str) and not value.isprintable() else str(value)


# ------------------------------------------------------------------------------------------------------------------------- globs


def of_globs(said: Sequence[str], *, root: Path) -> Iterator[str]:
    """Which files lie beside those of a source and are left out only because their names end otherwise, or since a link leads to them."""
    near = {glob: tuple(_near(glob)) for glob in said if "*" in glob or "?" in glob}
    found = globs.matched([*said, *(other for others in near.values() for other in others)], root=root).by_glob
    taken = {path for glob in said for path in found[glob]}
    for glob, others in near.items():
        for other in others:
            missed = [path for path in found[other] if path not in taken and path.is_file()]
            if missed:
                yield f"{missed[0].name} lies beside {glob}, which does not match it: write Files({_word((*said, other))})"
    yield from _of_links(said, root=root)


def _of_links(said: Sequence[str], *, root: Path) -> Iterator[str]:
    """Which folder is not looked into since it is a link; of each glob the first."""
    for glob in said:
        if not is_remote(glob) and (link := min(globs.unfollowed(glob, root=root), default=None)) is not None:
            more = f"{named(link, root)}/**{glob.rpartition('**')[2]}"
            yield f"{link.name} is a link to a folder, which ** does not follow: write Files({_word((*said, more))}) if its files are meant"


def of_names(said: Sequence[str], *, root: Path) -> Iterator[str]:
    """Which file lies where a glob looks, and is no data by its name alone; of each glob the first."""
    for glob in said:
        if not is_remote(glob) and (left := min(globs.no_data(glob, root=root), default=None)) is not None:
            yield f"{left.name} is no data by its name, which begins with `_`, `.` or `~$` or ends as what is unfinished does: rename it"


def _near(glob: str) -> Iterator[str]:
    packed = next((ending for ending in _PACKED if glob.endswith(ending)), "")
    plain = glob.removesuffix(packed)
    if "." not in plain.rpartition("/")[2]:
        return
    endings = [each for each in ("", *_PACKED) if each != packed]
    yield from (plain + ending for ending in endings)
    stem, _, kind = plain.rpartition(".")
    if kind != kind.upper():
        yield f"{stem}.{kind.upper()}{packed}"
