"""A little shop whose values say which round of corrections they are of, the processes that work in it, and what is in it at the end."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from feature_definitions import layout
from feature_definitions.intervals import iso
from lake import delta
from tests import projects

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from headwater import Project

CUSTOMERS = 6
CATALOG = """
from feature_definitions import Entity, Feature, Files, Source, WindowedGroup

customer = Entity("customer", keys={"customer_id": "int64"})
payments = Source(
    "payments", Files("data/payments/*.csv", format="csv"),
    columns={"payment_id": "string", "customer_id": "int64", "amount": "int64", "paid_at": "timestamp", "arrived": "timestamp"},
    event_timestamp="paid_at", timezone="UTC", id=("payment_id",), arrived_at="arrived",
)
spend = WindowedGroup("spend", customer, payments, ttl="2d", features=(Feature("paid", "sum", "amount", windows=("1d", "3d")),))
"""
HEADER = "payment_id,customer_id,amount,paid_at,arrived"


def make(folder: Path) -> Path:
    """The shop without payments."""
    return projects.make(folder, catalog=CATALOG)


def bring(folder: Path, *, days: int, round_: int) -> None:
    """Lay down all payments anew: in round 3 each is of 3, so that every row of every day changes."""
    lines = [
        f"p{day}-{customer},{customer},{round_},2026-01-{day:02}T09:00:00Z,2026-01-{day:02}T10:00:{round_:02}Z"
        for day in range(1, days + 1)
        for customer in range(CUSTOMERS)
    ]
    projects.write(folder, "data/payments/all.csv", projects.rows(*lines, header=HEADER))


def rounds_of(rows: list[dict[str, Any]], *, first_day: int = 1) -> set[int]:
    """Of which rounds published rows are; a row that mixes rounds is a mistake, and so is a date without all customers."""
    for row in rows:
        window = min(3, (row["event_timestamp"].day - 1) - first_day + 1)
        assert row["paid_3d"] == window * row["paid_1d"], row
    per_day: dict[Any, set[int]] = {}
    for row in rows:
        per_day.setdefault(row["event_timestamp"], set()).add(row["customer_id"])
    assert all(customers == set(range(CUSTOMERS)) for customers in per_day.values()), per_day
    return {row["paid_1d"] for row in rows}


def published(lake: str) -> list[dict[str, Any]]:
    """What another tool reads of the group's table."""
    path = layout.feature_table(lake, "spend", 1)
    return delta.load(path).to_pylist() if delta.exists(path) else []


def live(lake: str) -> list[tuple[Any, ...]]:
    """The source's rows that hold."""
    path = layout.source_table(lake, "payments")
    held = delta.load(path).to_pylist() if delta.exists(path) else []
    return sorted((r["payment_id"], r["amount"]) for r in held if r["_hw_live"])


@dataclass(frozen=True, slots=True)
class State:
    """What there is in the shop, but for when and by which run it was made."""

    published: list[tuple[Any, ...]]
    statuses: list[tuple[str, str, int | None]]
    replaced: list[tuple[Any, ...]]
    live: list[tuple[Any, ...]]
    publishes: int


def state(project: Project) -> State:
    """All of it; nothing may be pending."""
    lake, registry = project.settings.lake, project._registry
    assert not registry.pending_publishes("spend")
    assert not registry.pending_ingests("payments")
    known = {one.publish_id for one in registry.publishes("spend", 1)}
    history = layout.history_table(lake, "spend", 1)
    held = delta.load(history).to_pylist() if delta.exists(history) else []
    return State(
        sorted((r["customer_id"], r["event_timestamp"], r["paid_1d"], r["paid_3d"], r["publish_id"] in known) for r in published(lake)),
        [(iso(s.interval.start), s.status, s.rows) for s in project.status("spend")],
        sorted((r["customer_id"], r["event_timestamp"], r["paid_1d"], r["paid_3d"]) for r in held if r["replaced_by"] in known),
        live(lake),
        len(known),
    )


class Killed(Exception):
    """The worker was killed before it answered."""


@dataclass(slots=True)
class Worker:
    """A process that works in shops with a Spark of its own, which outlives any number of verbs."""

    folder: Path
    environment: Mapping[str, str] = field(repr=False)
    log: Path
    process: subprocess.Popen[str] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start it; it is ready when Spark is."""
        words = [sys.executable, "-m", "tests.durability.worker", str(self.folder)]
        environment = projects.environment(PYTHONPATH=os.pathsep.join(filter(None, sys.path)), **self.environment)
        environment |= {"HEADWATER_SPARK_MASTER": "local[1]"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, start_new_session=True
            )
        assert self._answer(120) == "ready", self.log.read_text(errors="replace")[-3000:]

    def ask(self, verb: str, *, now: datetime, folder: Path | None = None, seconds: float = 240, **words: Any) -> str:
        """Have it do a verb as if it were `now`; how that ended. Raises Killed."""
        if self.process is None or self.process.poll() is not None:
            self._forget()
            self.start()
        assert self.process is not None and self.process.stdin is not None
        asked = {"folder": str(folder or self.folder), "verb": verb, "words": words, "now": now.isoformat()}
        try:
            self.process.stdin.write(json.dumps(asked) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            self.process.wait()
            raise Killed from None
        return self._answer(seconds)

    def kill(self) -> None:
        """Kill it and its Spark at once (SIGKILL)."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def close(self) -> None:
        """Kill it for good."""
        self.kill()
        self._forget()

    def _forget(self) -> None:
        if self.process is not None:
            for pipe in (self.process.stdin, self.process.stdout):
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()  # type: ignore[union-attr]  # both are pipes
            self.process = None

    def _answer(self, seconds: float) -> str:
        assert self.process is not None and self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            self.kill()
            raise TimeoutError(f"no answer in {seconds} s:\n{self.log.read_text(errors='replace')[-3000:]}")
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise Killed
        return str(json.loads(line))


@dataclass(slots=True)
class Reader:
    """A reader that loops over the group's published rows, whatever happens to the servers meanwhile."""

    lake: str
    acknowledged: int = 0
    """The newest round whose publish was answered with success."""
    seen: list[int] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        assert self._thread is not None
        self._thread.join(300)

    def _loop(self) -> None:
        while not self._ended.is_set():
            least = max([self.acknowledged, *self.seen[-1:]])
            try:
                rows = published(self.lake)
            except (OSError, ValueError, RuntimeError) as error:  # the server is down, or was while this read
                self.refused.append(f"{type(error).__name__}: {error}")
                time.sleep(0.1)
                continue
            except Exception as error:  # noqa: BLE001  # deltalake's own
                self.refused.append(f"{type(error).__name__}: {error}")
                continue
            self._judge(rows, least)
            time.sleep(0.02)

    def _judge(self, rows: list[dict[str, Any]], least: int) -> None:
        try:
            found = rounds_of(rows) if rows else {0}
        except AssertionError as error:
            self.wrong.append(f"rows of two rounds, or some without the others: {error}")
            return
        if len(found) != 1:
            self.wrong.append(f"intervals of one publish are of the rounds {sorted(found)}")
        elif min(found) < least:
            self.wrong.append(f"round {min(found)} is read after round {least} was read or acknowledged")
        else:
            self.seen.append(min(found))
