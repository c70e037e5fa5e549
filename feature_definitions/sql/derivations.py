"""The columns that a source derives, as Spark computes them: what each is, when it fails, and what it reads."""

from collections.abc import Iterator
from typing import NamedTuple

from feature_definitions.language import Source
from feature_definitions.sql import expressions
from feature_definitions.sql.column_types import derive_type
from feature_definitions.sql.failing import safely


class Derivation(NamedTuple):
    """A derived column: its type, the expression that never raises, when that fails (None: never), and the columns that it reads.

    `of_the_row` says that it rests on its own row alone; `prev.x` is a column of the row before.
    """

    name: str
    type: str
    value: str
    fails: str | None
    reads: tuple[str, ...]
    of_the_row: bool


def derivations(source: Source) -> tuple[Derivation, ...]:
    """The columns that a source derives, in order: each may read those before it."""
    return tuple(_derivations(source))


def may_fail(source: Source) -> bool:
    """Whether a row of the source may have no value of a column that is derived from itself alone."""
    return any(each.of_the_row and each.fails is not None for each in derivations(source))


def may_fail_beside(source: Source) -> bool:
    """Whether a row of the source may have no value of a column that rests on the row before."""
    return any(not each.of_the_row and each.fails is not None for each in derivations(source))


def _derivations(source: Source) -> Iterator[Derivation]:
    known = dict(source.columns) | {f"prev.{name}": data_type for name, data_type in source.columns.items()}
    beyond: set[str] = set()
    for name, sql in source.derive.items():
        reads = expressions.derive_columns_in(sql)
        if any(column in beyond or column.startswith("prev.") for column in reads):
            beyond.add(name)
        data_type = derive_type(source, name, {column: known[column] for column in known if not column.startswith("prev.")})
        safe = safely(sql, known)
        yield Derivation(name, data_type, safe.value, safe.fails, tuple(sorted(reads)), name not in beyond)
        known[name] = data_type
