"""`sync`, `get`, `serve` and `down`, and the whole way of a new user, command by command."""

from __future__ import annotations

import http.client
import json
import re
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from examples import starter
from tests import projects
from tests.projects import Done, command, within

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ISO = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{6})?Z")


def test_an_entity_of_which_nothing_was_published_is_expired(fresh: Path) -> None:
    (result,) = within("get", "customer_v1", "customer_id=1", "--json", project=fresh).json["results"]
    assert result["entity"] == {"customer_id": 1}
    assert set(result["values"].values()) == {None}
    assert (result["status"], result["event_timestamp"]) == ({"customer_spend": "EXPIRED"}, {"customer_spend": None})


def test_down_says_whether_a_store_was_running_and_may_be_said_twice(fresh: Path) -> None:
    within("get", "customer_v1", "customer_id=1", project=fresh)
    said = [within("down", project=fresh) for _ in range(2)]
    assert [done.code for done in said] == [0, 0]
    assert "stopped" in said[0].out
    assert "was not running" in said[1].out


def test_a_store_is_stopped_whatever_is_wrong_in_the_catalog(fresh: Path) -> None:
    within("get", "customer_v1", "customer_id=1", project=fresh)
    broken = fresh / "catalog" / "broken.py"
    broken.write_text("x = = 1\n")
    stopped = within("down", "--json", project=fresh)
    broken.unlink()
    assert (stopped.code, stopped.json, stopped.err) == (0, {"stopped": True}, "")


@dataclass(frozen=True, slots=True)
class Chain:
    """How every command of a tour ended, in processes of their own; those that need Spark have the suite's.

    That they start one, each in its process, is what the README's commands show (tests/test_readme.py).
    """

    folder: Path
    done: dict[str, Done]
    ready: int
    served: Any
    by_two: tuple[int, Any]


def served(folder: Path, body: object, *words: str) -> tuple[int, Any]:
    """What `headwater serve` says at /readyz, and its answer to a request for features."""
    with projects.starting("serve", "--port", "0", *words, "--project", folder) as process:
        try:
            assert process.stderr is not None
            port = int(re.search(r"http://127\.0\.0\.1:(\d+)", process.stderr.readline())[1])  # type: ignore[index]  # else it fails here
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
                connection.request("GET", "/readyz")
                ready = connection.getresponse()
                ready.read()
                connection.request("POST", "/v1/features", json.dumps(body))
                return ready.status, json.loads(connection.getresponse().read())
        finally:
            process.terminate()
            process.wait(timeout=60)


WITH_SPARK = ("materialize", "training-set")


@pytest.fixture(scope="module")
def chain(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """`headwater init`, and then all that it says to do next."""
    folder = tmp_path_factory.mktemp("chain") / "shop"
    now = datetime.now(UTC)
    spine = pd.DataFrame({
        "customer_id": [1, 2, 999], "event_timestamp": [now, now - timedelta(days=5), now], "label": [True, False, None],
    })  # fmt: skip
    done = {"init": command("init", folder)}
    spine.to_parquet(folder / "spine.parquet")
    verbs: dict[str, tuple[str | Path, ...]] = {
        "ingest": ("ingest", "--json"),
        "plan": ("plan", "--json"),
        "materialize": ("materialize", "--json"),
        "status": ("status", "--json"),
        "training-set": ("training-set", "--spine", folder / "spine.parquet", "--service", "customer_v1", "--json"),
        "sync": ("sync", "--json"),
        "parity": ("parity", "--full", "--json"),
        "get": ("get", "customer_v1", "customer_id=1", "--json"),
    }
    for name, words in verbs.items():
        done[name] = within(*words, project=folder, now=now) if name in WITH_SPARK else command(*words, "--project", folder)
    body = {"service": "customer_v1", "entities": [{"customer_id": 1}, {"customer_id": 999}]}
    ready, answer = served(folder, body)
    by_two = served(folder, body, "--workers", "2")
    done["down"] = command("down", "--project", folder)
    return Chain(folder, done, ready, answer, by_two)


def test_every_command_of_the_tour_ends_with_0(chain: Chain) -> None:
    assert {name: (done.code, done.err if done.code else "") for name, done in chain.done.items()} == dict.fromkeys(chain.done, (0, ""))


def test_two_processes_answer_what_one_does(chain: Chain) -> None:
    assert chain.by_two == (chain.ready, chain.served)


def test_init_says_what_to_do_next(chain: Chain) -> None:
    assert starter.NEXT in chain.done["init"].out


def test_long_work_says_on_stderr_what_it_does(chain: Chain) -> None:
    assert "ingesting payments: 1 file" in chain.done["ingest"].err
    assert "customer_spend: computing" in chain.done["materialize"].err


def test_what_was_planned_was_published(chain: Chain) -> None:
    planned = [s["interval_start"] for s in chain.done["plan"].json["steps"] if s["step"] == "Publish"]
    (group,) = chain.done["materialize"].json["groups"]
    assert group["published"] == len(planned) >= 39
    assert [(i["interval_start"], i["status"]) for i in chain.done["status"].json["intervals"]] == [(start, "OK") for start in planned]


def test_the_training_set_has_the_spines_rows_and_columns_and_the_services_outputs(chain: Chain) -> None:
    built = chain.done["training-set"].json
    rows = projects.table(built["path"])
    outputs = ["spend_1d", "spend_7d", "spend_30d", "payments_1d", "payments_30d", "mean_payment_30d"]
    own = ["hw_row", "hw_date"]
    assert built["path"] == str(chain.folder / "lake/training_sets/customer_v1")
    assert list(rows.columns) == ["customer_id", "event_timestamp", "label", *(f"customer_spend__{name}" for name in outputs), *own]
    assert (built["rows"], sorted(rows["customer_id"])) == (3, [1, 2, 999])


def test_sync_says_what_it_wrote(chain: Chain) -> None:
    (epoch,) = chain.done["sync"].json["epochs"]
    assert (epoch["group"], epoch["epoch"], epoch["rows"]) == ("customer_spend", 1, epoch["written"])
    assert ISO.fullmatch(epoch["coverage"])


def test_parity_says_that_every_row_is_as_the_lake_has_it(chain: Chain) -> None:
    (group,), rows = chain.done["parity"].json["groups"], chain.done["sync"].json["epochs"][0]["rows"]
    assert (group["group"], group["epoch"], group["rows"], group["equal"], group["share"]) == ("customer_spend", 1, rows, rows, 1.0)


def test_http_answers_what_get_prints_in_the_order_asked(chain: Chain) -> None:
    assert chain.ready == 200
    known, unknown = chain.served["results"]
    assert chain.done["get"].json == {"results": [known]}
    assert set(known) == {"entity", "values", "status", "event_timestamp"}
    assert known["status"] == {"customer_spend": "PRESENT"}
    assert known["values"]["customer_spend__payments_30d"] > 0
    assert ISO.fullmatch(known["event_timestamp"]["customer_spend"])
    assert (unknown["entity"], unknown["status"]) == ({"customer_id": 999}, {"customer_spend": "NOT_FOUND"})
    assert unknown["values"]["customer_spend__payments_30d"] == 0


def test_online_equals_the_training_set_at_the_same_time(chain: Chain) -> None:
    rows = projects.table(chain.done["training-set"].json["path"]).set_index("customer_id")
    values = chain.served["results"][0]["values"]
    assert {name: rows.loc[1, name] for name in values} == values
