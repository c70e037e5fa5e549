"""A lake on S3 (versitygw, on loopback) against one in a folder: the flights of a month, then one day more; CPU, wall and requests.

`make bench-lake` runs it; `--days 7` takes fewer. Each lake is worked on by a process of its own, whose CPU counts with that of its JVM.
Requests are counted by a proxy before the server, whose own CPU counts for nobody.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import headwater as hw
from examples import demo, nyc_flights
from tests import s3, s3_proxy

FIRST = datetime(2013, 1, 1, tzinfo=UTC)
VERBS = ("GET", "HEAD", "PUT", "POST", "DELETE")


def main() -> None:
    """Work on both lakes and print what it cost."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--days", type=int, default=31, help="days of flights before the one more (default: 31)")
    asked.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = asked.parse_args()
    if given.work is not None:
        work(given.work, given.days)
        return
    with tempfile.TemporaryDirectory() as folder, ExitStack() as until_the_end:
        converted = Path(folder) / "converted"
        nyc_flights.convert(nyc_flights.raw_data(), shift=timedelta(0), into=converted)
        server = until_the_end.enter_context(s3.versitygw())
        server.bucket("bench")
        proxy = until_the_end.enter_context(s3_proxy.counting(server))
        here = measured(Path(folder) / "here", converted, given.days, {}, proxy)
        there = measured(Path(folder) / "there", converted, given.days, proxy.environment | {"HEADWATER_LAKE": "s3a://bench/lake"}, proxy)
    report(here, there)


def measured(folder: Path, converted: Path, days: int, variables: dict[str, str], proxy: s3_proxy.Counting) -> list[dict[str, Any]]:
    """What each stage cost, with its requests, of a process that works on one lake."""
    demo.begun(folder, domain="flights", shift=timedelta(0))
    (folder / "converted").symlink_to(converted)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HEADWATER_", "AWS_")) or name == "HEADWATER_CACHE"}
    command = [sys.executable, "-m", "tests.benchmarks.bench_lake", "--work", str(folder), "--days", str(days)]
    stages = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**kept, **variables}) as process:
        assert process.stdout is not None
        proxy.clear()
        for line in process.stdout:
            stages.append(json.loads(line) | {"requests": proxy.verbs()})
            proxy.clear()
            print(f"{stages[-1]['wall']:8.1f} s  {folder.name}: {stages[-1]['name']}", file=sys.stderr, flush=True)
    if process.returncode:
        raise SystemExit(f"the work on the lake {folder.name} ended with {process.returncode}")
    return stages


def work(folder: Path, days: int) -> None:
    """Do the stages, and print one line of JSON after each."""
    for part, now in (("first", FIRST + timedelta(days=days, hours=12)), ("daily", FIRST + timedelta(days=days + 1, hours=12))):
        nyc_flights.release(folder / "converted", landing=folder / "data", now=now)
        with hw.open(folder, clock=lambda now=now: now) as p:
            rows = {
                "ingest": lambda p=p: sum(each.rows for each in p.ingest()),
                "materialize": lambda p=p: sum(each.rows for each in p.materialize()),
                "training set": lambda p=p: p.training_set("arrival_delay").rows,
                "sync": lambda p=p: sum(each.rows for each in p.sync()),
                "status": lambda p=p: len(p.status()),
            }
            for name, stage in rows.items():
                wall, cpu = time.monotonic(), demo._cpu_seconds()
                answer = stage()
                cost = {"wall": time.monotonic() - wall, "cpu": demo._cpu_seconds() - cpu}
                print(json.dumps({"name": f"{part}: {name}", "answer": answer, **cost}), flush=True)
            p.down()


def report(here: list[dict[str, Any]], there: list[dict[str, Any]]) -> None:
    """Print the stages side by side; the rows must be the same."""
    assert [(one["name"], one["answer"]) for one in here] == [(one["name"], one["answer"]) for one in there]
    shown = Table("stage", "rows", "cpu s", "on S3", "ratio", "wall s", "on S3", *VERBS, title="a lake in a folder, and on S3")
    for part in ("first", "daily", ""):
        mine = [(one, other) for one, other in zip(here, there, strict=True) if one["name"].startswith(part)]
        total = [
            {"name": f"{part or 'all'}: total", "answer": "", "requests": sum((each["requests"] for each in side), Counter())}
            | {what: sum(each[what] for each in side) for what in ("cpu", "wall")}
            for side in zip(*mine, strict=True)
        ]
        for one, other in [*(mine if part else []), tuple(total)]:
            ratio = other["cpu"] / max(one["cpu"], 0.01)
            seconds = [f"{value:.1f}" for value in (one["cpu"], other["cpu"], ratio, one["wall"], other["wall"])]
            asked = [str(other["requests"][verb]) for verb in VERBS]
            answer = one["answer"] if one["answer"] == "" else f"{one['answer']:,}"
            shown.add_row(one["name"], answer, *seconds, *asked, end_section=one["name"].endswith("total"))
    Console(width=140).print(shown)


if __name__ == "__main__":
    main()
