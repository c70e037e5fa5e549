"""What was near is near again in the next process, and after a reload: a file of keys alone, of which no content is an error."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving import rest
from serving.desk import Limits
from serving.warming import MOST, Hot, read, write
from tests.serving.test_application import BODY, SERVICES, FakeStore, ask, made

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


def test_keys_are_written_and_read_as_they_are(tmp_path: Path) -> None:
    hot = [Hot("by_customer", "rows", [(1, "a|b", True, None), (-(2**63), "", False, "2026-01-05")]), Hot("other", "feast", [(1.5,)])]
    write(tmp_path / "state" / "near.json", hot)
    assert read(tmp_path / "state" / "near.json") == hot
    assert (tmp_path / "state" / "near.json").stat().st_mode & 0o777 == 0o600


def test_no_more_entities_are_remembered_than_there_is_room_for(tmp_path: Path) -> None:
    write(tmp_path / "near.json", [Hot("a", "rows", [(n,) for n in range(MOST - 1)]), Hot("b", "rows", [(1,), (2,)])])
    assert [len(each.entities) for each in read(tmp_path / "near.json")] == [MOST - 1, 1]
    write(tmp_path / "near.json", [Hot("a", "rows", [("x" * 1000,)] * MOST)])
    assert len(read(tmp_path / "near.json")) == 2  # too long to be kept: what was there stays


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    st.binary(max_size=60)
    | st.sampled_from([b"", b"{", b"[]", b'{"version":2,"hot":[]}', b'{"version":1,"hot":[["a","rows"]]}', b"[" * 100_000])
    | st.recursive(st.none() | st.integers(), st.lists, max_leaves=3).map(lambda hot: json.dumps({"version": 1, "hot": hot}).encode())
)
def test_a_damaged_file_is_ignored(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "near.json").write_bytes(data)
    assert read(tmp_path / "near.json") == []
    assert read(tmp_path / "nothing.json") == []


def test_where_it_cannot_be_written_nothing_is_remembered(tmp_path: Path) -> None:
    (tmp_path / "near.json").mkdir()
    write(tmp_path / "near.json", [Hot("a", "rows", [(1,)])])
    (tmp_path / "file").write_bytes(b"")
    write(tmp_path / "file" / "near.json", [Hot("a", "rows", [(1,)])])
    assert read(tmp_path / "near.json") == []


# -------------------------------------------------------------------------------------------------------------- as it is served


@asynccontextmanager
async def living(app: rest.Application) -> AsyncIterator[None]:
    """The application between its start and its end."""
    heard, said = asyncio.Queue[Any](), asyncio.Queue[Any]()
    life = asyncio.create_task(app({"type": "lifespan", "state": {}}, heard.get, said.put))
    await heard.put({"type": "lifespan.startup"})
    assert (await said.get())["type"] == "lifespan.startup.complete"
    yield
    await heard.put({"type": "lifespan.shutdown"})
    assert (await said.get())["type"] == "lifespan.shutdown.complete"
    await life


def application(path: Path) -> tuple[rest.Application, FakeStore]:
    store = FakeStore()
    return made(store, hot=path, limits=Limits(trust=1e9)), store


async def until_near(app: rest.Application) -> None:
    async with asyncio.timeout(30):
        while not (app._is_warm and any(hot.entities for hot in app._open.desk.hot())):  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.01)


def test_the_next_process_begins_with_what_was_near(tmp_path: Path) -> None:
    path = tmp_path / "near.json"

    async def two() -> list[Any]:
        first, _ = application(path)
        async with living(first):
            answer = await ask(first)
            await until_near(first)
        second, store = application(path)
        async with living(second):
            await until_near(second)
            store.away = True
            return [answer, await ask(second), await ask(second, "/v1/stats")]

    first, second, stats = asyncio.run(two())
    assert json.loads(path.read_text()) == {"version": 1, "hot": [["by_customer", "rows", [[42]]]]}
    assert (first[0], first[1]) == (second[0], second[1]) == (200, first[1])
    counted = stats[1]["services"]["by_customer"]
    assert (counted["entities"], counted["near_ratio"], counted["found_ratio"]) == (1, 1.0, 1.0)


@pytest.mark.parametrize(
    "hot",
    [
        [["nobody", "rows", [[42]]]], [["by_customer", "rows", [["x"]]]], [["by_customer", "rows", [[42, 1]]]],
        [["by_customer", "rows", [[]]]], [["by_customer", "rows", [[[42]]]]],
    ],
)  # fmt: skip
def test_what_cannot_be_asked_any_more_is_left_out(tmp_path: Path, hot: Any) -> None:
    path = tmp_path / "near.json"
    path.write_text(json.dumps({"version": 1, "hot": [*hot, ["by_customer", "rows", [[7]]]]}))

    async def near() -> list[Hot]:
        app, _ = application(path)
        async with living(app):
            await until_near(app)
            return app._open.desk.hot()

    assert asyncio.run(near()) == [Hot("by_customer", "rows", [(7,)])]


def test_while_the_store_is_away_it_starts_all_the_same_and_forgets_nothing(tmp_path: Path) -> None:
    path = tmp_path / "near.json"
    write(path, [Hot("by_customer", "rows", [(42,)])])

    async def lives() -> int:
        app, store = application(path)
        store.away = True
        async with living(app):
            await asyncio.sleep(0.05)
            return (await ask(app))[0]

    assert asyncio.run(lives()) == 503
    assert read(path) == [Hot("by_customer", "rows", [(42,)])]


def test_what_was_near_is_near_after_a_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "_LOOK_EVERY", 0.01)

    async def reloaded() -> int:
        app, store = application(tmp_path / "near.json")
        async with living(app):
            await ask(app, body=BODY)
            app.take_up(SERVICES)
            await until_near(app)
            store.away = True
            return (await ask(app))[0]

    assert asyncio.run(reloaded()) == 200


def test_what_is_near_is_written_down_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "_LOOK_EVERY", 0.01)
    monkeypatch.setattr(rest, "_WRITE_EVERY", 0.0)

    async def lives() -> None:
        app, _ = application(tmp_path / "near.json")
        async with living(app), asyncio.timeout(30):
            await ask(app)
            while not read(tmp_path / "near.json"):  # noqa: ASYNC110  # nothing tells
                await asyncio.sleep(0.01)

    asyncio.run(lives())
