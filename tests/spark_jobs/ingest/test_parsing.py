"""One file at a time: what is taken, what is put aside with which line and reason, what is refused whole; no Spark."""

from __future__ import annotations

import gzip
import random
from datetime import UTC, date, datetime
from decimal import Decimal
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_definitions import Files, Source
from spark_jobs.ingest import formats, parsing
from spark_jobs.ingest.parsing import FileRefused

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = {
    "id": "string", "n": "int64", "x": "double", "ok": "boolean", "day": "date", "price": "decimal(6,2)", "at": "timestamp",
}  # fmt: skip
HEADER = "id,n,x,ok,day,price,at"
GOOD = ("a", "1", "1.5", "true", "2026-01-05", "1.25", "2026-01-05T06:00:00Z")


CSV = Files("things.csv", format="csv")


def source(*, timezone: str | None = "America/New_York", columns: dict[str, str] | None = None, at: Files | None = CSV) -> Source:
    return Source("things", at, columns=columns or COLUMNS, event_timestamp="at", timezone=timezone, id=("id",))


def read(path: Path, kind: str = "csv", of: Source | None = None) -> list[dict[str, Any]]:
    shape = parsing.shape(of or source(), kind)
    return [row for batch in formats.read(path, shape, name=path.name) for row in batch.to_pylist()]


def read_text(folder: Path, text: str | bytes, of: Source | None = None) -> list[dict[str, Any]]:
    path = folder / "things.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(path, of=of)


def with_cell(column: str, text: str) -> str:
    """A file of one row, good but for one cell."""
    cells = dict(zip(COLUMNS, GOOD, strict=True)) | {column: text}
    return f"{HEADER}\n{','.join(cells.values())}\n"


def reason(rows: list[dict[str, Any]]) -> str | None:
    (row,) = rows
    found: str | None = row["_hw_reason"]
    return found


def test_every_type_of_a_csv_is_read_exactly(tmp_path: Path) -> None:
    (row,) = read_text(tmp_path, f"{HEADER}\n{','.join(GOOD)}\n")
    assert {name: row[name] for name in COLUMNS} == {
        "id": "a", "n": 1, "x": 1.5, "ok": True, "day": date(2026, 1, 5), "price": Decimal("1.25"),
        "at": datetime(2026, 1, 5, 6, tzinfo=UTC),
    }  # fmt: skip
    assert (row["_hw_file"], row["_hw_line"], row["_hw_reason"]) == ("things.csv", 2, None)


@pytest.mark.parametrize(
    ("column", "text", "expected"),
    [
        ("n", "one", "n: 'one' is not an int64"),
        ("n", "1.0", "n: '1.0' is not an int64"),
        ("n", "9223372036854775808", "n: '9223372036854775808' is not an int64"),
        ("x", "much", "x: 'much' is not a double"),
        ("x", "1_0", "x: '1_0' is not a double"),
        ("x", "١.٥", "x: '١.٥' is not a double"),
        ("x", "nan", "x: 'nan' is not a finite number"),
        ("x", "-inf", "x: '-inf' is not a finite number"),
        ("x", "1e400", "x: '1e400' is not a finite number"),
        ("ok", "maybe", "ok: 'maybe' is not a boolean (true or false)"),
        ("day", "2026-02-30", "day: '2026-02-30' is not a date like 2026-01-05"),
        ("price", "cheap", "price: 'cheap' is not a decimal(6,2)"),
        ("price", "1_0", "price: '1_0' is not a decimal(6,2)"),
        ("price", "١.٥", "price: '١.٥' is not a decimal(6,2)"),
        ("price", "NaN", "price: 'NaN' does not fit a decimal(6,2)"),
        ("price", "1.234", "price: '1.234' does not fit a decimal(6,2)"),
        ("price", "12345.67", "price: '12345.67' does not fit a decimal(6,2)"),
        ("at", "yesterday", "at: 'yesterday' is not a time like 2026-01-05T06:00:00Z"),
        ("at", "9999-12-31T23:59:59-05:00", "at: '9999-12-31T23:59:59-05:00' is not between the years 1 and 9999 in UTC"),
        ("at", "0001-01-01T00:00:00+05:00", "at: '0001-01-01T00:00:00+05:00' is not between the years 1 and 9999 in UTC"),
        ("id", "", "id is null"),
        ("at", "", "at is null"),
    ],
)
def test_a_cell_of_the_wrong_type_puts_its_row_aside_and_says_why(tmp_path: Path, column: str, text: str, expected: str) -> None:
    assert reason(read_text(tmp_path, with_cell(column, text))) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [*((t, True) for t in ("true", "T", "Yes", "y", "1")), *((t, False) for t in ("FALSE", "f", "no", "N", "0"))]
)
def test_a_boolean_is_a_word_a_letter_or_a_digit(tmp_path: Path, text: str, expected: bool) -> None:
    (row,) = read_text(tmp_path, with_cell("ok", text))
    assert (row["ok"], row["_hw_reason"]) == (expected, None)


def test_a_row_put_aside_names_the_column_and_the_value_at_fault(tmp_path: Path) -> None:
    (wrong,), (null,) = read_text(tmp_path, with_cell("n", "one")), read_text(tmp_path, with_cell("id", ""))
    assert (wrong["_hw_column"], wrong["_hw_value"]) == ("n", "one")
    assert (null["_hw_column"], null["_hw_value"]) == ("id", None)
    short, good = read_text(tmp_path, f"{HEADER}\nb,2\n{','.join(GOOD)}\n")
    assert {row[f"_hw_{what}"] for row in (short, good) for what in ("column", "value")} == {None}


@pytest.mark.parametrize("column", ["n", "x", "ok", "day", "price"])
def test_an_empty_field_is_null_where_nothing_must_be_there(tmp_path: Path, column: str) -> None:
    (row,) = read_text(tmp_path, with_cell(column, ""))
    assert (row[column], row["_hw_reason"]) == (None, None)


@pytest.mark.parametrize(
    ("local", "utc"),
    [
        ("2026-01-05T06:00:00", datetime(2026, 1, 5, 11, tzinfo=UTC)),
        ("2026-03-08T02:30:00", datetime(2026, 3, 8, 7, 30, tzinfo=UTC)),
        ("2026-03-08T03:30:00", datetime(2026, 3, 8, 7, 30, tzinfo=UTC)),
        ("2026-11-01T01:30:00", datetime(2026, 11, 1, 5, 30, tzinfo=UTC)),
        ("2026-11-01T01:30:00-05:00", datetime(2026, 11, 1, 6, 30, tzinfo=UTC)),
    ],
    ids=["winter", "in the gap: moved forward", "after the gap", "shown twice: the first", "with a zone: as written"],
)
def test_a_local_time_is_converted_by_one_rule(tmp_path: Path, local: str, utc: datetime) -> None:
    (row,) = read_text(tmp_path, with_cell("at", local))
    assert row["at"] == utc


def test_a_parquet_files_local_times_follow_the_same_rule(tmp_path: Path) -> None:
    naive = [datetime(2026, 3, 8, 2, 30), datetime(2026, 11, 1, 1, 30)]  # noqa: DTZ001  # naive on purpose
    pq.write_table(pa.table({"id": ["a", "b"], "at": naive}), tmp_path / "x.parquet")
    of = source(columns={"id": "string", "at": "timestamp"})
    expected = [datetime(2026, 3, 8, 7, 30, tzinfo=UTC), datetime(2026, 11, 1, 5, 30, tzinfo=UTC)]
    assert [row["at"] for row in read(tmp_path / "x.parquet", "parquet", of)] == expected


def test_a_time_without_zone_is_refused_where_the_source_names_none(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"], "at": [datetime(2026, 1, 5)]}), tmp_path / "x.parquet")  # noqa: DTZ001  # naive on purpose
    parquet = Source("things", Files("*.parquet", format="parquet"), columns={"id": "string", "at": "timestamp"}, event_timestamp="at")
    with pytest.raises(FileRefused, match="has times without zone"):
        read(tmp_path / "x.parquet", "parquet", parquet)


@pytest.mark.parametrize("line", ["b,2", "b,2,1.5,true,2026-01-05,1.25,2026-01-05T06:00:00Z,more"], ids=["few", "many"])
def test_a_row_with_too_few_or_too_many_fields_is_put_aside_alone(tmp_path: Path, line: str) -> None:
    rows = read_text(tmp_path, f"{HEADER}\n{line}\n{','.join(GOOD)}\n")
    assert [(row["_hw_line"], row["_hw_reason"]) for row in rows] == [(2, f"has {line.count(',') + 1} fields, the header has 7"), (3, None)]
    assert dict(rows[0]["_hw_raw"])["id"] == "b"


def test_the_line_of_a_row_is_the_one_where_it_starts_also_after_a_field_of_several_lines(tmp_path: Path) -> None:
    text = f'{HEADER}\n"a\nb",1,1.5,true,2026-01-05,1.25,2026-01-05T06:00:00Z\nc,?,1.5,true,2026-01-05,1.25,2026-01-05T06:00:00Z\n'
    assert [(row["id"], row["_hw_line"]) for row in read_text(tmp_path, text)] == [("a\nb", 2), (None, 4)]


def test_a_quote_that_is_never_closed_refuses_the_file_and_names_the_line(tmp_path: Path) -> None:
    text = f'{HEADER}\n{",".join(GOOD)}\n"b,1,1.5,true,2026-01-05,1.25,2026-01-05T06:00:00Z\n{",".join(GOOD)}\n'
    with pytest.raises(FileRefused, match=r"things.csv, line 3: a quote that opens here is never closed"):
        read_text(tmp_path, text)


def test_a_byte_order_mark_belongs_to_no_column(tmp_path: Path) -> None:
    assert reason(read_text(tmp_path, b"\xef\xbb\xbf" + f"{HEADER}\n{','.join(GOOD)}\n".encode())) is None


def test_line_ends_of_windows_are_no_part_of_the_last_column(tmp_path: Path) -> None:
    assert reason(read_text(tmp_path, f"{HEADER}\r\n{','.join(GOOD)}\r\n")) is None


def test_a_file_of_a_header_alone_has_no_rows(tmp_path: Path) -> None:
    assert read_text(tmp_path, f"{HEADER}\n") == []


@pytest.mark.parametrize("text", [b"", b"\n\n"], ids=["nothing", "blank lines"])
def test_an_empty_file_is_refused_and_told_what_its_first_line_must_name(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(FileRefused, match="is empty: its first line must name the columns id, n, x"):
        read_text(tmp_path, text)


def test_text_in_sixteen_bits_is_refused_unless_a_mark_tells(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match="holds zero bytes"):
        read_text(tmp_path, f"{HEADER}\n".encode("utf-16-le"))
    assert reason(read_text(tmp_path, f"{HEADER}\n{','.join(GOOD)}\n".encode("utf-16"))) is None


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_noise_is_refused_in_one_short_sentence(tmp_path: Path, kind: str, seed: int) -> None:
    noise = random.Random(seed).randbytes(100_000)
    path = tmp_path / "noise"
    path.write_bytes(noise.replace(b"\0", b"?") if seed % 2 else noise)
    with pytest.raises(FileRefused) as refused:
        read(path, kind)
    assert len(str(refused.value)) < 1000
    str(refused.value).encode()


def test_letters_that_are_no_utf8_put_their_row_aside(tmp_path: Path) -> None:
    rows = read_text(tmp_path, f"{HEADER}\nb{','.join(GOOD)}\n".encode().replace(b"ba,", b"\xe9,"))
    assert reason(rows) == "id: '\N{REPLACEMENT CHARACTER}' is not UTF-8 text"


def test_a_header_that_is_no_utf8_does_not_lose_the_bad_rows_below_it(tmp_path: Path) -> None:
    rows = read_text(tmp_path, f"{HEADER},?\nb,one,1.5,true,2026-01-05,1.25,2026-01-05T06:00:00Z,x\n".encode().replace(b"?", b"\xe9", 1))
    assert reason(rows) == "n: 'one' is not an int64"


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_file_without_a_column_is_refused_and_told_what_it_has(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "csv":
        path.write_text("id,price\na,1\n")
    else:
        pq.write_table(pa.table({"id": ["a"], "price": [1]}), path)
    with pytest.raises(FileRefused, match=r"x has no column 'n'. It has: id, price. Source things needs it"):
        read(path, kind)


def test_a_column_that_comes_twice_is_refused_as_nobody_knows_which_is_meant(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match="has the column 'n' 2 times"):
        read_text(tmp_path, f"{HEADER},n\n{','.join(GOOD)},7\n")


def test_columns_that_the_source_does_not_have_are_left_out(tmp_path: Path) -> None:
    (row,) = read_text(tmp_path, f"more,{HEADER}\nx,{','.join(GOOD)}\n")
    assert (row["id"], "more" in row) == ("a", False)


PARQUET = {"id": "string", "n": "int64", "x": "double", "at": "timestamp"}


def parquet(folder: Path, **changes: object) -> Path:
    columns = {"id": ["a", "b"], "n": [1, 2], "x": [1.5, 2.5], "at": pa.array([0, 1], pa.timestamp("us", tz="UTC"))} | changes
    pq.write_table(pa.table(columns), folder / "things.parquet")
    return folder / "things.parquet"


def read_parquet(path: Path) -> list[dict[str, Any]]:
    return read(path, "parquet", source(columns=PARQUET))


def test_a_truncated_parquet_file_is_refused(tmp_path: Path) -> None:
    path = parquet(tmp_path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(FileRefused, match="truncated or corrupt"):
        read_parquet(path)


def test_a_parquet_file_whose_pages_are_damaged_is_refused(tmp_path: Path) -> None:
    path = parquet(tmp_path, id=[f"key {i:07d}" for i in range(2)])
    data = bytearray(path.read_bytes())
    data[4:60] = b"\xff" * 56
    path.write_bytes(data)
    with pytest.raises(FileRefused, match="truncated or corrupt"):
        read_parquet(path)


def test_a_parquet_column_of_another_type_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match="column 'n' is a string, the source says int64"):
        read_parquet(parquet(tmp_path, n=["1", "2"]))


def test_not_a_number_and_infinity_in_parquet_are_put_aside_with_the_row(tmp_path: Path) -> None:
    rows = read_parquet(parquet(tmp_path, x=[float("nan"), float("inf")]))
    assert [(r["_hw_line"], r["_hw_reason"], r["_hw_column"], r["_hw_value"], dict(r["_hw_raw"])["x"]) for r in rows] == [
        (1, "x is not a finite number", "x", "nan", "nan"),
        (2, "x is not a finite number", "x", "inf", "inf"),
    ]


def test_a_null_in_parquet_stays_null_also_in_quarantine(tmp_path: Path) -> None:
    good, bad = read_parquet(parquet(tmp_path, id=["a", None], n=[None, None]))
    assert (good["n"], good["_hw_reason"]) == (None, None)
    assert (bad["_hw_reason"], dict(bad["_hw_raw"])["id"], dict(bad["_hw_raw"])["n"]) == ("id is null", None, None)


def test_a_parquet_time_that_no_calendar_holds_is_put_aside(tmp_path: Path) -> None:
    nanoseconds_called_microseconds = 1_767_571_200_000_000_000
    rows = read_parquet(parquet(tmp_path, at=pa.array([nanoseconds_called_microseconds, 0], pa.timestamp("us", tz="UTC"))))
    assert [r["_hw_reason"] for r in rows] == ["at is not between the years 1 and 9999 in UTC", None]


def test_lists_in_parquet_are_arrays_of_the_sources_type(tmp_path: Path) -> None:
    wanted = source(at=None, columns={**PARQUET, "tags": "array<string>", "sizes": "array<double>"})
    sizes = pa.array([[1, 2], None, [], [3]], pa.large_list(pa.int32())).slice(1)
    several = {"id": ["a", "b", "c"], "n": [1, 2, 3], "x": [1.0] * 3, "at": pa.array([0] * 3, pa.timestamp("us", tz="UTC"))}
    rows = read(parquet(tmp_path, **several, tags=[["new", None], [], None], sizes=sizes), "parquet", wanted)
    assert [(r["tags"], r["sizes"], r["_hw_reason"]) for r in rows] == [(["new", None], None, None), ([], [], None), (None, [3.0], None)]


def test_a_list_in_parquet_with_an_infinite_number_is_put_aside_with_its_row(tmp_path: Path) -> None:
    wanted = source(at=None, columns={**PARQUET, "sizes": "array<double>"})
    good, bad = read(parquet(tmp_path, sizes=[[1.0, 2.0], [1.0, float("inf")]]), "parquet", wanted)
    assert (good["sizes"], good["_hw_reason"], bad["_hw_reason"]) == ([1.0, 2.0], None, "sizes holds what is not a finite number")


def test_a_list_in_parquet_of_another_type_is_refused_by_name(tmp_path: Path) -> None:
    for tags, given in (([1], "int64"), ("new", "string")):
        with pytest.raises(FileRefused, match=f"column 'tags' is a {given}, the source says "):
            read(parquet(tmp_path, tags=[tags, tags]), "parquet", source(at=None, columns={**PARQUET, "tags": "array<string>"}))


def test_whole_numbers_are_taken_for_doubles_and_dictionaries_for_strings(tmp_path: Path) -> None:
    rows = read_parquet(parquet(tmp_path, x=pa.array([1, 2], pa.int32()), id=pa.array(["a", "b"]).dictionary_encode()))
    assert [(r["id"], r["x"]) for r in rows] == [("a", 1.0), ("b", 2.0)]


def test_a_file_is_another_one_once_its_source_reads_it_differently(tmp_path: Path) -> None:
    path = tmp_path / "things.csv"
    path.write_text(f"{HEADER}\n")

    def sha256(shape: parsing.Shape) -> str:
        return parsing.sha256(BytesIO(path.read_bytes()), shape)

    plain = sha256(parsing.shape(source(), "csv"))
    assert plain == sha256(parsing.shape(source(), "csv"))
    assert plain != sha256(parsing.shape(source(timezone="UTC"), "csv"))
    assert plain != sha256(parsing.shape(source(columns=COLUMNS | {"n": "double"}), "csv"))


LINE = '{"id": "a", "n": 1, "x": 1.5, "ok": true, "day": "2026-01-05", "price": 1.25, "at": "2026-01-05T06:00:00Z", "more": {"deep": [1]}}'


def read_json(folder: Path, text: str | bytes) -> list[dict[str, Any]]:
    path = folder / "things.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(path, "jsonl")


def test_every_type_of_a_json_line_is_read_exactly(tmp_path: Path) -> None:
    as_text = LINE.replace("1.25", '"1.25"').replace(": 1,", ': "1",')
    rows = read_json(tmp_path, f"{LINE}\r\n\n{as_text}")
    for row in rows:
        assert {name: row[name] for name in COLUMNS} == {
            "id": "a", "n": 1, "x": 1.5, "ok": True, "day": date(2026, 1, 5), "price": Decimal("1.25"),
            "at": datetime(2026, 1, 5, 6, tzinfo=UTC),
        }  # fmt: skip
    assert [(row["_hw_file"], row["_hw_line"], row["_hw_reason"]) for row in rows] == [("things.jsonl", 1, None), ("things.jsonl", 3, None)]


def test_no_digit_of_a_json_number_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "things.jsonl"
    path.write_text('{"n": 9223372036854775807, "price": 12345678901234567890.123456789, "at": "2026-01-05T06:00:00Z"}')
    (row,) = read(path, "jsonl", source(columns={"id": "string", "n": "int64", "price": "decimal(38,9)", "at": "timestamp"}))
    assert row["_hw_reason"] == "id is null"
    path.write_text(path.read_text().replace("{", '{"id": "a", '))
    (row,) = read(path, "jsonl", source(columns={"id": "string", "n": "int64", "price": "decimal(38,9)", "at": "timestamp"}))
    assert (row["n"], row["price"]) == (9223372036854775807, Decimal("12345678901234567890.123456789"))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"n": 1', '"n": 1.0', "n: '1.0' is not an int64"),
        ('"n": 1', '"n": true', "n: 'true' is not an int64"),
        ('"n": 1', '"n": [1]', "n: '[1]' is not an int64"),
        ('"id": "a"', '"id": 7', "id: '7' is not a string"),
        ('"id": "a"', '"id": {"b": null}', "id: '{b: null}' is not a string"),
        ('"id": "a"', '"id": "\\ud800"', "id: '\ufffd' is not UTF-8 text"),
        ('"x": 1.5', '"x": NaN', "x: 'NaN' is not a finite number"),
        ('"x": 1.5', '"x": -Infinity', "x: '-Infinity' is not a finite number"),
        ('"x": 1.5', '"x": 1e400', "x: '1e400' is not a finite number"),
        ('"x": 1.5', '"x": ""', "x: '' is not a double"),
        ('"ok": true', '"ok": 1', "ok: '1' is not a boolean"),
        ('"2026-01-05"', "20260105", "day: '20260105' is not a date"),
        ("1.25", "1.255", "price: '1.255' does not fit a decimal(6,2)"),
        ('"2026-01-05T06:00:00Z"', "1767600000", "at: '1767600000' is not a time like 2026-01-05T06:00:00Z; write Column("),
        ('"2026-01-05T06:00:00Z"', "null", "at is null"),
        ('"more"', '"n"', "not a JSON object: the field 'n' comes twice"),
        ("}}", "}", "not a JSON object: Expecting ',' delimiter"),
        ("[1]", "[" * 100_000, "not a JSON object: maximum recursion depth exceeded while decoding a JSON array from a unicode string"),
        (LINE, "[1, 2]", "not a JSON object"),
    ],
)
def test_a_json_line_that_can_not_be_taken_is_put_aside_alone_and_says_why(tmp_path: Path, old: str, new: str, expected: str) -> None:
    bad, good = read_json(tmp_path, f"{LINE.replace(old, new)}\n{LINE}\n")
    assert bad["_hw_reason"].startswith(expected)
    assert (bad["_hw_line"], good["_hw_line"], good["_hw_reason"]) == (1, 2, None)


def test_a_field_that_a_json_line_lacks_is_null_where_nothing_must_be_there(tmp_path: Path) -> None:
    (row,) = read_json(tmp_path, '{"id": "", "x": null, "at": "2026-01-05T06:00:00Z"}')
    assert row["_hw_reason"] is None
    assert {name: row[name] for name in ("id", "n", "x", "day", "price")} == {"id": "", "n": None, "x": None, "day": None, "price": None}


def test_a_json_line_put_aside_keeps_its_fields_as_they_were_written(tmp_path: Path) -> None:
    (row,) = read_json(tmp_path, LINE.replace("1.5", '["much", 1.50, null]'))
    assert dict(row["_hw_raw"]) == {
        "id": "a", "n": "1", "x": "[much, 1.50, null]", "ok": "true", "day": "2026-01-05", "price": "1.25", "at": "2026-01-05T06:00:00Z",
    }  # fmt: skip


def test_a_json_lines_local_time_follows_the_rule_of_a_csv(tmp_path: Path) -> None:
    (row,) = read_json(tmp_path, LINE.replace("2026-01-05T06:00:00Z", "2026-03-08T02:30:00"))
    assert row["at"] == datetime(2026, 3, 8, 7, 30, tzinfo=UTC)


def test_objects_one_after_the_other_in_one_line_are_rows(tmp_path: Path) -> None:
    assert [row["_hw_reason"] for row in read_json(tmp_path, LINE * 3)] == [None] * 3


def test_a_compressed_file_of_json_lines_is_read(tmp_path: Path) -> None:
    assert reason(read_json(tmp_path, gzip.compress(LINE.encode()))) is None
