"""API keys: who may ask what, and how often; a file holds their hashes, and is read again when it changes."""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

from feature_definitions.errors import UserError
from feature_definitions.intervals import iso
from serving.refusals import NoKey, NotAllowed, TooOften

Verb = Literal["features", "describe", "metrics"]

_LOOK_EVERY = 1.0
"""Seconds between two looks at the file's time of change."""


class KeysError(UserError):
    """A file of keys that cannot be used."""


class KeysDemanded(UserError):
    """An address that others reach, without keys."""

    def __init__(self, host: str) -> None:
        """Say where, and what to do."""
        super().__init__(f"{host} is reached by others, so that it needs API keys: write a file of them and name it by --keys")


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key as the file has it: the SHA-256 of its text in hexadecimal digits, and what it allows; no services means all of them."""

    name: str
    sha256: str
    services: tuple[str, ...] = ()
    verbs: tuple[Verb, ...] = ("features", "describe")
    expires: datetime | None = None
    per_second: float | None = None

    def allows(self, service: str) -> bool:
        """Whether it may ask a service."""
        return not self.services or service in self.services

    def allow(self, service: str) -> None:
        """Refuse a service that the key does not allow."""
        if not self.allows(service):
            raise NotAllowed(f"the key {self.name} does not allow the service {service}", field="service")


class _File(msgspec.Struct, forbid_unknown_fields=True):
    keys: tuple[Key, ...]


class Keys:
    """The keys of a file, and how many requests each of them still has; a change of the file counts from a second later on."""

    def __init__(self, path: Path) -> None:
        """Read the file; one that is wrong is refused now, and later keeps the keys that it had."""
        self._path = path
        self._changed = self._time()
        self._keys = _read(path)
        self._looked = float("-inf")
        self._buckets: dict[str, tuple[float, float]] = {}

    def allowed(self, authorization: bytes, verb: Verb, *, now: datetime, at: float) -> Key:
        """The key that a request brings as `Bearer`, if it allows the verb; `at` are seconds of a clock that never goes back."""
        if at - self._looked >= _LOOK_EVERY:
            self._looked = at
            self._look()
        scheme, _, text = authorization.partition(b" ")
        digest = hashlib.sha256(text.strip()).hexdigest()
        key = self._keys.get(digest)
        if scheme.lower() != b"bearer" or key is None or not hmac.compare_digest(key.sha256, digest):
            raise NoKey("say who you are: Authorization: Bearer <key>", field="authorization")
        if key.expires is not None and now >= key.expires:
            raise NoKey(f"the key {key.name} held until {iso(key.expires)}", field="authorization")
        if verb not in key.verbs:
            raise NotAllowed(f"the key {key.name} does not allow {verb}", field="authorization")
        if key.per_second is not None:
            self._spend(key, key.per_second, at)
        return key

    def _spend(self, key: Key, per_second: float, at: float) -> None:
        """Take one request from what a key has: as many as of a second, and at least one."""
        most = max(1.0, per_second)
        left, since = self._buckets.get(key.sha256, (most, at))
        left = min(most, left + (at - since) * per_second)
        self._buckets[key.sha256] = (left - 1 if left >= 1 else left, at)
        if left < 1:
            raise TooOften(f"the key {key.name} allows {per_second:g} requests a second", field="authorization")

    def _look(self) -> None:
        changed = self._time()
        if changed != self._changed:
            self._changed = changed
            try:
                self._keys = _read(self._path)
            except KeysError:
                return

    def _time(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size


def _read(path: Path) -> Mapping[str, Key]:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_File)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        example = '{"keys": [{"name": "model", "sha256": "..."}]}'
        raise KeysError(f"the keys in {path} cannot be read ({error}); write them like {example}") from None
    for key in found.keys:
        if len(key.sha256) != 64 or set(key.sha256) - set("0123456789abcdef"):
            raise KeysError(f"the key {key.name} in {path} has no SHA-256 of 64 small hexadecimal digits")
        if key.expires is not None and key.expires.tzinfo is None:
            raise KeysError(f"the key {key.name} in {path} expires at a time without a zone; write one like 2027-01-01T00:00:00Z")
    return {key.sha256: key for key in found.keys}
