"""Leases: rows that say which process works on something, so that no other does at the same time."""

import os
import socket
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, delete, insert, select

from feature_definitions.intervals import instant, iso, micros
from feature_registry import schema
from feature_registry.database import RegistryError

_GONE = ("Z", "X")
"""States of a process that has ended and only waits to be noticed."""


class LeaseHeld(RegistryError):
    """Another process, or another thread of this one, works on the same thing."""


def take(connection: Connection, name: str, *, now: datetime) -> schema.Row:
    """Take the lease in a writing transaction, also from a process that is gone; the row is needed to give it back."""
    found = connection.execute(select(schema.leases).where(schema.leases.c.name == name)).first()
    if found is not None and _may_live(found._asdict()):
        raise LeaseHeld(_held(name, found._asdict()))
    connection.execute(delete(schema.leases).where(schema.leases.c.name == name))
    row = {"name": name, **_identity(), "taken_at": micros(now), "renewed_at": 0, "token": 0, "unfenced": False}
    connection.execute(insert(schema.leases), row)
    return row


def refuse_if_any(connection: Connection) -> None:
    """Refuse with LeaseHeld while any process that may still live works on something."""
    for found in connection.execute(select(schema.leases)):
        if _may_live(found._asdict()):
            raise LeaseHeld(_held(found.name, found._asdict()))


def give_back(connection: Connection, row: schema.Row) -> None:
    """Give a lease back, unless another process has taken it over."""
    connection.execute(delete(schema.leases).where(*(schema.leases.c[column] == value for column, value in row.items())))


def _identity() -> schema.Row:
    pid = os.getpid()
    return {"host": socket.gethostname(), "boot": _boot(), "pid": pid, "process_started": _started(pid) or 0}


def _may_live(holder: schema.Row) -> bool:
    """Whether the holder's process may still run; on another machine nobody can tell."""
    if holder["host"] != socket.gethostname():
        return True
    return bool(holder["boot"] == _boot() and _started(holder["pid"]) == holder["process_started"])


def _held(name: str, holder: schema.Row) -> str:
    where = "" if holder["host"] == socket.gethostname() else f" on {holder['host']}"
    return (
        f"{name} is being worked on by process {holder['pid']}{where} since {iso(instant(holder['taken_at']))}; "
        "wait until it is done, or end it, and try again"
    )


def _boot() -> str:
    """What tells one start of this machine from the next; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _started(pid: int) -> int | None:
    """When a process of this machine started, in clock ticks since boot (0 where the system does not say); None if it is gone."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None if Path("/proc/self/stat").exists() else _started_without_proc(pid)
    return None if state in _GONE else int(fields[18])


def _started_without_proc(pid: int) -> int | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return 0
    return 0
