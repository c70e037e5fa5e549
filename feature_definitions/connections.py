"""Connections to databases: URLs by name, which the environment alone holds; what is shown of one never tells its secrets."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal, cast
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from feature_definitions.errors import UserError
from feature_definitions.language.databases import FILE, PREFIX

AIRFLOW = "airflow://"
"""How a variable begins that names one of Airflow's connections, which only a task of Airflow's looks up."""
VARIABLE = re.compile(rf"{PREFIX}[A-Z][A-Z0-9_]{{0,62}}")

Kind = Literal["postgresql", "redshift", "snowflake", "bigquery"]
_KINDS = {"postgres": "postgresql", "postgresql": "postgresql", "redshift": "redshift", "snowflake": "snowflake", "bigquery": "bigquery"}
_LIKE = {
    "postgresql": "postgresql://user:password@host:5432/database",
    "redshift": "redshift://user:password@host:5439/database?tempdir=s3a://bucket/folder&aws_iam_role=...",
    "snowflake": "snowflake://user:password@account/database/schema?warehouse=...",
    "bigquery": "bigquery://project/dataset?credentialsFile=/path/key.json",
}
_ENCODE = "percent-encode what user and password hold of : / ? # @ %, like %40 for @"
_SECRET = re.compile(r"(?i)pass|secret|token|key|credential")
_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


class ConnectionRefused(UserError):
    """A connection that is not set, cannot be used, or does not answer; the message holds none of its secrets."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A database and who reads it. `host` is Snowflake's account and BigQuery's project; `repr` shows neither user nor secrets.

    `snapshot` names the state of the database that all who read by it see, while somebody holds that.
    """

    name: str
    kind: Kind
    host: str
    port: int | None = None
    database: str = ""
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    snapshot: str = ""

    @property
    def place(self) -> str:
        """How messages name the database: never with user or secrets."""
        return f"{self.host}{f':{self.port}' if self.port else ''}/{self.database}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The parameters that are secrets, by their names."""
        return tuple(name for name in self.parameters if _SECRET.search(name))

    def hidden(self, text: str) -> str:
        """A text, as a driver wrote it, without the connection's secrets."""
        secrets = {self.password, *(self.parameters[name] for name in self.secrets)} - {""}
        for secret in sorted({*secrets, *map(quote, secrets)}, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


def variable(name: str) -> str:
    """The variable that holds a connection's URL."""
    return PREFIX + name.upper()


def read(name: str, variables: Mapping[str, str]) -> Connection:
    """The connection of a name, of what its variable says or the file that the variable `..._FILE` names."""
    at = variable(name)
    url, file = variables.get(at, ""), variables.get(at + FILE, "")
    if url and file:
        raise ConnectionRefused(f"{at} and {at}{FILE} are both set; remove one of them")
    if not url and not file:
        raise ConnectionRefused(
            f"connection {name!r} is not set; set {at} to its URL, like {_LIKE['postgresql']}, or {at}{FILE} to a file that holds it"
        )
    if url.strip().startswith(AIRFLOW):
        raise ConnectionRefused(
            f"{at} names Airflow's connection {airflow_id(url)!r}, which only a task of Airflow's looks up; "
            f"write the URL itself to read connection {name!r} here, like {_LIKE['postgresql']}"
        )
    return _parsed(name, url or _content(at + FILE, Path(file)), where=at if url else at + FILE)


def airflow_id(said: str) -> str | None:
    """The id of Airflow's connection that a variable names; None if it is no `airflow://CONN_ID`."""
    return said.strip().removeprefix(AIRFLOW).strip("/") if said.strip().startswith(AIRFLOW) else None


def passwords(said: str) -> frozenset[str]:
    """The passwords in a URL, as they are written and as they are meant: its own, and one for the Sentinels of an online store."""
    text = said.strip().removeprefix("jdbc:")
    found = [*re.findall(r"^[^/]*://[^/@:]*:([^/@]+)@", text), *re.findall(r"[?&]sentinel_password=([^&#]+)", text)]
    return frozenset(each for one in found for each in (one, unquote(one)))


def _content(variable_of_file: str, file: Path) -> str:
    try:
        return file.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise ConnectionRefused(f"the file that {variable_of_file} names, {file}, cannot be read: {reason}") from None


def _parsed(name: str, url: str, *, where: str) -> Connection:
    text = url.strip().removeprefix("jdbc:")
    kind = _KINDS.get(text.partition("://")[0])
    if kind is None or "://" not in text:
        raise ConnectionRefused(f"{where} names no database that can be read; write it like {', '.join(_LIKE.values())}")
    wrong = ConnectionRefused(f"{where} cannot be read as a URL of {kind}; write it like {_LIKE[kind]}, and {_ENCODE}")
    try:
        parts, port = urlsplit(text), urlsplit(text).port
        parameters = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise wrong from None
    if not parts.hostname or _is_cut_short(parts):
        raise wrong
    user, password = (unquote(parts.username or parameters.pop("user", "")), unquote(parts.password or parameters.pop("password", "")))
    database = unquote(parts.path.strip("/"))
    if not database and kind != "bigquery":
        raise ConnectionRefused(f"{where} names no database after the host; write it like {_LIKE[kind]}")
    return Connection(name, cast(Kind, kind), parts.hostname, port, database, user, password, MappingProxyType(parameters))


def _is_cut_short(parts: SplitResult) -> bool:
    """Whether a sign of the user or the password ended them early, as it means something in a URL."""
    secrets = f"{parts.username or ''}{parts.password or ''}"
    return bool(parts.fragment) or "@" in f"{parts.path}{parts.username or ''}{parts.password or ''}" or bool(_LONE_PERCENT.search(secrets))
