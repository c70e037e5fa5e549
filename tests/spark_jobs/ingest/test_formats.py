"""Files of the world, each as a source may be given it: dialects, encodings, compression, JSON in arrays, folders that tell; no Spark."""

from __future__ import annotations

import bz2
import gzip
import lzma
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_definitions import Column, Csv, Files, Source
from spark_jobs.ingest import folders, formats, opened, parsing
from spark_jobs.ingest.parsing import FileRefused

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KINDS = {"id": "string", "n": "int64", "x": "double", "price": "decimal(9,2)"}


def source(csv: Csv | None = None, *, kind: str = "csv", columns: Mapping[str, str | Column] | None = None) -> Source:
    at = Files("*", format=kind, csv=csv)
    return Source("things", at, columns=columns or KINDS, shape="static", id=("id",), timezone="UTC")


def read(path: Path, of: Source) -> list[dict[str, Any]]:
    assert isinstance(of.at, Files)
    wanted = parsing.shape(of, of.at.format)
    return [row for batch in formats.read(path, wanted, name=str(path)) for row in batch.to_pylist()]


def given(folder: Path, content: str | bytes, csv: Csv | None = None, **more: Any) -> list[dict[str, Any]]:
    path = folder / "things"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read(path, source(csv, **more))


def values(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What was taken of each row, or why it was not."""
    return [(row["_hw_line"], *(row[name] for name in row if name in KINDS)) if row["_hw_reason"] is None
            else (row["_hw_line"], row["_hw_reason"]) for row in rows]  # fmt: skip


TAKEN = [(2, "ü", 1234567, 1234.5, Decimal("1.25"))]


@pytest.mark.parametrize(
    ("text", "csv"),
    [
        ("id;n;x;price\nü;1234567;1234,5;1,25\n", Csv(delimiter=";", decimal=",")),
        ("id\tn\tx\tprice\nü\t1.234.567\t1.234,5\t1,25\n", Csv(delimiter="\t", decimal=",", thousands=".")),
        ("id|n|x|price\r\nü|1 234 567|1\u202f234,5|1,25\r\n", Csv(delimiter="|", decimal=",", thousands=" ")),
        ('id,n,x,price\rü,"1,234,567","1,234.5",1.25\r', Csv(thousands=",")),
        ('id,n,x,price\nü,"1234567","1234,5","1,25"\n', Csv(decimal=",")),
        ("id;n;x;price;\nü;1234567;1234.5;1.25;\n", Csv(delimiter=";")),
        ("id;n;x;price\nü;1234567;1234.5;1.25;\n", Csv(delimiter=";")),
        ("id;n;x;price;\nü;1234567;1234.5;1.25\n", Csv(delimiter=";")),
        ("id,n,x,price\n'ü','1234567','1234.5','1.25'\n", Csv(quote="'")),
    ],
    ids=["semicolons", "tabs and points", "bars and spaces", "CR and commas", "quoted commas", "ends", "ends below", "ends above", "quote"],
)
def test_csv_is_read_as_its_source_says_that_it_was_written(tmp_path: Path, text: str, csv: Csv) -> None:
    assert values(given(tmp_path, text, csv)) == TAKEN


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-8-sig", "utf-32"])
def test_text_is_decoded_as_the_source_says_or_as_a_mark_tells(tmp_path: Path, encoding: str) -> None:
    content = "id,n,x,price\nü,1234567,1234.5,1.25\n".encode(encoding)
    assert values(given(tmp_path, content, Csv(encoding=encoding))) == TAKEN
    if opened.marked(content):
        assert values(given(tmp_path, content)) == TAKEN
    if encoding == "utf-16-le":
        assert values(given(tmp_path, content, Csv(encoding="utf-16"))) == TAKEN


def test_a_byte_that_is_no_letter_puts_its_row_aside_in_any_encoding(tmp_path: Path) -> None:
    text = "id,n,x,price\n?,1,1,1\nb,2,2,2\n"
    for encoding, bad in (("cp1252", b"\x81"), ("utf-16-le", b"\x00\xd8"), ("utf-8", b"\xed\xa0\x80"), ("shift_jis", b"\xff")):
        content = text.encode(encoding).replace("?".encode(encoding), bad)
        wrong, good = given(tmp_path, content, Csv(encoding=encoding))
        assert (wrong["_hw_line"], wrong["_hw_column"], good["id"]) == (2, "id", "b")


def test_null_words_are_null_quoted_or_not_and_an_empty_number_is_always(tmp_path: Path) -> None:
    text = 'id,n,x,price\na,NULL,"NA",\\N\nb, NULL ,,\n"",1,1,1\n'
    (one, two, three) = given(tmp_path, text, Csv(nulls=("NULL", "NA", "\\N")))
    assert (one["n"], one["x"], one["price"], two["n"], two["x"]) == (None,) * 5
    assert (three["id"], three["_hw_reason"]) == ("", None)


def test_a_number_with_another_decimal_sign_than_stated_is_put_aside(tmp_path: Path) -> None:
    text = "id;n;x;price\na;1;1.5;1\nb;1;1,5;1\nc;1.5;1;1\n"
    assert values(given(tmp_path, text, Csv(delimiter=";", decimal=",", thousands="."))) == [
        (2, "x: '1.5' is not a double as the source's Csv writes numbers"),
        (3, "b", 1, 1.5, Decimal(1)),
        (4, "n: '1.5' is not an int64 as the source's Csv writes numbers"),
    ]


def test_without_a_header_the_fields_are_the_columns_of_the_source_in_their_order(tmp_path: Path) -> None:
    assert values(given(tmp_path, "ü,1234567,1234.5,1.25\na,b\n", Csv(header=False))) == [
        (1, *TAKEN[0][1:]),
        (2, "has 2 fields, the source has 4"),
    ]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("kind", ["string", "int64"])
def test_where_files_were_joined_a_mark_belongs_to_no_field_and_a_second_header_is_put_aside(tmp_path: Path, kind: str, mark: str) -> None:
    half = f"{mark}id,n\n" + "a,1\n" * 30
    rows = values(given(tmp_path, f'{half}{half}{mark}"a","1"\n', columns={"id": "string", "n": kind}))
    assert rows.pop(30) == (32, "is the header again: were files joined?")
    assert {(each[1], str(each[2])) for each in rows} == {("a", "1")}


def test_a_mark_before_an_object_is_of_a_file_that_was_joined(tmp_path: Path) -> None:
    rows = given(tmp_path, '{"id": "a"}\n\ufeff{"id": "b"}\n', kind="jsonl", columns={"id": "string"})
    assert values(rows) == [(1, "a"), (2, "b")]


def test_one_row_with_a_field_too_many_is_put_aside_though_that_is_empty(tmp_path: Path) -> None:
    rows = values(given(tmp_path, "id,n,x,price\na,1,1,1\nb,2,2,2,\n  \n"))
    assert rows[1] == (3, "has 5 fields, the header has 4")
    assert len(rows) == 2


def test_zero_bytes_in_the_middle_cost_their_row_alone(tmp_path: Path) -> None:
    rows = values(given(tmp_path, "id,n,x,price\na,1,1,1\n" + "\0" * 500 + "\nc,3,3,3\n"))
    assert [row[:2] for row in rows] == [(2, "a"), (3, "has 1 fields, the header has 4"), (4, "c")]


def zstd(content: bytes) -> bytes:
    compressed = pa.BufferOutputStream()
    with pa.CompressedOutputStream(compressed, "zstd") as out:
        out.write(content)
    return compressed.getvalue().to_pybytes()


def pzstd(content: bytes) -> bytes:
    return b"\x50\x2a\x4d\x18\x04\0\0\0size" + zstd(content)


CSV = b"id,n,x,price\n" + b"".join(b"k%d,%d,1.5,1\n" % (i, i) for i in range(3_000))
JSON = b"".join(b'{"id": "k%d", "n": %d}\n' % (i, i) for i in range(3_000))


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, zstd, pzstd])
def test_a_compressed_file_is_read_whatever_its_name_and_refused_if_it_is_truncated(tmp_path: Path, compress: Any) -> None:
    for content, kind in ((CSV, "csv"), (JSON, "jsonl")):
        assert sum(row["n"] for row in given(tmp_path, compress(content), kind=kind)) == sum(range(3_000))
        with pytest.raises(FileRefused, match=r"things cannot be read \(.*\): is it truncated or corrupt\?"):
            given(tmp_path, compress(content)[:-20], kind=kind)


def test_a_line_that_never_ends_fills_no_memory(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "things", "wb") as bomb:
        for _ in range(20):
            bomb.write(b"a" * 2**20)
    for kind in ("csv", "jsonl"):
        with pytest.raises(FileRefused, match="line 1 goes on for more than 8,388,608 characters"):
            read(tmp_path / "things", source(kind=kind))


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('{"id": "a", "n": 1}\n{"id": "b", "n": 2}\n', [1, 2]),
        ('[{"id": "a", "n": 1}, {"id": "b", "n": 2}]', [1, 1]),
        ('[\n  {"id": "a", "n": 1},\n  {"id": "b", "n": 2}\n]\n', [2, 3]),
        ('[\n  {\n    "id": "a",\n    "n": 1\n  },\n  {\n    "id": "b",\n    "n": 2\n  }\n]', [2, 6]),
        ('{\n  "id": "a",\n  "n": 1\n}\n{\n  "id": "b",\n  "n": 2\n}\n', [1, 5]),
        ('\ufeff\n\n{"id": "a",\n "n": 1} {"id": "b", "n": 2}', [3, 4]),
    ],
    ids=["lines", "an array", "an array by lines", "a pretty array", "pretty objects", "objects one after the other"],
)
@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_json_is_read_however_its_objects_lie(tmp_path: Path, kind: str, text: str, lines: list[int]) -> None:
    rows = given(tmp_path, text, kind=kind)
    assert [(row["_hw_line"], row["id"], row["n"]) for row in rows] == [(lines[0], "a", 1), (lines[1], "b", 2)]


def test_an_object_of_an_array_that_is_none_costs_itself_alone(tmp_path: Path) -> None:
    text = '[{"id": "a"},\n {"id": "}[", "n": oops},\n {"id": "c", "id": "d"}, {"id": "e", "n": 7}]'
    rows = given(tmp_path, text, kind="json")
    assert [(row["_hw_line"], row["_hw_reason"] or row["id"]) for row in rows] == [
        (1, "a"), (2, "not a JSON object: Expecting value"), (3, "not a JSON object: the field 'id' comes twice"), (3, "e"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"id": "a"},\n {"id": "b"}', "the array that begins on line 1 is never closed: is the file truncated?"),
        ('[{"id": "a"},\n {"id": "b', "line 2: the object that begins here is never closed: is the file truncated?"),
        ('[{"id": "a"},\n 7]', "line 2: an object must begin here. Is the file corrupt?"),
    ],
)
def test_an_array_that_is_cut_off_refuses_the_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FileRefused) as refused:
        given(tmp_path, text, kind="json")
    assert message in str(refused.value)


def test_an_array_of_many_objects_in_one_line_is_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "LONGEST", 1000)
    text = "[" + ",".join(f'{{"id": "{{k{i}]", "n": {i}}}' for i in range(20_000)) + "]"
    assert sum(row["n"] for row in given(tmp_path, text, kind="json")) == sum(range(20_000))


# ----------------------------------------------------------------------------------------------------------------------- folders

DATED = {"id": "string", "day": "date", "place": Column("string", "the place"), "n": "int64"}


def in_folder(root: Path, folder: str, content: bytes, kind: str) -> list[tuple[Any, ...]]:
    path = root / folder / "part"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    rows = read(path, source(kind=kind, columns=DATED))
    return [(row["id"], row["day"], row["place"], row["n"]) if row["_hw_reason"] is None else (row["_hw_reason"],) for row in rows]


def parquet(**columns: list[Any]) -> bytes:
    file = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), file)
    return file.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("kind", "content"),
    [("csv", b"id,n\na,1\n"), ("jsonl", b'{"id": "a", "n": 1}'), ("parquet", parquet(id=["a"], n=[1]))],
    ids=["csv", "jsonl", "parquet"],
)
def test_a_folder_tells_a_column_that_its_files_lack(tmp_path: Path, kind: str, content: bytes) -> None:
    rows = in_folder(tmp_path / "one", "day=2026-01-05/the place=a%2Fb", content, kind)
    assert rows == [("a", date(2026, 1, 5), "a/b", 1)]
    rows = in_folder(tmp_path / "two", "day=__HIVE_DEFAULT_PARTITION__/the place=NULL", content, kind)
    assert rows == [("a", None, "NULL", 1)]
    with pytest.raises(FileRefused, match="part: its folder says day='soon', which is not a date"):
        in_folder(tmp_path / "three", "day=soon/the place=x", content, kind)


@pytest.mark.parametrize(
    ("kind", "content"), [("csv", b"id,n\n,1\n"), ("jsonl", b'{"id": null, "n": 1}'), ("parquet", parquet(id=[None], n=[1]))]
)
def test_a_row_that_is_put_aside_keeps_what_its_folder_tells(tmp_path: Path, kind: str, content: bytes) -> None:
    path = tmp_path / "day=2026-01-05" / "the place=x" / "part"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    (row,) = read(path, source(kind=kind, columns=DATED))
    assert {name: text for name, text in row["_hw_raw"] if text} == {"n": "1", "day": "2026-01-05", "place": "x"}


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("csv", b"id,n,the place\na,1,here\nb,2,there\nc,3,\n"),
        ("jsonl", b'{"id": "a", "n": 1, "the place": "here"}{"id": "b", "n": 2, "the place": "there"}{"id": "c", "the place": null}'),
        ("parquet", parquet(id=["a", "b", "c"], n=[1, 2, 3], **{"the place": ["here", "there", None]})),
    ],
    ids=["csv", "jsonl", "parquet"],
)
def test_a_row_that_contradicts_its_folder_is_put_aside(tmp_path: Path, kind: str, content: bytes) -> None:
    content = content.replace(b"}{", b"}\n{") if kind == "jsonl" else content
    first, *others = in_folder(tmp_path, "day=2026-01-05/the place=here", content, kind)
    assert first == ("a", date(2026, 1, 5), "here", 1)
    assert [text.startswith("place") and text.endswith("is not what its folder says: here") for (text,) in others] == [True, True]


def test_without_a_header_a_column_that_a_folder_tells_is_no_field(tmp_path: Path) -> None:
    path = tmp_path / "day=2026-01-05" / "things"
    path.parent.mkdir()
    path.write_text("a,1\n")
    (row,) = read(path, source(Csv(header=False), columns={"id": "string", "day": "date", "n": "int64"}))
    assert (row["id"], row["day"], row["n"]) == ("a", date(2026, 1, 5), 1)


def test_a_file_in_another_folder_is_another_one_if_that_tells_a_column() -> None:
    wanted = parsing.shape(source(columns=DATED), "csv")
    here, there = (folders.at(wanted, f"data/day={day}/x") for day in ("2026-01-05", "2026-01-06"))
    assert here != there
    assert folders.at(wanted, "data/other=1/x") == wanted


def test_a_folder_above_the_project_tells_nothing(tmp_path: Path) -> None:
    path = tmp_path / "day=2026-01-05" / "project" / "things"
    path.parent.mkdir(parents=True)
    path.write_text("id,day,n\na,2026-01-06,1\n")
    wanted = parsing.shape(source(columns={"id": "string", "day": "date", "n": "int64"}), "csv")
    (row,) = [row for batch in formats.read(path, wanted, name="things") for row in batch.to_pylist()]
    assert (row["day"], row["_hw_reason"]) == (date(2026, 1, 6), None)
