"""The proxy in front of an S3 server tells truthfully what was asked, and its faults are those that it says."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import obstore
import pytest
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from tests import s3, s3_proxy
from tests.s3_proxy import Counting, Fault, Request

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def proxy(moto: s3.Server) -> Iterator[Counting]:
    moto.bucket("proxied")
    with s3_proxy.counting(moto) as counting:
        yield counting


@pytest.fixture
def store(proxy: Counting) -> Iterator[S3Store]:
    proxy.clear()
    yield opened(proxy)
    proxy.delay, proxy.fault = 0.0, lambda _: None


def opened(proxy: Counting) -> Any:
    keys = {"access_key_id": s3.KEY, "secret_access_key": s3.SECRET, "region": s3.REGION}
    patient = {"max_retries": 2, "retry_timeout": timedelta(seconds=5)}
    return S3Store("proxied", endpoint=proxy.endpoint, client_options={"allow_http": True}, retry_config=patient, **keys)


def once(fault: Fault, verb: str) -> Any:
    """The first request of a verb fares badly."""
    left = [fault]
    return lambda request: left.pop() if request.verb == verb and left else None


def test_requests_are_told_by_verb_path_and_action(store: S3Store, proxy: Counting) -> None:
    obstore.put(store, "a/key with spaces", b"1")
    assert bytes(obstore.get(store, "a/key with spaces").bytes()) == b"1"
    list(obstore.list(store, prefix="a"))
    obstore.delete(store, "a/key with spaces")
    assert [one.path for one in proxy.requests[:2]] == ["/proxied/a/key with spaces"] * 2
    assert [one.actions for one in proxy.requests] == [("s3:PutObject",), ("s3:GetObject",), ("s3:ListBucket",), ("s3:DeleteObject",)]
    assert "authorization" not in proxy.requests[0].headers


def test_a_big_body_passes_in_both_directions(store: S3Store) -> None:
    body = bytes(range(256)) * 80_000
    obstore.put(store, "big", body, use_multipart=True)
    assert bytes(obstore.get(store, "big").bytes()) == body


def test_each_request_waits(store: S3Store, proxy: Counting) -> None:
    proxy.delay = 0.1
    began = time.monotonic()
    obstore.put(store, "slow", b"1")
    assert time.monotonic() - began >= 0.1


def test_of_many_who_create_one_key_one_wins(store: S3Store, proxy: Counting) -> None:
    def create(value: int) -> int:
        with suppress(AlreadyExistsError):
            obstore.put(opened(proxy), "raced", str(value).encode(), mode="create")
            return 1
        return 0

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(8))) == 1
    assert all(one.creates for one in proxy.requests)


def test_a_busy_server_is_asked_again(store: S3Store, proxy: Counting) -> None:
    proxy.fault = once(Fault.BUSY, "PUT")
    obstore.put(store, "busy", b"1")
    assert proxy.verbs()["PUT"] == 2


def test_a_lost_request_never_arrived(store: S3Store, proxy: Counting) -> None:
    proxy.fault = lambda request: Fault.LOST if request.verb == "PUT" else None
    with pytest.raises(BaseError):
        obstore.put(store, "lost", b"1", mode="create")
    with pytest.raises(FileNotFoundError):
        obstore.head(store, "lost")


def test_an_unanswered_request_was_carried_out(store: S3Store, proxy: Counting) -> None:
    proxy.fault = lambda request: Fault.UNANSWERED if request.verb == "PUT" else None
    with pytest.raises(BaseError):
        obstore.put(store, "unanswered", b"1", mode="create")
    assert bytes(obstore.get(store, "unanswered").bytes()) == b"1"


def test_what_a_policy_does_not_name_is_told_as_unknown() -> None:
    assert Request("DELETE", "/bucket", {}, {}).actions == ("unknown: DELETE /bucket []",)
