"""How files are spoken of: where they lie, and how CSV was written; what cannot be meant is refused with what to write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from feature_definitions import Csv, DefinitionError, Files

if TYPE_CHECKING:
    from collections.abc import Callable


def test_files_lie_at_one_glob_or_at_several() -> None:
    assert Files("a/*.csv").paths == ("a/*.csv",)
    assert Files(["a/*.csv", "b/*.csv"]) == Files(("a/*.csv", "b/*.csv"))  # type: ignore[arg-type]  # a list is taken too
    assert Files(("a/*.csv", "b/*.csv")).place == "a/*.csv, b/*.csv"


def test_csv_says_its_null_words_as_one_text_or_as_several() -> None:
    assert Csv(nulls="NA") == Csv(nulls=("NA",))  # type: ignore[arg-type]  # one text is taken too
    assert Csv().nulls == ("",)


def test_numbers_in_quotes_may_hold_the_delimiter() -> None:
    assert Csv(decimal=",").delimiter == ","


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Csv(delimiter=";;"), "has delimiter=';;'; write the one character between two columns"),
        (lambda: Csv(delimiter="\n"), "write the one character between two columns"),
        (lambda: Csv(delimiter="x"), "write the one character between two columns"),
        (lambda: Csv(encoding="latin-99"), "has encoding='latin-99', which nobody knows; write one like 'utf-8'"),
        (lambda: Csv(encoding="base64"), "which nobody knows"),
        (lambda: Csv(encoding=7), "which nobody knows"),
        (lambda: Csv(decimal=";"), "has decimal=';'; write '.' or ','"),
        (lambda: Csv(thousands="000"), "has thousands='000'; write the one character between groups of digits"),
        (lambda: Csv(thousands="."), "has '.' for decimal and for thousands"),
        (lambda: Csv(decimal=",", quote=None), "has ',' between columns and within numbers, and no quotes"),
        (lambda: Csv(nulls=(None,)), "write the texts that mean null"),
        (lambda: Csv(escape="ab"), "has escape='ab'; write one character"),
        (lambda: Csv(escape='"'), "a doubled quote is always read as one: leave escape out"),
        (lambda: Csv(delimiter="|", quote="|"), "has '|' for delimiter and for quote"),
        (lambda: Csv(header="no"), "has header='no'; write True or False"),
        (lambda: Files(()), "Files needs a path"),
        (lambda: Files(("a", "")), "Files needs a path"),
        (lambda: Files("a", csv=";"), r"has csv=';'; write csv=Csv\(delimiter=';'\)"),
        (lambda: Files("a", format="parquet", csv=Csv()), "says how CSV was written, but has the format 'parquet'; remove csv="),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_to_write(build: Callable[..., Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        build()
