"""The records of CSV in any dialect: the same as Python's own `csv` reads, with the line where each begins."""

from __future__ import annotations

import csv
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_definitions import Csv
from spark_jobs.ingest import dialects
from spark_jobs.ingest.dialects import NeverClosed

SIGNS = ";,|\t:'\"\\ "
TEXTS = st.text(st.sampled_from("ab1é\U0001f600\0\r\n" + SIGNS), max_size=12)
TABLES = st.lists(st.lists(TEXTS, min_size=2, max_size=4), max_size=8)


def lines(text: str) -> list[str]:
    """A text as a file gives its lines, each with its end."""
    return list(StringIO(text, newline=""))


def read(text: str, dialect: Csv) -> list[tuple[int, list[str] | str]]:
    return list(dialects.records(lines(text), dialect))


@given(TABLES, st.sampled_from(";,|\t:"), st.sampled_from("\"'"), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
def test_records_are_those_of_pythons_csv_in_any_dialect_with_the_line_where_each_begins(
    table: list[list[str]], delimiter: str, quote: str, end: str, everything: bool
) -> None:
    written, begins = StringIO(newline=""), []
    quoting = csv.QUOTE_ALL if everything else csv.QUOTE_MINIMAL
    if not everything:  # Python's own writer leaves other line ends than its own without quotes
        table = [[text.replace("\r", "").replace("\n", "") for text in row] for row in table]
    writer = csv.writer(written, delimiter=delimiter, quotechar=quote, lineterminator=end, quoting=quoting)
    for row in table:
        begins.append(len(lines(written.getvalue())) + 1)
        writer.writerow(row)
    text = written.getvalue()
    assert list(csv.reader(lines(text), delimiter=delimiter, quotechar=quote)) == table
    assert read(text, Csv(delimiter=delimiter, quote=quote)) == list(zip(begins, table, strict=True))


@given(TABLES, st.sampled_from(";,|\t:"), st.sampled_from("\\^"))
def test_a_quote_after_an_escape_is_one_as_python_writes_and_reads_it(table: list[list[str]], delimiter: str, escape: str) -> None:
    written = StringIO(newline="")
    csv.writer(written, delimiter=delimiter, escapechar=escape, doublequote=False, quoting=csv.QUOTE_ALL).writerows(table)
    text = written.getvalue()
    assert list(csv.reader(lines(text), delimiter=delimiter, escapechar=escape, doublequote=False)) == table
    assert [record for _, record in read(text, Csv(delimiter=delimiter, escape=escape))] == table


@given(TABLES, st.sampled_from(";,|\t:"))
def test_without_quotes_an_escape_stands_before_all_that_would_part_fields(table: list[list[str]], delimiter: str) -> None:
    written = StringIO(newline="")
    writer = csv.writer(written, delimiter=delimiter, escapechar="\\", quoting=csv.QUOTE_NONE, quotechar=None, lineterminator="\r\n")
    writer.writerows(table)
    assert [record for _, record in read(written.getvalue(), Csv(delimiter=delimiter, escape="\\", quote=None))] == table


@given(st.text(st.sampled_from("ab\r\n" + SIGNS), max_size=40), st.sampled_from(";,|\t"))
def test_whatever_a_text_holds_its_records_are_those_of_pythons_csv(text: str, delimiter: str) -> None:
    reader, expected = csv.reader(lines(text), delimiter=delimiter, strict=True), []
    while True:
        line = reader.line_num + 1
        try:
            expected.append((line, next(reader)))
        except StopIteration:
            break
        except csv.Error as error:
            if reader.line_num > line:
                with pytest.raises(NeverClosed, match=f"line {line}: a quote that opens here is never closed"):
                    read(text, Csv(delimiter=delimiter))
                return
            expected.append((line, f"not a CSV record: {error}"))  # type: ignore[arg-type]  # as our records say it
    assert read(text, Csv(delimiter=delimiter)) == [(line, record) for line, record in expected if record]


def test_what_spark_writes_is_read_as_it_was() -> None:
    values = ["plain", "a\\b", "\\\\server\\x", 'a"b', 'a\\"b', "a,b\\", "x\\\\,y", '"q"', "back\\\nbreak", "\\N", "ends\\"]
    as_spark_writes = [
        "plain", "a\\b", "\\\\server\\x",
        r'"a\"b"', r'"a\\\"b"', r'"a,b\\"', r'"x\\\\,y"', r'"\"q\""', '"back\\\\\nbreak"', "\\N", "ends\\",
    ]  # fmt: skip
    text = "".join(f"{value},z\n" for value in as_spark_writes)
    assert [record for _, record in read(text, Csv(escape="\\"))] == [[value, "z"] for value in values]


def test_a_field_of_two_hundred_thousand_characters_over_many_lines_is_one() -> None:
    long = "line\n" * 42_000
    for dialect in (Csv(), Csv(escape="\\")):
        assert read(f'a,"{long}"\nb,c\n', dialect) == [(1, ["a", long]), (42_001 + 1, ["b", "c"])]


@pytest.mark.parametrize("dialect", [Csv(), Csv(escape="\\")], ids=["doubled", "escaped"])
def test_a_record_that_is_none_costs_its_line_alone(dialect: Csv) -> None:
    assert read('a,b\n"a"b,c\nd,e\n', dialect) == [(1, ["a", "b"]), (2, "not a CSV record: ',' expected after '\"'"), (3, ["d", "e"])]
    assert read('a,b\n\n\nd,"e', dialect)[0::2] == [(1, ["a", "b"])]
    with pytest.raises(NeverClosed, match="line 2: a quote that opens here is never closed"):
        read('a,b\nd,"e\nf,g\n', dialect)


def test_a_quote_that_no_end_follows_is_given_up_at_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialects, "LONGEST", 100)
    for dialect in (Csv(), Csv(escape="\\")):
        with pytest.raises(NeverClosed, match="line 1: a quote that opens here is never closed within 100 characters"):
            read('"a\n' + "b\n" * 100, dialect)


def test_a_first_line_may_tell_the_delimiter() -> None:
    assert read("sep=;\r\na;b\r\n1;2\r\n", Csv()) == [(2, ["a", "b"]), (3, ["1", "2"])]
    assert read('"sep=|"\na|b\n', Csv(delimiter="\t")) == [(2, ["a", "b"])]
    assert read("sep=;;\n", Csv()) == [(1, ["sep=;;"])]
