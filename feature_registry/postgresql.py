"""How PostgreSQL is spoken to: by psycopg, through few connections, none of which outlives a dead server unnoticed.

Nothing here lives longer than a transaction (locks, settings, prepared statements), so a pooler may stand between (PgBouncer).
"""

import re
from collections.abc import Iterable
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, text
from sqlalchemy.exc import DBAPIError, OperationalError

from feature_definitions.record_rows import Row

DRIVERS = ("postgres", "postgresql", "postgresql+psycopg")
"""How a URL may begin."""
READING: dict[str, Any] = {"isolation_level": "REPEATABLE READ"}
"""What a transaction that reads begins with: it sees one state of all tables."""

_WRITERS = 4848_7733
"""The advisory lock that lets one writer in at a time, as SQLite does."""
_KEPT, _MOST = 1, 5
"""How many connections a process keeps, and has at most: those of many tasks add up."""
_IDLE_SECONDS = 60
"""Who stops in the middle of a change for so long is disconnected by the server, so that others can write."""
_ARGUMENTS: dict[str, Any] = {
    "application_name": "headwater",
    "connect_timeout": 10,
    # A server that is cut off is noticed within 30 s, so that a lease can still be renewed by another connection.
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""What libpq is told unless the URL says otherwise."""
_STARTING = re.compile("starting up|shutting down|not yet accepting connections|in recovery mode")


def engine(url: URL) -> Engine:
    """A pool of connections to a PostgreSQL URL."""
    arguments = {name: value for name, value in _ARGUMENTS.items() if name not in url.query}
    made = create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_pre_ping=True,
        pool_size=_KEPT,
        max_overflow=_MOST - _KEPT,
        use_native_hstore=False,
        # A prepared statement lives in one connection of a pooler, and the next transaction may have another.
        connect_args={**arguments, "prepare_threshold": None},
    )
    event.listen(made, "begin", _begin)
    return made


def writing(patience: float) -> dict[str, Any]:
    """What a transaction that writes begins with; it waits for other writers as many seconds as there is patience."""
    return {"isolation_level": "READ COMMITTED", "writes": patience}


def place(url: URL) -> str:
    """How messages name the database: never with user or password."""
    hosts = url.host or url.query.get("host") or "localhost"
    named = hosts if isinstance(hosts, str) else ",".join(hosts)
    port = "" if url.host is None and ":" in named else f":{url.port or url.query.get('port') or 5432}"
    return f"the registry in PostgreSQL at {named}{port}/{url.database or url.query.get('dbname') or ''}"


def is_away(error: DBAPIError) -> bool:
    """Whether the server is not there, or is no longer: psycopg gives no code where it could not connect."""
    return error.connection_invalidated or (isinstance(error, OperationalError) and getattr(error.orig, "sqlstate", "") is None)


def is_starting(error: DBAPIError) -> bool:
    """Whether the server says that it will be there in a moment."""
    return bool(_STARTING.search(str(error.orig)))


def copy(connection: Connection, table: Table, rows: Iterable[Row]) -> None:
    """Insert rows as one stream, which is several times as fast as as many statements."""
    import psycopg

    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    statement = f'COPY "{table.name}" ({columns}) FROM STDIN'
    cursor: psycopg.Cursor[Any] = connection.connection.cursor()  # type: ignore[assignment]  # SQLAlchemy knows no driver's own methods
    try:
        with cursor, cursor.copy(statement.encode()) as stream:
            for row in rows:
                stream.write_row([row[column.name] for column in table.columns])
    except psycopg.Error as error:
        raise DBAPIError.instance(statement, None, error, psycopg.Error, dialect=connection.dialect) from None


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    if patience := options.get("writes"):
        # One statement, of which the first parts hold for the last one. What is read afterwards is what the writer before left.
        said = "SELECT set_config('lock_timeout', :wait, true), set_config('idle_in_transaction_session_timeout', :idle, true)"
        idle = 0 if options.get("idles") else _IDLE_SECONDS
        values = {"wait": str(int(patience * 1000)), "idle": str(int(idle * 1000)), "lock": _WRITERS}
        connection.execute(text(f"{said}, pg_advisory_xact_lock(:lock)"), values)
