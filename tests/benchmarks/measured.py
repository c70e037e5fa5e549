"""What a benchmark measures of a piece of work: wall and CPU seconds, Spark jobs and the bytes that Spark read."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pyspark.sql import SparkSession
from rich.console import Console
from rich.table import Table

T = TypeVar("T")
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """What one piece of work cost; `cpu` is of this process and of Spark's JVM."""

    name: str
    wall: float
    cpu: float
    jobs: int
    read: int
    answer: object = None

    def times(self, number: float, *, name: str) -> Cost:
        """The cost of doing it so many times."""
        return Cost(name, self.wall * number, self.cpu * number, int(self.jobs * number), int(self.read * number), self.answer)


def measured(name: str, spark: SparkSession, work: Callable[[], T]) -> Cost:
    """Do the work once and say what it cost."""
    before, jobs, read, started = _cpu(spark), _jobs(spark), _read(spark), time.monotonic()
    answer = work()
    wall = time.monotonic() - started
    time.sleep(0.3)  # the listeners of finished jobs come after them
    print(f"{wall:8.1f} s  {name}", file=sys.stderr, flush=True)
    return Cost(name, wall, _cpu(spark) - before, _jobs(spark) - jobs, _read(spark) - read, answer)


def table(title: str, costs: Sequence[Cost], *, ours: Cost) -> None:
    """Print the costs, each beside ours."""
    shown = Table("what", "wall s", "cpu s", "jobs", "MB read", "wall ratio", "cpu ratio", "read ratio", title=title)
    for cost in costs:
        shown.add_row(
            cost.name,
            f"{cost.wall:.1f}",
            f"{cost.cpu:.1f}",
            str(cost.jobs),
            f"{cost.read / 1e6:.1f}",
            f"{cost.wall / max(ours.wall, 0.01):.1f}",
            f"{cost.cpu / max(ours.cpu, 0.01):.1f}",
            f"{cost.read / max(ours.read, 1):.1f}",
        )
    Console(width=140).print(shown)


def _cpu(spark: SparkSession) -> float:
    gateway = spark.sparkContext._gateway
    jvm = gateway.proc.pid if gateway is not None else os.getpid()
    return sum(os.times()[:4]) + cpu_of(jvm)


def cpu_of(pid: int) -> float:
    """The CPU seconds of a process and of all that it started."""
    return sum(_of(one) for one in _family(pid))


def _family(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that has just ended
            found += [one for child in (task / "children").read_text().split() for one in _family(int(child))]
    return found


def _of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(fields[n]) for n in (11, 12, 13, 14)) / _TICKS


def _jobs(spark: SparkSession) -> int:
    return int(spark.sparkContext._jsc.sc().statusStore().jobsList(None).size())


def _read(spark: SparkSession) -> int:
    executors = spark.sparkContext._jsc.sc().statusStore().executorList(False)
    return sum(int(executors.apply(n).totalInputBytes()) for n in range(executors.size()))
