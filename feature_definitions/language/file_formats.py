# mypy: disable-error-code=redundant-expr
# What users write is checked when it runs: a definition may hold anything, whatever its types say.
"""Files as they lie in the world: where they are, their format, and how CSV was written."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from feature_definitions.language.on_s3 import check_place
from feature_definitions.language.rules import DefinitionError, listed, texts

FORMATS = {"csv": "csv", "parquet": "parquet", "jsonl": "jsonl", "json": "jsonl"}
"""The formats of files, by what a definition may call them."""


@dataclass(frozen=True, slots=True)
class Csv:
    r"""How CSV files were written, where they differ from the usual; one that begins with a BOM or `sep=;` says it itself.

    A field whose whole text is one of `nulls` is null, quoted or not; so is an empty one, unless its column is a string. Within quotes a
    doubled quote is a quote. `escape="\\"` says that a backslash before a quote or a backslash stands for that character, within quotes
    alone, as Spark writes it; with `quote=None` it does so before a delimiter and a line end too. `thousands` parts groups of digits.
    With `header=False` the fields are the source's columns in their order, without those that only folders tell.
    """

    delimiter: str = ","
    encoding: str = "utf-8"
    decimal: str = "."
    thousands: str | None = None
    nulls: tuple[str, ...] = ("",)
    escape: str | None = None
    quote: str | None = '"'
    header: bool = True

    def __post_init__(self) -> None:
        """Check each word, and that no two of them are the same character."""
        object.__setattr__(self, "nulls", texts(self.nulls))
        _check_delimiter(self.delimiter)
        _check_encoding(self.encoding)
        _check_numbers(self)
        if not all(isinstance(word, str) for word in self.nulls):
            raise DefinitionError(f"Csv has nulls={self.nulls!r}; write the texts that mean null, like nulls=('', 'NULL')")
        if not isinstance(self.header, bool):
            raise DefinitionError(f"Csv has header={self.header!r}; write True or False: whether the first line names the columns")
        _check_quotes(self)

    @property
    def has_plain_numbers(self) -> bool:
        """Whether numbers are written as programs write them: with a point, without groups."""
        return self.decimal == "." and self.thousands is None


def _check_delimiter(delimiter: object) -> None:
    if not _is_sign(delimiter):
        raise DefinitionError(
            f"Csv has delimiter={delimiter!r}; write the one character between two columns, like ';', '|' or '\\t' for a tab"
        )


def _is_sign(character: object) -> bool:
    """Whether something is one character that can stand beside letters and digits."""
    return isinstance(character, str) and len(character) == 1 and not character.isalnum() and character not in "\r\n\0"


def _check_encoding(encoding: object) -> None:
    try:
        known = isinstance(encoding, str) and "a".encode(encoding).decode(encoding) == "a"
    except (LookupError, ValueError):
        known = False
    if not known:
        raise DefinitionError(f"Csv has encoding={encoding!r}, which nobody knows; write one like 'utf-8', 'latin-1', 'cp1252' or 'utf-16'")


def _check_numbers(csv: Csv) -> None:
    if csv.decimal not in (".", ","):
        raise DefinitionError(f"Csv has decimal={csv.decimal!r}; write '.' or ',': what stands before the fraction of a number")
    if csv.thousands is not None and (not _is_sign(csv.thousands) or csv.thousands in "+-"):
        raise DefinitionError(
            f"Csv has thousands={csv.thousands!r}; write the one character between groups of digits, like '.' or ' ', or None"
        )
    if csv.thousands == csv.decimal:
        raise DefinitionError(f"Csv has {csv.decimal!r} for decimal and for thousands; then nobody can tell 1{csv.decimal}234 from 1234")
    if csv.quote is None and csv.delimiter in (csv.decimal, csv.thousands):
        raise DefinitionError(f"Csv has {csv.delimiter!r} between columns and within numbers, and no quotes; write another delimiter")


def _check_quotes(csv: Csv) -> None:
    for what, sign in (("quote", csv.quote), ("escape", csv.escape)):
        if sign is not None and not _is_sign(sign):
            raise DefinitionError(f"Csv has {what}={sign!r}; write one character, like {what}={_EXAMPLES[what]}, or None")
        if sign == csv.delimiter:
            raise DefinitionError(f"Csv has {sign!r} for delimiter and for {what}; write another one for one of them")
    if csv.escape is not None and csv.escape == csv.quote:
        raise DefinitionError(f"Csv has {csv.escape!r} for quote and for escape; a doubled quote is always read as one: leave escape out")


_EXAMPLES = {"quote": "'\"'", "escape": "'\\\\'"}


@dataclass(frozen=True, slots=True)
class Files:
    """CSV, Parquet or JSON files: globs relative to the project's root or on S3; `csv` says how CSV was written.

    `json` and `jsonl` both mean JSON objects: one a line, one after the other, or in one array. What was compressed by gzip, zstd, bz2
    or xz is read as it is. A folder named `key=value` on a file's way gives all its rows a column, if the source has one of that name.

    What begins with `_` or `.` is no data (a folder like `_day=5` is), nor what ends like `.tmp`. `complete` is a file like `_SUCCESS`
    that says of a folder that its files are whole: before it is there, they are left for the next time.
    """

    path: str | tuple[str, ...]
    format: str = "csv"
    csv: Csv | None = None
    complete: str | None = None

    def __post_init__(self) -> None:
        """Check the paths, the format, the marker, and that CSV is spoken of where there is some."""
        if not self.paths or not all(isinstance(path, str) and path for path in self.paths):
            raise DefinitionError("Files needs a path, like Files('data/payments/*.csv', format='csv')")
        for path in self.paths:
            check_place(f"Files({path!r})", path)
        if isinstance(self.path, Sequence) and not isinstance(self.path, str):
            object.__setattr__(self, "path", self.paths)
        if self.format not in FORMATS:
            raise DefinitionError(f"Files({self.path!r}) has the format {self.format!r}; write 'csv', 'parquet' or 'jsonl'")
        object.__setattr__(self, "format", FORMATS[self.format])
        _check_csv(self)
        _check_complete(self)

    @property
    def paths(self) -> tuple[str, ...]:
        """The globs, one or several."""
        return listed(self.path)

    @property
    def place(self) -> str:
        """Where they lie, as one text for messages."""
        return ", ".join(self.paths)


def _check_csv(files: Files) -> None:
    if files.csv is None:
        return
    if not isinstance(files.csv, Csv):
        raise DefinitionError(f"Files({files.path!r}) has csv={files.csv!r}; write csv=Csv(delimiter=';')")
    if files.format != "csv":
        raise DefinitionError(f"Files({files.path!r}) says how CSV was written, but has the format {files.format!r}; remove csv=")


def _check_complete(files: Files) -> None:
    complete = files.complete
    if complete is not None and (not isinstance(complete, str) or complete in ("", ".", "..") or re.search(r"[/*?]", complete)):
        raise DefinitionError(f"Files({files.path!r}) has complete={complete!r}; write the name of one file, like complete='_SUCCESS'")
