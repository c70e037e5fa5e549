"""What the texts of a column look like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_definitions import Column
from spark_jobs.ingest import cells, guesses
from spark_jobs.ingest.guesses import Guess

ALL = {"unique": True, "filled": True}
EITHER, COUNTED = "it may as well be written as %m/%d/%Y: day or month first?", "its digits look like times counted since 1970 in ms"
GERMAN = Column("timestamp", format="%d.%m.%Y %H:%M")
CASES: dict[str, tuple[str, list[str], Guess]] = {
    "whole numbers": ("n", ["1", "-2", "3"], Guess(Column("int64"), **ALL)),
    "fractions": ("amount", ["1.50", "2", "-3e4"], Guess(Column("double"), **ALL)),
    "with a comma": ("amount", ["1.234,50", "2,5"], Guess(Column("double"), decimal=",", thousands=".", **ALL)),
    "with groups": ("amount", ["1,234.50", "2"], Guess(Column("double"), thousands=",", **ALL)),
    "Swiss groups": ("amount", ["1'234.50", "2"], Guess(Column("double"), thousands="'", **ALL)),
    "groups with blanks": ("amount", ["1\u202f234,50", "2 000", "3"], Guess(Column("double"), decimal=",", thousands=" ", **ALL)),
    "nulls of databases in text": ("name", ["a", "\\N"], Guess(Column("string"), nulls=("\\N",))),
    "a comma that may be either": (
        "amount", ["1,234", "2,345"], Guess(Column("double"), ("a comma before three digits may part thousands",), decimal=",", **ALL),
    ),
    "digits that are text": ("zip", ["00501", "9"], Guess(Column("string"), ("its digits begin with 0, so they are no number",), **ALL)),
    "digits beyond int64": ("n", ["9" * 20, "1"], Guess(Column("string"), ("its digits are beyond int64",), **ALL)),
    "numbers but for one": (
        "betrag", [f"{n},50" for n in range(10)] + ["storniert"],
        Guess(Column("string"), ("all but 'storniert' look like numbers: as \"double\" only such rows are put aside",), decimal=",", **ALL),
    ),
    "whole numbers but for one": (
        "n", [*map(str, range(10)), "?!"],
        Guess(Column("string"), ("all but '?!' look like numbers: as \"int64\" only such rows are put aside",), **ALL),
    ),
    "codes of which many are numbers": ("code", ["1", "2", "A3"], Guess(Column("string"), **ALL)),
    "truth by a letter": ("paid", ["Y", "N", "Y"], Guess(Column("boolean"), filled=True)),
    "truth": ("paid", ["true", "FALSE", "true"], Guess(Column("boolean"), filled=True)),
    "noughts and ones": ("paid", ["1", "0", "0"], Guess(Column("int64"), filled=True)),
    "dates": ("day", ["2026-01-05", "2026-01-06"], Guess(Column("date"), **ALL)),
    "times with zones": ("at", ["2026-01-05T06:00:00Z", "2026-01-05 06:00:00+0100"], Guess(Column("timestamp"), **ALL)),
    "times without": ("at", ["2026-01-05T06:00:00Z", "2026-01-05 06:00:00"], Guess(Column("timestamp"), zoneless=True, **ALL)),
    "German times": ("am", ["15.01.2026 06:00", "05.01.2026 06:00"], Guess(GERMAN, zoneless=True, **ALL)),
    "a day that may be a month": (
        "am", ["05/01/2026"], Guess(Column("date", format="%d/%m/%Y"), (EITHER,), filled=True),
    ),
    "counts since 1970": (
        "paid_at", ["1767592800000"], Guess(Column("timestamp", epoch="ms"), (COUNTED,), filled=True),
    ),
    "counts with fractions": (
        "paid_at", ["1767592800000.0", "1.7675928E12"], Guess(Column("timestamp", epoch="ms"), (COUNTED,), **ALL),
    ),
    "large numbers": ("customer_id", ["1767592800000"], Guess(Column("int64"), filled=True)),
    "words for null": ("n", ["1", "NULL", "\\N", ""], Guess(Column("int64"), nulls=("NULL", "\\N"))),
    "words in text": ("name", ["a", "NULL"], Guess(Column("string"), **ALL)),
    "nothing": ("n", ["", ""], Guess(Column("string"), ("it holds no value",))),
    "nothing but words": ("n", ["NULL"], Guess(Column("string"), ("it holds nothing but words for null",), filled=True)),
}  # fmt: skip


@pytest.mark.parametrize("kind", CASES)
def test_a_guess_fits_all_values_and_says_what_is_not_sure(kind: str) -> None:
    name, texts, expected = CASES[kind]
    assert guesses.of_texts(name, texts) == expected


@given(
    name=st.sampled_from(["at", "n"]),
    texts=st.lists(st.one_of(st.integers().map(str), st.floats().map(str), st.text(max_size=9), st.datetimes().map(str)), min_size=1),
)
def test_whatever_is_guessed_reads_every_value(name: str, texts: list[str]) -> None:
    guess = guesses.of_texts(name, texts)
    if guess.decimal == "." and guess.thousands is None:
        convert = cells.of_text(guess.column.data_type, "UTC", how=guess.column)
        for text in texts:
            if text != "" and text not in guess.nulls:
                convert(text)
