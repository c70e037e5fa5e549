# mypy: disable-error-code=redundant-expr
# What users write is checked when it runs: a definition may hold anything, whatever its types say.
"""Tables and queries of other databases."""

import re
from dataclasses import dataclass, field

from feature_definitions.language.rules import DefinitionError

CONNECTION = re.compile(r"[a-z][a-z0-9_]{0,62}")
PREFIX, FILE = "HEADWATER_CONNECTION_", "_FILE"
"""How the variable of a connection begins, and how that of a file ends that holds its URL."""

_PART = re.compile(r'"[^"]+"|[^".]+')
_NAME = re.compile(rf"(?:{_PART.pattern})(?:\.(?:{_PART.pattern})){{0,2}}")
_COMMENT = re.compile(r"--[^\n]*(\n|$)|/\*.*?\*/", re.DOTALL)
MOST_PARTITIONS, LARGEST_FETCH = 64, 1_000_000


@dataclass(frozen=True, slots=True)
class Jdbc:
    """A table of another database, or what one SELECT there gives; read in place, by a connection that the environment holds.

    `connection="warehouse"` is the URL in HEADWATER_CONNECTION_WAREHOUSE, or in the file that HEADWATER_CONNECTION_WAREHOUSE_FILE names.
    The table's name is written as the database keeps it, capitals and all: `sales.payments`. Each ingest reads all rows; readers read
    the newest ones, of the dates that they want. Rows are read in `partitions` parts by ranges of `partition_by` (an int64, date or
    timestamp column of the source, else the event timestamp), `fetch_size` rows at a time.
    """

    table: str | None = None
    query: str | None = field(default=None, kw_only=True)
    connection: str = field(default="", kw_only=True)
    partitions: int = field(default=8, kw_only=True)
    partition_by: str | None = field(default=None, kw_only=True)
    fetch_size: int = field(default=10_000, kw_only=True)

    def __post_init__(self) -> None:
        """Check that it names one thing to read, and how."""
        if (self.table is None) == (self.query is None):
            raise DefinitionError("Jdbc reads either a table or a query; write Jdbc('sales.payments', connection='warehouse')")
        if self.table is not None:
            _check_table(self.table)
        if self.query is not None:
            object.__setattr__(self, "query", _select(self.query))
        _check_connection(self.called, self.connection)
        _check_number(self.called, "partitions", self.partitions, most=MOST_PARTITIONS)
        _check_number(self.called, "fetch_size", self.fetch_size, most=LARGEST_FETCH)

    @property
    def called(self) -> str:
        """How messages name it."""
        return f"Jdbc({self.table!r})" if self.table is not None else f"Jdbc(query={str(self.query)[:40]!r})"

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of the table's name, as the database keeps them."""
        return tuple(part.strip('"') for part in _PART.findall(self.table or ""))


def _check_table(table: object) -> None:
    if not isinstance(table, str) or not _NAME.fullmatch(table) or table != table.strip():
        raise DefinitionError(f"Jdbc({table!r}) names no table; write its name as the database keeps it, like Jdbc('sales.payments', ...)")
    if re.match(r"(?i)(select|with)\s", table):
        raise DefinitionError(f"Jdbc({table[:40]!r}) names no table; write Jdbc(query='SELECT ...', connection=...)")


def _select(query: object) -> str:
    """The SELECT without what ends it; the database itself is asked to refuse anything that writes."""
    said = query.strip().rstrip(";").rstrip() if isinstance(query, str) else ""
    if not re.match(r"(?i)(select|with|values)\b|\(", _COMMENT.sub("", said).lstrip()):
        raise DefinitionError(f"Jdbc(query={str(query)[:40]!r}) is no query; write one SELECT in the database's own SQL")
    return said


def _check_connection(called: str, name: object) -> None:
    if not isinstance(name, str) or not CONNECTION.fullmatch(name):
        raise DefinitionError(
            f"{called} has connection={name!r}; write a name in small letters, digits and _, like connection='warehouse', "
            "whose URL stands in HEADWATER_CONNECTION_WAREHOUSE"
        )
    if name.upper().endswith(FILE):
        raise DefinitionError(f"{called} has connection={name!r}, but variables that end in {FILE} name files; name it without _file")


def _check_number(called: str, what: str, number: object, *, most: int) -> None:
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= most:
        raise DefinitionError(f"{called} has {what}={number!r}; write a whole number from 1 to {most:,}")
