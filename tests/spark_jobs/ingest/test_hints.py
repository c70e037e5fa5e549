"""A file that does not fit its source: the refusal names the option by which it would."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_definitions import Column, Csv, Files, Source
from spark_jobs.ingest import formats, hints, parsing
from spark_jobs.ingest.parsing import FileRefused

if TYPE_CHECKING:
    from pathlib import Path

    from spark_jobs.ingest.parsing import Shape

COLUMNS = {"id": "string", "town": "string", "amount": "double"}


def shape(kind: str = "csv", csv: Csv | None = None, **columns: str | Column) -> Shape:
    at = Files("*", format=kind, csv=csv)
    return parsing.shape(Source("things", at, columns=columns or COLUMNS, shape="static", id=("id",)), kind)


def hint(folder: Path, content: str | bytes, wanted: Shape | None = None) -> str | None:
    path = folder / "things"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return hints.of_file(path, wanted or shape())


ROWS = "id;town;amount\n" + "".join(f"k{n};Köln;{n},5\n" for n in range(30))
ENGLISH = ROWS.replace(",", ".").replace(";", ",")
FRENCH = (
    "`;` separates the columns, `,` stands before the fraction of its numbers, ` ` parts groups of digits: "
    'write csv=Csv(delimiter=";", decimal=",", thousands=" ")'
)
DUMPED = (
    "`\\t` separates the columns, it has words that mean null, `\\` is the sign of its escapes, nothing stands around its fields: "
    'write csv=Csv(delimiter="\\t", nulls=("", "\\\\N"), escape="\\\\", quote=None)'
)
DUMP = "id\ttown\tamount\n" + "".join(f"k{n}\t" + (r"\N" if n % 2 else "a\\\nb") + f"\t{n}\n" for n in range(30))


@pytest.mark.parametrize(
    ("content", "csv", "expected"),
    [
        (ROWS.replace(",", "."), None, '`;` separates the columns: write csv=Csv(delimiter=";")'),
        (ROWS, None, '`;` separates the columns, `,` stands before the fraction of its numbers: write csv=Csv(delimiter=";", decimal=",")'),
        (ROWS, Csv(delimiter=";"), '`,` stands before the fraction of its numbers: write csv=Csv(delimiter=";", decimal=",")'),
        (ENGLISH.replace(",", "\t"), None, '`\\t` separates the columns: write csv=Csv(delimiter="\\t")'),
        (ENGLISH, Csv(delimiter="|"), "`,` separates the columns: write csv=Csv()"),
        (ENGLISH.encode("latin-1"), None, 'Its text is latin-1: write csv=Csv(encoding="latin-1")'),
        (ENGLISH.replace("ö", "€").encode("cp1252"), None, 'Its text is cp1252: write csv=Csv(encoding="cp1252")'),
        (ENGLISH.encode("utf-16-le"), None, 'Every other byte is zero, as in UTF-16: write csv=Csv(encoding="utf-16-le")'),
        (ENGLISH.encode("utf-16-be"), None, 'Every other byte is zero, as in UTF-16: write csv=Csv(encoding="utf-16-be")'),
        (ENGLISH.replace(",7.5", ",NULL"), None, 'It has words that mean null: write csv=Csv(nulls=("", "NULL"))'),
        (ENGLISH.partition("\n")[2], None, "Its first line does not name the columns: write csv=Csv(header=False)"),
        (
            ENGLISH.replace(",7.5", ',"7.5"').replace("Köln", '"say \\"hi\\", you"'),
            None,
            '`\\` is the sign of its escapes: write csv=Csv(escape="\\\\")',
        ),
        (ENGLISH.replace("Köln", "'Köln, Rhein'"), None, "' stands around its fields: write csv=Csv(quote=\"'\")"),
        (ENGLISH.replace(",", "\x01"), None, '`\\u0001` separates the columns: write csv=Csv(delimiter="\\u0001")'),
        (ENGLISH.replace(",", "||"), None, '`|` separates the columns: write csv=Csv(delimiter="|")'),
        (ENGLISH.replace(".5", "'000.5"), None, "`'` parts groups of digits: write csv=Csv(thousands=\"'\")"),
        (
            ROWS.replace(",5", "\u202f000,5"),
            None,
            FRENCH,
        ),
        (
            DUMP,
            None,
            DUMPED,
        ),
        ("town of:,2026\n\n" + ENGLISH, None, "Line 3 names the columns: delete the lines before it"),
        (ENGLISH.replace("town", "id", 1), None, None),
        (ENGLISH, None, None),
        ('[\n{"id": "a"}\n]', None, 'It holds JSON: write format="jsonl"'),
        (b"PK\x03\x04" + b"\0" * 99, None, "It is a zip archive, or a workbook of Excel: unpack it, or save it as CSV"),
        ("<!DOCTYPE html>\n<html>", None, "It is HTML or XML, which is not read: write it as CSV or JSON"),
        (gzip.compress(gzip.compress(b"id\n1\n", mtime=0), mtime=0), None, "It was compressed twice: unpack it once"),
        (b"a.csv".ljust(257, b"\0") + b"ustar", None, "It is a tar archive: unpack it"),
        (b"", None, None),
    ],
)
def test_what_would_make_a_csv_file_fit_is_found_by_looking(tmp_path: Path, content: str | bytes, csv: Csv | None, expected: str) -> None:
    assert hint(tmp_path, content, shape(csv=csv)) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"id": "a", "Town": "Köln", "amount": 1}', 'If it is \'Town\', write "town": Column("string", "Town")'),
        ('{"next": 2, "data": [{"id": "a"}]}', "Its rows lie in the list 'data' of an object: write that list alone, or one object a line"),
        ('{"id": "a"}', None),
    ],
)
def test_what_would_make_json_fit_is_found_by_looking(tmp_path: Path, content: str, expected: str) -> None:
    assert hint(tmp_path, content, shape("jsonl")) == expected


def test_parquet_that_was_compressed_as_a_whole_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "table")
    packed = gzip.compress((tmp_path / "table").read_bytes())
    assert hint(tmp_path, packed, shape("parquet")) == "It was compressed as a whole, as no Parquet file need be: unpack it"


def test_all_columns_that_are_spelt_otherwise_are_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "things").write_text("ID,Town,Amount\nx,y,1\n")
    with pytest.raises(FileRefused) as refused:
        list(formats.read(tmp_path / "things", shape(), name="things"))
    for ours, kind in COLUMNS.items():
        assert f'"{ours}": Column("{kind}", "{ours.upper() if ours == "id" else ours.title()}")' in str(refused.value)


def test_a_letter_of_two_signs_is_that_of_one_when_names_are_alike(tmp_path: Path) -> None:
    (tmp_path / "things").write_text("id,u\u0308\nx,1\n")
    with pytest.raises(FileRefused, match='write "u": Column\\("string", "u\u0308"\\)'):
        list(formats.read(tmp_path / "things", shape(id="string", u=Column("string", "\u00fc")), name="things"))


def test_a_file_of_another_format_than_the_source_says_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "table")
    assert hint(tmp_path, (tmp_path / "table").read_bytes()) == 'It is a Parquet file: write format="parquet"'
    for kind in ("jsonl", "parquet"):
        assert hint(tmp_path, ENGLISH, shape(kind)) == 'It is text in columns: write format="csv"'


def test_a_refusal_ends_with_what_to_write(tmp_path: Path) -> None:
    path = tmp_path / "things"
    path.write_text(ROWS)
    with pytest.raises(FileRefused) as refused:
        list(formats.read(path, shape(), name="things"))
    assert str(refused.value) == (
        "things has no column 'id'. It has: id;town;amount. Source things needs it. `;` separates the columns, `,` stands before the "
        'fraction of its numbers: write csv=Csv(delimiter=";", decimal=",")'
    )


def test_a_column_that_is_spelt_otherwise_is_named(tmp_path: Path) -> None:
    path = tmp_path / "things"
    path.write_text("id,Customer ID\nx,1\n")
    with pytest.raises(FileRefused, match=r'If it is \'Customer ID\', write "customer_id": Column\("int64", "Customer ID"\)'):
        list(formats.read(path, shape(id="string", customer_id="int64"), name="things"))


def test_a_folder_that_is_a_link_is_named_where_a_glob_does_not_follow_it(tmp_path: Path) -> None:
    (tmp_path / "in/far").mkdir(parents=True)
    (tmp_path / "in/far/up").symlink_to(tmp_path / "in")
    (tmp_path / "other").mkdir()
    (tmp_path / "in/near").symlink_to(tmp_path / "other")
    said = 'near is a link to a folder, which ** does not follow: write Files(("in/**/*.csv", "in/near/**/*.csv")) if its files are meant'
    assert list(hints.of_globs(["in/**/*.csv"], root=tmp_path)) == [said]
    assert list(hints.of_globs(["in/*/*.csv"], root=tmp_path)) == []


def test_files_that_a_glob_misses_by_their_ending_are_named(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv.gz", "c.CSV", "d.txt", "e.csv.tmp"):
        (tmp_path / name).touch()
    assert list(hints.of_globs(["*.csv"], root=tmp_path)) == [
        'b.csv.gz lies beside *.csv, which does not match it: write Files(("*.csv", "*.csv.gz"))',
        'c.CSV lies beside *.csv, which does not match it: write Files(("*.csv", "*.CSV"))',
    ]
    assert list(hints.of_globs(["*.csv", "*.csv.gz", "*.CSV"], root=tmp_path)) == []
    assert list(hints.of_globs(["*.csv", "*.csv.gz"], root=tmp_path)) == [
        'c.CSV lies beside *.csv, which does not match it: write Files(("*.csv", "*.csv.gz", "*.CSV"))'
    ]
    assert list(hints.of_globs(["a.csv"], root=tmp_path)) == []
    assert list(hints.of_globs(["*.csv.gz"], root=tmp_path)) == [
        'a.csv lies beside *.csv.gz, which does not match it: write Files(("*.csv.gz", "*.csv"))'
    ]
