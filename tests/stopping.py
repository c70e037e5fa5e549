"""A program that works in projects as a process of another host would, and stops itself (SIGSTOP) at the step that it was told.

It reads one JSON line for each piece of work, with a step of `STEPS`, and answers with one: how the work ended.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import socket
import sys
import threading
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from deltalake import DeltaTable

from feature_registry import leases
from feature_registry import registry as registries
from feature_registry.registry import Registry
from lake import delta_commits, facts
from spark_jobs import jvm, session, tables
from spark_jobs.compute import tile_store
from spark_jobs.ingest import here
from spark_jobs.publish import commit
from tests import projects
from tests.conftest import INTERPRETED

if TYPE_CHECKING:
    from collections.abc import Callable

SILENCE = timedelta(seconds=1)

AT_REST = threading.Lock()
"""Held while a lease is renewed: who is stopped in the middle of that holds a lock of SQLite, which is another test's subject."""


BEATING = leases.beating


def always(*_: object, **__: object) -> bool:
    """Whatever the step is called with."""
    return True


@dataclass(frozen=True, slots=True)
class Step:
    """Where work is stopped: before `owner.name`, or after it, when it is called with what `when` holds for."""

    verb: str
    owner: object
    name: str
    when: Callable[..., bool] = always
    after: bool = False


def in_table(folder: str) -> Callable[..., bool]:
    """The commit to a table of this kind."""
    return lambda table, *_, **__: folder in getattr(table, "table_uri", table)


def of_lease(kind: str) -> Callable[..., bool]:
    """What is done under a lease of this kind."""
    return lambda registry, *_: any(row["name"].startswith(kind) for row in registry._held())


STEPS = {
    "before tiles are stored": Step("materialize", tile_store, "_store"),
    "after the last look before tiles are committed": Step("materialize", DeltaTable, "create_write_transaction", in_table("/tiles/")),
    "after tiles are stored": Step("materialize", Registry, "record_tiles"),
    "before a publish is begun": Step("materialize", Registry, "begin_publish"),
    "before its records are copied": Step("materialize", facts, "keep_publish"),
    "after its records are copied": Step("materialize", commit, "_commit"),
    "after a look before history is kept": Step("materialize", Registry, "fence", of_lease("group"), after=True),
    "after history is kept": Step("materialize", tables, "replace", lambda _, path, **__: "/features/" in path),
    "before the last look": Step("materialize", delta_commits, "commit", in_table("/features/")),
    "after the last look before rows are committed": Step("materialize", DeltaTable, "create_write_transaction", in_table("/features/")),
    "after rows are committed": Step("materialize", delta_commits, "commit", in_table("/features/"), after=True),
    "before a publish is finished": Step("materialize", Registry, "finish_publish"),
    "before the lease is given back": Step("materialize", leases, "give_back", lambda _, row: row["name"].startswith("group")),
    "after the last look before a promotion is kept": Step("promote", delta_commits, "write_deltalake", in_table("/promotions")),
    "after a promotion is kept": Step("promote", Registry, "promote"),
    "before an ingest is begun": Step("ingest", Registry, "begin_ingest"),
    "after its records are kept": Step("ingest", here, "commit"),
    "after the last look before an ingest is committed": Step("ingest", DeltaTable, "create_write_transaction", in_table("/sources/")),
    "before an ingest is finished": Step("ingest", Registry, "finish_ingest"),
}


def work(verb: str, folder: Path) -> None:
    """What both processes do, one after the other."""
    with projects.opened(folder) as p:
        match verb:
            case "materialize":
                p.materialize("spend")
            case "promote":
                p.promote("spend", 1)
            case "ingest":
                p.ingest("payments")


def impatient() -> Any:
    """A silence of a second is long enough to lose a lease."""
    return patch.object(registries, "open_registry", functools.partial(registries.open_registry, silence=SILENCE))


def renewed_at_rest(beat: Callable[[], None], *, every: timedelta) -> Any:
    """Renew leases as always, but never while this process is being stopped."""

    def renew() -> None:
        with AT_REST:
            beat()

    return BEATING(renew, every=every)


def stop_now() -> None:
    """Stop this process, between two renewals of its leases."""
    with AT_REST:
        os.kill(os.getpid(), signal.SIGSTOP)


def stopping(step: Step) -> Any:
    """This process stops at the step, once."""
    real, stopped = getattr(step.owner, step.name), list[bool]()

    def stop(*args: Any, **kwargs: Any) -> Any:
        due = not stopped and step.when(*args, **kwargs)
        stopped.extend([True] if due else [])
        if due and not step.after:
            stop_now()
        result = real(*args, **kwargs)
        if due and step.after:
            stop_now()
        return result

    return patch.object(step.owner, step.name, stop)


def main(scratch: str) -> None:
    """Do what is asked, line by line."""
    jars = jvm.delta_jars(jvm.jar_cache())
    session.session(jars=jars, scratch=Path(scratch), master="local[1]", driver_memory="1g", conf=INTERPRETED)
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        step, said = STEPS[asked["step"]], "done"
        elsewhere = patch.object(socket, "gethostname", lambda: "elsewhere")
        with impatient(), stopping(step), elsewhere, patch.object(leases, "beating", renewed_at_rest):
            try:
                work(step.verb, Path(asked["folder"]))
            except Exception as error:  # noqa: BLE001  # it is what is asked
                said = f"{type(error).__name__}: {error}"
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
