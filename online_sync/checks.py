"""What the next sync looks at before it believes the store: what the servers said of themselves, and a sample of rows.

The store is not trusted to keep what it was given: servers evict, restart, lose their disk, are emptied by hand. If anything speaks for
that, the next sync compares every row.
"""

import hashlib
import heapq
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from online_sync.codec import EPOCH_END, EPOCH_START
from online_sync.servers import Saying

SAMPLE = 1000
"""How many rows of a group are looked at again, at most."""


class Sampled(NamedTuple):
    """A row of the sample: its place in the order by which rows are chosen, its key, a hash of its content."""

    rank: int
    key: str
    content: str


@dataclass(frozen=True, slots=True)
class Looked:
    """What the sync of an epoch saw: the servers by address, and the sample of rows."""

    epoch: int
    servers: Mapping[str, Saying]
    sample: tuple[Sampled, ...]


def recounted(looked: Looked | None, servers: Mapping[str, Saying]) -> Looked | None:
    """What a sync saw, with as many keys as the servers have now; None if nothing is known, or these are other servers."""
    if looked is None or looked.servers.keys() != servers.keys():
        return None
    return replace(looked, servers={address: each._replace(keys=servers[address].keys) for address, each in looked.servers.items()})


def without_gone(looked: Looked | None, before: Mapping[str, Saying], after: Mapping[str, Saying]) -> Looked | None:
    """What a sync saw, less the keys that went between two sayings of the servers; None if nothing is known, or these are other servers."""
    if looked is None or not looked.servers.keys() == before.keys() == after.keys():
        return None
    gone = {address: before[address].keys - now.keys for address, now in after.items()}
    return replace(looked, servers={address: each._replace(keys=each.keys - gone[address]) for address, each in looked.servers.items()})


def sample(kept: Sequence[Sampled], rows: Iterable[tuple[str, bytes]], *, epoch: int) -> list[Sampled]:
    """The sample of what was sampled before and more rows: those that come first in an order that each epoch has for itself."""
    last = kept[-1].rank if len(kept) == SAMPLE else None
    ranked = ((zlib.crc32(key.encode(), epoch), key, row) for key, row in rows)
    more = [Sampled(rank, key, content(row)) for rank, key, row in ranked if last is None or rank <= last]
    return heapq.nsmallest(SAMPLE, [*kept, *more]) if more else list(kept)


def content(row: bytes) -> str:
    """A hash of what a row says, whichever epoch wrote it."""
    return hashlib.blake2b(row[:EPOCH_START] + row[EPOCH_END:], digest_size=8).hexdigest()


def doubt(looked: Looked | None, *, epoch: int, servers: Mapping[str, Saying], rows: Sequence[bytes | None]) -> str | None:
    """Why every row should be compared, by what lies under the sample's keys and what the servers say; None if nothing speaks for it."""
    if looked is None or looked.epoch != epoch:
        return "nothing is known of what the last sync saw"
    if looked.servers.keys() != servers.keys():
        return "the store has other servers than before"
    for address, now in servers.items():
        if (said := _changed(looked.servers[address], now)) is not None:
            return f"{address} {said}"
    wrong = sum(row is None or content(row) != each.content for row, each in zip(rows, looked.sample, strict=True))
    return f"{wrong:,} of {len(rows):,} rows that were looked at are gone or are others" if wrong else None


def encode(looked: Looked) -> bytes:
    """What was seen as JSON."""
    return json.dumps([looked.epoch, looked.servers, looked.sample]).encode()


def decode(data: bytes | None) -> Looked | None:
    """What was seen, from its JSON; None of what cannot be read."""
    if data is None:
        return None
    try:
        epoch, servers, rows = json.loads(data)
        return Looked(epoch, {address: Saying(*each) for address, each in servers.items()}, tuple(Sampled(*each) for each in rows))
    except (ValueError, TypeError, AttributeError):
        return None


def _changed(before: Saying, now: Saying) -> str | None:
    if now.run_id != before.run_id:
        return "was restarted, or a replica took its place"
    if now.evicted > before.evicted:
        return f"evicted {now.evicted - before.evicted:,} keys"
    if now.keys < before.keys:
        return f"has {before.keys - now.keys:,} keys less than before"
    return None
