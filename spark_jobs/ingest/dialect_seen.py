"""The dialect in which a CSV file seems to be written, and the names that its first record has. Pure but for reading the file."""

import codecs
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from feature_definitions.language import Csv
from spark_jobs.ingest import dialects, first_bytes, guesses, opened
from spark_jobs.ingest.whereabouts import Place

_SCANNED = 64 * 2**20
"""So many bytes of a file tell its encoding."""
_TRIED = 1000
"""So many records tell the dialect."""
_ALIKE = 0.9
"""What part of them must have equally many fields, so that a few bad rows hide no dialect."""
_DELIMITERS = (",", ";", "\t", "|", "\x01", "^")


class _Fit(NamedTuple):
    """How well a dialect fits: how many fields most records have, how many records have as many, and whether the first one is of them."""

    fields: int
    times: int
    first: bool = False


def dialect(file: Place) -> Csv:
    """The dialect, as far as it is not in the numbers: delimiter, quotes, escapes and encoding."""
    plain = [Csv(delimiter=delimiter, escape=escape, encoding="latin-1") for escape in (None, "\\") for delimiter in _DELIMITERS]
    fits = [_fit(file, each) for each in plain]
    best, fit = max(zip(plain, fits, strict=True), key=lambda each: each[1])
    if fit.fields == 1:
        best = plain[0]
    tried = _DELIMITERS if fit.fields == 1 else (best.delimiter,)
    others = ((each, _fit(file, each)) for delimiter in tried for each in _otherwise(file, delimiter))
    found = next((each for each, how in others if how.fields > 1 and (how.first, how.times) >= (fit.first, fit.times)), best)
    return replace(found, encoding=_encoding(file))


def _fit(file: Place, dialect: Csv) -> _Fit:
    with suppress(dialects.NeverClosed, opened.LineTooLong), opened.text(file, dialect.encoding, newline="") as text:
        held = [len(record) for _, record in islice(dialects.records(text, dialect), _TRIED) if isinstance(record, list)]
        width, times = next(iter(Counter(held).most_common(1)), (1, 0))
        return _Fit(width, times, held[0] == width) if width > 1 and times >= len(held) * _ALIKE else _Fit(1, 0)
    return _Fit(1, 0)


def _otherwise(file: Place, delimiter: str) -> Iterator[Csv]:
    """Dialects without double quotes of which the fields have signs: single quotes, or escapes as databases write them."""
    bare = Csv(delimiter=delimiter, quote=None, encoding="latin-1")
    fields = [field for record in islice(records(file, bare), _TRIED) for field in record]
    if any(field.startswith('"') for field in fields):
        return
    if any(field.startswith("'") for field in fields):
        yield replace(bare, quote="'")
    if any(field == "\\N" or field.endswith("\\") for field in fields):
        yield replace(bare, escape="\\")


def records(file: Place, dialect: Csv) -> Iterator[list[str]]:
    """The records of a file that can be read in a dialect."""
    with opened.text(file, dialect.encoding, newline="") as text:
        yield from (record for _, record in dialects.records(text, dialect) if isinstance(record, list))


def header(file: Place, dialect: Csv) -> list[str]:
    """The names in a first record that looks like one of names; empty, if it does not.

    The first may be empty, as pandas and R name the numbers of rows.
    """
    first = [text.strip() for text in next(records(file, dialect), [])]
    names = first[:-1] if first[-1:] == [""] else first
    like = all((name or not place) and (not name or guesses.of_texts("", [name]) == _A_NAME) for place, name in enumerate(names))
    return names if any(names) and like else []


_A_NAME = guesses.of_texts("", ["name"])
"""What a name looks like: text, and no digits that only are none because they begin with 0."""


def _encoding(file: Place) -> str:
    """UTF-8 if all that is looked at is; else UTF-16, what Western Windows writes, or latin-1."""
    with opened.text(file, "latin-1", newline="") as text:
        if text.encoding != codecs.lookup("latin-1").name:
            return "utf-8"  # the file's first bytes say what it is
        with file.open("rb") as raw, closing(opened.content(raw)) as stream:
            if (wide := first_bytes.sixteen_bits(stream.read(4096))) is not None:
                return wide
        decoder, read, high = codecs.getincrementaldecoder("utf-8")(), 0, False
        for line in text:
            data = line.encode("latin-1")
            high = high or any(0x80 <= byte <= 0x9F for byte in data)
            with suppress(UnicodeDecodeError):
                decoder.decode(data)
                read += len(data)
                if read > _SCANNED:
                    return "utf-8"
                continue
            return "cp1252" if high else "latin-1"
    return "utf-8"
