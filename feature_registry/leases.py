"""Leases: rows that say which process works on something, so that no other does at the same time, and none that lost it goes on.

A holder renews its lease while it works. Whoever finds the process gone takes the lease over at once; whoever finds it silent for
`SILENCE`, on this host or another, takes it over too. All times of a renewal are told by the clock of the registry's database, since
hosts' clocks differ: PostgreSQL's server has one, and all who share a SQLite file run on one machine. If that clock jumps, a lease is taken
from somebody who works; that costs a run, and no more, because of the token: each taking has its own, greater than those before, and every
write to the registry and every commit to the lake by who has an older one is refused (`LeaseLost`).
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import ColumnElement, Connection, insert, select, update

from feature_definitions.intervals import MICROSECOND, instant, iso, micros
from feature_definitions.record_rows import Row
from feature_definitions.records import LeaseHolder
from feature_registry import schema
from feature_registry.database import RegistryError, clock
from lake import processes

SILENCE = timedelta(seconds=60)
"""A lease that was not renewed for so long is taken over, whether its process lives or not."""
BEATS = 12
"""How often a lease is renewed within that time."""

_NOBODY = {"host": "", "boot": "", "pid": 0, "process_started": 0}

Standing = Literal["free", "gone", "silent", "working"]


Renewal = tuple[int, int]
"""By its token and its time, in microseconds of the database's clock."""


class LeaseHeld(RegistryError):
    """Another process, or another thread of this one, works on the same thing. `silent` is its last renewal, if that is long ago."""

    def __init__(self, message: str, *, silent: Renewal | None = None) -> None:
        """Keep the renewal beside the message."""
        super().__init__(message)
        self.silent = silent


class LeaseLost(RegistryError):
    """Another process took over what this one works on; what this one did not commit before is dropped."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is worked on alone: its name, and the Delta tables that nobody writes to without its lease, asked for once it is held."""

    name: str
    tables: Callable[[], Iterable[str]] = tuple


@dataclass(frozen=True, slots=True)
class Lease:
    """One taking of a lease: its token, and whether it was taken from a process that may still live (`overtook`)."""

    name: str
    token: int
    overtook: bool
    check: Callable[[], None]
    """Raises LeaseLost if somebody else has taken the lease since."""


def take(connection: Connection, name: str, *, now: datetime, silence: timedelta, watched: Renewal | None = None) -> Row:
    """Take the lease in a writing transaction, also from a process that is gone or silent; raises LeaseHeld while another one works.

    A silent process loses it only to who `watched` that its last renewal stayed the last one for some beats. Where nobody could renew
    anything for a while (the machine slept, the database was locked), whoever still lives renews first.

    The row is `unfenced` from the first time that a silent process lost it until its tables got a fence, whoever has it meanwhile.
    """
    found = _found(connection, name)
    standing = "free" if found is None else _standing(found, clock(connection), silence)
    if found is not None and standing == "working":
        raise LeaseHeld(_held(found))
    if found is not None and standing == "silent" and watched != (renewal := (found["token"], found["renewed_at"])):
        raise LeaseHeld(_held(found), silent=renewal)
    before = found or {"token": 0, "unfenced": False}
    row = {
        "name": name,
        **_identity(),
        "taken_at": micros(now),
        "renewed_at": clock(connection),
        "token": before["token"] + 1,
        "unfenced": before["unfenced"] or standing == "silent",
    }
    connection.execute(insert(schema.leases) if found is None else update(schema.leases).where(schema.leases.c.name == name), row)
    return row


def check(connection: Connection, name: str, token: int) -> None:
    """Refuse with LeaseLost if the lease was taken again since it was taken with this token."""
    found = _found(connection, name)
    if found is None or found["token"] != token:
        who = f": process {found['pid']}{_where(found)} has it now" if found is not None and found["pid"] else ""
        raise LeaseLost(
            f"{name} was taken over by another process, since this one was silent for too long{who}; "
            "what it had not committed is dropped: run the same command again"
        )


def renew(connection: Connection, row: Row) -> None:
    """Say that the holder is still at work; nothing if the lease was taken over."""
    connection.execute(update(schema.leases).where(*_mine(row)).values(renewed_at=clock(connection)))


def fenced(connection: Connection, row: Row) -> None:
    """Note that the tables have their fence."""
    connection.execute(update(schema.leases).where(*_mine(row)).values(unfenced=False))


def give_back(connection: Connection, row: Row) -> None:
    """Give a lease back, unless another process has taken it over."""
    connection.execute(update(schema.leases).where(*_mine(row)).values(_NOBODY))


def end_all(connection: Connection, *, silence: timedelta) -> None:
    """Take every lease from who is gone or silent; refuse with LeaseHeld while any process works on something."""
    now = clock(connection)
    for found in _all(connection):
        match _standing(found, now, silence):
            case "working":
                raise LeaseHeld(_held(found))
            case "silent":
                taken = {"token": found["token"] + 1, "unfenced": True}
                connection.execute(update(schema.leases).where(*_mine(found)).values(_NOBODY | taken))


def holders(connection: Connection, *, silence: timedelta) -> tuple[LeaseHolder, ...]:
    """Who holds which lease, by its name."""
    now = clock(connection)
    return tuple(
        LeaseHolder(
            name=found["name"],
            host=found["host"],
            pid=found["pid"],
            since=instant(found["taken_at"]),
            renewed_at=instant(found["renewed_at"]),
            token=found["token"],
            may_be_taken_over=_standing(found, now, silence) != "working",
        )
        for found in _all(connection)
        if found["pid"]
    )


def beating(beat: Callable[[], None], *, every: timedelta) -> AbstractContextManager[None]:
    """Call `beat` again and again while a block runs; when the registry fails it the next one comes all the same."""
    return processes.beating(beat, every=every, name="heartbeat", forgiven=RegistryError)


def _found(connection: Connection, name: str) -> Row | None:
    found = connection.execute(select(schema.leases).where(schema.leases.c.name == name)).first()
    return None if found is None else found._asdict()


def _all(connection: Connection) -> list[Row]:
    return [found._asdict() for found in connection.execute(select(schema.leases).order_by(schema.leases.c.name))]


def _mine(row: Row) -> tuple[ColumnElement[bool], ...]:
    return schema.leases.c.name == row["name"], schema.leases.c.token == row["token"]


def _identity() -> Row:
    this = processes.this()
    return {"host": this.host, "boot": this.boot, "pid": this.pid, "process_started": this.started}


def _standing(holder: Row, now: int, silence: timedelta) -> Standing:
    """What the holder does: of another host's process nobody can tell whether it is gone, only that it is silent."""
    if not holder["pid"]:
        return "free"
    if _process(holder).is_gone:
        return "gone"
    return "silent" if now - holder["renewed_at"] > silence // MICROSECOND else "working"


def _held(holder: Row) -> str:
    return (
        f"{holder['name']} is being worked on by process {holder['pid']}{_where(holder)} since {iso(instant(holder['taken_at']))}; "
        "wait until it is done, or end it, and try again"
    )


def _where(holder: Row) -> str:
    return "" if _process(holder).is_here else f" on {holder['host']}"


def _process(holder: Row) -> processes.Process:
    return processes.Process(holder["host"], holder["boot"], holder["pid"], holder["process_started"])
