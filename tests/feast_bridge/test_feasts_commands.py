"""Feast's own commands on our repository: the list of views, the UI, the server; and `headwater feast apply` in a process of its own."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.error import URLError

import pytest

from feature_definitions.errors import UserError
from headwater import beside
from tests.feast_bridge import shops
from tests.projects import command, environment, write

with warnings.catch_warnings(action="ignore"):
    from click.testing import CliRunner
    from feast.cli.cli import cli

    from feast_bridge import repository
    from feast_bridge.__main__ import main

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.feast_bridge.conftest import Told

pytestmark = pytest.mark.filterwarnings("ignore")

PATIENCE = 120
"""Seconds after which a server that does not answer is given up; a quiet machine needs ten."""


def free_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def running(repo: Path, *words: str) -> Iterator[int]:
    """A command of Feast's that serves on a port, in a process of its own."""
    port = free_port()
    program = "import sys; from feast.cli.cli import cli; cli(sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", program, "-c", str(repo), *words, "-h", "127.0.0.1", "-p", str(port)],
        env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield port
    finally:
        process.terminate()
        process.wait(timeout=60)


def answer(port: int, path: str, body: Mapping[str, Any] | None = None) -> str:
    """What a server answers as soon as it does."""
    data, until = None if body is None else json.dumps(body).encode(), time.monotonic() + PATIENCE
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=data, headers={"Content-Type": "application/json"})
    while True:
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as found:
                return str(found.read().decode())
        except URLError as error:
            if not isinstance(error.reason, ConnectionError) or time.monotonic() > until:
                raise
            time.sleep(0.2)


def test_feast_lists_our_groups_as_views(told: Told) -> None:
    done = CliRunner().invoke(cli, ["-c", str(told.repo), "feature-views", "list"])
    assert done.exit_code == 0
    assert {line.split()[0] for line in done.output.splitlines()[1:]} >= {"spend", "last_payment", "town", "secret"}


def test_feasts_command_to_materialize_is_refused(told: Told) -> None:
    done = CliRunner().invoke(cli, ["-c", str(told.repo), "materialize-incremental", "2026-01-06T00:00:00"])
    assert done.exit_code != 0
    assert "Run instead: headwater sync" in str(done.exception)


def test_feasts_ui_and_server_work_on_the_repository(told: Told) -> None:
    asked = {"features": ["town:city", "spend:payments_1d"], "entities": {"shop": ["north", "south"], "customer_id": [1, 9]}}
    with running(told.repo, "ui") as ui, running(told.repo, "serve") as server:
        found = json.loads(answer(server, "/get-online-features", asked))
        registry, page = answer(ui, "/api/v1/feature_views?project=shop"), answer(ui, "/")
    by_name = dict(zip(found["metadata"]["feature_names"], found["results"], strict=True))
    assert by_name["city"]["values"] == ["Oslo", None]
    assert by_name["city"]["statuses"] == ["PRESENT", "NULL_VALUE"]
    assert by_name["payments_1d"]["statuses"] == ["OUTSIDE_MAX_AGE"] * 2
    assert "last_payment" in registry
    assert "<html" in page


def test_the_command_tells_feast_and_names_what_it_cannot_be_told(tmp_path: Path) -> None:
    folder = shops.made(tmp_path / "shop")
    done = command("feast", "apply", "--json", "--project", folder)
    assert (done.code, done.json["feature_views"], len(done.json["not_said"])) == (0, 4, 4)
    assert "feature at_home of service towns_v2: it reads a join under a prefix" in done.err
    assert (folder / "feast" / repository.SETTINGS).exists()


def test_a_mistake_ends_with_2_and_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shops.made(tmp_path / "shop")
    write(folder, "feast/feature_store.yaml", "project: x\nprovider: local\nregistry: r.db\nentity_key_serialization_version: 3\n")
    assert main(["apply", str(folder), str(folder / "feast")]) == 2
    assert "has another offline_store" in json.loads(capsys.readouterr().out)["mistake"]


@pytest.mark.parametrize(
    ("code", "printed", "raised", "sentence"),
    [(2, '{"mistake": "so not"}', UserError, "so not"), (1, "", RuntimeError, "the last line")],
)
def test_what_ends_beside_the_command_is_raised_in_it(
    monkeypatch: pytest.MonkeyPatch, code: int, printed: str, raised: type[Exception], sentence: str
) -> None:
    ended = subprocess.CompletedProcess([], code, stdout=printed, stderr="a line\nthe last line\n")
    monkeypatch.setattr(beside.subprocess, "run", lambda *_, **__: ended)
    with pytest.raises(raised, match=sentence):
        beside.feast("apply")
