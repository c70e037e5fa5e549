"""CSV in blocks gives what CSV read record by record gives: the rows, their lines, and why which are refused."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from unittest import mock

from hypothesis import example, given
from hypothesis import strategies as st

from feature_definitions.language import Column, Csv, Files, Source
from spark_jobs.ingest import delimited, opened, parsing
from spark_jobs.ingest.parsing import FileRefused

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from spark_jobs.ingest.parsing import Shape

KINDS: dict[str, str | Column] = {
    "number": "int64",
    "word": "string",
    "amount": "double",
    "good": "boolean",
    "day": "date",
    "at": "timestamp",
    "price": "decimal(8,2)",
    "counted": Column("timestamp", epoch="s"),
    "written": Column("date", format="%d.%m.%Y"),
}
OF_NUMBERS = (
    "1",
    "-7",
    "+3",
    " 5",
    "0x1F",
    "9223372036854775808",
    "1_0",
    "1.5",
    "1e3",
    "1e400",
    "nan",
    "-0",
    "1.",
    ".5",
    "12345678.9",
    "1,5",
)
OF_TIMES = (
    "2026-01-05T06:00:00Z",
    "2026-01-05 06:00:00",
    "2026-01-05T06:00:00.1234567+0100",
    "2026-03-29 02:30:00",
    "2026-10-25 02:30:00.5",
    "2026-01-05",
    "0000-01-01",
    "0001-01-01 00:00:00",
    "9999-12-31T23:59:59-05:00",
    "2026-02-30 01:00:00",
    "2026-01-05T24:00:00",
    "2026-01-05T06Z",
    "5.1.2026",
)
OF_WORDS = ("", "a", "null", " ", "é", "true", "yes", "1", '""', '"a"', '"a""b"', '"a,b"', '"a\nb"', '"a\r\nb"')
UNSOUND = ('"', '"a', 'a"b', '"a"b', '"" ', "a\0b")
ENDS = ("\n", "\n", "\n", "\n", "\r\n", "\n\n", "\n \n")


@st.composite
def texts(draw: st.DrawFn) -> tuple[tuple[str, ...], str]:
    columns = tuple(draw(st.lists(st.sampled_from(tuple(KINDS)), min_size=1, max_size=3, unique=True)))
    lines, is_sound = [(",".join(columns), "\n")], draw(st.booleans())
    field = st.sampled_from((*OF_NUMBERS, *OF_TIMES, *OF_WORDS, *(() if is_sound else UNSOUND)))
    end = st.sampled_from(ENDS if is_sound else (*ENDS, "\r"))
    for _ in range(draw(st.integers(0, 12))):
        fields = draw(st.lists(field, min_size=len(columns), max_size=len(columns)))
        fields += draw(st.sampled_from(([], [], [], [], [], [""], ["more"])))
        lines.append(draw(st.sampled_from((*[(",".join(fields), draw(end))] * 8, lines[0], ("\ufeff" + lines[0][0], "\n")))))
    text = "".join(line + end for line, end in lines)
    return columns, draw(st.sampled_from(("", "", "\ufeff"))) + (text if draw(st.booleans()) else text.rstrip("\r\n"))


def told(batches: Iterable[pa.RecordBatch]) -> list[dict[str, Any]] | str:
    """The rows of a file in order, their doubles so that -0.0 is not 0.0, or why it is refused."""
    try:
        rows = [row for batch in batches for row in batch.to_pylist()]
    except FileRefused as error:
        return str(error)
    return [{name: repr(value) if isinstance(value, float) else value for name, value in row.items()} for row in rows]


def shape(columns: Iterable[str], csv: Csv) -> Shape:
    at = Files("a.csv", format="csv", csv=csv)
    kinds = {name: KINDS[name] for name in columns}
    return parsing.shape(Source("s", at, columns=kinds, timezone="Europe/Berlin", shape="static", id=tuple(kinds)[:1]), "csv")


def both(path: Path, columns: Iterable[str], csv: Csv) -> tuple[object, object]:
    wanted = shape(columns, csv)
    return told(delimited.read(path, wanted, name="a.csv")), told(delimited._by_records(path, wanted, csv, name="a.csv"))


DIALECTS = (Csv(), Csv(nulls=("", "null")), Csv(nulls=()), Csv(quote=None), Csv(decimal=","))


@given(drawn=texts(), csv=st.sampled_from(DIALECTS), block=st.sampled_from((1, 40, 200)))
@example(drawn=(("number", "word"), 'number,word\n1,a\n2,"b\nc"\nx,"d"\n'), csv=Csv(), block=200)
@example(drawn=(("word",), "word\n\n" + "a" * 90 + "\nb\n"), csv=Csv(), block=40)
def test_blocks_give_the_rows_that_records_give(drawn: tuple[tuple[str, ...], str], csv: Csv, block: int) -> None:
    columns, text = drawn
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        path.write_bytes(text.encode())
        with mock.patch.object(opened, "_BYTES", block), mock.patch.object(delimited, "_FIRST", 1):
            in_blocks, by_records = both(path, columns, csv)
    assert in_blocks == by_records
