"""What Airflow costs beside the work: a day's run, a hundred groups with a year each, a backfill beside runs of a day each.

python -m tests.benchmarks.bench_airflow --days 15
python -m tests.benchmarks.bench_airflow --days 60 --measured 6 --only backfill    # six runs of a day each, times ten

Seconds are from a run's start to its end, as Airflow says them. CPU seconds are those of all processes of `make up`, less what they cost
while nothing runs.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

import headwater as hw
from tests import airflow, projects, test_requests

ROOT = Path(__file__).parents[2]
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
_PR_SET_CHILD_SUBREAPER = 36
_TICKS = os.sysconf("SC_CLK_TCK")

CATALOG = """
from feature_definitions import Entity, Feature, Files, Source, WindowedGroup

customer = Entity("customer", keys={"customer_id": "int64"})
columns = {"customer_id": "int64", "amount": "double", "paid_at": "timestamp"}
payments = Source("payments", Files("data/*.csv"), columns=columns, event_timestamp="paid_at", timezone="UTC", ready_after="0s")
"""
GROUP = """
{name} = WindowedGroup("{name}", customer, payments, ttl="3d", restate_within="0s", features=(
    Feature("spent", "sum", "amount", windows=("1d", "7d")), Feature("payments", "count", windows=("1d",)),
))
"""
PARSE = """
import resource, sys, time
import airflow.sdk
from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.providers.standard.triggers.temporal import DateTimeTrigger
cpu = time.process_time()
import dags.headwater_dags as made
sys.stdout.write(f"PARSED {time.process_time() - cpu} {sum('__' in name.strip('_') for name in vars(made))}")
"""
RECONCILE = """
import sys
from airflow.sdk.exceptions import AirflowException
import dags.headwater_dags as made
for task in made.reconcile.topological_sort():
    try:
        task.execute({})
    except AirflowException as ended:
        sys.stdout.write(f"{task.task_id}: {type(ended).__name__}: {str(ended)[:100]}\\n")
"""


@dataclass(frozen=True)
class Cost:
    """Seconds and CPU seconds of something, and what came of it."""

    name: str
    wall: float
    cpu: float
    said: str = ""


def main() -> None:
    """Measure what is asked for, and print it."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--days", type=int, default=15, help="so many days are computed by a run each, and by one backfill")
    asked.add_argument(
        "--measured", type=int, help="of so many days the run of each is measured, and the others are taken to cost the same"
    )
    asked.add_argument("--groups", type=int, default=100)
    asked.add_argument("--only", choices=("year", "backfill"))
    given = asked.parse_args()
    adopt()
    shown = Table("what", "wall s", "CPU s", "", title="Airflow")
    with tempfile.TemporaryDirectory() as folder:
        costs = [] if given.only == "backfill" else of_a_year(Path(folder) / "year", given.groups)
        costs += [] if given.only == "year" else of_backfills(Path(folder) / "shop", given.days, measured_days=given.measured or given.days)
    for cost in costs:
        shown.add_row(cost.name, f"{cost.wall:.1f}", f"{cost.cpu:.1f}", cost.said)
    Console().print(shown)


def of_a_year(folder: Path, groups: int) -> list[Cost]:
    """What the DAGs, `status` and the reconciliation of many groups cost that have a year of days each."""
    test_requests.FIRST = TODAY - timedelta(days=365)
    made = projects.make(folder, catalog=test_requests.catalog(groups))
    with closing(hw.open(made)) as p:
        test_requests.remembered(p, 365)
    (made / "lake").mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "HEADWATER_PROJECT": str(made),
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": str(ROOT),
    }

    def command(name: str, *words: str | Path) -> Cost:
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, cwd=made)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        assert done.returncode == 0, done.stderr
        return Cost(name, time.monotonic() - started, cpu, done.stdout)

    def silent(*words: str | Path, name: str) -> Cost:
        return replace(command(name, *words), said="")

    parsed = command("parse", sys.executable, "-c", PARSE)
    seconds, dags = parsed.said.partition("PARSED ")[2].split()
    return [
        Cost(f"parse {groups} groups, beside importing airflow.sdk", float(seconds), float(seconds), f"{dags} DAGs"),
        silent(ROOT / ".venv/bin/headwater", "status", "--json", "--project", made, name=f"status of {groups} groups x 365 days"),
        silent(sys.executable, "-c", RECONCILE, name=f"reconcile {groups} groups x 365 days"),
    ]


def of_backfills(folder: Path, days: int, *, measured_days: int) -> list[Cost]:
    """What a day's run costs beside its command, and what many days cost by a run each, by Airflow's backfill, and by the form."""
    names = ("alone", "filled", "asked")
    (folder / "catalog").mkdir(parents=True)
    (folder / "data").mkdir()
    (folder / "headwater.toml").write_text('[project]\nname = "shop"\n', encoding="utf-8")
    (folder / "catalog" / "shop.py").write_text(CATALOG + "".join(GROUP.format(name=name) for name in names), encoding="utf-8")
    for back in range(1, days + 10):
        at = f"{TODAY - timedelta(days=back):%Y-%m-%d}"
        rows = "".join(f"{n % 100},{n},{at}T{n % 24:02}:00:00Z\n" for n in range(1000))
        (folder / "data" / f"{at}.csv").write_text(f"customer_id,amount,paid_at\n{rows}", encoding="utf-8")
    with airflow.running(folder) as system:
        for dag in ("sync__published", "sync__online", "reconcile"):
            system.switch(dag, paused=True)
        for name in names:
            system.ended(f"fg__{name}", key(1))
        idle = resting()
        first, last = TODAY - timedelta(days=days + 2), TODAY - timedelta(days=3)
        span = ("--from", key(2), "--to", key(1))
        command = measured("the command alone", 0, lambda: [span_of(lambda: system.command("materialize", "filled", "--ingest", *span))])
        one = measured("one day by its run", idle, lambda: [a_run(system, "fg__alone", key(2))])
        alone = [key(back) for back in range(3, measured_days + 3)]
        few = measured(f"{measured_days} days by a run each", idle, lambda: [a_run(system, "fg__alone", day) for day in alone])
        several = times_as_many(few, days / measured_days, name=f"{days} days by a run each")
        ways = (
            measured(f"{days} days by Airflow's backfill", idle, lambda: a_backfill(system, "filled", first, last)),
            measured(f"{days} days by the form", idle, lambda: [a_range(system, "asked", first, last)]),
        )
        return [command, one, several, *(replace(way, said=f"{several.wall / way.wall:.1f}x faster") for way in ways)]


def times_as_many(few: Cost, factor: float, *, name: str) -> Cost:
    """What more of the same costs, as far as it costs the same each time."""
    return Cost(name, few.wall * factor, few.cpu * factor, "" if factor == 1 else f"{few.name}, times {factor:.0f}")


def key(back: int) -> str:
    """The partition key of the day so many days ago."""
    return f"{TODAY - timedelta(days=back):%Y-%m-%d}"


def a_run(system: airflow.System, dag: str, day: str) -> tuple[float, float]:
    """Run a day's DAG to its end."""
    run = system.ask("POST", f"/dags/{dag}/dagRuns", {"logical_date": None, "partition_key": day})
    return times(system.finished(dag, run["dag_run_id"]))


def a_backfill(system: airflow.System, group: str, first: datetime, last: datetime) -> list[tuple[float, float]]:
    """Run Airflow's own backfill to its end."""
    system.backfill(f"fg__{group}", first.date(), last.date())
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return [times(system.ended(f"fg__{group}", f"{day:%Y-%m-%d}")) for day in days]


def a_range(system: airflow.System, group: str, first: datetime, last: datetime) -> tuple[float, float]:
    """Run what the form asks for to its end."""
    asked = {"groups": [group], "from": f"{first:%Y-%m-%d}", "to": f"{last:%Y-%m-%d}", "mode": "missing", "chunk_days": 90}
    return times(system.finished("backfill__range", system.trigger("backfill__range", dry_run=False, **asked)))


def span_of(work: Callable[[], object]) -> tuple[float, float]:
    """When work began and ended."""
    began = time.time()
    work()
    return began, time.time()


def times(run: dict[str, str]) -> tuple[float, float]:
    """When a run began and ended; one that failed is no measure."""
    assert run["state"] == "success", json.dumps(run)
    began, ended = (datetime.fromisoformat(run[at].replace("Z", "+00:00")).timestamp() for at in ("start_date", "end_date"))
    return began, ended


def measured(name: str, idle: float, work: Callable[[], Iterable[tuple[float, float]]]) -> Cost:
    """What work costs of which each part began and ended at some time."""
    before, started = spent(), time.monotonic()
    parts = list(work())
    cpu = spent() - before - idle * (time.monotonic() - started)
    wall = max(end for _, end in parts) - min(begin for begin, _ in parts)
    print(f"{wall:8.1f} s {cpu:8.1f} CPU-s  {name}", file=sys.stderr, flush=True)
    return Cost(name, wall, cpu)


def resting() -> float:
    """CPU seconds a second while nothing runs."""
    before = spent()
    time.sleep(20)
    return (spent() - before) / 20


def spent() -> float:
    """CPU seconds of all that this program has started until now, whoever started it in between, and whether it still runs."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    running = sum(sum(int(ticks) for ticks in fields[11:15]) for fields in below(os.getpid()))
    return ended.ru_utime + ended.ru_stime + running / _TICKS


def below(pid: int) -> list[list[str]]:
    """What Linux says of the processes below one."""
    children = defaultdict[int, list[tuple[int, list[str]]]](list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
            children[int(fields[1])].append((int(stat.parent.name), fields))
    found, ahead = [], [pid]
    while ahead:
        for child, fields in children[ahead.pop()]:
            found.append(fields)
            ahead.append(child)
    return found


def adopt() -> None:
    """Become the parent of what the programs leave that this one starts, such as Spark's Java."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


if __name__ == "__main__":
    main()
