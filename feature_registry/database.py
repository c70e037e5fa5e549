"""Opens the registry's database, SQLite or PostgreSQL, and tells each of its failures in one sentence without a password."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Executable, create_engine, event, insert, inspect, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from feature_definitions.record_rows import Row
from feature_registry import schema

PATIENCE_SECONDS = 5.0
"""How long a locked database is waited for."""

_WRITERS = 4848_7733
"""The PostgreSQL advisory lock that lets one writer in at a time, as SQLite does."""


CLOCK = {
    "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)",
    "postgresql": "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)",
}
"""What time it is by the database's own clock, in microseconds, as SQL by dialect: one clock for all who use the registry."""


class RegistryError(RuntimeError):
    """The registry cannot be used or was asked for what it does not hold; one sentence says what to do."""


class Database:
    """A pool of connections to the registry's database; one transaction at a time writes."""

    def __init__(self, url: str) -> None:
        """Connect and create the tables when they are missing."""
        parsed = _parse(url)
        self._place = _place(parsed)
        self._password = str(parsed.password or parsed.query.get("password", ""))
        with self._telling():
            self._engine = _sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _postgresql(parsed)
            try:
                self._prepare()
            except BaseException:
                self._engine.dispose()
                raise

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads."""
        with self._telling(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is the only one to write; an error inside it leaves nothing behind."""
        with self._telling(), self._engine.execution_options(writes=True).begin() as connection:
            yield connection

    def upsert(self, connection: Connection, table: Any, rows: list[Row]) -> None:
        """Insert rows, replacing those with the same primary key."""
        if rows:
            connection.execute(self._upsert(table), rows)

    def _upsert(self, table: Any) -> Executable:
        if self._engine.dialect.name == "sqlite":
            from sqlalchemy.dialects.sqlite import insert as insert_or_update
        else:
            from sqlalchemy.dialects.postgresql import insert as insert_or_update  # type: ignore[assignment]  # same methods, no common type
        statement = insert_or_update(table)
        values = {column.name: statement.excluded[column.name] for column in table.columns if not column.primary_key}
        return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=values)

    def _prepare(self) -> None:
        """Bring the tables to the newest schema in one transaction, so that of two processes the second finds them so."""
        with self._engine.begin() as connection:
            found = _revision(connection)
        if found != schema.REVISION:
            with self._engine.execution_options(writes=True).begin() as connection:
                found = _revision(connection)
                if found is None:
                    _create(connection)
                elif found != schema.REVISION:
                    self._upgrade(connection, found)

    def _upgrade(self, connection: Connection, found: str) -> None:
        from feature_registry import migrations

        if found not in migrations.known():
            raise RegistryError(
                f"{self._place} was made by another version of Headwater (tables {found}, this one has {schema.REVISION} and can bring "
                f"those from {migrations.OLDEST} on up to date); use that version, or point HEADWATER_REGISTRY_URL at a new database"
            )
        migrations.upgrade(connection)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise RegistryError(f"{self._place} {_reason(error, password=self._password)}") from None
        except ModuleNotFoundError as error:
            raise RegistryError(f"{self._place} needs the package {error.name!r}, which is not installed; install it") from None


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


def clock(connection: Connection) -> int:
    """What time it is by the database's own clock, in microseconds."""
    return int(connection.execute(text(f"SELECT {CLOCK[connection.dialect.name]}")).scalar_one())


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = None
    if parsed is None or parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise RegistryError(
            "the registry's URL (HEADWATER_REGISTRY_URL, or registry_url in headwater.toml) names no database that can be used; "
            "write it like sqlite:////folder/registry.db or postgresql://user:password@host:5432/database"
        )
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise RegistryError("the registry's URL names no file; write it like sqlite:////folder/registry.db")
    return parsed


def _place(url: URL) -> str:
    """How messages name the database: never with user or password."""
    if url.get_backend_name() == "sqlite":
        return f"the registry {url.database}"
    return f"the registry in PostgreSQL at {url.host or 'localhost'}:{url.port or 5432}/{url.database or ''}"


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


def _postgresql(url: URL) -> Engine:
    """By psycopg, unless the URL names another driver."""
    driven = url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url
    engine = create_engine(driven, pool_pre_ping=True)
    event.listen(engine, "begin", _begin_in_postgresql)
    return engine


def _begin_in_postgresql(connection: Connection) -> None:
    if connection.get_execution_options().get("writes"):
        connection.execute(text(f"SET LOCAL lock_timeout = {int(PATIENCE_SECONDS * 1000)}"))
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_WRITERS})"))


_LOCKED = "has been locked by another process for {patience:g} s; wait until that one is done, or end it, and try again"
_FULL = "cannot be written to because the disk is full; make room"
_REASONS = {
    "SQLITE_BUSY": _LOCKED,
    "SQLITE_LOCKED": _LOCKED,
    "55P03": _LOCKED,
    "SQLITE_NOTADB": "is no SQLite database; move the file away, or name another one by HEADWATER_REGISTRY_URL",
    "SQLITE_CORRUPT": "is damaged; put a backup of the file in its place",
    "SQLITE_READONLY": "cannot be written to; check the rights of the file and its folder",
    "SQLITE_CANTOPEN": "cannot be opened; check the rights of the file and its folder",
    "SQLITE_FULL": _FULL,
    "53100": _FULL,
}
"""What is wrong, by SQLite's name or PostgreSQL's code of the error."""


def _reason(error: SQLAlchemyError, *, password: str) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else error
    # SQLite's longer names begin with the name of the error, like SQLITE_READONLY_DBMOVED.
    name = "_".join(str(getattr(cause, "sqlite_errorname", None) or getattr(cause, "sqlstate", "")).split("_")[:2])
    if name in _REASONS:
        return _REASONS[name].format(patience=PATIENCE_SECONDS)
    said = str(cause).replace(password, "***") if password else str(cause)
    return f"does not answer: {said.strip().splitlines()[0] if said.strip() else type(error).__name__}"
