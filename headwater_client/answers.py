"""Answers with types, and what is decided over them; nothing here reads or writes."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import msgspec

from headwater_client.mishaps import ClientError, ContractBroken, FeaturesMissing, ServerRefused

_KNOWN = ("PRESENT", "EMPTY")


class FeatureVector(msgspec.Struct, frozen=True):
    """One entity's features; status and event timestamp are those of each join, and of each feature computed on demand."""

    entity: dict[str, Any]
    values: dict[str, Any]
    status: dict[str, str]
    event_timestamp: dict[str, str | None]

    @property
    def is_whole(self) -> bool:
        """Whether every join has found something."""
        return all(status in _KNOWN for status in self.status.values())


class Features(msgspec.Struct, frozen=True):
    """Features of entities, in the order asked; `stale` says that the store was away, `freshness` is there if it was asked for."""

    results: tuple[FeatureVector, ...]
    stale: bool = False
    freshness: dict[str, Any] | None = None

    @property
    def rows(self) -> tuple[FeatureVector, ...]:
        """One for each entity."""
        return self.results

    def columns(self) -> dict[str, list[Any]]:
        """The values, a list for each feature."""
        return {name: [row.values[name] for row in self.results] for name in self.results[0].values} if self.results else {}


class ServiceView(msgspec.Struct, frozen=True):
    """A feature service: what it asks for, and what it answers, with types."""

    name: str
    version: int
    asks: dict[str, str]
    features: dict[str, str]
    groups: list[str]


class FeatureView(msgspec.Struct, frozen=True):
    """A feature group, as Feast's users know it: its keys, its features, and who answers for it."""

    name: str
    entity: str
    keys: dict[str, str]
    features: list[str]
    every: str | None
    ttl: str | None
    owner: str
    tags: list[str]


class _Services(msgspec.Struct):
    services: list[ServiceView]


class _Groups(msgspec.Struct):
    groups: list[FeatureView]


class _Said(msgspec.Struct):
    message: str
    field: str | None = None


class _Error(msgspec.Struct):
    error: _Said


def features(data: bytes) -> Features:
    """What `POST /v1/features` answers."""
    return msgspec.json.decode(data, type=Features)


def check_arrow() -> None:
    """Raise where there is no pyarrow, before anything is asked."""
    if find_spec("pyarrow") is None:
        raise ClientError("a table needs pyarrow, which is not installed: pip install pyarrow; or ask by get_features")


def table(data: bytes) -> Any:
    """What `POST /v1/features` answers in Arrow, as a pyarrow.Table."""
    import pyarrow as pa  # only here: it takes some 50 MB

    try:
        return pa.ipc.open_stream(data).read_all()
    except pa.ArrowInvalid as error:
        raise ClientError(f"the server's answer is no Arrow stream ({error}); is it a Headwater server of this version?") from None


def services(data: bytes) -> list[ServiceView]:
    """What `GET /v1/services` answers."""
    return msgspec.json.decode(data, type=_Services).services


def views(data: bytes) -> list[FeatureView]:
    """What `GET /v1/groups` answers."""
    return msgspec.json.decode(data, type=_Groups).groups


def refused(status: int, data: bytes) -> ServerRefused:
    """What an error says."""
    try:
        said = msgspec.json.decode(data, type=_Error).error
    except msgspec.MsgspecError:
        return ServerRefused(f"the server answers {status}", status=status, field=None)
    return ServerRefused(said.message, status=status, field=said.field)


def matrix(found: Features, names: Sequence[str]) -> list[list[Any]]:
    """The values of these features, a list for each entity; none may be unknown where its join found nothing."""
    for at, row in enumerate(found.results):
        lacking = [name for name in names if name not in row.values]
        if lacking:
            raise ContractBroken(f"the service answers no {', '.join(lacking)}; it answers {', '.join(row.values)}")
        unknown = [name for name in names if row.values[name] is None]
        if unknown and not row.is_whole:
            said = ", ".join(f"{part} {status}" for part, status in row.status.items() if status not in _KNOWN)
            raise FeaturesMissing(f"entity {at} ({row.entity}) has no {', '.join(unknown)} ({said}); give defaults, or missing='null'")
    return [[row.values[name] for name in names] for row in found.results]


def check(service: str, known: Sequence[ServiceView], *, features: Mapping[str, str], asks: Mapping[str, str] | None) -> None:
    """Raise unless a service answers these features, with these types, and asks for just these keys."""
    view = next((each for each in known if each.name == service), None)
    if view is None:
        raise ContractBroken(f"there is no service {service!r}; there are {', '.join(each.name for each in known) or 'none'}")
    for name, kind in features.items():
        if view.features.get(name) != kind:
            raise ContractBroken(f"{service} answers {name} as {view.features.get(name, 'nothing')}, not as {kind}")
    if asks is not None and dict(asks) != view.asks:
        raise ContractBroken(f"{service} asks for {view.asks}, not for {dict(asks)}")
