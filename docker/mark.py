"""Shows Airflow once what the command published before, so that it counts as done; `docker/up` runs it.

    docker/mark.py pause KEPT    before the scheduler starts: makes the pool, and pauses all DAGs, whose names it keeps in a file
    docker/mark.py mark KEPT     once it runs: has one DAG tell of all that was published, then lets the others go on

So nothing is queued for history, and what is published from now on reaches all that wait for it. ADDRESS, PASSWORD and POOL are of Airflow.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MARK, ALWAYS = "mark__published", "sync__online"
"""The DAG that marks, which is there as soon as the catalog has a group; and one of the same file that always is."""
SLOTS = 2
"""How many tasks compute at a time; a person changes it in Airflow, under Admin, Pools."""
SECONDS = 1800
"""A project of a hundred groups takes minutes."""


def ask(method: str, path: str, body: object = None, *, token: str = "") -> Any:
    """Airflow's answer, None for what is not there yet, or is there already."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(os.environ["ADDRESS"] + path, method=method, data=data, headers=headers)  # noqa: S310  # on loopback
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        if error.code in (404, 409):
            return None
        raise


def until(found: Any) -> Any:
    """What comes, within some minutes; ends the program if nothing does."""
    deadline = time.monotonic() + SECONDS
    while not (answer := found()):
        if time.monotonic() > deadline:
            sys.exit(f"make up: Airflow did not run {MARK}; trigger it by hand to see what was published before")
        time.sleep(0.5)
    return answer


def running(token: str) -> Iterator[str]:
    """The DAGs that are not paused, which Airflow lists by the hundred."""
    offset = 0
    while page := ask("GET", f"/api/v2/dags?limit=100&offset={offset}&order_by=dag_id", token=token)["dags"]:
        yield from (dag["dag_id"] for dag in page if not dag["is_paused"] and dag["dag_id"] != MARK)
        offset += len(page)


def switch(dags: list[str], *, paused: bool, token: str) -> None:
    """Pause DAGs, or let them go on."""
    for dag in dags:
        ask("PATCH", f"/api/v2/dags/{dag}?update_mask=is_paused", {"is_paused": paused}, token=token)


def pause(kept: Path, token: str) -> None:
    """Make the pool, and pause all DAGs unless what was published before is shown already."""
    ask("POST", "/api/v2/pools", {"name": os.environ["POOL"], "slots": SLOTS, "include_deferred": False}, token=token)
    until(lambda: ask("GET", f"/api/v2/dags/{ALWAYS}", token=token))
    if ask("GET", f"/api/v2/dags/{MARK}", token=token) is None:
        sys.stdout.write("The catalog has no group without a mistake: correct what headwater check says, then run make up again.\n")
        return
    if kept.exists() or ask("GET", f"/api/v2/dags/{MARK}/dagRuns?state=success&limit=1", token=token)["dag_runs"]:
        return
    dags = list(running(token))
    kept.write_text(json.dumps(dags), encoding="utf-8")
    switch(dags, paused=True, token=token)


def mark(kept: Path, token: str) -> None:
    """Run the DAG that marks, then let the others go on."""
    if not kept.exists():
        return
    try:
        run = ask("POST", f"/api/v2/dags/{MARK}/dagRuns", {"logical_date": None}, token=token)
        place = f"/api/v2/dags/{MARK}/dagRuns/{run['dag_run_id']}"
        until(lambda: ask("GET", place, token=token)["state"] in ("success", "failed"))
    finally:
        switch(json.loads(kept.read_text(encoding="utf-8")), paused=False, token=token)
        kept.unlink()


if __name__ == "__main__":
    token = ask("POST", "/auth/token", {"username": "admin", "password": os.environ["PASSWORD"]})["access_token"]
    {"pause": pause, "mark": mark}[sys.argv[1]](Path(sys.argv[2]), token)
