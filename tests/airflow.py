"""A real Airflow beside a project, as `make up` starts it: scheduler, API and triggerer on loopback, asked by REST."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROOT = Path(__file__).parents[1]
PATIENCE = 600.0
"""Seconds for what the machine may be slow at; a state that cannot come any more ends a wait at once."""

ENDED = ("success", "failed")
APPROVE = "approve"


class NotThere(AssertionError):
    """An answer that says that something is not there, or not yet."""


class ServerError(AssertionError):
    """An answer that says that the server failed, not the request."""


@dataclass(frozen=True)
class System:
    """A project and the Airflow that runs it."""

    folder: Path
    port: int
    token: str
    environment: Mapping[str, str] = field(repr=False)

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Airflow's answer to a request below /api/v2."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        url = f"http://127.0.0.1:{self.port}/api/v2{path}"
        return _asked(url, method=method, body=body, headers=headers)

    def runs(self, dag: str) -> dict[str | None, dict[str, Any]]:
        """The newest run of each partition key of a DAG."""
        found = self.ask("GET", f"/dags/{dag}/dagRuns?limit=200&order_by=start_date")["dag_runs"]
        return {run["partition_key"]: run for run in found}

    def states(self, run: Mapping[str, Any]) -> dict[str, str | None]:
        """What became of a run's tasks."""
        path = f"/dags/{run['dag_id']}/dagRuns/{quote(run['dag_run_id'])}/taskInstances"
        return {each["task_id"]: each["state"] for each in self.ask("GET", path)["task_instances"]}

    def log(self, run: Mapping[str, Any], task: str, number: int = 1) -> list[str]:
        """The lines of a task's log."""
        path = f"/dags/{run['dag_id']}/dagRuns/{quote(run['dag_run_id'])}/taskInstances/{task}/logs/{number}?full_content=true"
        try:
            return [str(each.get("event", "")) for each in self.ask("GET", path)["content"]]
        except NotThere:  # the task has not begun
            return []

    def events(self) -> list[dict[str, Any]]:
        """The events of assets, the newest first. Airflow fails at them while a run that they start is queued (apache/airflow#71360)."""

        def asked() -> list[dict[str, Any]] | None:
            try:
                found: list[dict[str, Any]] = self.ask("GET", "/assets/events?limit=100&order_by=-timestamp")["asset_events"]
            except ServerError:
                return None
            return found

        answer: list[dict[str, Any]] = self.until(asked)
        return answer

    def told(self) -> dict[str, set[str | None]]:
        """The partitions of each group that Airflow was told of, of the newest hundred events."""
        found: dict[str, set[str | None]] = {}
        for event in self.events():
            found.setdefault(event["name"].removeprefix("features."), set()).add(event["partition_key"])
        return found

    def switch(self, dag: str, *, paused: bool) -> None:
        """Pause a DAG, or let it go on."""
        self.ask("PATCH", f"/dags/{dag}?update_mask=is_paused", {"is_paused": paused})

    def trigger(self, dag: str, **conf: Any) -> str:
        """Start a run of a DAG, as its button does; the run's id."""
        started: dict[str, Any] = self.ask("POST", f"/dags/{dag}/dagRuns", {"logical_date": None, "conf": conf})
        return str(started["dag_run_id"])

    def start(self, dag: str, key: str) -> dict[str, Any]:
        """Start a run of a partition key."""
        started: dict[str, Any] = self.ask("POST", f"/dags/{dag}/dagRuns", {"logical_date": None, "partition_key": key})
        return started

    def begun(self, dag: str, key: str) -> dict[str, Any]:
        """The newest run of a key, once there is one; the DAG itself may come later."""

        def found() -> dict[str, Any] | None:
            try:
                return self.runs(dag).get(key)
            except NotThere:
                return None

        answer: dict[str, Any] = self.until(found)
        return answer

    def asked(self, run: Mapping[str, Any]) -> dict[str, Any]:
        """What a run asks a person, once it does."""
        self.until(lambda: self.states(run).get(APPROVE) == "awaiting_input")
        found: dict[str, Any] = self.ask("GET", _question(run))
        return found

    def answer(self, run: Mapping[str, Any], button: str, *, reason: str | None = None) -> None:
        """Press a button of what a run asks."""
        self.ask("PATCH", _question(run), {"chosen_options": [button], "params_input": {"reason": reason}})

    def page(self, path: str, *, token: str) -> tuple[int, str]:
        """The answer, and its text, to a browser that asks for a page with a cookie."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers={"Cookie": f"_token={token}"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def run(self, dag: str, run_id: str) -> dict[str, Any]:
        """A run as it is now."""
        found: dict[str, Any] = self.ask("GET", f"/dags/{dag}/dagRuns/{quote(run_id)}")
        return found

    def finished(self, dag: str, run_id: str) -> dict[str, Any]:
        """A run, once it has ended."""
        return self.until(lambda: (run := self.run(dag, run_id))["state"] in ENDED and run)

    def ended(self, dag: str, key: str | None) -> dict[str, Any]:
        """The newest run of a key, once it has ended."""
        return self.until(lambda: (run := self.runs(dag).get(key)) and run["state"] in ENDED and run)

    def quiet(self, dag: str) -> list[dict[str, Any]]:
        """The runs of a DAG, the newest last, once none of them is at work and no event waits to start one."""

        def idle() -> list[dict[str, Any]] | None:
            found: list[dict[str, Any]] = self.ask("GET", f"/dags/{dag}/dagRuns?limit=200&order_by=run_after")["dag_runs"]
            return found if found and all(run["state"] in ENDED for run in found) else None

        answer: list[dict[str, Any]] = self.until(idle)
        return answer

    def until(self, found: Callable[[], Any], *, patience: float = PATIENCE) -> Any:
        """What is found as soon as it is something."""
        deadline = time.monotonic() + patience
        while not (answer := found()):
            assert time.monotonic() < deadline, f"nothing came in {patience:.0f} s; Airflow's logs lie in {self.folder}/.headwater/up"
            time.sleep(1)  # each question costs the server some 30 ms of CPU
        return answer

    def listened(self) -> None:
        """Wait until the scheduler has gone round twice: until then it may not have heard what a worker has told Airflow."""

        def beat() -> str:
            found: str = self.ask("GET", "/monitor/health")["scheduler"]["latest_scheduler_heartbeat"]
            return found

        for _ in range(2):
            before = beat()
            self.until(lambda before=before: beat() != before)

    def backfill(self, dag: str, first: date, last: date, *, reprocess: str = "none") -> dict[str, Any]:
        """Start Airflow's own backfill, once the one before is over: a DAG has one at a time."""
        self.until(lambda: all(each["completed_at"] for each in self.ask("GET", f"/backfills?dag_id={dag}")["backfills"]))
        body = {
            "dag_id": dag, "from_date": f"{first}T00:00:00Z", "to_date": f"{last}T00:00:00Z", "reprocess_behavior": reprocess,
            "max_active_runs": 3,
        }  # fmt: skip
        answer: dict[str, Any] = self.ask("POST", "/backfills", body)
        return answer

    def clear_failed(self, run: Mapping[str, Any]) -> None:
        """Clear the failed tasks of a run, as its button does."""
        body = {"dry_run": False, "only_failed": True, "dag_run_id": run["dag_run_id"], "reset_dag_runs": True}
        self.ask("POST", f"/dags/{run['dag_id']}/clearTaskInstances", body)

    def command(self, *arguments: str) -> Any:
        """What the `headwater` command answers in the project."""
        command = [ROOT / ".venv/bin/headwater", *arguments, "--json", "--project", self.folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**self.environment, "PYTHONPATH": str(ROOT)})
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def ledger(self) -> dict[str, dict[str, dict[str, Any]]]:
        """What the ledger knows of each day of each group."""
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for each in self.command("status")["intervals"]:
            found.setdefault(each["group"], {})[each["interval_start"][:10]] = each
        return found

    def pid(self, name: str) -> int:
        """The process of a part of the system, like `scheduler`."""
        return int((self.folder / ".headwater/up" / f"{name}.pid").read_text(encoding="utf-8"))

    def working(self, verb: str) -> int | None:
        """The process of the `headwater` command that runs a verb in the project for a task, if there is one."""
        for folder in Path("/proc").iterdir():
            try:
                words = (folder / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if verb in words and "--sound-only" in words and str(self.folder) in words:
                return int(folder.name)
        return None

    def kill_worker(self, pid: int) -> None:
        """Kill a task's command with all that it started, and the worker that it runs in, as a machine's end does."""
        parents = [pid]
        while (parent := _parent(parents[-1])) != self.pid("scheduler"):
            parents.append(parent)
        for each in (*reversed(parents), *_below(pid)):
            with suppress(ProcessLookupError):  # it ended meanwhile
                os.kill(each, signal.SIGKILL)

    def kill(self, name: str) -> None:
        """Kill a part of the system, and wait until it is gone."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        self.until(lambda: not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes())

    def up(self, **more: str) -> None:
        """Start what does not run; it sees more variables, or others."""
        subprocess.run([ROOT / "docker/up", self.folder], env={**self.environment, **more}, check=True)


def _question(run: Mapping[str, Any]) -> str:
    return f"/dags/{run['dag_id']}/dagRuns/{quote(run['dag_run_id'])}/taskInstances/{APPROVE}/-1/hitlDetails"


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])


def _below(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False).stdout.split()
    return [each for child in map(int, found) for each in (child, *_below(child))]


@contextmanager
def running(folder: Path, **more: str) -> Iterator[System]:
    """The system of a project, on free ports, with a small Spark; it is stopped at the end."""
    port, serving = _free(), _free()
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "HEADWATER_"))}
    cache = {name: os.environ[name] for name in ("HEADWATER_CACHE",) if name in os.environ}
    small = {"HEADWATER_SPARK_MASTER": "local[2]", "HEADWATER_DRIVER_MEMORY": "1g"}
    environment = {**ours, **cache, **small, "AIRFLOW_PORT": str(port), "SERVING_PORT": str(serving), **more}
    try:
        subprocess.run([ROOT / "docker/up", folder], env=environment, check=True)
        password = json.loads((folder / ".headwater/up/passwords").read_text(encoding="utf-8"))["admin"]
        login = _asked(f"http://127.0.0.1:{port}/auth/token", method="POST", body={"username": "admin", "password": password}, headers={})
        yield System(folder, port, login["access_token"], environment)
    finally:
        subprocess.run([ROOT / "docker/down", folder], env=ours, check=True)


def _asked(url: str, *, method: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, method=method, data=data, headers={"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        kind = ServerError if error.code >= 500 else NotThere if error.code == 404 else AssertionError
        raise kind(f"{method} {url}: {error.code} {error.read().decode()}") from None


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
