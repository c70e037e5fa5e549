"""What it costs to look: `status`, `plan` and `get` of a hundred groups on S3 at 20 ms a request, and of an hourly group of 20 years.

`python -m tests.benchmarks.bench_looks` prints wall and CPU seconds and the requests of each command, which is a process of its own. The
ledger is written by SQL, and of tables only their logs are there. Without versitygw (tests/s3.py) the lakes lie in folders.
"""

from __future__ import annotations

import argparse
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

import headwater as hw
from feature_definitions.intervals import Interval
from feature_definitions.planning import fingerprint
from feature_definitions.records import LedgerEntry, PendingIngest, PendingPublish, Publish, Revision
from tests import projects, s3, s3_proxy, test_requests

DELAY = 0.02
"""How long each request takes, in seconds."""
DAY = timedelta(days=1)
COPIED = {"ledger": ("start_at", "end_at"), "publishes": ("start_at", "end_at"), "revisions": ("first_at", "end_at", "earliest")}
"""Tables of which one row becomes many, and the columns that move with the interval."""


class Shape(NamedTuple):
    """What is looked at: so many groups of one source, of so many intervals each, on S3 or in a folder."""

    name: str
    groups: int
    every: timedelta
    intervals: int
    remote: bool

    @property
    def dates(self) -> int:
        """How many dates the intervals cover."""
        return self.every * self.intervals // DAY


SHAPES = (
    Shape("100 groups x 400 days", 100, DAY, 400, remote=True),
    Shape("1 hourly group, 20 years", 1, timedelta(hours=1), 20 * 365 * 24, remote=False),
)


class Look(NamedTuple):
    """What one command cost."""

    verb: str
    wall: float
    cpu: float
    requests: int | None


def main() -> None:
    """Make each lake, look at it, and print what it cost."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--scale", type=float, default=1.0, help="so much of each shape (default: 1)")
    scale = asked.parse_args().scale
    shown = Table("lake", "intervals", "command", "wall s", "CPU s", "requests")
    for shape in SHAPES:
        small = shape._replace(groups=max(1, round(shape.groups * scale)), intervals=max(24, round(shape.intervals * scale)))
        with tempfile.TemporaryDirectory() as folder:
            for look in looked(small, Path(folder)):
                asked_for = "-" if look.requests is None else f"{look.requests:,}"
                shown.add_row(
                    small.name, f"{small.groups * small.intervals:,}", look.verb, f"{look.wall:.2f}", f"{look.cpu:.2f}", asked_for
                )
    Console(width=120).print(shown)


def looked(shape: Shape, folder: Path) -> list[Look]:
    """What looking costs, the second time: the first one brings Python's files into memory."""
    with server(shape) as proxy:
        variables = {} if proxy is None else proxy.environment
        made = made_lake(shape, folder, variables)
        if proxy is not None:
            proxy.tell(delay=DELAY)
        costs = [look(words, made, variables, proxy) for _ in range(2) for words in (["status"], ["plan"], ["get", "s0", "k0=1"])]
    with hw.open(made) as p:
        p.down()
    return costs[3:]


@contextmanager
def server(shape: Shape) -> Iterator[s3_proxy.Apart | None]:
    """S3 behind a proxy that takes its time, in a process of its own, if the shape wants it and it can be had."""
    with ExitStack() as until_the_end:
        try:
            started = until_the_end.enter_context(s3.versitygw()) if shape.remote else None
        except s3.ServerMissing as missing:
            print(missing, file=sys.stderr)
            started = None
        if started is not None:
            started.bucket("looks")
        yield None if started is None else until_the_end.enter_context(s3_proxy.apart(started))


def look(words: list[str], project: Path, variables: Mapping[str, str], proxy: s3_proxy.Apart | None) -> Look:
    """One command, and what it cost."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HEADWATER_", "AWS_"))}
    command = [sys.executable, "-c", "from headwater.commands import main; main()", *words, "--json", "--project", str(project)]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, env={**kept, **variables}, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Look(words[0], wall, cpu, None if proxy is None else len(proxy.tell()))


# ------------------------------------------------------------------------------------------------------------------------ the lake


def made_lake(shape: Shape, folder: Path, variables: Mapping[str, str]) -> Path:
    """A project all of whose intervals but the last were published when they were due; the lake has the logs of its tables."""
    every = "1h" if shape.every < DAY else "1d"
    made = projects.make(folder / "shop", catalog=test_requests.catalog(shape.groups).replace('ttl="2d"', f'ttl="2d", every="{every}"'))
    lake = "s3a://looks/lake" if variables else "lake"
    projects.write(made, "headwater.toml", f'[project]\nname = "shop"\nlake = "{lake}"\n')
    now = datetime.now(UTC)
    first = now.replace(hour=0, minute=0, second=0, microsecond=0) - shape.dates * DAY
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        with hw.open(made) as p:
            remembered(p, Interval(first, first + shape.every), now)
            multiplied(Path(p.settings.registry_url.removeprefix("sqlite:///")), shape)
            for group in p.catalog.groups.values():
                p._promote(group, 1)
            test_requests.lake_of_dates(p, folder, min(shape.dates, 400), first=first + max(0, shape.dates - 400) * DAY)
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
    return made


def remembered(p: hw.Project, span: Interval, now: datetime) -> None:
    """Tell the registry that the first date of the source came, and of each group the first interval."""
    registry = p._registry
    revision = Revision("events", 1, span.start.date(), span.start, span.start + DAY, "h", 1, now, span.start)
    registry.begin_ingest(PendingIngest("i", "events", (), (revision,), commits=True))
    registry.finish_ingest("i")
    for name, group in p.catalog.groups.items():
        features, gate = fingerprint.columns(group), fingerprint.gate(group)
        entry = LedgerEntry(name, 1, span, "PUBLISHED", "p", features, gate, 1, 2, 1, (), (), "r", 1.0, now)
        published = Publish("p", name, 1, span, now, "OBSERVED")
        registry.begin_publish(PendingPublish(name, name, 1, features, (entry,), (published,), commits=True))
        registry.finish_publish(name, committed_at=now, delta_version=1)


def multiplied(registry: Path, shape: Shape) -> None:
    """Make many rows of each: one a date of the source, each a revision, and one an interval, computed from its date's revision."""
    own = {
        "revisions": {"revision": "revision + n", "date": "date(first_at / 1000000 + n * 86400, 'unixepoch')"},
        "ledger": {"revision": f"1 + n * {shape.every.total_seconds():.0f} / 86400", "run_id": "'r' || n", "publish_id": "'p' || n"},
        "publishes": {"publish_id": "'p' || n"},
    }
    with closing(sqlite3.connect(registry)) as connection, connection:
        for table, moved in COPIED.items():
            step, count = (DAY, shape.dates) if table == "revisions" else (shape.every, shape.intervals - 1)
            shifted = {name: f"{name} + n * {step // timedelta(microseconds=1)}" for name in moved} | own[table]
            names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            values = ", ".join(shifted.get(name, name) for name in names)
            counting = f"WITH RECURSIVE counted(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < {count - 1})"
            connection.execute(f"{counting} INSERT INTO {table} SELECT {values} FROM {table}, counted")


if __name__ == "__main__":
    main()
