"""Moves a registry from one database to another: every row, read back and compared, as a whole or not at all.

Where the rows came from is written to no more, and says where they went. A move that was cut off leaves the target as it was, or whole:
then the next one finds it equal, and only notes in the source that it was moved.
"""

import hashlib
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Literal

from sqlalchemy import Connection, Table, delete, func, insert, select

from feature_definitions.errors import UserError
from feature_definitions.intervals import micros
from feature_definitions.record_rows import Row
from feature_registry import leases, schema
from feature_registry.database import Database, RegistryError, load

ROWS_AT_ONCE = 5000
"""How many rows are in memory."""
_SAY_SECONDS = 5.0

_MADE_WITH_THE_TABLES = {schema.revision.name, schema.versions.name, schema.moves.name}
TABLES = tuple(table for table in schema.metadata.sorted_tables if table.name not in _MADE_WITH_THE_TABLES)
"""What is moved."""

Over = Literal["nothing", "anything"]
Digest = tuple[int, int]
"""How many rows a table has, and the sum of their hashes: two tables of equal rows have equal ones, in whatever order."""


class Occupied(UserError):
    """A database that cannot be moved to, since it holds something else, or is the same one."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What was moved: from where to where, and how many rows by table."""

    moved_from: str
    moved_to: str
    rows: dict[str, int]


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms a registry is moved: over what, who counts as silent, when, and who is told how far it is."""

    over: Over
    silence: timedelta
    now: datetime
    say: Callable[[str], None]


def move(source: Database, target: Database, terms: Terms) -> Moved:
    """Move everything; nobody writes to either meanwhile. Refused (LeaseHeld) while a process works on something."""
    if source.place == target.place:
        raise Occupied(f"{target.place} is the one that is used already; name another database")
    move_id, at = uuid.uuid4().hex, micros(terms.now)
    with source.writing() as old:
        leases.end_all(old, silence=terms.silence)
        with target.replacing() as new:
            moved = _carry(old, new, place=target.place, terms=terms)
            _keep_move(new, {"move_id": move_id, "moved_to": None, "moved_at": at})
        _keep_move(old, {"move_id": move_id, "moved_to": target.place, "moved_at": at})
    return Moved(source.place, target.place, moved)


def _carry(old: Connection, new: Connection, *, place: str, terms: Terms) -> dict[str, int]:
    """Bring all rows to the target, unless it has the very same ones; how many, by table."""
    leases.end_all(new, silence=terms.silence)
    if terms.over == "nothing" and not _is_free(old, new):
        before = {table: _digest(_rows(old, table)) for table in TABLES}
        if before != {table: _digest(_rows(new, table)) for table in TABLES}:
            raise Occupied(f"{place} holds facts already; if they may be lost, move over them: headwater registry move --to URL --replace")
        return {table.name: rows for table, (rows, _) in before.items()}
    for table in TABLES:
        new.execute(delete(table))
    progress = _progress(sum(_count(old, table) for table in TABLES), terms.say)
    sent = {table: _copy(old, new, table, progress) for table in TABLES}
    for table, digest in sent.items():
        if _digest(_rows(new, table)) != digest:
            raise RegistryError(f"the rows of {table.name} came to {place} otherwise than they were; nothing was moved")
    return {table.name: rows for table, (rows, _) in sent.items()}


def _is_free(old: Connection, new: Connection) -> bool:
    """Whether nothing is lost by writing over a target: it is empty, or its rows went to this source by the last move."""
    if not any(new.execute(select(table).limit(1)).first() for table in TABLES):
        return True
    moves = schema.moves.c
    here = select(moves.move_id).where(moves.moved_to.is_(None))
    left = new.execute(select(moves.move_id).where(moves.moved_to.is_not(None))).scalars().all()
    return bool(set(left) & set(old.execute(here).scalars()))


def _copy(old: Connection, new: Connection, table: Table, progress: Callable[[int], None]) -> Digest:
    count, total = 0, 0
    rows = _rows(old, table)
    while some := list(islice(rows, ROWS_AT_ONCE)):
        load(new, table, some)
        part, hashed = _digest(iter(some))
        count, total = count + part, total + hashed
        progress(part)
    return count, total


def _rows(connection: Connection, table: Table) -> Iterator[Row]:
    """The rows of a table, a part of them in memory."""
    found = connection.execute(select(table).execution_options(yield_per=ROWS_AT_ONCE))
    return (row._asdict() for row in found)


def _count(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def _digest(rows: Iterator[Row]) -> Digest:
    count, total = 0, 0
    for row in rows:
        hashed = hashlib.blake2b(repr(tuple(row.values())).encode(), digest_size=16).digest()
        count, total = count + 1, total + int.from_bytes(hashed)
    return count, total


def _progress(total: int, say: Callable[[str], None]) -> Callable[[int], None]:
    """Counts what was moved, and says so from time to time."""
    done, said = 0, time.monotonic()

    def count(rows: int) -> None:
        nonlocal done, said
        done += rows
        if time.monotonic() - said >= _SAY_SECONDS:
            said = time.monotonic()
            say(f"moved {done:,} of {total:,} rows")

    return count


def _keep_move(connection: Connection, row: dict[str, Any]) -> None:
    """Note the newest move in the place of those before."""
    connection.execute(delete(schema.moves))
    connection.execute(insert(schema.moves), row)
