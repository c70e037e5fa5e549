"""Functions that take too long: they are FAILED from then on, whatever they do about it, until definitions are taken up anew."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from feature_definitions import FeatureService, Join, OnDemandFeature, Request, on_demand
from serving.timed import Timed
from tests.serving.test_answer import spend
from tests.serving.test_application import FakeStore, ask, made

if TYPE_CHECKING:
    from collections.abc import Callable

    from serving import rest

AMOUNT = Request("amount", "double")
QUICK = 0.05


def sleeps(_: float) -> float:
    time.sleep(1000)
    return 1.0


def loops(_: float) -> float:
    while True:
        pass


def loops_and_takes_every_exception_for_its_own(_: float) -> float:
    while True:
        try:
            loops(1.0)
        except Exception:  # noqa: BLE001  # what a bad function does
            continue


def gives_a_value_when_it_is_told_to_end(_: float) -> float:
    try:
        return loops(1.0)
    except BaseException:  # noqa: BLE001  # the same
        return 1.0


def hangs(_: float) -> float:
    while True:
        gives_a_value_when_it_is_told_to_end(1.0)


def feature(function: Callable[..., object], name: str = "slow", limit: float = QUICK) -> OnDemandFeature:
    return OnDemandFeature(name, (AMOUNT,), "double", function, rows=True, limit_seconds=limit)


class Told:
    """A parent, who hears at what its worker is."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def begins(self, what: str) -> None:
        self.heard.append(what)

    def ends(self) -> None:
        self.heard.append("")


def compute(timed: Timed, of: OnDemandFeature) -> list[Any]:
    found = timed.compute(of, [on_demand.of_python([1.0, 2.0], "double")], count=2)
    return ["FAILED" if failed else value for value, failed in zip(found.values.tolist(), found.failures, strict=True)]


@pytest.mark.parametrize("function", [sleeps, loops, loops_and_takes_every_exception_for_its_own, gives_a_value_when_it_is_told_to_end])
def test_a_function_that_takes_too_long_is_ended_and_never_called_again(function: Callable[[float], float]) -> None:
    calls: list[float] = []

    def counted(amount: float) -> float:
        calls.append(amount)
        return function(amount)

    timed, told = Timed(), Told()
    timed.tell(told)
    assert [compute(timed, feature(counted)) for _ in range(2)] == [["FAILED", "FAILED"]] * 2
    assert calls == [1.0] or (function is gives_a_value_when_it_is_told_to_end and calls == [1.0, 2.0])
    assert (timed.late, told.heard) == ({"slow"}, ["slow", ""])


def test_a_function_that_is_in_time_is_called_as_ever_and_alarms_stay_whose_they_were() -> None:
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: rung.append(number))
    old = signal.setitimer(signal.ITIMER_REAL, 500.0)
    try:
        assert compute(Timed(), feature(lambda amount: amount * 2, limit=5.0)) == [2.0, 4.0]
        left, _ = signal.setitimer(signal.ITIMER_REAL, *old)
        assert 0 < left <= 500.0
        signal.raise_signal(signal.SIGALRM)
        assert rung == [signal.SIGALRM]
    finally:
        signal.signal(signal.SIGALRM, before)


def test_outside_of_the_main_thread_it_is_late_once_it_ends() -> None:
    found: list[list[Any]] = []
    timed = Timed()

    def asks() -> None:
        found.append(compute(timed, feature(lambda amount: time.sleep(0.02) or amount, limit=0.001)))

    thread = threading.Thread(target=asks)
    thread.start()
    thread.join()
    assert (found, timed.late) == ([["FAILED", "FAILED"]], {"slow"})


# -------------------------------------------------------------------------------------------------------------- as it is served


def services(slow: Callable[[float], float]) -> dict[str, FeatureService]:
    computed = (feature(slow), feature(lambda amount: amount * 2, "double"))
    return {"computed": FeatureService("computed", joins=(Join(spend),), on_demand=computed)}


BODY = json.dumps({"service": "computed", "entities": [{"customer_id": 42, "amount": 2.0}]}).encode()


def hanging() -> rest.Application:
    """An application with a function that nothing but the end of its process ends."""
    return made(FakeStore(), services=services(hangs))


def test_the_rest_of_an_answer_is_there_and_a_reload_tries_again() -> None:
    app = made(FakeStore(), services=services(sleeps))

    async def asked() -> list[Any]:
        found = [await ask(app, body=BODY), await ask(app, "/v1/stats")]
        app.take_up(services(lambda amount: amount * 3))
        return [*found, await ask(app, body=BODY), await ask(app, "/v1/stats")]

    late, stats, renewed, after = asyncio.run(asked())
    [result], [again] = late[1]["results"], renewed[1]["results"]
    assert (late[0], result["values"]["slow"], result["values"]["double"]) == (200, None, 4.0)
    assert result["status"] == {"spend": "PRESENT", "slow": "FAILED", "double": "PRESENT"}
    assert (again["values"]["slow"], again["status"]["slow"]) == (6.0, "PRESENT")
    assert (stats[1]["late"], after[1]["late"]) == (["slow"], [])


def test_at_what_another_worker_hung_is_late_from_the_start() -> None:
    app, told = hanging(), Told()
    app.watched(told, hung=frozenset({"slow"}))
    _, body, _ = asyncio.run(ask(app, body=BODY))
    assert body["results"][0]["status"]["slow"] == "FAILED"
    assert told.heard == ["double", ""]
