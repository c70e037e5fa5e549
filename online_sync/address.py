"""Where the online store is, as `HEADWATER_REDIS_URL` says it: one server, any server of a cluster, or a service that Sentinels watch.

    redis://user:password@host:6379/0
    redis+sentinel://user:password@host:26379,other:26379/service/0     user and password are the store's own
    unix:///run/redis.sock?db=0

`rediss://` and `rediss+sentinel://` are the same by TLS. After a `?` come the options of TLS, named as redis-py names them, and
`sentinel_username` and `sentinel_password`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from feature_definitions.errors import UserError

_LIKE = "redis://user:password@host:6379/0"
_ENCODE = "percent-encode what is no letter or digit in the password: %40 for @, %2F for /, %23 for #, %3A for :, %3F for ?"
_FORM = re.compile(r"(rediss?|rediss?\+sentinel|unix)://(?:([^/?#]*)@)?([^/?#]*)(/[^?#]*)?(?:\?([^#]*))?")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::(\d{1,5}))?")
_PORT, _SENTINELS_PORT = 6379, 26379

_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS = (*_FILES, "ssl_check_hostname", "ssl_cert_reqs")
_OPTIONS = ("db", "client_name", "sentinel_username", "sentinel_password", *_TLS)
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class StoreAddressError(UserError):
    """A URL that is not that of a Redis or Valkey."""


@dataclass(frozen=True, slots=True)
class Login:
    """A user and a password, if any."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Address:
    """The servers to ask first, or a socket's path; the service, if they are Sentinels; and what is told to whom.

    `tls` has the options of TLS; None: there is none.
    """

    hosts: tuple[tuple[str, int], ...]
    path: str | None = None
    service: str | None = None
    db: int = 0
    login: Login = Login()
    sentinels_login: Login = Login()
    tls: Mapping[str, str | bool] | None = None
    client_name: str | None = None

    def __str__(self) -> str:
        """How messages name the store; no password is in it."""
        if self.path is not None:
            return self.path
        hosts = ", ".join(f"{host}:{port}" for host, port in self.hosts)
        return hosts if self.service is None else f"{self.service} (Sentinels: {hosts})"


def read(url: str) -> Address:
    """The address that a URL says; what is wrong with it is said without its password."""
    found = _FORM.fullmatch(url)
    if found is None:
        raise _unreadable()
    scheme, login, hosts, path, query = (each or "" for each in found.groups())
    if "@" in path + query and scheme != "unix":  # a sign in the password cut the URL short: another server would be asked
        raise _unreadable()
    options = _options(query)
    tls = _tls(scheme, options)
    sentinels = Login(options.get("sentinel_username"), options.get("sentinel_password"))
    name = options.get("client_name")
    if scheme == "unix":
        return Address((), unquote(path), None, _db(options.get("db", "")), _login(login), sentinels, tls, name)
    if scheme.endswith("+sentinel"):
        service, _, db = path[1:].partition("/")
        if not service or not hosts:
            raise StoreAddressError(
                "the online store's URL names no service of its Sentinels; write it like redis+sentinel://host:26379,other:26379/service/0"
            )
        each = _hosts(hosts, _SENTINELS_PORT)
        return Address(each, None, unquote(service), _db(options.get("db", db)), _login(login), sentinels, tls, name)
    if "," in hosts:
        raise StoreAddressError(
            "the online store's URL names several servers: of a cluster name any one; Sentinels are written like "
            "redis+sentinel://host:26379,other:26379/service/0"
        )
    return Address(_hosts(hosts or "localhost", _PORT), None, None, _db(options.get("db", path[1:])), _login(login), sentinels, tls, name)


def _hosts(said: str, port: int) -> tuple[tuple[str, int], ...]:
    hosts = []
    for each in said.split(","):
        found = _HOST.fullmatch(each)
        if found is None or int(found[2] or port) > 65535:
            raise _unreadable()
        hosts.append((unquote(found[1].strip("[]")), int(found[2] or port)))
    return tuple(hosts)


def _login(said: str) -> Login:
    user, _, password = said.partition(":")
    return Login(unquote(user) or None, unquote(password) or None)


def _db(said: str) -> int:
    text = said.strip("/") or "0"
    if not text.isdecimal():
        raise StoreAddressError(f"the online store's URL names the database {text!r}; it is a number, like /0 in {_LIKE}")
    return int(text)


def _options(query: str) -> dict[str, str]:
    found = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(found.keys() - set(_OPTIONS))
    if unknown:
        raise StoreAddressError(
            f"the online store's URL has the option {unknown[0]!r}, which is not known; known are {', '.join(_OPTIONS)}"
        )
    return found


def _tls(scheme: str, options: Mapping[str, str]) -> dict[str, str | bool] | None:
    """The options of TLS; files that they name are there."""
    given = {name: options[name] for name in _TLS if name in options}
    if not scheme.startswith("rediss"):
        if given:
            raise StoreAddressError(f"the online store's URL has {', '.join(given)}, but no TLS: begin it with rediss instead of redis")
        return None
    for name in _FILES:
        if name in given and not Path(given[name]).expanduser().is_file():
            raise StoreAddressError(f"the online store's URL names the file {given[name]} by {name}, and there is none")
    made: dict[str, str | bool] = {name: str(Path(given[name]).expanduser()) for name in _FILES if name in given}
    if given.get("ssl_cert_reqs", "required") not in ("required", "none"):
        raise StoreAddressError("ssl_cert_reqs in the online store's URL is required or none")
    checked = _TRUTHS.get(given.get("ssl_check_hostname", "true").lower())
    if checked is None:
        raise StoreAddressError("ssl_check_hostname in the online store's URL is true or false")
    required = given.get("ssl_cert_reqs") != "none"
    return made | {"ssl_cert_reqs": "required" if required else "none", "ssl_check_hostname": checked and required}


def _unreadable() -> StoreAddressError:
    return StoreAddressError(f"the online store's URL cannot be read; write one like {_LIKE}, and {_ENCODE}")
