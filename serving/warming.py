"""Remembers which entities are near, so that the next process has them near from its start: a bounded file of keys, and of nothing else."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from serving.forms import Keys
from serving.request import FormName

MOST = 100_000
"""Entities of all services that are remembered, at most."""
_MOST_BYTES = 8 * 1024 * 1024


class Hot(NamedTuple):
    """Entities of a service that are near in a form."""

    service: str
    form: FormName
    entities: Sequence[Keys]


class _File(msgspec.Struct, forbid_unknown_fields=True):
    version: Literal[1]
    hot: list[tuple[str, FormName, list[tuple[Any, ...]]]]


def write(path: Path, hot: Sequence[Hot]) -> None:
    """Write the keys down, such that the file is there as a whole; where it cannot be written nothing is remembered."""
    data = msgspec.json.encode(_File(1, list(_bounded(hot))))
    if len(data) > _MOST_BYTES or not any(each.entities for each in hot):
        return
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(data)
        beside.chmod(0o600)
        beside.replace(path)


def read(path: Path) -> list[Hot]:
    """What was written down; nothing if there is no such file, or it is damaged."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        found = msgspec.json.decode(data, type=_File) if len(data) <= _MOST_BYTES else _File(1, [])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []
    return [Hot(*each) for each in _bounded([Hot(*each) for each in found.hot])]


def _bounded(hot: Sequence[Hot]) -> Iterator[tuple[str, FormName, list[Keys]]]:
    left = MOST
    for each in hot:
        entities = list(islice(each.entities, left))
        left -= len(entities)
        yield each.service, each.form, entities
