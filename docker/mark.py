"""Shows Airflow once what the command published before: `docker/up` runs it, with Airflow's address and password in its environment.

The DAGs that publishing triggers are paused meanwhile, so that nothing is queued for history.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from typing import Any

MARK, CONSUMERS = "mark__published", ("ts__", "sync__published")
SECONDS = 180


def ask(method: str, path: str, body: object = None, *, token: str = "") -> Any:
    """Airflow's answer, None for what is not there yet."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(os.environ["ADDRESS"] + path, method=method, data=data, headers=headers)  # noqa: S310  # on loopback
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def until(found: Any) -> Any:
    """What comes, within some minutes; ends the program if nothing does."""
    deadline = time.monotonic() + SECONDS
    while not (answer := found()):
        if time.monotonic() > deadline:
            sys.exit(f"make up: Airflow did not run {MARK}; trigger it by hand to see what was published before")
        time.sleep(1)
    return answer


def main() -> None:
    """Run the DAG that marks, while its consumers are paused."""
    token = ask("POST", "/auth/token", {"username": "admin", "password": os.environ["PASSWORD"]})["access_token"]
    until(lambda: ask("GET", f"/api/v2/dags/{MARK}", token=token))
    listed = ask("GET", "/api/v2/dags?limit=1000", token=token)["dags"]
    consumers = [dag["dag_id"] for dag in listed if dag["dag_id"].startswith(CONSUMERS) and not dag["is_paused"]]

    def pause(how: bool) -> None:  # noqa: FBT001  # as Airflow says it
        for dag in consumers:
            ask("PATCH", f"/api/v2/dags/{dag}?update_mask=is_paused", {"is_paused": how}, token=token)

    pause(True)
    try:
        run = ask("POST", f"/api/v2/dags/{MARK}/dagRuns", {"logical_date": None}, token=token)
        place = f"/api/v2/dags/{MARK}/dagRuns/{run['dag_run_id']}"
        until(lambda: ask("GET", place, token=token)["state"] in ("success", "failed"))
    finally:
        pause(False)


if __name__ == "__main__":
    main()
