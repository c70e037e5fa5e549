"""How Spark is told to read a database: the format and the options by its kind. Nothing here connects."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import quote, urlencode

from feature_definitions.connections import Connection, Kind
from feature_definitions.language import Jdbc

ADDED_JARS: Mapping[Kind, str] = MappingProxyType(
    {
        "redshift": "io.github.spark-redshift-community:spark-redshift_2.13 and com.amazon.redshift:redshift-jdbc42",
        "snowflake": "net.snowflake:spark-snowflake_2.13 and net.snowflake:snowflake-jdbc",
        "bigquery": "com.google.cloud.spark:spark-bigquery-with-dependencies_2.13",
    }
)
"""The connectors that do not come with Headwater, by Maven's coordinates."""

_LIBPQ = {"connect_timeout": "connectTimeout", "application_name": "ApplicationName", "channel_binding": "channelBinding"}
"""What PostgreSQL's own clients call otherwise than its Java driver does."""


class Reader(NamedTuple):
    """What Spark's reader is given. The options hold secrets, so that they are shown nowhere."""

    format: str
    options: Mapping[str, str]

    def __repr__(self) -> str:
        """The format alone."""
        return f"Reader({self.format!r})"


def reader(connection: Connection, at: Jdbc) -> Reader:
    """What reads a table or a query by a connection; of PostgreSQL what it is has yet to be said by `dbtable`."""
    match connection.kind:
        case "postgresql":
            return Reader("jdbc", _postgresql(connection, at))
        case "redshift":
            return Reader("io.github.spark_redshift_community.spark.redshift", _redshift(connection, at))
        case "snowflake":
            return Reader("net.snowflake.spark.snowflake", _snowflake(connection, at))
        case "bigquery":
            return Reader("bigquery", _bigquery(connection, at))


def _postgresql(connection: Connection, at: Jdbc) -> dict[str, str]:
    """URL and secrets apart, so that whoever repeats the URL tells none. Transactions only read, and speak of times in UTC.

    Spark writes the names of options in small letters, which the driver does not know: but for secrets they stand in the URL.
    """
    said = {_LIBPQ.get(name, name): value for name, value in connection.parameters.items() if name not in connection.secrets}
    in_url = {"ApplicationName": "headwater", "tcpKeepAlive": "true"} | said | {"readOnly": "true", "readOnlyMode": "always"}
    place = f"{_bracketed(connection.host)}:{connection.port or 5432}/{quote(connection.database)}"
    return {
        **{name: value for name, value in connection.parameters.items() if name in connection.secrets},
        "driver": "org.postgresql.Driver",
        "url": f"jdbc:postgresql://{place}?{urlencode(in_url)}",
        "user": connection.user,
        "password": connection.password,
        "fetchsize": str(at.fetch_size),
        "preferTimestampNTZ": "true",
        "sessionInitStatement": "; ".join([*_state(connection), "SET TIME ZONE 'UTC'"]),
    }


def _state(connection: Connection) -> list[str]:
    """What has a transaction see the state of the database that somebody holds."""
    held = f"SET TRANSACTION SNAPSHOT '{connection.snapshot}'"
    return ["SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", held] if connection.snapshot else []


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _what(at: Jdbc) -> dict[str, str]:
    return {"query": at.query} if at.query is not None else {"dbtable": str(at.table)}


def _redshift(connection: Connection, at: Jdbc) -> dict[str, str]:
    return {
        **connection.parameters,
        "url": f"jdbc:redshift://{connection.host}:{connection.port or 5439}/{connection.database}",
        "user": connection.user,
        "password": connection.password,
        **_what(at),
    }


def _snowflake(connection: Connection, at: Jdbc) -> dict[str, str]:
    database, _, schema = connection.database.partition("/")
    account = connection.host if "." in connection.host else f"{connection.host}.snowflakecomputing.com"
    said = {name if name.startswith(("sf", "pem")) else f"sf{name.capitalize()}": value for name, value in connection.parameters.items()}
    found = {"sfURL": account, "sfUser": connection.user, "sfPassword": connection.password, "sfDatabase": database, "sfSchema": schema}
    return {**said, **{name: value for name, value in found.items() if value}, "sfTimezone": "UTC", **_what(at)}


def _bigquery(connection: Connection, at: Jdbc) -> dict[str, str]:
    """A query needs a dataset for its result, which is the connection's."""
    if at.query is not None:
        more = {"viewsEnabled": "true", "materializationProject": connection.host, "materializationDataset": connection.database}
    else:
        around = (connection.host, *([connection.database] if len(at.parts) == 1 and connection.database else []))
        more = {"table": ".".join(at.parts if len(at.parts) == 3 else (*around, *at.parts))}
    return {"parentProject": connection.host, **connection.parameters, **more, **({"query": at.query} if at.query else {})}
