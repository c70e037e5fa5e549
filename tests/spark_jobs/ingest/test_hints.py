"""A file that does not fit its source: the refusal names the option by which it would."""

from __future__ import annotations

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
        (ENGLISH, None, None),
        ('[\n{"id": "a"}\n]', None, 'It holds JSON: write format="jsonl"'),
        (b"PK\x03\x04" + b"\0" * 99, None, "It is a zip archive, or a workbook of Excel: unpack it, or save it as CSV"),
        (b"", None, None),
    ],
)
def test_what_would_make_a_csv_file_fit_is_found_by_looking(tmp_path: Path, content: str | bytes, csv: Csv | None, expected: str) -> None:
    assert hint(tmp_path, content, shape(csv=csv)) == expected


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


def test_files_that_a_glob_misses_by_their_ending_are_named(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv.gz", "c.CSV", "d.txt", "e.csv.tmp"):
        (tmp_path / name).touch()
    assert list(hints.of_globs(["*.csv"], root=tmp_path)) == [
        'b.csv.gz lies beside *.csv, which does not match it: write Files(("*.csv", "*.csv.gz"))',
        'c.CSV lies beside *.csv, which does not match it: write Files(("*.csv", "*.CSV"))',
    ]
    assert list(hints.of_globs(["*.csv", "*.csv.gz", "*.CSV"], root=tmp_path)) == []
    assert list(hints.of_globs(["*.csv.gz"], root=tmp_path)) == [
        'a.csv lies beside *.csv.gz, which does not match it: write Files(("*.csv.gz", "*.csv"))'
    ]
