"""What to write where a file does not fit its source: the option by which it would, found by looking at the file."""

import codecs
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path

from feature_definitions.errors import UserError
from feature_definitions.language import Csv
from spark_jobs.ingest import landing, opened, samples
from spark_jobs.ingest.opened import UNREADABLE
from spark_jobs.ingest.parsing import Shape
from spark_jobs.ingest.samples import Sample

_OTHERS = {
    b"PK\x03\x04": "is a zip archive, or a workbook of Excel: unpack it, or save it as CSV",
    b"\xd0\xcf\x11\xe0": "is a workbook of Excel: save it as CSV",
    b"7z\xbc\xaf": "is a 7z archive: unpack it",
    b"Obj\x01": "is an Avro file, which is not read: write it as Parquet",
    b"ORC": "is an ORC file, which is not read: write it as Parquet",
    b"SQLite format 3": "is a database of SQLite: export its table as CSV",
}
_WHY = {
    "delimiter": "`{0}` separates the columns",
    "encoding": "its text is {0}",
    "decimal": "`{0}` stands before the fraction of its numbers",
    "thousands": "`{0}` parts groups of digits",
    "nulls": "it has words that mean null",
    "escape": "`{0}` stands before a quote within quotes",
    "header": "its first line does not name the columns",
}
_PACKED = (".gz", ".zst", ".bz2", ".xz")


def of_file(path: Path, wanted: Shape) -> str | None:
    """What its source would say of a file to read it, and why; None if nothing can be told. Never raises for a bad file."""
    try:
        with path.open("rb") as file, suppress(*UNREADABLE):
            begin = opened.content(file).read(4096)
            return _of_content(begin, path, wanted)
    except OSError:
        pass
    return None


def _of_content(begin: bytes, path: Path, wanted: Shape) -> str | None:
    other = next((said for mark, said in _OTHERS.items() if begin.startswith(mark)), None)
    if other is not None:
        return f"It {other}"
    found = _format(begin)
    if found != wanted.format:
        return None if found is None else f'It {_FORMATS[found]}: write format="{found}"'
    if found == "csv" and opened.marked(begin) is None and b"\0" in begin:
        return _sixteen_bits(begin)
    return _of_dialect(path, wanted) if found == "csv" else None


_FORMATS = {"csv": "is text in columns", "jsonl": "holds JSON", "parquet": "is a Parquet file"}


def _format(begin: bytes) -> str | None:
    """The format that a file's first bytes tell; None if they are none that is read."""
    if begin.startswith(b"PAR1"):
        return "parquet"
    text = begin.lstrip(b"\xef\xbb\xbf \t\r\n\0")
    if text.startswith((b'{"', b'[{"', b"{\n", b"[\n", b"{\r", b"[\r", b"{ ", b"[ ", b"{}", b"[]")):
        return "jsonl"
    return "csv" if text else None


def _sixteen_bits(begin: bytes) -> str | None:
    """A text of which every other byte is zero; where the first one is, the high bytes come first."""
    halves = begin[0::2], begin[1::2]
    for half, encoding in zip(halves, ("utf-16-be", "utf-16-le"), strict=True):
        if half.count(0) > len(half) * 0.8:
            return f'Every other byte is zero, as in UTF-16: write csv=Csv(encoding="{encoding}")'
    return None


def _of_dialect(path: Path, wanted: Shape) -> str | None:
    seen = _seen(path)
    if seen is None:
        return None
    given, found = wanted.csv or Csv(), getattr(seen.at, "csv", None) or Csv()
    other = {name: getattr(found, name) for name in _WHY if _differs(name, given, found, seen, wanted)}
    if not other:
        return None
    why = ", ".join(_WHY[name].format(_shown(value)) for name, value in other.items())
    return f"{why[0].upper()}{why[1:]}: write csv={written(_with(given, other))}"


def _seen(path: Path) -> Sample | None:
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
        case "decimal":
            return found.decimal != given.decimal and found.decimal == ","
        case "encoding":
            return found.encoding != "utf-8" and codecs.lookup(given.encoding).name == "utf-8"
    return found.delimiter != given.delimiter and len(seen.columns) > 1


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
    return "\\t" if value == "\t" else str(value)


# ------------------------------------------------------------------------------------------------------------------------- globs


def of_globs(globs: Iterable[str], *, root: Path) -> Iterator[str]:
    """Which files lie beside those of a source and are left out only because their names end otherwise."""
    said = tuple(globs)
    taken = {path for glob in said for path in landing.matches(glob, root=root)}
    for glob in said:
        for other in _near(glob):
            missed = sorted(path for path in landing.matches(other, root=root) if path not in taken and path.is_file())
            if missed:
                yield f"{missed[0].name} lies beside {glob}, which does not match it: write Files(({_word(glob)}, {_word(other)}))"


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
