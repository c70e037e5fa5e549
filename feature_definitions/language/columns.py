# mypy: disable-error-code=redundant-expr
# What users write is checked when it runs: a definition may hold anything, whatever its types say.
"""A source's columns: each by our name with its type, and how it lies in the data, under another name or with times of another kind."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from feature_definitions import times
from feature_definitions.language.rules import COLUMN, DefinitionError, check_columns, check_type, check_unique

Epoch = Literal["s", "ms", "us", "ns"]


@dataclass(frozen=True, slots=True)
class Column:
    """How a column lies in the data: its type, its name there if ours is another, and how times are written.

    `format` has the letters of `strptime`, as in `Column("timestamp", format="%d.%m.%Y %H:%M")`. `epoch` is the unit of times that are
    counts since 1970, as in `Column("timestamp", epoch="ms")`. A count needs no timezone, nor does a format with %z.
    """

    data_type: str
    name: str | None = None
    _: KW_ONLY
    format: str | None = None
    epoch: Epoch | None = None

    def __post_init__(self) -> None:
        """Check the type, the name, and that times are said in one way."""
        where = f"Column({self.data_type!r})"
        check_type(where, str(self.name), self.data_type)
        object.__setattr__(self, "data_type", self.data_type.replace(" ", ""))
        if self.name is not None and (not isinstance(self.name, str) or not self.name.strip()):
            raise DefinitionError(
                f"{where} has the name {self.name!r}; write the column's name in the data, like Column('int64', 'Customer ID')"
            )
        _check_times(where, self)

    @property
    def has_no_zone(self) -> bool:
        """Whether its times may be written without a zone."""
        return "timestamp" in self.data_type and self.epoch is None and not times.carries_zone(self.format)


def _check_times(where: str, column: Column) -> None:
    if column.epoch is not None:
        if column.format is not None:
            raise DefinitionError(f"{where} has a format and an epoch; its times are either written out or counted: remove one")
        if column.data_type != "timestamp":
            raise DefinitionError(f"{where} has an epoch, which only a timestamp has; write Column('timestamp', epoch='ms'), or no epoch")
        if column.epoch not in times.UNITS:
            raise DefinitionError(f"{where} has epoch={column.epoch!r}; write the unit of its counts: 's', 'ms', 'us' or 'ns'")
    if column.format is not None:
        if column.data_type not in ("timestamp", "date") or not isinstance(column.format, str):
            raise DefinitionError(f"{where} has format={column.format!r}; a timestamp or a date has one, like '%d.%m.%Y %H:%M'")
        try:
            times.refuse_format(column.format, column.data_type)
        except ValueError as error:
            raise DefinitionError(f"{where}: its format {error}") from None


class Columns(Mapping[str, str]):
    """The columns of a source, frozen: the type of each by our name; `written` says how each lies in the data."""

    __slots__ = ("_types", "written")

    def __init__(self, written: Mapping[str, Column]) -> None:
        """Take columns that were checked; each has its name in the data."""
        self.written = MappingProxyType(dict(written))
        self._types = {name: column.data_type for name, column in written.items()}

    def __getitem__(self, name: str) -> str:
        """The type of a column."""
        return self._types[name]

    def __iter__(self) -> Iterator[str]:
        """Our names, in order."""
        return iter(self._types)

    def __len__(self) -> int:
        """How many columns there are."""
        return len(self._types)

    def __eq__(self, other: object) -> bool:
        """Whether the other's columns lie in the data alike; a plain mapping says their types alone."""
        return self.written == other.written if isinstance(other, Columns) else self._types == other

    __hash__ = None  # type: ignore[assignment]  # as no mapping has one

    def __repr__(self) -> str:
        """The columns as they may be written."""
        return repr(dict(self.written))

    if TYPE_CHECKING:  # a Source is given types and Columns, and has types

        def __get__(self, source: Any, owner: Any = None) -> Mapping[str, str]: ...

        def __set__(self, source: Any, given: Mapping[str, str | Column]) -> None: ...


def columns_of(where: str, given: Mapping[str, str | Column]) -> Columns:
    """The columns that a source is given, types or Columns; refuses names and types that none can have."""
    if isinstance(given, Columns):
        return given
    _check_names(where, given)
    check_columns(where, {name: each.data_type if isinstance(each, Column) else each for name, each in given.items()})
    whole = {name: each if isinstance(each, Column) else Column(each) for name, each in given.items()}
    written = {name: each if each.name else replace(each, name=name) for name, each in whole.items()}
    names = [str(each.name) for each in written.values()]
    check_unique(where, names, "column of the data", "one column of ours reads it; derive the other, like derive={'copy': 'amount'}")
    return Columns(written)


def _check_names(where: str, given: object) -> None:
    if not isinstance(given, Mapping):
        raise DefinitionError(f"{where} has columns={given!r}; write them with their types, like {{'customer_id': 'int64'}}")
    for name, each in given.items():
        if isinstance(name, str) and isinstance(each, str) and not COLUMN.fullmatch(name) and name.strip():
            ours = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "column"
            ours = ours if ours[0].isalpha() else f"column_{ours}"
            raise DefinitionError(
                f"{where}: {name!r} cannot name a column of ours, which has letters, digits and _; "
                f"write its name in the data beside it, like {ours!r}: Column({each!r}, {name!r})"
            )
