"""Tiny projects under test: a catalog, a few rows written by hand, a clock that stands still, and the command as a user calls it."""

from __future__ import annotations

import functools
import io
import json
import os
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pandas as pd
import pytest

import headwater as hw
from headwater import commands
from lake import delta
from tests.headwater.fields import validate

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW = datetime(2026, 1, 6, 12, tzinfo=UTC)
"""When the projects below are opened: 5 January has been sealed for eleven hours."""

CATALOG = """
from feature_definitions import (
    Derived, Entity, Feature, FeatureService, Files, Join, Label, ObservationGroup, SnapshotGroup, Source, TrainingSet, WindowedGroup,
    at_least,
)

customer = Entity("customer", keys={"customer_id": "int64"})
payments = Source(
    "payments", Files("data/payments/*.csv", format="csv"),
    columns={"payment_id": "string", "customer_id": "int64", "amount": "double", "refunded": "boolean", "paid_at": "timestamp",
             "arrived": "timestamp"},
    event_timestamp="paid_at", timezone="UTC", id=("payment_id",), arrived_at="arrived",
)
visits = Source("visits", columns={"customer_id": "int64", "page": "string", "seen_at": "timestamp"}, event_timestamp="seen_at")
accounts = Source("accounts", Files("data/accounts.csv", format="csv"), columns={"customer_id": "int64", "country": "string"},
                  id=("customer_id",), shape="static")
spend = WindowedGroup("spend", customer, payments, ttl="2d", features=(
    Feature("paid", "sum", "amount", windows=("1d", "3d"), expect=(at_least(0),)),
    Feature("payments", "count", windows=("1d",)),
    Derived("mean_paid_1d", "paid_1d / payments_1d"),
))
last_page = ObservationGroup("last_page", customer, visits, columns=("page",), ttl="7d")
account = SnapshotGroup("account", customer, accounts, columns=("country",), assume_always_known=True)
customer_v1 = FeatureService("customer_v1", joins=(Join(spend), Join(last_page), Join(account, prefix="home")))
refunds = TrainingSet("refunds", payments, customer_v1, label=Label("refunded", "1d"))
"""
HEADER = "payment_id,customer_id,amount,refunded,paid_at,arrived"
PAYMENTS = (
    "p1,1,10.5,no,2026-01-03T09:00:00Z,2026-01-03T09:01:00Z",
    "p2,1,4.5,no,2026-01-04T09:00:00Z,2026-01-04T09:01:00Z",
    "p3,2,20.0,no,2026-01-04T10:00:00Z,2026-01-04T10:01:00Z",
    "p4,2,-5.0,no,2026-01-05T10:00:00Z,2026-01-05T10:01:00Z",
)
"""Three days; the last one holds a payment that makes a negative sum, which the group's gate rejects."""
ODD = "a#1 {x} 100% ü*?;'"
"""A folder's name with every kind of sign that deltalake finds tables below, and URLs, globs and shells read otherwise."""
UNREADABLE = "p9,1,much,no,2026-01-05T09:00:00Z,2026-01-05T09:00:00Z"


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout, without the schema that each has; anything else there is an error."""
        document = json.loads(self.out)
        assert document.pop("schema") == 1
        return document


def make(folder: Path, *, catalog: str = CATALOG, files: Mapping[str, str] | None = None) -> Path:
    """A project folder with a catalog and data files, which are named relative to it."""
    write(folder, "headwater.toml", '[project]\nname = "shop"\n')
    write(folder, "catalog/shop.py", catalog)
    for name, text in (files or {}).items():
        write(folder, name, text)
    return folder


def shop(folder: Path) -> Path:
    """The whole little shop: payments, and accounts of customers 1 to 3; visits come as frames."""
    accounts = "customer_id,country\n1,SE\n2,NO\n3,\n"
    return make(folder, files={"data/payments/first.csv": rows(*PAYMENTS), "data/accounts.csv": accounts})


def visits() -> pd.DataFrame:
    """The frame that the little shop is given."""
    seen = pd.to_datetime(["2026-01-04T08:00Z", "2026-01-05T20:00Z", "2026-01-05T07:00Z"])
    return pd.DataFrame({"customer_id": [1, 1, 2], "page": ["home", "cart", "home"], "seen_at": seen})


@dataclass(frozen=True, slots=True)
class Shop:
    """The little shop after each verb ran once, and how it ended."""

    folder: Path
    ingest: Done
    plan: Done
    materialize: Done
    again: Done
    status: Done

    def copied(self, to: Path) -> Path:
        """A copy that a test may change."""
        return Path(shutil.copytree(self.folder, to / "shop"))


@functools.cache
def published(base: Path) -> Shop:
    """The little shop, published in this process once for all modules of a test run, with one payment that cannot be read."""
    folder = shop(base / "published_shop")
    write(folder, "data/payments/second.csv", rows(UNREADABLE))
    with opened(folder) as p:
        p.write("visits", visits())
    ingest = within("ingest", "--json", project=folder)
    plan = within("plan", "--json", project=folder)
    run, again = (within("materialize", "--json", project=folder) for _ in range(2))
    return Shop(folder, ingest, plan, run, again, within("status", "--json", project=folder))


def rows(*lines: str, header: str = HEADER) -> str:
    """A CSV file's text."""
    return "\n".join((header, *lines, ""))


def table(path: str | Path) -> pd.DataFrame:
    """A Delta table's rows, without Spark."""
    frame: pd.DataFrame = delta.load(str(path)).to_pandas()
    return frame


def write(folder: Path, name: str, text: str | bytes) -> Path:
    """Write one file, whole, below the folder."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def opened(folder: Path, *, now: datetime = NOW) -> hw.Project:
    """The project in this process; it shares the Spark that runs."""
    return hw.open(folder, clock=lambda: now)


def environment(**changes: str) -> dict[str, str]:
    """This process's environment without settings of Headwater, a small Spark, and the changes."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_") or name == "HEADWATER_CACHE"}
    return {**kept, "HEADWATER_SPARK_MASTER": "local[2]", "HEADWATER_DRIVER_MEMORY": "1g", "COLUMNS": "200", **changes}


def command(*arguments: str | Path, before: str = "", cwd: Path | None = None, timeout: float = 300, **changes: str) -> Done:
    """Run `headwater` in a process of its own; `before` is Python that runs first there, `changes` are of the environment."""
    with starting(*arguments, before=before, cwd=cwd, **changes) as process:
        out, err = process.communicate(timeout=timeout)
    validate([*map(str, arguments)], out)
    return Done(process.returncode, out, err)


def within(*arguments: str | Path, project: Path | None = None, now: datetime = NOW) -> Done:
    """Run `headwater` in this process, on its Spark, as if it were `now`."""
    out, err = io.StringIO(), io.StringIO()
    words = [*map(str, arguments), *(() if project is None else ("--project", str(project)))]
    clock = functools.partial(hw.open, clock=lambda: now)
    with redirect_stdout(out), redirect_stderr(err), patch("headwater.project.open", clock), pytest.raises(SystemExit) as ended:
        commands.main(words)
    validate(words, out.getvalue())
    return Done(int(str(ended.value.code)), out.getvalue(), err.getvalue())


def starting(*arguments: str | Path, before: str = "", cwd: Path | None = None, **changes: str) -> subprocess.Popen[str]:
    """Start `headwater`, not waiting for its end."""
    program = f"{before}\nimport headwater\nheadwater.main()"
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd, env=environment(**changes),
    )  # fmt: skip
