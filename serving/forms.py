"""In which forms results are written: rows, one row, columns, and Feast's lists, all in JSON.

A form makes a piece for each entity, which is kept near, and puts pieces together. What it writes for one entity never depends on another.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, TypeAlias

import msgspec

from feature_definitions.reading import EXPIRED, FOREVER, NOT_FOUND
from online_sync.codec import Scalar
from serving.request import JoinPlan, RequestError, ServicePlan

JsonValue: TypeAlias = Scalar | list[Scalar]
Keys: TypeAlias = tuple[Any, ...]
"""What a request says of one entity, in the order of the plan's `asked`."""

_encode = msgspec.json.Encoder().encode
_NO_TIME = "1970-01-01T00:00:00Z"
_SAID: Mapping[str, str] = {EXPIRED: "OUTSIDE_MAX_AGE", NOT_FOUND: "NOT_FOUND"}
_FEAST_STATUSES = {name: b'"%b"' % name.encode() for name in ("PRESENT", "NULL_VALUE", "OUTSIDE_MAX_AGE", "NOT_FOUND")}


class Said(NamedTuple):
    """What one join answers for an entity: values one per column (None: none of them known), and until when it stays so by time alone."""

    status: str
    values: Sequence[JsonValue] | None
    event_timestamp: str | None = None
    until: int = FOREVER


class Beside(NamedTuple):
    """What is said beside results: whether the store was away, and how fresh the joins are, if that was asked for."""

    stale: bool = False
    freshness: Mapping[str, Any] | None = None


PLAIN = Beside()


class Form(Protocol):
    """How results are written; `flags` says whether there is room for what is said beside them."""

    flags: bool

    def piece(self, entity: Keys, found: Sequence[Said]) -> Any:
        """One entity's piece; every join's values are there, with their defaults."""

    def whole(self, pieces: Sequence[Any], beside: Beside) -> bytes:
        """The answer."""

    def computed(self, results: Sequence[Mapping[str, Any]], beside: Beside) -> bytes:
        """The answer of a service with features that are computed on demand, from its results as plain data."""


class RowsForm:
    """A list of objects, one for each entity."""

    flags = True

    def __init__(self, plan: ServicePlan) -> None:
        """Prepare the frame of a row."""
        self._entity, self._shape = _struct(tuple(plan.asked)), _row_shape(plan)
        self._values = [_struct(join.outputs) for join in plan.joins]

    def piece(self, entity: Keys, found: Sequence[Said]) -> bytes:
        """The row as an object."""
        texts = [_encode(write(*said.values or ()))[1:-1] for write, said in zip(self._values, found, strict=True)]
        status = [said.status.encode() for said in found]
        times = [b"null" if said.event_timestamp is None else b'"%b"' % said.event_timestamp.encode() for said in found]
        return self._shape % (_encode(self._entity(*entity)), b",".join(filter(None, texts)), *status, *times)

    def whole(self, pieces: Sequence[bytes], beside: Beside) -> bytes:
        """All rows, in the order asked."""
        return b'{"results":[%b]%b}' % (b",".join(pieces), _flags(beside))

    def computed(self, results: Sequence[Mapping[str, Any]], beside: Beside) -> bytes:
        """The results are rows already."""
        return b'{"results":%b%b}' % (_encode(results), _flags(beside))


class RowForm(RowsForm):
    """The object of one entity."""

    flags = False

    def whole(self, pieces: Sequence[bytes], _: Beside) -> bytes:
        """The only row."""
        return pieces[0]

    def computed(self, results: Sequence[Mapping[str, Any]], _: Beside) -> bytes:
        """The only row."""
        return _encode(results[0])


class ColumnsForm(RowsForm):
    """An object of lists, a list for each name."""

    def whole(self, pieces: Sequence[bytes], beside: Beside) -> bytes:
        """All rows, turned."""
        return self.computed(msgspec.json.decode(b"[%b]" % b",".join(pieces)), beside)

    def computed(self, results: Sequence[Mapping[str, Any]], beside: Beside) -> bytes:
        """The results, turned."""
        first = results[0]
        turned = {part: {name: [result[part][name] for result in results] for name in first[part]} for part in first}
        return b'{"results":%b%b}' % (_encode(turned), _flags(beside))


class _FeastPiece(NamedTuple):
    """What one entity adds to each of Feast's lists, and the answer where it is asked for alone; statuses are those of the features."""

    values: tuple[bytes, ...]
    statuses: tuple[bytes, ...]
    times: tuple[bytes, ...]
    alone: list[bytes]


class FeastForm:
    """Feast's JSON: of each name a list of values, of statuses and of event timestamps."""

    flags = False

    def __init__(self, plan: ServicePlan, *, full: bool) -> None:
        """Prepare the names; `full` ones have the join before the column."""
        self._keys, self._widths = len(plan.asked), [*(len(join.outputs) for join in plan.joins), *(1 for _ in plan.on_demand)]
        names = [*plan.asked, *(name for join in plan.joins for name in names_of(join, full=full))]
        self._plan, self._names = plan, [*names, *(each.feature.name for each in plan.on_demand)]
        _refuse_twice(self._names)
        self._head = b'{"metadata":{"feature_names":%b},"results":[' % _encode(self._names)

    def piece(self, entity: Keys, found: Sequence[Said]) -> _FeastPiece:
        """The entity's own keys, and its features."""
        values = [value for said in found for value in said.values or ()]
        statuses = [_FEAST_STATUSES[feast_status(value, said.status)] for said in found for value in said.values or ()]
        times = [b'"%b"' % (said.event_timestamp or _NO_TIME).encode() for said in found]
        return _FeastPiece(tuple(_encode(value) for value in (*entity, *values)), _shared(tuple(statuses)), tuple(times), [])

    def whole(self, pieces: Sequence[_FeastPiece], _: Beside) -> bytes:
        """The lists, name by name."""
        if len(pieces) > 1:
            return self._lists(pieces)
        alone = pieces[0].alone
        if not alone:
            alone.append(self._lists(pieces))
        return alone[0]

    def _lists(self, pieces: Sequence[_FeastPiece]) -> bytes:
        values = [b",".join(each) for each in zip(*[piece.values for piece in pieces], strict=True)]
        present, no_time = _repeated(_FEAST_STATUSES["PRESENT"], len(pieces)), _repeated(b'"%b"' % _NO_TIME.encode(), len(pieces))
        statuses = [*[present] * self._keys, *self._statuses(pieces)]
        times = [no_time] * self._keys
        for join, width in zip(zip(*[piece.times for piece in pieces], strict=True), self._widths, strict=True):
            times += [b",".join(join)] * width
        lists = [b'{"values":[%b],"statuses":[%b],"event_timestamps":[%b]}' % each for each in zip(values, statuses, times, strict=True)]
        return self._head + b",".join(lists) + b"]}"

    def computed(self, results: Sequence[Mapping[str, Any]], beside: Beside) -> bytes:
        """The lists of results, with those of the features that are computed on demand behind the others."""
        return self.whole([self._computed_piece(result) for result in results], beside)

    def _computed_piece(self, result: Mapping[str, Any]) -> _FeastPiece:
        found = [
            Said(result["status"][join.name], [result["values"][out] for out in join.outputs], result["event_timestamp"][join.name])
            for join in self._plan.joins
        ]
        found += [Said("", [result["values"][each.feature.name]]) for each in self._plan.on_demand]
        return self.piece(tuple(result["entity"][key] for key in self._plan.asked), found)

    def _statuses(self, pieces: Sequence[_FeastPiece]) -> list[bytes]:
        """The statuses of the features; often they are the same everywhere."""
        first = pieces[0].statuses
        if all(piece.statuses is first for piece in pieces):
            return [_repeated(status, len(pieces)) for status in first]
        return [b",".join(each) for each in zip(*[piece.statuses for piece in pieces], strict=True)]


def names_of(join: JoinPlan, *, full: bool) -> Sequence[str]:
    """What Feast calls the columns of a join."""
    return join.outputs if full else join.columns


def _row_shape(plan: ServicePlan) -> bytes:
    """The frame of a row: the entity, the values, and of each join the status and the event timestamp are put in."""
    names = [_encode(join.name).replace(b"%", b"%%") for join in plan.joins]
    status, times = (b",".join(name + b":" + each for name in names) for each in (b'"%b"', b"%b"))
    return b'{"entity":%b,"values":{%b},"status":{' + status + b'},"event_timestamp":{' + times + b"}}"


@lru_cache(maxsize=4096)
def _struct(names: tuple[str, ...]) -> Callable[..., msgspec.Struct]:
    """A type that is written as an object with these names."""
    fields = [f"field_{i}" for i in range(len(names))]
    return msgspec.defstruct("Written", fields, rename=dict(zip(fields, names, strict=True)), gc=False)


def _flags(beside: Beside) -> bytes:
    said = b',"stale":true' if beside.stale else b""
    return said if beside.freshness is None else said + b',"freshness":' + _encode(beside.freshness)


def feast_status(value: object, said: str) -> str:
    """The status that Feast has for a value, of what is said of its join."""
    return "PRESENT" if value is not None else _SAID.get(said, "NULL_VALUE")


@lru_cache(maxsize=4096)
def _shared(statuses: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """One tuple for all that are equal."""
    return statuses


@lru_cache(maxsize=4096)
def _repeated(text: bytes, times: int) -> bytes:
    return b",".join([text] * times)


def _refuse_twice(names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RequestError(f"two features are called {', '.join(twice)}; ask with full_feature_names", field="full_feature_names")
