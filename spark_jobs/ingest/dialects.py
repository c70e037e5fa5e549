"""The records of a CSV text in a dialect: Python's own `csv`, and beside it what that does not read as Spark writes it."""

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain

from feature_definitions.errors import UserError
from feature_definitions.language import Csv
from spark_jobs.ingest.opened import LONGEST

Record = tuple[int, list[str] | str]
"""The line where a record begins, and its fields or what is wrong with it."""
BOM = "\ufeff"
_MARK = re.compile(r'"?sep=([^\r\n])"?\s*')


class NeverClosed(UserError):
    """A quote that opens a field over several lines and is not closed as it should."""


def records(lines: Iterable[str], dialect: Csv) -> Iterator[Record]:
    """Each record of a text that comes in lines with their ends; blank lines are none. Raises NeverClosed.

    A first line `sep=;` tells the delimiter, as Excel writes and reads it.
    """
    first = next(iter(lines := iter(lines)), "")
    mark = _MARK.fullmatch(first)
    dialect = dialect if mark is None or mark[1] == dialect.quote else replace(dialect, delimiter=mark[1], escape=_other(dialect, mark[1]))
    yield from records_after(0 if mark is None else 1, lines if mark else chain([first] if first else [], lines), dialect)


def has_mark(first: str) -> bool:
    """Whether a first line tells the delimiter."""
    return _MARK.fullmatch(first) is not None


def records_after(before: int, lines: Iterable[str], dialect: Csv) -> Iterator[Record]:
    """Each record of the lines that come after so many others; a line is asked for when a record needs it, none ahead.

    A byte order mark before a record, as where a file was joined to another, belongs to no field.
    """
    begins = True

    def unmarked() -> Iterator[str]:
        nonlocal begins
        for line in lines:
            text, begins = (line.removeprefix(BOM) if begins else line), False
            yield text

    reader = _reader(unmarked(), dialect)
    while True:
        line = reader.line_num + before + 1  # type: ignore[attr-defined]  # csv.reader has it
        begins = True
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if reader.line_num + before > line:  # type: ignore[attr-defined]  # as above
                raise NeverClosed(_unclosed(line, str(error))) from None
            yield line, f"not a CSV record: {error}"
            continue
        if record:
            yield line, record


def _other(dialect: Csv, delimiter: str) -> str | None:
    return None if dialect.escape == delimiter else dialect.escape


def _unclosed(line: int, error: str) -> str:
    within = f" within {LONGEST:,} characters" if "limit" in error else ""
    return f"line {line}: a quote that opens here is never closed{within}"


def _reader(lines: Iterable[str], dialect: Csv) -> Iterator[list[str]]:
    if dialect.escape is not None:
        return _Escaping(lines, dialect) if dialect.quote is not None else _Bare(lines, dialect)
    csv.field_size_limit(LONGEST)
    if dialect.quote is None:
        return csv.reader(lines, delimiter=dialect.delimiter, quoting=csv.QUOTE_NONE, quotechar=None, strict=True)
    return csv.reader(lines, delimiter=dialect.delimiter, quotechar=dialect.quote, strict=True)


class _Escaping:
    """Records with an escape character that counts within quotes, before a quote or itself; `line_num` lines were read."""

    def __init__(self, lines: Iterable[str], dialect: Csv) -> None:
        self.line_num = 0
        self._lines = iter(lines)
        self._delimiter, self._quote = dialect.delimiter, str(dialect.quote)
        quote, escape = re.escape(self._quote), re.escape(str(dialect.escape))
        self._quoted = re.compile(rf"[^{quote}{escape}]*(?:(?:{escape}.|{quote}{quote})[^{quote}{escape}]*)*", re.DOTALL)
        self._escaped = re.compile(rf"{escape}([{quote}{escape}])|{quote}({quote})")

    def __iter__(self) -> "_Escaping":
        return self

    def __next__(self) -> list[str]:
        line = self._line()
        fields: list[str] = []
        if not _body(line):
            return fields
        at = 0
        while True:
            if line.startswith(self._quote, at):
                text, line, at = self._within_quotes(line, at + 1)
            else:
                end = line.find(self._delimiter, at)
                text, at = (_body(line[at:]), len(line)) if end < 0 else (line[at:end], end)
            fields.append(text)
            if not line.startswith(self._delimiter, at):
                return fields
            at += 1

    def _line(self) -> str:
        line = next(self._lines)
        self.line_num += 1
        return line

    def _within_quotes(self, line: str, at: int) -> tuple[str, str, int]:
        """The text of a quoted field, the line where it ends, and the place there."""
        parts: list[str] = []
        length = 0
        while True:
            found = self._quoted.match(line, at)
            part, at = (line[at:], len(line)) if found is None else (found[0], found.end())
            parts.append(part)
            length += len(part)
            if line.startswith(self._quote, at):
                break
            if length > LONGEST:
                raise csv.Error(f"field larger than field limit ({LONGEST})")
            line, at = self._next_within(), 0
        if (rest := _body(line[at + 1 :])) and not rest.startswith(self._delimiter):
            raise csv.Error(f"'{self._delimiter}' expected after '{self._quote}'")
        return self._escaped.sub(lambda sign: sign[1] or sign[2], "".join(parts)), line, at + 1

    def _next_within(self) -> str:
        try:
            return self._line()
        except StopIteration:
            raise csv.Error("unexpected end of data") from None


class _Bare:
    """Records without quotes: an escape character counts before a delimiter, a line end or itself; `line_num` lines were read."""

    def __init__(self, lines: Iterable[str], dialect: Csv) -> None:
        self.line_num = 0
        self._lines = iter(lines)
        self._escape = str(dialect.escape)
        delimiter, escape = re.escape(dialect.delimiter), re.escape(self._escape)
        self._field = re.compile(rf"(?:[^{delimiter}{escape}]+|{escape}(?:.|$))*", re.DOTALL)
        self._escaped = re.compile(rf"{escape}(\r\n|[{delimiter}{escape}\r\n])")

    def __iter__(self) -> "_Bare":
        return self

    def __next__(self) -> list[str]:
        line = next(self._lines)
        self.line_num += 1
        while self._goes_on(line):
            line += next(self._lines, "")
            self.line_num += 1
            if len(line) > LONGEST:
                raise csv.Error(f"field larger than field limit ({LONGEST})")
        body = _body(line)
        return [self._escaped.sub(r"\1", text) for text in self._texts(body)] if body else []

    def _goes_on(self, line: str) -> bool:
        body = _body(line)
        return len(body) < len(line) and (len(body) - len(body.rstrip(self._escape))) % 2 == 1

    def _texts(self, body: str) -> Iterator[str]:
        at = 0
        while (found := self._field.match(body, at)) is not None:
            yield found[0]
            at = found.end() + 1
            if at > len(body):
                return


def _body(line: str) -> str:
    """A line without its end."""
    return line.removesuffix("\n").removesuffix("\r")
