"""What a sync costs beside Feast's `write_to_online_store` of the same rows: rows a second, CPU a row, bytes an entity, and readers' waits.

`make bench-sync` runs it; `--rows 1000000` is the full size. Each store is a Valkey of its own on loopback; both sides are warm. CPU counts
this process, Spark's JVM with its workers, and the store. Quiet: nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import redis
from deltalake import write_deltalake
from rich.console import Console
from rich.table import Table

from feature_definitions import Entity, ObservationGroup, Source, layout
from feature_definitions.intervals import Interval
from feature_definitions.records import Generation, Promotion, Publish, RegistryFacts
from feature_definitions.sql.column_types import column_types_of
from feature_registry import open_registry
from lake import identity, newest
from lake.readable import Published
from online_sync import embedded, packing, sync
from online_sync.codec import RowSchema
from online_sync.store import Store
from tests import projects

FIRST = datetime(2026, 1, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
UTC_TIME = pa.timestamp("us", tz="UTC")
KINDS = {f"f{i}": "double" if i % 2 else "int64" for i in range(20)}
events = Source("events", columns={"entity_id": "int64", **KINDS, "at": "timestamp"}, event_timestamp="at")
CATALOG = f"""
from feature_definitions import Entity, FeatureService, Join, ObservationGroup, Source
events = Source("events", columns={dict(events.columns)!r}, event_timestamp="at")
seen = ObservationGroup("seen", Entity("thing", {{"entity_id": "int64"}}), events, columns={tuple(KINDS)!r}, ttl="7d", every="1h")
seen_v1 = FeatureService("seen_v1", joins=(Join(seen),))
"""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Shown:
    """The lines of the report."""

    lines: list[tuple[str, ...]] = field(default_factory=list)

    def add(self, what: str, rows: int, wall: float, cpu: float, more: str = "") -> None:
        """One line: seconds, rows a second and CPU a row."""
        line = (what, f"{rows:,}", f"{wall:.2f}", f"{rows / wall:,.0f}", f"{cpu / rows * 1e6:.1f}", more)
        self.lines.append(line)
        print(*line, sep="  ", file=sys.stderr, flush=True)


@dataclass
class Made:
    """A lake of one group whose rows come hour by hour, and the publishes that brought them."""

    lake: str
    columns: tuple[str, ...] = tuple(KINDS)
    name: str = "seen"
    publishes: list[Publish] = field(default_factory=list)

    def hour(self, entities: np.ndarray[Any, Any]) -> pa.Table:
        """Publish the next hour: a row of each of these entities."""
        number, count, chance = len(self.publishes), len(entities), np.random.default_rng(len(self.publishes))
        start = FIRST + number * HOUR
        at = pa.array(np.full(count, int(start.timestamp() * 1_000_000) + 1), UTC_TIME)
        values = {n: chance.random(count) if KINDS[n] == "double" else chance.integers(0, 10**6, count) for n in self.columns}
        own = {"event_timestamp": at, "empties_at": pa.nulls(count, UTC_TIME), "held": pa.array(np.zeros(count, bool))}
        table = pa.table({"entity_id": pa.array(entities), **own, "publish_id": pa.array([f"p{number:04}"] * count), **values})
        path = layout.feature_table(self.lake, self.name, 1)
        Path(path).mkdir(parents=True, exist_ok=True)
        day = pa.array([start.date()] * count, pa.date32())
        write_deltalake(path, table.append_column("date", day), partition_by=["date"], mode="append")
        self.publishes.append(Publish(f"p{number:04}", self.name, 1, Interval(start, start + HOUR), start + HOUR, "OBSERVED"))
        return table

    @property
    def now(self) -> datetime:
        """Right after the newest publish."""
        return FIRST + len(self.publishes) * HOUR + timedelta(seconds=1)

    @property
    def published(self) -> Published:
        """The group as it can be read."""
        group = ObservationGroup(self.name, Entity("thing", {"entity_id": "int64"}), events, columns=self.columns, ttl="7d", every="1h")
        return Published(group, 1, self.lake, column_types_of(group), tuple(self.publishes))


@dataclass
class Ours:
    """Syncs of a lake to a store."""

    made: Made
    url: str
    done: sync.Synced | None = None

    def sync(self, spark: Any = None, *, depth: sync.Depth = "as needed") -> sync.Synced:
        """What `headwater sync` does for the group."""
        target, last = sync.Target(self.url, layout.KeySpace("bench", "lakelake"), ""), None if self.done is None else self.done.record
        work = sync.Work(1 if last is None else last.epoch + 1, self.made.now, last, depth)
        look = sync.look(self.made.published, target=target, now=self.made.now)
        self.done = sync.run(self.made.published, look, target=target, work=work, spark=lambda: spark)
        return self.done


def main() -> None:
    """Measure, and print the table."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--rows", type=int, default=200_000, help="entities of the full sync (default: 200,000)")
    asked.add_argument("--feast", type=int, default=20_000, help="entities that Feast writes (default: 20,000; 0: none)")
    asked.add_argument("--no-spark", action="store_true", help="leave out the sync by Spark")
    given, shown = asked.parse_args(), Shown()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as end:
        raw(shown, started(Path(folder) / "raw", end), given.rows)
        url = started(Path(folder) / "store", end)
        ours = Ours(Made(f"{folder}/lake"), url)
        ours.made.hour(np.arange(given.rows))
        whole = synced(shown, ours, "full sync, all new", given.rows)
        size = bytes_of(url, given.rows)
        synced(shown, ours, "verify, nothing to write", given.rows, depth="verify")
        ours.made.hour(np.random.default_rng(5).choice(given.rows, max(1, given.rows // 100), replace=False))
        part = synced(shown, ours, "hourly sync, 1 % changed", given.rows // 100)
        shown.lines.append(("  share of a full one", "", f"{part[0] / whole[0]:.1%}", "", f"{part[1] / whole[1]:.1%}", "wall; CPU"))
        readers(shown, ours, url, rate=given.rows / whole[0])
        if not given.no_spark:
            by_spark(shown, Path(folder), end, given.rows)
        if given.feast:
            theirs = feast(shown, Path(folder), end, given.feast)
            shown.lines.append(("bytes an entity", "", "", "", "", f"{size:.0f}, Feast {theirs:.0f}: {size / theirs:.2f}x"))
        groups(shown, Path(folder), end)
        few(shown, Path(folder), end)
    table = Table("what", "rows", "wall s", "rows/s", "CPU us/row", "more", title=f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for line in shown.lines:
        table.add_row(*line)
    Console(width=130).print(table)


def started(folder: Path, end: ExitStack) -> str:
    """A store of its own, which is stopped at the end."""
    url = embedded.ensure(folder)
    end.callback(embedded.stop, folder)
    with closing(redis.Redis.from_url(url)) as client:
        client.config_set("appendonly", "no")
    return url


def timed(work: Callable[[], object], url: str, *others: int) -> tuple[float, float]:
    """Seconds and CPU seconds of a piece of work, of this process with its children, the store, and other processes."""
    with closing(redis.Redis.from_url(url)) as client:
        at, before = time.monotonic(), _cpu(client, others)
        work()
        return time.monotonic() - at, _cpu(client, others) - before


def _cpu(client: Any, others: tuple[int, ...]) -> float:
    said = client.info("cpu")
    return float(sum(os.times()[:4]) + said["used_cpu_sys"] + said["used_cpu_user"] + sum(map(_of, others)))


def _of(pid: int) -> float:
    """Of a process, and of all that it started that run still or were waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = sum(int(fields[n]) for n in (11, 12, 13, 14)) / _TICKS
    children = (int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split())
    return own + sum(map(_of, children))


def raw(shown: Shown, url: str, rows: int) -> None:
    """The store's compare-and-set alone, of rows that are packed already."""
    with tempfile.TemporaryDirectory() as folder:
        made = Made(folder)
        made.hour(np.arange(rows))
        found = newest.newest(made.published, now=made.now)
    record = sync.record_of(made.published, sync.Target(url, layout.KeySpace("bench", "lakelake"), ""), epoch=1, now=made.now, empty=())
    packed = packing.packed(found, record, ["entity_id"], RowSchema(record.columns)).rows
    with closing(Store(url, patience=5)) as store:
        shown.add("raw compare-and-set, all new", rows, *timed(lambda: store.put_rows(packed), url))
        shown.add("raw compare-and-set, all the same", rows, *timed(lambda: store.put_rows(packed), url))


def synced(shown: Shown, ours: Ours, what: str, rows: int, *, depth: sync.Depth = "as needed") -> tuple[float, float]:
    """One sync, with its line."""
    wall, cpu = timed(lambda: ours.sync(depth=depth), ours.url)
    done = ours.done
    assert done is not None
    shown.add(what, rows, wall, cpu, f"{done.written:,} written of {done.compared:,}")
    return wall, cpu


def bytes_of(url: str, entities: int) -> float:
    """The memory of the store's data by entity."""
    with closing(redis.Redis.from_url(url)) as client:
        found: Any = client.memory_stats()
        return float(found["dataset.bytes"]) / entities


def readers(shown: Shown, ours: Ours, url: str, *, rate: float) -> None:
    """How long one GET after the other takes, alone, beside as many plain SETs a second, and while everything is written anew.

    First as processes share this machine; then with the store and the reader before all others, as on machines of their own.
    """
    with closing(redis.Redis.from_url(url)) as client:
        server = int(client.info("server")["process_id"])
    ways = (
        ("GET alone", lambda: time.sleep(1)),
        ("GET beside plain SETs", lambda: plain(url, rate)),
        ("GET during a full sync", lambda: ours.sync(depth="full")),
    )
    for place in ("", ", store and reader go first"):
        if place and not _goes_first(server):
            return
        alone = 0.0
        for what, work in ways:
            found = waits(url, work, first=bool(place))
            p50, p99 = (statistics.quantiles(found, n=100)[n] * 1000 for n in (49, 98))
            times = f", {p99 / alone:.1f}x alone" if alone else ""
            shown.lines.append((what + place, f"{len(found):,}", "", "", "", f"p50 {p50:.3f} ms, p99 {p99:.3f} ms{times}"))
            alone = alone or p99
    os.sched_setscheduler(server, os.SCHED_OTHER, os.sched_param(0))


def _goes_first(pid: int) -> bool:
    """Whether a process may be, and is from now on, before all others."""
    try:
        os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        return False
    return True


def plain(url: str, rate: float) -> None:
    """For two seconds SETs of 200 bytes, 20 in one go, at a rate: what any writer does to readers."""
    with closing(redis.Redis.from_url(url)) as client:
        began, done = time.monotonic(), 0
        while (now := time.monotonic() - began) < 2:
            if done > rate * now:
                time.sleep(0.0005)
                continue
            with client.pipeline(transaction=False) as pipeline:
                for n in range(done, done + 20):
                    pipeline.set(f"plain{n % 100_000}", b"x" * 200)
                pipeline.execute()
            done += 20


def waits(url: str, work: Callable[[], object], *, first: bool = False) -> list[float]:
    """The seconds of each GET of another process, which may go first, while some work is done."""
    code = (
        "import sys,time,redis,threading\n"
        "c=redis.Redis.from_url(sys.argv[1]);stop=threading.Event()\n"
        "threading.Thread(target=lambda:(sys.stdin.read(),stop.set()),daemon=True).start()\n"
        "while not stop.is_set():\n a=time.perf_counter();c.get('k');print(time.perf_counter()-a,flush=True);time.sleep(.0005)"
    )
    with subprocess.Popen([sys.executable, "-c", code, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if first:
            _goes_first(process.pid)
        process.stdout.readline()
        found: list[float] = []
        reading = threading.Thread(target=lambda lines: found.extend(map(float, lines)), args=(process.stdout,))
        reading.start()
        work()
        process.stdin.close()
        reading.join()
    return found


def by_spark(shown: Shown, folder: Path, end: ExitStack, rows: int) -> None:
    """The same rows by Spark's workers, warm."""
    from spark_jobs import jvm, session

    spark = session.session(jars=jvm.delta_jars(Path.home() / ".cache/headwater/jars"), scratch=folder / "spark", master="local[2]")
    end.callback(spark.stop)
    url, made = started(folder / "by_spark", end), Made(f"{folder}/by_spark_lake")
    made.hour(np.arange(rows))
    held, gateway = sync._IN_MEMORY, spark.sparkContext._gateway
    sync._IN_MEMORY = 0
    try:
        for what in ("by Spark, first", "by Spark, warm"):
            with closing(redis.Redis.from_url(url)) as client:
                client.flushall()
            ours = Ours(made, url)
            wall, cpu = timed(lambda: ours.sync(spark), url, gateway.proc.pid)  # noqa: B023
            shown.add(what, rows, wall, cpu)
    finally:
        sync._IN_MEMORY = held


def feast(shown: Shown, folder: Path, end: ExitStack, rows: int) -> float:
    """Feast's own write of like rows to a store of its own, warm; returns its bytes by entity."""
    import feast as theirs
    from feast import types
    from feast.infra.offline_stores.file_source import FileSource

    url, repo = started(folder / "feast_store", end), folder / "feast"
    repo.mkdir()
    host, _, password = url.removeprefix("redis://:").partition("@")[2].partition("/")[0], None, url.split(":")[2].partition("@")[0]
    store = (
        f"project: bench\nregistry: {repo / 'registry.db'}\nprovider: local\nentity_key_serialization_version: 3\n"
        f'offline_store:\n  type: file\nonline_store:\n  type: redis\n  connection_string: "{host},password={password}"\n'
    )
    (repo / "feature_store.yaml").write_text(store)
    thing = theirs.Entity(name="thing", join_keys=["entity_id"], value_type=theirs.ValueType.INT64)
    fields = [theirs.Field(name=name, dtype=types.Float64 if kind == "double" else types.Int64) for name, kind in KINDS.items()]
    source = FileSource(path=str(repo / "rows.parquet"), timestamp_field="event_timestamp")
    with tempfile.TemporaryDirectory() as lake:
        found = Made(lake).hour(np.arange(rows)).select(["entity_id", "event_timestamp", *KINDS]).to_pandas()
    found.to_parquet(repo / "rows.parquet")
    view = theirs.FeatureView(name="seen", entities=[thing], schema=fields, source=source, ttl=timedelta(days=7))
    writer = theirs.FeatureStore(repo_path=str(repo))
    writer.apply([thing, view])
    writer.write_to_online_store("seen", found.head(1000))
    with closing(redis.Redis.from_url(url)) as client:
        client.flushall()
    wall, cpu = timed(lambda: writer.write_to_online_store("seen", pd.DataFrame(found)), url)
    shown.add("Feast write_to_online_store", rows, wall, cpu)
    return bytes_of(url, rows)


def groups(shown: Shown, folder: Path, end: ExitStack) -> None:
    """The memory of four groups of five features of one entity."""
    url, entities = started(folder / "four", end), 20_000
    for n in range(4):
        made = Made(f"{folder}/four_lake", tuple(KINDS)[5 * n : 5 * n + 5], f"seen_{n}")
        made.hour(np.arange(entities))
        Ours(made, url).sync()
    shown.lines.append(("bytes an entity, four groups", f"{entities:,}", "", "", "", f"{bytes_of(url, entities):.0f}"))


def few(shown: Shown, folder: Path, end: ExitStack) -> None:
    """The command itself for a group of ten entities, a process from its start to its end."""
    root = projects.make(folder / "few", catalog=CATALOG)
    lake, registry = f"{root}/.headwater/lake", f"sqlite:///{root}/registry.db"
    url = started(folder / "few_store", end)
    made = Made(lake)
    identity.made(lake)
    with open_registry(registry) as remembered:
        for turn in range(2):
            made.hour(np.arange(10))
            shows = Promotion("seen", 1, 1, 1, "automatic", made.now)
            known = Generation("seen", 1, {}, True, FIRST + HOUR, None)
            remembered.restore(RegistryFacts(publishes=tuple(made.publishes), generations=(known,), promotions=(shows,)))
            command = [str(Path(sys.executable).parent / "headwater"), "sync", "--project", str(root), "--json"]
            kept = {**os.environ, "HEADWATER_LAKE": lake, "HEADWATER_REGISTRY_URL": registry, "HEADWATER_REDIS_URL": url}
            at, spent = time.monotonic(), sum(os.times()[2:4])
            done = subprocess.run(command, env=kept, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(done.stderr)
            what = "headwater sync, 10 entities, " + ("new hour" if turn else "first")
            shown.add(what, 10, time.monotonic() - at, sum(os.times()[2:4]) - spent)


if __name__ == "__main__":
    main()
