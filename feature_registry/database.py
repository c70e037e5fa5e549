"""Opens the registry's database, SQLite or PostgreSQL, and tells each of its failures in one sentence without a password."""

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Executable,
    RootTransaction,
    Table,
    create_engine,
    event,
    insert,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, SQLAlchemyError

from feature_definitions.errors import UserError
from feature_definitions.record_rows import Row
from feature_registry import postgresql, schema

PATIENCE_SECONDS = 5.0
"""How long a locked database is waited for."""

RESTART_SECONDS = 30.0
"""How long a server that answered before is waited for: it restarts, or another one takes its place."""

_PAUSE_SECONDS = 0.2
CLOCK = {
    "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)",
    "postgresql": "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)",
}
"""What time it is by the database's own clock, in microseconds, as SQL by dialect: one clock for all who use the registry."""


class RegistryError(RuntimeError):
    """The registry cannot be used or was asked for what it does not hold; one sentence says what to do."""


class RegistryMoved(RegistryError, UserError):
    """The registry was moved to another database, and is used there."""


class RegistryUrlRefused(RegistryError, UserError):
    """A URL that names no database which could hold a registry."""


class Database:
    """A pool of connections to the registry's database; one transaction at a time writes."""

    def __init__(self, url: str) -> None:
        """Connect and create the tables when they are missing."""
        parsed = _parse(url)
        self.place = _place(parsed)
        """How messages name it: without user and password."""
        self._password = str(parsed.password or parsed.query.get("password", ""))
        self.moved_to: str | None = None
        """Where the registry had been moved to when it was opened."""
        self._opened = False
        with self._telling():
            self._engine = _sqlite(parsed) if parsed.get_backend_name() == "sqlite" else postgresql.engine(parsed)
            server = self.dialect == "postgresql"
            self._readers = self._engine.execution_options(**postgresql.READING if server else {})
            writers = {"writes": True} if not server else postgresql.writing(PATIENCE_SECONDS)
            self._writers = self._engine.execution_options(**writers)
            self._replacers = self._engine.execution_options(**writers, idles=True)
            try:
                self._prepare()
            except BaseException:
                self._engine.dispose()
                raise
        self._opened = True

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @property
    def dialect(self) -> str:
        """Which database it is: sqlite or postgresql."""
        return self._engine.dialect.name

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads, and sees one state of all tables whoever writes meanwhile."""
        with self._telling(), self._begun(self._readers) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is the only one to write; an error inside it leaves nothing behind. Refused where the registry was moved."""
        with self._telling(), self._begun(self._writers) as connection:
            self.refuse_if_moved(moved_to(connection))
            yield connection

    @contextmanager
    def replacing(self) -> Iterator[Connection]:
        """A transaction that is the only one to write, also where the registry was moved: it puts others in the place of all rows."""
        with self._telling(), self._begun(self._replacers) as connection:
            yield connection

    def refuse_if_moved(self, place: str | None) -> None:
        """Refuse to be used where the registry was moved to another place."""
        if place:
            raise RegistryMoved(
                f"{self.place} was moved: it is {place} now; set HEADWATER_REGISTRY_URL, or registry_url in headwater.toml, to that one"
            )

    @contextmanager
    def _begun(self, engine: Engine) -> Iterator[Connection]:
        connection, transaction = self._begin(engine)
        with connection, transaction:
            yield connection

    def _begin(self, engine: Engine) -> tuple[Connection, RootTransaction]:
        """A connection whose transaction has begun; a server that starts, or was there before and went away, is waited for."""
        deadline = time.monotonic() + RESTART_SECONDS
        while True:
            connection = None
            try:
                connection = engine.connect()
                return connection, connection.begin()
            except DBAPIError as error:
                if connection is not None:
                    connection.close()
                waits = postgresql.is_starting(error) or (self._opened and postgresql.is_away(error))
                if not waits or time.monotonic() >= deadline:
                    raise
            time.sleep(_PAUSE_SECONDS)

    def upsert(self, connection: Connection, table: Any, rows: list[Row]) -> None:
        """Insert rows, replacing those with the same primary key."""
        if rows:
            connection.execute(self._upsert(table), rows)

    def _upsert(self, table: Any) -> Executable:
        if self.dialect == "sqlite":
            from sqlalchemy.dialects.sqlite import insert as insert_or_update
        else:
            from sqlalchemy.dialects.postgresql import insert as insert_or_update  # type: ignore[assignment]  # same methods, no common type
        statement = insert_or_update(table)
        values = {column.name: statement.excluded[column.name] for column in table.columns if not column.primary_key}
        return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=values)

    def _prepare(self) -> None:
        """Bring the tables to the newest schema in one transaction, so that of two processes the second finds them so."""
        with self._begun(self._readers) as connection:
            found = _revision(connection)
            self.moved_to = moved_to(connection) if found == schema.REVISION else None
        if found != schema.REVISION:
            with self._begun(self._writers) as connection:
                found = _revision(connection)
                if found is None:
                    _create(connection)
                elif found != schema.REVISION:
                    self._upgrade(connection, found)

    def _upgrade(self, connection: Connection, found: str) -> None:
        from feature_registry import migrations

        if found not in migrations.known():
            raise RegistryError(
                f"{self.place} was made by another version of Headwater (tables {found}, this one has {schema.REVISION} and can bring "
                f"those from {migrations.OLDEST} on up to date); use that version, or point HEADWATER_REGISTRY_URL at a new database"
            )
        migrations.upgrade(connection)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise RegistryError(f"{self.place} {_reason(error, password=self._password)}") from None
        except ModuleNotFoundError as error:
            raise RegistryError(f"{self.place} needs the package {error.name!r}, which is not installed; install it") from None


def _revision(connection: Connection) -> str | None:
    """Which schema the tables have; None if there are none."""
    here = inspect(connection)
    if here.has_table(schema.revision.name):
        return str(connection.execute(select(schema.revision.c.version_num)).scalar())
    if here.has_table(schema.versions.name):
        return str(connection.execute(select(schema.versions.c.version)).scalar())
    return None


def _create(connection: Connection) -> None:
    schema.metadata.create_all(connection)
    connection.execute(insert(schema.revision), {"version_num": schema.REVISION})
    connection.execute(insert(schema.versions), {"version": 4})


def moved_to(connection: Connection) -> str | None:
    """Where the registry was moved to, if it was; without user and password."""
    found = schema.moves.c.moved_to
    return connection.execute(select(found).where(found.is_not(None))).scalar()


def load(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert many rows that are not there yet."""
    if connection.dialect.name == "postgresql":
        postgresql.copy(connection, table, rows)
    else:
        connection.execute(insert(table), rows)


def clock(connection: Connection) -> int:
    """What time it is by the database's own clock, in microseconds."""
    return int(connection.execute(text(f"SELECT {CLOCK[connection.dialect.name]}")).scalar_one())


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = None
    if parsed is None or parsed.drivername not in ("sqlite", *postgresql.DRIVERS):
        raise RegistryUrlRefused(
            "the registry's URL (HEADWATER_REGISTRY_URL, or registry_url in headwater.toml) names no database that can be used; "
            "write it like sqlite:////folder/registry.db or postgresql://user:password@host:5432/database"
        )
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise RegistryUrlRefused("the registry's URL names no file; write it like sqlite:////folder/registry.db")
    if parsed.get_backend_name() != "sqlite" and "@" in f"{parsed.host}{parsed.database}":
        raise RegistryUrlRefused("the registry's URL has one @ too many; in user and password write %40 for @, %2F for / and %25 for %")
    return parsed


def _place(url: URL) -> str:
    """How messages name the database: never with user or password."""
    if url.get_backend_name() == "sqlite":
        return f"the registry {url.database}"
    return postgresql.place(url)


def _sqlite(url: URL) -> Engine:
    _create_file(Path(str(url.database)))
    engine = create_engine(url, connect_args={"timeout": PATIENCE_SECONDS})
    event.listen(engine, "connect", _connected_to_sqlite)
    event.listen(engine, "begin", _begin_in_sqlite)
    return engine


def _create_file(path: Path) -> None:
    """Create the file for its owner only: it may hold what a project's data is called."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise RegistryError(
            f"the registry {path} cannot be opened: {error.strerror}; check the folder's rights, or name another place"
        ) from None


def _connected_to_sqlite(connection: sqlite3.Connection, _: object) -> None:
    # Transactions begin where we say (below), not where the driver guesses.
    connection.isolation_level = None
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not _writes_ahead(connection) and time.monotonic() < deadline:
        time.sleep(0.01)


def _writes_ahead(connection: sqlite3.Connection) -> bool:
    """Whether the file now has a write-ahead log; SQLite itself does not wait here while another process makes the file."""
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            return False
        raise
    return True


def _begin_in_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later could not wait for another writer: it fails at once.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")


_LOCKED = "has been locked by another process for {patience:g} s; wait until that one is done, or end it, and try again"
_READ_ONLY = "can only be read there: the server is a replica, or the role may write nothing by default; name the server that is written to"
_NO_RIGHTS = "refuses its role ({said}); grant it what docs/postgresql.md says"
_LOST = "was lost in the middle; what was being changed happened as a whole or not at all: run the same command again"
_FULL = "cannot be written to because the disk is full; make room"
_REASONS = {
    "SQLITE_BUSY": _LOCKED,
    "SQLITE_LOCKED": _LOCKED,
    "55P03": _LOCKED,
    "SQLITE_NOTADB": "is no SQLite database; move the file away, or name another one by HEADWATER_REGISTRY_URL",
    "SQLITE_CORRUPT": "is damaged; move the file away, then restore it from the lake: headwater registry rebuild",
    "SQLITE_READONLY": "cannot be written to; check the rights of the file and its folder",
    "SQLITE_CANTOPEN": "cannot be opened; check the rights of the file and its folder",
    "SQLITE_FULL": _FULL,
    "SQLITE_IOERR": "cannot be read or written ({said}); the disk may be full, or the file may be at its greatest size",
    "53100": _FULL,
    "25006": _READ_ONLY,
    "42501": _NO_RIGHTS,
    "3F000": _NO_RIGHTS,
    "57P01": _LOST,
    "25P03": _LOST,
}
"""What is wrong, by SQLite's name or PostgreSQL's code of the error."""


def _reason(error: SQLAlchemyError, *, password: str) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else error
    # SQLite's longer names begin with the name of the error, like SQLITE_READONLY_DBMOVED.
    name = "_".join(str(getattr(cause, "sqlite_errorname", None) or getattr(cause, "sqlstate", "")).split("_")[:2])
    said = (str(cause).replace(password, "***") if password else str(cause)).strip().partition("\n")[0] or type(error).__name__
    if name in _REASONS:
        return _REASONS[name].format(patience=PATIENCE_SECONDS, said=said)
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return _LOST
    if isinstance(error, DataError):
        return f"cannot hold a value: {said}"
    return f"does not answer: {said}"
