"""A first part of a source's files is read, and what does not fit is said with what to write instead; no Spark."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feature_definitions import Files, Source
from spark_jobs.ingest import trial

if TYPE_CHECKING:
    from pathlib import Path


def said(root: Path, at: Files | None) -> list[tuple[str, str]]:
    source = Source("things", at, columns={"id": "string", "amount": "double"}, shape="static", id=("id",))
    return [(each.file, each.message) for each in trial.misfits(source, root=root)]


def test_files_that_fit_are_not_spoken_of(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,amount\na,1.5\n")
    assert said(tmp_path, Files("*.csv")) == []
    assert said(tmp_path, None) == []


def test_a_file_that_does_not_fit_is_named_with_what_to_write(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id;amount\na;1.5\nb;2.5\n")
    ((file, message),) = said(tmp_path, Files("*.csv"))
    assert file == "a.csv"
    assert message.endswith('`;` separates the columns: write csv=Csv(delimiter=";")')


def test_rows_that_would_be_put_aside_are_counted_and_the_first_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,amount\na,1.5\nb,NULL\nc,NULL\nd,2.5\n")
    ((_, message),) = said(tmp_path, Files("*.csv"))
    assert message == (
        "a.csv: 2 of the first 4 rows put aside; line 3: amount: 'NULL' is not a double. "
        'It has words that mean null: write csv=Csv(nulls=("", "NULL"))'
    )


def test_a_field_of_json_that_is_called_otherwise_is_told_though_no_row_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "a", "Amount": 1.5}\n')
    assert said(tmp_path, Files("*.jsonl", format="jsonl")) == [
        ("a.jsonl", 'a.jsonl: If it is \'Amount\', write "amount": Column("double", "Amount")')
    ]


def test_files_that_are_not_there_and_those_beside_them_are_named(tmp_path: Path) -> None:
    assert said(tmp_path, Files("*.csv")) == [("*.csv", f"no file is at *.csv in {tmp_path}")]
    (tmp_path / "a.csv.gz").touch()
    assert said(tmp_path, Files("*.csv"))[1:] == [
        ("*.csv", 'a.csv.gz lies beside *.csv, which does not match it: write Files(("*.csv", "*.csv.gz"))')
    ]
